//! `inspect`: what a picture is and what the model will see of it; what a checkpoint holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use medsiglip::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions, expected_tensors};
use medsiglip::image::dicom::DicomFile;
use medsiglip::image::slide;
use medsiglip::image::{DecodeOptions, Kind, Limits, Picture, Samples, open_with};
use medsiglip::preprocess::{Preprocessor, Recipe};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::args::{InspectArgs, InspectFormat};
use crate::inputs::{first_bytes_show, is_named_slide, is_slide};
use crate::messages::{self, Exit, Failure, Result, count};
use crate::output::{png, refuse_clashes, refuse_existing, require_extension, write_file};
use crate::pictures::dicom_source;
use crate::progress;

/// Height and width without a model: MedSigLIP's own.
const DEFAULT_SIZE: usize = 448;

/// Longer side in pixels of a slide made small.
const THUMBNAIL_SIDE: u32 = 2048;

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
    if path.is_dir() && !path.join("config.json").exists() {
        let path = path.display();
        return Err(Failure::argument(format!(
            "a folder without config.json is no checkpoint: {path}"
        ))
        .hint("of a folder of pictures, give one file"));
    }
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    let is_weights = extension.is_some_and(|e| e == "npz" || e == "safetensors");
    let is_checkpoint = path.is_dir() || is_weights;
    Ok(is_checkpoint.then(|| ModelSource::Local(path.to_path_buf())))
}

fn picture(args: &InspectArgs, file: &Path) -> Result<Facts> {
    if let Some(view) = &args.output {
        require_extension(view, "png")?;
        refuse_clashes(std::slice::from_ref(view), &[file])?;
        refuse_existing(view, args.overwrite)?;
    }
    args.display.check(args.pixels.recipe)?;
    let preprocessor = preprocessor(args)?;
    let options = args.pixels.decode_options(&args.display, &preprocessor);
    let is_dicom = first_bytes_show(file) == Kind::Dicom;
    let (picture, facts) = if args.frame.is_none() && is_slide_file(file, is_dicom, &options.limits)
    {
        slide(file, &options.limits)?
    } else if is_dicom {
        dicom(file, args.frame, &options)?
    } else if args.frame.is_some() {
        return Err(Failure::argument(format!(
            "--frame is for DICOM files: {}",
            file.display()
        )));
    } else {
        let picture = open_with(file, &options)?;
        let facts = vec![("format", json!(picture.source().format))];
        (picture, facts)
    };
    let view = preprocessor.view(&picture)?;
    let side = u32::try_from(preprocessor.size());
    let side = side.map_err(|_| Failure::argument("the view is too large for PNG"))?;
    let view = Picture::new(side, side, 3, Samples::U8(view))?;
    if let Some(path) = &args.output {
        write_file(path, args.overwrite, &png(&view)?)?;
        messages::note(format_args!("wrote {}", path.display()));
    }
    Ok(picture_facts(file, &picture, facts, &preprocessor))
}

/// A frame of a DICOM file, and what the file says of it. Nothing that names a person is among that.
fn dicom(
    file: &Path,
    frame: Option<NonZeroU32>,
    options: &DecodeOptions,
) -> Result<(Picture, Vec<(&'static str, Value)>)> {
    let of_file = |error| Failure::of_file(error, file);
    let dicom = DicomFile::open(file, &options.limits).map_err(of_file)?;
    let frames = dicom.frames();
    let frame = match frame {
        Some(frame) if frame.get() > frames => {
            let has = count(frames as usize, "frame");
            return Err(Failure::argument(format!(
                "--frame {frame}: the file has {has}: {}",
                file.display()
            )));
        }
        Some(frame) => frame.get() - 1,
        None => frames / 2,
    };
    let picture = dicom.picture(frame, &options.display).map_err(of_file)?;
    let (info, shape) = (dicom.info(), dicom.shape());
    let sign = if shape.is_signed {
        "signed"
    } else {
        "unsigned"
    };
    let bits = format!("{} of {}, {sign}", shape.bits_stored, shape.bits_allocated);
    let source = dicom_source(&dicom, frame);
    let named = |name: Option<&str>, uid: &str| match name {
        Some(name) => format!("{name} ({uid})"),
        None => uid.to_owned(),
    };
    let class = info.sop_class_uid.as_ref();
    let class = class.map(|uid| named(info.sop_class_name(), uid));
    let syntax = named(info.transfer_syntax_name(), &info.transfer_syntax_uid);
    let facts = vec![
        ("format", json!(picture.source().format)),
        ("sop_class", json!(class)),
        ("transfer_syntax", json!(syntax)),
        ("photometric", json!(shape.photometric.name())),
        ("bits_stored", json!(bits)),
        ("modality", json!(source.modality)),
        ("body_part", json!(source.body_part)),
        ("view_position", json!(source.view_position)),
        ("laterality", json!(source.laterality)),
        ("study_instance_uid", json!(source.study_instance_uid)),
        ("series_instance_uid", json!(source.series_instance_uid)),
        ("sop_instance_uid", json!(source.sop_instance_uid)),
        ("frames", json!(frames)),
        ("frame", json!(source.frame)),
        ("display", json!(picture.source().display)),
    ];
    Ok((picture, facts))
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

/// Whether the file is a whole slide: by its name, or as DICOM.
fn is_slide_file(file: &Path, is_dicom: bool, limits: &Limits) -> bool {
    let is_dicom_slide = || DicomFile::open(file, limits).is_ok_and(|dicom| is_slide(&dicom));
    is_named_slide(file) || is_dicom && is_dicom_slide()
}

/// A slide made small, and what the file says of it.
fn slide(file: &Path, limits: &Limits) -> Result<(Picture, Vec<(&'static str, Value)>)> {
    let of_file = |error| Failure::of_file(error, file);
    let slide = slide::open(file, limits).map_err(of_file)?;
    let picture = slide::thumbnail(&*slide, THUMBNAIL_SIDE).map_err(of_file)?;
    let info = slide.info();
    let (width, height) = info.size();
    let levels = info.levels.iter();
    let levels = levels.map(|level| {
        let (width, height) = (level.width, level.height);
        format!("{width}x{height} (1:{:.4})", level.downsample)
    });
    let facts = vec![
        ("format", json!(info.format)),
        ("reader", json!(info.reader)),
        ("slide_size", json!(format!("{width}x{height}"))),
        ("levels", json!(levels.collect::<Vec<_>>())),
        ("microns_per_pixel", json!(info.mpp())),
        ("objective_power", json!(info.objective_power)),
        ("icc_profile", json!(info.icc_profile.is_some())),
        ("slide_warnings", json!(info.warnings)),
        ("view", json!("the whole slide, made small")),
    ];
    Ok((picture, facts))
}

/// What is told of a picture; `more` are the facts of its kind of file.
fn picture_facts(
    file: &Path,
    picture: &Picture,
    more: Vec<(&'static str, Value)>,
    preprocessor: &Preprocessor,
) -> Facts {
    let source = picture.source();
    let bits = match picture.samples() {
        Samples::U8(_) => 8,
        Samples::U16(_) => 16,
    };
    let mut facts = vec![
        ("id", json!(file.to_string_lossy())),
        ("kind", json!("picture")),
    ];
    facts.extend(more);
    facts.extend([
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
    ]);
    Facts(facts)
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
    let classes = checkpoint.config().classes.as_ref();
    let classes = classes.map(|c| json!({"kind": c.kind, "labels": c.labels}));
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
        ("classes", json!(classes)),
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
    let longest = facts.0.iter().map(|(name, _)| name.len()).max();
    let width = longest.unwrap_or(0).max(14) + 2;
    for (name, value) in &facts.0 {
        let shown = show(value);
        if !shown.is_empty() {
            let _ = writeln!(text, "{:width$}{shown}", name.replace('_', " "));
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
