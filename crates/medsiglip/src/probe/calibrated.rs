//! What held-out items add to a head: honest probabilities ([`Calibration`]) and a place to cut ([`Threshold`]).

use serde::{Deserialize, Serialize};

use super::objective::probabilities;
use super::saved::Kind;
use crate::Result;
use crate::metrics::Ranking;
use crate::metrics::calibration::{Isotonic, Platt, Temperature};

/// How outputs become honest probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calibrate {
    /// A sigmoid of the output, for two classes.
    Platt,
    /// Rising steps of the output, for two classes.
    Isotonic,
    /// The softmax of outputs divided by a number, for any classes.
    Temperature,
}

impl Calibrate {
    /// By outputs (N, K) of items that were not fitted on, of a head that it is for. `None` where they say nothing.
    pub(super) fn fit(
        self,
        kind: Kind,
        outputs: &[f64],
        labels: &[usize],
    ) -> Result<Option<Calibration>> {
        let positive = || labels.iter().map(|label| *label == 1).collect::<Vec<_>>();
        Ok(match (self, kind) {
            (Self::Platt, _) => Platt::fit(outputs, &positive())?.map(Calibration::Platt),
            (Self::Isotonic, _) => Isotonic::fit(outputs, &positive())?.map(Calibration::Isotonic),
            (Self::Temperature, Kind::Binary) => {
                let logits: Vec<f64> = outputs.iter().flat_map(|z| [0.0, *z]).collect();
                Temperature::fit(&logits, labels, 2)?.map(Calibration::Temperature)
            }
            (Self::Temperature, _) => {
                let classes = outputs.len() / labels.len().max(1);
                Temperature::fit(outputs, labels, classes)?.map(Calibration::Temperature)
            }
        })
    }

    pub(super) fn check(self, kind: Kind) -> Result<(), String> {
        match (self, kind) {
            (_, Kind::Binary) | (Self::Temperature, Kind::Multinomial) => Ok(()),
            _ => Err(
                "probe: platt and isotonic calibration are for two classes; of several, the temperature is calibrated"
                    .into(),
            ),
        }
    }
}

/// From a head's outputs to probabilities that were honest on held-out items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calibration {
    /// Of two classes.
    Platt(Platt),
    /// Of two classes.
    Isotonic(Isotonic),
    /// Of any.
    Temperature(Temperature),
}

impl Calibration {
    /// The kind of it.
    pub fn kind(&self) -> Calibrate {
        match self {
            Self::Platt(_) => Calibrate::Platt,
            Self::Isotonic(_) => Calibrate::Isotonic,
            Self::Temperature(_) => Calibrate::Temperature,
        }
    }

    pub(super) fn check(&self, kind: Kind) -> Result<(), String> {
        self.kind().check(kind)
    }
}

/// Appends the probabilities of all classes for one item's outputs, which are used up.
pub(super) fn to_probabilities(
    kind: Kind,
    calibration: Option<&Calibration>,
    outputs: &mut [f64],
    into: &mut Vec<f64>,
) {
    match (kind, calibration) {
        (Kind::Binary, calibration) => {
            let present = match calibration {
                None => {
                    probabilities(outputs);
                    outputs[0]
                }
                Some(Calibration::Platt(platt)) => platt.apply(outputs[0]),
                Some(Calibration::Isotonic(isotonic)) => isotonic.apply(outputs[0]),
                Some(Calibration::Temperature(by)) => by.apply(&[0.0, outputs[0]])[1],
            };
            into.extend([1.0 - present, present]);
        }
        (Kind::Multinomial, Some(Calibration::Temperature(by))) => into.extend(by.apply(outputs)),
        (Kind::Multinomial, _) => {
            probabilities(outputs);
            into.extend_from_slice(outputs);
        }
        (Kind::OneVsRest, _) => {
            outputs.chunks_exact_mut(1).for_each(probabilities);
            let sum: f64 = outputs.iter().sum();
            // Where no class is likely at all, all are the same.
            let even = 1.0 / outputs.len() as f64;
            into.extend(
                outputs
                    .iter()
                    .map(|p| if sum > 0.0 { p / sum } else { even }),
            );
        }
    }
}

/// Where a probability becomes a yes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// Where sensitivity + specificity is highest (Youden, 1950).
    Youden,
    /// Where it is most specific with at least this sensitivity, above 0 and at most 1.
    Sensitivity(f64),
}

/// A place to cut, and what it was worth on held-out items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// By what it was found.
    pub by: Cut,
    /// The probability of the second class from which on it is called there.
    pub probability: f64,
    /// Share of the held-out positives that are called so.
    pub sensitivity: f64,
    /// Share of the held-out negatives that are called so.
    pub specificity: f64,
}

impl Cut {
    pub(super) fn check(self, kind: Kind) -> Result<(), String> {
        match self {
            _ if kind != Kind::Binary => Err("threshold: expected two classes, got more".into()),
            Self::Sensitivity(wanted) if !(wanted > 0.0 && wanted <= 1.0) => {
                Err("threshold: expected a sensitivity above 0 and at most 1".into())
            }
            _ => Ok(()),
        }
    }

    /// By probabilities of held-out items. `None` where no place is better than chance, or a class is missing.
    pub(super) fn find(self, probability: &[f64], labels: &[usize]) -> Result<Option<Threshold>> {
        let positive: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let ranking = Ranking::new(probability, &positive)?;
        let point = match self {
            Self::Youden => ranking.youden(),
            Self::Sensitivity(wanted) => ranking.specificity_at_sensitivity(wanted)?,
        };
        Ok(point.map(|point| Threshold {
            by: self,
            probability: point.threshold,
            sensitivity: point.sensitivity,
            specificity: point.specificity,
        }))
    }
}
