//! `classify`: scores of pictures, zero-shot or by a trained classifier. Not for clinical use.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use medsiglip::Model;
use medsiglip::checkpoint::Checkpoint;
use medsiglip::config::Classes;
use medsiglip::embedding::Provenance;
use medsiglip::zero_shot::{PromptSet, ZeroShot};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::args::{ClassesArgs, ClassifyArgs, ClassifyFormat};
use crate::inputs::{self, Inputs, Item, Part, hex, slides_among};
use crate::journal::Fingerprint;
use crate::messages::{self, Exit, Failure, Result};
use crate::output::{
    CsvScores, Destination, ERRORS, HeatMapOptions, HeatMaps, JsonlScores, NOT_CLINICAL,
    PROVENANCE, SLIDES, Scorer, TableScores, Writer, beside, columns, geojson_beside,
};
use crate::run::{self, Run, Target};

/// Scores everything.
pub fn run(args: &ClassifyArgs) -> Result<Exit> {
    let asked = Asked::new(args)?;
    let format = format(args)?;
    args.dicom.display.check(args.pixels.recipe)?;
    let key = args.dicom.patient_key()?;
    run::refuse_output(&args.output)?;
    let inputs = pictures(args)?;
    let heatmap = heatmap(args, &asked.labels(), &inputs)?;
    let companions = companions(args, format, heatmap.as_ref());
    let Some(target) = Target::claim(&args.output, companions, false)? else {
        return Ok(Exit::Done);
    };
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let options = fingerprint(args, format, &asked);
    let scorer = asked.scorer(&model)?;
    if format != ClassifyFormat::Table {
        messages::note(format_args!("note: {NOT_CLINICAL}"));
    }
    let top_k = args.slide_scores.top_k.get();
    let scores = |to: Destination, provenance: &Provenance| -> Result<Box<dyn Writer + '_>> {
        let (scorer, columns) = (&*scorer, columns(&inputs));
        Ok(match format {
            ClassifyFormat::Jsonl => Box::new(JsonlScores::new(scorer, to, provenance, top_k)?),
            ClassifyFormat::Csv => {
                let top_k = inputs.has_tiles.then_some(top_k);
                Box::new(CsvScores::new(scorer, to, provenance, columns, top_k)?)
            }
            ClassifyFormat::Table => Box::new(TableScores::new(scorer, to, top_k)?),
        })
    };
    let open = |to: Destination, provenance: &Provenance| -> Result<Box<dyn Writer + '_>> {
        let Some(heatmap) = &heatmap else {
            return scores(to, provenance);
        };
        let inner = |to: Destination| scores(to, provenance);
        let maps = HeatMaps::new(&*scorer, heatmap, &inputs, to, provenance, inner)?;
        Ok(Box::new(maps))
    };
    let run = Run {
        inputs: &inputs,
        model: &model,
        encoding: run::encoding(&model, &args.model, &args.pixels, &args.dicom, key),
        batch: &args.batch,
        options,
        open: &open,
    };
    run.execute(target)
}

fn pictures(args: &ClassifyArgs) -> Result<Inputs> {
    let mut reading = run::reading(
        &args.model,
        &args.pixels,
        &args.dicom,
        &args.tiles,
        &args.output,
    )?;
    if let Some(slides) = &mut reading.slides {
        slides.heatmap.clone_from(&args.slide_scores.heatmap);
    }
    let mut inputs = inputs::gather(&args.paths, &[], &reading)?;
    inputs.items.retain(|item| matches!(item, Item::Image(_)));
    match inputs.items.is_empty() {
        true => Err(Failure::argument("no pictures found")),
        false => Ok(inputs),
    }
}

/// What decides the result beside items and provenance.
fn fingerprint(args: &ClassifyArgs, format: ClassifyFormat, asked: &Asked) -> Fingerprint {
    let prompts = hex(&Sha256::digest(asked.to_string()));
    let mut options = Fingerprint::from([
        ("command".into(), json!("classify")),
        ("format".into(), json!(format!("{format:?}").to_lowercase())),
        ("prompts".into(), json!(prompts)),
    ]);
    options.extend(args.tiles.fingerprint());
    options
}

/// The classes that are asked for.
enum Asked {
    /// Described by prompts.
    Prompts(PromptSet),
    /// The model's own.
    Trained(Classes),
}

impl Asked {
    /// Without prompts, the classes are the model's own.
    fn new(args: &ClassifyArgs) -> Result<Self> {
        if let Some(set) = prompts(&args.classes)? {
            return Ok(Self::Prompts(set));
        }
        let source = &args.model.source;
        let checkpoint = Checkpoint::open(&source.model, &source.open_options())?;
        let classes = checkpoint.config().classes.clone();
        classes.map(Self::Trained).ok_or_else(|| {
            Failure::argument("expected classes: this model was not trained as a classifier")
                .hint("give --labels A,B,C, --prompts FILE or --task NAME")
        })
    }

    fn labels(&self) -> Vec<&str> {
        match self {
            Self::Prompts(set) => set.classes.iter().map(|c| c.label.as_str()).collect(),
            Self::Trained(classes) => classes.labels.iter().map(String::as_str).collect(),
        }
    }

    /// What scores by these classes.
    fn scorer(self, model: &Model) -> Result<Box<dyn Scorer + '_>> {
        match (self, model.classifier()) {
            (Self::Prompts(set), None) => {
                let zero_shot = ZeroShot::new(model, set)?;
                for place in zero_shot.truncated() {
                    messages::say(messages::truncated(place));
                }
                Ok(Box::new(zero_shot))
            }
            (Self::Trained(_), Some(classifier)) => Ok(Box::new(classifier.clone())),
            (Self::Prompts(_), Some(_)) => Err(Failure::argument(
                "this model is a classifier of its own classes, and has no text tower for others",
            )
            .hint("leave out --labels, --prompts and --task")),
            (Self::Trained(_), None) => {
                Err(Failure::argument("the model changed while it was read"))
            }
        }
    }
}

/// As a fingerprint is made of.
impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prompts(set) => write!(f, "{set:?}"),
            Self::Trained(classes) => write!(f, "{classes:?}"),
        }
    }
}

fn prompts(classes: &ClassesArgs) -> Result<Option<PromptSet>> {
    if let Some(name) = &classes.task {
        return Ok(Some(PromptSet::task(name)?));
    }
    if let Some(path) = &classes.prompts {
        return Ok(Some(PromptSet::from_file(path)?));
    }
    if classes.labels.is_empty() {
        return Ok(None);
    }
    let labels: Vec<&str> = classes.labels.iter().map(|label| label.trim()).collect();
    Ok(Some(PromptSet::from_labels(&labels)?))
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

/// What heat maps show, and where they stand.
fn heatmap(
    args: &ClassifyArgs,
    labels: &[&str],
    inputs: &Inputs,
) -> Result<Option<HeatMapOptions>> {
    let Some(place) = &args.slide_scores.heatmap else {
        return Ok(None);
    };
    let class = match &args.slide_scores.heatmap_class {
        None => 0,
        Some(label) => labels
            .iter()
            .position(|known| known == label)
            .ok_or_else(|| {
                Failure::argument(format!(
                    "--heatmap-class: expected one of {}, got {label}",
                    labels.join(", ")
                ))
            })?,
    };
    let slides = slides_among(&inputs.items);
    let is_whole = |item: &&Item| matches!(item, Item::Image(source) if source.part == Part::Whole);
    let refused = inputs.items.iter().filter(is_whole).count();
    let paths: Vec<PathBuf> = slides.iter().map(|(file, _)| file.path.clone()).collect();
    Ok(Some(HeatMapOptions {
        places: inputs::beside_each(&paths, place, "png", slides.len() + refused == 1)?,
        class,
        limits: args.pixels.limits(),
    }))
}

/// The files that stand beside the output.
fn companions(
    args: &ClassifyArgs,
    format: ClassifyFormat,
    heatmap: Option<&HeatMapOptions>,
) -> Vec<PathBuf> {
    let maps = heatmap.map_or(&[][..], |heatmap| &heatmap.places);
    let maps = maps
        .iter()
        .flat_map(|png| [png.clone(), geojson_beside(png)]);
    let output = args.output.output.as_deref();
    let Some(path) = output.filter(|path| path.as_os_str() != "-") else {
        return maps.collect();
    };
    let suffixes: &[&str] = match format {
        ClassifyFormat::Jsonl => &[],
        ClassifyFormat::Table => &[ERRORS],
        ClassifyFormat::Csv if args.tiles.tile.is_some() => &[ERRORS, PROVENANCE, SLIDES],
        ClassifyFormat::Csv => &[ERRORS, PROVENANCE],
    };
    let own = suffixes.iter().map(|suffix| beside(path, suffix));
    own.chain(maps).collect()
}
