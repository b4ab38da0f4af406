//! A position table of one grid to another grid.

/// How the position table is resampled to another resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PositionResampling {
    /// `bigvision`: end-aligned linear, big_vision's own rule (`scipy.ndimage.zoom`, order 1).
    #[default]
    BigVision,
    /// `area`: the mean of each 2x2 block; for exact halving alone.
    Area,
    /// `bicubic`: `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`, transformers' rule.
    Bicubic,
}
