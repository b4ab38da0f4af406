//! Looks at a slide, region by region.
//!
//! ```text
//! cargo run --example slide -- info SLIDE
//! cargo run --example slide -- region SLIDE LEVEL X Y WIDTH HEIGHT > region.rgb
//! cargo run --example slide -- overview SLIDE UM_PER_PIXEL [SLIDE_UM_PER_PIXEL] > overview.ppm
//! ```

use std::io::Write;

use medsiglip::image::slide::{Scale, TileOptions, Tiling, open};
use medsiglip::image::{Limits, Samples};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [command, path, numbers @ ..] = &args[..] else {
        return Err("expected a command and a slide".into());
    };
    let slide = open(path, &Limits::default())?;
    let mut out = std::io::stdout().lock();
    match (command.as_str(), numbers) {
        ("info", []) => writeln!(out, "{:#?}", slide.info())?,
        ("region", [level, x, y, width, height]) => {
            let (width, height) = (width.parse()?, height.parse()?);
            let rgb = slide.read(level.parse()?, x.parse()?, y.parse()?, width, height)?;
            out.write_all(&rgb)?;
        }
        ("overview", [mpp, rest @ ..]) => {
            let options = TileOptions {
                scale: Scale::Mpp(mpp.parse()?),
                slide_mpp: rest.first().map(|mpp| mpp.parse()).transpose()?,
                ..TileOptions::default()
            };
            let tiling = Tiling::plan(&*slide, &options)?;
            eprintln!(
                "{} tiles of level {}, {:?} um/px, tissue {:?}, threshold {:?}, {:?}",
                tiling.tiles.len(),
                tiling.level,
                tiling.mpp,
                tiling.mask.as_ref().map(|mask| mask.share()),
                tiling.mask.as_ref().map(|mask| mask.threshold()),
                tiling.warnings,
            );
            let picture = tiling.overview(&*slide, 1024)?;
            if let Samples::U8(rgb) = picture.samples() {
                writeln!(out, "P6 {} {} 255", picture.width(), picture.height())?;
                out.write_all(rgb)?;
            }
        }
        _ => return Err("expected info, region or overview".into()),
    }
    Ok(())
}
