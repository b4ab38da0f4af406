//! SentencePiece's precompiled character map: the longest rule that fits is applied
//! (`sentencepiece/src/normalizer.cc`, `NormalizePrefix`).
//!
//! The `tokenizers` crate applies the same table by grapheme cluster, which gives other
//! characters for some combining marks; we follow SentencePiece, as the model was trained with it.

use std::collections::VecDeque;

use crate::{Error, Result};

/// More bytes than any rule has (the longest of `nmt_nfkc` has 12); bounds the work at each position.
const MAX_RULE_BYTES: usize = 64;
/// More bytes than any replacement has (the longest of `nmt_nfkc` has 33).
const MAX_REPLACEMENT_BYTES: usize = 256;
/// As SentencePiece: of the rules that fit, only this many are looked at.
const MAX_MATCHES: usize = 32;

/// Units of a table that is worth walking through (`nmt_nfkc` has 46 thousand).
const MAX_CLOSED_UNITS: usize = 1 << 20;
/// How many times longer than its rule a replacement may be.
const MAX_GROWTH: usize = 16;

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

    /// Whether every step that an input can cause stays inside the table and its replacements, and no
    /// replacement is much longer than what it replaces (`nmt_nfkc`: 11 times).
    ///
    /// Our own search survives other tables; that of the `tokenizers` crate, which also cuts the
    /// replacements as text, does not.
    pub(super) fn is_closed(&self) -> bool {
        let Ok(replacements) = std::str::from_utf8(&self.replacements) else {
            return false;
        };
        if self.units.len() > MAX_CLOSED_UNITS {
            return false;
        }
        let Some(root) = self.units.first() else {
            return false;
        };
        let mut seen = vec![false; self.units.len()];
        // Breadth first: each node at its smallest depth, where the limit on replacements is smallest.
        let mut nodes = VecDeque::from([(unit_offset(*root), 0)]);
        while let Some((node, depth)) = nodes.pop_front() {
            // Any byte may come next.
            if node | 0xFF >= self.units.len() {
                return false;
            }
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            for byte in 1..=0xFF {
                let at = node ^ byte;
                let unit = self.units[at];
                if unit & (1 << 31 | 0xFF) != byte as u32 {
                    continue;
                }
                let next = at ^ unit_offset(unit);
                if unit >> 8 & 1 == 1 {
                    let leaf = self.units.get(next).copied().unwrap_or(u32::MAX);
                    let limit = MAX_GROWTH * (depth + 1);
                    let tail = replacements.get((leaf & !(1 << 31)) as usize..);
                    let short =
                        |t: &str| t.len() <= limit || t.bytes().take(limit + 1).any(|b| b == 0);
                    if !tail.is_some_and(short) {
                        return false;
                    }
                }
                nodes.push_back((next, depth + 1));
            }
        }
        true
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

    /// A table with one rule: `a` becomes the replacement at `value`.
    fn one_rule(value: u32, replacements: &[u8]) -> Charsmap {
        let mut units = vec![0u32; 512];
        units[0] = 256 << 10;
        // From 256 by `a` to 353, from there by its offset to the leaf at 300.
        units[353] = u32::from(b'a') | 1 << 8 | (353 ^ 300) << 10;
        units[300] = value | 1 << 31;
        Charsmap {
            units,
            replacements: replacements.to_vec(),
        }
    }

    #[test]
    fn a_table_that_could_lead_outside_is_not_closed() {
        let sound = one_rule(0, b"bc\0");
        assert_eq!(sound.normalize_prefix(b"a"), (&b"bc"[..], 1));
        assert!(sound.is_closed());
        assert!(one_rule(3, b"bc\0").is_closed());
        for (value, replacements) in [
            (4, &b"bc\0"[..]),
            (1, "ä\0".as_bytes()),
            (0, b"\xFF\0"),
            (0, &[b'x'; 17]),
        ] {
            assert!(!one_rule(value, replacements).is_closed(), "{value}");
        }
        let changed = |change: &dyn Fn(&mut Vec<u32>)| {
            let mut map = one_rule(0, b"bc\0");
            change(&mut map.units);
            assert!(!map.is_closed());
        };
        changed(&|units| units.clear());
        changed(&|units| units.truncate(511));
        changed(&|units| units[0] = 512 << 10);
        changed(&|units| units[353] |= 512 << 10);
    }

    #[test]
    fn a_trie_that_points_outside_ends_the_search() {
        let mut bytes = vec![4, 0, 0, 0];
        bytes.extend(u32::MAX.to_le_bytes());
        let map = Charsmap::from_bytes(&bytes).unwrap();
        assert_eq!(map.normalize_prefix(b"ab"), (&b"a"[..], 1));
    }
}
