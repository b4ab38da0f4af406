//! Fundus photographs with the grade of diabetic retinopathy: EyePACS, APTOS 2019, IDRiD.

use std::path::Path;

use super::files::{Files, Pictures};
use super::label_file::{Column, LabelFile, LabelRow};
use super::{DR_GRADES, Entry};
use crate::Result;
use crate::dataset::source::Found;

fn graded(entry: Entry, row: &LabelRow, grade: Column) -> Result<Entry> {
    let grade = row.number(grade, DR_GRADES.len())?;
    Ok(entry.label("diabetic_retinopathy", DR_GRADES[grade]))
}

/// EyePACS. Columns: the Kaggle competition's `trainLabels.csv`, `image,level`, and `retinopathy_solution.csv`,
/// `image,level,Usage`; an image is `10_left`, its patient `10`.
pub(super) fn eyepacs(files: &Files, found: &mut Found) -> Result<()> {
    let tables = files.sides(&[
        ("train", &["trainLabels.csv", "trainLabels_cropped.csv"]),
        ("test", &["retinopathy_solution.csv"]),
    ])?;
    let pictures = files.pictures()?;
    for (side, file) in tables {
        let (image, level) = (file.column(&["image"])?, file.column(&["level"])?);
        for row in file.rows() {
            let name = row.text(image)?;
            let parts = name.split_once('_');
            let known = parts.filter(|(_, eye)| ["left", "right"].contains(eye));
            let (patient, eye) =
                known.ok_or_else(|| row.bad(image, "expected PATIENT_left or PATIENT_right"))?;
            let entry = Entry::new(name, pictures.get(name), row.place())
                .group(patient)
                .label("split", side)
                .label("eye", eye);
            graded(entry, &row, level)?.add_to(found);
        }
    }
    Ok(())
}

/// APTOS 2019 Blindness Detection. Columns: the Kaggle competition's `train.csv`, `id_code,diagnosis`; the labels of its
/// test set were never given out. A common division of the training set comes as `train_1.csv`, `valid.csv`, `test.csv`.
pub(super) fn aptos2019(files: &Files, found: &mut Found) -> Result<()> {
    let mut tables = files.sides(&[
        ("train", &["train_1.csv", "train.csv"]),
        ("val", &["valid.csv"]),
        ("test", &["test.csv"]),
    ])?;
    // The competition's own test.csv has no grades.
    tables.retain(|(side, file)| *side != "test" || file.find(&["diagnosis"]).is_some());
    let divided = tables.iter().any(|(side, _)| *side != "train");
    let pictures = files.pictures()?;
    for (side, file) in tables {
        let (id, grade) = (file.column(&["id_code"])?, file.column(&["diagnosis"])?);
        for row in file.rows() {
            let name = row.text(id)?;
            let entry = Entry::new(name, pictures.get(name), row.place());
            let entry = entry.label("split", if divided { side } else { "" });
            graded(entry, &row, grade)?.add_to(found);
        }
    }
    Ok(())
}

/// IDRiD, disease grading (Porwal et al., Data 2018). Columns: `Image name,Retinopathy grade,Risk of macular edema ` with
/// empty ones behind in the training file; or a subset with `path,dr_grade,dme_risk`. Both sides count their pictures from
/// `IDRiD_001` on, in the folders `a. Training Set` and `b. Testing Set`.
pub(super) fn idrid(files: &Files, found: &mut Found) -> Result<()> {
    let training = "a. IDRiD_Disease Grading_Training Labels.csv";
    let testing = "b. IDRiD_Disease Grading_Testing Labels.csv";
    let tables = files.sides(&[("train", &[training, "labels.csv"]), ("test", &[testing])])?;
    let pictures = files.pictures()?;
    for (side, file) in tables {
        idrid_side(&file, &pictures, side, found)?;
    }
    Ok(())
}

fn idrid_side(file: &LabelFile, pictures: &Pictures, side: &str, found: &mut Found) -> Result<()> {
    let image = file.column(&["Image name", "path"])?;
    let grade = file.column(&["Retinopathy grade", "dr_grade"])?;
    let risk = file.column(&["Risk of macular edema", "dme_risk"])?;
    let owners = file.find(&["Image name"]).is_some();
    let folder = match side {
        "train" => "Training Set",
        "test" => "Testing Set",
        _ => "",
    };
    // `C. Localization` has pictures of the same names.
    let is_of_side = |path: &Path| {
        let parts = || path.iter().map(|part| part.to_string_lossy());
        let of_others = |part: &str| part.contains("Localization") || part.contains("Segmentation");
        let is_of_task = !parts().any(|part| of_others(&part));
        !owners || (is_of_task && parts().any(|part| part.contains(folder)))
    };
    for row in file.rows() {
        let name = row.text(image)?;
        let picture = pictures.get_where(name, is_of_side);
        let (id, side) = match owners {
            true => (format!("{side}/{name}"), side),
            false => (name.to_owned(), ""),
        };
        let entry = Entry::new(id, picture, row.place())
            .label("split", side)
            .label("dme_risk", row.number(risk, 3)?.to_string());
        graded(entry, &row, grade)?.add_to(found);
    }
    Ok(())
}
