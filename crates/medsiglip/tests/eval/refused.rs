//! What is refused before anything is embedded, and without telling a value.

use std::fs;

use super::{CONFIG, KINDS, Lab};

/// The error of a task, where embeddings cannot be read: what is wrong with the task is told first.
fn error(lab: &Lab, config: &str) -> String {
    let config = config.replace("good.csv", "absent.csv");
    lab.run_all(&config).unwrap_err().to_string()
}

fn task(keys: &str, probe: &str) -> String {
    format!(
        "{CONFIG}[[task]]\nname = \"t\"\nsource = \"pictures\"\n{keys}\n[task.probe]\n{probe}\n"
    )
}

#[test]
fn what_is_wrong_with_a_task_is_told_before_its_embeddings_are_made() {
    let lab = Lab::new();
    let classes = "label = \"kind\"";
    for (keys, probe, what) in [
        (
            classes,
            "calibrate = \"platt\"",
            "calibration are for two classes",
        ),
        (
            classes,
            "penalty = { elastic_net = { l1_ratio = 7 } }",
            "l1_ratio from 0 to 1",
        ),
        (
            "label = \"kind\"\nstrata = [\"image\"]",
            "",
            "at most 20 values",
        ),
        (
            "label = \"kind\"\nstrata = [\"patient\"]",
            "",
            "the source's group",
        ),
        ("label = \"patient\"", "", "the source's group"),
        (
            "label = \"listed\"\nmultilabel = true\npositive = [\"nonsense\"]\nclasses = { red = \"Red\" }",
            "",
            "neither positive nor ordered",
        ),
        (
            "label = \"listed\"\nmultilabel = true\nordered = [\"Red\"]\nclasses = { red = \"Red\" }",
            "",
            "neither positive nor ordered",
        ),
        (
            "findings = { a = \"A\" }\nmultilabel = true",
            "",
            "expected label",
        ),
    ] {
        let config = task(keys, probe).replace("\"view\"]", "\"view\", \"image\", \"patient\"]");
        let error = error(&lab, &config);
        assert!(error.contains(what), "{keys} {probe}: {error}");
    }
    // What is right is found wrong where its embeddings are.
    let error = error(&lab, &task(classes, "calibrate = \"temperature\""));
    assert!(error.contains("absent.csv"), "{error}");
}

#[test]
fn a_data_curve_needs_a_side_to_be_tuned_on() {
    let lab = Lab::new();
    let config = format!("{CONFIG}{KINDS}").replace("val = 0.2", "val = 0.0");
    let error = error(&lab, &config);
    assert!(error.contains("tuned on the validation side"), "{error}");
}

#[test]
fn a_column_of_very_many_values_has_no_classes_and_none_is_told() {
    let lab = Lab::new();
    let rows = (0..300).map(|number| format!("{number}.bmp,doe{number},{number}\n"));
    let rows = rows.collect::<String>();
    fs::write(
        lab.path("manifest.csv"),
        format!("image,patient,age\n{rows}"),
    )
    .unwrap();
    let config = task("label = \"age\"", "")
        .replace("stratify = \"kind\"", "pictures = false")
        .replace(
            "[\"kind\", \"a\", \"b\", \"listed\", \"view\"]",
            "[\"age\"]",
        );
    let error = error(&lab, &config);
    assert!(
        error.contains("age has 300 values, expected at most 256") && !error.contains("doe"),
        "{error}"
    );
}
