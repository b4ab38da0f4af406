//! Whole slides: pyramids of levels, cut into tiles.
//!
//! [`open`] gives a [`Slide`], whatever the file; [`Tiling::plan`] lays a grid of tiles over its tissue, and
//! [`Tiling::tile`] reads one of them as a [`Picture`].

mod dicom_wsi;
#[cfg(feature = "slide")]
mod openslide;
mod picture;
mod reduce;
mod tissue;
mod tiling;
mod overview;
mod container;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub use container::{ContainerLevel, Patch, container_level, read_patch};
pub use picture::PictureSlide;
pub use reduce::thumbnail;
pub use tiling::{Scale, TileOptions, Tiling};
pub use tissue::{TissueMask, TissueOptions};

use super::tiff::slide_maker_of;
use super::{Kind, Limits, Picture, SNIFF_BYTES, sniff};
use crate::{Error, Result};

/// A picture in several sizes, of which any part can be read without the rest.
///
/// Reads may come from several threads at once.
pub trait Slide: Send + Sync {
    /// What is known before a pixel is read.
    fn info(&self) -> &SlideInfo;

    /// Reads a part of `level`: `x` and `y` are its top left corner in pixels of level 0, `width` and `height`
    /// are in pixels of `level`, as in OpenSlide's `read_region`. What lies outside of the slide, or was never
    /// scanned, is [`SlideInfo::background`].
    ///
    /// # Shapes
    /// The result is (height, width, 3), 8 bits, RGB.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no such level or a side is zero, `LIMIT_EXCEEDED`, `BAD_IMAGE`, `IO_ERROR`.
    fn read(&self, level: usize, x: u64, y: u64, width: u32, height: u32) -> Result<Vec<u8>>;
}

/// What is known of a slide before a pixel is read. Nothing in it identifies a patient.
#[derive(Debug, Clone, PartialEq)]
pub struct SlideInfo {
    /// Who wrote the file, as OpenSlide's `openslide.vendor` (`aperio`, `hamamatsu`, `generic-tiff`...), `dicom`,
    /// or the format of a plain picture (`png`, `jpeg`...).
    pub format: String,
    /// What reads it: `openslide 4.0.0`, `dicom` or `picture`.
    pub reader: String,
    /// The levels, finest first; at least one.
    pub levels: Vec<Level>,
    /// Microns per pixel of level 0 along x and y; `None` where the file does not say, or says nonsense.
    pub mpp_xy: Option<(f64, f64)>,
    /// Magnification of the objective.
    pub objective_power: Option<f64>,
    /// The ICC profile of the pixels that [`Slide::read`] gives.
    pub icc_profile: Option<Vec<u8>>,
    /// What stands where nothing was scanned: RGB.
    pub background: [u8; 3],
    /// What was odd, for a person to read.
    pub warnings: Vec<String>,
}

impl SlideInfo {
    /// Microns per pixel of level 0: the mean of x and y.
    pub fn mpp(&self) -> Option<f64> {
        self.mpp_xy.map(|(x, y)| (x + y) / 2.0)
    }

    /// Takes microns per pixel along x and y, where they are plausible: 1 nm to 1 mm.
    fn set_mpp(&mut self, x: Option<f64>, y: Option<f64>) {
        let (Some(x), Some(y)) = (x, y) else {
            return;
        };
        if [x, y].iter().all(|mpp| (0.02..=1000.0).contains(mpp)) {
            self.mpp_xy = Some((x, y));
        } else {
            let warning = "the microns per pixel that the file gives cannot be and were dropped";
            self.warnings.push(warning.into());
        }
    }

    /// Width and height of level 0 in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.levels.first().map_or((0, 0), |l| (l.width, l.height))
    }
}

/// One size of a slide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How many pixels of level 0 one pixel spans: the mean of both sides' ratios, as OpenSlide has it.
    pub downsample: f64,
}

/// Opens the slide at `path`: DICOM whole slides by our own reader, everything else that OpenSlide knows by
/// OpenSlide where it is installed, and plain pictures (PNG, JPEG, TIFF...) as slides of one level.
///
/// # Errors
/// `IO_ERROR`, `BAD_IMAGE`, `LIMIT_EXCEEDED`; `UNSUPPORTED` for a slide that needs OpenSlide where there is none,
/// with the ways to install it.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Box<dyn Slide>> {
    let path = path.as_ref();
    let kind = kind(path)?;
    if kind == Kind::Dicom {
        return Ok(Box::new(dicom_wsi::DicomSlide::open(path, limits)?));
    }
    let is_slide = shows_a_slide(path, kind);
    if is_plain(kind) && !is_slide {
        return Ok(Box::new(PictureSlide::open(path, limits)?));
    }
    match open_by_openslide(path, limits) {
        Ok(Some(slide)) => Ok(slide),
        Ok(None) if is_slide => Err(Error::Unsupported(format!(
            "slide file: OpenSlide does not know its format: {}",
            path.display()
        ))),
        Ok(None) => Ok(Box::new(PictureSlide::open(path, limits)?)),
        // A TIFF may well be a plain picture.
        Err(Error::Unsupported(_)) if !is_slide => {
            let mut slide = PictureSlide::open(path, limits)?;
            slide.warn("read as a plain picture: there is no OpenSlide to find levels and microns per pixel in it");
            Ok(Box::new(slide))
        }
        Err(error) => Err(error),
    }
}

/// What the first bytes show.
fn kind(path: &Path) -> Result<Kind> {
    let failed = |source| Error::io("read", path, source);
    let mut start = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(SNIFF_BYTES as u64).read_to_end(&mut start);
    read.map_err(failed)?;
    Ok(sniff(&start))
}

/// Formats that no slide has, but for the preview that MRXS puts in front.
fn is_plain(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Png | Kind::Jpeg | Kind::Bmp | Kind::WebP | Kind::Pnm
    )
}

/// Whether the name's ending or the maker's mark shows a slide, of which a picture reader would give a part at best.
fn shows_a_slide(path: &Path, kind: Kind) -> bool {
    const ENDINGS: [&str; 10] = [
        "svs", "ndpi", "mrxs", "vms", "vmu", "scn", "bif", "svslide", "zvi", "czi",
    ];
    let ending = path.extension().map(|e| e.to_ascii_lowercase());
    let is_slide_ending = ending.is_some_and(|e| ENDINGS.iter().any(|known| e == *known));
    let has_mark = || {
        let file = File::open(path).ok();
        file.is_some_and(|file| slide_maker_of(BufReader::new(file)).is_some())
    };
    is_slide_ending
        || kind == Kind::Unsupported("whole-slide")
        || (kind == Kind::Tiff && has_mark())
}

#[cfg(feature = "slide")]
fn open_by_openslide(path: &Path, limits: &Limits) -> Result<Option<Box<dyn Slide>>> {
    let slide = openslide::OpenSlide::open(path, limits)?;
    Ok(slide.map(|slide| Box::new(slide) as Box<dyn Slide>))
}

#[cfg(not(feature = "slide"))]
fn open_by_openslide(_: &Path, _: &Limits) -> Result<Option<Box<dyn Slide>>> {
    Err(Error::Unsupported(
        "slide file: this build has no OpenSlide support (feature `slide`)".into(),
    ))
}

/// The level, where what is asked of it can be given.
fn checked_level(
    info: &SlideInfo,
    level: usize,
    width: u32,
    height: u32,
    limits: &Limits,
) -> Result<Level> {
    let found = *info
        .levels
        .get(level)
        .ok_or_else(|| no_level(info, level))?;
    if width == 0 || height == 0 {
        return Err(Error::BadArgument(format!(
            "part of a slide: expected sides above 0, got {width}x{height}"
        )));
    }
    limits.check_pixels(width, height)?;
    Ok(found)
}

fn no_level(info: &SlideInfo, level: usize) -> Error {
    let count = info.levels.len();
    Error::BadArgument(format!(
        "level {level}: the slide has {count}, counted from 0"
    ))
}

/// What stands outside of a slide that names no colour.
fn white() -> [u8; 3] {
    [255; 3]
}

#[cfg(test)]
mod tests;
