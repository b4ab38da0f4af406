//! What a file says of its picture, as far as it may leave the reader.

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, tags};
use dicom_object::Tag;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::attributes::Attributes;
use super::header::Header;
use super::terms;

/// Where a picture comes from, without anything that names a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DicomInfo {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Option<String>,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Option<String>,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Option<String>,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Option<String>,
    /// Transfer Syntax UID (0002,0010), or what the file's form shows.
    pub transfer_syntax_uid: String,
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Body Part Examined (0018,0015).
    pub body_part_examined: Option<String>,
    /// View Position (0018,5101).
    pub view_position: Option<String>,
    /// Image Laterality (0020,0062), else Laterality (0020,0060).
    pub laterality: Option<String>,
}

impl DicomInfo {
    pub(super) fn of(header: &Header) -> Self {
        let dataset = &header.dataset;
        let uid = |tag: Tag| dataset.text(tag).filter(|text| is_uid(text));
        let code = |tag: Tag, known: &[&str]| dataset.text(tag).filter(|text| is_of(known, text));
        Self {
            study_instance_uid: uid(tags::STUDY_INSTANCE_UID),
            series_instance_uid: uid(tags::SERIES_INSTANCE_UID),
            sop_instance_uid: uid(tags::SOP_INSTANCE_UID),
            sop_class_uid: uid(tags::SOP_CLASS_UID),
            transfer_syntax_uid: header.syntax.clone(),
            modality: dataset
                .text(tags::MODALITY)
                .filter(|text| is_modality(text)),
            body_part_examined: code(tags::BODY_PART_EXAMINED, &terms::BODY_PARTS),
            view_position: code(tags::VIEW_POSITION, &terms::VIEWS),
            laterality: code(tags::IMAGE_LATERALITY, &terms::SIDES)
                .or_else(|| code(tags::LATERALITY, &terms::SIDES)),
        }
    }
}

impl DicomInfo {
    /// The name of the SOP class, where it is a standard one.
    pub fn sop_class_name(&self) -> Option<&'static str> {
        let uid = self.sop_class_uid.as_ref()?;
        StandardSopClassDictionary
            .by_uid(uid)
            .map(|entry| entry.name)
    }

    /// The name of the transfer syntax, where it is a standard one.
    pub fn transfer_syntax_name(&self) -> Option<&'static str> {
        let syntax = TransferSyntaxRegistry.get(&self.transfer_syntax_uid);
        syntax.map(|syntax| syntax.name())
    }
}

/// Digits and dots, at most 64 (PS3.5 section 9.1): nothing else is passed on as a UID.
fn is_uid(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Modality: two to sixteen capitals and digits. Anything else could be about a person, and is dropped.
fn is_modality(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    (2..=16).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Whether `text` is made of words of `known` alone, with space, slash or underscore between: whoever types a name into a
/// field of codes does not see it in an output.
fn is_of(known: &[&str], text: &str) -> bool {
    text.len() <= 16
        && text
            .split([' ', '/', '_'])
            .all(|word| known.contains(&word))
}

/// HMAC-SHA-256 (RFC 2104) of the Patient ID (0010,0020), as lower-case hexadecimal; `None` where there is none.
/// Equal patients have equal hashes under one key, and without the key nobody can try out ids.
pub(super) fn patient_id_hash(header: &Header, key: &[u8]) -> Option<String> {
    let id = header.dataset.text(tags::PATIENT_ID)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(id.as_bytes());
    let hash = mac.finalize().into_bytes();
    Some(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_terms_are_passed_on() {
        let part = |text| is_of(&terms::BODY_PARTS, text);
        assert!(part("BREAST") && part("PORT CHEST") && part("HEAD_NECK"));
        for text in [
            "DOE JOHN 1950",
            "DOE",
            "Doe^John",
            "CHEST DOE",
            "CHEST ",
            "",
        ] {
            assert!(!part(text), "{text}");
        }
        assert!(is_of(&terms::VIEWS, "MLO") && !is_of(&terms::VIEWS, "19330303"));
        assert!(is_modality("CT") && !is_modality("DOE JOHN") && !is_modality("X"));
        assert!(is_uid("1.2.840.10008.1") && !is_uid("JOHN.1"));
    }
}
