//! [`SourceConfig`]: one `[[source]]` table of a training configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::adapters::STRATA;
use super::captions::Template;
use super::{Adapter, AugmentConfig, FindingPolicy};
use crate::{Error, Result};

/// Where the pictures and texts of a source lie, and how they are drawn.
///
/// Exactly one of `manifest`, `folder` (perhaps with `adapter`) and `shards` is given. Paths are relative to the folder of the configuration;
/// the paths inside a manifest are relative to the manifest's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Short name for reports, unique among the sources.
    pub name: String,
    /// A table with one row a picture: `.csv`, `.jsonl` or `.parquet`.
    #[serde(default)]
    pub manifest: Option<PathBuf>,
    /// A folder of pictures; the name of the first folder below it is the label column `label`. Messages name a picture of
    /// it by its number in the order of the paths.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// With `folder`: the published data set that lies there as its owners give it out, for example `chexpert`. It says
    /// pictures, labels, groups and sides; keys that name them (`manifest`, `group`, `id`, ...) have no place beside it.
    #[serde(default)]
    pub adapter: Option<Adapter>,
    /// With `adapter`: the folder of its label files where that is not `folder`; or the file that is read alone, whose name
    /// says which side it is, where it is one of the owners'.
    #[serde(default)]
    pub label_files: Option<PathBuf>,
    /// With the adapters `chexpert` and `mimic-cxr-jpg`: how findings that are uncertain or not mentioned are read.
    #[serde(default)]
    pub findings: FindingPolicy,
    /// WebDataset tar files: one or several paths or patterns (`train-*.tar`).
    #[serde(default)]
    pub shards: Option<Shards>,
    /// The manifest's column of picture paths: by default `image`, where there is none `path`.
    #[serde(default)]
    pub image: Option<String>,
    /// The column of a Parquet manifest that holds the bytes of picture files, instead of `image`; `image.bytes` for a
    /// field of a group.
    #[serde(default)]
    pub image_bytes: Option<String>,
    /// `false` where the pictures are not here and embeddings of them are evaluated: the column of picture paths then need be
    /// no more than ids.
    #[serde(default = "yes")]
    pub pictures: bool,
    /// Caption columns; in JSONL and Parquet a cell may be a list. Of shards: keys of the `.json` members beside the
    /// `.txt` members, by default `caption` and `captions`.
    #[serde(default)]
    pub captions: Vec<String>,
    /// The column that names the patient, lesion or slide. No group crosses a split.
    #[serde(default)]
    pub group: Option<String>,
    /// The column of ids, by default the path as the manifest writes it, or the row's number.
    #[serde(default)]
    pub id: Option<String>,
    /// Label columns to keep, beside those that `templates`, `label_texts`, `split` and `stratify` name.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Captions from labels: texts with the columns' names in braces, `a chest x-ray of {label}`. A column stands for its
    /// value, or for one of the texts that `label_texts` has for it; several values are joined by commas. A template
    /// fits where all its columns have a value, and a text where the column has texts.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Texts by label column and value. Without `templates` they are captions themselves.
    #[serde(default)]
    pub label_texts: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The column that says `train`, `val` or `test`, instead of a split by shares.
    #[serde(default)]
    pub split: Option<String>,
    /// The label column whose values are to have the same shares in every split.
    #[serde(default)]
    pub stratify: Option<String>,
    /// The source's weight in the mixture, relative to the sum of all.
    #[serde(default = "one")]
    pub weight: f64,
    /// Largest share of examples that may be left out because they cannot be read.
    #[serde(default = "one_percent")]
    pub max_skipped: f64,
    /// Samples that are shuffled together when shards are read, so that reads stay close to each other on the disk.
    #[serde(default = "default_buffer")]
    pub shuffle_buffer: usize,
    /// How training pictures are varied; not at all by default.
    #[serde(default)]
    pub augment: AugmentConfig,
}

/// One or several tar files or patterns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shards {
    /// One path or pattern.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Shards {
    pub(super) fn patterns(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Several(patterns) => patterns,
        }
    }
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn one_percent() -> f64 {
    0.01
}

fn default_buffer() -> usize {
    4096
}

impl SourceConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// `BAD_CONFIG` naming the source and the key.
    pub fn check(&self) -> Result<()> {
        let places = [
            self.manifest.is_some(),
            self.folder.is_some(),
            self.shards.is_some(),
        ];
        let wrong = if self.name.is_empty() {
            "name is empty"
        } else if places.into_iter().filter(|given| *given).count() != 1 {
            "expected exactly one of manifest, folder and shards"
        } else if self.image.is_some() && self.image_bytes.is_some() {
            "expected image or image_bytes, not both"
        } else if self.manifest.is_none() && (self.image.is_some() || self.image_bytes.is_some()) {
            "image and image_bytes are columns of a manifest"
        } else if !self.pictures && (self.manifest.is_none() || self.image_bytes.is_some()) {
            "pictures = false: expected a manifest with paths or ids"
        } else if self.adapter.is_some() && (self.folder.is_none() || self.names_columns()) {
            "adapter: expected a folder, and none of group, id and captions"
        } else if self.adapter.is_none() && self.label_files.is_some() {
            "label_files: expected an adapter"
        } else if self.adapter.is_none()
            && self.folder.is_some()
            && (self.names_columns() || self.asks_a_folder_for_columns())
        {
            "a folder has no columns but the label column \"label\""
        } else if !(self.weight.is_finite() && self.weight >= 0.0) {
            "weight: expected a number of at least 0"
        } else if !(0.0..=1.0).contains(&self.max_skipped) {
            "max_skipped: expected a share from 0 to 1"
        } else if self.shuffle_buffer == 0 {
            "shuffle_buffer: expected at least 1"
        } else if self.has_empty_text() {
            "label_texts: expected at least one text a value, none of them empty"
        } else {
            self.templates()?;
            self.findings.check(self)?;
            return self.augment.check().map_err(|error| self.named(error));
        };
        Err(self.bad(wrong))
    }

    fn asks_a_folder_for_columns(&self) -> bool {
        self.split.is_some() || self.label_columns().iter().any(|column| column != "label")
    }

    fn names_columns(&self) -> bool {
        self.group.is_some() || self.id.is_some() || !self.captions.is_empty()
    }

    fn has_empty_text(&self) -> bool {
        let mut values = self.label_texts.values().flat_map(BTreeMap::values);
        values.any(|texts| texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()))
    }

    pub(super) fn bad(&self, wrong: &str) -> Error {
        Error::BadConfig(format!("source {}: {wrong}", self.name))
    }

    fn named(&self, error: Error) -> Error {
        match error {
            Error::BadConfig(message) => self.bad(&message),
            other => other,
        }
    }

    /// The templates, of which each column of texts is one where none is given.
    pub(super) fn templates(&self) -> Result<Vec<Template>> {
        if self.templates.is_empty() {
            let columns = self.label_texts.keys();
            return Ok(columns.map(|column| Template::of_column(column)).collect());
        }
        let templates = self.templates.iter().map(|text| Template::parse(text));
        templates
            .collect::<Result<_>>()
            .map_err(|error| self.named(error))
    }

    /// Every label column that any key names.
    pub(super) fn label_columns(&self) -> BTreeSet<String> {
        let mut columns: BTreeSet<String> = self.labels.iter().cloned().collect();
        columns.extend(self.label_texts.keys().cloned());
        columns.extend(self.split.iter().chain(&self.stratify).cloned());
        for template in self.templates().unwrap_or_default() {
            columns.extend(template.columns().map(str::to_owned));
        }
        columns
    }

    /// Whether a label column says what a picture shows: all that the keys name but the side, and of an adapter all but
    /// the strata.
    pub(super) fn is_answer(&self, column: &str) -> bool {
        let is_stratum = self.adapter.is_some() && STRATA.contains(&column);
        self.split.as_deref() != Some(column) && !is_stratum
    }

    /// Whether examples are expected to have texts: else labels alone will do, for a classifier.
    pub(super) fn has_texts(&self) -> bool {
        !self.captions.is_empty()
            || !self.templates.is_empty()
            || !self.label_texts.is_empty()
            || (self.shards.is_some() && self.label_columns().is_empty())
    }
}
