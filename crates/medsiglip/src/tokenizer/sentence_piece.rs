//! [`SentencePiece`]: normalizer and unigram segmentation, number for number as the C++ library does them.
//!
//! The `tokenizers` crate has a unigram model too, but sums its scores in `f64` and word by word;
//! SentencePiece sums them in `f32` over the whole text. Where two segmentations are as likely
//! ("111" as "11"+"1" or "1"+"11") that decides, so the sums are done here exactly as there, in the
//! versions of the model's time (0.2.0, 0.2.1). SentencePiece 0.2.3 rounds otherwise: of 200 full
//! stops it puts the two odd ones first, not last.

use std::collections::HashMap;

use super::charsmap::{Charsmap, char_len};
use super::vocabulary::{PieceKind, Vocabulary};
use crate::{Error, Result};

/// SentencePiece's escaped space, U+2581.
pub(super) const SPACE_SYMBOL: &str = "\u{2581}";
/// SentencePiece's penalty of an unknown character (`unigram_model.cc`, `kUnkPenalty`).
const UNK_PENALTY: f32 = 10.0;
/// A character map may make a text longer: by at most 11 times in `nmt_nfkc`, without bound in a hostile file.
const MAX_NORMALIZED_BYTES: usize = 16 << 20;

/// A SentencePiece unigram model, ready to encode.
#[derive(Debug)]
pub(super) struct SentencePiece {
    charsmap: Charsmap,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
    trie: Trie,
    scores: Vec<f32>,
    unk_score: f32,
    unk_id: u32,
    /// Ids of the 256 byte pieces, where the model falls back to bytes.
    byte_ids: Option<Box<[u32; 256]>>,
}

impl SentencePiece {
    /// The model of a checked vocabulary.
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let pieces = &vocabulary.pieces;
        let normal = || {
            pieces
                .iter()
                .enumerate()
                .filter(|(_, p)| p.kind == PieceKind::Normal)
        };
        let min_score = normal().map(|(_, p)| p.score).fold(f32::MAX, f32::min);
        Ok(Self {
            charsmap: Charsmap::from_bytes(&vocabulary.charsmap)?,
            add_dummy_prefix: vocabulary.add_dummy_prefix,
            remove_extra_whitespaces: vocabulary.remove_extra_whitespaces,
            escape_whitespaces: vocabulary.escape_whitespaces,
            trie: Trie::new(normal().map(|(id, p)| (p.text.as_bytes(), id as u32)))?,
            scores: pieces.iter().map(|p| p.score).collect(),
            unk_score: min_score - UNK_PENALTY,
            unk_id: vocabulary.unk_id,
            byte_ids: vocabulary.byte_ids()?,
        })
    }

    /// The ids of `text`, as `SentencePieceProcessor::Encode`.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, self.add_dummy_prefix)
    }

    /// The ids of `text` without the dummy prefix, whatever the model's own setting.
    pub(super) fn encode_without_prefix(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_dummy_prefix: bool) -> Result<Vec<u32>> {
        let normalized = self.normalize(text.as_bytes(), add_dummy_prefix)?;
        Ok(self.ids(&normalized, &self.best_path(&normalized)))
    }

    /// The normalised bytes (`normalizer.cc`, `Normalizer::Normalize`).
    fn normalize(&self, text: &[u8], add_dummy_prefix: bool) -> Result<Vec<u8>> {
        let space = if self.escape_whitespaces {
            SPACE_SYMBOL.as_bytes()
        } else {
            b" "
        };
        let mut rest = text;
        while self.remove_extra_whitespaces && !rest.is_empty() {
            let (head, length) = self.charsmap.normalize_prefix(rest);
            if head != b" " {
                break;
            }
            rest = &rest[length..];
        }
        let mut normalized = Vec::with_capacity(rest.len() + space.len());
        if rest.is_empty() {
            return Ok(normalized);
        }
        if add_dummy_prefix {
            normalized.extend_from_slice(space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (mut head, length) = self.charsmap.normalize_prefix(rest);
            while after_space && head.first() == Some(&b' ') {
                head = &head[1..];
            }
            for byte in head {
                match byte {
                    b' ' => normalized.extend_from_slice(space),
                    byte => normalized.push(*byte),
                }
            }
            if let Some(last) = head.last() {
                after_space = self.remove_extra_whitespaces && *last == b' ';
            }
            rest = &rest[length..];
            check_length(normalized.len())?;
        }
        while self.remove_extra_whitespaces && normalized.ends_with(space) {
            normalized.truncate(normalized.len() - space.len());
        }
        Ok(normalized)
    }

    /// Viterbi over the bytes (`unigram_model.cc`, `Model::EncodeOptimized`): pieces as (start, end, id).
    fn best_path(&self, text: &[u8]) -> Vec<(usize, usize, u32)> {
        let mut ends = vec![Node::default(); text.len() + 1];
        let mut start = 0;
        while start < text.len() {
            let till_here = ends[start].score;
            let char_end = (start + char_len(text[start])).min(text.len());
            let mut has_single = false;
            for (length, id) in self.trie.prefixes(&text[start..]) {
                // In C++ the type of this sum is double (its other branch adds a double) and it is
                // stored as float: both roundings matter where two paths are as likely.
                let score = f64::from(self.scores[id as usize]) + f64::from(till_here);
                ends[start + length].offer(score, start, id);
                has_single |= start + length == char_end;
            }
            if !has_single {
                let score = self.unk_score + till_here;
                ends[char_end].offer(f64::from(score), start, self.unk_id);
            }
            start = char_end;
        }
        let mut path = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let Node { start, id, .. } = ends[end];
            path.push((start, end, id));
            end = start;
        }
        path.reverse();
        path
    }

    /// Ids of the pieces; unknown ones as their bytes, or as one unknown a run where there are no byte pieces.
    fn ids(&self, text: &[u8], path: &[(usize, usize, u32)]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(path.len());
        let mut after_unknown = false;
        for (start, end, id) in path {
            let unknown = *id == self.unk_id;
            match &self.byte_ids {
                Some(byte_ids) if unknown => {
                    let bytes = text[*start..*end].iter();
                    ids.extend(bytes.map(|byte| byte_ids[usize::from(*byte)]));
                }
                _ if unknown && after_unknown => {}
                _ => ids.push(*id),
            }
            after_unknown = unknown;
        }
        ids
    }
}

fn check_length(bytes: usize) -> Result<()> {
    if bytes > MAX_NORMALIZED_BYTES {
        return Err(Error::Limit {
            what: "normalized text in bytes",
            got: bytes as u64,
            limit: MAX_NORMALIZED_BYTES as u64,
        });
    }
    Ok(())
}

/// The best path that ends at one byte.
#[derive(Clone, Copy)]
struct Node {
    score: f32,
    start: usize,
    id: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            score: 0.0,
            start: usize::MAX,
            id: 0,
        }
    }
}

impl Node {
    fn offer(&mut self, score: f64, start: usize, id: u32) {
        if self.start == usize::MAX || score > f64::from(self.score) {
            *self = Self {
                score: score as f32,
                start,
                id,
            };
        }
    }
}

/// A trie over the bytes of the pieces.
#[derive(Debug)]
struct Trie {
    children: HashMap<(u32, u8), u32>,
    /// Id of the piece that ends at each node.
    ids: Vec<Option<u32>>,
}

impl Trie {
    fn new<'a>(pieces: impl Iterator<Item = (&'a [u8], u32)>) -> Result<Self> {
        let mut trie = Self {
            children: HashMap::new(),
            ids: vec![None],
        };
        for (piece, id) in pieces {
            let mut node = 0;
            for byte in piece {
                let next = trie.ids.len() as u32;
                node = *trie.children.entry((node, *byte)).or_insert(next);
                if node == next {
                    trie.ids.push(None);
                }
            }
            if trie.ids[node as usize].replace(id).is_some() {
                let message = format!("expected each piece once, got one again at {id}");
                return Err(Error::BadConfig(message));
            }
        }
        Ok(trie)
    }

    /// Length and id of every piece that `text` starts with, the shortest first.
    fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut node = 0;
        text.iter()
            .enumerate()
            .map_while(move |(at, byte)| {
                node = *self.children.get(&(node, *byte))?;
                Some((at + 1, self.ids[node as usize]))
            })
            .filter_map(|(length, id)| Some((length, id?)))
    }
}
