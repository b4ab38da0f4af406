//! Every value of a frame through a function, by a table where that is less work.

use crate::image::dicom::Values;

/// Samples of each value, `C` of them.
///
/// Of values of up to 16 bits the function sees each possible one once.
pub(super) fn map<const C: usize, T: Copy>(
    values: &Values,
    level: impl Fn(f64) -> [T; C],
) -> Vec<T> {
    match values {
        Values::U8(v) => table8(v, |byte| level(f64::from(byte))),
        Values::I8(v) => table8(bytemuck::cast_slice(v), |byte| {
            level(f64::from(byte.cast_signed()))
        }),
        Values::U16(v) => table16(v, |word| level(f64::from(word))),
        Values::I16(v) => table16(bytemuck::cast_slice(v), |word| {
            level(f64::from(word.cast_signed()))
        }),
        Values::U32(v) => direct(v, level),
        Values::I32(v) => direct(v, level),
        Values::F32(v) => direct(v, level),
        Values::F64(v) => direct(v, level),
    }
}

fn direct<const C: usize, T, V: Copy + Into<f64>>(
    values: &[V],
    level: impl Fn(f64) -> [T; C],
) -> Vec<T> {
    let samples: Vec<[T; C]> = values.iter().map(|value| level((*value).into())).collect();
    samples.into_flattened()
}

fn table8<const C: usize, T: Copy>(values: &[u8], level: impl Fn(u8) -> [T; C]) -> Vec<T> {
    let table: [[T; C]; 256] = std::array::from_fn(|byte| level(byte as u8));
    let samples: Vec<[T; C]> = values
        .iter()
        .map(|byte| table[usize::from(*byte)])
        .collect();
    samples.into_flattened()
}

fn table16<const C: usize, T: Copy>(values: &[u16], level: impl Fn(u16) -> [T; C]) -> Vec<T> {
    let samples: Vec<[T; C]> = if values.len() < 1 << 16 {
        values.iter().map(|word| level(*word)).collect()
    } else {
        let table: Vec<[T; C]> = (0..=u16::MAX).map(level).collect();
        // Its length is known, so that the loop checks no index.
        let table: &[[T; C]; 1 << 16] = table.as_slice().try_into().expect("one entry a word");
        values
            .iter()
            .map(|word| table[usize::from(*word)])
            .collect()
    };
    samples.into_flattened()
}

/// The lowest and the highest of what `value` makes of the values, where that is finite; `None` where none is.
pub(super) fn extremes(values: &Values, value: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
    match values {
        Values::U8(v) => range(v, value),
        Values::I8(v) => range(v, value),
        Values::U16(v) => range(v, value),
        Values::I16(v) => range(v, value),
        Values::U32(v) => range(v, value),
        Values::I32(v) => range(v, value),
        Values::F32(v) => range(v, value),
        Values::F64(v) => range(v, value),
    }
}

fn range<V: Copy + Into<f64>>(values: &[V], value: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
    let mut lowest = f64::INFINITY;
    let mut highest = f64::NEG_INFINITY;
    for stored in values {
        let value = value((*stored).into());
        let counts = value.is_finite();
        lowest = if counts && value < lowest {
            value
        } else {
            lowest
        };
        highest = if counts && value > highest {
            value
        } else {
            highest
        };
    }
    (lowest <= highest).then_some((lowest, highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_what_the_function_gives() {
        let level = |x: f64| {
            [
                x.rem_euclid(251.0) as u8,
                (x / 300.0).abs() as u8,
                (x < 0.0) as u8,
            ]
        };
        let words: Vec<u16> = (0..70_000_u32)
            .map(|i| ((i * 40_503) >> 3) as u16)
            .collect();
        for count in [0, 1, 255, 256, 65_535, 65_536, 70_000] {
            let words = words[..count].to_vec();
            let bytes: Vec<u8> = words.iter().map(|word| *word as u8).collect();
            let signed = words.iter().map(|word| word.cast_signed());
            let all = [
                Values::I8(bytes.iter().map(|byte| byte.cast_signed()).collect()),
                Values::U8(bytes),
                Values::I16(signed.clone().collect()),
                Values::I32(signed.map(i32::from).collect()),
                Values::U16(words),
            ];
            for values in all {
                let expected: Vec<u8> = match &values {
                    Values::U8(v) => v.iter().flat_map(|x| level(f64::from(*x))).collect(),
                    Values::I8(v) => v.iter().flat_map(|x| level(f64::from(*x))).collect(),
                    Values::U16(v) => v.iter().flat_map(|x| level(f64::from(*x))).collect(),
                    Values::I16(v) => v.iter().flat_map(|x| level(f64::from(*x))).collect(),
                    Values::I32(v) => v.iter().flat_map(|x| level(f64::from(*x))).collect(),
                    _ => panic!(),
                };
                assert!(map(&values, level) == expected, "{count}");
            }
        }
    }

    #[test]
    fn extremes_are_of_finite_values() {
        let values = Values::F32(vec![f32::NAN, 3.0, -1.0, f32::INFINITY, 2.0]);
        assert_eq!(extremes(&values, |x| x * 2.0), Some((-2.0, 6.0)));
        assert_eq!(extremes(&values, |_| f64::NAN), None);
        assert_eq!(extremes(&Values::U8(Vec::new()), |x| x), None);
    }
}
