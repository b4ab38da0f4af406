//! How activations lie in memory: in panels of 16 rows, side by side.
//!
//! A matrix of R rows and D columns is cut into panels of [`LANES`] rows. Number (row, d) of a panel stands at
//! `d * LANES + row`, so that one vector register holds the same column of 16 rows. Every kernel works straight down
//! the columns: layer norms and softmax never sum across a register, a linear layer reads its weights one by one
//! where they are stored, and its output is laid out as the next layer's input. Nothing is packed or transposed
//! between layers.
//!
//! Each item (a picture's patches, a text's tokens) starts a new panel. Where its rows do not fill the last one, the
//! spare lanes hold numbers that belong to nobody: no lane ever reads another one, but for attention, which counts
//! the real rows.

/// Rows of a panel.
pub(super) const LANES: usize = 16;

/// How many rows there are: `items` items of `tokens` rows each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// Pictures or texts, B.
    pub items: usize,
    /// Patches or tokens of each, N or T.
    pub tokens: usize,
}

impl Rows {
    /// Panels of one item.
    pub fn panels_of_item(self) -> usize {
        self.tokens.div_ceil(LANES)
    }

    /// Panels in all.
    pub fn panels(self) -> usize {
        self.items * self.panels_of_item()
    }

    /// Numbers in the panels of `width` columns.
    pub fn len(self, width: usize) -> usize {
        self.panels() * LANES * width
    }

    /// Where column 0 of an item's token stands; column d stands `d * LANES` further.
    pub fn at(self, item: usize, token: usize, width: usize) -> usize {
        let panel = item * self.panels_of_item() + token / LANES;
        panel * LANES * width + token % LANES
    }

    /// One row of `width` numbers.
    pub fn row(
        self,
        panels: &[f32],
        item: usize,
        token: usize,
        width: usize,
    ) -> impl Iterator<Item = f32> {
        let column = panels.iter().skip(self.at(item, token, width));
        column.step_by(LANES).take(width).copied()
    }

    /// All rows, (B * tokens, `width`), row-major.
    pub fn gather(self, panels: &[f32], width: usize) -> Vec<f32> {
        let places = (0..self.items).flat_map(|item| (0..self.tokens).map(move |t| (item, t)));
        places
            .flat_map(|(item, token)| self.row(panels, item, token, width))
            .collect()
    }

    /// Puts row-major rows (B * tokens, `width`) into panels; spare lanes stay as they are.
    pub fn scatter(self, rows: &[f32], width: usize, panels: &mut [f32]) {
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let start = self.at(index / self.tokens, index % self.tokens, width);
            let column = panels[start..].iter_mut().step_by(LANES);
            column.zip(row).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went() {
        for (items, tokens, width) in [(1, 16, 3), (2, 17, 5), (3, 1, 1), (2, 40, 7)] {
            let rows = Rows { items, tokens };
            let numbers: Vec<f32> = (0..items * tokens * width).map(|i| i as f32).collect();
            let mut panels = vec![f32::NAN; rows.len(width)];
            rows.scatter(&numbers, width, &mut panels);
            assert_eq!(rows.gather(&panels, width), numbers);
            let last = rows.row(&panels, items - 1, tokens - 1, width);
            assert_eq!(last.collect::<Vec<_>>(), numbers[numbers.len() - width..]);
        }
    }
}
