//! 8-bit levels to float pixels: one table a channel.

/// The float of each 8-bit level, one table a channel.
pub(super) type Levels = [[f32; 256]; 3];

/// `rescale_factor` of `SiglipImageProcessor`.
pub(super) const ONE_255TH: f64 = 1.0 / 255.0;

/// Rescale and normalisation as `SiglipImageProcessor` computes them: the product in f64, rounded to f32
/// (`image_transforms.rescale`), then `(x - mean) / std` in f32 (`image_transforms.normalize`).
///
/// With 1/255, 0.5 and 0.5 this is the map to [-1, 1] of every named recipe.
pub(super) fn levels(rescale: Option<f64>, normalize: Option<([f64; 3], [f64; 3])>) -> Levels {
    let mut levels = [[0.0; 256]; 3];
    for (channel, table) in levels.iter_mut().enumerate() {
        for (level, out) in table.iter_mut().enumerate() {
            let x = match rescale {
                Some(factor) => (level as f64 * factor) as f32,
                None => level as f32,
            };
            *out = match normalize {
                Some((mean, std)) => (x - mean[channel] as f32) / std[channel] as f32,
                None => x,
            };
        }
    }
    levels
}
