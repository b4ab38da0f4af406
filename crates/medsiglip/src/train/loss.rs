//! The sigmoid loss (Zhai et al., arXiv 2303.15343, Algorithm 1) and its gradients, in closed form.
//!
//! For n pairs with embeddings of length one, `logit_ij = t x_i . y_j + b` with t = exp(`logit_scale`), and z_ij = 1 for a
//! pair that belongs together and -1 else:
//!
//! ```text
//! loss = -1/n sum_ij log sigmoid(z_ij logit_ij)
//! dloss / dlogit_ij = -1/n z_ij sigmoid(-z_ij logit_ij)
//! ```
//!
//! Every pair adds to the sum by itself, so that it can be taken in blocks of any shape: that is the paper's chunked
//! loss (its memory is that of a block, not n^2), gradient accumulation with all negatives (the embeddings of all
//! micro-batches first, then their gradients back through the towers, one after the other), and training on several
//! devices (each has the rows of its own images). One function, [`sigmoid_loss`], serves all of them.

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{Bool, Int, Tensor};

/// Embeddings of pictures.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// (n, D), as the tower gives them, not normalised.
    pub pooled: Tensor<2>,
    /// (n, K): the keys of the texts that are true of each picture. Where picture i has the key i alone, a pair is
    /// positive with itself only, as in the paper; captions that say the same, or hold for several pictures, may be
    /// positives of all of these.
    pub keys: Tensor<2, Int>,
}

/// Embeddings of texts.
#[derive(Debug, Clone)]
pub struct Texts {
    /// (n, D), as the tower gives them, not normalised.
    pub pooled: Tensor<2>,
    /// (n).
    pub keys: Tensor<1, Int>,
}

/// `logit_scale` and `logit_bias`, (1) each.
#[derive(Debug, Clone)]
pub struct Logit {
    /// t', the logarithm of the temperature t.
    pub scale: Tensor<1>,
    /// b.
    pub bias: Tensor<1>,
}

/// A loss and its gradients.
#[derive(Debug, Clone)]
pub struct LossGradients {
    /// (1).
    pub loss: Tensor<1>,
    /// Of the images' embeddings before normalisation, (images, D).
    pub images: Tensor<2>,
    /// Of the texts' embeddings before normalisation, (texts, D).
    pub texts: Tensor<2>,
    /// Of t', (1).
    pub scale: Tensor<1>,
    /// Of b, (1).
    pub bias: Tensor<1>,
}

/// The part of the sigmoid loss over `n` pairs that `images` x `texts` have in it, and its gradients.
///
/// With all n images and texts it is the whole loss. A device that holds some of the images calls it with these and
/// all texts; the sum of the results over all devices is the whole.
///
/// `block` bounds the pairs that are held at once to `block` squared. The tensors must not be tracked for gradients.
pub fn sigmoid_loss(
    images: &Pictures,
    texts: &Texts,
    logit: &Logit,
    n: usize,
    block: usize,
) -> LossGradients {
    let (x, x_norm) = normalized(&images.pooled);
    let (y, y_norm) = normalized(&texts.pooled);
    let device = x.device();
    let t = logit.scale.clone().exp();
    let mut total = LossGradients {
        loss: Tensor::zeros([1], &device),
        images: x.zeros_like(),
        texts: y.zeros_like(),
        scale: Tensor::zeros([1], &device),
        bias: Tensor::zeros([1], &device),
    };
    for rows in blocks(x.dims()[0], block) {
        for columns in blocks(y.dims()[0], block) {
            let part = Block {
                x: x.clone().slice([rows.clone()]),
                y: y.clone().slice([columns.clone()]),
                x_keys: images.keys.clone().slice([rows.clone()]),
                y_keys: texts.keys.clone().slice([columns.clone()]),
            };
            part.add(
                &t,
                &logit.bias,
                n,
                &mut total,
                [rows.clone(), columns.clone()],
            );
        }
    }
    total.images = before_normalization(total.images, x, x_norm);
    total.texts = before_normalization(total.texts, y, y_norm);
    total
}

/// A block of pairs: embeddings of length one, and their keys.
struct Block {
    x: Tensor<2>,
    y: Tensor<2>,
    x_keys: Tensor<2, Int>,
    y_keys: Tensor<1, Int>,
}

impl Block {
    fn add(
        self,
        t: &Tensor<1>,
        bias: &Tensor<1>,
        n: usize,
        total: &mut LossGradients,
        [rows, columns]: [std::ops::Range<usize>; 2],
    ) {
        let t: Tensor<2> = t.clone().unsqueeze();
        let scaled = self.x.clone().matmul(self.y.clone().transpose()) * t.clone();
        let same: Tensor<3, Bool> = self
            .x_keys
            .unsqueeze_dim::<3>(1)
            .equal(self.y_keys.unsqueeze_dims::<3>(&[0, -1]));
        let same = same.any_dim(2).squeeze_dim::<2>(2);
        let z = same.float() * 2.0 - 1.0;
        let u = z.clone() * (scaled.clone() + bias.clone().unsqueeze());
        let gradient = z * sigmoid(-u.clone()) / -(n as f64);
        let add = |all: &mut Tensor<2>, place: std::ops::Range<usize>, more: Tensor<2>| {
            let sum = all.clone().slice([place.clone()]) + more;
            *all = all.clone().slice_assign([place], sum);
        };
        total.loss = total.loss.clone() - log_sigmoid(u).sum() / n as f64;
        add(
            &mut total.images,
            rows,
            gradient.clone().matmul(self.y) * t.clone(),
        );
        add(
            &mut total.texts,
            columns,
            gradient.clone().transpose().matmul(self.x) * t,
        );
        total.scale = total.scale.clone() + (gradient.clone() * scaled).sum();
        total.bias = total.bias.clone() + gradient.sum();
    }
}

fn blocks(length: usize, block: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let block = block.max(1);
    (0..length)
        .step_by(block)
        .map(move |first| first..length.min(first + block))
}

/// Rows of length one, and the lengths that they had, (n, 1).
fn normalized(pooled: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let norm = pooled.clone().square().sum_dim(1).sqrt();
    (pooled.clone() / norm.clone(), norm)
}

/// The gradient of the rows before normalisation, from that of the rows of length one.
fn before_normalization(gradient: Tensor<2>, rows: Tensor<2>, norm: Tensor<2>) -> Tensor<2> {
    let along = (gradient.clone() * rows.clone()).sum_dim(1);
    (gradient - rows * along) / norm
}

#[cfg(test)]
mod tests;
