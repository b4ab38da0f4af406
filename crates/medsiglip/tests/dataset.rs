//! Data sets on real pictures: sources, leaks, splits, batches. Skipped where the data are absent.

#![cfg(feature = "data")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use medsiglip::dataset::{
    Batch, Duplicates, LeakReport, Likeness, Loader, LoaderOptions, Mixture, Pictures, Pool,
    Shares, Side, Source, SourceConfig, find_leaks, split,
};
use medsiglip::image::DecodeOptions;
use medsiglip::preprocess::{Preprocessor, Recipe};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

const CXR: &str = r#"
name = "cxr"
manifest = "cxr_nih/labels.csv"
labels = ["label", "view"]
templates = ["a chest x-ray showing {findings}", "{label}"]
group = "patient"
stratify = "label"
[label_texts.label]
no_finding = ["a normal chest x-ray", "no finding"]
pneumonia = ["pneumonia", "a chest x-ray of pneumonia"]
"#;

const FUNDUS: &str = r#"
name = "fundus"
manifest = "fundus_idrid/labels.csv"
stratify = "dr_grade"
labels = ["dme_risk"]
weight = 0.5
[label_texts.dr_grade]
0 = ["no diabetic retinopathy"]
1 = ["mild diabetic retinopathy"]
2 = ["moderate diabetic retinopathy"]
3 = ["severe diabetic retinopathy"]
4 = ["proliferative diabetic retinopathy"]
[augment]
horizontal_flip = 0.5
random_resized_crop = { scale = [0.5, 1.0] }
color_jitter = { brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.02 }
"#;

const LUNG: &str = r#"
name = "lung"
manifest = "histopathology_lc25000/labels.csv"
templates = ["a histology image of {label}"]
group = "group"
stratify = "label"
"#;

fn source(toml: &str) -> Option<Source> {
    if !Path::new(DATA).exists() {
        println!("skipped: {DATA} is absent");
        return None;
    }
    let config: SourceConfig = toml::from_str(toml).unwrap();
    Some(Source::open(config, DATA).unwrap())
}

fn leaks(source: &Source) -> LeakReport {
    let start = Instant::now();
    let pictures = Pictures::new(vec![source.clone()], DecodeOptions::default(), 0);
    let report = find_leaks(&pictures).unwrap();
    let count = source.examples.len();
    println!(
        "{}: {count} pictures compared in {:.1?}",
        source.config.name,
        start.elapsed()
    );
    for cluster in &report.clusters {
        let show = |(_, place): &(usize, usize)| {
            let example = &source.examples[*place];
            format!("{} {:?}", example.id, example.labels)
        };
        let members: Vec<String> = cluster.members.iter().map(show).collect();
        println!(
            "  {:?} {:?} {members:?}",
            cluster.likeness, cluster.conflicts
        );
    }
    report
}

#[test]
fn conflicting_duplicates_of_idrid_are_found() {
    let Some(source) = source(FUNDUS) else { return };
    assert_eq!((source.examples.len(), source.skipped.total()), (413, 0));
    let report = leaks(&source);
    let of = |column: &str| {
        let column = column.to_owned();
        report
            .clusters
            .iter()
            .filter(|c| c.conflicts.contains(&column))
            .count()
    };
    assert!(
        report
            .clusters
            .iter()
            .all(|c| c.likeness == Likeness::SameFile)
    );
    assert_eq!(
        (report.clusters.len(), report.conflicting().count()),
        (5, 3)
    );
    assert_eq!((of("dr_grade"), of("dme_risk")), (2, 1));
    let shares = Shares {
        val: 0.1,
        test: 0.2,
    };
    let joined = report.joined(0, Duplicates::Join);
    let sides = vec![split(&source, shares, 1, &joined).unwrap()];
    assert_eq!(report.crossing(&sides).count(), 0);
}

/// One X-ray was saved twice for one patient; nothing else is alike.
#[test]
fn pictures_of_one_kind_are_no_duplicates() {
    for (toml, expected) in [(CXR, 1), (LUNG, 0)] {
        let Some(source) = source(toml) else { return };
        let report = leaks(&source);
        assert_eq!(report.skipped[0].total(), 0);
        assert_eq!(report.clusters.len(), expected);
        for cluster in &report.clusters {
            let groups = cluster
                .members
                .iter()
                .map(|(_, place)| &source.examples[*place].group);
            assert_eq!(groups.collect::<std::collections::BTreeSet<_>>().len(), 1);
        }
    }
}

#[test]
fn no_patient_crosses_a_split_and_classes_keep_their_shares() {
    for (toml, column) in [(CXR, "label"), (LUNG, "label"), (FUNDUS, "dr_grade")] {
        let Some(source) = source(toml) else { return };
        let sides = split(
            &source,
            Shares {
                val: 0.1,
                test: 0.2,
            },
            3,
            &[],
        )
        .unwrap();
        let groups = |wanted: Side| {
            let chosen = source
                .examples
                .iter()
                .zip(&sides)
                .filter(move |(_, s)| **s == wanted);
            chosen
                .filter_map(|(e, _)| e.group.as_ref())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(groups(Side::Train).is_disjoint(&groups(Side::Val)));
        assert!(groups(Side::Train).is_disjoint(&groups(Side::Test)));
        assert!(groups(Side::Val).is_disjoint(&groups(Side::Test)));
        let values: std::collections::BTreeSet<&String> =
            source.examples.iter().map(|e| &e.labels[column]).collect();
        for value in values {
            let of = |side: Option<Side>| {
                let pairs = source.examples.iter().zip(&sides);
                pairs
                    .filter(|(e, s)| e.labels[column] == *value && side.is_none_or(|w| **s == w))
                    .count() as f64
            };
            let test = of(Some(Side::Test)) / of(None);
            println!(
                "{} {value}: test share {test:.3} of {}",
                source.config.name,
                of(None)
            );
            assert!((test - 0.2).abs() < 0.05 + 1.0 / of(None));
        }
    }
}

#[test]
fn batches_of_three_sources_are_the_same_after_a_break() {
    let (Some(a), Some(b), Some(c)) = (source(CXR), source(FUNDUS), source(LUNG)) else {
        return;
    };
    let sources = vec![a, b, c];
    let preprocessor = Preprocessor::new(Recipe::Hf, None, 224, None).unwrap();
    let pools = sources.iter().map(|source| {
        let sides = split(
            source,
            Shares {
                val: 0.1,
                test: 0.2,
            },
            1,
            &[],
        )
        .unwrap();
        Pool::training(source, &sides, &Default::default())
    });
    let mixture = Mixture::new(pools.collect(), 1).unwrap();
    let pictures = Arc::new(Pictures::new(
        sources,
        preprocessor.decode_options(),
        1 << 30,
    ));
    let batches = |start: u64, count: usize| -> Vec<Batch> {
        let options = LoaderOptions {
            batch: 16,
            start,
            ..LoaderOptions::default()
        };
        let loader = Loader::training(
            pictures.clone(),
            mixture.clone(),
            preprocessor.clone(),
            options,
        );
        loader.unwrap().take(count).map(Result::unwrap).collect()
    };
    let start = Instant::now();
    let whole = batches(0, 8);
    println!("128 pictures decoded and made in {:.1?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(batches(0, 8), whole);
    println!("the same from memory in {:.1?}", start.elapsed());
    assert_eq!(batches(48, 5), whole[3..]);
    assert!(
        whole
            .iter()
            .flat_map(|b| &b.captions)
            .all(|caption| !caption.is_empty())
    );
    assert!(pictures.skipped().iter().all(|s| s.total() == 0));
}

/// A DICOM file of one frame is a picture like another.
#[test]
fn dicom_files_are_pictures() {
    let folder = Path::new(DATA).join("samples_container");
    if !folder.exists() {
        println!("skipped: {} is absent", folder.display());
        return;
    }
    let toml = "name = \"dicom\"\nfolder = \"samples_container\"\ntemplates = [\"a picture\"]\nmax_skipped = 1.0";
    let source = Source::open(toml::from_str(toml).unwrap(), DATA).unwrap();
    let opened = source.examples.iter().filter_map(|example| {
        let picture = example.picture.open(&DecodeOptions::default()).ok()?;
        Some(picture.source().format)
    });
    let formats: Vec<&str> = opened.collect();
    assert!(formats.contains(&"dicom"), "{formats:?}");
}
