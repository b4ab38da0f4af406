//! Text to [`TokenIds`], always as wide as the text tower (64); the named canonicalizers.

use std::path::Path;

use crate::Result;

/// Token ids for the text tower.
///
/// # Shapes
/// `data` is (B, T), row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    batch: usize,
    length: usize,
    data: Vec<u32>,
}

impl TokenIds {
    /// Ids from a buffer of shape (batch, length).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the buffer does not fit.
    pub fn new(batch: usize, length: usize, data: Vec<u32>) -> Result<Self> {
        if data.len() != batch * length {
            return Err(crate::Error::BadArgument(format!(
                "token ids: expected {batch}x{length} numbers, got {}",
                data.len()
            )));
        }
        Ok(Self {
            batch,
            length,
            data,
        })
    }

    /// Number of texts, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens a text, T.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids, (B, T).
    pub fn data(&self) -> &[u32] {
        &self.data
    }
}

/// A named rule that cleans a text before it is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Canonicalizer {
    /// `hf-slow`: transformers' `SiglipTokenizer`; the default, and what the public container uses.
    #[default]
    HfSlow,
    /// `hf-fast`: the normalizer inside the published `tokenizer.json`, which keeps `/ < >`.
    HfFast,
    /// `bigvision`: big_vision's training op: lower case only.
    BigVision,
    /// `bigvision-zeroshot`: big_vision's `canonicalize_text`.
    BigVisionZeroShot,
    /// `open-clip`: open_clip's `canonicalize` cleaning.
    OpenClip,
}

impl Canonicalizer {
    /// The cleaned text.
    pub fn apply(self, text: &str) -> String {
        let _ = text;
        todo!()
    }
}

/// The ids of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Exactly as many ids as the text tower has positions.
    pub ids: Vec<u32>,
    /// Whether the text was too long and lost its end.
    pub truncated: bool,
}

/// A checkpoint's tokenizer.
pub struct Tokenizer {}

impl Tokenizer {
    /// The tokenizer of a checkpoint folder: `tokenizer.json` if there, else `spiece.model`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none, or it is damaged, or its vocabulary is larger than `vocab_size`.
    pub fn from_folder(folder: &Path, length: usize, vocab_size: usize) -> Result<Self> {
        let _ = (folder, length, vocab_size);
        todo!()
    }

    /// The ids of `text`: cleaned by `canonicalizer`, cut, closed by `</s>` and padded with `</s>`.
    ///
    /// # Errors
    /// `BAD_TEXT`.
    pub fn encode(&self, text: &str, canonicalizer: Canonicalizer) -> Result<Encoding> {
        let _ = (text, canonicalizer);
        todo!()
    }
}
