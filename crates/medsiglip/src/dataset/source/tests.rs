use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::dataset::parquet_rows::row_count;
use crate::dataset::testing::{labelled, noise, open, pictures, write};
use crate::image::DecodeOptions;

fn csv(folder: &Path, text: &str, more: &str) -> Result<Source> {
    write(folder, "list.csv", text.as_bytes());
    open(&format!("manifest = \"list.csv\"\n{more}"), folder)
}

fn message(result: Result<Source>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

const LENIENT: &str = "captions = [\"caption\"]\nmax_skipped = 1.0";

#[test]
fn a_csv_gives_ids_captions_labels_and_groups() {
    let folder = pictures(2);
    let text = "\u{feff}case,path,caption,second,finding,patient\n\
                A,0.pgm,\"one, two\",three,Mass|Nodule,p1\nB,1.pgm,four,,,\n";
    let more = "id = \"case\"\ncaptions = [\"caption\", \"second\"]\nlabels = [\"finding\"]\ngroup = \"patient\"";
    let source = csv(folder.path(), text, more).unwrap();
    let expected = Example {
        id: "A".into(),
        picture: Location::File(folder.path().join("0.pgm")),
        place: format!("{}: row 1", folder.path().join("list.csv").display()),
        captions: vec!["one, two".into(), "three".into()],
        labels: [("finding".to_owned(), "Mass|Nodule".to_owned())].into(),
        group: Some("p1".into()),
    };
    assert_eq!(source.examples[0], expected);
    assert_eq!(source.examples[1].captions, ["four"]);
    assert!(source.examples[1].labels.is_empty() && source.examples[1].group.is_none());
    assert_eq!(source.skipped.total(), 0);
}

#[test]
fn json_lines_give_lists_and_numbers() {
    let folder = pictures(2);
    let text = "{\"image\": \"0.pgm\", \"captions\": [\"a\", \"b\"], \"grade\": 3}\n\n\
                {\"image\": \"1.pgm\", \"captions\": \"c\", \"grade\": null}\n";
    write(folder.path(), "list.jsonl", text.as_bytes());
    let toml = "manifest = \"list.jsonl\"\ncaptions = [\"captions\"]\nlabels = [\"grade\"]";
    let source = open(toml, folder.path()).unwrap();
    assert_eq!(source.examples[0].captions, ["a", "b"]);
    assert_eq!(source.examples[0].labels["grade"], "3");
    assert_eq!(source.examples[1].captions, ["c"]);
}

#[test]
fn a_folder_gives_labels_in_the_order_of_paths() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in (0..).zip(["b/2.pgm", "a/x/1.pgm", "a/0.pgm", "top.pgm"]) {
        write(folder.path(), name, &noise(number, 8));
    }
    write(folder.path(), "a/2.JFIF", &noise(9, 8));
    write(folder.path(), "a/notes.txt", b"no picture");
    write(folder.path(), ".hidden/3.pgm", b"no picture");
    let source = open("folder = \".\"\nlabels = [\"label\"]", folder.path()).unwrap();
    let ids: Vec<&str> = source.examples.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(
        ids,
        ["a/0.pgm", "a/2.JFIF", "a/x/1.pgm", "b/2.pgm", "top.pgm"]
    );
    assert_eq!(source.examples[2].labels["label"], "a");
    assert!(source.examples[4].labels.is_empty());
}

/// Two row groups of two rows; a list of captions; `pictures` of small pages.
fn write_parquet(path: &Path) {
    let schema = "message m { optional binary caption (UTF8); optional group list (LIST) { repeated group list { \
                  optional binary element (UTF8); } } required int32 grade; required group image { \
                  optional binary bytes; } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(1)
        .set_write_batch_size(1)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in 0..2_u64 {
        let mut rows = writer.next_row_group().unwrap();
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| ByteArray::from(*t))
                .collect::<Vec<_>>()
        };
        let mut column = rows.next_column().unwrap().unwrap();
        let captions = texts(&["first", "second"]);
        column
            .typed::<ByteArrayType>()
            .write_batch(&captions, Some(&[1, 1]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let list = texts(&["x", "y"]);
        column
            .typed::<ByteArrayType>()
            .write_batch(&list, Some(&[3, 3, 0]), Some(&[0, 1, 0]))
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&[7, 8], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let pictures = [2 * group, 2 * group + 1].map(|n| ByteArray::from(noise(n, 8)));
        column
            .typed::<ByteArrayType>()
            .write_batch(&pictures, Some(&[1, 1]), None)
            .unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_rows_hold_texts_lists_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("list.parquet"));
    let toml = "manifest = \"list.parquet\"\nimage_bytes = \"image.bytes\"\ncaptions = [\"caption\", \"list\"]\n\
                labels = [\"grade\"]";
    let source = open(toml, folder.path()).unwrap();
    assert_eq!(source.examples.len(), 4);
    assert_eq!(source.examples[2].captions, ["first", "x", "y"]);
    assert_eq!(source.examples[3].captions, ["second"]);
    assert_eq!(source.examples[3].labels["grade"], "8");
    let options = DecodeOptions::default();
    for (number, example) in (0..).zip(&source.examples) {
        let bytes = example.picture.read(&options.limits).unwrap();
        assert_eq!(bytes, noise(number, 8));
        assert_eq!(example.picture.open(&options).unwrap().width(), 8);
    }
    let limits = crate::image::Limits {
        max_file_bytes: 10,
        ..options.limits
    };
    let error = source.examples[0].picture.read(&limits).unwrap_err();
    assert_eq!(error.code(), "LIMIT_EXCEEDED");
}

#[test]
fn a_damaged_parquet_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.parquet");
    write_parquet(&path);
    let whole = std::fs::read(&path).unwrap();
    let toml = "manifest = \"list.parquet\"\nimage_bytes = \"image.bytes\"\ncaptions = [\"caption\", \"list\"]";
    let options = DecodeOptions::default();
    // Whatever byte is changed, the answer is a source or an error.
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(source) = open(toml, folder.path()) {
            source
                .examples
                .iter()
                .for_each(|e| drop(e.picture.open(&options)));
        }
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(message(open(toml, folder.path())).0, "BAD_CONFIG");
}

/// The file of [`write_parquet`] with another footer.
fn write_lies(path: &Path, lie: impl Fn(ParquetMetaData) -> ParquetMetaData) {
    write_parquet(path);
    let mut bytes = std::fs::read(path).unwrap();
    let file = std::fs::File::open(path).unwrap();
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .unwrap();
    let tail = bytes.len() - 8;
    let footer = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap());
    bytes.truncate(tail - footer as usize);
    ParquetMetaDataWriter::new(&mut bytes, &lie(metadata))
        .finish()
        .unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Each row group has `rows` rows, and its columns `values` values, or as many as they have.
fn claiming(rows: i64, values: Option<i64>) -> impl Fn(ParquetMetaData) -> ParquetMetaData {
    move |metadata| {
        let mut builder = metadata.into_builder();
        for group in builder.take_row_groups() {
            let mut group = group.into_builder().set_num_rows(rows);
            for column in group.take_columns() {
                let values = values.unwrap_or(column.num_values());
                let column = column.into_builder().set_num_values(values).build();
                group = group.add_column_metadata(column.unwrap());
            }
            builder = builder.add_row_group(group.build().unwrap());
        }
        builder.build()
    }
}

#[test]
fn a_footer_that_lies_about_rows_is_refused_without_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.parquet");
    let only_pictures = "manifest = \"list.parquet\"\nimage_bytes = \"image.bytes\"";
    let with_texts = format!("{only_pictures}\ncaptions = [\"caption\"]");
    let as_paths = "manifest = \"list.parquet\"\nimage = \"caption\"\nid = \"grade\"";
    let cases = [
        // More rows than there are values.
        (1 << 40, None, "BAD_CONFIG"),
        (3, None, "BAD_CONFIG"),
        (-1, None, "BAD_CONFIG"),
        // Consistent lies.
        (1 << 61, Some(1 << 61), "LIMIT_EXCEEDED"),
        (1 << 40, Some(1 << 40), "LIMIT_EXCEEDED"),
    ];
    for (rows, values, code) in cases {
        write_lies(&path, claiming(rows, values));
        for toml in [only_pictures, &with_texts, as_paths] {
            let (got, told) = message(open(toml, folder.path()));
            assert_eq!(got, code, "{rows} {toml}: {told}");
        }
    }
    // Within the limit, but of a file of some hundred bytes.
    write_lies(&path, claiming(1 << 20, Some(1 << 20)));
    for toml in [only_pictures, &with_texts] {
        let (code, told) = message(open(toml, folder.path()));
        assert_eq!(code, "BAD_CONFIG", "{told}");
        assert!(told.contains("more pictures than it has bytes"), "{told}");
    }
    write_lies(&path, |metadata| metadata);
    assert_eq!(
        open(only_pictures, folder.path()).unwrap().examples.len(),
        4
    );
}

/// The writer sums up the row groups; the footer's own count is the field before them.
#[test]
fn a_footer_that_contradicts_its_row_groups_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.parquet");
    write_parquet(&path);
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&std::fs::File::open(&path).unwrap())
        .unwrap();
    assert_eq!(row_count(&path, &metadata).unwrap(), 4);
    let file = metadata.file_metadata();
    for rows in [5, 3, 1 << 62, -4] {
        let file = parquet::file::metadata::FileMetaData::new(
            file.version(),
            rows,
            None,
            None,
            file.schema_descr_ptr(),
            None,
        );
        let lying = ParquetMetaData::new(file, metadata.row_groups().to_vec());
        let error = row_count(&path, &lying).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG", "{rows}");
    }
}

#[test]
fn rows_that_cannot_be_used_are_counted_and_listed() {
    let folder = pictures(3);
    write(folder.path(), "empty.pgm", b"");
    let text = b"path,caption\n0.pgm,a\nmissing.pgm,b\nempty.pgm,c\n1.pgm,\n,d\n2.pgm,e,f\n.,g\n2.pgm,h\0\nx\0y.pgm,i\nz.pgm,\xff\n";
    write(folder.path(), "list.csv", text);
    let source = open(
        &format!("manifest = \"list.csv\"\n{LENIENT}"),
        folder.path(),
    )
    .unwrap();
    assert_eq!(source.examples.len(), 1);
    let reasons: Vec<(&str, u64)> = source
        .skipped
        .reasons
        .iter()
        .map(|(r, n)| (r.as_str(), *n))
        .collect();
    let expected = [
        ("empty picture file", 1),
        ("missing picture file", 2),
        ("no caption, and no template that fits", 1),
        ("no picture path", 1),
        ("picture that is no file", 1),
        ("row with another number of cells than the header", 1),
        ("text that is not UTF-8", 1),
        ("text with a NUL byte", 1),
    ];
    assert_eq!(reasons, expected);
    let listed = source.skipped.listed.join("\n");
    assert!(
        listed.contains("list.csv: row 2: missing picture file"),
        "{listed}"
    );
    assert!(!listed.contains("missing.pgm"), "{listed}");
}

#[test]
fn too_many_unusable_rows_are_an_error_that_shows_no_cell() {
    let folder = pictures(1);
    let text = "path,caption\n0.pgm,a\nDOE_JOHN.pgm,b\n";
    let (code, told) = message(csv(folder.path(), text, "captions = [\"caption\"]"));
    assert_eq!(code, "BAD_ARGUMENT");
    assert!(told.contains("1 of 2") && told.contains("row 2"), "{told}");
    assert!(!told.contains("DOE"), "{told}");
    let half = "captions = [\"caption\"]\nmax_skipped = 0.5";
    assert!(csv(folder.path(), text, half).is_ok());
}

#[test]
fn two_rows_of_one_id_are_an_error_that_names_both() {
    let folder = pictures(2);
    let text = "path,caption\n0.pgm,a\n1.pgm,b\n0.pgm,c\n";
    let (code, told) = message(csv(folder.path(), text, LENIENT));
    assert_eq!(code, "BAD_CONFIG");
    assert!(told.contains("row 1") && told.contains("row 3"), "{told}");
}

#[test]
fn a_manifest_that_is_wrong_as_a_whole_is_an_error() {
    let folder = pictures(1);
    let path = folder.path();
    let cases = [
        (
            "path,caption\n0.pgm,a\n",
            "captions = [\"text\"]",
            "no column text",
        ),
        (
            "file,caption\n0.pgm,a\n",
            LENIENT,
            "no column image or path",
        ),
        ("", LENIENT, "no column image or path"),
        ("path,caption\n", LENIENT, "no example"),
        ("path,caption\nx.pgm,a\n", LENIENT, "no example"),
    ];
    for (text, more, expected) in cases {
        let (code, told) = message(csv(path, text, more));
        assert_eq!(code, "BAD_CONFIG", "{told}");
        assert!(told.contains(expected), "{told}");
    }
    write(path, "list.jsonl", b"{\"path\": \"0.pgm\"}\n");
    let toml = format!("manifest = \"list.jsonl\"\n{LENIENT}");
    assert!(message(open(&toml, path)).1.contains("no column caption"));
    write(path, "list.txt", b"");
    let toml = format!("manifest = \"list.txt\"\n{LENIENT}");
    assert!(message(open(&toml, path)).1.contains(".parquet"));
    let toml = format!("manifest = \"none.csv\"\n{LENIENT}");
    assert_eq!(message(open(&toml, path)).0, "IO_ERROR");
}

#[test]
fn json_lines_that_are_wrong_are_counted() {
    let folder = pictures(1);
    let deep = format!("{{\"path\": {}}}", "[".repeat(100_000));
    let text = format!(
        "{{\"path\": \"0.pgm\", \"caption\": \"a\"}}\n[1]\nx\n{{\"path\": {{}}, \"caption\": \"b\"}}\n\
         {{\"path\": \"0.pgm\", \"caption\": [[\"a\"]]}}\n{deep}\n"
    );
    write(folder.path(), "list.jsonl", text.as_bytes());
    let source = open(
        &format!("manifest = \"list.jsonl\"\n{LENIENT}"),
        folder.path(),
    )
    .unwrap();
    assert_eq!((source.examples.len(), source.skipped.total()), (1, 5));
}

#[test]
fn contradictions_in_the_configuration_are_refused() {
    let wrong = [
        "",
        "folder = \"a\"\nmanifest = \"b.csv\"",
        "folder = \"a\"\nimage = \"path\"",
        "folder = \"a\"\ngroup = \"patient\"",
        "manifest = \"b.csv\"\nimage = \"a\"\nimage_bytes = \"b\"",
        "manifest = \"b.csv\"\nimage_bytes = \"b\"",
        "folder = \"a\"\nweight = -1.0",
        "folder = \"a\"\nweight = nan",
        "folder = \"a\"\nmax_skipped = 2.0",
        "shards = \"a.tar\"\nshuffle_buffer = 0",
        "folder = \"a\"\ntemplates = [\"{\"]",
        "folder = \"a\"\n[label_texts.label]\nx = []",
        "folder = \"a\"\n[augment]\nhorizontal_flip = 2.0",
        "shards = \"none-*.tar\"",
    ];
    for toml in wrong {
        let (code, told) = message(open(toml, Path::new(".")));
        assert_eq!(code, "BAD_CONFIG", "{toml}");
        assert!(told.contains("source s"), "{told}");
    }
    let unknown = "name = \"s\"\nfolder = \"a\"\nwieght = 1.0";
    let error = toml::from_str::<SourceConfig>(unknown).unwrap_err();
    assert!(error.message().contains("wieght"), "{error}");
}

#[test]
fn a_group_that_no_example_has_is_refused() {
    let folder = pictures(3);
    let more = "captions = [\"caption\"]\ngroup = \"patient\"";
    let none = "path,caption,patient\n0.pgm,a,\n1.pgm,b, \n";
    let (code, told) = message(csv(folder.path(), none, more));
    assert_eq!(code, "BAD_CONFIG");
    assert!(
        told.contains("source s: group: no example has a value of patient"),
        "{told}"
    );
    let some = "path,caption,patient\n0.pgm,a,p1\n1.pgm,b,\n2.pgm,c,p2\n";
    let warnings = csv(folder.path(), some, more).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("1 of 3 examples have no value of patient"),
        "{warnings:?}"
    );
    let all = "path,caption,patient\n0.pgm,a,p1\n1.pgm,b,p1\n";
    assert!(csv(folder.path(), all, more).unwrap().warnings.is_empty());
}

#[test]
fn a_source_that_is_learned_from_must_have_texts() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a/0.pgm", &noise(0, 8));
    let open = |more: &str| open(&format!("folder = \".\"\n{more}"), folder.path()).unwrap();
    let error = open("").expect_texts().unwrap_err();
    assert_eq!(error.code(), "BAD_CONFIG");
    assert!(
        error
            .to_string()
            .contains("source s: no example has a text")
    );
    open("weight = 0.0").expect_texts().unwrap();
    open("templates = [\"{label}\"]").expect_texts().unwrap();
}

#[test]
fn a_label_with_texts_and_no_example_is_a_warning() {
    let texts = "[label_texts.label]\na = [\"x\"]\nb = [\"x\"]\nc = [\"x\"]\nd = [\"x\"]";
    let (_folder, source) = labelled(6, texts);
    assert_eq!(
        source.warnings,
        ["source s: label = d has texts and no example"]
    );
}

proptest! {
    /// Whatever a manifest holds, the answer is a source or an error.
    #[test]
    fn no_manifest_leads_to_a_panic(
        start in prop::sample::select(vec!["path,caption\n0.pgm,a\n", "", "{\"path\": \"0.pgm\", \"caption\": \"a\"}\n"]),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\"\n,{}[]:".to_vec())], 0..200),
        extension in prop::sample::select(vec!["csv", "jsonl", "parquet"]),
    ) {
        let folder = pictures(1);
        let name = format!("list.{extension}");
        write(folder.path(), &name, &[start.as_bytes(), &bytes].concat());
        let _ = open(&format!("manifest = \"{name}\"\n{LENIENT}"), folder.path());
    }
}
