//! Levels and patches as the public serving container's requests name them.

use super::picture::picture_of;
use super::{Level, Picture, Slide, SlideInfo};
use crate::image::color::{IccTarget, IccTransform};
use crate::{Error, Result};

/// `openslide_pyramid_level` of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ContainerLevel {
    /// From 0, capped at the last level; negative: from the last level, capped at the first.
    Index(i64),
    /// The last level with both sides at least as large.
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The last level whose pixels are at most as large.
    PixelSpacing {
        /// Millimetres per pixel along x.
        width_mm: f64,
        /// Millimetres per pixel along y.
        height_mm: f64,
    },
}

/// One item of `patch_coordinates_list`, in pixels of the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the request's own names")]
pub struct Patch {
    pub x_origin: u32,
    pub y_origin: u32,
    pub width: u32,
    pub height: u32,
}

/// The level that a request means.
///
/// # Errors
/// `BAD_ARGUMENT` where no level is as large or as fine as asked (the container's LEVEL_NOT_FOUND_ERROR), or where a
/// spacing is asked of a slide that has none.
pub fn container_level(info: &SlideInfo, level: &ContainerLevel) -> Result<usize> {
    let last_with = |is_fit: &dyn Fn(&Level) -> bool| info.levels.iter().rposition(is_fit);
    let found = match *level {
        ContainerLevel::Index(index) => {
            let last = info.levels.len().saturating_sub(1) as i64;
            let index = if index < 0 {
                index.saturating_add(last + 1)
            } else {
                index
            };
            Some(index.clamp(0, last) as usize)
        }
        ContainerLevel::Size { width, height } => {
            last_with(&|l| l.width >= width && l.height >= height)
        }
        ContainerLevel::PixelSpacing {
            width_mm,
            height_mm,
        } => {
            let Some((x, y)) = info.mpp_xy else {
                return Err(Error::BadArgument(
                    "level by pixel spacing: the slide does not say its microns per pixel".into(),
                ));
            };
            let (width, height) = info.size();
            last_with(&|l| {
                let spacing = |mpp: f64, full: u32, side: u32| {
                    mpp / 1000.0 * f64::from(full) / f64::from(side.max(1))
                };
                spacing(x, width, l.width) <= width_mm && spacing(y, height, l.height) <= height_mm
            })
        }
    };
    found.ok_or_else(|| {
        Error::BadArgument("level: the slide has none as large or as fine as asked".into())
    })
}

/// Reads a patch of `level`; its corner is scaled to level 0 and rounded, as the container does.
///
/// # Errors
/// `BAD_ARGUMENT` where the patch is not wholly in the level, and as [`Slide::read`] and [`IccTransform::new`].
pub fn read_patch(
    slide: &dyn Slide,
    level: usize,
    patch: &Patch,
    icc: IccTarget,
) -> Result<Picture> {
    let info = slide.info();
    let is_within = |l: &&Level| {
        let fits = |at: u32, len: u32, side: u32| at.checked_add(len).is_some_and(|e| e <= side);
        fits(patch.x_origin, patch.width, l.width) && fits(patch.y_origin, patch.height, l.height)
    };
    let Some(of) = info.levels.get(level).filter(is_within) else {
        return Err(Error::BadArgument(format!(
            "patch of {}x{} at ({}, {}): expected one within level {level} of the slide",
            patch.width, patch.height, patch.x_origin, patch.y_origin
        )));
    };
    let at = |v: u32| (f64::from(v) * of.downsample).round() as u64;
    let (x, y) = (at(patch.x_origin), at(patch.y_origin));
    let mut rgb = slide.read(level, x, y, patch.width, patch.height)?;
    if let Some(transform) = IccTransform::of_slide(info, icc)? {
        transform.apply(&mut rgb)?;
    }
    picture_of(patch.width, patch.height, rgb)
}
