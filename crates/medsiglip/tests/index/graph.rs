//! Approximate search: what is measured is so, and a store whose graph is damaged, old or behind gives right answers.

use std::fs;
use std::path::{Path, PathBuf};

use medsiglip::embedding::Embeddings;
use medsiglip::index::graph::Builder;
use medsiglip::index::scan::{Vectors, top_k};
use medsiglip::index::{
    Approximation, Filter, Hit, Item, LocalStore, Precision, Store, Tuned, Tuning,
};

use crate::{about, item, numbers};

pub const DIM: usize = 64;

/// Rows of length one around some centres.
pub fn clustered(rows: usize, clusters: usize, spread: f32) -> Vec<f32> {
    let (centres, mut data) = (numbers(5, clusters * DIM), numbers(6, rows * DIM));
    for (i, row) in data.chunks_exact_mut(DIM).enumerate() {
        let centre = &centres[(i * 7919 % clusters) * DIM..][..DIM];
        row.iter_mut()
            .zip(centre)
            .for_each(|(x, c)| *x = *x * spread + c);
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    data
}

fn built(data: &[f32]) -> Builder {
    let rows = data.len() / DIM;
    let mut builder = Builder::new(Vectors::F32(data), DIM, (0..rows as u32).collect());
    assert!(builder.grow(rows, |_| true));
    builder
}

/// The scores of the best by the graph, and by comparing all.
fn scores(builder: &Builder, data: &[f32], query: &[f32], k: usize, ef: usize) -> [Vec<f64>; 2] {
    let vectors = Vectors::F32(data);
    let near = builder.graph().search(vectors, query, k, ef);
    let exact = top_k(vectors, DIM, query, k, None).remove(0);
    [near, exact].map(|best| best.iter().map(|scored| scored.score).collect())
}

#[test]
fn a_walk_that_keeps_all_rows_is_exact() {
    let random = clustered(600, 600, 1.0);
    // Forty rows of each of twenty, more than a row has links.
    let twenty = clustered(20, 20, 0.1);
    let same: Vec<f32> = (0..800)
        .flat_map(|i| twenty[i % 20 * DIM..][..DIM].to_vec())
        .collect();
    let one = same[..DIM].repeat(300);
    for data in [random, same, one] {
        let builder = built(&data);
        for query in clustered(30, 30, 0.5).chunks_exact(DIM) {
            let [near, exact] = scores(&builder, &data, query, 50, data.len() / DIM);
            assert_eq!(near, exact);
        }
    }
}

#[test]
fn most_of_the_nearest_are_found_on_the_way() {
    // One cluster of twenty rows and many of them: nothing leads from one to another.
    for clusters in [250, 20] {
        let all = clustered(5200, clusters, 0.3);
        let (data, queries) = all.split_at(5000 * DIM);
        let builder = built(data);
        let mut found = 0;
        for query in queries.chunks_exact(DIM) {
            let [near, exact] = scores(&builder, data, query, 10, 64);
            found += near.iter().filter(|score| **score >= exact[9]).count();
        }
        assert!(found >= 1970, "{found} of 2000 in {clusters} clusters");
    }
}

#[test]
fn a_graph_is_the_same_however_many_threads_make_it() {
    let data = clustered(2000, 40, 0.5);
    let with = |threads: usize| {
        let pool = rayon_threads(threads);
        pool.install(|| format!("{:?}", built(&data)))
    };
    assert!(with(1) == with(3));
}

fn rayon_threads(threads: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap()
}

pub fn items(data: &[f32]) -> Vec<Item> {
    let rows = data.chunks_exact(DIM).enumerate();
    rows.map(|(i, row)| item(i, row)).collect()
}

fn tune(store: &mut LocalStore) -> Tuned {
    let how = Tuning {
        always: true,
        queries: 100,
        recall: 0.95,
        ..Tuning::default()
    };
    store.tune(&how, &mut |_, _| true).unwrap().unwrap()
}

/// A store of 1500 items that is tuned.
fn tuned(folder: &Path, precision: Precision) -> (LocalStore, Vec<f32>) {
    let data = clustered(1600, 30, 0.5);
    let mut store = LocalStore::create(folder, &about(DIM, precision)).unwrap();
    store.put(&items(&data[..1500 * DIM])).unwrap();
    assert_eq!(store.approximation().unwrap(), Approximation::Absent);
    let tuned = tune(&mut store);
    assert!(tuned.ef.is_some(), "{tuned:?}");
    (store, data)
}

fn hits(store: &LocalStore, query: &[f32]) -> Vec<Hit> {
    let query = Embeddings::new(DIM, query.to_vec()).unwrap();
    store.search(&query, 10, None).unwrap().remove(0)
}

fn behind(store: &LocalStore) -> Option<usize> {
    match store.approximation().unwrap() {
        Approximation::Usable { behind, .. } => Some(behind),
        _ => None,
    }
}

/// How many of the exact hits are found, of all.
fn recall(store: &mut LocalStore, queries: &[f32]) -> f64 {
    let mut found = 0;
    for query in queries.chunks_exact(DIM) {
        let near = hits(store, query);
        store.search_exactly(true);
        let exact = hits(store, query);
        store.search_exactly(false);
        assert_eq!(near.len(), exact.len());
        found += near.iter().filter(|hit| exact.contains(hit)).count();
    }
    found as f64 / (queries.len() / DIM * 10) as f64
}

#[test]
fn a_tuned_store_finds_what_was_asked_for() {
    for precision in [Precision::F32, Precision::F16, Precision::I8] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (store, data) = tuned(&path, precision);
        drop(store);
        let mut store = LocalStore::open(&path).unwrap();
        assert_eq!((behind(&store), store.verify().unwrap()), (Some(0), 1500));
        let recall = recall(&mut store, &data[1500 * DIM..]);
        assert!(recall >= 0.98, "{precision:?}: {recall}");
    }
}

#[test]
fn what_comes_and_goes_after_tuning_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut store, data) = tuned(&path, Precision::F32);
    let query = &data[1500 * DIM..1501 * DIM];
    let best = hits(&store, query);
    // The best three go, the next one becomes something else, and the query itself comes.
    let ids: Vec<String> = best.iter().take(3).map(|hit| hit.id.clone()).collect();
    store.remove(&ids).unwrap();
    let minus: Vec<f32> = query.iter().map(|x| -x).collect();
    let other = Item {
        id: best[3].id.clone(),
        ..item(0, &minus)
    };
    let new = Item {
        id: "new".into(),
        ..item(0, query)
    };
    store.put(&[other, new]).unwrap();
    assert_eq!(behind(&store), Some(2));
    let now = hits(&store, query);
    assert_eq!(now[0].id, "new");
    assert_eq!(now[1..7], best[4..]);
    assert!(recall(&mut store, &data[1500 * DIM..]) >= 0.98);
    // Nearly all go: too few are found on the way.
    let ids: Vec<String> = (0..1490).map(|i| format!("item {i}")).collect();
    store.remove(&ids).unwrap();
    assert_eq!(recall(&mut store, &data[1500 * DIM..]), 1.0);
    store.compact().unwrap();
    assert_eq!(store.approximation().unwrap(), Approximation::Absent);
    assert_eq!(recall(&mut store, &data[1500 * DIM..]), 1.0);
}

/// The file of the graph.
fn file(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut graphs: Vec<PathBuf> = entries
        .filter(|path| name(path).starts_with("graph-"))
        .collect();
    assert_eq!(graphs.len(), 1);
    graphs.remove(0)
}

#[test]
fn a_damaged_graph_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, data) = tuned(&path, Precision::F32);
    drop(store);
    let (file, header) = (file(&path), path.join("graph.json"));
    let (good, text) = (
        fs::read(&file).unwrap(),
        fs::read_to_string(&header).unwrap(),
    );
    let check = |what: &str, is_used: bool| {
        let mut store = LocalStore::open(&path).unwrap();
        assert_eq!(behind(&store).is_some(), is_used, "{what}");
        store.verify().unwrap_err();
        let recall = recall(&mut store, &data[1500 * DIM..]);
        assert!(is_used || recall == 1.0, "{what}");
    };
    let mut bytes = good.clone();
    bytes[5000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    check("a link", false);
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    check("cut off", false);
    fs::remove_file(&file).unwrap();
    check("no file", false);
    bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    check("a vector's byte", true);
    fs::write(&file, &good).unwrap();
    for (from, to) in [
        ("{", ""),
        ("1500", "1499"),
        ("\"degree\": 32", "\"degree\": 33"),
        ("\"k\": 10", "\"k\": 0"),
        ("\"rows\": 1500", "\"rows\": 18446744073709551615"),
    ] {
        fs::write(&header, text.replace(from, to)).unwrap();
        check(from, false);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&header), mode(&path.join("index.sqlite")));
    }
    // Of another store.
    fs::write(&header, &text).unwrap();
    let foreign = folder.path().join("foreign");
    let mut other = LocalStore::create(&foreign, &about(DIM, Precision::F32)).unwrap();
    other.put(&items(&clustered(1500, 1500, 1.0))).unwrap();
    fs::copy(&header, foreign.join("graph.json")).unwrap();
    fs::copy(&file, foreign.join(file.file_name().unwrap())).unwrap();
    assert_eq!(other.approximation().unwrap(), Approximation::Unusable);
    // It is made again.
    fs::write(&header, "{}").unwrap();
    let mut store = LocalStore::open(&path).unwrap();
    tune(&mut store);
    assert_eq!((behind(&store), store.verify().unwrap()), (Some(0), 1500));
}

#[test]
fn tuning_keeps_the_fastest_that_is_good_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut store, _) = tuned(&path, Precision::F32);
    let before = fs::metadata(file(&path)).unwrap().modified().unwrap();
    let ask = |store: &mut LocalStore, recall: f64| {
        let how = Tuning {
            always: true,
            queries: 100,
            recall,
            ..Tuning::default()
        };
        store
            .tune(&how, &mut |_, _| panic!("nothing is to be made"))
            .unwrap()
            .unwrap()
    };
    for wanted in [0.5, 0.9] {
        let tuned = ask(&mut store, wanted);
        let first = tuned
            .points
            .iter()
            .find(|point| point.interval.0 >= wanted)
            .unwrap();
        assert_eq!(tuned.ef, Some(first.ef));
        assert!((tuned.k, tuned.queries, tuned.recall) == (10, 100, wanted));
        assert!(tuned.points.last().unwrap().recall >= 0.999);
        // A hundred queries that miss nothing can still miss three in a hundred.
        assert!(tuned.points.iter().all(|point| point.interval.0 <= 0.97));
    }
    assert_eq!(
        fs::metadata(file(&path)).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn what_is_stopped_or_refused_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, data) = tuned(&folder.path().join("store"), Precision::F32);
    store.put(&items(&data)[1500..]).unwrap();
    let mut told = Vec::new();
    let how = Tuning {
        recall: 0.9,
        ..Tuning::default()
    };
    let stopped = store.tune(&how, &mut |count, all| {
        told.push((count, all));
        count < 700
    });
    assert_eq!(stopped.unwrap(), None);
    assert!(told.last().unwrap().0 >= 700 && told.iter().all(|(_, all)| *all == 1600));
    assert_eq!(behind(&store), Some(100));
    for (k, recall, queries) in [
        (0, 0.9, 10),
        (10, 1.0, 10),
        (10, f64::NAN, 10),
        (10, 0.9, 0),
        (161, 0.9, 100),
        // So few queries cannot show that.
        (10, 0.99, 150),
        (10, 0.985, 1000),
    ] {
        let how = Tuning {
            k,
            recall,
            queries,
            ..Tuning::default()
        };
        assert_eq!(
            store.tune(&how, &mut |_, _| true).unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}

#[test]
fn a_filter_is_searched_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, data) = tuned(&folder.path().join("store"), Precision::F32);
    let filter: Filter = "number >= 1400".parse().unwrap();
    for query in data[1500 * DIM..].chunks_exact(DIM).take(10) {
        let query = Embeddings::new(DIM, query.to_vec()).unwrap();
        let near = store.search(&query, 10, Some(&filter)).unwrap();
        store.search_exactly(true);
        assert_eq!(store.search(&query, 10, Some(&filter)).unwrap(), near);
        store.search_exactly(false);
        assert_eq!(near[0].len(), 10);
    }
}
