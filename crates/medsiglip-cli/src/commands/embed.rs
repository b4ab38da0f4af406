//! `embed`: pictures and texts to embeddings.

use std::path::{Path, PathBuf};

use medsiglip::embedding::Provenance;
use serde_json::json;

use crate::args::{EmbedArgs, EmbedFormat};
use crate::inputs::{self, Inputs};
use crate::journal::Fingerprint;
use crate::messages::{Exit, Failure, Result};
use crate::output::{
    CsvWriter, Destination, ERRORS, JsonlWriter, NpyWriter, PROVENANCE, ParquetWriter, Writer,
    beside, ids_beside,
};
use crate::run::{self, Run, Target};

/// Embeds everything.
pub fn run(args: &EmbedArgs) -> Result<Exit> {
    let format = format(args)?;
    let inputs = inputs(args)?;
    let companions = companions(&args.output.output, format);
    let Some(target) = Target::claim(&args.output, companions)? else {
        return Ok(Exit::Done);
    };
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let dim = model.config().vision.hidden_size;
    let open = move |to: Destination, provenance: &Provenance| -> Result<Box<dyn Writer>> {
        Ok(match format {
            EmbedFormat::Jsonl => Box::new(JsonlWriter::new(to, provenance)?),
            EmbedFormat::Csv => Box::new(CsvWriter::new(to, provenance, dim)?),
            EmbedFormat::Npy => Box::new(NpyWriter::new(to, provenance, dim)?),
            EmbedFormat::Parquet => Box::new(ParquetWriter::new(to, provenance, dim)?),
        })
    };
    let run = Run {
        inputs: &inputs,
        model: &model,
        encoding: run::encoding(&model, &args.model, &args.pixels, args.normalized),
        batch: &args.batch,
        options: Fingerprint::from([
            ("command".into(), json!("embed")),
            ("format".into(), json!(format!("{format:?}").to_lowercase())),
        ]),
        open: &open,
    };
    run.execute(target)
}

fn inputs(args: &EmbedArgs) -> Result<Inputs> {
    let mut texts = args.text.clone();
    if let Some(path) = &args.texts_from {
        let file = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, e))?;
        let lines = file.trim_start_matches('\u{feff}').lines();
        texts.extend(
            lines
                .filter(|line| !line.trim().is_empty())
                .map(String::from),
        );
    }
    inputs::gather(&args.paths, &texts)
}

fn format(args: &EmbedArgs) -> Result<EmbedFormat> {
    let output = args.output.output.as_deref();
    let format = args.format.or_else(|| by_extension(output?));
    let is_stdout = output.is_none_or(|path| path.as_os_str() == "-");
    match format {
        Some(EmbedFormat::Npy | EmbedFormat::Parquet) if is_stdout => Err(Failure::argument(
            "this format cannot be written to standard output",
        )
        .hint("give a file: --output FILE")),
        Some(format) => Ok(format),
        None if is_stdout => Ok(EmbedFormat::Jsonl),
        None => Err(
            Failure::argument("the extension of the output names no known format")
                .hint("give --format jsonl, csv, npy or parquet"),
        ),
    }
}

fn by_extension(path: &Path) -> Option<EmbedFormat> {
    match path.extension()?.to_ascii_lowercase().to_str()? {
        "jsonl" | "ndjson" => Some(EmbedFormat::Jsonl),
        "csv" => Some(EmbedFormat::Csv),
        "npy" => Some(EmbedFormat::Npy),
        "parquet" => Some(EmbedFormat::Parquet),
        _ => None,
    }
}

/// The files that stand beside the output.
fn companions(output: &Option<PathBuf>, format: EmbedFormat) -> Vec<PathBuf> {
    let Some(path) = output else {
        return Vec::new();
    };
    match format {
        EmbedFormat::Jsonl => vec![],
        EmbedFormat::Parquet => vec![beside(path, ERRORS)],
        EmbedFormat::Csv => vec![beside(path, ERRORS), beside(path, PROVENANCE)],
        EmbedFormat::Npy => vec![
            beside(path, ERRORS),
            beside(path, PROVENANCE),
            ids_beside(path),
        ],
    }
}
