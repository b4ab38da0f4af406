//! PNG, JPEG, TIFF, BMP, WebP and PNM files to a [`Picture`].

use std::path::Path;

use super::{Limits, Picture};
use crate::Result;

/// How a file becomes a [`Picture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Limits checked before allocation.
    pub limits: Limits,
    /// Keep the public serving container's reading of unusual files (recipe `container`):
    /// EXIF orientation ignored, palette indices taken as gray, CMYK's first three channels taken as RGB.
    pub container_compat: bool,
}

/// Where a picture came from and what decoding did to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceInfo {
    /// File format, as its usual lower-case extension: `png`, `jpeg`, `tiff`, `bmp`, `webp`, `pnm`; empty for samples in memory.
    pub format: &'static str,
    /// What the file stores: for example `rgb8`, `gray16`, `palette8`, `cmyk8`, `gray-alpha8`.
    pub color: String,
    /// EXIF orientation (1..=8) that was applied; 1 where there was none.
    pub orientation: u8,
    /// What was dropped or changed, for a person to read.
    pub warnings: Vec<String>,
}

/// Reads the picture at `path` with default options.
///
/// # Errors
/// `IO_ERROR`, `BAD_IMAGE`, `LIMIT_EXCEEDED`, `UNSUPPORTED`.
pub fn open(path: impl AsRef<Path>) -> Result<Picture> {
    open_with(path, &DecodeOptions::default())
}

/// Reads the picture at `path`.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Picture> {
    let _ = (path, options);
    todo!()
}

/// Reads a picture from the bytes of a file.
///
/// # Errors
/// `BAD_IMAGE`, `LIMIT_EXCEEDED`, `UNSUPPORTED`.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    let _ = (bytes, options);
    todo!()
}
