//! Lookup tables (PS3.3 C.11.1.1.1, C.11.2.1.1, C.7.6.3.1.5 and C.7.6.3.1.6).

use dicom_object::{InMemDicomObject, Tag};

use super::field::{bad, label};
use crate::Result;
use crate::image::dicom::attributes::Attributes;

/// A table over consecutive input values; never empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lut<T> {
    first: f64,
    entries: Vec<T>,
}

impl<T: Copy> Lut<T> {
    /// The entry of an input value: the first below the table, the last above it. Between whole numbers, the lower.
    pub fn at(&self, input: f64) -> T {
        let index = (input - self.first) as usize; // saturates
        self.entries[index.min(self.entries.len() - 1)]
    }

    /// The table with other entries.
    pub fn map<U>(self, entry: impl Fn(T) -> U) -> Lut<U> {
        Lut {
            first: self.first,
            entries: self.entries.into_iter().map(entry).collect(),
        }
    }

    /// All entries.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }
}

/// A LUT Descriptor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Descriptor {
    /// Entries, 1 to 65,536.
    pub count: usize,
    /// First input value mapped.
    pub first: f64,
    /// Bits an entry, 8 to 16.
    pub bits: u8,
}

impl Descriptor {
    /// `inputs` are the lowest and the highest value that may come in: the first value mapped is signed where it is
    /// written so and inputs can be negative, or where no input reaches it as an unsigned one (its VR follows Pixel
    /// Representation, and files and readers get it wrong).
    ///
    /// # Errors
    /// `BAD_IMAGE` where it is absent or malformed.
    pub fn read(dataset: &InMemDicomObject, tag: Tag, inputs: (f64, f64)) -> Result<Self> {
        let [count, first, bits] = dataset.numbers(tag)[..] else {
            return Err(bad(tag, "expected 3 numbers"));
        };
        // US or SS: the first and the third are unsigned all the same.
        let word = |number: f64| (number as i64).rem_euclid(1 << 16);
        let unsigned = word(first) as f64;
        let is_negative = first < 0.0 && inputs.0 < 0.0;
        let is_signed = is_negative || unsigned > inputs.1 && (first < 0.0 || inputs.0 < 0.0);
        let bits = word(bits);
        if !(8..=16).contains(&bits) {
            return Err(bad(
                tag,
                &format!("expected 8 to 16 bits an entry, got {bits}"),
            ));
        }
        Ok(Self {
            count: match word(count) {
                0 => 1 << 16,
                count => count as usize,
            },
            first: if is_signed {
                unsigned - 65_536.0
            } else {
                unsigned
            },
            bits: bits as u8,
        })
    }

    /// The table of this descriptor.
    ///
    /// # Errors
    /// `BAD_IMAGE` where there are fewer entries than `count`, or one has more than `bits` bits.
    pub fn lut(self, entries: Vec<u16>, data: Tag) -> Result<Lut<u16>> {
        if entries.len() < self.count {
            let got = entries.len();
            return Err(bad(
                data,
                &format!("expected {} entries, got {got}", self.count),
            ));
        }
        if entries.iter().any(|entry| *entry > self.highest()) {
            return Err(bad(
                data,
                &format!("an entry has more than its {} bits", self.bits),
            ));
        }
        Ok(Lut {
            first: self.first,
            entries,
        })
    }

    /// The highest entry that `bits` can hold.
    pub fn highest(self) -> u16 {
        u16::MAX >> (16 - self.bits)
    }
}

/// The table that `descriptor` and `data` make in `dataset`.
///
/// # Errors
/// `BAD_IMAGE` where one of them is absent or malformed.
pub(super) fn read(
    dataset: &InMemDicomObject,
    descriptor: Tag,
    data: Tag,
    inputs: (f64, f64),
    warnings: &mut Vec<String>,
) -> Result<(Lut<u16>, Descriptor)> {
    let descriptor = Descriptor::read(dataset, descriptor, inputs)?;
    let bytes = dataset.bytes(data).unwrap_or_default();
    let entries = entries(&bytes, descriptor, data, warnings);
    Ok((descriptor.lut(entries, data)?, descriptor))
}

/// At most `count` entries. 8-bit ones stand in a word each, or two in a word, the low byte first (C.7.6.3.1.6).
pub(super) fn entries(
    bytes: &[u8],
    descriptor: Descriptor,
    data: Tag,
    warnings: &mut Vec<String>,
) -> Vec<u16> {
    let Descriptor { count, bits, .. } = descriptor;
    let is_packed = bits == 8 && bytes.len() < 2 * count;
    let needed = if is_packed {
        count.next_multiple_of(2)
    } else {
        2 * count
    };
    if bytes.len() > needed {
        let label = label(data);
        warnings.push(format!(
            "{label}: more entries than its descriptor says; the rest is ignored"
        ));
    }
    if is_packed {
        return bytes
            .iter()
            .take(count)
            .map(|byte| u16::from(*byte))
            .collect();
    }
    words(bytes).take(count).collect()
}

/// Little-endian words.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|word| u16::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_core::value::PrimitiveValue;
    use dicom_dictionary_std::tags;

    use super::super::testing::{Case, dataset};
    use super::*;
    use crate::image::dicom::Values;

    /// A table's sequence item.
    fn item(descriptor: [u16; 3], words: Vec<u16>) -> Vec<(Tag, VR, PrimitiveValue)> {
        vec![
            (tags::LUT_DESCRIPTOR, VR::US, (&descriptor).into()),
            (tags::LUT_DATA, VR::OW, PrimitiveValue::U16(words.into())),
        ]
    }

    fn frame() -> Case {
        Case::gray(12, Values::U16(vec![0, 9, 10, 11, 12, 4095]))
    }

    #[test]
    fn a_table_of_65536_entries_has_a_count_of_0() {
        let words: Vec<u16> = (0..=u16::MAX).rev().collect();
        let case = Case::gray(16, Values::U16(vec![0, 1, 257, 32_768, 65_535]));
        let (levels, how) = case
            .item(tags::VOILUT_SEQUENCE, item([0, 0, 16], words))
            .standard();
        assert_eq!(
            (&levels[..], &how[..]),
            (&[255, 255, 254, 127, 0][..], "standard voi-lut")
        );
    }

    #[test]
    fn a_first_value_is_signed_where_no_input_reaches_it() {
        let read = |first: i32, vr, inputs| {
            let value = match vr {
                VR::SS => PrimitiveValue::I16([7, first as i16, 16].as_slice().into()),
                _ => PrimitiveValue::U16([7, first as u16, 16].as_slice().into()),
            };
            let dataset = dataset(vec![(tags::LUT_DESCRIPTOR, vr, value)]);
            Descriptor::read(&dataset, tags::LUT_DESCRIPTOR, inputs)
                .unwrap()
                .first
        };
        let signed = (-32_768.0, 32_767.0);
        assert_eq!(read(-1000, VR::SS, signed), -1000.0);
        assert_eq!(read(-1000, VR::US, signed), -1000.0); // implicit: read as US
        assert_eq!(read(64_536, VR::US, (0.0, 65_535.0)), 64_536.0);
        assert_eq!(read(64_536, VR::SS, (0.0, 65_535.0)), 64_536.0); // SS by Pixel Representation, input unsigned
        assert_eq!(read(64_536, VR::US, (-1024.0, 3071.0)), -1000.0); // rescaled
        assert_eq!(read(-5, VR::SS, (0.0, 255.0)), -5.0);
        assert_eq!(read(100, VR::US, signed), 100.0);
    }

    #[test]
    fn malformed_tables_are_refused_by_name() {
        let voi = |item| frame().item(tags::VOILUT_SEQUENCE, item).refusal();
        let with = |descriptor: &[u16]| {
            let mut elements = item([3, 10, 8], vec![1, 2, 3]);
            elements[0].2 = PrimitiveValue::U16(descriptor.into());
            voi(elements)
        };
        let descriptor = "BAD_IMAGE LUTDescriptor (0028,3002): expected ";
        assert_eq!(with(&[3, 10]), format!("{descriptor}3 numbers"));
        assert_eq!(with(&[]), format!("{descriptor}3 numbers"));
        assert_eq!(with(&[3, 10, 8, 1]), format!("{descriptor}3 numbers"));
        for bits in [0, 7, 17, 65_535] {
            assert_eq!(
                with(&[3, 10, bits]),
                format!("{descriptor}8 to 16 bits an entry, got {bits}")
            );
        }
        let data = "BAD_IMAGE LUTData (0028,3006): ";
        assert_eq!(
            with(&[4, 10, 16]),
            format!("{data}expected 4 entries, got 3")
        );
        assert_eq!(
            with(&[0, 10, 16]),
            format!("{data}expected 65536 entries, got 3")
        );
        assert_eq!(
            with(&[7, 10, 8]),
            format!("{data}expected 7 entries, got 6")
        ); // packed
        assert_eq!(
            voi(item([2, 10, 8], vec![1, 256])),
            format!("{data}an entry has more than its 8 bits")
        );
        assert_eq!(
            voi(item([1, 10, 12], vec![4096])),
            format!("{data}an entry has more than its 12 bits")
        );
        assert_eq!(
            voi(item([1, 10, 12], Vec::new())),
            format!("{data}expected 1 entries, got 0")
        );
        let missing = vec![item([1, 10, 8], Vec::new()).remove(0)];
        assert_eq!(voi(missing), format!("{data}expected 1 entries, got 0"));
        let modality = frame()
            .item(tags::MODALITY_LUT_SEQUENCE, Vec::new())
            .refusal();
        assert_eq!(modality, format!("{descriptor}3 numbers"));
    }

    #[test]
    fn surplus_entries_are_ignored_with_a_warning() {
        let case = |words| frame().item(tags::VOILUT_SEQUENCE, item([2, 10, 8], words));
        assert_eq!(case(vec![3, 5]).standard().0, [3, 3, 3, 5, 5, 5]);
        assert_eq!(case(vec![0x0503]).standard().0, [3, 3, 3, 5, 5, 5]); // two in a word
        let shown = case(vec![3, 5, 9]).show(&Default::default()).unwrap();
        assert_eq!(shown.bytes(), [3, 3, 3, 5, 5, 5]);
        assert!(
            shown.warnings[0].contains("more entries"),
            "{:?}",
            shown.warnings
        );
    }
}
