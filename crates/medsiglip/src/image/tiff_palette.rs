//! Palette TIFF: read as gray, whose levels are the indices, then the colours put in.

use tiff::tags::{ByteOrder, Tag};

use super::Samples;
use super::raw::{Layout, Raw, high_bytes};
use super::tiff::{TiffDecoder, tag_numbers};
use crate::{Error, Result};

/// The colour map (all reds, all greens, all blues, 8 bits each as Pillow takes them) and a copy of the file that
/// calls its indices gray: the `tiff` crate refuses palettes.
pub(super) fn split(decoder: &mut TiffDecoder, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let colors = high_bytes(&tag_numbers(decoder, Tag::ColorMap)?);
    if colors.is_empty() || !colors.len().is_multiple_of(3) {
        return Err(Error::BadImage(format!(
            "tiff: palette: expected 3 equal parts in the colour map, got {} numbers",
            colors.len()
        )));
    }
    let directory = decoder.ifd_pointer().map_or(0, |pointer| pointer.0);
    let order = decoder.byte_order();
    let mut gray = bytes.to_vec();
    let value = usize::try_from(directory)
        .ok()
        .and_then(|at| photometric_value(&mut gray, at, order))
        .ok_or_else(|| {
            Error::Unsupported("tiff: palette: the photometric tag is no 16-bit number".into())
        })?;
    value.copy_from_slice(&short(1, order));
    Ok((colors, gray))
}

/// Puts the colours in; for the container the indices stay and stand for gray.
pub(super) fn apply(raw: &mut Raw, colors: &[u8], container_compat: bool) -> Result<()> {
    let Samples::U8(indices) = &raw.samples else {
        return Err(Error::Unsupported(
            "tiff: palette of more than 256 colours".into(),
        ));
    };
    if raw.layout != Layout::Gray {
        return Err(Error::Unsupported(
            "tiff: palette with extra channels".into(),
        ));
    }
    raw.color = raw.color.replace("gray", "palette");
    if container_compat {
        raw.warnings
            .push("palette indices were read as gray, as the container does".into());
        return Ok(());
    }
    let count = colors.len() / 3;
    let mut out = Vec::with_capacity(indices.len() * 3);
    for &index in indices {
        for channel in 0..3 {
            let at = channel * count + usize::from(index);
            match colors.get(at) {
                Some(&color) if usize::from(index) < count => out.push(color),
                _ => {
                    return Err(Error::BadImage(format!(
                        "tiff: palette index {index}, expected below {count}"
                    )));
                }
            }
        }
    }
    raw.samples = Samples::U8(out);
    raw.layout = Layout::Rgb;
    Ok(())
}

/// The two bytes of the photometric interpretation in the directory at `at` (TIFF 6.0 section 2; `BigTIFF` has wider fields).
fn photometric_value(file: &mut [u8], at: usize, order: ByteOrder) -> Option<&mut [u8]> {
    let is_big = matches!(file.get(2..4)?, [43, 0] | [0, 43]);
    let (count_len, entry_len, value_at) = if is_big { (8, 20, 12) } else { (2, 12, 8) };
    // Tag 262 of type SHORT.
    let mut wanted = short(262, order).to_vec();
    wanted.extend(short(3, order));
    let entries = file.get_mut(at.checked_add(count_len)?..)?;
    let entry = entries
        .chunks_exact_mut(entry_len)
        .take(usize::from(u16::MAX))
        .find(|entry| entry.starts_with(&wanted))?;
    entry.get_mut(value_at..value_at + 2)
}

fn short(value: u16, order: ByteOrder) -> [u8; 2] {
    match order {
        ByteOrder::LittleEndian => value.to_le_bytes(),
        ByteOrder::BigEndian => value.to_be_bytes(),
    }
}
