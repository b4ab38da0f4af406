//! Typed access to the elements of a data set. What is absent, empty or of another form is `None`: the callers know
//! what to make of that. Values never reach a message, they can be patient data.

use dicom_object::{InMemDicomObject, Tag};

/// Typed access to elements.
pub(in crate::image) trait Attributes {
    /// The first value as text, without padding; `None` where it is empty.
    fn text(&self, tag: Tag) -> Option<String>;
    /// All values as text, without padding, empty ones kept.
    fn texts(&self, tag: Tag) -> Vec<String>;
    /// The first value as a number.
    fn number(&self, tag: Tag) -> Option<f64>;
    /// All values as numbers; empty where one of them is none.
    fn numbers(&self, tag: Tag) -> Vec<f64>;
    /// The first value as a whole number.
    fn integer(&self, tag: Tag) -> Option<i64>;
    /// The bytes of a binary value as stored, in little endian; for words the words' bytes.
    fn bytes(&self, tag: Tag) -> Option<Vec<u8>>;
    /// The items of a sequence; empty where there is none.
    fn items(&self, tag: Tag) -> &[InMemDicomObject];
    /// Whether the element is there, be it empty.
    fn has(&self, tag: Tag) -> bool;
}

impl Attributes for InMemDicomObject {
    fn text(&self, tag: Tag) -> Option<String> {
        self.texts(tag)
            .into_iter()
            .next()
            .filter(|text| !text.is_empty())
    }

    fn texts(&self, tag: Tag) -> Vec<String> {
        let value = self
            .get(tag)
            .and_then(|element| element.value().primitive());
        let values = value.map(|value| value.to_multi_str().into_owned());
        let trim = |text: String| text.trim_matches([' ', '\0']).to_owned();
        values.unwrap_or_default().into_iter().map(trim).collect()
    }

    fn number(&self, tag: Tag) -> Option<f64> {
        self.numbers(tag).first().copied()
    }

    fn numbers(&self, tag: Tag) -> Vec<f64> {
        let value = self
            .get(tag)
            .and_then(|element| element.value().primitive());
        let numbers = value.and_then(|value| value.to_multi_float64().ok());
        numbers.unwrap_or_default()
    }

    fn integer(&self, tag: Tag) -> Option<i64> {
        let value = self
            .get(tag)
            .and_then(|element| element.value().primitive());
        value.and_then(|value| value.to_int().ok())
    }

    fn bytes(&self, tag: Tag) -> Option<Vec<u8>> {
        let value = self
            .get(tag)
            .and_then(|element| element.value().primitive());
        value.map(|value| value.to_bytes().into_owned())
    }

    fn items(&self, tag: Tag) -> &[InMemDicomObject] {
        self.get(tag)
            .and_then(|element| element.items())
            .unwrap_or_default()
    }

    fn has(&self, tag: Tag) -> bool {
        self.get(tag).is_some()
    }
}
