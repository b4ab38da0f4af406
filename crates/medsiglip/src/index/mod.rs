//! Retrieval: items with their embeddings in a [`Store`], found by the cosine of a query with them.
//!
//! ```
//! use medsiglip::embedding::Embeddings;
//! use medsiglip::index::{About, Item, LocalStore, Precision, Store};
//!
//! # fn main() -> medsiglip::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let about = About { dim: 2, precision: Precision::F32, provenance: None, reading: None };
//! let mut store = LocalStore::create(&folder.path().join("store"), &about)?;
//! let metadata = serde_json::json!({"modality": "CR", "age": 61});
//! store.put(&[Item {
//!     id: "a.png".into(),
//!     content: None,
//!     embedding: vec![3.0, 4.0],
//!     metadata: metadata.as_object().unwrap().clone(),
//! }])?;
//! let query = Embeddings::new(2, vec![0.0, 1.0])?;
//! let filter = "modality = 'CR' and age >= 18".parse()?;
//! let hits = store.search(&query, 10, Some(&filter))?;
//! assert!((hits[0][0].cosine - 0.8).abs() < 1e-6);
//! # Ok(())
//! # }
//! ```

pub mod evaluate;
mod filter;
pub mod graph;
mod local;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
pub mod scan;
mod sqlite;
mod tune;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use filter::{Comparison, Filter};
pub use local::LocalStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use query::{Found, Fusion, Query, Term};
pub use tune::{Approximation, Point, Tuned, Tuning};

use crate::embedding::{Embeddings, Provenance};
use crate::{Error, Result};

/// Bytes of an item's metadata as JSON.
const MAX_METADATA: usize = 1 << 20;

/// SHA-256.
pub type Digest = [u8; 32];

/// How vectors are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// In half precision.
    F16,
    /// As whole numbers of a byte and a scale for each vector.
    I8,
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Width of the embeddings, D.
    pub dim: usize,
    /// How they are stored.
    pub precision: Precision,
    /// How they were made; absent for those of an encoder that says nothing of itself.
    pub provenance: Option<Provenance>,
    /// What else decided them and what is known of them, by name: how DICOM files are shown, slides are cut; absent where nobody
    /// knows.
    #[serde(default)]
    pub reading: Option<BTreeMap<String, Value>>,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is called; an item of the same id is replaced.
    pub id: String,
    /// SHA-256 of the file that it was made from.
    pub content: Option<Digest>,
    /// (D); its length does not matter.
    pub embedding: Vec<f32>,
    /// What filters ask about.
    pub metadata: Map<String, Value>,
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What it is called.
    pub id: String,
    /// (D), divided by its norm.
    pub embedding: Vec<f32>,
    /// What filters ask about.
    pub metadata: Map<String, Value>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// What it is called.
    pub id: String,
    /// Of its embedding and the query's.
    pub cosine: f64,
    /// What filters ask about.
    pub metadata: Map<String, Value>,
}

/// A place for items. All stores give the same answers to the same questions.
pub trait Store {
    /// What it holds.
    fn about(&self) -> &About;

    /// How many items.
    ///
    /// # Errors
    /// `BAD_CONFIG` where the store is damaged; `IO_ERROR`. So it is with all methods.
    fn len(&self) -> Result<usize>;

    /// Whether there is none.
    ///
    /// # Errors
    /// As of [`len`](Self::len).
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Stores items, all or none; when it returns, they are on the disk.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where an id is empty or there twice, an embedding is of another width, zero, or not finite, or another process
    /// is writing.
    fn put(&mut self, items: &[Item]) -> Result<()>;

    /// All ids, and what their files were.
    ///
    /// # Errors
    /// As of [`len`](Self::len).
    fn contents(&self) -> Result<Vec<(String, Option<Digest>)>>;

    /// Removes items; how many were there.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where another process is writing.
    fn remove(&mut self, ids: &[String]) -> Result<usize>;

    /// Replaces the metadata of items, by id, all or none.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where metadata are too large, or another process is writing.
    fn describe(&mut self, metadata: &[(String, Map<String, Value>)]) -> Result<()>;

    /// An item.
    ///
    /// # Errors
    /// As of [`len`](Self::len).
    fn get(&self, id: &str) -> Result<Option<Stored>>;

    /// The `k` items with the highest cosine for each of `queries` (Q, D), of those that `filter` holds for; of equals, those that
    /// were stored first. About these, where the store was told that this is enough.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a query is of another width, zero, or not finite.
    fn search(
        &self,
        queries: &Embeddings,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>>;

    /// Whether every vector is compared, even where there is a graph. It is not so when a store is opened.
    fn search_exactly(&mut self, is_exact: bool);

    /// Whether the store is searched by its graph.
    ///
    /// # Errors
    /// As of [`len`](Self::len).
    fn approximation(&self) -> Result<Approximation>;

    /// Makes the graph where it is missing or behind, measures it, and keeps the fastest way to search that reaches the recall;
    /// `None` where `go_on`, which is told how many items are linked, of how many, stopped it, and no item has changed.
    ///
    /// What is searched with while it is measured is not in the graph then.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` for what cannot be asked, a store of too few items, or one that was compacted meanwhile; `UNSUPPORTED` where
    /// the store takes no graph.
    fn tune(
        &mut self,
        how: &Tuning,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Tuned>>;

    /// Gives back the room of what was removed and replaced.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where another process is writing.
    fn compact(&mut self) -> Result<()>;

    /// Reads everything and compares it with what is known of it; how many items there are.
    ///
    /// # Errors
    /// `BAD_CONFIG` where something is damaged; `IO_ERROR`.
    fn verify(&self) -> Result<usize>;
}

impl About {
    fn check(&self) -> Result<()> {
        match self.dim {
            1..=65536 => Ok(()),
            dim => Err(Error::BadArgument(format!(
                "store: expected embeddings of 1 to 65536 numbers, got {dim}"
            ))),
        }
    }

    /// Whether embeddings made like this belong into the store, or may be searched with.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` that names what differs.
    pub fn accepts(&self, dim: usize, made: Option<&Provenance>) -> Result<()> {
        let refuse = |what: &str, expected: &str, got: &str| {
            Err(Error::BadArgument(format!(
                "store: made of embeddings with {what} {expected}, got {got}; embed as then, or make another store"
            )))
        };
        if dim != self.dim {
            return refuse("width", &self.dim.to_string(), &dim.to_string());
        }
        match (&self.provenance, made) {
            (None, None) => Ok(()),
            (Some(own), Some(made)) => match own.difference(made) {
                Some((what, expected, got)) => refuse(what, &expected, &got),
                None => Ok(()),
            },
            (Some(_), None) => refuse("a known origin", "(model and recipe)", "none"),
            (None, Some(_)) => refuse("origin", "unknown", "a known one"),
        }
    }

    /// The embeddings of items, each divided by its norm.
    fn rows(&self, items: &[Item]) -> Result<Vec<Vec<f32>>> {
        let mut seen = HashSet::new();
        let row = |(place, item): (usize, &Item)| {
            if item.id.is_empty() || !seen.insert(item.id.clone()) {
                return Err(Error::BadArgument(format!(
                    "store: the id of item {} is empty or there twice",
                    place + 1
                )));
            }
            unit(&item.embedding, self.dim, "item", place)
        };
        items.iter().enumerate().map(row).collect()
    }

    fn check_queries(&self, queries: &Embeddings) -> Result<()> {
        let mut rows = queries.rows().enumerate();
        rows.try_for_each(|(place, row)| unit(row, self.dim, "query", place).map(drop))
    }
}

/// An embedding divided by its norm.
fn unit(row: &[f32], dim: usize, what: &str, place: usize) -> Result<Vec<f32>> {
    let norm = row
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    if row.len() != dim || !norm.is_finite() || norm == 0.0 {
        return Err(Error::BadArgument(format!(
            "store: expected {dim} finite numbers, not all of them zero, got another embedding of {what} {}",
            place + 1
        )));
    }
    Ok(row.iter().map(|x| (f64::from(*x) / norm) as f32).collect())
}

/// Metadata as they are stored.
fn text_of(metadata: &Map<String, Value>) -> Result<String> {
    let text = serde_json::to_string(metadata).expect("a map of values");
    match text.len() > MAX_METADATA {
        true => Err(Error::BadArgument(format!(
            "store: expected metadata of at most {MAX_METADATA} bytes an item, got {}",
            text.len()
        ))),
        false => Ok(text),
    }
}

/// The first bytes of a file, none of which changes while a store names it: it is appended to, or replaced.
fn map_file(file: &std::fs::File, length: usize) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: as said; nobody cuts such a file.
    unsafe { memmap2::MmapOptions::new().len(length).map(file) }
}
