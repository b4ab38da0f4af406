//! [`ModelSource`]: where a checkpoint is, and how a user writes that.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Result};

/// Where a checkpoint is.
///
/// A text is read as a path where something is there, else as a hub id: exactly `owner/name` or
/// `owner/name@revision`, in the hub's own characters. Where a folder or file `owner` is at hand, `owner/name` is a
/// mistyped path: an error, so that the names of local folders, which can hold a patient's, are not asked for on the
/// hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// `medsiglip-mini`, the small model that is compiled in: a demonstration, no MedSigLIP.
    Mini,
    /// A folder, or a big_vision `.npz` file.
    Local(PathBuf),
    /// A hub id such as `google/medsiglip-448`, with an optional revision after `@`.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

/// The default model: `medsiglip-mini`, compiled in.
pub const DEFAULT_MODEL: &str = "medsiglip-mini";

/// MedSigLIP on the hub (gated: its terms must be accepted).
pub const MEDSIGLIP: &str = "google/medsiglip-448";

/// The branch that a hub id without a revision means.
const MAIN: &str = "main";

impl FromStr for ModelSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_in(Path::new(""), text)
    }
}

impl ModelSource {
    /// As [`FromStr`], but that a relative path starts at `base`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no such path and the text is no hub id.
    pub fn parse_in(base: &Path, text: &str) -> Result<Self> {
        let path = base.join(text);
        if !text.is_empty() && path.exists() {
            return Ok(Self::Local(path));
        }
        if text == DEFAULT_MODEL {
            return Ok(Self::Mini);
        }
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let owner = owner(repo).filter(|_| is_revision(revision));
        match owner {
            Some(owner) if base.join(owner).exists() => Err(Error::BadArgument(format!(
                "model: no such folder or file (not taken for a hub id, because {owner:?} is on this machine): {text}"
            ))),
            Some(_) => Ok(Self::Hub {
                repo: repo.to_owned(),
                revision: revision.to_owned(),
            }),
            None => Err(Error::BadArgument(format!(
                "model: no such folder or file, and not a hub id such as {MEDSIGLIP} or {MEDSIGLIP}@main: \
                 {text}"
            ))),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mini => f.write_str(DEFAULT_MODEL),
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, revision } if revision == MAIN => f.write_str(repo),
            Self::Hub { repo, revision } => write!(f, "{repo}@{revision}"),
        }
    }
}

/// The owner of a hub id; `None` where `repo` is none.
fn owner(repo: &str) -> Option<&str> {
    let (owner, name) = repo.split_once('/')?;
    let is_file = name.ends_with(".npz") || name.ends_with(".safetensors");
    (is_hub_name(owner) && is_hub_name(name) && !is_file).then_some(owner)
}

/// The hub's rule for the two parts of an id: letters, digits, `-`, `_`, `.`, no dots or dashes at the ends or doubled.
fn is_hub_name(text: &str) -> bool {
    let end = |c: char| c == '.' || c == '-';
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with(end)
        && !text.ends_with(end)
        && !text.contains("..")
        && !text.contains("--")
}

/// A branch, tag, commit or `refs/pr/1`: it becomes part of a cache path, so it may not climb out.
fn is_revision(text: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty()
            && p != "."
            && p != ".."
            && p.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
    };
    text.len() <= 256 && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelSource> {
        text.parse()
    }

    #[test]
    fn an_existing_path_comes_first() {
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(parse(here).unwrap(), ModelSource::Local(here.into()));
        assert_eq!(parse(".").unwrap(), ModelSource::Local(".".into()));
    }

    #[test]
    fn the_small_model_has_a_name() {
        assert_eq!(parse(DEFAULT_MODEL).unwrap(), ModelSource::Mini);
        assert_eq!(ModelSource::Mini.to_string(), DEFAULT_MODEL);
    }

    #[test]
    fn hub_ids_read_back() {
        for id in [
            MEDSIGLIP,
            "google/medgemma-4b-it@v1.0",
            "a/b@refs/pr/1",
            "0_a.b/c-d_e@0123abc",
        ] {
            assert!(
                matches!(parse(id).unwrap(), ModelSource::Hub { .. }),
                "{id}"
            );
            assert_eq!(parse(id).unwrap().to_string(), id);
        }
        assert_eq!(parse("a/b@main").unwrap().to_string(), "a/b");
    }

    #[test]
    fn a_path_below_something_that_exists_is_no_hub_id() {
        // Tests run in the crate's folder, which has `src`.
        for text in ["src/medsiglip", "src/medsiglip@v1", "Cargo.toml/model"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT", "{text}");
            let told = error.to_string();
            assert!(told.starts_with("model: no such folder or file"), "{told}");
            assert!(told.ends_with(text), "{told}");
        }
    }

    #[test]
    fn everything_else_is_explained() {
        for text in [
            "",
            "medsiglip",
            "./no/such/folder",
            "/no/such",
            "no/such/folder",
            "../x",
            "a/..",
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "a/b c",
            "a/model.npz",
            "a/model.safetensors",
            "-a/b",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT", "{text}");
            assert!(error.to_string().contains("google/medsiglip-448@main"));
        }
    }
}
