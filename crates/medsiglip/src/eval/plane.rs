//! Embeddings in the plane of their two principal components.

/// Rounds of the iteration; the plane stands after a handful.
const ROUNDS: usize = 60;

/// The coordinates of every row of `data` (N, dim), and the share of the variance that each of the two axes holds. Axes point to
/// where their largest entry is positive. By subspace iteration on the centred rows, which needs no (dim, dim) matrix.
pub fn principal_plane(data: &[f32], dim: usize) -> (Vec<[f32; 2]>, [f64; 2]) {
    let rows = || data.chunks_exact(dim);
    let count = rows().len().max(1) as f64;
    let mut mean = vec![0.0; dim];
    for row in rows() {
        mean.iter_mut()
            .zip(row)
            .for_each(|(sum, x)| *sum += f64::from(*x) / count);
    }
    let centred = |row: &[f32]| -> Vec<f64> {
        row.iter()
            .zip(&mean)
            .map(|(x, m)| f64::from(*x) - m)
            .collect()
    };
    let mut axes: [Vec<f64>; 2] = [0, 1].map(|axis| {
        (0..dim)
            .map(|i| (1.0 + (i * (axis + 1)) as f64).sin())
            .collect()
    });
    orthonormal(&mut axes);
    let mut lengths = [0.0; 2];
    for _ in 0..ROUNDS {
        let mut next = [vec![0.0; dim], vec![0.0; dim]];
        for row in rows() {
            let row = centred(row);
            for (axis, sum) in axes.iter().zip(&mut next) {
                let along = dot(&row, axis);
                sum.iter_mut()
                    .zip(&row)
                    .for_each(|(sum, x)| *sum += along * x);
            }
        }
        lengths = [0, 1].map(|axis| dot(&next[axis], &axes[axis]));
        axes = next;
        orthonormal(&mut axes);
    }
    for axis in &mut axes {
        let largest = axis
            .iter()
            .copied()
            .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        if largest < 0.0 {
            axis.iter_mut().for_each(|x| *x = -*x);
        }
    }
    let total: f64 = rows()
        .map(|row| centred(row).iter().map(|x| x * x).sum::<f64>())
        .sum();
    let points = rows().map(|row| {
        let row = centred(row);
        [0, 1].map(|axis| dot(&row, &axes[axis]) as f32)
    });
    let share = lengths.map(|length| if total > 0.0 { length / total } else { 0.0 });
    (points.collect(), share)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram and Schmidt; a vector of no length stays one.
fn orthonormal(axes: &mut [Vec<f64>; 2]) {
    let [first, second] = axes;
    let scale = |axis: &mut Vec<f64>| {
        let norm = dot(axis, axis).sqrt();
        if norm > 0.0 {
            axis.iter_mut().for_each(|x| *x /= norm);
        }
    };
    scale(first);
    let along = dot(first, second);
    second
        .iter_mut()
        .zip(first.iter())
        .for_each(|(x, f)| *x -= along * f);
    scale(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plane_is_that_of_the_greatest_variance() {
        // Three independent directions of variance 9, 4 and 1 in five dimensions, and a mean far away.
        let mut data = Vec::new();
        for a in [-3.0, 3.0] {
            for b in [-2.0, 2.0] {
                for c in [-1.0, 1.0] {
                    data.extend([50.0 + b, a, -20.0, c, 7.0_f32]);
                }
            }
        }
        let (points, share) = principal_plane(&data, 5);
        assert!(
            (share[0] - 9.0 / 14.0).abs() < 1e-9 && (share[1] - 4.0 / 14.0).abs() < 1e-9,
            "{share:?}"
        );
        for (point, row) in points.iter().zip(data.chunks_exact(5)) {
            assert!(
                (point[0] - row[1]).abs() < 1e-4 && (point[1] - (row[0] - 50.0)).abs() < 1e-4,
                "{point:?}"
            );
        }
    }

    #[test]
    fn equal_rows_have_no_variance() {
        let (points, share) = principal_plane(&[1.0, 2.0, 1.0, 2.0], 2);
        assert_eq!((points, share), (vec![[0.0; 2]; 2], [0.0; 2]));
        assert!(principal_plane(&[], 3).0.is_empty());
    }
}
