//! JPEG 2000 (ISO 15444-1; DICOM PS3.5 annex A.4.4).
//!
//! The decoder is `hayro-jpeg2000`: no `unsafe`, exact for reversible frames, within a step of OpenJPEG for others, and
//! faster than it on most. It computes in 32-bit floats, so that frames of more than 20 bits are refused. It has no
//! High-Throughput block decoder, nor has any other library in Rust a sound one: those frames go to OpenJPEG itself.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use jpeg2k::DecodeParameters;

use super::decoded::{Decoded, Words};
use super::native::join;
use super::{bad, markers};
use crate::image::dicom::{Photometric, Shape};
use crate::{Error, Result};

/// Most bits that 32-bit floats carry through all transforms.
const MAX_BITS: u8 = 20;

/// Decodes a codestream, which may be wrapped in a JP2 file.
pub(super) fn decode(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let codestream = codestream(bytes)?;
    let header = Header::read(codestream)?;
    header.check(shape)?;
    let words = if header.is_high_throughput {
        high_throughput(codestream, &header)?
    } else {
        part_1(codestream, &header)?
    };
    let mut decoded = Decoded::new(words, header.precision, shape);
    if matches!(shape.photometric, Photometric::YbrIct | Photometric::YbrRct) {
        decoded.photometric = Photometric::Rgb;
    }
    if header.is_signed != shape.is_signed {
        let (codestream, dataset) = match header.is_signed {
            true => ("signed", "unsigned"),
            false => ("unsigned", "signed"),
        };
        decoded.warnings.push(format!(
            "JPEG 2000 frame is {codestream}, pixel representation (0028,0103) {dataset}: taken as {dataset}"
        ));
    }
    Ok(decoded)
}

fn damaged<E>(_: E) -> Error {
    bad("JPEG 2000 frame", "codestream is damaged")
}

/// Block coding of part 1.
fn part_1(codestream: &[u8], header: &Header) -> Result<Words> {
    let settings = DecodeSettings {
        strict: true,
        ..DecodeSettings::default()
    };
    let image = Image::new(codestream, &settings).map_err(damaged)?;
    let mut context = DecoderContext::default();
    let image = image.decode(&mut context).map_err(damaged)?;
    let components: Vec<_> = image
        .components()
        .iter()
        .map(|component| component.samples())
        .collect();
    let max = ((1_u32 << header.precision) - 1) as f32;
    // The decoder shifts the level of signed components, too: that is undone.
    let half = if header.is_signed {
        1_u32 << (header.precision - 1)
    } else {
        0
    };
    // Beside 2^23 a float has no bits for fractions: the sum is rounded, and its low bits are the integer.
    header.words(&components, |v| {
        let rounded = (v.clamp(0.0, max) + 8_388_608.0).to_bits() & 0x007F_FFFF;
        rounded.wrapping_sub(half)
    })
}

/// Block coding of part 15.
fn high_throughput(codestream: &[u8], header: &Header) -> Result<Words> {
    let parameters = DecodeParameters::new().strict(true);
    let image = jpeg2k::Image::from_bytes_with(codestream, parameters).map_err(damaged)?;
    let components: Vec<_> = image
        .components()
        .iter()
        .map(|component| component.data())
        .collect();
    header.words(&components, |v| v as u32)
}

/// The codestream within a JP2 file (15444-1 annex I), which DICOM does not allow but files have.
fn codestream(bytes: &[u8]) -> Result<&[u8]> {
    if !bytes.starts_with(b"\0\0\0\x0CjP  ") {
        return Ok(bytes);
    }
    let none = || bad("JPEG 2000 frame", "JP2 file without a codestream");
    let mut rest = bytes;
    loop {
        let (head, content) = rest.split_first_chunk::<8>().ok_or_else(none)?;
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..] == b"jp2c" {
            return Ok(content);
        }
        rest = rest.get(len..).filter(|_| len >= 8).ok_or_else(none)?;
    }
}

fn interleave<T: Copy, W: Copy + Default>(
    components: &[&[T]],
    word: impl Fn(T) -> W + Copy,
) -> Vec<W> {
    match components {
        [red, green, blue] => join(red, green, blue, word),
        planes => planes
            .iter()
            .flat_map(|plane| plane.iter())
            .map(|sample| word(*sample))
            .collect(),
    }
}

/// What the main header says of the frame (15444-1 annex A).
struct Header {
    rows: u32,
    columns: u32,
    precision: u8,
    is_signed: bool,
    components: usize,
    is_high_throughput: bool,
}

impl Header {
    fn read(codestream: &[u8]) -> Result<Self> {
        let damaged = || bad("JPEG 2000 frame", "main header is damaged");
        let [0xFF, 0x4F, 0xFF, 0x51, high, low, rest @ ..] = codestream else {
            return Err(damaged());
        };
        let len = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2);
        let siz = rest.get(..len.ok_or_else(damaged)?).ok_or_else(damaged)?;
        let (fixed, components) = siz.split_first_chunk::<36>().ok_or_else(damaged)?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let components = components.as_chunks::<3>().0;
        let &[ssiz, ..] = components.first().ok_or_else(damaged)?;
        if components
            .iter()
            .any(|component| component != &[ssiz, 1, 1])
        {
            return Err(Error::Unsupported(
                "DICOM JPEG 2000 frame: components of different forms".into(),
            ));
        }
        let (columns, rows) = (word(2).checked_sub(word(10)), word(6).checked_sub(word(14)));
        Ok(Self {
            columns: columns.ok_or_else(damaged)?,
            rows: rows.ok_or_else(damaged)?,
            precision: (ssiz & 0x7F) + 1,
            is_signed: ssiz & 0x80 != 0,
            components: components.len(),
            // Rsiz, bit 14: capabilities of part 15 (15444-15 annex A.2).
            is_high_throughput: fixed[0] & 0x40 != 0,
        })
    }

    /// Components to interleaved words; `pattern` gives a sample's bits.
    fn words<T: Copy>(
        &self,
        components: &[&[T]],
        pattern: impl Fn(T) -> u32 + Copy,
    ) -> Result<Words> {
        let pixels = self.rows as usize * self.columns as usize;
        if components.len() != self.components || components.iter().any(|c| c.len() != pixels) {
            return Err(bad(
                "JPEG 2000 frame",
                "decoded size does not fit its header",
            ));
        }
        Ok(match self.precision {
            ..=8 => Words::U8(interleave(components, |v| pattern(v) as u8)),
            9..=16 => Words::U16(interleave(components, |v| pattern(v) as u16)),
            _ => Words::U32(interleave(components, pattern)),
        })
    }

    fn check(&self, shape: &Shape) -> Result<()> {
        let got = (self.rows, self.columns, self.components);
        markers::check_size("JPEG 2000 frame", got, self.precision, shape)?;
        if self.precision > MAX_BITS {
            return Err(Error::Unsupported(format!(
                "DICOM JPEG 2000 frame: expected up to {MAX_BITS} bits a sample, got {}",
                self.precision
            )));
        }
        Ok(())
    }
}
