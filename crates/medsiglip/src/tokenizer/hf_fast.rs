//! `hf-fast`: the published `tokenizer.json`, run by the `tokenizers` crate.
//!
//! A `tokenizer.json` can ask that crate for much more than SigLIP needs: normalizers that make a text
//! longer without bound, regular expressions that never end, character maps that point outside
//! themselves, on which it panics. So it gets no file of others: it gets the checked [`Vocabulary`]
//! in the published layout, and a file with another layout is refused.

use super::charsmap::Charsmap;
use super::vocabulary::Vocabulary;
use crate::{Error, Result};

/// The fast tokenizer.
pub(super) struct HfFast(tokenizers::Tokenizer);

impl HfFast {
    /// From a checked vocabulary.
    ///
    /// # Errors
    /// `BAD_CONFIG` where its file has another layout than the published one, or a character map on
    /// which the `tokenizers` crate would panic.
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        if let Some(part) = vocabulary.unlike_published {
            return Err(refused(&format!("its {part} is not the published one")));
        }
        let charsmap = &vocabulary.charsmap;
        if !charsmap.is_empty() && !Charsmap::from_bytes(charsmap)?.is_closed() {
            return Err(refused("its precompiled_charsmap is damaged"));
        }
        let json = vocabulary.to_tokenizer_json().to_string();
        let tokenizer = tokenizers::Tokenizer::from_bytes(json.as_bytes());
        Ok(Self(tokenizer.map_err(|e| refused(&e.to_string()))?))
    }

    /// The ids of `text` without the closing `</s>`.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // The crate's message may quote the text: it stays behind.
        let failed = |_| Error::BadText("the fast tokenizer could not cut this text".into());
        let encoding = self.0.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn refused(why: &str) -> Error {
    Error::BadConfig(format!(
        "hf-fast cannot follow this tokenizer: {why}; use hf-slow"
    ))
}
