//! The file formats hold the same numbers; files appear whole, and nothing is replaced unasked.

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use npyz::NpyFile;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::folder::{Folder, WIDTH, column, embedding, json_lines, permissions_bind};

const ARGS: [&str; 6] = ["embed", "scans", "--text", "a scan", "--batch-size", "2"];

fn written(format: &str) -> Folder {
    let folder = Folder::with_pictures(3);
    folder.write("scans/bad.png", "");
    let output = format!("out.{format}");
    folder
        .run(&[&ARGS[..], &["--output", &output]].concat())
        .expect(1);
    folder
}

/// Ids and numbers as JSON Lines gives them on standard output.
fn expected(folder: &Folder) -> (Vec<String>, Vec<f32>) {
    let answer = folder.run(&ARGS).expect(1);
    let mut lines = answer.json();
    lines.retain(|line| line["error"].is_null());
    let ids = column(&lines, "id")
        .iter()
        .map(ToString::to_string)
        .collect();
    (ids, lines.iter().flat_map(embedding).collect())
}

#[test]
fn jsonl_to_a_file_is_what_standard_output_gets() {
    let folder = written("jsonl");
    assert_eq!(folder.outputs(), ["out.jsonl"]);
    assert_eq!(folder.text("out.jsonl"), folder.run(&ARGS).expect(1).stdout);
}

#[test]
fn csv_holds_the_same_numbers() {
    let folder = written("csv");
    assert_eq!(
        folder.outputs(),
        ["out.csv", "out.csv.errors.jsonl", "out.csv.provenance.json"]
    );
    let text = folder.text("out.csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().len(), 2 + WIDTH);
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    for record in reader.records().map(Result::unwrap) {
        ids.push(record[0].to_owned());
        numbers.extend(
            record
                .iter()
                .skip(2)
                .map(|cell| cell.parse::<f32>().unwrap()),
        );
    }
    assert_eq!((ids, numbers), expected(&folder));
    let errors = json_lines(&folder.text("out.csv.errors.jsonl"));
    assert_eq!(errors[0]["error"]["code"], "BAD_IMAGE");
    assert_eq!(
        json_lines(&folder.text("out.csv.provenance.json"))[0]["model"],
        "tiny"
    );
}

#[test]
fn npy_holds_the_same_numbers() {
    let folder = written("npy");
    let files = [
        "out.ids.csv",
        "out.npy",
        "out.npy.errors.jsonl",
        "out.npy.provenance.json",
    ];
    assert_eq!(folder.outputs(), files);
    let bytes = folder.read("out.npy");
    let array = NpyFile::new(&bytes[..]).unwrap();
    assert_eq!(array.shape(), [4, WIDTH as u64]);
    let (ids, numbers) = expected(&folder);
    assert_eq!(array.into_vec::<f32>().unwrap(), numbers);
    let listed = folder.text("out.ids.csv");
    let rows: Vec<String> = ids
        .iter()
        .enumerate()
        .map(|(row, id)| format!("{row},{id},"))
        .collect();
    assert!(
        listed
            .lines()
            .skip(1)
            .zip(&rows)
            .all(|(line, row)| line.starts_with(row)),
        "{listed}"
    );
}

#[test]
fn parquet_holds_the_same_numbers_and_its_provenance() {
    let folder = written("parquet");
    assert_eq!(
        folder.outputs(),
        ["out.parquet", "out.parquet.errors.jsonl"]
    );
    let file = std::fs::File::open(folder.path("out.parquet")).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = builder
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap();
    let provenance = metadata
        .iter()
        .find(|entry| entry.key == "medsiglip.provenance")
        .unwrap();
    assert_eq!(
        json_lines(provenance.value.as_ref().unwrap())[0]["model"],
        "tiny"
    );
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    for batch in builder.build().unwrap().map(Result::unwrap) {
        ids.extend(
            batch
                .column(0)
                .as_string::<i32>()
                .iter()
                .map(|id| id.unwrap().to_owned()),
        );
        let embeddings = batch.column(2).as_fixed_size_list();
        assert_eq!(embeddings.value_length(), WIDTH as i32);
        numbers.extend(embeddings.values().as_primitive::<Float32Type>().values());
    }
    assert_eq!((ids, numbers), expected(&folder));
}

#[test]
fn an_existing_output_is_kept_unless_told_otherwise() {
    let folder = Folder::with_pictures(1);
    folder.write("out.csv.provenance.json", "precious");
    let args = ["embed", "scans", "--output", "out.csv"];
    let answer = folder.run(&args).expect(2);
    assert!(
        answer.stderr.contains("hint: replace it with --overwrite"),
        "{}",
        answer.stderr
    );
    assert_eq!(folder.outputs(), ["out.csv.provenance.json"]);
    folder
        .run(&[&args[..], &["--overwrite"]].concat())
        .expect(0);
    assert_ne!(folder.text("out.csv.provenance.json"), "precious");
}

#[test]
fn overwriting_removes_the_list_of_failures_that_no_longer_hold() {
    let folder = written("csv");
    folder.picture("scans/bad.png", 9);
    let args = ["embed", "scans", "--output", "out.csv", "--overwrite"];
    folder.run(&args).expect(0);
    assert_eq!(folder.outputs(), ["out.csv", "out.csv.provenance.json"]);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_any_work() {
    let folder = Folder::with_pictures(1);
    std::fs::create_dir(folder.path("taken.csv")).unwrap();
    let cases = [
        ("nowhere/out.csv", "create the folder first"),
        ("taken.csv", "is a folder"),
        ("out.unknown", "--format"),
    ];
    for (output, expected) in cases {
        let answer = folder
            .run(&["embed", "scans", "--output", output])
            .expect(2);
        assert!(answer.stderr.contains(expected), "{answer:#?}");
    }
    let answer = folder.run(&["embed", "scans", "--format", "npy"]).expect(2);
    assert!(answer.stderr.contains("standard output"), "{answer:#?}");
    assert_eq!(folder.outputs(), ["taken.csv"]);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_an_io_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::with_pictures(1);
    let locked = folder.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if !permissions_bind(&locked) {
        eprintln!("skipped: this user may write into read-only folders");
        return;
    }
    let answer = folder
        .run(&["embed", "scans", "--output", "locked/out.csv"])
        .expect(2);
    assert!(answer.stderr.contains("error[IO_ERROR]"), "{answer:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_io_error_and_a_closed_pipe_is_none() {
    let folder = Folder::with_pictures(1);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = folder
        .command(&["embed", "scans"])
        .stdout(full)
        .output()
        .unwrap();
    let answer = crate::folder::answer(output).expect(2);
    assert!(
        answer.stderr.contains("error[IO_ERROR]: cannot write"),
        "{answer:#?}"
    );

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = folder
        .command(&["embed", "scans"])
        .stdout(writer)
        .output()
        .unwrap();
    let answer = crate::folder::answer(output).expect(0);
    assert_eq!(answer.stderr, "");
}
