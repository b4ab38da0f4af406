//! RLE Lossless (DICOM PS3.5 annex G): PackBits over one byte plane of one sample after the other.

use super::decoded::Words;
use super::{bad, native};
use crate::image::dicom::{Shape, Stored};
use crate::{Error, Result};

/// Segments that the header has room for.
const MAX_SEGMENTS: usize = 15;

/// The stored values of an RLE frame.
pub(super) fn decode(bytes: &[u8], shape: &Shape) -> Result<Stored> {
    let samples = usize::from(shape.samples_per_pixel);
    // 1 bit allocated: the one segment is the packed native frame.
    let (plane, width) = match shape.bits_allocated {
        1 => (shape.samples().div_ceil(8), 1),
        8 | 16 | 32 => (
            shape.samples() / samples,
            usize::from(shape.bits_allocated / 8),
        ),
        other => {
            return Err(Error::Unsupported(format!(
                "DICOM RLE frame: expected 1, 8, 16 or 32 bits allocated, got {other}"
            )));
        }
    };
    let count = if shape.bits_allocated == 1 {
        1
    } else {
        samples * width
    };
    let segments = segments(bytes, count)?;
    // Two bytes make at most 128: no memory for more than the segments can fill.
    if segments
        .iter()
        .any(|segment| plane.div_ceil(64) > segment.len())
    {
        return Err(bad("RLE frame", "segment ends early"));
    }
    let unpacked = segments.iter().map(|segment| unpack(segment, plane));
    let (planes, surplus): (Vec<_>, Vec<_>) =
        unpacked.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let mut stored = match shape.bits_allocated {
        1 => native::decode(&planes[0], 0, native::ByteOrder::Little, shape)?,
        8 => aligned(
            Words::U8(merge(&planes, width, shape, |v: u8, byte| v | byte)),
            shape,
        )?,
        16 => aligned(
            Words::U16(merge(&planes, width, shape, |v, byte| {
                v << 8 | u16::from(byte)
            })),
            shape,
        )?,
        _ => aligned(
            Words::U32(merge(&planes, width, shape, |v, byte| {
                v << 8 | u32::from(byte)
            })),
            shape,
        )?,
    };
    if surplus.contains(&true) {
        stored
            .warnings
            .push("an RLE segment is longer than its plane".into());
    }
    Ok(stored)
}

fn aligned(words: Words, shape: &Shape) -> Result<Stored> {
    native::aligned(words, shape).store(shape)
}

/// Planes of bytes, `width` to a sample with the highest first (annex G.2), to interleaved words.
fn merge<T: Copy + Default>(
    planes: &[Vec<u8>],
    width: usize,
    shape: &Shape,
    push: impl Fn(T, u8) -> T,
) -> Vec<T> {
    let samples = usize::from(shape.samples_per_pixel);
    let mut out = vec![T::default(); shape.samples()];
    for (sample, planes) in planes.chunks(width).enumerate() {
        for plane in planes {
            let places = out.iter_mut().skip(sample).step_by(samples);
            places
                .zip(plane)
                .for_each(|(out, byte)| *out = push(*out, *byte));
        }
    }
    out
}

/// The segments that the header points to (annex G.5), which must be as many as expected.
fn segments(bytes: &[u8], expected: usize) -> Result<Vec<&[u8]>> {
    let Some((header, _)) = bytes.split_first_chunk::<64>() else {
        return Err(bad("RLE frame", "shorter than its header of 64 bytes"));
    };
    let mut numbers = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|n| u32::from_le_bytes(*n) as usize);
    let count = numbers.next().unwrap_or(0);
    if count != expected || count > MAX_SEGMENTS {
        return Err(Error::BadImage(format!(
            "DICOM RLE frame: expected {expected} segments, got {count}"
        )));
    }
    let starts: Vec<usize> = numbers.take(count).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let segments = starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| bytes.get(start..end));
    segments
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| bad("RLE frame", "segment offsets lie outside the frame"))
}

/// `len` bytes of one segment (annex G.3.2), and whether it holds more than that.
fn unpack(mut segment: &[u8], len: usize) -> Result<(Vec<u8>, bool)> {
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let Some((&head, rest)) = segment.split_first() else {
            break;
        };
        let room = len - out.len();
        segment = match head {
            0..=127 => {
                let count = (usize::from(head) + 1).min(rest.len());
                out.extend_from_slice(&rest[..count.min(room)]);
                &rest[count..]
            }
            128 => rest,
            129..=255 => {
                let Some((&byte, rest)) = rest.split_first() else {
                    break;
                };
                out.resize(out.len() + (257 - usize::from(head)).min(room), byte);
                rest
            }
        };
    }
    if out.len() < len {
        return Err(bad("RLE frame", "segment ends early"));
    }
    // One byte of padding makes a segment even.
    Ok((out, segment.len() > 1))
}
