//! Any text as a `config.json`: an error, or a config that is within its limits and reads back from what it writes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use medsiglip::Config;
use medsiglip::checkpoint::expected_tensors;

fuzz_target!(|text: &str| {
    let Ok(config) = Config::from_json(text) else {
        return;
    };
    assert!(config.vision.num_patches() >= 1);
    assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    for tensor in expected_tensors(&config) {
        let numbers = tensor
            .shape
            .iter()
            .try_fold(1usize, |n, &side| n.checked_mul(side));
        assert!(numbers.is_some_and(|n| n >= 1), "{}", tensor.name);
    }
});
