//! Pictures of yes and no: majority, dilation, closing, and areas that hang together.
//!
//! All neighbourhoods are squares, so that each is two passes of running counts.

/// A picture of yes and no.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plane {
    width: usize,
    height: usize,
    /// Row by row.
    bits: Vec<bool>,
}

impl Plane {
    /// `bits` are width x height.
    pub(super) fn new(width: usize, height: usize, bits: Vec<bool>) -> Self {
        debug_assert_eq!(bits.len(), width * height);
        Self {
            width,
            height,
            bits,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    pub(super) fn bits(&self) -> &[bool] {
        &self.bits
    }

    /// Takes out what is in `other`, a plane of the same size.
    pub(super) fn subtract(&mut self, other: &Plane) {
        for (bit, other) in self.bits.iter_mut().zip(&other.bits) {
            *bit &= !other;
        }
    }

    /// For each place whether the yes in its square of `radius`, of the places of the square on the plane, are enough.
    fn map(&self, radius: usize, is_enough: impl Fn(u32, u32) -> bool) -> Plane {
        let mut counts: Vec<u32> = self.bits.iter().map(|bit| u32::from(*bit)).collect();
        if self.bits.is_empty() {
            return self.clone();
        }
        let mut sums = vec![0; self.width.max(self.height)];
        for row in counts.chunks_exact_mut(self.width) {
            window_sums(row.iter().copied(), radius, &mut sums);
            row.copy_from_slice(&sums[..self.width]);
        }
        for x in 0..self.width {
            let column = counts.iter().skip(x).step_by(self.width).copied();
            window_sums(column, radius, &mut sums);
            for (count, sum) in counts.iter_mut().skip(x).step_by(self.width).zip(&sums) {
                *count = *sum;
            }
        }
        let span = |at: usize, len: usize| {
            ((at + radius).min(len - 1) - at.saturating_sub(radius) + 1) as u32
        };
        let bits = counts.iter().enumerate().map(|(at, &count)| {
            let area = span(at % self.width, self.width) * span(at / self.width, self.height);
            is_enough(count, area)
        });
        Plane::new(self.width, self.height, bits.collect())
    }
}

/// The sum of the values within `radius` of each.
fn window_sums(values: impl ExactSizeIterator<Item = u32> + Clone, radius: usize, out: &mut [u32]) {
    let len = values.len();
    let (mut entering, mut leaving) = (values.clone(), values);
    let mut sum: u32 = entering.by_ref().take(radius).sum();
    for (at, out) in out.iter_mut().take(len).enumerate() {
        sum += entering.next().unwrap_or(0);
        if at > radius {
            sum -= leaving.next().unwrap_or(0);
        }
        *out = sum;
    }
}

/// Yes where more than half of the square is yes: the median of both values.
pub(super) fn majority(plane: &Plane, radius: usize) -> Plane {
    plane.map(radius, |count, area| 2 * count > area)
}

/// Yes where the square has a yes.
pub(super) fn dilate(plane: &Plane, radius: usize) -> Plane {
    plane.map(radius, |count, _| count > 0)
}

/// Dilation, then erosion: gaps narrower than the square are closed.
pub(super) fn close(plane: &Plane, radius: usize) -> Plane {
    dilate(plane, radius).map(radius, |count, area| count == area)
}

/// Removes pieces, whose places hang together by sides or corners, of fewer than `min_area` places.
pub(super) fn remove_small(plane: &mut Plane, min_area: usize) {
    replace_areas(plane, true, |area, _| area < min_area);
}

/// Fills holes, whose places hang together by their sides, of fewer than `max_area` places; what reaches the border is no
/// hole.
pub(super) fn fill_holes(plane: &mut Plane, max_area: usize) {
    replace_areas(plane, false, |area, is_at_border| {
        !is_at_border && area < max_area
    });
}

/// Turns the areas of `kind` over that `is_replaced` (by their number of places, and whether they reach the border).
fn replace_areas(plane: &mut Plane, kind: bool, is_replaced: impl Fn(usize, bool) -> bool) {
    let (width, height) = (plane.width, plane.height);
    let mut is_seen = vec![false; plane.bits.len()];
    let mut area = Vec::new();
    for start in 0..plane.bits.len() {
        if is_seen[start] || plane.bits[start] != kind {
            continue;
        }
        let mut is_at_border = false;
        area.clear();
        area.push(start);
        is_seen[start] = true;
        let mut next = 0;
        while let Some(&at) = area.get(next) {
            next += 1;
            let (x, y) = (at % width, at / width);
            is_at_border |= x == 0 || y == 0 || x + 1 == width || y + 1 == height;
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let neighbour = ny * width + nx;
                    let is_joined = kind || nx == x || ny == y;
                    if is_joined && plane.bits[neighbour] == kind && !is_seen[neighbour] {
                        is_seen[neighbour] = true;
                        area.push(neighbour);
                    }
                }
            }
        }
        if is_replaced(area.len(), is_at_border) {
            for &at in &area {
                plane.bits[at] = !kind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(rows: &[&str]) -> Plane {
        let bits = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#'));
        Plane::new(rows[0].len(), rows.len(), bits.collect())
    }

    /// The plain rule, place by place.
    fn brute(plane: &Plane, radius: usize, is_enough: impl Fn(u32, u32) -> bool) -> Plane {
        let mut bits = Vec::new();
        for y in 0..plane.height {
            for x in 0..plane.width {
                let (mut count, mut area) = (0, 0);
                for ny in y.saturating_sub(radius)..(y + radius + 1).min(plane.height) {
                    for nx in x.saturating_sub(radius)..(x + radius + 1).min(plane.width) {
                        area += 1;
                        count += u32::from(plane.bits[ny * plane.width + nx]);
                    }
                }
                bits.push(is_enough(count, area));
            }
        }
        Plane::new(plane.width, plane.height, bits)
    }

    #[test]
    fn running_counts_are_the_plain_rule() {
        let mut state = 1_u32;
        for (width, height) in [(1, 1), (1, 9), (13, 2), (31, 17)] {
            for radius in [0, 1, 2, 5, 40] {
                let bits = (0..width * height).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 31 == 1
                });
                let plane = Plane::new(width, height, bits.collect());
                assert_eq!(
                    majority(&plane, radius),
                    brute(&plane, radius, |count, area| 2 * count > area)
                );
                let dilated = brute(&plane, radius, |count, _| count > 0);
                assert_eq!(dilate(&plane, radius), dilated);
                assert_eq!(
                    close(&plane, radius),
                    brute(&dilated, radius, |count, area| count == area)
                );
            }
        }
    }

    #[test]
    fn pieces_join_at_corners_and_holes_do_not() {
        let before = plane(&[
            "#......", //
            ".#..###", //
            "....#.#", //
            "....###", //
            "......#",
        ]);
        let mut pieces = before.clone();
        remove_small(&mut pieces, 2);
        assert_eq!(pieces, before);
        remove_small(&mut pieces, 3);
        assert!(!pieces.bits[0] && pieces.bits[11]);

        let mut holes = before.clone();
        fill_holes(&mut holes, 1);
        assert_eq!(holes, before);
        fill_holes(&mut holes, 2);
        let filled = plane(&[
            "#......", //
            ".#..###", //
            "....###", //
            "....###", //
            "......#",
        ]);
        assert_eq!(holes, filled);
        fill_holes(&mut holes, usize::MAX);
        assert_eq!(holes, filled, "the border is no hole");
    }
}
