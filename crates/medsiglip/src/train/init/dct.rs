//! A patch embedding that starts as the low frequencies of a cosine transform.

use std::f64::consts::PI;

use crate::checkpoint::Tensor;

/// Brightness, red against blue, green against magenta: orthogonal, of length 1.
const COLOURS: [[f64; 3]; 3] = {
    const A: f64 = 0.577_350_269_189_625_8;
    const B: f64 = std::f64::consts::FRAC_1_SQRT_2;
    const C: f64 = 0.408_248_290_463_863;
    [[A, A, A], [B, 0.0, -B], [-C, 2.0 * C, -C]]
};

/// `random`, (D, 3, P, P), whose first kernels, 3 P P at most, are functions of the two-dimensional DCT-II, the lowest
/// frequencies first, three colours each. All are orthogonal and of length 1, which is the length that kernels of variance
/// 1 / (3 P P) have on average.
pub(super) fn kernels(random: &Tensor) -> Tensor {
    let shape = random.shape().to_vec();
    let patch = shape[2];
    let each = 3 * patch * patch;
    let frequencies = frequencies(patch);
    let mut values = random.to_f32().into_owned();
    for (number, kernel) in values.chunks_exact_mut(each).take(each).enumerate() {
        let [row, column] = frequencies[number / 3];
        for (place, value) in kernel.iter_mut().enumerate() {
            let (y, x) = (place / patch % patch, place % patch);
            let colour = COLOURS[number % 3][place / (patch * patch)];
            *value = (colour * wave(patch, row, y) * wave(patch, column, x)) as f32;
        }
    }
    Tensor::from_f32(shape, values)
}

/// All frequencies, down and across, the lowest first.
fn frequencies(patch: usize) -> Vec<[usize; 2]> {
    let rows = (0..patch).flat_map(|row| (0..patch).map(move |column| [row, column]));
    let mut all: Vec<_> = rows.collect();
    all.sort_by_key(|[row, column]| (row * row + column * column, *row));
    all
}

/// The DCT-II function of `frequency` at `place`, of length 1.
fn wave(patch: usize, frequency: usize, place: usize) -> f64 {
    let scale = match frequency {
        0 => 1.0,
        _ => 2.0,
    };
    let angle = PI * (2 * place + 1) as f64 * frequency as f64 / (2 * patch) as f64;
    (scale / patch as f64).sqrt() * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(width: usize, patch: usize) -> Vec<Vec<f64>> {
        let each = 3 * patch * patch;
        let random = Tensor::from_f32(vec![width, 3, patch, patch], vec![9.0; width * each]);
        let kernels = kernels(&random);
        assert_eq!(kernels.shape(), [width, 3, patch, patch]);
        let values = kernels.to_f32();
        let rows = values.chunks_exact(each);
        rows.map(|row| row.iter().map(|x| f64::from(*x)).collect())
            .collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn kernels_are_orthogonal_and_the_lowest_frequencies_come_first() {
        let kernels = made(12, 4);
        for (i, a) in kernels.iter().enumerate() {
            for (j, b) in kernels.iter().enumerate() {
                let want = f64::from(u8::from(i == j));
                assert!((dot(a, b) - want).abs() < 1e-6, "{i} {j}");
            }
        }
        // Mean brightness; red against blue, everywhere the same; then what changes once across, then down.
        assert!(
            kernels[0]
                .iter()
                .all(|x| (x - 48f64.sqrt().recip()).abs() < 1e-6)
        );
        assert!(
            kernels[1][..16]
                .iter()
                .all(|x| (x - 32f64.sqrt().recip()).abs() < 1e-6)
        );
        assert!(kernels[1][16..32].iter().all(|x| *x == 0.0));
        let across = &kernels[3][..16];
        assert!(across[0] > across[1] && across[1] > 0.0 && across[1] > across[2]);
        assert!((across[0] - across[4]).abs() < 1e-9 && (across[0] + across[3]).abs() < 1e-6);
        let down = &kernels[6][..16];
        assert!((down[0] - down[3]).abs() < 1e-6 && (down[0] + down[12]).abs() < 1e-6);
    }

    #[test]
    fn what_is_left_over_stays_random() {
        let kernels = made(14, 2);
        assert!(kernels[11].iter().all(|x| x.abs() < 1.0));
        assert!(kernels[12..].iter().flatten().all(|x| *x == 9.0));
    }
}
