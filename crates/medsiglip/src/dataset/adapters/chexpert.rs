//! CheXpert and MIMIC-CXR-JPG: the findings of the CheXpert labeler, with uncertain ones.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{Files, Named, folders_below};
use super::label_file::{Column, LabelFile, LabelRow};
use super::{Adapter, Entry};
use crate::Result;
use crate::dataset::source::Found;
use crate::dataset::{Location, SourceConfig, finding};

/// The observations of the CheXpert labeler (Irvin et al., AAAI 2019, Table 1), by their column names.
const FINDINGS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// What an uncertain or unmentioned finding counts as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncertain {
    /// No value: U-Ignore.
    #[default]
    Ignore,
    /// Absent: U-Zeroes.
    Zeros,
    /// Present: U-Ones.
    Ones,
}

impl Uncertain {
    fn value(self) -> &'static str {
        match self {
            Self::Ignore => "",
            Self::Zeros => "0",
            Self::Ones => "1",
        }
    }
}

/// How findings of the CheXpert labeler that are neither present nor absent are read (Irvin et al., AAAI 2019, section
/// "Uncertainty approaches").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingPolicy {
    /// What the report leaves open (`-1` in the file). The paper's names: `ignore`, `zeros`, `ones`.
    #[serde(default)]
    pub uncertain: Uncertain,
    /// As `uncertain`, for single findings by name: what is best differs from one to the next (the paper's Table 3).
    #[serde(default)]
    pub uncertain_by_finding: BTreeMap<String, Uncertain>,
    /// What the report does not mention (an empty cell). By default it has no value; many published baselines take `zeros`.
    #[serde(default)]
    pub unmentioned: Uncertain,
}

impl FindingPolicy {
    pub(in crate::dataset) fn check(&self, config: &SourceConfig) -> Result<()> {
        let has_them =
            [Some(Adapter::Chexpert), Some(Adapter::MimicCxrJpg)].contains(&config.adapter);
        if *self != Self::default() && !has_them {
            return Err(config.bad(
                "findings: uncertain and unmentioned findings are a matter of the adapters chexpert and mimic-cxr-jpg alone",
            ));
        }
        let mut names = self.uncertain_by_finding.keys();
        match names.find(|name| !FINDINGS.contains(&name.as_str())) {
            Some(_) => Err(config.bad(&format!(
                "uncertain_by_finding: expected names among {}",
                FINDINGS.join(", ")
            ))),
            None => Ok(()),
        }
    }

    fn value(&self, name: &str, row: &LabelRow, column: Column) -> Result<&'static str> {
        let cell = row.get(column);
        let uncertain = || self.uncertain_by_finding.get(name).copied();
        match finding(cell).map_err(|wrong| row.bad(column, &wrong.to_string()))? {
            Some(true) => Ok("1"),
            Some(false) => Ok("0"),
            None if cell.is_empty() => Ok(self.unmentioned.value()),
            None => Ok(uncertain().unwrap_or(self.uncertain).value()),
        }
    }
}

/// The columns of findings that `file` has. `No Finding` is missing from some label files of the test set.
fn finding_columns(file: &LabelFile) -> Result<Vec<(&'static str, Column)>> {
    let mut columns = Vec::new();
    for name in FINDINGS {
        match file.find(&[name]) {
            Some(column) => columns.push((name, column)),
            None if name == "No Finding" => (),
            None => columns.push((name, file.column(&[name])?)),
        }
    }
    Ok(columns)
}

/// CheXpert. Columns: `train.csv` as torchxrayvision's reader and the sample in rajpurkarlab/cheXlocalize have them,
/// `Path,Sex,Age,Frontal/Lateral,AP/PA` and the findings; the test set's labels have `Path` and findings alone.
pub(super) fn chexpert(files: &Files, policy: &FindingPolicy, found: &mut Found) -> Result<()> {
    let tables = files.sides(&[
        ("train", &["train.csv"]),
        ("val", &["valid.csv", "val_labels.csv"]),
        ("test", &["test_labels.csv", "test.csv"]),
    ])?;
    let patients = Named::find(&patient_folders(files)?, "patient", PATIENT_DEPTH)?;
    for (side, file) in tables {
        chexpert_side(&file, &patients, side, policy, found)?;
    }
    Ok(())
}

/// Folders below the data set's in which folders of patients are looked for: `CheXpert-v1.0/train` and one more.
const PATIENT_DEPTH: usize = 3;

/// Where folders of patients are looked for: the data set's folder. Stanford AIMI's archives come out as four of them side
/// by side, `CheXpert-v1.0 batch 1 (validate & csv)`, `CheXpert-v1.0 batch 2 (train 1)`, ...: where one of those is named,
/// the others are looked into as well.
fn patient_folders(files: &Files) -> Result<Vec<PathBuf>> {
    let is_batch = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains(" batch ")
    };
    match (is_batch(&files.folder), files.folder.parent()) {
        (true, Some(parent)) => {
            let mut folders = folders_below(&[parent.to_owned()])?;
            folders.retain(is_batch);
            Ok(folders)
        }
        _ => Ok(vec![files.folder.clone()]),
    }
}

fn chexpert_side(
    file: &LabelFile,
    patients: &Named,
    side: &str,
    policy: &FindingPolicy,
    found: &mut Found,
) -> Result<()> {
    let path = file.column(&["Path"])?;
    let findings = finding_columns(file)?;
    let [sex, age, view] = [["Sex"], ["Age"], ["AP/PA"]].map(|name| file.find(&name));
    for row in file.rows() {
        let name = row.text(path)?;
        let (before, patient, after) = parts(name)
            .ok_or_else(|| row.bad(path, "expected a path with a folder patientNNNNN in it"))?;
        let projection = ["frontal", "lateral"]
            .into_iter()
            .find(|p| name.contains(p));
        let mut entry = Entry::new(name, patients.file(before, patient, after), row.place())
            .group(patient)
            .label("split", side)
            .label("projection", projection.unwrap_or_default())
            .label("view", row.get_if(view))
            .label("sex", row.get_if(sex))
            .label("age", row.get_if(age));
        for (finding, column) in &findings {
            entry = entry.label(finding, policy.value(finding, &row, *column)?);
        }
        entry.add_to(found);
    }
    Ok(())
}

/// The folder of the patient in a path of the owners, with what stands before and behind it. It begins with the name of
/// the archive, which users rename.
fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let start = match path.starts_with("patient") {
        true => 0,
        false => path.find("/patient")? + 1,
    };
    let (patient, after) = path[start..].split_once('/')?;
    Some((path[..start].trim_end_matches('/'), patient, after))
}

/// MIMIC-CXR-JPG 2.x. Columns: torchxrayvision's reader and PhysioNet's page; the files lie at
/// `files/p10/p10000032/s50414267/DICOM_ID.jpg`. A study's findings hold for all its pictures.
pub(super) fn mimic_cxr_jpg(
    files: &Files,
    policy: &FindingPolicy,
    found: &mut Found,
) -> Result<()> {
    let file = LabelFile::open(&files.main(&["mimic-cxr-2.0.0-chexpert.csv"])?)?;
    let findings = finding_columns(&file)?;
    let study = file.column(&["study_id"])?;
    let rows: HashMap<&str, LabelRow> = file
        .rows()
        .map(|row| Ok((row.text(study)?, row)))
        .collect::<Result<_>>()?;
    let names = ["mimic-cxr-2.0.0-split.csv"];
    let pictures = files.table(&names)?.ok_or_else(|| files.missing(&names))?;
    let [dicom, study, subject, side] =
        ["dicom_id", "study_id", "subject_id", "split"].map(|name| pictures.column(&[name]));
    let (dicom, study, subject, side) = (dicom?, study?, subject?, side?);
    let metadata = files.table(&["mimic-cxr-2.0.0-metadata.csv"])?;
    let views = metadata
        .as_ref()
        .map(views)
        .transpose()?
        .unwrap_or_default();
    let folder = files.folder.join("files");
    let folder = if folder.is_dir() {
        &folder
    } else {
        &files.folder
    };
    let sides = [("train", "train"), ("validate", "val"), ("test", "test")];
    for row in pictures.rows() {
        let (id, study, patient) = (row.text(dicom)?, row.text(study)?, row.text(subject)?);
        let shelf = patient.get(..2);
        let shelf = shelf.ok_or_else(|| row.bad(subject, "expected a number of eight digits"))?;
        let path = format!("p{shelf}/p{patient}/s{study}/{id}.jpg");
        let mut entry = Entry::new(id, Ok(Location::File(folder.join(path))), row.place())
            .group(patient)
            .label("split", row.one_of(side, &sides)?)
            .label("study", study)
            .label("view", views.get(id).copied().unwrap_or_default());
        if let Some(row) = rows.get(study) {
            for (finding, column) in &findings {
                entry = entry.label(finding, policy.value(finding, row, *column)?);
            }
        }
        entry.add_to(found);
    }
    Ok(())
}

fn views(file: &LabelFile) -> Result<HashMap<&str, &str>> {
    let (id, view) = (file.column(&["dicom_id"])?, file.column(&["ViewPosition"])?);
    let views = file.rows().map(|row| Ok((row.text(id)?, row.get(view))));
    views.collect()
}
