//! `Error`: what went wrong, grouped by what the caller can do about it, each with a stable code.

use std::path::{Path, PathBuf};

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
///
/// Messages say what, expected and got; they name the tensor, field or path last.
/// They never hold pixels, text given by a user, or patient data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no picture that we can read, or a damaged one.
    #[error("{0}")]
    BadImage(String),
    /// The text cannot be tokenized.
    #[error("{0}")]
    BadText(String),
    /// Something is larger than the limit that protects memory; raise the limit if the input is trusted.
    #[error("{what} is {got}, over the limit of {limit}")]
    Limit {
        /// What was measured, with its unit.
        what: &'static str,
        /// The measured value.
        got: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A valid request or file that this version does not handle.
    #[error("{0}")]
    Unsupported(String),
    /// An argument or option is out of its range.
    #[error("{0}")]
    BadArgument(String),
    /// A `config.json`, `preprocessor_config.json`, tokenizer file or prompt file is wrong.
    #[error("{0}")]
    BadConfig(String),
    /// A checkpoint file is damaged or is not of a known format.
    #[error("{0}")]
    BadCheckpoint(String),
    /// One tensor of a checkpoint is missing, surplus or misshaped.
    #[error("tensor {name}: expected {expected}, got {got}")]
    BadTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What the model needs.
        expected: String,
        /// What the checkpoint has.
        got: String,
    },
    /// The hub could not be reached, or does not have what was asked for.
    #[error("{0}")]
    Hub(String),
    /// The repository is gated: its terms must be accepted on its page first.
    #[error(
        "{repo} is gated: open https://huggingface.co/{repo}, log in, read and accept the terms \
         (for Google's medical models: Health AI Developer Foundations), create an access token at \
         https://huggingface.co/settings/tokens and put it into HF_TOKEN"
    )]
    Gated {
        /// The hub id of the repository.
        repo: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action}: {source}: {}", path.display())]
    Io {
        /// What was tried: "read", "write", "create".
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The system gives no more memory.
    #[error("cannot get {bytes} bytes of memory for {what}: {source}")]
    OutOfMemory {
        /// What the memory is for.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A GPU or its driver is not there, or failed.
    #[error("{0}")]
    Device(String),
    /// Training has come to numbers that are none.
    #[error("{0}")]
    Diverged(String),
    /// The work was interrupted by the caller.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn empty_batch() -> Self {
        Self::BadArgument("nothing to encode: the batch is empty".into())
    }

    /// A stable name for scripts: it never changes once published.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadImage(_) => "BAD_IMAGE",
            Self::BadText(_) => "BAD_TEXT",
            Self::Limit { .. } => "LIMIT_EXCEEDED",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::BadArgument(_) => "BAD_ARGUMENT",
            Self::BadConfig(_) => "BAD_CONFIG",
            Self::BadCheckpoint(_) => "BAD_CHECKPOINT",
            Self::BadTensor { .. } => "BAD_TENSOR",
            Self::Hub(_) => "HUB_ERROR",
            Self::Gated { .. } => "GATED_REPOSITORY",
            Self::Io { .. } => "IO_ERROR",
            Self::OutOfMemory { .. } => "OUT_OF_MEMORY",
            Self::Device(_) => "DEVICE_ERROR",
            Self::Diverged(_) => "DIVERGED",
            Self::Interrupted => "INTERRUPTED",
        }
    }

    /// An `Io` error for `action` on `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            action,
            source,
            path: path.as_ref().to_path_buf(),
        }
    }
}
