//! `inspect`: what a picture is and what the model will see of it; what a checkpoint holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use image::ImageEncoder;
use medsiglip::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions, expected_tensors};
use medsiglip::image::{Picture, Samples, open_with};
use medsiglip::preprocess::{Preprocessor, Recipe};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::args::{InspectArgs, InspectFormat};
use crate::messages::{self, Exit, Failure, Result};
use crate::output::{refuse_existing, write_file};
use crate::progress;

/// Height and width without a model: MedSigLIP's own.
const DEFAULT_SIZE: usize = 448;

/// What is known, in the order in which it is told.
struct Facts(Vec<(&'static str, Value)>);

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Tells what the file is, or without one what the model is.
pub fn run(args: &InspectArgs) -> Result<Exit> {
    let facts = match (&args.file, &args.model) {
        (Some(file), _) => match checkpoint_source(file)? {
            Some(source) => checkpoint(args, &source)?,
            None => picture(args, file)?,
        },
        (None, Some(model)) => checkpoint(args, model)?,
        (None, None) => return Err(Failure::argument("inspect: expected a file or --model")),
    };
    let text = match args.format {
        InspectFormat::Json => json_line(&facts)?,
        InspectFormat::Text => for_a_person(&facts),
    };
    let mut stdout = std::io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)?;
    Ok(Exit::Done)
}

/// The checkpoint at `path`; `None` where it is some other file. Always local: a mistyped path can hold a
/// patient's name, and must not be asked for on the hub.
fn checkpoint_source(path: &Path) -> Result<Option<ModelSource>> {
    if !path.exists() {
        let hint = "FILE is a picture, or a checkpoint's folder or file, on this machine";
        return Err(Failure::missing("read", path).hint(hint));
    }
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    let is_weights = extension.is_some_and(|e| e == "npz" || e == "safetensors");
    let is_checkpoint = path.is_dir() || is_weights;
    Ok(is_checkpoint.then(|| ModelSource::Local(path.to_path_buf())))
}

fn picture(args: &InspectArgs, file: &Path) -> Result<Facts> {
    if let Some(view) = &args.output {
        refuse_existing(view, args.overwrite)?;
    }
    let preprocessor = preprocessor(args)?;
    let picture = open_with(file, &args.pixels.decode_options(&preprocessor))?;
    let view = preprocessor.view(&picture)?;
    if let Some(path) = &args.output {
        write_file(path, args.overwrite, &png(&view, preprocessor.size())?)?;
        messages::note(format_args!("wrote {}", path.display()));
    }
    Ok(picture_facts(file, &picture, &preprocessor))
}

fn preprocessor(args: &InspectArgs) -> Result<Preprocessor> {
    let Some(source) = &args.model else {
        let recipe = args.pixels.recipe.unwrap_or(Recipe::Hf);
        let size = args.resolution.map_or(DEFAULT_SIZE, NonZeroUsize::get);
        return Ok(Preprocessor::new(recipe, args.pixels.pad, size, None)?);
    };
    let checkpoint = Checkpoint::open(source, &open_options(args))?;
    let own = checkpoint.preprocessor_config();
    let default = own.map_or(Recipe::Hf, |_| Recipe::Checkpoint);
    let recipe = args.pixels.recipe.unwrap_or(default);
    let size = checkpoint.config().vision.image_size;
    Ok(Preprocessor::new(recipe, args.pixels.pad, size, own)?)
}

fn open_options(args: &InspectArgs) -> OpenOptions {
    OpenOptions {
        resolution: args.resolution.map(NonZeroUsize::get),
        progress: Some(progress::download),
        ..OpenOptions::default()
    }
}

fn picture_facts(file: &Path, picture: &Picture, preprocessor: &Preprocessor) -> Facts {
    let source = picture.source();
    let bits = match picture.samples() {
        Samples::U8(_) => 8,
        Samples::U16(_) => 16,
    };
    Facts(vec![
        ("id", json!(file.to_string_lossy())),
        ("kind", json!("picture")),
        ("format", json!(source.format)),
        ("stored", json!(source.color)),
        ("width", json!(picture.width())),
        ("height", json!(picture.height())),
        ("channels", json!(picture.channels())),
        ("bits", json!(bits)),
        ("orientation", json!(source.orientation)),
        ("warnings", json!(source.warnings)),
        ("recipe", json!(preprocessor.recipe().to_string())),
        ("pad", json!(preprocessor.padding().to_string())),
        ("resolution", json!(preprocessor.size())),
    ])
}

fn checkpoint(args: &InspectArgs, source: &ModelSource) -> Result<Facts> {
    if args.output.is_some() {
        return Err(Failure::argument(
            "a checkpoint has no view: --output is for pictures",
        ));
    }
    let checkpoint = Checkpoint::open(source, &open_options(args))?;
    let config = checkpoint.config();
    let (parameters, dtypes) = weights(&checkpoint)?;
    let vision = &config.vision;
    let text = config.text.as_ref().map(|text| {
        json!({
            "width": text.hidden_size, "depth": text.num_hidden_layers, "heads": text.num_attention_heads,
            "mlp": text.intermediate_size, "vocabulary": text.vocab_size,
            "positions": text.max_position_embeddings, "projection": text.projection_size,
        })
    });
    Ok(Facts(vec![
        ("id", json!(checkpoint.id())),
        ("kind", json!("checkpoint")),
        ("checksum", json!(checkpoint.checksum()?)),
        ("parameters", json!(parameters)),
        ("tensors_by_type", json!(dtypes)),
        ("resolution", json!(vision.image_size)),
        (
            "positions",
            json!(checkpoint.resampled().map(|method| method.to_string())),
        ),
        ("drift", json!(checkpoint.drift())),
        (
            "vision",
            json!({
                "width": vision.hidden_size, "depth": vision.num_hidden_layers,
                "heads": vision.num_attention_heads, "mlp": vision.intermediate_size,
                "patch": vision.patch_size, "patches": vision.num_patches(), "pooling_head": vision.use_head,
            }),
        ),
        ("text", json!(text)),
        ("tokenizer", json!(tokenizer(&checkpoint))),
        ("recipe", json!(own_recipe(&checkpoint))),
    ]))
}

/// Number of parameters, and of tensors by storage type.
fn weights(checkpoint: &Checkpoint) -> Result<(usize, BTreeMap<String, usize>)> {
    let mut parameters = 0;
    let mut dtypes = BTreeMap::new();
    for expected in expected_tensors(checkpoint.config()) {
        let tensor = checkpoint.tensor(&expected.name, &expected.shape)?;
        parameters += tensor.shape().iter().product::<usize>();
        let dtype: Dtype = tensor.dtype();
        *dtypes.entry(dtype.to_string()).or_default() += 1;
    }
    Ok((parameters, dtypes))
}

/// The tokenizer file that the library would take.
fn tokenizer(checkpoint: &Checkpoint) -> Option<&'static str> {
    checkpoint.config().text.as_ref()?;
    ["tokenizer.json", "spiece.model"]
        .into_iter()
        .find(|name| checkpoint.folder().join(name).is_file())
}

/// What the checkpoint's own `preprocessor_config.json` says, if it can be followed exactly.
fn own_recipe(checkpoint: &Checkpoint) -> Option<String> {
    let own = checkpoint.preprocessor_config();
    let size = checkpoint.config().vision.image_size;
    own?;
    Some(
        match Preprocessor::new(Recipe::Checkpoint, None, size, own) {
            Ok(preprocessor) => {
                format!("{}, pad {}", preprocessor.recipe(), preprocessor.padding())
            }
            Err(error) => error.to_string(),
        },
    )
}

fn json_line(facts: &Facts) -> Result<String> {
    let json = serde_json::to_string(facts).map_err(|e| Failure::stdout(e.into()))?;
    Ok(json + "\n")
}

/// One fact a line; what is empty or absent is left out.
fn for_a_person(facts: &Facts) -> String {
    let mut text = String::new();
    for (name, value) in &facts.0 {
        let shown = show(value);
        if !shown.is_empty() {
            let _ = writeln!(text, "{:16}{shown}", name.replace('_', " "));
        }
    }
    text
}

fn show(value: &Value) -> String {
    let join = |parts: Vec<String>, by| parts.join(by);
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => join(list.iter().map(show).collect(), "; "),
        Value::Object(map) => join(
            map.iter()
                .map(|(k, v)| format!("{} {}", k.replace('_', " "), show(v)))
                .collect(),
            ", ",
        ),
        other => other.to_string(),
    }
}

fn png(view: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let side =
        u32::try_from(size).map_err(|_| Failure::argument("the view is too large for PNG"))?;
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(view, side, side, image::ExtendedColorType::Rgb8)
        .map_err(|error| Failure::stdout(std::io::Error::other(error)))?;
    Ok(bytes)
}
