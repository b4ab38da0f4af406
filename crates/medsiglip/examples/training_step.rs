//! Time of a training step, for `scripts/bench_training.py`: `training_step FOLDER BATCH STEPS [MICRO_BATCH]`.
//! Prints the seconds of every step.

use std::time::Instant;

use medsiglip::checkpoint::{Checkpoint, ModelSource, OpenOptions};
use medsiglip::model::{Device, Precision};
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::towers::{self, Siglip};
use medsiglip::train::optimizer::{Optimizer, OptimizerConfig};
use medsiglip::train::step::{Cut, Pairs, sigmoid_step};

fn main() -> medsiglip::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| {
        arguments
            .get(at)
            .and_then(|text| text.parse::<usize>().ok())
    };
    let batch = number(1).unwrap_or(32);
    let source = ModelSource::Local(arguments[0].clone().into());
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default())?;
    let size = checkpoint.config().vision.image_size;
    let text = checkpoint.config().text.as_ref();
    let (length, vocab) = text.map_or((1, 1), |t| (t.max_position_embeddings, t.vocab_size));
    let model = Siglip::load(
        &checkpoint,
        &towers::device(Device::Cpu, Precision::F32)?.autodiff(),
    )?;
    let (mut optimizer, mut model) = Optimizer::new(&OptimizerConfig::default(), model)?;
    let noise = |i: usize| i.wrapping_mul(2_654_435_761) >> 8 & 0xffff;
    let pixels = (0..batch * 3 * size * size).map(|i| noise(i) as f32 / 32768.0 - 1.0);
    let pairs = Pairs {
        pixels: PixelValues::new(batch, size, pixels.collect())?,
        tokens: TokenIds::new(
            batch,
            length,
            (0..batch * length)
                .map(|i| (noise(i) % vocab) as u32)
                .collect(),
        )?,
        true_of: (0..batch as i32).map(|i| vec![i]).collect(),
        keys: (0..batch as i32).collect(),
        auxiliary: None,
    };
    let cut = Cut {
        micro_batch: number(3).unwrap_or(batch),
        loss_block: batch,
    };
    for _ in 0..number(2).unwrap_or(5) {
        let began = Instant::now();
        let step = sigmoid_step(&model, &pairs, cut)?;
        (model, _) = optimizer.step(1e-4, model, step.gradients);
        println!("{}", began.elapsed().as_secs_f64());
    }
    Ok(())
}
