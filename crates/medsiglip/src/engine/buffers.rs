//! The activations of one pass, reused from layer to layer and from call to call, so that no layer allocates.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

use crate::{Error, Result};

/// Activation buffers; each grows to the largest pass it has seen and stays.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The residual stream, D columns.
    pub x: Numbers,
    /// Layer norm's output, D columns; the input of the next linear layer.
    pub y: Numbers,
    /// What a layer holds for itself: queries, keys and values, or MLP activations; before the first block the cut
    /// patches.
    pub wide: Numbers,
}

impl Buffers {
    /// Makes room for `narrow` numbers in `x` and `y`, and `wide` numbers in `wide`. What they hold is left from
    /// before: whoever takes a part overwrites it.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY`.
    pub fn reserve(&mut self, narrow: usize, wide: usize) -> Result<()> {
        self.x.reserve(narrow)?;
        self.y.reserve(narrow)?;
        self.wide.reserve(wide)
    }
}

/// The first three parts of `len` numbers: queries, keys and values.
pub(super) fn thirds(buffer: &mut [f32], len: usize) -> [&mut [f32]; 3] {
    let (first, rest) = buffer.split_at_mut(len);
    let (second, rest) = rest.split_at_mut(len);
    [first, second, &mut rest[..len]]
}

/// Numbers in pages of their own: aligned for every register, and in huge pages where the system has them, which
/// spares thousands of page faults and misses of the page table's cache.
#[derive(Debug, Default)]
pub(super) struct Numbers(Option<MmapMut>);

impl Numbers {
    /// Grows to at least `len` numbers; new ones are zero.
    fn reserve(&mut self, len: usize) -> Result<()> {
        if len <= self.len() {
            return Ok(());
        }
        let bytes = len.checked_mul(size_of::<f32>());
        let failed = |source| Error::OutOfMemory {
            what: "activations",
            bytes: bytes.unwrap_or(usize::MAX) as u64,
            source,
        };
        // The old pages go before the new ones come.
        self.0 = None;
        let map = MmapMut::map_anon(bytes.unwrap_or(usize::MAX)).map_err(failed)?;
        // A system without huge pages is as right, but slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        self.0 = Some(map);
        Ok(())
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_deref().map_or(&[], bytemuck::cast_slice)
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.0
            .as_deref_mut()
            .map_or(&mut [], bytemuck::cast_slice_mut)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grow_and_stay() {
        let mut buffers = Buffers::default();
        buffers.reserve(10, 30).unwrap();
        assert!(buffers.x.iter().all(|x| *x == 0.0) && buffers.x.len() >= 10);
        thirds(&mut buffers.wide, 10)[2][9] = 1.0;
        buffers.reserve(5, 20).unwrap();
        assert_eq!(buffers.wide[29], 1.0);
        let error = buffers.reserve(usize::MAX / 4, 0).unwrap_err();
        assert_eq!(error.code(), "OUT_OF_MEMORY");
        assert!(buffers.x.is_empty());
    }
}
