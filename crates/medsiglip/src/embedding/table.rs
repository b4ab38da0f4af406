//! [`EmbeddingTable`]: embeddings of any encoder from a file, with the ids to join them on.

mod hdf5;
mod numpy;
mod parquet;
mod rows;
mod text;
mod tfrecord;
mod wide;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::rows::Rows;
use super::{Embeddings, Provenance};
use crate::{Error, Result};

/// Names under which ids are looked for, in this order.
const ID_NAMES: [&str; 8] = [
    "id", "ids", "image_id", "image/id", "dicom_id", "path", "filename", "image",
];

/// Names under which embeddings are looked for, in this order.
const EMBEDDING_NAMES: [&str; 4] = ["embedding", "embeddings", "features", "image_embedding"];

/// How a file of embeddings is read.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// The column, array or key of ids; by default `id`, `ids`, `image_id`, `image/id`, `dicom_id`, `path`, `filename` or
    /// `image`, the first that is there.
    pub id: Option<String>,
    /// The column, array or key of embeddings; by default `embedding`, `embeddings`, `features` or `image_embedding`, else
    /// the only one that can be. Of a table with a column a number, what the names of those columns begin with: `emb_` for
    /// `emb_0`, `emb_1`, ...; by default whatever at least two columns that are numbered so begin with.
    pub embedding: Option<String>,
    /// Where the ids of a `.npy` file stand, `.csv` or `.txt` (an id a line); by default `STEM.ids.csv` or `STEM.ids.txt`
    /// beside it.
    pub ids_file: Option<PathBuf>,
    /// Bytes of memory that the embeddings may take, 4 a number.
    pub max_bytes: u64,
    /// Bytes of memory that the ids may take, counted as their texts and 64 each.
    pub max_id_bytes: u64,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            id: None,
            embedding: None,
            ids_file: None,
            max_bytes: 16 << 30,
            max_id_bytes: 4 << 30,
        }
    }
}

impl TableOptions {
    fn id_names(&self) -> Vec<&str> {
        names(self.id.as_deref(), &ID_NAMES)
    }

    fn embedding_names(&self) -> Vec<&str> {
        names(self.embedding.as_deref(), &EMBEDDING_NAMES)
    }
}

fn names<'a>(asked: Option<&'a str>, known: &[&'a str]) -> Vec<&'a str> {
    asked.map_or_else(|| known.to_vec(), |name| vec![name])
}

/// What of two ids must be the same for them to be joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdMatch {
    /// All of them.
    #[default]
    Exact,
    /// What follows the last `/`.
    FileName,
    /// What follows the last `/`, up to the last dot: other encoders' files are often named by it.
    FileStem,
}

impl IdMatch {
    /// What of an id must be the same.
    pub fn key(self, id: &str) -> &str {
        let name = id.rsplit('/').next().unwrap_or(id);
        match self {
            Self::Exact => id,
            Self::FileName => name,
            Self::FileStem => name.rsplit_once('.').map_or(name, |(stem, _)| stem),
        }
    }
}

/// Embeddings of N items with their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingTable {
    ids: Vec<String>,
    embeddings: Embeddings,
    provenance: Option<Provenance>,
}

/// The embeddings of ids that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Those that the table has, in the order asked for.
    pub embeddings: Embeddings,
    /// The place of each of them among the ids asked for.
    pub found: Vec<usize>,
    /// Places among the ids asked for that the table does not have.
    pub missing: Vec<usize>,
    /// Rows of the table that nobody asked for.
    pub unused: Vec<usize>,
}

impl EmbeddingTable {
    /// Reads embeddings, by the extension:
    ///
    /// - `.parquet`: an id column, and a column of lists of floats or a column a number (`e0`, `e1`, ...; other columns of
    ///   floats are left out);
    /// - `.npy`: (N, D), the ids in a file beside it; `.npz`: an array (N, D) and one of ids, or (D,) of one picture, whose
    ///   id is the file's stem;
    /// - `.h5`, `.hdf5`: a data set (N, D), and one of ids, or of coordinates (`coords`), as TRIDENT, CLAM and `medsiglip
    ///   embed` write them, whose ids are `STEM#x=X,y=Y`;
    /// - `.tfrecord`, also `.tfrecord-00000-of-00010`: `tf.train.Example` with a list of floats, as CXR Foundation writes
    ///   them (Google-Health/imaging-research); without an id, the file's stem of a file with one record;
    /// - `.jsonl`, `.csv`: as `medsiglip embed` writes them.
    ///
    /// A folder stands for all such files in it, sorted by name. Numbers of 16, 32 or 64 bits become `f32`. An id that is
    /// there twice with the same embedding is there once.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a file is damaged or has no such columns, an embedding has a number that is missing, NaN or
    /// infinite, widths differ, or an id has two embeddings: each with file and row. `BAD_ARGUMENT` for an unknown
    /// extension. `UNSUPPORTED` for pickled arrays. `LIMIT_EXCEEDED`; `IO_ERROR`.
    pub fn read(path: impl AsRef<Path>, options: &TableOptions) -> Result<Self> {
        let path = path.as_ref();
        let mut rows = Rows::new(options);
        for file in files(path)? {
            rows.begin_file(&file);
            match Format::of(&file) {
                Some(Format::Parquet) => parquet::read(&file, options, &mut rows),
                Some(Format::Npy) => numpy::read_npy(&file, options, &mut rows),
                Some(Format::Npz) => numpy::read_npz(&file, options, &mut rows),
                Some(Format::Hdf5) => hdf5::read(&file, options, &mut rows),
                Some(Format::TfRecord) => tfrecord::read(&file, options, &mut rows),
                Some(Format::Jsonl) => text::read_jsonl(&file, options, &mut rows),
                Some(Format::Csv) => text::read_csv(&file, options, &mut rows),
                None => Err(unknown_extension(&file)),
            }?;
        }
        rows.finish(path)
    }

    /// A table from its parts.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there are not as many ids as embeddings, or an id is there twice.
    pub fn new(
        ids: Vec<String>,
        embeddings: Embeddings,
        provenance: Option<Provenance>,
    ) -> Result<Self> {
        if ids.len() != embeddings.len() {
            return Err(Error::BadArgument(format!(
                "embeddings: expected as many ids as embeddings, got {} and {}",
                ids.len(),
                embeddings.len()
            )));
        }
        let mut seen = HashSet::new();
        if let Some(row) = ids.iter().position(|id| !seen.insert(id)) {
            return Err(Error::BadArgument(format!(
                "embeddings: the id of row {row} is there twice"
            )));
        }
        Ok(Self {
            ids,
            embeddings,
            provenance,
        })
    }

    /// The ids, one a row, each once.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The embeddings, (N, D).
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// How they were made, where the file says it: files of `medsiglip embed` do.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// The embeddings of `ids`, in their order; an id may be asked for more than once.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where none of them is there, an id that is asked for has several rows by `matching`, or two that are asked
    /// for have one.
    pub fn join<S: AsRef<str>>(&self, ids: &[S], matching: IdMatch) -> Result<Joined> {
        let mut rows: HashMap<&str, Option<usize>> = HashMap::new();
        for (row, id) in self.ids.iter().enumerate() {
            let known = rows.entry(matching.key(id));
            known.and_modify(|row| *row = None).or_insert(Some(row));
        }
        let mut asked: HashMap<&str, &str> = HashMap::new();
        for (place, id) in ids.iter().enumerate() {
            let first = asked
                .entry(matching.key(id.as_ref()))
                .or_insert(id.as_ref());
            if *first != id.as_ref() {
                return Err(Error::BadArgument(format!(
                    "embeddings: id {} of those asked for has the name of another one before it; join by the whole id",
                    place + 1
                )));
            }
        }
        let mut used = vec![false; self.ids.len()];
        let (mut found, mut missing, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for (place, id) in ids.iter().enumerate() {
            match rows.get(matching.key(id.as_ref())) {
                Some(Some(row)) => {
                    used[*row] = true;
                    found.push(place);
                    data.extend_from_slice(self.embeddings.row(*row));
                }
                Some(None) => {
                    return Err(Error::BadArgument(format!(
                        "embeddings: several rows have the name of id {} of those asked for; join by the whole id",
                        place + 1
                    )));
                }
                None => missing.push(place),
            }
        }
        if found.is_empty() {
            return Err(Error::BadArgument(format!(
                "embeddings: none of {} ids is among the {} of the table; expected the same ids, or ids that end in the same \
                 file name and a join by file name or stem",
                ids.len(),
                self.ids.len()
            )));
        }
        Ok(Joined {
            embeddings: Embeddings::new(self.embeddings.dim(), data)?,
            found,
            missing,
            unused: (0..used.len()).filter(|row| !used[*row]).collect(),
        })
    }
}

/// A kind of file.
#[derive(Debug, Clone, Copy)]
enum Format {
    Parquet,
    Npy,
    Npz,
    Hdf5,
    TfRecord,
    Jsonl,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        // `train.tfrecord-00003-of-00010`
        let sharded = name.rsplit_once('-').filter(|(_, end)| is_number(end));
        let sharded = sharded.and_then(|(rest, _)| rest.strip_suffix("-of"));
        let sharded = sharded
            .and_then(|rest| rest.rsplit_once('-'))
            .filter(|(_, n)| is_number(n));
        let name = sharded.map_or(&*name, |(rest, _)| rest);
        match name.rsplit_once('.')?.1 {
            "parquet" => Some(Self::Parquet),
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "h5" | "hdf5" => Some(Self::Hdf5),
            "tfrecord" | "tfrecords" => Some(Self::TfRecord),
            "jsonl" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn unknown_extension(path: &Path) -> Error {
    Error::BadArgument(format!(
        "embeddings: expected a .parquet, .npy, .npz, .h5, .hdf5, .tfrecord, .jsonl or .csv file: {}",
        path.display()
    ))
}

/// The files that `path` stands for. Beside a `.npy` file, `.csv` files are its ids.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("read", path, error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_of_another = name.ends_with(".ids.csv") || name.ends_with(".errors.jsonl");
        if Format::of(&file).is_some() && file.is_file() && !is_of_another {
            files.insert(name, file);
        }
    }
    match files.is_empty() {
        false => Ok(files.into_values().collect()),
        true => Err(Error::BadArgument(format!(
            "embeddings: no file of embeddings in the folder {}",
            path.display()
        ))),
    }
}
