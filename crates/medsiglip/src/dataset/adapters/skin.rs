//! Skin lesions with one class each: PAD-UFES-20, HAM10000, ISIC 2018 and 2019.
//!
//! The task `skin_conditions` has 79 conditions. A class of these sets gets one of them where it is that condition;
//! AKIEC (actinic keratosis or Bowen's disease), BKL (several benign keratoses) and VASC (several vascular lesions) are
//! none of them, so that their pictures have no value there.

use std::collections::HashMap;

use super::Entry;
use super::files::Files;
use super::label_file::{Column, LabelFile, LabelRow};
use crate::Result;
use crate::dataset::source::Found;

const MELANOMA: &str = "Melanoma";
const NEVUS: &str = "Melanocytic Nevus";
const BCC: &str = "Basal Cell Carcinoma";
const DERMATOFIBROMA: &str = "Dermatofibroma";
const ACTINIC_KERATOSIS: &str = "Actinic Keratosis";
const SCC: &str = "SCC/SCCIS";

/// PAD-UFES-20 (Pacheco et al., Data in Brief 2020): its SCC includes Bowen's disease.
const PAD_CLASSES: [(&str, &str); 6] = [
    ("ACK", ACTINIC_KERATOSIS),
    ("BCC", BCC),
    ("MEL", MELANOMA),
    ("NEV", NEVUS),
    ("SCC", SCC),
    ("SEK", "SK/ISK"),
];

/// HAM10000 (Tschandl et al., Scientific Data 2018).
const HAM_CLASSES: [(&str, &str); 7] = [
    ("akiec", ""),
    ("bcc", BCC),
    ("bkl", ""),
    ("df", DERMATOFIBROMA),
    ("mel", MELANOMA),
    ("nv", NEVUS),
    ("vasc", ""),
];

/// ISIC 2018 (AKIEC) and 2019 (AK, SCC, UNK).
const ISIC_CLASSES: [(&str, &str); 10] = [
    ("MEL", MELANOMA),
    ("NV", NEVUS),
    ("BCC", BCC),
    ("AKIEC", ""),
    ("AK", ACTINIC_KERATOSIS),
    ("BKL", ""),
    ("DF", DERMATOFIBROMA),
    ("VASC", ""),
    ("SCC", SCC),
    ("UNK", ""),
];

/// Its place among `classes`: the class and the condition.
fn with_places<const N: usize>(
    classes: &[(&'static str, &'static str); N],
) -> [(&'static str, usize); N] {
    std::array::from_fn(|place| (classes[place].0, place))
}

/// PAD-UFES-20. Columns: `metadata.csv` on Mendeley Data, of which `patient_id`, `lesion_id`, `diagnostic` and `img_id` are
/// needed.
pub(super) fn pad_ufes20(files: &Files, found: &mut Found) -> Result<()> {
    let file = LabelFile::open(&files.main(&["metadata.csv"])?)?;
    let [image, class, patient] =
        ["img_id", "diagnostic", "patient_id"].map(|name| file.column(&[name]));
    let (image, class, patient) = (image?, class?, patient?);
    let others = [
        ("lesion", "lesion_id"),
        ("age", "age"),
        ("sex", "gender"),
        ("fitzpatrick", "fitspatrick"),
        ("localization", "region"),
        ("biopsed", "biopsed"),
    ]
    .map(|(column, name)| (column, file.find(&[name])));
    let pictures = files.pictures()?;
    for row in file.rows() {
        let name = row.text(image)?;
        let (label, condition) = PAD_CLASSES[row.one_of(class, &with_places(&PAD_CLASSES))?];
        let mut entry = Entry::new(name, pictures.get(name), row.place())
            .group(row.text(patient)?)
            .label("label", label)
            .label("skin_conditions", condition);
        for (column, place) in others {
            entry = entry.label(column, row.get_if(place));
        }
        entry.add_to(found);
    }
    Ok(())
}

/// HAM10000. Columns: `HAM10000_metadata`, `lesion_id,image_id,dx,dx_type,age,sex,localization` and, in later versions,
/// `dataset`; the test set of ISIC 2018 task 3 has the same; or a subset with `path,label,lesion,...`.
pub(super) fn ham10000(files: &Files, found: &mut Found) -> Result<()> {
    let train = [
        "HAM10000_metadata",
        "HAM10000_metadata.csv",
        "HAM10000_metadata.tab",
        "labels.csv",
    ];
    let test = "ISIC2018_Task3_Test_GroundTruth";
    let test = [format!("{test}.csv"), format!("{test}.tab")];
    let mut tables = files.sides(&[("train", &train), ("test", &[&test[0], &test[1]])])?;
    // The challenge's own file of the same name has a column a class: see `isic`.
    tables.retain(|(side, file)| {
        let has_classes = *side != "test" || file.find(&["dx"]).is_some();
        if !has_classes {
            found
                .warnings
                .push(files.told(&format!("{} has no column dx and is not read", test[0])));
        }
        has_classes
    });
    let divided = tables.iter().any(|(side, _)| *side == "test");
    let pictures = files.pictures()?;
    for (side, file) in tables {
        let image = file.column(&["image_id", "path"])?;
        let class = file.column(&["dx", "label"])?;
        let lesion = file.column(&["lesion_id", "lesion"])?;
        let others = [
            ("confirmed_by", &["dx_type", "confirmed_by"][..]),
            ("age", &["age"][..]),
            ("sex", &["sex"][..]),
            ("localization", &["localization"][..]),
        ]
        .map(|(column, names)| (column, file.find(names)));
        for row in file.rows() {
            let name = row.text(image)?;
            let (label, condition) = HAM_CLASSES[row.one_of(class, &with_places(&HAM_CLASSES))?];
            let mut entry = Entry::new(name, pictures.get(name), row.place())
                .group(row.text(lesion)?)
                .label("label", label)
                .label("skin_conditions", condition)
                .label("split", if divided { side } else { "" });
            for (column, place) in others {
                entry = entry.label(column, row.get_if(place));
            }
            entry.add_to(found);
        }
    }
    Ok(())
}

/// The label files of one ISIC challenge: by side, and the lesions.
struct Challenge {
    sides: &'static [(&'static str, &'static [&'static str])],
    lesions: &'static str,
}

const ISIC_2018: Challenge = Challenge {
    sides: &[
        ("train", &["ISIC2018_Task3_Training_GroundTruth.csv"]),
        ("val", &["ISIC2018_Task3_Validation_GroundTruth.csv"]),
        ("test", &["ISIC2018_Task3_Test_GroundTruth.csv"]),
    ],
    lesions: "ISIC2018_Task3_Training_LesionGroupings.csv",
};

const ISIC_2019: Challenge = Challenge {
    sides: &[
        ("train", &["ISIC_2019_Training_GroundTruth.csv"]),
        ("test", &["ISIC_2019_Test_GroundTruth.csv"]),
    ],
    lesions: "ISIC_2019_Training_Metadata.csv",
};

impl Challenge {
    /// The one whose label files lie there, or whose file `label_files` names.
    fn of(files: &Files) -> Result<&'static Self> {
        if let Some(path) = files.named() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Ok(if name.contains("2018") {
                &ISIC_2018
            } else {
                &ISIC_2019
            });
        }
        let lies_there = |challenge: &Self| -> Result<bool> {
            let names: Vec<&str> = challenge
                .sides
                .iter()
                .flat_map(|(_, n)| *n)
                .copied()
                .collect();
            Ok(files.find(&names)?.is_some())
        };
        match (lies_there(&ISIC_2018)?, lies_there(&ISIC_2019)?) {
            (true, true) => Err(files.bad(
                "label files of ISIC 2018 and 2019 lie here, which have pictures in common; label_files names the one to read",
            )),
            (true, false) => Ok(&ISIC_2018),
            (false, true) => Ok(&ISIC_2019),
            (false, false) => {
                let names = [&ISIC_2019, &ISIC_2018].map(|challenge| challenge.sides[0].1[0]);
                Err(files.missing(&names))
            }
        }
    }
}

/// ISIC 2018 task 3 and ISIC 2019, the one of them that lies there. Columns: `image`, then one a class with `1.0` in one of
/// them; the test file of 2019 has weights of the challenge's score besides. Lesions:
/// `ISIC2018_Task3_Training_LesionGroupings.csv`, `image,lesion_id`, or `ISIC_2019_Training_Metadata.csv`, where many
/// pictures have none.
pub(super) fn isic(files: &Files, found: &mut Found) -> Result<()> {
    let challenge = Challenge::of(files)?;
    let tables = files.sides(challenge.sides)?;
    let lesions = files.table(&[challenge.lesions])?;
    let mut lesion_of = HashMap::new();
    if let Some(file) = &lesions {
        let (image, lesion) = (file.column(&["image"])?, file.column(&["lesion_id"])?);
        for row in file.rows() {
            lesion_of.insert(row.text(image)?, row.get(lesion));
        }
    }
    let pictures = files.pictures()?;
    for (side, file) in tables {
        let image = file.column(&["image"])?;
        let classes = class_columns(&file)?;
        for row in file.rows() {
            let name = row.text(image)?;
            let (label, condition) = ISIC_CLASSES[class_of(&row, &classes, image)?];
            Entry::new(name, pictures.get(name), row.place())
                .group(lesion_of.get(name).copied().unwrap_or_default())
                .label("label", label)
                .label("skin_conditions", condition)
                .label("split", side)
                .add_to(found);
        }
    }
    Ok(())
}

/// The one class of a row, by its place in [`ISIC_CLASSES`].
fn class_of(row: &LabelRow, classes: &[(Column, usize)], image: Column) -> Result<usize> {
    let mut class = None;
    for (column, place) in classes {
        if row.number(*column, 2)? == 1 && class.replace(*place).is_some() {
            return Err(row.bad(*column, "a second class of one picture"));
        }
    }
    class.ok_or_else(|| row.bad(image, "a picture without a class"))
}

/// The columns that are classes, each with its place in [`ISIC_CLASSES`].
fn class_columns(file: &LabelFile) -> Result<Vec<(Column, usize)>> {
    let others = ["image", "score_weight", "validation_weight"];
    let mut columns = Vec::new();
    for (column, name) in file.columns() {
        match ISIC_CLASSES.iter().position(|(class, _)| *class == name) {
            Some(place) => columns.push((column, place)),
            None if others.contains(&name) => (),
            None => return Err(file.bad("a column that is no class of ISIC 2018 or 2019")),
        }
    }
    Ok(columns)
}
