//! A checkpoint whose weights are in memory: one that was trained or drawn, and is to be written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::files::{self, Weights};
use super::names::{self, expected_tensors};
use super::positions::PositionResampling;
use super::tensor::Tensor;
use super::{Checkpoint, companions};
use crate::config::Classes;
use crate::{Config, Error, Result};

struct Memory {
    tensors: BTreeMap<String, Tensor>,
    /// The weight files that these tensors were trained from; none where they were drawn.
    source: Vec<PathBuf>,
    resampled: Option<PositionResampling>,
}

impl Weights for Memory {
    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.tensors.get(name).cloned())
    }

    fn files(&self) -> &[PathBuf] {
        &self.source
    }

    fn resampled(&self) -> Option<PositionResampling> {
        self.resampled
    }
}

impl Checkpoint {
    /// A model that comes from no checkpoint; `folder` has the tokenizer's files.
    ///
    /// # Errors
    /// `BAD_CONFIG`; `BAD_TENSOR` where the tensors are not those of `config`.
    pub(crate) fn in_memory(
        id: String,
        config: Config,
        preprocessor_config: String,
        folder: &Path,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        check(&config, &tensors)?;
        Ok(Self {
            id,
            folder: folder.to_path_buf(),
            companions: companions(folder, config.text.is_some()),
            config,
            preprocessor_config: Some(preprocessor_config),
            weights: Box::new(Memory {
                tensors,
                source: Vec::new(),
                resampled: None,
            }),
            dtype: None,
            positions: None,
            classifier: BTreeMap::new(),
            head: None,
            checksum: OnceLock::new(),
            config_checksum: OnceLock::new(),
            _own: None,
        })
    }

    /// This model with other weights; its id and checksum stay those of the weights that they were trained from.
    ///
    /// # Errors
    /// `BAD_TENSOR` where the tensors are not those of this model; `IO_ERROR` from the checksum.
    pub(crate) fn with_weights(&self, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        check(&self.config, &tensors)?;
        let config = self.config.clone();
        Ok(Self {
            id: self.id.clone(),
            folder: self.folder.clone(),
            preprocessor_config: self.preprocessor_config.clone(),
            weights: Box::new(Memory {
                resampled: self.kept_positions(&tensors)?,
                tensors,
                source: self.weights.files().to_vec(),
            }),
            dtype: None,
            positions: None,
            classifier: BTreeMap::new(),
            head: None,
            checksum: OnceLock::from(self.checksum()?.to_owned()),
            companions: self.companions.clone(),
            config_checksum: OnceLock::new(),
            _own: self._own.clone(),
            config,
        })
    }

    /// This model's vision tower, without its pooling head, as a classifier of `classes`; without `classifier`, its two
    /// tensors, it keeps its own.
    pub(crate) fn classifying(
        mut self,
        classes: Classes,
        classifier: BTreeMap<String, Tensor>,
    ) -> Self {
        self.config.text = None;
        self.config.vision.use_head = false;
        self.config.classes = Some(classes);
        self.classifier = classifier;
        self
    }

    /// How the position table was resampled, where training has left it as it was.
    fn kept_positions(
        &self,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Option<PositionResampling>> {
        let Some(method) = self.resampled() else {
            return Ok(None);
        };
        let now = tensors.get(names::POSITIONS);
        let vision = &self.config.vision;
        let shape = [vision.num_patches(), vision.hidden_size];
        let before = self.tensor(names::POSITIONS, &shape)?;
        let same = now.is_some_and(|now| now.to_f32() == before.to_f32());
        Ok(same.then_some(method))
    }
}

/// Whether `tensors` are exactly those of `config`, of finite numbers.
fn check(config: &Config, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let expected = expected_tensors(config);
    for t in &expected {
        let tensor = tensors.get(&t.name);
        let tensor = tensor.ok_or_else(|| files::missing(&t.name, &t.shape))?;
        if tensor.shape() != t.shape {
            return Err(files::misshaped(&t.name, &t.shape, tensor.shape()));
        }
        if let Some(bad) = tensor.to_f32().iter().find(|x| !x.is_finite()) {
            return Err(Error::BadTensor {
                name: t.name.clone(),
                expected: "finite numbers".into(),
                got: bad.to_string(),
            });
        }
    }
    let known = |name: &str| expected.iter().any(|t| t.name == name);
    match tensors.iter().find(|(name, _)| !known(name)) {
        Some((name, tensor)) => Err(files::surplus(name, tensor.shape())),
        None => Ok(()),
    }
}
