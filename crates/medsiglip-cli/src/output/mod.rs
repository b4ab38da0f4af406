//! Where results go: the file formats, and files that appear whole or not at all.

mod columns;
mod jsonl;
mod csv;
mod npy;
mod parquet;
mod h5;
mod scorer;
mod scores;
mod summary;
mod heatmap;
mod drawing;
#[cfg(feature = "evaluate")]
mod hits_page;

pub use self::columns::columns;
pub use self::csv::CsvWriter;
pub use self::h5::H5Writer;
pub use self::heatmap::{HeatMapOptions, HeatMaps, geojson_beside};
#[cfg(feature = "evaluate")]
pub use self::hits_page::HitsPage;
pub use self::jsonl::JsonlWriter;
pub use self::npy::NpyWriter;
pub use self::parquet::ParquetWriter;
pub use self::scorer::Scorer;
pub use self::scores::{CsvScores, JsonlScores, NOT_CLINICAL, SLIDES, TableScores};

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::ImageEncoder;
use medsiglip::embedding::Provenance;
use medsiglip::image::{Picture, Samples};
use tempfile::{NamedTempFile, TempPath};

use crate::batches::Outcome;
use crate::inputs::Item;
use crate::journal::Stamp;
use crate::messages::{Failure, Result};

/// A file format: takes batch after batch.
pub trait Writer {
    /// Writes the outcomes of `items`.
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()>;

    /// Hands on everything written so far (standard output), so that a reader sees it.
    fn flush(&mut self) -> Result<()>;

    /// Writes what belongs to the end.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The sink of a writer's main stream.
pub type Sink = Box<dyn Write + Send>;

/// Where a writer writes, and what it must know beforehand.
pub enum Destination<'a> {
    /// Standard output, item after item.
    Stdout {
        /// Files beside it.
        files: &'a mut Files,
    },
    /// Files, after all items are done.
    Files {
        /// The files.
        files: &'a mut Files,
        /// How many items have an embedding.
        rows: u64,
        /// The places of the items that have none.
        failed: &'a BTreeSet<usize>,
    },
}

impl Destination<'_> {
    /// The main stream.
    pub fn main(&mut self) -> Result<Sink> {
        match self {
            Self::Stdout { .. } => Ok(Box::new(BufWriter::new(std::io::stdout()))),
            Self::Files { files, .. } => {
                let path = files.target.clone();
                files.create(path)
            }
        }
    }

    /// The files that are written, beside standard output too.
    pub fn files(&mut self) -> &mut Files {
        match self {
            Self::Stdout { files } | Self::Files { files, .. } => files,
        }
    }

    /// Leaves `provenance` beside the output, for formats that have no place for it.
    pub fn provenance_beside(&mut self, provenance: &Provenance) -> Result<()> {
        let text = serde_json::to_string(provenance).map_err(|e| Failure::stdout(e.into()))?;
        match self {
            Self::Stdout { .. } => crate::messages::note(format_args!("provenance: {text}")),
            Self::Files { files, .. } => {
                let path = beside(&files.target, PROVENANCE);
                let mut file = files.create(path.clone())?;
                writeln!(file, "{text}")
                    .and_then(|()| file.flush())
                    .map_err(|e| Failure::io("write", path, e))?;
            }
        }
        Ok(())
    }

    /// Where failed items are listed, for formats that have no place for them; `None` where none failed.
    pub fn errors_beside(&mut self) -> Result<Option<Sink>> {
        match self {
            Self::Files { files, failed, .. } if !failed.is_empty() => {
                let path = beside(&files.target, ERRORS);
                files.create(path).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Suffix of the file that says how the output was made.
pub const PROVENANCE: &str = ".provenance.json";

/// Suffix of the list of failed items.
pub const ERRORS: &str = ".errors.jsonl";

/// Where the files of an output will stand, and which files there may be replaced.
pub struct Places {
    /// The output itself.
    pub main: PathBuf,
    /// Whether it is a folder, whose files are the companions.
    pub is_folder: bool,
    /// The files beside it that its format can have.
    pub companions: Vec<PathBuf>,
    /// Whether whatever stands there may be replaced.
    pub overwrite: bool,
    /// Names and stamps of files that an earlier run of the same work may have put there before it ended.
    pub own: Vec<(String, Stamp)>,
}

impl Places {
    /// An error where something stands that may not be replaced.
    pub fn check(&self) -> Result<()> {
        let main = Some(&self.main).filter(|_| !self.is_folder);
        main.into_iter()
            .chain(&self.companions)
            .try_for_each(|path| refuse_existing(path, self.may_replace(path)))
    }

    /// Whether an earlier run of the same work put the file at `path` there.
    pub fn is_own(&self, path: &Path) -> bool {
        Stamp::of(path).is_some_and(|stamp| self.own.contains(&(name(path), stamp)))
    }

    fn may_replace(&self, path: &Path) -> bool {
        self.overwrite || self.is_own(path)
    }

    /// Deletes replaceable companions that the new output does not have: they would lie about it.
    fn remove_stale(&self, written: &[(TempPath, PathBuf)]) -> Result<()> {
        let is_written = |path: &PathBuf| written.iter().any(|(_, other)| other == path);
        self.companions
            .iter()
            .filter(|path| path.exists() && self.may_replace(path) && !is_written(path))
            .try_for_each(|path| {
                std::fs::remove_file(path).map_err(|e| Failure::io("delete", path, e))
            })
    }
}

/// The last part of a path.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Files being written: each is a temporary file beside its place until [`Files::commit`].
pub struct Files {
    target: PathBuf,
    written: Vec<(TempPath, PathBuf)>,
}

impl Files {
    /// Files that go with the output `target`.
    pub fn new(target: &Path) -> Self {
        Self {
            target: target.to_path_buf(),
            written: Vec::new(),
        }
    }

    /// Where the file of row numbers and ids of an array stands: `STEM.ids.csv`.
    pub fn ids(&self) -> PathBuf {
        ids_beside(&self.target)
    }

    /// Where the output itself will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Begins the file that will stand at `path`.
    pub fn create(&mut self, path: PathBuf) -> Result<Sink> {
        let (file, temporary) = create_temporary(&path)?.into_parts();
        self.written.push((temporary, path));
        Ok(Box::new(BufWriter::new(file)))
    }

    /// An empty file that will stand at `path`, to be opened by its temporary name, which is given back.
    pub fn reserve(&mut self, path: PathBuf) -> Result<PathBuf> {
        let temporary = create_temporary(&path)?.into_temp_path();
        let name = temporary.to_path_buf();
        self.written.push((temporary, path));
        Ok(name)
    }

    /// Puts every file into its place, the output itself last, when all are on the disk. What stands there unasked
    /// by then stays. `before` is told the files' names and stamps.
    pub fn commit(
        mut self,
        places: &Places,
        before: impl FnOnce(&[(String, Stamp)]) -> Result<()>,
    ) -> Result<()> {
        for (file, path) in &self.written {
            let opened = OpenOptions::new().write(true).open(file);
            let synced = opened.and_then(|file| file.sync_all());
            synced.map_err(|e| Failure::io("write", path, e))?;
        }
        places.check()?;
        let stamp =
            |(file, path): &(TempPath, PathBuf)| Stamp::of(file).map(|stamp| (name(path), stamp));
        before(&self.written.iter().filter_map(stamp).collect::<Vec<_>>())?;
        places.remove_stale(&self.written)?;
        self.written.sort_by_key(|(_, path)| *path == self.target);
        for (file, path) in self.written {
            persist(file, &path, places.may_replace(&path))
                .map_err(|e| Failure::io("write", &path, e))?;
        }
        Ok(())
    }
}

fn persist(file: TempPath, path: &Path, replace: bool) -> std::io::Result<()> {
    if replace {
        return file.persist(path).map_err(|e| e.error);
    }
    match file.persist_noclobber(path) {
        // Some file systems cannot rename like this: looking first is the best that can be done there.
        Err(failed) if path.symlink_metadata().is_err() => {
            failed.path.persist(path).map_err(|e| e.error)
        }
        other => other.map_err(|e| e.error),
    }
}

/// Writes a small file whole or not at all; an existing one is replaced only with `overwrite`.
pub fn write_file(path: &Path, overwrite: bool, bytes: &[u8]) -> Result<()> {
    let places = Places {
        main: path.to_path_buf(),
        is_folder: false,
        companions: Vec::new(),
        overwrite,
        own: Vec::new(),
    };
    places.check()?;
    let mut files = Files::new(path);
    let mut file = files.create(path.to_path_buf())?;
    file.write_all(bytes)
        .and_then(|()| file.flush())
        .map_err(|e| Failure::io("write", path, e))?;
    drop(file);
    files.commit(&places, |_| Ok(()))
}

/// A picture of 8-bit samples as a PNG file.
pub fn png(picture: &Picture) -> Result<Vec<u8>> {
    let Samples::U8(samples) = picture.samples() else {
        return Err(Failure::argument("PNG: expected 8 bits a sample"));
    };
    let color = match picture.channels() {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(samples, picture.width(), picture.height(), color)
        .map_err(|error| Failure::stdout(std::io::Error::other(error)))?;
    Ok(bytes)
}

/// An error where something stands at `path` that may not be replaced.
pub fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if metadata.is_dir() {
        return Err(Failure::argument(format!(
            "the output is a folder: {}",
            path.display()
        )));
    }
    if path.metadata().is_ok_and(|file| !file.is_file()) {
        return Err(Failure::argument(format!(
            "the output is no regular file: {}",
            path.display()
        ))
        .hint("to write into a device or pipe, leave --output out and redirect standard output"));
    }
    if !overwrite {
        return Err(
            Failure::argument(format!("the output exists: {}", path.display()))
                .hint("replace it with --overwrite, or give another --output"),
        );
    }
    Ok(())
}

/// An error where one of the files `outputs` is one of `inputs`, or where two of them are one file.
pub fn refuse_clashes(outputs: &[PathBuf], inputs: &[&Path]) -> Result<()> {
    let mut seen = HashSet::new();
    if let Some(twice) = outputs.iter().find(|path| !seen.insert(canonical(path))) {
        let twice = twice.display();
        return Err(
            Failure::argument(format!("two outputs are one file: {twice}"))
                .hint("give each a name of its own"),
        );
    }
    // What does not exist is no input: most runs look at no path.
    if !outputs.iter().any(|path| path.exists()) {
        return Ok(());
    }
    match inputs.iter().find(|path| seen.contains(&canonical(path))) {
        Some(input) => Err(Failure::argument(format!(
            "the output is an input: {}",
            input.display()
        ))
        .hint("give another name: an input is never replaced")),
        None => Ok(()),
    }
}

/// The path without links, of a file that need not exist.
fn canonical(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = parent(path).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let whole = path.canonicalize().ok();
    whole.or_else(in_folder).unwrap_or_else(|| path.into())
}

/// An error where the name of `path` does not end with `extension`.
pub fn require_extension(path: &Path, extension: &str) -> Result<()> {
    let own = path.extension().unwrap_or_default();
    match own.eq_ignore_ascii_case(extension) {
        true => Ok(()),
        false => Err(Failure::argument(format!(
            "expected a name that ends with .{extension}: {}",
            path.display()
        ))),
    }
}

/// `path` with `suffix` after its whole name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// `STEM.ids.csv` beside `path`.
pub fn ids_beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(".ids.csv");
    path.with_file_name(name)
}

/// The folder that `path` stands in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn create_temporary(path: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".medsiglip-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Like any other new file: what the umask leaves, not private as a temporary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
        .tempfile_in(parent(path))
        .map_err(|e| Failure::io("create", path, e))
}
