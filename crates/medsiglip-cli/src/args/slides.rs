//! Flags of whole slides.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use medsiglip::image::color::IccTarget;
use medsiglip::image::slide::{Scale, TileOptions, TissueOptions};
#[cfg(feature = "evaluate")]
use serde_json::Value;
use serde_json::json;

use super::one_of;
use crate::journal::Fingerprint;
use crate::messages::{self, Failure};

/// How whole slides are cut into tiles.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slides")]
pub struct TileArgs {
    /// Take every file as a slide, and cut it into tiles of this side, in pixels of a tile; folders are searched for
    /// slides and TIFF files, other pictures are taken by name
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=MAX_TILE))]
    pub tile: Option<u32>,
    /// How large things are in a tile: microns per pixel [default: 0.5]
    #[arg(long, value_name = "MICRONS", requires = "tile", value_parser = microns, allow_negative_numbers = true)]
    pub mpp: Option<f64>,
    /// The pixels of a level as they are, from 0, in place of --mpp
    #[arg(long, value_name = "N", requires = "tile", conflicts_with = "mpp")]
    pub level: Option<usize>,
    /// How much neighbouring tiles share, in pixels of a tile
    #[arg(long, value_name = "PIXELS", requires = "tile", default_value = "0")]
    pub overlap: u32,
    /// Keep tiles of background too
    #[arg(long, requires = "tile")]
    pub no_tissue: bool,
    /// The share of a tile, 0 to 1, that must be tissue; with --no-tissue, that must lie on the slide
    #[arg(long, value_name = "SHARE", requires = "tile", default_value_t = TileOptions::default().min_tissue,
          value_parser = share, allow_negative_numbers = true)]
    pub min_tissue: f32,
    /// Microns per pixel of the slides at their finest level, in place of what they say
    #[arg(long, value_name = "MICRONS", requires = "tile", value_parser = microns, allow_negative_numbers = true)]
    pub slide_mpp: Option<f64>,
    /// Convert colours from the slide's ICC profile to this space; none leaves them as stored
    #[arg(long, value_name = "SPACE", requires = "tile", default_value = "none",
          value_parser = one_of::<IccTarget>(&["none", "srgb", "adobergb", "rommrgb", "displayp3"]))]
    pub icc: IccTarget,
    /// The tiles' top left corners in place of a grid: a CSV of one slide with columns x and y, in pixels of the
    /// finest level
    #[arg(long, value_name = "FILE", requires = "tile")]
    pub coords: Option<PathBuf>,
    /// Write a PNG with the tissue found and the tiles cut, so that a person can look; a folder for several slides
    #[arg(long, value_name = "FILE", requires = "tile")]
    pub overview: Option<PathBuf>,
}

/// What is made of the scores of a slide's tiles.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slides")]
pub struct SlideScoresArgs {
    /// How many of the highest scores the top-k mean of a slide is over
    #[arg(long, value_name = "K", requires = "tile", default_value = "10")]
    pub top_k: NonZeroUsize,
    /// Write a PNG of the slide under the softmax shares of one class, and beside it a .geojson of all scores, as
    /// QuPath reads it; a folder for several slides
    #[arg(long, value_name = "FILE", requires = "tile")]
    pub heatmap: Option<PathBuf>,
    /// The class of --heatmap [default: the first]
    #[arg(long, value_name = "LABEL", requires = "heatmap")]
    pub heatmap_class: Option<String>,
}

/// Largest side of a tile: that of the library.
const MAX_TILE: i64 = 1 << 14;

fn microns(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

impl TileArgs {
    /// An error where flags contradict each other.
    pub fn check(&self) -> messages::Result<()> {
        match self.tile {
            Some(tile) if self.overlap >= tile => Err(Failure::argument(format!(
                "--overlap: expected less than the {tile} pixels of --tile, got {}",
                self.overlap
            ))),
            _ => Ok(()),
        }
    }

    /// How slides are cut; `None` where files are taken as pictures.
    pub fn options(&self) -> Option<TileOptions> {
        let scale = match (self.level, self.mpp) {
            (Some(level), _) => Scale::Level(level),
            (None, Some(mpp)) => Scale::Mpp(mpp),
            (None, None) => TileOptions::default().scale,
        };
        Some(TileOptions {
            size: self.tile?,
            scale,
            overlap: self.overlap,
            slide_mpp: self.slide_mpp,
            tissue: (!self.no_tissue).then(TissueOptions::default),
            min_tissue: self.min_tissue,
            icc: self.icc,
        })
    }
}

impl TileArgs {
    /// What decides the tiles, for the journal and for stores.
    pub fn fingerprint(&self) -> Fingerprint {
        let Some(options) = self.options() else {
            return Fingerprint::new();
        };
        let TileOptions {
            size,
            scale,
            overlap,
            slide_mpp,
            icc,
            ..
        } = options;
        let scale = match scale {
            Scale::Mpp(mpp) => json!({"mpp": mpp}),
            Scale::Level(level) => json!({"level": level}),
        };
        let facts = [
            ("tile", json!(size)),
            ("scale", scale),
            ("overlap", json!(overlap)),
            ("slide mpp", json!(slide_mpp)),
            ("icc", json!(icc.name())),
        ];
        facts.map(|(name, fact)| (name.to_owned(), fact)).into()
    }
}

/// How one tile is cut, by what [`TileArgs::fingerprint`] says; `None` where it says nothing of tiles.
#[cfg(feature = "evaluate")]
pub fn tile_of(facts: &Fingerprint) -> Option<TileOptions> {
    let scale = facts.get("scale")?;
    let level = scale.get("level").and_then(Value::as_u64);
    let scale = match level.and_then(|level| usize::try_from(level).ok()) {
        Some(level) => Scale::Level(level),
        None => Scale::Mpp(scale.get("mpp")?.as_f64()?),
    };
    Some(TileOptions {
        size: facts.get("tile")?.as_u64()?.try_into().ok()?,
        scale,
        slide_mpp: facts.get("slide mpp").and_then(Value::as_f64),
        icc: facts.get("icc")?.as_str()?.parse().ok()?,
        ..TileOptions::default()
    })
}
