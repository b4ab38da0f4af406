//! The machine's arithmetic peak in f32, measured: what the speed of the towers is compared with.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How fast this machine multiplies and adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Floating-point operations a second, of all threads together; a fused multiply-add is two.
    pub flops_per_second: f64,
    /// Numbers that one instruction takes: 16 with AVX-512, 8 with AVX2, 4 with NEON.
    pub lanes: usize,
}

/// Measurements, of which the best counts: whatever disturbs one only makes it slower.
const WINDOWS: usize = 8;

/// Long enough for the clock of the cores to settle, short enough that eight of them are half a second.
const WINDOW: Duration = Duration::from_millis(60);

/// Multiply-adds of a chain between two looks at the clock.
const LINKS: usize = 20_000;

/// Measures the peak of `threads` threads (at least one) that do nothing but fused multiply-adds in registers.
/// Takes about half a second.
pub fn peak(threads: usize) -> Peak {
    let windows = (0..WINDOWS).map(|_| window(threads.max(1)));
    let faster = |a: Peak, b: Peak| {
        if b.flops_per_second > a.flops_per_second {
            b
        } else {
            a
        }
    };
    windows.reduce(faster).unwrap_or(Peak {
        flops_per_second: 0.0,
        lanes: 1,
    })
}

/// One measurement: the threads start together, and their rates are added.
fn window(threads: usize) -> Peak {
    let barrier = Barrier::new(threads);
    let rates: Vec<Peak> = std::thread::scope(|scope| {
        let run = || {
            barrier.wait();
            pulp::Arch::new().dispatch(MultiplyAdd)
        };
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let own = run();
        others
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .chain([own])
            .collect()
    });
    Peak {
        flops_per_second: rates.iter().map(|rate| rate.flops_per_second).sum(),
        lanes: rates.first().map_or(1, |rate| rate.lanes),
    }
}

/// The loop of one thread.
struct MultiplyAdd;

impl pulp::WithSimd for MultiplyAdd {
    type Output = Peak;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> Peak {
        // A core works on 8 to 16 multiply-adds at once (latency times units): as many chains must be independent,
        // and all of them, with two constants, must fit into the registers.
        if S::REGISTER_COUNT >= 32 {
            rate::<S, 24>(simd)
        } else {
            rate::<S, 12>(simd)
        }
    }
}

/// What `CHAINS` independent chains of multiply-adds reach.
#[inline(always)]
fn rate<S: pulp::Simd, const CHAINS: usize>(simd: S) -> Peak {
    // x <- 0.5 x + 0.25 stays near one half: neither overflow nor denormal numbers, which are slow.
    let (factor, term) = (
        simd.splat_f32s(black_box(0.5)),
        simd.splat_f32s(black_box(0.25)),
    );
    let mut chains = [simd.splat_f32s(black_box(0.75)); CHAINS];
    let start = Instant::now();
    let mut links = 0_usize;
    while start.elapsed() < WINDOW {
        for _ in 0..LINKS {
            for x in &mut chains {
                *x = simd.mul_add_e_f32s(factor, *x, term);
            }
        }
        links += LINKS;
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(chains);
    let flops = (2 * CHAINS * S::F32_LANES * links) as f64;
    Peak {
        flops_per_second: flops / seconds,
        lanes: S::F32_LANES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_measured() {
        for threads in [0, 1, 3] {
            let peak = peak(threads);
            // The slowest machine that runs this has a few times 1e8; nothing has 1e15 on so few threads.
            assert!((1e8..1e15).contains(&peak.flops_per_second), "{peak:?}");
            assert!(peak.lanes.is_power_of_two());
        }
    }
}
