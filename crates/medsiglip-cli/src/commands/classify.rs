//! `classify`: zero-shot scores of pictures. Not for clinical use.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use medsiglip::embedding::Provenance;
use medsiglip::zero_shot::{PromptSet, ZeroShot};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::args::{ClassesArgs, ClassifyArgs, ClassifyFormat};
use crate::inputs::{self, Item, hex};
use crate::journal::Fingerprint;
use crate::messages::{self, Exit, Failure, Result};
use crate::output::{
    CsvScores, Destination, ERRORS, JsonlScores, NOT_CLINICAL, PROVENANCE, TableScores, Writer,
    beside,
};
use crate::run::{self, Run, Target};

/// Scores everything.
pub fn run(args: &ClassifyArgs) -> Result<Exit> {
    let set = prompts(&args.classes)?;
    let format = format(args)?;
    let mut inputs = inputs::gather(&args.paths, &[])?;
    inputs.items.retain(|item| matches!(item, Item::Image(_)));
    if inputs.items.is_empty() {
        return Err(Failure::argument("no pictures found"));
    }
    let companions = companions(&args.output.output, format);
    let Some(target) = Target::claim(&args.output, companions)? else {
        return Ok(Exit::Done);
    };
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let options = Fingerprint::from([
        ("command".into(), json!("classify")),
        ("format".into(), json!(format!("{format:?}").to_lowercase())),
        (
            "prompts".into(),
            json!(hex(&Sha256::digest(format!("{set:?}")))),
        ),
    ]);
    let zero_shot = ZeroShot::new(&model, set)?;
    zero_shot
        .truncated()
        .iter()
        .for_each(|place| messages::say(messages::truncated(place)));
    if format != ClassifyFormat::Table {
        messages::note(format_args!("note: {NOT_CLINICAL}"));
    }
    let open = |to: Destination, provenance: &Provenance| -> Result<Box<dyn Writer + '_>> {
        Ok(match format {
            ClassifyFormat::Jsonl => Box::new(JsonlScores::new(&zero_shot, to, provenance)?),
            ClassifyFormat::Csv => Box::new(CsvScores::new(&zero_shot, to, provenance)?),
            ClassifyFormat::Table => Box::new(TableScores::new(&zero_shot, to)?),
        })
    };
    let run = Run {
        inputs: &inputs,
        model: &model,
        encoding: run::encoding(&model, &args.model, &args.pixels, false),
        batch: &args.batch,
        options,
        open: &open,
    };
    run.execute(target)
}

fn prompts(classes: &ClassesArgs) -> Result<PromptSet> {
    if let Some(name) = &classes.task {
        return Ok(PromptSet::task(name)?);
    }
    if let Some(path) = &classes.prompts {
        return Ok(PromptSet::from_file(path)?);
    }
    let labels: Vec<&str> = classes.labels.iter().map(|label| label.trim()).collect();
    Ok(PromptSet::from_labels(&labels)?)
}

fn format(args: &ClassifyArgs) -> Result<ClassifyFormat> {
    let output = args
        .output
        .output
        .as_deref()
        .filter(|path| path.as_os_str() != "-");
    match (args.format.or_else(|| by_extension(output?)), output) {
        (Some(format), _) => Ok(format),
        (None, None) if std::io::stdout().is_terminal() => Ok(ClassifyFormat::Table),
        (None, None) => Ok(ClassifyFormat::Jsonl),
        (None, Some(_)) => Err(Failure::argument(
            "the extension of the output names no known format",
        )
        .hint("give --format jsonl, csv or table")),
    }
}

fn by_extension(path: &Path) -> Option<ClassifyFormat> {
    match path.extension()?.to_ascii_lowercase().to_str()? {
        "jsonl" | "ndjson" => Some(ClassifyFormat::Jsonl),
        "csv" => Some(ClassifyFormat::Csv),
        "txt" => Some(ClassifyFormat::Table),
        _ => None,
    }
}

/// The files that stand beside the output.
fn companions(output: &Option<PathBuf>, format: ClassifyFormat) -> Vec<PathBuf> {
    let Some(path) = output else {
        return Vec::new();
    };
    match format {
        ClassifyFormat::Jsonl => vec![],
        ClassifyFormat::Table => vec![beside(path, ERRORS)],
        ClassifyFormat::Csv => vec![beside(path, ERRORS), beside(path, PROVENANCE)],
    }
}
