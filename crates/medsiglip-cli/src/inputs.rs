//! What there is to do: the paths, patterns, lists and texts of the command line as one list of [`Item`]s.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::hash::Hash;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::messages::{Failure, Result};

/// One input: a picture file or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A picture file.
    Image(PathBuf),
    /// A text.
    Text(Text),
}

/// A text, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// Which of the texts given, from 1.
    position: usize,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            position: 1,
        }
    }
}

/// The inputs in their order: pictures first, then texts; each distinct one once.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The inputs.
    pub items: Vec<Item>,
    /// How many were given again and left out.
    pub repeated: usize,
    /// How many files of folders are no pictures and were left out.
    pub skipped: usize,
}

/// Extensions of files that are pictures, or claim to be.
const EXTENSIONS: [&str; 13] = [
    "png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "pnm", "pbm", "pgm", "ppm", "jpe", "jfif",
];

impl Item {
    /// The path as given or found, or the text.
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Image(path) => path.to_string_lossy(),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// What messages call it: the path, or `text 17` for the 17th text given. Texts can hold patient data,
    /// so that no message shows one.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Image(path) => path.to_string_lossy(),
            Self::Text(text) => Cow::Owned(format!("text {}", text.position)),
        }
    }

    /// `image` or `text`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Text(_) => "text",
        }
    }
}

/// Lists the inputs. `paths` are files, folders, patterns, or `-` for standard input.
///
/// A path that does not exist becomes an item, which fails when its turn comes, unless there is nothing else to do.
pub fn gather(paths: &[PathBuf], texts: &[String]) -> Result<Inputs> {
    let mut found = Found::default();
    for path in paths {
        if path == Path::new("-") {
            read_list(std::io::stdin().lock(), &mut found)?;
        } else {
            expand(path, &mut found)?;
        }
    }
    texts.iter().for_each(|text| found.text(text));
    found.into_inputs()
}

#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    texts: Vec<String>,
    skipped: usize,
}

impl Found {
    fn text(&mut self, text: &str) {
        self.texts.push(text.to_owned());
    }

    /// A file, or the pictures of a folder.
    fn path(&mut self, path: &Path) {
        if path.is_dir() {
            self.folder(path);
        } else {
            self.images.push(path.to_path_buf());
        }
    }

    fn folder(&mut self, folder: &Path) {
        let walk = walkdir::WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name()));
        for entry in walk {
            match entry {
                Ok(entry) if !entry.file_type().is_file() => {}
                Ok(entry) if is_picture(entry.path()) => self.images.push(entry.into_path()),
                Ok(_) => self.skipped += 1,
                // What cannot be read is listed like any other input that fails.
                Err(error) => self.images.extend(error.path().map(Path::to_path_buf)),
            }
        }
    }

    fn into_inputs(self) -> Result<Inputs> {
        let Self {
            images,
            texts,
            skipped,
        } = self;
        let first_missing = images.first().filter(|path| !exists(path));
        if let Some(path) = first_missing
            && texts.is_empty()
            && !images.iter().any(|path| exists(path))
        {
            return Err(
                Failure::missing("read", path).hint("check the path; patterns must be quoted")
            );
        }
        let given = images.len() + texts.len();
        let mut items: Vec<Item> = distinct(images)
            .map(|(_, path)| Item::Image(path))
            .collect();
        items.extend(distinct(texts).map(|(index, text)| {
            Item::Text(Text {
                text,
                position: index + 1,
            })
        }));
        if items.is_empty() {
            return Err(Failure::argument("no pictures found, and no text given").hint(
                "give picture files, folders that hold some, or texts; see `medsiglip help embed`",
            ));
        }
        Ok(Inputs {
            repeated: given - items.len(),
            items,
            skipped,
        })
    }
}

/// The first of each of `all`, with its place.
fn distinct<T: Eq + Hash>(all: Vec<T>) -> impl Iterator<Item = (usize, T)> {
    let is_first: Vec<bool> = {
        let mut seen = HashSet::with_capacity(all.len());
        all.iter().map(|one| seen.insert(one)).collect()
    };
    let all = all.into_iter().enumerate().zip(is_first);
    all.filter_map(|(one, is_first)| is_first.then_some(one))
}

/// A path of the command line: what exists is taken as it is, then as a pattern.
fn expand(path: &Path, found: &mut Found) -> Result<()> {
    let pattern = path
        .to_str()
        .filter(|text| text.contains(['*', '?', '[']) && !exists(path));
    let Some(pattern) = pattern else {
        found.path(path);
        return Ok(());
    };
    let matches = glob::glob(pattern).map_err(|error| {
        Failure::argument(format!("not a pattern: {}: {pattern}", error.msg))
            .hint("? and * stand for characters, ** for folders, [abc] for one of these")
    })?;
    let before = (found.images.len(), found.skipped);
    for entry in matches {
        match entry {
            Ok(path) if path.file_name().is_some_and(is_hidden) => {}
            Ok(path) => found.path(&path),
            Err(error) => found.images.push(error.path().to_path_buf()),
        }
    }
    if before == (found.images.len(), found.skipped) {
        return Err(
            Failure::argument(format!("no file matches the pattern {pattern}"))
                .hint("patterns are relative to the current folder and match case"),
        );
    }
    Ok(())
}

/// Standard input: a CSV where its first line names a column `path`, `image` or `text`, else one path a line.
fn read_list(mut source: impl Read, found: &mut Found) -> Result<()> {
    let mut text = String::new();
    source
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("read", "standard input", error))?;
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().next().unwrap_or_default();
    let is_csv = header.split(',').any(|name| Column::of(name).is_some());
    if is_csv {
        return read_csv(text, found);
    }
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .for_each(|line| found.path(Path::new(line)));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Path,
    Text,
}

impl Column {
    fn of(name: &str) -> Option<Self> {
        match name.trim().trim_matches('"').to_ascii_lowercase().as_str() {
            "path" | "image" => Some(Self::Path),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

fn read_csv(text: &str, found: &mut Found) -> Result<()> {
    let bad = |error: csv::Error| Failure::argument(format!("standard input: {error}"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<_> = reader
        .headers()
        .map_err(bad)?
        .iter()
        .map(Column::of)
        .collect();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        for (column, cell) in columns.iter().zip(&record) {
            match column {
                Some(Column::Path) if !cell.is_empty() => found.path(Path::new(cell)),
                Some(Column::Text) if !cell.is_empty() => found.text(cell),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a file of a folder is a picture: by its extension, else by its first bytes.
fn is_picture(path: &Path) -> bool {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) || has_picture_magic(path)
}

fn has_picture_magic(path: &Path) -> bool {
    let mut start = Vec::with_capacity(16);
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.is_ok() && is_picture_magic(&start)
}

fn is_picture_magic(start: &[u8]) -> bool {
    const MAGIC: [&[u8]; 7] = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"MM\0+",
        b"BM",
    ];
    let is_webp = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    let is_pnm = matches!(start, [b'P', b'1'..=b'6', space, ..] if space.is_ascii_whitespace());
    is_webp || is_pnm || MAGIC.iter().any(|magic| start.starts_with(magic))
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether there is something at `path`, a broken link too.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> (Vec<PathBuf>, Vec<String>) {
        let mut found = Found::default();
        read_list(text.as_bytes(), &mut found).unwrap();
        (found.images, found.texts)
    }

    #[test]
    fn a_list_holds_one_path_a_line() {
        let (images, texts) = listed("\u{feff}a.png\r\n\n  b, c.png \n");
        assert_eq!(images, [Path::new("a.png"), Path::new("b, c.png")]);
        assert!(texts.is_empty());
    }

    #[test]
    fn a_csv_is_known_by_its_header() {
        let (images, texts) = listed("case,Image,TEXT\n1,a.png,\"x, y\"\n2,,z\n");
        assert_eq!(images, [Path::new("a.png")]);
        assert_eq!(texts, ["x, y", "z"]);
    }

    #[test]
    fn a_ragged_csv_is_refused() {
        let mut found = Found::default();
        assert!(read_list("path,text\na.png\n".as_bytes(), &mut found).is_err());
    }

    #[test]
    fn each_input_is_listed_once() {
        let found = Found {
            texts: vec!["b".into(), "b".into(), "a".into(), "b".into()],
            images: vec!["x".into(), "x".into()],
            ..Found::default()
        };
        let inputs = found.into_inputs().unwrap();
        let ids: Vec<_> = inputs.items.iter().map(Item::id).collect();
        assert_eq!(ids, ["x", "b", "a"]);
        let shown: Vec<_> = inputs.items.iter().map(Item::shown).collect();
        assert_eq!(shown, ["x", "text 1", "text 3"]);
        assert_eq!(inputs.repeated, 3);
    }

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        assert!(is_picture_magic(b"P5\n2 2\n255\n"));
        assert!(is_picture_magic(b"RIFF\0\0\0\0WEBPVP8 "));
        assert!(!is_picture_magic(b"P7 not one"));
        assert!(!is_picture_magic(b"hello"));
        assert!(!is_picture_magic(b""));
    }
}
