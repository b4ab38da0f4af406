//! Text to [`TokenIds`], always as wide as the text tower (64); the named canonicalizers.

mod canonicalize;
mod charsmap;
mod hf_fast;
mod hf_slow;
mod open_clip;
mod sentence_piece;
#[cfg(feature = "train")]
mod train;
mod vocabulary;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

pub use canonicalize::Canonicalizer;
use canonicalize::canonicalize_text;
#[cfg(feature = "train")]
pub use train::{TokenizerOptions, TrainedTokenizer};

use crate::{Error, Result};
use hf_fast::HfFast;
use hf_slow::HfSlow;
use sentence_piece::SentencePiece;
use vocabulary::Vocabulary;

/// Bytes of one text that are read; the text tower sees about 64 words.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Bytes of a tokenizer file that are read; the published `tokenizer.json` has 2.4 million.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The piece that ends and pads a text.
const EOS: &str = "</s>";

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
        if Some(data.len()) != batch.checked_mul(length) {
            return Err(Error::BadArgument(format!(
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

    /// The texts of these rows.
    #[cfg(feature = "train")]
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let ids = |row: &usize| &self.data[row * self.length..][..self.length];
        Self {
            batch: rows.len(),
            length: self.length,
            data: rows.iter().flat_map(ids).copied().collect(),
        }
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

    /// Whether there is a text at all and a tower of `length` positions and `vocab` tokens can take it.
    ///
    /// Pads are attended like any token (there is no mask), so a shorter row would give another answer: it is refused.
    pub(crate) fn check(&self, length: usize, vocab: usize) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::empty_batch());
        }
        if self.length != length {
            return Err(Error::BadArgument(format!(
                "token ids: expected {length} a text, padding included, got {}",
                self.length
            )));
        }
        match self.data.iter().find(|id| **id as usize >= vocab) {
            Some(id) => Err(Error::BadArgument(format!(
                "token ids: expected ids below {vocab}, got {id}"
            ))),
            None => Ok(()),
        }
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

/// The kinds of file that hold a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerFile {
    /// `tokenizer.json`, of the `tokenizers` library.
    TokenizerJson,
    /// `spiece.model`, of SentencePiece.
    Spiece,
}

impl TokenizerFile {
    /// Its name in a checkpoint folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenizerJson => "tokenizer.json",
            Self::Spiece => "spiece.model",
        }
    }
}

/// A checkpoint's tokenizer.
///
/// Text is cut by our own SentencePiece unigram model, whichever file it came from; `hf-fast` alone
/// runs the `tokenizers` library, made ready at its first use.
pub struct Tokenizer {
    length: usize,
    eos_id: u32,
    model: SentencePiece,
    hf_slow: HfSlow,
    /// What `hf_fast` is made from.
    vocabulary: Vocabulary,
    hf_fast: OnceLock<std::result::Result<HfFast, String>>,
}

impl Tokenizer {
    /// The tokenizer of a checkpoint folder: `tokenizer.json` if there, else `spiece.model`.
    ///
    /// `length` is the number of ids a text (T, 64), `vocab_size` the text tower's vocabulary.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none, or it is damaged, or its vocabulary is larger than
    /// `vocab_size`; `IO_ERROR`; `LIMIT_EXCEEDED`.
    pub fn from_folder(folder: &Path, length: usize, vocab_size: usize) -> Result<Self> {
        for file in [TokenizerFile::TokenizerJson, TokenizerFile::Spiece] {
            let path = folder.join(file.name());
            if path.is_file() {
                let bytes = read_limited(&path)?;
                return Self::from_bytes(file, bytes, length, vocab_size).map_err(|e| match e {
                    Error::BadConfig(m) => Error::BadConfig(format!("{m}: {}", path.display())),
                    e => e,
                });
            }
        }
        Err(Error::BadConfig(format!(
            "expected tokenizer.json or spiece.model, got neither: {}",
            folder.display()
        )))
    }

    /// The tokenizer in the bytes of a file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`].
    pub fn from_bytes(
        file: TokenizerFile,
        bytes: Vec<u8>,
        length: usize,
        vocab_size: usize,
    ) -> Result<Self> {
        if length == 0 {
            return Err(Error::BadArgument(
                "tokenizer: expected a length of 1 or more, got 0".into(),
            ));
        }
        Self::parse(file, &bytes, length, vocab_size).map_err(|e| match e {
            Error::BadConfig(message) => Error::BadConfig(format!("{}: {message}", file.name())),
            e => e,
        })
    }

    fn parse(file: TokenizerFile, bytes: &[u8], length: usize, vocab_size: usize) -> Result<Self> {
        let vocabulary = match file {
            TokenizerFile::TokenizerJson => Vocabulary::from_tokenizer_json(bytes, vocab_size)?,
            TokenizerFile::Spiece => Vocabulary::from_spiece(bytes, vocab_size)?,
        };
        let missing = || Error::BadConfig(format!("expected the piece {EOS}, got none"));
        let eos_id = vocabulary.id_of(EOS).ok_or_else(missing)?;
        let model = SentencePiece::new(&vocabulary)?;
        Ok(Self {
            length,
            eos_id,
            hf_slow: HfSlow::new(&vocabulary, &model, (EOS, eos_id))?,
            model,
            vocabulary,
            hf_fast: OnceLock::new(),
        })
    }

    /// Ids a text, T.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The id of `</s>`, which ends and pads every text.
    pub fn eos_id(&self) -> u32 {
        self.eos_id
    }

    /// The ids of `text`: cleaned by `canonicalizer`, cut, closed by `</s>` and padded with `</s>`.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` above [`MAX_TEXT_BYTES`]; with `hf-fast` alone `BAD_TEXT`, and `BAD_CONFIG`
    /// where the tokenizer file is not laid out as the published one.
    pub fn encode(&self, text: &str, canonicalizer: Canonicalizer) -> Result<Encoding> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::Limit {
                what: "text in bytes",
                got: text.len() as u64,
                limit: MAX_TEXT_BYTES as u64,
            });
        }
        let ids = match canonicalizer {
            Canonicalizer::HfSlow => self.hf_slow.encode(&self.model, text)?,
            Canonicalizer::HfFast => self.hf_fast()?.encode(text)?,
            Canonicalizer::BigVision => self.model.encode(&text.to_ascii_lowercase())?,
            Canonicalizer::BigVisionZeroShot => self.model.encode(&canonicalize_text(text))?,
            Canonicalizer::OpenClip => {
                let text = open_clip::basic_clean(text);
                self.model.encode(&canonicalize_text(&text))?
            }
        };
        Ok(self.fit(ids))
    }

    /// The ids of several texts, (B, T), and the indices of those that were too long and lost their end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch<S: AsRef<str>>(
        &self,
        texts: &[S],
        canonicalizer: Canonicalizer,
    ) -> Result<(TokenIds, Vec<usize>)> {
        let mut data = Vec::with_capacity(texts.len().saturating_mul(self.length));
        let mut truncated = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let encoding = self.encode(text.as_ref(), canonicalizer)?;
            data.extend(encoding.ids);
            if encoding.truncated {
                truncated.push(index);
            }
        }
        Ok((TokenIds::new(texts.len(), self.length, data)?, truncated))
    }

    /// Cut to leave room for `</s>`, then filled up with it.
    fn fit(&self, mut ids: Vec<u32>) -> Encoding {
        let room = self.length - 1;
        let lost = ids.get(room..).unwrap_or_default();
        let truncated = lost.iter().any(|id| *id != self.eos_id);
        ids.truncate(room);
        ids.resize(self.length, self.eos_id);
        Encoding { ids, truncated }
    }

    fn hf_fast(&self) -> Result<&HfFast> {
        let make = || HfFast::new(&self.vocabulary).map_err(|e| e.to_string());
        let fast = self.hf_fast.get_or_init(make);
        fast.as_ref().map_err(|e| Error::BadConfig(e.clone()))
    }
}

/// The bytes of a file, of which no more than the limit is read.
fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Limit {
            what: "tokenizer file in bytes",
            got: bytes.len() as u64,
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(bytes)
}
