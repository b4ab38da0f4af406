//! MedSigLIP in Rust: medical pictures and text into one embedding space.
//!
//! ```
//! use medsiglip::{LoadOptions, Model};
//!
//! # fn main() -> medsiglip::Result<()> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny");
//! # let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/chest_xray.png");
//! // A folder, or a hub id such as "google/medsiglip-448".
//! let model = Model::load(&folder.parse()?, &LoadOptions::default())?;
//! let images = model.encode_images(&model.preprocessor().open(picture)?)?;
//! let texts = model.encode_texts(&["a normal chest x-ray", "pleural effusion"])?;
//! let scores = model.scores(&images, &texts)?;
//! assert_eq!(scores.probability.len(), 2); // one image, two texts; not for clinical use
//! # Ok(())
//! # }
//! ```
//!
//! The modules stand in the order in which data flows through them:
//! [`image`] → [`preprocess`] and [`tokenizer`] → [`config`], [`checkpoint`], [`engine`] →
//! [`model`] → [`embedding`] → [`zero_shot`], [`classifier`] or [`probe`] → [`metrics`].
//!
//! # Letters of shapes
//! B batch, N patches (32² = 1024 at 448 px), T tokens (64), D width (1152), H heads (16),
//! Dh head size (72), F MLP width (4304), L depth (27), C classes, V vocabulary (32000).

mod error;
mod folder;
mod named;
mod npy;
#[cfg(feature = "data")]
mod h5;

pub mod image;
pub mod preprocess;
pub mod tokenizer;
pub mod config;
pub mod checkpoint;
pub mod engine;
#[cfg(feature = "towers")]
pub mod towers;
pub mod model;
pub mod embedding;
pub mod zero_shot;
pub mod classifier;
pub mod metrics;
pub mod probe;
#[cfg(feature = "data")]
pub mod dataset;
#[cfg(feature = "index")]
pub mod index;
#[cfg(feature = "evaluate")]
pub mod eval;
#[cfg(feature = "train")]
pub mod train;

pub use config::Config;
pub use error::{Error, Result};
pub use model::{LoadOptions, Model};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
