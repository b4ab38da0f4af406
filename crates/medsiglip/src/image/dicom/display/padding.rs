//! Padding around the picture (PS3.3 C.7.5.1.1.2; of float values C.7.6.24 and C.7.6.25).

use dicom_dictionary_std::tags;

use crate::image::dicom::Values;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;

/// The stored values that are no picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Padding {
    low: f64,
    high: f64,
}

impl Padding {
    /// Pixel Padding Value, up or down to the Range Limit where there is one.
    pub fn read(header: &Header, values: &Values) -> Self {
        let (value, limit) = match values {
            Values::F32(_) => (
                tags::FLOAT_PIXEL_PADDING_VALUE,
                tags::FLOAT_PIXEL_PADDING_RANGE_LIMIT,
            ),
            Values::F64(_) => (
                tags::DOUBLE_FLOAT_PIXEL_PADDING_VALUE,
                tags::DOUBLE_FLOAT_PIXEL_PADDING_RANGE_LIMIT,
            ),
            _ => (tags::PIXEL_PADDING_VALUE, tags::PIXEL_PADDING_RANGE_LIMIT),
        };
        let number = |tag| {
            header
                .dataset
                .number(tag)
                .map(|number| as_stored(number, values))
        };
        let Some(value) = number(value) else {
            return Self {
                low: f64::INFINITY,
                high: f64::NEG_INFINITY,
            };
        };
        let limit = number(limit).unwrap_or(value);
        Self {
            low: value.min(limit),
            high: value.max(limit),
        }
    }

    /// Whether a stored value is padding. A float that is no number is, too.
    pub fn contains(self, stored: f64) -> bool {
        (self.low <= stored && stored <= self.high) || stored.is_nan()
    }
}

/// US or SS: the value is meant as the pixels are, whichever VR stands there.
fn as_stored(number: f64, values: &Values) -> f64 {
    let word = number as i64 as u16;
    match values {
        Values::F32(_) | Values::F64(_) => number,
        Values::U8(_) | Values::U16(_) | Values::U32(_) => f64::from(word),
        Values::I8(_) | Values::I16(_) | Values::I32(_) => f64::from(word.cast_signed()),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::super::testing::Case;
    use super::*;

    #[test]
    fn padding_is_meant_as_the_pixels_are() {
        let signed = || Case::gray(16, Values::I16(vec![0]));
        let read = |case: Case| Padding::read(&case.header, &case.stored.values);
        // US where SS is meant: what an implicit file is read as
        for case in [
            signed().with(tags::PIXEL_PADDING_VALUE, VR::US, 63_536_u16),
            signed().with(tags::PIXEL_PADDING_VALUE, VR::SS, -2000_i16),
        ] {
            let padding = read(case);
            assert!(
                padding.contains(-2000.0)
                    && !padding.contains(-1999.0)
                    && !padding.contains(63_536.0)
            );
        }
        let range = signed().with(tags::PIXEL_PADDING_VALUE, VR::SS, 5_i16);
        let range = read(range.with(tags::PIXEL_PADDING_RANGE_LIMIT, VR::SS, -3_i16));
        let inside = [-4.0, -3.0, 0.0, 5.0, 6.0].map(|value| range.contains(value));
        assert_eq!(inside, [false, true, true, true, false]);
        let unsigned =
            Case::gray(16, Values::U16(vec![0])).with(tags::PIXEL_PADDING_VALUE, VR::SS, -1_i16);
        assert!(read(unsigned).contains(65_535.0));
        let none = read(signed());
        assert!(!none.contains(0.0) && none.contains(f64::NAN));
    }
}
