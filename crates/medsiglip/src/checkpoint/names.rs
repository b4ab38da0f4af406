//! The names and shapes of a model's tensors, as transformers' `SiglipModel.state_dict()` has them.

use crate::Config;

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Hugging Face name.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
}

/// The vision tower's position table, (N, D).
pub(super) const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

/// The linear layer of a classifier, (C, D).
pub(crate) const CLASSIFIER: &str = "classifier";

/// Every tensor of a model of these shapes, in the order of the data flow: vision tower, classifier, text tower,
/// scale and bias.
pub fn expected_tensors(config: &Config) -> Vec<ExpectedTensor> {
    let mut list = List(Vec::new());
    let v = &config.vision;
    let (d, f) = (v.hidden_size, v.intermediate_size);
    let patch = [d, v.num_channels, v.patch_size, v.patch_size];
    list.push("vision_model.embeddings.patch_embedding.weight", &patch);
    list.push("vision_model.embeddings.patch_embedding.bias", &[d]);
    list.push(POSITIONS, &[v.num_patches(), d]);
    list.encoder("vision_model", v.num_hidden_layers, d, f);
    list.norm("vision_model.post_layernorm", d);
    if v.use_head {
        list.map_head("vision_model.head", d, f);
    }
    if let Some(classes) = &config.classes {
        list.linear(CLASSIFIER, classes.labels.len(), d);
    }
    if let Some(t) = &config.text {
        let (d, f) = (t.hidden_size, t.intermediate_size);
        let embeddings = "text_model.embeddings";
        list.push(
            &format!("{embeddings}.token_embedding.weight"),
            &[t.vocab_size, d],
        );
        list.push(
            &format!("{embeddings}.position_embedding.weight"),
            &[t.max_position_embeddings, d],
        );
        list.encoder("text_model", t.num_hidden_layers, d, f);
        list.norm("text_model.final_layer_norm", d);
        list.linear("text_model.head", t.projection_size, d);
        list.push("logit_scale", &[1]);
        list.push("logit_bias", &[1]);
    }
    list.0
}

/// Whether two shapes hold the same numbers for us: equal, or one number with and without an axis (`logit_scale`).
pub(super) fn same_shape(a: &[usize], b: &[usize]) -> bool {
    let one = |shape: &[usize]| shape.len() <= 1 && shape.iter().all(|&n| n == 1);
    a == b || (one(a) && one(b))
}

/// Whether a tensor is the weight of a linear layer, (out, in): what is multiplied, not looked up or added.
pub(super) fn is_linear(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && !name.contains("embedding")
}

/// The name of the scales of a tensor of 8-bit integers, one for each row.
pub(super) fn scales(name: &str) -> String {
    format!("{name}_scale")
}

/// A shape for a message: `(1152, 3, 14, 14)`.
pub(super) fn show(shape: &[usize]) -> String {
    let sides: Vec<_> = shape.iter().map(usize::to_string).collect();
    format!("({})", sides.join(", "))
}

struct List(Vec<ExpectedTensor>);

impl List {
    fn push(&mut self, name: &str, shape: &[usize]) {
        self.0.push(ExpectedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
        });
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.push(&format!("{name}.weight"), &[d]);
        self.push(&format!("{name}.bias"), &[d]);
    }

    fn linear(&mut self, name: &str, output: usize, input: usize) {
        self.push(&format!("{name}.weight"), &[output, input]);
        self.push(&format!("{name}.bias"), &[output]);
    }

    fn mlp(&mut self, name: &str, d: usize, f: usize) {
        self.linear(&format!("{name}.fc1"), f, d);
        self.linear(&format!("{name}.fc2"), d, f);
    }

    fn encoder(&mut self, tower: &str, depth: usize, d: usize, f: usize) {
        for layer in 0..depth {
            let block = format!("{tower}.encoder.layers.{layer}");
            self.norm(&format!("{block}.layer_norm1"), d);
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                self.linear(&format!("{block}.self_attn.{projection}"), d, d);
            }
            self.norm(&format!("{block}.layer_norm2"), d);
            self.mlp(&format!("{block}.mlp"), d, f);
        }
    }

    fn map_head(&mut self, name: &str, d: usize, f: usize) {
        self.push(&format!("{name}.probe"), &[1, 1, d]);
        self.push(&format!("{name}.attention.in_proj_weight"), &[3 * d, d]);
        self.push(&format!("{name}.attention.in_proj_bias"), &[3 * d]);
        self.linear(&format!("{name}.attention.out_proj"), d, d);
        self.norm(&format!("{name}.layernorm"), d);
        self.mlp(&format!("{name}.mlp"), d, f);
    }
}
