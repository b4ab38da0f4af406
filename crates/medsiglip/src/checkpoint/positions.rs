//! A position table of one grid to another grid.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, named};

/// How the position table is resampled to another resolution.
///
/// Of MedSigLIP it is published only that the 448 px model has "down-sampled positional embeddings" of the 896 px
/// encoder. The default is the rule of big_vision, the code that SigLIP models are trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PositionResampling {
    /// `bigvision`: end-aligned linear, big_vision's own rule (`scipy.ndimage.zoom`, order 1).
    #[default]
    BigVision,
    /// `area`: the mean of each 2x2 block; for exact halving alone.
    Area,
    /// `bicubic`: `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`, transformers' rule.
    Bicubic,
}

impl PositionResampling {
    /// Every method, in the order in which help texts list them.
    pub const ALL: [Self; 3] = [Self::BigVision, Self::Area, Self::Bicubic];

    /// The method's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BigVision => "bigvision",
            Self::Area => "area",
            Self::Bicubic => "bicubic",
        }
    }

    /// Resamples a position table of a square grid.
    ///
    /// # Shapes
    /// `table` is (from * from, width); the result is (to * to, width).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the table does not fit, a side is 0, or `area` is asked for another ratio than 2 : 1.
    pub fn resample(self, table: &[f32], from: usize, to: usize, width: usize) -> Result<Vec<f32>> {
        let fits = from.checked_mul(from).and_then(|n| n.checked_mul(width));
        if fits != Some(table.len()) || from == 0 || to == 0 || width == 0 {
            return Err(Error::BadArgument(format!(
                "position table: expected {from}x{from}x{width} numbers for {to}x{to}, got {}",
                table.len()
            )));
        }
        if self == Self::Area && from != 2 * to {
            return Err(Error::BadArgument(format!(
                "position resampling area: expected a grid of half {from}, got {to}; use bigvision or bicubic"
            )));
        }
        let taps: Vec<Taps> = (0..to).map(|o| self.taps(o, from, to)).collect();
        let mut result = Vec::with_capacity(to * to * width);
        let mut sum = vec![0f64; width];
        for rows in &taps {
            for columns in &taps {
                sum.fill(0.0);
                for &(y, wy) in rows {
                    for &(x, wx) in columns {
                        let at = (y * from + x) * width;
                        for (sum, &value) in sum.iter_mut().zip(&table[at..at + width]) {
                            *sum += wy * wx * f64::from(value);
                        }
                    }
                }
                result.extend(sum.iter().map(|&s| s as f32));
            }
        }
        Ok(result)
    }

    /// The inputs that make output `o` along one side.
    fn taps(self, o: usize, from: usize, to: usize) -> Taps {
        let last = from - 1;
        match self {
            Self::Area => vec![(2 * o, 0.5), (2 * o + 1, 0.5)],
            // scipy/ndimage `zoom`, grid_mode=False: the first and last samples of both grids coincide. For a few
            // pairs of grids (8 to 26) scipy's last coordinate rounds past the border and it gives zeros there; we stop
            // at the border, which is what is meant.
            Self::BigVision => {
                let zoom = last as f64 / to.saturating_sub(1).max(1) as f64;
                let at = (o as f64 * zoom).min(last as f64);
                let left = at.floor() as usize;
                let weight = at - left as f64;
                vec![(left, 1.0 - weight), ((left + 1).min(last), weight)]
            }
            // torch `upsample_bicubic2d`: half-pixel centres, clamped borders, no antialiasing.
            Self::Bicubic => {
                let at = (o as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
                let left = at.floor();
                let clamp = |i: f64| i.clamp(0.0, last as f64) as usize;
                (-1..=2)
                    .map(f64::from)
                    .map(|step| (clamp(left + step), cubic((at - left - step).abs())))
                    .collect()
            }
        }
    }
}

/// Input positions and their weights.
type Taps = Vec<(usize, f64)>;

/// Keys' cubic convolution kernel (1981, equation 15) at `distance`, with torch's A = -0.75.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

impl fmt::Display for PositionResampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PositionResampling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named::parse("position resampling", &Self::ALL, Self::name, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/checkpoint/positions.safetensors"
    ));

    /// The table of scripts/make_checkpoint_golden.py.
    fn table(grid: usize) -> Vec<f32> {
        (0..grid * grid * 2)
            .map(|i| ((i * i * 37 + i * 11) % 101) as f32 / 64.0 - 0.75)
            .collect()
    }

    #[test]
    fn equals_scipy_and_torch() {
        let golden = ::safetensors::SafeTensors::deserialize(GOLDEN).unwrap();
        let mut compared = 0;
        for (name, expected) in golden.iter() {
            let parts: Vec<&str> = name.split('_').collect();
            let method: PositionResampling = parts[0].parse().unwrap();
            let (from, to) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
            let got = method.resample(&table(from), from, to, 2).unwrap();
            let (expected, _) = expected.data().as_chunks::<4>();
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                let expected = f32::from_le_bytes(*expected);
                assert!((got - expected).abs() <= 1e-6, "{name}: {got} {expected}");
            }
            compared += 1;
        }
        assert_eq!(compared, 14);
    }

    #[test]
    fn a_constant_table_stays_constant() {
        for method in [PositionResampling::BigVision, PositionResampling::Bicubic] {
            for (from, to) in [(8, 26), (1, 7), (7, 1), (32, 64), (3, 3)] {
                let got = method
                    .resample(&vec![0.5; from * from], from, to, 1)
                    .unwrap();
                assert!(
                    got.iter().all(|x| (x - 0.5).abs() < 1e-6),
                    "{method} {from} {to}"
                );
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let area = PositionResampling::Area;
        for (length, from, to, width) in [
            (9, 3, 2, 1),
            (16, 4, 3, 1),
            (15, 4, 2, 1),
            (0, 0, 0, 1),
            (4, 2, 1, 0),
            (4, usize::MAX, 1, 1),
        ] {
            let error = area
                .resample(&vec![0.0; length], from, to, width)
                .unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT");
        }
    }

    #[test]
    fn names_read_back() {
        for method in PositionResampling::ALL {
            assert_eq!(
                method.to_string().parse::<PositionResampling>().unwrap(),
                method
            );
        }
        assert_eq!(
            "nearest".parse::<PositionResampling>().unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}
