//! Tiles of histology in folders or by a list: NCT-CRC-HE, LC25000, MHIST.

use std::path::Path;

use super::Entry;
use super::files::Files;
use super::label_file::LabelFile;
use crate::Result;
use crate::dataset::Location;
use crate::dataset::source::Found;

/// The classes of NCT-CRC-HE (Kather et al., PLoS Medicine 2019) by folder, with the names that the public fine-tuning
/// notebook of MedSigLIP and PathMNIST give them.
pub(super) const COLORECTAL: [(&str, &str); 9] = [
    ("ADI", "adipose"),
    ("BACK", "background"),
    ("DEB", "debris"),
    ("LYM", "lymphocytes"),
    ("MUC", "mucus"),
    ("MUS", "smooth muscle"),
    ("NORM", "normal colon mucosa"),
    ("STR", "cancer-associated stroma"),
    ("TUM", "colorectal adenocarcinoma epithelium"),
];

/// NCT-CRC-HE-100K (also `-NONORM`) and CRC-VAL-HE-7K, whose patients are others: training and test, where both lie side by
/// side. Files do not name the patients.
pub(super) fn nct_crc_he(files: &Files, found: &mut Found) -> Result<()> {
    for (number, path) in (1..).zip(files.pictures()?.paths()) {
        let place = place(files, number);
        let (id, folders) = below(path, &files.folder);
        let class = folders.last().and_then(|folder| {
            let mut classes = COLORECTAL.iter();
            classes.find(|(code, _)| code == folder)
        });
        let Some((code, name)) = class else {
            let known = COLORECTAL.map(|(code, _)| code);
            return Err(unknown_folder(files, &place, &known));
        };
        let lies_in = |set: &str| folders.iter().any(|folder| folder.starts_with(set));
        let side = match (lies_in("NCT-CRC-HE-100K"), lies_in("CRC-VAL-HE-7K")) {
            (true, _) => "train",
            (_, true) => "test",
            _ => "",
        };
        Entry::new(id, Ok(Location::File(path.clone())), place)
            .label("label", code)
            .label("colorectal_tissue", name)
            .label("split", side)
            .add_to(found);
    }
    Ok(())
}

/// LC25000 by folder, with its class in `lung_histology`.
const LC25000: [(&str, &str); 5] = [
    ("lung_n", "Benign lung tissue"),
    ("lung_aca", "Lung adenocarcinoma"),
    ("lung_scc", "Lung squamous cell carcinoma"),
    ("colon_n", ""),
    ("colon_aca", ""),
];

/// LC25000 (Borkowski et al., arXiv 1912.12142): `lung_image_sets/lung_aca/...`; or a subset with `path,label,group`. The
/// owners made 5000 pictures of each class by turning and flipping 250 tiles, and do not say which: a leak check finds
/// some of them, a split by shares leaks.
pub(super) fn lc25000(files: &Files, found: &mut Found) -> Result<()> {
    let names = ["labels.csv"];
    if files.are_named || files.find(&names)?.is_some() {
        let file = LabelFile::open(&files.main(&names)?)?;
        return lc25000_subset(files, &file, found);
    }
    for (number, path) in (1..).zip(files.pictures()?.paths()) {
        let place = place(files, number);
        let (id, folders) = below(path, &files.folder);
        let class = folders.last().and_then(|folder| {
            let mut classes = LC25000.iter();
            classes.find(|(code, _)| code == folder)
        });
        let Some((code, class)) = class else {
            let known = LC25000.map(|(code, _)| code);
            return Err(unknown_folder(files, &place, &known));
        };
        Entry::new(id, Ok(Location::File(path.clone())), place)
            .label("label", code)
            .label("lung_histology", class)
            .add_to(found);
    }
    Ok(())
}

fn lc25000_subset(files: &Files, file: &LabelFile, found: &mut Found) -> Result<()> {
    let [path, label, group] = ["path", "label", "group"].map(|name| file.column(&[name]));
    let (path, label, group) = (path?, label?, group?);
    let classes = [
        ("benign lung tissue", 0),
        ("lung adenocarcinoma", 1),
        ("lung squamous cell carcinoma", 2),
    ];
    let pictures = files.pictures()?;
    for row in file.rows() {
        let name = row.text(path)?;
        let (code, class) = LC25000[row.one_of(label, &classes)?];
        Entry::new(name, pictures.get(name), row.place())
            .group(row.text(group)?)
            .label("label", code)
            .label("lung_histology", class)
            .add_to(found);
    }
    Ok(())
}

/// MHIST (Wei et al., AIME 2021). Columns: `annotations.csv`, `Image Name,Majority Vote Label,Number of Annotators who
/// Selected SSA (Out of 7),Partition`. HP is a hyperplastic polyp, SSA a sessile serrated adenoma.
pub(super) fn mhist(files: &Files, found: &mut Found) -> Result<()> {
    let file = LabelFile::open(&files.main(&["annotations.csv"])?)?;
    let image = file.column(&["Image Name"])?;
    let label = file.column(&["Majority Vote Label"])?;
    let votes = file.column(&["Number of Annotators who Selected SSA (Out of 7)"])?;
    let side = file.column(&["Partition"])?;
    let pictures = files.pictures()?;
    for row in file.rows() {
        let name = row.text(image)?;
        Entry::new(name, pictures.get(name), row.place())
            .label("label", row.one_of(label, &[("HP", "HP"), ("SSA", "SSA")])?)
            .label("ssa_votes", row.number(votes, 8)?.to_string())
            .label(
                "split",
                row.one_of(side, &[("train", "train"), ("test", "test")])?,
            )
            .add_to(found);
    }
    Ok(())
}

/// A picture's path below `folder` with `/`, and the names of the folders on the way, the data set's own first.
fn below(path: &Path, folder: &Path) -> (String, Vec<String>) {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let parts: Vec<String> = path
        .strip_prefix(folder)
        .unwrap_or(path)
        .iter()
        .map(text)
        .collect();
    let id = parts.join("/");
    let mut folders: Vec<String> = folder.file_name().map(text).into_iter().collect();
    folders.extend(parts);
    folders.pop();
    (id, folders)
}

/// The place of a picture without a label file, as of any folder.
fn place(files: &Files, number: usize) -> String {
    format!("{}: picture {number}", files.folder.display())
}

fn unknown_folder(files: &Files, place: &str, known: &[&str]) -> crate::Error {
    files.bad(&format!(
        "expected pictures in folders {} alone; another lies elsewhere, counted in the order of the paths: {place}",
        known.join(", ")
    ))
}
