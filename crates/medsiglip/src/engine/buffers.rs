//! The activations of one pass, reused from layer to layer and from call to call, so that no layer allocates.

use std::sync::{Mutex, PoisonError};

/// Activation buffers; each grows to the largest pass it has seen and stays.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The residual stream, (rows, D).
    pub x: Vec<f32>,
    /// Layer norm's output, (rows, D); the input of the next linear layer.
    pub y: Vec<f32>,
    /// Queries, (rows, D).
    pub q: Vec<f32>,
    /// Keys, (rows, D).
    pub k: Vec<f32>,
    /// Values, (rows, D).
    pub v: Vec<f32>,
    /// MLP activations (rows, F); before the first block the cut patches (rows, 3 * patch * patch).
    pub wide: Vec<f32>,
}

/// `len` numbers of `buffer`, which grows where it must. What they hold is left from before: the caller overwrites them.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Buffers at rest, so that calls from several threads each find their own.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Mutex<Vec<Buffers>>);

impl BufferPool {
    pub fn take(&self) -> Buffers {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    pub fn give_back(&self, buffers: Buffers) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffers);
    }
}
