//! MedMNIST: pictures and labels as arrays of one `.npz` file, each with its own classes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::chest::{NIH_FINDINGS, nih_findings};
use super::files::Files;
use super::histology::COLORECTAL;
use super::{DR_GRADES, Entry};
use crate::dataset::picture_array::labels_of_npz;
use crate::dataset::source::Found;
use crate::dataset::{Location, PictureArray};
use crate::{Error, Result};

/// A set of MedMNIST: its classes, and the task that they answer with the class there.
struct Set {
    name: &'static str,
    classes: &'static [&'static str],
    task: Option<(&'static str, &'static [&'static str])>,
}

/// The classes of NCT-CRC-HE in the order of their codes, which is MedMNIST's.
const COLORECTAL_NAMES: &[&str] = &{
    let mut names = [""; COLORECTAL.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = COLORECTAL[place].1;
        place += 1;
    }
    names
};

const ORGANS: &[&str] = &[
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
];

/// The sets of two dimensions with one class a picture: `medmnist/info.py` of MedMNIST/MedMNIST. ChestMNIST, of many labels,
/// has the findings of ChestX-ray14 in its order.
const SETS: &[Set] = &[
    Set {
        name: "pathmnist",
        classes: COLORECTAL_NAMES,
        task: Some(("colorectal_tissue", COLORECTAL_NAMES)),
    },
    Set {
        name: "dermamnist",
        classes: &[
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ],
        task: Some((
            "skin_conditions",
            &[
                "",
                "Basal Cell Carcinoma",
                "",
                "Dermatofibroma",
                "Melanoma",
                "Melanocytic Nevus",
                "",
            ],
        )),
    },
    Set {
        name: "octmnist",
        classes: &[
            "choroidal neovascularization",
            "diabetic macular edema",
            "drusen",
            "normal",
        ],
        task: None,
    },
    Set {
        name: "pneumoniamnist",
        classes: &["normal", "pneumonia"],
        task: Some(("cxr_pneumonia", &["No finding", "Pneumonia"])),
    },
    Set {
        name: "retinamnist",
        classes: &["0", "1", "2", "3", "4"],
        task: Some(("diabetic_retinopathy", &DR_GRADES)),
    },
    Set {
        name: "breastmnist",
        classes: &["malignant", "normal, benign"],
        task: None,
    },
    Set {
        name: "bloodmnist",
        classes: &[
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ],
        task: None,
    },
    Set {
        name: "tissuemnist",
        classes: &[
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ],
        task: None,
    },
    Set {
        name: "organamnist",
        classes: ORGANS,
        task: None,
    },
    Set {
        name: "organcmnist",
        classes: ORGANS,
        task: None,
    },
    Set {
        name: "organsmnist",
        classes: ORGANS,
        task: None,
    },
];

/// The one `.npz` file of the folder, or the one that `label_files` names; its name says which set it is. Arrays:
/// `train_images` (N, side, side[, 3]), `train_labels` (N, 1), the same for `val` and `test`.
pub(super) fn read(files: &Files, found: &mut Found) -> Result<()> {
    let path = files.only("npz")?;
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let name = stem.split('_').next().unwrap_or_default();
    let set = SETS.iter().find(|set| set.name == name);
    if set.is_none() && name != "chestmnist" {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        return Err(files.bad(&format!(
            "expected a file called chestmnist, {} (with _64, _128, _224 for those sizes), got {}",
            names.join(", "),
            path.display()
        )));
    }
    for side in ["train", "val", "test"] {
        read_side(&path, set, side, found)?;
    }
    Ok(())
}

fn read_side(path: &Path, set: Option<&Set>, side: &str, found: &mut Found) -> Result<()> {
    let array = Arc::new(PictureArray::of_npz(path, &format!("{side}_images"))?);
    let name = format!("{side}_labels");
    let bad = |wrong: &str| Error::BadConfig(format!("array {name}: {wrong}: {}", path.display()));
    let columns = if set.is_some() { 1 } else { NIH_FINDINGS.len() };
    let expected = array.len().saturating_mul(columns);
    let (width, labels) = labels_of_npz(path, &name, expected)?;
    if width != columns || labels.len() != expected {
        let count = array.len();
        return Err(bad(&format!(
            "expected {columns} labels of each of {count} pictures"
        )));
    }
    for (index, labels) in labels.chunks_exact(columns).enumerate() {
        let location = Location::Slice {
            array: array.clone(),
            index,
        };
        let place = format!("{}: {side} picture {index}", path.display());
        let entry = Entry::new(format!("{side}/{index}"), Ok(location), place).label("split", side);
        let out_of_range = |end: usize| {
            bad(&format!(
                "row {}: expected a whole number from 0 to {}",
                index + 1,
                end - 1
            ))
        };
        let entry = match set {
            Some(set) => {
                let class = usize::try_from(labels[0]).unwrap_or(usize::MAX);
                let names = set.classes;
                let name = names.get(class).ok_or_else(|| out_of_range(names.len()))?;
                let entry = entry.label("label", name);
                match set.task {
                    Some((task, classes)) => entry.label(task, classes[class]),
                    None => entry,
                }
            }
            None if labels.iter().any(|label| *label > 1) => return Err(out_of_range(2)),
            None => {
                let ones = (0..columns).filter(|place| labels[*place] == 1);
                nih_findings(entry, &ones.collect::<BTreeSet<_>>())
            }
        };
        entry.add_to(found);
    }
    Ok(())
}
