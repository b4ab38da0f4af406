//! Arguments of `bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{InspectFormat, ModelArgs};

/// Measure how fast this machine runs a model.
///
/// The towers, decoding, and the start of the program, each as a median with its spread; the towers also as a share
/// of the arithmetic peak, which is measured first. Keep the machine quiet meanwhile.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measurements of each part, after one to warm up
    #[arg(long, value_name = "N", default_value = "5")]
    pub runs: NonZeroUsize,
    /// Measure these parts alone; comma-separated
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    pub only: Vec<BenchPart>,
    /// Decode this picture [default: made-up JPEGs of 1024x1024, gray and colour]
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Text for a person, or JSON
    #[arg(long, value_enum, default_value_t = InspectFormat::Text)]
    pub format: InspectFormat,
    /// Score this picture and say how long that took: the started process of `cold-start`
    #[arg(long, value_name = "FILE", hide = true)]
    pub first_score: Option<PathBuf>,
}

/// What `bench` can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// Decoding and preprocessing a JPEG on one thread
    Pixels,
    /// The text tower, batch 8
    Text,
    /// The vision tower, batch 1
    Vision,
    /// The vision tower, batch 4
    #[value(name = "vision-batch-4")]
    VisionBatch4,
    /// The vision tower at 896 pixels
    #[value(name = "vision-896")]
    Vision896,
    /// From the start of a process to its first score
    ColdStart,
    /// With --dtype: how far the embeddings are from those of the weights as stored
    Drift,
}

impl BenchPart {
    /// The part's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::Text => "text",
            Self::Vision => "vision",
            Self::VisionBatch4 => "vision-batch-4",
            Self::Vision896 => "vision-896",
            Self::ColdStart => "cold-start",
            Self::Drift => "drift",
        }
    }
}
