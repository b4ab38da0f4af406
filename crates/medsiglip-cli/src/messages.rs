//! What a person reads on standard error: errors with a stable code and a hint, notes, and the exit code.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use medsiglip::Error;

/// Result of everything in the command line that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: all done.
    Done,
    /// 1: some inputs failed, each is listed.
    SomeFailed,
    /// 2: nothing could be done.
    NothingDone,
    /// 130: interrupted by Ctrl-C or a request to terminate.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::SomeFailed => 1,
            Exit::NothingDone => 2,
            Exit::Interrupted => 130,
        })
    }
}

/// An error that ends the command, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    hint: Option<String>,
}

/// Name of standard output in errors.
const STDOUT: &str = "standard output";

static QUIET: AtomicBool = AtomicBool::new(false);

impl Failure {
    /// A wrong argument.
    pub fn argument(message: impl Into<String>) -> Self {
        Error::BadArgument(message.into()).into()
    }

    /// A failed write to standard output.
    pub fn stdout(source: std::io::Error) -> Self {
        Error::io("write", STDOUT, source).into()
    }

    /// A file or folder that is not there.
    pub fn missing(action: &'static str, path: impl AsRef<Path>) -> Self {
        let source = std::io::Error::new(ErrorKind::NotFound, "no such file or folder");
        Self::io(action, path, source)
    }

    /// A failed `action` on `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::io(action, path, source).into()
    }

    /// The same failure with another hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure, of a write into the file `path` instead of standard output.
    pub fn at(mut self, path: &Path) -> Self {
        if let Error::Io { path: place, .. } = &mut self.error
            && place == Path::new(STDOUT)
        {
            *place = path.to_path_buf();
        }
        self
    }

    /// What is wrong with the file at `path`, whose reader does not name it.
    pub fn of_file(error: Error, path: &Path) -> Self {
        let named = |message: String| format!("{message}: {}", path.display());
        Self::from(match error {
            Error::BadImage(message) => Error::BadImage(named(message)),
            Error::Unsupported(message) => Error::Unsupported(named(message)),
            other => other,
        })
    }

    /// Tells the person what went wrong. A reader of our output that went away is no error.
    pub fn report(&self) -> Exit {
        if self.is_closed_stdout() {
            return Exit::Done;
        }
        say(format_args!("error[{}]: {}", self.error.code(), self.error));
        if let Some(hint) = &self.hint {
            say(format_args!("hint: {hint}"));
        }
        Exit::NothingDone
    }

    /// Whether the reader of standard output went away.
    pub fn is_closed_stdout(&self) -> bool {
        matches!(&self.error, Error::Io { source, path, .. }
            if source.kind() == ErrorKind::BrokenPipe && path == Path::new(STDOUT))
    }
}

impl Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.error.fmt(out)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let hint = match &error {
            Error::Hub(_) => Some("check the network, or give a folder: --model FOLDER"),
            Error::Gated { .. } => Some("or give a folder that holds the model: --model FOLDER"),
            Error::Limit { .. } => Some("if the input is trusted, raise the limit: --max-pixels"),
            Error::BadCheckpoint(_) => Some("is the file whole? fetch the checkpoint again"),
            Error::BadTensor { .. } => Some(
                "are weights and config.json whole, and of one model? fetch the checkpoint again",
            ),
            _ => None,
        };
        Self {
            error,
            hint: hint.map(String::from),
        }
    }
}

/// Prints one line; a closed standard error is ignored.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints one line that `--quiet` hides.
pub fn note(line: impl Display) {
    if !is_quiet() {
        say(line);
    }
}

/// `3 pictures`, `1 picture`.
pub fn count(number: usize, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {singular}{plural}")
}

/// Hides notes and progress from now on.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether notes and progress are hidden.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A panic is a bug of ours: one line that says so instead of a backtrace.
pub fn replace_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        say(format_args!("error[INTERNAL]: a bug in medsiglip{place}"));
        say("hint: please report it with the command line and this place");
    }));
}

/// The warning about a text that the model reads only the beginning of. `shown` is what messages call it, never the
/// text.
pub fn truncated(shown: impl Display) -> String {
    format!("warning: longer than the model reads, its end is ignored: {shown}")
}
