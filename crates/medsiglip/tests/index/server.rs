//! A PostgreSQL of a test's own: in a temporary folder, asked through a socket there or through a port of this machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    /// Who runs it: not root.
    user: Option<u32>,
}

impl Server {
    /// `None` where there is no PostgreSQL with pgvector, which is said.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!(
                "skipped: no PostgreSQL with pgvector; MEDSIGLIP_TEST_POSTGRES names the folder of its programs"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = is_root.then(|| {
            let id = output(Command::new("id").args(["-u", "postgres"]));
            id.parse()
                .expect("a user postgres, since root may not run it")
        });
        chown(folder.path(), user, None).unwrap();
        let port = free_port();
        let server = Self {
            programs,
            folder,
            port,
            user,
        };
        let data = server.data();
        output(
            server
                .command("initdb")
                .args(["-U", "owner", "-E", "UTF8", "--no-sync"])
                .args([
                    "--auth-local=trust",
                    "--auth-host=scram-sha-256",
                    "--locale=C.UTF-8",
                    "-D",
                    data.to_str().unwrap(),
                ]),
        );
        server.up();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        if let Some(user) = self.user {
            command.uid(user);
        }
        command
    }

    /// Starts it, as soon as what is left of the one before is gone.
    pub fn up(&self) {
        let (folder, log) = (self.folder.path().display(), self.folder.path().join("log"));
        let options = format!("-k {folder} -h 127.0.0.1 -p {}", self.port);
        let begin = Instant::now();
        loop {
            let mut start = self.command("pg_ctl");
            start.args([
                "-D",
                self.data().to_str().unwrap(),
                "-w",
                "-o",
                &options,
                "-l",
            ]);
            start
                .arg(&log)
                .arg("start")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if start.status().unwrap().success() {
                return;
            }
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "{said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        output(Command::new("kill").args(["-9", pid.lines().next().unwrap()]));
    }

    /// Its address through the socket, with a store's schema.
    pub fn url(&self, schema: &str) -> String {
        let folder = self.folder.path().display();
        let port = self.port;
        format!("postgresql://owner@/postgres?host={folder}&port={port}&schema={schema}")
    }

    /// Its address through the port.
    pub fn url_of(&self, user: &str, schema: &str) -> String {
        let port = self.port;
        format!("postgresql://{user}@127.0.0.1:{port}/postgres?schema={schema}")
    }

    /// Runs a statement past the store.
    pub fn sql(&self, statement: &str) {
        let (folder, port) = (self.folder.path().display(), self.port);
        let mut psql = self.command("psql");
        psql.args(["-q", "-U", "owner", "-h", &folder.to_string()]);
        psql.args(["-p", &port.to_string(), "-c", statement, "postgres"]);
        output(&mut psql);
    }

    /// The folder of its socket, and its port.
    pub fn at(&self) -> (&Path, u16) {
        (self.folder.path(), self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        let mut stop = self.command("pg_ctl");
        stop.args(["-D", data.to_str().unwrap(), "-m", "immediate", "stop"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The newest ones of Debian's that have pgvector.
fn programs() -> Option<PathBuf> {
    let has_pgvector = |programs: &PathBuf| {
        let shared = Command::new(programs.join("pg_config"))
            .arg("--sharedir")
            .output();
        let shared = shared
            .ok()
            .and_then(|shared| String::from_utf8(shared.stdout).ok());
        programs.join("initdb").is_file()
            && shared.is_some_and(|shared| {
                Path::new(shared.trim())
                    .join("extension/vector.control")
                    .is_file()
            })
    };
    if let Some(named) = std::env::var_os("MEDSIGLIP_TEST_POSTGRES") {
        let named = PathBuf::from(named);
        assert!(
            has_pgvector(&named),
            "no PostgreSQL with pgvector: {}",
            named.display()
        );
        return Some(named);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    all.sort();
    all.into_iter().rev().find(has_pgvector)
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
