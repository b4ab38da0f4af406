//! Times both towers, for BENCHMARKS.md.
//!
//! `cargo run --release --example time_towers -- MODEL [RUNS] [RESOLUTION]`

use std::time::Instant;

use medsiglip::checkpoint::OpenOptions;
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::{LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments
        .next()
        .ok_or("usage: time_towers MODEL [RUNS] [RESOLUTION]")?;
    let runs: usize = arguments.next().map_or(Ok(5), |runs| runs.parse())?;
    let resolution = arguments.next().map(|pixels| pixels.parse()).transpose()?;

    let start = Instant::now();
    let checkpoint = OpenOptions {
        resolution,
        dtype: arguments.next().map(|dtype| dtype.parse()).transpose()?,
        ..OpenOptions::default()
    };
    let model = Model::load(
        &model.parse()?,
        &LoadOptions {
            checkpoint,
            ..LoadOptions::default()
        },
    )?;
    println!("load: {:.3} s", start.elapsed().as_secs_f64());

    let size = model.config().vision.image_size;
    for batch in [1, 4] {
        let ramp = (0..batch * 3 * size * size)
            .map(|i| ((i * 37 % 255) as f32) / 127.5 - 1.0)
            .collect();
        let pixels = PixelValues::new(batch, size, ramp)?;
        report(
            &format!("vision {size}, batch {batch}"),
            runs,
            batch,
            || model.encode_images(&pixels).map(drop),
        )?;
    }
    if let Some(text) = &model.config().text {
        let length = text.max_position_embeddings;
        let ids = TokenIds::new(
            8,
            length,
            (0..8 * length)
                .map(|i| (i % text.vocab_size) as u32)
                .collect(),
        )?;
        report("text, batch 8", runs, 8, || {
            model
                .encoder()
                .encode_texts(&ids, Default::default())
                .map(drop)
        })?;
    }
    Ok(())
}

/// Runs `work` once to warm up, then `runs` times; prints seconds an item.
fn report(
    name: &str,
    runs: usize,
    items: usize,
    mut work: impl FnMut() -> medsiglip::Result<()>,
) -> medsiglip::Result<()> {
    work()?;
    let mut seconds = Vec::new();
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64() / items as f64);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{name}: median {median:.3} s an item [{:.3}-{:.3}]",
        seconds[0],
        seconds[seconds.len() - 1]
    );
    Ok(())
}
