//! The arithmetic of the towers on panels of activations. Each kernel splits its work over the
//! threads of the pool it is called in, and gives the same bits for any number of threads.
//!
//! Loops over lanes are written so that the compiler vectorises them; [`pulp::Arch`] picks AVX-512,
//! AVX2 or NEON when the program runs, and plain code where there is none of them.

mod activation;
mod attention;
mod block;
mod int8;
mod layer_norm;
mod linear;
mod product;
#[cfg(test)]
mod reference;

#[cfg(feature = "towers")]
pub(crate) use activation::exp;
pub(super) use attention::{Heads, attention, pool};
pub(super) use layer_norm::layer_norm;
pub(super) use linear::{Then, linear};
