//! Retrieval: exact search beside a plain loop, stores that survive what happens to them, filters, and what queries are made of.
#![cfg(feature = "index")]

mod evaluate;
mod filter;
mod graph;
#[cfg(all(feature = "postgres", unix))]
mod postgres;
#[cfg(all(feature = "postgres", unix))]
mod postgres_near;
mod query;
mod scan;
#[cfg(all(feature = "postgres", unix))]
mod server;
mod store;

use medsiglip::index::{About, Item, Precision};
use serde_json::{Map, Value, json};

/// SplitMix64, from -1 to 1.
fn numbers(mut seed: u64, count: usize) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Rows divided by their norms.
fn units(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    for row in rows.chunks_exact_mut(dim) {
        let norm = row
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    rows
}

fn about(dim: usize, precision: Precision) -> About {
    About {
        dim,
        precision,
        provenance: None,
        reading: None,
    }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn item(number: usize, embedding: &[f32]) -> Item {
    Item {
        id: format!("item {number}"),
        content: Some([number as u8; 32]),
        embedding: embedding.to_vec(),
        metadata: map(
            json!({"number": number, "kind": if number.is_multiple_of(3) { "third" } else { "other" }}),
        ),
    }
}
