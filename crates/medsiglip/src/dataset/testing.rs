//! Small sources for tests.

use std::path::Path;

use rand::Rng;
use tempfile::TempDir;

use super::random::{Purpose, generator};
use super::{Source, SourceConfig};
use crate::Result;

/// A PGM file of noise: each `number` gives another picture.
pub(super) fn noise(number: u64, side: usize) -> Vec<u8> {
    let mut levels = vec![0; side * side];
    generator(number, Purpose::Order, [0, 0]).fill_bytes(&mut levels);
    pgm(&levels, side)
}

pub(super) fn pgm(levels: &[u8], side: usize) -> Vec<u8> {
    [format!("P5\n{side} {side}\n255\n").as_bytes(), levels].concat()
}

/// A folder of `count` pictures `0.pgm`, `1.pgm`, ...
pub(super) fn pictures(count: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        write(folder.path(), &format!("{number}.pgm"), &noise(number, 8));
    }
    folder
}

pub(super) fn write(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// The source of a `[[source]]` table without its name.
pub(super) fn open(toml: &str, base: &Path) -> Result<Source> {
    let config: SourceConfig = toml::from_str(&format!("name = \"s\"\n{toml}")).unwrap();
    Source::open(config, base)
}

/// A source of `count` pictures with the labels `label` (from `a` to `c` in turn) and the group `group` (of three).
pub(super) fn labelled(count: u64, more: &str) -> (TempDir, Source) {
    let folder = pictures(count);
    let mut table = "path,label,group\n".to_owned();
    for number in 0..count {
        let label = ["a", "b", "c"][number as usize % 3];
        table += &format!("{number}.pgm,{label},g{}\n", number / 3);
    }
    write(folder.path(), "list.csv", table.as_bytes());
    let toml = format!("manifest = \"list.csv\"\nlabels = [\"label\"]\n{more}");
    let source = open(&toml, folder.path()).unwrap();
    (folder, source)
}
