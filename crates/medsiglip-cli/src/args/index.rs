//! Arguments of `index` and `search`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use medsiglip::embedding::IdMatch;
use medsiglip::index::{Filter, Fusion, Precision};
use medsiglip::zero_shot::PromptSet;

use super::{
    BatchArgs, DicomArgs, EXIT_CODES, Ids, InspectFormat, ModelArgs, PixelArgs, TableArgs,
    TextArgs, TileArgs,
};

/// Make and keep a store of embeddings, for `search`.
///
/// A store is a folder, or postgresql://USER@HOST/DATABASE with pgvector (schema medsiglip; ?schema=NAME for another; the password
/// in PGPASSWORD or ~/.pgpass). It knows how its embeddings were made and refuses others. What is reported as stored is on the disk,
/// whatever happens next, and the same command goes on after a stop.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: IndexCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    Add(Box<IndexAddArgs>),
    Import(IndexImportArgs),
    Eval(Box<IndexEvalArgs>),
    Info(IndexInfoArgs),
    Tune(IndexTuneArgs),
    Compact(IndexCompactArgs),
}

/// Embed pictures and store them; files that are there unchanged are skipped.
///
/// Of a DICOM file, the fields modality, view, body_part, laterality, study, series and frame are stored for filters, and with
/// --patient-id hash patient: nothing else, and nothing that names a person.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexAddArgs {
    /// The store's folder or postgresql:// address; it is made where there is none
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Picture and DICOM files, folders, DICOMDIRs, quoted patterns, or `-` for a list on standard input, as for `embed`
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Remove what came from files that are no longer in the folders given
    #[arg(long)]
    pub prune: bool,
    /// How vectors of a new store are kept
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = PrecisionName::F32)]
    pub vectors: PrecisionName,
    #[command(flatten)]
    pub metadata: MetadataArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub dicom: DicomArgs,
    #[command(flatten)]
    pub tiles: TileArgs,
    #[command(flatten)]
    pub text_args: TextArgs,
    #[command(flatten)]
    pub batch: BatchArgs,
}

/// Store embeddings that were made before, by `embed` or any other software.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexImportArgs {
    /// The store's folder or postgresql:// address; it is made where there is none
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Embeddings with ids: Parquet, .npy, .npz, HDF5, TFRecord, JSON Lines or CSV, or a folder of them
    #[arg(value_name = "EMBEDDINGS")]
    pub embeddings: PathBuf,
    #[command(flatten)]
    pub table: TableArgs,
    /// How vectors of a new store are kept
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = PrecisionName::F32)]
    pub vectors: PrecisionName,
    #[command(flatten)]
    pub metadata: MetadataArgs,
}

/// Further fields of items.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metadata")]
pub struct MetadataArgs {
    /// A CSV file whose columns become fields of the items; numbers are numbers, an empty cell is no field
    #[arg(long, value_name = "CSV")]
    pub metadata: Option<PathBuf>,
    /// Its column with the ids [default: id, path or image]
    #[arg(long, value_name = "COLUMN", requires = "metadata")]
    pub metadata_id: Option<String>,
    /// What of two ids must be the same
    #[arg(long, value_enum, default_value_t = Ids::Exact, requires = "metadata")]
    pub metadata_ids: Ids,
}

impl MetadataArgs {
    /// What of two ids must be the same.
    pub fn ids(&self) -> IdMatch {
        self.metadata_ids.matching()
    }
}

/// Measure how well items are found, with intervals.
///
/// By pictures: every item that has a class asks for the others of its class. By words, with --task or --prompts: every class is asked
/// for by its prompts. By captions, with --captions: every picture asks for its caption, every caption for its pictures. Beside
/// precisions stands what chance gives. Not for clinical use.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexEvalArgs {
    /// The store's folder or postgresql:// address
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// The field with the classes
    #[arg(long, value_name = "FIELD", required_unless_present = "captions")]
    pub label: Option<String>,
    /// The field whose equals are no hits of one another, for example patient; whole groups are drawn for the intervals
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// A published prompt set, whose classes are values of the field
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PromptSet::task_names()), conflicts_with = "prompts", requires = "label")]
    pub task: Option<String>,
    /// A file of classes and their prompts, as for `classify`
    #[arg(long, value_name = "FILE", requires = "label")]
    pub prompts: Option<PathBuf>,
    /// The field with each picture's caption
    #[arg(long, value_name = "FIELD")]
    pub captions: Option<String>,
    /// Measure among these items alone
    #[arg(long = "where", value_name = "FILTER")]
    pub filter: Option<Filter>,
    /// Numbers of hits to look at; comma-separated
    #[arg(
        long,
        short,
        value_name = "N",
        value_delimiter = ',',
        default_value = "1,5,10"
    )]
    pub k: Vec<NonZeroUsize>,
    /// At most so many items ask, drawn evenly
    #[arg(long, value_name = "N", default_value = "2000")]
    pub queries: NonZeroUsize,
    /// Bootstrap samples
    #[arg(long, value_name = "N", default_value = "1000")]
    pub replicates: NonZeroUsize,
    /// A table, or JSON
    #[arg(long, value_enum, default_value_t = InspectFormat::Text)]
    pub format: InspectFormat,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub text_args: TextArgs,
}

/// Tell what a store holds.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexInfoArgs {
    /// The store's folder or postgresql:// address
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Read every vector and what `index tune` made, compare them with their checksums, and have the database check itself
    #[arg(long)]
    pub verify: bool,
}

/// Make search of a large store fast: link its items to those near them, and measure what search by these links finds.
///
/// Some items are left out at first and searched with, so that the recall is that of pictures that the store does not know. The fastest
/// search whose recall is, with 95 % confidence, not below --recall is kept for `search`; or none, where exact search is as fast. Items that
/// are stored later are found exactly; when they are many, tune again. Another --recall is chosen from what was measured.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexTuneArgs {
    /// The store's folder or postgresql:// address
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// The part of the exact hits that is to be found
    #[arg(long, value_name = "NUMBER", default_value_t = 0.99)]
    pub recall: f64,
    /// How many hits
    #[arg(long, short, value_name = "N", default_value = "10")]
    pub k: NonZeroUsize,
    /// How many items to measure with, at most a tenth of all
    #[arg(long, value_name = "N", default_value = "1000")]
    pub queries: NonZeroUsize,
    /// What the choice of these and the order of the others follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Give back the room of what was removed and replaced; what `index tune` made is gone then: tune again.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct IndexCompactArgs {
    /// The store's folder or postgresql:// address
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
}

/// How vectors are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// As they are
    F32,
    /// In half the room
    F16,
    /// In a quarter of the room, as whole numbers with a scale
    I8,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::F16 => Self::F16,
            PrecisionName::I8 => Self::I8,
        }
    }
}

/// Find pictures like a picture, by words, or by both.
///
/// Every hit has the cosine with the query and, where texts are asked for, the model's own sigmoid probability that picture and text
/// belong together. Not for clinical use.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct SearchArgs {
    /// The store's folder or postgresql:// address
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// A picture that hits are to be like; may be given several times. What the store has of this very file is left out
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// A text that hits are to fit; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// A text that hits are not to fit
    #[arg(long, value_name = "TEXT")]
    pub without: Vec<String>,
    /// The id of an item of the store that was liked
    #[arg(long, value_name = "ID")]
    pub like: Vec<String>,
    /// The id of an item of the store that was not
    #[arg(long, value_name = "ID")]
    pub dislike: Vec<String>,
    /// What all pictures together count
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub image_weight: f64,
    /// What all texts together count
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub text_weight: f64,
    /// How several pictures and texts become one order
    #[arg(long, value_enum, default_value_t = FuseName::Sum)]
    pub fuse: FuseName,
    /// How many hits
    #[arg(long, short, value_name = "N", default_value = "10")]
    pub k: NonZeroUsize,
    /// Search these items alone, for example 'modality = "CR" and view in ("PA", "AP")'
    #[arg(long = "where", value_name = "FILTER")]
    pub filter: Option<Filter>,
    /// Tell at most --per-group hits with the same value of this field, for example patient or study
    #[arg(long, value_name = "FIELD")]
    pub group_by: Option<String>,
    /// How many hits of a group
    #[arg(long, value_name = "N", default_value = "1", requires = "group_by")]
    pub per_group: NonZeroUsize,
    /// Leave out items that have the query's own value of this field, for example patient; may be given several times
    #[arg(long, value_name = "FIELD")]
    pub exclude_own: Vec<String>,
    /// Leave out hits whose cosine with a better one is above this: nearly the same picture
    #[arg(long, value_name = "COSINE")]
    pub distinct: Option<f64>,
    /// Leave out hits with a lower cosine
    #[arg(long, value_name = "COSINE", allow_hyphen_values = true)]
    pub min_cosine: Option<f64>,
    /// Compare every vector, even where `index tune` has made a faster search
    #[arg(long)]
    pub exact: bool,
    /// Form of the hits [default: a table on a terminal, else jsonl]
    #[arg(long, value_enum)]
    pub format: Option<SearchFormat>,
    /// Also write a page with the hits as the model sees them. It shows no study, series or patient, but every other field, those of
    /// --metadata too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub dicom: DicomArgs,
    #[command(flatten)]
    pub text_args: TextArgs,
}

/// How several pictures and texts become one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FuseName {
    /// By the weighted sum of their embeddings, each divided by its norm
    Sum,
    /// By the sum of reciprocal ranks (Cormack and others, 2009)
    Rrf,
}

impl From<FuseName> for Fusion {
    fn from(name: FuseName) -> Self {
        match name {
            FuseName::Sum => Self::Sum,
            FuseName::Rrf => Self::ReciprocalRank,
        }
    }
}

/// Forms of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SearchFormat {
    /// For a person
    Table,
    /// One JSON object a hit
    Jsonl,
}
