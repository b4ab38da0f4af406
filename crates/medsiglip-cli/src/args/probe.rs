//! Arguments of `probe`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use medsiglip::embedding::{IdMatch, TableOptions};
use medsiglip::probe::{Calibrate, Cut, LabelColumns, Penalty};

use super::EXIT_CODES;

/// Fit a linear probe on embeddings, and use it.
///
/// Embeddings are those of `medsiglip embed` or of any other software: Parquet, .npy with ids beside it, .npz, HDF5, TFRecord,
/// JSON Lines or CSV. A probe knows how its embeddings were made and refuses others.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ProbeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ProbeCommand,
}

/// What to do with a probe.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    Fit(ProbeFitArgs),
    Predict(ProbePredictArgs),
    Eval(ProbeEvalArgs),
}

/// How embeddings are read.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// The embeddings' column, array or key of ids [default: id, path, image or the like]
    #[arg(long, value_name = "NAME")]
    pub embedding_id: Option<String>,
    /// Their column, array or key of embeddings, or what numbered columns begin with [default: embedding, features or the only
    /// one that can be]
    #[arg(long, value_name = "NAME")]
    pub embedding_column: Option<String>,
    /// The ids of a .npy file, .csv or .txt [default: STEM.ids.csv or STEM.ids.txt beside it]
    #[arg(long, value_name = "FILE")]
    pub embedding_ids_file: Option<PathBuf>,
}

impl TableArgs {
    /// As the library has it.
    pub fn options(&self) -> TableOptions {
        TableOptions {
            id: self.embedding_id.clone(),
            embedding: self.embedding_column.clone(),
            ids_file: self.embedding_ids_file.clone(),
            ..TableOptions::default()
        }
    }
}

/// A table of labels.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// A CSV file with ids and labels
    #[arg(long, value_name = "CSV")]
    pub labels: PathBuf,
    /// Its column with the classes
    #[arg(long, value_name = "COLUMN", required_unless_present = "findings")]
    pub label: Option<String>,
    /// In place of --label, its columns of findings, each 1, 0 or nothing (unknown); comma-separated
    #[arg(
        long,
        value_name = "COLUMN",
        value_delimiter = ',',
        conflicts_with = "label"
    )]
    pub findings: Vec<String>,
    /// Its column with the ids [default: id, path or image]
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// Its column with the patient, lesion or slide, which no fold and no bootstrap sample cuts
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// What of two ids must be the same
    #[arg(long, value_enum, default_value_t = Ids::Exact)]
    pub ids: Ids,
}

/// What of two ids must be the same.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Ids {
    /// All of them
    Exact,
    /// The file name at their end
    FileName,
    /// The file name without its extension
    FileStem,
}

impl LabelArgs {
    /// Which columns say what.
    pub fn columns(&self) -> LabelColumns {
        LabelColumns {
            id: self.id.clone(),
            label: self.label.clone(),
            findings: self.findings.clone(),
            group: self.group.clone(),
        }
    }

    /// What of two ids must be the same.
    pub fn ids(&self) -> IdMatch {
        self.ids.matching()
    }
}

impl Ids {
    /// As the library has it.
    pub fn matching(self) -> IdMatch {
        match self {
            Self::Exact => IdMatch::Exact,
            Self::FileName => IdMatch::FileName,
            Self::FileStem => IdMatch::FileStem,
        }
    }
}

/// Fit logistic regression on embeddings and labels.
///
/// C is chosen by AUROC in stratified folds that cut no group. It stops at its duality gap, which is told and kept.
#[derive(Debug, Args)]
pub struct ProbeFitArgs {
    /// Embeddings with ids: a file, or a folder of them
    pub embeddings: PathBuf,
    #[command(flatten)]
    pub table: TableArgs,
    #[command(flatten)]
    pub labels: LabelArgs,
    /// The probe's folder
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Inverse strengths of the penalty to choose from; comma-separated [default: ten from 1e-4 to 1e4]
    #[arg(long = "C", value_name = "C", value_delimiter = ',')]
    pub c: Vec<f64>,
    /// Folds to choose C in
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub folds: usize,
    /// What keeps coefficients small
    #[arg(long, value_enum, default_value_t = PenaltyName::L2)]
    penalty: PenaltyName,
    /// Share of l1 in the elastic net, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    l1_ratio: f64,
    /// Centre and scale features
    #[arg(long)]
    pub standardize: bool,
    /// Divide embeddings by their L2 norm first
    #[arg(long)]
    pub normalize: bool,
    /// Let every class count the same
    #[arg(long)]
    pub balanced: bool,
    /// Make probabilities honest by the scores of held-out folds: a sigmoid (platt) or steps (isotonic) for two classes, or the
    /// temperature of the softmax
    #[arg(long, value_enum)]
    pub calibrate: Option<CalibrateName>,
    /// Tell two classes apart where sensitivity + specificity is highest in held-out folds (youden), or most specifically with at
    /// least this sensitivity (sensitivity=0.95)
    #[arg(long, value_name = "RULE", value_parser = cut)]
    pub threshold: Option<Cut>,
    /// Keep a probe that has not come to the wanted duality gap, marked
    #[arg(long)]
    pub accept_unconverged: bool,
    /// All that is random follows from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PenaltyName {
    None,
    L2,
    L1,
    #[value(name = "elasticnet")]
    ElasticNet,
}

/// A calibration.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CalibrateName {
    Platt,
    Isotonic,
    Temperature,
}

fn cut(text: &str) -> Result<Cut, String> {
    let share = text.strip_prefix("sensitivity=").map(str::parse);
    match share {
        Some(Ok(share)) if share > 0.0 && share <= 1.0 => Ok(Cut::Sensitivity(share)),
        None if text == "youden" => Ok(Cut::Youden),
        _ => Err("expected youden, or sensitivity= and a number above 0 and at most 1".into()),
    }
}

impl ProbeFitArgs {
    /// What makes probabilities honest.
    pub fn calibrate(&self) -> Option<Calibrate> {
        Some(match self.calibrate? {
            CalibrateName::Platt => Calibrate::Platt,
            CalibrateName::Isotonic => Calibrate::Isotonic,
            CalibrateName::Temperature => Calibrate::Temperature,
        })
    }

    /// The penalty.
    pub fn penalty(&self) -> medsiglip::Result<Penalty> {
        Ok(match self.penalty {
            PenaltyName::None => Penalty::None,
            PenaltyName::L2 => Penalty::L2,
            PenaltyName::L1 => Penalty::L1,
            PenaltyName::ElasticNet => Penalty::ElasticNet {
                l1_ratio: self.l1_ratio,
            },
        })
    }
}

/// Score embeddings by a probe, as CSV.
#[derive(Debug, Args)]
pub struct ProbePredictArgs {
    /// The probe's folder
    pub probe: PathBuf,
    /// Embeddings with ids
    pub embeddings: PathBuf,
    #[command(flatten)]
    pub table: TableArgs,
    /// The file to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Measure a probe on other embeddings and labels, as `eval` does: AUROC, average precision, operating points, accuracy, F1, kappa, Brier
/// score, calibration error and its threshold, with intervals, or why there is none.
#[derive(Debug, Args)]
pub struct ProbeEvalArgs {
    /// The probe's folder
    pub probe: PathBuf,
    /// Embeddings with ids
    pub embeddings: PathBuf,
    #[command(flatten)]
    pub table: TableArgs,
    #[command(flatten)]
    pub labels: LabelArgs,
}
