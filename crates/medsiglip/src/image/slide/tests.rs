//! Tilings, thumbnails and the container's levels on made-up slides.

use std::path::PathBuf;

use super::*;
use crate::image::Samples;
use crate::image::color::IccTarget;

/// A slide whose red tells the level, and whose green and blue tell the place.
struct Made {
    info: SlideInfo,
}

impl Made {
    fn new(levels: &[(u32, u32)], mpp: Option<f64>) -> Self {
        let (full_width, full_height) = levels[0];
        let ratio = |full: u32, side: u32| f64::from(full) / f64::from(side);
        let level = |&(width, height): &(u32, u32)| Level {
            width,
            height,
            downsample: (ratio(full_width, width) + ratio(full_height, height)) / 2.0,
        };
        Self {
            info: SlideInfo {
                format: "made".into(),
                reader: "test".into(),
                levels: levels.iter().map(level).collect(),
                mpp_xy: mpp.map(|mpp| (mpp, mpp)),
                objective_power: None,
                icc_profile: None,
                background: white(),
                warnings: Vec::new(),
            },
        }
    }
}

fn sample(level: usize, x: u64, y: u64) -> [u8; 3] {
    [level as u8, (x % 251) as u8, (y % 241) as u8]
}

impl Slide for Made {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read(&self, level: usize, x: u64, y: u64, width: u32, height: u32) -> Result<Vec<u8>> {
        let of = checked_level(&self.info, level, width, height, &Limits::default())?;
        let at = |v: u64| (v as f64 / of.downsample).round() as u64;
        let mut rgb = Vec::new();
        for y in at(y)..at(y) + u64::from(height) {
            for x in at(x)..at(x) + u64::from(width) {
                let is_inside = x < of.width.into() && y < of.height.into();
                rgb.extend(if is_inside {
                    sample(level, x, y)
                } else {
                    [255; 3]
                });
            }
        }
        Ok(rgb)
    }
}

fn options(size: u32, scale: Scale) -> TileOptions {
    TileOptions {
        size,
        scale,
        tissue: None,
        ..TileOptions::default()
    }
}

fn pyramid() -> Made {
    Made::new(&[(1000, 800), (500, 400), (125, 100)], Some(0.25))
}

#[test]
fn the_coarsest_level_that_is_not_coarser_is_read() {
    let slide = pyramid();
    let plan = |mpp: f64| {
        let tiling = Tiling::plan(&slide, &options(100, Scale::Mpp(mpp))).unwrap();
        (tiling.level, tiling.read_size, tiling.size_level0)
    };
    assert_eq!(plan(0.25), (0, 100, 100));
    assert_eq!(plan(0.252), (0, 100, 100), "within 1 %");
    assert_eq!(plan(0.26), (0, 104, 104));
    assert_eq!(plan(0.49), (0, 196, 196));
    assert_eq!(plan(0.5), (1, 100, 200));
    assert_eq!(plan(0.496), (1, 100, 200), "within 1 %");
    assert_eq!(plan(1.0), (1, 200, 400));
    assert_eq!(plan(2.0), (2, 100, 800));
    assert_eq!(plan(4.0), (2, 200, 1600));
    assert_eq!(plan(0.23), (0, 92, 92), "enlarged a little");
    let warned = Tiling::plan(&slide, &options(100, Scale::Mpp(0.23))).unwrap();
    assert_eq!(warned.warnings.len(), 1);
    assert_eq!(warned.mpp, Some(0.23));
    let near = Tiling::plan(&slide, &options(100, Scale::Mpp(0.252))).unwrap();
    assert_eq!(near.mpp, Some(0.25), "what a tile really has");
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let (slide, silent) = (pyramid(), Made::new(&[(1000, 800)], None));
    let plan = |slide: &Made, options: &TileOptions| {
        let error = Tiling::plan(slide, options).unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, message) = plan(&silent, &options(100, Scale::Mpp(0.5)));
    assert_eq!(code, "BAD_ARGUMENT");
    assert!(
        message.contains("--slide-mpp") && message.contains("--level"),
        "{message}"
    );
    assert!(
        plan(&slide, &options(100, Scale::Mpp(0.2)))
            .1
            .contains("--level 0")
    );
    let given = TileOptions {
        slide_mpp: Some(0.5),
        ..options(100, Scale::Mpp(1.0))
    };
    assert_eq!(Tiling::plan(&silent, &given).unwrap().read_size, 200);
    let level = Tiling::plan(&silent, &options(100, Scale::Level(0))).unwrap();
    assert_eq!((level.read_size, level.mpp), (100, None));

    let good = options(100, Scale::Mpp(0.5));
    for bad in [
        TileOptions {
            size: 0,
            ..good.clone()
        },
        TileOptions {
            size: 1 << 15,
            ..good.clone()
        },
        TileOptions {
            overlap: 100,
            ..good.clone()
        },
        TileOptions {
            min_tissue: f32::NAN,
            ..good.clone()
        },
        TileOptions {
            min_tissue: 1.1,
            ..good.clone()
        },
        TileOptions {
            slide_mpp: Some(0.0),
            ..good.clone()
        },
        TileOptions {
            scale: Scale::Mpp(f64::NAN),
            ..good.clone()
        },
        TileOptions {
            scale: Scale::Mpp(1e9),
            ..good.clone()
        },
        TileOptions {
            scale: Scale::Level(3),
            ..good.clone()
        },
    ] {
        assert_eq!(plan(&slide, &bad).0, "BAD_ARGUMENT", "{bad:?}");
    }
    let huge = Made::new(&[(u32::MAX, u32::MAX)], Some(0.5));
    assert_eq!(
        plan(&huge, &options(448, Scale::Mpp(0.5))).0,
        "LIMIT_EXCEEDED"
    );
}

#[test]
fn tiles_go_row_by_row_and_hang_over_the_end_where_enough_is_on_the_slide() {
    let slide = Made::new(&[(250, 210)], None);
    let tiles = |overlap: u32, min_tissue: f32| {
        let options = TileOptions {
            overlap,
            min_tissue,
            ..options(100, Scale::Level(0))
        };
        Tiling::plan(&slide, &options).unwrap().tiles
    };
    let three = [0, 100, 200];
    let rows = |ys: &[u32]| -> Vec<(u32, u32)> {
        ys.iter().flat_map(|&y| three.map(|x| (x, y))).collect()
    };
    assert_eq!(tiles(0, 0.0), rows(&three));
    assert_eq!(
        tiles(0, 0.1),
        [rows(&[0, 100]), vec![(0, 200), (100, 200)]].concat()
    );
    assert_eq!(tiles(0, 0.5), rows(&[0, 100]));
    assert_eq!(tiles(0, 1.0), [(0, 0), (100, 0), (0, 100), (100, 100)]);
    let xs: Vec<u32> = tiles(50, 0.5)
        .iter()
        .filter(|t| t.1 == 0)
        .map(|t| t.0)
        .collect();
    assert_eq!(xs, [0, 50, 100, 150, 200]);
}

#[test]
fn neighbours_meet_without_gap_at_a_level_of_odd_size() {
    let slide = Made::new(&[(1001, 799), (333, 266)], Some(0.25));
    let tiling = Tiling::plan(&slide, &options(64, Scale::Level(1))).unwrap();
    for (index, &(x, y)) in tiling.tiles.iter().enumerate() {
        let tile = tiling.tile(&slide, index).unwrap();
        let Samples::U8(rgb) = tile.samples() else {
            panic!("8 bits")
        };
        let (column, row) = (index as u64 % 6, index as u64 / 6);
        assert_eq!(rgb[..3], sample(1, column * 64, row * 64), "({x}, {y})");
    }
}

#[test]
fn a_tile_is_what_pillow_makes_of_its_pixels() {
    let slide = pyramid();
    let tiling = Tiling::plan(&slide, &options(10, Scale::Mpp(0.75))).unwrap();
    assert_eq!((tiling.level, tiling.read_size), (1, 15));
    let index = tiling
        .tiles
        .iter()
        .position(|tile| *tile == (60, 30))
        .unwrap();
    let tile = tiling.tile(&slide, index).unwrap();
    let read = slide.read(1, 60, 30, 15, 15).unwrap();
    let expected = crate::preprocess::resize_square(&read, 15, 10);
    assert_eq!(tile.samples(), &Samples::U8(expected));
    assert_eq!(tile.source().format, "slide");
    assert_eq!(
        tiling.tile(&slide, tiling.tiles.len()).unwrap_err().code(),
        "BAD_ARGUMENT"
    );
}

#[test]
fn corners_can_be_given() {
    let slide = pyramid();
    let given = vec![(999, 799), (0, 0), (300, 200)];
    let from = |tiles| Tiling::from_coords(&slide, &options(100, Scale::Mpp(0.5)), tiles);
    let tiling = from(given.clone()).unwrap();
    assert_eq!(tiling.tiles, given);
    let Samples::U8(rgb) = tiling.tile(&slide, 2).unwrap().samples().clone() else {
        panic!("8 bits")
    };
    assert_eq!(rgb[..3], sample(1, 150, 100));
    assert_eq!(from(vec![(1000, 0)]).unwrap_err().code(), "BAD_ARGUMENT");
}

#[test]
fn a_thumbnail_is_the_mean_of_whole_pixels() {
    let slide = Made::new(&[(5000, 2500), (2500, 1250)], None);
    let picture = thumbnail(&slide, 800).unwrap();
    assert_eq!((picture.width(), picture.height()), (625, 313));
    let Samples::U8(rgb) = picture.samples() else {
        panic!("8 bits")
    };
    for (x, y) in [(0, 0), (511, 7), (512, 8), (624, 312)] {
        let (mut sum, mut count) = ([0_u64; 3], 0);
        for py in 4 * y..(4 * y + 4).min(1250) {
            for px in 4 * x..(4 * x + 4).min(2500) {
                for (sum, v) in sum.iter_mut().zip(sample(1, px, py)) {
                    *sum += u64::from(v);
                }
                count += 1;
            }
        }
        let at = 3 * (y * 625 + x) as usize;
        let mean = sum.map(|sum| ((sum + count / 2) / count) as u8);
        assert_eq!(rgb[at..at + 3], mean, "({x}, {y})");
    }
    assert_eq!(thumbnail(&slide, 5000).unwrap().width(), 5000);
    assert_eq!(thumbnail(&slide, 1).unwrap_err().code(), "BAD_ARGUMENT");
    assert_eq!(thumbnail(&slide, 0).unwrap_err().code(), "BAD_ARGUMENT");
}

#[test]
fn an_overview_draws_the_tiles() {
    let slide = pyramid();
    let tiling = Tiling::plan(&slide, &options(100, Scale::Mpp(0.5))).unwrap();
    let picture = tiling.overview(&slide, 500).unwrap();
    let Samples::U8(rgb) = picture.samples() else {
        panic!("8 bits")
    };
    let pixel = |x: usize, y: usize| &rgb[3 * (y * 500 + x)..][..3];
    assert_eq!((picture.width(), picture.height()), (500, 400));
    assert_eq!(pixel(100, 50), [0, 0, 255]);
    assert_eq!(pixel(50, 300), [0, 0, 255]);
    assert_eq!(pixel(50, 50), sample(1, 50, 50));
}

#[test]
fn levels_are_chosen_as_the_container_does() {
    let info = pyramid().info;
    let level = |level| container_level(&info, &level).ok();
    for (index, chosen) in [
        (0, 0),
        (2, 2),
        (9, 2),
        (-1, 2),
        (-3, 0),
        (-9, 0),
        (i64::MIN, 0),
    ] {
        assert_eq!(level(ContainerLevel::Index(index)), Some(chosen), "{index}");
    }
    let size = |width, height| level(ContainerLevel::Size { width, height });
    assert_eq!(size(500, 400), Some(1));
    assert_eq!(size(501, 10), Some(0));
    assert_eq!(size(1, 1), Some(2));
    assert_eq!(size(1001, 1), None);
    let spacing = |mm| {
        level(ContainerLevel::PixelSpacing {
            width_mm: mm,
            height_mm: mm,
        })
    };
    assert_eq!(spacing(0.0005), Some(1));
    assert_eq!(spacing(0.00049), Some(0));
    assert_eq!(spacing(0.1), Some(2));
    assert_eq!(spacing(0.0002), None);
}

#[test]
fn patches_are_in_pixels_of_their_level() {
    let slide = pyramid();
    let patch = |x_origin, width| Patch {
        x_origin,
        y_origin: 20,
        width,
        height: 10,
    };
    let read = |level, patch| read_patch(&slide, level, &patch, IccTarget::None);
    let picture = read(1, patch(30, 40)).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 10));
    let Samples::U8(rgb) = picture.samples() else {
        panic!("8 bits")
    };
    assert_eq!(rgb[..3], sample(1, 30, 20));
    assert!(read(1, patch(460, 40)).is_ok());
    for (level, patch) in [
        (1, patch(461, 40)),
        (3, patch(0, 1)),
        (0, patch(u32::MAX, 2)),
        (0, patch(0, 0)),
    ] {
        assert_eq!(read(level, patch).unwrap_err().code(), "BAD_ARGUMENT");
    }
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn a_picture_is_a_slide_of_one_level() {
    let (_folder, path) = file("x.pnm", b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
    let slide = open(&path, &Limits::default()).unwrap();
    assert_eq!(slide.info().format, "pnm");
    assert_eq!(slide.info().size(), (2, 1));
    assert_eq!(slide.info().mpp(), None);
    assert_eq!(slide.read(0, 1, 0, 1, 1).unwrap(), [4, 5, 6]);
}

#[test]
fn a_file_that_shows_to_be_a_slide_is_never_read_as_a_picture() {
    for name in ["x.svs", "x.NDPI", "x.mrxs"] {
        let (_folder, path) = file(name, b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
        let Err(error) = open(&path, &Limits::default()) else {
            panic!("{name} was opened")
        };
        assert_eq!(error.code(), "UNSUPPORTED", "{name}");
    }
    let (_folder, path) = file("notes.txt", b"not a slide");
    let error = open(&path, &Limits::default()).err().map(|e| e.code());
    assert_eq!(error, Some("BAD_IMAGE"));
    let error = open("/no/such/slide.svs", &Limits::default()).err();
    assert_eq!(error.map(|e| e.code()), Some("IO_ERROR"));
}

#[test]
fn colors_are_transformed_where_that_is_asked() {
    let asked = TileOptions {
        icc: IccTarget::Srgb,
        ..options(16, Scale::Level(0))
    };
    let mut slide = pyramid();
    let silent = Tiling::plan(&slide, &asked).unwrap();
    assert_eq!(silent.warnings.len(), 1, "no profile");
    let stored = silent.tile(&slide, 5).unwrap();

    let profile = moxcms::ColorProfile::new_adobe_rgb().encode().unwrap();
    slide.info.icc_profile = Some(profile.clone());
    let tiling = Tiling::plan(&slide, &asked).unwrap();
    assert!(tiling.warnings.is_empty());
    let Samples::U8(mut rgb) = stored.samples().clone() else {
        panic!("8 bits")
    };
    let transform = crate::image::color::IccTransform::new(&profile, IccTarget::Srgb);
    transform.unwrap().unwrap().apply(&mut rgb).unwrap();
    assert_ne!(stored.samples(), &Samples::U8(rgb.clone()));
    assert_eq!(tiling.tile(&slide, 5).unwrap().samples(), &Samples::U8(rgb));

    slide.info.icc_profile = Some(b"damaged".to_vec());
    let error = Tiling::plan(&slide, &asked).unwrap_err();
    assert_eq!(error.code(), "BAD_IMAGE");
    assert!(Tiling::plan(&slide, &options(16, Scale::Level(0))).is_ok());
}
