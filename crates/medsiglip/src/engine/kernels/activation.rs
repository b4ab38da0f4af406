//! The exponential, and tanh-GELU, without calls into libm so that they vectorise.

/// `e^x` for finite x, relative error below 3e-7; inputs are clamped to [-87, 88], so the result is never zero or infinite.
///
/// Cephes' `expf`: x = n ln 2 + r, a polynomial of degree 6 in r, then n into the exponent bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has few bits, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_3e-1;
    let p = p * (r * r) + r + 1.0;
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    p * f32::from_bits(exponent)
}

/// `gelu_pytorch_tanh` in place: 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3)
/// (Hendrycks and Gimpel, arXiv 1606.08415), written as x * sigmoid(2 u).
#[inline(always)]
pub(super) fn gelu(values: &mut [f32]) {
    const SCALE: f32 = 2.0 * 0.797_884_6;
    for value in values {
        // Below -16 the result is 0 in f32; the bound keeps x * x from overflowing (and lets NaN through).
        let x = if *value < -16.0 { -16.0 } else { *value };
        *value = x / (1.0 + exp(-SCALE * x * (1.0 + 0.044_715 * x * x)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    #[test]
    fn exp_is_within_its_stated_error() {
        let worst = (-870_000..880_000)
            .map(|i| i as f32 * 1e-4)
            .map(|x| {
                let want = f64::from(x).exp();
                ((f64::from(exp(x)) - want) / want).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "relative error {worst}");
    }

    #[test]
    fn gelu_is_right_over_its_whole_range() {
        let mut values: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 1e-4).collect();
        values.extend([f32::MAX, f32::MIN, 1e20, -1e20, 0.0, -0.0]);
        let want: Vec<f32> = values.iter().map(|x| reference::gelu(*x)).collect();
        gelu(&mut values);
        for (got, want) in values.iter().zip(&want) {
            let allowed = 1e-6 * want.abs().max(1.0);
            assert!((got - want).abs() <= allowed, "{got} {want}");
        }
    }
}
