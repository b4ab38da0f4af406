//! PatchCamelyon: pictures and labels as arrays of HDF5 files.

use std::path::Path;
use std::sync::Arc;

use super::Entry;
use super::files::Files;
use super::label_file::LabelFile;
use crate::dataset::source::Found;
use crate::dataset::{Location, PictureArray};
use crate::h5::H5;
use crate::{Error, Result};

/// PatchCamelyon (Veeling et al., MICCAI 2018). Files as basveeling/pcam names them: `..._x.h5` has `x`, (N, 96, 96, 3),
/// `..._y.h5` has `y`, (N, 1, 1, 1); `..._meta.csv` has `coord_y,coord_x,tumor_patch,center_tumor_patch,wsi` and is optional
/// here: without it there are no groups. The label says whether the centre of 32 pixels has a tumour. No slide lies on two
/// sides.
pub(super) fn read(files: &Files, found: &mut Found) -> Result<()> {
    let mut any = false;
    for (side, name) in [("train", "train"), ("val", "valid"), ("test", "test")] {
        let file = |end: &str| files.find(&[&format!("camelyonpatch_level_2_split_{name}_{end}")]);
        let (Some(x), Some(y)) = (file("x.h5")?, file("y.h5")?) else {
            continue;
        };
        any = true;
        let meta = file("meta.csv")?.map(|path| LabelFile::open(&path));
        read_side(&x, &y, meta.transpose()?.as_ref(), side, found)?;
    }
    match any {
        true => Ok(()),
        false => Err(files.missing(&[
            "camelyonpatch_level_2_split_train_x.h5 and _y.h5",
            "those of valid",
            "test",
        ])),
    }
}

fn read_side(
    x: &Path,
    y: &Path,
    meta: Option<&LabelFile>,
    side: &str,
    found: &mut Found,
) -> Result<()> {
    if let Some(packed) = [x, y]
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "gz"))
    {
        return Err(Error::Unsupported(format!(
            "HDF5 in gzip cannot be read in place; unpack it first (gunzip): {}",
            packed.display()
        )));
    }
    let pictures = Arc::new(PictureArray::of_hdf5(x, "x")?);
    let labels = H5::open(y)?.dataset("y")?;
    let count = pictures.len();
    let ones = labels.shape().iter().skip(1).all(|side| *side == 1);
    if labels.shape().first() != Some(&count) || !ones || labels.element_size() != 1 {
        return Err(labels.bad(format!(
            "expected {count} labels of 8 bits, as many as pictures"
        )));
    }
    let labels_of: Vec<u8> = labels.slice(&vec![0; labels.shape().len()], labels.shape())?;
    let wsi = match meta {
        Some(meta) if meta.rows().len() != count => {
            return Err(meta.bad(&format!("{} rows for {count} pictures", meta.rows().len())));
        }
        Some(meta) => {
            let column = meta.column(&["wsi"])?;
            meta.rows()
                .map(|row| row.text(column))
                .collect::<Result<_>>()?
        }
        None => vec![""; count],
    };
    for (index, (label, wsi)) in labels_of.into_iter().zip(wsi).enumerate() {
        if label > 1 {
            return Err(labels.bad(format!("row {}: expected 0 or 1", index + 1)));
        }
        let array = pictures.clone();
        let place = format!("{}: picture {index}", x.display());
        Entry::new(
            format!("{side}/{index}"),
            Ok(Location::Slice { array, index }),
            place,
        )
        .group(wsi)
        .label("label", if label == 1 { "tumor" } else { "normal" })
        .label("split", side)
        .add_to(found);
    }
    Ok(())
}
