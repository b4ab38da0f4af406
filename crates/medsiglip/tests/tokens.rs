//! Token ids against transformers, SentencePiece and open_clip (goldens of `scripts/make_token_golden.py`).

use std::path::{Path, PathBuf};

use medsiglip::tokenizer::{Canonicalizer, MAX_TEXT_BYTES, Tokenizer, TokenizerFile};
use serde_json::{Value, json};

const LENGTH: usize = 64;
const EOS: u32 = 1;

fn data(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).join(path)
}

fn load(folder: &Path, file: TokenizerFile, vocab_size: usize) -> Tokenizer {
    let bytes = std::fs::read(folder.join(file.name())).unwrap();
    Tokenizer::from_bytes(file, bytes, LENGTH, vocab_size).unwrap()
}

fn tiny(file: TokenizerFile) -> Tokenizer {
    load(&data("tiny"), file, 640)
}

const FILES: [TokenizerFile; 2] = [TokenizerFile::TokenizerJson, TokenizerFile::Spiece];

/// Compares all texts of a golden file by all canonicalizers, and says which differ.
fn check_golden(tokenizer: &Tokenizer, golden: &str) {
    let lines: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(data(golden)).unwrap()).unwrap();
    assert!(lines.len() >= 200);
    let mut wrong = Vec::new();
    for line in &lines {
        let text = line["text"].as_str().unwrap();
        for canonicalizer in Canonicalizer::ALL {
            let expected = line.get(canonicalizer.name()).unwrap_or(&line["hf-slow"]);
            if expected.is_null() {
                continue; // ftfy would repair this text's encoding, as `open-clip` here does not.
            }
            let mut expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
            expected.resize(LENGTH, EOS);
            let got = tokenizer.encode(text, canonicalizer).unwrap();
            if got.ids != expected {
                wrong.push(format!(
                    "{canonicalizer} {text:?}\n  {:?}\n  {expected:?}",
                    got.ids
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn tiny_tokenizer_json_gives_the_golden_ids() {
    check_golden(&tiny(TokenizerFile::TokenizerJson), "tokens/tiny.json");
}

#[test]
fn tiny_spiece_gives_the_golden_ids() {
    check_golden(&tiny(TokenizerFile::Spiece), "tokens/tiny.json");
}

#[test]
fn published_files_give_the_golden_ids() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/tokenizer"
    ));
    if !folder.is_dir() {
        eprintln!("skipped: no published tokenizer beside the repository");
        return;
    }
    for file in FILES {
        let tokenizer = load(folder, file, 32_000);
        assert_eq!(tokenizer.eos_id(), EOS);
        check_golden(&tokenizer, "tokens/published.json");
    }
}

#[test]
fn every_text_has_one_width_and_ends_in_eos() {
    let tokenizer = Tokenizer::from_folder(&data("tiny"), LENGTH, 640).unwrap();
    let long = "chest x-ray ".repeat(200);
    let texts = ["", "no pneumothorax", &long, "...", "\u{0}"];
    for canonicalizer in Canonicalizer::ALL {
        let (ids, truncated) = tokenizer.encode_batch(&texts, canonicalizer).unwrap();
        assert_eq!((ids.batch(), ids.length()), (texts.len(), LENGTH));
        assert_eq!(truncated, [2], "{canonicalizer}");
        for (text, row) in texts.iter().zip(ids.data().chunks(LENGTH)) {
            assert_eq!(row[LENGTH - 1], EOS);
            assert_eq!(row, tokenizer.encode(text, canonicalizer).unwrap().ids);
        }
        assert_ne!(
            ids.data()[2 * LENGTH + LENGTH - 2],
            EOS,
            "no room is wasted"
        );
    }
    let (none, truncated) = tokenizer
        .encode_batch::<&str>(&[], Canonicalizer::HfSlow)
        .unwrap();
    assert_eq!((none.batch(), truncated.len()), (0, 0));
}

#[test]
fn a_text_that_just_fits_is_not_truncated() {
    let tokenizer = tiny(TokenizerFile::TokenizerJson);
    // In the tiny vocabulary each of these characters is three bytes, so three ids, and `▁` one.
    let fits = "日".repeat(20);
    let encode = |text: &str| tokenizer.encode(text, Canonicalizer::HfSlow).unwrap();
    let used = encode(&fits).ids.iter().filter(|id| **id != EOS).count();
    assert_eq!((used, encode(&fits).truncated), (61, false));
    assert!(!encode(&format!("{fits} 5")).truncated);
    assert!(encode(&format!("{fits}日")).truncated);
    // A closing `</s>` that is cut off is not a loss: one stands there anyway.
    assert!(!encode(&format!("{fits} 5</s></s></s>")).truncated);
}

#[test]
fn big_vision_keeps_punctuation() {
    let tokenizer = tiny(TokenizerFile::Spiece);
    let encode = |text, c| tokenizer.encode(text, c).unwrap().ids;
    let (plain, marked) = ("x ray 5mm", "x-ray: <5mm.");
    assert_ne!(
        encode(plain, Canonicalizer::BigVision),
        encode(marked, Canonicalizer::BigVision)
    );
    assert_eq!(
        encode("xray 5mm", Canonicalizer::BigVisionZeroShot),
        encode(marked, Canonicalizer::BigVisionZeroShot)
    );
}

#[test]
fn too_much_text_is_refused() {
    let tokenizer = tiny(TokenizerFile::Spiece);
    for canonicalizer in Canonicalizer::ALL {
        let error = tokenizer
            .encode(&"a".repeat(MAX_TEXT_BYTES + 1), canonicalizer)
            .unwrap_err();
        assert_eq!(error.code(), "LIMIT_EXCEEDED");
    }
    let most = tokenizer.encode(&"a".repeat(MAX_TEXT_BYTES), Canonicalizer::HfSlow);
    assert!(most.unwrap().truncated);
    // One character that the map makes eighteen of: the limit on the normalised text holds too.
    let grows = "\u{fdfa}".repeat(MAX_TEXT_BYTES / 3);
    assert!(
        tokenizer
            .encode(&grows, Canonicalizer::HfSlow)
            .unwrap()
            .truncated
    );
}

#[test]
fn damaged_and_mismatched_files_are_named() {
    for file in FILES {
        let bytes = std::fs::read(data("tiny").join(file.name())).unwrap();
        let refused = |bytes: &[u8], vocab_size| {
            let error = Tokenizer::from_bytes(file, bytes.to_vec(), LENGTH, vocab_size);
            let error = error.err().expect("must be refused");
            assert_eq!(error.code(), "BAD_CONFIG", "{error}");
            assert!(error.to_string().starts_with(file.name()), "{error}");
        };
        refused(&[], 640);
        refused(&bytes[..bytes.len() / 2], 640);
        refused(&bytes, 599);
        refused(
            b"{\"model\": {\"type\": \"BPE\", \"unk_id\": 0, \"vocab\": []}}",
            640,
        );
        assert!(Tokenizer::from_bytes(file, bytes, 0, 640).is_err());
    }
    let bytes = std::fs::read(data("tiny/tokenizer.json")).unwrap();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let refused = |change: &dyn Fn(&mut Value), what: &str| {
        let mut changed = whole.clone();
        change(&mut changed);
        let bytes = changed.to_string().into_bytes();
        let error = Tokenizer::from_bytes(TokenizerFile::TokenizerJson, bytes, LENGTH, 640);
        let error = error.err().expect(what).to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(&|v| v["model"]["vocab"][1][0] = "<eos>".into(), "</s>");
    refused(&|v| v["model"]["unk_id"] = 600.into(), "unknown id");
    refused(&|v| v["model"]["vocab"][7][0] = "x<".into(), "256 bytes");
    refused(&|v| v["model"]["vocab"][300][0] = "".into(), "pieces of 1");
    refused(
        &|v| v["model"]["vocab"][300] = v["model"]["vocab"][301].clone(),
        "once",
    );
    refused(&|v| v["added_tokens"][0]["id"] = 600.into(), "added tokens");
    let many = vec![whole["added_tokens"][0].clone(); 601];
    refused(
        &|v| v["added_tokens"] = many.clone().into(),
        "at most 600 added tokens",
    );
    refused(&|v| v["pre_tokenizer"] = Value::Null, "Metaspace");
    let charsmap = "/normalizer/normalizers/4/precompiled_charsmap";
    refused(
        &|v| *v.pointer_mut(charsmap).unwrap() = "!".into(),
        "base64",
    );
    refused(
        &|v| *v.pointer_mut(charsmap).unwrap() = "/////w==".into(),
        "damaged",
    );
}

#[test]
fn hf_fast_follows_the_published_layout_alone() {
    let bytes = std::fs::read(data("tiny/tokenizer.json")).unwrap();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let refused = |change: &dyn Fn(&mut Value), why: &str| {
        let mut changed = whole.clone();
        change(&mut changed);
        let bytes = changed.to_string().into_bytes();
        let tokenizer = Tokenizer::from_bytes(TokenizerFile::TokenizerJson, bytes, LENGTH, 640);
        let tokenizer = tokenizer.unwrap();
        tokenizer
            .encode("left lung", Canonicalizer::HfSlow)
            .unwrap();
        let error = tokenizer
            .encode("left lung", Canonicalizer::HfFast)
            .unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        let message = error.to_string();
        assert!(
            message.contains(why) && message.ends_with("use hf-slow"),
            "{message}"
        );
    };
    let grows = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
    let grows = json!({"type": "Sequence", "normalizers": vec![grows; 20]});
    refused(&|v| v["normalizer"] = grows.clone(), "its normalizer");
    refused(&|v| v["normalizer"] = Value::Null, "its normalizer");
    let sequence = |v: &Value| json!({"type": "Sequence", "pretokenizers": [v]});
    refused(
        &|v| v["pre_tokenizer"] = sequence(&v["pre_tokenizer"]),
        "its pre_tokenizer",
    );
    refused(
        &|v| v["added_tokens"][1]["normalized"] = true.into(),
        "its added_tokens",
    );
    // A trie whose first step leads outside of it: the `tokenizers` crate would panic.
    let outside = "BAAAAP////8=";
    refused(
        &|v| v["normalizer"]["normalizers"][4]["precompiled_charsmap"] = outside.into(),
        "precompiled_charsmap",
    );
}

#[test]
fn a_text_of_special_tokens_alone_takes_time_in_its_length() {
    let text = "</s>".repeat(MAX_TEXT_BYTES / 4);
    let tokenizer = tiny(TokenizerFile::TokenizerJson);
    for canonicalizer in Canonicalizer::ALL {
        let start = std::time::Instant::now();
        tokenizer.encode(&text, canonicalizer).unwrap();
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{canonicalizer}: {took:?}");
    }
}

#[test]
fn a_folder_without_tokenizer_is_refused() {
    let error = Tokenizer::from_folder(&data("tokens"), LENGTH, 640)
        .err()
        .unwrap();
    assert_eq!(error.code(), "BAD_CONFIG");
    assert!(error.to_string().contains("spiece.model"));
}

#[test]
fn a_tokenizer_is_shared_between_threads() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let tokenizer = shared(tiny(TokenizerFile::TokenizerJson));
    let once = tokenizer
        .encode("left lung", Canonicalizer::HfFast)
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (tokenizer, once) = (&tokenizer, &once);
            scope.spawn(move || {
                let again = tokenizer.encode("left lung", Canonicalizer::HfFast);
                assert_eq!(again.unwrap(), *once);
            });
        }
    });
}
