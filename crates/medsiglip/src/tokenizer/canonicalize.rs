//! [`Canonicalizer`]: the named rules that clean a text before it is cut into pieces.

use std::fmt;
use std::str::FromStr;

use super::open_clip;
use crate::{Error, Result};

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

    /// The cleaned text. (The special tokens of the two `hf` rules are cleaned like any text here.)
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::HfSlow => remove_and_collapse(&lower_chars(text), is_punctuation),
            Self::HfFast => {
                let removed = |c| is_punctuation(c) && !matches!(c, '/' | '<' | '>');
                let kept: String = lower_chars(text).chars().filter(|c| !removed(*c)).collect();
                kept.split_whitespace().collect::<Vec<_>>().join(" ")
            }
            Self::BigVision => text.to_ascii_lowercase(),
            Self::BigVisionZeroShot => canonicalize_text(text),
            Self::OpenClip => canonicalize_text(&open_clip::basic_clean(text)),
        }
    }
}

impl fmt::Display for Canonicalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Canonicalizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|c| c.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::BadArgument(format!("canonicalizer: expected {names}, got {name}"))
        })
    }
}

/// big_vision, `evaluators/proj/image_text/prompt_engineering.py`, `canonicalize_text`.
fn canonicalize_text(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c == '_' { ' ' } else { c })
        .filter(|c| !is_punctuation(*c))
        .collect();
    collapse(&text.to_lowercase())
}

/// Lower case character by character, so without the final sigma (`ς`) of a whole text.
pub(super) fn lower_chars(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The text without what `removed` names, its whitespace collapsed.
pub(super) fn remove_and_collapse(text: &str, removed: impl Fn(char) -> bool) -> String {
    let kept: String = text.chars().filter(|c| !removed(*c)).collect();
    collapse(&kept)
}

/// Python's `string.punctuation`: ASCII alone.
pub(super) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// Python's `str.isspace` and `\s`, which have four separators more than Unicode's White_Space.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Python's `re.sub(r"\s+", " ", text).strip()`.
fn collapse(text: &str) -> String {
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
        assert!(error.to_string().contains("bigvision-zeroshot"), "{error}");
    }

    #[test]
    fn each_rule_has_its_own_answer() {
        let text = " T1_weighted,  <5MM and/or\u{1c}X-ray. ÉΣ ";
        let cleaned = Canonicalizer::ALL.map(|c| c.apply(text));
        assert_eq!(
            cleaned,
            [
                "t1weighted 5mm andor xray éσ",
                "t1weighted <5mm and/or\u{1c}xray éσ",
                " t1_weighted,  <5mm and/or\u{1c}x-ray. ÉΣ ",
                "t1 weighted 5mm andor xray éς",
                "t1 weighted 5mm andorxray éς",
            ]
        );
    }

    #[test]
    fn python_lower_case_of_special_letters() {
        assert_eq!(
            Canonicalizer::HfSlow.apply("İΑΣ"),
            "i\u{307}ας".replace('ς', "σ")
        );
        assert_eq!(Canonicalizer::BigVisionZeroShot.apply("İΑΣ"), "i\u{307}ας");
        assert_eq!(Canonicalizer::BigVision.apply("İΑΣ"), "İΑΣ");
    }
}
