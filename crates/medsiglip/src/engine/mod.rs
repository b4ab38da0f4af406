//! CPU inference: [`CpuEngine`] runs the two towers from memory-mapped weights.
//!
//! `panels` says how activations lie in memory; `kernels` has the arithmetic, each kernel tested against
//! `kernels::reference`, which is written to be read; `weights` finds the tensors of a block; `block` is one transformer layer over reused
//! buffers; `vision` and `text` are the towers.

mod block;
mod buffers;
mod kernels;
mod panels;
pub mod peak;
mod text;
mod vision;
mod weights;

use rayon::ThreadPool;

use crate::checkpoint::{Checkpoint, Dtype};
use crate::model::{Encoder, Keep, TowerOutput};
use crate::preprocess::PixelValues;
use crate::tokenizer::TokenIds;
use crate::{Error, Result};

use buffers::BufferPool;
#[cfg(feature = "towers")]
pub(crate) use kernels::exp;
use text::TextTower;
use vision::VisionTower;

/// Rows (patches or tokens) that go through a tower at once: enough to keep the cores busy,
/// few enough that the activations of a block stay small whatever the batch.
const ROWS_PER_PASS: usize = 1024;

/// Runs the towers on the CPU.
pub struct CpuEngine {
    vision: VisionTower,
    text: Option<TextTower>,
    buffers: BufferPool,
    pool: ThreadPool,
}

impl CpuEngine {
    /// The towers of `checkpoint`, run by `threads` threads (all cores where `None`).
    ///
    /// # Errors
    /// `BAD_TENSOR` where a weight is missing or misshaped, `BAD_ARGUMENT` where `threads` is zero or cannot be started.
    pub fn new(checkpoint: &Checkpoint, threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(Error::BadArgument(
                "threads: expected at least 1, got 0".into(),
            ));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|i| format!("medsiglip-cpu-{i}"))
            .build()
            .map_err(|e| Error::BadArgument(format!("threads: cannot start them: {e}")))?;
        let config = checkpoint.config();
        let (vision, text) = pool.install(|| {
            let text = config
                .text
                .as_ref()
                .map(|text| TextTower::load(checkpoint, text));
            Ok((VisionTower::load(checkpoint, config)?, text.transpose()?))
        })?;
        Ok(Self {
            vision,
            text,
            buffers: BufferPool::default(),
            pool,
        })
    }
}

impl Encoder for CpuEngine {
    fn encode_images(&self, pixels: &PixelValues, keep: Keep) -> Result<TowerOutput> {
        self.vision.check(pixels)?;
        let items = (ROWS_PER_PASS / self.vision.num_patches()).max(1);
        let item = 3 * pixels.size() * pixels.size();
        self.pool.install(|| {
            let mut buffers = self.buffers.take();
            let passes = pixels
                .data()
                .chunks(items * item)
                .map(|pass| self.vision.forward(pass, keep, &mut buffers));
            let output = join(passes);
            self.buffers.give_back(buffers);
            output
        })
    }

    fn encode_texts(&self, ids: &TokenIds, keep: Keep) -> Result<TowerOutput> {
        let text = self.text.as_ref().ok_or_else(|| {
            Error::Unsupported(
                "this checkpoint has no text tower: it can encode images alone".into(),
            )
        })?;
        text.check(ids)?;
        let items = (ROWS_PER_PASS / ids.length()).max(1);
        self.pool.install(|| {
            let mut buffers = self.buffers.take();
            let passes = ids
                .data()
                .chunks(items * ids.length())
                .map(|pass| text.forward(pass, keep, &mut buffers));
            let output = join(passes);
            self.buffers.give_back(buffers);
            output
        })
    }

    fn device(&self) -> &str {
        "cpu"
    }

    fn dtype(&self) -> Dtype {
        self.vision.dtype()
    }
}

/// The outputs of several passes, one after the other in the batch.
fn join(passes: impl Iterator<Item = Result<TowerOutput>>) -> Result<TowerOutput> {
    let mut joined: Option<TowerOutput> = None;
    for pass in passes {
        let pass = pass?;
        match &mut joined {
            None => joined = Some(pass),
            Some(all) => all.append(pass)?,
        }
    }
    joined.ok_or_else(Error::empty_batch)
}
