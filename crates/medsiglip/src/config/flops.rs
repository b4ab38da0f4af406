//! How much arithmetic a forward pass is, for speeds that can be compared between machines.
//!
//! Counted are the matrix products alone: linear layers, attention and the patch embedding, two operations (a
//! multiplication and an addition) a multiply-add, as the published model has them; our pooling head does half a percent
//! less. Norms, activations and softmax are below one percent.

use super::{TextConfig, VisionConfig};

impl VisionConfig {
    /// Floating-point operations of one picture: 979.2e9 for MedSigLIP at 448 pixels, 5482e9 at 896.
    pub fn flops(&self) -> u64 {
        let [n, d] = [self.num_patches(), self.hidden_size].map(|x| x as u64);
        let (f, depth) = (self.intermediate_size as u64, self.num_hidden_layers as u64);
        let patch = (self.num_channels * self.patch_size * self.patch_size) as u64;
        // The MAP head: keys and values of every patch; query, output and MLP of the probe alone.
        let head = attention(1, n, d) + mlp(1, d, f);
        let blocks = depth * (attention(n, n, d) + mlp(n, d, f));
        2 * (n * patch * d + blocks + u64::from(self.use_head) * head)
    }
}

impl TextConfig {
    /// Floating-point operations of one text, padding included, as the model computes it: 53.1e9 for MedSigLIP.
    pub fn flops(&self) -> u64 {
        let [t, d] = [self.max_position_embeddings, self.hidden_size].map(|x| x as u64);
        let (f, depth) = (self.intermediate_size as u64, self.num_hidden_layers as u64);
        // The head projects one token.
        2 * (depth * (attention(t, t, d) + mlp(t, d, f)) + d * self.projection_size as u64)
    }
}

/// Multiply-adds of an attention layer: `queries` rows look at `keys` rows, all of `width`.
fn attention(queries: u64, keys: u64, width: u64) -> u64 {
    let projections = 2 * (queries + keys) * width * width;
    let scores_and_sum = 2 * queries * keys * width;
    projections + scores_and_sum
}

/// Multiply-adds of an MLP.
fn mlp(rows: u64, width: u64, hidden: u64) -> u64 {
    2 * rows * width * hidden
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn counts_of_so400m_are_the_known_ones() {
        let json = r#"{"model_type": "siglip",
            "text_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
                "num_hidden_layers": 27},
            "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
                "num_hidden_layers": 27, "image_size": 448, "patch_size": 14}}"#;
        let mut config = Config::from_json(json).unwrap();
        let tenths_of_giga = |flops: u64| (flops + 50_000_000) / 100_000_000;
        assert_eq!(tenths_of_giga(config.vision.flops()), 9_792);
        assert_eq!(tenths_of_giga(config.text.as_ref().unwrap().flops()), 531);

        config.vision.image_size = 896;
        assert_eq!((tenths_of_giga(config.vision.flops()) + 5) / 10, 5_482);

        config.vision.image_size = 448;
        let whole = config.vision.flops();
        config.vision.use_head = false;
        assert_eq!(tenths_of_giga(whole - config.vision.flops()), 55);
    }
}
