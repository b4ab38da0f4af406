//! The real binary, each test in a folder of its own, with a tiny checkpoint.

mod folder;
mod embed;
mod inputs;
mod dicom;
mod disc;
mod clashes;
mod slides;
mod slide_scores;
mod options;
mod output;
mod resume;
mod classify;
mod classifier;
mod inspect;
mod bench;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "evaluate")]
mod evaluate;
#[cfg(feature = "evaluate")]
mod index;
