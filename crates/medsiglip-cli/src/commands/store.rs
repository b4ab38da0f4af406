//! Where a store is: in a folder, or in a database.

use std::path::Path;

#[cfg(feature = "postgres")]
use medsiglip::index::PostgresStore;
use medsiglip::index::{About, LocalStore, Store};

use crate::messages::{Failure, Result};

const MAKE: &str = "make one: medsiglip index add STORE PATHS, or index import STORE EMBEDDINGS";

/// The store.
pub fn open(store: &Path) -> Result<Box<dyn Store>> {
    match address(store) {
        Some(url) => of_database(url, None),
        None if LocalStore::is_at(store) => Ok(Box::new(LocalStore::open(store)?)),
        None => Err(Failure::missing("read the store", store).hint(MAKE)),
    }
}

/// The store, made where there is none.
pub fn open_or_create(store: &Path, about: &About) -> Result<Box<dyn Store>> {
    match address(store) {
        Some(url) => of_database(url, Some(about)),
        None if LocalStore::is_at(store) => Ok(Box::new(LocalStore::open(store)?)),
        None => Ok(Box::new(LocalStore::create(store, about)?)),
    }
}

/// A store's address in a database.
fn address(store: &Path) -> Option<&str> {
    let is_url = |text: &&str| {
        let mut schemes = ["postgresql:", "postgres:"].iter();
        schemes.any(|scheme| text.starts_with(scheme))
    };
    store.to_str().filter(is_url)
}

#[cfg(feature = "postgres")]
fn of_database(url: &str, new: Option<&About>) -> Result<Box<dyn Store>> {
    Ok(Box::new(match (PostgresStore::is_at(url)?, new) {
        (true, _) => PostgresStore::open(url)?,
        (false, Some(about)) => PostgresStore::create(url, about)?,
        (false, None) => {
            return Err(Failure::argument("the database has no such store").hint(MAKE));
        }
    }))
}

#[cfg(not(feature = "postgres"))]
fn of_database(_: &str, _: Option<&About>) -> Result<Box<dyn Store>> {
    Err(
        Failure::argument("this medsiglip was built without PostgreSQL")
            .hint("cargo install --path crates/medsiglip-cli --features postgres"),
    )
}
