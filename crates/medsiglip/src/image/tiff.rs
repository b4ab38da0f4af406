//! TIFF to [`Raw`]: the first page, 1 to 16 bits, gray, RGB, alpha, CMYK and palettes; JPEG inside TIFF.
//!
//! Refused by name: Lab, float, signed and 32-bit samples, `YCbCr` that is not JPEG, whole-slide files.

use std::io::{Cursor, Read, Seek};

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffFormatError};

use super::png::unpack;
use super::raw::{Layout, Raw, high_bytes};
use super::{DecodeOptions, Samples};
use super::{tiff_jpeg, tiff_palette};
use crate::{Error, Result};

pub(super) type TiffDecoder<'a> = Decoder<Cursor<&'a [u8]>>;

/// Compression 7, "new-style" JPEG.
const JPEG: u16 = 7;
/// Photometric interpretation of palette indices and of `YCbCr`.
const PALETTE: u16 = 3;
const YCBCR: u16 = 6;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let mut decoder = open(bytes, options)?;
    if tag_numbers(&mut decoder, Tag::PhotometricInterpretation)?.first() != Some(&PALETTE) {
        return decode_page(decoder, bytes, false, options);
    }
    let (colors, gray) = tiff_palette::split(&mut decoder, bytes)?;
    let mut raw = decode_page(open(&gray, options)?, &gray, true, options)?;
    tiff_palette::apply(&mut raw, &colors, options.container_compat)?;
    Ok(raw)
}

/// The header, checked.
fn open<'a>(bytes: &'a [u8], options: &DecodeOptions) -> Result<TiffDecoder<'a>> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(bad_tiff)?;
    let (width, height) = decoder.dimensions().map_err(bad_tiff)?;
    refuse_slides(&mut decoder)?;
    options.limits.check_pixels(width, height)?;
    let limit = usize::try_from(options.limits.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    Ok(decoder.with_limits(limits))
}

/// The first page; with `is_index`, samples of few bits keep their numbers.
fn decode_page(
    mut decoder: TiffDecoder,
    bytes: &[u8],
    is_index: bool,
    options: &DecodeOptions,
) -> Result<Raw> {
    let (width, height) = decoder.dimensions().map_err(bad_tiff)?;
    let is_jpeg = tag_numbers(&mut decoder, Tag::Compression)?.first() == Some(&JPEG);
    let (layout, depth) = layout(&mut decoder, is_jpeg)?;
    let photometric = tag_numbers(&mut decoder, Tag::PhotometricInterpretation)?;
    let is_ycbcr = photometric.first() == Some(&YCBCR);
    let samples = if is_jpeg {
        tiff_jpeg::read(&mut decoder, bytes, layout, is_ycbcr, options)?
    } else {
        let mut stored = DecodingResult::U8(Vec::new());
        let planes = decoder
            .read_image_to_buffer(&mut stored)
            .map_err(bad_tiff)?
            .planes;
        let scale = match depth {
            1 | 2 | 4 if !is_index => 255 / ((1_u8 << depth) - 1),
            _ => 1,
        };
        let row_samples = width as usize * layout.channels();
        full_range(stored, depth, scale, row_samples, planes)?
    };
    let name = if is_ycbcr {
        "ycbcr"
    } else {
        color_name(layout)
    };
    let mut raw = Raw {
        width,
        height,
        layout,
        samples,
        // Pillow applies the tag while it opens a TIFF, so the container sees it applied too.
        orientation: orientation(&mut decoder)?,
        format: "tiff",
        color: format!("{name}{depth}{}", if is_jpeg { " jpeg" } else { "" }),
        warnings: Vec::new(),
    };
    if decoder.more_images() {
        raw.warnings
            .push("tiff of several pages: the first was read".into());
    }
    adapt(&mut raw, &mut decoder, options.container_compat)?;
    Ok(raw)
}

/// Alpha multiplied in is divided out, as Pillow does (`RGBa`). For the container, 16-bit colour keeps its
/// high byte and 16-bit white-is-zero gray stays inverted, both as Pillow reads them.
fn adapt(raw: &mut Raw, decoder: &mut TiffDecoder, container_compat: bool) -> Result<()> {
    let extra = tag_numbers(decoder, Tag::ExtraSamples)?;
    if raw.layout == Layout::Rgba && extra.first() == Some(&1) {
        match &mut raw.samples {
            Samples::U8(v) => v.chunks_exact_mut(4).for_each(unpremultiply8),
            Samples::U16(v) => v.chunks_exact_mut(4).for_each(unpremultiply16),
        }
    }
    if !container_compat {
        return Ok(());
    }
    let white_is_zero = tag_numbers(decoder, Tag::PhotometricInterpretation)?.first() == Some(&0);
    if let Samples::U16(v) = &mut raw.samples {
        if raw.layout == Layout::Gray {
            if white_is_zero {
                v.iter_mut().for_each(|v| *v = u16::MAX - *v);
                raw.warnings
                    .push("white-is-zero gray was not inverted, as in the container".into());
            }
        } else {
            raw.samples = Samples::U8(high_bytes(v));
        }
    }
    Ok(())
}

fn refuse_slides(decoder: &mut TiffDecoder) -> Result<()> {
    let Some(maker) = slide_maker(decoder) else {
        return Ok(());
    };
    Err(Error::Unsupported(format!(
        "whole-slide file ({maker}): it is read in tiles, not as one picture"
    )))
}

/// Who made the slide that a file is; `None` for any other file.
pub(super) fn slide_maker_of(file: impl Read + Seek) -> Option<&'static str> {
    slide_maker(&mut Decoder::new(file).ok()?)
}

/// Who made the slide that the file is, as OpenSlide tells them apart; `None` for any other TIFF.
fn slide_maker<R: Read + Seek>(decoder: &mut Decoder<R>) -> Option<&'static str> {
    /// "Source lens" of NDPI, which every such file has.
    const HAMAMATSU: Tag = Tag::Unknown(65420);
    let mut text = |tag| decoder.get_tag_ascii_string(tag).unwrap_or_default();
    let (description, software) = (text(Tag::ImageDescription), text(Tag::Software));
    if description.starts_with("Aperio") {
        Some("Aperio")
    } else if description.contains("www.leica-microsystems.com/scn") {
        Some("Leica")
    } else if software.starts_with("Philips DP") {
        Some("Philips")
    } else {
        let tag = decoder.find_tag(HAMAMATSU);
        tag.is_ok_and(|tag| tag.is_some()).then_some("Hamamatsu")
    }
}

fn layout(decoder: &mut TiffDecoder, is_jpeg: bool) -> Result<(Layout, u8)> {
    let color = decoder.colortype().map_err(bad_tiff)?;
    let format = tag_numbers(decoder, Tag::SampleFormat)?;
    if let Some(code) = format.iter().find(|&&f| f != 1) {
        return Err(Error::Unsupported(format!(
            "tiff: expected unsigned integer samples (sample format 1), got sample format {code}; \
             signed and float pictures need a stated intensity range"
        )));
    }
    let (layout, depth) = match color {
        ColorType::Gray(depth) => (Layout::Gray, depth),
        ColorType::GrayA(depth)
        | ColorType::Multiband {
            bit_depth: depth,
            num_samples: 2,
        } => (Layout::GrayAlpha, depth),
        ColorType::RGB(depth) => (Layout::Rgb, depth),
        ColorType::RGBA(depth) => (Layout::Rgba, depth),
        ColorType::YCbCr(8) if is_jpeg => (Layout::Rgb, 8),
        ColorType::CMYK(depth) => (Layout::Cmyk, depth),
        other => {
            return Err(Error::Unsupported(format!(
                "tiff: expected gray, RGB or CMYK samples, got {other:?}"
            )));
        }
    };
    if !(matches!(depth, 8 | 16) || (layout == Layout::Gray && matches!(depth, 1 | 2 | 4))) {
        return Err(Error::Unsupported(format!(
            "tiff: expected 8 or 16 bits a sample (1, 2, 4 for gray), got {depth}"
        )));
    }
    Ok((layout, depth))
}

fn full_range(
    stored: DecodingResult,
    depth: u8,
    scale: u8,
    row_samples: usize,
    planes: usize,
) -> Result<Samples> {
    match stored {
        DecodingResult::U8(v) if depth < 8 => {
            Ok(Samples::U8(unpack(&v, row_samples, depth, scale)))
        }
        DecodingResult::U8(v) => Ok(Samples::U8(interleave(v, planes))),
        DecodingResult::U16(v) => Ok(Samples::U16(interleave(v, planes))),
        _ => Err(Error::Unsupported(
            "tiff: expected samples of at most 16 bits".into(),
        )),
    }
}

/// (planes, pixels) to (pixels, planes).
fn interleave<T: Copy>(stored: Vec<T>, planes: usize) -> Vec<T> {
    if planes <= 1 {
        return stored;
    }
    let pixels = stored.len() / planes;
    let mut out = Vec::with_capacity(stored.len());
    for pixel in 0..pixels {
        out.extend((0..planes).map(|plane| stored[plane * pixels + pixel]));
    }
    out
}

/// Pillow's `unpackRGBa` (`src/libImaging/Unpack.c`).
fn unpremultiply8(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    if alpha != 0 && alpha != 255 {
        pixel[..3]
            .iter_mut()
            .for_each(|v| *v = (255 * u32::from(*v) / alpha).min(255) as u8);
    } else if alpha == 0 {
        pixel[..3].fill(0);
    }
}

fn unpremultiply16(pixel: &mut [u16]) {
    let alpha = u32::from(pixel[3]);
    pixel[..3].iter_mut().for_each(|v| {
        *v = (65_535 * u32::from(*v))
            .checked_div(alpha)
            .unwrap_or(0)
            .min(65_535) as u16
    });
}

fn orientation(decoder: &mut TiffDecoder) -> Result<u8> {
    let value = tag_numbers(decoder, Tag::Orientation)?.first().copied();
    Ok(value
        .and_then(|v| u8::try_from(v).ok())
        .filter(|v| (1..=8).contains(v))
        .unwrap_or(1))
}

/// The numbers of a tag, empty where it is absent.
pub(super) fn tag_numbers(decoder: &mut TiffDecoder, tag: Tag) -> Result<Vec<u16>> {
    Ok(decoder
        .find_tag_unsigned_vec(tag)
        .map_err(bad_tiff)?
        .unwrap_or_default())
}

fn color_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Gray => "gray",
        Layout::GrayAlpha => "gray-alpha",
        Layout::Rgb => "rgb",
        Layout::Rgba => "rgba",
        Layout::Cmyk => "cmyk",
    }
}

pub(super) fn bad_tiff(error: TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(what) => Error::Unsupported(format!("tiff: {what}")),
        TiffError::FormatError(TiffFormatError::RequiredTagNotFound(tag)) => {
            Error::BadImage(format!("tiff: required tag {tag:?} is missing"))
        }
        // Sizes were checked against our limits before: the file contradicts its own header.
        TiffError::LimitsExceeded => {
            Error::BadImage("tiff: a table or strip is larger than its picture allows".into())
        }
        other => Error::BadImage(format!("tiff: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use tiff::encoder::{TiffEncoder, colortype::Gray8};

    use super::*;

    /// A picture of one pixel that has `tag`.
    fn tagged(tag: Tag, text: &str) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let mut page = encoder.new_image::<Gray8>(1, 1).unwrap();
        page.encoder().write_tag(tag, text).unwrap();
        page.write_data(&[7]).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn slides_are_refused_by_their_makers() {
        let scn = "<scn xmlns=\"http://www.leica-microsystems.com/scn/2010/10/01\">";
        let cases = [
            (Tag::ImageDescription, "Aperio Image Library v11", "Aperio"),
            (Tag::ImageDescription, scn, "Leica"),
            (Tag::Software, "Philips DP v1.0", "Philips"),
            (Tag::Unknown(65420), "20", "Hamamatsu"),
        ];
        for (tag, text, maker) in cases {
            let bytes = tagged(tag, text);
            let error = decode(&bytes, &DecodeOptions::default()).unwrap_err();
            assert_eq!(error.code(), "UNSUPPORTED");
            let told = error.to_string();
            assert!(
                told.starts_with(&format!("whole-slide file ({maker})")),
                "{told}"
            );
        }
        let bytes = tagged(Tag::Software, "a scanner");
        assert!(decode(&bytes, &DecodeOptions::default()).is_ok());
    }
}
