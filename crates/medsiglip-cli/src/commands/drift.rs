//! How far a model with rounded weights is from the same one as it is stored.

use medsiglip::checkpoint::Drift;
use medsiglip::embedding::Embeddings;
use medsiglip::image::{self, DecodeOptions};
use medsiglip::model::{Encoder, Keep, TowerOutput};
use medsiglip::preprocess::{PixelValues, Preprocessor, Recipe};
use medsiglip::tokenizer::TokenIds;
use medsiglip::{Config, Error};

use super::picture;
use crate::batches;
use crate::messages::Result;

/// Made-up texts; their ids are any, so that no tokenizer is needed.
const TEXTS: usize = 2;

/// Encodes the same made-up pictures and texts with both encoders of one model; less of them where the person asks to
/// stop.
pub fn measure(rounded: &dyn Encoder, stored: &dyn Encoder, config: &Config) -> Result<Drift> {
    let mut drift = Drift {
        cosine_images: None,
        cosine_texts: None,
    };
    if config.has_image_embedding() {
        let pixels = pixels(config.vision.image_size)?;
        let images = |encoder: &dyn Encoder| encoder.encode_images(&pixels, Keep::default());
        drift.cosine_images = lowest_cosine(images, rounded, stored)?;
    }
    if let Some(text) = &config.text {
        let (length, words) = (text.max_position_embeddings, text.vocab_size);
        let ids = (0..TEXTS * length).map(|i| (i * 7919 % words) as u32);
        let ids = TokenIds::new(TEXTS, length, ids.collect())?;
        let texts = |encoder: &dyn Encoder| encoder.encode_texts(&ids, Keep::default());
        drift.cosine_texts = lowest_cosine(texts, rounded, stored)?;
    }
    Ok(drift)
}

/// A gray and a colour picture.
fn pixels(size: usize) -> Result<PixelValues> {
    let preprocessor = Preprocessor::new(Recipe::Hf, None, size, None)?;
    let pixels = [true, false].map(|is_gray| {
        let picture = image::decode(&picture::jpeg(is_gray)?, &DecodeOptions::default())?;
        Ok(preprocessor.pixel_values(&picture)?)
    });
    let pixels = pixels.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(PixelValues::concat(&pixels)?)
}

/// The lowest cosine of what two encoders make of the same inputs; `None` where the person asks to stop.
fn lowest_cosine(
    encode: impl Fn(&dyn Encoder) -> medsiglip::Result<TowerOutput>,
    rounded: &dyn Encoder,
    stored: &dyn Encoder,
) -> Result<Option<f32>> {
    let mut pooled: Vec<Embeddings> = Vec::new();
    for encoder in [rounded, stored] {
        if batches::is_stopped() {
            return Ok(None);
        }
        pooled.extend(encode(encoder)?.pooled);
    }
    let [rounded, stored] = pooled.as_slice() else {
        return Ok(None);
    };
    let cosines = rounded.cosine(stored)?;
    // The same input in both lies on the diagonal.
    let diagonal = cosines.into_iter().step_by(stored.len() + 1);
    if let Some(cosine) = diagonal.clone().find(|cosine| !cosine.is_finite()) {
        let message = format!("the model gives numbers that are not finite: a cosine of {cosine}");
        return Err(Error::BadCheckpoint(message).into());
    }
    Ok(diagonal.min_by(f32::total_cmp))
}

/// The lower cosines of two measurements.
pub fn lower(one: Drift, other: Drift) -> Drift {
    let lower = |one: Option<f32>, other: Option<f32>| {
        let both = [one, other].into_iter().flatten();
        both.min_by(f32::total_cmp)
    };
    Drift {
        cosine_images: lower(one.cosine_images, other.cosine_images),
        cosine_texts: lower(one.cosine_texts, other.cosine_texts),
    }
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
