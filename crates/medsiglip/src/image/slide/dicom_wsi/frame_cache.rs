//! Decoded frames, so that neighbouring tiles do not decode the same frame twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;

/// Level, file of the level, frame of the file.
type Key = (usize, u32, u32);

/// The frames used last, up to a number of bytes.
pub(super) struct FrameCache {
    capacity: usize,
    frames: Mutex<Frames>,
}

#[derive(Default)]
struct Frames {
    /// With the time of the last use.
    kept: HashMap<Key, (u64, Arc<Vec<u8>>)>,
    bytes: usize,
    time: u64,
}

impl FrameCache {
    /// A cache of `capacity` bytes; one frame that is larger is kept all the same.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            frames: Mutex::default(),
        }
    }

    /// The frame, decoded by `decode` where it is not there. Two threads may decode the same frame at the same time.
    pub(super) fn get(
        &self,
        key: Key,
        decode: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        if let Some(frame) = self.lock().used(key) {
            return Ok(frame);
        }
        let frame = Arc::new(decode()?);
        self.lock().keep(key, Arc::clone(&frame), self.capacity);
        Ok(frame)
    }

    /// No panic leaves the frames half changed.
    fn lock(&self) -> std::sync::MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    fn used(&mut self, key: Key) -> Option<Arc<Vec<u8>>> {
        self.time += 1;
        let (time, frame) = self.kept.get_mut(&key)?;
        *time = self.time;
        Some(Arc::clone(frame))
    }

    fn keep(&mut self, key: Key, frame: Arc<Vec<u8>>, capacity: usize) {
        self.time += 1;
        while self.bytes + frame.len() > capacity {
            let oldest = self.kept.iter().min_by_key(|(_, (time, _))| *time);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                break;
            };
            self.remove(oldest);
        }
        self.remove(key);
        self.bytes += frame.len();
        self.kept.insert(key, (self.time, frame));
    }

    fn remove(&mut self, key: Key) {
        if let Some((_, frame)) = self.kept.remove(&key) {
            self.bytes -= frame.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_used_last_stay() {
        let cache = FrameCache::new(10);
        let is_decoded = |frame: u32, bytes: usize| {
            let mut is_decoded = false;
            let got = cache.get((0, 0, frame), || {
                is_decoded = true;
                Ok(vec![frame as u8; bytes])
            });
            assert_eq!(*got.unwrap(), vec![frame as u8; bytes]);
            is_decoded
        };
        assert!(is_decoded(0, 5) && is_decoded(1, 5));
        assert!(!is_decoded(0, 5) && !is_decoded(1, 5) && !is_decoded(0, 5));
        assert!(is_decoded(2, 5), "takes the place of 1");
        assert!(!is_decoded(0, 5) && !is_decoded(2, 5) && is_decoded(1, 5));
        assert!(is_decoded(3, 20), "is kept alone");
        assert!(!is_decoded(3, 20) && is_decoded(0, 5) && is_decoded(3, 20));
        assert_eq!(cache.lock().bytes, 20);
    }
}
