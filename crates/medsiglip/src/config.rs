//! A model's `config.json` to [`Config`], checked.

use crate::Result;

/// The two towers' shapes. Absent fields take the Hugging Face SigLIP defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The vision tower.
    pub vision: VisionConfig,
    /// The text tower; absent in a checkpoint with a vision tower alone (MedGemma, Gemma 3).
    pub text: Option<TextConfig>,
}

/// The vision tower's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Width D.
    pub hidden_size: usize,
    /// MLP width F.
    pub intermediate_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads H.
    pub num_attention_heads: usize,
    /// Channels of a picture: 3.
    pub num_channels: usize,
    /// Height and width of the picture in pixels.
    pub image_size: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// Whether the MAP pooling head is there.
    pub use_head: bool,
}

/// The text tower's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Width D.
    pub hidden_size: usize,
    /// MLP width F.
    pub intermediate_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads H.
    pub num_attention_heads: usize,
    /// Vocabulary V.
    pub vocab_size: usize,
    /// Positions T.
    pub max_position_embeddings: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// Width of the text embedding (the head's output), equal to the vision tower's width.
    pub projection_size: usize,
}

impl VisionConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Number of patches, N.
    pub fn num_patches(&self) -> usize {
        self.grid() * self.grid()
    }
}

impl Config {
    /// Reads the text of a `config.json`: a SigLIP one, a bare `siglip_vision_model`, or a Gemma 3 / MedGemma one (its `vision_config`).
    ///
    /// # Errors
    /// `BAD_CONFIG`.
    pub fn from_json(text: &str) -> Result<Self> {
        let _ = text;
        todo!()
    }
}
