//! What a tower gives beside the pooled embedding: hidden states for dense features, and where the pooling head looks.
//!
//! `cargo run --release --example hidden_states -- MODEL PICTURE`

use medsiglip::model::Keep;
use medsiglip::{LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hidden_states MODEL PICTURE".into());
    };
    let model = Model::load(&model.parse()?, &LoadOptions::default())?;
    let pixels = model.preprocessor().open(picture)?;
    let keep = Keep {
        last_hidden_state: true,
        hidden_states: true,
        map_attention: true,
    };
    let output = model.encoder().encode_images(&pixels, keep)?;

    let vision = &model.config().vision;
    let (patches, heads) = (vision.num_patches(), vision.num_attention_heads);
    println!(
        "last hidden state: {} patches x {}",
        patches, vision.hidden_size
    );
    println!(
        "hidden states: {}",
        output.hidden_states.map_or(0, |states| states.len())
    );
    if let Some(attention) = output.map_attention {
        // Mean over the heads: one number a patch, row by row of the picture.
        let mean = |patch: usize| {
            (0..heads)
                .map(|h| attention[h * patches + patch])
                .sum::<f32>()
                / heads as f32
        };
        let top = (0..patches)
            .max_by(|a, b| mean(*a).total_cmp(&mean(*b)))
            .unwrap_or(0);
        let (row, column) = (top / vision.grid(), top % vision.grid());
        println!(
            "the pooling head looks most at patch row {row}, column {column} ({:.1} %)",
            100.0 * mean(top)
        );
    }
    Ok(())
}
