//! 16 bits to 8, and what the serving container makes of its samples on the way.

use std::borrow::Cow;

use crate::image::{Picture, Samples};

/// The samples in 8 bits: 16-bit samples are rounded, `(x + 128) / 257`, to the nearest of 256 even steps.
pub(super) fn to_8_bits(picture: &Picture) -> Cow<'_, [u8]> {
    match picture.samples() {
        Samples::U8(v) => Cow::Borrowed(v),
        Samples::U16(v) => v
            .iter()
            .map(|&x| ((u32::from(x) + 128) / 257) as u8)
            .collect(),
    }
}

/// The samples as the serving container hands them to its resize, and whether they are only zeros and ones.
///
/// The container divides by the type's maximum in f32 (`f32(x) / iinfo.max`); transformers 4.51.3 multiplies by
/// 255 in f64, rounds to f32 and truncates (`to_pil_image`, `rescale`). For 8 bits that changes no value, for 16
/// bits it is `x / 257`, truncated (the tests go through all values). A picture of only 0 and the maximum counts
/// as "already integer" there, is not multiplied, and is resized as the values 0 and 1.
pub(super) fn to_container_8_bits(picture: &Picture) -> (Cow<'_, [u8]>, bool) {
    match picture.samples() {
        Samples::U8(v) if is_binary(v, u8::MAX) => (zeros_and_ones(v), true),
        Samples::U8(v) => (Cow::Borrowed(v), false),
        Samples::U16(v) if is_binary(v, u16::MAX) => (zeros_and_ones(v), true),
        Samples::U16(v) => (v.iter().map(|&x| (x / 257) as u8).collect(), false),
    }
}

fn is_binary<T: PartialEq + Default>(samples: &[T], maximum: T) -> bool {
    samples.iter().all(|x| *x == T::default() || *x == maximum)
}

fn zeros_and_ones<T: PartialEq + Default>(samples: &[T]) -> Cow<'static, [u8]> {
    samples
        .iter()
        .map(|x| u8::from(*x != T::default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(samples: Vec<u16>) -> Picture {
        Picture::new(samples.len() as u32, 1, 1, Samples::U16(samples)).unwrap()
    }

    #[test]
    fn rounding_to_8_bits_hits_every_level_and_both_ends() {
        let picture = wide((0..=255).map(|level| level * 257).collect());
        assert!(to_8_bits(&picture).iter().copied().eq(0..=255));
        // The border between levels 0 and 1 lies at 128.5.
        assert_eq!(to_8_bits(&wide(vec![128, 129])).as_ref(), [0, 1]);
    }

    /// `((f64(f32(x) / f32(maximum))) * 255) as f32 as u8`, as the container and transformers compute it.
    fn reference(x: u16, maximum: u16) -> u8 {
        let unit = f32::from(x) / f32::from(maximum);
        ((f64::from(unit) * 255.0) as f32) as u8
    }

    #[test]
    fn container_levels_are_those_of_its_float_arithmetic() {
        let (levels, is_binary) = (wide((0..=u16::MAX).collect()), false);
        let (got, binary) = to_container_8_bits(&levels);
        assert_eq!(binary, is_binary);
        for x in 0..=u16::MAX {
            assert_eq!(got[usize::from(x)], reference(x, u16::MAX));
        }
        assert!((0..=255).all(|x| reference(x, 255) == x as u8));
    }

    #[test]
    fn only_zero_and_the_maximum_are_binary() {
        assert_eq!(
            to_container_8_bits(&wide(vec![0, 65_535])),
            (vec![0, 1].into(), true)
        );
        assert_eq!(
            to_container_8_bits(&wide(vec![1, 65_535])),
            (vec![0, 255].into(), false)
        );
    }
}
