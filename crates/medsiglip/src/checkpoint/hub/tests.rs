use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

const REPO: &str = "owner/tiny";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG_JSON: &str = r#"{"model_type": "siglip"}"#;

/// A hub of one repository on this machine, which counts what it is asked.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Site {
    files: HashMap<&'static str, Vec<u8>>,
    /// The status of every file; 200 gives the files.
    status: u16,
    /// The status of the repository's description, and its `x-error-code`.
    info: (u16, &'static str),
    token: Option<&'static str>,
}

impl Site {
    fn new() -> Self {
        Self {
            files: HashMap::from([
                ("config.json", CONFIG_JSON.into()),
                ("model.safetensors", vec![7; 300_000]),
                ("tokenizer.json", b"{}".into()),
                ("preprocessor_config.json", b"{}".into()),
                ("README.md", b"not for us".into()),
            ]),
            status: 200,
            info: (200, ""),
            token: None,
        }
    }

    fn serve(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().take(100).flatten() {
                let (site, log) = (self.clone(), Arc::clone(&log));
                std::thread::spawn(move || site.answer(stream, &log));
            }
        });
        Server { endpoint, requests }
    }

    fn answer(&self, mut stream: TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?.take(64_000)).lines();
        let first = lines.next()?.ok()?;
        let path = first.split(' ').nth(1)?.to_owned();
        let headers: Vec<String> = lines
            .map_while(|line| line.ok().filter(|l| !l.is_empty()))
            .map(|line| line.to_ascii_lowercase())
            .collect();
        let header = |name: &str| {
            let found = headers.iter().find_map(|h| h.strip_prefix(name));
            found.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        log.lock().ok()?.push(path.clone());
        let allowed = self
            .token
            .is_none_or(|token| header("authorization") == Some(format!("bearer {token}")));
        let name = path.rsplit('/').next()?;
        let (status, extra, body) = if path.starts_with("/api/models/") {
            let (status, code) = self.info;
            (
                status,
                format!("X-Error-Code: {code}\r\n"),
                self.description(),
            )
        } else if !allowed {
            (401, String::new(), Vec::new())
        } else if self.status != 200 {
            (self.status, String::new(), Vec::new())
        } else if let Some(file) = self.files.get(name) {
            ranged(file, &header("range").unwrap_or_default(), name)
        } else {
            (404, String::new(), Vec::new())
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&body).ok()
    }

    fn description(&self) -> Vec<u8> {
        let siblings: Vec<_> = self
            .files
            .keys()
            .map(|name| serde_json::json!({"rfilename": name}))
            .collect();
        let info = serde_json::json!({"sha": COMMIT, "siblings": siblings, "id": REPO});
        info.to_string().into_bytes()
    }
}

/// The part of a file that a `Range` header asks for, as the hub sends it.
fn ranged(file: &[u8], range: &str, name: &str) -> (u16, String, Vec<u8>) {
    let (start, end) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap_or(0);
    let end = end.parse().map_or(file.len(), |end: usize| end + 1);
    let body = file[start..end.min(file.len())].to_vec();
    // Large files carry their SHA-256 as a tag, small ones their git hash.
    let etag = match name.ends_with(".safetensors") {
        true => checksum::of_text(std::str::from_utf8(file).unwrap()),
        false => format!("{:040x}", file.len()),
    };
    let range = format!("Content-Range: bytes {start}-{end}/{}\r\n", file.len());
    let tags = format!("ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
    (206, range + &tags, body)
}

/// The settings that these variables give.
fn hub(variables: &[(&str, &str)]) -> Hub {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Hub::from_lookup(|name| variables.get(name).map(|v| v.to_string())).unwrap()
}

fn home(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().unwrap()
}

#[test]
fn downloads_once_and_then_needs_no_connection() {
    static TOTAL: AtomicUsize = AtomicUsize::new(0);
    fn progress(file: &str, done: u64, total: u64) {
        if file == WEIGHTS && done == total {
            TOTAL.store(total as usize, Ordering::SeqCst);
        }
    }
    let server = Site::new().serve();
    let dir = tempfile::tempdir().unwrap();
    let online = hub(&[("HF_HOME", home(&dir)), ("HF_ENDPOINT", &server.endpoint)]);
    let folder = online.snapshot(REPO, "main", Some(progress)).unwrap();
    assert_eq!(
        fs::read_to_string(folder.join("config.json")).unwrap(),
        CONFIG_JSON
    );
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), vec![7; 300_000]);
    assert!(folder.join("tokenizer.json").exists() && folder.join(PREPROCESSOR).exists());
    assert!(!folder.join("README.md").exists());
    assert_eq!(TOTAL.load(Ordering::SeqCst), 300_000);

    // Where Python's huggingface_hub looks for it.
    let python = dir.path().join("hub/models--owner--tiny");
    assert_eq!(folder, python.join("snapshots").join(COMMIT));
    assert_eq!(
        fs::read_to_string(python.join("refs/main")).unwrap(),
        COMMIT
    );

    let asked = server.requests.lock().unwrap().len();
    assert_eq!(online.snapshot(REPO, "main", None).unwrap(), folder);
    assert_eq!(server.requests.lock().unwrap().len(), asked);
    let offline = hub(&[("HF_HOME", home(&dir)), ("HF_HUB_OFFLINE", "1")]);
    assert_eq!(offline.snapshot(REPO, "main", None).unwrap(), folder);
    assert_eq!(offline.snapshot(REPO, COMMIT, None).unwrap(), folder);
}

#[test]
fn only_the_shards_of_the_vision_tower_are_downloaded() {
    let index = r#"{"weight_map": {"vision_tower.vision_model.x": "a.safetensors",
        "language_model.x": "b.safetensors"}}"#;
    let mut site = Site::new();
    site.files.remove(WEIGHTS);
    site.files
        .insert(CONFIG, br#"{"model_type": "gemma3"}"#.into());
    site.files.insert(INDEX, index.into());
    site.files.insert("a.safetensors", b"first".into());
    site.files.insert("b.safetensors", b"second".into());
    let server = site.serve();
    let dir = tempfile::tempdir().unwrap();
    let online = hub(&[
        ("HF_HUB_CACHE", home(&dir)),
        ("HF_ENDPOINT", &server.endpoint),
    ]);
    let folder = online.snapshot(REPO, "main", None).unwrap();
    assert!(folder.join("a.safetensors").exists());
    assert!(!folder.join("b.safetensors").exists());
    assert!(!folder.join("tokenizer.json").exists());
}

#[test]
fn gated_repositories_say_so() {
    for status in [401, 403] {
        let site = Site {
            status,
            ..Site::new()
        };
        let described = Site {
            info: (status, "GatedRepo"),
            ..Site::new()
        };
        for server in [site.serve(), described.serve()] {
            let dir = tempfile::tempdir().unwrap();
            let hub = hub(&[("HF_HOME", home(&dir)), ("HF_ENDPOINT", &server.endpoint)]);
            let error = hub.snapshot(REPO, "main", None).unwrap_err();
            assert_eq!(error.code(), "GATED_REPOSITORY");
            assert!(
                error
                    .to_string()
                    .contains("https://huggingface.co/owner/tiny")
            );
        }
    }
}

#[test]
fn the_token_opens_a_gated_repository() {
    let server = Site {
        token: Some("hf_secret"),
        ..Site::new()
    }
    .serve();
    let endpoint = ("HF_ENDPOINT", server.endpoint.as_str());
    let dir = tempfile::tempdir().unwrap();
    let none = hub(&[("HF_HOME", home(&dir)), endpoint]);
    assert_eq!(
        none.snapshot(REPO, "main", None).unwrap_err().code(),
        "GATED_REPOSITORY"
    );
    let variable = hub(&[
        ("HF_HOME", home(&dir)),
        endpoint,
        ("HF_TOKEN", " hf_secret\n"),
    ]);
    assert!(variable.snapshot(REPO, "main", None).is_ok());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("token"), "hf_secret\n").unwrap();
    let file = hub(&[("HF_HOME", home(&other)), endpoint]);
    assert!(file.snapshot(REPO, "main", None).is_ok());
}

#[test]
fn what_the_hub_does_not_have_is_told() {
    let no_weights = {
        let mut site = Site::new();
        site.files.remove(WEIGHTS);
        site
    };
    let unknown = Site {
        info: (401, "RepoNotFound"),
        ..Site::new()
    };
    let revision = Site {
        info: (404, "RevisionNotFound"),
        ..Site::new()
    };
    for (site, message) in [
        (no_weights, "has no model.safetensors in owner/tiny"),
        (unknown, "has no model owner/tiny at revision main"),
        (revision, "has no model owner/tiny at revision main"),
        (
            Site {
                info: (500, ""),
                ..Site::new()
            },
            "http status 500",
        ),
    ] {
        let server = site.serve();
        let dir = tempfile::tempdir().unwrap();
        let hub = hub(&[("HF_HOME", home(&dir)), ("HF_ENDPOINT", &server.endpoint)]);
        let error = hub.snapshot(REPO, "main", None).unwrap_err();
        assert_eq!(error.code(), "HUB_ERROR");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn without_a_connection_the_error_helps() {
    let dir = tempfile::tempdir().unwrap();
    // Port 1 of this machine refuses.
    let unreachable = hub(&[
        ("HF_HOME", home(&dir)),
        ("HF_ENDPOINT", "http://127.0.0.1:1"),
    ]);
    let error = unreachable.snapshot(REPO, "main", None).unwrap_err();
    assert_eq!(error.code(), "HUB_ERROR");
    assert!(
        error
            .to_string()
            .contains("could not reach http://127.0.0.1:1"),
        "{error}"
    );
    assert!(error.to_string().contains("local folder"), "{error}");
    let offline = hub(&[("HF_HOME", home(&dir)), ("HF_HUB_OFFLINE", "TRUE")]);
    let error = offline.snapshot(REPO, "main", None).unwrap_err();
    assert_eq!(error.code(), "HUB_ERROR");
    assert!(
        error.to_string().contains("hf download owner/tiny"),
        "{error}"
    );
}

#[test]
fn a_damaged_download_is_removed() {
    let server = Site::new().serve();
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&[("HF_HOME", home(&dir)), ("HF_ENDPOINT", &server.endpoint)]);
    // A broken-off earlier download, whose start is wrong, would be continued.
    let blobs = dir.path().join("hub/models--owner--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let sum = checksum::of_text(std::str::from_utf8(&[7; 300_000]).unwrap());
    fs::write(blobs.join(format!("{sum}.part")), [8; 1000]).unwrap();
    let error = hub.snapshot(REPO, "main", None).unwrap_err();
    assert!(error.to_string().contains("arrived damaged"), "{error}");
    assert!(!blobs.join(&sum).exists());
    let folder = hub.snapshot(REPO, "main", None).unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), vec![7; 300_000]);
}

#[test]
fn settings_come_from_the_environment() {
    let both = hub(&[
        ("HF_HOME", "/a"),
        ("HF_HUB_CACHE", "/b"),
        ("HF_HUB_OFFLINE", "0"),
    ]);
    assert_eq!(both.cache, Path::new("/b"));
    assert!(!both.offline);
    assert_eq!(both.endpoint, "https://huggingface.co");
    assert_eq!(hub(&[("HF_HOME", "/a")]).cache, Path::new("/a/hub"));
    assert_eq!(
        hub(&[("XDG_CACHE_HOME", "/c")]).cache,
        Path::new("/c/huggingface/hub")
    );
    let slash = hub(&[("HF_ENDPOINT", "https://mirror.example/")]);
    assert_eq!(slash.endpoint, "https://mirror.example");
}
