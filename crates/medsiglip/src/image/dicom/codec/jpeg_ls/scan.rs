//! Scans of JPEG-LS (T.87 annex A).

use std::cmp::Ordering;

use super::super::bad;
use super::super::bits::{Bits, Stuffing};
use super::Preset;
use crate::Result;

/// Order of the run length code by run index (A.2.1, table A.1's J).
const J: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];
/// Longest suffix of a Golomb code; no encoder needs more for 16 bits.
const MAX_K: u32 = 24;

/// The frame's samples and which components had their scan.
pub(super) struct Lines {
    columns: usize,
    rows: usize,
    components: usize,
    /// (rows, columns, components).
    pub samples: Vec<u16>,
    done: Vec<bool>,
}

impl Lines {
    pub fn new(columns: u16, rows: u16, components: usize) -> Self {
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        Self {
            columns,
            rows,
            components,
            samples: vec![0; columns * rows * components],
            done: vec![false; components],
        }
    }

    pub fn is_complete(&self) -> bool {
        self.done.iter().all(|done| *done)
    }

    fn begin(&mut self, components: &[usize]) -> Result<()> {
        for &component in components {
            if std::mem::replace(&mut self.done[component], true) {
                return Err(bad("JPEG-LS frame", "a component has two scans"));
            }
        }
        Ok(())
    }

    /// Puts line `y` of a component in its place.
    fn put(&mut self, component: usize, y: usize, line: impl Iterator<Item = i32>) {
        let at = y * self.columns * self.components;
        let out = &mut self.samples[at..at + self.columns * self.components];
        let places = out.iter_mut().skip(component).step_by(self.components);
        places
            .zip(line)
            .for_each(|(out, value)| *out = value as u16);
    }
}

/// A context of regular mode (A.2.1).
#[derive(Clone, Copy)]
struct Context {
    a: u32,
    b: i32,
    c: i32,
    n: i32,
}

/// A context of run interruption (A.7.2).
#[derive(Clone, Copy)]
struct RunContext {
    a: u32,
    n: i32,
    nn: i32,
}

/// Parameters of a scan (A.2.1).
pub(super) struct Scan {
    near: i32,
    max_val: i32,
    range: i32,
    qbpp: u32,
    limit: u32,
    reset: i32,
    t3: i32,
    /// Region of a gradient from -T3 to T3 (A.3.3).
    regions: Vec<i16>,
    restart_lines: usize,
}

/// What adapts while a scan is read.
struct State<'a> {
    bits: Bits<'a>,
    contexts: Vec<Context>,
    run: [RunContext; 2],
    /// Of each component in line interleave.
    run_index: [usize; 4],
}

impl Scan {
    pub fn new(preset: Preset, near: i32, restart_lines: usize) -> Self {
        let Preset {
            max_val,
            thresholds: [t1, t2, t3],
            reset,
        } = preset;
        let range = (max_val + 2 * near) / (2 * near + 1) + 1;
        let bits_of = |count: i32| 32 - ((count - 1) as u32).leading_zeros();
        // LIMIT follows from MAXVAL (A.2.1), which for some encoders is not that of the precision.
        let bpp = bits_of(max_val + 1).max(2);
        let region = |d: i32| -> i16 {
            let of = |d: i32| match d {
                _ if d <= near => 0,
                _ if d < t1 => 1,
                _ if d < t2 => 2,
                _ if d < t3 => 3,
                _ => 4,
            };
            if d < 0 { -of(-d) } else { of(d) }
        };
        Self {
            near,
            max_val,
            range,
            qbpp: bits_of(range),
            limit: 2 * (bpp + bpp.max(8)),
            reset,
            t3,
            regions: (-t3..=t3).map(region).collect(),
            restart_lines,
        }
    }

    fn start<'a>(&self, bits: Bits<'a>) -> State<'a> {
        let a = ((self.range + 32) / 64).max(2) as u32;
        State {
            bits,
            contexts: vec![
                Context {
                    a,
                    b: 0,
                    c: 0,
                    n: 1
                };
                365
            ],
            run: [RunContext { a, n: 1, nn: 0 }; 2],
            run_index: [0; 4],
        }
    }

    /// Interleave modes none and line.
    pub fn by_line(&self, components: &[usize], bytes: &[u8], lines: &mut Lines) -> Result<usize> {
        lines.begin(components)?;
        let mut state = self.start(Bits::new(bytes, Stuffing::Bit));
        // Two lines of each component, with a sample before and one behind (A.2.1).
        let mut pairs =
            vec![[vec![0; lines.columns + 2], vec![0; lines.columns + 2]]; components.len()];
        for y in 0..lines.rows {
            if self.restart_lines > 0 && y > 0 && y % self.restart_lines == 0 {
                state.bits.restart()?;
                state = self.start(state.bits);
                pairs.iter_mut().flatten().for_each(|line| line.fill(0));
            }
            for (i, [above, line]) in pairs.iter_mut().enumerate() {
                above[lines.columns + 1] = above[lines.columns];
                line[0] = above[1];
                self.line(&mut state, i, above, line);
                state.bits.check()?;
                lines.put(components[i], y, line[1..].iter().copied());
                std::mem::swap(above, line);
            }
        }
        Ok(state.bits.position())
    }

    /// One line of one component; index 0 stands before the first sample.
    fn line(&self, state: &mut State, component: usize, above: &[i32], line: &mut [i32]) {
        let columns = line.len() - 2;
        let mut x = 1;
        while x <= columns {
            let (ra, rb, rc, rd) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let region =
                81 * self.region(rd - rb) + 9 * self.region(rb - rc) + self.region(rc - ra);
            if region != 0 {
                line[x] = self.regular(state, region, ra, rb, rc);
                x += 1;
                continue;
            }
            let run = self.run_length(state, component, columns + 1 - x);
            line[x..x + run].fill(ra);
            x += run;
            if x <= columns {
                line[x] = self.interruption(state, component, ra, above[x]);
                self.shorten(state, component);
                x += 1;
            }
        }
    }

    /// Interleave mode sample.
    pub fn by_sample<const N: usize>(
        &self,
        components: &[usize],
        bytes: &[u8],
        lines: &mut Lines,
    ) -> Result<usize> {
        lines.begin(components)?;
        let columns = lines.columns;
        let mut state = self.start(Bits::new(bytes, Stuffing::Bit));
        let (mut above, mut line) = (vec![[0; N]; columns + 2], vec![[0; N]; columns + 2]);
        for y in 0..lines.rows {
            if self.restart_lines > 0 && y > 0 && y % self.restart_lines == 0 {
                state.bits.restart()?;
                state = self.start(state.bits);
                above.fill([0; N]);
                line.fill([0; N]);
            }
            above[columns + 1] = above[columns];
            line[0] = above[1];
            self.line_of_samples(&mut state, &above, &mut line);
            state.bits.check()?;
            for (i, component) in components.iter().enumerate() {
                lines.put(*component, y, line[1..].iter().map(|pixel| pixel[i]));
            }
            std::mem::swap(&mut above, &mut line);
        }
        Ok(state.bits.position())
    }

    fn line_of_samples<const N: usize>(
        &self,
        state: &mut State,
        above: &[[i32; N]],
        line: &mut [[i32; N]],
    ) {
        let columns = line.len() - 2;
        let mut x = 1;
        while x <= columns {
            let (a, b, c, d) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let regions: [i32; N] = std::array::from_fn(|i| {
                81 * self.region(d[i] - b[i])
                    + 9 * self.region(b[i] - c[i])
                    + self.region(c[i] - a[i])
            });
            if regions.iter().any(|region| *region != 0) {
                for i in 0..N {
                    line[x][i] = self.regular(state, regions[i], a[i], b[i], c[i]);
                }
                x += 1;
                continue;
            }
            let run = self.run_length(state, 0, columns + 1 - x);
            line[x..x + run].fill(a);
            x += run;
            if x <= columns {
                for i in 0..N {
                    line[x][i] = self.interruption_of_kind(state, 0, 0, a[i], above[x][i]);
                }
                self.shorten(state, 0);
                x += 1;
            }
        }
    }

    #[inline]
    fn region(&self, gradient: i32) -> i32 {
        let at = gradient.clamp(-self.t3, self.t3) + self.t3;
        i32::from(self.regions[at as usize])
    }

    /// A sample in regular mode (A.4 to A.6).
    #[inline]
    fn regular(&self, state: &mut State, region: i32, ra: i32, rb: i32, rc: i32) -> i32 {
        let sign = if region < 0 { -1 } else { 1 };
        let context = &mut state.contexts[region.unsigned_abs() as usize];
        let predicted = if rc >= ra.max(rb) {
            ra.min(rb)
        } else if rc <= ra.min(rb) {
            ra.max(rb)
        } else {
            ra + rb - rc
        };
        let predicted = (predicted + sign * context.c).clamp(0, self.max_val);
        let k = golomb_k(context.a, context.n);
        let mapped = golomb(&mut state.bits, k, self.limit, self.qbpp);
        let mut error = (mapped >> 1) as i32 ^ -((mapped & 1) as i32);
        if self.near == 0 && k == 0 && 2 * context.b <= -context.n {
            error = !error;
        }
        context.update(error, 2 * self.near + 1, self.reset);
        self.reconstruct(predicted, sign * error)
    }

    /// Px and an error to a sample (A.4.5).
    #[inline]
    fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = predicted.wrapping_add(error.wrapping_mul(step));
        let value = if value < -self.near {
            value.wrapping_add(self.range * step)
        } else if value > self.max_val + self.near {
            value.wrapping_sub(self.range * step)
        } else {
            value
        };
        value.clamp(0, self.max_val)
    }

    /// Samples of a run, up to `room`, which ends the line (A.7.1).
    fn run_length(&self, state: &mut State, component: usize, room: usize) -> usize {
        let index = &mut state.run_index[component];
        let mut run = 0;
        while state.bits.read(1) == 1 {
            let whole = 1 << J[*index];
            run += whole;
            if run <= room {
                *index = (*index + 1).min(31);
            }
            if run >= room {
                return room;
            }
        }
        run += state.bits.read(J[*index]) as usize;
        if run >= room {
            state.bits.fail();
            return room;
        }
        run
    }

    fn shorten(&self, state: &mut State, component: usize) {
        let index = &mut state.run_index[component];
        *index = index.saturating_sub(1);
    }

    /// The sample that ends a run (A.7.2).
    fn interruption(&self, state: &mut State, component: usize, ra: i32, rb: i32) -> i32 {
        let kind = usize::from((ra - rb).abs() <= self.near);
        self.interruption_of_kind(state, component, kind, ra, rb)
    }

    /// `kind` is RItype: 1 where the sample above is as the run, so that the run's value predicts.
    fn interruption_of_kind(
        &self,
        state: &mut State,
        component: usize,
        kind: usize,
        ra: i32,
        rb: i32,
    ) -> i32 {
        let context = &mut state.run[kind];
        let kind = kind as u32;
        let sum = context.a.saturating_add(kind * (context.n as u32 >> 1));
        let k = golomb_k(sum, context.n);
        let limit = self.limit - J[state.run_index[component]] - 1;
        let mapped = golomb(&mut state.bits, k, limit, self.qbpp);
        let twice = mapped + kind;
        let odd = twice & 1 == 1;
        let magnitude = (twice.div_ceil(2)) as i32;
        let negative = (k != 0 || 2 * context.nn >= context.n) == odd;
        let error = if negative { -magnitude } else { magnitude };
        if error < 0 {
            context.nn += 1;
        }
        context.a = context.a.saturating_add((mapped + 1 - kind) >> 1);
        if context.n == self.reset {
            context.a >>= 1;
            context.n >>= 1;
            context.nn >>= 1;
        }
        context.n += 1;
        match kind {
            1 => self.reconstruct(ra, error),
            _ if ra > rb => self.reconstruct(rb, -error),
            _ => self.reconstruct(rb, error),
        }
    }
}

impl Context {
    /// A.6.
    #[inline]
    fn update(&mut self, error: i32, step: i32, reset: i32) {
        self.b = self.b.saturating_add(error.saturating_mul(step));
        self.a = self.a.saturating_add(error.unsigned_abs());
        if self.n == reset {
            self.a >>= 1;
            self.b >>= 1;
            self.n >>= 1;
        }
        self.n += 1;
        if self.b <= -self.n {
            self.b = (self.b + self.n).max(1 - self.n);
            self.c = (self.c - 1).max(-128);
        } else if self.b > 0 {
            self.b = (self.b - self.n).min(0);
            self.c = (self.c + 1).min(127);
        }
    }
}

/// The least k with N * 2^k >= A (A.5.1), up to [`MAX_K`].
#[inline]
fn golomb_k(a: u32, n: i32) -> u32 {
    let n = n as u32;
    let k = n.leading_zeros().saturating_sub(a.leading_zeros());
    (k + u32::from(u64::from(n) << k < u64::from(a))).min(MAX_K)
}

/// A limited-length Golomb code (A.5.3).
#[inline]
fn golomb(bits: &mut Bits, k: u32, limit: u32, qbpp: u32) -> u32 {
    bits.fill();
    let longest = limit.saturating_sub(qbpp + 1);
    let zeros = bits.peek().leading_zeros();
    if zeros < longest && zeros + 1 + k <= 32 {
        let low = bits.peek() << (zeros + 1) >> 32 >> (32 - k);
        bits.consume(zeros + 1 + k);
        return zeros << k | low as u32;
    }
    long_golomb(bits, k, longest, qbpp)
}

/// A code of more than 32 bits, or one that escapes to the plain value.
#[cold]
fn long_golomb(bits: &mut Bits, k: u32, longest: u32, qbpp: u32) -> u32 {
    let mut zeros = 0;
    while zeros <= longest && bits.read(1) == 0 {
        zeros += 1;
    }
    match zeros.cmp(&longest) {
        Ordering::Less => zeros << k | bits.read(k),
        Ordering::Equal => bits.read(qbpp) + 1,
        Ordering::Greater => {
            bits.fail();
            0
        }
    }
}
