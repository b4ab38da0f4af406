//! One named array of a checkpoint: its type, its shape and its bytes, in a memory-mapped file or in memory.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;

use crate::{Error, Result, named};

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
    /// 8-bit integers with one scale for each row: the weights of linear layers alone.
    Int8,
}

impl Dtype {
    /// Every type, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::Int8];

    /// The type's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Int8 => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named::parse("dtype", &Self::ALL, Self::name, text)
    }
}

/// An array of a checkpoint. Cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    storage: Storage,
    /// What the 8-bit integers of each row are multiplied by; empty for other types.
    scales: Arc<[f32]>,
}

#[derive(Clone)]
enum Storage {
    /// Little-endian numbers, aligned for their type.
    Mapped(Arc<Mmap>, Range<usize>),
    F32(Arc<[f32]>),
    /// The bits of bf16 or f16 numbers.
    Half(Arc<[u16]>),
    Int8(Arc<[i8]>),
}

/// A tensor's numbers as they are stored, without copying them.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16 numbers.
    Bf16(&'a [bf16]),
    /// IEEE half numbers.
    F16(&'a [f16]),
    /// 8-bit integers; those that we round lie in [-127, 127].
    Int8 {
        /// The integers.
        values: &'a [i8],
        /// What the integers of each row (of the outermost axis) are multiplied by.
        scales: &'a [f32],
    },
}

impl Values<'_> {
    /// The numbers' bytes, in the machine's order; of [`Values::Int8`] those of the integers.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::Int8 { values, .. } => bytemuck::cast_slice(values),
        }
    }
}

impl Tensor {
    /// The storage type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers as stored.
    pub fn values(&self) -> Values<'_> {
        match (&self.storage, self.dtype) {
            (Storage::F32(v), _) => Values::F32(v),
            (Storage::Half(v), Dtype::F16) => Values::F16(bytemuck::cast_slice(v)),
            (Storage::Half(v), _) => Values::Bf16(bytemuck::cast_slice(v)),
            (Storage::Int8(v), _) => self.int8(v),
            // `from_mapped` checked range and alignment, so these casts cannot fail.
            (Storage::Mapped(map, range), dtype) => {
                let bytes = &map[range.clone()];
                match dtype {
                    Dtype::F32 => Values::F32(bytemuck::cast_slice(bytes)),
                    Dtype::Bf16 => Values::Bf16(bytemuck::cast_slice(bytes)),
                    Dtype::F16 => Values::F16(bytemuck::cast_slice(bytes)),
                    Dtype::Int8 => self.int8(bytemuck::cast_slice(bytes)),
                }
            }
        }
    }

    fn int8<'a>(&'a self, values: &'a [i8]) -> Values<'a> {
        Values::Int8 {
            values,
            scales: &self.scales,
        }
    }

    /// What the 8-bit integers of each row are multiplied by; empty for other types.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// 8-bit integers with the scales that they were stored without; `None` where there is not one scale a row.
    pub(super) fn with_scales(mut self, scales: &[f32]) -> Option<Self> {
        let rows = *self.shape.first()?;
        self.scales = scales.into();
        (self.dtype == Dtype::Int8 && scales.len() == rows).then_some(self)
    }

    /// The numbers as f32: borrowed where they are stored so.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self.values() {
            Values::F32(v) => Cow::Borrowed(v),
            Values::Bf16(v) => Cow::Owned(v.to_f32_vec()),
            Values::F16(v) => Cow::Owned(v.to_f32_vec()),
            Values::Int8 { values, scales } => {
                let row = values.len() / scales.len().max(1);
                let rows = values.chunks(row.max(1)).zip(scales);
                Cow::Owned(
                    rows.flat_map(|(row, scale)| row.iter().map(move |v| f32::from(*v) * scale))
                        .collect(),
                )
            }
        }
    }

    /// Some rows (of the outermost axis), as a tensor of their own. A mapped file is shared, not copied.
    ///
    /// # Panics
    /// Where `rows` is not inside the tensor.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let row: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let numbers = rows.start * row..rows.end * row;
        let storage = match &self.storage {
            Storage::Mapped(map, all) => {
                let size = self.dtype.size();
                let range = all.start + numbers.start * size..all.start + numbers.end * size;
                assert!(range.end <= all.end, "rows outside the tensor");
                Storage::Mapped(Arc::clone(map), range)
            }
            Storage::F32(v) => Storage::F32(v[numbers].into()),
            Storage::Half(v) => Storage::Half(v[numbers].into()),
            Storage::Int8(v) => Storage::Int8(v[numbers].into()),
        };
        Self {
            dtype: self.dtype,
            shape,
            storage,
            scales: self.scales.get(rows).unwrap_or_default().into(),
        }
    }

    /// A tensor of f32 numbers; `values` fill `shape`.
    pub(crate) fn from_f32(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self {
            dtype: Dtype::F32,
            shape,
            storage: Storage::F32(values.into()),
            scales: Arc::default(),
        }
    }

    /// A tensor of little-endian bytes, which fill `shape`.
    pub(super) fn from_bytes(dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>() * dtype.size(), bytes.len());
        let (words, _) = bytes.as_chunks::<4>();
        let (halves, _) = bytes.as_chunks::<2>();
        let storage = match dtype {
            Dtype::F32 => Storage::F32(words.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            Dtype::Int8 => Storage::Int8(bytemuck::cast_slice(bytes).into()),
            _ => Storage::Half(halves.iter().map(|&b| u16::from_le_bytes(b)).collect()),
        };
        Self {
            dtype,
            shape,
            storage,
            scales: Arc::default(),
        }
    }

    /// A tensor inside a mapped file: shared where the bytes are aligned for their type, else copied.
    /// `None` where `range` is not inside the file or does not fill `shape`.
    pub(super) fn from_mapped(
        map: &Arc<Mmap>,
        range: Range<usize>,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Option<Self> {
        let bytes = map.get(range.clone())?;
        let numbers = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s))?;
        if numbers.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.size());
        if !aligned || cfg!(target_endian = "big") {
            return Some(Self::from_bytes(dtype, shape, bytes));
        }
        Some(Self {
            dtype,
            shape,
            storage: Storage::Mapped(Arc::clone(map), range),
            scales: Arc::default(),
        })
    }

    /// The same numbers under another shape of as many.
    pub(super) fn reshaped(mut self, shape: &[usize]) -> Self {
        debug_assert_eq!(
            shape.iter().product::<usize>(),
            self.shape.iter().product::<usize>()
        );
        self.shape = shape.to_vec();
        self
    }

    /// The type in which the tensor `name` is stored where `dtype` is asked for: `stored` where rounding saves nothing.
    /// That is any tensor with fewer than two axes longer than 1: `logit_scale` (as bf16 it would move every logit by
    /// up to 1.6 %), `logit_bias`, norms, biases, the probe. Integers are for the weights of linear layers alone; what
    /// is looked up or added (embeddings) stays as it is. Widening to f32 is exact and goes for all.
    pub(super) fn storage_type(dtype: Dtype, stored: Dtype, name: &str, shape: &[usize]) -> Dtype {
        let fits = match dtype {
            Dtype::F32 => true,
            Dtype::Bf16 | Dtype::F16 => shape.iter().filter(|side| **side > 1).count() >= 2,
            Dtype::Int8 => super::names::is_linear(name, shape),
        };
        if fits { dtype } else { stored }
    }

    /// The numbers rounded to `dtype` where that saves anything ([`Tensor::storage_type`]).
    ///
    /// # Errors
    /// As [`Tensor::to_dtype`].
    pub(super) fn stored_as(&self, dtype: Dtype, name: &str) -> Result<Self> {
        self.to_dtype(
            Self::storage_type(dtype, self.dtype, name, &self.shape),
            name,
        )
    }

    /// The numbers rounded to `dtype`, to the nearest and ties to even.
    ///
    /// For 8-bit integers each row is scaled so that its largest magnitude becomes 127.
    ///
    /// # Errors
    /// `BAD_TENSOR` where a finite number would become infinite, or where integers are to hold one that is not finite.
    pub(crate) fn to_dtype(&self, dtype: Dtype, name: &str) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let values = self.to_f32();
        let too_large = |x: f32| Error::BadTensor {
            name: name.to_owned(),
            expected: format!("numbers that fit {dtype}"),
            got: x.to_string(),
        };
        let mut scales = Arc::default();
        let storage = match dtype {
            Dtype::Int8 => {
                let row = values.len() / self.shape.first().copied().unwrap_or(1).max(1);
                let (integers, of_rows) = quantize(&values, row.max(1)).map_err(too_large)?;
                scales = of_rows.into();
                Storage::Int8(integers.into())
            }
            Dtype::F32 => Storage::F32(values.into()),
            Dtype::Bf16 => Storage::Half(
                round(&values, bf16::to_bits, bf16::from_f32, |h| h.is_infinite())
                    .map_err(too_large)?,
            ),
            Dtype::F16 => Storage::Half(
                round(&values, f16::to_bits, f16::from_f32, |h| h.is_infinite())
                    .map_err(too_large)?,
            ),
        };
        Ok(Self {
            dtype,
            shape: self.shape.clone(),
            storage,
            scales,
        })
    }
}

/// Rows of `row` numbers as 8-bit integers and a scale for each row, or a number that is not finite.
fn quantize(values: &[f32], row: usize) -> Result<(Vec<i8>, Vec<f32>), f32> {
    let mut integers = vec![0i8; values.len()];
    let scales = integers
        .par_chunks_mut(row)
        .zip(values.par_chunks(row))
        .map(|(integers, values)| {
            let largest = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            // `max` leaves NaN out.
            if let Some(bad) = values.iter().find(|x| !x.is_finite()) {
                return Err(*bad);
            }
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (to, from) in integers.iter_mut().zip(values) {
                // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, which then stands in the low bits.
                *to = (from * inverse + 12_582_912.0).to_bits() as i8;
            }
            Ok(scale)
        })
        .collect::<Result<_, _>>()?;
    Ok((integers, scales))
}

/// The bits of `values` rounded by `from_f32`, or the first finite value that became infinite.
fn round<H: Copy>(
    values: &[f32],
    to_bits: impl Fn(H) -> u16,
    from_f32: impl Fn(f32) -> H,
    is_infinite: impl Fn(H) -> bool,
) -> Result<Arc<[u16]>, f32> {
    let one = |&x: &f32| {
        let half = from_f32(x);
        if is_infinite(half) && x.is_finite() {
            return Err(x);
        }
        Ok(to_bits(half))
    };
    values.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_f32(vec![values.len()], values.to_vec())
    }

    #[test]
    fn rounds_to_nearest_even() {
        // bf16 keeps 8 bits: 1 + 2^-8 lies half way and goes to 1, 1 + 3 * 2^-8 goes up to 1 + 4 * 2^-8.
        let tensor = f32s(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.0]);
        let rounded = tensor.to_dtype(Dtype::Bf16, "x").unwrap();
        assert_eq!(*rounded.to_f32(), [1.0, 1.0 + 4.0 / 256.0, -0.0]);
        let tensor = f32s(&[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65504.0]);
        let rounded = tensor.to_dtype(Dtype::F16, "x").unwrap();
        assert_eq!(*rounded.to_f32(), [1.0, 1.0 + 4.0 / 2048.0, 65504.0]);
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        let error = f32s(&[1.0, 65520.0])
            .to_dtype(Dtype::F16, "x.weight")
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "tensor x.weight: expected numbers that fit f16, got 65520"
        );
        assert!(f32s(&[f32::MAX]).to_dtype(Dtype::Bf16, "x").is_err());
        assert!(f32s(&[f32::INFINITY]).to_dtype(Dtype::F16, "x").is_ok());
    }

    #[test]
    fn halves_widen_exactly() {
        let half = f32s(&[0.5, -3.25]).to_dtype(Dtype::F16, "x").unwrap();
        assert_eq!(half.values().as_bytes().len(), 4);
        assert_eq!(
            *half.to_dtype(Dtype::F32, "x").unwrap().to_f32(),
            [0.5, -3.25]
        );
    }

    #[test]
    fn names_read_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
        }
        assert_eq!("int4".parse::<Dtype>().unwrap_err().code(), "BAD_ARGUMENT");
    }

    #[test]
    fn integers_are_within_half_a_step_of_their_row() {
        let values = [1.0, -0.5, 0.3, 0.0, 0.0, 0.0, 1e-3, 254.0, -12.7];
        let tensor = Tensor::from_f32(vec![3, 3], values.to_vec());
        let int8 = tensor.to_dtype(Dtype::Int8, "x.weight").unwrap();
        assert_eq!(int8.scales(), [1.0 / 127.0, 0.0, 2.0]);
        for (row, (got, want)) in int8.to_f32().chunks(3).zip(values.chunks(3)).enumerate() {
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() <= 0.5 * int8.scales()[row] + 1e-6);
            }
        }
        let second = int8.rows(1..3);
        assert_eq!(second.scales(), [0.0, 2.0]);
        assert_eq!(*second.to_f32(), int8.to_f32()[3..]);
        let bad = f32s(&[1.0, f32::NAN]).to_dtype(Dtype::Int8, "x.weight");
        assert_eq!(bad.err().unwrap().code(), "BAD_TENSOR");
    }
}
