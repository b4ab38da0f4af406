//! Tiny checkpoints with random weights, written as the public tools write them.

#![allow(dead_code)] // each test file takes what it needs

use std::fs;
use std::path::{Path, PathBuf};

use medsiglip::checkpoint::{
    Checkpoint, Dtype, ModelSource, OpenOptions, SaveOptions, expected_tensors,
};
use medsiglip::{Config, Error};

/// A tensor as a file holds it.
#[derive(Clone)]
pub struct Stored {
    pub name: String,
    /// The format's own name: `F32`, `BF16`, `F16`, `I64`.
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn open(path: &Path) -> Checkpoint {
    open_with(path, &OpenOptions::default()).unwrap()
}

pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Checkpoint, Error> {
    Checkpoint::open(&ModelSource::Local(path.into()), options)
}

/// The config of the tests' small model.
pub fn tiny() -> Config {
    Config::from_json(&config_json("siglip")).unwrap()
}

/// A checked-in checkpoint.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/checkpoint")
        .join(name)
}

pub fn assert_same_numbers(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.config(), b.config());
    for t in expected_tensors(a.config()) {
        let (a, b) = (
            a.tensor(&t.name, &t.shape).unwrap(),
            b.tensor(&t.name, &t.shape).unwrap(),
        );
        assert_eq!(a.to_f32(), b.to_f32(), "{}", t.name);
    }
}

pub fn saving(dtype: Option<Dtype>, max_shard_bytes: Option<u64>) -> SaveOptions {
    SaveOptions {
        dtype,
        max_shard_bytes,
        ..SaveOptions::default()
    }
}

/// A `config.json` of two small towers, or of the vision tower alone.
pub fn config_json(model_type: &str) -> String {
    let vision = r#""hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 4"#;
    match model_type {
        "siglip_vision_model" => format!(r#"{{"model_type": "siglip_vision_model", {vision}}}"#),
        _ => format!(
            r#"{{"model_type": "{model_type}", "vision_config": {{{vision}}},
            "text_config": {{"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 32, "max_position_embeddings": 6}}}}"#
        ),
    }
}

/// Every tensor of `config`, with random numbers between -1 and 1.
pub fn random_tensors(config: &Config, dtype: Dtype) -> Vec<Stored> {
    let mut random = Random(7);
    expected_tensors(config)
        .into_iter()
        .map(|t| {
            let numbers: Vec<f32> = (0..t.shape.iter().product())
                .map(|_| random.next())
                .collect();
            let (name, bytes) = bytes_of(&numbers, dtype);
            Stored {
                name: t.name,
                dtype: name,
                shape: t.shape,
                bytes,
            }
        })
        .collect()
}

/// The little-endian bytes of `numbers` rounded to `dtype`, and that type's name in the file.
pub fn bytes_of(numbers: &[f32], dtype: Dtype) -> (&'static str, Vec<u8>) {
    let halves = |bits: fn(f32) -> u16| {
        numbers
            .iter()
            .flat_map(|&x| bits(x).to_le_bytes())
            .collect()
    };
    match dtype {
        Dtype::F32 => (
            "F32",
            numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        Dtype::Bf16 => ("BF16", halves(|x| half::bf16::from_f32(x).to_bits())),
        Dtype::F16 => ("F16", halves(|x| half::f16::from_f32(x).to_bits())),
        Dtype::Int8 => panic!("8-bit integers have scales: `save` writes them"),
    }
}

/// Writes a folder with `config.json` and `model.safetensors`.
pub fn folder(path: &Path, config: &str, tensors: &[Stored]) {
    fs::write(path.join("config.json"), config).unwrap();
    write_safetensors(&path.join("model.safetensors"), tensors);
}

/// Writes a safetensors file, by hand, so that tests can also write wrong ones.
pub fn write_safetensors(path: &Path, tensors: &[Stored]) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for t in tensors {
        let begin = data.len();
        data.extend_from_slice(&t.bytes);
        header.insert(
            t.name.clone(),
            serde_json::json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, data.len()]}),
        );
    }
    write_raw(path, &serde_json::Value::Object(header).to_string(), &data);
}

/// Writes a header and data as they are.
pub fn write_raw(path: &Path, header: &str, data: &[u8]) {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    fs::write(path, file).unwrap();
}

/// Numbers between -1 and 1, the same in every run (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
