//! Pairs of pictures and texts for training: sources, splits, leaks, the mixture, batches.
//!
//! ```text
//! manifest, folder, shards, published set ──► Source ──► split, leaks ──► Mixture ──► augment, preprocess ──► Batch
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use medsiglip::dataset::*;
//! use medsiglip::preprocess::{Preprocessor, Recipe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
//! let config: SourceConfig = toml::from_str(
//!     r#"
//!     name = "samples"
//!     folder = "samples"
//!     templates = ["a medical picture"]
//!     "#,
//! )?;
//! let sources = vec![Source::open(config, base)?];
//! let preprocessor = Preprocessor::new(Recipe::Hf, None, 224, None)?;
//!
//! let pictures = Arc::new(Pictures::new(sources, preprocessor.decode_options(), 1 << 30));
//! let source = &pictures.sources()[0];
//!
//! let leaks = find_leaks(&pictures)?;
//! let joined = leaks.joined(0, Duplicates::Join);
//! let sides = vec![split(source, Shares { val: 0.3, test: 0.0 }, 1, &joined)?];
//! let left_out = leaks.left_out(0, Duplicates::Join, &sides);
//!
//! let mixture = Mixture::new(vec![Pool::training(source, &sides[0], &left_out)], 1)?;
//! let options = LoaderOptions { batch: 4, ..LoaderOptions::default() };
//! let batch = Loader::training(pictures, mixture, preprocessor, options)?.next().unwrap()?;
//! assert_eq!((batch.captions.len(), batch.pixels.batch()), (4, 4));
//! assert_eq!(batch.draws.end, 4); // where a run that stops here goes on
//! # Ok(())
//! # }
//! ```
//!
//! All that is random depends on one seed and on the number of a draw alone. A run that goes on at draw `i` thus gets
//! what it would have got without the interruption, whatever the number of threads or ranks.

mod random;
mod config;
mod captions;
mod finding;
mod skipped;
mod table;
mod parquet_rows;
mod location;
mod picture_array;
mod shards;
mod source;
mod adapters;
mod split;
mod leaks;
mod divided;
mod mixture;
mod augment;
mod pictures;
mod loader;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;

pub use adapters::{Adapter, FindingPolicy, Uncertain};
pub use augment::{
    AugmentConfig, ColorJitter, GaussianBlur, RandomErasing, RandomResizedCrop, augment,
};
pub use config::{Shards, SourceConfig};
pub use divided::{Divided, SplitConfig};
pub use finding::{NotAFinding, finding};
pub use leaks::{Cluster, Duplicates, LeakReport, Likeness, find_leaks};
pub use loader::{Batch, Loader, LoaderOptions};
pub use location::Location;
pub(crate) use location::guarded;
pub use mixture::{Draw, Mixture, Pool};
pub use parquet_rows::PictureColumn;
pub use picture_array::PictureArray;
pub use pictures::Pictures;
#[cfg(feature = "train")]
pub(crate) use random::{Purpose, generator};
pub use skipped::Skipped;
pub use source::Source;
pub use split::{Shares, Side, split, split_warnings};

/// A picture with its texts and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its name, unique within its source.
    pub id: String,
    /// Where the bytes of the picture lie.
    pub picture: Location,
    /// Where it is told, for messages: the manifest or label file and the row, or the number of the picture in its folder in
    /// the order of the paths. Paths of pictures, which can name a patient, have no place in a message.
    pub place: String,
    /// The captions that the data give; templates may add more when one is drawn.
    pub captions: Vec<String>,
    /// Label columns that have a value, by name. Several values of a column stand between `|`.
    pub labels: BTreeMap<String, String>,
    /// The patient, lesion or slide, which no split may cut.
    pub group: Option<String>,
}
