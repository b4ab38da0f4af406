//! `convert`: a checkpoint as safetensors, in another format, type or resolution.

use std::num::NonZeroU64;

use medsiglip::Error;
use medsiglip::checkpoint::{self, Checkpoint, SaveOptions};

use crate::args::ConvertArgs;
use crate::batches;
use crate::messages::{self, Exit, Failure, Result};

/// Writes the folder.
pub fn run(args: &ConvertArgs) -> Result<Exit> {
    refuse_full(&args.output)?;
    let checkpoint = Checkpoint::open(&args.source.model, &args.source.open_options())?;
    let options = SaveOptions {
        dtype: args.source.dtype,
        max_shard_bytes: args.max_shard_size.map(NonZeroU64::get),
        stop: Some(batches::is_stopped),
    };
    batches::stop_on_ctrl_c();
    match checkpoint::save(&checkpoint, &args.output, &options) {
        Err(Error::Interrupted) => {
            messages::say("stopped: nothing was written");
            Ok(Exit::Interrupted)
        }
        result => {
            result?;
            messages::note(format_args!("wrote {}", args.output.display()));
            Ok(Exit::Done)
        }
    }
}

/// An error where the folder holds something: a checkpoint must not be mixed with another one's files.
fn refuse_full(folder: &std::path::Path) -> Result<()> {
    let Ok(metadata) = folder.symlink_metadata() else {
        return Ok(());
    };
    let is_empty = metadata.is_dir() || folder.is_dir();
    let is_empty =
        is_empty && std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_none());
    if is_empty {
        return Ok(());
    }
    Err(Failure::argument(format!(
        "the output is no empty folder: {}",
        folder.display()
    ))
    .hint("give a new --output"))
}
