//! The command line: every flag, with one name in every command that has it.

mod bench;
mod dicom;
#[cfg(feature = "evaluate")]
mod index;
#[cfg(feature = "evaluate")]
mod probe;
mod slides;

use std::env::consts::{ARCH, OS};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use medsiglip::checkpoint::{DEFAULT_MODEL, Dtype, ModelSource, OpenOptions, PositionResampling};
use medsiglip::image::{DecodeOptions, Limits};
use medsiglip::model::{Device, Precision};
use medsiglip::preprocess::{Padding, Preprocessor, Recipe};
use medsiglip::tokenizer::Canonicalizer;
use medsiglip::zero_shot::PromptSet;
use medsiglip::{LoadOptions, Model};

use crate::messages::{self, Exit};
use crate::progress;
pub use bench::{BenchArgs, BenchPart};
pub use dicom::{DicomArgs, DisplayArgs};
#[cfg(feature = "evaluate")]
pub use index::{
    IndexAddArgs, IndexArgs, IndexCommand, IndexCompactArgs, IndexEvalArgs, IndexImportArgs,
    IndexInfoArgs, IndexTuneArgs, MetadataArgs, SearchArgs, SearchFormat,
};
#[cfg(feature = "evaluate")]
pub use probe::{
    Ids, ProbeArgs, ProbeCommand, ProbeEvalArgs, ProbeFitArgs, ProbePredictArgs, TableArgs,
};
#[cfg(feature = "evaluate")]
pub use slides::tile_of;
pub use slides::{SlideScoresArgs, TileArgs};

#[cfg(debug_assertions)]
const PROFILE: &str = "debug";
#[cfg(not(debug_assertions))]
const PROFILE: &str = "release";

/// Version, system and profile of this build.
static BUILD: LazyLock<String> = LazyLock::new(|| {
    let (version, arch, os) = (env!("CARGO_PKG_VERSION"), ARCH, OS);
    format!("{version} ({arch} {os}, {PROFILE} build)")
});

const EXIT_CODES: &str = "\
Exit codes: 0 all done; 1 some inputs failed (each is listed on standard error); \
2 nothing could be done; 130 interrupted.

For research and development. Not for clinical use.";

/// Medical pictures and text to MedSigLIP embeddings and zero-shot scores.
#[derive(Debug, Parser)]
#[command(name = "medsiglip", version, long_version = BUILD.as_str(), after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Show no progress and no notes; errors and warnings stay.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Embed(EmbedArgs),
    Classify(ClassifyArgs),
    Inspect(InspectArgs),
    Convert(ConvertArgs),
    #[cfg(feature = "train")]
    Train(TrainArgs),
    #[cfg(feature = "evaluate")]
    Eval(EvalArgs),
    #[cfg(feature = "evaluate")]
    Probe(ProbeArgs),
    #[cfg(feature = "evaluate")]
    Index(IndexArgs),
    #[cfg(feature = "evaluate")]
    Search(Box<SearchArgs>),
    Bench(BenchArgs),
    Completions(CompletionsArgs),
}

/// Embed pictures and texts.
///
/// Each distinct path and text is encoded once and gives one row, pictures first, each in the order given; of a DICOM
/// file of several frames every frame does, of a slide cut with --tile every tile.
/// Embeddings are the model's pooled outputs, not normalized (as Hugging Face's `get_image_features`),
/// unless --normalized is given. Memory does not grow with the number of inputs.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct EmbedArgs {
    /// Picture and DICOM files, folders (searched recursively, hidden files skipped, slices of a series sorted by their
    /// position), DICOMDIRs, quoted patterns such as "scans/**/*.png", or `-` for standard input: one path a line, or a
    /// CSV with a column `path` (or `image`) and/or `text`
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// A text to embed; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// A file of texts to embed, one a line
    #[arg(long, value_name = "FILE")]
    pub texts_from: Option<PathBuf>,
    /// Divide every embedding by its L2 norm
    #[arg(long)]
    pub normalized: bool,
    /// File format [default: by the extension of --output, else jsonl]
    #[arg(long, value_enum)]
    pub format: Option<EmbedFormat>,
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
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Score pictures against classes described by text (zero-shot).
///
/// For every class: the cosine similarity, the model's own sigmoid probability that picture and class belong
/// together, and a softmax share. Where one of the classes is right (--labels, most sets), the shares are over the
/// classes and sum to 1. Where a set describes each finding's presence and absence (cxr_findings), each share is over
/// these two alone, whatever the other findings. A slide cut with --tile has the scores of its tiles, and for every class
/// their mean, the mean of the highest (--top-k) and the highest. Not for clinical use.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ClassifyArgs {
    /// Picture files, folders, quoted patterns, or `-` for a list or CSV on standard input, as for `embed`
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub classes: ClassesArgs,
    /// Form of the scores [default: by the extension of --output; a table on a terminal, else jsonl]
    #[arg(long, value_enum)]
    pub format: Option<ClassifyFormat>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub dicom: DicomArgs,
    #[command(flatten)]
    pub tiles: TileArgs,
    #[command(flatten)]
    pub slide_scores: SlideScoresArgs,
    #[command(flatten)]
    pub text_args: TextArgs,
    #[command(flatten)]
    pub batch: BatchArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where the classes come from: one of these, or the model where it was trained as a classifier.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ClassesArgs {
    /// Classes, comma-separated; each is its own prompt
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// A file of classes and their prompts: .toml as the published sets, or .json as {"label": ["prompt", ...]}
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// A published prompt set
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PromptSet::task_names()))]
    pub task: Option<String>,
}

/// Show what a picture or a checkpoint is, and what the model will see.
///
/// For a picture, the view is the 8-bit picture at the model's resolution, after the pixel recipe; of a slide the whole,
/// made small. Nothing that names a patient is shown.
/// No weights are needed: without --model, the recipe is `hf` at 448 pixels.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A picture; or a checkpoint on this machine: a folder or a .npz file [default: the checkpoint that --model names]
    #[arg(value_name = "FILE", required_unless_present = "model")]
    pub file: Option<PathBuf>,
    /// The checkpoint to inspect; beside a picture, the one that its resolution and recipe are taken from
    #[arg(long, value_name = "MODEL", env = "MEDSIGLIP_MODEL")]
    pub model: Option<ModelSource>,
    /// Height and width that the model sees, in pixels [default: the model's, else 448]
    #[arg(long, value_name = "PIXELS")]
    pub resolution: Option<NonZeroUsize>,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub display: DisplayArgs,
    /// The frame to show of a DICOM file, from 1 [default: the only one, or the one in the middle]
    #[arg(long, value_name = "N", help_heading = "DICOM")]
    pub frame: Option<NonZeroU32>,
    /// Where to write the view, as PNG [default: no view is written]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
    /// Text for a person, or JSON
    #[arg(long, value_enum, default_value_t = InspectFormat::Text)]
    pub format: InspectFormat,
}

/// Write a checkpoint as safetensors: another format, type or resolution.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// The folder to write; it must be empty or not exist
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Start a new file of weights at this size, for example 5GB [default: the library's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_shard_size: Option<NonZeroU64>,
}

/// Train a model on pairs of pictures and texts.
///
/// CONFIG says what is trained on what; configs/train/mini.toml is an example with comments. The run's folder gets
/// checkpoints, a log of every step, TensorBoard's events, and at the end the trained model, as transformers reads it.
#[cfg(feature = "train")]
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct TrainArgs {
    /// The configuration, a TOML file
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// The run's folder [default: runs/NAME, after CONFIG's name]
    #[arg(long, short, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Go on from the newest checkpoint in the run's folder: the losses are those of a run without interruption
    #[arg(long)]
    pub resume: bool,
    /// Train nothing: tell what would be trained on what and with how much memory, and write the first batch as the model
    /// sees it to dry_run.png in the run's folder, its captions to dry_run.txt
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Show the numbers of the run as curves that fill the terminal, in place of lines; q stops the run
    #[arg(long, conflicts_with = "dry_run")]
    pub dashboard: bool,
    /// Where to train: cpu, a GPU that this build has, such as cuda:0, or several, comma-separated, that share every batch
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_delimiter = ',', value_parser = Device::from_str)]
    pub device: Vec<Device>,
}

/// Evaluate encoders by the published protocols, and write a report.
///
/// CONFIG says which encoders are measured by which tasks on which pictures; configs/eval/mini.toml is an example with
/// comments. The folder gets report.html, results.json, predictions.parquet, tables and figures; embeddings are kept there, so
/// that the same command goes on after a stop, and a changed task embeds nothing anew.
#[cfg(feature = "evaluate")]
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct EvalArgs {
    /// The configuration, a TOML file
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// The report's folder [default: reports/NAME, after CONFIG's name]
    #[arg(long, short, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Where models run: cpu, or a GPU that this build has, such as cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = Device::from_str)]
    pub device: Device,
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Which weights, and how they are stored.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct SourceArgs {
    /// A folder, a big_vision .npz file, a hub id (owner/name or owner/name@revision), for example
    /// google/medsiglip-448, or medsiglip-mini: the small model that is compiled in, a demonstration and no MedSigLIP
    #[arg(long, value_name = "MODEL", env = "MEDSIGLIP_MODEL", default_value = DEFAULT_MODEL)]
    pub model: ModelSource,
    /// A second checkpoint that gives the pooling head and text tower that the first one lacks
    #[arg(long, value_name = "MODEL")]
    pub head_from: Option<ModelSource>,
    /// Storage type of the weights [default: as stored]
    #[arg(long, value_parser = one_of::<Dtype>(&["f32", "bf16", "f16", "int8"]))]
    pub dtype: Option<Dtype>,
    /// Height and width that the model sees, in pixels [default: the checkpoint's]
    #[arg(long, value_name = "PIXELS")]
    pub resolution: Option<NonZeroUsize>,
    /// How position embeddings are resampled where the resolution is not the checkpoint's
    #[arg(long, default_value = "bigvision",
          value_parser = one_of::<PositionResampling>(&["bigvision", "area", "bicubic"]))]
    pub positions: PositionResampling,
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where the model runs: cpu, or a GPU that this build has, such as cuda:0, rocm:0, metal, vulkan:0 or webgpu:0
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = Device::from_str)]
    pub device: Device,
    /// In what a GPU multiplies
    #[arg(long, default_value = "f32", value_parser = one_of::<Precision>(&["f32", "bf16"]))]
    pub precision: Precision,
    /// Threads for decoding and for the model [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// How a picture becomes numbers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pictures")]
pub struct PixelArgs {
    /// Pixel recipe [default: what the checkpoint says, else hf]
    #[arg(long, value_parser = one_of::<Recipe>(&["eval-tf", "hf", "container", "torchvision", "checkpoint"]))]
    pub recipe: Option<Recipe>,
    /// Pad pictures to a square before the resize [default: the recipe's]
    #[arg(long, value_parser = one_of::<Padding>(&["none", "square"]))]
    pub pad: Option<Padding>,
    /// Refuse pictures with more pixels than this
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_pixels)]
    pub max_pixels: u64,
}

/// How a text becomes tokens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub struct TextArgs {
    /// How texts are cleaned before they are tokenized
    #[arg(long, default_value = "hf-slow",
          value_parser = one_of::<Canonicalizer>(&["hf-slow", "hf-fast", "bigvision", "bigvision-zeroshot", "open-clip"]))]
    pub canonicalizer: Canonicalizer,
}

/// How the work is cut.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub struct BatchArgs {
    /// Inputs that are encoded, and kept, together
    #[arg(long, value_name = "N", default_value = "8")]
    pub batch_size: NonZeroUsize,
    /// Stop at the first input that fails
    #[arg(long)]
    pub fail_fast: bool,
}

/// Where results go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// The file to write, whole or not at all; finished work is kept in FILE.part until then [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
    /// Go on with an interrupted run of the same command
    #[arg(long)]
    pub resume: bool,
}

/// File formats of `embed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmbedFormat {
    /// One JSON object a line, failed inputs among them
    Jsonl,
    /// Columns id, kind, e0, e1, ..., before the numbers those of DICOM files and tiles where there are some;
    /// FILE.provenance.json beside it
    Csv,
    /// A float32 array (N, D); FILE's stem .ids.csv and FILE.provenance.json beside it
    Npy,
    /// Columns id, kind, those of DICOM files and tiles where there are some, embedding; provenance in the file's
    /// metadata
    Parquet,
    /// HDF5 of a slide's tiles: datasets `features` (N, D) and `coords` (N, 2), as TRIDENT and CLAM read them; where
    /// --output does not end with .h5, it is a folder with a file for every slide
    H5,
}

/// Forms of the scores of `classify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClassifyFormat {
    /// A table a picture, best class first
    Table,
    /// One JSON object a picture
    Jsonl,
    /// One line a picture and class
    Csv,
}

/// Forms of the answer of `inspect` and `bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InspectFormat {
    /// For a person
    Text,
    /// One JSON object
    Json,
}

/// Reads the command line. A wrong one, `--help` and `--version` are answered here.
pub fn parse() -> Result<Cli, Exit> {
    Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            let _ = error.print();
            return Exit::Done;
        }
        let text = error.render().to_string();
        let text = text.trim_end().replace(
            "\n\nFor more information, try '--help'.",
            "\nhint: see --help",
        );
        messages::say(match text.strip_prefix("error: ") {
            Some(rest) => format!("error[BAD_ARGUMENT]: {rest}"),
            None => text.to_owned(),
        });
        Exit::NothingDone
    })
}

impl SourceArgs {
    /// How the checkpoint is opened.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions {
            resolution: self.resolution.map(NonZeroUsize::get),
            positions: self.positions,
            dtype: self.dtype,
            head_from: self.head_from.clone(),
            progress: Some(progress::download),
        }
    }

    /// Says so where the model is the small one that is compiled in.
    pub fn tell_default(&self) {
        if self.model == ModelSource::Mini {
            messages::note(
                "note: the model is medsiglip-mini, a small demonstration trained on some 1,200 public pictures, and no \
                 MedSigLIP: for that, --model google/medsiglip-448",
            );
        }
    }
}

impl ModelArgs {
    /// Loads the model.
    pub fn load(&self, pixels: &PixelArgs, texts: &TextArgs) -> medsiglip::Result<Model> {
        self.source.tell_default();
        let options = LoadOptions {
            checkpoint: self.source.open_options(),
            recipe: pixels.recipe,
            padding: pixels.pad,
            canonicalizer: texts.canonicalizer,
            device: self.device,
            precision: self.precision,
            threads: self.threads.map(NonZeroUsize::get),
        };
        Model::load(&self.source.model, &options)
    }

    /// Threads that decode pictures.
    pub fn decode_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(cores).get()
    }
}

impl PixelArgs {
    /// How picture files are read for `preprocessor`.
    pub fn decode_options(
        &self,
        display: &DisplayArgs,
        preprocessor: &Preprocessor,
    ) -> DecodeOptions {
        DecodeOptions {
            limits: self.limits(),
            display: display.options(preprocessor.recipe()),
            ..preprocessor.decode_options()
        }
    }

    /// What is refused.
    pub fn limits(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            ..Limits::default()
        }
    }
}

/// A value that has one of `names`, by the library's own reading of it.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = medsiglip::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names.iter().copied()).try_map(|name| name.parse::<T>())
}

/// `5GB`, `500MiB`, `1000000`: a number of bytes.
fn parse_size(text: &str) -> Result<NonZeroU64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((upper.strip_suffix(name)?, *unit)))
        .unwrap_or((&upper, 1));
    let bytes = digits.trim().parse::<u64>().ok();
    bytes
        .and_then(|n| NonZeroU64::new(n.checked_mul(unit)?))
        .ok_or_else(|| "expected a number of bytes above zero such as 5GB or 500MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("5GB").unwrap().get(), 5_000_000_000);
        assert_eq!(parse_size("2 mib").unwrap().get(), 2 << 20);
        assert_eq!(parse_size("7").unwrap().get(), 7);
        assert!(parse_size("0").is_err());
        assert!(parse_size("many").is_err());
        assert!(parse_size("99999999999999GB").is_err());
    }
}
