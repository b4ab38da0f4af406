use super::*;
use crate::image::slide::PictureSlide;
use crate::image::{Limits, Picture, Samples};

const GLASS: [u8; 3] = [243, 242, 240];
const TISSUE: [u8; 3] = [190, 130, 170];

/// A slide of 8 um/px, on which things are drawn.
struct Drawing {
    width: usize,
    rgb: Vec<u8>,
}

impl Drawing {
    fn new(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self {
            width,
            rgb: color.repeat(width * height),
        }
    }

    fn rectangle(
        mut self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
        color: [u8; 3],
    ) -> Self {
        for row in y..y + height {
            let from = 3 * (row * self.width + x);
            self.rgb[from..from + 3 * width].copy_from_slice(&color.repeat(width));
        }
        self
    }

    fn mask(self, options: &TissueOptions) -> TissueMask {
        let (width, height) = (self.width as u32, self.rgb.len() / 3 / self.width);
        let picture = Picture::new(width, height as u32, 3, Samples::U8(self.rgb)).unwrap();
        let slide = PictureSlide::new(&picture, &Limits::default());
        TissueMask::find(&slide, Some(8.0), options).unwrap()
    }
}

fn at(mask: &TissueMask, x: usize, y: usize) -> bool {
    mask.is_tissue()[y * mask.width() as usize + x]
}

#[test]
fn tissue_stays_and_glass_dust_ink_and_large_holes_do_not() {
    let mask = Drawing::new(200, 150, GLASS)
        .rectangle(20, 20, 120, 100, TISSUE)
        .rectangle(60, 40, 40, 40, GLASS) // 320 x 320 um: a lumen
        .rectangle(120, 60, 10, 10, GLASS) // 80 x 80 um
        .rectangle(160, 20, 8, 8, TISSUE) // 64 x 64 um: a crumb
        .rectangle(160, 60, 30, 30, [60, 60, 62]) // black ink, dust
        .rectangle(0, 130, 60, 15, [30, 70, 190]) // blue ink
        .rectangle(70, 130, 60, 15, [40, 150, 90]) // green ink
        .mask(&TissueOptions::default());
    assert!(at(&mask, 40, 60) && at(&mask, 139, 100) && at(&mask, 30, 118));
    assert!(!at(&mask, 10, 10) && !at(&mask, 142, 60), "glass");
    assert!(!at(&mask, 80, 60), "a large hole");
    assert!(at(&mask, 125, 65), "a small hole");
    assert!(!at(&mask, 164, 24), "a crumb");
    assert!(!at(&mask, 175, 75), "black");
    assert!(!at(&mask, 30, 137) && !at(&mask, 100, 137), "ink");
    let tissue = 120 * 100 - 40 * 40;
    let share = mask.share() * 200.0 * 150.0 / f64::from(tissue);
    assert!((0.97..1.03).contains(&share), "{share}");
}

#[test]
fn ink_is_a_choice() {
    let drawing = || Drawing::new(100, 100, GLASS).rectangle(20, 20, 60, 60, [40, 150, 90]);
    let keeps = TissueOptions {
        removes_ink: false,
        ..TissueOptions::default()
    };
    assert!(drawing().mask(&TissueOptions::default()).share() == 0.0);
    assert!(drawing().mask(&keeps).share() > 0.3);
}

#[test]
fn a_slide_of_one_kind_is_not_split() {
    let empty = Drawing::new(100, 100, [228, 226, 214]).rectangle(5, 5, 40, 40, [222, 220, 209]);
    assert_eq!(empty.mask(&TissueOptions::default()).share(), 0.0);
    let full = Drawing::new(100, 100, TISSUE).rectangle(20, 20, 50, 50, [120, 40, 110]);
    assert_eq!(full.mask(&TissueOptions::default()).share(), 1.0);
}

#[test]
fn the_share_of_a_square_counts_what_lies_outside_as_none() {
    let mask = Drawing::new(100, 100, GLASS)
        .rectangle(50, 50, 50, 50, TISSUE)
        .mask(&TissueOptions::default());
    let share = |x, y, side| mask.share_of(x, y, side);
    assert_eq!(share(60.0, 60.0, 20.0), 1.0);
    assert_eq!(share(90.0, 60.0, 20.0), 0.5);
    assert_eq!(share(90.0, 90.0, 20.0), 0.25);
    assert_eq!(share(0.0, 0.0, 20.0), 0.0);
    assert_eq!(share(70.2, 70.2, 0.1), 1.0, "below one pixel of the mask");
    assert_eq!(share(400.0, 400.0, 20.0), 0.0);
}

/// Numbers of `skimage.filters.threshold_otsu` 0.26 on the pixels of these counts.
#[test]
fn otsu_is_scikit_images() {
    let otsu_of = |count_of: &dyn Fn(i64) -> i64| {
        let mut counts = [0; 256];
        for (count, value) in counts.iter_mut().zip(0..) {
            *count = count_of(value) as u64;
        }
        otsu(&counts)
    };
    assert_eq!(otsu_of(&|v| v * v % 97), 126);
    let humps = |v: i64| (40 - (v - 30).abs() * 2).max(0) + (90 - (v - 200).abs() * 3).max(0);
    assert_eq!(otsu_of(&humps), 49);
    assert_eq!(otsu_of(&|v| 1000 / (v + 1)), 84);
    assert_eq!(otsu_of(&|v| i64::from(v == 7)), 0, "nothing to part");
}
