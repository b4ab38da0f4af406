//! Tables with a column a number.

use super::*;

/// A Parquet file with ids and these columns, each of three numbers; `INT` for whole ones.
fn wide(folder: &Path, columns: &[&str]) -> PathBuf {
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    let mut schema = "message m { required binary id (UTF8);".to_owned();
    columns
        .iter()
        .for_each(|column| schema += &format!(" required {column};"));
    let schema = parse_message_type(&format!("{schema} }}")).unwrap();
    let path = folder.join("wide.parquet");
    let file = fs::File::create(&path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ids = ["a", "b", "c"].map(ByteArray::from);
    column
        .typed::<ByteArrayType>()
        .write_batch(&ids, None, None)
        .unwrap();
    column.close().unwrap();
    for (number, kind) in columns.iter().enumerate() {
        let values = [0, 1, 2].map(|row| (10 * number + row) as f32);
        let mut column = group.next_column().unwrap().unwrap();
        match kind.split(' ').next() {
            Some("float") => column.typed::<FloatType>().write_batch(&values, None, None),
            Some("double") => {
                let values = values.map(f64::from);
                column
                    .typed::<DoubleType>()
                    .write_batch(&values, None, None)
            }
            _ => {
                let values = values.map(|value| value as i32);
                column.typed::<Int32Type>().write_batch(&values, None, None)
            }
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    path
}

/// The first row of a wide table, or what is wrong with it.
fn wide_row(columns: &[&str], embedding: Option<&str>) -> Result<Vec<f32>, String> {
    let folder = tempfile::tempdir().unwrap();
    let options = TableOptions {
        embedding: embedding.map(str::to_owned),
        ..TableOptions::default()
    };
    let table = EmbeddingTable::read(wide(folder.path(), columns), &options);
    let table = table.map_err(|error| {
        assert_eq!(error.code(), "BAD_CONFIG");
        error.to_string()
    })?;
    assert_eq!(table.ids(), ["a", "b", "c"]);
    Ok(table.embeddings().row(0).to_vec())
}

/// A label among the columns of floats, before, between or behind them, is no part of an embedding.
#[test]
fn a_label_beside_a_wide_embedding_is_left_out() {
    let label_and_age = [
        "double label",
        "float e1",
        "float e0",
        "double age",
        "float e2",
    ];
    assert_eq!(wide_row(&label_and_age, None), Ok(vec![20.0, 10.0, 40.0]));
    let plain = ["float 0", "float 1", "float target", "float score_7"];
    assert_eq!(wide_row(&plain, None), Ok(vec![0.0, 10.0]));
    let from_one = ["double label", "float feature_1", "float feature_2"];
    assert_eq!(wide_row(&from_one, None), Ok(vec![10.0, 20.0]));
    let whole_numbers = ["int32 grade1", "int32 grade2", "float e0", "float e1"];
    assert_eq!(wide_row(&whole_numbers, None), Ok(vec![20.0, 30.0]));
}

#[test]
fn a_wide_embedding_is_told_by_its_prefix() {
    let two = [
        "float a_0",
        "float a_1",
        "float b_0",
        "float b_1",
        "float y",
    ];
    let several = wide_row(&two, None).unwrap_err();
    assert!(
        several.contains("there are several families of columns"),
        "{several}"
    );
    assert_eq!(wide_row(&two, Some("b_")), Ok(vec![20.0, 30.0]));
    assert_eq!(wide_row(&["float e0", "float y"], Some("e")), Ok(vec![0.0]));
    for (columns, embedding, wrong) in [
        (
            &["double label", "float age"][..],
            None,
            "there are no columns of floats PREFIX0",
        ),
        (
            &["float e0", "float age"][..],
            None,
            "there are no columns of floats PREFIX0",
        ),
        (&["float e0", "float e2"][..], None, "each number once"),
        (
            &["float e0", "float e1", "float e01"][..],
            None,
            "each number once",
        ),
        (&["float e5", "float e6"][..], None, "each number once"),
        (
            &["float e0", "int32 e1"][..],
            None,
            "expected floats in all columns",
        ),
        (
            &["float e0", "float e1"][..],
            Some("f"),
            "no columns of floats f0, f1",
        ),
    ] {
        let told = wide_row(columns, embedding).unwrap_err();
        assert!(told.contains(wrong), "{told}");
    }
}

#[test]
fn a_wide_csv_by_its_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.csv");
    fs::write(&path, "id,t1,t2,e0,e1,age\na,7,8,1,2,50\n").unwrap();
    let options = TableOptions {
        embedding: Some("e".into()),
        ..TableOptions::default()
    };
    let table = EmbeddingTable::read(&path, &options).unwrap();
    assert_eq!(table.embeddings().data(), [1.0, 2.0]);
}
