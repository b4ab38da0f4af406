//! Lossless JPEG (ITU-T T.81 annex H, processes 14): Huffman-coded differences to a predictor, 2 to 16 bits.

use super::bad;
use super::bits::{Bits, Stuffing};
use super::decoded::{Decoded, Words};
use super::markers::{DHT, DRI, EOI, FrameHeader, Markers, SOS};
use crate::image::dicom::Shape;
use crate::{Error, Result};

/// Decodes a codestream whose frame is SOF3.
pub(super) fn decode(bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let mut markers = Markers::new(bytes);
    let mut tables: [Option<Table>; 4] = [None, None, None, None];
    let mut frame: Option<Frame> = None;
    let mut restart_interval = 0;
    while let Some((marker, segment)) = markers.next()? {
        match marker {
            DHT => Table::parse_all(segment, &mut tables)?,
            DRI => restart_interval = interval(segment)?,
            0xC3 => {
                let header = FrameHeader::parse(segment)?;
                header.check(shape)?;
                if frame.is_some() || !(2..=16).contains(&header.precision) {
                    return Err(bad(
                        "JPEG frame",
                        "expected one lossless frame of 2 to 16 bits",
                    ));
                }
                frame = Some(Frame::new(header)?);
            }
            SOS => {
                let frame = frame
                    .as_mut()
                    .ok_or_else(|| bad("JPEG frame", "scan before its frame"))?;
                let scan = Scan::parse(segment, frame, &tables, restart_interval)?;
                let read = scan.decode(markers.rest(), frame)?;
                markers.skip(read);
                if frame.missing == 0 {
                    break;
                }
            }
            EOI => break,
            _ => {}
        }
    }
    match frame {
        Some(frame) if frame.missing == 0 => {
            let bits = shape.bits_stored;
            let words = if frame.header.precision <= 8 {
                Words::U8(frame.samples.into_iter().map(|v| v as u8).collect())
            } else {
                Words::U16(frame.samples)
            };
            Ok(Decoded::new(words, bits, shape))
        }
        _ => Err(bad("JPEG frame", "a component has no scan")),
    }
}

/// Restart interval (T.81 B.2.4.4).
pub(super) fn interval(segment: &[u8]) -> Result<usize> {
    match *segment {
        [high, low] => Ok(usize::from(u16::from_be_bytes([high, low]))),
        _ => Err(bad("JPEG frame", "restart interval of a wrong length")),
    }
}

struct Frame {
    header: FrameHeader,
    /// (rows, columns, components).
    samples: Vec<u16>,
    /// Which components had their scan.
    done: Vec<bool>,
    missing: usize,
}

impl Frame {
    fn new(header: FrameHeader) -> Result<Self> {
        let count = header.components.len();
        if header
            .components
            .windows(2)
            .any(|pair| pair[0].1 != pair[1].1)
        {
            return Err(Error::Unsupported(
                "DICOM JPEG frame: lossless with subsampled components".into(),
            ));
        }
        let samples = usize::from(header.rows) * usize::from(header.columns) * count;
        Ok(Self {
            header,
            samples: vec![0; samples],
            done: vec![false; count],
            missing: count,
        })
    }
}

struct Scan<'a> {
    /// Index in the frame and table of each component.
    components: Vec<(usize, &'a Table)>,
    predictor: u8,
    point_transform: u8,
    /// Rows between restart markers, 0 without.
    restart_rows: usize,
}

impl<'a> Scan<'a> {
    /// Parses a scan header (T.81 B.2.3 and H.1).
    fn parse(
        segment: &[u8],
        frame: &mut Frame,
        tables: &'a [Option<Table>; 4],
        interval: usize,
    ) -> Result<Self> {
        let wrong = || bad("JPEG frame", "scan header does not fit its frame");
        let (&count, rest) = segment.split_first().ok_or_else(wrong)?;
        let (pairs, tail) = rest
            .split_at_checked(2 * usize::from(count))
            .ok_or_else(wrong)?;
        let &[predictor, _, transform] = tail else {
            return Err(wrong());
        };
        let point_transform = transform & 15;
        if !(1..=7).contains(&predictor) || point_transform >= frame.header.precision || count == 0
        {
            return Err(wrong());
        }
        let mut components = Vec::new();
        for &[id, table] in pairs.as_chunks::<2>().0 {
            let index = frame
                .header
                .components
                .iter()
                .position(|component| component.0 == id);
            let index = index
                .filter(|index| !frame.done[*index])
                .ok_or_else(wrong)?;
            frame.done[index] = true;
            frame.missing -= 1;
            let table = tables.get(usize::from(table >> 4)).and_then(Option::as_ref);
            components.push((
                index,
                table.ok_or_else(|| bad("JPEG frame", "Huffman table is missing"))?,
            ));
        }
        let columns = usize::from(frame.header.columns);
        if !interval.is_multiple_of(columns) {
            return Err(bad(
                "JPEG frame",
                "restart interval is not a number of whole rows",
            ));
        }
        Ok(Self {
            components,
            predictor,
            point_transform,
            restart_rows: interval / columns,
        })
    }

    /// Decodes the scan into the frame; returns how many bytes it took.
    fn decode(&self, bytes: &[u8], frame: &mut Frame) -> Result<usize> {
        let (columns, stride) = (usize::from(frame.header.columns), frame.done.len());
        let mut bits = Bits::new(bytes, Stuffing::Byte);
        let count = self.components.len();
        // Rows of the scan's components, interleaved, without the point transform.
        let (mut above, mut row) = (vec![0_u16; columns * count], vec![0_u16; columns * count]);
        let first = 1 << (frame.header.precision - self.point_transform - 1);
        for y in 0..usize::from(frame.header.rows) {
            let restarts = self.restart_rows > 0 && y % self.restart_rows == 0;
            if restarts && y > 0 {
                bits.restart()?;
            }
            let above_row = (y > 0 && !restarts).then_some(&above[..]);
            match count {
                1 => self.decode_row::<1>(&mut bits, above_row, &mut row, first),
                3 => self.decode_row::<3>(&mut bits, above_row, &mut row, first),
                _ => {
                    return Err(Error::Unsupported(
                        "DICOM JPEG frame: lossless scan of 2 components".into(),
                    ));
                }
            }
            bits.check()?;
            let out = &mut frame.samples[y * columns * stride..(y + 1) * columns * stride];
            for (of_scan, (index, _)) in self.components.iter().enumerate() {
                let places = out.iter_mut().skip(*index).step_by(stride);
                let values = row.iter().skip(of_scan).step_by(count);
                places
                    .zip(values)
                    .for_each(|(out, value)| *out = value << self.point_transform);
            }
            std::mem::swap(&mut above, &mut row);
        }
        Ok(bits.position())
    }

    /// One row (H.1.2.1): the first of the image and after a restart predicts from the left alone.
    fn decode_row<const N: usize>(
        &self,
        bits: &mut Bits,
        above: Option<&[u16]>,
        row: &mut [u16],
        first: u16,
    ) {
        let mut tables = self.components.iter().map(|component| component.1);
        let tables: [&Table; N] =
            std::array::from_fn(|_| tables.next().unwrap_or(self.components[0].1));
        let mut left = [first; N];
        let mut corner = [0; N];
        let mut pixels = row.as_chunks_mut::<N>().0.iter_mut();
        let Some(above) = above else {
            for pixel in pixels {
                for c in 0..N {
                    left[c] = left[c].wrapping_add(tables[c].difference(bits));
                }
                *pixel = left;
            }
            return;
        };
        let mut above = above.as_chunks::<N>().0.iter();
        if let (Some(pixel), Some(up)) = (pixels.next(), above.next()) {
            for c in 0..N {
                left[c] = up[c].wrapping_add(tables[c].difference(bits));
            }
            (*pixel, corner) = (left, *up);
        }
        for (pixel, up) in pixels.zip(above) {
            for c in 0..N {
                let (a, b, diagonal) = (i32::from(left[c]), i32::from(up[c]), i32::from(corner[c]));
                let predicted = match self.predictor {
                    1 => a,
                    2 => b,
                    3 => diagonal,
                    4 => a + b - diagonal,
                    5 => a + ((b - diagonal) >> 1),
                    6 => b + ((a - diagonal) >> 1),
                    _ => (a + b) >> 1,
                };
                left[c] = (predicted as u16).wrapping_add(tables[c].difference(bits));
            }
            (*pixel, corner) = (left, *up);
        }
    }
}

/// A Huffman table (T.81 annex C) of difference categories.
struct Table {
    /// Code length and category by the next 9 bits; length 0 where the code is longer.
    short: [(u8, u8); 512],
    /// For each code length its first code, left-aligned in 16 bits, behind the last one, and where its values begin.
    lengths: [(u32, u32, usize); 17],
    values: Vec<u8>,
}

impl Table {
    /// Parses the tables of a DHT segment; those for AC coefficients have no use here.
    fn parse_all(mut segment: &[u8], tables: &mut [Option<Self>; 4]) -> Result<()> {
        let wrong = || bad("JPEG frame", "Huffman table is damaged");
        while let Some((&place, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (values, rest) = rest.split_at_checked(total).ok_or_else(wrong)?;
            segment = rest;
            if place >> 4 == 0 {
                let table = Self::new(counts, values).ok_or_else(wrong)?;
                *tables.get_mut(usize::from(place)).ok_or_else(wrong)? = Some(table);
            }
        }
        Ok(())
    }

    fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut table = Self {
            short: [(0, 0); 512],
            lengths: [(0, 0, 0); 17],
            values: values.to_vec(),
        };
        let (mut code, mut at) = (0_u32, 0);
        for (length, count) in (1_u32..).zip(counts) {
            let step = 1 << (16 - length);
            let first = code;
            for value in values.get(at..at + usize::from(*count))? {
                if length <= 9 {
                    let low = (code >> 7) as usize;
                    let covered = table.short.get_mut(low..low + (1 << (9 - length)))?;
                    covered.fill((length as u8, *value));
                }
                code += step;
            }
            table.lengths[length as usize] = (first, code, at);
            at += usize::from(*count);
        }
        (code <= 1 << 16 && values.iter().all(|value| *value <= 16)).then_some(table)
    }

    /// The next difference, modulo 2^16 (H.1.2.2).
    #[inline]
    fn difference(&self, bits: &mut Bits) -> u16 {
        bits.fill();
        let next = bits.peek();
        let (mut length, mut category) = self.short[(next >> 55) as usize];
        if length == 0 {
            (length, category) = self.long(next).unwrap_or_else(|| {
                bits.fail();
                (0, 0)
            });
        }
        let (length, category) = (u32::from(length), u32::from(category));
        if category == 0 || category == 16 {
            bits.consume(length);
            return (category << 11) as u16;
        }
        let extra = (next << length >> (64 - category)) as u32;
        bits.consume(length + category);
        // EXTEND of T.81 F.2.2.1: values without the top bit are negative.
        let negative = (extra >> (category - 1)) ^ 1;
        extra.wrapping_sub(negative * ((1 << category) - 1)) as u16
    }

    /// Length and category of a code of more than 9 bits.
    #[cold]
    fn long(&self, next: u64) -> Option<(u8, u8)> {
        let code = (next >> 48) as u32;
        let length = (10..=16)
            .find(|length| (self.lengths[*length].0..self.lengths[*length].1).contains(&code))?;
        let (first, _, at) = self.lengths[length];
        let value = self
            .values
            .get(at + ((code - first) >> (16 - length)) as usize)?;
        Some((length as u8, *value))
    }
}
