//! Memory that files claim, and attributes that cannot be read.

use super::*;

/// A `.npy` file: a header, and as many bytes as are given.
fn npy(descr: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let length = u16::try_from(dictionary.len()).unwrap().to_le_bytes();
    [
        b"\x93NUMPY\x01\x00",
        &length[..],
        dictionary.as_bytes(),
        numbers,
    ]
    .concat()
}

/// An `.npz` file with these arrays, packed.
fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    use std::io::Write;

    let mut zip = npyz::zip::ZipWriter::new(fs::File::create(path).unwrap());
    let packed = npyz::zip::write::FileOptions::default();
    let packed = packed.compression_method(npyz::zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), packed).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A file that claims or unpacks to more ids than there may be, without a number in an embedding or with one, is refused
/// before memory is taken for them.
#[test]
fn ids_are_limited_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.npz");
    let two = npy("<f4", "(2, 1)", &[0; 8]);
    let read = |ids: Vec<u8>, embedding: &Vec<u8>, max_id_bytes: u64| {
        npz(&path, &[("ids", ids), ("embedding", embedding.clone())]);
        let options = TableOptions {
            max_id_bytes,
            ..TableOptions::default()
        };
        EmbeddingTable::read(&path, &options)
    };
    let ids = || npy("|S2", "(2,)", b"aabb");
    assert_eq!(read(ids(), &two, 2 * 66).unwrap().ids(), ["aa", "bb"]);
    assert_eq!(
        read(ids(), &two, 2 * 66 - 1).unwrap_err().code(),
        "LIMIT_EXCEEDED"
    );
    let default = TableOptions::default().max_id_bytes;
    // Claims: 2^62 ids without a byte, ids of 64 KiB each, and products beyond 64 bits.
    for (descr, shape) in [
        ("|S1", "(4611686018427387904,)"),
        ("<U16384", "(70000,)"),
        ("<U16384", "(18446744073709551615,)"),
    ] {
        let error = read(npy(descr, shape, b""), &two, default).unwrap_err();
        assert_eq!(error.code(), "LIMIT_EXCEEDED", "{shape}");
    }
    // A bomb: 64 MiB of zeros in 64 KiB, of which the header says nothing.
    let bomb = npy("|S2", "(2,)", &vec![0; 64 << 20]);
    assert_eq!(read(bomb, &two, default).unwrap_err().code(), "BAD_CONFIG");
    let bomb = npy("<f4", "(2, 1)", &vec![0; 64 << 20]);
    assert_eq!(
        read(ids(), &bomb, default).unwrap_err().code(),
        "BAD_CONFIG"
    );
    // Less than it says.
    let short = npy("<f4", "(2, 1000000)", &[0; 8]);
    assert_eq!(
        read(ids(), &short, default).unwrap_err().code(),
        "BAD_CONFIG"
    );
    for none in ["(4611686018427387904, 0)", "(0,)"] {
        let (code, message) = code_and_message(read(ids(), &npy("<f4", none, b""), default));
        assert_eq!(code, "BAD_CONFIG");
        assert!(message.contains("embeddings without numbers"), "{message}");
    }
}

#[test]
fn a_file_of_ids_is_limited_by_the_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.npy");
    fs::write(&path, npy("<f4", "(2, 1)", &[0; 8])).unwrap();
    let read = |name: &str, text: &str, max_id_bytes: u64| {
        let ids_file = folder.path().join(name);
        fs::write(&ids_file, text).unwrap();
        let options = TableOptions {
            ids_file: Some(ids_file),
            max_id_bytes,
            ..TableOptions::default()
        };
        EmbeddingTable::read(&path, &options)
    };
    for (name, text) in [("i.csv", "id\na\nb\nc\n"), ("i.txt", "a\nb\nc\n")] {
        let (code, message) = code_and_message(read(name, text, 1 << 20));
        assert_eq!(code, "BAD_CONFIG");
        assert!(
            message.contains("more than one for each of 2 embeddings"),
            "{message}"
        );
    }
    assert_eq!(read("i.txt", "a\nb\n", 130).unwrap().ids(), ["a", "b"]);
    assert_eq!(
        read("i.txt", "a\nb\n", 127).unwrap_err().code(),
        "LIMIT_EXCEEDED"
    );
    let long = "a".repeat(1000);
    assert_eq!(
        read("i.txt", &long, 500).unwrap_err().code(),
        "LIMIT_EXCEEDED"
    );
    // A product beyond 64 bits, and embeddings of no number.
    for shape in [
        "(4611686018427387904, 4611686018427387904)",
        "(4611686018427387904, 0)",
    ] {
        fs::write(&path, npy("<f8", shape, b"")).unwrap();
        assert!(
            ["LIMIT_EXCEEDED", "BAD_CONFIG"]
                .contains(&read("i.txt", "a\n", 130).unwrap_err().code())
        );
    }
}

/// An HDF5 file with two embeddings of one number, and what `more` puts into it.
fn hdf5(path: &Path, more: impl FnOnce(&rust_hdf5::H5File)) -> Result<EmbeddingTable> {
    let file = rust_hdf5::H5File::create(path).unwrap();
    let data = file.new_dataset::<f32>().shape([2, 1]).create("embedding");
    data.unwrap().write_raw(&[1.0f32, 2.0]).unwrap();
    more(&file);
    file.close().unwrap();
    EmbeddingTable::read(path, &TableOptions::default())
}

#[test]
fn provenance_of_hdf5_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.h5");
    let ids = |file: &rust_hdf5::H5File| {
        let ids = file.new_dataset::<i32>().shape([2]).create("id").unwrap();
        ids.write_raw(&[1i32, 2]).unwrap();
    };
    assert_eq!(hdf5(&path, ids).unwrap().provenance(), None);
    let json = serde_json::to_string(&provenance()).unwrap();
    let table = hdf5(&path, |file| {
        ids(file);
        file.set_attr_string("medsiglip.provenance", &json).unwrap();
    });
    assert_eq!(table.unwrap().provenance(), Some(&provenance()));
    // The text lies in a heap, behind that one's header: wherever this is damaged, the file is not read as one that does
    // not say how it was made.
    let whole = fs::read(&path).unwrap();
    let find = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).rposition(|at| at == part);
    let text = find(&whole, json.as_bytes()).unwrap();
    let heap = find(&whole[..text], b"GCOL").unwrap();
    let mut unreadable = 0;
    for place in heap..text {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x5a;
        fs::write(&path, bytes).unwrap();
        match EmbeddingTable::read(&path, &TableOptions::default()) {
            Ok(table) => assert_eq!(table.provenance(), Some(&provenance()), "{place}"),
            Err(error) => {
                let told = "the attribute medsiglip.provenance cannot be read";
                unreadable += usize::from(error.to_string().contains(told));
            }
        }
    }
    assert!(unreadable >= 4, "{unreadable}");
}

#[test]
fn ids_of_hdf5_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.h5");
    let table = hdf5(&path, |file| {
        drop(file.write_vlen_strings("id", &["aa", "bb"]).unwrap())
    });
    assert_eq!(table.unwrap().ids(), ["aa", "bb"]);
    let read = |max_id_bytes: u64| {
        let options = TableOptions {
            max_id_bytes,
            ..TableOptions::default()
        };
        EmbeddingTable::read(&path, &options)
    };
    assert_eq!(read(2 * 64).unwrap_err().code(), "LIMIT_EXCEEDED");
    read(2 * (64 + 16)).unwrap();
    // The second id is made to lie where the first does.
    let mut bytes = fs::read(&path).unwrap();
    let is_id = |at: &usize| {
        let (one, two) = (&bytes[*at..at + 16], &bytes[at + 16..at + 32]);
        one[..4] == [2, 0, 0, 0] && one[..12] == two[..12] && one[4..12] != [0; 8]
    };
    let at = (0..bytes.len() - 32).find(is_id).unwrap();
    bytes.copy_within(at..at + 16, at + 16);
    fs::write(&path, bytes).unwrap();
    let (code, message) = code_and_message(read(1 << 20));
    assert_eq!(code, "BAD_CONFIG");
    assert!(message.contains("two texts at one place"), "{message}");
    // Embeddings without numbers, of so many that ids alone would fill the memory.
    let file = rust_hdf5::H5File::create(&path).unwrap();
    let none = file
        .new_dataset::<f32>()
        .shape([1 << 30, 0])
        .create("embedding");
    drop(none.unwrap());
    file.close().unwrap();
    let (code, message) = code_and_message(read(1 << 20));
    assert_eq!(code, "BAD_CONFIG");
    assert!(message.contains("embeddings without numbers"), "{message}");
}
