//! MedSigLIP in Rust: medical pictures and text into one embedding space.
//!
//! The modules stand in the order in which data flows through them:
//! [`image`] → [`preprocess`] and [`tokenizer`] → [`config`], [`checkpoint`], [`engine`] →
//! [`model`] → [`embedding`] → [`zero_shot`].
//!
//! # Letters of shapes
//! B batch, N patches (32² = 1024 at 448 px), T tokens (64), D width (1152), H heads (16),
//! Dh head size (72), F MLP width (4304), L depth (27), C classes, V vocabulary (32000).

mod error;

pub mod image;
pub mod preprocess;
pub mod tokenizer;
pub mod config;
pub mod checkpoint;
pub mod engine;
pub mod model;
pub mod embedding;
pub mod zero_shot;

pub use config::Config;
pub use error::{Error, Result};
pub use model::{LoadOptions, Model};
