//! The files that stored items were made from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use medsiglip::index::Digest;
use sha2::Digest as _;

/// The file of an id: of a frame or a tile, the one that it is a part of.
pub fn file_of(id: &str) -> &str {
    let part = ["#frame=", "#x="].iter().find_map(|part| id.rfind(part));
    part.map_or(id, |part| &id[..part])
}

/// SHA-256 of a file; `None` where it cannot be read.
pub fn digest(path: &Path) -> Option<Digest> {
    let (mut file, mut hash) = (File::open(path).ok()?, sha2::Sha256::new());
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes).ok()? {
            0 => return Some(hash.finalize().into()),
            read => hash.update(bytes.get(..read)?),
        }
    }
}
