//! Colours from the space of an ICC profile to a named one.

use std::str::FromStr;
use std::sync::Arc;

use moxcms::{
    ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor, TransformOptions,
};

use super::slide::SlideInfo;
use crate::{Error, Result};

/// The colour space that RGB pixels are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IccTarget {
    /// As stored: the public container's default.
    #[default]
    None,
    /// sRGB (IEC 61966-2-1).
    Srgb,
    /// Adobe RGB (1998).
    AdobeRgb,
    /// ROMM RGB (ISO 22028-2), also called ProPhoto RGB.
    RommRgb,
    /// Display P3.
    DisplayP3,
}

impl IccTarget {
    /// All targets.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::Srgb,
        Self::AdobeRgb,
        Self::RommRgb,
        Self::DisplayP3,
    ];

    /// The name in the container's requests, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Srgb => "srgb",
            Self::AdobeRgb => "adobergb",
            Self::RommRgb => "rommrgb",
            Self::DisplayP3 => "displayp3",
        }
    }
}

impl FromStr for IccTarget {
    type Err = Error;

    /// In upper or lower case.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` for other names.
    fn from_str(name: &str) -> Result<Self> {
        let name = name.to_ascii_lowercase();
        crate::named::parse("icc target", &Self::ALL, Self::name, &name)
    }
}

/// Brings RGB pixels from the space of a profile to a named one, with perceptual intent.
///
/// Beside LittleCMS, which the serving container uses (`scripts/compare_icc.py`): with matrix profiles, as scanners write
/// them, at most 1 in 5,000 samples of a real slide differ by more than one step, by up to 6; of random pixels up to 1.2 %.
/// Version 4 profiles with perceptual tables differ by up to 8 steps on a real slide, half of the samples by more than
/// one. The container's `SRGB` is the ICC's own such profile (sRGB v4 preference); ours is sRGB as IEC 61966-2-1 defines it.
#[derive(Clone)]
pub struct IccTransform {
    target: IccTarget,
    transform: Arc<Transform8BitExecutor>,
}

impl IccTransform {
    /// A transform from the space of `profile` (the bytes of an ICC.1 or ICC.2 profile) to `target`; `None` for
    /// [`IccTarget::None`].
    ///
    /// # Errors
    /// `BAD_IMAGE` where the profile is damaged or is none of RGB (the container's
    /// INVALID_ICC_PROFILE_TRANSFORM_ERROR).
    pub fn new(profile: &[u8], target: IccTarget) -> Result<Option<Self>> {
        let to = match target {
            IccTarget::None => return Ok(None),
            IccTarget::Srgb => ColorProfile::new_srgb(),
            IccTarget::AdobeRgb => ColorProfile::new_adobe_rgb(),
            IccTarget::RommRgb => ColorProfile::new_pro_photo_rgb(),
            IccTarget::DisplayP3 => ColorProfile::new_display_p3(),
        };
        let from = ColorProfile::new_from_slice(profile);
        let from = from.map_err(|_| Error::BadImage("icc profile: damaged".into()))?;
        if from.color_space != DataColorSpace::Rgb {
            return Err(Error::BadImage(
                "icc profile: expected one of RGB pixels".into(),
            ));
        }
        let options = TransformOptions {
            rendering_intent: RenderingIntent::Perceptual,
            ..TransformOptions::default()
        };
        let transform = from
            .create_transform_8bit(Layout::Rgb, &to, Layout::Rgb, options)
            .map_err(|_| {
                Error::BadImage(format!("icc profile: gives no way to {}", target.name()))
            })?;
        Ok(Some(Self { target, transform }))
    }

    /// As [`IccTransform::new`]; `None` too where the slide has no profile: its pixels stay as they are, as in the
    /// container.
    pub(super) fn of_slide(info: &SlideInfo, target: IccTarget) -> Result<Option<Self>> {
        match &info.icc_profile {
            Some(profile) => Self::new(profile, target),
            None => Ok(None),
        }
    }

    /// Where it leads.
    pub fn target(&self) -> IccTarget {
        self.target
    }

    /// Transforms pixels in place.
    ///
    /// # Shapes
    /// `rgb` is (n, 3).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `rgb` is not a multiple of three long.
    pub fn apply(&self, rgb: &mut [u8]) -> Result<()> {
        let source = rgb.to_vec();
        let done = self.transform.transform(&source, rgb);
        done.map_err(|_| Error::BadArgument("icc transform: expected RGB pixels".into()))
    }
}

impl std::fmt::Debug for IccTransform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IccTransform")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours, and what LittleCMS 2.16 (Pillow 11.2.1) makes of them as Adobe RGB, with perceptual intent.
    #[test]
    #[rustfmt::skip]
    fn colors_are_those_of_littlecms() {
        let colors = [0, 0, 0, 255, 255, 255, 128, 128, 128, 200, 120, 160, 110, 70, 140, 240, 235, 245, 30, 200, 90, 255, 0, 0];
        let profile = ColorProfile::new_adobe_rgb().encode().unwrap();
        for (target, expected) in [
            (IccTarget::Srgb, [0, 0, 0, 255, 255, 255, 129, 129, 129, 224, 121, 163, 123, 68, 143, 242, 236, 246, 0, 201, 80, 255, 0, 0]),
            (IccTarget::AdobeRgb, colors),
            (IccTarget::DisplayP3, [0, 0, 0, 255, 255, 255, 129, 129, 129, 210, 126, 162, 115, 71, 139, 241, 236, 245, 0, 197, 94, 255, 61, 43]),
            (IccTarget::RommRgb, [0, 0, 0, 255, 255, 255, 110, 110, 110, 175, 118, 143, 93, 62, 118, 237, 232, 242, 66, 172, 84, 216, 85, 32]),
        ] {
            let mut rgb = colors;
            IccTransform::new(&profile, target).unwrap().unwrap().apply(&mut rgb).unwrap();
            for (got, want) in rgb.iter().zip(expected) {
                assert!(got.abs_diff(want) <= 1, "{target:?}: {rgb:?}");
            }
        }
    }

    #[test]
    fn profiles_that_are_none_are_refused() {
        let profile = ColorProfile::new_srgb().encode().unwrap();
        assert!(
            IccTransform::new(b"nonsense", IccTarget::None)
                .unwrap()
                .is_none()
        );
        let gray = ColorProfile::new_gray_with_gamma(2.2).encode().unwrap();
        for bytes in [&b""[..], b"nonsense", &profile[..140], &gray] {
            let error = IccTransform::new(bytes, IccTarget::Srgb).unwrap_err();
            assert_eq!(error.code(), "BAD_IMAGE");
        }
        for cut in 0..profile.len() {
            let mut damaged = profile.clone();
            damaged[cut] ^= 0xA5;
            for bytes in [&profile[..cut], &damaged] {
                if let Ok(Some(transform)) = IccTransform::new(bytes, IccTarget::Srgb) {
                    transform.apply(&mut [1, 2, 3]).unwrap();
                }
            }
        }
        let transform = IccTransform::new(&profile, IccTarget::DisplayP3)
            .unwrap()
            .unwrap();
        assert_eq!(
            transform.apply(&mut [1, 2]).unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }

    #[test]
    fn names_are_the_containers() {
        for target in IccTarget::ALL {
            assert_eq!(
                target.name().to_uppercase().parse::<IccTarget>().unwrap(),
                target
            );
        }
        assert_eq!(
            "cmyk".parse::<IccTarget>().unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}
