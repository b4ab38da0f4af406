//! Any bytes as a table of pictures or a tar shard: an error, or a source whose examples all have a caption.
//!
//! The first byte chooses the format.

#![no_main]

use std::fs;
use std::sync::{Arc, Once};

use libfuzzer_sys::fuzz_target;
use medsiglip::dataset::{Loader, LoaderOptions, Pictures, Source, SourceConfig};
use medsiglip::image::DecodeOptions;
use medsiglip::preprocess::{Preprocessor, Recipe};

/// A panic of a library that is caught within is no finding; any other still ends the process.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| ())));
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let name = ["m.csv", "m.jsonl", "m.parquet", "m.tar"][usize::from(*kind) % 4];
    fs::write(folder.path().join(name), bytes).unwrap();
    let config = match name {
        "m.tar" => format!("name = 'x'\nshards = '{name}'\nmax_skipped = 1.0"),
        _ => format!(
            "name = 'x'\nmanifest = '{name}'\ncaptions = ['caption']\nlabels = ['label']\nmax_skipped = 1.0"
        ),
    };
    let config: SourceConfig = toml::from_str(&config).unwrap();
    let Ok(source) = Source::open(config, folder.path()) else {
        return;
    };
    for example in &source.examples {
        assert!(!source.first_caption(example).is_empty());
    }
    let list = (0..source.examples.len().min(4))
        .map(|place| (0, place))
        .collect();
    let pictures = Arc::new(Pictures::new(
        vec![source],
        DecodeOptions::default(),
        1 << 20,
    ));
    let preprocessor = Preprocessor::new(Recipe::Hf, None, 32, None).unwrap();
    let options = LoaderOptions {
        threads: 1,
        ..LoaderOptions::default()
    };
    for batch in Loader::in_order(pictures, list, preprocessor, options).unwrap() {
        let _ = batch;
    }
});
