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
#[cfg(feature = "evaluate")]
mod hits_page;
#[cfg(all(feature = "postgres", unix))]
mod database;
#[cfg(all(feature = "postgres", unix))]
#[allow(dead_code, reason = "the library's tests use more of it")]
#[path = "../../../medsiglip/tests/index/server.rs"]
mod server;
