//! The rule `standard`: the DICOM display pipeline.

use dicom_dictionary_std::{tags, uids};

use super::modality::{Modality, stored_range};
use super::options::{self, DisplayOptions, Window, WindowChoice};
use super::padding::Padding;
use super::voi::Voi;
use super::{Shown, color, levels};
use crate::Result;
use crate::image::Samples;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;
use crate::image::dicom::{Photometric, Stored, Values};

/// A frame by the rule.
pub(super) fn show(
    header: &Header,
    frame: u32,
    stored: Stored,
    options: &DisplayOptions,
) -> Result<Shown> {
    let mut warnings = Vec::new();
    let (channels, samples, how) = match stored.photometric {
        photometric if photometric.is_monochrome() => {
            monochrome(header, frame, &stored, options, &mut warnings)?
        }
        Photometric::PaletteColor => {
            let samples = color::palette(header, &stored, &mut warnings)?;
            (3, samples, "palette".into())
        }
        _ => (3, color::rgb(header, stored.values)?, "color".into()),
    };
    Ok(Shown {
        channels,
        samples: Samples::U8(samples),
        description: format!("standard {how}"),
        warnings,
    })
}

/// Channels, samples and the description's second part.
type Gray = (u8, Vec<u8>, String);

fn monochrome(
    header: &Header,
    frame: u32,
    stored: &Stored,
    options: &DisplayOptions,
    warnings: &mut Vec<String>,
) -> Result<Gray> {
    let range = stored_range(header, &stored.values)?;
    let inputs = range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let modality = Modality::read(header, frame, inputs, warnings)?;
    let padding = Padding::read(header, &stored.values);
    let palette = tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR;
    if header.dataset.has(palette) {
        warnings.push("the supplemental palette is ignored: gray values are shown".into());
    }
    let (voi, how) = match options.window {
        WindowChoice::Window(window) => {
            (Voi::linear(window.check(1.0)?), format!("window={window}"))
        }
        WindowChoice::MinMax => min_max(stored, &modality, padding, warnings),
        WindowChoice::File => {
            if let Some(windows) = options.ct_windows.windows()?
                && is_in_hu(header, frame, &modality, warnings)
            {
                return Ok(ct(stored, &modality, padding, windows));
            }
            let outputs = modality.outputs(inputs);
            match Voi::of_file(header, frame, outputs, warnings)? {
                Some(own) => own,
                None if range.is_some() => full_range(stored, outputs, warnings),
                None => {
                    let what =
                        "float values without a window: shown from the lowest to the highest";
                    warnings.push(what.into());
                    min_max(stored, &modality, padding, warnings)
                }
            }
        }
    };
    let is_inverse = is_inverse(header, stored.photometric, warnings);
    let level = |value| match voi.level(modality.apply(value)) {
        _ if padding.contains(value) => [0],
        level if is_inverse => [255 - level],
        level => [level],
    };
    Ok((1, levels::map(&stored.values, level), how))
}

/// All that can come out of the modality LUT. Of 8 bits that is what anyone would show.
fn full_range(
    stored: &Stored,
    (lower, upper): (f64, f64),
    warnings: &mut Vec<String>,
) -> (Voi, String) {
    if !matches!(stored.values, Values::U8(_) | Values::I8(_)) {
        let what = "no window in the file: all that the bits stored can hold is shown, which may be dark or flat; \
                    --window min-max shows the values that are there";
        warnings.push(what.into());
    }
    (Voi::Ramp { lower, upper }, "full-range".into())
}

/// From the lowest to the highest value of the modality in the frame.
fn min_max(
    stored: &Stored,
    modality: &Modality,
    padding: Padding,
    warnings: &mut Vec<String>,
) -> (Voi, String) {
    let value = |value| match padding.contains(value) {
        true => f64::NAN,
        false => modality.apply(value),
    };
    let (lower, upper) = levels::extremes(&stored.values, value).unwrap_or((0.0, 0.0));
    if lower == upper {
        warnings.push("no two different values in the picture: nothing to stretch".into());
    }
    (Voi::Ramp { lower, upper }, "min-max".into())
}

/// MONOCHROME1 shows the lowest value white (PS3.3 C.7.6.3.1.2), and Presentation LUT Shape INVERSE says the same of it
/// (C.8.11.3.1.3): together they turn the picture over once.
fn is_inverse(header: &Header, photometric: Photometric, warnings: &mut Vec<String>) -> bool {
    let is_low_white = photometric == Photometric::Monochrome1;
    let shape = header.dataset.text(tags::PRESENTATION_LUT_SHAPE);
    let is_contrary = match shape.as_deref() {
        Some("INVERSE") => !is_low_white,
        Some("IDENTITY") => is_low_white,
        _ => false,
    };
    if is_contrary {
        let what = "photometric interpretation and presentation LUT shape disagree: the picture is shown inverted";
        warnings.push(what.into());
    }
    is_low_white || is_contrary
}

/// CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage (PS3.4 B.5).
const CT_STORAGE: [&str; 3] = [
    uids::CT_IMAGE_STORAGE,
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
];

/// Whether the values are Hounsfield units: a CT image, or a rescaled one derived from it that has kept its depth.
fn is_in_hu(header: &Header, frame: u32, modality: &Modality, warnings: &mut Vec<String>) -> bool {
    if header.modality().as_deref() != Some("CT") {
        return false;
    }
    let class = header.dataset.text(tags::SOP_CLASS_UID).unwrap_or_default();
    let is_rescaled = !matches!(modality, Modality::None);
    let is_deep = header
        .dataset
        .integer(tags::BITS_STORED)
        .is_none_or(|bits| bits > 8);
    let is_derived = is_rescaled && is_deep;
    if !CT_STORAGE.contains(&class.as_str()) && !is_derived {
        return false;
    }
    let transformation = header.of_frame(frame, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
    let unit = match header.dataset.items(tags::MODALITY_LUT_SEQUENCE).first() {
        Some(item) => item.text(tags::MODALITY_LUT_TYPE),
        None => transformation.text(tags::RESCALE_TYPE),
    };
    if unit.is_some_and(|unit| !matches!(unit.as_str(), "HU" | "HU_MOD")) {
        let what = "CT values in another unit than HU: no CT windows, the file's own is shown";
        warnings.push(what.into());
        return false;
    }
    if !is_rescaled {
        warnings
            .push("CT without rescale slope and intercept: stored values are taken as HU".into());
    }
    true
}

/// One or three windows over Hounsfield units, without presentation: high values are bright.
fn ct(stored: &Stored, modality: &Modality, padding: Padding, windows: &[Window]) -> Gray {
    let how = format!("ct-windows={}", options::list(windows));
    let ramps: Vec<Voi> = windows
        .iter()
        .map(|window| Voi::linear_exact(*window))
        .collect();
    let level = |value, ramp: &Voi| match padding.contains(value) {
        true => 0,
        false => ramp.level(modality.apply(value)),
    };
    let samples = match &ramps[..] {
        [red, green, blue] => levels::map(&stored.values, |value| {
            [red, green, blue].map(|ramp| level(value, ramp))
        }),
        ramps => levels::map(&stored.values, |value| [level(value, &ramps[0])]),
    };
    (windows.len() as u8, samples, how)
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::super::testing::Case;
    use super::*;
    use crate::image::dicom::Values;

    fn frame() -> Case {
        Case::gray(8, Values::U8(vec![0, 100, 200, 255]))
    }

    fn windowed(center: &str, width: &str) -> Case {
        frame()
            .text(tags::WINDOW_CENTER, center)
            .text(tags::WINDOW_WIDTH, width)
    }

    #[test]
    fn malformed_attributes_are_refused_by_name() {
        let rescaled = |slope, intercept| {
            let case = frame().text(tags::RESCALE_SLOPE, slope);
            case.text(tags::RESCALE_INTERCEPT, intercept).refusal()
        };
        let slope = "BAD_IMAGE RescaleSlope (0028,1053): ";
        assert_eq!(
            rescaled("0", "1"),
            format!("{slope}expected another number than 0")
        );
        for text in ["inf", "nan", "1,5", "one", "1e999"] {
            assert_eq!(
                rescaled(text, "1"),
                format!("{slope}expected a finite number")
            );
        }
        assert_eq!(
            rescaled("", "1"),
            format!("{slope}missing beside an intercept")
        );
        assert_eq!(
            rescaled("1", ""),
            "BAD_IMAGE RescaleIntercept (0028,1052): missing beside a slope"
        );
        let width = "BAD_IMAGE WindowWidth (0028,1051): ";
        for text in ["0", "0.99", "-400"] {
            assert!(
                windowed("40", text)
                    .refusal()
                    .starts_with(&format!("{width}expected at least 1;"))
            );
        }
        for function in ["LINEAR_EXACT", "SIGMOID"] {
            let case = windowed("40", "0").text(tags::VOILUT_FUNCTION, function);
            assert!(
                case.refusal()
                    .starts_with(&format!("{width}expected above 0;"))
            );
        }
        assert_eq!(
            windowed("4O", "400").refusal(),
            "BAD_IMAGE WindowCenter (0028,1050): expected a finite number"
        );
        let function = windowed("40", "400")
            .text(tags::VOILUT_FUNCTION, "CUBIC")
            .refusal();
        assert!(
            function.starts_with("BAD_IMAGE VOILUTFunction (0028,1056): "),
            "{function}"
        );
        let bits = Case::gray(0, Values::U8(vec![0])).refusal();
        assert_eq!(bits, "BAD_IMAGE BitsStored (0028,0101): expected 1 to 32");
    }

    #[test]
    fn harmless_oddities_are_told() {
        let warned = |case: Case, what: &str| {
            let shown = case.show(&DisplayOptions::default()).unwrap();
            assert_eq!(shown.warnings.len(), 1, "{:?}", shown.warnings);
            assert!(shown.warnings[0].contains(what), "{:?}", shown.warnings);
            (shown.bytes(), shown.description)
        };
        let deep = Case::gray(12, Values::U16(vec![0, 4095]));
        assert_eq!(warned(deep, "--window min-max").1, "standard full-range");
        let shown = frame().show(&DisplayOptions::default()).unwrap();
        assert_eq!(shown.description, "standard full-range");
        assert!(shown.warnings.is_empty(), "8 bits are shown as they are");
        let palette = tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR;
        let supplemental = windowed("128", "256").with(palette, VR::US, 1_u16);
        assert_eq!(
            warned(supplemental, "supplemental palette").0,
            [0, 100, 200, 255]
        );
        let contrary = windowed("128", "256").text(tags::PRESENTATION_LUT_SHAPE, "INVERSE");
        assert_eq!(warned(contrary, "disagree").0, [255, 155, 55, 0]);
        let half = frame().text(tags::WINDOW_CENTER, "40");
        let shown = half.show(&DisplayOptions::default()).unwrap();
        assert!(
            shown.warnings[0].contains("width is missing"),
            "{:?}",
            shown.warnings
        );
    }

    #[test]
    fn monochrome1_and_its_shape_invert_once() {
        let inverse = || windowed("128", "256").photometric(Photometric::Monochrome1);
        let expected = (
            [255, 155, 55, 0].to_vec(),
            "standard window=128/256".to_owned(),
        );
        assert_eq!(inverse().standard(), expected);
        assert_eq!(
            inverse()
                .text(tags::PRESENTATION_LUT_SHAPE, "INVERSE")
                .standard(),
            expected
        );
    }

    #[test]
    fn the_choice_of_a_window_is_checked() {
        let shown = |options| frame().show(&options).map(|shown| shown.bytes());
        let options = |window: Window| DisplayOptions {
            window: WindowChoice::Window(window),
            ..Default::default()
        };
        assert_eq!(
            shown(options(Window::new(101.0, 1.0))).unwrap(),
            [0, 0, 255, 255]
        );
        for window in [
            Window::new(1.0, 0.5),
            Window::new(f64::NAN, 1.0),
            Window::new(0.0, f64::INFINITY),
        ] {
            assert_eq!(shown(options(window)).unwrap_err().code(), "BAD_ARGUMENT");
        }
        let two = super::super::CtWindows::Windows(vec![Window::new(1.0, 2.0); 2]);
        let options = DisplayOptions {
            ct_windows: two,
            ..Default::default()
        };
        assert_eq!(shown(options).unwrap_err().code(), "BAD_ARGUMENT");
    }

    #[test]
    fn a_frame_of_another_size_is_refused() {
        let mut case = frame();
        case.stored.rows = 2;
        assert!(
            case.refusal()
                .starts_with("BAD_IMAGE frame of MONOCHROME2: expected 8 values")
        );
        let mut case = frame();
        case.stored.channels = 3;
        assert!(case.refusal().starts_with("BAD_IMAGE"));
    }
}
