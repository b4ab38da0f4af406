//! BMP, WebP and PNM to [`Raw`], by the `image` crate.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::ImageError;
use image::{ColorType, ImageDecoder};

use super::raw::{Layout, Raw};
use super::{DecodeOptions, Samples, orientation_of_exif};
use crate::{Error, Result};

pub(super) fn decode_bmp(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let open = || BmpDecoder::new(Cursor::new(bytes)).map_err(|e| bad("bmp", e));
    let mut decoder = open()?;
    let palette = decoder.get_palette().map(<[[u8; 3]]>::to_vec);
    let black_and_white = palette.as_deref() == Some(&[[0; 3], [255; 3]]);
    if options.container_compat && palette.is_some() && !black_and_white {
        if is_run_length(bytes) {
            // The decoder would panic: it has no room for colours where it writes indices.
            return Err(Error::Unsupported(
                "bmp: run-length compressed palette under the recipe container; use another recipe"
                    .into(),
            ));
        }
        decoder = open()?;
        decoder.set_indexed_color(true);
        let mut raw = read("bmp", decoder, options)?;
        raw.color = "palette8".into();
        raw.warnings
            .push("palette indices were read as gray, as the container does".into());
        return Ok(raw);
    }
    let mut raw = read("bmp", decoder, options)?;
    if palette.is_some() {
        raw.color = "palette8".into();
    }
    Ok(raw)
}

/// Whether the second header's compression is `BI_RLE8` (1) or `BI_RLE4` (2).
fn is_run_length(bytes: &[u8]) -> bool {
    let has_compression = bytes.get(14).is_some_and(|size| *size >= 40);
    has_compression && matches!(bytes.get(30..34), Some([1 | 2, 0, 0, 0]))
}

pub(super) fn decode_webp(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| bad("webp", e))?;
    let (width, height) = decoder.dimensions();
    options.limits.check_pixels(width, height)?;
    let exif = decoder.exif_metadata().map_err(|e| bad("webp", e))?;
    let animated = decoder.has_animation();
    let mut raw = read("webp", decoder, options)?;
    if !options.container_compat {
        raw.orientation = exif.as_deref().map_or(1, orientation_of_exif);
    }
    if animated {
        raw.warnings
            .push("animated webp: the first frame was read".into());
    }
    Ok(raw)
}

/// PNM samples run to the file's own maximum. The decoder scales them to the full range with another
/// rounding than Pillow's, so its scaling is undone (it loses nothing) and Pillow's is done.
pub(super) fn decode_pnm(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(|e| bad("pnm", e))?;
    let header = decoder.header();
    // Bitmaps come out of the decoder at full range.
    let maximum = if header.as_bitmap().is_some() {
        255
    } else {
        header.maximal_sample()
    };
    let mut raw = read("pnm", decoder, options)?;
    if options.container_compat && raw.layout == Layout::Gray && maximum > 255 {
        return Err(Error::Unsupported(
            "pnm: gray of more than 8 bits under the recipe container, which would see it all black; use another recipe"
                .into(),
        ));
    }
    let rescale = |v: u32, full: u32, out_max: u32| {
        let stored = (u64::from(v) * u64::from(maximum) + u64::from(full / 2)) / u64::from(full);
        scale(stored as u32, maximum, out_max)
    };
    let to_8_bits = |v: u32, full: u32| rescale(v, full, 255) as u8;
    raw.samples = match raw.samples {
        Samples::U8(v) => Samples::U8(v.into_iter().map(|s| to_8_bits(s.into(), 255)).collect()),
        // Pillow reads PNM colour of more than 8 bits as 8 bits.
        Samples::U16(v) if options.container_compat => {
            Samples::U8(v.into_iter().map(|s| to_8_bits(s.into(), 65_535)).collect())
        }
        Samples::U16(v) => Samples::U16(
            v.into_iter()
                .map(|s| rescale(s.into(), 65_535, 65_535) as u16)
                .collect(),
        ),
    };
    Ok(raw)
}

/// As Pillow's `PpmDecoder`: `min(out_max, round(value / maximum * out_max))`, Python's rounding (half to even).
fn scale(value: u32, maximum: u32, out_max: u32) -> u32 {
    if maximum == out_max {
        return value;
    }
    let scaled = f64::from(value) / f64::from(maximum) * f64::from(out_max);
    (scaled.round_ties_even() as u32).min(out_max)
}

fn read(
    format: &'static str,
    mut decoder: impl ImageDecoder,
    options: &DecodeOptions,
) -> Result<Raw> {
    let (width, height) = decoder.dimensions();
    options.limits.check_pixels(width, height)?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(options.limits.max_pixels.saturating_mul(16));
    decoder.set_limits(limits).map_err(|e| bad(format, e))?;
    let (layout, name, wide) = match decoder.color_type() {
        ColorType::L8 => (Layout::Gray, "gray8", false),
        ColorType::La8 => (Layout::GrayAlpha, "gray-alpha8", false),
        ColorType::Rgb8 => (Layout::Rgb, "rgb8", false),
        ColorType::Rgba8 => (Layout::Rgba, "rgba8", false),
        ColorType::L16 => (Layout::Gray, "gray16", true),
        ColorType::La16 => (Layout::GrayAlpha, "gray-alpha16", true),
        ColorType::Rgb16 => (Layout::Rgb, "rgb16", true),
        ColorType::Rgba16 => (Layout::Rgba, "rgba16", true),
        other => {
            return Err(Error::Unsupported(format!(
                "{format}: expected 8 or 16 bits a sample, got {other:?}"
            )));
        }
    };
    let bytes = usize::try_from(decoder.total_bytes())
        .map_err(|_| Error::BadImage(format!("{format}: picture does not fit into memory")))?;
    let mut data = vec![0; bytes];
    decoder.read_image(&mut data).map_err(|e| bad(format, e))?;
    let samples = if wide {
        Samples::U16(
            data.chunks_exact(2)
                .map(|b| u16::from_ne_bytes([b[0], b[1]]))
                .collect(),
        )
    } else {
        Samples::U8(data)
    };
    Ok(Raw {
        width,
        height,
        layout,
        samples,
        orientation: 1,
        format,
        color: name.into(),
        warnings: Vec::new(),
    })
}

fn bad(format: &str, error: ImageError) -> Error {
    match error {
        ImageError::Unsupported(e) => Error::Unsupported(format!("{format}: {e}")),
        other => Error::BadImage(format!("{format}: {other}")),
    }
}
