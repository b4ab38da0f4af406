//! Any bytes: decoding is an error or a picture, and every picture has a view of the model's size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medsiglip::image::{DecodeOptions, Limits, decode};
use medsiglip::preprocess::{Preprocessor, Recipe};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        max_file_bytes: 1 << 20,
        max_pixels: 1 << 20,
    };
    for container_compat in [false, true] {
        if let Ok(picture) = decode(
            bytes,
            &DecodeOptions {
                limits,
                container_compat,
                ..DecodeOptions::default()
            },
        ) {
            let hf = Preprocessor::new(Recipe::Hf, None, 32, None).unwrap();
            assert_eq!(hf.view(&picture).unwrap().len(), 32 * 32 * 3);
        }
    }
});
