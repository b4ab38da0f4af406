//! The Hugging Face hub: a repository's files in the cache that Python's `huggingface_hub` shares.
//!
//! What is in the cache is used without a connection; the hub is asked only for what is missing. To follow a
//! branch that moved, name the new commit after `@`. Honoured: `HF_HOME`, `HF_HUB_CACHE`, `XDG_CACHE_HOME`,
//! `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::Progress;
use super::checksum;
use super::files;
use super::safetensors::{self, INDEX, WEIGHTS};
use crate::config::Architecture;
use crate::{Error, Result};

/// How the hub is reached.
pub(super) struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
}

/// Files of the text side; a checkpoint whose text tower is not ours needs none.
const TOKENIZER: [&str; 3] = ["tokenizer.json", "spiece.model", "tokenizer_config.json"];
const PREPROCESSOR: &str = "preprocessor_config.json";
const CONFIG: &str = "config.json";

/// A download that breaks off is continued this often.
const RETRIES: usize = 3;

impl Hub {
    /// Settings from the environment.
    pub(super) fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.ok_or_else(|| {
            Error::Hub(
                "no home folder for the hub's cache: set HF_HOME, or use a local folder".into(),
            )
        })?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let stored_token = || fs::read_to_string(token_file?).ok();
        let token = get("HF_TOKEN")
            .or_else(stored_token)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = get("HF_HUB_OFFLINE").is_some_and(|value| {
            matches!(
                value.to_ascii_uppercase().as_str(),
                "1" | "TRUE" | "YES" | "ON"
            )
        });
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            // hf-hub links with relative paths, for which it needs absolute ones
            cache: std::path::absolute(&cache).map_err(|e| Error::io("find", &cache, e))?,
            token,
            offline,
        })
    }

    /// The folder of a repository's files, downloaded where they are not yet in the cache.
    ///
    /// # Errors
    /// `HUB_ERROR`, `GATED_REPOSITORY`, `IO_ERROR`.
    pub(super) fn snapshot(
        &self,
        repo: &str,
        revision: &str,
        progress: Option<Progress>,
    ) -> Result<PathBuf> {
        let cached = self.cached(repo, revision);
        match &cached {
            Some(folder) if has_weights(folder) && has_companions(folder) => {
                return Ok(folder.clone());
            }
            Some(folder) if has_weights(folder) && self.offline => return Ok(folder.clone()),
            _ if self.offline => return Err(self.not_cached(repo, revision)),
            _ => {}
        }
        match (self.download(repo, revision, progress), cached) {
            // Weights without, say, a tokenizer, and no connection: what is there serves as far as it goes.
            (Err(Error::Hub(_)), Some(folder)) if has_weights(&folder) => Ok(folder),
            (result, _) => result,
        }
    }

    /// The snapshot that the cache has for a revision.
    fn cached(&self, repo: &str, revision: &str) -> Option<PathBuf> {
        let folder = self
            .cache
            .join(format!("models--{}", repo.replace('/', "--")));
        let commit = fs::read_to_string(folder.join("refs").join(revision));
        let commit = commit.unwrap_or_else(|_| revision.to_owned());
        let snapshot = folder
            .join("snapshots")
            .join(checked_commit(commit.trim())?);
        snapshot.is_dir().then_some(snapshot)
    }

    fn download(&self, repo: &str, revision: &str, progress: Option<Progress>) -> Result<PathBuf> {
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_retries(RETRIES)
            .build()
            .map_err(|e| self.error(repo, CONFIG, e))?;
        let info = self.info(&api, repo, revision)?;
        let at =
            |revision: &str| Repo::with_revision(repo.into(), RepoType::Model, revision.into());
        let download = Download {
            hub: self,
            repo,
            // One commit for all files, even if the branch moves meanwhile.
            api: api.repo(at(&info.sha)),
            folder: cache.repo(at(&info.sha)).pointer_path(&info.sha),
            there: info.siblings.into_iter().map(|s| s.rfilename).collect(),
            progress,
        };
        download.all()?;
        cache
            .repo(at(revision))
            .create_ref(&info.sha)
            .map_err(|e| Error::io("write", &self.cache, e))?;
        Ok(download.folder)
    }

    /// The commit of a revision and the names of its files.
    fn info(&self, api: &Api, repo: &str, revision: &str) -> Result<Info> {
        let at = Repo::with_revision(repo.into(), RepoType::Model, revision.into());
        let response = api.repo(at).info_request().config();
        let response = response
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .call();
        let mut response = response.map_err(|e| self.unreachable(&e.to_string()))?;
        let header = response.headers().get("x-error-code");
        let unknown = header.is_some_and(|code| code == "RepoNotFound");
        match response.status().as_u16() {
            200 => {}
            401 | 403 if !unknown => return Err(Error::Gated { repo: repo.into() }),
            401 | 403 | 404 => {
                return Err(Error::Hub(format!(
                    "{} has no model {repo} at revision {revision}, or it is private: check the id; for a \
                     private one put an access token into HF_TOKEN",
                    self.endpoint
                )));
            }
            status => return Err(self.unreachable(&format!("http status {status}"))),
        }
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|e| self.unreachable(&e.to_string()))?;
        let info: Option<Info> = serde_json::from_str(&text).ok();
        info.filter(|info| checked_commit(&info.sha).is_some())
            .ok_or_else(|| self.unreachable("an answer that is not the hub's"))
    }

    fn error(&self, repo: &str, file: &str, error: ApiError) -> Error {
        match error {
            ApiError::TooManyRetries(inner) => self.error(repo, file, *inner),
            ApiError::RequestError(inner) => match *inner {
                ureq::Error::StatusCode(401 | 403) => Error::Gated { repo: repo.into() },
                ureq::Error::StatusCode(404) => {
                    Error::Hub(format!("{} has no {file} in {repo}", self.endpoint))
                }
                other => self.unreachable(&other.to_string()),
            },
            ApiError::IoError(source) => Error::io("write", &self.cache, source),
            ApiError::LockAcquisition(_) => Error::Hub(format!(
                "another process is downloading {file} of {repo}: wait until it is done"
            )),
            other => Error::Hub(format!("cannot download {file} of {repo}: {other}")),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::Hub(format!(
            "could not reach {}: {why}; without a connection use a local folder, or a model that is already in the \
             cache (HF_HUB_OFFLINE=1 asks for nothing else)",
            self.endpoint
        ))
    }

    fn not_cached(&self, repo: &str, revision: &str) -> Error {
        Error::Hub(format!(
            "{repo} at revision {revision} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset it, or \
             run `hf download {repo} --revision {revision}` where there is a connection and copy the cache folder: {}",
            self.cache.display()
        ))
    }
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The download of one commit's files.
struct Download<'a> {
    hub: &'a Hub,
    repo: &'a str,
    api: ApiRepo,
    folder: PathBuf,
    there: HashSet<String>,
    progress: Option<Progress>,
}

impl Download<'_> {
    fn all(&self) -> Result<()> {
        self.required(CONFIG)?;
        let architecture = architecture(&self.folder)?;
        self.optional(PREPROCESSOR)?;
        if architecture == Architecture::Siglip {
            TOKENIZER.iter().try_for_each(|name| self.optional(name))?;
        }
        if !self.there.contains(INDEX) {
            return self.required(WEIGHTS);
        }
        self.required(INDEX)?;
        let index = files::read_text(&self.folder.join(INDEX))?;
        safetensors::shards(&index, architecture)?
            .iter()
            .try_for_each(|shard| self.required(shard))
    }

    fn optional(&self, name: &str) -> Result<()> {
        if self.there.contains(name) {
            return self.required(name);
        }
        Ok(())
    }

    fn required(&self, name: &str) -> Result<()> {
        if self.folder.join(name).exists() {
            return Ok(());
        }
        let hook = Hook {
            progress: self.progress,
            file: name.to_owned(),
            done: 0,
            total: 0,
        };
        let path = self
            .api
            .download_with_progress(name, hook)
            .map_err(|e| self.hub.error(self.repo, name, e))?;
        // The link of a large file promises its SHA-256: make sure of it once, here.
        let promised = checksum::blob_name(&path);
        if promised.is_none_or(|sha256| checksum::of_bytes(&path).is_ok_and(|sum| sum == sha256)) {
            return Ok(());
        }
        if let Ok(blob) = path.canonicalize() {
            fs::remove_file(&blob).map_err(|e| Error::io("remove", &blob, e))?;
        }
        fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        Err(Error::Hub(format!(
            "{name} of {} arrived damaged (its sha256 differs) and was removed: try again",
            self.repo
        )))
    }
}

/// hf-hub's progress, passed on.
struct Hook {
    progress: Option<Progress>,
    file: String,
    done: u64,
    total: u64,
}

impl hf_hub::api::Progress for Hook {
    fn init(&mut self, size: usize, _: &str) {
        self.done = 0;
        self.total = size as u64;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        if let Some(progress) = self.progress {
            progress(&self.file, self.done, self.total);
        }
    }

    fn finish(&mut self) {}
}

fn architecture(folder: &Path) -> Result<Architecture> {
    Architecture::from_json(&files::read_text(&folder.join(CONFIG))?)
}

/// Whether a snapshot has its config and every weight file of ours.
fn has_weights(folder: &Path) -> bool {
    let Ok(architecture) = architecture(folder) else {
        return false;
    };
    if folder.join(WEIGHTS).exists() {
        return true;
    }
    files::read_text(&folder.join(INDEX))
        .and_then(|index| safetensors::shards(&index, architecture))
        .is_ok_and(|shards| shards.iter().all(|shard| folder.join(shard).exists()))
}

/// Whether a snapshot has the files beside the weights that published models have.
fn has_companions(folder: &Path) -> bool {
    let has_text = matches!(architecture(folder), Ok(Architecture::Siglip));
    let tokenizer = ["tokenizer.json", "spiece.model"];
    folder.join(PREPROCESSOR).exists()
        && (!has_text || tokenizer.iter().any(|name| folder.join(name).exists()))
}

/// A commit's name; it becomes part of a path.
fn checked_commit(commit: &str) -> Option<&str> {
    let fits = (1..=64).contains(&commit.len());
    (fits && commit.bytes().all(|b| b.is_ascii_hexdigit())).then_some(commit)
}
