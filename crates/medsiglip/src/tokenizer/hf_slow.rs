//! `hf-slow`: transformers' `SiglipTokenizer` (`models/siglip/tokenization_siglip.py`), step by step.
//!
//! The special tokens `</s>` and `<unk>` in a text are cut out first, with the whitespace around them
//! (`PreTrainedTokenizer.tokenize`). Each text between is cleaned and encoded behind the letters
//! `<unk>`, without SentencePiece's dummy prefix, and the ids of these letters are dropped again.

use super::canonicalize::{collapse, is_python_space, remove_punctuation};
use super::sentence_piece::{SPACE_SYMBOL, SentencePiece};
use super::vocabulary::Vocabulary;
use crate::Result;

/// The constants that the slow tokenizer takes from its vocabulary.
#[derive(Debug)]
pub(super) struct HfSlow {
    /// The special tokens and their ids.
    specials: [(String, u32); 2],
    /// `<unk>`, which stands before each text.
    prefix: String,
    /// How many ids the prefix has by itself.
    prefix_len: usize,
    /// The id of a lone space.
    space_id: Option<u32>,
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
enum Segment<'a> {
    Special(u32),
    Text(&'a str),
}

impl HfSlow {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        model: &SentencePiece,
        eos: (&str, u32),
    ) -> Result<Self> {
        let unk_id = vocabulary.unk_id;
        let unk = vocabulary.pieces[unk_id as usize].text.clone();
        Ok(Self {
            specials: [(eos.0.to_owned(), eos.1), (unk.clone(), unk_id)],
            prefix_len: model.encode_without_prefix(&unk)?.len(),
            prefix: unk,
            space_id: vocabulary.id_of(SPACE_SYMBOL),
        })
    }

    /// The ids of `text` without the closing `</s>`.
    pub(super) fn encode(&self, model: &SentencePiece, text: &str) -> Result<Vec<u32>> {
        let text = format!("{SPACE_SYMBOL}{}", text.replace(SPACE_SYMBOL, " "));
        let text = self.lower(&text);
        let mut ids = Vec::new();
        for segment in self.segments(&text) {
            match segment {
                Segment::Special(id) => ids.push(id),
                Segment::Text(text) => ids.extend(self.encode_segment(model, text)?),
            }
        }
        let special = |id: &u32| self.specials.iter().any(|(_, special)| special == id);
        if self.space_id.is_some() && ids.first() == self.space_id.as_ref() {
            // A lone space before a special token is the one that was put there above.
            if ids.get(1).is_some_and(special) {
                ids.remove(0);
            }
        }
        Ok(ids)
    }

    /// Lower case character by character; special tokens stay as they are.
    fn lower(&self, text: &str) -> String {
        let mut lower = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let special = self.specials.iter().find(|(s, _)| rest.starts_with(s));
            let length = match special {
                Some((special, _)) => {
                    lower.push_str(special);
                    special.len()
                }
                None => {
                    lower.extend(c.to_lowercase());
                    c.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        lower
    }

    /// Cuts at the special tokens, which take the whitespace on both sides with them.
    fn segments<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut start = 0;
        let find = |s: &str, from: usize| text[from..].find(s).map(|at| from + at);
        // Where each special token stands next; searched again only when it is passed.
        let mut next = self.specials.each_ref().map(|(s, _)| find(s, 0));
        loop {
            let nearest = next
                .iter()
                .zip(&self.specials)
                .filter_map(|(at, (s, id))| Some(((*at)?, s.len(), *id)))
                .min();
            let mut between = &text[start..nearest.map_or(text.len(), |(at, ..)| at)];
            if start > 0 {
                between = between.trim_start_matches(is_python_space);
            }
            if nearest.is_some() {
                between = between.trim_end_matches(is_python_space);
            }
            if !between.is_empty() {
                segments.push(Segment::Text(between));
            }
            let Some((at, length, id)) = nearest else {
                return segments;
            };
            segments.push(Segment::Special(id));
            start = at + length;
            for (at, (s, _)) in next.iter_mut().zip(&self.specials) {
                if at.is_some_and(|at| at < start) {
                    *at = find(s, start);
                }
            }
        }
    }

    /// `SiglipTokenizer._tokenize`.
    fn encode_segment(&self, model: &SentencePiece, text: &str) -> Result<Vec<u32>> {
        let text = collapse(&remove_punctuation(text));
        let mut ids = model.encode_without_prefix(&format!("{}{text}", self.prefix))?;
        if ids.len() >= self.prefix_len {
            ids.drain(..self.prefix_len);
        }
        Ok(ids)
    }
}
