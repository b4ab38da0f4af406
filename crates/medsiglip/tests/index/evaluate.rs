//! Measures of retrieval beside the same worked out by hand.

use medsiglip::embedding::Embeddings;
use medsiglip::index::evaluate::{Collection, Measured, by_pairs, by_text};
use medsiglip::metrics::{Bootstrap, Resampling};

use crate::numbers;

fn value(all: &[Measured], name: &str) -> f64 {
    let one = all.iter().find(|measured| measured.name == name).unwrap();
    one.samples.value.unwrap()
}

fn bootstrap(items: usize, groups: Option<&[usize]>) -> Bootstrap {
    let how = Resampling {
        groups,
        replicates: 200,
        ..Resampling::default()
    };
    Bootstrap::new(items, &how).unwrap()
}

/// Six items on a circle, by their angle in degrees.
fn circle() -> Collection {
    let angles = [0.0f32, 10.0, 25.0, 45.0, 70.0, 100.0];
    let points = angles.iter().flat_map(|angle| {
        [
            angle.to_radians().cos() * 3.0,
            angle.to_radians().sin() * 3.0,
        ]
    });
    Collection {
        embeddings: Embeddings::new(2, points.collect()).unwrap(),
        classes: vec![Some(0), Some(0), Some(1), Some(0), Some(1), None],
        groups: vec![0, 0, 1, 2, 3, 4],
    }
}

#[test]
fn items_ask_for_their_class_and_not_for_their_group() {
    let all = circle();
    let found = all
        .by_items(&[0, 1, 2, 3, 4, 5], &[1, 2], &bootstrap(6, None))
        .unwrap();
    // 0 and 1: of 2, 3, 4 (1 and 0 are of their group) 3 is right, at rank 2. 2: of 1, 3, 0, 4 (15, 20, 25 and 45 degrees
    // away) 4 is right, at rank 4. 3: of 2, 4, 1, 0 (20, 25, 35, 45) 1 and 0 are, at 3 and 4. 4: of 3, 2, 1, 0 2 is, at rank 2.
    assert_eq!(value(&found, "precision@1"), 0.0);
    assert!((value(&found, "precision@2") - 3.0 * 0.5 / 5.0).abs() < 1e-12);
    let mrr = (0.5 + 0.5 + 0.25 + 1.0 / 3.0 + 0.5) / 5.0;
    assert!((value(&found, "MRR") - mrr).abs() < 1e-12);
    let map = (0.5 + 0.5 + 0.25 + (1.0 / 3.0 + 2.0 / 4.0) / 2.0 + 0.5) / 5.0;
    assert!((value(&found, "mAP") - map).abs() < 1e-12);
    assert_eq!(value(&found, "median rank"), 2.0);
    let chance = (1.0 / 3.0 + 1.0 / 3.0 + 0.25 + 0.5 + 0.25) / 5.0;
    assert!((value(&found, "chance") - chance).abs() < 1e-12);
}

#[test]
fn a_text_asks_for_what_is_relevant() {
    let first = [true, true, false, true, false].map(Some);
    let relevant = [&first[..], &[None]].concat();
    let cosines = [0.9, 0.8, 0.7, 0.6, 0.5, 1.0];
    let found = by_text(&cosines, &relevant, &[1, 2, 3, 10], &bootstrap(6, None)).unwrap();
    assert_eq!(value(&found, "precision@1"), 1.0);
    assert_eq!(value(&found, "precision@2"), 1.0);
    assert!((value(&found, "precision@3") - 2.0 / 3.0).abs() < 1e-12);
    assert!((value(&found, "precision@10") - 0.3).abs() < 1e-12);
    assert!((value(&found, "average precision") - (1.0 + 1.0 + 0.75) / 3.0).abs() < 1e-12);
    assert!((value(&found, "chance") - 0.6).abs() < 1e-12);
    let other: Vec<Option<bool>> = relevant.iter().map(|own| Some(!(*own)?)).collect();
    let found = by_text(
        &[0.1, 0.2, 0.9, 0.4, 0.3, 1.0],
        &other,
        &[1],
        &bootstrap(6, None),
    )
    .unwrap();
    assert_eq!(value(&found, "precision@1"), 1.0);
    assert!((value(&found, "average precision") - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    // Constant scores find nothing.
    let found = by_text(&[0.5; 6], &relevant, &[1, 2], &bootstrap(6, None)).unwrap();
    assert_eq!(value(&found, "precision@2"), 0.0);
}

#[test]
fn pairs_are_found_both_ways() {
    let items = Embeddings::new(2, vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
    let queries = Embeddings::new(2, vec![5.0, 1.0, 1.0, 4.0, 9.0, 0.0]).unwrap();
    // The first is found at once, the second too; the third asks for what is second best.
    let found = by_pairs(
        &queries,
        &items,
        |q, i| [0, 1, 2][q] == i,
        &[1, 2],
        &bootstrap(3, None),
    )
    .unwrap();
    assert!((value(&found, "recall@1") - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(value(&found, "recall@2"), 1.0);
    assert!((value(&found, "MRR") - 2.5 / 3.0).abs() < 1e-12);
    assert_eq!(value(&found, "median rank"), 1.0);
}

#[test]
fn noise_is_no_better_than_chance_and_a_signal_is() {
    let (n, dim) = (240, 8);
    let noise = numbers(12, n * dim);
    let groups: Vec<usize> = (0..n).map(|i| i / 2).collect();
    for (signal, is_found) in [(0.0, false), (2.0, true)] {
        let mut rows = noise.clone();
        (0..n).for_each(|i| rows[i * dim + i / 2 % 3] += signal);
        let all = Collection {
            embeddings: Embeddings::new(dim, rows).unwrap(),
            classes: (0..n).map(|i| Some(i / 2 % 3)).collect(),
            groups: groups.clone(),
        };
        let queries: Vec<usize> = (0..n).collect();
        let found = all
            .by_items(&queries, &[10], &bootstrap(n, Some(&groups)))
            .unwrap();
        let interval = found[0].samples.estimate(0.95).unwrap().unwrap();
        assert_eq!(interval.low > 0.4, is_found, "{interval:?}");
        assert_eq!(interval.high < 0.4, !is_found, "{interval:?}");
    }
}

#[test]
fn lengths_that_differ_are_refused() {
    let mut all = circle();
    all.groups.pop();
    let wrong = all.by_items(&[0], &[1], &bootstrap(1, None)).unwrap_err();
    assert_eq!(wrong.code(), "BAD_ARGUMENT");
    for (queries, draws) in [(vec![0, 6], 2), (vec![0, 1], 3)] {
        let wrong = circle().by_items(&queries, &[1], &bootstrap(draws, None));
        assert_eq!(wrong.unwrap_err().code(), "BAD_ARGUMENT");
    }
    for (cosines, draws) in [(2, 3), (3, 2)] {
        let wrong = by_text(
            &vec![0.5; cosines],
            &[Some(true); 3],
            &[1],
            &bootstrap(draws, None),
        );
        assert_eq!(wrong.unwrap_err().code(), "BAD_ARGUMENT");
    }
    let narrow = Embeddings::new(1, vec![1.0]).unwrap();
    let wrong = by_pairs(
        &narrow,
        &circle().embeddings,
        |_, _| true,
        &[1],
        &bootstrap(1, None),
    )
    .unwrap_err();
    assert_eq!(wrong.code(), "BAD_ARGUMENT");
}
