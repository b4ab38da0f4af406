//! The commands, each from its checked arguments to its exit code.

pub mod embed;
pub mod classify;
pub mod inspect;
pub mod convert;
pub mod bench;
pub mod completions;
mod drift;
mod picture;
#[cfg(feature = "train")]
pub mod train;
#[cfg(feature = "train")]
mod dry_run;
#[cfg(feature = "evaluate")]
pub mod eval;
#[cfg(feature = "evaluate")]
pub mod probe;
#[cfg(feature = "evaluate")]
pub mod index;
#[cfg(feature = "evaluate")]
mod index_eval;
#[cfg(feature = "evaluate")]
mod metadata;
#[cfg(feature = "evaluate")]
pub mod search;
#[cfg(feature = "evaluate")]
mod store;
#[cfg(all(feature = "train", feature = "evaluate"))]
mod curves;
