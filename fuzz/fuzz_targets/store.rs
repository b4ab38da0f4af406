//! A store of which one file has other bytes in it: an error, or the hits that it has, each with a cosine.
//!
//! The first byte chooses the file; the next two say where the rest of the bytes stands in it, or where it is cut.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use medsiglip::embedding::Embeddings;
use medsiglip::index::{About, Item, LocalStore, Precision, Store, Tuning};

const DIM: usize = 4;
const ITEMS: usize = 200;

/// The files of a store that was tuned.
fn files() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let about = About {
            dim: DIM,
            precision: Precision::F32,
            provenance: None,
            reading: None,
        };
        let mut store = LocalStore::create(folder.path(), &about).unwrap();
        let item = |i: usize| Item {
            id: format!("item {i}"),
            content: None,
            embedding: (0..DIM)
                .map(|at| ((i * 31 + at * 17) % 101) as f32 - 50.0)
                .collect(),
            metadata: Default::default(),
        };
        store
            .put(&(0..ITEMS).map(item).collect::<Vec<_>>())
            .unwrap();
        let how = Tuning {
            k: 10,
            recall: 0.5,
            queries: 20,
            seed: 0,
            always: true,
        };
        assert!(
            store
                .tune(&how, &mut |_, _| true)
                .unwrap()
                .unwrap()
                .ef
                .is_some()
        );
        drop(store);
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        let file = |entry: fs::DirEntry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        };
        let mut files: Vec<_> = entries.map(file).collect();
        files.sort();
        files
    })
}

fn use_it(folder: &Path) -> medsiglip::Result<()> {
    let store = LocalStore::open(folder)?;
    let query = Embeddings::new(store.about().dim, vec![1.0; store.about().dim])?;
    for hits in store.search(&query, 10, None)? {
        assert!(hits.len() <= 10 && hits.iter().all(|hit| hit.cosine.is_finite()));
    }
    for (id, _) in store.contents()? {
        store.get(&id)?;
    }
    store.verify().map(drop)
}

fuzz_target!(|bytes: &[u8]| {
    let [which, low, high, bytes @ ..] = bytes else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let changed = usize::from(*which) % files().len();
    for (place, (name, own)) in files().iter().enumerate() {
        let mut own = own.clone();
        if place == changed {
            let at = usize::from(u16::from_le_bytes([*low, *high])).min(own.len());
            match bytes {
                [] => own.truncate(at),
                _ => {
                    let end = (at + bytes.len()).min(own.len());
                    own[at..end].copy_from_slice(&bytes[..end - at]);
                }
            }
        }
        fs::write(folder.path().join(name), own).unwrap();
    }
    let _ = use_it(folder.path());
});
