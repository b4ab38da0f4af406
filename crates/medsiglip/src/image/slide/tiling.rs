//! The grid of tiles over a slide.

use super::picture::picture_of;
use super::{Level, Picture, Slide, SlideInfo, TissueMask, TissueOptions, no_level};
use crate::image::color::{IccTarget, IccTransform};
use crate::preprocess::resize_square;
use crate::{Error, Result};

/// Largest side of a tile, and of what is read for it.
const MAX_SIDE: u32 = 1 << 14;

/// Most places that a grid may have, with tissue or without.
const MAX_PLACES: u64 = 1 << 24;

/// A scale this near to the one asked is taken as it is: nothing is resampled.
const NEAR: f64 = 0.01;

/// How much a slide may be enlarged where its level 0 is too coarse.
const MAX_ENLARGEMENT: f64 = 1.1;

/// How a slide is cut.
#[derive(Debug, Clone, PartialEq)]
pub struct TileOptions {
    /// Side of a tile as it is given out, in pixels.
    pub size: u32,
    /// How large things are in a tile.
    pub scale: Scale,
    /// How much neighbouring tiles share, in pixels of a tile; below `size`.
    pub overlap: u32,
    /// Microns per pixel of level 0, in place of what the file says.
    pub slide_mpp: Option<f64>,
    /// How tissue is found; `None` keeps tiles of background too.
    pub tissue: Option<TissueOptions>,
    /// The share of a tile, 0 to 1, that must be tissue. Without `tissue`: that must lie on the slide.
    pub min_tissue: f32,
    /// The colour space of the tiles.
    pub icc: IccTarget,
}

impl Default for TileOptions {
    /// 448 px at 0.5 um/px without overlap, at least a tenth tissue, colours as stored.
    fn default() -> Self {
        Self {
            size: 448,
            scale: Scale::Mpp(0.5),
            overlap: 0,
            slide_mpp: None,
            tissue: Some(TissueOptions::default()),
            min_tissue: 0.1,
            icc: IccTarget::None,
        }
    }
}

/// How large things are in a tile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Microns per pixel of a tile.
    Mpp(f64),
    /// The pixels of a level, as they are.
    Level(usize),
}

/// Where the tiles of a slide lie, and how they are read. A tile takes 8 bytes.
///
/// **Level.** With [`Scale::Mpp`], the coarsest level that is not coarser than asked is read, and what is read is made
/// smaller by Pillow's bilinear resize with antialiasing. A level within 1 % of the scale asked is taken as it is, so
/// that a slide of 0.499 um/px is not blurred for 0.5; [`Tiling::mpp`] says what a tile really has. Where level 0 is
/// too coarse it is enlarged by up to a tenth, with a warning; beyond that the plan is refused.
///
/// **Grid.** It begins at the top left corner of the slide and steps by whole pixels of the level, so that neighbours
/// meet without gap at every level. Tiles may hang over the right and lower end, as in TRIDENT and CLAM; what
/// lies outside is the slide's background and counts as no tissue.
#[derive(Debug, Clone)]
pub struct Tiling {
    /// The level that is read.
    pub level: usize,
    /// Side of a tile in pixels of `level`, before it is resized.
    pub read_size: u32,
    /// Side of a tile in pixels of level 0, rounded (`patch_size_level0` of CLAM and TRIDENT).
    pub size_level0: u32,
    /// Side of a tile as it is given out, in pixels.
    pub size: u32,
    /// Shared by neighbours, in pixels of a tile.
    pub overlap: u32,
    /// Microns per pixel of a tile; `None` where the slide has none.
    pub mpp: Option<f64>,
    /// Top left corners, x and y, in pixels of level 0, row by row.
    pub tiles: Vec<(u32, u32)>,
    /// Where tissue was found, if that was asked.
    pub mask: Option<TissueMask>,
    /// What a person should know.
    pub warnings: Vec<String>,
    icc: Option<IccTransform>,
}

impl Tiling {
    /// Lays the grid and keeps the tiles that have enough tissue. Reads the slide at about 8 um/px to find it.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where an option is out of its range, where [`Scale::Mpp`] is asked of a slide that has no microns
    /// per pixel, or a scale much finer than level 0; `LIMIT_EXCEEDED` where the grid has more than 2^24 places;
    /// `BAD_IMAGE` where the ICC profile is damaged and wanted; and as [`Slide::read`].
    pub fn plan(slide: &dyn Slide, options: &TileOptions) -> Result<Self> {
        let mut plan = Self::without_tiles(slide.info(), options)?;
        let level = plan.level_of(slide.info())?;
        let step =
            f64::from(plan.read_size) * f64::from(plan.size - plan.overlap) / f64::from(plan.size);
        let step = (step.round() as u32).max(1);
        let (columns, rows) = (level.width.div_ceil(step), level.height.div_ceil(step));
        let places = u64::from(columns) * u64::from(rows);
        if places > MAX_PLACES {
            return Err(Error::Limit {
                what: "places of the tile grid",
                got: places,
                limit: MAX_PLACES,
            });
        }
        if let Some(tissue) = &options.tissue {
            let mpp = options.slide_mpp.or(slide.info().mpp());
            plan.mask = Some(TissueMask::find(slide, mpp, tissue)?);
        }
        let side = f64::from(plan.read_size) * level.downsample;
        let (slide_width, slide_height) = slide.info().size();
        for row in 0..rows {
            for column in 0..columns {
                let at = |place: u32| (f64::from(place * step) * level.downsample).round();
                let (x, y) = (at(column), at(row));
                let share = match &plan.mask {
                    Some(mask) => mask.share_of(x, y, side),
                    None => inside(x, side, slide_width) * inside(y, side, slide_height),
                };
                if share > 0.0 && share as f32 >= options.min_tissue {
                    plan.tiles.push((x as u32, y as u32));
                }
            }
        }
        Ok(plan)
    }

    /// Tiles at the given corners (pixels of level 0), in the given order, whether there is tissue or not;
    /// [`TileOptions::tissue`], `min_tissue` and `overlap` play no part.
    ///
    /// # Errors
    /// As [`Tiling::plan`]; `BAD_ARGUMENT` where a corner lies outside of the slide.
    pub fn from_coords(
        slide: &dyn Slide,
        options: &TileOptions,
        tiles: Vec<(u32, u32)>,
    ) -> Result<Self> {
        let mut plan = Self::without_tiles(slide.info(), options)?;
        let (width, height) = slide.info().size();
        if let Some((x, y)) = tiles.iter().find(|(x, y)| *x >= width || *y >= height) {
            return Err(Error::BadArgument(format!(
                "tile at ({x}, {y}): expected its corner on the slide of {width}x{height} pixels"
            )));
        }
        plan.tiles = tiles;
        Ok(plan)
    }

    /// Reads tile `index`. Colours are transformed after the resize.
    ///
    /// # Shapes
    /// RGB, 8 bits, `size` x `size`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no such tile, and as [`Slide::read`].
    pub fn tile(&self, slide: &dyn Slide, index: usize) -> Result<Picture> {
        let Some(&(x, y)) = self.tiles.get(index) else {
            return Err(Error::BadArgument(format!(
                "tile {index}: the slide has {}, counted from 0",
                self.tiles.len()
            )));
        };
        let side = self.read_size;
        let mut rgb = slide.read(self.level, x.into(), y.into(), side, side)?;
        if side != self.size {
            rgb = resize_square(&rgb, side as usize, self.size as usize);
        }
        if let Some(icc) = &self.icc {
            icc.apply(&mut rgb)?;
        }
        picture_of(self.size, self.size, rgb)
    }

    /// The level and the scale, checked.
    fn without_tiles(info: &SlideInfo, options: &TileOptions) -> Result<Self> {
        check(options)?;
        let mut warnings = Vec::new();
        let slide_mpp = options.slide_mpp.or(info.mpp());
        let (level, read_size) = match options.scale {
            Scale::Level(level) => (level, options.size),
            Scale::Mpp(mpp) => choose_level(info, slide_mpp, mpp, options.size, &mut warnings)?,
        };
        let mut plan = Self {
            level,
            read_size,
            size_level0: 0,
            size: options.size,
            overlap: options.overlap,
            mpp: None,
            tiles: Vec::new(),
            mask: None,
            warnings,
            icc: IccTransform::of_slide(info, options.icc)?,
        };
        let side = f64::from(read_size) * plan.level_of(info)?.downsample;
        plan.size_level0 = side.round() as u32;
        plan.mpp = slide_mpp.map(|mpp| mpp * side / f64::from(options.size));
        if options.icc != IccTarget::None && info.icc_profile.is_none() {
            plan.warnings
                .push("the slide has no icc profile: its colours stay as stored".into());
        }
        Ok(plan)
    }

    /// The level that is read.
    fn level_of(&self, info: &SlideInfo) -> Result<Level> {
        let level = info.levels.get(self.level).copied();
        level.ok_or_else(|| no_level(info, self.level))
    }
}

/// The coarsest level that is not coarser than `mpp`, and the side to read for a tile of `size`.
fn choose_level(
    info: &SlideInfo,
    slide_mpp: Option<f64>,
    mpp: f64,
    size: u32,
    warnings: &mut Vec<String>,
) -> Result<(usize, u32)> {
    let Some(finest) = slide_mpp else {
        return Err(Error::BadArgument(
            "tiles by microns per pixel: the slide does not say its own; give it with --slide-mpp, \
             or choose a level with --level"
                .into(),
        ));
    };
    if finest > mpp * MAX_ENLARGEMENT {
        return Err(Error::BadArgument(format!(
            "tiles of {mpp} um/px: the slide's finest level has {finest:.4} um/px; choose a coarser scale, \
             or the level's own with --level 0"
        )));
    }
    let is_fit = |level: &Level| finest * level.downsample <= mpp * (1.0 + NEAR);
    let level = info.levels.iter().rposition(is_fit).unwrap_or(0);
    let downsample = info.levels.get(level).map_or(1.0, |l| l.downsample);
    let ratio = mpp / (finest * downsample);
    if (ratio - 1.0).abs() <= NEAR {
        return Ok((level, size));
    }
    if ratio < 1.0 {
        warnings.push(format!(
            "the slide's finest level, {finest:.4} um/px, is enlarged to {mpp} um/px"
        ));
    }
    let side = (f64::from(size) * ratio).round();
    if !(1.0..=f64::from(MAX_SIDE)).contains(&side) {
        return Err(Error::BadArgument(format!(
            "tiles of {size} px at {mpp} um/px: expected a side of 1 to {MAX_SIDE} pixels of level {level}, got {side}"
        )));
    }
    Ok((level, side as u32))
}

fn check(options: &TileOptions) -> Result<()> {
    let bad = |message: String| Err(Error::BadArgument(message));
    let TileOptions { size, overlap, .. } = *options;
    if !(1..=MAX_SIDE).contains(&size) {
        return bad(format!(
            "tile size: expected 1 to {MAX_SIDE} pixels, got {size}"
        ));
    }
    if overlap >= size {
        return bad(format!(
            "tile overlap: expected less than the tile's {size} pixels, got {overlap}"
        ));
    }
    if !(0.0..=1.0).contains(&options.min_tissue) {
        return bad(format!(
            "least tissue of a tile: expected a share of 0 to 1, got {}",
            options.min_tissue
        ));
    }
    let asked = match options.scale {
        Scale::Mpp(mpp) => Some(mpp),
        Scale::Level(_) => None,
    };
    let is_mpp = |mpp: f64| mpp.is_finite() && mpp > 0.0;
    if let Some(mpp) = [asked, options.slide_mpp]
        .into_iter()
        .flatten()
        .find(|mpp| !is_mpp(*mpp))
    {
        return bad(format!(
            "microns per pixel: expected a number above 0, got {mpp}"
        ));
    }
    Ok(())
}

/// The share of a side that lies on the slide.
fn inside(at: f64, side: f64, len: u32) -> f64 {
    ((f64::from(len) - at) / side).clamp(0.0, 1.0)
}
