//! PNG, JPEG, TIFF, BMP, WebP, PNM and DICOM files to a [`Picture`].

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::dicom::{DicomFile, DisplayOptions};
use super::{Kind, Limits, Picture, SNIFF_BYTES, sniff};
use crate::{Error, Result};

const READABLE: &str = "png, jpeg, tiff, bmp, webp, pnm and dicom can be read";

/// How a file becomes a [`Picture`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DecodeOptions {
    /// Limits checked before allocation.
    pub limits: Limits,
    /// Keep the public serving container's reading of unusual files (recipe `container`):
    /// EXIF orientation ignored, palette indices taken as gray, CMYK's first three channels taken as RGB.
    pub container_compat: bool,
    /// How the stored values of DICOM files become pictures.
    pub display: DisplayOptions,
}

/// Where a picture came from and what decoding did to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceInfo {
    /// File format, as its usual lower-case extension: `png`, `jpeg`, `tiff`, `bmp`, `webp`, `pnm`, `dicom`; empty for samples in memory.
    pub format: &'static str,
    /// What the file stores: for example `rgb8`, `gray16`, `palette8`, `cmyk8`, `gray-alpha8`.
    pub color: String,
    /// EXIF orientation (1..=8) that was applied; 1 where there was none.
    pub orientation: u8,
    /// The display rule and windows that DICOM values were shown with.
    pub display: Option<String>,
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
    let path = path.as_ref();
    open_unnamed(path, options).map_err(|error| match error {
        Error::BadImage(message) => Error::BadImage(format!("{message}: {}", path.display())),
        Error::Unsupported(message) => Error::Unsupported(format!("{message}: {}", path.display())),
        other => other,
    })
}

/// As [`open_with`], with errors that do not name the file.
fn open_unnamed(path: &Path, options: &DecodeOptions) -> Result<Picture> {
    let failed = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    let head = SNIFF_BYTES as u64;
    file.by_ref()
        .take(head)
        .read_to_end(&mut start)
        .map_err(failed)?;
    if sniff(&start) == Kind::Dicom && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        // Read piece by piece, so that a film of many frames is no obstacle.
        return only_frame(&DicomFile::open(path, &options.limits)?, options);
    }
    let bytes = read_file(file, start, path, options)?;
    decode(&bytes, options)
}

/// The picture of a DICOM file that has one.
fn only_frame(file: &DicomFile, options: &DecodeOptions) -> Result<Picture> {
    match file.frames() {
        1 => file.picture(0, &options.display),
        frames => Err(Error::BadArgument(format!(
            "DICOM file of {frames} frames: expected to be told which"
        ))),
    }
}

/// Reads a picture from the bytes of a file. The format is told by the content, never by a name.
///
/// # Errors
/// `BAD_IMAGE`, `LIMIT_EXCEEDED`, `UNSUPPORTED`.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    options.limits.check_file(bytes.len() as u64)?;
    let raw = match sniff(bytes) {
        Kind::Png => super::png::decode(bytes, options),
        Kind::Jpeg => super::jpeg::decode(bytes, options),
        Kind::Tiff => super::tiff::decode(bytes, options),
        Kind::WebP => super::simple::decode_webp(bytes, options),
        Kind::Pnm => super::simple::decode_pnm(bytes, options),
        Kind::Bmp => super::simple::decode_bmp(bytes, options),
        Kind::Dicom => {
            let file = DicomFile::from_bytes(bytes.to_vec(), &options.limits)?;
            return only_frame(&file, options);
        }
        Kind::Unsupported(name) => Err(Error::Unsupported(format!(
            "{name} file: recognised, but not supported; {READABLE}"
        ))),
        Kind::Unknown if bytes.is_empty() => Err(Error::BadImage("picture file is empty".into())),
        Kind::Unknown => Err(Error::BadImage(format!("not a picture file: {READABLE}"))),
    }?;
    raw.into_picture(options.container_compat)
}

/// EXIF orientation (1..=8) of an EXIF block, 1 where it has none.
pub(super) fn orientation_of_exif(exif: &[u8]) -> u8 {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    image::metadata::Orientation::from_exif_chunk(exif)
        .map_or(1, image::metadata::Orientation::to_exif)
}

/// The whole file, of which `start` is read already; refused by its size before it is read.
fn read_file(file: File, start: Vec<u8>, path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let failed = |source| Error::io("read", path, source);
    options
        .limits
        .check_file(file.metadata().map_err(failed)?.len())?;
    // A pipe has no length to ask for, and a file may grow meanwhile.
    let mut bytes = start;
    let cap = options
        .limits
        .max_file_bytes
        .saturating_add(1)
        .saturating_sub(bytes.len() as u64);
    file.take(cap).read_to_end(&mut bytes).map_err(failed)?;
    options.limits.check_file(bytes.len() as u64)?;
    Ok(bytes)
}
