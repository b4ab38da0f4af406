//! [`TrainedTokenizer`]: a tokenizer of one's own, trained on captions, in the layout of the published one.
//!
//! A unigram model is trained on texts cleaned as `hf-slow` cleans them. What it gives is written as both files that hold a tokenizer, so that ours,
//! transformers' slow one and its fast one read the same pieces and scores. One deviation from the published layout: of
//! the 240 kB of its `nmt_nfkc` character map one rule is kept, that for U+2581. Characters that the captions do not have
//! are cut into bytes.

mod unigram;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use sentencepiece_model::{
    ModelProto, ModelType, NormalizerSpec, SentencePiece, TrainerSpec, Type,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::canonicalize::{collapse, remove_punctuation};
use super::sentence_piece::SPACE_SYMBOL;
use super::vocabulary::{Piece, PieceKind, Vocabulary};
use super::{EOS, TokenizerFile};
use crate::{Error, Result, folder};

const PAD: &str = "<pad>";
const UNK: &str = "<unk>";
/// `<pad>`, `</s>`, `<unk>` and the 256 bytes, which stand before the pieces that are trained.
const FIXED: usize = 3 + 256;
/// As the text tower's config allows.
const MAX_VOCABULARY: usize = 1 << 22;
/// Longer words are no words.
const MAX_WORD_BYTES: usize = 256;
/// Bytes of all different words together; training keeps every stretch of them in memory.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerOptions {
    /// Pieces at most, with `<pad>`, `</s>`, `<unk>` and 256 bytes among them. Captions of few words give fewer.
    pub vocab_size: usize,
    /// Ids of a text, `</s>` and padding included: the text tower's positions, T.
    pub length: usize,
}

impl Default for TokenizerOptions {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            length: 64,
        }
    }
}

/// A trained tokenizer, to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedTokenizer {
    vocabulary: Vocabulary,
    length: usize,
}

impl TrainedTokenizer {
    /// Trains on `captions`. The same captions, in whatever order, give the same tokenizer.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no word, the length leaves no room for one, or the vocabulary none for every
    /// character; `LIMIT_EXCEEDED` above 4 MB of different words or 2^32 words.
    pub fn train<S: AsRef<str>>(
        captions: impl IntoIterator<Item = S>,
        options: &TokenizerOptions,
    ) -> Result<Self> {
        let words = count(captions)?;
        let chars: BTreeSet<char> = words.iter().flat_map(|(word, _)| word.chars()).collect();
        check(options, chars.len())?;
        let trained = unigram::train(&words, options.vocab_size - FIXED).into_iter();
        let mut pieces = fixed_pieces();
        pieces.extend(trained.map(|(text, score)| Piece {
            text,
            score: score as f32,
            kind: PieceKind::Normal,
        }));
        Ok(Self {
            vocabulary: Vocabulary {
                pieces,
                unk_id: 2,
                byte_fallback: true,
                charsmap: charsmap(),
                add_dummy_prefix: true,
                remove_extra_whitespaces: true,
                escape_whitespaces: true,
                unlike_published: None,
            },
            length: options.length,
        })
    }

    /// Number of pieces, V: the text tower's `vocab_size`.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.pieces.len()
    }

    /// Writes `tokenizer.json`, `spiece.model`, `tokenizer_config.json` and `special_tokens_map.json` to a folder of
    /// their own, which appears whole or not at all.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `target` holds other files; `IO_ERROR`.
    pub fn write(&self, target: &Path) -> Result<()> {
        let json = |value: Value| format!("{value:#}\n").into_bytes();
        let files = [
            (
                TokenizerFile::TokenizerJson.name(),
                json(self.tokenizer_json()),
            ),
            (TokenizerFile::Spiece.name(), self.spiece_model()),
            ("tokenizer_config.json", json(tokenizer_config(self.length))),
            ("special_tokens_map.json", json(special_tokens_map())),
        ];
        let ours = |name: &str| {
            name.starts_with("tokenizer")
                || name == TokenizerFile::Spiece.name()
                || name == "special_tokens_map.json"
        };
        folder::write(target, ours, |folder| {
            files
                .iter()
                .try_for_each(|(name, bytes)| folder::write_file(&folder.join(name), bytes))
        })
    }

    /// As `hf-fast` reads it, and with what transformers needs to close a text and to turn ids into text.
    fn tokenizer_json(&self) -> Value {
        let mut json = self.vocabulary.to_tokenizer_json();
        let sequence = |id| json!({"Sequence": {"id": id, "type_id": 0}});
        let eos = json!({"SpecialToken": {"id": EOS, "type_id": 0}});
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [sequence("A"), eos],
            "pair": [sequence("A"), eos, sequence("B"), eos],
            "special_tokens": {EOS: {"id": EOS, "ids": [1], "tokens": [EOS]}},
        });
        json["decoder"] = json["pre_tokenizer"].clone();
        json
    }

    /// A SentencePiece model (`sentencepiece_model.proto`).
    fn spiece_model(&self) -> Vec<u8> {
        let pieces = self.vocabulary.pieces.iter().map(|piece| SentencePiece {
            piece: Some(piece.text.clone()),
            score: Some(piece.score),
            r#type: Some(match piece.kind {
                PieceKind::Normal => Type::Normal,
                PieceKind::Unknown => Type::Unknown,
                PieceKind::Control => Type::Control,
                PieceKind::Byte => Type::Byte,
                PieceKind::Unused => Type::Unused,
            } as i32),
        });
        ModelProto {
            pieces: pieces.collect(),
            trainer_spec: Some(TrainerSpec {
                model_type: Some(ModelType::Unigram as i32),
                vocab_size: Some(self.vocab_size() as i32),
                max_sentencepiece_length: Some(unigram::MAX_PIECE_CHARS as i32),
                byte_fallback: Some(true),
                pad_id: Some(0),
                eos_id: Some(1),
                unk_id: Some(2),
                bos_id: Some(-1),
                ..TrainerSpec::default()
            }),
            normalizer_spec: Some(NormalizerSpec {
                name: Some("user_defined".into()),
                precompiled_charsmap: Some(self.vocabulary.charsmap.clone()),
                add_dummy_prefix: Some(true),
                remove_extra_whitespaces: Some(true),
                escape_whitespaces: Some(true),
                ..NormalizerSpec::default()
            }),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

/// The words of all captions, cleaned as `hf-slow` does, each with the space before it, and how often each stands there.
/// What is longer than a word can be is left out.
fn count<S: AsRef<str>>(captions: impl IntoIterator<Item = S>) -> Result<Vec<unigram::Word>> {
    let mut words = BTreeMap::<String, u32>::new();
    let (mut bytes, mut total) = (0, 0u64);
    for caption in captions {
        let text = caption.as_ref().replace(SPACE_SYMBOL, " ");
        let lower: String = text.chars().flat_map(char::to_lowercase).collect();
        // SentencePiece takes a zero for a piece's end.
        let text = collapse(&remove_punctuation(&lower)).replace('\0', " ");
        for word in text.split(' ') {
            if word.is_empty() || word.len() > MAX_WORD_BYTES {
                continue;
            }
            total += 1;
            let word = format!("{SPACE_SYMBOL}{word}");
            let length = word.len();
            let count = words.entry(word).or_default();
            if *count == 0 {
                bytes += length;
            }
            *count = count.saturating_add(1);
        }
        for (what, got, limit) in [
            (
                "different words in bytes",
                bytes as u64,
                MAX_TEXT_BYTES as u64,
            ),
            ("the number of words", total, u64::from(u32::MAX)),
        ] {
            if got > limit {
                return Err(Error::Limit { what, got, limit });
            }
        }
    }
    Ok(words.into_iter().collect())
}

fn check(options: &TokenizerOptions, chars: usize) -> Result<()> {
    let bad = |message: String| Err(Error::BadArgument(format!("tokenizer: {message}")));
    if chars == 0 {
        return bad("expected captions with words, got none".into());
    }
    if options.length < 2 {
        return bad(format!(
            "expected a length of 2 or more, got {}",
            options.length
        ));
    }
    let least = FIXED + chars + 1;
    if !(least..=MAX_VOCABULARY).contains(&options.vocab_size) {
        return bad(format!(
            "expected a vocab_size from {least} (specials, bytes and the captions' {chars} characters) to \
             {MAX_VOCABULARY}, got {}",
            options.vocab_size
        ));
    }
    Ok(())
}

/// `<pad>`, `</s>`, `<unk>` and the bytes.
fn fixed_pieces() -> Vec<Piece> {
    let specials = [
        (PAD, PieceKind::Control),
        (EOS, PieceKind::Control),
        (UNK, PieceKind::Unknown),
    ];
    let specials = specials.map(|(text, kind)| (text.to_owned(), kind));
    let bytes = (0..=0xFFu8).map(|byte| (format!("<0x{byte:02X}>"), PieceKind::Byte));
    let all = specials.into_iter().chain(bytes);
    all.map(|(text, kind)| Piece {
        text,
        score: 0.0,
        kind,
    })
    .collect()
}

/// A character map with one rule: U+2581 becomes a space, as in `nmt_nfkc`.
///
/// The slow tokenizer puts U+2581 before every text: without the rule, a space at the text's start would stay beside it
/// as a piece of its own. The layout is [`Charsmap`](super::charsmap::Charsmap)'s; here all nodes share one block.
fn charsmap() -> Vec<u8> {
    /// Of a unit that no byte leads to.
    const NONE: u32 = 1 << 31;
    let mut units = [NONE; 512];
    let [a, b, c]: [usize; 3] = [0xE2, 0x96, 0x81];
    let (root, after_a, after_b, leaf) = (256, 257, 258, 259);
    let mut step = |at: usize, byte: usize, to: usize, flags: usize| {
        units[at] = (byte | flags | (at ^ to) << 10) as u32;
    };
    step(0, 0, root, 0);
    step(root ^ a, a, after_a, 0);
    step(after_a ^ b, b, after_b, 0);
    step(after_b ^ c, c, leaf, 1 << 8);
    // The replacement starts at byte 0.
    units[leaf] = NONE;
    let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(b" \0");
    bytes
}

fn tokenizer_config(length: usize) -> Value {
    let special = |content| {
        json!({
            "content": content, "lstrip": true, "normalized": false, "rstrip": true, "single_word": false,
            "special": true,
        })
    };
    json!({
        "added_tokens_decoder": {"1": special(EOS), "2": special(UNK)},
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": true,
        "do_lower_case": true,
        "eos_token": EOS,
        "model_input_names": ["input_ids"],
        "model_max_length": length,
        "pad_token": EOS,
        "processor_class": "SiglipProcessor",
        "sp_model_kwargs": {},
        "tokenizer_class": "SiglipTokenizer",
        "unk_token": UNK,
    })
}

fn special_tokens_map() -> Value {
    let special = |content| {
        json!({
            "content": content, "lstrip": true, "normalized": false, "rstrip": true, "single_word": false,
        })
    };
    json!({"eos_token": special(EOS), "pad_token": special(EOS), "unk_token": special(UNK)})
}

#[cfg(test)]
mod tests;
