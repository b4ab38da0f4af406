//! One named array of a checkpoint: its type, its shape and its bytes, in a memory-mapped file or in memory.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
}

#[derive(Clone)]
enum Storage {
    Mapped(Arc<Mmap>, Range<usize>),
    F32(Arc<[f32]>),
    Half(Arc<[u16]>),
}

/// An array of a checkpoint. Cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    storage: Storage,
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
        todo!()
    }

    /// The numbers as f32: borrowed where they are stored so.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        todo!()
    }
}
