mod limits;
mod wide;

use std::fs;

use super::*;
use crate::embedding;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/golden/embedding_tables")
        .join(name)
}

fn read(name: &str) -> Result<EmbeddingTable> {
    EmbeddingTable::read(golden(name), &TableOptions::default())
}

/// What all of them hold: ids and numbers as Python printed them.
fn expected(half: bool) -> (Vec<String>, Vec<f32>) {
    let name = if half {
        "expected_f16.csv"
    } else {
        "expected.csv"
    };
    let text = fs::read_to_string(golden(name)).unwrap();
    let (mut ids, mut data) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut cells = line.split(',');
        ids.push(cells.next().unwrap().to_owned());
        data.extend(cells.map(|cell| cell.parse::<f32>().unwrap()));
    }
    (ids, data)
}

fn code_and_message(result: Result<EmbeddingTable>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn every_format_and_type_gives_the_same_table() {
    let files = [
        "f16.parquet",
        "f32.parquet",
        "f64.parquet",
        "f16.npy",
        "f32.npy",
        "f64.npy",
        "f32be.npy",
        "f16.h5",
        "f32.h5",
        "f64.h5",
        "plain.npz",
        "wide.parquet",
        "f32.tfrecord",
        "expected.csv",
    ];
    for name in files {
        let table = read(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (ids, data) = expected(name.starts_with("f16"));
        assert_eq!(table.ids(), ids, "{name}");
        assert_eq!(table.embeddings().data(), data, "{name}");
        assert_eq!(
            (table.embeddings().dim(), table.provenance()),
            (5, None),
            "{name}"
        );
    }
    let (_, data) = expected(false);
    let numbers: Vec<String> = (0..7).map(|i| i.to_string()).collect();
    let table = read("lists_number_ids.parquet").unwrap();
    assert_eq!(
        (table.ids(), table.embeddings().data()),
        (&numbers[..], &data[..])
    );
    let table = read("packed.npz").unwrap();
    assert_eq!(table.ids()[6], "p6");
    assert_eq!(table.embeddings().data(), data);
    let table = read("slide.h5").unwrap();
    assert_eq!(table.ids()[3], "slide#x=1344,y=896");
    assert_eq!(table.embeddings().data(), data);
    let table = read("one.npz").unwrap();
    assert_eq!(
        (table.ids(), table.embeddings().data()),
        (&["one".to_owned()][..], &data[..5])
    );
}

#[test]
fn a_folder_of_records_without_ids_is_one_table() {
    let table = read("cxr_foundation").unwrap();
    assert_eq!(table.ids(), ["p00", "p01"]);
    assert_eq!(table.embeddings().data(), &expected(false).1[..10]);
}

/// A table by the names that are asked for.
fn named(id: Option<&str>, embedding: Option<&str>, file: &str) -> Result<EmbeddingTable> {
    let options = TableOptions {
        id: id.map(str::to_owned),
        embedding: embedding.map(str::to_owned),
        ..TableOptions::default()
    };
    EmbeddingTable::read(golden(file), &options)
}

#[test]
fn names_that_are_asked_for() {
    let table = named(Some("label"), Some("vector"), "f32.parquet").unwrap();
    assert_eq!(table.ids()[2], "2");
    assert_eq!(
        named(None, Some("thumbnail"), "lists_number_ids.parquet")
            .unwrap()
            .embeddings()
            .dim(),
        1
    );
    assert_eq!(
        named(Some("label"), None, "f32.tfrecord").unwrap().ids()[5],
        "5"
    );
    assert_eq!(
        named(None, Some("features"), "plain.npz")
            .unwrap()
            .ids()
            .len(),
        7
    );
}

#[test]
fn names_that_are_not_there() {
    for (id, embedding, file, wrong) in [
        (
            Some("name"),
            None,
            "f32.parquet",
            "there is no column of ids (texts or whole numbers): name: ",
        ),
        (
            None,
            Some("label"),
            "f32.parquet",
            "there is no column of lists of floats label, and there are no columns of floats label0, label1, ...: ",
        ),
        (Some("name"), None, "plain.npz", "there is no array name: "),
        (None, Some("y"), "f32.h5", "expected a data set y: "),
        (
            Some("name"),
            None,
            "f32.h5",
            "expected a data set of ids: name (or coords): ",
        ),
        (
            None,
            Some("y"),
            "f32.tfrecord",
            "row 1: no list of floats called y: ",
        ),
        (Some("name"), None, "f32.tfrecord", "row 1: no id: "),
        (
            Some("name"),
            None,
            "expected.csv",
            "there is no column of ids: name: ",
        ),
    ] {
        let (code, message) = code_and_message(named(id, embedding, file));
        assert_eq!(code, "BAD_CONFIG", "{file}");
        assert!(message.contains(wrong), "{message}");
    }
}

#[test]
fn ids_in_a_file_of_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let npy = folder.path().join("x.npy");
    fs::copy(golden("f32.npy"), &npy).unwrap();
    let (code, message) = code_and_message(EmbeddingTable::read(&npy, &TableOptions::default()));
    assert_eq!(code, "BAD_CONFIG");
    assert!(
        message.contains("expected the ids in STEM.ids.csv"),
        "{message}"
    );
    let ids = folder.path().join("list.csv");
    let read = |text: &str| {
        fs::write(&ids, text).unwrap();
        let options = TableOptions {
            ids_file: Some(ids.clone()),
            ..TableOptions::default()
        };
        EmbeddingTable::read(&npy, &options)
    };
    let rows = |count: usize| {
        (0..count)
            .map(|i| format!("{i},p{i},image\n"))
            .collect::<String>()
    };
    assert_eq!(
        read(&format!("row,id,kind\n{}", rows(7))).unwrap().ids()[6],
        "p6"
    );
    let (_, message) = code_and_message(read(&format!("row,id,kind\n{}", rows(6))));
    assert!(message.contains("7 embeddings and 6 ids"), "{message}");
    let (_, message) = code_and_message(read("row,id\n0,a\n2,b\n"));
    assert!(
        message.contains("ids: row 2: expected 1 in the column row"),
        "{message}"
    );
}

fn jsonl(lines: &[&str]) -> Result<EmbeddingTable> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    EmbeddingTable::read(&path, &TableOptions::default())
}

#[test]
fn json_lines() {
    let table = jsonl(&[
        r#"{"id":"a","kind":"image","embedding":[1,-2.5]}"#,
        r#"{"id":"bad","kind":"image","error":{"code":"BAD_IMAGE","message":"m"}}"#,
        "",
        r#"{"id":7,"embedding":[0.1,3e-3]}"#,
    ])
    .unwrap();
    assert_eq!(table.ids(), ["a", "7"]);
    assert_eq!(table.embeddings().data(), [1.0, -2.5, 0.1, 3e-3]);
    for (line, wrong) in [
        ("{", "row 2: no JSON object"),
        (
            r#"{"embedding":[1,2]}"#,
            "row 2: no id, as a text or a number",
        ),
        (r#"{"id":"b"}"#, "row 2: no embedding, as a list of numbers"),
        (
            r#"{"id":"b","embedding":[1,null]}"#,
            "row 2: an embedding with a number that is missing, NaN, infinite",
        ),
        (
            r#"{"id":"b","embedding":[1,1e39]}"#,
            "row 2: an embedding with a number that is missing, NaN, infinite",
        ),
        (
            r#"{"id":"b","embedding":[1,2,3]}"#,
            "row 2: expected 2 numbers as in the rows before, got 3",
        ),
        (
            r#"{"id":"b","embedding":[]}"#,
            "row 2: an embedding without numbers",
        ),
        (r#"{"id":"","embedding":[1,2]}"#, "row 2: no id"),
        (
            r#"{"id":"b","embedding":[1,2],"provenance":1}"#,
            "row 2: provenance that cannot be read",
        ),
    ] {
        let (code, message) = code_and_message(jsonl(&[r#"{"id":"a","embedding":[1,2]}"#, line]));
        assert_eq!(code, "BAD_CONFIG", "{line}");
        assert!(message.contains(wrong), "{message}");
    }
}

#[test]
fn an_id_that_is_there_twice() {
    let a = r#"{"id":"a","embedding":[1,2]}"#;
    let table = jsonl(&[a, r#"{"id":"b","embedding":[3,4]}"#, a]).unwrap();
    assert_eq!(table.ids(), ["a", "b"]);
    let (code, message) = code_and_message(jsonl(&[a, r#"{"id":"a","embedding":[1,2.5]}"#]));
    assert_eq!(code, "BAD_CONFIG");
    assert!(message.contains("row 2: the id of row 1 of "), "{message}");
    assert!(message.contains("with another embedding: "), "{message}");
}

fn provenance() -> Provenance {
    Provenance {
        medsiglip: "0.1.0".into(),
        model: "m".into(),
        checksum: "c".into(),
        config_checksum: "d".into(),
        device: "cpu".into(),
        dtype: "f32".into(),
        precision: None,
        recipe: "hf".into(),
        pad: "none".into(),
        canonicalizer: None,
        resolution: 448,
        positions: None,
        normalized: true,
    }
}

#[test]
fn provenance_is_kept_and_never_mixed() {
    let line = |id: &str, provenance: &Provenance| {
        let json = serde_json::to_string(provenance).unwrap();
        format!(r#"{{"id":"{id}","embedding":[1,2],"provenance":{json}}}"#)
    };
    let other = Provenance {
        normalized: false,
        ..provenance()
    };
    let table = jsonl(&[&line("a", &provenance()), &line("b", &provenance())]).unwrap();
    assert_eq!(table.provenance(), Some(&provenance()));
    for second in [
        line("b", &other),
        r#"{"id":"b","embedding":[1,2]}"#.to_owned(),
    ] {
        let (_, message) = code_and_message(jsonl(&[&line("a", &provenance()), &second]));
        assert!(
            message.contains("made in another way than those before"),
            "{message}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.csv");
    fs::write(&path, "id,kind,e0,e1\na,image,1.0,2.0\n").unwrap();
    let json = serde_json::to_string(&provenance()).unwrap();
    fs::write(folder.path().join("e.csv.provenance.json"), json).unwrap();
    let table = EmbeddingTable::read(&path, &TableOptions::default()).unwrap();
    assert_eq!(table.provenance(), Some(&provenance()));
}

#[test]
fn wide_csv() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.csv");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        EmbeddingTable::read(&path, &TableOptions::default())
    };
    assert_eq!(
        read("1,0,image_id\n2,1,a\n").unwrap().embeddings().data(),
        [1.0, 2.0]
    );
    for (text, wrong) in [
        (
            "id,e0,e2\na,1,2\n",
            "expected columns PREFIX0, PREFIX1, ... (or from PREFIX1 on), each number once",
        ),
        (
            "id,kind\na,image\n",
            "there are no columns of floats PREFIX0, PREFIX1",
        ),
        (
            "id,e0,e1,t1,t2\na,1,2,0,1\n",
            "there are several families of columns",
        ),
        (
            "id,e0,e1\na,1,x\n",
            "row 1: an embedding with a number that is missing",
        ),
        (
            "id,e0,e1\na,1,NaN\n",
            "row 1: an embedding with a number that is missing",
        ),
        (
            "id,e0,e1\na,1\n",
            "row 1: another number of cells than the header",
        ),
        ("id,e0,e1\n", "there is no embedding"),
    ] {
        let (code, message) = code_and_message(read(text));
        assert_eq!(code, "BAD_CONFIG", "{text}");
        assert!(message.contains(wrong), "{message}");
    }
}

#[test]
fn nulls_pickles_and_unknown_files() {
    let (code, message) = code_and_message(read("null.parquet"));
    assert_eq!(code, "BAD_CONFIG");
    assert!(
        message.contains("row 2: an embedding with a number that is missing"),
        "{message}"
    );
    let (code, message) = code_and_message(read("pickled.npz"));
    assert_eq!(code, "UNSUPPORTED");
    assert!(message.contains("pickled Python object"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let empty = EmbeddingTable::read(folder.path(), &TableOptions::default());
    assert_eq!(code_and_message(empty).0, "BAD_ARGUMENT");
    let path = folder.path().join("e.pt");
    fs::write(&path, "x").unwrap();
    let unknown = EmbeddingTable::read(&path, &TableOptions::default());
    assert_eq!(code_and_message(unknown).0, "BAD_ARGUMENT");
    let missing = EmbeddingTable::read(folder.path().join("none.npz"), &TableOptions::default());
    assert_eq!(code_and_message(missing).0, "IO_ERROR");
}

#[test]
fn memory_is_limited_before_it_is_taken() {
    let options = TableOptions {
        max_bytes: 7 * 5 * 4,
        ..TableOptions::default()
    };
    let small = TableOptions {
        max_bytes: 7 * 5 * 4 - 1,
        ..TableOptions::default()
    };
    for name in [
        "f32.parquet",
        "f32.npy",
        "plain.npz",
        "f32.h5",
        "f32.tfrecord",
        "expected.csv",
    ] {
        EmbeddingTable::read(golden(name), &options).unwrap();
        let error = EmbeddingTable::read(golden(name), &small).unwrap_err();
        assert_eq!(error.code(), "LIMIT_EXCEEDED", "{name}");
    }
}

/// Every file of every format, cut at every length and with every byte changed, is a table or an error.
#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "f32.parquet",
        "f32.npy",
        "plain.npz",
        "packed.npz",
        "f16.h5",
        "f32.tfrecord",
    ] {
        let whole = fs::read(golden(name)).unwrap();
        let path = folder.path().join(name);
        let ids = folder.path().join("f32.ids.txt");
        fs::copy(golden("f32.ids.txt"), ids).unwrap();
        let expected = read(name).unwrap();
        let try_read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            EmbeddingTable::read(&path, &TableOptions::default())
        };
        for end in (0..whole.len()).step_by(whole.len() / 120 + 1) {
            // A record that is cut off between two records is whole.
            let table = try_read(&whole[..end]);
            let shorter = |table: &EmbeddingTable| table.ids().len() < expected.ids().len();
            assert!(
                table.as_ref().err().is_some() || shorter(&table.unwrap()),
                "{name} cut at {end}"
            );
        }
        for place in (0..whole.len()).step_by(whole.len() / 250 + 1) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x5a;
            let table = try_read(&bytes);
            if name == "f32.tfrecord" {
                assert_eq!(code_and_message(table).0, "BAD_CONFIG", "{place}");
            }
        }
    }
}

#[test]
fn join_in_the_order_asked_for() {
    let rows = (0..4).flat_map(|i| [i as f32, 10.0 + i as f32]).collect();
    let embeddings = embedding::Embeddings::new(2, rows).unwrap();
    let ids = ["x/a.png", "x/b.png", "y/c.dcm", "z/c.png"]
        .map(str::to_owned)
        .to_vec();
    let table = EmbeddingTable::new(ids.clone(), embeddings.clone(), None).unwrap();
    let joined = table
        .join(&["y/c.dcm", "nobody", "x/a.png", "y/c.dcm"], IdMatch::Exact)
        .unwrap();
    assert_eq!(joined.embeddings.data(), [2.0, 12.0, 0.0, 10.0, 2.0, 12.0]);
    assert_eq!(
        (joined.found, joined.missing, joined.unused),
        (vec![0, 2, 3], vec![1], vec![1, 3])
    );

    let joined = table.join(&["b.png", "c.png"], IdMatch::FileName).unwrap();
    assert_eq!(joined.embeddings.data(), [1.0, 11.0, 3.0, 13.0]);
    let joined = table.join(&["images/b.jpeg"], IdMatch::FileStem).unwrap();
    assert_eq!(
        (joined.embeddings.data(), joined.unused),
        (&[1.0, 11.0][..], vec![0, 2, 3])
    );
    // Two rows are called c, and it is not said which.
    let error = table.join(&["b", "c"], IdMatch::FileStem).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(
        error
            .to_string()
            .contains("several rows have the name of id 2"),
        "{error}"
    );
    let error = table.join(&["b.png"], IdMatch::Exact).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("none of 1 ids is among the 4 of the table"),
        "{error}"
    );

    let twice = vec!["a".to_owned(); 4];
    let error = EmbeddingTable::new(twice, embeddings.clone(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "embeddings: the id of row 1 is there twice"
    );
    assert!(EmbeddingTable::new(ids[..3].to_vec(), embeddings, None).is_err());
}

#[test]
fn sharded_names_have_a_format() {
    let is = |name: &str| Format::of(Path::new(name)).map(|format| format!("{format:?}"));
    assert_eq!(
        is("a/train.tfrecord-00003-of-00010").as_deref(),
        Some("TfRecord")
    );
    assert_eq!(is("A.H5").as_deref(), Some("Hdf5"));
    assert_eq!(is("a.tfrecord-x-of-00010"), None);
    assert_eq!(is("noextension"), None);
}
