//! Published data sets by their adapters, on the real pictures of `../shared/data` beside the checkout.

#![cfg(feature = "data")]

use std::collections::BTreeMap;
use std::path::Path;

use medsiglip::dataset::{Shares, Side, Source, SourceConfig, split};
use medsiglip::image::DecodeOptions;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// The data set in `folder`, or `None` where the data is not there.
fn open(adapter: &str, folder: &str) -> Option<Source> {
    if !Path::new(DATA).join(folder).is_dir() {
        eprintln!("skipped: no {folder} in {DATA}");
        return None;
    }
    let toml = format!("name = \"s\"\nadapter = \"{adapter}\"\nfolder = \"{folder}\"");
    let config: SourceConfig = toml::from_str(&toml).unwrap();
    let source = Source::open(config, DATA).unwrap();
    assert_eq!(source.skipped.total(), 0);
    let first = source.examples[0]
        .picture
        .open(&DecodeOptions::default())
        .unwrap();
    assert!(first.width() >= 224);
    Some(source)
}

fn counts(source: &Source, column: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for example in &source.examples {
        let value = example.labels.get(column).cloned().unwrap_or_default();
        *counts.entry(value).or_default() += 1;
    }
    counts
}

/// No group lies on two sides.
fn splits_whole_groups(source: &Source) {
    let shares = Shares {
        val: 0.2,
        test: 0.2,
    };
    let sides = split(source, shares, 1, &[]).unwrap();
    let mut side_of = BTreeMap::new();
    for (example, side) in source.examples.iter().zip(&sides) {
        let group = example.group.as_deref().unwrap();
        assert_eq!(side_of.entry(group).or_insert(side), &side);
    }
    for side in Side::ALL {
        assert!(sides.contains(&side));
    }
}

fn pairs(all: &[(&str, usize)]) -> BTreeMap<String, usize> {
    all.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn chest_x_rays() {
    let Some(source) = open("nih-cxr14", "cxr_nih") else {
        return;
    };
    assert_eq!(source.examples.len(), 757);
    assert_eq!(
        counts(&source, "cxr_pneumonia"),
        pairs(&[("No finding", 366), ("Pneumonia", 391)])
    );
    assert_eq!(
        counts(&source, "Pneumonia"),
        pairs(&[("0", 366), ("1", 391)])
    );
    assert_eq!(counts(&source, "Fracture"), pairs(&[("", 757)]));
    splits_whole_groups(&source);
}

#[test]
fn fundus_photographs() {
    let Some(source) = open("idrid", "fundus_idrid") else {
        return;
    };
    assert_eq!(source.examples.len(), 413);
    let grades = counts(&source, "diabetic_retinopathy");
    assert_eq!((grades.len(), grades.values().sum::<usize>()), (5, 413));
    assert!(source.warnings[0].contains("does not say which pictures are of one patient"));
}

#[test]
fn skin_lesions() {
    let Some(source) = open("ham10000", "dermatology_ham10000") else {
        return;
    };
    assert_eq!(source.examples.len(), 1271);
    let (labels, conditions) = (counts(&source, "label"), counts(&source, "skin_conditions"));
    assert_eq!(labels.len(), 7);
    assert_eq!(labels["mel"], conditions["Melanoma"]);
    assert_eq!(
        labels["akiec"] + labels["bkl"] + labels["vasc"],
        conditions[""]
    );
    splits_whole_groups(&source);
}

#[test]
fn lung_tiles() {
    let Some(source) = open("lc25000", "histopathology_lc25000") else {
        return;
    };
    let expected = [
        ("Benign lung tissue", 198),
        ("Lung adenocarcinoma", 193),
        ("Lung squamous cell carcinoma", 197),
    ];
    assert_eq!(counts(&source, "lung_histology"), pairs(&expected));
    splits_whole_groups(&source);
}
