//! big_vision checkpoints (`two_towers`: ViT and text transformer) under their Hugging Face names.
//!
//! flax keeps kernels as (in, out) with heads split off, convolutions as HWIO, and query, key and value apart;
//! a scanned model stacks its layers along a first axis. The rules are those of transformers'
//! `convert_siglip_to_hf.py`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::files::{self, Weights};
use super::names::{ExpectedTensor, expected_tensors, same_shape, show};
use super::npz::{self, Array};
use super::tensor::Tensor;
use crate::config::{TextConfig, VisionConfig};
use crate::{Config, Error, Result};

/// An opened big_vision `.npz`.
pub(super) struct BigVision {
    files: [PathBuf; 1],
    arrays: HashMap<String, Array>,
    config: Config,
    shapes: HashMap<String, Vec<usize>>,
}

impl BigVision {
    /// Opens the file at `path`; without a `config` its shapes tell it.
    pub(super) fn open(path: &Path, config: Option<Config>) -> Result<(Self, Config)> {
        let arrays = npz::read(path, key_of)?;
        if arrays.is_empty() {
            return Err(Error::BadCheckpoint(format!(
                "expected the arrays of a big_vision two-tower model (params/img/...), got none: {}",
                path.display()
            )));
        }
        let config = match config {
            Some(config) => config,
            None => Arrays(&arrays).config()?,
        };
        let mut weights = Self {
            files: [path.to_path_buf()],
            arrays,
            config,
            shapes: HashMap::new(),
        };
        let expected = expected_tensors(&weights.config);
        weights.check(&expected)?;
        weights.shapes = expected.into_iter().map(|t| (t.name, t.shape)).collect();
        let config = weights.config.clone();
        Ok((weights, config))
    }

    /// Checks that exactly the arrays for the `expected` tensors are there.
    fn check(&self, expected: &[ExpectedTensor]) -> Result<()> {
        let mut used = HashSet::new();
        for tensor in expected {
            for part in self.parts(&tensor.name, &tensor.shape) {
                let array = self
                    .arrays
                    .get(&part.key)
                    .ok_or_else(|| files::missing(&part.key, &part.shape))?;
                if !same_shape(&array.shape, &part.shape) {
                    return Err(files::misshaped(&part.key, &part.shape, &array.shape));
                }
                used.insert(part.key);
            }
        }
        let surplus = self.arrays.keys().filter(|key| !used.contains(*key)).min();
        match surplus.and_then(|key| Some((key, self.arrays.get(key)?))) {
            Some((key, array)) => Err(files::surplus(key, &array.shape)),
            None => Ok(()),
        }
    }

    /// The arrays that make the tensor `name` of Hugging Face `shape`, joined along its first axis.
    fn parts(&self, name: &str, shape: &[usize]) -> Vec<Part> {
        let (vision, text) = (&self.config.vision, &self.config.text);
        let heads = match text {
            Some(text) if name.starts_with("text_model.") => text.num_attention_heads,
            _ => vision.num_attention_heads,
        };
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        let part = |key: String, shape: Vec<usize>, rule| {
            vec![Part {
                key,
                shape,
                rule,
                layer: None,
            }]
        };
        let with_axis = |shape: &[usize]| [&[1], shape].concat();
        match (module, leaf) {
            ("", "logit_scale") => part("t".into(), vec![1], Rule::Copy),
            ("", "logit_bias") => part("b".into(), vec![1], Rule::Copy),
            ("vision_model.embeddings.patch_embedding", "weight") => {
                let (d, p) = (vision.hidden_size, vision.patch_size);
                part(
                    "img/embedding/kernel".into(),
                    vec![p, p, 3, d],
                    Rule::Convolution,
                )
            }
            ("vision_model.embeddings.patch_embedding", _) => {
                part("img/embedding/bias".into(), shape.to_vec(), Rule::Copy)
            }
            ("vision_model.embeddings.position_embedding", _) => {
                part("img/pos_embedding".into(), with_axis(shape), Rule::Copy)
            }
            ("text_model.embeddings.position_embedding", _) => {
                part("txt/pos_embedding".into(), with_axis(shape), Rule::Copy)
            }
            ("text_model.embeddings.token_embedding", _) => {
                part("txt/Embed_0/embedding".into(), shape.to_vec(), Rule::Copy)
            }
            ("vision_model.head", _) => {
                part("img/MAPHead_0/probe".into(), shape.to_vec(), Rule::Copy)
            }
            ("vision_model.head.attention", _) => joined_projections(leaf, shape, heads),
            _ => match self.module(module) {
                Some((module, kind, layer)) => vec![kind.part(&module, leaf, shape, heads, layer)],
                None => Vec::new(),
            },
        }
    }

    /// big_vision's path of a Hugging Face module, what kind it is, and its place in a stack of layers with their number.
    fn module(&self, name: &str) -> Option<(String, Kind, Option<Layer>)> {
        let plain = |path: &str, kind| Some((path.to_owned(), kind, None));
        let (tower, rest) = match name {
            "vision_model.post_layernorm" => {
                return plain("img/Transformer/encoder_norm", Kind::Norm);
            }
            "text_model.final_layer_norm" => {
                return plain("txt/Encoder_0/encoder_norm", Kind::Norm);
            }
            "text_model.head" => return plain("txt/head", Kind::Linear),
            "vision_model.head.layernorm" => return plain("img/MAPHead_0/LayerNorm_0", Kind::Norm),
            _ => match name.strip_prefix("vision_model.head.") {
                Some(rest) => {
                    let (path, kind) = submodule(rest)?;
                    return plain(&format!("img/MAPHead_0/{path}"), kind);
                }
                None => name.split_once(".encoder.layers.")?,
            },
        };
        let (layer, rest) = rest.split_once('.')?;
        let (path, kind) = submodule(rest)?;
        let (stack, depth) = match (tower, &self.config.text) {
            ("vision_model", _) => (VISION_BLOCK, self.config.vision.num_hidden_layers),
            (_, text) => (TEXT_BLOCK, text.as_ref()?.num_hidden_layers),
        };
        if Arrays(&self.arrays).is_scanned(stack) {
            let layer = layer.parse().ok()?;
            return Some((format!("{stack}/{path}"), kind, Some((layer, depth))));
        }
        Some((format!("{stack}_{layer}/{path}"), kind, None))
    }
}

impl Weights for BigVision {
    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(shape) = self.shapes.get(name) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut dtype = None;
        for part in self.parts(name, shape) {
            let missing = || files::missing(&part.key, &part.shape);
            let array = self.arrays.get(&part.key).ok_or_else(missing)?;
            if dtype.is_some_and(|dtype| dtype != array.dtype) {
                return Err(Error::BadTensor {
                    name: part.key,
                    expected: "the number type of its sister projections".into(),
                    got: array.dtype.to_string(),
                });
            }
            dtype = Some(array.dtype);
            let stored = part.bytes(array).ok_or_else(missing)?;
            bytes.extend(match array.dtype.size() {
                4 => part.rearranged::<4>(stored),
                _ => part.rearranged::<2>(stored),
            });
        }
        Ok(dtype.map(|dtype| Tensor::from_bytes(dtype, shape.clone(), &bytes)))
    }

    fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The arrays alone, which tell a model's shapes where no `config.json` does.
struct Arrays<'a>(&'a HashMap<String, Array>);

impl Arrays<'_> {
    /// Whether the layers of a tower are stacked along a first axis.
    fn is_scanned(&self, block: &str) -> bool {
        self.0.contains_key(&format!("{block}/LayerNorm_0/scale"))
    }

    fn config(&self) -> Result<Config> {
        let [patch_size, _, num_channels, _] = self.shape("img/embedding/kernel")?;
        let [_, patches, _] = self.shape("img/pos_embedding")?;
        let grid = patches.isqrt();
        if grid * grid != patches {
            return Err(Error::BadTensor {
                name: "img/pos_embedding".into(),
                expected: "the positions of a square grid".into(),
                got: format!("{patches} positions"),
            });
        }
        let vision = self.tower(VISION_BLOCK)?;
        let text = match self.0.contains_key("txt/Embed_0/embedding") {
            true => Some(self.text()?),
            false => None,
        };
        let config = Config {
            vision: VisionConfig {
                hidden_size: vision.width,
                intermediate_size: vision.mlp,
                num_hidden_layers: vision.depth,
                num_attention_heads: vision.heads,
                num_channels,
                image_size: grid.saturating_mul(patch_size),
                patch_size,
                layer_norm_eps: FLAX_EPS,
                use_head: self.0.contains_key("img/MAPHead_0/probe"),
            },
            text,
            classes: None,
        };
        config.check()?;
        Ok(config)
    }

    fn text(&self) -> Result<TextConfig> {
        let [vocab_size, _] = self.shape("txt/Embed_0/embedding")?;
        let [_, max_position_embeddings, _] = self.shape("txt/pos_embedding")?;
        let [_, projection_size] = self.shape("txt/head/kernel")?;
        let tower = self.tower(TEXT_BLOCK)?;
        Ok(TextConfig {
            hidden_size: tower.width,
            intermediate_size: tower.mlp,
            num_hidden_layers: tower.depth,
            num_attention_heads: tower.heads,
            vocab_size,
            max_position_embeddings,
            layer_norm_eps: FLAX_EPS,
            projection_size,
        })
    }

    fn tower(&self, block: &str) -> Result<Tower> {
        let query = "MultiHeadDotProductAttention_0/query/kernel";
        let dense = "MlpBlock_0/Dense_0/kernel";
        if self.is_scanned(block) {
            let [depth, width, heads, _] = self.shape(&format!("{block}/{query}"))?;
            let [_, _, mlp] = self.shape(&format!("{block}/{dense}"))?;
            return Ok(Tower {
                width,
                mlp,
                depth,
                heads,
            });
        }
        let [width, heads, _] = self.shape(&format!("{block}_0/{query}"))?;
        let [_, mlp] = self.shape(&format!("{block}_0/{dense}"))?;
        let is_there = |i: &usize| {
            self.0
                .contains_key(&format!("{block}_{i}/LayerNorm_0/scale"))
        };
        let depth = (0..).take_while(is_there).count();
        Ok(Tower {
            width,
            mlp,
            depth,
            heads,
        })
    }

    /// The shape of an array of `N` axes.
    fn shape<const N: usize>(&self, key: &str) -> Result<[usize; N]> {
        let shape = self.0.get(key).map(|array| &array.shape);
        shape
            .and_then(|shape| shape.as_slice().try_into().ok())
            .ok_or_else(|| Error::BadTensor {
                name: key.to_owned(),
                expected: format!("an array of {N} axes"),
                got: shape.map_or("nothing".into(), |s| format!("shape {}", show(s))),
            })
    }
}

const VISION_BLOCK: &str = "img/Transformer/encoderblock";
const TEXT_BLOCK: &str = "txt/Encoder_0/encoderblock";
/// flax's `LayerNorm` default, which big_vision keeps.
const FLAX_EPS: f32 = 1e-6;

struct Tower {
    width: usize,
    mlp: usize,
    depth: usize,
    heads: usize,
}

/// One layer of a stacked array: which of how many.
type Layer = (usize, usize);

/// An array, or one layer of a stacked array, and how its numbers are put in order.
struct Part {
    key: String,
    /// The array's shape, with the layers' axis where it has one.
    shape: Vec<usize>,
    rule: Rule,
    layer: Option<Layer>,
}

#[derive(Clone, Copy)]
enum Rule {
    Copy,
    /// (in, out) to (out, in), with this many outputs.
    Transpose(usize),
    /// HWIO to OIHW.
    Convolution,
}

impl Part {
    /// This part's bytes of `array`.
    fn bytes<'a>(&self, array: &'a Array) -> Option<&'a [u8]> {
        let Some((layer, depth)) = self.layer else {
            return Some(array.bytes());
        };
        let size = array.bytes().len().checked_div(depth)?;
        array.bytes().get(layer * size..(layer + 1) * size)
    }

    /// The numbers, of `S` bytes each, in Hugging Face order.
    fn rearranged<const S: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        match self.rule {
            Rule::Copy => bytes.to_vec(),
            Rule::Transpose(outputs) => transposed::<S>(bytes, outputs),
            Rule::Convolution => {
                let outputs = self.shape.last().copied().unwrap_or(1);
                let filter = bytes.len() / outputs.max(1);
                let by_output = transposed::<S>(bytes, outputs);
                let filters = by_output.chunks(filter.max(1));
                filters.flat_map(|hwi| transposed::<S>(hwi, 3)).collect()
            }
        }
    }
}

/// A (rows, columns) array of numbers of `S` bytes as (columns, rows), in blocks that stay in the cache.
fn transposed<const S: usize>(bytes: &[u8], columns: usize) -> Vec<u8> {
    const BLOCK: usize = 64;
    let (numbers, _) = bytes.as_chunks::<S>();
    let rows = numbers.len() / columns.max(1);
    let mut result = vec![[0u8; S]; numbers.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..(top + BLOCK).min(rows) {
                for column in left..(left + BLOCK).min(columns) {
                    result[column * rows + row] = numbers[row * columns + column];
                }
            }
        }
    }
    result.into_flattened()
}

/// What a module is, which tells the shapes of its arrays.
#[derive(Clone, Copy)]
enum Kind {
    Norm,
    Linear,
    /// Its outputs are split into heads.
    IntoHeads,
    /// Its inputs are split into heads.
    FromHeads,
}

impl Kind {
    /// The array of a module's `leaf` (`weight` or `bias`) of Hugging Face `shape`.
    fn part(
        self,
        module: &str,
        leaf: &str,
        shape: &[usize],
        heads: usize,
        layer: Option<Layer>,
    ) -> Part {
        let split = |width: usize| [heads, width / heads];
        let (name, mut array, rule) = match (self, shape) {
            (Self::Norm, _) if leaf == "weight" => ("scale", shape.to_vec(), Rule::Copy),
            (Self::IntoHeads, &[output]) => ("bias", split(output).to_vec(), Rule::Copy),
            (Self::IntoHeads, &[output, input]) => {
                let [h, dh] = split(output);
                ("kernel", vec![input, h, dh], Rule::Transpose(output))
            }
            (Self::FromHeads, &[output, input]) => {
                let [h, dh] = split(input);
                ("kernel", vec![h, dh, output], Rule::Transpose(output))
            }
            (Self::Linear, &[output, input]) => {
                ("kernel", vec![input, output], Rule::Transpose(output))
            }
            _ => ("bias", shape.to_vec(), Rule::Copy),
        };
        if let Some((_, depth)) = layer {
            array.insert(0, depth);
        }
        Part {
            key: format!("{module}/{name}"),
            shape: array,
            rule,
            layer,
        }
    }
}

/// The path below a block, or below the MAP head, of a Hugging Face module.
fn submodule(name: &str) -> Option<(&'static str, Kind)> {
    Some(match name {
        "layer_norm1" => ("LayerNorm_0", Kind::Norm),
        "layer_norm2" => ("LayerNorm_1", Kind::Norm),
        "self_attn.q_proj" => ("MultiHeadDotProductAttention_0/query", Kind::IntoHeads),
        "self_attn.k_proj" => ("MultiHeadDotProductAttention_0/key", Kind::IntoHeads),
        "self_attn.v_proj" => ("MultiHeadDotProductAttention_0/value", Kind::IntoHeads),
        "self_attn.out_proj" | "attention.out_proj" => {
            ("MultiHeadDotProductAttention_0/out", Kind::FromHeads)
        }
        "mlp.fc1" => ("MlpBlock_0/Dense_0", Kind::Linear),
        "mlp.fc2" => ("MlpBlock_0/Dense_1", Kind::Linear),
        _ => return None,
    })
}

/// The MAP head's query, key and value, which torch keeps in one matrix.
fn joined_projections(leaf: &str, shape: &[usize], heads: usize) -> Vec<Part> {
    let leaf = if leaf == "in_proj_weight" {
        "weight"
    } else {
        "bias"
    };
    let third: Vec<usize> = match shape {
        [rows, rest @ ..] => [&[rows / 3], rest].concat(),
        [] => Vec::new(),
    };
    ["query", "key", "value"]
        .map(|p| format!("img/MAPHead_0/MultiHeadDotProductAttention_0/{p}"))
        .map(|module| Kind::IntoHeads.part(&module, leaf, &third, heads, None))
        .into()
}

/// An array's key in this module: without `params/`; `None` for what is no parameter (optimizer state, step counts).
fn key_of(name: &str) -> Option<String> {
    let key = name.strip_prefix("params/").unwrap_or(name);
    let ours = key.starts_with("img/") || key.starts_with("txt/") || key == "t" || key == "b";
    ours.then(|| key.to_owned())
}
