//! Checkpoints as users have them: folders in the Hugging Face layout, sharded ones, Gemma's, big_vision's.

mod checkpoint_support;

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint_support::{Stored, config_json, folder, random_tensors, write_safetensors};
use medsiglip::checkpoint::{
    Checkpoint, Dtype, ModelSource, OpenOptions, PositionResampling, expected_tensors, save,
};
use medsiglip::{Config, Error};
use sha2::{Digest, Sha256};

const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

fn open(path: &Path) -> Checkpoint {
    open_with(path, &OpenOptions::default()).unwrap()
}

fn open_with(path: &Path, options: &OpenOptions) -> Result<Checkpoint, Error> {
    Checkpoint::open(&ModelSource::Local(path.into()), options)
}

fn tiny() -> Config {
    Config::from_json(&config_json("siglip")).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/checkpoint")
        .join(name)
}

fn assert_same_numbers(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.config(), b.config());
    for t in expected_tensors(a.config()) {
        let (a, b) = (
            a.tensor(&t.name, &t.shape).unwrap(),
            b.tensor(&t.name, &t.shape).unwrap(),
        );
        assert_eq!(a.to_f32(), b.to_f32(), "{}", t.name);
    }
}

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
    for dtype in Dtype::ALL {
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
    assert_same_numbers(&rounded, &open(&golden("bfloat16.npz")));
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
fn checksums_are_those_of_the_files() {
    let path = golden("huggingface");
    let sum = sha256(&fs::read(path.join("model.safetensors")).unwrap());
    assert_eq!(open(&path).checksum().unwrap(), format!("sha256:{sum}"));
    let dir = tempfile::tempdir().unwrap();
    save(
        &open(&path),
        &dir.path().join("sharded"),
        None,
        Some(10_000),
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
fn what_is_saved_opens_as_the_same_model() {
    for (source, resolution, dtype, shard) in [
        ("huggingface", None, None, None),
        ("huggingface", Some(24), None, Some(5_000)),
        ("huggingface", None, Some(Dtype::Bf16), Some(1)),
        ("scanned.npz", Some(8), Some(Dtype::F16), None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            resolution,
            dtype,
            ..OpenOptions::default()
        };
        let opened = open_with(&golden(source), &options).unwrap();
        let target = dir.path().join("new/model");
        save(&opened, &target, dtype, shard).unwrap();
        let saved = open(&target);
        assert_same_numbers(&opened, &saved);
        assert_eq!(
            saved.tensor("logit_bias", &[1]).unwrap().dtype(),
            dtype.unwrap_or(Dtype::F32)
        );
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }
}

#[test]
fn the_files_beside_the_weights_are_saved_too() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(
        dir.path(),
        &config_json("siglip"),
        &random_tensors(&tiny(), Dtype::F32),
    );
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    fs::write(dir.path().join("README.md"), "not for us").unwrap();
    let processor = r#"{"image_processor_type": "Gemma3ImageProcessor", "do_pan_and_scan": null,
        "resample": 2, "size": {"height": 16, "width": 16}}"#;
    fs::write(dir.path().join("preprocessor_config.json"), processor).unwrap();
    let options = OpenOptions {
        resolution: Some(32),
        ..OpenOptions::default()
    };
    // An empty folder that is already there is fine.
    save(
        &open_with(dir.path(), &options).unwrap(),
        out.path(),
        None,
        None,
    )
    .unwrap();
    assert_eq!(
        fs::read_to_string(out.path().join("tokenizer.json")).unwrap(),
        "{}"
    );
    assert!(!out.path().join("README.md").exists());
    let text = fs::read_to_string(out.path().join("preprocessor_config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({"image_processor_type": "SiglipImageProcessor", "resample": 2,
        "processor_class": "SiglipProcessor", "size": {"height": 32, "width": 32}});
    assert_eq!(json, expected);
}

#[test]
fn a_failed_save_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = random_tensors(&tiny(), Dtype::F32);
    let last = tensors.last_mut().unwrap();
    last.bytes = 1e6f32.to_le_bytes().to_vec();
    folder(dir.path(), &config_json("siglip"), &tensors);
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("model");
    let error = save(&open(dir.path()), &target, Some(Dtype::F16), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor logit_bias: expected numbers that fit f16, got 1000000"
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);

    let error = save(&open(dir.path()), dir.path(), None, None).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let error = save(&open(dir.path()), &target, None, Some(0)).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
