//! The arithmetic of the towers on slices of f32, row-major. Each kernel splits its work over the
//! threads of the pool it is called in, and gives the same bits for any number of threads.
//!
//! Loops over lanes are written so that the compiler vectorises them; [`pulp::Arch`] picks AVX-512,
//! AVX2 or NEON when the program runs, and plain code where there is none of them.

mod activation;
mod attention;
mod layer_norm;
mod linear;
mod matmul;
#[cfg(test)]
mod reference;

pub(super) use activation::gelu;
pub(super) use attention::{Heads, attend_one, attention};
pub(super) use layer_norm::layer_norm;
pub(super) use linear::{linear, linear_add};

/// Independent sums held side by side so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// The sum of `f` over `values`, in [`LANES`] independent sums.
#[inline(always)]
fn lane_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    lanes.iter().sum::<f32>() + tail
}
