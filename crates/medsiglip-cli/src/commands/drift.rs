//! How far a model with rounded weights is from the same one as it is stored.

use medsiglip::Model;
use medsiglip::checkpoint::Drift;
use medsiglip::embedding::Embeddings;
use medsiglip::image::{self, DecodeOptions};
use medsiglip::preprocess::PixelValues;

use super::picture;
use crate::messages::Result;

/// The texts of benchmarks.
pub const TEXTS: [&str; 2] = [
    "a normal chest x-ray",
    "a chest x-ray with pleural effusion",
];

/// Encodes the same made-up pictures and texts with both models.
pub fn measure(rounded: &Model, stored: &Model) -> Result<Drift> {
    let mut drift = Drift {
        cosine_images: None,
        cosine_texts: None,
    };
    if stored.config().vision.use_head {
        let pixels = [true, false].map(|is_gray| {
            let picture = image::decode(&picture::jpeg(is_gray)?, &DecodeOptions::default())?;
            Ok(stored.preprocessor().pixel_values(&picture)?)
        });
        let pixels = PixelValues::concat(&pixels.into_iter().collect::<Result<Vec<_>>>()?)?;
        let images = |model: &Model| model.encode_images(&pixels);
        drift.cosine_images = Some(lowest_cosine(&images(rounded)?, &images(stored)?)?);
    }
    if stored.config().text.is_some() {
        let ids = stored.tokenize(&TEXTS)?.0;
        let texts = |model: &Model| model.encode_tokens(&ids);
        drift.cosine_texts = Some(lowest_cosine(&texts(rounded)?, &texts(stored)?)?);
    }
    Ok(drift)
}

/// The lowest cosine of two models' embeddings of the same input.
fn lowest_cosine(one: &Embeddings, other: &Embeddings) -> Result<f32> {
    let cosines = one.cosine(other)?;
    // The same input in both lies on the diagonal.
    let diagonal = cosines.into_iter().step_by(other.len() + 1);
    Ok(diagonal.fold(1.0, f32::min))
}

/// For a person: `lowest cosine 0.999608 of pictures, 0.999620 of texts`.
pub fn sentence(drift: &Drift) -> String {
    let of =
        |name: &str, cosine: Option<f32>| cosine.map(|cosine| format!("{cosine:.6} of {name}"));
    let both = [
        of("pictures", drift.cosine_images),
        of("texts", drift.cosine_texts),
    ];
    let both: Vec<_> = both.into_iter().flatten().collect();
    format!("lowest cosine {}", both.join(", "))
}
