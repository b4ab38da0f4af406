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

/// 8-bit samples to float pixels.
///
/// # Shapes
/// `samples` is (height, width, channels), gray or RGB; `out` is (3, height, width). Gray fills all three.
pub(super) fn apply(levels: &Levels, samples: &[u8], channels: usize, out: &mut [f32]) {
    let plane = samples.len() / channels;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    // One walk over the samples: of gray ones every pixel is read as three equal channels.
    let last = channels - 1;
    let pixels = samples.chunks_exact(channels);
    for (((pixel, red), green), blue) in pixels.zip(red).zip(green).zip(blue) {
        *red = levels[0][usize::from(pixel[0])];
        *green = levels[1][usize::from(pixel[last / 2])];
        *blue = levels[2][usize::from(pixel[last])];
    }
}
