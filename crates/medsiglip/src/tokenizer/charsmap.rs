//! SentencePiece's precompiled character map: the longest rule that fits is applied
//! (`sentencepiece/src/normalizer.cc`, `NormalizePrefix`).
//!
//! The `tokenizers` crate applies the same table by grapheme cluster, which gives other
//! characters for some combining marks; we follow SentencePiece, as the model was trained with it.

use crate::{Error, Result};

/// More bytes than any rule has (the longest of `nmt_nfkc` has 12); bounds the work at each position.
const MAX_RULE_BYTES: usize = 64;
/// More bytes than any replacement has (the longest of `nmt_nfkc` has 33).
const MAX_REPLACEMENT_BYTES: usize = 256;
/// As SentencePiece: of the rules that fit, only this many are looked at.
const MAX_MATCHES: usize = 32;

/// A double-array trie (Darts-clone) from character sequences to their replacements.
#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// Replacements, each closed by a zero byte.
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads the table; no bytes give the identity.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self {
                units: Vec::new(),
                replacements: Vec::new(),
            });
        }
        let damaged = || Error::BadConfig("its precompiled_charsmap is damaged".into());
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) {
            return Err(damaged());
        }
        let (trie, replacements) = rest.split_at_checked(size).ok_or_else(damaged)?;
        let units = trie
            .as_chunks::<4>()
            .0
            .iter()
            .map(|unit| u32::from_le_bytes(*unit))
            .collect();
        Ok(Self {
            units,
            replacements: replacements.to_vec(),
        })
    }

    /// What the head of `input` becomes, and how many bytes of `input` that head has (at least one).
    pub(super) fn normalize_prefix<'a>(&'a self, input: &'a [u8]) -> (&'a [u8], usize) {
        match self.longest_match(input) {
            Some((offset, length)) => {
                let tail = self.replacements.get(offset..).unwrap_or_default();
                let tail = &tail[..tail.len().min(MAX_REPLACEMENT_BYTES)];
                let end = tail.iter().position(|b| *b == 0);
                (&tail[..end.unwrap_or(tail.len())], length)
            }
            None => {
                let length = char_len(input[0]).min(input.len());
                (&input[..length], length)
            }
        }
    }

    /// Offset of the replacement and length of the longest rule that `input` starts with.
    fn longest_match(&self, input: &[u8]) -> Option<(usize, usize)> {
        let mut node = unit_offset(*self.units.first()?);
        let mut found = None;
        let mut matches = 0;
        for (at, byte) in input.iter().take(MAX_RULE_BYTES).enumerate() {
            node ^= usize::from(*byte);
            let Some(unit) = self.units.get(node).copied() else {
                break;
            };
            if unit & (1 << 31 | 0xFF) != u32::from(*byte) {
                break;
            }
            node ^= unit_offset(unit);
            if unit >> 8 & 1 == 1 {
                let leaf = self.units.get(node).copied().unwrap_or_default();
                found = Some(((leaf & !(1 << 31)) as usize, at + 1));
                matches += 1;
                if matches == MAX_MATCHES {
                    break;
                }
            }
        }
        found
    }
}

/// Bytes of the UTF-8 character that starts with `lead`.
pub(super) fn char_len(lead: u8) -> usize {
    match lead {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// Where the children of a unit start, relative to it (Darts-clone, `DoubleArrayUnit::offset`).
fn unit_offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_is_the_identity() {
        let map = Charsmap::from_bytes(&[]).unwrap();
        assert_eq!(map.normalize_prefix("ﬁx".as_bytes()), ("ﬁ".as_bytes(), 3));
        assert_eq!(map.normalize_prefix(b"x"), (&b"x"[..], 1));
    }

    #[test]
    fn a_damaged_table_is_refused() {
        for bytes in [
            &[1][..],
            &[8, 0, 0, 0, 1, 2, 3],
            &[3, 0, 0, 0, 1, 2, 3],
            &[255; 8],
        ] {
            assert_eq!(
                Charsmap::from_bytes(bytes).unwrap_err().code(),
                "BAD_CONFIG"
            );
        }
    }

    #[test]
    fn a_trie_that_points_outside_ends_the_search() {
        let mut bytes = vec![4, 0, 0, 0];
        bytes.extend(u32::MAX.to_le_bytes());
        let map = Charsmap::from_bytes(&bytes).unwrap();
        assert_eq!(map.normalize_prefix(b"ab"), (&b"a"[..], 1));
    }
}
