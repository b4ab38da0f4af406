//! Frames whose values pydicom gave: goldens made by `scripts/make_dicom_golden.py`, and any set of frames in the same
//! form that `MEDSIGLIP_DICOM_FRAMES` points to.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::image::dicom::Values;

/// A frame and what is expected of it; places are in `frames.bin`.
#[derive(Deserialize)]
struct Case {
    name: String,
    syntax: String,
    first_bit: u8,
    at: usize,
    len: usize,
    rows: u32,
    columns: u32,
    samples: u8,
    planar: u8,
    allocated: u8,
    stored: u8,
    high: u8,
    signed: u8,
    float: bool,
    photometric: String,
    want: Option<Want>,
    seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Want {
    dtype: String,
    at: usize,
    len: usize,
}

impl Case {
    fn shape(&self) -> Shape {
        Shape {
            rows: self.rows,
            columns: self.columns,
            samples_per_pixel: self.samples,
            is_planar: self.planar == 1,
            bits_allocated: self.allocated,
            bits_stored: self.stored,
            high_bit: self.high,
            is_signed: self.signed == 1,
            is_float: self.float,
            photometric: self.photometric.parse().unwrap(),
        }
    }
}

fn cases(dir: &Path) -> (Vec<Case>, Vec<u8>) {
    let lines = std::fs::read_to_string(dir.join("frames.jsonl")).unwrap();
    let cases = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (cases, std::fs::read(dir.join("frames.bin")).unwrap())
}

fn numbers(values: &Values) -> (&'static str, Vec<f64>) {
    fn wide<T: Copy + Into<f64>>(v: &[T]) -> Vec<f64> {
        v.iter().map(|v| (*v).into()).collect()
    }
    match values {
        Values::U8(v) => ("u1", wide(v)),
        Values::I8(v) => ("i1", wide(v)),
        Values::U16(v) => ("u2", wide(v)),
        Values::I16(v) => ("i2", wide(v)),
        Values::U32(v) => ("u4", wide(v)),
        Values::I32(v) => ("i4", wide(v)),
        Values::F32(v) => ("f4", wide(v)),
        Values::F64(v) => ("f8", wide(v)),
    }
}

fn expected(dtype: &str, bytes: &[u8]) -> Vec<f64> {
    macro_rules! read {
        ($t:ty, $n:literal) => {
            bytes
                .as_chunks::<$n>()
                .0
                .iter()
                .map(|b| <$t>::from_le_bytes(*b) as f64)
                .collect()
        };
    }
    match dtype {
        "u1" => read!(u8, 1),
        "i1" => read!(i8, 1),
        "u2" => read!(u16, 2),
        "i2" => read!(i16, 2),
        "u4" => read!(u32, 4),
        "i4" => read!(i32, 4),
        "f4" => read!(f32, 4),
        "f8" => read!(f64, 8),
        other => panic!("{other}"),
    }
}

fn goldens() -> (Vec<Case>, Vec<u8>) {
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dicom"))
}

impl Case {
    fn bytes<'a>(&self, blob: &'a [u8]) -> &'a [u8] {
        &blob[self.at..self.at + self.len]
    }

    fn decode(&self, bytes: &[u8]) -> Result<Stored> {
        decode(&self.syntax, bytes, self.first_bit, &self.shape())
    }

    /// How many values differ and by how much at most; `None` where there is nothing to compare with.
    fn difference(&self, stored: &Stored, blob: &[u8]) -> Option<(usize, f64)> {
        let want = self.want.as_ref()?;
        let (dtype, got) = numbers(&stored.values);
        let expected = expected(&want.dtype, &blob[want.at..want.at + want.len]);
        assert_eq!(
            (dtype, got.len()),
            (&*want.dtype, expected.len()),
            "{}",
            self.name
        );
        let steps = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        Some((
            steps.clone().filter(|step| *step != 0.0).count(),
            steps.fold(0.0, f64::max),
        ))
    }
}

#[test]
fn frames_are_those_of_pydicom() {
    let (cases, blob) = goldens();
    assert!(cases.len() > 150);
    for case in &cases {
        let stored = case
            .decode(case.bytes(&blob))
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let (count, most) = case.difference(&stored, &blob).unwrap();
        println!(
            "{}: {count} of {} differ, by up to {most} {:?}",
            case.name,
            case.shape().samples(),
            stored.warnings
        );
        if case.name.contains("lossy") {
            assert!(most <= 1.0, "{}: {most}", case.name);
        } else {
            assert_eq!(count, 0, "{}: by up to {most}", case.name);
        }
        assert_eq!(stored.channels, case.samples);
        let is_color = case.samples == 3;
        assert_eq!(
            stored.photometric.name(),
            if is_color { "RGB" } else { "MONOCHROME2" },
            "{}",
            case.name
        );
        let is_odd = ["mismatch", "says-rgb", "ids-rgb"]
            .iter()
            .any(|odd| case.name.contains(odd));
        assert_eq!(
            !stored.warnings.is_empty(),
            is_odd,
            "{}: {:?}",
            case.name,
            stored.warnings
        );
    }
}

#[test]
fn a_truncated_frame_is_refused_or_whole() {
    let (cases, blob) = goldens();
    for case in &cases {
        let whole = case.decode(case.bytes(&blob)).unwrap();
        for len in 0..case.len {
            if let Ok(stored) = case.decode(&case.bytes(&blob)[..len]) {
                assert!(
                    stored.values == whole.values,
                    "{} of {len} bytes: other values",
                    case.name
                );
            }
        }
    }
}

#[test]
fn a_frame_of_another_size_is_refused() {
    let (cases, blob) = goldens();
    for case in cases
        .iter()
        .filter(|case| !case.syntax.starts_with("1.2.840.10008.1.2.1"))
    {
        let is_native = matches!(&case.syntax[17..], "" | ".2");
        let shape = case.shape();
        let others = [
            Shape {
                rows: shape.rows + 1,
                ..shape
            },
            Shape {
                columns: shape.columns + 9,
                ..shape
            },
            Shape {
                samples_per_pixel: 4 - shape.samples_per_pixel,
                ..shape
            },
            Shape {
                rows: 65_535,
                columns: 65_535,
                ..shape
            },
        ];
        for other in others {
            if is_native && other.samples() <= shape.samples() {
                continue;
            }
            let error = decode(&case.syntax, case.bytes(&blob), 0, &other).unwrap_err();
            assert_eq!(error.code(), "BAD_IMAGE", "{}: {error}", case.name);
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let (cases, blob) = goldens();
    for case in &cases {
        let mut bytes = case.bytes(&blob).to_vec();
        for at in (0..bytes.len()).step_by(23) {
            let old = bytes[at];
            for new in [0, 0xFF, old ^ 1] {
                bytes[at] = new;
                let _ = case.decode(&bytes);
            }
            bytes[at] = old;
        }
    }
}

#[test]
fn what_has_no_decoder_is_named() {
    let (cases, _) = goldens();
    let shape = cases[0].shape();
    for (syntax, name) in [
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.7.1", "SMPTE"),
        ("1.2.3.4", "1.2.3.4"),
    ] {
        let error = decode(syntax, &[], 0, &shape).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED");
        let message = error.to_string();
        assert!(
            message.contains(syntax) && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn values_above_low_bits_are_moved_down() {
    // 12 bits in the upper part of a word, as objects before 2014 may have them; the lower part is an overlay's.
    let (cases, _) = goldens();
    let shape = Shape {
        rows: 1,
        columns: 2,
        bits_allocated: 16,
        bits_stored: 12,
        high_bit: 15,
        ..cases[0].shape()
    };
    let stored = decode("1.2.840.10008.1.2.1", &[0xF1, 0x7F, 0x08, 0x80], 0, &shape).unwrap();
    assert_eq!(stored.values, Values::U16(vec![0x7FF, 0x800]));
    let signed = Shape {
        is_signed: true,
        ..shape
    };
    let stored = decode("1.2.840.10008.1.2.1", &[0xF1, 0x7F, 0x08, 0x80], 0, &signed).unwrap();
    assert_eq!(stored.values, Values::I16(vec![0x7FF, -0x800]));
    assert_eq!(stored.warnings.len(), 1);
}

#[test]
#[ignore = "needs MEDSIGLIP_DICOM_FRAMES, made by scripts/make_dicom_golden.py --files"]
fn frames_of_files_are_those_of_pydicom() {
    let (cases, blob) = cases(Path::new(&std::env::var("MEDSIGLIP_DICOM_FRAMES").unwrap()));
    let only = std::env::var("MEDSIGLIP_DICOM_SYNTAX").unwrap_or_default();
    let mut worse = Vec::new();
    for case in cases.iter().filter(|case| case.syntax.ends_with(&only)) {
        let bytes = case.bytes(&blob);
        let start = std::time::Instant::now();
        let decoded = case.decode(bytes);
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let verdict = match (&decoded, &case.want) {
            (Err(error), None) => format!("refused by both: {error}"),
            (Err(error), Some(_)) => format!("refused by us: {error}"),
            (Ok(_), None) => "refused by pydicom".into(),
            (Ok(stored), Some(_)) => match case.difference(stored, &blob).unwrap() {
                (0, _) => format!("agree {:?}", stored.warnings),
                (count, most) => format!(
                    "{count} of {} differ by up to {most}",
                    case.shape().samples()
                ),
            },
        };
        let lossy = matches!(
            &case.syntax[17..],
            ".4.50" | ".4.51" | ".4.91" | ".4.203" | ".4.112"
        );
        let far = |stored: &Stored| {
            let step = 2.0 * 2_f64.powi(i32::from(case.stored) - 8);
            let (count, most) = case.difference(stored, &blob).unwrap_or_default();
            if lossy {
                most > step.max(1.0)
            } else {
                count > 0
            }
        };
        if decoded.as_ref().map_or(case.want.is_some(), far) {
            worse.push(case.name.clone());
        }
        println!(
            "{milliseconds:8.2} ms, pydicom {:8.2} ms, {} {} {} {}: {verdict}",
            case.seconds.unwrap_or(f64::NAN) * 1e3,
            &case.syntax[17..],
            case.photometric,
            case.stored,
            case.name
        );
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
