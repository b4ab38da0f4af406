//! Each adapter on small files in exactly its owners' format.

mod ambiguous;
mod arrays;
mod chest;
mod chexpert;
mod eyes_and_skin;
mod tiles;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::dataset::testing::write;
use crate::dataset::{Shares, Side, Source, split};
use crate::zero_shot::{PromptKind, PromptSet};

/// A folder with these files; a picture has one byte, which is enough to be found.
fn folder(tables: &[(&str, &str)], pictures: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in tables {
        write(folder.path(), name, text.as_bytes());
    }
    for name in pictures {
        write(folder.path(), name, b"x");
    }
    folder
}

fn open_with(adapter: &str, folder: &Path, more: &str) -> Result<Source> {
    let toml = format!("name = \"s\"\nadapter = \"{adapter}\"\nfolder = \".\"\n{more}");
    Source::open(toml::from_str(&toml).unwrap(), folder)
}

fn open(adapter: &str, folder: &TempDir) -> Source {
    open_with(adapter, folder.path(), "").unwrap()
}

fn error(adapter: &str, folder: &TempDir) -> String {
    let error = open_with(adapter, folder.path(), "").unwrap_err();
    assert_eq!(error.code(), "BAD_CONFIG", "{error}");
    error.to_string()
}

fn example<'a>(source: &'a Source, id: &str) -> &'a Example {
    let mut examples = source.examples.iter();
    let found = examples.find(|example| example.id == id);
    found.unwrap_or_else(|| panic!("no example {id}"))
}

/// `column=value` of the wanted columns, an empty value where there is none.
fn labels(example: &Example, columns: &[&str]) -> String {
    let cell = |column: &&str| {
        let value = example.labels.get(*column).map_or("", String::as_str);
        format!("{column}={value}")
    };
    columns.iter().map(cell).collect::<Vec<_>>().join(" ")
}

fn picture(example: &Example) -> String {
    example.picture.place()
}

/// How often each reason was given for leaving something out.
fn reasons(source: &Source) -> Vec<(&str, u64)> {
    let reasons = source.skipped.reasons.iter();
    reasons
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect()
}

/// Every value that a source has for one of its adapter's tasks is a class of that task.
fn answers_its_tasks(source: &Source) {
    let adapter = source.config.adapter.unwrap();
    let mut answered = 0;
    for task in adapter
        .tasks()
        .iter()
        .map(|name| PromptSet::task(name).unwrap())
    {
        for example in &source.examples {
            match task.kind {
                PromptKind::Multiclass => {
                    if let Some(value) = example.labels.get(&task.name) {
                        assert!(task.classes.iter().any(|c| c.label == *value), "{value}");
                        answered += 1;
                    }
                }
                PromptKind::BinaryPerFinding => {
                    for class in &task.classes {
                        if let Some(value) = example.labels.get(&class.label) {
                            assert!(["0", "1"].contains(&value.as_str()), "{value}");
                            answered += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(answered > 0 || adapter.tasks().is_empty());
}

#[test]
fn names_are_stable_and_read_back() {
    for adapter in Adapter::ALL {
        assert_eq!(adapter.name().parse::<Adapter>().unwrap(), adapter);
        let json = serde_json::to_string(&adapter).unwrap();
        assert_eq!(json, format!("\"{}\"", adapter.name()));
    }
    let error = "imagenet".parse::<Adapter>().unwrap_err().to_string();
    assert!(
        error.starts_with("adapter: expected one of nih-cxr14, chexpert, "),
        "{error}"
    );
    for adapter in Adapter::ALL {
        adapter
            .tasks()
            .iter()
            .for_each(|task| drop(PromptSet::task(task).unwrap()));
    }
}

#[test]
fn keys_that_name_columns_have_no_place_beside_an_adapter() {
    let folder = folder(&[], &[]);
    for more in [
        "group = \"x\"",
        "id = \"x\"",
        "captions = [\"x\"]",
        "findings.uncertain_by_finding.Mass = \"ones\"",
    ] {
        let error = open_with("chexpert", folder.path(), more).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG", "{more}");
    }
    let toml = "name = \"s\"\nfolder = \".\"\nlabel_files = \"x\"";
    let error = Source::open(toml::from_str(toml).unwrap(), folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "source s: label_files: expected an adapter"
    );
    let config = "name = \"s\"\nadapter = \"chexpert\"\nmanifest = \"x.csv\"";
    let error = Source::open(toml::from_str(config).unwrap(), folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("adapter: expected a folder"),
        "{error}"
    );
}

#[test]
fn a_missing_label_file_is_told_with_its_name() {
    let empty = folder(&[], &[]);
    let error = error("mhist", &empty);
    assert!(
        error.contains("source s: expected a label file annotations.csv in "),
        "{error}"
    );
    let config = "name = \"s\"\nadapter = \"mhist\"\nfolder = \"nowhere\"";
    let error = Source::open(toml::from_str(config).unwrap(), empty.path()).unwrap_err();
    assert!(
        error.to_string().contains("there is no such folder"),
        "{error}"
    );
}
