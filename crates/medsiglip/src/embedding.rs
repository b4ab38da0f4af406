//! [`Embeddings`]: one vector an item, with where they came from; similarity.

#[cfg(feature = "data")]
mod table;

use serde::{Deserialize, Serialize};

#[cfg(feature = "data")]
pub use table::{EmbeddingTable, IdMatch, Joined, TableOptions};

use crate::{Error, Result};

/// Embeddings of B items.
///
/// # Shapes
/// `data` is (B, D), row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    dim: usize,
    data: Vec<f32>,
}

impl Embeddings {
    /// Embeddings from a buffer of shape (B, dim).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `dim` is zero or does not divide the buffer.
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Self> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(Error::BadArgument(format!(
                "embeddings: expected a multiple of {dim} numbers, got {}",
                data.len()
            )));
        }
        Ok(Self { dim, data })
    }

    /// Number of items, B.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Width of one embedding, D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The numbers, (B, D).
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The embedding of item `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dim..(index + 1) * self.dim]
    }

    /// The embeddings one by one.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim)
    }

    /// Appends the embeddings of `other`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        self.check_width(other)?;
        self.data.extend_from_slice(&other.data);
        Ok(())
    }

    /// Every embedding divided by its L2 norm; a zero vector stays zero.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        for row in self.data.chunks_exact_mut(self.dim) {
            let norm = row
                .iter()
                .map(|x| f64::from(*x).powi(2))
                .sum::<f64>()
                .sqrt();
            if norm > 0.0 {
                row.iter_mut()
                    .for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        self
    }

    /// Cosine similarity of every item of `self` with every item of `other`, (B, B').
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn cosine(&self, other: &Self) -> Result<Vec<f32>> {
        self.check_width(other)?;
        let (a, b) = (self.clone().normalized(), other.clone().normalized());
        let dot = |x: &[f32], y: &[f32]| -> f32 {
            x.iter()
                .zip(y)
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum::<f64>() as f32
        };
        Ok(a.rows()
            .flat_map(|x| b.rows().map(move |y| dot(x, y)))
            .collect())
    }

    fn check_width(&self, other: &Self) -> Result<()> {
        if self.dim == other.dim {
            return Ok(());
        }
        Err(Error::BadArgument(format!(
            "embeddings: expected one width, got {} and {}",
            self.dim, other.dim
        )))
    }
}

/// How embeddings or scores were made: enough to make them again, and to refuse to mix them with others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this software.
    pub medsiglip: String,
    /// Hub id, or name of the folder.
    pub model: String,
    /// SHA-256 of the weights.
    pub checksum: String,
    /// SHA-256 of the files that say how they are used: config, pixel recipe, tokenizer.
    pub config_checksum: String,
    /// Where the towers ran: `cpu`, `cuda:0`.
    pub device: String,
    /// How the weights are stored: `f32`, `bf16`, `f16`.
    pub dtype: String,
    /// In what the towers multiplied, where it was not f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Pixel recipe.
    pub recipe: String,
    /// Padding before the resize: `none` or `square`.
    pub pad: String,
    /// Text canonicalizer; absent where the model has no text tower.
    pub canonicalizer: Option<String>,
    /// Picture height and width in pixels.
    pub resolution: usize,
    /// Resampling of the position table, where the resolution is not the checkpoint's own.
    pub positions: Option<String>,
    /// Whether embeddings are divided by their L2 norm.
    pub normalized: bool,
}

impl Provenance {
    /// The first thing that differs and makes other embeddings, but for their length: what, here, and there.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let positions = |made: &Self| made.positions.clone().unwrap_or_else(|| "none".into());
        let fields = |made: &Self| {
            [
                ("weights", made.checksum.clone()),
                ("configuration", made.config_checksum.clone()),
                ("recipe", made.recipe.clone()),
                ("padding", made.pad.clone()),
                ("resolution", made.resolution.to_string()),
                ("positions", positions(made)),
            ]
        };
        let both = fields(self).into_iter().zip(fields(other));
        let mut both = both.map(|((what, own), (_, other))| (what, own, other));
        both.find(|(_, own, other)| own != other)
    }
}
