//! Golden files of `scripts/make_golden.py`, and the bars that the towers are held to.

#![allow(dead_code)] // each test file uses its own part

use std::collections::HashMap;
use std::path::Path;

use medsiglip::model::Device;
#[cfg(feature = "towers")]
use medsiglip::model::Precision;
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;

/// The GPU that tests are to run on beside the CPU; said to be skipped where none is named.
pub fn device() -> Option<Device> {
    match std::env::var("MEDSIGLIP_TEST_DEVICE") {
        Ok(name) => Some(name.parse().unwrap()),
        Err(_) => {
            println!("skipped on a GPU: MEDSIGLIP_TEST_DEVICE names none, for example cuda:0");
            None
        }
    }
}

/// Where Burn is tested: on the CPU, and on the GPU that is named.
#[cfg(feature = "towers")]
pub fn burn_devices() -> Vec<burn::tensor::Device> {
    let named = device().map(|d| medsiglip::towers::device(d, Precision::F32).unwrap());
    [burn::tensor::Device::flex()]
        .into_iter()
        .chain(named)
        .collect()
}

/// The arrays of one golden file.
pub struct Golden(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let array = |(name, view): (String, safetensors::tensor::TensorView)| {
            let integer = view.dtype() == safetensors::Dtype::I32;
            let number = |b: &[u8]| {
                let b = [b[0], b[1], b[2], b[3]];
                if integer {
                    i32::from_le_bytes(b) as f32
                } else {
                    f32::from_le_bytes(b)
                }
            };
            (
                name,
                (
                    view.shape().to_vec(),
                    view.data().chunks_exact(4).map(number).collect(),
                ),
            )
        };
        Self(file.tensors().into_iter().map(array).collect())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    pub fn pixels(&self, name: &str) -> PixelValues {
        let (shape, data) = &self.0[name];
        PixelValues::new(shape[0], shape[3], data.clone()).unwrap()
    }

    pub fn ids(&self) -> TokenIds {
        let (shape, data) = &self.0["input_ids"];
        TokenIds::new(
            shape[0],
            shape[1],
            data.iter().map(|id| *id as u32).collect(),
        )
        .unwrap()
    }

    /// Max-abs 1e-4 and cosine 0.99999.
    pub fn check(&self, name: &str, got: &[f32]) {
        self.check_within(name, got, 1e-4, 0.99999);
    }

    /// Panics where `got` differs by more than `max_abs`, or its cosine with the golden is below `min_cosine`.
    pub fn check_within(&self, name: &str, got: &[f32], max_abs: f32, min_cosine: f64) {
        let want = self.get(name);
        assert_eq!(got.len(), want.len(), "{name}: length");
        let worst = got
            .iter()
            .zip(want)
            .map(|(g, w)| (g - w).abs())
            .fold(0.0, f32::max);
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let cosine = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
        println!(
            "{name}: max-abs {worst:.2e}, cosine 1 - {:.1e}",
            1.0 - cosine
        );
        assert!(worst <= max_abs, "{name}: max-abs {worst}");
        assert!(cosine >= min_cosine, "{name}: cosine {cosine}");
    }
}
