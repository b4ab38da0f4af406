//! Any text as a filter: an error, or one that says the same of an item as SQLite does.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use medsiglip::embedding::Embeddings;
use medsiglip::index::{About, Filter, Item, LocalStore, Precision, Store};
use serde_json::json;

thread_local! {
    static STORE: RefCell<LocalStore> = RefCell::new(store());
}

/// One item, with a field of every type.
fn store() -> LocalStore {
    let folder = tempfile::tempdir().unwrap().keep();
    let about = About {
        dim: 1,
        precision: Precision::F32,
        provenance: None,
        reading: None,
    };
    let mut store = LocalStore::create(&folder.join("store"), &about).unwrap();
    let metadata =
        json!({"a": "x", "b": 1, "c": 0.5, "d": true, "e": null, "f": [1], "g": "", "h": -7});
    let metadata = metadata.as_object().unwrap().clone();
    let item = Item {
        id: "item".into(),
        content: None,
        embedding: vec![1.0],
        metadata,
    };
    store.put(&[item]).unwrap();
    store
}

fuzz_target!(|text: &str| {
    let Ok(filter) = text.parse::<Filter>() else {
        return;
    };
    STORE.with_borrow(|store| {
        let query = Embeddings::new(1, vec![1.0]).unwrap();
        let found = store.search(&query, 1, Some(&filter)).unwrap();
        let own = store.get("item").unwrap().unwrap();
        assert_eq!(found[0].len() == 1, filter.matches(&own.metadata));
    });
});
