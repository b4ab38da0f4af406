//! DICOM files: header, frames, stored values, and pictures by a named display rule.
//!
//! ```text
//! bytes --read--> Header, where the pixels lie --frames--> a frame's bytes --codec--> Stored --display--> Picture
//! ```
//!
//! Frames are counted from 0. Patient names, dates and free text are dropped while the header is read; see [`DicomInfo`]
//! for what leaves the reader.

pub(in crate::image) mod attributes;
mod stored;
pub(in crate::image) mod header;
mod source;
mod read;
mod frames;
mod codec;
mod display;
mod info;
mod terms;
mod series;
mod directory;

use std::path::Path;

use dicom_dictionary_std::{tags, uids};

use attributes::Attributes;
use frames::Frames;
use header::Header;
use source::Source;

use super::{Limits, Picture, SourceInfo};
use crate::{Error, Result};

pub use directory::read_directory;
pub use display::{CtWindows, DisplayOptions, DisplayRule, Window, WindowChoice};
pub use info::DicomInfo;
pub use series::{SlicePosition, stacks};
pub use stored::{Photometric, Shape, Stored, Values};

/// A DICOM file with pixels. Its header is in memory, its frames are read one by one.
pub struct DicomFile {
    source: Source,
    header: Header,
    shape: Shape,
    frames: Frames,
    count: u32,
    info: DicomInfo,
    /// What is odd about where the frames lie.
    warnings: Vec<String>,
}

impl DicomFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `IO_ERROR`; `BAD_IMAGE` where the file is damaged or no DICOM; `UNSUPPORTED` where it holds no pixels (a report, a
    /// structure set, a presentation state), or pixels of an unknown kind; `LIMIT_EXCEEDED`.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::new(Source::open(path.as_ref())?, limits)
    }

    /// A file in memory.
    ///
    /// # Errors
    /// As [`DicomFile::open`], but for `IO_ERROR`.
    pub fn from_bytes(bytes: Vec<u8>, limits: &Limits) -> Result<Self> {
        limits.check_file(bytes.len() as u64)?;
        Self::new(Source::Bytes(bytes), limits)
    }

    fn new(source: Source, limits: &Limits) -> Result<Self> {
        let (source, header, pixels) = read::read(source, limits)?;
        let Some(pixels) = pixels else {
            return Err(no_pixels(&header));
        };
        let shape = header.shape(pixels.tag)?;
        limits.check_pixels(shape.columns, shape.rows)?;
        let count = header.number_of_frames()?;
        let mut warnings = Vec::new();
        let frames = Frames::find(&source, &header, pixels, &shape, count, &mut warnings)?;
        if header
            .dataset
            .texts(tags::IMAGE_TYPE)
            .get(2)
            .is_some_and(|kind| kind == "LABEL")
        {
            warnings.push("the label of a slide: a name can stand on it".into());
        }
        Ok(Self {
            info: DicomInfo::of(&header),
            source,
            header,
            shape,
            frames,
            count,
            warnings,
        })
    }

    /// Number of Frames (0028,0008), 1 where it is absent; the file has room for them.
    pub fn frames(&self) -> u32 {
        self.count
    }

    /// How a frame is stored.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the file says of its picture.
    pub fn info(&self) -> &DicomInfo {
        &self.info
    }

    /// Where a frame lies, for [`stacks`].
    pub fn slice_position(&self, frame: u32) -> SlicePosition {
        SlicePosition::of(&self.header, frame)
    }

    /// The data set before the pixels.
    pub(in crate::image) fn header(&self) -> &Header {
        &self.header
    }

    /// HMAC-SHA-256 of the Patient ID under `key`, in hexadecimal; `None` where the file has no Patient ID.
    pub fn patient_id_hash(&self, key: &[u8]) -> Option<String> {
        info::patient_id_hash(&self.header, key)
    }

    /// The stored values of a frame: YBR converted to RGB, nothing else applied.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no such frame; `BAD_IMAGE`; `UNSUPPORTED` naming the transfer syntax; `IO_ERROR`.
    pub fn stored(&self, frame: u32) -> Result<Stored> {
        if frame >= self.count {
            return Err(Error::BadArgument(format!(
                "DICOM frame {}: the file has {}",
                u64::from(frame) + 1,
                self.count
            )));
        }
        let frame = self.frames.read(&self.source, frame)?;
        codec::decode(
            &self.header.syntax,
            &frame.bytes,
            frame.first_bit,
            &self.shape,
        )
    }

    /// A frame as a picture.
    ///
    /// # Errors
    /// As [`DicomFile::stored`]; `BAD_IMAGE` where a lookup table or window is damaged.
    pub fn picture(&self, frame: u32, options: &DisplayOptions) -> Result<Picture> {
        let stored = self.stored(frame)?;
        let color = format!(
            "{} {}",
            self.shape.photometric.name().to_lowercase(),
            self.shape.bits_stored
        );
        let (columns, rows) = (stored.columns, stored.rows);
        let mut warnings = [&self.warnings[..], &stored.warnings].concat();
        let shown = display::show(&self.header, frame, stored, options)?;
        warnings.extend(shown.warnings);
        let mut picture = Picture::new(columns, rows, shown.channels, shown.samples)?;
        picture.source = SourceInfo {
            format: "dicom",
            color,
            orientation: 1,
            display: Some(shown.description),
            warnings,
        };
        Ok(picture)
    }
}

/// Begins what is said of files without pixels.
const WITHOUT_PIXELS: &str = "DICOM file without pixels";

/// What is said of a DICOMDIR.
const DICOMDIR: &str = "DICOMDIR: an index of files, not a picture";

/// Whether `error` is the answer of [`DicomFile::open`] to a file of a known class that has no pixels: a report, a
/// structure set, a presentation state, a DICOMDIR. Who walks folders passes over them.
pub fn is_without_pixels(error: &Error) -> bool {
    matches!(error, Error::Unsupported(message)
        if message.starts_with(WITHOUT_PIXELS) || message == DICOMDIR)
}

impl std::fmt::Debug for DicomFile {
    /// Without the header, which holds the Patient ID.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DicomFile")
            .field("info", &self.info)
            .field("shape", &self.shape)
            .field("frames", &self.count)
            .finish_non_exhaustive()
    }
}

/// Says what a file without pixels is, by its SOP class.
fn no_pixels(header: &Header) -> Error {
    use dicom_core::dictionary::UidDictionary;
    let class = header.dataset.text(tags::SOP_CLASS_UID);
    // The class of a DICOMDIR stands in the File Meta Information alone.
    if header.dataset.has(tags::DIRECTORY_RECORD_SEQUENCE)
        || class.as_deref() == Some(uids::MEDIA_STORAGE_DIRECTORY_STORAGE)
    {
        return Error::Unsupported(DICOMDIR.into());
    }
    let dictionary = dicom_dictionary_std::StandardSopClassDictionary;
    let name = class.and_then(|uid| dictionary.by_uid(&uid).map(|entry| entry.name.to_owned()));
    match name {
        Some(name) => Error::Unsupported(format!("{WITHOUT_PIXELS}: {name}")),
        None => Error::BadImage(WITHOUT_PIXELS.into()),
    }
}
