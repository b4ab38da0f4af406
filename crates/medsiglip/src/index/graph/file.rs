//! The graph on the disk: a file of numbers, and a header that names it. The header is what counts: it is replaced when the other is there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::{DEGREE, Graph};
use crate::index::map_file;
use crate::index::scan::{Vectors, i8_stride};
use crate::index::tune::Tuned;
use crate::{Error, Result};

const HEADER: &str = "graph.json";
/// How the names of graphs begin, and of what is to become one.
const GRAPH: &str = "graph-";
const FORMAT: u32 = 1;
/// Bytes of the header.
const MAX_HEADER: u64 = 1 << 20;
/// Vectors whose bytes say of which store a graph is.
const SAMPLE: usize = 64;

/// What a graph is of, and how it is to be searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::index) struct Header {
    format: u32,
    pub generation: i64,
    /// Places that it was made of: those before this one.
    pub rows: usize,
    dim: usize,
    degree: usize,
    entries: usize,
    /// CRC-32C of some of the vectors, of links and entries, and of the rows of bytes.
    vectors: u32,
    links: u32,
    codes: u32,
    pub tuned: Tuned,
}

/// A graph that is mapped into memory.
#[derive(Debug)]
pub(in crate::index) struct GraphFile {
    pub header: Header,
    map: Mmap,
}

/// Some of the vectors.
fn sample(vectors: Vectors, dim: usize, rows: usize) -> u32 {
    let some = (0..SAMPLE).map(|i| i * rows / SAMPLE);
    some.fold(0, |crc, row| {
        crc32c::crc32c_append(crc, vectors.bytes(row, dim))
    })
}

impl Header {
    pub fn new(graph: Graph, vectors: Vectors, generation: i64, tuned: Tuned) -> Self {
        let links = crc32c::crc32c(bytemuck::cast_slice(graph.links));
        Self {
            format: FORMAT,
            generation,
            rows: graph.rows(),
            dim: graph.dim,
            degree: DEGREE,
            entries: graph.entries.len(),
            vectors: sample(vectors, graph.dim, graph.rows()),
            links: crc32c::crc32c_append(links, bytemuck::cast_slice(graph.entries)),
            codes: crc32c::crc32c(graph.codes),
            tuned,
        }
    }

    /// The header's text; `None` where there is none.
    pub fn text(folder: &Path) -> Result<Option<String>> {
        let path = folder.join(HEADER);
        let io = |e| Error::io("read", &path, e);
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_HEADER).read_to_end(&mut text).map_err(io)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{GRAPH}{:08x}{:08x}.bin", self.links, self.codes))
    }

    /// Bytes of links and entries, and of all.
    fn sizes(&self) -> Option<(usize, usize)> {
        let links = self.rows.checked_mul(DEGREE)?.checked_add(self.entries)?;
        let links = links.checked_mul(4)?;
        let codes = self.rows.checked_mul(i8_stride(self.dim))?;
        Some((links, links.checked_add(codes)?))
    }

    /// Writes the header, so that it is there as a whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("plain fields");
        write(folder, &folder.join(HEADER), &[&text])
    }
}

/// Writes a graph beside the vectors that it is of, and deletes the one before.
pub(in crate::index) fn write_graph(folder: &Path, header: &Header, graph: Graph) -> Result<()> {
    let (links, entries) = (
        bytemuck::cast_slice(graph.links),
        bytemuck::cast_slice(graph.entries),
    );
    let path = header.path(folder);
    write(folder, &path, &[links, entries, graph.codes])?;
    header.write(folder)?;
    remove_others(folder, Some(&path));
    Ok(())
}

/// Deletes the graph.
pub(in crate::index) fn remove_graph(folder: &Path) {
    let _ = fs::remove_file(folder.join(HEADER));
    remove_others(folder, None);
}

/// Deletes graphs but one, those too that are not whole, since who wrote them was killed; who has one open keeps it, and where one cannot be deleted, it is only too much.
fn remove_others(folder: &Path, kept: Option<&Path>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(GRAPH)) && kept != Some(&path) {
            let _ = fs::remove_file(path);
        }
    }
}

fn write(folder: &Path, path: &Path, parts: &[&[u8]]) -> Result<()> {
    let io = |e| Error::io("write", path, e);
    let mut file = crate::folder::new_file(folder, GRAPH).map_err(io)?;
    for part in parts {
        file.write_all(part).map_err(io)?;
    }
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map(drop).map_err(|e| io(e.error))
}

impl GraphFile {
    /// The graph that a header names; `None` where it is damaged, or not of the first of these vectors.
    pub fn open(
        folder: &Path,
        text: &str,
        generation: i64,
        vectors: Vectors,
        dim: usize,
    ) -> Option<Self> {
        let header: Header = serde_json::from_str(text).ok()?;
        let is_ours = header.format == FORMAT
            && header.generation == generation
            && (header.dim, header.degree) == (dim, DEGREE)
            && (1..=vectors.rows(dim)).contains(&header.rows)
            && header.tuned.is_possible()
            && header.vectors == sample(vectors, dim, header.rows);
        if !is_ours {
            return None;
        }
        let file = File::open(header.path(folder)).ok()?;
        let (links, all) = header.sizes()?;
        if file.metadata().ok()?.len() != all as u64 {
            return None;
        }
        let map = map_file(&file, all).ok()?;
        (crc32c::crc32c(&map[..links]) == header.links).then_some(Self { header, map })
    }

    pub fn graph(&self) -> Graph<'_> {
        let links = self.header.rows * DEGREE * 4;
        let entries = links + self.header.entries * 4;
        // A map begins with a page, and so in a place for numbers of four bytes.
        Graph {
            dim: self.header.dim,
            links: bytemuck::cast_slice(&self.map[..links]),
            entries: bytemuck::cast_slice(&self.map[links..entries]),
            codes: &self.map[entries..],
        }
    }

    /// Whether the rows of bytes are those that were written. What is damaged there is found less well, but is never a hit with
    /// another score, and so is looked at only on demand.
    pub fn is_sound(&self) -> bool {
        crc32c::crc32c(self.graph().codes) == self.header.codes
    }
}
