//! JPEG-LS (ISO 14495-1, ITU-T T.87), lossless and near-lossless, of 2 to 16 bits.
//!
//! The decoder is our own: the one library that the field uses is C++, and pure-Rust ones were not exact on all frames.
//! Names are those of the standard (A, B, C, N, Px, k, qbpp, LIMIT).

mod scan;

use self::scan::{Lines, Scan};
use super::bad;
use super::decoded::{Decoded, Words};
use super::jpeg::Header;
use super::jpeg_lossless::interval;
use super::markers::{DRI, EOI, FrameHeader, Markers, SOS};
use crate::image::dicom::Shape;
use crate::{Error, Result};

/// SOF55, a JPEG-LS frame (C.2.2).
const SOF_55: u8 = 0xF7;
/// JPEG-LS preset parameters (C.2.4.1).
const LSE: u8 = 0xF8;
/// Identifies a colour transform outside of the standard.
const APP8: u8 = 0xE8;

/// Coding parameters (C.2.4.1.1); 0 where the standard's default holds.
#[derive(Debug, Clone, Copy, Default)]
struct Preset {
    max_val: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Preset {
    fn parse(segment: &[u8]) -> Result<Option<Self>> {
        match segment {
            [1, numbers @ ..] if numbers.len() == 10 => {
                let word =
                    |i: usize| i32::from(numbers[2 * i]) << 8 | i32::from(numbers[2 * i + 1]);
                Ok(Some(Self {
                    max_val: word(0),
                    thresholds: [word(1), word(2), word(3)],
                    reset: word(4),
                }))
            }
            [2 | 3, ..] => Err(Error::Unsupported(
                "DICOM JPEG-LS frame: mapping tables".into(),
            )),
            [4, ..] => Err(Error::Unsupported(
                "DICOM JPEG-LS frame: sides over 65535".into(),
            )),
            _ => Err(bad("JPEG-LS frame", "preset parameters are damaged")),
        }
    }

    /// The defaults filled in, and all checked (C.2.4.1.1).
    fn complete(self, precision: u8, near: i32) -> Result<Self> {
        let wrong = || bad("JPEG-LS frame", "preset parameters are out of range");
        let most = (1 << precision) - 1;
        let max_val = if self.max_val == 0 {
            most
        } else {
            self.max_val
        };
        if max_val > most || near > (max_val / 2).min(255) {
            return Err(wrong());
        }
        let defaults = default_thresholds(max_val, near);
        let mut thresholds = self.thresholds;
        for (threshold, default) in thresholds.iter_mut().zip(defaults) {
            if *threshold == 0 {
                *threshold = default;
            }
        }
        let [t1, t2, t3] = thresholds;
        let reset = if self.reset == 0 { 64 } else { self.reset };
        if t1 < near + 1
            || t2 < t1
            || t3 < t2
            || t3 > max_val
            || !(3..=max_val.max(255)).contains(&reset)
        {
            return Err(wrong());
        }
        Ok(Self {
            max_val,
            thresholds,
            reset,
        })
    }
}

/// T1, T2 and T3 (C.2.4.1.1.1).
fn default_thresholds(max_val: i32, near: i32) -> [i32; 3] {
    let clamp = |value: i32, low: i32| {
        if value > max_val || value < low {
            low
        } else {
            value
        }
    };
    let [t1, t2, t3] = if max_val >= 128 {
        let factor = (max_val.min(4095) + 128) / 256;
        [
            factor + 2 + 3 * near,
            factor * 4 + 3 + 5 * near,
            factor * 17 + 4 + 7 * near,
        ]
    } else {
        let factor = 256 / (max_val + 1);
        [
            (3 / factor + 3 * near).max(2),
            (7 / factor + 5 * near).max(3),
            (21 / factor + 7 * near).max(4),
        ]
    };
    let t1 = clamp(t1, near + 1);
    let t2 = clamp(t2, t1);
    [t1, t2, clamp(t3, t2)]
}

/// Decodes a JPEG-LS frame of any interleave mode.
pub(super) fn decode(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let mut markers = Markers::new(bytes);
    let mut preset = Preset::default();
    let mut restart_lines = 0;
    let mut frame: Option<(FrameHeader, Lines)> = None;
    while let Some((marker, segment)) = markers.next()? {
        match marker {
            LSE => preset = Preset::parse(segment)?.unwrap_or_default(),
            DRI => restart_lines = interval(segment)?,
            APP8 if segment.starts_with(b"mrfx")
                && segment.get(4).is_some_and(|kind| *kind != 0) =>
            {
                return Err(Error::Unsupported(
                    "DICOM JPEG-LS frame: colour transform of HP".into(),
                ));
            }
            SOF_55 => {
                let header = FrameHeader::parse(segment)?;
                header.check(shape)?;
                if frame.is_some() || !(2..=16).contains(&header.precision) {
                    return Err(bad("JPEG-LS frame", "expected one frame of 2 to 16 bits"));
                }
                let lines = Lines::new(header.columns, header.rows, header.components.len());
                frame = Some((header, lines));
            }
            SOS => {
                let Some((header, lines)) = &mut frame else {
                    return Err(bad("JPEG-LS frame", "scan before its frame"));
                };
                let read = scan(
                    segment,
                    header,
                    preset,
                    restart_lines,
                    markers.rest(),
                    lines,
                )?;
                markers.skip(read);
                if lines.is_complete() {
                    break;
                }
            }
            EOI => break,
            _ => {}
        }
    }
    match frame {
        Some((header, lines)) if lines.is_complete() => finish(bytes, header, lines, shape),
        _ => Err(bad("JPEG-LS frame", "a component has no scan")),
    }
}

/// Words of the finished lines, and what they are.
fn finish(bytes: &[u8], header: FrameHeader, lines: Lines, shape: &Shape) -> Result<Decoded> {
    let words = if header.precision <= 8 {
        Words::U8(lines.samples.into_iter().map(|v| v as u8).collect())
    } else {
        Words::U16(lines.samples)
    };
    let mut decoded = Decoded::new(words, header.precision, shape);
    Header::read(bytes)?.conform(&mut decoded, shape);
    Ok(decoded)
}

/// Decodes one scan (C.2.3); returns how many bytes it took.
fn scan(
    segment: &[u8],
    header: &FrameHeader,
    preset: Preset,
    restart_lines: usize,
    bytes: &[u8],
    lines: &mut Lines,
) -> Result<usize> {
    let wrong = || bad("JPEG-LS frame", "scan header does not fit its frame");
    let (&count, rest) = segment.split_first().ok_or_else(wrong)?;
    let (pairs, tail) = rest
        .split_at_checked(2 * usize::from(count))
        .ok_or_else(wrong)?;
    let &[near, interleave, transform] = tail else {
        return Err(wrong());
    };
    let mut components = Vec::new();
    for &[id, table] in pairs.as_chunks::<2>().0 {
        if table != 0 {
            return Err(Error::Unsupported(
                "DICOM JPEG-LS frame: mapping tables".into(),
            ));
        }
        let index = header
            .components
            .iter()
            .position(|component| component.0 == id);
        components.push(index.ok_or_else(wrong)?);
    }
    if transform != 0 {
        return Err(Error::Unsupported(
            "DICOM JPEG-LS frame: point transform".into(),
        ));
    }
    let preset = preset.complete(header.precision, i32::from(near))?;
    let scan = Scan::new(preset, i32::from(near), restart_lines);
    match (interleave, components.len()) {
        (0, 1) | (1, 1..=4) => scan.by_line(&components, bytes, lines),
        (2, 1) => scan.by_line(&components, bytes, lines),
        (2, 3) => scan.by_sample::<3>(&components, bytes, lines),
        _ => Err(wrong()),
    }
}
