//! The linear layer over 8-bit weights: `y = x W^T + b` with `W` in [-127, 127] times one scale an output, and `x`
//! rounded to unsigned 8-bit integers with a scale and a zero point of each row, found as it comes ("dynamic").
//!
//! `x = s (u - z)` and `w = t v` with integers `u`, `z`, `v`, so `sum x w = s t (sum u v - z sum v)`: the first sum runs in
//! the processor's 8-bit dot products, four values of k at a time; the second is one number an output.
//!
//! AVX-512 VNNI and AVX-VNNI sum four products in 32 bits. AVX2 sums two in 16 bits and saturates beyond 32767: there `u`
//! has 7 bits, so that 2 * 127 * 127 fits and every sum is exact.

mod dot;

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::dot::{Dot, Plain};
use super::activation::gelu;
use super::block::{Block, Cut, Place, for_each_block};
use super::linear::{COLUMNS, Then, panels_of_task};
use crate::engine::panels::LANES;

/// Values of k in one 32-bit lane.
const GROUP: usize = 4;

// Sums of `input` products of 255 and -128 fit 32 bits for every width that a config may have.
const _: () = assert!(crate::config::MAX_MLP * 255 * 128 <= i32::MAX as usize);

/// The weights of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights<'a> {
    /// (out, in).
    pub values: &'a [i8],
    /// (out).
    pub scales: &'a [f32],
    /// (out).
    pub bias: &'a [f32],
}

/// Rows of x as integers: of each panel (in / 4, LANES) groups of four bytes.
#[derive(Debug, Default)]
struct Quantized {
    groups: Vec<[u32; LANES]>,
    rows: Vec<Lanes>,
}

/// What the integers of a panel's rows stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Lanes {
    scale: [f32; LANES],
    zero: [i32; LANES],
}

thread_local! {
    /// Kept from layer to layer by the thread that calls [`linear`].
    static QUANTIZED: RefCell<Quantized> = const { RefCell::new(Quantized { groups: Vec::new(), rows: Vec::new() }) };
    /// Weights of the block that this thread works on, where they must be padded.
    static PADDED: RefCell<Vec<i8>> = const { RefCell::new(Vec::new()) };
}

/// As [`super::linear`].
pub(super) fn linear(x: &[f32], w: Weights, then: Then, y: &mut [f32]) {
    linear_on(Unit::best(), x, w, then, y);
}

fn linear_on(unit: Unit, x: &[f32], w: Weights, then: Then, y: &mut [f32]) {
    let output = w.bias.len();
    let panels = y.len() / (output * LANES);
    let cut = Cut {
        width: output,
        columns: COLUMNS,
        group: panels,
        panels: panels_of_task(panels, output.div_ceil(COLUMNS)),
    };
    // Taken out, not borrowed: while this thread waits for the others, the pool may give it another call's work.
    let mut quantized = QUANTIZED.take();
    quantized.fill(x, w.values.len() / output, unit.levels());
    for_each_block(y, cut, |place, block| {
        let task = Task {
            x: &quantized,
            w,
            then,
            place,
            block,
        };
        unit.run(task);
    });
    QUANTIZED.set(quantized);
}

impl Quantized {
    /// Takes panels of `input` columns, rounded to integers from 0 to `levels`.
    fn fill(&mut self, x: &[f32], input: usize, levels: f32) {
        let groups = input.div_ceil(GROUP);
        let panels = x.len() / (input * LANES);
        self.groups.resize(panels * groups, [0; LANES]);
        self.rows.resize(panels, Lanes::default());
        self.groups
            .par_chunks_exact_mut(groups)
            .zip(&mut self.rows)
            .zip(x.par_chunks_exact(input * LANES))
            .for_each(|((groups, lanes), x)| {
                *lanes = Arch::new().dispatch(Panel { x, levels, groups });
            });
    }
}

/// One panel to quantize.
struct Panel<'a> {
    x: &'a [f32],
    levels: f32,
    groups: &'a mut [[u32; LANES]],
}

impl WithSimd for Panel<'_> {
    type Output = Lanes;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Lanes {
        quantize(self.x, self.levels, self.groups)
    }
}

/// One panel. Zero is among the integers' values, exactly.
#[inline(always)]
fn quantize(x: &[f32], levels: f32, groups: &mut [[u32; LANES]]) -> Lanes {
    let (x, _) = x.as_chunks::<LANES>();
    let (mut low, mut high) = ([0.0f32; LANES], [0.0f32; LANES]);
    // NaN where a number of the row is not finite, else 0: no integer stands for such a row, its scale must tell.
    let mut spoilt = [0.0f32; LANES];
    for x in x {
        for lane in 0..LANES {
            spoilt[lane] += x[lane] * 0.0;
            low[lane] = low[lane].min(x[lane]);
            high[lane] = high[lane].max(x[lane]);
        }
    }
    let mut lanes = Lanes::default();
    let (mut inverse, mut zero) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        let scale = (high[lane] - low[lane]) / levels + spoilt[lane];
        inverse[lane] = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        lanes.scale[lane] = scale;
        zero[lane] = round(-low[lane] * inverse[lane], levels);
        lanes.zero[lane] = zero[lane] as i32;
    }
    for (group, x) in groups.iter_mut().zip(x.chunks(GROUP)) {
        *group = [0; LANES];
        for (byte, x) in x.iter().enumerate() {
            for lane in 0..LANES {
                let value = round(x[lane] * inverse[lane] + zero[lane], levels);
                group[lane] |= (value as i32 as u32) << (8 * byte);
            }
        }
    }
    lanes
}

/// To the nearest integer from 0 to `levels`, ties to even; NaN to 0.
#[inline(always)]
fn round(x: f32, levels: f32) -> f32 {
    x.round_ties_even().max(0.0).min(levels)
}

/// One block of the output.
struct Task<'a, 'o> {
    x: &'a Quantized,
    w: Weights<'a>,
    then: Then,
    place: Place,
    block: Block<'o>,
}

impl Task<'_, '_> {
    /// Tiles of `P` panels of `V` vectors and `R` columns.
    ///
    /// # Safety
    /// The machine has `D`'s instructions, and this is compiled with them.
    #[inline(always)]
    unsafe fn run<D: Dot, const P: usize, const V: usize, const R: usize>(mut self, dot: D) {
        let input = self.w.values.len() / self.w.bias.len();
        let columns = self.place.columns.clone();
        let weights = &self.w.values[columns.start * input..columns.end * input];
        // The four bytes of the last group must belong to the row.
        let stride = input.next_multiple_of(GROUP);
        let mut padded = PADDED.take();
        let weights = if stride == input {
            weights
        } else {
            padded.clear();
            padded.resize(columns.len() * stride, 0);
            for (to, from) in padded
                .chunks_exact_mut(stride)
                .zip(weights.chunks_exact(input))
            {
                to[..input].copy_from_slice(from);
            }
            &padded
        };
        let mut sums = [0; COLUMNS];
        for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(stride)) {
            *sum = row.iter().map(|v| i32::from(*v)).sum();
        }
        let tile = Tiles {
            weights,
            stride,
            sums,
        };
        let panels = self.block.panels();
        let mut panel = 0;
        while panel < panels {
            // SAFETY: by this function's contract.
            unsafe {
                if panel + P <= panels {
                    self.panels::<D, P, V, R>(dot, &tile, panel);
                    panel += P;
                } else {
                    self.panels::<D, 1, V, R>(dot, &tile, panel);
                    panel += 1;
                }
            }
        }
        PADDED.set(padded);
    }

    /// All columns of `P` panels.
    ///
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn panels<D: Dot, const P: usize, const V: usize, const R: usize>(
        &mut self,
        dot: D,
        tiles: &Tiles,
        panel: usize,
    ) {
        let groups = tiles.stride / GROUP;
        let first = self.place.panels.start + panel;
        let x: [&[[u32; LANES]]; P] =
            std::array::from_fn(|p| &self.x.groups[(first + p) * groups..][..groups]);
        let columns = self.block.columns();
        let mut column = 0;
        while column < columns {
            // SAFETY: by this function's contract.
            unsafe {
                if column + R <= columns {
                    let sums = tiles.tile::<D, P, V, R>(dot, x, column);
                    self.finish::<D, P, R>(&sums, tiles, panel, column);
                    column += R;
                } else {
                    let sums = tiles.tile::<D, P, V, 1>(dot, x, column);
                    self.finish::<D, P, 1>(&sums, tiles, panel, column);
                    column += 1;
                }
            }
        }
    }

    /// From sums of integers to the output.
    #[inline(always)]
    fn finish<D: Dot, const P: usize, const R: usize>(
        &mut self,
        sums: &[[[i32; LANES]; P]; R],
        tiles: &Tiles,
        panel: usize,
        column: usize,
    ) {
        for p in 0..P {
            let Lanes { scale, zero } = self.x.rows[self.place.panels.start + panel + p];
            let out = self.block.panel(panel + p);
            let (out, _) = out[column * LANES..][..R * LANES].as_chunks_mut::<LANES>();
            for (r, (out, sums)) in out.iter_mut().zip(sums).enumerate() {
                let place = self.place.columns.start + column + r;
                let (by, bias) = (self.w.scales[place], self.w.bias[place]);
                let sum_of_weights = tiles.sums[column + r];
                for lane in 0..LANES {
                    let sum = sums[p][lane] - zero[lane] * sum_of_weights;
                    let y = sum as f32 * (scale[lane] * by) + bias;
                    out[lane] = match self.then {
                        Then::Add => out[lane] + y,
                        _ => y,
                    };
                }
            }
            if self.then == Then::Gelu {
                gelu::<D::Simd>(out.as_flattened_mut());
            }
        }
    }
}

/// The weights of a block.
struct Tiles<'a> {
    weights: &'a [i8],
    stride: usize,
    /// The sum of each row.
    sums: [i32; COLUMNS],
}

impl Tiles<'_> {
    /// `sum u v` of P panels and R columns.
    ///
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn tile<D: Dot, const P: usize, const V: usize, const R: usize>(
        &self,
        dot: D,
        x: [&[[u32; LANES]]; P],
        column: usize,
    ) -> [[[i32; LANES]; P]; R] {
        let groups = self.stride / GROUP;
        let w: [&[[i8; GROUP]]; R] = std::array::from_fn(|r| {
            let row = &self.weights[(column + r) * self.stride..][..self.stride];
            row.as_chunks::<GROUP>().0
        });
        assert!(x.iter().all(|x| x.len() == groups) && w.iter().all(|w| w.len() == groups));
        // SAFETY: by this function's contract the instructions are there; every row has `groups` groups, as just
        // asserted, and V vectors of D are LANES lanes, as [`Dot`] promises.
        unsafe {
            let mut sums = [[[dot.zero(); V]; P]; R];
            for group in 0..groups {
                let x: [[D::Vector; V]; P] = std::array::from_fn(|p| {
                    let x = x[p].get_unchecked(group).as_ptr();
                    std::array::from_fn(|v| dot.load(x.add(v * LANES / V)))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let w = dot.splat(i32::from_le_bytes(
                        w[r].get_unchecked(group).map(|v| v as u8),
                    ));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = dot.dot(*sum, *x, w);
                        }
                    }
                }
            }
            let mut out = [[[0; LANES]; P]; R];
            for (out, sums) in out.iter_mut().zip(&sums) {
                for (out, sums) in out.iter_mut().zip(sums) {
                    for (v, sum) in sums.iter().enumerate() {
                        dot.store(out.as_mut_ptr().add(v * LANES / V), *sum);
                    }
                }
            }
            out
        }
    }
}

/// What does the dot products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain code, which any processor runs.
    Plain,
}

impl Unit {
    /// The quickest that this machine has.
    fn best() -> Self {
        Self::all().next().unwrap_or(Self::Plain)
    }

    /// Those that this machine has, the quickest first.
    fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let units = [
            (x86::has_avx512_vnni(), Self::Avx512Vnni),
            (x86::has_avx_vnni(), Self::AvxVnni),
            (x86::has_avx2(), Self::Avx2),
            (true, Self::Plain),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let units = [(true, Self::Plain)];
        units
            .into_iter()
            .filter_map(|(is_there, unit)| is_there.then_some(unit))
    }

    /// The largest integer that rows of x are rounded to.
    fn levels(self) -> f32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 127.0,
            _ => 255.0,
        }
    }

    fn run(self, task: Task) {
        // SAFETY: `all` gives only units whose instructions the machine has.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni => x86::avx512_vnni(task),
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => x86::avx_vnni(task),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => x86::avx2(task),
                Self::Plain => task.run::<Plain, 1, 1, 1>(Plain),
            }
        }
    }
}

/// The units of x86, each with a task compiled for it.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Task;
    use super::dot::{Avx2, Avx512Vnni, AvxVnni};

    pub fn has_avx512_vnni() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && has_avx2()
    }

    pub fn has_avx_vnni() -> bool {
        is_x86_feature_detected!("avxvnni") && has_avx2()
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub fn avx512_vnni(task: Task) {
        // SAFETY: the caller has seen that the machine has these instructions.
        unsafe { task.run::<_, 2, 1, 12>(Avx512Vnni) }
    }

    #[target_feature(enable = "avx2,fma,avxvnni")]
    pub fn avx_vnni(task: Task) {
        // SAFETY: as above.
        unsafe { task.run::<_, 1, 2, 6>(AvxVnni) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(task: Task) {
        // SAFETY: as above.
        unsafe { task.run::<_, 1, 2, 4>(Avx2) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use crate::checkpoint::{Dtype, Tensor, Values};
    use crate::engine::panels::Rows;
    use proptest::prelude::*;

    /// What the integers of panels of `input` columns stand for.
    fn dequantized(x: &Quantized, input: usize) -> Vec<f32> {
        let groups = input.div_ceil(GROUP);
        let mut panels = Vec::new();
        for (groups, rows) in x.groups.chunks_exact(groups).zip(&x.rows) {
            for k in 0..input {
                for (lane, group) in groups[k / GROUP].iter().enumerate() {
                    let byte = group.to_le_bytes()[k % GROUP];
                    panels.push((i32::from(byte) - rows.zero[lane]) as f32 * rows.scale[lane]);
                }
            }
        }
        panels
    }

    /// `linear` by `unit`: against the reference on the integers of x, exactly but for the last roundings; and these
    /// integers against x, within half a step.
    fn check(unit: Unit, [rows, input, output]: [usize; 3], then: Then, seed: usize) {
        let x = reference::numbers(rows * input, seed);
        let weight = Tensor::from_f32(
            vec![output, input],
            reference::numbers(output * input, seed + 1),
        );
        let weight = weight.to_dtype(Dtype::Int8, "w").unwrap();
        let bias = reference::numbers(output, seed + 2);
        let old = reference::numbers(rows * output, seed + 3);

        let shape = Rows {
            items: 1,
            tokens: rows,
        };
        let (mut from, mut to) = (vec![0.0; shape.len(input)], vec![0.0; shape.len(output)]);
        shape.scatter(&x, input, &mut from);
        shape.scatter(&old, output, &mut to);
        let mut quantized = Quantized::default();
        quantized.fill(&from, input, unit.levels());
        let rounded = shape.gather(&dequantized(&quantized, input), input);
        // x lies in [-1, 1]; the zero point is rounded too.
        reference::assert_close(&rounded, &x, 2.01 / unit.levels());

        let Values::Int8 { values, scales } = weight.values() else {
            panic!("not quantized")
        };
        let weights = Weights {
            values,
            scales,
            bias: &bias,
        };
        linear_on(unit, &from, weights, then, &mut to);
        let want = reference::linear(&rounded, &weight.to_f32(), &bias);
        let want = want.iter().zip(&old).map(|(want, old)| match then {
            Then::Store => *want,
            Then::Add => want + old,
            Then::Gelu => reference::gelu(*want),
        });
        let want: Vec<f32> = want.collect();
        reference::assert_close(&shape.gather(&to, output), &want, 2e-5);
    }

    proptest! {
        #[test]
        fn equals_the_reference(rows in 1usize..50, input in 1usize..200, output in 1usize..120, seed: u8) {
            for unit in Unit::all() {
                for then in [Then::Store, Then::Add, Then::Gelu] {
                    check(unit, [rows, input, output], then, seed.into());
                }
            }
        }
    }

    /// The largest integers everywhere, of either sign: no sum may saturate.
    #[test]
    fn nothing_saturates() {
        let (input, output) = (4304, 5);
        for unit in Unit::all() {
            for (x, w) in [(1.0, 127i8), (-1.0, 127), (1.0, -128)] {
                let values = vec![w; input * output];
                let weights = Weights {
                    values: &values,
                    scales: &[1.0; 5],
                    bias: &[0.5; 5],
                };
                let mut y = vec![0.0; output * LANES];
                linear_on(unit, &vec![x; input * LANES], weights, Then::Store, &mut y);
                let want = x * f32::from(w) * input as f32 + 0.5;
                assert!(
                    y.iter().all(|y| (y - want).abs() < 1.0),
                    "{unit:?}: {y:?} {want}"
                );
            }
        }
    }

    /// A number that is none must not become one.
    #[test]
    fn what_is_not_finite_stays_so() {
        for unit in Unit::all() {
            let mut x = vec![1.0; 8 * LANES];
            (x[3], x[5 * LANES + 6]) = (f32::INFINITY, f32::NAN);
            let weights = Weights {
                values: &[1; 8],
                scales: &[1.0],
                bias: &[0.0],
            };
            let mut y = vec![0.0; LANES];
            linear_on(unit, &x, weights, Then::Store, &mut y);
            assert!(
                y[3].is_nan() && y[6].is_nan() && y[4] == 8.0,
                "{unit:?}: {y:?}"
            );
        }
    }
}
