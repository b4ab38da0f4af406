//! Stored values to a picture: the named display rules.
//!
//! `standard` is the DICOM display pipeline (PS3.4 annex N.2, PS3.3 C.11) with 8 bits out. `x` is a stored value after the
//! modality LUT; a level is from 0 (black) to 255 (white), rounded to nearest, half up: `floor(level + 1/2 + 1e-9)`, the last
//! term so that halves are not lost in float64.
//!
//! | source of the window | level of `x` |
//! |---|---|
//! | LINEAR, C.11.2.1.2 | 0 where `x <= lower`, 255 where `x > upper`, else `(x - lower) * 255 / (upper - lower)`; `lower, upper = center - 1/2 ∓ (width - 1) / 2` |
//! | LINEAR_EXACT, C.11.2.1.3.2, and the windows of [`CtWindows`] | the same with `lower, upper = center ∓ width / 2` |
//! | SIGMOID, C.11.2.1.3.1 | `255 / (1 + exp(-4 * (x - center) / width))` |
//! | VOI LUT, C.11.2.1.1 | `entry * 255 / (2^bits - 1)`, the entry at `floor(x - first)`, kept inside the table |
//! | none | the straight line from the lowest to the highest value that the bits stored can hold, through the modality LUT |
//! | `min-max` | the straight line from the lowest to the highest `x` of the frame |
//!
//! The modality LUT of an X-ray angiogram stored for display (LOG, DISP) leads back to X-ray intensity and is not applied
//! (PS3.3 C.8.7.1.1.2, PS3.4 N.2); pydicom's function applies it.
//!
//! Which window: the user's, else the first VOI LUT of the file, else its first window. MONOCHROME1 or Presentation LUT
//! Shape INVERSE turn levels over, once. Padding is black in the end, whatever the rest says.
//!
//! CT images in Hounsfield units are shown through [`CtWindows`] instead, without presentation: the windows are of the
//! values, and high ones are bright. PALETTE COLOR gives the high byte of the palette's entries. Of colour with more or
//! less than 8 bits, `value * 255 / (2^bits stored - 1)`.
//!
//! `container` is what the public serving container does: see [`container`].
//!
//! [`Shown::description`] is `RULE HOW`, HOW being one of
//!
//! | HOW | |
//! |---|---|
//! | `window=CENTER/WIDTH` | with ` linear-exact` or ` sigmoid` after it where the file says so |
//! | `ct-windows=CENTER/WIDTH,...` | one (gray) or three (RGB) |
//! | `voi-lut`, `full-range`, `min-max` | gray, as above |
//! | `palette`, `color` | |
//! | `window=CENTER/WIDTH min-max`, `raw` | `container` alone: window and second stretch; values as stored |

mod options;
mod field;
mod levels;
mod lut;
mod segments;
mod modality;
mod padding;
mod voi;
mod color;
mod standard;
mod container;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;

pub use options::{CtWindows, DisplayOptions, DisplayRule, Window, WindowChoice};

use super::Stored;
use super::header::Header;
use crate::image::Samples;
use crate::{Error, Result};

/// What a rule made of a frame.
#[derive(Debug)]
pub(super) struct Shown {
    /// 1 or 3.
    pub channels: u8,
    /// (rows, columns, channels).
    pub samples: Samples,
    /// The rule and the windows used, for provenance: for example `standard window=40/400`.
    pub description: String,
    /// What a person should know of the display; what the decoder said is not repeated.
    pub warnings: Vec<String>,
}

/// A frame as a picture.
///
/// # Errors
/// `BAD_IMAGE` naming the attribute that is malformed, `UNSUPPORTED` for what the rule refuses, `BAD_ARGUMENT` for a
/// window that the rule cannot apply.
pub(super) fn show(
    header: &Header,
    frame: u32,
    stored: Stored,
    options: &DisplayOptions,
) -> Result<Shown> {
    let expected = u64::from(stored.rows)
        * u64::from(stored.columns)
        * u64::from(stored.photometric.channels());
    if stored.channels != stored.photometric.channels() || stored.values.len() as u64 != expected {
        return Err(Error::BadImage(format!(
            "frame of {}: expected {expected} values, got {} in {} channels",
            stored.photometric.name(),
            stored.values.len(),
            stored.channels
        )));
    }
    match options.rule {
        DisplayRule::Standard => standard::show(header, frame, stored, options),
        DisplayRule::Container => container::show(header, stored, options),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_core::value::PrimitiveValue;
    use dicom_dictionary_std::tags;
    use proptest::prelude::*;

    use super::testing::Case;
    use super::*;
    use crate::image::dicom::{Photometric, Values};

    /// What writers put where a number belongs.
    fn number() -> impl Strategy<Value = String> {
        let odd = [
            "", "0", "1", "-1", "1e308", "-1e308", "1e-320", "nan", "inf", "x", "65535",
        ];
        prop_oneof![
            prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
            (-3000..3000_i32).prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
        ]
    }

    fn values() -> impl Strategy<Value = Values> {
        let floats = prop::collection::vec(prop_oneof![any::<f64>(), Just(f64::NAN)], 6);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 6).prop_map(Values::U8),
            prop::collection::vec(any::<i8>(), 6).prop_map(Values::I8),
            prop::collection::vec(any::<u16>(), 6).prop_map(Values::U16),
            prop::collection::vec(any::<i16>(), 6).prop_map(Values::I16),
            prop::collection::vec(any::<u32>(), 6).prop_map(Values::U32),
            prop::collection::vec(any::<i32>(), 6).prop_map(Values::I32),
            floats.prop_map(Values::F64),
        ]
    }

    fn options() -> impl Strategy<Value = DisplayOptions> {
        let windows = ["file", "min-max", "40/400", "0/1", "1e308/1e308", "-5/0.5"];
        let ct_windows = ["medsiglip", "gray", "lung", "lung,bone,-1e308/1e-320"];
        let parts = (
            prop::sample::select(DisplayRule::ALL.to_vec()),
            prop::sample::select(windows.to_vec()),
            prop::sample::select(ct_windows.to_vec()),
        );
        parts.prop_map(|(rule, window, ct_windows)| DisplayOptions {
            rule,
            window: window.parse().unwrap(),
            ct_windows: ct_windows.parse().unwrap(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_header_leads_to_a_panic(
            values in values(),
            options in options(),
            numbers in prop::collection::vec(number(), 6),
            descriptor in prop::collection::vec(prop_oneof![0..20_u16, any::<u16>()], 0..5),
            words in prop::collection::vec(prop_oneof![0..20_u16, any::<u16>()], 0..40),
            bits in 0..40_u16,
            choices in any::<[u8; 6]>(),
        ) {
            use Photometric::{Monochrome1, Monochrome2, PaletteColor, Rgb};
            let photometric = [Monochrome1, Monochrome2, PaletteColor, Rgb][usize::from(choices[0] % 4)];
            let table = || vec![
                (tags::LUT_DESCRIPTOR, VR::US, PrimitiveValue::U16(descriptor.clone().into())),
                (tags::LUT_DATA, VR::OW, PrimitiveValue::U16(words.clone().into())),
            ];
            let mut case = Case::gray(bits, values).photometric(photometric);
            let sequences = [tags::MODALITY_LUT_SEQUENCE, tags::VOILUT_SEQUENCE];
            for (tag, choice) in sequences.into_iter().zip(&choices[1..]) {
                case = if choice % 2 == 0 { case.item(tag, table()) } else { case };
            }
            let texts = [
                tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT, tags::WINDOW_CENTER, tags::WINDOW_WIDTH,
                tags::PIXEL_PADDING_VALUE, tags::PIXEL_PADDING_RANGE_LIMIT,
            ];
            for (tag, number) in texts.into_iter().zip(&numbers) {
                case = if number.is_empty() { case } else { case.text(tag, number) };
            }
            let data = if choices[3] % 2 == 0 { color::TABLES.map(|t| t[1]) } else { color::TABLES.map(|t| t[2]) };
            for (tags, data) in color::TABLES.iter().zip(data) {
                case = case.with(tags[0], VR::US, PrimitiveValue::U16(descriptor.clone().into()));
                case = case.with(data, VR::OW, PrimitiveValue::U16(words.clone().into()));
            }
            let modality = ["CT", "CR", "XC", "MR"][usize::from(choices[4] % 4)];
            let function = ["LINEAR", "SIGMOID", "LINEAR_EXACT", ""][usize::from(choices[5] % 4)];
            case = case.text(tags::MODALITY, modality).text(tags::VOILUT_FUNCTION, function);
            let pixels = case.stored.columns as usize;
            if let Ok(shown) = case.show(&options) {
                let samples = match shown.samples {
                    Samples::U8(samples) => samples.len(),
                    Samples::U16(samples) => samples.len(),
                };
                prop_assert_eq!(samples, pixels * usize::from(shown.channels));
            }
        }
    }
}
