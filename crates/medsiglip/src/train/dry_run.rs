//! What a run would do, without doing it: what is trained, on what, with how much memory.

use super::config::{Places, TrainConfig};
use super::optimizer::{Groups, Rule};
use super::run::RunOptions;
use super::start::{Start, equipped};
use super::state;
use crate::config::{Config, Shape};
use crate::dataset::{Batch, Side};
use crate::towers::params::{self, Parameter};
use crate::{Error, Result};

/// Bytes of a number.
const F32: u64 = 4;
/// Batches that stand ready or are being made while one is trained on.
const BATCHES: u64 = 4;

/// What a run would do.
#[derive(Debug)]
pub struct DryRun {
    /// What is trained how, and what is not.
    pub groups: Groups,
    /// The sources, in their order.
    pub sources: Vec<Divided>,
    /// What a person should know before training.
    pub warnings: Vec<String>,
    /// What is learned: for a head, its classes.
    pub notes: Vec<String>,
    /// An estimate.
    pub memory: Memory,
    /// The first batch.
    pub batch: Batch,
    /// Its pictures as the model sees them: RGB, 8 bits, (B, size, size, 3).
    pub samples: Vec<u8>,
}

/// How a source is divided.
#[derive(Debug, Clone, PartialEq)]
pub struct Divided {
    /// Its name.
    pub name: String,
    /// Examples for training, validation and test.
    pub examples: [usize; 3],
    /// Examples of the training side that are drawn: fewer where duplicates are dropped.
    pub drawn_from: usize,
    /// Share of all draws of the run.
    pub share: f64,
}

/// Bytes that a run needs, estimated from the shapes: what the layers keep for the backward pass, not what they need
/// while they work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, and their moving average where there is one.
    pub weights: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// What the layers keep for the backward pass.
    pub layers: u64,
    /// Batches of pixels that wait for their turn.
    pub batches: u64,
    /// Decoded pictures that are kept, judged by the first batch.
    pub pictures: u64,
}

impl Memory {
    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.layers + self.batches + self.pictures
    }
}

/// Looks at all that [`train`](super::run::train) would begin with, and makes the first batch. A model of random weights
/// is written into the run's folder, as training does; nothing else is.
///
/// # Errors
/// As of [`train`](super::run::train) before its first step.
pub fn dry_run(config: &TrainConfig, options: &RunOptions) -> Result<DryRun> {
    let places = Places::of(options.output);
    let _lock = state::claim(&places)?;
    state::begin(&places, false)?;
    let Start {
        source,
        mut data,
        objective,
        mut model,
        ..
    } = Start::new(config, options, &places)?;
    model = equipped(model, config)?;
    let all = params::list(&model);
    let groups = config.optimizer.groups(all.clone())?;
    let preprocessor = source.preprocessor();
    let batch = data.batches(preprocessor, config.batch.size, 0)?.next();
    let batch = batch.ok_or_else(|| {
        Error::BadArgument("training data: none of its pictures can be read".into())
    })??;
    let draws = config.steps * config.batch.size as u64;
    let counts = data.mixture.counts(draws.max(1)).to_vec();
    let pools = data.mixture.pools().iter().zip(counts).enumerate();
    let divided = pools.map(|(number, (pool, count))| Divided {
        name: pool.name.clone(),
        examples: [Side::Train, Side::Val, Side::Test]
            .map(|side| data.divided.on_side(number, side).len()),
        drawn_from: pool.len(),
        share: count as f64 / draws.max(1) as f64,
    });
    Ok(DryRun {
        sources: divided.collect(),
        memory: Memory {
            pictures: data.divided.pictures.expected_bytes(),
            ..memory(config, source.config(), &groups, &all)
        },
        groups,
        warnings: [data.divided.warnings.clone(), data.divided.skipped()].concat(),
        notes: objective.notes(),
        samples: preprocessor.samples(&batch.pixels),
        batch,
    })
}

fn memory(config: &TrainConfig, shapes: &Config, groups: &Groups, all: &[Parameter]) -> Memory {
    let trained = || groups.trained.iter().flat_map(|group| &group.parameters);
    let numbers = |parameters: &mut dyn Iterator<Item = &Parameter>| -> u64 {
        parameters.map(|p| p.count() as u64).sum()
    };
    let moments = match config.optimizer.rule {
        Rule::AdamW => 2 * numbers(&mut trained()),
        Rule::Lion => numbers(&mut trained()),
        // Of a matrix, rows and columns alone.
        Rule::Adafactor => trained()
            .map(|p| p.shape.iter().sum::<usize>() as u64)
            .sum(),
    };
    let copies = 1 + u64::from(config.average.is_some());
    let side = shapes.vision.image_size as u64;
    let pixels = config.batch.size as u64 * 3 * side * side;
    Memory {
        weights: F32 * copies * numbers(&mut all.iter()),
        gradients: F32 * numbers(&mut trained()),
        optimizer: F32 * moments,
        layers: F32 * kept(config, shapes),
        batches: F32 * BATCHES * pixels,
        pictures: 0,
    }
}

/// Numbers that the layers of both towers keep for the backward pass.
fn kept(config: &TrainConfig, shapes: &Config) -> u64 {
    let at_once = config.micro_batch() as u64;
    let tower = |tokens: usize, shape: Shape| {
        let [tokens, width, mlp, heads, depth] =
            [tokens, shape.width, shape.mlp, shape.heads, shape.depth].map(|n| n as u64);
        let input = tokens * width;
        // Queries, keys, values, the result of attention, the sum after it; the MLP's input to GELU; sums of softmax,
        // means and deviations of both norms.
        let inside = 5 * input + tokens * mlp + tokens * heads + 4 * tokens;
        let layers = match config.model.gradient_checkpointing {
            true => depth * input + inside,
            false => depth * (input + inside),
        };
        at_once * layers
    };
    let vision = tower(shapes.vision.grid().pow(2), shapes.vision.shape());
    let text = shapes.text.as_ref();
    let text = text.map_or(0, |t| tower(t.max_position_embeddings, t.shape()));
    // A batch in several parts goes through one tower after the other.
    match at_once < config.batch.size as u64 {
        true => vision.max(text),
        false => vision + text,
    }
}
