//! The rule `container`: what the public serving container makes of a DICOM file
//! (Google-Health/medsiglip, `generic_dicom_handler.py`), step by step, and what it refuses.
//!
//! 1. Refused: modalities but CR, DX, GM, SM, XC, CT; transfer syntaxes that it does not decode; more than one frame;
//!    PALETTE COLOR; native pixels in YBR. (Frames of whole slides go another way there: raw, MONOCHROME1 inverted.)
//! 2. CR and DX, gray: modality LUT or rescale; window; back to the stored type; unless that has 8 bits unsigned,
//!    stretched from the lowest to the highest value of the picture, truncated; MONOCHROME1 inverted.
//! 3. CT, gray: rescale, both or neither (a Modality LUT Sequence is not read); window; MONOCHROME1 inverted.
//! 4. GM, SM, XC and all colour: as stored.
//!
//! The window is the request's, else the file's, else for CT 100/2500, for the others none; a VOI LUT is not read. With
//! `half = floor(width / 2)` values are clipped to `center ∓ half`, scaled to 0..=65535 and rounded half to even.

use dicom_dictionary_std::{tags, uids};

use super::field::{bad, finite};
use super::modality::{Modality, stored_range};
use super::options::{DisplayOptions, Window, WindowChoice};
use super::{Shown, levels};
use crate::image::Samples;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;
use crate::image::dicom::{Photometric, Stored, Values};
use crate::{Error, Result};

/// A frame by the rule.
///
/// # Errors
/// `UNSUPPORTED` for what the container refuses or fails on, `BAD_ARGUMENT` where the window is not of whole numbers.
pub(super) fn show(header: &Header, stored: Stored, options: &DisplayOptions) -> Result<Shown> {
    let request = request_window(options.window)?;
    let modality = header.modality().unwrap_or_default();
    let is_slide = is_slide(header);
    if !is_slide {
        gate(header, &modality)?;
    }
    let channels = stored.channels;
    let is_inverse = stored.photometric == Photometric::Monochrome1;
    let (samples, how) = match modality.as_str() {
        _ if is_slide => (turned(raw(stored.values)?, is_inverse), "raw".into()),
        "CR" | "DX" if channels == 1 => {
            let (samples, how) = radiograph(header, &stored.values, request)?;
            (turned(samples, is_inverse), how)
        }
        "CT" if channels == 1 => {
            let (samples, how) = ct(header, &stored.values, request)?;
            (turned(samples, is_inverse), how)
        }
        _ => (raw(stored.values)?, "raw".into()),
    };
    Ok(Shown {
        channels,
        samples,
        description: format!("container {how}"),
        warnings: Vec::new(),
    })
}

fn refused(why: &str) -> Error {
    Error::Unsupported(format!("the container refuses {why}"))
}

/// The window of the request: whole numbers, width at least 1.
fn request_window(choice: WindowChoice) -> Result<Option<Window>> {
    match choice {
        WindowChoice::File => Ok(None),
        WindowChoice::Window(window)
            if window.center.fract() == 0.0 && window.width.fract() == 0.0 =>
        {
            window.check(1.0).map(Some)
        }
        _ => Err(Error::BadArgument(format!(
            "window: the container takes CENTER/WIDTH in whole numbers, got {choice}"
        ))),
    }
}

fn is_slide(header: &Header) -> bool {
    let class = header.dataset.text(tags::SOP_CLASS_UID);
    class.as_deref() == Some(uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE)
}

/// Native transfer syntaxes, then encapsulated ones.
const NATIVE: [&str; 3] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
];
const ENCAPSULATED: [&str; 11] = [
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::JPEGXL_LOSSLESS,
    uids::JPEGXLJPEG_RECOMPRESSION,
    uids::JPEGXL,
];

/// Everything that the container looks at before the pixels, in its order.
fn gate(header: &Header, modality: &str) -> Result<()> {
    if !matches!(modality, "CR" | "DX" | "GM" | "SM" | "XC" | "CT") {
        return Err(refused("modalities but CR, DX, GM, SM, XC and CT"));
    }
    let is_native = NATIVE.contains(&header.syntax.as_str());
    if !is_native && !ENCAPSULATED.contains(&header.syntax.as_str()) {
        return Err(refused(&format!("transfer syntax {}", header.syntax)));
    }
    let frames = header.dataset.integer(tags::NUMBER_OF_FRAMES);
    if frames.is_some_and(|frames| frames != 1) {
        return Err(refused("files of more than one frame"));
    }
    let photometric = header.dataset.text(tags::PHOTOMETRIC_INTERPRETATION);
    match photometric.as_deref() {
        Some("MONOCHROME1" | "MONOCHROME2" | "RGB") => Ok(()),
        Some("PALETTE COLOR") => Err(refused("PALETTE COLOR")),
        _ if is_native => Err(refused(
            "native pixels but MONOCHROME1, MONOCHROME2 and RGB",
        )),
        _ => Ok(()),
    }
}

/// The file's window. One attribute alone is none.
fn file_window(header: &Header) -> Result<Option<Window>> {
    let window = [tags::WINDOW_CENTER, tags::WINDOW_WIDTH];
    if !window.iter().all(|tag| header.dataset.has(*tag)) {
        return Ok(None);
    }
    if window
        .iter()
        .any(|tag| header.dataset.texts(*tag).len() > 1)
    {
        return Err(Error::Unsupported(
            "the container fails on files with more than one window".into(),
        ));
    }
    let number = |tag| {
        finite(&header.dataset, tag)?.ok_or_else(|| {
            Error::Unsupported("the container fails on files with an empty window".into())
        })
    };
    let [center, width] = [number(window[0])?, number(window[1])?];
    if width < 0.0 {
        return Err(bad(tags::WINDOW_WIDTH, "expected no negative number"));
    }
    Ok(Some(Window::new(center, width)))
}

/// `interp(clip(x, lower, upper), [lower, upper], [0, 65535])`, rounded half to even.
fn windowed(x: f64, Window { center, width }: Window) -> u16 {
    let half = (width / 2.0).floor();
    interpolated(x, (center - half, center + half), 65_535.0).round_ties_even() as u16
}

/// `numpy.interp` of the clipped value, from `lower..=upper` to `0..=top`; of a range of one value it gives the top.
fn interpolated(x: f64, (lower, upper): (f64, f64), top: f64) -> f64 {
    match x {
        x if x >= upper || lower == upper => top,
        x if x <= lower => 0.0,
        x => top / (upper - lower) * (x - lower),
    }
}

fn ct(header: &Header, values: &Values, request: Option<Window>) -> Result<(Samples, String)> {
    let [slope, intercept] = [tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT];
    let [has_slope, has_intercept] = [slope, intercept].map(|tag| header.dataset.has(tag));
    if has_slope != has_intercept {
        return Err(refused("CT with one of rescale slope and intercept alone"));
    }
    let rescale = rescale(header)?;
    let window = match request {
        Some(window) => window,
        None => file_window(header)?.unwrap_or(Window::new(100.0, 2500.0)),
    };
    let samples = levels::map(values, |value| [windowed(rescale.apply(value), window)]);
    Ok((Samples::U16(samples), format!("window={window}")))
}

/// Slope and intercept of the file's top where both are there.
fn rescale(header: &Header) -> Result<Modality> {
    let slope = finite(&header.dataset, tags::RESCALE_SLOPE)?;
    let intercept = finite(&header.dataset, tags::RESCALE_INTERCEPT)?;
    Ok(match (slope, intercept) {
        (Some(slope), Some(intercept)) => Modality::Rescale { slope, intercept },
        _ => Modality::None,
    })
}

fn radiograph(
    header: &Header,
    values: &Values,
    request: Option<Window>,
) -> Result<(Samples, String)> {
    let modality = match header.dataset.has(tags::MODALITY_LUT_SEQUENCE) {
        true => {
            let inputs = stored_range(header, values)?.unwrap_or_default();
            Modality::read(header, 0, inputs, &mut Vec::new())?
        }
        false => rescale(header)?,
    };
    let window = match request {
        Some(window) => Some(window),
        None => file_window(header)?,
    };
    let Some(window) = window else {
        let values = match modality {
            Modality::None => values.clone(),
            Modality::Rescale { .. } => cast_back(values, &modality)?,
            Modality::Lut { lut, bits: 8 } => {
                Values::U8(levels::map(values, |value| [lut.at(value) as u8]))
            }
            Modality::Lut { lut, .. } => Values::U16(levels::map(values, |value| [lut.at(value)])),
        };
        let how = if matches!(values, Values::U8(_)) {
            "raw"
        } else {
            "min-max"
        };
        return Ok((stretched(values)?, how.into()));
    };
    let windowed = levels::map(values, |value| [windowed(modality.apply(value), window)]);
    Ok((
        stretched(Values::U16(windowed))?,
        format!("window={window} min-max"),
    ))
}

/// Rescaled, and cast to the type that is stored: truncated, what does not fit wraps.
fn cast_back(values: &Values, modality: &Modality) -> Result<Values> {
    let whole = |value| modality.apply(value) as i64;
    Ok(match values {
        Values::U8(_) => Values::U8(levels::map(values, |value| [whole(value) as u8])),
        Values::I8(_) => Values::I8(levels::map(values, |value| [whole(value) as i8])),
        Values::U16(_) => Values::U16(levels::map(values, |value| [whole(value) as u16])),
        Values::I16(_) => Values::I16(levels::map(values, |value| [whole(value) as i16])),
        _ => return Err(too_deep()),
    })
}

fn too_deep() -> Error {
    Error::Unsupported(
        "the container gives no picture of 32-bit or float values without a window".into(),
    )
}

/// From the lowest to the highest value, over the whole range of the unsigned type; 8 bits unsigned stay.
fn stretched(values: Values) -> Result<Samples> {
    let range = levels::extremes(&values, |value| value).unwrap_or_default();
    let stretched = |value, top| interpolated(value, range, top);
    Ok(match values {
        Values::U8(samples) => Samples::U8(samples),
        Values::I8(_) => Samples::U8(levels::map(
            &values,
            |value| [stretched(value, 255.0) as u8],
        )),
        Values::U16(_) | Values::I16(_) => Samples::U16(levels::map(&values, |value| {
            [stretched(value, 65_535.0) as u16]
        })),
        _ => return Err(too_deep()),
    })
}

/// As stored.
fn raw(values: Values) -> Result<Samples> {
    match values {
        Values::U8(samples) => Ok(Samples::U8(samples)),
        Values::U16(samples) => Ok(Samples::U16(samples)),
        _ => Err(Error::Unsupported(
            "the container shows signed, 32-bit and float values of this modality as they are: no picture".into(),
        )),
    }
}

fn turned(mut samples: Samples, is_inverse: bool) -> Samples {
    if is_inverse {
        match &mut samples {
            Samples::U8(samples) => samples.iter_mut().for_each(|sample| *sample = !*sample),
            Samples::U16(samples) => samples.iter_mut().for_each(|sample| *sample = !*sample),
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::super::DisplayRule;
    use super::super::testing::Case;
    use super::*;

    fn container(case: Case, window: &str) -> Result<Shown> {
        case.show(&DisplayOptions {
            rule: DisplayRule::Container,
            window: window.parse().unwrap(),
            ..Default::default()
        })
    }

    fn ct(values: Vec<i16>) -> Case {
        let case = Case::gray(16, Values::I16(values)).photometric(Photometric::Monochrome2);
        let case = case
            .text(tags::MODALITY, "CT")
            .text(tags::RESCALE_SLOPE, "1");
        case.text(tags::RESCALE_INTERCEPT, "0")
    }

    #[test]
    fn the_default_window_gives_the_container_s_own_numbers() {
        let hu = (-2000..=2000).step_by(500).collect();
        let shown = container(ct(hu), "file").unwrap();
        let expected = [0, 0, 3932, 17_039, 30_146, 43_253, 56_360, 65_535, 65_535];
        assert_eq!(shown.samples, Samples::U16(expected.to_vec()));
        assert_eq!(shown.description, "container window=100/2500");
    }

    #[test]
    fn windows_of_requests_are_whole_numbers() {
        for window in ["40.5/400", "40/400.5", "40/0.5", "min-max"] {
            assert_eq!(
                container(ct(vec![0]), window).unwrap_err().code(),
                "BAD_ARGUMENT",
                "{window}"
            );
        }
    }

    #[test]
    fn refusals_say_whose_they_are() {
        let refused = |case| {
            let error = container(case, "file").unwrap_err();
            format!("{} {error}", error.code())
        };
        let modality = ct(vec![0]).text(tags::MODALITY, "MR");
        assert_eq!(
            refused(modality),
            "UNSUPPORTED the container refuses modalities but CR, DX, GM, SM, XC and CT"
        );
        let mut syntax = ct(vec![0]);
        syntax.header.syntax = uids::RLE_LOSSLESS.into();
        assert_eq!(
            refused(syntax),
            "UNSUPPORTED the container refuses transfer syntax 1.2.840.10008.1.2.5"
        );
        let frames = ct(vec![0]).text(tags::NUMBER_OF_FRAMES, "2");
        assert_eq!(
            refused(frames),
            "UNSUPPORTED the container refuses files of more than one frame"
        );
        let windows = ct(vec![0])
            .text(tags::WINDOW_WIDTH, "400")
            .text(tags::WINDOW_CENTER, "");
        assert_eq!(
            refused(windows),
            "UNSUPPORTED the container fails on files with an empty window"
        );
        let negative = ct(vec![0])
            .text(tags::WINDOW_WIDTH, "-4")
            .text(tags::WINDOW_CENTER, "0");
        assert!(refused(negative).starts_with("BAD_IMAGE WindowWidth (0028,1051)"));
    }
}
