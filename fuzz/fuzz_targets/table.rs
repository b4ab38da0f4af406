//! Any bytes as a file of embeddings: an error, or a table of finite numbers with as many ids, each once.
//!
//! The first byte chooses the format. Good seeds: the files of `crates/medsiglip/tests/data/golden/embedding_tables`, each
//! behind its byte.

#![no_main]

use std::collections::HashSet;
use std::fs;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use medsiglip::embedding::{EmbeddingTable, IdMatch, TableOptions};

/// A panic of a library that is caught within is no finding; any other still ends the process.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| ())));
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let extensions = ["parquet", "npy", "npz", "h5", "tfrecord", "jsonl", "csv"];
    let file = folder
        .path()
        .join("t")
        .with_extension(extensions[usize::from(*kind) % extensions.len()]);
    fs::write(&file, bytes).unwrap();
    fs::write(folder.path().join("t.ids.txt"), "a\nb\nc\nd\ne\nf\ng\n").unwrap();
    let options = TableOptions {
        max_bytes: 1 << 20,
        max_id_bytes: 1 << 20,
        ..TableOptions::default()
    };
    let Ok(table) = EmbeddingTable::read(&file, &options) else {
        return;
    };
    assert_eq!(table.ids().len(), table.embeddings().len());
    assert!(table.embeddings().data().iter().all(|x| x.is_finite()));
    assert_eq!(
        table.ids().iter().collect::<HashSet<_>>().len(),
        table.ids().len()
    );
    let joined = table.join(table.ids(), IdMatch::Exact).unwrap();
    assert_eq!(&joined.embeddings, table.embeddings());
});
