//! [`PromptSet`]: classes with the prompts that describe them, published or the user's own.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// Bytes of a prompt file that are read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The published prompt sets, in the order of the report's tables, then three for public data.
const TASKS: [(&str, &str); 14] = [
    (
        "cxr_findings",
        include_str!("../../configs/prompts/cxr_findings.toml"),
    ),
    (
        "diabetic_retinopathy",
        include_str!("../../configs/prompts/diabetic_retinopathy.toml"),
    ),
    (
        "invasive_breast_cancer",
        include_str!("../../configs/prompts/invasive_breast_cancer.toml"),
    ),
    (
        "breast_np",
        include_str!("../../configs/prompts/breast_np.toml"),
    ),
    (
        "breast_tf",
        include_str!("../../configs/prompts/breast_tf.toml"),
    ),
    (
        "cervical_dysplasia",
        include_str!("../../configs/prompts/cervical_dysplasia.toml"),
    ),
    (
        "prostate_needle",
        include_str!("../../configs/prompts/prostate_needle.toml"),
    ),
    (
        "radical_prostatectomy",
        include_str!("../../configs/prompts/radical_prostatectomy.toml"),
    ),
    (
        "tcga_study_types",
        include_str!("../../configs/prompts/tcga_study_types.toml"),
    ),
    (
        "tissue_types",
        include_str!("../../configs/prompts/tissue_types.toml"),
    ),
    (
        "skin_conditions",
        include_str!("../../configs/prompts/skin_conditions.toml"),
    ),
    (
        "cxr_pneumonia",
        include_str!("../../configs/prompts/cxr_pneumonia.toml"),
    ),
    (
        "lung_histology",
        include_str!("../../configs/prompts/lung_histology.toml"),
    ),
    (
        "colorectal_tissue",
        include_str!("../../configs/prompts/colorectal_tissue.toml"),
    ),
];

/// A set of classes, each with the prompts that describe it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSet {
    /// Short name, for example `cxr_findings`.
    pub name: String,
    /// How the classes compete.
    pub kind: PromptKind,
    /// The classes in their order.
    pub classes: Vec<ClassPrompts>,
}

/// How the classes of a prompt set compete in the softmax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// One of the classes is right: softmax over all classes.
    Multiclass,
    /// Each class is present or absent: softmax over its present and absent prompts.
    BinaryPerFinding,
}

impl PromptKind {
    /// What a class's softmax share is a share of: `classes`, or `present and absent`.
    pub fn softmax_over(self) -> &'static str {
        match self {
            Self::Multiclass => "classes",
            Self::BinaryPerFinding => "present and absent",
        }
    }
}

/// One class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassPrompts {
    /// Its name.
    pub label: String,
    /// Prompts that say it is there.
    pub present: Vec<String>,
    /// Prompts that say it is not; for [`PromptKind::BinaryPerFinding`] alone.
    #[serde(default)]
    pub absent: Vec<String>,
}

impl PromptSet {
    /// The published prompt sets by name: see [`PromptSet::task_names`].
    ///
    /// # Errors
    /// `BAD_ARGUMENT` naming the known ones.
    pub fn task(name: &str) -> Result<Self> {
        let task = TASKS.iter().find(|(known, _)| *known == name);
        let (_, toml) = task.ok_or_else(|| {
            let known = Self::task_names().join(", ");
            Error::BadArgument(format!("task: expected {known}, got {name}"))
        })?;
        Self::from_toml(toml)
    }

    /// The published prompt set of this name, or the one in a file; a relative path starts at `base`.
    ///
    /// # Errors
    /// As of [`PromptSet::from_file`].
    pub fn named(name: &str, base: &Path) -> Result<Self> {
        match Self::task_names().contains(&name) {
            true => Self::task(name),
            false => Self::from_file(base.join(name)),
        }
    }

    /// The names of the published prompt sets.
    pub fn task_names() -> Vec<&'static str> {
        TASKS.iter().map(|(name, _)| *name).collect()
    }

    /// A prompt set from a file: `.toml` as [`PromptSet::from_toml`], `.json` as [`PromptSet::from_json`].
    ///
    /// # Errors
    /// `BAD_CONFIG`, also for another extension; `IO_ERROR`; `LIMIT_EXCEEDED`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|e| e.to_str());
        let extension = extension.unwrap_or_default().to_ascii_lowercase();
        let name = path
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or("prompts");
        if extension != "toml" && extension != "json" {
            return Err(Error::BadConfig(format!(
                "prompts: expected a .toml or .json file: {}",
                path.display()
            )));
        }
        let text = read_limited(path)?;
        let set = match extension.as_str() {
            "toml" => Self::from_toml(&text),
            _ => Self::from_json(&text, name),
        };
        set.map_err(|e| match e {
            Error::BadConfig(message) => Error::BadConfig(format!("{message}: {}", path.display())),
            e => e,
        })
    }

    /// A prompt set from the text of a TOML file, as in `configs/prompts/`: `name`, `kind`
    /// (`multiclass`, `binary_per_finding`) and `[[classes]]` with `label`, `present`, `absent`.
    ///
    /// # Errors
    /// `BAD_CONFIG`, also for an unknown key.
    pub fn from_toml(text: &str) -> Result<Self> {
        let set: Self = toml::from_str(text).map_err(|e| {
            // The whole display of the error quotes the file.
            let line = e.span().map_or(0, |s| {
                let before = text.as_bytes().get(..s.start).unwrap_or_default();
                before.iter().filter(|b| **b == b'\n').count() + 1
            });
            Error::BadConfig(format!("prompts: line {line}: {}", e.message()))
        })?;
        set.checked()
    }

    /// A multiclass prompt set from JSON: `{"label": ["prompt", ...]}`, a single prompt also without brackets.
    ///
    /// # Errors
    /// `BAD_CONFIG`, also for a label given twice.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        let labels: Labels = serde_json::from_str(text)
            .map_err(|e| Error::BadConfig(format!("prompts: expected labels with prompts: {e}")))?;
        let classes = labels.0.into_iter().map(|(label, prompts)| ClassPrompts {
            label,
            present: match prompts {
                Prompts::One(prompt) => vec![prompt],
                Prompts::Several(prompts) => prompts,
            },
            absent: Vec::new(),
        });
        Self {
            name: name.to_owned(),
            kind: PromptKind::Multiclass,
            classes: classes.collect(),
        }
        .checked()
    }

    /// Each label is its own single prompt.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is none, or one is empty or given twice.
    pub fn from_labels<S: AsRef<str>>(labels: &[S]) -> Result<Self> {
        let class = |label: &S| ClassPrompts {
            label: label.as_ref().to_owned(),
            present: vec![label.as_ref().to_owned()],
            absent: Vec::new(),
        };
        let set = Self {
            name: "labels".to_owned(),
            kind: PromptKind::Multiclass,
            classes: labels.iter().map(class).collect(),
        };
        set.check().map_err(Error::BadArgument)?;
        Ok(set)
    }

    /// Whether the set can be scored: it has classes, no label twice or empty, no class without
    /// prompts, absent prompts for [`PromptKind::BinaryPerFinding`] and only there.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.classes.is_empty() {
            return Err("prompts: expected at least one class, got none".into());
        }
        let mut labels = HashSet::new();
        for (index, class) in self.classes.iter().enumerate() {
            let wrong = |what: &str| Err(format!("prompts: class {}: {what}", index + 1));
            if class.label.trim().is_empty() {
                return wrong("expected a label, got an empty one");
            }
            if !labels.insert(class.label.as_str()) {
                return wrong("expected each label once, got one again");
            }
            if class.present.is_empty() {
                return wrong("expected at least one prompt, got none");
            }
            if class
                .present
                .iter()
                .chain(&class.absent)
                .any(|p| p.trim().is_empty())
            {
                return wrong("expected prompts, got an empty one");
            }
            match (self.kind, class.absent.is_empty()) {
                (PromptKind::BinaryPerFinding, true) => {
                    return wrong("expected absent prompts for binary_per_finding, got none");
                }
                (PromptKind::Multiclass, false) => {
                    return wrong("expected no absent prompts for multiclass, got some");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every prompt once, in the order of first mention.
    pub fn distinct_prompts(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let prompts = self
            .classes
            .iter()
            .flat_map(|c| c.present.iter().chain(&c.absent));
        prompts
            .map(String::as_str)
            .filter(|prompt| seen.insert(*prompt))
            .collect()
    }

    fn checked(self) -> Result<Self> {
        self.check().map_err(Error::BadConfig)?;
        Ok(self)
    }
}

/// Labels with prompts in the order of the file; serde's maps would sort them and hide a label given twice.
struct Labels(Vec<(String, Prompts)>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Labels;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of labels with prompts")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    labels.push(entry);
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The text of a file, of which no more than the limit is read.
fn read_limited(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Limit {
            what: "prompt file in bytes",
            got: bytes.len() as u64,
            limit: MAX_FILE_BYTES,
        });
    }
    let not_text = |_| {
        Error::BadConfig(format!(
            "prompts: expected a file in UTF-8: {}",
            path.display()
        ))
    };
    String::from_utf8(bytes).map_err(not_text)
}
