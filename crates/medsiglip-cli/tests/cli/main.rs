//! The real binary, each test in a folder of its own, with a tiny checkpoint.

mod folder;
mod embed;
mod output;
mod resume;
mod classify;
mod inspect;
mod bench;
