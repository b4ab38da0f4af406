//! A model's `config.json` to [`Config`], checked.

mod classes;
mod flops;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use classes::{ClassKind, Classes};

use crate::{Error, Result};

/// The two towers' shapes. Absent fields take the Hugging Face SigLIP defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The vision tower.
    pub vision: VisionConfig,
    /// The text tower; absent in a checkpoint with a vision tower alone (MedGemma, Gemma 3).
    pub text: Option<TextConfig>,
    /// What the vision tower was trained to tell apart; its embedding is then the mean of the patches, and there is no text
    /// tower.
    pub classes: Option<Classes>,
}

/// The vision tower's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Width D.
    pub hidden_size: usize,
    /// MLP width F.
    pub intermediate_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads H.
    pub num_attention_heads: usize,
    /// Channels of a picture: 3.
    pub num_channels: usize,
    /// Height and width of the picture in pixels.
    pub image_size: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// Whether the MAP pooling head is there.
    pub use_head: bool,
}

/// The text tower's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Width D.
    pub hidden_size: usize,
    /// MLP width F.
    pub intermediate_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads H.
    pub num_attention_heads: usize,
    /// Vocabulary V.
    pub vocab_size: usize,
    /// Positions T.
    pub max_position_embeddings: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// Width of the text embedding (the head's output), equal to the vision tower's width.
    pub projection_size: usize,
}

/// Sizes of a tower's layers, whichever tower it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Width D.
    pub width: usize,
    /// MLP width F.
    pub mlp: usize,
    /// Depth L.
    pub depth: usize,
    /// Heads H.
    pub heads: usize,
    /// Epsilon of the layer norms.
    pub eps: f32,
}

impl VisionConfig {
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            width: self.hidden_size,
            mlp: self.intermediate_size,
            depth: self.num_hidden_layers,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
        }
    }

    /// Patches along one side. A remainder of the picture that fills no patch is not seen (384 px at patch 14 has 27).
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Number of patches, N.
    pub fn num_patches(&self) -> usize {
        self.grid() * self.grid()
    }
}

impl TextConfig {
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            width: self.hidden_size,
            mlp: self.intermediate_size,
            depth: self.num_hidden_layers,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`: a SigLIP one, a bare `siglip_vision_model`, a `SiglipForImageClassification`, or a Gemma 3 / MedGemma one (its `vision_config`).
    ///
    /// # Errors
    /// `BAD_CONFIG` naming the field; `UNSUPPORTED` for another kind of model, another activation, or channels other than 3.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| bad(format!("config.json is not valid json: {e}")))?;
        let root = Fields::new("", &json)?;
        let config = match Architecture::of(&root)? {
            Architecture::Siglip => {
                let classes = Classes::of(&root)?;
                let text = || text_tower(&root.child("text_config")?);
                Self {
                    vision: vision(&root.child("vision_config")?, true)?,
                    text: classes.is_none().then(text).transpose()?,
                    classes,
                }
            }
            Architecture::SiglipVision => Self {
                vision: vision(&root, true)?,
                text: None,
                classes: None,
            },
            // Gemma's own pooling replaces the MAP head: its config says so, and older ones leave it out.
            Architecture::Gemma3 => Self {
                vision: vision(&root.child("vision_config")?, false)?,
                text: None,
                classes: None,
            },
        };
        config.check()?;
        Ok(config)
    }

    /// The text of a `config.json` that transformers reads: `siglip`, or `siglip_vision_model` where there is no text tower,
    /// or that of a classifier.
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    pub(crate) fn to_value(&self) -> Value {
        let vision = vision_value(&self.vision);
        if let Some(classes) = &self.classes {
            return classes.to_value(vision);
        }
        match &self.text {
            Some(text) => json!({
                "architectures": ["SiglipModel"],
                "model_type": "siglip",
                "initializer_factor": 1.0,
                "vision_config": vision,
                "text_config": text_value(text),
            }),
            None => {
                let mut bare = vision;
                bare["architectures"] = json!(["SiglipVisionModel"]);
                bare
            }
        }
    }

    /// Whether a picture has an embedding: from the pooling head, or for a classifier the mean of the patches.
    pub fn has_image_embedding(&self) -> bool {
        self.vision.use_head || self.classes.is_some()
    }

    /// What the fields must satisfy together, however the config was made.
    pub(crate) fn check(&self) -> Result<()> {
        let v = &self.vision;
        for (path, value, max) in [
            ("vision_config.hidden_size", v.hidden_size, MAX_WIDTH),
            (
                "vision_config.intermediate_size",
                v.intermediate_size,
                MAX_MLP,
            ),
            (
                "vision_config.num_hidden_layers",
                v.num_hidden_layers,
                MAX_DEPTH,
            ),
            ("vision_config.patch_size", v.patch_size, MAX_PATCH),
            ("vision_config.image_size", v.image_size, MAX_SIDE),
        ] {
            check_range(path, value, max)?;
        }
        if v.patch_size > v.image_size {
            return Err(bad(format!(
                "vision_config.patch_size: expected at most image_size, {}, got {}",
                v.image_size, v.patch_size
            )));
        }
        check_range("vision_config.image_size / patch_size", v.grid(), MAX_GRID)?;
        check_channels(v.num_channels)?;
        check_heads("vision_config", v.hidden_size, v.num_attention_heads)?;
        check_eps("vision_config", v.layer_norm_eps)?;
        self.classes.as_ref().map_or(Ok(()), Classes::check)?;
        self.text
            .as_ref()
            .map_or(Ok(()), |text| check_text(text, v.hidden_size))
    }
}

/// What kind of checkpoint a `config.json` belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Two towers.
    Siglip,
    /// The vision tower alone.
    SiglipVision,
    /// A vision tower inside a language model: Gemma 3, MedGemma.
    Gemma3,
}

impl Architecture {
    /// The kind that the text of a `config.json` names.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| bad(format!("config.json is not valid json: {e}")))?;
        Self::of(&Fields::new("", &json)?)
    }

    fn of(root: &Fields) -> Result<Self> {
        match root.string("model_type")? {
            Some("siglip") => Ok(Self::Siglip),
            Some("siglip_vision_model") => Ok(Self::SiglipVision),
            Some("gemma3") => Ok(Self::Gemma3),
            Some("siglip2" | "siglip2_vision_model") => Err(Error::Unsupported(
                "model_type: expected siglip, got siglip2: its NaFlex vision tower is another architecture".into(),
            )),
            Some(other) => Err(Error::Unsupported(format!(
                "model_type: expected siglip, siglip_vision_model or gemma3, got {}",
                clip(other)
            ))),
            None => Err(bad(
                "model_type: expected siglip, siglip_vision_model or gemma3, got nothing".into(),
            )),
        }
    }
}

// Sizes beyond these belong to no SigLIP model; they keep a hostile config from asking for memory.
const MAX_WIDTH: usize = 16_384;
pub(crate) const MAX_MLP: usize = 65_536;
const MAX_DEPTH: usize = 256;
pub(crate) const MAX_SIDE: usize = 16_384;
const MAX_PATCH: usize = 1_024;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_POSITIONS: usize = 65_536;
/// Patches along one side.
pub(crate) const MAX_GRID: usize = 1_024;

/// The vision fields, with the defaults of transformers' `SiglipVisionConfig`.
fn vision(fields: &Fields, head_by_default: bool) -> Result<VisionConfig> {
    fields.activation()?;
    let config = VisionConfig {
        hidden_size: fields.size("hidden_size", 768)?,
        intermediate_size: fields.size("intermediate_size", 3072)?,
        num_hidden_layers: fields.size("num_hidden_layers", 12)?,
        num_attention_heads: fields.size("num_attention_heads", 12)?,
        num_channels: fields.size("num_channels", 3)?,
        image_size: fields.size("image_size", 224)?,
        patch_size: fields.size("patch_size", 16)?,
        layer_norm_eps: fields.eps()?,
        use_head: fields.boolean("vision_use_head", head_by_default)?,
    };
    Ok(config)
}

/// The text fields, with the defaults of transformers' `SiglipTextConfig`.
fn text_tower(fields: &Fields) -> Result<TextConfig> {
    fields.activation()?;
    let hidden_size = fields.size("hidden_size", 768)?;
    Ok(TextConfig {
        hidden_size,
        intermediate_size: fields.size("intermediate_size", 3072)?,
        num_hidden_layers: fields.size("num_hidden_layers", 12)?,
        num_attention_heads: fields.size("num_attention_heads", 12)?,
        vocab_size: fields.size("vocab_size", 32_000)?,
        max_position_embeddings: fields.size("max_position_embeddings", 64)?,
        layer_norm_eps: fields.eps()?,
        projection_size: fields.size("projection_size", hidden_size)?,
    })
}

/// One JSON object and its path, for messages.
struct Fields<'a> {
    path: &'a str,
    object: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    fn new(path: &'a str, value: &'a Value) -> Result<Self> {
        let object = match value {
            Value::Object(object) => Some(object),
            // transformers writes null for a sub-config that has only defaults
            Value::Null if !path.is_empty() => None,
            other => {
                let name = if path.is_empty() { "config.json" } else { path };
                return Err(bad(format!(
                    "{name}: expected an object, got {}",
                    kind(other)
                )));
            }
        };
        Ok(Self { path, object })
    }

    /// The object under `name`; an absent one has defaults alone.
    fn child(&self, name: &'a str) -> Result<Fields<'a>> {
        Fields::new(name, self.get(name).unwrap_or(&Value::Null))
    }

    /// The value of `name`; null counts as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object
            .and_then(|o| o.get(name))
            .filter(|v| !v.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, got: &Value) -> Error {
        bad(format!(
            "{}: expected {expected}, got {}",
            self.name_of(name),
            kind(got)
        ))
    }

    fn name_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn size(&self, name: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.wrong(name, "a whole number", value))
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        self.get(name).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(name, "true or false", value))
        })
    }

    fn string(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.wrong(name, "a string", value))
            })
            .transpose()
    }

    fn eps(&self) -> Result<f32> {
        let name = "layer_norm_eps";
        self.get(name).map_or(Ok(1e-6), |value| {
            value
                .as_f64()
                .map(|eps| eps as f32)
                .ok_or_else(|| self.wrong(name, "a number", value))
        })
    }

    /// Both towers know one activation.
    fn activation(&self) -> Result<()> {
        match self.string("hidden_act")? {
            None | Some("gelu_pytorch_tanh") => Ok(()),
            Some(other) => Err(Error::Unsupported(format!(
                "{}: expected gelu_pytorch_tanh, got {}",
                self.name_of("hidden_act"),
                clip(other)
            ))),
        }
    }
}

fn check_text(t: &TextConfig, vision_width: usize) -> Result<()> {
    for (path, value, max) in [
        ("text_config.hidden_size", t.hidden_size, MAX_WIDTH),
        (
            "text_config.intermediate_size",
            t.intermediate_size,
            MAX_MLP,
        ),
        (
            "text_config.num_hidden_layers",
            t.num_hidden_layers,
            MAX_DEPTH,
        ),
        ("text_config.vocab_size", t.vocab_size, MAX_VOCABULARY),
        (
            "text_config.max_position_embeddings",
            t.max_position_embeddings,
            MAX_POSITIONS,
        ),
    ] {
        check_range(path, value, max)?;
    }
    check_heads("text_config", t.hidden_size, t.num_attention_heads)?;
    check_eps("text_config", t.layer_norm_eps)?;
    if t.projection_size != vision_width {
        return Err(bad(format!(
            "text_config.projection_size: expected the vision tower's width, {vision_width}, got {}",
            t.projection_size
        )));
    }
    Ok(())
}

fn check_range(path: &str, value: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(bad(format!("{path}: expected 1 to {max}, got {value}")))
}

fn check_channels(channels: usize) -> Result<()> {
    if channels == 3 {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "vision_config.num_channels: expected 3, got {channels}"
    )))
}

fn check_heads(path: &str, width: usize, heads: usize) -> Result<()> {
    if heads >= 1 && width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(bad(format!(
        "{path}.num_attention_heads: expected a divisor of hidden_size, {width}, got {heads}"
    )))
}

fn check_eps(path: &str, eps: f32) -> Result<()> {
    if eps > 0.0 && eps <= 1.0 {
        return Ok(());
    }
    Err(bad(format!(
        "{path}.layer_norm_eps: expected a number above 0, at most 1, got {eps}"
    )))
}

fn vision_value(v: &VisionConfig) -> Value {
    json!({
        "model_type": "siglip_vision_model",
        "hidden_size": v.hidden_size,
        "intermediate_size": v.intermediate_size,
        "num_hidden_layers": v.num_hidden_layers,
        "num_attention_heads": v.num_attention_heads,
        "num_channels": v.num_channels,
        "image_size": v.image_size,
        "patch_size": v.patch_size,
        "layer_norm_eps": decimal(v.layer_norm_eps),
        "hidden_act": "gelu_pytorch_tanh",
        "attention_dropout": 0.0,
        "vision_use_head": v.use_head,
    })
}

fn text_value(t: &TextConfig) -> Value {
    json!({
        "model_type": "siglip_text_model",
        "hidden_size": t.hidden_size,
        "intermediate_size": t.intermediate_size,
        "num_hidden_layers": t.num_hidden_layers,
        "num_attention_heads": t.num_attention_heads,
        "vocab_size": t.vocab_size,
        "max_position_embeddings": t.max_position_embeddings,
        "layer_norm_eps": decimal(t.layer_norm_eps),
        "projection_size": t.projection_size,
        "hidden_act": "gelu_pytorch_tanh",
        "attention_dropout": 0.0,
    })
}

/// The shortest decimal that reads back as `x`: 1e-6, not 9.999999974752427e-7.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("the string \"{}\"", clip(s)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// The start of a string from outside, fit for a message.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

fn bad(message: String) -> Error {
    Error::BadConfig(message)
}
