//! Checkpoints of a run: all that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `step-00000500` of `model.safetensors`, `average.safetensors` where there is one,
//! `optimizer-0.bpk` and so on (Burn's format), and `state.json`. It appears whole or not at all, after the disk has it.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use burn::module::Module;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::config::Places;
use super::optimizer::Optimizer;
use crate::towers::params;
use crate::{Error, Result, folder};

const MODEL: &str = "model.safetensors";
const AVERAGE: &str = "average.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
/// Beside the checkpoints: what was measured and would be exported at the best validation.
const BEST: &str = "best";

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps that are done.
    pub step: u64,
    /// The best mean of the validation tasks so far.
    pub best: Option<f64>,
    /// The step after which that was.
    #[serde(default)]
    pub best_step: u64,
    /// Validations since then.
    pub stale: u64,
    /// SHA-256 of the run's configuration: another one does not go on from here.
    pub config: String,
    /// SHA-256 over what is on which side of the split: other data do not go on from here.
    pub data: String,
}

/// What a checkpoint is made of.
pub struct State<'a, M> {
    /// Where the run stands.
    pub progress: &'a Progress,
    /// The weights.
    pub model: &'a M,
    /// Their moving average.
    pub average: Option<&'a M>,
    /// The optimizer.
    pub optimizer: &'a Optimizer,
}

fn ours(name: &str) -> bool {
    [MODEL, AVERAGE, STATE].contains(&name) || name.ends_with(".bpk")
}

impl<M: Module> State<'_, M> {
    /// Writes the checkpoint into `folder` and removes all but the newest `keep`.
    ///
    /// # Errors
    /// `IO_ERROR`, for example a full disk; older checkpoints then stay as they were.
    pub fn save(&self, checkpoints: &Path, keep: usize) -> Result<PathBuf> {
        let target = checkpoints.join(format!("{PREFIX}{:08}", self.progress.step));
        folder::write(&target, ours, |folder| {
            write_params(&folder.join(MODEL), self.model)?;
            if let Some(average) = self.average {
                write_params(&folder.join(AVERAGE), average)?;
            }
            for (number, bytes) in self.optimizer.state()?.iter().enumerate() {
                folder::write_file(&folder.join(format!("optimizer-{number}.bpk")), bytes)?;
            }
            let progress = serde_json::to_vec_pretty(self.progress).expect("plain fields");
            folder::write_file(&folder.join(STATE), &progress)
        })?;
        let mut all = list(checkpoints)?;
        all.truncate(all.len().saturating_sub(keep));
        for old in all {
            fs::remove_dir_all(&old).map_err(|e| Error::io("remove", &old, e))?;
        }
        Ok(target)
    }
}

/// The checkpoints in a folder, oldest first.
fn list(checkpoints: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", checkpoints, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", checkpoints, e))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(step) = step.and_then(|step| step.parse::<u64>().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The newest checkpoint, if there is one.
///
/// # Errors
/// `IO_ERROR`.
pub fn newest(checkpoints: &Path) -> Result<Option<PathBuf>> {
    Ok(list(checkpoints)?.pop())
}

/// Takes possession of a run's folder, for as long as the result is kept, and clears away what an interrupted run left
/// half written.
///
/// # Errors
/// `BAD_ARGUMENT` where another process has it; `IO_ERROR`.
pub fn claim(places: &Places) -> Result<File> {
    let path = places.run.join("lock");
    let file = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
    // A file system without locks still works, for one process at a time.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(Error::BadArgument(format!(
            "another process is training in {}",
            places.run.display()
        )));
    }
    folder::remove_leftovers(&places.run)?;
    folder::remove_leftovers(&places.checkpoints())?;
    Ok(file)
}

/// The newest checkpoint where a run is to be resumed; none where a new one begins.
///
/// # Errors
/// `BAD_ARGUMENT` where there is none to resume, or one in the way of a new run; `IO_ERROR`.
pub fn begin(places: &Places, resume: bool) -> Result<Option<PathBuf>> {
    let newest = newest(&places.checkpoints())?;
    let wrong = match (&newest, resume) {
        (Some(_), false) => {
            "holds checkpoints of an earlier run: resume it, or give another folder"
        }
        (None, true) => "holds no checkpoint: there is nothing to resume, begin anew",
        _ => return Ok(newest),
    };
    Err(Error::BadArgument(format!(
        "{} {wrong}",
        places.run.display()
    )))
}

/// Reads where the run of a checkpoint stood.
///
/// # Errors
/// `BAD_CHECKPOINT` where it is damaged; `IO_ERROR`.
pub fn progress(checkpoint: &Path) -> Result<Progress> {
    let path = checkpoint.join(STATE);
    let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::BadCheckpoint(format!("{}: {e}", path.display())))
}

/// Takes up the weights, their average and the optimizer's state.
///
/// # Errors
/// `BAD_CHECKPOINT`, `BAD_TENSOR` where it is damaged or another model's; `IO_ERROR`.
pub fn load<M: Module>(
    checkpoint: &Path,
    model: M,
    average: Option<M>,
    optimizer: &mut Optimizer,
) -> Result<(M, Option<M>)> {
    let model = read_params(&checkpoint.join(MODEL), model)?;
    let average = average
        .map(|a| read_params(&checkpoint.join(AVERAGE), a))
        .transpose()?;
    let groups = optimizer.groups().count();
    let state = (0..groups).map(|number| {
        let path = checkpoint.join(format!("optimizer-{number}.bpk"));
        fs::read(&path).map_err(|e| Error::io("read", &path, e))
    });
    optimizer.load(state.collect::<Result<_>>()?)?;
    Ok((model, average))
}

/// Writes the weights of the best validation, in place of those before.
///
/// # Errors
/// `IO_ERROR`.
pub fn save_best<M: Module>(checkpoints: &Path, model: &M) -> Result<()> {
    folder::write(&checkpoints.join(BEST), ours, |folder| {
        write_params(&folder.join(MODEL), model)
    })
}

/// `model` with the weights of the best validation.
///
/// # Errors
/// `BAD_CHECKPOINT`, `BAD_TENSOR` where they are damaged or another model's; `IO_ERROR`.
pub fn load_best<M: Module>(checkpoints: &Path, model: M) -> Result<M> {
    read_params(&checkpoints.join(BEST).join(MODEL), model)
}

fn write_params<M: Module>(path: &Path, module: &M) -> Result<()> {
    let values = params::read(module)?;
    let bad = |e: safetensors::SafeTensorError| match e {
        safetensors::SafeTensorError::IoError(e) => Error::io("write", path, e),
        e => Error::BadCheckpoint(format!("{}: {e}", path.display())),
    };
    let views = values.iter().map(|(p, values)| {
        let bytes = bytemuck::cast_slice(values);
        let view = TensorView::new(Dtype::F32, p.shape.clone(), bytes).map_err(bad)?;
        Ok((&p.name, view))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, path).map_err(bad)?;
    folder::sync_file(path)
}

fn read_params<M: Module>(path: &Path, module: M) -> Result<M> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let bad = |e| Error::BadCheckpoint(format!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).map_err(bad)?;
    let mut values = HashMap::new();
    for parameter in params::list(&module) {
        let tensor = file.tensor(&parameter.name).map_err(bad)?;
        if tensor.shape() != parameter.shape || tensor.dtype() != Dtype::F32 {
            return Err(Error::BadTensor {
                name: parameter.name,
                expected: format!("F32 {:?}", parameter.shape),
                got: format!("{} {:?}", tensor.dtype(), tensor.shape()),
            });
        }
        let (whole, _) = tensor.data().as_chunks();
        let numbers = whole
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        values.insert(parameter.id, numbers);
    }
    Ok(params::write(module, values))
}
