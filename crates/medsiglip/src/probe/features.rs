//! [`Features`]: what a probe is fitted on; [`Scaler`].

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::embedding::Embeddings;
use crate::{Error, Result};

/// Rows that are widened to f64 and multiplied at once.
const BLOCK: usize = 64;
/// Rows whose part of a gradient is summed by one task; fixed, so that sums are the same for any number of threads.
const PART: usize = 2048;

/// Features of N items, each D wide, single or double precision; all finite.
///
/// # Shapes
/// (N, D), row-major.
#[derive(Debug, Clone)]
pub struct Features<'a> {
    dim: usize,
    values: Values<'a>,
}

#[derive(Debug, Clone)]
enum Values<'a> {
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
}

impl<'a> Features<'a> {
    /// Features in single precision, (N, `dim`).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `dim` is zero or does not divide the buffer, or a value is not finite.
    pub fn f32(dim: usize, data: impl Into<Cow<'a, [f32]>>) -> Result<Self> {
        let data = data.into();
        let bad = data.iter().position(|x| !x.is_finite());
        check(dim, data.len(), bad)?;
        let values = Values::F32(data);
        Ok(Self { dim, values })
    }

    /// Features in double precision, (N, `dim`).
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    pub fn f64(dim: usize, data: impl Into<Cow<'a, [f64]>>) -> Result<Self> {
        let data = data.into();
        let bad = data.iter().position(|x| !x.is_finite());
        check(dim, data.len(), bad)?;
        let values = Values::F64(data);
        Ok(Self { dim, values })
    }

    /// The embeddings themselves, neither copied nor changed.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a value is not finite.
    pub fn of(embeddings: &'a Embeddings) -> Result<Self> {
        Self::f32(embeddings.dim(), embeddings.data())
    }

    /// Numbers an item, D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Items, N.
    pub fn items(&self) -> usize {
        let len = match &self.values {
            Values::F32(data) => data.len(),
            Values::F64(data) => data.len(),
        };
        len / self.dim
    }

    /// All numbers in double precision, (N, D).
    pub fn to_f64(&self) -> Vec<f64> {
        let mut all = vec![0.0; self.items() * self.dim];
        self.widen(0, &mut all);
        all
    }

    /// The same in double precision.
    pub(super) fn into_f64(self) -> Features<'a> {
        let values = match self.values {
            Values::F32(data) => Values::F64(data.iter().map(|x| f64::from(*x)).collect()),
            values => values,
        };
        Features {
            dim: self.dim,
            values,
        }
    }

    /// The items of these numbers, in this order.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where an item is not there.
    pub fn select(&self, items: &[usize]) -> Result<Features<'static>> {
        if let Some(item) = items.iter().find(|item| **item >= self.items()) {
            return Err(Error::BadArgument(format!(
                "features: expected items below {}, got {item}",
                self.items()
            )));
        }
        let values = match &self.values {
            Values::F32(data) => Values::F32(gather(data, self.dim, items).into()),
            Values::F64(data) => Values::F64(gather(data, self.dim, items).into()),
        };
        Ok(Features {
            dim: self.dim,
            values,
        })
    }

    /// Every row divided by its L2 norm; a zero row stays zero.
    #[must_use]
    pub fn normalized(&self) -> Features<'static> {
        self.map_rows(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        })
    }

    /// Every row as `scaler` makes it, in the precision that it had.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the scaler is for another width.
    pub fn scaled(&self, scaler: &Scaler) -> Result<Features<'static>> {
        if scaler.mean.len() != self.dim {
            return Err(Error::BadArgument(format!(
                "scaler: expected features of width {}, got {}",
                scaler.mean.len(),
                self.dim
            )));
        }
        Ok(self.map_rows(|row| scaler.apply(row)))
    }

    fn map_rows(&self, change: impl Fn(&mut [f64]) + Sync) -> Features<'static> {
        let dim = self.dim;
        let mut rows = vec![0.0; self.items() * dim];
        rows.par_chunks_mut(dim * BLOCK)
            .enumerate()
            .for_each(|(block, rows)| {
                self.widen(block * BLOCK, rows);
                rows.chunks_exact_mut(dim).for_each(&change);
            });
        let values = match self.values {
            Values::F32(_) => Values::F32(rows.iter().map(|x| *x as f32).collect()),
            Values::F64(_) => Values::F64(rows.into()),
        };
        Features { dim, values }
    }

    /// Rows from `first` on, as many as `out` holds.
    pub(super) fn widen(&self, first: usize, out: &mut [f64]) {
        let range = first * self.dim..first * self.dim + out.len();
        match &self.values {
            Values::F32(data) => {
                for (out, x) in out.iter_mut().zip(&data[range]) {
                    *out = f64::from(*x);
                }
            }
            Values::F64(data) => out.copy_from_slice(&data[range]),
        }
    }

    /// Mean of each column, (D).
    pub(super) fn mean(&self) -> Vec<f64> {
        let mut mean = self.transposed_times(&vec![1.0; self.items()], 1);
        let n = self.items().max(1) as f64;
        mean.iter_mut().for_each(|x| *x /= n);
        mean
    }

    /// X Wᵀ in double precision: (N, K) from `weights` (K, D).
    pub(super) fn times(&self, weights: &[f64]) -> Vec<f64> {
        let (dim, outputs) = (self.dim, weights.len() / self.dim);
        let mut product = vec![0.0; self.items() * outputs];
        let weights = MatRef::from_row_major_slice(weights, outputs, dim);
        product
            .par_chunks_mut(BLOCK * outputs.max(1))
            .enumerate()
            .for_each_init(
                || vec![0.0; BLOCK * dim],
                |x, (block, out)| {
                    let rows = out.len() / outputs;
                    let x = &mut x[..rows * dim];
                    self.widen(block * BLOCK, x);
                    let x = MatRef::from_row_major_slice(x, rows, dim);
                    let out = MatMut::from_row_major_slice_mut(out, rows, outputs);
                    matmul(out, Accum::Replace, x, weights.transpose(), 1.0, Par::Seq);
                },
            );
        product
    }

    /// Rᵀ X in double precision: (K, D) from `residuals` (N, K).
    pub(super) fn transposed_times(&self, residuals: &[f64], outputs: usize) -> Vec<f64> {
        let dim = self.dim;
        let part = |(part, residuals): (usize, &[f64])| {
            let mut sum = vec![0.0; outputs * dim];
            let mut x = vec![0.0; BLOCK * dim];
            for (block, residuals) in residuals.chunks(BLOCK * outputs).enumerate() {
                let rows = residuals.len() / outputs;
                let x = &mut x[..rows * dim];
                self.widen(part * PART + block * BLOCK, x);
                let x = MatRef::from_row_major_slice(x, rows, dim);
                let residuals = MatRef::from_row_major_slice(residuals, rows, outputs);
                let sum = MatMut::from_row_major_slice_mut(&mut sum, outputs, dim);
                matmul(sum, Accum::Add, residuals.transpose(), x, 1.0, Par::Seq);
            }
            sum
        };
        let parts: Vec<Vec<f64>> = residuals
            .par_chunks(PART * outputs)
            .enumerate()
            .map(part)
            .collect();
        let mut sum = vec![0.0; outputs * dim];
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        sum
    }
}

fn check(dim: usize, len: usize, not_finite: Option<usize>) -> Result<()> {
    if dim == 0 || !len.is_multiple_of(dim) {
        return Err(Error::BadArgument(format!(
            "features: expected a multiple of {dim} numbers, got {len}"
        )));
    }
    match not_finite {
        Some(place) => Err(Error::BadArgument(format!(
            "features: expected finite numbers, got another at row {}, column {}",
            place / dim,
            place % dim
        ))),
        None => Ok(()),
    }
}

fn gather<T: Copy>(data: &[T], dim: usize, items: &[usize]) -> Vec<T> {
    let row = |item: &usize| &data[item * dim..(item + 1) * dim];
    items.iter().flat_map(row).copied().collect()
}

/// Brings every column to mean 0 and variance 1 (scikit-learn's `StandardScaler`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// Mean of each column, (D).
    pub mean: Vec<f64>,
    /// Standard deviation of each column, (D); 1 where the column is constant.
    pub scale: Vec<f64>,
}

impl Scaler {
    /// The scaler of these features.
    pub fn new(features: &Features) -> Self {
        let (dim, n) = (features.dim, features.items().max(1) as f64);
        let mean = features.mean();
        let (mut sums, mut squares) = (vec![0.0; dim], vec![0.0; dim]);
        let mut row = vec![0.0; dim];
        for item in 0..features.items() {
            features.widen(item, &mut row);
            for (j, x) in row.iter().enumerate() {
                let x = x - mean[j];
                sums[j] += x;
                squares[j] += x * x;
            }
        }
        // Two passes, less what rounding of the mean has left (Chan, Golub and LeVeque, 1983, equation 1.7).
        let deviation = |j: usize| {
            let variance = ((squares[j] - sums[j] * sums[j] / n) / n).max(0.0);
            // What is left of a constant column is rounding.
            let rounding = n * f64::EPSILON * variance + (n * mean[j] * f64::EPSILON).powi(2);
            match variance > rounding {
                true => variance.sqrt(),
                false => 1.0,
            }
        };
        let scale = (0..dim).map(deviation).collect();
        Self { mean, scale }
    }

    fn apply(&self, row: &mut [f64]) {
        for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
            *x = (*x - mean) / scale;
        }
    }
}
