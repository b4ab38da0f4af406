//! DICOM files: frames, folders, discs, where rows come from, and that nobody's name comes out.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::folder::{Folder, column, embedding, json_lines};

/// A DICOM file in explicit little endian. Its patient has a name and an id.
pub struct Dicom {
    elements: Vec<(u16, u16, &'static [u8; 2], Vec<u8>)>,
}

const SIDE: u16 = 24;
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

impl Dicom {
    /// An image of `frames` frames that depend on `seed`.
    pub fn new(seed: u8, frames: u16) -> Self {
        let pixel = |i: u16| (i % 251).wrapping_mul(u16::from(seed) + 3) % 4000;
        let pixels = (0..frames * SIDE * SIDE).flat_map(|i| pixel(i).to_le_bytes());
        let mut dicom = Self::without_pixels(CT)
            .text((0x0008, 0x0018), b"UI", &format!("1.2.3.{seed}"))
            .text((0x0020, 0x000D), b"UI", "1.2.3")
            .text((0x0020, 0x000E), b"UI", "1.2.3.4")
            .text((0x0018, 0x0015), b"CS", "CHEST")
            .text((0x0028, 0x0004), b"CS", "MONOCHROME2")
            .text((0x0028, 0x1052), b"DS", "-1024")
            .text((0x0028, 0x1053), b"DS", "1");
        for (tag, value) in [
            ((0x0028, 0x0002), 1),
            ((0x0028, 0x0010), SIDE),
            ((0x0028, 0x0011), SIDE),
            ((0x0028, 0x0100), 16),
            ((0x0028, 0x0101), 16),
            ((0x0028, 0x0102), 15),
            ((0x0028, 0x0103), 0),
        ] {
            dicom = dicom.with(tag, b"US", u16::to_le_bytes(value).into());
        }
        if frames > 1 {
            dicom = dicom.text((0x0028, 0x0008), b"IS", &frames.to_string());
        }
        dicom.with((0x7FE0, 0x0010), b"OW", pixels.collect())
    }

    /// One without elements.
    pub fn empty() -> Self {
        Self { elements: vec![] }
    }

    /// An object of `class` that has no pixels.
    pub fn without_pixels(class: &str) -> Self {
        Self::empty()
            .text((0x0008, 0x0016), b"UI", class)
            .text((0x0008, 0x0060), b"CS", "CT")
            .text((0x0010, 0x0010), b"PN", "DOE^JOHN")
            .text((0x0010, 0x0020), b"LO", "PAT-4711")
            .text((0x0010, 0x0030), b"DA", "19500101")
    }

    /// With one more element, or another value of one.
    pub fn with(
        mut self,
        (group, element): (u16, u16),
        vr: &'static [u8; 2],
        value: Vec<u8>,
    ) -> Self {
        self.elements
            .retain(|(g, e, ..)| (*g, *e) != (group, element));
        self.elements.push((group, element, vr, value));
        self
    }

    /// With a text.
    pub fn text(self, tag: (u16, u16), vr: &'static [u8; 2], text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        self.with(tag, vr, value)
    }

    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        put(&mut bytes, 2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0");
        bytes.extend(self.elements());
        bytes
    }

    /// The data set, in the order of its tags.
    pub fn elements(mut self) -> Vec<u8> {
        self.elements
            .sort_by_key(|(group, element, ..)| (*group, *element));
        let mut bytes = Vec::new();
        for (group, element, vr, value) in &self.elements {
            put(&mut bytes, *group, *element, vr, value);
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, group: u16, element: u16, vr: &[u8; 2], value: &[u8]) {
    bytes.extend(group.to_le_bytes());
    bytes.extend(element.to_le_bytes());
    bytes.extend(vr);
    if [b"OW", b"OB", b"SQ"].contains(&vr) {
        bytes.extend([0, 0]);
        bytes.extend((value.len() as u32).to_le_bytes());
    } else {
        bytes.extend((value.len() as u16).to_le_bytes());
    }
    bytes.extend(value);
}

/// A folder with a file of three frames, a single one, a report and a torn file.
pub fn study() -> Folder {
    let folder = Folder::new();
    folder.write("scans/film", Dicom::new(1, 3).bytes());
    folder.write("scans/single.dcm", Dicom::new(2, 1).bytes());
    let report = Dicom::without_pixels("1.2.840.10008.5.1.4.1.1.88.11");
    folder.write("scans/report.dcm", report.bytes());
    folder
}

pub fn ids(lines: &[Value]) -> Vec<String> {
    let names = column(lines, "id").into_iter();
    names
        .map(|id| id.replace(std::path::MAIN_SEPARATOR, "/"))
        .collect()
}

#[test]
fn every_frame_is_a_row_that_says_where_it_comes_from() {
    let folder = study();
    let answer = folder
        .run(&["embed", "scans", "--batch-size", "2"])
        .expect(0);
    let lines = answer.json();
    let expected = ["film#frame=1", "film#frame=2", "film#frame=3", "single.dcm"];
    assert_eq!(ids(&lines), expected.map(|id| format!("scans/{id}")));
    for (line, frame) in lines.iter().zip([1, 2, 3, 1]) {
        assert_eq!(line["frame"], frame);
        assert_eq!(
            (&line["modality"], &line["body_part"]),
            (&"CT".into(), &"CHEST".into())
        );
        assert_eq!(line["study_instance_uid"], "1.2.3");
        assert_eq!(line["sop_class_uid"], CT);
        assert_eq!(
            line["display"],
            "standard ct-windows=-100/2250,40/350,40/80"
        );
        assert!(line["patient_id_hash"].is_null());
    }
    let rows: Vec<_> = lines.iter().map(embedding).collect();
    assert!(rows[0] != rows[1] && rows[1] != rows[2] && rows[2] != rows[3]);
    assert!(
        answer.stderr.contains("1 dicom object left out"),
        "{answer:#?}"
    );
    let all = answer.stdout + &answer.stderr;
    assert!(!all.contains("DOE") && !all.contains("4711") && !all.contains("1950"));
}

#[test]
fn frames_can_be_chosen() {
    let folder = study();
    let chosen = |more: &[&str]| {
        let answer = folder
            .run(&[&["embed", "scans/film"], more].concat())
            .expect(0);
        let frame = |line: &Value| line["frame"].as_u64().unwrap();
        answer.json().iter().map(frame).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&["--frames", "first"]), [1]);
    assert_eq!(chosen(&["--frames", "middle"]), [2]);
    assert_eq!(chosen(&["--frames", "every:2"]), [1, 3]);
    assert_eq!(chosen(&["--max-frames", "2"]), [1, 3]);
    let answer = folder
        .run(&["embed", "scans/film", "--frames", "last"])
        .expect(2);
    assert!(answer.stderr.contains("every:N"), "{answer:#?}");
    let answer = folder
        .run(&["embed", "scans/film", "--frames", "first"])
        .expect(0);
    assert!(answer.stderr.contains("2 frames left out"), "{answer:#?}");
}

/// Axial slices, those of a second series among them, whose names are in another order than space.
pub fn volumes() -> Folder {
    let folder = Folder::new();
    for (seed, name, series, z) in [
        (1, "a", "1.2.3.4", 20),
        (2, "b", "1.2.3.5", 7),
        (3, "c", "1.2.3.4", 10),
        (4, "d", "1.2.3.4", 40),
        (5, "e", "1.2.3.5", 5),
        (6, "f", "1.2.3.4", 30),
    ] {
        let slice = Dicom::new(seed, 1)
            .text((0x0020, 0x000E), b"UI", series)
            .text((0x0020, 0x0032), b"DS", &format!("0\\0\\{z}"))
            .text((0x0020, 0x0037), b"DS", "1\\0\\0\\0\\1\\0");
        folder.write(&format!("scans/{name}"), slice.bytes());
    }
    folder
}

#[test]
fn slices_of_a_series_come_in_the_order_of_space() {
    let folder = volumes();
    let order = |paths: &[&str]| {
        let answer = folder.run(&[&["embed"], paths].concat()).expect(0);
        let ids = ids(&answer.json());
        let letters = ids.iter().filter_map(|id| id.chars().last());
        letters.collect::<String>()
    };
    assert_eq!(order(&["scans"]), "cafdeb");
    assert_eq!(order(&["scans", "--frames", "middle"]), "fb");
    assert_eq!(order(&["scans", "--max-frames", "3"]), "cfdeb");
    // Files that are named stay as they are.
    assert_eq!(order(&["scans/a", "scans/c", "--frames", "first"]), "ac");
}

#[test]
fn a_named_object_without_pixels_fails_by_its_class() {
    let folder = study();
    let answer = folder
        .run(&["embed", "scans/report.dcm", "scans/film"])
        .expect(1);
    let error = &answer.json()[0]["error"];
    assert_eq!(error["code"], "UNSUPPORTED");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("Basic Text SR"), "{message}");
}

#[test]
fn columns_are_the_same_in_every_format_and_absent_without_dicom() {
    let folder = study();
    folder.picture("scans/photo.png", 1);
    let write = |output: &str| {
        folder
            .run(&["embed", "scans", "--output", output])
            .expect(0);
    };
    for output in ["out.csv", "out.npy", "out.parquet"] {
        write(output);
    }
    let header = |name: &str| folder.text(name).lines().next().unwrap().to_owned();
    let columns = "study_instance_uid,series_instance_uid,sop_instance_uid,sop_class_uid,frame,modality,\
                   body_part,view_position,laterality,patient_id_hash,display,warnings";
    assert!(header("out.csv").starts_with(&format!("id,kind,{columns},e0,e1,")));
    assert_eq!(header("out.ids.csv"), format!("row,id,kind,{columns}"));
    let photo = folder.text("out.ids.csv");
    let photo = photo
        .lines()
        .find(|line| line.contains("photo.png"))
        .unwrap();
    assert!(
        photo.ends_with(&format!(",image{}", ",".repeat(12))),
        "{photo}"
    );

    let file = std::fs::File::open(folder.path("out.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let batch = reader.map(Result::unwrap).next().unwrap();
    let frames = batch
        .column_by_name("frame")
        .unwrap()
        .as_primitive::<Int64Type>();
    let frames: Vec<_> = frames.iter().collect();
    assert_eq!(frames, [Some(1), Some(2), Some(3), None, Some(1)]);
    let series = batch
        .column_by_name("series_instance_uid")
        .unwrap()
        .as_string::<i32>();
    assert_eq!(series.value(0), "1.2.3.4");

    let plain = Folder::with_pictures(1);
    let report = Dicom::without_pixels("1.2.840.10008.5.1.4.1.1.88.11");
    plain.write("scans/report.dcm", report.bytes());
    plain
        .run(&["embed", "scans", "--output", "out.csv"])
        .expect(0);
    assert!(plain.text("out.csv").starts_with("id,kind,e0,"));
}

#[test]
fn classify_says_where_scores_come_from() {
    let folder = study();
    let args = ["classify", "scans", "--labels", "a,b"];
    let lines = folder.run(&args).expect(0).json();
    assert_eq!(
        (&lines[2]["frame"], &lines[2]["study_instance_uid"]),
        (&3.into(), &"1.2.3".into())
    );
    folder
        .run(&[&args[..], &["--output", "out.csv"]].concat())
        .expect(0);
    assert!(folder.text("out.csv").starts_with("id,study_instance_uid,"));
}

#[test]
fn patient_ids_are_dropped_or_hashed_with_a_key() {
    let folder = study();
    folder.write("key", [7; 32]);
    folder.write("short", "secret");
    let hash = |key: &str| {
        let args = [
            "embed",
            "scans",
            "--patient-id",
            "hash",
            "--patient-key-file",
            key,
        ];
        folder.run(&args)
    };
    let lines = hash("key").expect(0).json();
    // HMAC-SHA-256 of PAT-4711 by Python's hmac.
    let expected = "dd4fdd23300b332680a25a7152a272009dc0a9db5c7da90b0fee1220d4f2e884";
    assert!(
        lines.iter().all(|line| line["patient_id_hash"] == expected),
        "{lines:#?}"
    );
    assert!(
        hash("short")
            .expect(2)
            .stderr
            .contains("at least 16 bytes, got 6")
    );
    let answer = folder
        .run(&["embed", "scans", "--patient-id", "hash"])
        .expect(2);
    assert!(answer.stderr.contains("--patient-key-file"), "{answer:#?}");
    let answer = folder
        .run(&["embed", "scans", "--patient-key-file", "key"])
        .expect(2);
    assert!(answer.stderr.contains("--patient-id hash"), "{answer:#?}");
}

#[test]
fn display_options_change_pictures_and_are_recorded() {
    let folder = study();
    let line = |more: &[&str]| {
        let args = [&["embed", "scans/single.dcm"], more].concat();
        folder.run(&args).expect(0).json().remove(0)
    };
    let standard = line(&[]);
    let cases: [(&[&str], &str); 5] = [
        (&["--ct-windows", "lung"], "standard ct-windows=-600/1500"),
        (&["--window", "-100/300"], "standard window=-100/300"),
        (&["--window", "min-max"], "standard min-max"),
        (&["--display", "container"], "container window=100/2500"),
        (&["--recipe", "container"], "container window=100/2500"),
    ];
    for (more, display) in cases {
        let line = line(more);
        assert_eq!(line["display"], display);
        assert_ne!(embedding(&line), embedding(&standard), "{display}");
    }
    let kept = line(&["--recipe", "container", "--display", "standard"]);
    assert!(kept["display"].as_str().unwrap().starts_with("standard"));
    let answer = folder
        .run(&["embed", "scans", "--ct-windows", "lungs"])
        .expect(2);
    assert!(answer.stderr.contains("lung, mediastinum"), "{answer:#?}");
    let both = [
        "embed",
        "scans",
        "--recipe",
        "container",
        "--ct-windows",
        "lung",
    ];
    let answer = folder.run(&both).expect(2);
    assert!(
        answer
            .stderr
            .contains("--ct-windows is for --display standard"),
        "{answer:#?}"
    );
}

#[test]
fn a_run_goes_on_with_its_provenance_and_refuses_another_display() {
    let folder = study();
    folder.write("scans/torn.dcm", &Dicom::new(3, 1).bytes()[..400]);
    folder.write("key", [7; 32]);
    let args = |output: &'static str, more: &[&'static str]| {
        let key = ["--patient-id", "hash", "--patient-key-file", "key"];
        let args = ["embed", "scans", "--batch-size", "1", "--output", output];
        [&args[..], &key, more].concat()
    };
    folder.run(&args("out.jsonl", &["--fail-fast"])).expect(1);
    assert!(folder.exists("out.jsonl.part"));
    let answer = folder
        .run(&args("out.jsonl", &["--resume", "--window", "0/100"]))
        .expect(2);
    assert!(
        answer.stderr.contains(r#"window was "file", is "0/100""#),
        "{answer:#?}"
    );
    folder.write("key", [8; 32]);
    let answer = folder.run(&args("out.jsonl", &["--resume"])).expect(2);
    assert!(answer.stderr.contains("patient key was"), "{answer:#?}");
    folder.write("key", [7; 32]);
    folder.run(&args("out.jsonl", &["--resume"])).expect(1);
    folder.run(&args("whole.jsonl", &[])).expect(1);
    assert_eq!(folder.text("out.jsonl"), folder.text("whole.jsonl"));
    let lines = json_lines(&folder.text("out.jsonl"));
    assert_eq!(lines.len(), 5);
    assert!(lines[0]["patient_id_hash"].is_string());
}

#[test]
fn a_warning_about_all_frames_is_told_once() {
    let folder = Folder::new();
    let film = Dicom::new(1, 3).text((0x0008, 0x0060), b"CS", "MR");
    folder.write("film.dcm", film.bytes());
    folder
        .run(&["embed", "film.dcm", "-o", "out.csv"])
        .expect(0);
    assert!(
        folder
            .text("out.csv")
            .lines()
            .nth(1)
            .unwrap()
            .contains("window")
    );
    let answer = folder
        .run(&["embed", "film.dcm", "--batch-size", "1"])
        .expect(0);
    assert_eq!(answer.stderr.matches("warning:").count(), 1, "{answer:#?}");
    assert!(answer.json().iter().all(|line| line["warnings"].is_array()));
}

#[test]
fn a_frame_is_inspected() {
    let folder = study();
    let inspect = |more: &[&str]| folder.run(&[&["inspect", "scans/film"], more].concat());
    let answer = inspect(&["--format", "json", "--frame", "3", "-o", "view.png"]).expect(0);
    let facts = &answer.json()[0];
    assert_eq!((&facts["frames"], &facts["frame"]), (&3.into(), &3.into()));
    assert_eq!(
        facts["transfer_syntax"],
        "Explicit VR Little Endian (1.2.840.10008.1.2.1)"
    );
    assert_eq!(facts["sop_class"], format!("CT Image Storage ({CT})"));
    assert_eq!(facts["bits_stored"], "16 of 16, unsigned");
    assert!(facts["display"].as_str().unwrap().contains("ct-windows"));
    assert!(folder.exists("view.png"));
    assert_eq!(
        inspect(&["--format", "json"]).expect(0).json()[0]["frame"],
        2
    );
    assert!(
        inspect(&["--frame", "4"])
            .expect(2)
            .stderr
            .contains("the file has 3 frames")
    );
    let all = answer.stdout + &inspect(&[]).expect(0).stdout;
    assert!(!all.contains("DOE") && !all.contains("4711"));
    folder.picture("photo.png", 1);
    let answer = folder
        .run(&["inspect", "photo.png", "--frame", "1"])
        .expect(2);
    assert!(
        answer.stderr.contains("--frame is for DICOM"),
        "{answer:#?}"
    );
}

#[test]
fn a_slide_asks_for_tiles() {
    let folder = Folder::new();
    let slide = Dicom::new(1, 3).text((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.77.1.6");
    folder.write("scans/slide.dcm", slide.bytes());
    let label = Dicom::new(1, 1).text((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.77.1.6");
    folder.write("scans/label.dcm", label.bytes());
    folder.write("scans/single.dcm", Dicom::new(2, 1).bytes());
    let answer = folder.run(&["embed", "scans/slide.dcm"]).expect(2);
    assert!(
        answer.json()[0]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("--tile")
    );
    let answer = folder.run(&["embed", "scans"]).expect(0);
    assert!(
        answer.stderr.contains("2 whole-slide files left out"),
        "{answer:#?}"
    );
    assert!(Path::new(answer.json()[0]["id"].as_str().unwrap()).ends_with("single.dcm"));
}

#[test]
fn of_slices_without_positions_none_is_left_out() {
    let folder = Folder::new();
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let number = (4 - seed).to_string();
        let slice = Dicom::new(seed, 1).text((0x0020, 0x0013), b"IS", &number);
        folder.write(&format!("scans/{name}"), slice.bytes());
    }
    let run = |max: &str| {
        folder
            .run(&["embed", "scans", "--max-frames", max])
            .expect(0)
    };
    let answer = run("2");
    assert_eq!(ids(&answer.json()), ["scans/c", "scans/b", "scans/a"]);
    assert!(
        answer.stderr.contains("1 series without positions"),
        "{answer:#?}"
    );
    assert!(!run("3").stderr.contains("without positions"));
}
