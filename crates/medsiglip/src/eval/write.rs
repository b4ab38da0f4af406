//! A [`Report`] as a folder: numbers, tables, figures, the page.

use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use serde::Deserialize;

use super::figures::{Figure, figures};
use super::page::page;
use super::report::Report;
use super::run::Prediction;
use super::tables;
use crate::folder::write_file;
use crate::{Error, Result};

/// The file that says that a folder is an evaluation's.
const RESULTS: &str = "results.json";
/// Bytes of it that are looked at.
const MAX_RESULTS: u64 = 1 << 30;
/// Scores that are written together.
const ROW_GROUP: usize = 1 << 16;
/// Folders that are written anew.
const FOLDERS: [&str; 2] = ["tables", "figures"];

const SCHEMA: &str = "message predictions {
    required binary task (UTF8);
    required binary encoder (UTF8);
    required binary method (UTF8);
    required binary id (UTF8);
    required binary class (UTF8);
    required double score;
    optional boolean truth;
}";

/// What tells an evaluation's results, of any version, from other files; the rest is passed over.
#[derive(Deserialize)]
#[expect(dead_code, reason = "it is there or it is not")]
struct Ours {
    medsiglip: String,
    config: String,
    replicates: usize,
}

/// Whether [`write()`] may use a folder: one that is new, or has an earlier evaluation, or nothing of these names.
///
/// # Errors
/// `BAD_ARGUMENT` where it holds a folder of these names that no evaluation wrote.
pub fn check(folder: &Path) -> Result<()> {
    let others = FOLDERS.iter().any(|name| folder.join(name).exists());
    let ours = || {
        let file = fs::File::open(folder.join(RESULTS)).ok()?;
        let bytes = BufReader::new(file.take(MAX_RESULTS));
        serde_json::from_reader::<_, Ours>(bytes).ok()
    };
    if others && ours().is_none() {
        return Err(Error::BadArgument(format!(
            "expected a new folder or that of an earlier evaluation, got one with tables or figures of its own: {}",
            folder.display()
        )));
    }
    Ok(())
}

/// Writes `results.json`, `predictions.parquet`, `tables/`, `figures/` and `report.html` into a folder, in the place of those of an
/// earlier evaluation.
///
/// # Errors
/// As of [`check`]; `IO_ERROR`; `BAD_ARGUMENT` where a figure cannot be drawn.
pub fn write(report: &Report, predictions: &[Prediction], folder: &Path) -> Result<()> {
    check(folder)?;
    let drawn = figures(report)?;
    // Where the page is, all else is too.
    let page_path = folder.join("report.html");
    if page_path.exists() {
        fs::remove_file(&page_path).map_err(|e| Error::io("replace", &page_path, e))?;
    }
    let json = serde_json::to_vec_pretty(report).expect("plain fields");
    write_file(&folder.join(RESULTS), &json)?;
    for name in FOLDERS {
        let path = folder.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|e| Error::io("replace", &path, e))?;
        }
        fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
    }
    write_file(&folder.join("predictions.parquet"), &parquet(predictions)?)?;
    write_file(&folder.join("tables/results.csv"), &tables::long(report)?)?;
    write_file(
        &folder.join("tables/report.md"),
        markdown(report, &drawn).as_bytes(),
    )?;
    for figure in &drawn {
        let path = folder.join("figures").join(&figure.name);
        write_file(&path.with_extension("svg"), figure.svg.as_bytes())?;
        write_file(&path.with_extension("png"), &figure.png)?;
    }
    // Last: where it is, all else is too.
    write_file(
        &folder.join("report.html"),
        page(report, &drawn)?.as_bytes(),
    )
}

fn markdown(report: &Report, figures: &[Figure]) -> String {
    let mut text = format!(
        "# {}\n\n**{}.** {}\n\n{}",
        report.name,
        report.notice,
        tables::READING,
        tables::summary(report).markdown()
    );
    for figure in figures.iter().filter(|figure| figure.task.is_none()) {
        text += &format!("\n![{}](../figures/{}.svg)\n", figure.caption, figure.name);
    }
    for task in &report.tasks {
        text += &format!("\n## {}\n", task.name);
        for table in tables::of_task(task) {
            text += &format!("\n{}", table.markdown());
        }
    }
    text += "\n## Caveats\n\n";
    report
        .caveats
        .iter()
        .for_each(|caveat| text += &format!("- {caveat}\n"));
    text
}

fn parquet(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let failed = |e: parquet::errors::ParquetError| Error::BadArgument(format!("predictions: {e}"));
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).map_err(failed)?;
    for predictions in predictions.chunks(ROW_GROUP) {
        let mut group = writer.next_row_group().map_err(failed)?;
        let mut number = 0;
        while let Some(mut column) = group.next_column().map_err(failed)? {
            write_column(&mut column, number, predictions).map_err(failed)?;
            column.close().map_err(failed)?;
            number += 1;
        }
        group.close().map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

fn write_column(
    column: &mut SerializedColumnWriter,
    number: usize,
    predictions: &[Prediction],
) -> parquet::errors::Result<usize> {
    let texts: [fn(&Prediction) -> &str; 5] = [
        |p| &p.task,
        |p| &p.encoder,
        |p| p.method.title(),
        |p| &p.id,
        |p| &p.class,
    ];
    match number {
        0..5 => {
            let values = predictions.iter().map(|p| texts[number](p).into());
            let values: Vec<ByteArray> = values.collect();
            let column = column.typed::<ByteArrayType>();
            column.write_batch(&values, None, None)
        }
        5 => {
            let values: Vec<f64> = predictions.iter().map(|p| p.score).collect();
            let column = column.typed::<DoubleType>();
            column.write_batch(&values, None, None)
        }
        _ => {
            let values: Vec<bool> = predictions.iter().filter_map(|p| p.truth).collect();
            let levels = predictions.iter().map(|p| i16::from(p.truth.is_some()));
            let levels: Vec<i16> = levels.collect();
            let column = column.typed::<BoolType>();
            column.write_batch(&values, Some(&levels), None)
        }
    }
}
