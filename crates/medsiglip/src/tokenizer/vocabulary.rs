//! [`Vocabulary`]: pieces, scores and rules, read from a `spiece.model` or a `tokenizer.json`.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sentencepiece_model::{ModelType, SentencePieceModel, Type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sentence_piece::SPACE_SYMBOL;
use crate::{Error, Result};

/// Longer pieces are no pieces (SentencePiece trains up to 16 characters); bounds the work at each position.
const MAX_PIECE_BYTES: usize = 256;
/// What the published `tokenizer.json` removes; it forgets `/`, `<` and `>`.
const REMOVED_BY_FAST: &str = r#"[!"\#\$%\&'\(\)\*\+,\-\.:;=\?@\[\\\]\^_`\{\|\}\~]"#;

/// What a unigram model is made of, whichever file it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vocabulary {
    pub(super) pieces: Vec<Piece>,
    pub(super) unk_id: u32,
    pub(super) byte_fallback: bool,
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
    /// The part of its `tokenizer.json` that is not laid out as in the published one, on which `hf-fast` depends.
    pub(super) unlike_published: Option<&'static str>,
}

/// One piece; its place in the vocabulary is its id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Stands in texts.
    Normal,
    /// `<unk>`.
    Unknown,
    /// `<pad>`, `</s>`: never found in a text.
    Control,
    /// `<0x00>` to `<0xFF>`: one byte of an unknown character.
    Byte,
    /// In the vocabulary but never used.
    Unused,
}

impl Vocabulary {
    /// Reads a SentencePiece model (`sentencepiece_model.proto`).
    pub(super) fn from_spiece(bytes: &[u8], vocab_size: usize) -> Result<Self> {
        let model = SentencePieceModel::from_slice(bytes)
            .map_err(|e| bad(format!("expected a SentencePiece model: {e}")))?;
        let trainer = model.trainer();
        if trainer.is_some_and(|t| t.model_type() != ModelType::Unigram) {
            return Err(bad("expected a unigram model, got another model type"));
        }
        if trainer.is_some_and(|t| t.treat_whitespace_as_suffix()) {
            return Err(bad(
                "expected whitespace before words, got a model with whitespace after them",
            ));
        }
        check_size(model.pieces().len(), vocab_size)?;
        let pieces = model
            .pieces()
            .iter()
            .map(|piece| {
                let kind = match piece.r#type() {
                    Type::Normal => PieceKind::Normal,
                    Type::Unknown => PieceKind::Unknown,
                    Type::Control => PieceKind::Control,
                    Type::Byte => PieceKind::Byte,
                    Type::Unused => PieceKind::Unused,
                    Type::UserDefined => {
                        return Err(bad(
                            "expected no user-defined pieces, which SigLIP's model has not",
                        ));
                    }
                };
                let (text, score) = (piece.piece().to_owned(), piece.score());
                Ok(Piece { text, score, kind })
            })
            .collect::<Result<Vec<_>>>()?;
        let unk_id = pieces.iter().position(|p| p.kind == PieceKind::Unknown);
        let unk_id = unk_id.ok_or_else(|| bad("expected an unknown piece, got none"))?;
        let normalizer = model.normalizer().cloned().unwrap_or_default();
        Self {
            pieces,
            unk_id: unk_id as u32,
            byte_fallback: trainer.is_some_and(|t| t.byte_fallback()),
            charsmap: normalizer.precompiled_charsmap().to_vec(),
            add_dummy_prefix: normalizer.add_dummy_prefix(),
            remove_extra_whitespaces: normalizer.remove_extra_whitespaces(),
            escape_whitespaces: normalizer.escape_whitespaces(),
            unlike_published: None,
        }
        .checked()
    }

    /// Reads what a `tokenizer.json` has of the same: its unigram model, its character map, its dummy prefix.
    ///
    /// Its lower-casing and punctuation rule are left to the canonicalizers.
    pub(super) fn from_tokenizer_json(bytes: &[u8], vocab_size: usize) -> Result<Self> {
        let file: TokenizerJson = serde_json::from_slice(bytes)
            .map_err(|e| bad(format!("expected a unigram tokenizer: {e}")))?;
        if file.model.kind.as_deref() != Some("Unigram") {
            return Err(bad("expected a unigram model, got another model type"));
        }
        check_size(file.model.vocab.len(), vocab_size)?;
        let special = special_ids(&file.added_tokens, file.model.vocab.len())?;
        let byte_fallback = file.model.byte_fallback;
        let pieces = file
            .model
            .vocab
            .iter()
            .enumerate()
            .map(|(id, (text, score))| {
                let kind = match id {
                    id if id == file.model.unk_id as usize => PieceKind::Unknown,
                    _ if byte_fallback && byte_of(text).is_some() => PieceKind::Byte,
                    id if special.contains(&id) => PieceKind::Control,
                    _ => PieceKind::Normal,
                };
                Piece {
                    text: text.clone(),
                    score: *score as f32,
                    kind,
                }
            });
        let mut vocabulary = Self {
            pieces: pieces.collect(),
            unk_id: file.model.unk_id,
            byte_fallback,
            charsmap: charsmap(&file.normalizer)?,
            add_dummy_prefix: dummy_prefix(&file.pre_tokenizer)?,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            unlike_published: None,
        }
        .checked()?;
        vocabulary.unlike_published = vocabulary.part_unlike(&file);
        Ok(vocabulary)
    }

    /// The part of `file` that [`Vocabulary::to_tokenizer_json`] would write otherwise.
    fn part_unlike(&self, file: &TokenizerJson) -> Option<&'static str> {
        let parts = [
            ("normalizer", file.normalizer == self.fast_normalizer()),
            (
                "pre_tokenizer",
                file.pre_tokenizer == self.fast_pre_tokenizer(),
            ),
            ("added_tokens", file.added_tokens == self.fast_specials()),
        ];
        parts.iter().find(|(_, same)| !same).map(|(part, _)| *part)
    }

    fn checked(self) -> Result<Self> {
        if self.pieces.get(self.unk_id as usize).is_none() {
            return Err(bad("expected its unknown id among its pieces"));
        }
        for (id, piece) in self.pieces.iter().enumerate() {
            if piece.text.is_empty() || piece.text.len() > MAX_PIECE_BYTES {
                return Err(bad(format!(
                    "expected pieces of 1 to {MAX_PIECE_BYTES} bytes, got {} in piece {id}",
                    piece.text.len()
                )));
            }
            if !piece.score.is_finite() {
                return Err(bad(format!(
                    "expected finite scores, got another in piece {id}"
                )));
            }
        }
        Ok(self)
    }

    /// The id of a piece by its text.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        let id = self.pieces.iter().position(|p| p.text == text)?;
        u32::try_from(id).ok()
    }

    /// Ids of the 256 byte pieces, or `None` where the model has no byte fallback.
    pub(super) fn byte_ids(&self) -> Result<Option<Box<[u32; 256]>>> {
        if !self.byte_fallback {
            return Ok(None);
        }
        let mut ids = [None; 256];
        for (id, piece) in self.pieces.iter().enumerate() {
            if let (PieceKind::Byte, Some(byte)) = (piece.kind, byte_of(&piece.text)) {
                ids[usize::from(byte)] = Some(id as u32);
            }
        }
        let ids: Option<Vec<u32>> = ids.into_iter().collect();
        let ids = ids.and_then(|ids| ids.into_boxed_slice().try_into().ok());
        ids.map(Some)
            .ok_or_else(|| bad("expected a piece for each of the 256 bytes"))
    }

    /// A `tokenizer.json` with these pieces, laid out as the published one.
    pub(super) fn to_tokenizer_json(&self) -> Value {
        let vocab = self.pieces.iter();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.fast_specials(),
            "normalizer": self.fast_normalizer(),
            "pre_tokenizer": self.fast_pre_tokenizer(),
            "post_processor": null,
            "decoder": null,
            "model": {
                "type": "Unigram",
                "unk_id": self.unk_id,
                "vocab": vocab.map(|p| json!([p.text, f64::from(p.score)])).collect::<Vec<_>>(),
                "byte_fallback": self.byte_fallback,
            },
        })
    }

    /// Its special tokens.
    fn fast_specials(&self) -> Vec<AddedToken> {
        let pieces = self.pieces.iter().zip(0..);
        pieces
            .filter(|(p, _)| matches!(p.kind, PieceKind::Control | PieceKind::Unknown))
            .map(|(p, id)| AddedToken {
                id,
                content: p.text.clone(),
                single_word: false,
                lstrip: p.text != "<pad>",
                rstrip: p.text != "<pad>",
                normalized: false,
                special: true,
            })
            .collect()
    }

    /// Its pre-tokenizer.
    fn fast_pre_tokenizer(&self) -> Value {
        json!({
            "type": "Metaspace", "replacement": SPACE_SYMBOL, "split": true,
            "prepend_scheme": if self.add_dummy_prefix { "always" } else { "never" },
        })
    }

    /// Its normalizer.
    fn fast_normalizer(&self) -> Value {
        let mut normalizers = vec![
            json!({"type": "Lowercase"}),
            json!({"type": "Replace", "pattern": {"Regex": REMOVED_BY_FAST}, "content": ""}),
            json!({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}),
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        ];
        if !self.charsmap.is_empty() {
            let charsmap = BASE64.encode(&self.charsmap);
            normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": charsmap}));
        }
        normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
        json!({"type": "Sequence", "normalizers": normalizers})
    }
}

/// The parts of a `tokenizer.json` that make a SentencePiece model.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: UnigramJson,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct AddedToken {
    id: u32,
    #[serde(default)]
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct UnigramJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_id: u32,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

/// The ids of the special ones among the added tokens, all of which must be pieces.
fn special_ids(added: &[AddedToken], pieces: usize) -> Result<HashSet<usize>> {
    if added.len() > pieces {
        return Err(bad(format!(
            "expected at most {pieces} added tokens, one a piece, got {}",
            added.len()
        )));
    }
    if let Some(token) = added.iter().find(|t| t.id as usize >= pieces) {
        return Err(bad(format!(
            "expected added tokens below the {pieces} pieces, got the id {}",
            token.id
        )));
    }
    let special = added.iter().filter(|t| t.special);
    Ok(special.map(|t| t.id as usize).collect())
}

/// The character map of a normalizer, alone or in a sequence; empty where there is none.
fn charsmap(normalizer: &Value) -> Result<Vec<u8>> {
    let maps = members(normalizer, "normalizers", "Precompiled");
    match maps.as_slice() {
        [] => Ok(Vec::new()),
        [map] => {
            let text = map.get("precompiled_charsmap").and_then(Value::as_str);
            BASE64
                .decode(text.unwrap_or_default())
                .map_err(|e| bad(format!("expected its precompiled_charsmap as base64: {e}")))
        }
        maps => Err(bad(format!(
            "expected one precompiled_charsmap, got {}",
            maps.len()
        ))),
    }
}

/// Whether a space is put before the text: the `prepend_scheme` of the Metaspace pre-tokenizer.
fn dummy_prefix(pre_tokenizer: &Value) -> Result<bool> {
    let metaspaces = members(pre_tokenizer, "pretokenizers", "Metaspace");
    let [metaspace] = metaspaces.as_slice() else {
        return Err(bad(format!(
            "expected one Metaspace pre-tokenizer, got {}",
            metaspaces.len()
        )));
    };
    if metaspace.get("replacement").and_then(Value::as_str) != Some(SPACE_SYMBOL) {
        return Err(bad("expected its Metaspace to write spaces as U+2581"));
    }
    Ok(
        metaspace.get("prepend_scheme").and_then(Value::as_str) != Some("never")
            && metaspace.get("add_prefix_space").and_then(Value::as_bool) != Some(false),
    )
}

/// The parts of type `kind`: the value itself, or its members where it is a sequence.
fn members<'a>(value: &'a Value, list: &str, kind: &str) -> Vec<&'a Value> {
    let parts = match value.get(list).and_then(Value::as_array) {
        Some(parts) => parts.iter().collect(),
        None => vec![value],
    };
    let of_kind = |part: &&Value| part.get("type").and_then(Value::as_str) == Some(kind);
    parts.into_iter().filter(of_kind).collect()
}

/// The byte of a piece such as `<0x0A>`.
fn byte_of(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if hex.len() != 2 || !hex.bytes().all(upper) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

fn check_size(pieces: usize, vocab_size: usize) -> Result<()> {
    if pieces > vocab_size {
        return Err(bad(format!(
            "expected at most {vocab_size} pieces, the text tower's vocabulary, got {pieces}"
        )));
    }
    Ok(())
}

fn bad(message: impl std::fmt::Display) -> Error {
    Error::BadConfig(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upper_case_hex_names_a_byte() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xFF>"), Some(255));
        for text in ["<0x0a>", "<0x+A>", "<0xA>", "<0x00A>", "0x0A", "</s>"] {
            assert_eq!(byte_of(text), None, "{text}");
        }
    }
}
