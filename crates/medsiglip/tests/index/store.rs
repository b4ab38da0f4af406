//! The store in a folder: what is put is there, what is damaged or foreign is refused.

use std::fs;
use std::path::Path;

use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::index::{About, Item, LocalStore, Precision, Store};
use serde_json::json;

use crate::{about, item, map, numbers};

const DIM: usize = 24;

fn filled(folder: &Path, precision: Precision, count: usize) -> (LocalStore, Vec<f32>) {
    let mut store = LocalStore::create(folder, &about(DIM, precision)).unwrap();
    let rows = numbers(1, DIM * count);
    let items: Vec<Item> = rows
        .chunks_exact(DIM)
        .enumerate()
        .map(|(i, row)| item(i, row))
        .collect();
    items.chunks(7).for_each(|items| store.put(items).unwrap());
    (store, rows)
}

fn ids(store: &LocalStore, query: &[f32], k: usize) -> Vec<String> {
    let query = Embeddings::new(DIM, query.to_vec()).unwrap();
    let hits = store.search(&query, k, None).unwrap().remove(0);
    hits.into_iter().map(|hit| hit.id).collect()
}

#[test]
fn what_is_put_is_found_after_opening_again() {
    for precision in [Precision::F32, Precision::F16, Precision::I8] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (store, rows) = filled(&path, precision, 50);
        let before = ids(&store, &rows[..DIM], 50);
        drop(store);
        let store = LocalStore::open(&path).unwrap();
        assert_eq!((store.len().unwrap(), store.verify().unwrap()), (50, 50));
        assert_eq!(ids(&store, &rows[..DIM], 50), before);
        for (i, row) in rows.chunks_exact(DIM).enumerate() {
            let query = Embeddings::new(DIM, row.to_vec()).unwrap();
            let hit = store.search(&query, 1, None).unwrap().remove(0).remove(0);
            assert_eq!(hit.id, format!("item {i}"));
            // A whole number is off by up to half a 127th of the largest.
            let off = match precision {
                Precision::F32 => 1e-6,
                Precision::F16 => 1e-3,
                Precision::I8 => 4e-3,
            };
            assert!((hit.cosine - 1.0).abs() < off, "{precision:?}");
            assert_eq!(hit.metadata, item(i, row).metadata);
            let stored = store.get(&hit.id).unwrap().unwrap();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let off = stored
                .embedding
                .iter()
                .zip(row)
                .map(|(a, b)| (a - b / norm).abs());
            assert!(off.fold(0.0, f32::max) < 4e-3, "{precision:?}");
        }
        assert!(store.get("item 50").unwrap().is_none());
    }
}

#[test]
fn items_are_replaced_removed_and_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut store, rows) = filled(&path, Precision::F32, 40);
    // Item 3 becomes what item 30 is, which goes.
    store.put(&[item(3, &rows[30 * DIM..31 * DIM])]).unwrap();
    assert_eq!(
        store.remove(&["item 30".into(), "item 99".into()]).unwrap(),
        1
    );
    let check = |store: &LocalStore| {
        assert_eq!((store.len().unwrap(), store.verify().unwrap()), (39, 39));
        assert_eq!(ids(store, &rows[30 * DIM..31 * DIM], 1), ["item 3"]);
        let all = ids(store, &rows[..DIM], 100);
        assert_eq!(all.len(), 39);
        assert!(!all.contains(&"item 30".to_owned()));
        assert_eq!(store.contents().unwrap().len(), 39);
    };
    check(&store);
    let size = |name: &str| fs::metadata(path.join(name)).unwrap().len();
    assert_eq!(size("vectors-0.bin"), 41 * 4 * DIM as u64);
    let reader = LocalStore::open(&path).unwrap();
    store.compact().unwrap();
    check(&store);
    check(&reader);
    assert!(!path.join("vectors-0.bin").exists());
    assert_eq!(size("vectors-1.bin"), 39 * 4 * DIM as u64);
    check(&LocalStore::open(&path).unwrap());
    store.put(&[item(30, &rows[30 * DIM..31 * DIM])]).unwrap();
    assert_eq!(store.verify().unwrap(), 40);
}

#[test]
fn what_cannot_be_stored_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, rows) = filled(&folder.path().join("store"), Precision::F32, 5);
    let good = item(7, &rows[..DIM]);
    let with = |change: &dyn Fn(&mut Item)| {
        let mut item = item(8, &rows[..DIM]);
        change(&mut item);
        item
    };
    for bad in [
        with(&|item| item.embedding.fill(0.0)),
        with(&|item| item.embedding[3] = f32::NAN),
        with(&|item| item.embedding[3] = f32::INFINITY),
        with(&|item| item.embedding.truncate(DIM - 1)),
        with(&|item| item.id.clear()),
        with(&|item| item.id = "item 7".into()),
    ] {
        let wrong = store.put(&[good.clone(), bad]).unwrap_err();
        assert_eq!(wrong.code(), "BAD_ARGUMENT");
    }
    let large = with(&|item| drop(item.metadata.insert("x".into(), "y".repeat(2 << 20).into())));
    let wrong = store.put(&[good, large]).unwrap_err();
    assert_eq!(wrong.code(), "BAD_ARGUMENT");
    assert_eq!((store.len().unwrap(), store.verify().unwrap()), (5, 5));
    for bad in [vec![0.0; DIM], vec![f32::NAN; DIM], vec![1.0; DIM + 1]] {
        let query = Embeddings::new(bad.len(), bad).unwrap();
        assert_eq!(
            store.search(&query, 1, None).unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}

#[test]
fn a_second_writer_waits_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, rows) = filled(&path, Precision::F32, 0);
    drop((store, rows));
    let rows = numbers(2, DIM * 200);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (path, rows) = (&path, &rows);
            scope.spawn(move || {
                let mut store = LocalStore::open(path).unwrap();
                for i in (writer..200).step_by(2) {
                    store
                        .put(&[item(i, &rows[i * DIM..(i + 1) * DIM])])
                        .unwrap();
                }
            });
        }
    });
    let store = LocalStore::open(&path).unwrap();
    assert_eq!((store.len().unwrap(), store.verify().unwrap()), (200, 200));
    for (i, row) in rows.chunks_exact(DIM).enumerate() {
        assert_eq!(ids(&store, row, 1), [format!("item {i}")]);
    }
}

/// What a writer leaves that was killed between writing vectors and naming them.
#[test]
fn vectors_that_nobody_names_are_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, rows) = filled(&path, Precision::F32, 6);
    drop(store);
    let file = path.join("vectors-0.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend(vec![0xFF; 3 * 4 * DIM - 5]);
    fs::write(&file, bytes).unwrap();
    let mut store = LocalStore::open(&path).unwrap();
    assert_eq!(ids(&store, &rows[..DIM], 10).len(), 6);
    store.put(&[item(6, &numbers(5, DIM))]).unwrap();
    assert_eq!(store.verify().unwrap(), 7);
    assert_eq!(ids(&store, &numbers(5, DIM), 1), ["item 6"]);
}

#[test]
fn damage_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let _ = fs::remove_dir_all(&path);
        let (store, rows) = filled(&path, Precision::F32, 30);
        drop(store);
        let mut bytes = fs::read(path.join(name)).unwrap();
        change(&mut bytes);
        fs::write(path.join(name), bytes).unwrap();
        let query = Embeddings::new(DIM, rows[..DIM].to_vec()).unwrap();
        let found = LocalStore::open(&path).and_then(|store| {
            store.search(&query, 30, None)?;
            store.verify()
        });
        found.unwrap_err().code()
    };
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 0x10;
    assert_eq!(
        damage("vectors-0.bin", &flip(4 * DIM * 17 + 2)),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("vectors-0.bin", &|bytes| bytes.truncate(4 * DIM * 30 - 1)),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("vectors-0.bin", &|bytes| bytes[4 * DIM * 3..][..4]
            .fill(0xFF)),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("index.sqlite", &|bytes| bytes[..100].fill(0)),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("index.sqlite", &|bytes| bytes.truncate(5000)),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("index.sqlite", &|bytes| bytes[8192..].fill(0x55)),
        "BAD_CONFIG"
    );
}

#[test]
fn other_folders_and_files_are_no_stores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("thesis.txt"), "").unwrap();
    let wrong = LocalStore::create(path, &about(DIM, Precision::F32))
        .err()
        .unwrap();
    assert_eq!(wrong.code(), "BAD_ARGUMENT");
    assert_eq!(LocalStore::open(path).err().unwrap().code(), "IO_ERROR");
    fs::write(path.join("index.sqlite"), "a letter").unwrap();
    assert_eq!(LocalStore::open(path).err().unwrap().code(), "BAD_CONFIG");
    fs::remove_file(path.join("index.sqlite")).unwrap();
    fs::write(path.join("index.sqlite"), "").unwrap();
    assert_eq!(LocalStore::open(path).err().unwrap().code(), "BAD_CONFIG");
}

#[test]
fn embeddings_made_otherwise_are_refused_with_the_reason() {
    let made = Provenance {
        medsiglip: "0.1.0".into(),
        model: "mini".into(),
        checksum: "ab".repeat(32),
        config_checksum: "cd".repeat(32),
        device: "cpu".into(),
        dtype: "f32".into(),
        precision: None,
        recipe: "hf".into(),
        pad: "none".into(),
        canonicalizer: None,
        resolution: 448,
        positions: None,
        normalized: false,
    };
    let about = About {
        dim: DIM,
        precision: Precision::F32,
        provenance: Some(made.clone()),
        reading: None,
    };
    assert!(about.accepts(DIM, Some(&made)).is_ok());
    // Every embedding is divided by its norm in any case.
    let normalized = Provenance {
        normalized: true,
        ..made.clone()
    };
    assert!(about.accepts(DIM, Some(&normalized)).is_ok());
    for (other, what) in [
        (
            Provenance {
                checksum: "ef".repeat(32),
                ..made.clone()
            },
            "weights",
        ),
        (
            Provenance {
                recipe: "eval-tf".into(),
                ..made.clone()
            },
            "recipe",
        ),
        (
            Provenance {
                resolution: 224,
                ..made.clone()
            },
            "resolution",
        ),
    ] {
        let wrong = about.accepts(DIM, Some(&other)).unwrap_err();
        assert!(wrong.to_string().contains(what), "{wrong}");
    }
    assert!(
        about
            .accepts(DIM, None)
            .unwrap_err()
            .to_string()
            .contains("origin")
    );
    assert!(
        about
            .accepts(DIM + 1, Some(&made))
            .unwrap_err()
            .to_string()
            .contains("width")
    );
}

#[test]
fn metadata_are_replaced_in_place_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut store, rows) = filled(&path, Precision::F32, 20);
    let order = ids(&store, &rows[..DIM], 20);
    let new = |text: &str| map(json!({ "note": text }));
    let changes = [
        ("item 3".to_owned(), new("a")),
        ("item 99".to_owned(), new("b")),
    ];
    store.describe(&changes).unwrap();
    let check = |store: &LocalStore| {
        assert_eq!((store.len().unwrap(), store.verify().unwrap()), (20, 20));
        assert_eq!(store.get("item 3").unwrap().unwrap().metadata, new("a"));
        assert_eq!(ids(store, &rows[..DIM], 20), order);
    };
    check(&store);
    let size = fs::metadata(path.join("vectors-0.bin")).unwrap().len();
    assert_eq!(size, 20 * 4 * DIM as u64, "no vector was stored anew");
    let changes = [
        ("item 3".to_owned(), new("c")),
        ("item 4".to_owned(), new(&"y".repeat(2 << 20))),
    ];
    assert_eq!(store.describe(&changes).unwrap_err().code(), "BAD_ARGUMENT");
    check(&LocalStore::open(&path).unwrap());
}
