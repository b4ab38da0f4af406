//! JPEG (ITU-T T.81; DICOM PS3.5 annex A.4.1 and A.4.2).
//!
//! DCT processes go through `libjpeg-turbo-rs`, bit-equal to libjpeg-turbo. Whether three components are YCbCr is
//! pydicom's rule: they are RGB where the component identifiers say "RGB" or "rgb", YCbCr where there is a JFIF marker,
//! and otherwise what Photometric Interpretation says; an Adobe marker is not looked at.

use libjpeg_turbo_rs::decode::idct::idct_8x8_12bit;
use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, JpegError, PixelFormat};

use super::decoded::{Decoded, Words};
use super::markers::{APP0, APP14, FrameHeader, Markers, SOS, is_frame};
use super::{bad, jpeg_lossless, jpeg_ls};
use crate::image::dicom::{Photometric, Shape};
use crate::{Error, Result};

/// More scans than any encoder writes.
const MAX_SCANS: usize = 256;

/// Decodes a JPEG frame of any process, which is the codestream's to say and not the transfer syntax's.
pub(super) fn decode(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let header = Header::read(bytes)?;
    let precision = header.frame.precision;
    header.frame.check(shape)?;
    let mut decoded = match (header.marker, precision) {
        (0xC3, _) => jpeg_lossless::decode(bytes, shape)?,
        (0xF7, _) => return jpeg_ls::decode(bytes, shape),
        (0xC0..=0xC2 | 0xC9 | 0xCA, 8) => dct_8(bytes, shape)?,
        (0xC2 | 0xCA, 12) => progressive_12(bytes, shape)?,
        (0xC0 | 0xC1 | 0xC9, 12) => dct_12(bytes, shape)?,
        (marker, _) => {
            return Err(Error::Unsupported(format!(
                "DICOM JPEG frame: process SOF{} of {precision} bits",
                marker & 15
            )));
        }
    };
    header.conform(&mut decoded, shape);
    Ok(decoded)
}

/// What stands before the first scan.
pub(super) struct Header {
    marker: u8,
    frame: FrameHeader,
    is_jfif: bool,
}

impl Header {
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut markers = Markers::new(bytes);
        let mut is_jfif = false;
        while let Some((marker, segment)) = markers.next()? {
            match marker {
                APP0 => is_jfif |= segment.starts_with(b"JFIF"),
                SOS => break,
                _ if is_frame(marker) => {
                    let frame = FrameHeader::parse(segment)?;
                    return Ok(Self {
                        marker,
                        frame,
                        is_jfif,
                    });
                }
                _ => {}
            }
        }
        Err(bad("JPEG frame", "no frame header"))
    }

    /// Makes `decoded` what the codestream says that three components are, where the data set says otherwise.
    pub fn conform(&self, decoded: &mut Decoded, shape: &Shape) {
        let ids: Vec<u8> = self
            .frame
            .components
            .iter()
            .map(|component| component.0)
            .collect();
        let named_rgb = ids == b"RGB" || ids == b"rgb";
        let is_ybr = shape.photometric.name().starts_with("YBR");
        let (photometric, why) = match shape.photometric {
            _ if ids.len() != 3 => return,
            Photometric::Rgb if !self.is_jfif => return,
            Photometric::Rgb => (Photometric::YbrFull, "has a JFIF marker"),
            _ if named_rgb => (Photometric::Rgb, "names its components RGB"),
            _ if self.is_jfif && !is_ybr => (Photometric::YbrFull, "has a JFIF marker"),
            _ => return,
        };
        decoded.photometric = photometric;
        decoded.warnings.push(format!(
            "photometric interpretation (0028,0004) is {}, but the frame {why}: taken as {}",
            shape.photometric.name(),
            photometric.name()
        ));
    }
}

fn limits(shape: &Shape) -> DecodeLimits {
    let pixels = u64::from(shape.rows) * u64::from(shape.columns);
    DecodeLimits {
        max_width: 65_535,
        max_height: 65_535,
        max_pixels: pixels,
        max_scans: MAX_SCANS,
        // Coefficients, planes of whole blocks and output, 2 bytes each.
        max_memory: Some(pixels.saturating_mul(32).saturating_add(1 << 20)),
    }
}

fn dct_8(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let raw = without_transform(bytes);
    let mut decoder = Decoder::new_with_limits(&raw, limits(shape)).map_err(bad_jpeg)?;
    decoder.set_limits(limits(shape));
    decoder.set_output_format(match shape.samples_per_pixel {
        1 => PixelFormat::Grayscale,
        _ => PixelFormat::Rgb,
    });
    let image = decoder.decode_image().map_err(bad_jpeg)?;
    let mut decoded = Decoded::new(Words::U8(image.data), 8, shape);
    decoded.bits = shape.bits_stored.min(8);
    decoded.icc_profile = image.icc_profile;
    decoded.warnings = benign(image.warnings)?;
    Ok(decoded)
}

fn dct_12(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let raw = without_transform(bytes);
    let image =
        libjpeg_turbo_rs::decompress_12bit_with_limits(&raw, &limits(shape)).map_err(bad_jpeg)?;
    let words = image.data.into_iter().map(|v| v as u16).collect();
    Ok(Decoded::new(
        Words::U16(words),
        shape.bits_stored.min(12),
        shape,
    ))
}

/// Progressive frames of 12 bits, which the library gives as coefficients only: the same inverse transform as its
/// sequential decoder's, block by block.
fn progressive_12(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    // This way into the library knows no limits.
    let scans = bytes.windows(2).filter(|pair| *pair == [0xFF, SOS]).count();
    if scans > MAX_SCANS {
        return Err(Error::Limit {
            what: "scans of a JPEG frame",
            got: scans as u64,
            limit: MAX_SCANS as u64,
        });
    }
    let coefficients = libjpeg_turbo_rs::read_coefficients(bytes).map_err(bad_jpeg)?;
    let [component] = &coefficients.components[..] else {
        return Err(Error::Unsupported(
            "DICOM JPEG frame: progressive with 12-bit colour".into(),
        ));
    };
    let table = coefficients
        .quant_tables
        .get(usize::from(component.quant_table_index));
    let table = table.ok_or_else(|| bad("JPEG frame", "quantization table is missing"))?;
    let (rows, columns) = (shape.rows as usize, shape.columns as usize);
    let blocks = component.blocks.len();
    if component.blocks_x * 8 < columns || component.blocks_x * rows.div_ceil(8) > blocks {
        return Err(bad("JPEG frame", "fewer blocks than the frame needs"));
    }
    let mut out = vec![0; rows * columns];
    for (at, block) in component.blocks.iter().enumerate() {
        let (left, top) = (at % component.blocks_x * 8, at / component.blocks_x * 8);
        let mut natural = [0; 64];
        for (value, place) in block.iter().zip(ZIGZAG) {
            natural[place] = value.wrapping_mul(table[place] as i16);
        }
        let samples = idct_8x8_12bit(&natural);
        let width = columns.saturating_sub(left).min(8);
        for (y, line) in samples.as_chunks::<8>().0.iter().enumerate() {
            if let Some(row) = out
                .get_mut((top + y) * columns..)
                .filter(|_| top + y < rows)
            {
                let places = row[left.min(columns)..].iter_mut().zip(&line[..width]);
                places.for_each(|(out, v)| *out = (i32::from(*v) + 2048).clamp(0, 4095) as u16);
            }
        }
    }
    Ok(Decoded::new(
        Words::U16(out),
        shape.bits_stored.min(12),
        shape,
    ))
}

/// Natural place of each coefficient in zigzag order (T.81 figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The codestream with its JFIF and Adobe markers replaced by one that says that components are as they are, so that
/// the decoder leaves them alone.
fn without_transform(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\xFF\xD8\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0".to_vec();
    let mut markers = Markers::new(bytes);
    while let Ok(Some((marker, segment))) = markers.next() {
        if matches!(marker, 0x01 | 0xD0..=0xD9 | APP0 | APP14) {
            continue;
        }
        let len = segment.len() + 2;
        out.extend_from_slice(&[0xFF, marker, (len >> 8) as u8, len as u8]);
        out.extend_from_slice(segment);
        if marker == SOS {
            out.extend_from_slice(markers.rest());
            break;
        }
    }
    out
}

/// Stray bytes between markers harm nothing; anything else means that part of the picture was invented.
fn benign(warnings: Vec<DecodeWarning>) -> Result<Vec<String>> {
    warnings
        .into_iter()
        .map(|warning| match warning {
            DecodeWarning::ExtraneousData { .. } => Ok(warning.to_string()),
            _ => Err(Error::BadImage(format!(
                "DICOM JPEG frame: damaged data: {warning}"
            ))),
        })
        .collect()
}

fn bad_jpeg(error: JpegError) -> Error {
    match error {
        JpegError::Unsupported(what) => Error::Unsupported(format!("DICOM JPEG frame: {what}")),
        other => Error::BadImage(format!("DICOM JPEG frame: {other}")),
    }
}
