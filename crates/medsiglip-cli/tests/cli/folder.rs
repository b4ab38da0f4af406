//! A folder of a test's own, with pictures, in which the binary runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The tiny checkpoint: 56 pixels, width 64.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../medsiglip/tests/data/tiny");
/// Width of its embeddings.
pub const WIDTH: usize = 64;

/// A test's own folder.
pub struct Folder(TempDir);

/// What the binary answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; `None` where it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with `count` different pictures `scans/000.png`, ...
    pub fn with_pictures(count: u32) -> Self {
        let folder = Self::new();
        (0..count).for_each(|i| folder.picture(&format!("scans/{i:03}.png"), i));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A small picture that depends on `seed`.
    pub fn picture(&self, name: &str, seed: u32) {
        let pixel =
            |x: u32, y: u32| image::Rgb([(x * 5 + seed * 7) as u8, (y * 3) as u8, seed as u8]);
        let picture = image::RgbImage::from_fn(40 + seed % 9, 50, pixel);
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        self.write(name, bytes.into_inner());
    }

    /// The binary, ready to run here with the tiny checkpoint.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medsiglip"));
        command
            .args(args)
            .current_dir(&self.0)
            .env("MEDSIGLIP_MODEL", TINY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Answer {
        answer(self.command(args).output().unwrap())
    }

    /// Runs with `input` on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Answer {
        self.write("stdin", input);
        let stdin = std::fs::File::open(self.path("stdin")).unwrap();
        answer(self.command(args).stdin(stdin).output().unwrap())
    }

    /// Names in the folder, without the inputs.
    pub fn outputs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "scans")
            .collect();
        names.sort();
        names
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The lines of standard output as JSON.
    pub fn json(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The values of `name` in `lines`.
pub fn column<'a>(lines: &'a [Value], name: &str) -> Vec<&'a str> {
    lines
        .iter()
        .map(|line| line[name].as_str().unwrap())
        .collect()
}

pub fn embedding(line: &Value) -> Vec<f32> {
    serde_json::from_value(line["embedding"].clone()).unwrap()
}

pub fn answer(output: Output) -> Answer {
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Whether a test that needs a refusal by permissions can get one: a superuser is refused nothing.
pub fn permissions_bind(folder: &Path) -> bool {
    std::fs::File::create(folder.join("probe")).is_err()
}

/// A shell that lets no file grow beyond `blocks` of 512 bytes, as a full disk does.
#[cfg(unix)]
pub fn on_a_full_disk(folder: &Folder, blocks: usize, args: &[&str]) -> Answer {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let binary = folder.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(script)
        .arg(binary.get_program())
        .args(args);
    let names = binary.get_envs();
    shell.envs(names.filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(folder.path("."));
    answer(shell.output().unwrap())
}

/// Runs a command line that has no spaces in its words.
#[cfg(feature = "evaluate")]
pub fn run(folder: &Folder, line: &str) -> Answer {
    folder.run(&line.split_whitespace().collect::<Vec<_>>())
}
