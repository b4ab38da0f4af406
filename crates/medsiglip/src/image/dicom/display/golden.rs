//! Every golden frame of `scripts/make_dicom_display_golden.py`, and real ones where `MEDSIGLIP_DISPLAY_GOLDEN` names a file
//! that the script made of them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{DisplayOptions, Shown, show};
use crate::image::dicom::header::Header;
use crate::image::dicom::read;
use crate::image::dicom::source::Source;
use crate::image::dicom::{Photometric, Stored, Values};
use crate::image::{Limits, Samples};
use crate::{Error, Result};

#[derive(Deserialize)]
struct Frame {
    name: String,
    file: String,
    frame: u32,
    rows: u32,
    columns: u32,
    channels: u8,
    dtype: String,
    stored: String,
    shows: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    rule: String,
    window: String,
    ct_windows: String,
    refused: Option<String>,
    description: Option<String>,
    channels: Option<u8>,
    samples: Option<String>,
    expected: Option<String>,
}

fn unpacked(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

fn numbers<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| number(*bytes))
        .collect()
}

fn values(dtype: &str, bytes: Vec<u8>) -> Values {
    match dtype {
        "u1" => Values::U8(bytes),
        "i1" => Values::I8(numbers(&bytes, i8::from_le_bytes)),
        "u2" => Values::U16(numbers(&bytes, u16::from_le_bytes)),
        "i2" => Values::I16(numbers(&bytes, i16::from_le_bytes)),
        "u4" => Values::U32(numbers(&bytes, u32::from_le_bytes)),
        "i4" => Values::I32(numbers(&bytes, i32::from_le_bytes)),
        "f4" => Values::F32(numbers(&bytes, f32::from_le_bytes)),
        "f8" => Values::F64(numbers(&bytes, f64::from_le_bytes)),
        _ => panic!("{dtype}"),
    }
}

impl Frame {
    fn header(&self) -> Header {
        let source = Source::Bytes(unpacked(&self.file));
        read::read(source, &Limits::default()).unwrap().1
    }

    fn stored(&self, header: &Header) -> Stored {
        use crate::image::dicom::attributes::Attributes;
        let term = header
            .dataset
            .text(dicom_dictionary_std::tags::PHOTOMETRIC_INTERPRETATION);
        let photometric: Photometric = term.unwrap().parse().unwrap();
        Stored {
            rows: self.rows,
            columns: self.columns,
            channels: self.channels,
            values: values(&self.dtype, unpacked(&self.stored)),
            photometric: if self.channels == 3 {
                Photometric::Rgb
            } else {
                photometric
            },
            icc_profile: None,
            warnings: Vec::new(),
        }
    }
}

impl Expected {
    fn options(&self) -> DisplayOptions {
        DisplayOptions {
            rule: self.rule.parse().unwrap(),
            window: self.window.parse().unwrap(),
            ct_windows: self.ct_windows.parse().unwrap(),
        }
    }

    /// What is wrong with `shown`, if anything.
    fn difference(&self, shown: &Result<Shown, Error>) -> Option<String> {
        let shown = match (shown, &self.refused) {
            (Ok(shown), None) => shown,
            (Err(_), Some(_)) => return None,
            (Err(error), None) => return Some(format!("{} {error}", error.code())),
            (Ok(_), Some(why)) => return Some(format!("shown, refused there: {why}")),
        };
        let (kind, bytes) = match &shown.samples {
            Samples::U8(v) => ("u8", v.clone()),
            Samples::U16(v) => ("u16", v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        };
        let how = (kind, shown.channels, shown.description.as_str());
        let expected_how = (
            self.samples.as_deref()?,
            self.channels?,
            self.description.as_deref()?,
        );
        if how != expected_how {
            return Some(format!("{how:?}, expected {expected_how:?}"));
        }
        let expected = unpacked(self.expected.as_deref()?);
        let wrong: Vec<usize> = (0..bytes.len().max(expected.len()))
            .filter(|at| bytes.get(*at) != expected.get(*at))
            .collect();
        let first = *wrong.first()?;
        let (got, expected) = (bytes.get(first), expected.get(first));
        let count = wrong.len();
        Some(format!(
            "{count} bytes differ, the first at {first}: {got:?}, expected {expected:?}"
        ))
    }
}

/// The number of pictures compared, and what was wrong.
fn compare(path: &Path) -> (usize, Vec<String>) {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for line in BufReader::new(File::open(path).unwrap()).lines() {
        let frame: Frame = serde_json::from_str(&line.unwrap()).unwrap();
        let header = frame.header();
        for expected in &frame.shows {
            let options = expected.options();
            let shown = show(&header, frame.frame, frame.stored(&header), &options);
            compared += 1;
            if let Some(difference) = expected.difference(&shown) {
                let Expected {
                    rule,
                    window,
                    ct_windows,
                    ..
                } = expected;
                wrong.push(format!(
                    "{}: {rule} {window} {ct_windows}: {difference}",
                    frame.name
                ));
            }
        }
    }
    (compared, wrong)
}

#[test]
fn frames_are_shown_as_the_references_show_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dicom/display.jsonl");
    let (compared, wrong) = compare(&path);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 200, "{compared}");
}

#[test]
fn real_frames_are_shown_as_the_references_show_them() {
    let Some(path) = std::env::var_os("MEDSIGLIP_DISPLAY_GOLDEN") else {
        println!("skipped: MEDSIGLIP_DISPLAY_GOLDEN is not set");
        return;
    };
    let (compared, wrong) = compare(Path::new(&path));
    println!("{compared} pictures compared");
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
