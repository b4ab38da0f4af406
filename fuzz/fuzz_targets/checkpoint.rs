//! Any bytes as a weight file: an error, or a checkpoint each of whose tensors loads whole or says why not.
//!
//! The first byte chooses the file: `model.safetensors`, `model.safetensors.index.json`, or a big_vision `.npz`.
//! Good seeds: the files of `crates/medsiglip/tests/golden/checkpoint`, each behind its byte.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use medsiglip::checkpoint::{Checkpoint, ModelSource, OpenOptions, expected_tensors};

const CONFIG: &str =
    include_str!("../../crates/medsiglip/tests/golden/checkpoint/huggingface/config.json");

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let name = match kind % 3 {
        0 => "model.safetensors",
        1 => "model.safetensors.index.json",
        _ => "model.npz",
    };
    let file = dir.path().join(name);
    fs::write(&file, bytes).unwrap();
    let source = if name.ends_with(".npz") {
        ModelSource::Local(file)
    } else {
        fs::write(dir.path().join("config.json"), CONFIG).unwrap();
        ModelSource::Local(dir.path().into())
    };
    let Ok(checkpoint) = Checkpoint::open(&source, &OpenOptions::default()) else {
        return;
    };
    for t in expected_tensors(checkpoint.config()) {
        if let Ok(tensor) = checkpoint.tensor(&t.name, &t.shape) {
            assert_eq!(tensor.to_f32().len(), t.shape.iter().product::<usize>());
        }
    }
});
