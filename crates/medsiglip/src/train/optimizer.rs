//! Optimizers over groups of parameters: what is trained, how fast, with how much weight decay.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdafactorConfig, AdamWConfig, GradientsParams, LionConfig, ModuleOptimizer};
use burn::tensor::{Bytes, Tensor};
use glob::Pattern;
use serde::{Deserialize, Serialize};

use crate::towers::check_default;
use crate::towers::params::{self, Parameter};
use crate::{Error, Result};

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Loshchilov and Hutter, arXiv 1711.05101.
    #[default]
    AdamW,
    /// Shazeer and Stern, arXiv 1804.04235, with the learning rate as given: no relative steps, no scaling by the
    /// parameter's size.
    Adafactor,
    /// Chen et al., arXiv 2302.06675, as in SigLiT.
    Lion,
}

/// The `[optimizer]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The update rule.
    pub rule: Rule,
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the moments; 0.95 for the second is the SigLIP paper's.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by the learning rate as in PyTorch (big_vision's `wd` is this times the peak
    /// rate). It acts on weights of linear layers, convolution and attention alone: not on biases, norms, embeddings of
    /// tokens and positions, the probe, temperature and bias of the logit (big_vision: `.*/kernel`).
    pub weight_decay: f32,
    /// Largest norm of all gradients together; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// Exceptions. The first pattern that matches a parameter's name decides.
    pub groups: Vec<GroupConfig>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            rule: Rule::AdamW,
            lr: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 1e-4,
            clip: Some(1.0),
            groups: Vec::new(),
        }
    }
}

/// What is different for some parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Their names, `*` for anything: `vision_model.*`.
    pub pattern: String,
    /// Multiplies the learning rate.
    #[serde(default = "one")]
    pub lr: f64,
    /// Replaces the weight decay of those that have one.
    #[serde(default)]
    pub weight_decay: Option<f32>,
    /// They stay as they are.
    #[serde(default)]
    pub freeze: bool,
}

fn one() -> f64 {
    1.0
}

/// Whether weight decay acts on a parameter of this name and shape.
fn decays(parameter: &Parameter) -> bool {
    let name = &parameter.name;
    let matrix = parameter.shape.len() >= 2;
    matrix && !name.contains("_embedding.weight") && !name.ends_with("probe")
        || name.contains("patch_embedding.weight")
}

/// Parameters with one learning rate and one weight decay.
#[derive(Debug, Clone)]
pub struct Group {
    /// Multiplies the learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f32,
    /// Who is in it.
    pub parameters: Vec<Parameter>,
}

/// The groups of an optimizer, and what stays as it is.
#[derive(Debug, Clone)]
pub struct Groups {
    /// What is trained.
    pub trained: Vec<Group>,
    /// What is not.
    pub frozen: Vec<Parameter>,
}

impl OptimizerConfig {
    /// Divides `parameters` into groups.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a number is out of its range, a pattern is none or matches nothing, or nothing is left to train.
    pub fn groups(&self, parameters: Vec<Parameter>) -> Result<Groups> {
        self.check()?;
        let mut patterns = Vec::new();
        for group in &self.groups {
            let pattern = Pattern::new(&group.pattern).map_err(|e| {
                Error::BadConfig(format!("optimizer: expected a pattern, got one with {e}"))
            })?;
            if !parameters.iter().any(|p| pattern.matches(&p.name)) {
                return Err(Error::BadConfig(format!(
                    "optimizer: no parameter has a name like {}",
                    group.pattern
                )));
            }
            patterns.push((pattern, group));
        }
        let mut groups = Groups {
            trained: Vec::new(),
            frozen: Vec::new(),
        };
        for parameter in parameters {
            let exception = patterns.iter().find(|(p, _)| p.matches(&parameter.name));
            let exception = exception.map(|(_, group)| *group);
            if !parameter.trained || exception.is_some_and(|group| group.freeze) {
                groups.frozen.push(parameter);
                continue;
            }
            let lr = exception.map_or(1.0, |group| group.lr);
            let decay = exception.and_then(|group| group.weight_decay);
            let decay = decay.unwrap_or(self.weight_decay);
            let weight_decay = if decays(&parameter) { decay } else { 0.0 };
            let same = |g: &&mut Group| g.lr == lr && g.weight_decay == weight_decay;
            match groups.trained.iter_mut().find(same) {
                Some(group) => group.parameters.push(parameter),
                None => groups.trained.push(Group {
                    lr,
                    weight_decay,
                    parameters: vec![parameter],
                }),
            }
        }
        if groups.trained.is_empty() {
            return Err(Error::BadConfig(
                "optimizer: every parameter is frozen, nothing is left to train".into(),
            ));
        }
        Ok(groups)
    }

    fn check(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f32| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let checks = [
            ("lr above 0", positive(self.lr)),
            ("betas from 0 to below 1", self.betas.into_iter().all(share)),
            ("eps above 0", positive(self.eps.into())),
            (
                "weight_decay of 0 or more",
                not_negative(self.weight_decay.into()),
            ),
            ("clip above 0", self.clip.is_none_or(positive)),
            (
                "lr of a group of 0 or more",
                self.groups.iter().all(|g| not_negative(g.lr)),
            ),
        ];
        match checks.into_iter().find(|(_, right)| !right) {
            Some((what, _)) => Err(Error::BadConfig(format!("optimizer: expected {what}"))),
            None => Ok(()),
        }
    }

    fn rule(&self, weight_decay: f32) -> ModuleOptimizer {
        let [beta_1, beta_2] = self.betas;
        match self.rule {
            Rule::AdamW => AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(self.eps)
                .with_weight_decay(weight_decay)
                .init(),
            Rule::Adafactor => AdafactorConfig::new()
                .with_relative_step(false)
                .with_scale_parameter(false)
                .with_weight_decay(weight_decay)
                .init(),
            Rule::Lion => LionConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_weight_decay(weight_decay)
                .init(),
        }
    }
}

/// An optimizer: one of Burn's for every group.
pub struct Optimizer {
    groups: Vec<(Group, ModuleOptimizer)>,
    clip: Option<f64>,
}

/// Norms of all gradients together before they were clipped, and of each tower's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Norms {
    /// Of all.
    pub all: f64,
    /// Of the vision tower.
    pub vision: f64,
    /// Of the text tower.
    pub text: f64,
}

impl Optimizer {
    /// An optimizer for `module`, whose frozen parameters are marked so.
    ///
    /// # Errors
    /// As of [`OptimizerConfig::groups`].
    pub fn new<M: Module>(config: &OptimizerConfig, module: M) -> Result<(Self, M)> {
        let groups = config.groups(params::list(&module))?;
        let frozen = groups.frozen.iter().map(|p| p.id).collect();
        let module = module.freeze_group(ParamGroup::from_ids(frozen));
        let rule = |group: Group| {
            let rule = config.rule(group.weight_decay);
            (group, rule)
        };
        let optimizer = Self {
            groups: groups.trained.into_iter().map(rule).collect(),
            clip: config.clip,
        };
        Ok((optimizer, module))
    }

    /// The groups of parameters.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(group, _)| group)
    }

    /// `module` after a step at the learning rate `lr`; as it was where a gradient is no number, which the norms then tell.
    pub fn step<M: Module>(
        &mut self,
        lr: f64,
        mut module: M,
        mut gradients: GradientsParams,
    ) -> (M, Norms) {
        let norms = self.norms(&module, &gradients);
        if !norms.all.is_finite() {
            return (module, norms);
        }
        let scale = match self.clip {
            Some(clip) if norms.all > clip => clip / norms.all,
            _ => 1.0,
        };
        for (group, rule) in &mut self.groups {
            let mut split = Split {
                from: &mut gradients,
                ids: group.parameters.iter().map(|p| p.id).collect(),
                scale,
                to: GradientsParams::new(),
            };
            module.visit(&mut split);
            let own = split.to;
            module = rule.step(lr * group.lr, module, own);
        }
        (module, norms)
    }

    fn norms<M: Module>(&self, module: &M, gradients: &GradientsParams) -> Norms {
        let squares = Squares::of(module, gradients);
        let norm = |towers: fn(&str) -> bool| {
            let parameters = self.groups().flat_map(|group| &group.parameters);
            let chosen = parameters.filter(|p| towers(&p.name));
            chosen
                .filter_map(|p| squares.get(&p.id))
                .sum::<f64>()
                .sqrt()
        };
        Norms {
            all: norm(|_| true),
            vision: norm(|name| name.starts_with("vision_model.")),
            text: norm(|name| name.starts_with("text_model.")),
        }
    }

    /// The state of every group, in Burn's format.
    ///
    /// # Errors
    /// `BAD_CHECKPOINT` where Burn cannot write it.
    pub fn state(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = |(_, rule): &(Group, ModuleOptimizer)| {
            let bytes = rule.into_bytes().map_err(|e| {
                Error::BadCheckpoint(format!("cannot write the optimizer's state: {e}"))
            })?;
            Ok(bytes.to_vec())
        };
        self.groups.iter().map(bytes).collect()
    }

    /// Takes up a state that [`state`](Self::state) gave.
    ///
    /// # Errors
    /// `BAD_CHECKPOINT` where it is another optimizer's, or damaged; `DEVICE_ERROR` where Burn's first device is missing.
    pub fn load(&mut self, state: Vec<Vec<u8>>) -> Result<()> {
        check_default()?;
        if state.len() != self.groups.len() {
            return Err(Error::BadCheckpoint(format!(
                "optimizer: expected the state of {} groups, got {}",
                self.groups.len(),
                state.len()
            )));
        }
        for ((_, rule), bytes) in self.groups.iter_mut().zip(state) {
            let bytes = Bytes::from_bytes_vec(bytes);
            *rule = rule.clone().from_bytes(bytes).map_err(|e| {
                Error::BadCheckpoint(format!("the optimizer's state is damaged: {e}"))
            })?;
        }
        Ok(())
    }
}

/// The sum of squares of every parameter's gradient, (1) each.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    ids: Vec<ParamId>,
    sums: Vec<Tensor<1>>,
}

impl Squares<'_> {
    /// Of all, read from the device at once.
    fn of<M: Module>(module: &M, gradients: &GradientsParams) -> HashMap<ParamId, f64> {
        let mut squares = Squares {
            gradients,
            ids: Vec::new(),
            sums: Vec::new(),
        };
        module.visit(&mut squares);
        if squares.sums.is_empty() {
            return HashMap::new();
        }
        let sums = Tensor::cat(squares.sums, 0).into_data();
        squares.ids.into_iter().zip(sums.iter::<f64>()).collect()
    }
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.ids.push(param.id);
            self.sums.push(gradient.square().sum());
        }
    }
}

/// Takes the gradients of some parameters out, scaled.
struct Split<'a> {
    from: &'a mut GradientsParams,
    ids: HashSet<ParamId>,
    scale: f64,
    to: GradientsParams,
}

impl ModuleVisitor for Split<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.ids.contains(&param.id) {
            return;
        }
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            let gradient = match self.scale {
                1.0 => gradient,
                scale => gradient * scale,
            };
            self.to.register(param.id, gradient);
        }
    }
}

/// A moving average of the weights: after every step, `average = decay average + (1 - decay) weights`.
pub fn average<M: Module>(average: M, module: &M, decay: f64) -> M {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    average.map(&mut Blend {
        with: collect.0,
        decay,
    })
}

/// Every parameter's numbers side by side, on their device.
#[derive(Default)]
struct Collect(HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let numbers = param.val().without_autodiff().reshape([-1]);
        self.0.insert(param.id, numbers);
    }
}

struct Blend {
    with: HashMap<ParamId, Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(with) = self.with.remove(&param.id) else {
            return param;
        };
        let decay = self.decay;
        param.map(|average| {
            let with = with.reshape(average.shape());
            average * decay + with * (1.0 - decay)
        })
    }
}
