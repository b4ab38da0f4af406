//! A picture of 8-bit samples in a frame of zeros that is never made.

use super::Padding;

/// One side of a framed picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Stored samples.
    pub(super) len: usize,
    /// Zeros before them.
    pub(super) before: usize,
    /// Length with the zeros on both ends.
    pub(super) padded_len: usize,
}

impl Axis {
    fn new(len: usize, padded_len: usize) -> Self {
        Self {
            len,
            before: (padded_len - len) / 2,
            padded_len,
        }
    }

    /// Whether a resize to `size` leaves this side as it is.
    pub(super) fn is_identity(&self, size: usize) -> bool {
        self.len == size && self.padded_len == size
    }
}

/// 8-bit samples and the frame around them.
///
/// # Shapes
/// `data` is (y.len, x.len, channels).
pub(super) struct Frame<'a> {
    pub(super) data: &'a [u8],
    pub(super) channels: usize,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl<'a> Frame<'a> {
    pub(super) fn new(
        data: &'a [u8],
        width: usize,
        height: usize,
        channels: usize,
        padding: Padding,
    ) -> Self {
        let (padded_width, padded_height) = match padding {
            Padding::None => (width, height),
            Padding::Square => (width.max(height), width.max(height)),
        };
        Self {
            data,
            channels,
            x: Axis::new(width, padded_width),
            y: Axis::new(height, padded_height),
        }
    }
}
