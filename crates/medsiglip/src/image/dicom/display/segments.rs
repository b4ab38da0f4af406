//! Segmented palette tables (PS3.3 C.7.9.2).

/// Expands segments to exactly `count` entries, and says how many entries of `data` were read; `None` where they are
/// malformed or give another count.
///
/// `data` holds bytes or words (`entry_bytes` 1 or 2) of the little-endian element.
pub(super) fn expand(data: &[u16], entry_bytes: usize, count: usize) -> Option<(Vec<u16>, usize)> {
    let segments = Segments { data, entry_bytes };
    let mut out = Vec::with_capacity(count);
    let mut at = 0;
    while out.len() < count {
        at = segments.expand_one(at, true, count, &mut out)?;
    }
    Some((out, at))
}

struct Segments<'a> {
    data: &'a [u16],
    entry_bytes: usize,
}

impl Segments<'_> {
    /// Appends the segment at `at`, and says where the next one stands. Each gives at least one entry, so that a
    /// damaged table ends.
    fn expand_one(
        &self,
        at: usize,
        may_jump: bool,
        count: usize,
        out: &mut Vec<u16>,
    ) -> Option<usize> {
        let &[opcode, length] = self.data.get(at..)?.first_chunk()?;
        let length = usize::from(length);
        let body = self.data.get(at + 2..)?;
        let next = match opcode {
            0 => {
                out.extend(body.get(..length)?);
                at + 2 + length
            }
            1 => {
                linear(*out.last()?, *body.first()?, length, out);
                at + 3
            }
            2 if may_jump => {
                let mut from = self.offset(body)?;
                for _ in 0..length {
                    from = self.expand_one(from, false, count, out)?;
                }
                at + 2 + 4 / self.entry_bytes
            }
            _ => return None,
        };
        (length > 0 && out.len() <= count).then_some(next)
    }

    /// Where an indirect segment points: a byte offset of 32 bits, the low part first.
    fn offset(&self, body: &[u16]) -> Option<usize> {
        let parts = body.get(..4 / self.entry_bytes)?;
        let bits = 8 * self.entry_bytes;
        let low_first = parts.iter().rev();
        let bytes = low_first.fold(0, |offset, part| offset << bits | usize::from(*part));
        bytes
            .is_multiple_of(self.entry_bytes)
            .then_some(bytes / self.entry_bytes)
    }
}

/// From the last entry, which is there already, to `end` in `length` equal steps, rounded half to even.
fn linear(start: u16, end: u16, length: usize, out: &mut Vec<u16>) {
    let (from, rise) = (f64::from(start), f64::from(end) - f64::from(start));
    let entry = |step: usize| (from + rise * step as f64 / length as f64).round_ties_even() as u16;
    out.extend((1..=length).map(entry));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_of_every_kind_expand() {
        // C.7.9.2: two discrete, linear to 10 in 4 steps, then both again, from byte 0
        let words = [0, 2, 0, 2, 1, 4, 10, 2, 2, 0, 0];
        let expected = [0, 2, 4, 6, 8, 10, 0, 2, 4, 6, 8, 10];
        assert_eq!(expand(&words, 2, 12), Some((expected.to_vec(), 11)));
        let bytes = [0, 2, 0, 2, 1, 4, 10, 2, 2, 0, 0, 0, 0];
        assert_eq!(expand(&bytes, 1, 12), Some((expected.to_vec(), 13)));
        // the offset counts bytes: word 4 is at byte 8; from the last entry, 10, down to 10 again
        let words = [0, 2, 0, 2, 1, 4, 10, 2, 1, 8, 0];
        let expected = [0, 2, 4, 6, 8, 10, 10, 10, 10, 10];
        assert_eq!(expand(&words, 2, 10), Some((expected.to_vec(), 11)));
        // falling, halves to even
        assert_eq!(
            expand(&[0, 1, 5, 1, 4, 3, 9, 9], 2, 5),
            Some((vec![5, 4, 4, 4, 3], 6))
        );
    }

    #[test]
    fn damaged_segments_are_refused() {
        for (words, count) in [
            (&[][..], 1),
            (&[0][..], 1),
            (&[0, 3, 1, 1][..], 3),             // cut
            (&[1, 2, 5][..], 2),                // nothing to start from
            (&[2, 1, 0, 0][..], 2),             // points to itself
            (&[0, 1, 7, 2, 1, 6, 0][..], 2),    // points to an indirect one
            (&[0, 1, 7, 2, 1, 1, 0][..], 2),    // half a word
            (&[0, 1, 7, 2, 1, 0, 9999][..], 2), // outside
            (&[0, 1, 7, 3, 1, 0][..], 2),       // unknown
            (&[0, 0, 0, 1, 7][..], 1),          // empty
            (&[0, 2, 7, 7][..], 1),             // too many
            (&[0, 2, 7, 7][..], 3),             // too few
        ] {
            assert_eq!(expand(words, 2, count), None, "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn any_segments_end(
            data in prop::collection::vec(prop_oneof![0..4_u16, 0..20_u16, any::<u16>()], 0..40),
            count in 1..70_000_usize,
        ) {
            for entry_bytes in [1, 2] {
                if let Some((entries, read)) = expand(&data, entry_bytes, count) {
                    prop_assert!(entries.len() == count && read <= data.len());
                }
            }
        }
    }
}
