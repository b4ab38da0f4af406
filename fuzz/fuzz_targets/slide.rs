//! Any bytes as a slide's file: opening, planning and reading a tile are errors, or a tile of the size asked.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use medsiglip::image::Limits;
use medsiglip::image::slide::{Scale, TileOptions, Tiling, open};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
    let limits = Limits {
        max_file_bytes: 1 << 20,
        max_pixels: 1 << 20,
    };
    let Ok(slide) = open(&path, &limits) else {
        return;
    };
    for scale in [Scale::Level(0), Scale::Mpp(0.5), Scale::Mpp(8.0)] {
        let options = TileOptions {
            size: 32,
            scale,
            min_tissue: 0.0,
            ..TileOptions::default()
        };
        if let Ok(tiling) = Tiling::plan(&*slide, &options) {
            if let Some(last) = tiling.tiles.len().checked_sub(1) {
                if let Ok(tile) = tiling.tile(&*slide, last) {
                    assert_eq!((tile.width(), tile.height()), (32, 32));
                }
            }
        }
    }
});
