//! [`Probe`]: fitted heads with what they were fitted on, in a folder of two files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::calibrated::{Calibration, Threshold, to_probabilities};
use super::features::{Features, Scaler};
use super::objective::Penalty;
use super::solver::Fit;
use crate::embedding::{Embeddings, Provenance};
use crate::{Error, Result, folder};

const WEIGHTS: &str = "probe.safetensors";
const ABOUT: &str = "probe.json";
const FORMAT: u32 = 1;
const MOST_ABOUT_BYTES: u64 = 64 << 20;
const MOST_WEIGHT_BYTES: u64 = 4 << 30;

/// How the outputs of a head become probabilities of its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One output, the logit of the second class. The findings of a multi-label problem are several such heads.
    Binary,
    /// An output a class, softmax.
    Multinomial,
    /// An output a class, a sigmoid each, divided by their sum.
    OneVsRest,
}

/// One fitted task.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The task's name.
    pub name: String,
    /// Names of its classes, (C).
    pub classes: Vec<String>,
    /// What its outputs are.
    pub kind: Kind,
    /// Coefficients, (K, D).
    pub coef: Vec<f64>,
    /// Intercepts, (K).
    pub intercept: Vec<f64>,
    /// What it was fitted with, and how well.
    pub fit: FitNote,
    /// What brought the features to scale.
    pub scaler: Option<Scaler>,
    /// What makes its probabilities honest.
    pub calibration: Option<Calibration>,
    /// From where on the second of two classes is called there.
    pub threshold: Option<Threshold>,
}

/// How a head was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitNote {
    /// Inverse strength of the penalty.
    pub c: f64,
    /// The penalty.
    pub penalty: Penalty,
    /// Largest relative duality gap of its outputs.
    pub gap: f64,
    /// Whether all came to the wanted gap.
    pub converged: bool,
}

impl Head {
    /// The head of one fit, or of the fits of [`Task::one_vs_rest`](super::Task::one_vs_rest).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is no fit, or their outputs are not those of `kind` and the classes.
    pub fn new(
        name: impl Into<String>,
        classes: Vec<String>,
        kind: Kind,
        fits: &[Fit],
        penalty: Penalty,
        scaler: Option<Scaler>,
    ) -> Result<Self> {
        let Some(first) = fits.first() else {
            return Err(Error::BadArgument("probe: expected a fit, got none".into()));
        };
        let head = Self {
            name: name.into(),
            classes,
            kind,
            coef: fits.iter().flat_map(|fit| &fit.coef).copied().collect(),
            intercept: fits
                .iter()
                .flat_map(|fit| &fit.intercept)
                .copied()
                .collect(),
            fit: FitNote {
                c: first.c,
                penalty,
                gap: fits.iter().fold(0.0, |most, fit| fit.gap.max(most)),
                converged: fits.iter().all(|fit| fit.converged),
            },
            scaler,
            calibration: None,
            threshold: None,
        };
        let dim = first.coef.len() / first.intercept.len().max(1);
        head.check(dim).map_err(Error::BadArgument)?;
        Ok(head)
    }

    fn outputs(&self) -> usize {
        match self.kind {
            Kind::Binary => 1,
            Kind::Multinomial | Kind::OneVsRest => self.classes.len(),
        }
    }

    fn check(&self, dim: usize) -> Result<(), String> {
        let (k, classes) = (self.outputs(), self.classes.len());
        if classes < 2
            || (self.kind == Kind::Binary && classes != 2)
            || (self.kind != Kind::Binary && classes == 2)
        {
            return Err(format!(
                "probe: expected two classes of a binary head and three or more of another, got {classes}"
            ));
        }
        if self.intercept.len() != k || Some(self.coef.len()) != k.checked_mul(dim) {
            return Err(format!(
                "probe: expected {k} intercepts and {k} x {dim} coefficients, got {} and {}",
                self.intercept.len(),
                self.coef.len()
            ));
        }
        if let Some(calibration) = &self.calibration {
            calibration.check(self.kind)?;
        }
        if let Some(threshold) = &self.threshold
            && (self.kind != Kind::Binary || !threshold.probability.is_finite())
        {
            return Err("probe: expected a threshold of two classes that is a number".into());
        }
        let scaler = self.scaler.as_ref();
        if let Some(scaler) = scaler
            && (scaler.mean.len() != dim
                || scaler.scale.len() != dim
                || scaler.scale.iter().any(|s| *s <= 0.0))
        {
            return Err(format!(
                "probe: expected {dim} means and positive scales of the scaler"
            ));
        }
        let of_scaler = scaler
            .into_iter()
            .flat_map(|scaler| scaler.mean.iter().chain(&scaler.scale));
        match self
            .coef
            .iter()
            .chain(&self.intercept)
            .chain(of_scaler)
            .all(|x| x.is_finite())
        {
            true => Ok(()),
            false => Err("probe: expected finite coefficients, got others".into()),
        }
    }
}

/// Heads on the embeddings of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Width of the embeddings, D.
    pub dim: usize,
    /// Whether embeddings are divided by their L2 norm first.
    pub normalize: bool,
    /// How the embeddings that it was fitted on were made; absent for those of an encoder that says nothing of itself.
    pub provenance: Option<Provenance>,
    /// The heads.
    pub heads: Vec<Head>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    medsiglip: String,
    dim: usize,
    normalize: bool,
    provenance: Option<Provenance>,
    heads: Vec<AboutHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutHead {
    name: String,
    classes: Vec<String>,
    kind: Kind,
    fit: FitNote,
    standardized: bool,
    #[serde(default)]
    calibration: Option<Calibration>,
    #[serde(default)]
    threshold: Option<Threshold>,
}

impl Probe {
    /// The probability of each class for each embedding: (heads) of (B, C), row-major.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the embeddings were made otherwise than those it was fitted on, are of another width, or not
    /// finite.
    pub fn predict(
        &self,
        embeddings: &Embeddings,
        made: Option<&Provenance>,
    ) -> Result<Vec<Vec<f64>>> {
        self.check(embeddings, made)?;
        let mut features = Features::of(embeddings)?.into_f64();
        if self.normalize {
            features = features.normalized();
        }
        self.heads
            .iter()
            .map(|head| head.predict(&features))
            .collect()
    }

    /// Whether the probe fits these embeddings.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` that names what differs: width, model, checksum, recipe, padding, resolution, positions or
    /// normalisation.
    pub fn check(&self, embeddings: &Embeddings, made: Option<&Provenance>) -> Result<()> {
        let refuse = |what: &str, expected: &str, got: &str| {
            Err(Error::BadArgument(format!(
                "probe: fitted on embeddings with {what} {expected}, got {got}; embed again as then, or fit a new probe"
            )))
        };
        if embeddings.dim() != self.dim {
            return refuse(
                "width",
                &self.dim.to_string(),
                &embeddings.dim().to_string(),
            );
        }
        let (expected, got) = match (&self.provenance, made) {
            (None, None) => return Ok(()),
            (Some(expected), Some(got)) => (expected, got),
            (Some(_), None) => return refuse("a known origin", "(model and recipe)", "none"),
            (None, Some(_)) => return refuse("origin", "unknown", "a known one"),
        };
        match expected.difference(got) {
            Some((what, expected, got)) => refuse(what, &expected, &got),
            None if expected.normalized != got.normalized => refuse(
                "normalised",
                &expected.normalized.to_string(),
                &got.normalized.to_string(),
            ),
            None => Ok(()),
        }
    }

    /// Writes the probe as a folder of `probe.safetensors` and `probe.json`, whole or not at all.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `target` holds other files or the heads are not as wide as the probe; `IO_ERROR`.
    pub fn save(&self, target: &Path) -> Result<()> {
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (i, head) in self.heads.iter().enumerate() {
            head.check(self.dim).map_err(Error::BadArgument)?;
            let mut add = |name: &str, shape: Vec<usize>, values: &[f64]| {
                let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.push((format!("heads.{i}.{name}"), Dtype::F64, shape, bytes));
            };
            add("coef", vec![head.outputs(), self.dim], &head.coef);
            add("intercept", vec![head.outputs()], &head.intercept);
            if let Some(scaler) = &head.scaler {
                add("mean", vec![self.dim], &scaler.mean);
                add("scale", vec![self.dim], &scaler.scale);
            }
        }
        let bad = |_| Error::BadArgument("probe: the heads fit no safetensors file".into());
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(bad)?;
        let weights = safetensors::serialize(views, None).map_err(bad)?;
        let about = About {
            format: FORMAT,
            medsiglip: env!("CARGO_PKG_VERSION").into(),
            dim: self.dim,
            normalize: self.normalize,
            provenance: self.provenance.clone(),
            heads: self.heads.iter().map(AboutHead::new).collect(),
        };
        let about = serde_json::to_string_pretty(&about)
            .map_err(|e| Error::BadArgument(format!("probe: cannot be written as json: {e}")))?;
        folder::write(
            target,
            |name| [WEIGHTS, ABOUT].contains(&name),
            |folder| {
                folder::write_file(&folder.join(WEIGHTS), &weights)?;
                folder::write_file(&folder.join(ABOUT), format!("{about}\n").as_bytes())
            },
        )
    }

    /// Reads a folder that [`save`](Self::save) has written.
    ///
    /// # Errors
    /// `IO_ERROR`; `LIMIT_EXCEEDED` above 64 MiB of JSON or 4 GiB of weights; `UNSUPPORTED` for a newer format;
    /// `BAD_CONFIG` where the files are damaged or do not belong together.
    pub fn load(from: &Path) -> Result<Self> {
        let bad = |what: String| Error::BadConfig(format!("{what}: {}", from.display()));
        let about = About::read(from)?;
        let weights = read(&from.join(WEIGHTS), MOST_WEIGHT_BYTES)?;
        let tensors = SafeTensors::deserialize(&weights)
            .map_err(|_| bad("probe.safetensors is damaged".into()))?;
        let get = |name: String| {
            let tensor = tensors.tensor(&name).ok();
            let tensor = tensor.filter(|tensor| tensor.dtype() == Dtype::F64);
            let tensor = tensor
                .ok_or_else(|| bad(format!("probe.safetensors: expected F64 values {name}")))?;
            let (values, _) = tensor.data().as_chunks::<8>();
            let values = values.iter().map(|bytes| f64::from_le_bytes(*bytes));
            Ok(values.collect::<Vec<f64>>())
        };
        let mut heads = Vec::with_capacity(about.heads.len());
        for (i, head) in about.heads.into_iter().enumerate() {
            let scaler = match head.standardized {
                true => Some(Scaler {
                    mean: get(format!("heads.{i}.mean"))?,
                    scale: get(format!("heads.{i}.scale"))?,
                }),
                false => None,
            };
            let head = Head {
                name: head.name,
                classes: head.classes,
                kind: head.kind,
                coef: get(format!("heads.{i}.coef"))?,
                intercept: get(format!("heads.{i}.intercept"))?,
                fit: head.fit,
                scaler,
                calibration: head.calibration,
                threshold: head.threshold,
            };
            head.check(about.dim).map_err(bad)?;
            heads.push(head);
        }
        Ok(Self {
            dim: about.dim,
            normalize: about.normalize,
            provenance: about.provenance,
            heads,
        })
    }
}

impl About {
    fn read(from: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = read(&from.join(ABOUT), MOST_ABOUT_BYTES)?;
        let not_json = |e: serde_json::Error| {
            Error::BadConfig(format!(
                "probe.json is not that of a probe (line {}): {}",
                e.line(),
                from.display()
            ))
        };
        let Format { format } = serde_json::from_slice(&text).map_err(not_json)?;
        match format {
            FORMAT => serde_json::from_slice(&text).map_err(not_json),
            _ => Err(Error::Unsupported(format!(
                "probe: expected format {FORMAT}, got {format}; a newer version may read it: {}",
                from.display()
            ))),
        }
    }
}

impl AboutHead {
    fn new(head: &Head) -> Self {
        Self {
            name: head.name.clone(),
            classes: head.classes.clone(),
            kind: head.kind,
            fit: head.fit.clone(),
            standardized: head.scaler.is_some(),
            calibration: head.calibration.clone(),
            threshold: head.threshold,
        }
    }
}

impl Head {
    fn predict(&self, features: &Features) -> Result<Vec<f64>> {
        let scaled;
        let features = match &self.scaler {
            Some(scaler) => {
                scaled = features.scaled(scaler)?;
                &scaled
            }
            None => features,
        };
        let mut outputs = features.times(&self.coef);
        let mut out = Vec::with_capacity(features.items() * self.classes.len());
        for row in outputs.chunks_exact_mut(self.outputs()) {
            row.iter_mut()
                .zip(&self.intercept)
                .for_each(|(z, b)| *z += b);
            to_probabilities(self.kind, self.calibration.as_ref(), row, &mut out);
        }
        Ok(out)
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |e| Error::io("read", path, e);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > limit {
        true => Err(Error::Limit {
            what: "the size of a probe's file in bytes",
            got: bytes.len() as u64,
            limit,
        }),
        false => Ok(bytes),
    }
}
