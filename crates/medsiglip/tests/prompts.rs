//! Prompt sets: the published ones, and the files that users write.

use medsiglip::zero_shot::{PromptKind, PromptSet};
use serde_json::Value;

#[test]
fn every_published_task_parses_under_its_own_name() {
    let names = PromptSet::task_names();
    assert_eq!(names.len(), 14);
    for name in names {
        let set = PromptSet::task(name).unwrap();
        assert_eq!(set.name, name);
        set.check().unwrap();
    }
    let error = PromptSet::task("cxr").unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(error.to_string().contains("skin_conditions"), "{error}");
}

#[test]
fn sizes_are_those_of_the_report() {
    let classes = |name| PromptSet::task(name).unwrap().classes.len();
    assert_eq!(classes("cxr_findings"), 13);
    assert_eq!(classes("diabetic_retinopathy"), 5);
    assert_eq!(classes("tcga_study_types"), 10);
    assert_eq!(classes("tissue_types"), 16);
    assert_eq!(classes("skin_conditions"), 79);
    let cxr = PromptSet::task("cxr_findings").unwrap();
    assert_eq!(cxr.kind, PromptKind::BinaryPerFinding);
    assert_eq!(cxr.classes[0].label, "Atelectasis");
    assert_eq!(cxr.classes[0].absent.len(), 2);
    let said = cxr.classes.iter().map(|c| c.present.len() + c.absent.len());
    assert!(cxr.distinct_prompts().len() < said.sum());
}

#[test]
fn published_tasks_are_those_of_the_tables() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/reference/prompts.json"
    );
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no reference prompts beside the repository");
        return;
    };
    let tables: Value = serde_json::from_str(&text).unwrap();
    let tasks = tables["tasks"].as_object().unwrap();
    // Three more are for public data.
    assert_eq!(tasks.len() + 3, PromptSet::task_names().len());
    let strings = |v: &Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap() };
    for (name, task) in tasks {
        let set = PromptSet::task(name).unwrap();
        let binary = set.kind == PromptKind::BinaryPerFinding;
        let key = if binary { "findings" } else { "classes" };
        let labels = task[key].as_object().unwrap();
        assert_eq!(set.classes.len(), labels.len(), "{name}");
        for class in &set.classes {
            let prompts = &labels[&class.label];
            if binary {
                assert_eq!(class.present, strings(&prompts["present"]));
                assert_eq!(class.absent, strings(&prompts["absent"]));
            } else {
                assert_eq!(class.present, strings(prompts));
            }
        }
        // serde_json sorts keys: the order is checked on the text.
        let from = text.find(&format!("\"{name}\"")).unwrap();
        let mut at = from + text[from..].find(&format!("\"{key}\"")).unwrap();
        for class in &set.classes {
            let label = serde_json::to_string(&class.label).unwrap();
            let found = text[at..].find(&format!("{label}: "));
            at += found.unwrap_or_else(|| panic!("{name}: {label} is out of order"));
        }
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let good =
        "name = \"x\"\nkind = \"multiclass\"\n[[classes]]\nlabel = \"a\"\npresent = [\"p\"]\n";
    PromptSet::from_toml(good).unwrap();
    for (text, what) in [
        (
            format!("{good}colour = 1\n"),
            "line 6: unknown field `colour`",
        ),
        (format!("typo = 1\n{good}"), "unknown field `typo`"),
        (good.replace("multiclass", "multi"), "unknown variant"),
        (good.replace("[\"p\"]", "[]"), "at least one prompt"),
        (good.replace("[\"p\"]", "[\" \"]"), "empty one"),
        (good.replace("\"a\"", "\"\""), "expected a label"),
        (
            good.replace("multiclass", "binary_per_finding"),
            "absent prompts",
        ),
        (format!("{good}absent = [\"n\"]\n"), "no absent prompts"),
        (
            format!("{good}[[classes]]\nlabel = \"a\"\npresent = [\"q\"]\n"),
            "each label once",
        ),
        (
            "name = \"x\"\nkind = \"multiclass\"\nclasses = []\n".into(),
            "at least one class",
        ),
        ("name = ".into(), "line 1"),
    ] {
        let error = PromptSet::from_toml(&text).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        assert!(error.to_string().contains(what), "{error}: expected {what}");
    }
}

#[test]
fn json_keeps_the_order_and_finds_doubles() {
    let set = PromptSet::from_json(r#"{"b": ["p", "q"], "a": "r"}"#, "mine").unwrap();
    assert_eq!(
        (set.name.as_str(), set.kind),
        ("mine", PromptKind::Multiclass)
    );
    assert_eq!(set.classes[0].label, "b");
    assert_eq!(set.classes[1].present, ["r"]);
    for text in [
        "{\"a\": [\"p\"], \"a\": [\"q\"]}",
        "{}",
        "[]",
        "{\"a\": 1}",
        "{",
    ] {
        assert_eq!(
            PromptSet::from_json(text, "x").unwrap_err().code(),
            "BAD_CONFIG"
        );
    }
}

#[test]
fn a_file_is_read_by_its_extension() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let json = write("lungs.JSON", r#"{"clear": ["no finding"]}"#);
    assert_eq!(PromptSet::from_file(json).unwrap().name, "lungs");
    let toml = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/configs/prompts/breast_np.toml"
    );
    assert_eq!(
        PromptSet::from_file(toml).unwrap(),
        PromptSet::task("breast_np").unwrap()
    );
    let code = |path| PromptSet::from_file(path).unwrap_err().code();
    assert_eq!(code(write("x.csv", "a\nb\n")), "BAD_CONFIG");
    assert_eq!(code(write("x.toml", "x = 1")), "BAD_CONFIG");
    let not_utf8 = folder.path().join("latin1.toml");
    std::fs::write(&not_utf8, b"name = \"\xE4\"").unwrap();
    assert_eq!(code(not_utf8), "BAD_CONFIG");
    assert_eq!(code(folder.path().join("absent.toml")), "IO_ERROR");
}

#[test]
fn labels_are_their_own_prompts() {
    let set = PromptSet::from_labels(&["left lung", "right lung"]).unwrap();
    assert_eq!(set.classes[1].present, ["right lung"]);
    for labels in [&[][..], &["a", "a"], &["a", " "]] {
        assert_eq!(
            PromptSet::from_labels(labels).unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}
