//! What queries are made of: sums, ranks, groups, likeness, exclusions.

use medsiglip::index::{Found, Fusion, Item, LocalStore, Precision, Query, Store, Term};
use serde_json::json;

use crate::{about, map, numbers, units};

const DIM: usize = 12;

/// Sixty items, three of each of twenty patients; of each patient the last two are nearly the same.
fn store(folder: &tempfile::TempDir) -> (LocalStore, Vec<f32>) {
    let mut store =
        LocalStore::create(&folder.path().join("s"), &about(DIM, Precision::F32)).unwrap();
    let mut rows = units(numbers(4, DIM * 60), DIM);
    for i in (2..60).step_by(3) {
        rows.copy_within((i - 1) * DIM..i * DIM, i * DIM);
        rows[i * DIM] += 1e-3;
    }
    let item = |(i, row): (usize, &[f32])| Item {
        id: format!("{i:02}"),
        content: None,
        embedding: row.to_vec(),
        metadata: match i {
            59 => map(json!({})),
            _ => map(json!({"patient": format!("p{}", i / 3), "number": i})),
        },
    };
    let items: Vec<Item> = rows.chunks_exact(DIM).enumerate().map(item).collect();
    store.put(&items).unwrap();
    (store, units(rows, DIM))
}

fn term(row: &[f32], weight: f64) -> Term {
    Term {
        embedding: row.iter().map(|x| x * 3.0).collect(),
        weight,
    }
}

fn ids(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.hit.id.as_str()).collect()
}

/// Cosines of all items with a vector.
fn cosines(rows: &[f32], with: &[f64]) -> Vec<f64> {
    let norm = with.iter().map(|x| x * x).sum::<f64>().sqrt();
    let cosine = |row: &[f32]| {
        row.iter()
            .zip(with)
            .map(|(a, b)| f64::from(*a) * b)
            .sum::<f64>()
            / norm
    };
    rows.chunks_exact(DIM).map(cosine).collect()
}

fn order(scores: &[f64]) -> Vec<String> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.into_iter().map(|i| format!("{i:02}")).collect()
}

#[test]
fn a_sum_is_searched_for_by_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (store, rows) = store(&folder);
    let (a, b) = (&rows[..DIM], &rows[9 * DIM..10 * DIM]);
    for weights in [(1.0, 0.9), (1.0, 0.2), (1.0, -0.7)] {
        let terms = vec![term(a, weights.0), term(b, weights.1)];
        let query = Query {
            terms,
            k: 20,
            ..Query::default()
        };
        let found = query.ask(&store).unwrap();
        let sum: Vec<f64> = a
            .iter()
            .zip(b)
            .map(|(a, b)| weights.0 * f64::from(*a) + weights.1 * f64::from(*b))
            .collect();
        let expected = cosines(&rows, &sum);
        assert_eq!(ids(&found), order(&expected)[..20]);
        for (place, found) in found.iter().enumerate() {
            let own: usize = found.hit.id.parse().unwrap();
            assert_eq!(found.rank, place + 1);
            assert!((found.score - expected[own]).abs() < 1e-5);
            let of_b: Vec<f64> = b.iter().map(|x| f64::from(*x)).collect();
            assert!((found.cosines[1] - cosines(&rows, &of_b)[own]).abs() < 1e-5);
        }
        let query = Query {
            min_cosine: Some(found[7].hit.cosine),
            ..query
        };
        assert_eq!(query.ask(&store).unwrap().len(), 8);
    }
}

#[test]
fn ranks_are_fused_by_their_reciprocals() {
    let folder = tempfile::tempdir().unwrap();
    let (store, rows) = store(&folder);
    let wanted = [(0, 1.0), (9, 2.0), (30, 0.5)];
    let row = |i: usize| &rows[i * DIM..(i + 1) * DIM];
    let query = Query {
        terms: wanted
            .iter()
            .map(|(i, weight)| term(row(*i), *weight))
            .collect(),
        fusion: Fusion::ReciprocalRank,
        k: 60,
        ..Query::default()
    };
    let mut scores = vec![0.0; 60];
    for (i, weight) in wanted {
        let of: Vec<f64> = row(i).iter().map(|x| f64::from(*x)).collect();
        for (place, id) in order(&cosines(&rows, &of)).iter().enumerate() {
            scores[id.parse::<usize>().unwrap()] += weight / (61.0 + place as f64);
        }
    }
    let found = query.ask(&store).unwrap();
    assert_eq!(ids(&found), order(&scores));
    for found in &found {
        assert!((found.score - scores[found.hit.id.parse::<usize>().unwrap()]).abs() < 1e-12);
    }
    // The least cosine is one of cosines, whatever the order is by.
    let mut near: Vec<f64> = found.iter().map(|found| found.hit.cosine).collect();
    near.sort_by(|a, b| b.total_cmp(a));
    let query = Query {
        min_cosine: Some(near[6]),
        ..query
    };
    let least = query.ask(&store).unwrap();
    assert_eq!(least.len(), 7);
    assert!(least.iter().all(|found| found.hit.cosine >= near[6]));
    let negative = Query {
        terms: vec![term(row(0), 1.0), term(row(3), -1.0)],
        ..query
    };
    assert_eq!(negative.ask(&store).unwrap_err().code(), "BAD_ARGUMENT");
}

#[test]
fn groups_likeness_and_exclusions_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let (store, rows) = store(&folder);
    let own: Vec<f64> = rows[..DIM].iter().map(|x| f64::from(*x)).collect();
    let all = order(&cosines(&rows, &own));
    let patient = |id: &String| match id.as_str() {
        "59" => None,
        id => Some(id.parse::<usize>().unwrap() / 3),
    };
    let query = |change: &dyn Fn(&mut Query)| {
        let mut query = Query {
            terms: vec![term(&rows[..DIM], 1.0)],
            k: 18,
            ..Query::default()
        };
        change(&mut query);
        query
            .ask(&store)
            .unwrap()
            .into_iter()
            .map(|found| found.hit.id)
            .collect::<Vec<_>>()
    };
    // One hit a patient: the best of each; an item without one is by itself.
    let mut seen = std::collections::HashSet::new();
    let firsts: Vec<String> = all
        .iter()
        .filter(|id| patient(id).is_none_or(|p| seen.insert(p)))
        .cloned()
        .collect();
    assert_eq!(
        query(&|q| q.per_group = Some(("patient".into(), 1))),
        firsts[..18]
    );
    assert_eq!(
        query(&|q| (q.per_group, q.k) = (Some(("patient".into(), 1)), 100)),
        firsts
    );
    // Nearly the same pictures: the better of both.
    let mut kept = Vec::new();
    for id in &all {
        let number: usize = id.parse().unwrap();
        let twin = if number % 3 == 2 {
            number - 1
        } else {
            number + 1
        };
        let is_twin = !number.is_multiple_of(3) && kept.contains(&format!("{twin:02}"));
        if !is_twin {
            kept.push(id.clone());
        }
    }
    assert_eq!(query(&|q| (q.distinct, q.k) = (Some(0.999), 100)), kept);
    // The query itself, and all of its patient.
    assert_eq!(query(&|q| q.without = ["00".to_owned()].into()), all[1..19]);
    let others: Vec<String> = all
        .iter()
        .filter(|id| patient(id) != Some(0))
        .cloned()
        .collect();
    assert_eq!(
        query(&|q| q.unlike.push(("patient".into(), json!("p0")))),
        others[..18]
    );
    // And with a filter.
    let low: Vec<String> = others
        .iter()
        .filter(|id| id.as_str() < "30")
        .cloned()
        .collect();
    let filtered = query(&|q| {
        q.unlike.push(("patient".into(), json!("p0")));
        (q.filter, q.k) = (Some("number < 30".parse().unwrap()), 100);
    });
    assert_eq!(filtered, low);
}

#[test]
fn queries_that_ask_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, rows) = store(&folder);
    let row = &rows[..DIM];
    for terms in [
        vec![],
        vec![term(row, 0.0)],
        vec![term(row, f64::NAN)],
        vec![term(row, 1.0), term(row, -1.0)],
        vec![term(&row[1..], 1.0)],
        vec![term(&[0.0; DIM], 1.0)],
    ] {
        let query = Query {
            terms,
            k: 3,
            ..Query::default()
        };
        assert_eq!(query.ask(&store).unwrap_err().code(), "BAD_ARGUMENT");
    }
}
