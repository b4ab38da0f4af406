//! Matrix product over strided views: the one place where the engine hands pointers to another crate.

use gemm::Parallelism;

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix whose rows start `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// A dense row-major matrix.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// Length of the slice that a strided matrix reaches into; `None` on overflow.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    let last = (rows - 1)
        .checked_mul(row_stride)?
        .checked_add((cols - 1).checked_mul(col_stride)?)?;
    last.checked_add(1)
}

/// What to do with what the destination holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Into {
    /// `dst = scale * a b`.
    Set { scale: f32 },
    /// `dst += a b`.
    Add,
}

/// `a` (M, K) times `b` (K, N) into the row-major `dst` (M, N), whose rows start `dst_stride` apart;
/// split over the threads of the current pool where `parallel` is set.
///
/// # Panics
/// Where a matrix does not fit its slice or the sizes do not agree: a mistake of the engine, never of its input.
pub(super) fn matmul(
    dst: &mut [f32],
    dst_stride: usize,
    a: Mat,
    b: Mat,
    into: Into,
    parallel: bool,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(n <= dst_stride || m <= 1, "rows of the destination overlap");
    let fits = |len: usize, need: Option<usize>| need.is_some_and(|need| need <= len);
    assert!(
        fits(dst.len(), extent(m, n, dst_stride, 1)),
        "destination too short"
    );
    assert!(
        fits(a.data.len(), extent(m, k, a.row_stride, a.col_stride)),
        "left matrix too short"
    );
    assert!(
        fits(b.data.len(), extent(k, n, b.row_stride, b.col_stride)),
        "right matrix too short"
    );

    let (read_dst, scale) = match into {
        Into::Set { scale } => (false, scale),
        Into::Add => (true, 1.0),
    };
    let parallelism = if parallel {
        Parallelism::Rayon(0)
    } else {
        Parallelism::None
    };
    // SAFETY: the three asserts above show that every element (i, j) of each matrix lies inside its slice, so all
    // reads and writes stay in bounds (strides are below isize::MAX because slices are). `dst` is borrowed mutably,
    // so it overlaps neither `a` nor `b`; its rows do not overlap (second assert), so threads write disjoint places.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_stride as isize,
            read_dst,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use proptest::prelude::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        reference::numbers(len, seed)
    }

    proptest! {
        #[test]
        fn equals_the_reference(m in 1usize..40, n in 1usize..40, k in 1usize..40, gap in 0usize..5, seed: u8, transposed: bool) {
            let seed = usize::from(seed);
            let a = numbers(m * (k + gap), seed);
            let b = numbers(n * k, seed + 1);
            let a = Mat::strided(&a, m, k, k + gap);
            let b = if transposed { Mat::dense(&b, n, k).t() } else { Mat::dense(&b, k, n) };
            let start = numbers(m * (n + gap), seed + 2);
            for (into, parallel) in [(Into::Set { scale: 0.5 }, true), (Into::Add, false)] {
                let mut dst = start.clone();
                matmul(&mut dst, n + gap, a, b, into, parallel);
                for i in 0..m {
                    for j in 0..n + gap {
                        let old = start[i * (n + gap) + j];
                        let want = match into {
                            _ if j >= n => old,
                            Into::Set { scale } => scale * reference::dot(a, b, i, j),
                            Into::Add => old + reference::dot(a, b, i, j),
                        };
                        prop_assert!((dst[i * (n + gap) + j] - want).abs() < 1e-4);
                    }
                }
            }
        }
    }

    /// Sizes above those for which the crate splits its work over threads.
    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (m, k, n) = (300, 1152, 700);
        let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut dst = vec![0.0; m * n];
            let (a, b) = (Mat::dense(&a, m, k), Mat::dense(&b, n, k).t());
            pool.install(|| matmul(&mut dst, n, a, b, Into::Add, true));
            dst
        };
        let one = product(1);
        assert!([2, 3, 8].into_iter().all(|threads| product(threads) == one));
    }

    #[test]
    #[should_panic(expected = "right matrix too short")]
    fn refuses_a_matrix_outside_its_slice() {
        let (a, b) = (numbers(6, 0), numbers(5, 1));
        matmul(
            &mut [0.0; 4],
            2,
            Mat::dense(&a, 2, 3),
            Mat::dense(&b, 3, 2),
            Into::Add,
            false,
        );
    }
}
