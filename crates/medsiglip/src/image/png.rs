//! PNG to [`Raw`]: every colour type and bit depth, palettes expanded.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Info, Transformations};

use super::raw::{Layout, Raw, high_bytes};
use super::{DecodeOptions, Samples, orientation_of_exif};
use crate::{Error, Result};

/// What the decoder may take beside the picture itself (one row, chunk data): text and colour profiles are not read.
const WORK_BYTES: usize = 64 << 20;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let mut decoder =
        Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: WORK_BYTES });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(bad_png)?;
    options.limits.check_pixels(header.width, header.height)?;

    let mut reader = decoder.read_info().map_err(bad_png)?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| Error::BadImage("png: picture does not fit into memory".into()))?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(bad_png)?;
    let mut warnings = Vec::new();
    let frames = reader.info().animation_control.map_or(1, |a| a.num_frames);
    if frames > 1 {
        warnings.push(format!(
            "animated png of {frames} frames: the first was read"
        ));
    } else {
        reader.finish().map_err(bad_png)?;
    }
    data.truncate(frame.buffer_size());
    let info = reader.info();
    if (frame.width, frame.height) != (info.width, info.height) {
        return Err(Error::Unsupported(
            "png: first frame of an animation that does not fill the picture".into(),
        ));
    }

    let (layout, samples) = samples(&data, info, options.container_compat, &mut warnings)?;
    Ok(Raw {
        width: info.width,
        height: info.height,
        layout,
        samples,
        orientation: if options.container_compat {
            1
        } else {
            info.exif_metadata.as_deref().map_or(1, orientation_of_exif)
        },
        format: "png",
        color: color_name(info),
        warnings,
    })
}

/// Stored rows to full-range samples.
///
/// With `container_compat`, palette indices stand for gray (Pillow's mode `P` without conversion), and of
/// 16-bit colour the high byte is kept (Pillow's `RGB;16B`); 16-bit gray keeps its 16 bits there too (`I;16`).
fn samples(
    data: &[u8],
    info: &Info,
    container_compat: bool,
    warnings: &mut Vec<String>,
) -> Result<(Layout, Samples)> {
    let layout = match info.color_type {
        ColorType::Grayscale => Layout::Gray,
        ColorType::GrayscaleAlpha => Layout::GrayAlpha,
        ColorType::Rgb => Layout::Rgb,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Indexed => {
            let indices = unpack(data, info.width as usize, info.bit_depth as u8, 1);
            if container_compat {
                warnings.push("palette indices were read as gray, as the container does".into());
                return Ok((Layout::Gray, Samples::U8(indices)));
            }
            return Ok((
                Layout::Rgb,
                Samples::U8(expand_palette(&indices, info, warnings)?),
            ));
        }
    };
    if info.trns.is_some() {
        warnings.push("transparent colour was ignored".into());
    }
    if info.bit_depth == BitDepth::Sixteen {
        let wide: Vec<u16> = data
            .chunks_exact(2)
            .map(|b| u16::from_be_bytes([b[0], b[1]]))
            .collect();
        if container_compat && layout != Layout::Gray {
            return Ok((layout, Samples::U8(high_bytes(&wide))));
        }
        return Ok((layout, Samples::U16(wide)));
    }
    let depth = info.bit_depth as u8;
    let scale = (255 / ((1_u32 << depth) - 1)) as u8;
    let row_samples = info.width as usize * layout.channels();
    Ok((layout, Samples::U8(unpack(data, row_samples, depth, scale))))
}

/// Rows of packed 1, 2, 4 or 8 bit samples, each row padded to a byte, to one byte a sample times `scale`.
pub(super) fn unpack(data: &[u8], row_samples: usize, depth: u8, scale: u8) -> Vec<u8> {
    let row_bytes = (row_samples * depth as usize).div_ceil(8);
    if depth == 8 {
        return data.to_vec();
    }
    let per_byte = 8 / depth as usize;
    let mask = (1_u16 << depth) as u8 - 1;
    let mut out = Vec::with_capacity(data.len() * per_byte);
    for row in data.chunks_exact(row_bytes) {
        for i in 0..row_samples {
            let shift = 8 - depth as usize * (i % per_byte + 1);
            out.push(((row[i / per_byte] >> shift) & mask) * scale);
        }
    }
    out
}

fn expand_palette(indices: &[u8], info: &Info, warnings: &mut Vec<String>) -> Result<Vec<u8>> {
    let palette = info.palette.as_deref().unwrap_or_default();
    if info
        .trns
        .as_deref()
        .is_some_and(|t| t.iter().any(|&a| a != u8::MAX))
    {
        warnings.push("transparency of the palette was dropped".into());
    }
    let mut out = Vec::with_capacity(indices.len() * 3);
    for &index in indices {
        let at = usize::from(index) * 3;
        let color = palette.get(at..at + 3).ok_or_else(|| {
            Error::BadImage(format!(
                "png: palette index {index}, expected below {}",
                palette.len() / 3
            ))
        })?;
        out.extend_from_slice(color);
    }
    Ok(out)
}

fn color_name(info: &Info) -> String {
    let kind = match info.color_type {
        ColorType::Grayscale => "gray",
        ColorType::GrayscaleAlpha => "gray-alpha",
        ColorType::Rgb => "rgb",
        ColorType::Rgba => "rgba",
        ColorType::Indexed => "palette",
    };
    format!("{kind}{}", info.bit_depth as u8)
}

fn bad_png(error: DecodingError) -> Error {
    match error {
        DecodingError::LimitsExceeded => Error::Limit {
            what: "png working memory in bytes",
            got: WORK_BYTES as u64 + 1,
            limit: WORK_BYTES as u64,
        },
        other => Error::BadImage(format!("png: {other}")),
    }
}
