//! The exponential, and tanh-GELU, without calls into libm so that they vectorise; `S` tells
//! the instruction set that the caller is compiled for.

use pulp::Simd;

/// `e^x` for finite x, relative error below 3e-7; inputs are clamped to [-87, 88], so the result is never zero or infinite.
///
/// Cephes' `expf`: x = n ln 2 + r, a polynomial of degree 6 in r, then n into the exponent bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has few bits, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<S>(n, -LN2_LOW, mul_add::<S>(n, -LN2_HIGH, x));
    let p = 1.987_569_1e-4;
    let p = mul_add::<S>(p, r, 1.398_199_9e-3);
    let p = mul_add::<S>(p, r, 8.333_452e-3);
    let p = mul_add::<S>(p, r, 4.166_579_6e-2);
    let p = mul_add::<S>(p, r, 1.666_666_5e-1);
    let p = mul_add::<S>(p, r, 5.000_000_3e-1);
    let p = mul_add::<S>(p, r * r, r + 1.0);
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    p * f32::from_bits(exponent)
}

/// `a b + c`, in one instruction where `S` has one: without, a call would take its place.
#[inline(always)]
fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::F32_LANES == 1 {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// `gelu_pytorch_tanh` in place: 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3)
/// (Hendrycks and Gimpel, arXiv 1606.08415), written as x * sigmoid(2 u); within 1e-6 of the larger of 1 and |x|.
#[inline(always)]
pub(super) fn gelu<S: Simd>(values: &mut [f32]) {
    const SCALE: f32 = 2.0 * 0.797_884_6;
    for value in values {
        // Below -16 the result is nothing that f32 can add to; the bound keeps x * x from overflowing. What is not
        // finite stays so.
        let x = if *value < -16.0 && *value >= f32::MIN {
            -16.0
        } else {
            *value
        };
        *value = x / (1.0 + exp::<S>(-SCALE * x * (1.0 + 0.044_715 * x * x)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    fn check_exp<S: Simd>() {
        let worst = (-870_000..880_000)
            .map(|i| i as f32 * 1e-4)
            .map(|x| {
                let want = f64::from(x).exp();
                ((f64::from(exp::<S>(x)) - want) / want).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "relative error {worst}");
    }

    fn check_gelu<S: Simd>() {
        let mut values: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 1e-4).collect();
        values.extend([f32::MAX, f32::MIN, 1e20, -1e20, 0.0, -0.0]);
        let want: Vec<f32> = values.iter().map(|x| reference::gelu(*x)).collect();
        gelu::<S>(&mut values);
        let mut wrong = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        gelu::<S>(&mut wrong);
        assert!(wrong.iter().all(|x| !x.is_finite()), "{wrong:?}");
        for (got, want) in values.iter().zip(&want) {
            let allowed = 1e-6 * want.abs().max(1.0);
            assert!((got - want).abs() <= allowed, "{got} {want}");
        }
    }

    #[test]
    fn exp_is_within_its_stated_error() {
        check_exp::<pulp::Scalar>();
        #[cfg(target_arch = "x86_64")]
        check_exp::<pulp::x86::V3>();
    }

    #[test]
    fn gelu_is_right_over_its_whole_range() {
        check_gelu::<pulp::Scalar>();
        #[cfg(target_arch = "x86_64")]
        check_gelu::<pulp::x86::V3>();
    }
}
