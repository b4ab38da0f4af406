//! [`Classes`]: what a trained classifier tells apart, as transformers' `SiglipForImageClassification` writes it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Fields, bad, clip};
use crate::{Error, Result};

const ARCHITECTURE: &str = "SiglipForImageClassification";
/// Chest X-ray sets have tens of classes, ImageNet-21k twenty thousand.
const MAX_CLASSES: usize = 65_536;

/// How classes stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassKind {
    /// One of them is right: `single_label_classification`.
    Multiclass,
    /// Each is there or not: `multi_label_classification`.
    Multilabel,
}

/// The classes of a linear layer on the mean of the patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// How they stand to each other.
    pub kind: ClassKind,
    /// Their names, in the order of the layer's outputs; at least one.
    pub labels: Vec<String>,
}

impl Classes {
    /// Those of a `config.json`; `None` where it is no classifier's.
    pub(super) fn of(root: &Fields) -> Result<Option<Self>> {
        let names = root.get("architectures").and_then(Value::as_array);
        if !names.is_some_and(|names| names.iter().any(|name| name == ARCHITECTURE)) {
            return Ok(None);
        }
        let labels = match root.get("id2label") {
            Some(value) => labels(root, value)?,
            // transformers leaves out what is its default
            None => vec!["LABEL_0".into(), "LABEL_1".into()],
        };
        let kind = match root.string("problem_type")? {
            Some("single_label_classification") => ClassKind::Multiclass,
            Some("multi_label_classification") => ClassKind::Multilabel,
            None if labels.len() > 1 => ClassKind::Multiclass,
            None | Some("regression") => {
                return Err(Error::Unsupported(
                    "problem_type: expected a classification, got a regression".into(),
                ));
            }
            Some(other) => {
                return Err(bad(format!(
                    "problem_type: expected single_label_classification or multi_label_classification, got {}",
                    clip(other)
                )));
            }
        };
        let classes = Self { kind, labels };
        classes.check()?;
        Ok(Some(classes))
    }

    pub(super) fn check(&self) -> Result<()> {
        let count = self.labels.len();
        if (1..=MAX_CLASSES).contains(&count) {
            return Ok(());
        }
        Err(bad(format!(
            "id2label: expected 1 to {MAX_CLASSES} classes, got {count}"
        )))
    }

    /// The `config.json` of a classifier over a tower of `vision`.
    pub(super) fn to_value(&self, vision: Value) -> Value {
        let numbered = self.labels.iter().enumerate();
        let id2label: Map<_, _> = numbered
            .clone()
            .map(|(id, label)| (id.to_string(), json!(label)))
            .collect();
        let label2id: Map<_, _> = numbered
            .map(|(id, label)| (label.clone(), json!(id)))
            .collect();
        json!({
            "architectures": [ARCHITECTURE],
            "model_type": "siglip",
            "initializer_factor": 1.0,
            "problem_type": match self.kind {
                ClassKind::Multiclass => "single_label_classification",
                ClassKind::Multilabel => "multi_label_classification",
            },
            "id2label": id2label,
            "label2id": label2id,
            "vision_config": vision,
        })
    }
}

/// The values of `{"0": "a", "1": "b"}`, in the order of the numbers.
fn labels(root: &Fields, value: &Value) -> Result<Vec<String>> {
    let wrong = || root.wrong("id2label", "names for the numbers from 0 on", value);
    let object = value.as_object().ok_or_else(wrong)?;
    let label = |id: usize| {
        let label = object.get(&id.to_string()).and_then(Value::as_str);
        label.map(str::to_owned).ok_or_else(wrong)
    };
    (0..object.len()).map(label).collect()
}
