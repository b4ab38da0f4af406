//! Data sets and frames of tests.

use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{DisplayOptions, Shown, show};
use crate::Result;
use crate::image::Samples;
use crate::image::dicom::header::Header;
use crate::image::dicom::{Photometric, Stored, Values};

/// Elements of a data set.
pub(super) fn dataset(elements: Vec<(Tag, VR, PrimitiveValue)>) -> InMemDicomObject {
    let elements = elements
        .into_iter()
        .map(|(tag, vr, value)| DataElement::new(tag, vr, value));
    InMemDicomObject::from_element_iter(elements)
}

/// A frame of one row under construction.
pub(super) struct Case {
    pub header: Header,
    pub stored: Stored,
}

impl Case {
    /// A gray frame whose header has its bits stored, and nothing else.
    pub fn gray(bits_stored: u16, values: Values) -> Self {
        let header = Header {
            dataset: dataset(vec![(tags::BITS_STORED, VR::US, bits_stored.into())]),
            syntax: "1.2.840.10008.1.2.1".into(),
        };
        let stored = Stored {
            rows: 1,
            columns: values.len() as u32,
            channels: 1,
            values,
            photometric: Photometric::Monochrome2,
            icc_profile: None,
            warnings: Vec::new(),
        };
        Self { header, stored }
    }

    pub fn with(mut self, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> Self {
        self.header
            .dataset
            .put(DataElement::new(tag, vr, value.into()));
        self
    }

    /// A decimal string or code.
    pub fn text(self, tag: Tag, value: &str) -> Self {
        self.with(tag, VR::DS, value)
    }

    pub fn photometric(mut self, photometric: Photometric) -> Self {
        self.stored.channels = photometric.channels();
        self.stored.columns = (self.stored.values.len() / usize::from(self.stored.channels)) as u32;
        self.stored.photometric = photometric;
        self.text(tags::PHOTOMETRIC_INTERPRETATION, photometric.name())
    }

    pub fn item(mut self, tag: Tag, elements: Vec<(Tag, VR, PrimitiveValue)>) -> Self {
        let sequence = dicom_core::value::DataSetSequence::from(vec![dataset(elements)]);
        self.header
            .dataset
            .put(DataElement::new(tag, VR::SQ, sequence));
        self
    }

    pub fn show(self, options: &DisplayOptions) -> Result<Shown> {
        show(&self.header, 0, self.stored, options)
    }

    /// The samples and the description by the default options, which give no warning.
    pub fn standard(self) -> (Vec<u8>, String) {
        let shown = self.show(&DisplayOptions::default()).unwrap();
        assert_eq!(shown.warnings, [""; 0]);
        (shown.bytes(), shown.description)
    }

    /// The error's text by the default options, after its code.
    pub fn refusal(self) -> String {
        let error = self.show(&DisplayOptions::default()).unwrap_err();
        format!("{} {error}", error.code())
    }
}

impl Shown {
    pub fn bytes(&self) -> Vec<u8> {
        match &self.samples {
            Samples::U8(samples) => samples.clone(),
            Samples::U16(_) => panic!("16 bits"),
        }
    }
}
