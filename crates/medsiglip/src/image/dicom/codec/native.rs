//! Native frames (DICOM PS3.5 section 8.1.1 and annexes A.1 to A.3).

use super::bad;
use super::decoded::{Decoded, Words};
use crate::image::dicom::{Photometric, Shape, Stored, Values};
use crate::{Error, Result};

/// Order of the bytes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// Bytes of a native frame that begins at bit `first_bit` of its first byte.
pub(super) fn frame_bytes(first_bit: u8, shape: &Shape) -> Result<usize> {
    let pixels = shape.rows as usize * shape.columns as usize;
    // 2 pixels are 2 Y, 1 Cb and 1 Cr (PS3.3 C.7.6.3.1.2).
    let samples = if is_subsampled(shape) {
        if !pixels.is_multiple_of(2) {
            return Err(bad(
                "native frame",
                "YBR_FULL_422 with an odd number of pixels",
            ));
        }
        pixels * 2
    } else {
        shape.samples()
    };
    let bits = samples.checked_mul(usize::from(shape.bits_allocated));
    let bits = bits.and_then(|bits| bits.checked_add(usize::from(first_bit)));
    bits.map(|bits| bits.div_ceil(8))
        .ok_or_else(|| bad("native frame", "size overflows"))
}

fn is_subsampled(shape: &Shape) -> bool {
    shape.photometric == Photometric::YbrFull422 && shape.samples_per_pixel == 3
}

/// The stored values of a native frame.
pub(super) fn decode(
    bytes: &[u8],
    first_bit: u8,
    order: ByteOrder,
    shape: &Shape,
) -> Result<Stored> {
    let len = frame_bytes(first_bit, shape)?;
    let Some(bytes) = bytes.get(..len) else {
        return Err(Error::BadImage(format!(
            "DICOM native frame: expected {len} bytes, got {}",
            bytes.len()
        )));
    };
    if shape.is_float {
        return floats(bytes, order, shape);
    }
    let words = match (shape.bits_allocated, order) {
        (1, _) => Words::U8(unpack(bytes, first_bit, shape.samples())),
        (8, _) => Words::U8(arrange(bytes.to_vec(), shape)),
        (16, ByteOrder::Little) => Words::U16(arrange(words(bytes, u16::from_le_bytes), shape)),
        (16, ByteOrder::Big) => Words::U16(arrange(words(bytes, u16::from_be_bytes), shape)),
        (32, ByteOrder::Little) => Words::U32(arrange(words(bytes, u32::from_le_bytes), shape)),
        (32, ByteOrder::Big) => Words::U32(arrange(words(bytes, u32::from_be_bytes), shape)),
        (other, _) => {
            return Err(Error::Unsupported(format!(
                "DICOM bits allocated (0028,0100): expected 1, 8, 16 or 32, got {other}"
            )));
        }
    };
    aligned(words, shape).store(shape)
}

/// Words whose value lies below High Bit, moved down to bit 0.
///
/// PS3.5 8.1.1 now says that High Bit is one less than Bits Stored; older objects may have it higher, and are read as
/// was meant then. pydicom takes the lowest bits in any case.
pub(super) fn aligned(mut words: Words, shape: &Shape) -> Decoded {
    let below = (shape.high_bit + 1).saturating_sub(shape.bits_stored);
    let moved = below > 0 && shape.high_bit < shape.bits_allocated;
    if moved {
        match &mut words {
            Words::U8(v) => v.iter_mut().for_each(|v| *v >>= below),
            Words::U16(v) => v.iter_mut().for_each(|v| *v >>= below),
            Words::U32(v) => v.iter_mut().for_each(|v| *v >>= below),
        }
    }
    let mut decoded = Decoded::new(words, shape.bits_stored, shape);
    if shape.high_bit + 1 != shape.bits_stored {
        decoded.warnings.push(format!(
            "high bit (0028,0102) is {}, expected {}: {}",
            shape.high_bit,
            shape.bits_stored - 1,
            if moved {
                "values were shifted down by it"
            } else {
                "it was ignored"
            }
        ));
    }
    decoded
}

fn words<T, const N: usize>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|bytes| word(*bytes))
        .collect()
}

fn unpack(bytes: &[u8], first_bit: u8, samples: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 8);
    for byte in bytes {
        out.extend_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7].map(|bit| byte >> bit & 1));
    }
    out.drain(..usize::from(first_bit).min(out.len()));
    out.truncate(samples);
    out
}

/// Samples as stored to interleaved: planes are joined, pairs of subsampled pixels completed.
fn arrange<T: Copy + Default>(samples: Vec<T>, shape: &Shape) -> Vec<T> {
    if is_subsampled(shape) {
        let pairs = samples.as_chunks::<4>().0.iter();
        return pairs
            .flat_map(|&[y0, y1, cb, cr]| [y0, cb, cr, y1, cb, cr])
            .collect();
    }
    if shape.is_planar {
        interleave(&samples, shape)
    } else {
        samples
    }
}

/// Planes one after the other to interleaved samples.
pub(super) fn interleave<T: Copy + Default>(samples: &[T], shape: &Shape) -> Vec<T> {
    let pixels = shape.rows as usize * shape.columns as usize;
    if shape.samples_per_pixel != 3 || samples.len() != pixels * 3 {
        return samples.to_vec();
    }
    let (red, rest) = samples.split_at(pixels);
    let (green, blue) = rest.split_at(pixels);
    join(red, green, blue, |sample| sample)
}

/// Three planes to interleaved samples.
pub(super) fn join<T: Copy, W: Copy + Default>(
    red: &[T],
    green: &[T],
    blue: &[T],
    word: impl Fn(T) -> W,
) -> Vec<W> {
    let mut out = vec![W::default(); red.len() * 3];
    let pixels = out
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(red)
        .zip(green)
        .zip(blue);
    pixels.for_each(|(((pixel, r), g), b)| *pixel = [word(*r), word(*g), word(*b)]);
    out
}

/// Float Pixel Data and Double Float Pixel Data (PS3.3 C.7.6.24 and C.7.6.25).
fn floats(bytes: &[u8], order: ByteOrder, shape: &Shape) -> Result<Stored> {
    let values = match (shape.bits_allocated, order) {
        (32, ByteOrder::Little) => Values::F32(arrange(words(bytes, f32::from_le_bytes), shape)),
        (32, ByteOrder::Big) => Values::F32(arrange(words(bytes, f32::from_be_bytes), shape)),
        (64, ByteOrder::Little) => Values::F64(arrange(words(bytes, f64::from_le_bytes), shape)),
        (64, ByteOrder::Big) => Values::F64(arrange(words(bytes, f64::from_be_bytes), shape)),
        (other, _) => {
            return Err(Error::BadImage(format!(
                "DICOM float pixels: expected 32 or 64 bits allocated, got {other}"
            )));
        }
    };
    Ok(Stored {
        rows: shape.rows,
        columns: shape.columns,
        channels: shape.samples_per_pixel,
        values,
        photometric: shape.photometric,
        icc_profile: None,
        warnings: Vec::new(),
    })
}
