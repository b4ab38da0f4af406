//! [`ModelCard`]: what a model was trained on and how, as the `README.md` of its folder.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

/// What the Health AI Developer Foundations terms ask to be passed on with a model made from theirs, in a notice.
const HAI_DEF_NOTICE: &str = "HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of \
     Use found at https://developers.google.com/health-ai-developer-foundations/terms";

/// The file beside the weights that holds it.
pub(super) const NOTICE: &str = "NOTICE";

/// What a model started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Random weights.
    Random,
    /// A model under its own licence, by its id.
    Model(String),
    /// MedSigLIP, MedGemma or a fine-tune of them, by its id: under the Health AI Developer Foundations terms.
    HaiDef(String),
}

impl Base {
    /// What `checkpoint` is: [`Base::HaiDef`] where `hai_def` says so; without, where MedSigLIP or MedGemma stands in its
    /// id or in the hub's name for its folder, or its folder has the notice that this program puts beside such models.
    pub fn of(checkpoint: &Checkpoint, hai_def: Option<bool>) -> Self {
        let id = checkpoint.id();
        let folder = checkpoint.folder();
        let parts = folder.iter().filter_map(|part| part.to_str());
        let on_hub = parts.filter(|part| part.starts_with("models--"));
        let notice = std::fs::read_to_string(folder.join(NOTICE));
        let found = is_hai_def(id)
            || on_hub.into_iter().any(is_hai_def)
            || notice.is_ok_and(|text| text.contains(HAI_DEF_NOTICE));
        match hai_def.unwrap_or(found) {
            true => Self::HaiDef(id.to_owned()),
            false => Self::Model(id.to_owned()),
        }
    }
}

fn is_hai_def(id: &str) -> bool {
    let lower = id.to_ascii_lowercase();
    // Our own small model bears the name, and is no MedSigLIP.
    let medsiglip = lower.replace("medsiglip-mini", "").contains("medsiglip");
    medsiglip || lower.contains("medgemma")
}

/// One source of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// The data set, with its reference.
    pub name: String,
    /// Different pairs in it.
    pub pairs: u64,
    /// Its terms.
    pub license: String,
    /// The share of all pairs drawn in training that came from it, 0 to 1.
    pub share: f64,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What was decided, and how: "referable diabetic retinopathy, zero-shot".
    pub task: String,
    /// What was measured: "AUC".
    pub name: String,
    /// The number.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Pictures that it was measured on, none of them trained on.
    pub images: u64,
}

/// What a model was trained on and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// The model's name, the title.
    pub name: String,
    /// What it started from.
    pub base: Base,
    /// Its licence, as the hub abbreviates it: `apache-2.0`. Not used where the base's terms go on.
    pub license: String,
    /// The classes that it was trained to tell apart; none where it compares pictures with texts.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Where its pairs came from.
    #[serde(default)]
    pub sources: Vec<TrainedOn>,
    /// How it was trained, name and value.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// What was measured.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// What it cannot do, a sentence each.
    #[serde(default)]
    pub limitations: Vec<String>,
}

impl ModelCard {
    /// The text that the base's terms want beside the weights, in a file `NOTICE`.
    pub fn notice(&self) -> Option<String> {
        match &self.base {
            Base::HaiDef(id) => Some(format!(
                "{HAI_DEF_NOTICE}\n\nThe weights are those of {}, modified by further training.\n",
                line(id)
            )),
            _ => None,
        }
    }

    /// The card as Markdown, under the front matter that the hub reads.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the name or licence is empty, a share is none, or a number or interval is none.
    pub fn to_markdown(&self) -> Result<String> {
        self.check()?;
        let mut text = self.front_matter();
        // Writing into a string cannot fail.
        let _ = write!(text, "\n# {}\n\n{}\n", line(&self.name), self.what_it_is());
        text.push_str(&self.classifier());
        text.push_str(&self.training());
        text.push_str(&self.results());
        text.push_str("\n## Limitations\n\n");
        for limitation in &self.limitations {
            let _ = writeln!(text, "- {}", line(limitation));
        }
        text.push_str(
            "- **Not for clinical use.** Nothing here was evaluated as a medical device. Scores are for research: they \
             must not decide about a patient.\n",
        );
        Ok(text)
    }

    fn check(&self) -> Result<()> {
        let bad = |message: String| Err(Error::BadArgument(format!("model card: {message}")));
        for (what, text) in [("name", &self.name), ("license", &self.license)] {
            if text.trim().is_empty() {
                return bad(format!("expected a {what}, got nothing"));
            }
        }
        for source in &self.sources {
            if !(0.0..=1.0).contains(&source.share) {
                let share = source.share;
                return bad(format!("expected shares from 0 to 1, got {share}"));
            }
        }
        for Metric {
            value, low, high, ..
        } in &self.metrics
        {
            if !(value.is_finite() && low <= high) {
                return bad(format!(
                    "expected a number and an interval, got {value} and {low} to {high}"
                ));
            }
        }
        Ok(())
    }

    fn front_matter(&self) -> String {
        let mut text = String::from("---\n");
        let mut put = |key: &str, value: &str| {
            let _ = writeln!(text, "{key}: {}", quoted(value));
        };
        match &self.base {
            Base::HaiDef(_) => {
                put("license", "other");
                put("license_name", "health-ai-developer-foundations");
                put(
                    "license_link",
                    "https://developers.google.com/health-ai-developer-foundations/terms",
                );
            }
            _ => put("license", &self.license),
        }
        if let Base::Model(id) | Base::HaiDef(id) = &self.base {
            put("base_model", id);
        }
        put("library_name", "transformers");
        let task = match self.classes.is_empty() {
            true => "zero-shot-image-classification",
            false => "image-classification",
        };
        put("pipeline_tag", task);
        text.push_str("tags:\n- siglip\n- medical\n- medsiglip-rs\n---\n");
        text
    }

    fn what_it_is(&self) -> String {
        match &self.base {
            Base::Random => {
                "**This is no MedSigLIP.** It is a SigLIP model made from random weights by the open-source program \
                 `medsiglip`; none of Google's weights or data went into it, and its scores say nothing about \
                 MedSigLIP's. Not for clinical use."
                    .into()
            }
            Base::Model(id) => format!(
                "**This is no MedSigLIP.** It is {} trained further by the open-source program `medsiglip`; the \
                 terms of that model may go on to this one. Its scores say nothing about MedSigLIP's. Not for clinical use.",
                line(id)
            ),
            Base::HaiDef(id) => format!(
                "This is {} trained further: its weights are modified, and are not Google's release. {HAI_DEF_NOTICE}. \
                 These terms, with their prohibited uses \
                 (https://developers.google.com/health-ai-developer-foundations/prohibited-use-policy), go on to \
                 everyone who gets this model. Not for clinical use.",
                line(id)
            ),
        }
    }

    fn classifier(&self) -> String {
        if self.classes.is_empty() {
            return String::new();
        }
        let classes: Vec<_> = self.classes.iter().map(|class| line(class)).collect();
        format!(
            "\nIt is a classifier of {} classes: {}. A linear layer on the mean of the vision tower's patches gives their \
             logits (`SiglipForImageClassification` of transformers; `medsiglip classify`). The text tower and the pooling \
             head of the model that it was made from are not in it.\n",
            classes.len(),
            classes.join(", ")
        )
    }

    fn training(&self) -> String {
        let mut text = String::from("\n## Training\n\n");
        if !self.sources.is_empty() {
            let what = match self.classes.is_empty() {
                true => "pairs",
                false => "pictures",
            };
            let _ = write!(
                text,
                "| source | {what} | share of the {what} drawn | terms |\n|---|---|---|---|\n"
            );
        }
        for source in &self.sources {
            let (name, license) = (cell(&source.name), cell(&source.license));
            let share = 100.0 * source.share;
            let _ = writeln!(
                text,
                "| {name} | {} | {share:.2} % | {license} |",
                source.pairs
            );
        }
        if !self.settings.is_empty() {
            text.push_str("\n| setting | value |\n|---|---|\n");
        }
        for (name, value) in &self.settings {
            let _ = writeln!(text, "| {} | {} |", cell(name), cell(value));
        }
        if self.sources.is_empty() && self.settings.is_empty() {
            text.push_str("Not trained.\n");
        }
        text
    }

    fn results(&self) -> String {
        let mut text = String::from("\n## Results\n\n");
        if self.metrics.is_empty() {
            text.push_str("Nothing was measured.\n");
            return text;
        }
        text.push_str(match &self.base {
            Base::Random => "On pictures that it was not trained on, with 95 % intervals.\n\n",
            _ => {
                "On pictures that it was not trained on here, with 95 % intervals; the model that it was made from may have \
                 seen them.\n\n"
            }
        });
        text.push_str(
            "| task | measure | value | 95 % interval | pictures |\n|---|---|---|---|---|\n",
        );
        for m in &self.metrics {
            let (task, name) = (cell(&m.task), cell(&m.name));
            let _ = writeln!(
                text,
                "| {task} | {name} | {:.3} | {:.3} to {:.3} | {} |",
                m.value, m.low, m.high, m.images
            );
        }
        text
    }
}

/// A value of the front matter: a JSON string is a YAML string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One line of Markdown.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One cell of a table.
fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(base: Base) -> ModelCard {
        ModelCard {
            name: "a: small\nmodel".into(),
            base,
            license: "apache-2.0".into(),
            classes: Vec::new(),
            sources: vec![TrainedOn {
                name: "set | one".into(),
                pairs: 757,
                license: "free use".into(),
                share: 0.021,
            }],
            settings: vec![("batch".into(), "64".into())],
            metrics: vec![Metric {
                task: "lung histology, zero-shot".into(),
                name: "macro AUC".into(),
                value: 0.9514,
                low: 0.93,
                high: 0.97,
                images: 118,
            }],
            limitations: vec!["It saw few pictures.".into()],
        }
    }

    #[test]
    fn a_card_says_what_there_is_to_know() {
        let text = card(Base::Random).to_markdown().unwrap();
        for part in [
            "---\nlicense: \"apache-2.0\"\nlibrary_name: \"transformers\"\n",
            "\n# a: small model\n",
            "**This is no MedSigLIP.**",
            "| set \\| one | 757 | 2.10 % | free use |",
            "| batch | 64 |",
            "| lung histology, zero-shot | macro AUC | 0.951 | 0.930 to 0.970 | 118 |",
            "- It saw few pictures.\n",
            "**Not for clinical use.**",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("base_model") && text.contains("zero-shot-image-classification"));
    }

    #[test]
    fn the_card_of_a_classifier_names_its_classes() {
        let mut card = card(Base::Random);
        card.classes = ["no finding", "edema"].map(Into::into).into();
        let text = card.to_markdown().unwrap();
        assert!(
            text.contains("classifier of 2 classes: no finding, edema."),
            "{text}"
        );
        assert!(text.contains("pipeline_tag: \"image-classification\"\n"));
    }

    #[test]
    fn the_terms_of_medsiglip_go_on() {
        for (id, hai_def) in [
            ("google/medsiglip-448", true),
            ("models--google--medsiglip-448", true),
            ("google/medgemma-4b-it+head", true),
            ("google/siglip-base-patch16-224", false),
            ("medsiglip-mini", false),
        ] {
            assert_eq!(is_hai_def(id), hai_def);
            let card = card(match hai_def {
                true => Base::HaiDef(id.into()),
                false => Base::Model(id.into()),
            });
            let text = card.to_markdown().unwrap();
            assert_eq!(card.notice().is_some(), hai_def);
            assert!(text.contains(&format!("base_model: \"{id}\"\n")));
            assert_eq!(
                text.contains("license_name: \"health-ai-developer"),
                hai_def
            );
            assert_eq!(text.contains(HAI_DEF_NOTICE), hai_def);
            assert_eq!(text.contains("license: \"apache-2.0\""), !hai_def);
            assert_eq!(text.contains("This is no MedSigLIP"), !hai_def);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: fn(&mut ModelCard)| {
            let mut card = card(Base::Random);
            change(&mut card);
            assert_eq!(card.to_markdown().unwrap_err().code(), "BAD_ARGUMENT");
        };
        refused(|card| card.name = " ".into());
        refused(|card| card.license.clear());
        refused(|card| card.sources[0].share = f64::NAN);
        refused(|card| card.metrics[0].low = 0.98);
        refused(|card| card.metrics[0].high = f64::NAN);
    }
}
