//! Random numbers that depend on a seed and a place alone.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the numbers are for: no two uses share a number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Source = 1,
    Order,
    Shards,
    Caption,
    Augment,
    Split,
    /// Which patches are hidden.
    #[cfg(feature = "train")]
    Mask,
}

/// The numbers of `purpose` at `place`, for example (source, epoch) or (draw, 0).
///
/// The key of the cipher is seed, purpose and place themselves, so that streams are as independent as the cipher is good.
pub(crate) fn generator(seed: u64, purpose: Purpose, place: [u64; 2]) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, place[0], place[1]];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
