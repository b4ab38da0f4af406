//! How fast a store in PostgreSQL is beside one in a folder, on the vectors of the example `ann_speed`.
//!
//!     cargo run --release -p medsiglip --features postgres --example postgres_speed -- VECTORS.f32 FOLDER URL
//!
//! Stores them in both (FOLDER and the schema of URL hold nothing yet), then tunes both, and tells what they found.

use std::path::Path;
use std::time::Instant;

use medsiglip::index::{About, Item, LocalStore, PostgresStore, Precision, Store, Tuning};
use serde_json::Map;

const DIM: usize = 1152;
const CHUNK: usize = 4096;

fn measure(name: &str, store: &mut dyn Store, items: &[Item]) -> medsiglip::Result<()> {
    let start = Instant::now();
    items.chunks(CHUNK).try_for_each(|items| store.put(items))?;
    println!("{name}: stored in {:.1} s", start.elapsed().as_secs_f64());
    let how = Tuning {
        always: true,
        ..Tuning::default()
    };
    let start = Instant::now();
    let tuned = store
        .tune(&how, &mut |_, _| true)?
        .expect("nobody stops it");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: tuned in {seconds:.1} s, exact search takes {:.2} ms",
        tuned.exact_ms
    );
    for point in &tuned.points {
        let (low, high) = point.interval;
        let mark = if Some(point.ef) == tuned.ef { '*' } else { ' ' };
        println!(
            "{mark} {:4}  recall@{} {:.4} [{low:.4}, {high:.4}]  {:.2} ms",
            point.ef, tuned.k, point.recall, point.ms
        );
    }
    Ok(())
}

fn main() -> medsiglip::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [vectors, folder, url] = &args[..] else {
        panic!("expected VECTORS.f32 FOLDER URL");
    };
    let bytes = std::fs::read(vectors).expect("the vectors");
    let row = |(i, bytes): (usize, &[u8])| Item {
        id: format!("item {i}"),
        content: None,
        embedding: bytes
            .as_chunks()
            .0
            .iter()
            .map(|x| f32::from_le_bytes(*x))
            .collect(),
        metadata: Map::new(),
    };
    let rows = bytes.chunks_exact(4 * DIM).enumerate();
    let items: Vec<Item> = rows.map(row).collect();
    let about = About {
        dim: DIM,
        precision: Precision::F32,
        provenance: None,
        reading: None,
    };
    let mut local = LocalStore::create(Path::new(folder), &about)?;
    measure("folder", &mut local, &items)?;
    measure(
        "PostgreSQL",
        &mut PostgresStore::create(url, &about)?,
        &items,
    )
}
