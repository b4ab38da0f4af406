//! Scores one picture against a few sentences.
//!
//! `cargo run --release --example zero_shot -- MODEL PICTURE "a normal chest x-ray" "pleural effusion"`

use medsiglip::{LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("usage: zero_shot MODEL PICTURE TEXT...".into());
    };
    let texts: Vec<String> = arguments.collect();

    let model = Model::load(&model.parse()?, &LoadOptions::default())?;
    let pixels = model.preprocessor().open(picture)?;
    let images = model.encode_images(&pixels)?;
    let scores = model.scores(&images, &model.encode_texts(&texts)?)?;

    println!(
        "{:>8} {:>11}  text (not for clinical use)",
        "cosine", "probability"
    );
    for (i, text) in texts.iter().enumerate() {
        println!(
            "{:>8.4} {:>11.6}  {text}",
            scores.cosine[i], scores.probability[i]
        );
    }
    Ok(())
}
