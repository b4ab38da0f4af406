//! Bits of a scan of the JPEG family, most significant first.

use super::bad;
use crate::Result;

/// How a data byte 0xFF is kept from looking like a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuffing {
    /// A zero byte follows (T.81 F.1.2.3).
    Byte,
    /// A zero bit follows (T.87 A.1).
    Bit,
}

/// Reads a scan up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    stuffing: Stuffing,
    /// Bits that were read from `bytes`, from the top; below them zeros.
    ahead: u64,
    /// How many there are; below 0 where more were taken than the scan has.
    count: i32,
    after_ff: bool,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], stuffing: Stuffing) -> Self {
        Self {
            bytes,
            at: 0,
            stuffing,
            ahead: 0,
            count: 0,
            after_ff: false,
        }
    }

    /// Reads ahead until 32 bits or more are there, or the scan ends.
    #[inline]
    pub fn fill(&mut self) {
        if !(0..32).contains(&self.count) {
            return;
        }
        if !self.after_ff
            && let Some(&four) = self
                .bytes
                .get(self.at..)
                .and_then(|rest| rest.first_chunk::<4>())
        {
            let word = u32::from_be_bytes(four);
            // No byte is 0xFF: none of the complement is 0.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.ahead |= u64::from(word) << (32 - self.count as u32);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_bytes();
    }

    #[cold]
    fn fill_bytes(&mut self) {
        while (0..=48).contains(&self.count) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return;
            };
            let next = self.bytes.get(self.at + 1).copied();
            let mut bits = 8;
            match self.stuffing {
                Stuffing::Byte if byte == 0xFF => match next {
                    Some(0) => self.at += 1,
                    _ => return,
                },
                Stuffing::Byte => {}
                Stuffing::Bit => {
                    if byte == 0xFF && next.is_none_or(|next| next >= 0x80) {
                        return;
                    }
                    bits = if self.after_ff { 7 } else { 8 };
                    self.after_ff = byte == 0xFF;
                }
            }
            self.at += 1;
            self.ahead |= u64::from(byte) << (64 - bits - self.count as u32);
            self.count += bits as i32;
        }
    }

    /// The next 32 bits or more from the top, with zeros where the scan ended. After [`Bits::fill`].
    #[inline]
    pub fn peek(&self) -> u64 {
        self.ahead
    }

    /// Passes over `count` bits, up to 32. After [`Bits::fill`].
    #[inline]
    pub fn consume(&mut self, count: u32) {
        self.ahead <<= count;
        self.count -= count as i32;
    }

    /// The next `count` bits, up to 32, with zeros where the scan ended.
    #[inline]
    pub fn read(&mut self, count: u32) -> u32 {
        self.fill();
        let value = (self.ahead >> 32 >> (32 - count)) as u32;
        self.consume(count);
        value
    }

    /// Marks the scan as damaged, for [`Bits::check`].
    #[cold]
    pub fn fail(&mut self) {
        self.count = i32::MIN / 2;
    }

    /// That the scan had all bits that were taken. The inner loops do not ask, rows do.
    ///
    /// # Errors
    /// `BAD_IMAGE`.
    pub fn check(&self) -> Result<()> {
        if self.count < 0 {
            return Err(bad("JPEG frame", "scan is damaged or ends early"));
        }
        Ok(())
    }

    /// Bytes of the scan that were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Drops what is left before the restart marker, which must come next, and goes on behind it.
    pub fn restart(&mut self) -> Result<()> {
        // What is left is less than a byte, but for encoders that pad.
        while !matches!(self.bytes.get(self.at..), Some([0xFF, 0xD0..=0xD7, ..])) {
            if self.at >= self.bytes.len() {
                return Err(bad("JPEG frame", "restart marker is missing"));
            }
            self.at += 1;
        }
        *self = Self {
            at: self.at + 2,
            ahead: 0,
            count: 0,
            after_ff: false,
            ..*self
        };
        Ok(())
    }
}
