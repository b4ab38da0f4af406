//! `convert`: a checkpoint as safetensors, in another format, type or resolution.

use std::num::NonZeroU64;

use medsiglip::checkpoint::{
    self, Checkpoint, Drift, Dtype, OpenOptions, SaveOptions, expected_tensors,
};
use medsiglip::preprocess::Recipe;
use medsiglip::{Error, LoadOptions, Model};

use super::drift;
use crate::args::{ConvertArgs, SourceArgs};
use crate::messages::{self, Exit, Failure, Result};
use crate::{batches, progress};

/// Writes the folder.
pub fn run(args: &ConvertArgs) -> Result<Exit> {
    refuse_full(&args.output)?;
    args.source.tell_default();
    let checkpoint = Checkpoint::open(&args.source.model, &args.source.open_options())?;
    batches::stop_on_ctrl_c();
    let options = SaveOptions {
        dtype: args.source.dtype,
        max_shard_bytes: args.max_shard_size.map(NonZeroU64::get),
        drift: drift_of(&args.source)?,
        stop: Some(batches::is_stopped),
    };
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

/// What rounding the weights does to the embeddings, and did when the source was written; `None` where nothing is rounded.
fn drift_of(source: &SourceArgs) -> Result<Option<Drift>> {
    let Some(dtype) = source.dtype.filter(|dtype| *dtype != Dtype::F32) else {
        return Ok(None);
    };
    let load = |dtype| {
        let options = LoadOptions {
            checkpoint: OpenOptions {
                dtype,
                ..source.open_options()
            },
            // Any recipe that can always be followed: the checkpoint's own need not be one.
            recipe: Some(Recipe::Hf),
            ..LoadOptions::default()
        };
        Model::load(&source.model, &options)
    };
    let stored = load(None)?;
    if !holds_other(stored.checkpoint(), dtype)? {
        return Ok(None);
    }
    let steps = progress::steps();
    steps.set_message(format!("measuring what {dtype} changes"));
    let rounded = load(Some(dtype))?;
    let drift = drift::measure(rounded.encoder(), stored.encoder(), stored.config());
    steps.finish_and_clear();
    let drift = drift?;
    if !batches::is_stopped() {
        let sentence = drift::sentence(&drift);
        messages::note(format_args!(
            "drift of {dtype} from the weights as stored: {sentence}"
        ));
    }
    let before = stored.checkpoint().drift();
    Ok(Some(before.map_or(drift, |old| drift::lower(old, drift))))
}

/// Whether a matrix of the checkpoint is of another type.
fn holds_other(checkpoint: &Checkpoint, dtype: Dtype) -> Result<bool> {
    for expected in expected_tensors(checkpoint.config()) {
        let tensor = checkpoint.tensor(&expected.name, &expected.shape)?;
        if expected.shape.len() >= 2 && tensor.dtype() != dtype {
            return Ok(true);
        }
    }
    Ok(false)
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
