//! Discs: what a DICOMDIR lists, and what lies beside it.

use crate::dicom::{Dicom, ids, study, volumes};

/// A DICOMDIR that lists `files`, each by its components.
fn directory(files: &[(&str, &[&str])]) -> Vec<u8> {
    let mut items = Vec::new();
    for (kind, components) in files {
        let mut record = Dicom::empty().text((0x0004, 0x1430), b"CS", kind);
        if !components.is_empty() {
            record = record.text((0x0004, 0x1500), b"CS", &components.join("\\"));
        }
        let item = record.elements();
        items.extend([0xFE, 0xFF, 0x00, 0xE0]);
        items.extend((item.len() as u32).to_le_bytes());
        items.extend(item);
    }
    Dicom::empty().with((0x0004, 0x1220), b"SQ", items).bytes()
}

#[test]
fn a_disc_is_read_by_its_index() {
    let folder = study();
    let index = directory(&[
        ("PATIENT", &[]),
        ("IMAGE", &["single.dcm"]),
        ("SR DOCUMENT", &["report.dcm"]),
        ("IMAGE", &["PAT", "GONE"]),
        ("IMAGE", &["FILM"]),
    ]);
    folder.write("scans/DICOMDIR", &index);
    let answer = folder.run(&["embed", "scans"]).expect(1);
    let lines = answer.json();
    let expected = [
        "single.dcm",
        "PAT/GONE",
        "film#frame=1",
        "film#frame=2",
        "film#frame=3",
    ];
    assert_eq!(ids(&lines), expected.map(|id| format!("scans/{id}")));
    assert_eq!(lines[1]["error"]["code"], "IO_ERROR");
    assert!(
        answer.stderr.contains("1 dicom object left out"),
        "{answer:#?}"
    );
    assert_eq!(
        folder.run(&["embed", "scans/DICOMDIR"]).expect(1).stdout,
        answer.stdout
    );

    // DICOM that it does not list comes after it; pictures of the disc's viewer are counted.
    folder.picture("scans/viewer.png", 1);
    folder.write("scans/later/b.dcm", Dicom::new(3, 1).bytes());
    let answer = folder.run(&["embed", "scans"]).expect(1);
    assert!(
        answer.stderr.contains("1 picture left out that a DICOMDIR"),
        "{answer:#?}"
    );
    let all = expected.into_iter().chain(["later/b.dcm"]);
    let all: Vec<String> = all.map(|id| format!("scans/{id}")).collect();
    assert_eq!(ids(&answer.json()), all);
    assert!(!answer.stderr.contains("given again"), "{answer:#?}");

    // What names a file elsewhere is no index; the folder is searched.
    folder.write("scans/DICOMDIR", directory(&[("IMAGE", &["..", "key"])]));
    let answer = folder.run(&["embed", "scans"]).expect(0);
    assert!(
        answer.stderr.contains("warning: the folder is searched"),
        "{answer:#?}"
    );
    assert_eq!(answer.json().len(), 6);
    assert!(
        folder
            .run(&["embed", "scans/DICOMDIR"])
            .expect(2)
            .stderr
            .contains("error[BAD_IMAGE]")
    );
}

#[test]
fn slices_that_a_disc_lists_come_in_the_order_of_space() {
    let folder = volumes();
    let names: [&[&str]; 6] = [&["A"], &["B"], &["C"], &["D"], &["E"], &["F"]];
    let index = directory(&names.map(|name| ("IMAGE", name)));
    folder.write("scans/DICOMDIR", index);
    let order = |args: &[&str]| {
        let answer = folder.run(&[&["embed"], args].concat()).expect(0);
        let ids = ids(&answer.json());
        let letters = ids.iter().filter_map(|id| id.chars().last());
        letters.collect::<String>()
    };
    for path in ["scans", "scans/DICOMDIR"] {
        assert_eq!(order(&[path]), "cafdeb");
        assert_eq!(order(&[path, "--frames", "middle"]), "fb");
        assert_eq!(order(&[path, "--max-frames", "3"]), "cfdeb");
    }
}
