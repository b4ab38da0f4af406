use proptest::prelude::*;

use super::*;
use crate::dataset::testing::{labelled, open, pictures, write};
use crate::dataset::{Example, Location, SourceConfig};

/// A source of examples with these groups and labels, whose pictures are never read.
fn source(of: &[(Option<u8>, u8)], stratify: bool) -> Source {
    let (_folder, mut source) = labelled(1, "group = \"group\"");
    let config: SourceConfig = source.config;
    let example = |(number, (group, label)): (usize, &(Option<u8>, u8))| Example {
        id: number.to_string(),
        picture: Location::File(number.to_string().into()),
        place: String::new(),
        captions: Vec::new(),
        labels: [("label".to_owned(), label.to_string())].into(),
        group: group.map(|g| g.to_string()),
    };
    source.examples = of.iter().enumerate().map(example).collect();
    source.config = SourceConfig {
        stratify: stratify.then(|| "label".to_owned()),
        ..config
    };
    source
}

fn count(sides: &[Side], side: Side) -> usize {
    sides.iter().filter(|s| **s == side).count()
}

proptest! {
    #[test]
    fn no_group_crosses_and_shares_are_exact_to_a_unit(
        of in prop::collection::vec((prop::option::of(0..20_u8), 0..3_u8), 1..200),
        val in 0.0..0.4_f64, test in 0.0..0.4_f64, seed in any::<u64>(), stratify in any::<bool>(),
        joined in prop::collection::vec((0..200_usize, 0..200_usize), 0..5),
    ) {
        let source = source(&of, stratify);
        let joined: Vec<_> = joined.into_iter().filter(|(a, b)| *a < of.len() && *b < of.len()).collect();
        let shares = Shares { val, test };
        let sides = split(&source, shares, seed, &joined).unwrap();
        prop_assert_eq!(&sides, &split(&source, shares, seed, &joined).unwrap());
        for (a, example) in source.examples.iter().enumerate() {
            for (b, other) in source.examples.iter().enumerate() {
                if example.group.is_some() && example.group == other.group {
                    prop_assert_eq!(sides[a], sides[b]);
                }
            }
        }
        for (a, b) in &joined {
            prop_assert_eq!(sides[*a], sides[*b]);
        }
        let largest = units(&source, &joined).iter().map(Vec::len).max().unwrap();
        for (side, share) in [(Side::Val, val), (Side::Test, test)] {
            let off = count(&sides, side) as f64 - share * of.len() as f64;
            prop_assert!(off.abs() <= 2.0 * largest as f64, "{side:?}: {off} of units up to {largest}");
        }
    }
}

#[test]
fn every_stratum_has_the_shares() {
    let of: Vec<(Option<u8>, u8)> = (0..1000).map(|i| (None, u8::from(i % 10 == 0))).collect();
    let shares = Shares {
        val: 0.1,
        test: 0.2,
    };
    let stratified = source(&of, true);
    for seed in 0..20 {
        let sides = split(&stratified, shares, seed, &[]).unwrap();
        assert_eq!(
            Side::ALL.map(|side| count(&sides, side)),
            [700, 100, 200],
            "{seed}"
        );
        let of_rare: Vec<Side> = (0..1000).step_by(10).map(|i| sides[i]).collect();
        let rare = Side::ALL.map(|side| count(&of_rare, side));
        for (got, want) in rare.into_iter().zip([70_usize, 10, 20]) {
            assert!(got.abs_diff(want) <= 2, "{rare:?}");
        }
    }
    let [one, other] = [1, 2].map(|seed| split(&stratified, shares, seed, &[]).unwrap());
    assert_ne!(one, other);
}

#[test]
fn all_can_go_to_one_side() {
    let source = source(&[(None, 0); 10], false);
    for (val, test, side) in [
        (0.0, 0.0, Side::Train),
        (1.0, 0.0, Side::Val),
        (0.0, 1.0, Side::Test),
    ] {
        let sides = split(&source, Shares { val, test }, 1, &[]).unwrap();
        assert_eq!(sides, [side; 10]);
    }
    for (val, test) in [(0.6, 0.6), (-0.1, 0.0), (f64::NAN, 0.0)] {
        let error = split(&source, Shares { val, test }, 1, &[]).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
    }
}

#[test]
fn a_column_can_say_the_split() {
    let folder = pictures(3);
    let make = |text: &str| {
        write(folder.path(), "list.csv", text.as_bytes());
        let toml =
            "manifest = \"list.csv\"\nsplit = \"part\"\ngroup = \"who\"\nlabels = [\"part\"]";
        split(
            &open(toml, folder.path()).unwrap(),
            Shares {
                val: 0.5,
                test: 0.0,
            },
            1,
            &[],
        )
    };
    let sides = make("path,part,who\n0.pgm,train,a\n1.pgm,Validation,b\n2.pgm,test,c\n").unwrap();
    assert_eq!(sides, Side::ALL);
    for (text, expected) in [
        (
            "path,part,who\n0.pgm,train,a\n1.pgm,DOE,b\n2.pgm,,c\n",
            "2 examples name none",
        ),
        (
            "path,part,who\n0.pgm,train,a\n1.pgm,test,a\n2.pgm,test,c\n",
            "1 groups lie on two",
        ),
    ] {
        let error = make(text).unwrap_err().to_string();
        assert!(
            error.contains(expected) && !error.contains("DOE"),
            "{error}"
        );
    }
}

#[test]
fn a_class_that_training_lacks_is_named_where_the_configuration_names_it() {
    let mut source = source(&[(None, 0), (None, 1), (None, 2)], true);
    let sides = [Side::Train, Side::Val, Side::Test];
    // Values of a column are data.
    source.config.label_texts.clear();
    assert_eq!(
        split_warnings(&source, &sides),
        ["source s: 2 values of label are in validation or test and not in training"]
    );
    let texts = [("1".to_owned(), vec!["one".to_owned()])].into();
    source.config.label_texts.insert("label".into(), texts);
    assert_eq!(
        split_warnings(&source, &sides),
        [
            "source s: label = 1 is in validation or test and not in training",
            "source s: 1 values of label are in validation or test and not in training",
        ]
    );
    assert!(split_warnings(&source, &[Side::Train; 3]).is_empty());
}
