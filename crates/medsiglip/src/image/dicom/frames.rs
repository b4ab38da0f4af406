//! Where each frame's bytes lie (PS3.5 annex A.4).

use dicom_dictionary_std::{tags, uids};

use super::attributes::Attributes;
use super::header::Header;
use super::read::{EXPLICIT_VR_BIG_ENDIAN, PixelElement};
use super::source::{Cursor, Source};
use super::stored::{Photometric, Shape};
use crate::{Error, Result};

/// Bytes of an item's header.
const ITEM_HEADER: u64 = 8;
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const SEQUENCE_END: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];

/// Where the frames lie.
pub(super) enum Frames {
    /// One after the other, uncompressed: each this many bits.
    Native {
        /// Where the first begins.
        offset: u64,
        /// The length of a frame; with 1 bit allocated, a frame can begin within a byte.
        bits: u64,
        /// Whether bytes were written in pairs that are to be swapped: samples of 8 bits and less as big-endian words
        /// (PS3.5 section 8.1.1).
        is_swapped: bool,
    },
    /// In fragments: for each frame those that it is made of.
    Encapsulated {
        /// All fragments, in their order.
        fragments: Vec<Fragment>,
        /// The first fragment of each frame.
        starts: Vec<u32>,
    },
}

/// A piece of a compressed frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    /// Where its item begins, counted from the end of the offset table, as offset tables count.
    relative: u64,
    /// Where its bytes begin.
    offset: u64,
    length: u32,
}

/// A frame's bytes.
pub(super) struct FrameBytes {
    pub bytes: Vec<u8>,
    /// The bit of the first byte that the frame begins with.
    pub first_bit: u8,
}

impl Frames {
    /// Finds the `count` frames.
    ///
    /// # Errors
    /// `BAD_IMAGE` where the pixels have no room for them.
    pub fn find(
        source: &Source,
        header: &Header,
        pixels: PixelElement,
        shape: &Shape,
        count: u32,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        match pixels.length {
            None => encapsulated(source, header, pixels.offset, count, warnings),
            Some(_) if is_native(&header.syntax) => native(source, pixels, shape, count, warnings),
            // Some archives give fragments a length.
            Some(4..) if source.read(pixels.offset, 4)? == ITEM => {
                encapsulated(source, header, pixels.offset, count, warnings)
            }
            Some(_) => Err(Error::BadImage(
                "DICOM pixel data (7FE0,0010): expected fragments, as the transfer syntax says, got plain bytes".into(),
            )),
        }
    }

    /// The bytes of one frame, counted from 0.
    pub fn read(&self, source: &Source, frame: u32) -> Result<FrameBytes> {
        match self {
            Self::Native {
                offset,
                bits,
                is_swapped,
            } => {
                let start = bits * u64::from(frame);
                let (first, last) = (start / 8, (start + bits).div_ceil(8));
                let bytes = match is_swapped {
                    false => source.read(offset + first, (last - first) as usize)?,
                    true => swapped(source, *offset, first, last)?,
                };
                Ok(FrameBytes {
                    bytes,
                    first_bit: (start % 8) as u8,
                })
            }
            Self::Encapsulated { fragments, starts } => {
                let start = starts.get(frame as usize).copied().unwrap_or_default() as usize;
                let end = starts
                    .get(frame as usize + 1)
                    .map_or(fragments.len(), |end| *end as usize);
                let mut bytes = Vec::new();
                for fragment in fragments.get(start..end).unwrap_or_default() {
                    bytes.extend(source.read(fragment.offset, fragment.length as usize)?);
                }
                Ok(FrameBytes {
                    bytes,
                    first_bit: 0,
                })
            }
        }
    }
}

/// Whether pixels of the transfer syntax stand as they are (PS3.5 annexes A.1, A.2, A.3 and A.5).
fn is_native(syntax: &str) -> bool {
    let all = [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    ];
    all.contains(&syntax)
}

fn native(
    source: &Source,
    pixels: PixelElement,
    shape: &Shape,
    count: u32,
    warnings: &mut Vec<String>,
) -> Result<Frames> {
    let bits = shape.native_bits();
    let needed = bits.checked_mul(u64::from(count));
    let needed = needed.map(|bits| bits.div_ceil(8));
    let rest = source.length().saturating_sub(pixels.offset);
    let there = pixels.length.map_or(rest, |length| length.min(rest));
    if needed.is_none_or(|needed| needed > there) {
        return Err(Error::BadImage(format!(
            "DICOM pixel data: expected {count} x {} bytes, got {there}",
            bits.div_ceil(8)
        )));
    }
    let surplus = there.saturating_sub(needed.unwrap_or(0));
    let unpacked =
        u64::from(count) * (shape.samples() as u64) * u64::from(shape.bits_allocated) / 8;
    if shape.photometric == Photometric::YbrFull422 && there >= unpacked {
        return Err(Error::BadImage(
            "DICOM pixel data is a third longer than YBR_FULL_422 (0028,0004) has it: the photometric interpretation is wrong"
                .into(),
        ));
    }
    // An even length and a stray word are usual.
    if surplus > 2 {
        warnings.push(format!(
            "pixel data is {surplus} bytes longer than its {count} frames; the rest is ignored"
        ));
    }
    Ok(Frames::Native {
        offset: pixels.offset,
        bits,
        is_swapped: pixels.is_swapped && shape.bits_allocated <= 8,
    })
}

/// The bytes from `first` to `last` of words that begin at `offset`, each pair swapped.
fn swapped(source: &Source, offset: u64, first: u64, last: u64) -> Result<Vec<u8>> {
    let (start, end) = (first - first % 2, last + last % 2);
    let mut bytes = source.read(offset + start, (end - start) as usize)?;
    for pair in bytes.as_chunks_mut::<2>().0 {
        pair.swap(0, 1);
    }
    bytes.drain(..(first - start) as usize);
    bytes.truncate((last - first) as usize);
    Ok(bytes)
}

fn encapsulated(
    source: &Source,
    header: &Header,
    offset: u64,
    count: u32,
    warnings: &mut Vec<String>,
) -> Result<Frames> {
    let mut cursor = Cursor::new(source, offset);
    let table = offset_table(&mut cursor)?;
    let fragments = fragments(&mut cursor)?;
    if (fragments.len() as u64) < u64::from(count) {
        return Err(Error::BadImage(format!(
            "DICOM pixel data: expected {count} frames, got {} fragments",
            fragments.len()
        )));
    }
    let table = match header.dataset.bytes(tags::EXTENDED_OFFSET_TABLE) {
        Some(extended) if !extended.is_empty() => extended
            .as_chunks()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b))
            .collect(),
        _ => table,
    };
    if table.len() > count as usize {
        warnings.push(format!(
            "the offset table has {} frames, the header says {count}; the rest is ignored",
            table.len()
        ));
    }
    let starts = starts_by_table(&fragments, &table, count);
    let starts = match starts {
        Some(starts) => starts,
        None if fragments.len() == count as usize => (0..count).collect(),
        None if count == 1 => vec![0],
        None => starts_by_end_marker(source, &fragments, count)?,
    };
    Ok(Frames::Encapsulated { fragments, starts })
}

/// The Basic Offset Table: the first item.
fn offset_table(cursor: &mut Cursor) -> Result<Vec<u64>> {
    let [t0, t1, t2, t3, length @ ..] = cursor.take::<8>()?;
    let length = u32::from_le_bytes(length);
    if [t0, t1, t2, t3] != ITEM || u64::from(length) > cursor.left() {
        return Err(Error::BadImage(
            "DICOM pixel data: expected an offset table first".into(),
        ));
    }
    let bytes = cursor.value(length as usize)?;
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| u64::from(u32::from_le_bytes(*b)))
        .collect())
}

/// The fragments up to the delimiter; files that end without one are forgiven.
fn fragments(cursor: &mut Cursor) -> Result<Vec<Fragment>> {
    let start = cursor.position;
    let mut fragments = Vec::new();
    while cursor.left() >= ITEM_HEADER {
        let at = cursor.position;
        let [t0, t1, t2, t3, length @ ..] = cursor.take::<8>()?;
        match [t0, t1, t2, t3] {
            ITEM => {}
            SEQUENCE_END => break,
            _ => {
                return Err(Error::BadImage(
                    "DICOM pixel data: expected fragments, got something else".into(),
                ));
            }
        }
        let length = u32::from_le_bytes(length);
        let fragment = Fragment {
            relative: at - start,
            offset: cursor.position,
            length,
        };
        if cursor.skip(u64::from(length)).is_err() {
            let left = cursor.left();
            return Err(Error::BadImage(format!(
                "DICOM pixel data: a fragment says that it has {length} bytes, the file has {left} more"
            )));
        }
        fragments.push(fragment);
    }
    Ok(fragments)
}

/// The first fragment of each frame by an offset table; `None` where there is none, or it is wrong.
fn starts_by_table(fragments: &[Fragment], table: &[u64], count: u32) -> Option<Vec<u32>> {
    if table.len() < count as usize {
        return None;
    }
    let start_of = |offset: &u64| {
        let at = fragments.binary_search_by_key(offset, |fragment| fragment.relative);
        at.ok().map(|at| at as u32)
    };
    let starts: Option<Vec<u32>> = table.iter().map(start_of).collect();
    starts.filter(|starts| starts.first() == Some(&0) && starts.is_sorted_by(|a, b| a < b))
}

/// Without an offset table a frame ends with the fragment that holds the end of its codestream: `FFD9` of the JPEG
/// family within the last bytes (as pydicom has it).
fn starts_by_end_marker(source: &Source, fragments: &[Fragment], count: u32) -> Result<Vec<u32>> {
    let mut starts = vec![0];
    for (index, fragment) in (1..).zip(fragments) {
        let tail = fragment.length.min(10);
        let bytes = source.read(
            fragment.offset + u64::from(fragment.length - tail),
            tail as usize,
        )?;
        let is_end = bytes.windows(2).any(|pair| pair == [0xFF, 0xD9]);
        if is_end && index < fragments.len() {
            starts.push(index as u32);
        }
    }
    if starts.len() != count as usize {
        return Err(Error::BadImage(format!(
            "DICOM pixel data: {} fragments of {count} frames and no offset table; their ends show {} frames",
            fragments.len(),
            starts.len()
        )));
    }
    Ok(starts)
}
