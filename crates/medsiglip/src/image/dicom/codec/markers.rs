//! Marker segments of the JPEG family (ITU-T T.81 annex B; T.87 annex C uses the same).

use super::bad;
use crate::image::dicom::Shape;
use crate::{Error, Result};

pub(super) const DHT: u8 = 0xC4;
pub(super) const SOI: u8 = 0xD8;
pub(super) const EOI: u8 = 0xD9;
pub(super) const SOS: u8 = 0xDA;
pub(super) const DRI: u8 = 0xDD;
pub(super) const APP0: u8 = 0xE0;
pub(super) const APP14: u8 = 0xEE;

/// A codestream that is read marker by marker.
pub(super) struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next marker and its segment, without the length; `None` at the end of the bytes. What stands between
    /// markers is passed over.
    pub fn next(&mut self) -> Result<Option<(u8, &'a [u8])>> {
        let marker = loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = rest.iter().position(|byte| *byte == 0xFF) else {
                return Ok(None);
            };
            self.at += found + 1;
            match self.bytes.get(self.at) {
                None => return Ok(None),
                Some(0 | 0xFF) => {}
                Some(marker) => break *marker,
            }
        };
        self.at += 1;
        if matches!(marker, 0x01 | 0xD0..=0xD7 | SOI | EOI) {
            return Ok(Some((marker, &[])));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = match rest {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        let segment = rest
            .get(2..len)
            .ok_or_else(|| bad("JPEG frame", "marker segment ends early"))?;
        self.at += len;
        Ok(Some((marker, segment)))
    }

    /// What follows the segment that was read last: a scan's data.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes on behind `len` bytes of a scan's data.
    pub fn skip(&mut self, len: usize) {
        self.at += len;
    }
}

/// Whether a marker begins a frame (SOF0 to SOF15, and SOF55 of JPEG-LS).
pub(super) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF | 0xF7) && !matches!(marker, DHT | 0xC8 | 0xCC)
}

/// A frame header (T.81 B.2.2).
pub(super) struct FrameHeader {
    pub precision: u8,
    pub rows: u16,
    pub columns: u16,
    /// Identifier and sampling factors (horizontal in the high half) of each component.
    pub components: Vec<(u8, u8)>,
}

impl FrameHeader {
    pub fn parse(segment: &[u8]) -> Result<Self> {
        let [precision, y1, y0, x1, x0, count, rest @ ..] = segment else {
            return Err(bad("JPEG frame", "frame header ends early"));
        };
        let components: Vec<_> = rest
            .as_chunks::<3>()
            .0
            .iter()
            .map(|c| (c[0], c[1]))
            .collect();
        if components.len() != usize::from(*count) {
            return Err(bad(
                "JPEG frame",
                "frame header does not fit its number of components",
            ));
        }
        Ok(Self {
            precision: *precision,
            rows: u16::from_be_bytes([*y1, *y0]),
            columns: u16::from_be_bytes([*x1, *x0]),
            components,
        })
    }

    /// Whether the codestream is the frame that the data set describes.
    pub fn check(&self, shape: &Shape) -> Result<()> {
        let got = (
            u32::from(self.rows),
            u32::from(self.columns),
            self.components.len(),
        );
        check_size("JPEG frame", got, self.precision, shape)
    }
}

/// Compares the size (rows, columns, components) and precision of a codestream with those of the data set.
pub(super) fn check_size(
    part: &str,
    got: (u32, u32, usize),
    precision: u8,
    shape: &Shape,
) -> Result<()> {
    let expected = (
        shape.rows,
        shape.columns,
        usize::from(shape.samples_per_pixel),
    );
    if got != expected {
        return Err(Error::BadImage(format!(
            "DICOM {part}: expected {}x{} with {} components, got {}x{} with {}",
            expected.1, expected.0, expected.2, got.1, got.0, got.2
        )));
    }
    if precision == 0 || precision > shape.bits_allocated.max(8) {
        return Err(Error::BadImage(format!(
            "DICOM {part}: expected up to {} bits a sample, got {precision}",
            shape.bits_allocated
        )));
    }
    Ok(())
}
