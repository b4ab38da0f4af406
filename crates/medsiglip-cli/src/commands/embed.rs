//! `embed`: pictures and texts to embeddings.

use std::path::{Path, PathBuf};

use medsiglip::embedding::Provenance;
use serde_json::json;

use crate::args::{EmbedArgs, EmbedFormat};
use crate::batches::Encoding;
use crate::inputs::{self, Inputs, slides_among};
use crate::journal::Fingerprint;
use crate::messages::{Exit, Failure, Result};
use crate::output::{
    CsvWriter, Destination, ERRORS, H5Writer, JsonlWriter, NpyWriter, PROVENANCE, ParquetWriter,
    Writer, beside, columns, ids_beside,
};
use crate::run::{self, Run, Target};

/// Embeds everything.
pub fn run(args: &EmbedArgs) -> Result<Exit> {
    let format = format(args)?;
    args.dicom.display.check(args.pixels.recipe)?;
    let key = args.dicom.patient_key()?;
    run::refuse_output(&args.output)?;
    let inputs = inputs(args)?;
    let h5 = match format {
        EmbedFormat::H5 => h5_places(args, &inputs)?,
        _ => Vec::new(),
    };
    let is_folder = format == EmbedFormat::H5 && !is_h5(&args.output.output);
    let companions = companions(&args.output.output, format, is_folder, &h5);
    let Some(target) = Target::claim(&args.output, companions, is_folder)? else {
        return Ok(Exit::Done);
    };
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let dim = model.config().vision.hidden_size;
    let columns = columns(&inputs);
    let open = |to: Destination, provenance: &Provenance| -> Result<Box<dyn Writer>> {
        let columns = columns.clone();
        Ok(match format {
            EmbedFormat::Jsonl => Box::new(JsonlWriter::new(to, provenance)?),
            EmbedFormat::Csv => Box::new(CsvWriter::new(to, provenance, columns, dim)?),
            EmbedFormat::Npy => Box::new(NpyWriter::new(to, provenance, columns, dim)?),
            EmbedFormat::Parquet => Box::new(ParquetWriter::new(to, provenance, columns, dim)?),
            EmbedFormat::H5 => Box::new(H5Writer::new(to, provenance, &inputs, &h5, dim)?),
        })
    };
    let mut options = Fingerprint::from([
        ("command".into(), json!("embed")),
        ("format".into(), json!(format!("{format:?}").to_lowercase())),
    ]);
    options.extend(args.tiles.fingerprint());
    let encoding = Encoding {
        normalized: args.normalized,
        ..run::encoding(&model, &args.model, &args.pixels, &args.dicom, key)
    };
    let run = Run {
        inputs: &inputs,
        model: &model,
        encoding,
        batch: &args.batch,
        options,
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
    let reading = run::reading(
        &args.model,
        &args.pixels,
        &args.dicom,
        &args.tiles,
        &args.output,
    )?;
    inputs::gather(&args.paths, &texts, &reading)
}

fn format(args: &EmbedArgs) -> Result<EmbedFormat> {
    let output = args.output.output.as_deref();
    let format = args.format.or_else(|| by_extension(output?));
    let is_stdout = output.is_none_or(|path| path.as_os_str() == "-");
    match format {
        Some(EmbedFormat::Npy | EmbedFormat::Parquet | EmbedFormat::H5) if is_stdout => Err(
            Failure::argument("this format cannot be written to standard output")
                .hint("give a file: --output FILE"),
        ),
        Some(EmbedFormat::H5) if args.tiles.tile.is_none() => {
            Err(Failure::argument("h5 is for the tiles of slides")
                .hint("cut slides with --tile, or give --format jsonl, csv, npy or parquet"))
        }
        Some(format) => Ok(format),
        None if is_stdout => Ok(EmbedFormat::Jsonl),
        None => Err(
            Failure::argument("the extension of the output names no known format")
                .hint("give --format jsonl, csv, npy, parquet or h5"),
        ),
    }
}

fn by_extension(path: &Path) -> Option<EmbedFormat> {
    match path.extension()?.to_ascii_lowercase().to_str()? {
        "jsonl" | "ndjson" => Some(EmbedFormat::Jsonl),
        "csv" => Some(EmbedFormat::Csv),
        "npy" => Some(EmbedFormat::Npy),
        "parquet" => Some(EmbedFormat::Parquet),
        "h5" | "hdf5" => Some(EmbedFormat::H5),
        _ => None,
    }
}

/// Whether the output is one HDF5 file, rather than a folder of such files.
fn is_h5(output: &Option<PathBuf>) -> bool {
    let format = output.as_deref().and_then(by_extension);
    format == Some(EmbedFormat::H5)
}

/// The HDF5 files, one for each slide that has tiles.
fn h5_places(args: &EmbedArgs, inputs: &Inputs) -> Result<Vec<PathBuf>> {
    let Some(output) = &args.output.output else {
        return Ok(Vec::new());
    };
    let slides = slides_among(&inputs.items);
    let paths: Vec<PathBuf> = slides.iter().map(|(file, _)| file.path.clone()).collect();
    if !is_h5(&args.output.output) {
        return inputs::named_after(&paths, output, "h5");
    }
    match paths.len() {
        0 | 1 => Ok(vec![output.clone(); paths.len()]),
        number => Err(Failure::argument(format!(
            "{number} slides do not go into one h5 file: {}",
            output.display()
        ))
        .hint("give a folder: --format h5 --output FOLDER")),
    }
}

/// The files that stand beside the output, or in it where it `is_folder`.
fn companions(
    output: &Option<PathBuf>,
    format: EmbedFormat,
    is_folder: bool,
    h5: &[PathBuf],
) -> Vec<PathBuf> {
    let Some(path) = output else {
        return Vec::new();
    };
    let beside = |suffix| beside(path, suffix);
    match format {
        EmbedFormat::Jsonl => vec![],
        EmbedFormat::Parquet => vec![beside(ERRORS)],
        EmbedFormat::H5 if is_folder => {
            let path: PathBuf = path.components().collect();
            [h5, &[crate::output::beside(&path, ERRORS)]].concat()
        }
        EmbedFormat::H5 => vec![beside(ERRORS)],
        EmbedFormat::Csv => vec![beside(ERRORS), beside(PROVENANCE)],
        EmbedFormat::Npy => vec![beside(ERRORS), beside(PROVENANCE), ids_beside(path)],
    }
}
