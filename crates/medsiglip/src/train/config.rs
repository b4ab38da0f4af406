//! [`TrainConfig`]: a training run as one TOML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::auxiliary::AuxiliaryConfig;
use super::head::HeadConfig;
use super::init::Init;
use super::optimizer::OptimizerConfig;
use super::schedule::Schedule;
use crate::checkpoint::Dtype;
use crate::dataset::{SourceConfig, SplitConfig};
use crate::model::Precision;
use crate::tokenizer::TokenizerOptions;
use crate::zero_shot::PromptSet;
use crate::{Error, Result};

/// Largest configuration file.
const MAX_BYTES: u64 = 16 << 20;

/// A training run. Unknown keys are errors; relative paths start at the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// All that is random follows from it.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// What training starts from.
    pub model: ModelConfig,
    /// The vision tower learns to tell labelled classes apart, in place of pairs of pictures and texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadConfig>,
    /// How many pairs a step has.
    #[serde(default)]
    pub batch: BatchConfig,
    /// The loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// The optimizer.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Train small adapters instead of the weights.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// Decay of a moving average of the weights, which is then what is validated and exported: for example 0.999.
    #[serde(default)]
    pub average: Option<f64>,
    /// Before the first step, the text tower alone learns to tell the captions apart.
    #[serde(default)]
    pub text_warm_start: Option<TextWarmStart>,
    /// Beside the loss, the vision tower learns to tell what its patches look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<AuxiliaryConfig>,
    /// How the sources are divided.
    #[serde(default)]
    pub split: SplitConfig,
    /// What is measured on the way.
    #[serde(default)]
    pub validation: ValidationConfig,
    /// What is kept to go on from.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// The trained model.
    #[serde(default)]
    pub export: ExportConfig,
    /// Where the pairs come from.
    #[serde(rename = "source")]
    pub sources: Vec<SourceConfig>,
}

/// The `[model]` table: `base` or `new`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A model folder or hub id. Its temperature and bias are kept.
    #[serde(default)]
    pub base: Option<String>,
    /// A model of random weights.
    #[serde(default)]
    pub new: Option<NewModel>,
    /// Keep a layer's input alone and make the rest again in the backward pass: less memory, a third more time.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// In what a GPU multiplies: `f32` or `bf16`. Weights and the optimizer's moments are in f32 all the same.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// A model of random weights, for pairs with a tokenizer of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// `vision_config` of transformers.
    pub vision: BTreeMap<String, serde_json::Value>,
    /// `text_config` of transformers, for pairs; sizes of vocabulary and positions come from the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BTreeMap<String, serde_json::Value>>,
    /// Trained on the captions.
    #[serde(default)]
    pub tokenizer: TokenizerOptions,
    /// How the weights are drawn; its seed is the run's where it has none.
    #[serde(default)]
    pub init: Init,
}

/// The `[batch]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Pairs of a step: each picture has the texts of all others as negatives.
    pub size: usize,
    /// Pairs that go through the towers at once, which bounds memory; 0 for all.
    pub micro: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { size: 64, micro: 0 }
    }
}

/// Which pairs belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Positives {
    /// Picture i with text i alone, as in the paper.
    #[default]
    Diagonal,
    /// Picture i with every text of the batch that could have been drawn for it: where captions come from few labels,
    /// most others of the diagonal are true as well.
    AllTrue,
}

/// The `[loss]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Which pairs belong together.
    pub positives: Positives,
    /// Memory of the loss is that of a block of this many pictures and texts.
    pub block: usize,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            positives: Positives::Diagonal,
            block: 4096,
        }
    }
}

/// The `[lora]` table (Hu et al., arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the adapters.
    pub rank: usize,
    /// They are scaled by alpha / rank.
    pub alpha: f64,
    /// Names of the weights that get one, `*` for anything.
    #[serde(default = "projections")]
    pub targets: Vec<String>,
}

fn projections() -> Vec<String> {
    ["*.q_proj.weight", "*.v_proj.weight"]
        .map(Into::into)
        .into()
}

/// The `[text_warm_start]` table. All captions that training can draw are a batch, and two captions that are true of the
/// same examples a positive pair; temperature and bias stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextWarmStart {
    /// Steps.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
}

/// The `[validation]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Steps between two validations; 0 for the end alone.
    pub every: u64,
    /// Stop after this many validations without a better mean of the tasks.
    pub patience: Option<u64>,
    /// Export the weights of the best validation, not those of the last step. What is then measured on the validation side was
    /// chosen by it.
    pub keep_best: bool,
    /// Zero-shot tasks.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskConfig>,
}

/// A zero-shot task on a source's held-out pictures, measured by AUROC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name in reports.
    pub name: String,
    /// The source.
    pub source: String,
    /// The column with the truth.
    pub label: String,
    /// A prompt set: the name of one that is compiled in (see `classify --task`), or a file.
    pub prompts: String,
    /// Values of the column, and which of the prompt set's classes each is.
    pub classes: BTreeMap<String, String>,
    /// Classes that count as positive together: one AUROC of the sum of their shares. Without, it is the mean of every
    /// class's against the others.
    #[serde(default)]
    pub positive: Vec<String>,
}

impl TaskConfig {
    /// The prompt set.
    ///
    /// # Errors
    /// As of [`PromptSet::named`].
    pub fn prompt_set(&self, base: &Path) -> Result<PromptSet> {
        PromptSet::named(&self.prompts, base)
    }
}

/// The `[checkpoint]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between two.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 500,
            keep: 2,
        }
    }
}

/// The `[export]` table: the trained model's folder and card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Its name.
    pub name: String,
    /// Storage type of the weights.
    pub dtype: Dtype,
    /// Its licence, where the base's terms do not go on.
    pub license: String,
    /// Whether the base is MedSigLIP, MedGemma or made from them, so that the Health AI Developer Foundations terms go on.
    /// By default it is judged by its id, and by the notice beside it.
    pub hai_def: Option<bool>,
    /// Licences of the sources, by name.
    pub source_licenses: BTreeMap<String, String>,
    /// What it cannot do, a sentence each.
    pub limitations: Vec<String>,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            name: "A fine-tuned SigLIP model".into(),
            dtype: Dtype::F32,
            license: "other".into(),
            hai_def: None,
            source_licenses: BTreeMap::new(),
            limitations: Vec::new(),
        }
    }
}

impl TrainConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with the line, also for an unknown key; `IO_ERROR`; `LIMIT_EXCEEDED` above 16 MiB.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        if metadata.len() > MAX_BYTES {
            return Err(Error::Limit {
                what: "the size of the training configuration in bytes",
                got: metadata.len(),
                limit: MAX_BYTES,
            });
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::from_toml(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with the line, also for an unknown key.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| {
            Error::BadConfig(format!("training configuration: {}", e.to_string().trim()))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let head = self.head.as_ref().map(|head| head.checks(self));
        let checks = self.numbers().into_iter().chain(self.names());
        let checks = checks.chain(head.into_iter().flatten());
        match checks.into_iter().find(|(right, _)| !right) {
            Some((_, what)) => Err(Error::BadConfig(format!("training configuration: {what}"))),
            None => Ok(()),
        }
    }

    fn numbers(&self) -> [(bool, &'static str); 9] {
        let share = |x: f64| (0.0..1.0).contains(&x);
        [
            (self.steps > 0, "steps: expected at least 1"),
            (self.batch.size > 0, "batch.size: expected at least 1"),
            (self.loss.block > 0, "loss.block: expected at least 1"),
            (
                self.average.is_none_or(share),
                "average: expected a decay from 0 to below 1",
            ),
            (
                self.lora.as_ref().is_none_or(|l| l.rank > 0),
                "lora.rank: expected at least 1",
            ),
            (
                self.checkpoint.every > 0 && self.checkpoint.keep > 0,
                "checkpoint: expected every and keep of at least 1",
            ),
            (
                self.text_warm_start.is_none_or(|t| t.lr > 0.0),
                "text_warm_start.lr: expected a number above 0",
            ),
            (
                self.auxiliary
                    .is_none_or(|a| a.weight.is_finite() && a.weight > 0.0 && share(a.mask)),
                "auxiliary: expected a weight above 0 and a mask from 0 to below 1",
            ),
            (
                self.auxiliary.is_none() || self.head.is_none(),
                "auxiliary: it goes with pairs alone, not with a head",
            ),
        ]
    }

    fn names(&self) -> [(bool, &'static str); 9] {
        let one_start = self.model.base.is_some() != self.model.new.is_some();
        let known = |name: &String| self.sources.iter().any(|s| s.name == *name);
        let mut names: Vec<_> = self.sources.iter().map(|s| &s.name).collect();
        names.sort();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        let tasks = &self.validation.tasks;
        let judged = !tasks.is_empty() || self.head.is_some();
        let new = self.model.new.as_ref();
        let patience = self.validation.patience;
        let ExportConfig { name, license, .. } = &self.export;
        [
            (one_start, "model: expected either base or new"),
            (
                new.is_none_or(|new| new.text.is_some() != self.head.is_some()),
                "model.new.text: expected for pairs, and not with a head",
            ),
            (!self.sources.is_empty(), "expected at least one [[source]]"),
            (!twice, "source: expected every name once"),
            (
                tasks.iter().all(|t| known(&t.source)),
                "validation.task: its source is none of the sources",
            ),
            (
                patience.is_none_or(|patience| patience > 0 && judged),
                "validation.patience: expected at least 1, and a task to judge by",
            ),
            (
                !self.validation.keep_best || judged,
                "validation.keep_best: expected a task to judge by",
            ),
            (
                !name.trim().is_empty() && !license.trim().is_empty(),
                "export: expected a name and a license",
            ),
            (
                self.export.dtype != Dtype::Int8,
                "export.dtype: expected f32, bf16 or f16, which transformers reads; convert makes int8 of them",
            ),
        ]
    }

    /// Pairs that go through the towers at once.
    pub fn micro_batch(&self) -> usize {
        match self.batch.micro {
            0 => self.batch.size,
            micro => micro.min(self.batch.size),
        }
    }
}

/// Where a run keeps what.
#[derive(Debug, Clone)]
pub struct Places {
    /// The run's folder.
    pub run: PathBuf,
}

impl Places {
    /// Those in the folder `run`.
    pub fn of(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
        }
    }

    /// The model that a run from random weights starts from.
    pub fn start(&self) -> PathBuf {
        self.run.join("start")
    }

    /// The tokenizer that was trained for it.
    pub fn tokenizer(&self) -> PathBuf {
        self.run.join("tokenizer")
    }

    /// Checkpoints to go on from.
    pub fn checkpoints(&self) -> PathBuf {
        self.run.join("checkpoints")
    }

    /// The trained model.
    pub fn model(&self) -> PathBuf {
        self.run.join("model")
    }

    /// Event files of TensorBoard.
    pub fn tensorboard(&self) -> PathBuf {
        self.run.join("tensorboard")
    }

    /// A line of JSON for every step and validation.
    pub fn log(&self) -> PathBuf {
        self.run.join("log.jsonl")
    }
}
