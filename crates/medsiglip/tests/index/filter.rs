//! Filters: what they mean, the same in SQL, and what is none.

use medsiglip::embedding::Embeddings;
use medsiglip::index::{Filter, Item, LocalStore, Precision, Store};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use crate::{about, map};

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn filters_say_what_they_mean() {
    let metadata = map(json!({
        "modality": "CR", "view": "PA", "age": 61, "dose": 0.5, "urgent": true, "note": null, "it's \"so\"": 1, "a/b.c-d": "x"
    }));
    for (text, expected) in [
        ("modality = \"CR\" and view = 'PA'", true),
        ("modality = 'DX' or view = 'PA'", true),
        ("modality = 'DX' or view = 'AP' and age = 61", false),
        ("(modality = 'DX' or view = 'PA') and age = 61", true),
        ("not modality = 'CR'", false),
        ("NOT (age < 18) AND urgent = TRUE", true),
        ("view in ('AP', 'PA')", true),
        ("age in (60, 61.0)", true),
        (
            "age >= 61 and age <= 61.0 and age > 60.5 and age < 61.5",
            true,
        ),
        ("dose = 0.5 and dose > -1", true),
        ("modality > 'CQ' and modality < 'CS'", true),
        ("modality != 'DX'", true),
        // What is not there, and what is of another type, is in no relation.
        ("absent = 1", false),
        ("absent != 1", false),
        ("not absent = 1", true),
        ("age = '61'", false),
        ("age != '61'", false),
        ("urgent = 1", false),
        ("absent is null", true),
        ("note is null", true),
        ("age is null", false),
        ("age is not null", true),
        ("a/b.c-d = 'x'", true),
        ("`a/b.c-d` = \"x\"", true),
    ] {
        assert_eq!(filter(text).matches(&metadata), expected, "{text}");
    }
    let quoted = map(json!({"name": "O'Brien \"B\""}));
    assert!(filter("name = 'O''Brien \"B\"'").matches(&quoted));
    assert!(filter("name = \"O'Brien \"\"B\"\"\"").matches(&quoted));
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for text in [
        "",
        "=",
        "a",
        "a =",
        "a = b",
        "a = 'b",
        "a = 1 and",
        "(a = 1",
        "a = 1)",
        "a in 1",
        "a in ()",
        "a in (1",
        "a is 1",
        "a = 1 b = 2",
        "a ~ 1",
        "1 = a",
        "a = 1e999",
        "a = nan",
        "a = --1",
        "`a\"b` = 1",
        "a == 1",
        "and",
        "not",
    ] {
        let wrong = text.parse::<Filter>().unwrap_err();
        assert_eq!(wrong.code(), "BAD_ARGUMENT", "{text}");
    }
    let wrong = "modality = 'CR' and view ~ 'PA'"
        .parse::<Filter>()
        .unwrap_err();
    assert!(wrong.to_string().contains("letter 26"), "{wrong}");
    // Neither the length nor the depth is without limit.
    let deep = format!("{}a = 1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(deep.parse::<Filter>().unwrap_err().code(), "LIMIT_EXCEEDED");
    let long = vec!["a = 1"; 50_000].join(" or ");
    assert_eq!(long.parse::<Filter>().unwrap_err().code(), "LIMIT_EXCEEDED");
}

#[test]
fn a_long_filter_is_no_trouble_to_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut store = LocalStore::create(&path, &about(2, Precision::F32)).unwrap();
    let item = |age: i64| Item {
        id: age.to_string(),
        content: None,
        embedding: vec![1.0, 1.0],
        metadata: map(json!({"a": age})),
    };
    store.put(&[item(8998), item(8999)]).unwrap();
    let query = Embeddings::new(2, vec![1.0, 0.0]).unwrap();
    for (joined, expected) in [
        (
            (1..5000)
                .map(|n| format!("a={}", n * 2))
                .collect::<Vec<_>>()
                .join(" or "),
            "8998",
        ),
        (
            format!(
                "a in ({})",
                (1..9000)
                    .map(|n| n.to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            "8998",
        ),
        (
            (0..5000)
                .map(|n| format!("a!={}", n % 10))
                .collect::<Vec<_>>()
                .join(" and "),
            "8998",
        ),
    ] {
        let found = store
            .search(&query, 1, Some(&filter(&joined)))
            .unwrap()
            .remove(0);
        assert_eq!(found[0].id, expected);
    }
}

/// A value for a field, or none.
fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        any::<bool>().prop_map(|b| Some(json!(b))),
        (-2i64..3).prop_map(|n| Some(json!(n))),
        prop_oneof![Just(0.5), Just(-1.0), Just(2.0)].prop_map(|x| Some(json!(x))),
        prop_oneof![Just(""), Just("1"), Just("a'b"), Just("é")].prop_map(|t| Some(json!(t))),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let field = prop_oneof![Just("x"), Just("y"), Just("`z z`")];
    let value = prop_oneof![
        Just("1"),
        Just("-1"),
        Just("0.5"),
        Just("2.0"),
        Just("true"),
        Just("false"),
        Just("''"),
        Just("'1'"),
        Just("'a''b'"),
        Just("'é'")
    ];
    let how = prop_oneof![
        Just("="),
        Just("!="),
        Just("<"),
        Just("<="),
        Just(">"),
        Just(">=")
    ];
    let one = prop_oneof![
        (field.clone(), how, value.clone()).prop_map(|(f, h, v)| format!("{f} {h} {v}")),
        (field.clone(), value.clone(), value).prop_map(|(f, a, b)| format!("{f} in ({a}, {b})")),
        field.prop_map(|f| format!("{f} is null")),
    ];
    one.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not {a}")),
        ]
    })
}

/// What a row has as x, y and z z.
type Fields = (Option<Value>, Option<Value>, Option<Value>);

pub fn fields() -> impl Strategy<Value = Vec<Fields>> {
    proptest::collection::vec((value(), value(), value()), 1..12)
}

pub fn conditions() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(condition(), 8)
}

/// Fills an empty store and compares what it finds with what filters say.
pub fn searches_what_filters_say(
    store: &mut dyn Store,
    rows: &[Fields],
    conditions: Vec<String>,
) -> Result<(), TestCaseError> {
    let metadata = |(x, y, z): &Fields| {
        let fields = [("x", x), ("y", y), ("z z", z)];
        let known = fields
            .into_iter()
            .filter_map(|(name, v)| Some((name.to_owned(), v.clone()?)));
        known.collect::<Map<String, Value>>()
    };
    let item = |(i, row): (usize, &Fields)| Item {
        id: i.to_string(),
        content: None,
        embedding: vec![1.0, i as f32],
        metadata: metadata(row),
    };
    let items: Vec<Item> = rows.iter().enumerate().map(item).collect();
    store.put(&items).unwrap();
    let query = Embeddings::new(2, vec![1.0, 0.0]).unwrap();
    for condition in conditions {
        let filter = filter(&condition);
        let hits = store.search(&query, 100, Some(&filter)).unwrap().remove(0);
        let mut found: Vec<String> = hits.into_iter().map(|hit| hit.id).collect();
        let expected = items.iter().filter(|item| filter.matches(&item.metadata));
        let mut expected: Vec<String> = expected.map(|item| item.id.clone()).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected, "{}", condition);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_store_searches_what_a_filter_says(rows in fields(), conditions in conditions()) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::create(&folder.path().join("s"), &about(2, Precision::F32)).unwrap();
        searches_what_filters_say(&mut store, &rows, conditions)?;
    }
}
