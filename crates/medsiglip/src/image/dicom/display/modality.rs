//! The modality LUT: stored values to values of the modality (PS3.3 C.11.1; per frame C.7.6.16.2.9).

use dicom_dictionary_std::{tags, uids};

use super::field::{bad, finite};
use super::lut::{self, Lut};
use crate::Result;
use crate::image::dicom::Values;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;

/// What is done to a stored value.
pub(super) enum Modality {
    /// Nothing: the file says nothing.
    None,
    /// `value * slope + intercept`.
    Rescale { slope: f64, intercept: f64 },
    /// Modality LUT Sequence; its entries have `bits` bits.
    Lut { lut: Lut<u16>, bits: u8 },
}

impl Modality {
    /// The sequence, else slope and intercept of the frame; the sequence of an X-ray angiogram or fluorogram that is stored
    /// for display leads back to X-ray intensity and is not applied ([`is_for_measuring`]). `inputs` are the lowest and highest stored value.
    ///
    /// # Errors
    /// `BAD_IMAGE` where one of them is malformed, or slope and intercept are not both there.
    pub fn read(
        header: &Header,
        frame: u32,
        inputs: (f64, f64),
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let transformation = header.of_frame(frame, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
        let has_rescale = transformation.text(tags::RESCALE_SLOPE).is_some();
        if let Some(item) = header.dataset.items(tags::MODALITY_LUT_SEQUENCE).first()
            && !is_for_measuring(header)
        {
            if has_rescale {
                warnings
                    .push("rescale slope and intercept are ignored beside a modality LUT".into());
            }
            let (lut, descriptor) =
                lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, inputs, warnings)?;
            return Ok(Self::Lut {
                lut,
                bits: descriptor.bits,
            });
        }
        let slope = finite(transformation, tags::RESCALE_SLOPE)?;
        let intercept = finite(transformation, tags::RESCALE_INTERCEPT)?;
        match (slope, intercept) {
            (None, None) => Ok(Self::None),
            (Some(0.0), _) => Err(bad(tags::RESCALE_SLOPE, "expected another number than 0")),
            (Some(slope), Some(intercept)) => Ok(Self::Rescale { slope, intercept }),
            (None, _) => Err(bad(tags::RESCALE_SLOPE, "missing beside an intercept")),
            (_, None) => Err(bad(tags::RESCALE_INTERCEPT, "missing beside a slope")),
        }
    }

    /// The value of the modality.
    pub fn apply(&self, stored: f64) -> f64 {
        match self {
            Self::None => stored,
            Self::Rescale { slope, intercept } => stored * slope + intercept,
            Self::Lut { lut, .. } => f64::from(lut.at(stored)),
        }
    }

    /// The lowest and the highest value that can come out, of `inputs` that can come in.
    pub fn outputs(&self, inputs: (f64, f64)) -> (f64, f64) {
        match self {
            Self::Lut { bits, .. } => (0.0, f64::from(u16::MAX >> (16 - bits))),
            _ => {
                let (a, b) = (self.apply(inputs.0), self.apply(inputs.1));
                (a.min(b), a.max(b))
            }
        }
    }
}

/// Whether the Modality LUT Sequence is one from the logarithm, or from what was made for display, to X-ray intensity
/// (Pixel Intensity Relationship LOG and DISP, PS3.3 C.8.7.1.1.2): those are no part of the display pipeline (PS3.4 N.2).
fn is_for_measuring(header: &Header) -> bool {
    let class = header.dataset.text(tags::SOP_CLASS_UID);
    let is_x_ray = class.is_some_and(|class| {
        [
            uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
            uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE,
        ]
        .contains(&class.as_str())
    });
    let relationship = header.dataset.text(tags::PIXEL_INTENSITY_RELATIONSHIP);
    is_x_ray && relationship.is_some_and(|name| name == "LOG" || name == "DISP")
}

/// The lowest and the highest value that Bits Stored (0028,0101) can hold; `None` for float values.
///
/// # Errors
/// `BAD_IMAGE` where the attribute is absent or not from 1 to 32.
pub(super) fn stored_range(header: &Header, values: &Values) -> Result<Option<(f64, f64)>> {
    let is_signed = match values {
        Values::F32(_) | Values::F64(_) => return Ok(None),
        Values::I8(_) | Values::I16(_) | Values::I32(_) => true,
        Values::U8(_) | Values::U16(_) | Values::U32(_) => false,
    };
    let bits = header.dataset.integer(tags::BITS_STORED);
    let bits = bits.filter(|bits| (1..=32).contains(bits));
    let bits = bits.ok_or_else(|| bad(tags::BITS_STORED, "expected 1 to 32"))?;
    let count = 2f64.powi(bits as i32);
    Ok(Some(if is_signed {
        (-count / 2.0, count / 2.0 - 1.0)
    } else {
        (0.0, count - 1.0)
    }))
}

#[cfg(test)]
mod tests {
    use dicom_core::{VR, dicom_value};

    use super::super::testing::Case;
    use super::*;

    #[test]
    fn a_table_back_to_x_ray_intensity_is_not_shown() {
        let shown = |class: &str, relationship: &str| {
            let case = Case::gray(8, Values::U8(vec![0, 1, 2, 255])).item(
                tags::MODALITY_LUT_SEQUENCE,
                vec![
                    (tags::LUT_DESCRIPTOR, VR::US, dicom_value!(U16, [3, 0, 8])),
                    (tags::LUT_DATA, VR::US, dicom_value!(U16, [200, 100, 0])),
                ],
            );
            let case = case.text(tags::SOP_CLASS_UID, class);
            case.text(tags::PIXEL_INTENSITY_RELATIONSHIP, relationship)
                .standard()
                .0
        };
        let angiogram = uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE;
        let fluorogram = uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE;
        assert_eq!(shown(angiogram, "LOG"), [0, 1, 2, 255]);
        assert_eq!(shown(fluorogram, "DISP"), [0, 1, 2, 255]);
        let table = [200, 100, 0, 0];
        assert_eq!(shown(angiogram, "LIN"), table);
        assert_eq!(
            shown(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "LOG"),
            table
        );
    }
}
