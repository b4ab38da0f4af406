//! JPEG inside TIFF (compression 7, TIFF Technical Note 2): each strip or tile is a JPEG picture of its own.

use tiff::tags::Tag;

use super::raw::Layout;
use super::tiff::{TiffDecoder, bad_tiff};
use super::{DecodeOptions, Samples};
use crate::{Error, Result};

/// The first page as 8-bit samples, interleaved; `is_ycbcr` where its photometric interpretation is `YCbCr`.
pub(super) fn read(
    decoder: &mut TiffDecoder,
    bytes: &[u8],
    layout: Layout,
    is_ycbcr: bool,
    options: &DecodeOptions,
) -> Result<Samples> {
    if !matches!(layout, Layout::Gray | Layout::Rgb) {
        return Err(Error::Unsupported(format!(
            "tiff: jpeg-compressed samples: expected gray, RGB or YCbCr, got {layout:?}"
        )));
    }
    let chunks = Chunks::of(decoder, options)?;
    let tables = match decoder.find_tag(Tag::JPEGTables).map_err(bad_tiff)? {
        Some(value) => value.into_u8_vec().map_err(bad_tiff)?,
        None => Vec::new(),
    };
    // A chunk may not be larger than the file says that its chunks are.
    let mut chunk_options = options.clone();
    chunk_options.limits.max_pixels = chunks.width as u64 * chunks.height as u64;

    let channels = layout.channels();
    let row = chunks.page_width * channels;
    let mut out = vec![0; row * chunks.page_height];
    for (i, &(offset, len)) in chunks.places.iter().enumerate() {
        let (left, top) = (
            i % chunks.across * chunks.width,
            i / chunks.across * chunks.height,
        );
        let columns = chunks.width.min(chunks.page_width - left);
        let rows = chunks.height.min(chunks.page_height - top);
        let chunk = slice(bytes, offset, len).ok_or_else(|| bad("strip or tile ends early"))?;
        let chunk = super::jpeg::decode(&stream(&tables, chunk, is_ycbcr), &chunk_options)?;
        let (got_width, got_height) = (chunk.width as usize, chunk.height as usize);
        let Samples::U8(samples) = chunk.samples else {
            return Err(bad("expected 8 bits a sample"));
        };
        if chunk.layout != layout
            || got_width < columns
            || got_height < rows
            || samples.len() != got_width * got_height * channels
        {
            return Err(bad("strip or tile does not fit its place"));
        }
        let sources = samples.chunks_exact(got_width * channels);
        for (y, source) in sources.take(rows).enumerate() {
            let at = (top + y) * row + left * channels;
            out[at..at + columns * channels].copy_from_slice(&source[..columns * channels]);
        }
    }
    Ok(Samples::U8(out))
}

/// Where the strips or tiles lie in the page and in the file.
struct Chunks {
    page_width: usize,
    page_height: usize,
    width: usize,
    height: usize,
    across: usize,
    /// Offset and length in bytes, row by row.
    places: Vec<(u64, u64)>,
}

impl Chunks {
    /// Sizes are checked: as many chunks as the page needs, and the page with its padding within the limits.
    fn of(decoder: &mut TiffDecoder, options: &DecodeOptions) -> Result<Self> {
        let mut number = |tag| decoder.find_tag_unsigned::<u32>(tag).map_err(bad_tiff);
        if number(Tag::PlanarConfiguration)?.unwrap_or(1) != 1 {
            return Err(Error::Unsupported(
                "tiff: jpeg-compressed samples in separate planes".into(),
            ));
        }
        let tile = (number(Tag::TileWidth)?, number(Tag::TileLength)?);
        let rows_per_strip = number(Tag::RowsPerStrip)?;
        let (page_width, page_height) = decoder.dimensions().map_err(bad_tiff)?;
        let (width, height, offsets, lengths) = match tile {
            (Some(w), Some(h)) => (w, h, Tag::TileOffsets, Tag::TileByteCounts),
            _ => {
                let rows = rows_per_strip.unwrap_or(page_height).min(page_height);
                (page_width, rows, Tag::StripOffsets, Tag::StripByteCounts)
            }
        };
        options.limits.check_pixels(width, height)?;
        let (across, down) = (page_width.div_ceil(width), page_height.div_ceil(height));
        options
            .limits
            .check_pixels(across.saturating_mul(width), down.saturating_mul(height))?;
        let mut numbers = |tag| {
            let found = decoder.find_tag_unsigned_vec::<u64>(tag);
            Ok(found.map_err(bad_tiff)?.unwrap_or_default())
        };
        let (offsets, lengths) = (numbers(offsets)?, numbers(lengths)?);
        let expected = u64::from(across) * u64::from(down);
        if offsets.len() as u64 != expected || lengths.len() as u64 != expected {
            return Err(bad("number of strips or tiles does not fit the picture"));
        }
        Ok(Self {
            page_width: page_width as usize,
            page_height: page_height as usize,
            width: width as usize,
            height: height as usize,
            across: across as usize,
            places: offsets.into_iter().zip(lengths).collect(),
        })
    }
}

fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// A whole JPEG file of the shared tables and one chunk.
///
/// The TIFF's photometric interpretation rules and not the chunk's own JFIF and Adobe markers, as in libtiff: they
/// are replaced by an Adobe marker that says the same.
fn stream(tables: &[u8], chunk: &[u8], is_ycbcr: bool) -> Vec<u8> {
    let mut out = b"\xFF\xD8\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0".to_vec();
    out.push(u8::from(is_ycbcr));
    let tables = tables.strip_suffix(b"\xFF\xD9").unwrap_or(tables);
    for part in [tables, chunk] {
        let mut rest = part.strip_prefix(b"\xFF\xD8").unwrap_or(part);
        while let [0xFF, marker, high, low, ..] = *rest {
            let len = 2 + usize::from(u16::from_be_bytes([high, low]));
            let (Some(segment), Some(tail), false) =
                (rest.get(..len), rest.get(len..), marker == 0xDA)
            else {
                break;
            };
            if !matches!(marker, 0xE0 | 0xEE) {
                out.extend_from_slice(segment);
            }
            rest = tail;
        }
        out.extend_from_slice(rest);
    }
    out
}

fn bad(what: &str) -> Error {
    Error::BadImage(format!("tiff: jpeg-compressed samples: {what}"))
}
