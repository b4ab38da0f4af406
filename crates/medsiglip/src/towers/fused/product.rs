//! Matrix products on slices: the `gemm` crate behind bounds that are checked.

use gemm::{Parallelism, gemm};

/// A matrix within a slice: row r and column c stand at `r * row_step + c * column_step`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` numbers, `stride` apart.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride && data.len() >= span(rows, columns, stride));
        Self {
            data,
            rows,
            columns,
            row_step: stride,
            column_step: 1,
        }
    }

    /// Its transpose, without a copy.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

/// The place to which a product is added: rows `stride` apart.
pub(super) struct Target<'a> {
    /// From the first number on.
    pub data: &'a mut [f32],
    /// From row to row.
    pub stride: usize,
}

/// Numbers from the first of the first row to the last of the last.
fn span(rows: usize, columns: usize, stride: usize) -> usize {
    rows.checked_sub(1)
        .map_or(0, |steps| steps * stride + columns)
}

/// `out = a b`, or where `add` says so, `out += a b`, on `threads` threads.
pub(super) fn product(out: Target, add: bool, a: Matrix, b: Matrix, threads: usize) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(k == b.rows && n <= out.stride && out.data.len() >= span(m, n, out.stride));
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    // SAFETY: `Matrix::new` and the assertion above hold every index within its slice; `out` is borrowed alone.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            out.stride as isize,
            add,
            a.data.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.data.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_sum_of_products_for_every_orientation() {
        let a: Vec<f32> = (0..5 * 8).map(|i| (i % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..9 * 8).map(|i| (i % 5) as f32 - 2.0).collect();
        // (5 x 6 of stride 8) times (6 x 4 of stride 9), and the transpose of a stored (4 x 6).
        let left = Matrix::new(&a, 5, 6, 8);
        let stored = Matrix::new(&b, 6, 4, 9);
        let turned = Matrix::new(&b, 4, 6, 8).t();
        for (right, [row, column]) in [(stored, [9, 1]), (turned, [1, 8])] {
            let mut out = vec![1.0; 5 * 7];
            let target = Target {
                data: &mut out,
                stride: 7,
            };
            product(target, true, left, right, 1);
            for m in 0..5 {
                for n in 0..7 {
                    let sum: f32 = (0..6)
                        .map(|k| a[m * 8 + k] * b[k * row + n.min(3) * column])
                        .sum();
                    let want = if n < 4 { 1.0 + sum } else { 1.0 };
                    assert_eq!(out[m * 7 + n], want);
                }
            }
        }
    }
}
