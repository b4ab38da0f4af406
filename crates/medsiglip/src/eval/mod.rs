//! Evaluation by the protocols of the MedGemma Technical Report (arXiv 2507.05201): zero-shot, linear probes,
//! data-efficient curves; other encoders beside ours on the same pictures; a report with intervals and caveats.
//!
//! ```text
//! sources, encoders ──► embeddings ──► tasks: zero-shot, probe ──► measures ──► Report ──► tables, figures, page
//! ```

pub mod config;
pub mod truth;
pub mod embed;
mod prepared;
mod encoded;
pub mod doubt;
mod question;
pub mod measure;
mod compare;
pub mod probe;
pub mod plane;
pub mod published;
pub mod report;
mod measuring;
pub mod run;
pub mod tables;
pub mod figures;
pub mod page;
pub mod write;
