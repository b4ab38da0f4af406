//! The data set before the pixels, and where a frame's own attributes are found in it.

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, Tag};

use super::attributes::Attributes;
use super::stored::{Photometric, Shape};
use crate::{Error, Result};

/// The data set of a file up to the pixels.
pub(in crate::image) struct Header {
    /// The elements.
    pub dataset: InMemDicomObject,
    /// Transfer Syntax UID.
    pub syntax: String,
}

impl Header {
    /// The first item of functional group macro `group` (for example Frame VOI LUT Sequence) of `frame`, counted from 0:
    /// the frame's own, else the shared one (PS3.3 C.7.6.16).
    pub fn functional(&self, frame: u32, group: Tag) -> Option<&InMemDicomObject> {
        let own = self
            .dataset
            .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
            .get(frame as usize);
        let shared = self
            .dataset
            .items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
            .first();
        [own, shared]
            .into_iter()
            .flatten()
            .find_map(|groups| groups.items(group).first())
    }

    /// Where the attributes of a functional group stand: in the group's item, or in classic objects at the top.
    pub fn of_frame(&self, frame: u32, group: Tag) -> &InMemDicomObject {
        self.functional(frame, group).unwrap_or(&self.dataset)
    }

    /// Modality (0008,0060).
    pub fn modality(&self) -> Option<String> {
        self.dataset.text(tags::MODALITY)
    }

    /// Number of Frames (0028,0008), 1 where it is absent.
    pub fn number_of_frames(&self) -> Result<u32> {
        if self.dataset.text(tags::NUMBER_OF_FRAMES).is_none() {
            return Ok(1);
        }
        let frames = self.dataset.integer(tags::NUMBER_OF_FRAMES);
        let frames = frames
            .and_then(|frames| u32::try_from(frames).ok())
            .filter(|frames| *frames > 0);
        frames.ok_or_else(|| bad("number of frames (0028,0008)", "a number above 0"))
    }

    /// How frames are stored (Image Pixel Module, PS3.3 C.7.6.3), checked.
    ///
    /// # Errors
    /// `BAD_IMAGE` where something is missing or cannot be.
    pub fn shape(&self, pixels: Tag) -> Result<Shape> {
        let bits = |tag, name| {
            let value = self.dataset.integer(tag);
            value
                .and_then(|bits| u8::try_from(bits).ok())
                .ok_or_else(|| bad(name, "a number of bits"))
        };
        let side = |tag, name| {
            let value = self
                .dataset
                .integer(tag)
                .and_then(|side| u32::try_from(side).ok());
            value
                .filter(|side| *side > 0)
                .ok_or_else(|| bad(name, "a number above 0"))
        };
        let is_float = pixels != tags::PIXEL_DATA;
        let bits_allocated = bits(tags::BITS_ALLOCATED, "bits allocated (0028,0100)")?;
        let bits_stored = match is_float {
            true => bits_allocated,
            false => bits(tags::BITS_STORED, "bits stored (0028,0101)")?,
        };
        let high_bit = self
            .dataset
            .integer(tags::HIGH_BIT)
            .and_then(|bit| u8::try_from(bit).ok());
        let photometric = match (
            self.dataset.text(tags::PHOTOMETRIC_INTERPRETATION),
            is_float,
        ) {
            (Some(term), _) => term.parse()?,
            (None, true) => Photometric::Monochrome2,
            (None, false) => return Err(bad("photometric interpretation (0028,0004)", "a term")),
        };
        let samples = self.dataset.integer(tags::SAMPLES_PER_PIXEL);
        let shape = Shape {
            rows: side(tags::ROWS, "rows (0028,0010)")?,
            columns: side(tags::COLUMNS, "columns (0028,0011)")?,
            samples_per_pixel: match (samples, is_float) {
                (Some(1), _) | (None, true) => 1,
                (Some(3), false) => 3,
                _ => return Err(bad("samples per pixel (0028,0002)", "1 or 3")),
            },
            is_planar: self.dataset.integer(tags::PLANAR_CONFIGURATION) == Some(1),
            bits_allocated,
            bits_stored,
            high_bit: high_bit.unwrap_or(bits_stored.saturating_sub(1)),
            is_signed: self.dataset.integer(tags::PIXEL_REPRESENTATION) == Some(1),
            is_float,
            photometric,
        };
        shape.check(pixels)?;
        Ok(shape)
    }
}

fn bad(name: &str, expected: &str) -> Error {
    Error::BadImage(format!("DICOM {name}: expected {expected}"))
}
