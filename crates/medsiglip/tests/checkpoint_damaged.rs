//! Damaged and hostile checkpoints: each is an error that names what is wrong, never a panic.

mod checkpoint_support;

use std::fs;
use std::path::Path;

use checkpoint_support::{
    Random, Stored, config_json, folder, random_tensors, write_raw, write_safetensors,
};
use medsiglip::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions, expected_tensors};
use medsiglip::{Config, Error};

fn open(path: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(&ModelSource::Local(path.into()), &OpenOptions::default())
}

#[track_caller]
fn assert_error(path: &Path, code: &str, message: &str) {
    let error = open(path).err().expect("a bad checkpoint was opened");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

fn tiny() -> (String, Vec<Stored>) {
    let json = config_json("siglip");
    let tensors = random_tensors(&Config::from_json(&json).unwrap(), Dtype::F32);
    (json, tensors)
}

/// A folder whose tensors `change` has changed.
#[track_caller]
fn assert_changed(change: impl FnOnce(&mut Vec<Stored>), message: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (json, mut tensors) = tiny();
    change(&mut tensors);
    folder(dir.path(), &json, &tensors);
    assert_error(dir.path(), "BAD_TENSOR", message);
}

#[test]
fn a_wrong_tensor_is_named() {
    assert_changed(
        |tensors| tensors.retain(|t| t.name != "text_model.head.bias"),
        "tensor text_model.head.bias: expected shape (8), got nothing",
    );
    assert_changed(
        |tensors| {
            let copy = Stored {
                name: "vision_model.extra".into(),
                ..tensors[1].clone()
            };
            tensors.push(copy);
        },
        "tensor vision_model.extra: expected no such tensor, got a surplus one of shape (8)",
    );
    assert_changed(
        |tensors| tensors[0].shape = vec![8, 48],
        "expected shape (8, 3, 4, 4), got shape (8, 48)",
    );
    assert_changed(
        |tensors| {
            let scale = tensors
                .iter_mut()
                .find(|t| t.name == "logit_scale")
                .unwrap();
            scale.dtype = "I64";
            scale.bytes = vec![0; 8];
        },
        "tensor logit_scale: expected f32, bf16 or f16 numbers, got I64",
    );
    let as_integers = |tensors: &mut Vec<Stored>, name: &str| {
        let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
        tensor.dtype = "I8";
        tensor.bytes.truncate(tensor.bytes.len() / 4);
    };
    let with_scales = |tensors: &mut Vec<Stored>, shape: usize| {
        let name = "text_model.head.weight";
        as_integers(tensors, name);
        tensors.push(Stored {
            name: format!("{name}_scale"),
            dtype: "F32",
            shape: vec![shape],
            bytes: vec![0; 4 * shape],
        });
    };
    assert_changed(
        |tensors| as_integers(tensors, "text_model.head.weight"),
        "tensor text_model.head.weight_scale: expected shape (8), got nothing",
    );
    assert_changed(
        |tensors| with_scales(tensors, 7),
        "tensor text_model.head.weight_scale: expected shape (8), got shape (7)",
    );
    assert_changed(
        |tensors| as_integers(tensors, "text_model.embeddings.position_embedding.weight"),
        "tensor text_model.embeddings.position_embedding.weight: expected f32, bf16 or f16 numbers, got I8",
    );
}

#[test]
fn a_config_of_another_model_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (json, tensors) = tiny();
    folder(
        dir.path(),
        &json.replace("\"vocab_size\": 32", "\"vocab_size\": 33"),
        &tensors,
    );
    assert_error(
        dir.path(),
        "BAD_TENSOR",
        "expected shape (33, 8), got shape (32, 8)",
    );
    fs::write(
        dir.path().join("config.json"),
        config_json("siglip_vision_model"),
    )
    .unwrap();
    assert_error(
        dir.path(),
        "BAD_TENSOR",
        "tensor logit_bias: expected no such tensor",
    );
}

#[test]
fn cut_and_lying_files_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (json, tensors) = tiny();
    folder(dir.path(), &json, &tensors);
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_error(dir.path(), "BAD_CHECKPOINT", "model.safetensors");
    }
    fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert_error(dir.path(), "BAD_CHECKPOINT", "safetensors data: expected");

    for header_length in [1u64 << 60, u64::MAX, 100_000_000, u64::MAX - 7] {
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&header_length.to_le_bytes());
        fs::write(&path, lying).unwrap();
        assert_error(dir.path(), "BAD_CHECKPOINT", "model.safetensors");
    }
    fs::write(
        &path,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    )
    .unwrap();
    assert_error(dir.path(), "BAD_CHECKPOINT", "git lfs pull");
}

#[test]
fn lying_offsets_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(dir.path().join("config.json"), config_json("siglip")).unwrap();
    let huge = u64::MAX;
    for header in [
        // overlapping, with a hole, backwards, past the end, too small for the shape, not JSON
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#.to_owned(),
        format!(r#"{{"a":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,8]}}}}"#),
        format!(r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[0,{}]}}}}"#, huge / 8, huge / 8),
        format!(r#"{{"a":{{"dtype":"F32","shape":[0],"data_offsets":[{huge},{huge}]}}}}"#),
        r#"{"a":"#.to_owned(),
        "[".repeat(100_000),
    ] {
        write_raw(&path, &header, &[0; 8]);
        assert_error(dir.path(), "BAD_CHECKPOINT", "model.safetensors");
    }
}

#[test]
fn an_index_leads_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let (json, tensors) = tiny();
    fs::write(dir.path().join("config.json"), json).unwrap();
    write_safetensors(&dir.path().join("here.safetensors"), &tensors);
    let index = dir.path().join("model.safetensors.index.json");
    let text = |shard: &str| {
        let map: serde_json::Map<_, _> = tensors
            .iter()
            .map(|t| (t.name.clone(), shard.into()))
            .collect();
        serde_json::json!({ "weight_map": map }).to_string()
    };
    fs::write(&index, text("here.safetensors")).unwrap();
    assert!(open(dir.path()).is_ok());
    for shard in [
        "../here.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "a\\b.safetensors",
        "",
    ] {
        fs::write(&index, text(shard)).unwrap();
        assert_error(
            dir.path(),
            "BAD_CHECKPOINT",
            "expected plain names of .safetensors files",
        );
    }
    fs::write(&index, text("absent.safetensors")).unwrap();
    assert_error(dir.path(), "IO_ERROR", "absent.safetensors");
    for text in ["", "[]", r#"{"weight_map": []}"#, r#"{"weight_map": {}}"#] {
        fs::write(&index, text).unwrap();
        assert_error(dir.path(), "BAD_CHECKPOINT", "model.safetensors.index.json");
    }
}

#[test]
fn what_is_no_checkpoint_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    assert_error(dir.path(), "IO_ERROR", "config.json");
    fs::write(dir.path().join("config.json"), config_json("siglip")).unwrap();
    assert_error(
        dir.path(),
        "BAD_CHECKPOINT",
        "expected model.safetensors or",
    );
    fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    assert_error(dir.path(), "UNSUPPORTED", "pickled pytorch_model.bin");
    assert_error(
        &dir.path().join("config.json"),
        "BAD_ARGUMENT",
        "expected a folder",
    );
    assert_error(
        &dir.path().join("nothing"),
        "BAD_ARGUMENT",
        "expected a folder",
    );
    fs::write(dir.path().join("config.json"), config_json("siglip2")).unwrap();
    assert_error(dir.path(), "UNSUPPORTED", "siglip2");
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    fs::write(dir.path().join("config.json"), config_json("siglip")).unwrap();
    assert_error(dir.path(), "BAD_CHECKPOINT", "expected a regular file");
}

/// Flips bytes of each golden file: it opens, and then every tensor loads, or it is an error.
#[test]
fn random_damage_never_panics() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoint");
    let mut random = Random(11);
    let mut next = |below: usize| ((random.next() + 1.0) / 2.0 * below as f32) as usize % below;
    for name in [
        "huggingface/model.safetensors",
        "bigvision.npz",
        "scanned.npz",
        "bfloat16.npz",
    ] {
        let whole = fs::read(golden.join(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let npz = name.ends_with(".npz");
        let path = dir
            .path()
            .join(if npz { "x.npz" } else { "model.safetensors" });
        if !npz {
            fs::copy(
                golden.join("huggingface/config.json"),
                dir.path().join("config.json"),
            )
            .unwrap();
        }
        for round in 0..400 {
            let mut bytes = whole.clone();
            // The ends are where zip and safetensors keep their lengths.
            let from = match round % 3 {
                0 => 0,
                1 => bytes.len().saturating_sub(8000),
                _ => next(bytes.len()),
            };
            for _ in 0..=next(4) {
                let at = (from + next(8000)).min(bytes.len() - 1);
                bytes[at] = [0, 255, 127, b'9', b'('][next(5)];
            }
            if round % 5 == 0 {
                bytes.truncate(next(whole.len()));
            }
            fs::write(&path, &bytes).unwrap();
            let source = if npz { path.as_path() } else { dir.path() };
            let Ok(checkpoint) = open(source) else {
                continue;
            };
            for t in expected_tensors(checkpoint.config()) {
                if let Ok(tensor) = checkpoint.tensor(&t.name, &t.shape) {
                    assert_eq!(tensor.to_f32().len(), t.shape.iter().product::<usize>());
                }
            }
        }
    }
}
