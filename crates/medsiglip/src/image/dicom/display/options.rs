//! The options of display by their names.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, named};

/// How stored values become a picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DisplayOptions {
    /// The rule.
    pub rule: DisplayRule,
    /// Windows of CT images under [`DisplayRule::Standard`].
    pub ct_windows: CtWindows,
    /// What to show in place of the file's window and of `ct_windows`, in gray.
    pub window: WindowChoice,
}

/// Which display rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DisplayRule {
    /// `standard`: the DICOM display pipeline (PS3.4 annex N.2, PS3.3 C.11).
    #[default]
    Standard,
    /// `container`: the public serving container, rule for rule.
    Container,
}

impl DisplayRule {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Container];

    /// The rule's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Container => "container",
        }
    }
}

impl fmt::Display for DisplayRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DisplayRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named::parse("display rule", &Self::ALL, Self::name, name)
    }
}

/// Window center and width, in output units of the modality LUT (CT: HU).
///
/// Written `CENTER/WIDTH`, or by the name of one of [`Window::PRESETS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Window Center (0028,1050).
    pub center: f64,
    /// Window Width (0028,1051), above 0.
    pub width: f64,
}

impl Window {
    /// The usual windows of radiology for CT, in HU, by name (values of Radiopaedia, "Windowing (CT)").
    ///
    /// | name | center | width |
    /// |---|---|---|
    /// | `lung` | -600 | 1500 |
    /// | `mediastinum` | 50 | 350 |
    /// | `soft-tissue` | 50 | 400 |
    /// | `liver` | 30 | 150 |
    /// | `bone` | 400 | 1800 |
    /// | `temporal-bone` | 600 | 2800 |
    /// | `brain` | 40 | 80 |
    /// | `stroke` | 40 | 40 |
    /// | `subdural` | 75 | 215 |
    pub const PRESETS: [(&'static str, Self); 9] = [
        ("lung", Self::new(-600.0, 1500.0)),
        ("mediastinum", Self::new(50.0, 350.0)),
        ("soft-tissue", Self::new(50.0, 400.0)),
        ("liver", Self::new(30.0, 150.0)),
        ("bone", Self::new(400.0, 1800.0)),
        ("temporal-bone", Self::new(600.0, 2800.0)),
        ("brain", Self::new(40.0, 80.0)),
        ("stroke", Self::new(40.0, 40.0)),
        ("subdural", Self::new(75.0, 215.0)),
    ];

    pub(super) const fn new(center: f64, width: f64) -> Self {
        Self { center, width }
    }

    /// # Errors
    /// `BAD_ARGUMENT` where a number is not finite or the width is below `least`, or 0.
    pub(super) fn check(self, least: f64) -> Result<Self> {
        let is_valid = self.center.is_finite() && self.width.is_finite();
        if is_valid && self.width > 0.0 && self.width >= least {
            return Ok(self);
        }
        let bound = if least > 0.0 {
            format!("of at least {least}")
        } else {
            "above 0".into()
        };
        Err(Error::BadArgument(format!(
            "window: expected finite numbers and a width {bound}, got {self}"
        )))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.center, self.width)
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((_, window)) = Self::PRESETS.iter().find(|(name, _)| *name == text) {
            return Ok(*window);
        }
        let window = text.split_once('/').and_then(|(center, width)| {
            Some(Self::new(
                center.trim().parse().ok()?,
                width.trim().parse().ok()?,
            ))
        });
        let window = window.ok_or_else(|| {
            let names = Self::PRESETS.map(|(name, _)| name).join(", ");
            Error::BadArgument(format!(
                "window: expected CENTER/WIDTH or one of {names}, got {text}"
            ))
        })?;
        window.check(0.0)
    }
}

/// What is shown of gray values: `file`, `min-max`, or a [`Window`] as it is written there.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum WindowChoice {
    /// `file`: what the file says; for CT, what [`CtWindows`] says.
    #[default]
    File,
    /// `min-max`: from the lowest to the highest value of the frame, padding excluded.
    MinMax,
    /// A window, applied as LINEAR (PS3.3 C.11.2.1.2).
    Window(Window),
}

impl fmt::Display for WindowChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.pad("file"),
            Self::MinMax => f.pad("min-max"),
            Self::Window(window) => window.fmt(f),
        }
    }
}

impl FromStr for WindowChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "file" => Ok(Self::File),
            "min-max" => Ok(Self::MinMax),
            _ => text.parse().map(Self::Window),
        }
    }
}

/// Windows of CT images in Hounsfield units: `medsiglip`, `gray`, or one or three [`Window`]s with commas between.
///
/// A window is clip and scale, `[center - width / 2, center + width / 2]` to 0..=255.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum CtWindows {
    /// `medsiglip`: [`CtWindows::MEDSIGLIP`] as RGB.
    #[default]
    Medsiglip,
    /// `gray`: the file's own window, gray, as for other modalities.
    Gray,
    /// One (gray) or three (RGB) windows.
    Windows(Vec<Window>),
}

impl CtWindows {
    /// The training windows of the MedGemma Technical Report (arXiv 2507.05201): R [-1225, 1025], G [-135, 215],
    /// B [0, 80] HU.
    pub const MEDSIGLIP: [Window; 3] = [
        Window::new(-100.0, 2250.0),
        Window::new(40.0, 350.0),
        Window::new(40.0, 80.0),
    ];

    /// The windows, checked; `None` for the file's own.
    pub(super) fn windows(&self) -> Result<Option<&[Window]>> {
        match self {
            Self::Medsiglip => Ok(Some(&Self::MEDSIGLIP)),
            Self::Gray => Ok(None),
            Self::Windows(windows) => {
                if !matches!(windows.len(), 1 | 3) {
                    let got = windows.len();
                    return Err(Error::BadArgument(format!(
                        "CT windows: expected 1 or 3, got {got}"
                    )));
                }
                windows
                    .iter()
                    .try_for_each(|window| window.check(0.0).map(|_| ()))?;
                Ok(Some(windows))
            }
        }
    }
}

impl fmt::Display for CtWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medsiglip => f.pad("medsiglip"),
            Self::Gray => f.pad("gray"),
            Self::Windows(windows) => f.write_str(&list(windows)),
        }
    }
}

/// `CENTER/WIDTH,CENTER/WIDTH`.
pub(super) fn list(windows: &[Window]) -> String {
    let windows: Vec<String> = windows.iter().map(Window::to_string).collect();
    windows.join(",")
}

impl FromStr for CtWindows {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "medsiglip" => return Ok(Self::Medsiglip),
            "gray" => return Ok(Self::Gray),
            _ => {}
        }
        let windows = text.split(',').map(|window| window.trim().parse());
        let windows = Self::Windows(windows.collect::<Result<_>>()?);
        windows.windows()?;
        Ok(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_written_by_name() {
        for name in ["standard", "container"] {
            assert_eq!(name.parse::<DisplayRule>().unwrap().to_string(), name);
        }
        for name in ["file", "min-max", "40/400", "-0.5/2.5"] {
            assert_eq!(name.parse::<WindowChoice>().unwrap().to_string(), name);
        }
        for name in ["medsiglip", "gray", "40/80", "-600/1500,40/80,50/350"] {
            assert_eq!(name.parse::<CtWindows>().unwrap().to_string(), name);
        }
        assert_eq!(
            "lung".parse::<WindowChoice>().unwrap().to_string(),
            "-600/1500"
        );
        let mixed: CtWindows = "lung, mediastinum,40/80".parse().unwrap();
        assert_eq!(mixed.to_string(), "-600/1500,50/350,40/80");
    }

    #[test]
    fn wrong_options_are_refused() {
        let wrong = [
            "",
            "40",
            "40/0",
            "40/-1",
            "nan/1",
            "1/inf",
            "lungs",
            "40/80/1",
            "40/80,40/80",
        ];
        for text in wrong
            .into_iter()
            .chain(["medsiglip,lung,bone", "lung,bone,", ","])
        {
            assert_eq!(
                text.parse::<CtWindows>().unwrap_err().code(),
                "BAD_ARGUMENT",
                "{text}"
            );
        }
        assert_eq!(
            "x".parse::<DisplayRule>().unwrap_err().code(),
            "BAD_ARGUMENT"
        );
        assert_eq!(
            "minmax".parse::<WindowChoice>().unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }

    #[test]
    fn training_windows_are_those_of_the_report() {
        let bounds =
            CtWindows::MEDSIGLIP.map(|w| (w.center - w.width / 2.0, w.center + w.width / 2.0));
        assert_eq!(bounds, [(-1225.0, 1025.0), (-135.0, 215.0), (0.0, 80.0)]);
    }
}
