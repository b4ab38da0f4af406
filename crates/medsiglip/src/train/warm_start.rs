//! The text tower alone learns to tell captions apart.
//!
//! From random weights all captions have nearly the same embedding, so that pictures have nothing to be drawn to, and
//! training from pairs alone begins slowly or not at all where captions are few.

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};

use super::config::TextWarmStart;
use super::loss::{Logit, Pictures, Texts, sigmoid_loss};
use super::optimizer::{GroupConfig, Optimizer, OptimizerConfig};
use crate::model::Keep;
use crate::tokenizer::TokenIds;
use crate::towers::Siglip;
use crate::{Error, Result};

/// Captions that are a batch at most.
const MAX_CAPTIONS: usize = 4096;

/// Whether so many captions can be a batch.
///
/// # Errors
/// `LIMIT_EXCEEDED` above 4096.
pub fn check(captions: usize) -> Result<()> {
    match captions > MAX_CAPTIONS {
        true => Err(Error::Limit {
            what: "the number of different captions for a warm start of the text tower",
            got: captions as u64,
            limit: MAX_CAPTIONS as u64,
        }),
        false => Ok(()),
    }
}

/// `model` after the warm start, and the loss of its last step. Captions with one key say the same.
///
/// # Errors
/// `UNSUPPORTED` without a text tower; `LIMIT_EXCEEDED` above 4096 captions; `BAD_ARGUMENT` where ids do not fit.
pub fn warm_start(
    mut model: Siglip,
    captions: &TokenIds,
    keys: &[i32],
    config: &TextWarmStart,
    mut each: impl FnMut(u64, f64) -> Result<()>,
) -> Result<Siglip> {
    check(captions.batch())?;
    let freeze = |pattern: &str| GroupConfig {
        pattern: pattern.into(),
        lr: 1.0,
        weight_decay: None,
        freeze: true,
    };
    let settings = OptimizerConfig {
        lr: config.lr,
        weight_decay: 0.0,
        groups: ["vision_model.*", "logit_*"].map(freeze).into(),
        ..OptimizerConfig::default()
    };
    let missing = || Error::Unsupported("a warm start needs a model with a text tower".into());
    let (mut optimizer, mut warm) = Optimizer::new(&settings, model.clone())?;
    let device = model.vision_model.device();
    let inner = device.clone().without_autodiff();
    let n = keys.len();
    let column: Tensor<2, Int> = Tensor::from_data(TensorData::new(keys.to_vec(), [n, 1]), &inner);
    let row: Tensor<1, Int> = Tensor::from_data(keys, &inner);
    for step in 0..config.steps {
        let tower = warm.text_model.as_ref().ok_or_else(missing)?;
        let [scale, bias] = [&warm.logit_scale, &warm.logit_bias]
            .map(|p| p.as_ref().map(|p| p.val().without_autodiff()));
        let (Some(scale), Some(bias)) = (scale, bias) else {
            return Err(missing());
        };
        let output = tower
            .forward(tower.input(captions, &device)?, Keep::default())
            .pooled;
        let output = output.ok_or_else(missing)?;
        let pooled = output.clone().without_autodiff();
        let like = Pictures {
            pooled: pooled.clone(),
            keys: column.clone(),
        };
        let texts = Texts {
            pooled,
            keys: row.clone(),
        };
        let loss = sigmoid_loss(&like, &texts, &Logit { scale, bias }, n, n);
        let gradient = super::step::constant(loss.images + loss.texts, &output);
        let gradients = GradientsParams::from_grads((output * gradient).sum().backward(), &warm);
        (warm, _) = optimizer.step(config.lr, warm, gradients);
        each(step, loss.loss.into_scalar::<f32>().into())?;
    }
    model.text_model = warm.text_model;
    Ok(model)
}
