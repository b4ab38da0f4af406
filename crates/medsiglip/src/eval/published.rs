//! Numbers of the MedGemma Technical Report, to stand beside measured ones. They are of other data.

use serde::Deserialize;

use super::report::{Method, Published};

const TABLES: &str = include_str!("../../configs/published.toml");
/// Where they stand.
const SOURCE: &str = "MedGemma Technical Report (arXiv 2507.05201v4), tables 15 and 16";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(rename = "result")]
    results: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    task: String,
    #[serde(default)]
    question: String,
    encoder: String,
    method: Method,
    auroc: f64,
    data: String,
}

/// What was published of a task, named as its prompt set; nothing where nothing was.
pub fn published(task: &str) -> Vec<Published> {
    let tables: Tables = toml::from_str(TABLES).expect("compiled in, and read by a test");
    let rows = tables.results.into_iter().filter(|row| row.task == task);
    rows.map(|row| Published {
        encoder: row.encoder,
        method: row.method,
        question: row.question,
        auroc: row.auroc,
        source: format!("{}; {SOURCE}", row.data),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zero_shot::PromptSet;

    #[test]
    fn the_tables_are_read_and_name_the_classes_of_the_prompt_sets() {
        let findings = published("cxr_findings");
        assert_eq!(findings.len(), 28);
        let set = PromptSet::task("cxr_findings").unwrap();
        for one in findings.iter().filter(|one| !one.question.is_empty()) {
            assert!(
                set.classes.iter().any(|c| c.label == one.question),
                "{}",
                one.question
            );
        }
        let retinopathy = published("diabetic_retinopathy");
        let numbers: Vec<f64> = retinopathy.iter().map(|one| one.auroc).collect();
        assert_eq!(numbers, [0.759, 0.857]);
        assert!(published("my own").is_empty());
    }
}
