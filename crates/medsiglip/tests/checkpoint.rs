//! Checkpoints as users have them: folders in the Hugging Face layout, sharded ones, Gemma's, big_vision's.

mod checkpoint_support;

use std::fs;
use std::path::Path;

use checkpoint_support::{
    Stored, assert_same_numbers, config_json, folder, golden, open, open_with, random_tensors,
    saving, tiny, write_safetensors,
};
use medsiglip::Config;
use medsiglip::checkpoint::{
    Checkpoint, Dtype, ModelSource, OpenOptions, PositionResampling, expected_tensors, save,
};
use sha2::{Digest, Sha256};

const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

/// A Gemma 3 folder of two shards: the vision tower under `prefix`, a projector, and a language model elsewhere.
fn gemma_folder(path: &Path, prefix: &str) -> Vec<Stored> {
    let config = config_json("gemma3");
    let tower = random_tensors(&Config::from_json(&config).unwrap(), Dtype::Bf16);
    let mut first = vec![Stored {
        name: "multi_modal_projector.mm_input_projection_weight".into(),
        dtype: "BF16",
        shape: vec![1, 2],
        bytes: vec![0; 4],
    }];
    let mut weight_map = serde_json::Map::new();
    for t in &tower {
        let name = format!("{prefix}{}", t.name);
        first.push(Stored { name, ..t.clone() });
    }
    for t in &first {
        weight_map.insert(t.name.clone(), "model-00001-of-00002.safetensors".into());
    }
    // This shard is not even there: it must not be opened.
    weight_map.insert(
        "language_model.norm.weight".into(),
        "model-00002-of-00002.safetensors".into(),
    );
    fs::write(path.join("config.json"), config).unwrap();
    write_safetensors(&path.join("model-00001-of-00002.safetensors"), &first);
    let index = serde_json::json!({"metadata": {}, "weight_map": weight_map});
    fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    tower
}

#[test]
fn every_tensor_comes_back_as_it_was_written() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        let dir = tempfile::tempdir().unwrap();
        let tensors = random_tensors(&tiny(), dtype);
        folder(dir.path(), &config_json("siglip"), &tensors);
        let checkpoint = open(dir.path());
        assert_eq!(checkpoint.config(), &tiny());
        for expected in expected_tensors(checkpoint.config()) {
            let tensor = checkpoint.tensor(&expected.name, &expected.shape).unwrap();
            let stored = tensors.iter().find(|t| t.name == expected.name).unwrap();
            assert_eq!(tensor.dtype(), dtype);
            assert_eq!(tensor.shape(), expected.shape);
            assert_eq!(
                tensor.values().as_bytes(),
                stored.bytes,
                "{}",
                expected.name
            );
            assert_eq!(
                tensor.to_f32().len(),
                expected.shape.iter().product::<usize>()
            );
        }
    }
}

#[test]
fn unaligned_data_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    // One byte of a buffer that we ignore puts all that follows off its alignment.
    let odd = Stored {
        name: "vision_model.embeddings.position_ids".into(),
        dtype: "U8",
        shape: vec![1],
        bytes: vec![9],
    };
    let tensors = random_tensors(&tiny(), Dtype::F32);
    folder(
        dir.path(),
        &config_json("siglip"),
        &[vec![odd], tensors.clone()].concat(),
    );
    let checkpoint = open(dir.path());
    for t in &tensors {
        let tensor = checkpoint.tensor(&t.name, &t.shape).unwrap();
        assert_eq!(tensor.values().as_bytes(), t.bytes, "{}", t.name);
    }
}

#[test]
fn a_wrong_name_or_shape_is_told() {
    let dir = tempfile::tempdir().unwrap();
    folder(
        dir.path(),
        &config_json("siglip"),
        &random_tensors(&tiny(), Dtype::F32),
    );
    let checkpoint = open(dir.path());
    let error = checkpoint.tensor("nothing", &[2]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "tensor nothing: expected shape (2), got nothing"
    );
    let error = checkpoint.tensor("logit_scale", &[2]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "tensor logit_scale: expected shape (2), got shape (1)"
    );
    assert!(checkpoint.tensor("logit_scale", &[]).is_ok());
}

#[test]
fn reads_what_transformers_writes() {
    let checkpoint = open(&golden("huggingface"));
    let text = checkpoint.config().text.as_ref().unwrap();
    assert_eq!(
        (
            text.hidden_size,
            text.num_hidden_layers,
            text.projection_size
        ),
        (12, 3, 8)
    );
    assert_eq!(checkpoint.id(), "huggingface");
    assert!(checkpoint.preprocessor_config().is_none());
    assert_eq!(checkpoint.resampled(), None);
}

#[test]
fn big_vision_files_hold_the_same_model() {
    let huggingface = open(&golden("huggingface"));
    for name in ["bigvision.npz", "scanned.npz"] {
        let checkpoint = open(&golden(name));
        assert_same_numbers(&huggingface, &checkpoint);
        assert_eq!(checkpoint.id(), name);
    }
    let options = OpenOptions {
        dtype: Some(Dtype::Bf16),
        ..OpenOptions::default()
    };
    let rounded = open_with(&golden("huggingface"), &options).unwrap();
    let bfloat16 = open(&golden("bfloat16.npz"));
    assert_eq!(rounded.config(), bfloat16.config());
    for t in expected_tensors(rounded.config()) {
        let stored = bfloat16.tensor(&t.name, &t.shape).unwrap();
        assert_eq!(stored.dtype(), Dtype::Bf16);
        let own = huggingface.tensor(&t.name, &t.shape).unwrap();
        let by_hand: Vec<f32> = own
            .to_f32()
            .iter()
            .map(|x| half::bf16::from_f32(*x).to_f32())
            .collect();
        assert_eq!(*stored.to_f32(), by_hand, "{}", t.name);
        // Asked for at opening, only what has two axes is rounded.
        let opened = rounded.tensor(&t.name, &t.shape).unwrap();
        let is_weight = t.shape.iter().filter(|side| **side > 1).count() > 1;
        let expected = if is_weight { stored } else { own };
        assert_eq!(opened.dtype(), expected.dtype(), "{}", t.name);
        assert_eq!(opened.to_f32(), expected.to_f32(), "{}", t.name);
    }
}

#[test]
fn gemma_gives_its_vision_tower() {
    for prefix in ["vision_tower.", "model.vision_tower."] {
        let dir = tempfile::tempdir().unwrap();
        let tower = gemma_folder(dir.path(), prefix);
        let checkpoint = open(dir.path());
        assert!(!checkpoint.config().vision.use_head);
        assert_eq!(checkpoint.config().text, None);
        for t in &tower {
            let tensor = checkpoint.tensor(&t.name, &t.shape).unwrap();
            assert_eq!(tensor.values().as_bytes(), t.bytes);
        }
    }
}

#[test]
fn gemma_takes_the_head_and_the_text_tower_of_another() {
    let (gemma, siglip) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tower = gemma_folder(gemma.path(), "vision_tower.");
    let donor = random_tensors(&tiny(), Dtype::F16);
    folder(siglip.path(), &config_json("siglip"), &donor);
    let options = OpenOptions {
        head_from: Some(ModelSource::Local(siglip.path().into())),
        ..OpenOptions::default()
    };
    let both = open_with(gemma.path(), &options).unwrap();
    assert_eq!(both.config(), &tiny());
    for expected in expected_tensors(both.config()) {
        let tensor = both.tensor(&expected.name, &expected.shape).unwrap();
        let own = tower.iter().find(|t| t.name == expected.name);
        let from = own
            .or_else(|| donor.iter().find(|t| t.name == expected.name))
            .unwrap();
        assert_eq!(tensor.values().as_bytes(), from.bytes, "{}", expected.name);
    }
    assert_eq!(both.folder(), siglip.path());
    assert_eq!(both.id().matches('+').count(), 1);
    let (first, second) = (open(gemma.path()), open(siglip.path()));
    let sum = |c: &Checkpoint| {
        c.checksum()
            .unwrap()
            .trim_start_matches("sha256:")
            .to_owned()
    };
    let lines = format!("{}\n{}\n", sum(&first), sum(&second));
    assert_eq!(sum(&both), sha256(lines.as_bytes()));

    // A complete checkpoint needs none, and a head of another width fits none.
    let error = open_with(siglip.path(), &options).err().unwrap();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let wide = config_json("siglip").replace("\"hidden_size\": 8", "\"hidden_size\": 16");
    let other = tempfile::tempdir().unwrap();
    let config = Config::from_json(&wide).unwrap();
    folder(other.path(), &wide, &random_tensors(&config, Dtype::F32));
    let options = OpenOptions {
        head_from: Some(ModelSource::Local(other.path().into())),
        ..OpenOptions::default()
    };
    let error = open_with(gemma.path(), &options).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("expected a hidden_size of 8, got 16"),
        "{error}"
    );
}

#[test]
fn another_resolution_resamples_the_positions() {
    let path = golden("huggingface");
    let own = open(&path).tensor(POSITIONS, &[16, 8]).unwrap();
    for method in PositionResampling::ALL {
        let options = OpenOptions {
            resolution: Some(8),
            positions: method,
            ..OpenOptions::default()
        };
        let checkpoint = open_with(&path, &options).unwrap();
        assert_eq!(checkpoint.config().vision.image_size, 8);
        assert_eq!(checkpoint.resampled(), Some(method));
        let table = checkpoint.tensor(POSITIONS, &[4, 8]).unwrap();
        assert_eq!(
            *table.to_f32(),
            *method.resample(&own.to_f32(), 4, 2, 8).unwrap()
        );
    }
    let same = OpenOptions {
        resolution: Some(16),
        ..OpenOptions::default()
    };
    assert_eq!(open_with(&path, &same).unwrap().resampled(), None);
    for (resolution, code) in [
        (0, "BAD_ARGUMENT"),
        (18, "BAD_ARGUMENT"),
        (1 << 20, "LIMIT_EXCEEDED"),
    ] {
        let options = OpenOptions {
            resolution: Some(resolution),
            ..OpenOptions::default()
        };
        assert_eq!(open_with(&path, &options).err().unwrap().code(), code);
    }
}

#[test]
fn a_resolution_that_no_config_may_have_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let json = config_json("siglip")
        .replace("\"image_size\": 16", "\"image_size\": 64")
        .replace("\"patch_size\": 4", "\"patch_size\": 32");
    let config = Config::from_json(&json).unwrap();
    folder(dir.path(), &json, &random_tensors(&config, Dtype::F32));
    // 513 patches a side would do, but what `save` then writes could not be opened.
    let options = OpenOptions {
        resolution: Some(513 * 32),
        ..OpenOptions::default()
    };
    let error = open_with(dir.path(), &options).err().unwrap();
    assert_eq!(error.code(), "LIMIT_EXCEEDED", "{error}");
}

#[test]
fn checksums_are_those_of_the_files() {
    let path = golden("huggingface");
    let sum = sha256(&fs::read(path.join("model.safetensors")).unwrap());
    assert_eq!(open(&path).checksum().unwrap(), format!("sha256:{sum}"));
    let dir = tempfile::tempdir().unwrap();
    save(
        &open(&path),
        &dir.path().join("sharded"),
        &saving(None, Some(10_000)),
    )
    .unwrap();
    let folder = dir.path().join("sharded");
    let mut lines: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() == "safetensors")
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            format!("{name} {}\n", sha256(&fs::read(&path).unwrap()))
        })
        .collect();
    assert!(lines.len() > 2);
    lines.sort();
    let expected = format!("sha256:{}", sha256(lines.concat().as_bytes()));
    assert_eq!(open(&folder).checksum().unwrap(), expected);
}

#[cfg(unix)]
#[test]
fn a_cached_blob_carries_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/abc"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    // Not the file's real sum: so the test sees that the file was not read.
    let name = "0123456789abcdef".repeat(4);
    fs::copy(golden("huggingface/model.safetensors"), blobs.join(&name)).unwrap();
    fs::copy(
        golden("huggingface/config.json"),
        snapshot.join("config.json"),
    )
    .unwrap();
    let link = Path::new("../../blobs").join(&name);
    std::os::unix::fs::symlink(link, snapshot.join("model.safetensors")).unwrap();
    assert_eq!(
        open(&snapshot).checksum().unwrap(),
        format!("sha256:{name}")
    );
}

#[test]
fn every_file_that_decides_the_result_is_in_the_checksum() {
    let dir = tempfile::tempdir().unwrap();
    folder(
        dir.path(),
        &config_json("siglip"),
        &random_tensors(&tiny(), Dtype::F32),
    );
    let sum = || open(dir.path()).config_checksum().unwrap().to_owned();
    let config = sha256(config_json("siglip").as_bytes());
    let line = format!("config.json {config}\n");
    assert_eq!(sum(), format!("sha256:{}", sha256(line.as_bytes())));
    let mut sums = vec![sum()];
    for (name, text) in [
        ("preprocessor_config.json", r#"{"resample": 2}"#),
        ("preprocessor_config.json", r#"{"resample": 3}"#),
        ("spiece.model", "x"),
        ("tokenizer.json", "{}"),
        ("config.json", &(config_json("siglip") + "\n")),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        assert!(!sums.contains(&sum()), "{name}");
        sums.push(sum());
    }
    let lines: String = [
        ("config.json", config_json("siglip") + "\n"),
        ("preprocessor_config.json", r#"{"resample": 3}"#.into()),
        ("tokenizer.json", "{}".into()),
    ]
    .map(|(name, text)| format!("{name} {}\n", sha256(text.as_bytes())))
    .concat();
    assert_eq!(sum(), format!("sha256:{}", sha256(lines.as_bytes())));
    // spiece.model is not read where there is a tokenizer.json, and a README never.
    fs::write(dir.path().join("spiece.model"), "y").unwrap();
    fs::write(dir.path().join("README.md"), "y").unwrap();
    assert_eq!(sum(), format!("sha256:{}", sha256(lines.as_bytes())));
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
