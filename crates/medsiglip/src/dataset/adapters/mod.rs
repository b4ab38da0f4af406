//! [`Adapter`]: published data sets, read as their owners give them out.
//!
//! `adapter = "chexpert"` in a `[[source]]` table reads the owners' label files; `folder` is where the data set was
//! unpacked. What comes out has the same form for all:
//!
//! - a finding is a column by its name in `cxr_findings`: `1`, `0`, or no value where nobody knows;
//! - a task of several classes is a column by the task's name (`diabetic_retinopathy`), its values the task's classes; a
//!   class of the owners that is none of the task's has no value;
//! - `label` is the owners' own class, where they have classes;
//! - `split` is the owners' own side (`train`, `val`, `test`), where they say one; `split = "split"` follows it;
//! - other columns (`view`, `age`, `sex`, ...: [`STRATA`]) are for strata;
//! - the group is the patient, lesion or slide, where the owners say it; else a warning says that they do not;
//! - a picture whose name several files have, or that two rows have, is left out and counted: nobody can say whose it is.
//!
//! Each file names the public code or page that its column names were checked against.

mod chest;
mod chexpert;
mod files;
mod fundus;
mod histology;
mod label_file;
mod medmnist;
mod pcam;
mod scin;
mod skin;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use chexpert::{FindingPolicy, Uncertain};

use super::source::Found;
use super::table::Unusable;
use super::{Example, Location, SourceConfig};
use crate::zero_shot::{PromptKind, PromptSet};
use crate::{Error, Result, named};
use files::{Files, Sought};

/// The columns that say nothing of what a picture shows. Two near-identical pictures do not contradict each other in them.
pub(super) const STRATA: [&str; 13] = [
    "age",
    "biopsed",
    "confirmed_by",
    "eye",
    "fitzpatrick",
    "lesion",
    "localization",
    "projection",
    "sex",
    "split",
    "ssa_votes",
    "study",
    "view",
];

/// A published data set in its owners' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adapter {
    /// NIH ChestX-ray14: `Data_Entry_2017_v2020.csv` (or the older one), `train_val_list.txt`, `test_list.txt`.
    NihCxr14,
    /// CheXpert: `train.csv`, `valid.csv`, `test_labels.csv`, those that are there.
    Chexpert,
    /// MIMIC-CXR-JPG: `mimic-cxr-2.0.0-chexpert.csv`, `-split.csv`, `-metadata.csv`, also as `.csv.gz`.
    MimicCxrJpg,
    /// RSNA Pneumonia Detection Challenge: `stage_2_train_labels.csv`, DICOM files.
    RsnaPneumonia,
    /// EyePACS, the Kaggle competition of 2015: `trainLabels.csv`, `retinopathy_solution.csv`.
    Eyepacs,
    /// APTOS 2019: `train.csv`.
    Aptos2019,
    /// IDRiD, disease grading: `a. IDRiD_Disease Grading_Training Labels.csv` and the one for testing.
    Idrid,
    /// PAD-UFES-20: `metadata.csv`.
    PadUfes20,
    /// HAM10000: `HAM10000_metadata`.
    Ham10000,
    /// ISIC 2018 (task 3) and 2019: `..._GroundTruth.csv`, a column a class.
    Isic,
    /// SCIN: `scin_cases.csv`, `scin_labels.csv`.
    Scin,
    /// NCT-CRC-HE-100K and CRC-VAL-HE-7K: a folder a class.
    NctCrcHe,
    /// PatchCamelyon: `camelyonpatch_level_2_split_train_x.h5`, `_y.h5`, `_meta.csv`.
    Pcam,
    /// MHIST: `annotations.csv`.
    Mhist,
    /// A set of MedMNIST: `pathmnist.npz`, `chestmnist_224.npz`, ...
    Medmnist,
    /// LC25000: a folder a class.
    Lc25000,
}

impl Adapter {
    /// All, in the order of their domains.
    pub const ALL: [Self; 16] = [
        Self::NihCxr14,
        Self::Chexpert,
        Self::MimicCxrJpg,
        Self::RsnaPneumonia,
        Self::Eyepacs,
        Self::Aptos2019,
        Self::Idrid,
        Self::PadUfes20,
        Self::Ham10000,
        Self::Isic,
        Self::Scin,
        Self::NctCrcHe,
        Self::Pcam,
        Self::Mhist,
        Self::Medmnist,
        Self::Lc25000,
    ];

    /// The stable name, as a configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NihCxr14 => "nih-cxr14",
            Self::Chexpert => "chexpert",
            Self::MimicCxrJpg => "mimic-cxr-jpg",
            Self::RsnaPneumonia => "rsna-pneumonia",
            Self::Eyepacs => "eyepacs",
            Self::Aptos2019 => "aptos2019",
            Self::Idrid => "idrid",
            Self::PadUfes20 => "pad-ufes20",
            Self::Ham10000 => "ham10000",
            Self::Isic => "isic",
            Self::Scin => "scin",
            Self::NctCrcHe => "nct-crc-he",
            Self::Pcam => "pcam",
            Self::Mhist => "mhist",
            Self::Medmnist => "medmnist",
            Self::Lc25000 => "lc25000",
        }
    }

    /// Where it was said that MedSigLIP learned from this data set, if it was: scores on it then say nothing about pictures
    /// that the model has not seen.
    pub fn in_training_data(self) -> Option<&'static str> {
        match self {
            Self::MimicCxrJpg | Self::Eyepacs | Self::PadUfes20 => {
                Some("MedGemma Technical Report, arXiv 2507.05201v4, section on data")
            }
            Self::Scin => Some("the public MedSigLIP notebook on SCIN"),
            _ => None,
        }
    }

    /// The published prompt sets that the columns answer ([`PromptSet::task`](crate::zero_shot::PromptSet::task)). Of
    /// MedMNIST it depends on the set: those of all of them.
    pub fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::NihCxr14 | Self::RsnaPneumonia => &["cxr_findings", "cxr_pneumonia"],
            Self::Chexpert | Self::MimicCxrJpg => &["cxr_findings"],
            Self::Eyepacs | Self::Aptos2019 | Self::Idrid => &["diabetic_retinopathy"],
            Self::PadUfes20 | Self::Ham10000 | Self::Isic | Self::Scin => &["skin_conditions"],
            Self::NctCrcHe => &["colorectal_tissue"],
            Self::Pcam | Self::Mhist => &[],
            Self::Medmnist => &[
                "cxr_findings",
                "cxr_pneumonia",
                "diabetic_retinopathy",
                "skin_conditions",
                "colorectal_tissue",
            ],
            Self::Lc25000 => &["lung_histology"],
        }
    }

    /// Reads the label files of the data set at `base` and what `config` says of it.
    pub(super) fn read(self, base: &Path, config: &SourceConfig, found: &mut Found) -> Result<()> {
        let files = Files::new(base, config)?;
        if self == Self::NctCrcHe && files.are_named {
            return Err(files.bad("label_files: nct-crc-he has none"));
        }
        if self == Self::Pcam && files.named().is_some() {
            return Err(files.bad("label_files: expected the folder of the .h5 files"));
        }
        match self {
            Self::NihCxr14 => chest::nih_cxr14(&files, found),
            Self::Chexpert => chexpert::chexpert(&files, &config.findings, found),
            Self::MimicCxrJpg => chexpert::mimic_cxr_jpg(&files, &config.findings, found),
            Self::RsnaPneumonia => chest::rsna_pneumonia(&files, found),
            Self::Eyepacs => fundus::eyepacs(&files, found),
            Self::Aptos2019 => fundus::aptos2019(&files, found),
            Self::Idrid => fundus::idrid(&files, found),
            Self::PadUfes20 => skin::pad_ufes20(&files, found),
            Self::Ham10000 => skin::ham10000(&files, found),
            Self::Isic => skin::isic(&files, found),
            Self::Scin => scin::read(&files, found),
            Self::NctCrcHe => histology::nct_crc_he(&files, found),
            Self::Pcam => pcam::read(&files, found),
            Self::Mhist => histology::mhist(&files, found),
            Self::Medmnist => medmnist::read(&files, found),
            Self::Lc25000 => histology::lc25000(&files, found),
        }?;
        leave_out_shared(found);
        found.warnings.extend(self.warnings(config, found)?);
        Ok(())
    }

    fn warnings(self, config: &SourceConfig, found: &Found) -> Result<Vec<String>> {
        let source = &config.name;
        let examples = || found.examples.iter();
        let (all, without) = (
            examples().count(),
            examples().filter(|e| e.group.is_none()).count(),
        );
        let mut warnings = Vec::new();
        if let Some(where_said) = self.in_training_data() {
            warnings.push(format!(
                "source {source}: MedSigLIP was trained on pictures of {} ({where_said}); its scores here are no test on \
                 unseen data",
                self.name()
            ));
        }
        if without == all {
            warnings.push(format!(
                "source {source}: {} does not say which pictures are of one patient; a split by shares may put a patient \
                 on both sides",
                self.name()
            ));
        } else if without > 0 {
            warnings.push(format!(
                "source {source}: {without} of {all} pictures have no patient, lesion or slide in the label files; a split by \
                 shares puts each of them on a side by itself"
            ));
        }
        if self == Self::Lc25000 && without == all {
            warnings.push(format!(
                "source {source}: LC25000 has pictures made from the same tile and does not say which; a split by shares \
                 has some on both sides"
            ));
        }
        let has_side = |example: &Example| example.labels.contains_key("split");
        if config.split.is_none() && examples().any(has_side) {
            warnings.push(format!(
                "source {source}: its owners' own split is not used; split = \"split\" follows it"
            ));
        }
        warnings.extend(self.outside_tasks(source, found)?);
        Ok(warnings)
    }

    /// A line for every task of several classes in which pictures with a class of the owners have no value.
    fn outside_tasks(self, source: &str, found: &Found) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for name in self.tasks() {
            if PromptSet::task(name)?.kind != PromptKind::Multiclass {
                continue;
            }
            let has = |example: &Example, column: &str| example.labels.contains_key(column);
            let has_class = |e: &Example| has(e, "label") || has(e, "conditions");
            let mut examples = found.examples.iter();
            let outside = examples.clone().filter(|e| has_class(e) && !has(e, name));
            let outside = outside.count();
            if outside > 0 && examples.any(|example| has(example, name)) {
                warnings.push(format!(
                    "source {source}: {outside} of {} pictures have a class that the task {name} does not have, and no value there",
                    found.examples.len()
                ));
            }
        }
        Ok(warnings)
    }
}

/// Leaves out the examples that have a picture file in common: at most one of them is of it.
fn leave_out_shared(found: &mut Found) {
    let mut rows: HashMap<&Path, Vec<usize>> = HashMap::new();
    for (row, example) in found.examples.iter().enumerate() {
        if let Location::File(path) = &example.picture {
            rows.entry(path).or_default().push(row);
        }
    }
    let several = rows.into_values().filter(|rows| rows.len() > 1);
    let shared: HashSet<usize> = several.flatten().collect();
    let mut row = 0..;
    found.examples.retain(|example| {
        let is_shared = row.next().is_some_and(|row| shared.contains(&row));
        if is_shared {
            let reason = "picture that another row has too";
            found.skipped.add(&example.place, reason);
        }
        !is_shared
    });
}

impl FromStr for Adapter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named::parse("adapter", &Self::ALL, Self::name, text)
    }
}

/// An example in the making, or why it cannot be used.
struct Entry {
    example: Example,
    wrong: Option<Unusable>,
}

impl Entry {
    fn new(id: impl Into<String>, picture: Sought, place: String) -> Self {
        let (picture, wrong) = match picture {
            Ok(picture) => (picture, None),
            Err(wrong) => (Location::File(PathBuf::new()), Some(wrong)),
        };
        let example = Example {
            id: id.into(),
            picture,
            place,
            captions: Vec::new(),
            labels: BTreeMap::new(),
            group: None,
        };
        Self { example, wrong }
    }

    /// Sets a column; an empty value is none.
    fn label(mut self, column: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if !value.is_empty() {
            let labels = &mut self.example.labels;
            labels.insert(column.to_owned(), value.to_owned());
        }
        self
    }

    /// Sets the column of a finding.
    fn finding(self, name: &str, present: bool) -> Self {
        self.label(name, if present { "1" } else { "0" })
    }

    /// Sets the patient, lesion or slide, unless it is not known.
    fn group(mut self, group: &str) -> Self {
        self.example.group = (!group.is_empty()).then(|| group.to_owned());
        self
    }

    fn add_to(self, found: &mut Found) {
        match self.wrong {
            Some(wrong) => found.skipped.add(&self.example.place, wrong),
            None => found.examples.push(self.example),
        }
    }
}

/// The classes of the task `diabetic_retinopathy` by grade.
const DR_GRADES: [&str; 5] = [
    "No DR",
    "Mild DR",
    "Moderate DR",
    "Severe DR",
    "Proliferative DR",
];
