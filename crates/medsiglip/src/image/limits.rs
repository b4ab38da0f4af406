//! What a file may ask of us before we believe it.

use crate::{Error, Result};

/// Limits that are checked before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file in bytes.
    pub max_file_bytes: u64,
    /// Largest width times height, in pixels.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 1 GiB and 2^28 pixels (a 16384x16384 picture).
    fn default() -> Self {
        Self {
            max_file_bytes: 1 << 30,
            max_pixels: 1 << 28,
        }
    }
}

impl Limits {
    /// `what` of [`Error::Limit`] where a file is over [`Limits::max_file_bytes`].
    pub const FILE_BYTES: &str = "file size in bytes";
    /// `what` of [`Error::Limit`] where a picture is over [`Limits::max_pixels`].
    pub const PIXELS: &str = "picture size in pixels";

    /// Checks the size of a file.
    pub(crate) fn check_file(&self, bytes: u64) -> Result<()> {
        check(Self::FILE_BYTES, bytes, self.max_file_bytes)
    }

    /// Checks the size that a header claims.
    pub(crate) fn check_pixels(&self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::BadImage(format!(
                "picture header: expected sides above 0, got {width}x{height}"
            )));
        }
        let pixels = u64::from(width) * u64::from(height);
        check(Self::PIXELS, pixels, self.max_pixels)
    }
}

fn check(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit {
        return Err(Error::Limit { what, got, limit });
    }
    Ok(())
}
