//! `hf-fast`: the published `tokenizer.json` as it is, run by the `tokenizers` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, Result};

/// The fast tokenizer.
pub(super) struct HfFast(tokenizers::Tokenizer);

impl HfFast {
    /// From the bytes of a `tokenizer.json`.
    pub(super) fn new(json: &[u8]) -> Result<Self> {
        let bad = |e: &dyn std::fmt::Display| Error::BadConfig(format!("tokenizer.json: {e}"));
        let mut tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(json))
            .ok_or_else(|| bad(&"it is damaged"))?
            .map_err(|e| bad(&e))?;
        // Width and padding are the text tower's business, whatever the file says.
        tokenizer.with_truncation(None).map_err(|e| bad(&e))?;
        tokenizer.with_padding(None);
        Ok(Self(tokenizer))
    }

    /// The ids of `text` without the closing `</s>`.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // The crate's message may quote the text: it stays behind.
        let encoding = guarded(|| self.0.encode_fast(text, false)).and_then(|e| e.ok());
        let failed = || Error::BadText("the fast tokenizer could not cut this text".into());
        Ok(encoding.ok_or_else(failed)?.get_ids().to_vec())
    }
}

/// `None` where the crate panics.
///
/// It indexes its character map and its regular expressions' answers without checks, so a hostile
/// `tokenizer.json` can make it panic; the caller has no other way to survive that. Files that pass
/// our own checks and are not made to harm do not come here.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
