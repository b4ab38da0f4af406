//! What stands between the products of a layer: norms, GELU, sums of columns. `S` tells the instruction set.

use pulp::Simd;

use crate::engine::exp;

/// Partial sums that a row is summed in, so that the sum vectorises.
const LANES: usize = 16;

#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f(*x);
        }
    }
    let tail: f32 = rest.iter().map(|x| f(*x)).sum();
    sums.iter().sum::<f32>() + tail
}

/// Layer norm of `x` into `y`, rows of as many numbers as `weight` has; `stats` gets every row's mean and reciprocal of
/// its deviation, which the gradient needs.
#[inline(always)]
pub(super) fn layer_norm(
    x: &[f32],
    [weight, bias]: [&[f32]; 2],
    eps: f32,
    y: &mut [f32],
    stats: &mut [f32],
) {
    let width = weight.len();
    let (stats, _) = stats.as_chunks_mut();
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), stats) in rows.zip(stats) {
        let mean = sum(x, |x| x) / width as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
        let inverse_deviation = 1.0 / (variance + eps).sqrt();
        *stats = [mean, inverse_deviation];
        for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inverse_deviation * w + b;
        }
    }
}

/// The layer norm of `x` again, from its statistics.
#[inline(always)]
pub(super) fn normed(x: &[f32], [weight, bias]: [&[f32]; 2], stats: &[f32], y: &mut [f32]) {
    let width = weight.len();
    let (stats, _) = stats.as_chunks();
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), [mean, inverse_deviation]) in rows.zip(stats) {
        for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inverse_deviation * w + b;
        }
    }
}

/// Adds the gradients of a layer norm: of `x` to `dx`, of weight and bias to theirs; `dy` is the gradient of its output.
///
/// With n the normed row before weight and bias and g = dy * weight: dx = (g - mean(g) - n mean(g n)) / deviation.
#[inline(always)]
pub(super) fn layer_norm_backward(
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    stats: &[f32],
    dx: &mut [f32],
    [dweight, dbias]: [&mut [f32]; 2],
) {
    let width = weight.len();
    let count = 1.0 / width as f32;
    let (stats, _) = stats.as_chunks();
    let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
    for (((dy, x), [mean, inverse_deviation]), dx) in
        rows.zip(stats).zip(dx.chunks_exact_mut(width))
    {
        let mut g_sums = [0.0; LANES];
        let mut gn_sums = [0.0; LANES];
        let chunks = |row| <[f32]>::as_chunks::<LANES>(row);
        let ((dys, dy_rest), (xs, x_rest), (ws, w_rest)) = (chunks(dy), chunks(x), chunks(weight));
        let add = |g_sum: &mut f32, gn_sum: &mut f32, dy: f32, x: f32, w: f32| {
            let g = dy * w;
            *g_sum += g;
            *gn_sum += g * (x - mean) * inverse_deviation;
        };
        for ((dy, x), w) in dys.iter().zip(xs).zip(ws) {
            let sums = g_sums.iter_mut().zip(&mut gn_sums);
            for ((((g_sum, gn_sum), dy), x), w) in sums.zip(dy).zip(x).zip(w) {
                add(g_sum, gn_sum, *dy, *x, *w);
            }
        }
        let mut g_sum: f32 = g_sums.iter().sum();
        let mut gn_sum: f32 = gn_sums.iter().sum();
        for ((dy, x), w) in dy_rest.iter().zip(x_rest).zip(w_rest) {
            add(&mut g_sum, &mut gn_sum, *dy, *x, *w);
        }
        let (g_mean, gn_mean) = (g_sum * count, gn_sum * count);
        let parameters = weight.iter().zip(dweight.iter_mut()).zip(dbias.iter_mut());
        for (((dx, dy), x), ((w, dw), db)) in dx.iter_mut().zip(dy).zip(x).zip(parameters) {
            let n = (x - mean) * inverse_deviation;
            *dx += (dy * w - g_mean - n * gn_mean) * inverse_deviation;
            *dw += dy * n;
            *db += dy;
        }
    }
}

/// `y = gelu(x)`, the tanh form: x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
#[inline(always)]
pub(super) fn gelu<S: Simd>(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * sigmoid_2u::<S>(*x);
    }
}

/// `y = gelu(x)` and, in place of its gradient in `dy`, that of `x`.
#[inline(always)]
pub(super) fn gelu_backward<S: Simd>(x: &[f32], y: &mut [f32], dy: &mut [f32]) {
    for ((x, y), dy) in x.iter().zip(y).zip(dy) {
        let s = sigmoid_2u::<S>(*x);
        *y = x * s;
        // Beyond +-16 the slope is that of the branch, and x^3 must not overflow on its way to zero.
        let x = x.clamp(-16.0, 16.0);
        *dy *= s + x * s * (1.0 - s) * SCALE * (1.0 + 3.0 * 0.044_715 * x * x);
    }
}

/// 2 sqrt(2/pi).
const SCALE: f32 = 2.0 * 0.797_884_6;

#[inline(always)]
fn sigmoid_2u<S: Simd>(x: f32) -> f32 {
    let x = x.clamp(-16.0, 16.0);
    1.0 / (1.0 + exp::<S>(-SCALE * x * (1.0 + 0.044_715 * x * x)))
}

/// Adds the sum of every column of `x` to `sums`.
#[inline(always)]
pub(super) fn add_columns(x: &[f32], sums: &mut [f32]) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// Every row of `y` becomes `bias`, plus the row of `x` where there is one.
#[inline(always)]
pub(super) fn start(y: &mut [f32], bias: &[f32], x: Option<&[f32]>) {
    let width = bias.len();
    match x {
        None => y
            .chunks_exact_mut(width)
            .for_each(|row| row.copy_from_slice(bias)),
        Some(x) => {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for ((y, x), b) in y.iter_mut().zip(x).zip(bias) {
                    *y = x + b;
                }
            }
        }
    }
}
