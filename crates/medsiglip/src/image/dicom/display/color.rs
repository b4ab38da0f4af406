//! Colour: palettes to RGB (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9), and RGB of any depth to 8 bits.

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, Tag};

use super::field::bad;
use super::levels;
use super::lut::{self, Descriptor, Lut};
use super::modality::stored_range;
use super::segments;
use super::voi::rounded;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::header::Header;
use crate::image::dicom::{Stored, Values};
use crate::{Error, Result};

/// RGB samples as 8 bits: as they are where 8 are stored, else scaled from all that Bits Stored can hold.
///
/// # Errors
/// `BAD_IMAGE` where the samples are signed or no whole numbers.
pub(super) fn rgb(header: &Header, values: Values) -> Result<Vec<u8>> {
    let highest = match stored_range(header, &values)? {
        Some((0.0, highest)) => highest,
        _ => {
            return Err(bad(
                tags::PIXEL_REPRESENTATION,
                "expected unsigned samples of colour",
            ));
        }
    };
    match values {
        Values::U8(samples) if highest == 255.0 => Ok(samples),
        values => Ok(levels::map(&values, |value| {
            [rounded(value.min(highest) * 255.0 / highest)]
        })),
    }
}

/// Descriptor, data and segmented data of the red, green and blue table.
pub(super) const TABLES: [[Tag; 3]; 3] = [
    [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
];

/// Palette indices as RGB: the high byte of each entry.
///
/// # Errors
/// `BAD_IMAGE` where a table is absent or malformed.
pub(super) fn palette(
    header: &Header,
    stored: &Stored,
    warnings: &mut Vec<String>,
) -> Result<Vec<u8>> {
    let inputs = stored_range(header, &stored.values)?.ok_or_else(|| {
        Error::BadImage("palette color: expected whole numbers, got floats".into())
    })?;
    let mut read = |tags| table(&header.dataset, tags, inputs, warnings);
    let [(red, bits), (green, _), (blue, _)] =
        [read(TABLES[0])?, read(TABLES[1])?, read(TABLES[2])?];
    let tables = [red, green, blue];
    let highest = tables.iter().flat_map(|table| table.entries()).max();
    let is_low = bits == 16 && highest.is_some_and(|highest| *highest < 256);
    if is_low {
        warnings.push("palette of 16 bits without high bytes: taken as one of 8 bits".into());
    }
    let shift = if bits == 16 && !is_low { 8 } else { 0 };
    let [red, green, blue] = tables.map(|table| table.map(|entry| (entry >> shift) as u8));
    Ok(levels::map(&stored.values, |index| {
        [red.at(index), green.at(index), blue.at(index)]
    }))
}

/// One colour's table and the bits of its entries, 8 or 16.
fn table(
    dataset: &InMemDicomObject,
    [descriptor, data, segmented]: [Tag; 3],
    inputs: (f64, f64),
    warnings: &mut Vec<String>,
) -> Result<(Lut<u16>, u8)> {
    let mut described = Descriptor::read(dataset, descriptor, inputs)?;
    if !matches!(described.bits, 8 | 16) {
        let got = described.bits;
        return Err(bad(
            descriptor,
            &format!("expected 8 or 16 bits an entry, got {got}"),
        ));
    }
    if dataset.has(data) {
        let bytes = dataset.bytes(data).unwrap_or_default();
        // One byte an entry under a descriptor of 16 bits: the bytes are what there is.
        if described.bits == 16 && bytes.len() == described.count {
            described.bits = 8;
        }
        let entries = lut::entries(&bytes, described, data, warnings);
        return Ok((described.lut(entries, data)?, described.bits));
    }
    let bytes = dataset
        .bytes(segmented)
        .ok_or_else(|| bad(data, "missing"))?;
    let entries: Vec<u16> = match described.bits {
        8 => bytes.iter().map(|byte| u16::from(*byte)).collect(),
        _ => lut::words(&bytes).collect(),
    };
    let (expanded, read) =
        segments::expand(&entries, usize::from(described.bits / 8), described.count).ok_or_else(
            || {
                let expected = format!("expected segments of {} entries", described.count);
                bad(segmented, &expected)
            },
        )?;
    if entries.len() > read + 1 {
        let label = super::field::label(segmented);
        warnings.push(format!(
            "{label}: more segments than its descriptor says; the rest is ignored"
        ));
    }
    Ok((described.lut(expanded, segmented)?, described.bits))
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_core::value::PrimitiveValue;

    use super::super::testing::Case;
    use super::*;
    use crate::image::dicom::Photometric;

    fn frame() -> Case {
        Case::gray(8, Values::U8(vec![0, 1, 2, 3])).photometric(Photometric::PaletteColor)
    }

    /// The same descriptor and words for each colour, as data or as segments.
    fn palette(descriptor: [u16; 3], words: &[u16], kind: usize) -> Case {
        TABLES.iter().fold(frame(), |case, tags| {
            let words = PrimitiveValue::U16(words.into());
            case.with(tags[0], VR::US, descriptor)
                .with(tags[kind], VR::OW, words)
        })
    }

    #[test]
    fn a_palette_gives_its_high_bytes() {
        let (samples, how) = palette([2, 1, 16], &[0x1280, 0xFF00], 1).standard();
        let gray = [0x12, 0x12, 0xFF, 0xFF];
        assert_eq!(
            (samples, &how[..]),
            (gray.map(|v| [v; 3]).concat(), "standard palette")
        );
    }

    #[test]
    fn a_palette_without_high_bytes_is_one_of_8_bits() {
        let shown = palette([2, 1, 16], &[0x12, 0xFF], 1)
            .show(&Default::default())
            .unwrap();
        assert_eq!(shown.bytes()[..6], [0x12; 6]);
        assert_eq!(shown.warnings.len(), 1);
        let black = palette([2, 1, 16], &[0, 0], 1)
            .show(&Default::default())
            .unwrap();
        assert_eq!(black.bytes(), [0; 12]);
    }

    #[test]
    fn malformed_palettes_are_refused_by_name() {
        assert_eq!(
            frame().refusal(),
            "BAD_IMAGE RedPaletteColorLookupTableDescriptor (0028,1101): expected 3 numbers"
        );
        let data = "BAD_IMAGE RedPaletteColorLookupTableData (0028,1201): ";
        assert_eq!(
            palette([3, 0, 16], &[1, 2], 1).refusal(),
            format!("{data}expected 3 entries, got 2")
        );
        let bits = palette([2, 0, 12], &[1, 2], 1).refusal();
        assert!(
            bits.ends_with("(0028,1101): expected 8 or 16 bits an entry, got 12"),
            "{bits}"
        );
        let segments = palette([9, 0, 16], &[0, 2, 7, 9], 2).refusal();
        assert!(
            segments.ends_with("(0028,1221): expected segments of 9 entries"),
            "{segments}"
        );
        let none = palette([9, 0, 16], &[1], 0).refusal();
        assert!(none.contains("(0028,1101)"), "{none}");
    }

    #[test]
    fn surplus_segments_are_ignored_with_a_warning() {
        let words = [0, 2, 0x100, 0x200, 0, 1, 9];
        let shown = palette([2, 0, 16], &words, 2)
            .show(&Default::default())
            .unwrap();
        assert_eq!(shown.bytes()[..6], [1, 1, 1, 2, 2, 2]);
        assert_eq!(shown.warnings.len(), 3);
        assert_eq!(
            palette([2, 0, 16], &words[..5], 2).standard().0[..3],
            [1; 3]
        ); // a padding word
    }

    #[test]
    fn colour_must_be_unsigned() {
        let signed = Case::gray(8, Values::I8(vec![1, 2, 3])).photometric(Photometric::Rgb);
        let message = signed.refusal();
        assert!(
            message.contains("PixelRepresentation (0028,0103)"),
            "{message}"
        );
        let low = Case::gray(6, Values::U8(vec![63, 31, 0])).photometric(Photometric::Rgb);
        assert_eq!(low.standard().0, [255, 125, 0]);
    }
}
