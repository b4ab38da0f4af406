//! Where the files of a data set lie.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::label_file::LabelFile;
use crate::dataset::source::walk;
use crate::dataset::{Location, SourceConfig};
use crate::image::Limits;
use crate::{Error, Result};

/// Folders below the data set's in which label files are looked for: deep enough for IDRiD, `B. Disease Grading/2.
/// Groundtruths`.
const LABEL_DEPTH: usize = 2;

/// Folders of one level that are looked into: where there are more, they are patients.
const MAX_FOLDERS: usize = 256;

/// The folder of a data set, and where its label files are.
pub(super) struct Files {
    /// Where the pictures lie.
    pub(super) folder: PathBuf,
    labels: PathBuf,
    source: String,
}

impl Files {
    pub(super) fn new(base: &Path, config: &SourceConfig) -> Result<Self> {
        let folder = base.join(config.folder.as_deref().unwrap_or(Path::new("")));
        if !folder.is_dir() {
            return Err(config.bad(&format!(
                "folder: there is no such folder: {}",
                folder.display()
            )));
        }
        let labels = config.label_files.as_ref();
        Ok(Self {
            labels: labels.map_or_else(|| folder.clone(), |path| base.join(path)),
            folder,
            source: config.name.clone(),
        })
    }

    /// The file that `label_files` names, or the first of `names` in its folder or a little below.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none.
    pub(super) fn main(&self, names: &[&str]) -> Result<PathBuf> {
        if self.labels.is_file() {
            return Ok(self.labels.clone());
        }
        self.find(names)?.ok_or_else(|| self.missing(names))
    }

    /// The first of `names` (or of them with `.gz`) among the label files.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub(super) fn find(&self, names: &[&str]) -> Result<Option<PathBuf>> {
        let folder = match self.labels.is_file() {
            true => self.labels.parent().unwrap_or(Path::new("")),
            false => &self.labels,
        };
        let mut level = vec![folder.to_owned()];
        for depth in 0..=LABEL_DEPTH {
            for name in names {
                let at = |folder: &PathBuf| {
                    let (plain, packed) = (folder.join(name), folder.join(format!("{name}.gz")));
                    [plain, packed].into_iter().find(|path| path.is_file())
                };
                if let Some(path) = level.iter().find_map(at) {
                    return Ok(Some(path));
                }
            }
            if depth < LABEL_DEPTH {
                level = folders_below(&level)?;
            }
            if level.len() > MAX_FOLDERS {
                break;
            }
        }
        Ok(None)
    }

    /// The file that `label_files` names, or the only one of the folder with this extension.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none or there are several; `IO_ERROR`.
    pub(super) fn only(&self, extension: &str) -> Result<PathBuf> {
        if self.labels.is_file() {
            return Ok(self.labels.clone());
        }
        let failed = |error| Error::io("read", &self.labels, error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.labels).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == extension) && path.is_file() {
                files.push(path);
            }
        }
        match (files.pop(), files.is_empty()) {
            (Some(path), true) => Ok(path),
            (last, _) => Err(self.bad(&format!(
                "expected one .{extension} file in {}, got {}; label_files names the file",
                self.labels.display(),
                files.len() + usize::from(last.is_some())
            ))),
        }
    }

    pub(super) fn missing(&self, names: &[&str]) -> Error {
        self.bad(&format!(
            "expected a label file {} in {}; label_files says where it is",
            names.join(" or "),
            self.labels.display()
        ))
    }

    pub(super) fn bad(&self, wrong: &str) -> Error {
        Error::BadConfig(format!("source {}: {wrong}", self.source))
    }

    /// The first of `names` as a table, if it is there.
    pub(super) fn table(&self, names: &[&str]) -> Result<Option<LabelFile>> {
        self.find(names)?
            .map(|path| LabelFile::open(&path))
            .transpose()
    }

    /// The lines of the list `name`, if it is there.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is no text; `LIMIT_EXCEEDED`; `IO_ERROR`.
    pub(super) fn list(&self, name: &str) -> Result<Option<BTreeSet<String>>> {
        let Some(path) = self.find(&[name])? else {
            return Ok(None);
        };
        let failed = |error| Error::io("read", &path, error);
        let file = fs::File::open(&path).map_err(failed)?;
        let limits = Limits::default();
        limits.check_file(file.metadata().map_err(failed)?.len())?;
        let lines = BufReader::new(file.take(limits.max_file_bytes)).lines();
        let mut names = BTreeSet::new();
        for line in lines {
            let line = line.map_err(|_| {
                Error::BadConfig(format!("label file: not a text file: {}", path.display()))
            })?;
            let line = line.trim();
            if !line.is_empty() {
                names.insert(line.to_owned());
            }
        }
        Ok(Some(names))
    }

    /// The picture files below the folder.
    ///
    /// # Errors
    /// `IO_ERROR`; `LIMIT_EXCEEDED`.
    pub(super) fn pictures(&self) -> Result<Pictures> {
        let mut paths = Vec::new();
        walk(&self.folder, 0, &mut paths)?;
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, path) in paths.iter().enumerate() {
            let mut names = BTreeSet::new();
            for name in [path.file_name(), path.file_stem()].into_iter().flatten() {
                names.insert(name.to_string_lossy().into_owned());
            }
            for name in names {
                by_name.entry(name).or_default().push(place);
            }
        }
        Ok(Pictures {
            folder: self.folder.clone(),
            paths,
            by_name,
        })
    }
}

fn folders_below(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut below = Vec::new();
    for folder in folders {
        let failed = |error| Error::io("read", folder, error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                below.push(entry.path());
            }
        }
    }
    below.sort();
    Ok(below)
}

/// The picture files of a data set by their names, with and without extension.
pub(super) struct Pictures {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Pictures {
    /// All of them, sorted.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The picture called `name`, a path below the folder or a name with or without extension, among those that `fits`.
    /// Of several, the first. Where there is none, a file that is not there: it is counted among what is left out.
    pub(super) fn get_where(&self, name: &str, fits: impl Fn(&Path) -> bool) -> Location {
        let last = Path::new(name).file_name().unwrap_or_default();
        let places = self.by_name.get(&*last.to_string_lossy());
        let mut paths = places
            .into_iter()
            .flatten()
            .map(|place| &self.paths[*place]);
        // Of pictures with the same name in several folders, the one that the owners' path ends in.
        let found = paths
            .clone()
            .find(|path| path.ends_with(name) && fits(path));
        let found = found.or_else(|| paths.find(|path| fits(path)));
        Location::File(found.cloned().unwrap_or_else(|| self.folder.join(name)))
    }

    /// The picture called `name`.
    pub(super) fn get(&self, name: &str) -> Location {
        self.get_where(name, |_| true)
    }
}
