//! Where the files of a data set lie.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::label_file::LabelFile;
use crate::dataset::source::walk;
use crate::dataset::table::Unusable;
use crate::dataset::{Location, SourceConfig};
use crate::image::Limits;
use crate::{Error, Result};

/// Folders below the data set's in which label files are looked for: deep enough for IDRiD, `B. Disease Grading/2.
/// Groundtruths`.
const LABEL_DEPTH: usize = 2;

/// Folders of one level that are looked into: where there are more, they are patients.
const MAX_FOLDERS: usize = 256;

/// A picture that was looked for, or why it cannot be used.
pub(super) type Sought = std::result::Result<Location, Unusable>;

/// Why a picture is left out whose row does not say which file it is.
const SEVERAL: Unusable = "picture whose name several files have";

/// The folder of a data set, and where its label files are.
pub(super) struct Files {
    /// Where the pictures lie.
    pub(super) folder: PathBuf,
    /// `label_files`, else the folder.
    labels: PathBuf,
    /// Whether `label_files` is given.
    pub(super) are_named: bool,
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
            are_named: labels.is_some(),
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

    /// Where `label_files` names a file: that file.
    pub(super) fn named(&self) -> Option<&Path> {
        self.labels.is_file().then_some(self.labels.as_path())
    }

    /// The label files of a data set that comes divided, with their sides: of each side the first of its names that is
    /// there. Where `label_files` names a file, that one alone, on the side that has its name or a name that it begins with
    /// (`train_visualCheXbert.csv`), else on none.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none; as [`LabelFile::open`].
    pub(super) fn sides(
        &self,
        sides: &[(&'static str, &[&str])],
    ) -> Result<Vec<(&'static str, LabelFile)>> {
        if let Some(path) = self.named() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let begins = |known: &&str| {
                let stem = known.rsplit_once('.').map_or(*known, |(stem, _)| stem);
                name.starts_with(stem)
            };
            let side = sides.iter().find(|(_, names)| names.iter().any(begins));
            return Ok(vec![(
                side.map_or("", |(side, _)| side),
                LabelFile::open(path)?,
            )]);
        }
        let mut tables = Vec::new();
        for (side, names) in sides {
            tables.extend(self.table(names)?.map(|file| (*side, file)));
        }
        match tables.is_empty() {
            false => Ok(tables),
            true => {
                let all: Vec<&str> = sides
                    .iter()
                    .flat_map(|(_, names)| *names)
                    .copied()
                    .collect();
                Err(self.missing(&all))
            }
        }
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
        Error::BadConfig(self.told(wrong))
    }

    /// A message about the source.
    pub(super) fn told(&self, what: &str) -> String {
        format!("source {}: {what}", self.source)
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

/// Folders by their names, wherever they lie: `patient00001`, ...
pub(super) struct Named(HashMap<String, Vec<PathBuf>>);

impl Named {
    /// Those in `folders` whose names begin with `start`, and in folders below them down to `depth`; nothing is looked for
    /// inside of them.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub(super) fn find(folders: &[PathBuf], start: &str, depth: usize) -> Result<Self> {
        let mut named: HashMap<String, Vec<PathBuf>> = HashMap::new();
        let mut level = folders.to_owned();
        for _ in 0..=depth {
            let mut others = Vec::new();
            for path in folders_below(&level)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                match name.starts_with(start) {
                    true => named.entry(name.into_owned()).or_default().push(path),
                    false => others.push(path),
                }
            }
            level = others;
        }
        Ok(Self(named))
    }

    /// The file at the owners' path `before/name/after`, where `name` is one of the folders: of several, the one that
    /// lies as the owners' path says.
    pub(super) fn file(&self, before: &str, name: &str, after: &str) -> Sought {
        let all = self.0.get(name).map_or(&[][..], Vec::as_slice);
        let side = before.rsplit('/').next().unwrap_or_default();
        for ending in [before, side, ""] {
            let ending = Path::new(ending).join(name);
            let mut fitting = all.iter().filter(|folder| folder.ends_with(&ending));
            if let Some(folder) = fitting.next() {
                return match fitting.next() {
                    None => Ok(Location::File(folder.join(after))),
                    Some(_) => Err(SEVERAL),
                };
            }
        }
        Err("missing picture file")
    }
}

/// The folders in `folders`, sorted; links to folders are followed, which leads no deeper than the caller goes.
///
/// # Errors
/// `IO_ERROR`.
pub(super) fn folders_below(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut below = Vec::new();
    for folder in folders {
        let failed = |error| Error::io("read", folder, error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (kind, path) = (entry.file_type().map_err(failed)?, entry.path());
            if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                below.push(path);
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

    /// The picture called `name`, a path below the folder or a name with or without extension, among those whose path below
    /// the folder `fits`: the file at that path, else the only one that the path ends in, else the only one of that name.
    pub(super) fn get_where(&self, name: &str, fits: impl Fn(&Path) -> bool) -> Sought {
        let last = Path::new(name).file_name().unwrap_or_default();
        let places = self.by_name.get(&*last.to_string_lossy());
        let paths = places.into_iter().flatten().map(|at| &self.paths[*at]);
        let below = |path: &Path| fits(path.strip_prefix(&self.folder).unwrap_or(path));
        let of_name: Vec<&PathBuf> = paths.filter(|path| below(path)).collect();
        let whole = self.folder.join(name);
        let ending: Vec<&PathBuf> = of_name
            .iter()
            .copied()
            .filter(|path| path.ends_with(name))
            .collect();
        match (&ending[..], &of_name[..]) {
            (several, _) if several.contains(&&whole) => Ok(Location::File(whole)),
            ([one], _) | ([], [one]) => Ok(Location::File((*one).clone())),
            ([], []) => Err("missing picture file"),
            _ => Err(SEVERAL),
        }
    }

    /// The picture called `name`.
    pub(super) fn get(&self, name: &str) -> Sought {
        self.get_where(name, |_| true)
    }
}
