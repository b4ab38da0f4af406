//! Tokenizer files and texts: neither may panic, and every text has 64 ids.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use medsiglip::tokenizer::{Canonicalizer, Tokenizer, TokenizerFile};

const LENGTH: usize = 64;
const VOCAB_SIZE: usize = 640;
const TINY: &[u8] = include_bytes!("../../crates/medsiglip/tests/data/tiny/tokenizer.json");

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::from_bytes(
        TokenizerFile::TokenizerJson,
        TINY.to_vec(),
        LENGTH,
        VOCAB_SIZE,
    )
    .expect("the tiny tokenizer is sound")
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => hostile_file(TokenizerFile::TokenizerJson, data),
        1 => hostile_file(TokenizerFile::Spiece, data),
        _ => {
            let text = String::from_utf8_lossy(data);
            for canonicalizer in Canonicalizer::ALL {
                check(&TOKENIZER, &text, canonicalizer);
            }
        }
    }
});

fn hostile_file(file: TokenizerFile, bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(file, bytes.to_vec(), LENGTH, VOCAB_SIZE) else {
        return;
    };
    for canonicalizer in Canonicalizer::ALL {
        check(
            &tokenizer,
            "No acute </s> ﬁndings: T1_weighted, 😀 5mm.",
            canonicalizer,
        );
    }
}

fn check(tokenizer: &Tokenizer, text: &str, canonicalizer: Canonicalizer) {
    if let Ok(encoding) = tokenizer.encode(text, canonicalizer) {
        assert_eq!(encoding.ids.len(), LENGTH);
        assert_eq!(encoding.ids.last(), Some(&tokenizer.eos_id()));
        assert!(encoding.ids.iter().all(|id| (*id as usize) < VOCAB_SIZE));
    }
}
