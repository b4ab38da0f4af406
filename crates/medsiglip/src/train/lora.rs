//! Low-rank adapters (Hu et al., arXiv 2106.09685): small matrices that are trained in place of the weights.

use std::collections::HashMap;

use burn::module::{Lora, Module, ParamGroup};
use glob::Pattern;

use super::config::LoraConfig;
use super::init::Weights;
use crate::checkpoint::Tensor;
use crate::towers::{Siglip, params};
use crate::{Error, Result};

/// `model` with adapters beside the weights that the configuration names; all other weights are frozen, but for a
/// classifier, which has nothing yet to be adapted.
///
/// # Errors
/// `BAD_CONFIG` where a target is no pattern, or no weight has a name like one of them.
pub fn with_lora(mut model: Siglip, config: &LoraConfig) -> Result<Siglip> {
    let classifier = model.classifier.take();
    let mut targets = Vec::new();
    for target in &config.targets {
        let pattern = Pattern::new(target).map_err(|e| {
            Error::BadConfig(format!(
                "lora.targets: expected a pattern, got one with {e}"
            ))
        })?;
        let named = params::list(&model).into_iter();
        let named = named.filter(|p| p.shape.len() == 2 && pattern.matches(&p.name));
        targets.extend(named.map(|p| p.name));
    }
    if targets.is_empty() {
        return Err(Error::BadConfig(
            "lora.targets: no weight has a name like these".into(),
        ));
    }
    let lora =
        Lora::new(config.rank, config.alpha).set_param_group(ParamGroup::from_paths(targets));
    let mut model = params::with_stable_ids(model.apply_lora(lora));
    model.classifier = classifier;
    Ok(model)
}

/// The weights of `model` by name, adapters added to theirs: `W + alpha / rank A B`.
///
/// # Errors
/// As of [`params::read`].
pub fn merged(model: &Siglip, lora: Option<&LoraConfig>) -> Result<Weights> {
    let mut values: HashMap<String, (Vec<usize>, Vec<f32>)> = params::read(model)?
        .into_iter()
        .map(|(p, values)| (p.name, (p.shape, values)))
        .collect();
    let adapted: Vec<String> = values
        .keys()
        .filter_map(|name| name.strip_suffix(".lora.a").map(Into::into))
        .collect();
    for name in adapted {
        let part = |factor| values.get(&format!("{name}.lora.{factor}")).cloned();
        let (Some((_, a)), Some((b_shape, b)), Some(lora)) = (part("a"), part("b"), lora) else {
            continue;
        };
        values.remove(&format!("{name}.lora.a"));
        values.remove(&format!("{name}.lora.b"));
        let (rank, columns) = (b_shape[0], b_shape[1]);
        let scale = lora.alpha / lora.rank as f64;
        let Some((_, weight)) = values.get_mut(&name) else {
            continue;
        };
        for (row, weights) in weight.chunks_exact_mut(columns).enumerate() {
            for (column, weight) in weights.iter_mut().enumerate() {
                let product = (0..rank)
                    .map(|k| f64::from(a[row * rank + k]) * f64::from(b[k * columns + column]));
                *weight += (scale * product.sum::<f64>()) as f32;
            }
        }
    }
    let named = values.into_iter();
    Ok(named
        .map(|(name, (shape, values))| (name, Tensor::from_f32(shape, values)))
        .collect())
}
