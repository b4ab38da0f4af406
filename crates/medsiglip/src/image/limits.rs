//! What a file may ask of us before we believe it.

/// Limits that are checked before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file in bytes.
    pub max_file_bytes: u64,
    /// Largest width times height, in pixels.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 1 GiB and 2^28 pixels (a 16384x16384 picture).
    fn default() -> Self {
        Self {
            max_file_bytes: 1 << 30,
            max_pixels: 1 << 28,
        }
    }
}
