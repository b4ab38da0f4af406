//! One step's loss and gradients: pairs of pictures and texts through both towers, and back.
//!
//! All texts are negatives of all pictures of a batch, however few of them go through a tower at once: first the
//! embeddings of all micro-batches, without gradients; then the loss and its gradients with respect to the embeddings;
//! then one micro-batch after the other again, with these as the gradient of its output (Gao et al., arXiv 2101.06983).
//! A batch that is one micro-batch goes through once.
//!
//! On several devices each takes its share of the micro-batches, and the loss is where the first is.

use std::collections::HashMap;
use std::ops::Range;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};

use super::auxiliary::Auxiliary;
use super::loss::{Logit, LossGradients, Pictures, Texts, sigmoid_loss};
use crate::model::Keep;
use crate::preprocess::PixelValues;
use crate::tokenizer::TokenIds;
use crate::towers::{Siglip, params};
use crate::{Error, Result};

/// A batch of pairs: text i belongs to picture i.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// (n, 3, size, size).
    pub pixels: PixelValues,
    /// (n, T).
    pub tokens: TokenIds,
    /// (n): keys of the texts that are true of each picture, as many for each; -1 where there are fewer.
    pub true_of: Vec<Vec<i32>>,
    /// (n): key of each text.
    pub keys: Vec<i32>,
    /// What the vision tower is to tell beside; the model then has a layer for it.
    pub auxiliary: Option<Auxiliary>,
}

/// How a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Pictures, or texts, that go through a tower at once.
    pub micro_batch: usize,
    /// Pairs of which logits are held at once, squared.
    pub loss_block: usize,
}

/// The loss of a batch and the gradients of the model's parameters.
pub struct StepGradients {
    /// Mean over the pictures.
    pub loss: f64,
    /// The auxiliary loss, without its weight, where there is one.
    pub auxiliary: Option<f64>,
    /// By parameter.
    pub gradients: GradientsParams,
}

/// The sigmoid loss of `pairs` and its gradients. `model` is on an autodiff device.
///
/// A text that stands several times in a batch goes through its tower once.
///
/// # Errors
/// `BAD_ARGUMENT` where pictures, texts and keys differ in number, or do not fit the towers; `UNSUPPORTED` where the
/// model has no text tower or no pooling head.
pub fn sigmoid_step(model: &Siglip, pairs: &Pairs, cut: Cut) -> Result<StepGradients> {
    sigmoid_step_on(std::slice::from_ref(model), pairs, cut)
}

/// As [`sigmoid_step`], with the same model on one device or more, at least one. The gradients are where the first is.
///
/// # Errors
/// As of [`sigmoid_step`].
pub fn sigmoid_step_on(models: &[Siglip], pairs: &Pairs, cut: Cut) -> Result<StepGradients> {
    check(pairs)?;
    let step = Step::new(models, pairs, cut)?;
    let model = step.model;
    if step.parts.len() == 2 {
        let outputs = step.parts.iter().map(|part| step.forward(model, part));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let pooled: Vec<_> = outputs.iter().map(|output| output.pooled.clone()).collect();
        let loss = step.loss(&pooled);
        let (mut all, mut told) = (step.logit_surrogate(&loss), 0.0);
        for (part, output) in step.parts.iter().zip(&outputs) {
            let (surrogate, own) = step.surrogate(model, part, output, &loss)?;
            (all, told) = (all + surrogate, told + own);
        }
        let gradients = GradientsParams::from_grads(all.backward(), model);
        return Ok(step.finish(&loss, told, gradients));
    }
    let outputs = step.outputs()?;
    let loss = step.loss(&outputs);
    let mut all = GradientsAccumulator::new();
    let mut told = 0.0;
    for (gradients, own) in on_each(models, |number, model| step.gradients(number, model, &loss))? {
        all.accumulate(model, gradients);
        told += own;
    }
    if step.logit().iter().any(Tensor::is_require_grad) {
        let surrogate = step.logit_surrogate(&loss);
        all.accumulate(
            model,
            GradientsParams::from_grads(surrogate.backward(), model),
        );
    }
    Ok(step.finish(&loss, told, all.grads()))
}

/// What `work` gives for every model and its number, on a thread each where there are several.
pub(super) fn on_each<R: Send>(
    models: &[Siglip],
    work: impl Fn(usize, &Siglip) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if let [model] = models {
        return Ok(vec![work(0, model)?]);
    }
    std::thread::scope(|scope| {
        let work = &work;
        let started = models.iter().enumerate();
        let started = started.map(|(number, model)| scope.spawn(move || work(number, model)));
        let started: Vec<_> = started.collect();
        let done = started.into_iter().map(|thread| thread.join());
        done.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn check(pairs: &Pairs) -> Result<()> {
    let n = pairs.pixels.batch();
    if n == 0 {
        return Err(Error::empty_batch());
    }
    let each = pairs.true_of.first().map_or(0, Vec::len);
    let even = pairs.true_of.iter().all(|keys| keys.len() == each);
    if pairs.tokens.batch() == n && pairs.keys.len() == n && pairs.true_of.len() == n && even {
        return Ok(());
    }
    Err(Error::BadArgument(format!(
        "a batch of pairs: expected {n} texts and keys for {n} pictures, and as many keys of true texts for each; got {} \
         texts, {} keys, keys of true texts for {}",
        pairs.tokens.batch(),
        pairs.keys.len(),
        pairs.true_of.len()
    )))
}

/// What goes through a tower at once.
enum Part {
    Pictures(Range<usize>),
    /// Of the texts that differ.
    Texts(Range<usize>),
}

/// What came out of a tower.
struct Output {
    /// (B, D), not normalised.
    pooled: Tensor<2>,
    /// (B, N, D).
    last: Tensor<3>,
}

struct Step<'a> {
    models: &'a [Siglip],
    /// The first of them.
    model: &'a Siglip,
    pairs: &'a Pairs,
    /// Where the loss is, without gradients.
    inner: Device,
    loss_block: usize,
    /// Rows of the texts that differ.
    texts: Vec<usize>,
    /// (n, texts): one where a pair has this text.
    which: Tensor<2>,
    parts: Vec<Part>,
}

impl<'a> Step<'a> {
    fn new(models: &'a [Siglip], pairs: &'a Pairs, cut: Cut) -> Result<Self> {
        let model = models.first().ok_or_else(|| {
            Error::BadArgument("a step: expected a model on at least one device, got none".into())
        })?;
        let inner = model.vision_model.device().without_autodiff();
        let n = pairs.pixels.batch();
        let (texts, which) = distinct(&pairs.tokens);
        let mut numbers = vec![0.0; n * texts.len()];
        for (pair, text) in which.iter().enumerate() {
            numbers[pair * texts.len() + text] = 1.0;
        }
        let which = Tensor::from_data(TensorData::new(numbers, [n, texts.len()]), &inner);
        let at_once = cut.micro_batch.min(n.div_ceil(models.len())).max(1);
        let cut_at = move |length: usize| {
            (0..length)
                .step_by(at_once)
                .map(move |first| first..length.min(first + at_once))
        };
        let pictures = cut_at(n).map(Part::Pictures);
        let parts = pictures
            .chain(cut_at(texts.len()).map(Part::Texts))
            .collect();
        Ok(Self {
            models,
            model,
            pairs,
            inner,
            loss_block: cut.loss_block,
            texts,
            which,
            parts,
        })
    }

    /// A part through its tower.
    fn forward(&self, model: &Siglip, part: &Part) -> Result<Output> {
        let device = &model.vision_model.device();
        let missing = |what| Error::Unsupported(format!("training on pairs needs {what}"));
        let forward = match part {
            Part::Pictures(rows) => {
                let pixels = self.pairs.pixels.rows(rows.clone());
                let pixels = model.vision_model.input(&pixels, device)?;
                model.vision_model.forward(pixels, Keep::default())
            }
            Part::Texts(rows) => {
                let tower = model.text_model.as_ref();
                let tower = tower.ok_or_else(|| missing("a model with a text tower"))?;
                let ids = self.pairs.tokens.select(&self.texts[rows.clone()]);
                tower.forward(tower.input(&ids, device)?, Keep::default())
            }
        };
        let pooled = forward.pooled;
        Ok(Output {
            pooled: pooled.ok_or_else(|| missing("a vision tower with a pooling head"))?,
            last: forward.last_hidden_state,
        })
    }

    /// The parts that the model of this number takes.
    fn parts_of(&self, number: usize) -> impl Iterator<Item = &Part> {
        self.parts.iter().skip(number).step_by(self.models.len())
    }

    /// Embeddings of all parts, without gradients.
    fn outputs(&self) -> Result<Vec<Tensor<2>>> {
        let of_each = on_each(self.models, |number, model| {
            let frozen = model.valid();
            let output = |part| Ok(self.forward(&frozen, part)?.pooled.to_device(&self.inner));
            self.parts_of(number)
                .map(output)
                .collect::<Result<Vec<_>>>()
        })?;
        let mut of_each: Vec<_> = of_each.into_iter().map(Vec::into_iter).collect();
        let turns = (0..self.parts.len()).filter_map(|part| {
            let number = part % self.models.len();
            of_each[number].next()
        });
        Ok(turns.collect())
    }

    /// The gradients from the parts of a model, where the first model is, and their auxiliary loss.
    fn gradients(
        &self,
        number: usize,
        model: &Siglip,
        loss: &LossGradients,
    ) -> Result<(GradientsParams, f64)> {
        let (mut all, mut told) = (GradientsAccumulator::new(), 0.0);
        // A frozen tower has no gradients to make.
        for part in self.parts_of(number).filter(|part| self.is_trained(part)) {
            let output = self.forward(model, part)?;
            let (surrogate, own) = self.surrogate(model, part, &output, loss)?;
            told += own;
            let gradients = GradientsParams::from_grads(surrogate.backward(), model);
            all.accumulate(model, gradients);
        }
        Ok((all.grads().to_device(&self.inner, model), told))
    }

    /// The loss of all outputs.
    fn loss(&self, outputs: &[Tensor<2>]) -> LossGradients {
        let side = |texts: bool| {
            let of_side = self.parts.iter().zip(outputs);
            let of_side = of_side.filter(|(part, _)| matches!(part, Part::Texts(_)) == texts);
            let rows = of_side.map(|(_, output)| output.clone().without_autodiff());
            Tensor::cat(rows.collect(), 0)
        };
        let inner = &self.inner;
        let true_of = self.pairs.true_of.concat();
        let n = self.pairs.keys.len();
        let keys = TensorData::new(true_of.clone(), [n, true_of.len() / n]);
        let images = Pictures {
            pooled: side(false),
            keys: Tensor::from_data(keys, inner),
        };
        let texts = Texts {
            pooled: self.which.clone().matmul(side(true)),
            keys: Tensor::from_data(&self.pairs.keys[..], inner),
        };
        let [scale, bias] = self.logit().map(|value| value.without_autodiff());
        let mut loss = sigmoid_loss(&images, &texts, &Logit { scale, bias }, n, self.loss_block);
        loss.texts = self.which.clone().transpose().matmul(loss.texts);
        loss
    }

    fn logit(&self) -> [Tensor<1>; 2] {
        // A model with a text tower, which the forward pass has asked for, has both.
        [&self.model.logit_scale, &self.model.logit_bias]
            .map(|p| p.as_ref().expect("both belong to the text tower").val())
    }

    /// Whether a parameter of the part's tower is trained.
    fn is_trained(&self, part: &Part) -> bool {
        let parameters = match part {
            Part::Pictures(_) => [
                params::list(&self.model.vision_model),
                params::list(&self.model.auxiliary),
            ]
            .concat(),
            Part::Texts(_) => params::list(&self.model.text_model),
        };
        parameters.iter().any(|p| p.trained)
    }

    /// Something whose gradient is that of the loss, for a part's output, and its auxiliary loss.
    fn surrogate(
        &self,
        model: &Siglip,
        part: &Part,
        output: &Output,
        loss: &LossGradients,
    ) -> Result<(Tensor<1>, f64)> {
        let pooled = &output.pooled;
        let gradient = match part {
            Part::Pictures(rows) => loss.images.clone().slice([rows.clone()]),
            Part::Texts(rows) => loss.texts.clone().slice([rows.clone()]),
        };
        let gradient = gradient.to_device(&pooled.device());
        let surrogate = (pooled.clone() * constant(gradient, pooled)).sum();
        let (Part::Pictures(rows), Some(auxiliary)) = (part, &self.pairs.auxiliary) else {
            return Ok((surrogate, 0.0));
        };
        let told = auxiliary.part(model, rows, &output.last)?;
        let value = told.clone().into_scalar::<f32>();
        Ok((surrogate + told * auxiliary.weight, value.into()))
    }

    fn logit_surrogate(&self, loss: &LossGradients) -> Tensor<1> {
        let [scale, bias] = self.logit();
        let of = |value: Tensor<1>, gradient: &Tensor<1>| {
            let gradient = constant(gradient.clone(), &value);
            value * gradient
        };
        of(scale, &loss.scale) + of(bias, &loss.bias)
    }

    fn finish(&self, loss: &LossGradients, told: f64, gradients: GradientsParams) -> StepGradients {
        StepGradients {
            loss: loss.loss.clone().into_scalar::<f32>().into(),
            auxiliary: self.pairs.auxiliary.as_ref().map(|_| told),
            gradients,
        }
    }
}

/// `values`, to be multiplied with `like`, which is tracked.
pub(super) fn constant<const D: usize>(values: Tensor<D>, like: &Tensor<D>) -> Tensor<D> {
    let values = Tensor::from_inner(values);
    match like.device().gradient_checkpointing_strategy() {
        Some(strategy) => values.with_gradient_checkpointing_strategy(strategy),
        None => values,
    }
}

/// The rows of `tokens` that differ, in the order of their first place, and for every row which of these it is.
fn distinct(tokens: &TokenIds) -> (Vec<usize>, Vec<usize>) {
    let mut seen = HashMap::new();
    let mut rows = Vec::new();
    let ids = tokens.data().chunks_exact(tokens.length());
    let which = ids.enumerate().map(|(row, ids)| {
        *seen.entry(ids).or_insert_with(|| {
            rows.push(row);
            rows.len() - 1
        })
    });
    let which = which.collect();
    (rows, which)
}
