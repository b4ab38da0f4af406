//! Heat maps as pictures: values over a thumbnail, and a legend below it.

use font8x8::UnicodeFonts;
use medsiglip::image::{Picture, Samples};

use crate::messages::Result;

/// How much of a colour lies over the thumbnail.
const OPACITY: f32 = 0.55;
/// Side of a letter before it is enlarged.
const LETTER: u32 = 8;
/// Narrowest picture, so that the legend has room.
const MIN_WIDTH: u32 = 480;
const MARGIN: u32 = 8;
const BAR: u32 = 14;
const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];

/// A square of a slide and its value, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Square {
    /// Left side in pixels of level 0.
    pub x: u32,
    /// Upper side in pixels of level 0.
    pub y: u32,
    /// What is shown.
    pub value: f32,
}

/// Draws `squares` of side `side` over the `thumbnail` of a slide that is `width` pixels wide; where some overlap, their
/// mean. Below stand a scale from 0 to 1 and `lines`.
pub fn heatmap(
    thumbnail: &Picture,
    width: u32,
    side: u32,
    squares: &[Square],
    lines: &[String],
) -> Result<Picture> {
    let scale = f64::from(thumbnail.width()) / f64::from(width.max(1));
    let mut canvas = Canvas::with_room(thumbnail, lines.len() as u32);
    let (columns, rows) = (thumbnail.width(), thumbnail.height());
    let mut values = vec![(0.0_f32, 0_u32); columns as usize * rows as usize];
    let at = |x: u32, end: u32| ((f64::from(x) * scale).round() as u32).min(end);
    for square in squares {
        let (left, right) = (
            at(square.x, columns),
            at(square.x.saturating_add(side), columns),
        );
        let (top, bottom) = (at(square.y, rows), at(square.y.saturating_add(side), rows));
        // A tile that is smaller than a pixel still shows.
        for y in top..bottom.max(top + 1).min(rows) {
            for x in left..right.max(left + 1).min(columns) {
                if let Some((sum, count)) = values.get_mut((y * columns + x) as usize) {
                    *sum += square.value;
                    *count += 1;
                }
            }
        }
    }
    for (i, (sum, count)) in values.into_iter().enumerate() {
        if count > 0 {
            let (x, y) = (i as u32 % columns, i as u32 / columns);
            canvas.blend(x, y, color(sum / count as f32));
        }
    }
    canvas.legend(rows, lines);
    canvas.into_picture()
}

/// The colour of a value, 0 to 1: viridis, which can be told apart in gray and by the colour-blind.
fn color(value: f32) -> [u8; 3] {
    let value = f64::from(value.clamp(0.0, 1.0));
    let colorous::Color { r, g, b } = colorous::VIRIDIS.eval_continuous(value);
    [r, g, b]
}

struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Canvas {
    /// The thumbnail, and white below it for a legend of so many lines.
    fn with_room(thumbnail: &Picture, lines: u32) -> Self {
        let width = thumbnail.width().max(MIN_WIDTH);
        let letter = Self::letter(width);
        let legend = MARGIN + BAR + (lines + 1) * (letter + MARGIN / 2) + 2 * MARGIN;
        let height = thumbnail.height() + legend;
        let mut canvas = Self {
            width,
            height,
            rgb: vec![255; 3 * width as usize * height as usize],
        };
        if let Samples::U8(samples) = thumbnail.samples() {
            let pixels = samples.as_chunks::<3>().0;
            for (i, pixel) in pixels.iter().enumerate() {
                let i = i as u32;
                canvas.set(i % thumbnail.width(), i / thumbnail.width(), *pixel);
            }
        }
        canvas
    }

    /// Side of a letter.
    fn letter(width: u32) -> u32 {
        if width >= 1000 { 2 * LETTER } else { LETTER }
    }

    fn pixel(&mut self, x: u32, y: u32) -> Option<&mut [u8; 3]> {
        let at = (x < self.width).then_some(y as usize * self.width as usize + x as usize)?;
        self.rgb.as_chunks_mut().0.get_mut(at)
    }

    fn set(&mut self, x: u32, y: u32, color: [u8; 3]) {
        if let Some(pixel) = self.pixel(x, y) {
            *pixel = color;
        }
    }

    fn blend(&mut self, x: u32, y: u32, color: [u8; 3]) {
        if let Some(pixel) = self.pixel(x, y) {
            for (old, new) in pixel.iter_mut().zip(color) {
                let mixed = f32::from(*old) * (1.0 - OPACITY) + f32::from(new) * OPACITY;
                *old = mixed.round() as u8;
            }
        }
    }

    /// The scale as it looks over white, with its numbers, and lines below it.
    fn legend(&mut self, top: u32, lines: &[String]) {
        let letter = Self::letter(self.width);
        let length = (self.width - 2 * MARGIN).min(480);
        let bar = top + MARGIN;
        for x in 0..length {
            for y in 0..BAR {
                self.set(MARGIN + x, bar + y, WHITE);
                self.blend(MARGIN + x, bar + y, color(x as f32 / (length - 1) as f32));
            }
        }
        let mut y = bar + BAR + MARGIN / 2;
        for (share, text) in [(0, "0"), (1, "0.5"), (2, "1")] {
            let wide = text.len() as u32 * letter;
            let x = MARGIN + (length * share / 2).saturating_sub(wide * share / 2);
            self.text(x, y, text);
        }
        for line in lines {
            y += letter + MARGIN / 2;
            self.text(MARGIN, y, line);
        }
    }

    fn text(&mut self, x: u32, y: u32, text: &str) {
        let zoom = Self::letter(self.width) / LETTER;
        for (place, letter) in (0..).zip(text.chars()) {
            for (row, bits) in (0..).zip(glyph(letter)) {
                for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                    let left = x + (place * LETTER + column) * zoom;
                    for (dx, dy) in (0..zoom).flat_map(|dx| (0..zoom).map(move |dy| (dx, dy))) {
                        self.set(left + dx, y + row * zoom + dy, BLACK);
                    }
                }
            }
        }
    }

    fn into_picture(self) -> Result<Picture> {
        Ok(Picture::new(
            self.width,
            self.height,
            3,
            Samples::U8(self.rgb),
        )?)
    }
}

/// A letter, row by row, the leftmost pixel in the lowest bit; a box for what the font lacks.
fn glyph(letter: char) -> [u8; 8] {
    const BOX: [u8; 8] = [0x7F, 0x41, 0x41, 0x41, 0x41, 0x41, 0x7F, 0];
    let basic = font8x8::BASIC_FONTS.get(letter);
    let latin = || font8x8::LATIN_FONTS.get(letter);
    let greek = || font8x8::GREEK_FONTS.get(letter);
    basic.or_else(latin).or_else(greek).unwrap_or(BOX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_coloured_where_they_lie_and_the_rest_stays() {
        let gray = Picture::new(100, 50, 3, Samples::U8(vec![200; 100 * 50 * 3])).unwrap();
        let square = |x, y, value| Square { x, y, value };
        // A slide of 1000 x 500; the last two overlap.
        let squares = [
            square(0, 0, 0.0),
            square(500, 100, 1.0),
            square(500, 100, 0.0),
        ];
        let lines = ["tumor".to_owned()];
        let map = heatmap(&gray, 1000, 100, &squares, &lines).unwrap();
        let Samples::U8(samples) = map.samples() else {
            panic!()
        };
        let pixel = |x: u32, y: u32| {
            let at = 3 * (y * map.width() + x) as usize;
            [samples[at], samples[at + 1], samples[at + 2]]
        };
        let over =
            |value| color(value).map(|c| (200.0 * 0.45 + f32::from(c) * 0.55_f32).round() as u8);
        assert_eq!(pixel(0, 0), over(0.0));
        assert_eq!(pixel(9, 9), over(0.0));
        assert_eq!(pixel(10, 10), [200; 3]);
        assert_eq!(pixel(55, 15), over(0.5));
        assert_eq!(pixel(49, 15), [200; 3]);
        assert!(map.height() > 50 && map.width() == MIN_WIDTH);
        let ink = samples
            .as_chunks::<3>()
            .0
            .iter()
            .filter(|p| **p == BLACK)
            .count();
        assert!(ink > 50, "{ink}");
    }
}
