//! Attributes of the display pipeline, checked.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::{InMemDicomObject, Tag};

use crate::image::dicom::attributes::Attributes;
use crate::{Error, Result};

/// `WindowCenter (0028,1050)`.
pub(super) fn label(tag: Tag) -> String {
    let entry = StandardDataDictionary.by_tag(tag);
    format!("{} {tag}", entry.map_or("attribute", |entry| entry.alias()))
}

/// `BAD_IMAGE` about an attribute.
pub(super) fn bad(tag: Tag, what: &str) -> Error {
    Error::BadImage(format!("{}: {what}", label(tag)))
}

/// The first value as a finite number; `None` where it is absent or empty.
///
/// # Errors
/// `BAD_IMAGE` where it is something else.
pub(super) fn finite(dataset: &InMemDicomObject, tag: Tag) -> Result<Option<f64>> {
    let Some(text) = dataset.text(tag) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number
        .map(Some)
        .ok_or_else(|| bad(tag, "expected a finite number"))
}
