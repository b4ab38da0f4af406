use std::path::Path;

use tar::{Builder, Header};

use crate::dataset::testing::{noise, open, write};
use crate::dataset::{Example, Location, Source};
use crate::image::DecodeOptions;
use crate::{Error, Result};

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn shards(folder: &Path, more: &str) -> Result<Source> {
    open(&format!("shards = \"*.tar\"\n{more}"), folder)
}

fn ids(examples: &[Example]) -> Vec<&str> {
    examples.iter().map(|e| e.id.as_str()).collect()
}

#[test]
fn members_of_one_key_are_one_example() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/c.jpg", "folder".repeat(40));
    let json = br#"{"caption": "three", "captions": ["four"], "labels": {"grade": 2}, "patient": "p", "grade": 9}"#;
    let pictures: Vec<Vec<u8>> = (0..4).map(|n| noise(n, 8)).collect();
    let first = tar(&[
        ("x/a.JPG", &pictures[0]),
        ("x/a.txt", b" one \n"),
        ("x/b.json", json),
        ("x/b.cls", b"5"),
        ("x/b.seg.png", b"mask"),
        ("x/b.png", &pictures[1]),
        (&long, &pictures[2]),
        (&long.replace("jpg", "txt"), b"five"),
    ]);
    write(folder.path(), "2.tar", &first);
    write(
        folder.path(),
        "1.tar",
        &tar(&[("a.dcm", &pictures[3]), ("a.txt", b"six")]),
    );
    let more = "labels = [\"grade\", \"cls\"]\ngroup = \"patient\"";
    let source = shards(folder.path(), more).unwrap();
    let c = format!("2/{}/c", "folder".repeat(40));
    assert_eq!(ids(&source.examples), ["1/a", "2/x/a", "2/x/b", &c]);
    assert_eq!(source.examples[1].captions, ["one"]);
    let b = &source.examples[2];
    assert_eq!(b.captions, ["three", "four"]);
    assert_eq!(
        (b.labels["grade"].as_str(), b.labels["cls"].as_str()),
        ("2", "5")
    );
    assert_eq!(b.group.as_deref(), Some("p"));
    for (example, number) in source.examples.iter().zip([3, 0, 1, 2]) {
        assert!(matches!(example.picture, Location::Member { .. }));
        let options = DecodeOptions::default();
        assert_eq!(
            example.picture.read(&options.limits).unwrap(),
            pictures[number]
        );
        example.picture.open(&options).unwrap();
    }
}

fn two() -> Vec<u8> {
    let members: [(&str, &[u8]); 4] = [
        ("a.png", &noise(1, 40)),
        ("a.txt", b"one"),
        ("b.png", &noise(2, 40)),
        ("b.txt", b"two"),
    ];
    tar(&members)
}

fn told(result: Result<Source>) -> String {
    match result.unwrap_err() {
        Error::BadArgument(told) | Error::BadConfig(told) => told,
        other => panic!("{other}"),
    }
}

#[test]
fn a_shard_that_is_cut_off_is_refused_and_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let whole = two();
    // The first example ends at 3075, and its last block at 3584, where the header of the second picture begins: cut in the
    // picture, between the examples, in the header.
    for (length, place) in [(4500, 4096), (3584, 3075), (3900, 3075)] {
        write(folder.path(), "a.tar", &whole[..length]);
        let result = shards(folder.path(), "max_skipped = 0.99");
        assert_eq!(result.as_ref().unwrap_err().code(), "BAD_CONFIG");
        let message = told(result);
        let expected = format!("a.tar at byte {place}");
        assert!(message.contains("source s: tar file that is cut off"));
        assert!(message.ends_with(&expected), "{message}");
        let source = shards(folder.path(), "max_skipped = 1.0").unwrap();
        assert_eq!(ids(&source.examples), ["a/a"]);
        assert_eq!(source.skipped.total(), 1, "{:?}", source.skipped);
        assert!(source.skipped.listed[0].contains(&expected));
    }
    write(folder.path(), "a.tar", &whole);
    assert_eq!(shards(folder.path(), "").unwrap().examples.len(), 2);
}

#[test]
fn a_lying_size_is_refused_without_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [
        ("b.png", 1_u64 << 40),
        ("b.txt", u64::MAX >> 1),
        ("b.txt", 1 << 62),
    ] {
        let mut bytes = tar(&[("a.png", &noise(1, 8)), ("a.txt", b"one")]);
        bytes.truncate(bytes.len() - 1024);
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        write(folder.path(), "a.tar", &bytes);
        let message = told(shards(folder.path(), ""));
        assert!(message.contains("a.tar at byte"), "{message}");
        let lenient = shards(folder.path(), "max_skipped = 1.0").unwrap();
        assert_eq!(ids(&lenient.examples), ["a/a"]);
    }
}

#[test]
fn a_name_of_gigabytes_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(8 << 30);
    header.set_cksum();
    std::fs::write(&path, header.as_bytes()).unwrap();
    // A sparse file: the bytes are there to be read.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len((8 << 30) + 4096).unwrap();
    let message = told(shards(folder.path(), ""));
    assert!(message.contains("name of more than 1 MiB"), "{message}");
}

/// A pax size would lead the reader elsewhere than the look ahead.
#[test]
fn a_size_beside_the_header_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("size", "3", true),
        ("mtime", "3", false),
        ("path", "a size=3.png", false),
        ("comment", "size=3", false),
    ];
    for (key, value, refused) in cases {
        let mut tar = Builder::new(Vec::new());
        tar.append_pax_extensions([("uname", b"x".as_slice()), (key, value.as_bytes())])
            .unwrap();
        let members = [
            ("a size=3.png", noise(1, 8)),
            ("a size=3.txt", b"one".to_vec()),
        ];
        for (name, content) in members {
            let mut header = Header::new_ustar();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_slice())
                .unwrap();
        }
        write(folder.path(), "a.tar", &tar.into_inner().unwrap());
        let result = shards(folder.path(), "max_skipped = 0.5");
        assert_eq!(result.is_err(), refused, "{key} {value}");
        if refused {
            assert!(told(result).contains("8 GiB"));
        }
    }
}

#[test]
fn an_empty_tar_and_a_file_that_is_none_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.tar", &tar(&[]));
    assert!(told(shards(folder.path(), "")).contains("no example"));
    write(folder.path(), "a.tar", b"");
    assert!(told(shards(folder.path(), "")).contains("cut off"));
    write(folder.path(), "a.tar", &[7; 3000]);
    assert!(told(shards(folder.path(), "")).contains("cannot be read"));
}

#[test]
fn samples_that_cannot_be_used_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![b'x'; 2 << 20];
    let picture = noise(1, 8);
    let members: [(&str, &[u8]); 13] = [
        ("a.png", &picture),
        ("a.txt", b"one"),
        ("b.txt", b"no picture"),
        ("c.png", &picture),
        ("c.txt", b""),
        ("d.png", &picture),
        ("d.txt", b"\xff"),
        ("e.png", &picture),
        ("e.json", b"[]"),
        ("f.png", b""),
        ("f.txt", b"six"),
        ("g.png", &picture),
        ("g.txt", &long),
    ];
    write(folder.path(), "a.tar", &tar(&members));
    let source = shards(folder.path(), "max_skipped = 1.0").unwrap();
    assert_eq!(ids(&source.examples), ["a/a"]);
    assert_eq!(source.skipped.total(), 6);
    assert_eq!(source.skipped.reasons.len(), 6, "{:?}", source.skipped);
    let listed = source.skipped.listed.join("\n");
    assert!(
        listed.contains("a.tar: example 4: text that is not UTF-8"),
        "{listed}"
    );
}

#[test]
fn a_mistyped_group_of_shards_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let picture = noise(1, 8);
    let json = br#"{"caption": "one", "patient": "p"}"#;
    write(
        folder.path(),
        "a.tar",
        &tar(&[("a.png", &picture), ("a.json", json)]),
    );
    assert!(told(shards(folder.path(), "group = \"pateint\"")).contains("group: no example"));
    let source = shards(folder.path(), "group = \"patient\"").unwrap();
    assert_eq!(source.examples[0].group.as_deref(), Some("p"));
}

#[test]
fn where_some_have_captions_all_must() {
    let folder = tempfile::tempdir().unwrap();
    let picture = noise(1, 8);
    let both: [(&str, &[u8]); 3] = [("a.png", &picture), ("b.png", &picture), ("b.txt", b"two")];
    write(folder.path(), "a.tar", &tar(&both));
    let more = "labels = [\"cls\"]\nmax_skipped = 0.5";
    let source = shards(folder.path(), more).unwrap();
    assert_eq!(
        (ids(&source.examples), source.has_texts()),
        (vec!["a/b"], true)
    );
    write(folder.path(), "a.tar", &tar(&both[..2]));
    let source = shards(folder.path(), more).unwrap();
    assert_eq!(
        (ids(&source.examples), source.has_texts()),
        (vec!["a/a", "a/b"], false)
    );
    assert_eq!(source.first_caption(&source.examples[0]), "");
    assert!(shards(folder.path(), "").is_err());
}

/// Headers with a wrong byte in each place, and the checksum that goes with it.
#[test]
fn a_damaged_header_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let members: [(&str, &[u8]); 3] = [
        ("a.png", &noise(1, 8)),
        ("a.txt", b"one"),
        ("b.txt", b"two"),
    ];
    let whole = tar(&members);
    for header in [0, 1024, 2048] {
        for place in (0..512).filter(|place| !(148..156).contains(place)) {
            for byte in [b'9', 0xff] {
                let mut bytes = whole.clone();
                bytes[header + place] = byte;
                let mut fixed = Header::from_byte_slice(&bytes[header..header + 512]).clone();
                fixed.set_cksum();
                bytes[header..header + 512].copy_from_slice(fixed.as_bytes());
                write(folder.path(), "a.tar", &bytes);
                let _ = shards(folder.path(), "max_skipped = 1.0");
            }
        }
    }
}
