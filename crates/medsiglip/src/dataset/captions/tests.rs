use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::dataset::Location;
use crate::dataset::random::{Purpose, generator};

fn captions(toml: &str) -> Captions {
    let toml = format!("name = \"s\"\nfolder = \"f\"\n{toml}");
    Captions::new(&toml::from_str(&toml).unwrap()).unwrap()
}

fn example(captions: &[&str], labels: &[(&str, &str)]) -> Example {
    let text = |(column, value): &(&str, &str)| ((*column).to_owned(), (*value).to_owned());
    Example {
        id: "e".into(),
        picture: Location::File("e.png".into()),
        place: String::new(),
        captions: captions.iter().map(|c| (*c).to_owned()).collect(),
        labels: labels.iter().map(text).collect(),
        group: None,
    }
}

/// All captions that a thousand draws give.
fn drawn(captions: &Captions, example: &Example) -> BTreeSet<String> {
    let random = |draw| generator(1, Purpose::Caption, [draw, 0]);
    (0..1000)
        .map(|draw| captions.draw(example, &mut random(draw)).unwrap())
        .collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn captions_and_fitting_templates_are_all_drawn() {
    let made = captions("templates = [\"an x-ray of {label}\", \"{label}, {view}\", \"x-ray\"]");
    let example = example(&["one", "two"], &[("label", "effusion")]);
    assert_eq!(
        drawn(&made, &example),
        set(&["one", "two", "an x-ray of effusion", "x-ray"])
    );
    assert_eq!(made.first(&example).unwrap(), "one");
}

#[test]
fn each_is_as_likely_as_the_other() {
    let made = captions("templates = [\"x\", \"y\"]");
    let example = example(&["one", "two"], &[]);
    let mut count = 0;
    for draw in 0..10_000 {
        let mut random = generator(3, Purpose::Caption, [draw, 0]);
        count += u32::from(made.draw(&example, &mut random).unwrap() == "x");
    }
    // Five standard deviations of a binomial of 1/4.
    assert!((2284..2717).contains(&count), "{count}");
}

#[test]
fn texts_of_labels_are_captions_or_words_of_templates() {
    let texts = "[label_texts.grade]\n0 = [\"no retinopathy\", \"healthy\"]\n1 = [\"mild\"]\n";
    let alone = captions(texts);
    let zero = example(&[], &[("grade", "0")]);
    assert_eq!(drawn(&alone, &zero), set(&["no retinopathy", "healthy"]));
    let with = captions(&format!("templates = [\"fundus: {{grade}}\"]\n{texts}"));
    assert_eq!(
        drawn(&with, &zero),
        set(&["fundus: no retinopathy", "fundus: healthy"])
    );
    assert_eq!(with.first(&zero).unwrap(), "fundus: no retinopathy");
    // A value without a text fits nothing.
    assert_eq!(with.first(&example(&[], &[("grade", "4")])), None);
    assert_eq!(with.first(&example(&[], &[])), None);
}

#[test]
fn several_values_are_joined() {
    let texts = "templates = [\"signs of {findings}\"]\n[label_texts.findings]\n\
                 Effusion = [\"effusion\"]\nMass = [\"a mass\"]";
    let both = example(&[], &[("findings", "Effusion| Mass|Nodule")]);
    assert_eq!(
        captions(texts).first(&both).unwrap(),
        "signs of effusion, a mass"
    );
    let plain = captions("templates = [\"{findings}\"]");
    assert_eq!(plain.first(&both).unwrap(), "Effusion, Mass, Nodule");
}

#[test]
fn a_template_with_a_lone_brace_is_refused() {
    for text in ["", "  ", "{", "a }", "{}", "{a", "a} {b}", "{a}}"] {
        assert_eq!(
            Template::parse(text).unwrap_err().code(),
            "BAD_CONFIG",
            "{text}"
        );
    }
}

#[test]
fn all_captions_are_those_that_draws_give() {
    let source = r#"
        name = "x"
        manifest = "x.csv"
        templates = ["{label}", "a picture of {label}, {view}", "{unknown}"]
        label_texts.label.a = ["one", "two"]
        label_texts.label.b = ["three", "four", "five"]
    "#;
    let captions = Captions::new(&toml::from_str(source).unwrap()).unwrap();
    let labels = [("label", "a|b|c"), ("view", "PA")];
    let example = Example {
        id: "x".into(),
        picture: Location::File("x.png".into()),
        place: String::new(),
        captions: vec!["given".into()],
        labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
        group: None,
    };
    let mut all = captions.all(&example).unwrap();
    let mut random = generator(1, Purpose::Caption, [0, 0]);
    let mut drawn: Vec<_> = (0..2000)
        .map(|_| captions.draw(&example, &mut random).unwrap())
        .collect();
    drawn.sort();
    drawn.dedup();
    all.sort();
    assert_eq!(all.len(), 1 + 6 + 6);
    assert_eq!(drawn, all);
}

proptest! {
    /// What can be given is what is written out, whatever begins like what.
    #[test]
    fn a_caption_may_be_given_where_it_is_among_all(
        templates in prop::collection::vec("[ab, ]{0,2}(\\{[xy]\\}[ab, ]{0,2}){0,2}", 1..4),
        texts in prop::collection::btree_map("[ab]", prop::collection::vec("[ab, ]{1,3}", 1..3), 0..3),
        labels in prop::collection::btree_map("[xy]", "[ab]{0,2}(\\| ?[abc]){0,2}", 0..3),
        others in prop::collection::vec("[ab, ]{0,8}", 0..20),
    ) {
        let templates = templates.iter().filter_map(|t| Template::parse(t).ok());
        let captions = Captions {
            templates: templates.collect(),
            texts: [("x".to_owned(), texts)].into(),
        };
        let example = Example { labels, ..example(&["aba"], &[]) };
        let all = captions.all(&example).unwrap();
        for caption in &all {
            prop_assert!(captions.may_give(&example, caption), "{caption:?}");
        }
        for other in &others {
            prop_assert_eq!(captions.may_give(&example, other), all.contains(other));
        }
    }
}
