//! Buffers that are used again: fresh memory costs a page fault for every 4 KiB.

use std::sync::Mutex;

/// Buffers that nobody uses now.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Numbers of any value, to be written before they are read; the memory is given back for others to use.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    /// A buffer of `length` numbers.
    pub fn new(length: usize) -> Self {
        let mut buffer = Self::default();
        buffer.resize(length);
        buffer
    }

    /// Makes it `length` numbers long; what they are is not said.
    pub fn resize(&mut self, length: usize) {
        if self.0.len() < length {
            self.give_back();
            self.0 = take(length);
        }
    }

    /// Its parts, one after the other.
    pub fn split<const N: usize>(&self, lengths: [usize; N]) -> [&[f32]; N] {
        let mut rest = &self.0[..];
        lengths.map(|length| {
            let (part, after) = rest.split_at(length);
            rest = after;
            part
        })
    }

    /// Its parts, to write to.
    pub fn split_mut<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let mut rest = &mut self.0[..];
        lengths.map(|length| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            part
        })
    }

    fn give_back(&mut self) {
        if !self.0.is_empty() {
            free().push(std::mem::take(&mut self.0));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn free() -> std::sync::MutexGuard<'static, Vec<Vec<f32>>> {
    // A list of free buffers is right whatever interrupted its owner.
    FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The smallest free buffer that is long enough, if it is not twice too long.
fn take(length: usize) -> Vec<f32> {
    let mut free = free();
    let fits = |x: &Vec<f32>| (length..=2 * length).contains(&x.len());
    let best = (0..free.len())
        .filter(|i| fits(&free[*i]))
        .min_by_key(|i| free[*i].len());
    match best {
        Some(at) => free.swap_remove(at),
        None => {
            drop(free);
            vec![0.0; length]
        }
    }
}
