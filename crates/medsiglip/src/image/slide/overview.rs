//! A thumbnail that shows what was cut, so that a person can look.

use super::picture::picture_of;
use super::reduce::{Reduced, reduce_to_side};
use super::{Picture, Slide, Tiling, TissueMask};
use crate::Result;

const GRID: [u8; 3] = [0, 0, 255];
const OUTLINE: [u8; 3] = [0, 160, 0];

impl Tiling {
    /// The slide with the outline of its tissue (green) and its tiles (blue), at most `max_side` pixels on the longer side.
    ///
    /// # Errors
    /// As [`super::thumbnail`].
    pub fn overview(&self, slide: &dyn Slide, max_side: u32) -> Result<Picture> {
        let mut canvas = reduce_to_side(slide, max_side)?;
        let at = |v: u32| (f64::from(v) / canvas.downsample).round() as u32;
        let squares: Vec<_> = self
            .tiles
            .iter()
            .map(|&(x, y)| {
                let end = |v: u32| at(v.saturating_add(self.size_level0));
                (at(x)..end(x), at(y)..end(y))
            })
            .collect();
        for (columns, rows) in squares {
            for x in columns.clone() {
                canvas.set(x, rows.start, GRID);
                canvas.set(x, rows.end, GRID);
            }
            for y in rows.start..=rows.end {
                canvas.set(columns.start, y, GRID);
                canvas.set(columns.end, y, GRID);
            }
        }
        if let Some(mask) = &self.mask {
            draw_outline(&mut canvas, mask);
        }
        picture_of(canvas.width, canvas.height, canvas.rgb)
    }
}

/// Colours the pixels of the tissue that have glass beside them, two pixels wide.
fn draw_outline(canvas: &mut Reduced, mask: &TissueMask) {
    let scale = canvas.downsample / mask.downsample();
    let is_tissue = |x: u32, y: u32| {
        let place = |v: u32, len: u32| (((f64::from(v) + 0.5) * scale) as u32).min(len - 1);
        let (x, y) = (place(x, mask.width()), place(y, mask.height()));
        mask.is_tissue()[y as usize * mask.width() as usize + x as usize]
    };
    for y in 0..canvas.height {
        for x in 0..canvas.width {
            let (right, below) = (
                (x + 2).min(canvas.width - 1),
                (y + 2).min(canvas.height - 1),
            );
            let neighbours = [
                (x.saturating_sub(2), y),
                (right, y),
                (x, y.saturating_sub(2)),
                (x, below),
            ];
            if is_tissue(x, y) && neighbours.iter().any(|&(x, y)| !is_tissue(x, y)) {
                canvas.set(x, y, OUTLINE);
            }
        }
    }
}

impl Reduced {
    /// Colours a pixel; what lies outside is left out.
    fn set(&mut self, x: u32, y: u32, color: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = 3 * (y as usize * self.width as usize + x as usize);
            self.rgb[at..at + 3].copy_from_slice(&color);
        }
    }
}
