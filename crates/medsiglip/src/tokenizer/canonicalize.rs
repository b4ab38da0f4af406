//! [`Canonicalizer`]: the named rules that clean a text before it is cut into pieces.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, named};

/// A named rule that cleans a text before it is cut into pieces.
///
/// | name | lower case | `_` | ASCII punctuation | whitespace |
/// |---|---|---|---|---|
/// | `hf-slow` | character by character | deleted | deleted | collapsed |
/// | `hf-fast` | character by character | deleted | deleted, but `/ < >` kept | collapsed |
/// | `bigvision` | ASCII letters alone | kept | kept | as it is |
/// | `bigvision-zeroshot` | yes | space | deleted | collapsed |
/// | `open-clip` | yes | space | deleted | collapsed |
///
/// Whatever the rule, SentencePiece then applies its own `nmt_nfkc` map and collapses spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Canonicalizer {
    /// `hf-slow`: transformers' `SiglipTokenizer`; the default, and what the public container uses.
    ///
    /// As there, `</s>` and `<unk>` in a text are the special tokens, not text.
    #[default]
    HfSlow,
    /// `hf-fast`: the normalizer inside the published `tokenizer.json`, which keeps `/ < >`.
    ///
    /// As there, `</s>`, `<unk>` and `<pad>` in a text are the special tokens, not text.
    HfFast,
    /// `bigvision`: big_vision's training op: lower case only.
    ///
    /// Its `tf.strings.lower` works on bytes: it leaves `É` and `Σ` as they are.
    BigVision,
    /// `bigvision-zeroshot`: big_vision's `canonicalize_text`.
    BigVisionZeroShot,
    /// `open-clip`: open_clip's `canonicalize` cleaning: ftfy, HTML entities, then as `bigvision-zeroshot`.
    ///
    /// Of `ftfy.fix_text` we do what changes ids in well-encoded text: HTML entities, terminal
    /// escapes, full-width ASCII, curly quotes, line breaks, control characters, NFC. We do not
    /// repair mojibake (`Ã©` for `é`) or C1 controls: the ids differ from open_clip's for a
    /// non-ASCII text in which ftfy finds a broken encoding.
    OpenClip,
}

impl Canonicalizer {
    /// All of them, the default first.
    pub const ALL: [Self; 5] = [
        Self::HfSlow,
        Self::HfFast,
        Self::BigVision,
        Self::BigVisionZeroShot,
        Self::OpenClip,
    ];

    /// Its name, as in command lines and provenance.
    pub fn name(self) -> &'static str {
        match self {
            Self::HfSlow => "hf-slow",
            Self::HfFast => "hf-fast",
            Self::BigVision => "bigvision",
            Self::BigVisionZeroShot => "bigvision-zeroshot",
            Self::OpenClip => "open-clip",
        }
    }
}

impl fmt::Display for Canonicalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Canonicalizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named::parse("canonicalizer", &Self::ALL, Self::name, name)
    }
}

/// big_vision, `evaluators/proj/image_text/prompt_engineering.py`, `canonicalize_text`.
pub(super) fn canonicalize_text(text: &str) -> String {
    collapse(&remove_punctuation(&text.replace('_', " ")).to_lowercase())
}

/// The text without Python's `string.punctuation`, which is ASCII alone.
pub(super) fn remove_punctuation(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

/// Python's `str.isspace` and `\s`, which have four separators more than Unicode's White_Space.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Python's `re.sub(r"\s+", " ", text).strip()`.
pub(super) fn collapse(text: &str) -> String {
    let words = text.split(is_python_space).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for canonicalizer in Canonicalizer::ALL {
            assert_eq!(
                canonicalizer.to_string().parse::<Canonicalizer>().unwrap(),
                canonicalizer
            );
        }
        assert_eq!(Canonicalizer::default(), Canonicalizer::ALL[0]);
        let error = "slow".parse::<Canonicalizer>().unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT");
        let known = "hf-slow, hf-fast, bigvision, bigvision-zeroshot or open-clip";
        let message = format!("canonicalizer: expected one of {known}, got slow");
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn words_are_cleaned_as_in_python() {
        let text = " T1_weighted,  <5MM and/or\u{1c}X-ray. ÉΣ ";
        assert_eq!(canonicalize_text(text), "t1 weighted 5mm andor xray éς");
        assert_eq!(canonicalize_text("İΑΣ"), "i\u{307}ας");
        assert_eq!(remove_punctuation("T1_w, <5¿"), "T1w 5¿");
        assert_eq!(collapse("\u{1f} a\u{85}\n b "), "a b");
    }
}
