//! Splitting an output over threads: each task gets the one [`Block`] that it alone writes.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::engine::panels::LANES;

/// Consecutive columns of consecutive panels of an output.
pub(super) struct Block<'a> {
    /// Column 0 of panel 0 of the block.
    start: *mut f32,
    /// From one panel's start to the next one's.
    stride: usize,
    panels: usize,
    columns: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is an exclusive borrow of its numbers, like the `&mut [f32]` it was made from; f32 is Send.
unsafe impl Send for Block<'_> {}

/// Which block of an output a task has.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its panels.
    pub panels: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
}

impl<'a> Block<'a> {
    /// All of `out`, which has panels of `columns` columns.
    pub fn whole(out: &'a mut [f32], columns: usize) -> Self {
        let stride = columns.checked_mul(LANES).expect("columns of real data");
        Self {
            start: out.as_mut_ptr(),
            stride,
            panels: out.len().checked_div(stride).unwrap_or(0),
            columns,
            borrowed: PhantomData,
        }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.panels
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The block's columns of one panel, (columns, LANES).
    pub fn panel(&mut self, panel: usize) -> &mut [f32] {
        assert!(panel < self.panels, "no such panel");
        // SAFETY: `start` points to (panels, columns) that this block alone borrows, `stride` apart: `whole` took them
        // from one slice, and `part` stays inside. `&mut self` keeps two of these slices from living side by side.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.add(panel * self.stride),
                self.columns * LANES,
            )
        }
    }

    /// A part of the block.
    pub fn part(&mut self, place: Place) -> Block<'_> {
        // SAFETY: `&mut self` lends the whole block for as long as the part lives.
        unsafe { self.part_unchecked(&place) }
    }

    /// A pointer to column `column` of panel `panel`, and the distance between panels: for the product's register tile.
    pub fn pointer(&mut self, panel: usize, column: usize) -> (*mut f32, usize) {
        assert!(panel < self.panels && column < self.columns, "outside");
        // SAFETY: the place is inside the block, as just asserted.
        (
            unsafe { self.start.add(panel * self.stride + column * LANES) },
            self.stride,
        )
    }

    /// # Safety
    /// No two parts that overlap may be used while both live.
    unsafe fn part_unchecked(&self, place: &Place) -> Block<'a> {
        let Place { panels, columns } = place;
        assert!(
            panels.start <= panels.end && panels.end <= self.panels,
            "panels outside the block"
        );
        assert!(
            columns.start <= columns.end && columns.end <= self.columns,
            "columns outside the block"
        );
        Block {
            // `wrapping_add`: an empty part may start where the slice ends.
            start: self
                .start
                .wrapping_add(panels.start * self.stride + columns.start * LANES),
            stride: self.stride,
            panels: panels.len(),
            columns: columns.len(),
            borrowed: PhantomData,
        }
    }
}

/// How an output is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Columns of the output.
    pub width: usize,
    /// Columns of a block, at most.
    pub columns: usize,
    /// Panels that belong together: no block has panels of two groups.
    pub group: usize,
    /// Panels of a block, at most.
    pub panels: usize,
}

/// Runs `work` for every block of `out` on the threads of the current pool.
pub(super) fn for_each_block(out: &mut [f32], cut: Cut, work: impl Fn(Place, Block) + Sync) {
    let whole = Shared(Block::whole(out, cut.width));
    if whole.get().panels == 0 {
        return;
    }
    let in_group = cut.group.div_ceil(cut.panels);
    let across = whole.get().panels.div_ceil(cut.group) * in_group;
    let down = cut.width.div_ceil(cut.columns);
    (0..across * down)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let (column, panel) = (task / across * cut.columns, task % across);
            let group = panel / in_group * cut.group;
            let end = whole.get().panels.min(group + cut.group);
            let start = end.min(group + panel % in_group * cut.panels);
            let place = Place {
                panels: start..end.min(start + cut.panels),
                columns: column..cut.width.min(column + cut.columns),
            };
            // SAFETY: the places of two tasks never overlap: they differ in their columns, which are cut every
            // `cut.columns`, or in their panels, which are cut every `cut.panels` within groups that are cut every
            // `cut.group`.
            let block = unsafe { whole.get().part_unchecked(&place) };
            work(place, block);
        });
}

/// A block that tasks take their parts from.
struct Shared<'a>(Block<'a>);

// SAFETY: through `&Shared` nothing is read or written but by `part_unchecked`, whose contract keeps tasks apart.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn get(&self) -> &Block<'a> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_has_one_task(groups in 1usize..4, group in 1usize..6, width in 1usize..9, columns in 1usize..10, panels in 1usize..7) {
            let mut out = vec![0.0; groups * group * width * LANES];
            for_each_block(&mut out, Cut { width, columns, group, panels }, |place, mut block| {
                assert_eq!((block.panels(), block.columns()), (place.panels.len(), place.columns.len()));
                for (panel, index) in place.panels.clone().enumerate() {
                    for (i, x) in block.panel(panel).iter_mut().enumerate() {
                        *x += ((index * width + place.columns.start) * LANES + i) as f32 + 1.0;
                    }
                }
            });
            let want: Vec<f32> = (0..out.len()).map(|i| i as f32 + 1.0).collect();
            prop_assert_eq!(out, want);
        }
    }
}
