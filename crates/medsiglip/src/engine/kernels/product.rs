//! The matrix product that linear layers of float weights and attention are made of.
//!
//! `out(column, lane) = sum over k of x(k, lane) * w(column, k)`: a register holds 16 rows of the batch (fewer where
//! registers are shorter, then several), and is multiplied by one weight after the other, each read from where it is
//! stored. A tile of sums stays in registers while `k` runs; what it reads comes from the caches in order.

use pulp::Simd;

use super::block::Block;
use crate::engine::panels::LANES;

/// The side whose numbers stand in lanes: number (k, lane) of panel p is `data[p * stride + k * LANES + lane]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lanes<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

/// The side whose numbers are taken one at a time: number (column, k) is at the sum of both places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalars<'a> {
    pub data: &'a [f32],
    pub column: Steps,
    pub k: Steps,
}

/// Where the numbers of an axis stand, 16 after 16: number i at `i / LANES * outer + i % LANES * inner`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub inner: usize,
    pub outer: usize,
}

impl Steps {
    /// `step` from each number to the next.
    pub fn even(step: usize) -> Self {
        Self {
            inner: step,
            outer: step * LANES,
        }
    }

    fn are_even(self) -> bool {
        self.outer == self.inner * LANES
    }

    #[inline(always)]
    fn at(self, i: usize) -> usize {
        i / LANES * self.outer + i % LANES * self.inner
    }

    /// The furthest place of the first `count` numbers (at least one); `None` on overflow.
    fn last(self, count: usize) -> Option<usize> {
        let (outer, inner) = ((count - 1) / LANES, (count - 1) % LANES);
        let place = |outer: usize, inner: usize| {
            let outer = outer.checked_mul(self.outer)?;
            outer.checked_add(inner.checked_mul(self.inner)?)
        };
        // The last 16 numbers may be fewer than those before: both ends are looked at.
        let before = outer
            .checked_sub(1)
            .map_or(Some(0), |outer| place(outer, LANES - 1));
        Some(place(outer, inner)?.max(before?))
    }
}

impl<'a> Scalars<'a> {
    /// Row-major weights (columns, depth) whose rows start `stride` apart.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            column: Steps::even(stride),
            k: Steps::even(1),
        }
    }

    /// Length of the data that (columns, depth) reach into; `None` on overflow.
    fn extent(&self, columns: usize, depth: usize) -> Option<usize> {
        let last = self
            .column
            .last(columns)?
            .checked_add(self.k.last(depth)?)?;
        last.checked_add(1)
    }
}

/// What a sum starts with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Start<'a> {
    /// One number a column, added once.
    pub bias: Option<&'a [f32]>,
    /// Whether the sum goes on top of what the output holds.
    pub add: bool,
}

/// `out = start + x w` for all columns and panels of `out`, over `depth` values of k.
///
/// # Panics
/// Where a side does not reach as far as `out` and `depth` say: a mistake of the engine, never of its input.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    (x, w): (Lanes, Scalars),
    depth: usize,
    start: Start,
    out: &mut Block,
) {
    let (panels, columns) = (out.panels(), out.columns());
    if panels == 0 || columns == 0 || depth == 0 {
        return;
    }
    let x_extent = (panels - 1)
        .checked_mul(x.stride)
        .and_then(|last| last.checked_add(depth.checked_mul(LANES)?));
    assert!(
        x_extent.is_some_and(|need| need <= x.data.len()),
        "left side too short"
    );
    assert!(
        w.extent(columns, depth)
            .is_some_and(|need| need <= w.data.len()),
        "right side too short"
    );
    assert!(
        start.bias.is_none_or(|bias| bias.len() >= columns),
        "bias too short"
    );
    let whole = Sweep {
        x,
        w,
        depth,
        start,
        out,
    };
    // Tiles of P panels and R columns fill the registers: P * V * R vectors of sums, P * V of x, one of w. The columns
    // of a tile stand an even step apart: where the steps are not, R divides LANES.
    match (S::F32_LANES, w.column.are_even()) {
        (16, true) => whole.run::<S, 2, 1, 12>(simd),
        (16, false) => whole.run::<S, 2, 1, 8>(simd),
        (8, true) => whole.run::<S, 1, 2, 6>(simd),
        (8, false) => whole.run::<S, 1, 2, 4>(simd),
        (4, true) => whole.run::<S, 1, 4, 6>(simd),
        (4, false) => whole.run::<S, 1, 4, 4>(simd),
        (1, _) => whole.run::<S, 1, LANES, 1>(simd),
        (lanes, _) => unreachable!("no tiles for vectors of {lanes} numbers"),
    }
}

/// A checked product.
struct Sweep<'a, 'b, 'o> {
    x: Lanes<'a>,
    w: Scalars<'a>,
    depth: usize,
    start: Start<'a>,
    out: &'b mut Block<'o>,
}

impl Sweep<'_, '_, '_> {
    /// Tile after tile: `P` panels of `V` vectors each, `R` columns.
    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize, const R: usize>(mut self, simd: S) {
        let mut panel = 0;
        while panel + P <= self.out.panels() {
            self.panels::<S, P, V, R>(simd, panel);
            panel += P;
        }
        while panel < self.out.panels() {
            self.panels::<S, 1, V, R>(simd, panel);
            panel += 1;
        }
    }

    #[inline(always)]
    fn panels<S: Simd, const P: usize, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        panel: usize,
    ) {
        let columns = self.out.columns();
        let mut column = 0;
        while column + R <= columns {
            // SAFETY: `panel + P` and `column + R` are inside `out`; V vectors are the LANES numbers of a panel, as
            // `product` picked V by the vector's length; R columns from a multiple of R on are evenly apart.
            unsafe { self.tile::<S, P, V, R>(simd, panel, column) };
            column += R;
        }
        while column + 4 <= columns && (R.is_multiple_of(4) || self.w.column.are_even()) {
            // SAFETY: as above; where R is a multiple of 4, so is `column`.
            unsafe { self.tile::<S, P, V, 4>(simd, panel, column) };
            column += 4;
        }
        while column < columns {
            // SAFETY: as above.
            unsafe { self.tile::<S, P, V, 1>(simd, panel, column) };
            column += 1;
        }
    }

    /// One tile: P panels from `panel` on, R columns from `column` on.
    ///
    /// # Safety
    /// The tile is inside `out`, its columns stand an even step apart in `w`, and `V` vectors of `S` hold LANES numbers.
    /// The sides reach as far as `out` and `depth`, which [`product`] has checked.
    #[inline(always)]
    unsafe fn tile<S: Simd, const P: usize, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        panel: usize,
        column: usize,
    ) {
        let x = self.x.data.as_ptr().wrapping_add(panel * self.x.stride);
        let w = self.w.data.as_ptr().wrapping_add(self.w.column.at(column));
        let (next_column, next_k) = (self.w.column.inner, self.w.k.inner);
        let place = |p: usize, v: usize| p * self.x.stride + v * S::F32_LANES;

        let mut sums = [[[simd.splat_f32s(0.0); V]; P]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            if let Some(bias) = self.start.bias {
                // SAFETY: `product` has checked that there is a bias for every column.
                let bias = simd.splat_f32s(unsafe { *bias.get_unchecked(column + r) });
                *sums = [[bias; V]; P];
            }
        }

        let mut k = 0;
        while k < self.depth {
            let steps = LANES.min(self.depth - k);
            let w = w.wrapping_add(self.w.k.at(k));
            let x = x.wrapping_add(k * LANES);
            for step in 0..steps {
                let x: [[S::f32s; V]; P] = std::array::from_fn(|p| {
                    std::array::from_fn(|v| {
                        // SAFETY: k + step < depth, so this is a vector (k, lanes) of a panel that `x` has.
                        unsafe { load(x.add(step * LANES + place(p, v))) }
                    })
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: number (column + r, k + step), which `w` has.
                    let w = unsafe { *w.add(r * next_column + step * next_k) };
                    let w = simd.splat_f32s(w);
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = mul_add(simd, *x, w, *sum);
                        }
                    }
                }
            }
            k += steps;
        }

        // SAFETY: the tile is inside `out`, by this function's contract.
        unsafe { self.finish(simd, panel, column, &sums) };
    }

    /// Puts the sums of a tile into `out`.
    ///
    /// # Safety
    /// As [`Sweep::tile`].
    #[inline(always)]
    unsafe fn finish<S: Simd, const P: usize, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        panel: usize,
        column: usize,
        sums: &[[[S::f32s; V]; P]; R],
    ) {
        let (out, stride) = self.out.pointer(panel, column);
        for (r, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    // SAFETY: a vector inside the tile of `out`, which this call borrows mutably.
                    unsafe {
                        let out = out.add(p * stride + r * LANES + v * S::F32_LANES);
                        // Read here, not at the start, where every sum would wait for it.
                        let sum = match self.start.add {
                            true => simd.add_f32s(load(out), *sum),
                            false => *sum,
                        };
                        store(out, sum);
                    }
                }
            }
        }
    }
}

/// `a b + c`, in one instruction where there is one: without, a call would take its place.
#[inline(always)]
fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_f32s(a, b, c)
    }
}

/// # Safety
/// `V` is a vector of f32 (any bits are a value of it), and as many numbers can be read from `from`.
#[inline(always)]
unsafe fn load<V: Copy>(from: *const f32) -> V {
    // SAFETY: by this function's contract; the place need not be aligned for V.
    unsafe { from.cast::<V>().read_unaligned() }
}

/// # Safety
/// As [`load`], for writing.
#[inline(always)]
unsafe fn store<V: Copy>(to: *mut f32, value: V) {
    // SAFETY: by this function's contract; the place need not be aligned for V.
    unsafe { to.cast::<V>().write_unaligned(value) }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use proptest::prelude::*;
    use pulp::WithSimd;

    struct Product<'a> {
        x: Lanes<'a>,
        w: Scalars<'a>,
        depth: usize,
        start: Start<'a>,
        out: &'a mut [f32],
        columns: usize,
    }

    impl WithSimd for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut out = Block::whole(self.out, self.columns);
            product(simd, (self.x, self.w), self.depth, self.start, &mut out);
        }
    }

    /// Runs `check` with every instruction set that this machine has.
    fn for_each_simd(check: impl Fn(&dyn Fn(Product))) {
        check(&|product| product.with_simd(pulp::Scalar));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(v3) = pulp::x86::V3::try_new() {
                check(&|product| Simd::vectorize(v3, product));
            }
            if let Some(v4) = pulp::x86::V4::try_new() {
                check(&|product| Simd::vectorize(v4, product));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = pulp::aarch64::Neon::try_new() {
            check(&|product| Simd::vectorize(neon, product));
        }
    }

    const CASES: u32 = if cfg!(miri) { 8 } else { 256 };

    proptest! {
        #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn equals_the_reference(panels in 1usize..6, columns in 1usize..30, depth in 1usize..50, gap in 0usize..3, layout in 0..3, bias: bool, add: bool, seed: u8) {
            let seed = usize::from(seed);
            let x = reference::numbers(panels * (depth + gap) * LANES, seed);
            let x = Lanes { data: &x, stride: (depth + gap) * LANES };
            let w = reference::numbers((columns + LANES) * (depth + LANES + gap) * 2, seed + 1);
            // Row-major weights; columns of panels, and their lanes, as attention takes them.
            let w = if layout == 2 {
                let panel = Steps { inner: 1, outer: (depth + gap) * LANES };
                Scalars { data: &w, column: panel, k: Steps::even(LANES) }
            } else if layout == 1 {
                Scalars { data: &w, column: Steps::even(LANES), k: Steps { inner: 1, outer: (columns + gap) * LANES } }
            } else {
                Scalars::rows(&w, depth + gap)
            };
            let bias = bias.then(|| reference::numbers(columns, seed + 2));
            let old = reference::numbers(panels * columns * LANES, seed + 3);
            for_each_simd(|run| {
                let mut out = old.clone();
                let start = Start { bias: bias.as_deref(), add };
                run(Product { x, w, depth, start, out: &mut out, columns });
                for (place, got) in out.iter().enumerate() {
                    let (panel, column, lane) = (place / LANES / columns, place / LANES % columns, place % LANES);
                    let mut want: f64 = (0..depth).map(|k| {
                        let x = x.data[panel * x.stride + k * LANES + lane];
                        let w = w.data[w.column.at(column) + w.k.at(k)];
                        f64::from(x) * f64::from(w)
                    }).sum();
                    want += bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
                    want += if add { f64::from(old[place]) } else { 0.0 };
                    assert!((f64::from(*got) - want).abs() < 1e-4, "{got} {want} at {place}");
                }
            });
        }
    }

    #[test]
    #[should_panic(expected = "right side too short")]
    fn refuses_weights_that_end_too_early() {
        let (x, w) = ([0.0; 5 * LANES], [0.0; 14]);
        let x = Lanes {
            data: &x,
            stride: 5 * LANES,
        };
        let w = Scalars::rows(&w, 5);
        let mut out = [0.0; 3 * LANES];
        let mut out = Block::whole(&mut out, 3);
        product(pulp::Scalar, (x, w), 5, Start::default(), &mut out);
    }

    #[test]
    #[should_panic(expected = "left side too short")]
    fn refuses_panels_that_end_too_early() {
        let (x, w) = ([0.0; 10 * LANES - 1], [0.0; 15]);
        let x = Lanes {
            data: &x,
            stride: 5 * LANES,
        };
        let w = Scalars::rows(&w, 5);
        let mut out = [0.0; 6 * LANES];
        let mut out = Block::whole(&mut out, 3);
        product(pulp::Scalar, (x, w), 5, Start::default(), &mut out);
    }
}
