//! Checkpoints that are written: whole or not at all, and read back as the same model.

mod checkpoint_support;

use std::fs;

use checkpoint_support::{
    assert_same_numbers, config_json, folder, golden, open, open_with, random_tensors, saving, tiny,
};
use medsiglip::checkpoint::{
    Dtype, OpenOptions, PositionResampling, SaveOptions, expected_tensors, save,
};

#[test]
fn what_is_saved_opens_as_the_same_model() {
    for (source, resolution, dtype, shard) in [
        ("huggingface", None, None, None),
        ("huggingface", Some(24), None, Some(5_000)),
        ("huggingface", None, Some(Dtype::Bf16), Some(1)),
        ("scanned.npz", Some(8), Some(Dtype::F16), None),
        ("huggingface", None, Some(Dtype::Int8), None),
        ("huggingface", Some(24), Some(Dtype::Int8), Some(300)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            resolution,
            dtype,
            ..OpenOptions::default()
        };
        let opened = open_with(&golden(source), &options).unwrap();
        let target = dir.path().join("new/model");
        save(&opened, &target, &saving(dtype, shard)).unwrap();
        let saved = open(&target);
        assert_same_numbers(&opened, &saved);
        let text = saved.config().text.as_ref().unwrap();
        let head = [text.projection_size, text.hidden_size];
        let head = saved.tensor("text_model.head.weight", &head).unwrap();
        assert_eq!(head.dtype(), dtype.unwrap_or(Dtype::F32));
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
        &saving(None, None),
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
    let head = tensors
        .iter_mut()
        .find(|t| t.name == "text_model.head.weight");
    head.unwrap().bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    folder(dir.path(), &config_json("siglip"), &tensors);
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("model");
    let error = save(&open(dir.path()), &target, &saving(Some(Dtype::F16), None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor text_model.head.weight: expected numbers that fit f16, got 1000000"
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);

    let error = save(&open(dir.path()), dir.path(), &saving(None, None)).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let error = save(&open(dir.path()), &target, &saving(None, Some(0))).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
}

#[test]
fn a_saved_checkpoint_tells_how_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (small, again) = (dir.path().join("small"), dir.path().join("again"));
    let options = OpenOptions {
        resolution: Some(8),
        positions: PositionResampling::Area,
        ..OpenOptions::default()
    };
    let source = open_with(&golden("huggingface"), &options).unwrap();
    save(&source, &small, &SaveOptions::default()).unwrap();
    save(&source, &again, &SaveOptions::default()).unwrap();
    let bytes = fs::read(small.join("model.safetensors")).unwrap();
    assert_eq!(bytes, fs::read(again.join("model.safetensors")).unwrap());
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let notes = metadata.metadata().as_ref().unwrap();
    let note = |name: &str| notes.get(name).map(String::as_str);
    assert_eq!(note("format"), Some("pt"));
    assert_eq!(note("medsiglip.version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(note("medsiglip.source"), Some(source.id()));
    let checksum = source.checksum().unwrap();
    assert_eq!(note("medsiglip.source_checksum"), Some(checksum));
    assert_eq!(note("medsiglip.resolution"), Some("8"));
    assert_eq!(note("medsiglip.positions"), Some("area"));

    // At its own resolution it is still a resampled one; at another the new resampling counts.
    assert_eq!(open(&small).resampled(), Some(PositionResampling::Area));
    let larger = OpenOptions {
        resolution: Some(16),
        positions: PositionResampling::Bicubic,
        ..OpenOptions::default()
    };
    let method = open_with(&small, &larger).unwrap().resampled();
    assert_eq!(method, Some(PositionResampling::Bicubic));
    // What we do not know is passed over.
    let text = String::from_utf8_lossy(&bytes[..8000]).into_owned();
    let at = text.find("\"area\"").map(|_| {
        let mut bytes = bytes.clone();
        let at = bytes.windows(6).position(|w| w == b"\"area\"").unwrap();
        bytes[at + 1] = b'x';
        bytes
    });
    fs::write(small.join("model.safetensors"), at.unwrap()).unwrap();
    assert_eq!(open(&small).resampled(), None);
    // An untouched table has no note.
    let whole = dir.path().join("whole");
    save(
        &open(&golden("huggingface")),
        &whole,
        &SaveOptions::default(),
    )
    .unwrap();
    assert_eq!(open(&whole).resampled(), None);
}

#[test]
fn what_rounding_would_hurt_stays_exact() {
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let target = dir.path().join(dtype.to_string());
        let source = open(&golden("huggingface"));
        save(&source, &target, &saving(Some(dtype), None)).unwrap();
        let saved = open(&target);
        for name in ["logit_scale", "logit_bias"] {
            let (a, b) = (
                source.tensor(name, &[1]).unwrap(),
                saved.tensor(name, &[1]).unwrap(),
            );
            assert_eq!(a.to_f32(), b.to_f32());
        }
        let config = fs::read_to_string(target.join("config.json")).unwrap();
        assert!(config.contains("float16"), "{config}");
    }
}

#[test]
fn an_interrupted_save_leaves_nothing_behind() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    fn stop() -> bool {
        LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_err()
    }
    let out = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        stop: Some(stop),
        ..SaveOptions::default()
    };
    let source = open(&golden("huggingface"));
    let mut rounds = 0;
    // Stopped at each of the places where it asks, until it gets through.
    loop {
        LEFT.store(rounds, Ordering::SeqCst);
        match save(&source, &out.path().join("model"), &options) {
            Err(error) => assert_eq!(error.code(), "INTERRUPTED"),
            Ok(()) => break,
        }
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
        rounds += 1;
    }
    assert!(rounds > expected_tensors(source.config()).len());
    assert!(open(&out.path().join("model")).checksum().is_ok());
}
