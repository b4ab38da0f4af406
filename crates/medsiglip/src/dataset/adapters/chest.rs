//! NIH ChestX-ray14 and the RSNA challenge that was made from it.

use std::collections::{BTreeMap, BTreeSet};

use super::Entry;
use super::files::Files;
use super::label_file::LabelFile;
use crate::Result;
use crate::dataset::source::Found;

/// The text-mined findings of ChestX-ray14 (Wang et al., CVPR 2017), by the names of the task `cxr_findings` where it has
/// the same.
pub(super) const NIH_FINDINGS: [(&str, &str); 14] = [
    ("Atelectasis", "Atelectasis"),
    ("Cardiomegaly", "Cardiomegaly"),
    ("Effusion", "Pleural Effusion"),
    ("Infiltration", "Infiltration"),
    ("Mass", "Mass"),
    ("Nodule", "Nodule"),
    ("Pneumonia", "Pneumonia"),
    ("Pneumothorax", "Pneumothorax"),
    ("Consolidation", "Consolidation"),
    ("Edema", "Edema"),
    ("Emphysema", "Emphysema"),
    ("Fibrosis", "Fibrosis"),
    ("Pleural_Thickening", "Pleural Thickening"),
    ("Hernia", "Hernia"),
];

/// Sets every finding of ChestX-ray14, present where its place in [`NIH_FINDINGS`] is among `present`, and those of
/// `cxr_findings` that follow: by the phrases of CheXpert's labeler (stanfordmlgroup/chexpert-labeler), a mass or a nodule is
/// a lung lesion, and thickening of the pleura an "other" finding of the pleura.
pub(super) fn nih_findings(mut entry: Entry, present: &BTreeSet<usize>) -> Entry {
    for (place, (_, name)) in NIH_FINDINGS.iter().enumerate() {
        entry = entry.finding(name, present.contains(&place));
    }
    let any = |names: &[&str]| {
        let is_one = |place: &usize| names.contains(&NIH_FINDINGS[*place].1);
        present.iter().any(is_one)
    };
    let class = match (present.is_empty(), any(&["Pneumonia"])) {
        (true, _) => "No finding",
        (_, true) => "Pneumonia",
        _ => "",
    };
    entry
        .finding("No Finding", present.is_empty())
        .finding("Lung Lesion", any(&["Mass", "Nodule"]))
        .finding("Pleural Other", any(&["Pleural Thickening"]))
        .label("cxr_pneumonia", class)
}

/// ChestX-ray14. Columns: the header of `Data_Entry_2017.csv` (NIH Clinical Center), `Patient Gender` or `Patient Sex` by
/// version, as torchxrayvision and MONAI's readers quote it; or a subset with `path,findings,patient,age,sex,view`.
pub(super) fn nih_cxr14(files: &Files, found: &mut Found) -> Result<()> {
    let names = [
        "Data_Entry_2017_v2020.csv",
        "Data_Entry_2017.csv",
        "labels.csv",
    ];
    let file = LabelFile::open(&files.main(&names)?)?;
    let picture = file.column(&["Image Index", "path"])?;
    let findings = file.column(&["Finding Labels", "findings"])?;
    let patient = file.column(&["Patient ID", "patient"])?;
    let view = file.find(&["View Position", "view"]);
    let age = file.find(&["Patient Age", "age"]);
    let sex = file.find(&["Patient Gender", "Patient Sex", "sex"]);
    let sides = [
        ("train", files.list("train_val_list.txt")?),
        ("test", files.list("test_list.txt")?),
    ];
    let pictures = files.pictures()?;
    for row in file.rows() {
        let name = row.text(picture)?;
        let mut present = BTreeSet::new();
        for finding in row
            .text(findings)?
            .split('|')
            .filter(|f| *f != "No Finding")
        {
            let place = NIH_FINDINGS.iter().position(|(known, _)| *known == finding);
            present.insert(place.ok_or_else(|| {
                row.bad(findings, "expected findings of ChestX-ray14 or No Finding")
            })?);
        }
        let base = name.rsplit('/').next().unwrap_or(name);
        let is_on = |(_, list): &&(&str, Option<BTreeSet<String>>)| {
            list.as_ref().is_some_and(|list| list.contains(base))
        };
        let side = sides.iter().find(is_on).map_or("", |(side, _)| side);
        let entry = Entry::new(name, pictures.get(name), row.place())
            .group(row.text(patient)?)
            .label("split", side)
            .label("view", row.get_if(view))
            .label("age", row.get_if(age))
            .label("sex", row.get_if(sex));
        nih_findings(entry, &present).add_to(found);
    }
    Ok(())
}

/// The stage 2 training set of the RSNA Pneumonia Detection Challenge (Shih et al., Radiology AI 2019): a row a box, so
/// that a picture can have several. Columns: the competition's page, `patientId,x,y,width,height,Target`, and
/// `stage_2_detailed_class_info.csv`, `patientId,class`. `patientId` names a picture.
pub(super) fn rsna_pneumonia(files: &Files, found: &mut Found) -> Result<()> {
    let names = ["stage_2_train_labels.csv"];
    let file = LabelFile::open(&files.main(&names)?)?;
    let (id, target) = (file.column(&["patientId"])?, file.column(&["Target"])?);
    let classes = files.table(&["stage_2_detailed_class_info.csv"])?;
    let mut class_of: BTreeMap<&str, &str> = BTreeMap::new();
    if let Some(classes) = &classes {
        let (id, class) = (classes.column(&["patientId"])?, classes.column(&["class"])?);
        let known = ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"].map(|c| (c, c));
        for row in classes.rows() {
            class_of.insert(row.text(id)?, row.one_of(class, &known)?);
        }
    }
    let pictures = files.pictures()?;
    let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
    for row in file.rows() {
        let name = row.text(id)?;
        let has_opacity = row.number(target, 2)?;
        if let Some(before) = targets.insert(name, has_opacity) {
            if before != has_opacity {
                return Err(row.bad(
                    target,
                    "another value than an earlier row of this picture has",
                ));
            }
            continue;
        }
        let class = class_of.get(name).copied().unwrap_or_default();
        let task = match (has_opacity, class) {
            (1, _) => "Pneumonia",
            (_, "Normal") => "No finding",
            _ => "",
        };
        Entry::new(name, pictures.get(name), row.place())
            .label("label", class)
            .label("cxr_pneumonia", task)
            .finding("Pneumonia", has_opacity == 1)
            .finding("Lung Opacity", has_opacity == 1)
            .add_to(found);
    }
    Ok(())
}
