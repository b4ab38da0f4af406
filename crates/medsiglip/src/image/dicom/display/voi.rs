//! The values of interest: values of the modality to levels (PS3.3 C.11.2; per frame C.7.6.16.2.10).

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::field::{bad, finite};
use super::lut::{self, Lut};
use super::options::Window;
use crate::Result;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;

/// A way from values of the modality to levels 0..=255.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Voi {
    /// A straight line between two values: all the linear functions.
    Ramp { lower: f64, upper: f64 },
    /// C.11.2.1.3.1.
    Sigmoid(Window),
    /// A VOI LUT.
    Lut(Lut<u8>),
}

impl Voi {
    /// LINEAR, C.11.2.1.2. The width is at least 1.
    pub fn linear(window: Window) -> Self {
        let center = window.center - 0.5;
        let half = (window.width - 1.0) / 2.0;
        Self::Ramp {
            lower: center - half,
            upper: center + half,
        }
    }

    /// LINEAR_EXACT, C.11.2.1.3.2: clip and scale.
    pub fn linear_exact(window: Window) -> Self {
        Self::Ramp {
            lower: window.center - window.width / 2.0,
            upper: window.center + window.width / 2.0,
        }
    }

    /// The level of a value.
    pub fn level(&self, x: f64) -> u8 {
        match *self {
            Self::Ramp { lower, .. } if x <= lower => 0,
            Self::Ramp { upper, .. } if x > upper => 255,
            Self::Ramp { lower, upper } => rounded((x - lower) * 255.0 / (upper - lower)),
            Self::Sigmoid(Window { center, width }) => {
                rounded(255.0 / (1.0 + (-4.0 * (x - center) / width).exp()))
            }
            Self::Lut(ref lut) => lut.at(x),
        }
    }

    /// The first VOI LUT, else the first window, and its part of the description; `None` where there is neither.
    /// `inputs` are the lowest and highest value of the modality.
    ///
    /// # Errors
    /// `BAD_IMAGE` where what is to be used is malformed.
    pub fn of_file(
        header: &Header,
        frame: u32,
        inputs: (f64, f64),
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Self, String)>> {
        let dataset = header.of_frame(frame, tags::FRAME_VOILUT_SEQUENCE);
        if let Some(item) = dataset.items(tags::VOILUT_SEQUENCE).first() {
            let (lut, descriptor) =
                lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, inputs, warnings)?;
            let highest = descriptor.highest();
            let entries = lut.entries();
            if entries.len() >= 256 && entries.iter().all(|entry| *entry <= highest / 2) {
                warnings.push(
                    "the VOI LUT uses less than half of the range that its descriptor says: the picture is dark; \
                     another window can be shown instead (--window)"
                        .into(),
                );
            }
            let highest = f64::from(highest);
            let lut = lut.map(|entry| rounded(f64::from(entry) * 255.0 / highest));
            return Ok(Some((Self::Lut(lut), "voi-lut".into())));
        }
        let center = finite(dataset, tags::WINDOW_CENTER)?;
        let width = finite(dataset, tags::WINDOW_WIDTH)?;
        match (center, width) {
            (Some(center), Some(width)) => {
                Self::window(dataset, Window::new(center, width)).map(Some)
            }
            (None, None) => Ok(None),
            _ => {
                warnings.push("window center or width is missing; the other is ignored".into());
                Ok(None)
            }
        }
    }

    fn window(dataset: &InMemDicomObject, window: Window) -> Result<(Self, String)> {
        let function = dataset.text(tags::VOILUT_FUNCTION).unwrap_or_default();
        let is_wide_enough = |width: f64| match width {
            least if least < 1.0 => window.width > 0.0,
            least => window.width >= least,
        };
        let (voi, least, suffix) = match function.to_uppercase().as_str() {
            "" | "LINEAR" => (Self::linear(window), 1.0, ""),
            "LINEAR_EXACT" => (Self::linear_exact(window), 0.0, " linear-exact"),
            "SIGMOID" => (Self::Sigmoid(window), 0.0, " sigmoid"),
            _ => {
                return Err(bad(
                    tags::VOILUT_FUNCTION,
                    "expected LINEAR, LINEAR_EXACT or SIGMOID",
                ));
            }
        };
        if !is_wide_enough(least) {
            let expected = if least > 0.0 { "at least 1" } else { "above 0" };
            let hint = "a window of your own can be shown instead (--window)";
            return Err(bad(
                tags::WINDOW_WIDTH,
                &format!("expected {expected}; {hint}"),
            ));
        }
        Ok((voi, format!("window={window}{suffix}")))
    }
}

/// To nearest, half up, of numbers not below 0. A half that came out a little low is still one, so that the order of
/// operations does not show.
pub(super) fn rounded(level: f64) -> u8 {
    (level + (0.5 + 1e-9)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(voi: &Voi) -> (f64, f64) {
        match *voi {
            Voi::Ramp { lower, upper } => (lower, upper),
            _ => panic!(),
        }
    }

    #[test]
    fn linear_is_as_the_examples_of_the_standard() {
        // C.11.2.1.2.1: (2048, 4096), (2048, 1), (0, 100), (0, 1)
        let linear = |center, width| Voi::linear(Window::new(center, width));
        assert_eq!(bounds(&linear(2048.0, 4096.0)), (0.0, 4095.0));
        assert_eq!(bounds(&linear(2048.0, 1.0)), (2047.5, 2047.5));
        assert_eq!(bounds(&linear(0.0, 100.0)), (-50.0, 49.0));
        assert_eq!(bounds(&linear(0.0, 1.0)), (-0.5, -0.5));
        let step = linear(2048.0, 1.0);
        assert_eq!([2047.0, 2048.0].map(|x| step.level(x)), [0, 255]);
        // ((x + 0.5) / 99 + 0.5) * 255
        let line = linear(0.0, 100.0);
        let levels = [-51.0, -50.0, -49.0, -0.5, 0.0, 48.0, 49.0, 50.0].map(|x| line.level(x));
        assert_eq!(levels, [0, 0, 3, 128, 129, 252, 255, 255]);
    }

    #[test]
    fn halves_go_up_in_every_order_of_operations() {
        // x / 2 for x from 0 to 510
        let exact = Voi::linear_exact(Window::new(255.0, 510.0));
        for x in 0..=510 {
            assert_eq!(i32::from(exact.level(f64::from(x))), (x + 1) / 2, "{x}");
        }
        let noisy = Voi::Ramp {
            lower: 0.1 * 3.0 - 0.3, // a little above 0
            upper: 510.0,
        };
        assert_eq!(noisy.level(3.0), 2);
    }

    #[test]
    fn sigmoid_is_half_way_at_the_center() {
        let sigmoid = Voi::Sigmoid(Window::new(40.0, 400.0));
        // 255 / (1 + exp(∓4 / 2)) at center ± width / 2
        assert_eq!(
            [-160.0, 40.0, 240.0].map(|x| sigmoid.level(x)),
            [30, 128, 225]
        );
        assert_eq!([-1e9, 1e9].map(|x| sigmoid.level(x)), [0, 255]);
    }
}
