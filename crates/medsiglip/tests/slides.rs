//! Real slides, where they and OpenSlide are there: the pixels are those of OpenSlide's Python.

use std::path::PathBuf;

use medsiglip::image::slide::{Slide, TileOptions, Tiling, open};
use medsiglip::image::{Limits, Samples};
use sha2::{Digest, Sha256};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/slides");

/// The slide, or `None` with a message where there is none.
fn slide(name: &str) -> Option<Box<dyn Slide>> {
    let path = PathBuf::from(FOLDER).join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    match open(&path, &Limits::default()) {
        Ok(slide) => Some(slide),
        Err(error) if error.to_string().contains("OpenSlide is not installed") => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Of `read_region((x, y), 0, (448, 448))` pasted on white, OpenSlide 4.0.1 and Pillow 11.2.1: the first eight bytes of
/// SHA-256.
fn check(slide: &dyn Slide, x: u64, y: u64, sha256: &str) {
    let rgb = slide.read(0, x, y, 448, 448).unwrap();
    let hash = Sha256::digest(&rgb);
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, sha256, "({x}, {y})");
}

#[test]
fn an_aperio_slide_is_read_as_openslide_does() {
    let Some(slide) = slide("CMU-1-Small-Region.svs") else {
        return;
    };
    let info = slide.info();
    assert_eq!(info.format, "aperio");
    assert_eq!(info.size(), (2220, 2967));
    assert_eq!(info.mpp_xy, Some((0.499, 0.499)));
    assert_eq!(info.objective_power, Some(20.0));
    check(&*slide, 700, 1200, "3a2c28177a57bdb7");
    check(&*slide, 2100, 2900, "ce93c070b802ebff");
}

#[test]
fn a_dicom_slide_is_read_as_openslide_does() {
    let Some(slide) = slide("multiframe_camelyon_challenge_image.dcm") else {
        return;
    };
    assert_eq!(slide.info().reader, "dicom");
    assert_eq!(slide.info().size(), (1152, 700));
    check(&*slide, 200, 150, "3fddf1731ce26d32");
    check(&*slide, 1000, 500, "e842891e691e969f");
}

#[test]
fn tiles_lie_on_tissue_and_are_the_same_from_many_threads() {
    let Some(slide) = slide("CMU-1-Small-Region.svs") else {
        return;
    };
    let tiling = Tiling::plan(&*slide, &TileOptions::default()).unwrap();
    let share = tiling.mask.as_ref().unwrap().share();
    assert!((0.35..0.45).contains(&share), "{share}");
    assert_eq!(
        (tiling.level, tiling.read_size, tiling.mpp),
        (0, 448, Some(0.499))
    );
    assert!(tiling.tiles.contains(&(896, 1344)), "epidermis");
    assert!(!tiling.tiles.contains(&(0, 1792)), "glass");
    let read = || -> Vec<Samples> {
        let tile = |index| tiling.tile(&*slide, index).unwrap().samples().clone();
        (0..tiling.tiles.len()).map(tile).collect()
    };
    let once = read();
    std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(read));
        for thread in threads {
            assert!(thread.join().unwrap() == once);
        }
    });
}
