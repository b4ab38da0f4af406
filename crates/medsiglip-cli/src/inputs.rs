//! What there is to do: the paths, patterns, lists and texts of the command line as one list of [`Item`]s.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::Hash;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use medsiglip::image::{Kind, SNIFF_BYTES, sniff};

use crate::messages::{Failure, Result, count};

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
    /// Files of folders that were left out.
    pub left_out: LeftOut,
}

/// How many files of folders were left out, and why.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Pictures of formats that cannot be read yet, by the format's name.
    pub unsupported: BTreeMap<&'static str, usize>,
    /// What is no picture.
    pub others: usize,
}

impl LeftOut {
    /// `3 dicom files, 1 gif file`; `None` where there are none.
    pub fn unsupported(&self) -> Option<String> {
        let kinds = self.unsupported.iter();
        let parts: Vec<_> = kinds
            .map(|(name, number)| count(*number, &format!("{name} file")))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn add(&mut self, unsupported: Option<&'static str>) {
        match unsupported {
            Some(name) => *self.unsupported.entry(name).or_default() += 1,
            None => self.others += 1,
        }
    }
}

/// Extensions of files that are pictures, or claim to be.
const EXTENSIONS: [&str; 13] = [
    "png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "pnm", "pbm", "pgm", "ppm", "jpe", "jfif",
];

/// Extensions of picture formats that cannot be read yet, for files whose first bytes do not tell: slides, and what is
/// packed, damaged, or of a format without a magic number.
const UNSUPPORTED: [(&str, &str); 20] = [
    ("dcm", "dicom"),
    ("dicom", "dicom"),
    ("nii", "nifti"),
    ("nii.gz", "nifti"),
    ("mha", "metaimage"),
    ("mhd", "metaimage"),
    ("nrrd", "nrrd"),
    ("svs", "whole-slide"),
    ("ndpi", "whole-slide"),
    ("scn", "whole-slide"),
    ("mrxs", "whole-slide"),
    ("bif", "whole-slide"),
    ("czi", "whole-slide"),
    ("gif", "gif"),
    ("jp2", "jpeg 2000"),
    ("j2k", "jpeg 2000"),
    ("jxl", "jpeg xl"),
    ("heic", "heif"),
    ("heif", "heif"),
    ("avif", "avif"),
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
    left_out: LeftOut,
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
                Ok(entry) => match look(entry.path()) {
                    Look::Picture => self.images.push(entry.into_path()),
                    Look::Unsupported(name) => self.left_out.add(Some(name)),
                    Look::Other => self.left_out.add(None),
                },
                // What cannot be read is listed like any other input that fails.
                Err(error) => self.images.extend(error.path().map(Path::to_path_buf)),
            }
        }
    }

    fn into_inputs(self) -> Result<Inputs> {
        let Self {
            images,
            texts,
            left_out,
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
            let message = match left_out.unsupported() {
                Some(files) => format!("no pictures found but {files}, not supported yet"),
                None => "no pictures found, and no text given".to_owned(),
            };
            return Err(Failure::argument(message).hint(
                "give picture files, folders that hold some, or texts; see `medsiglip help embed`",
            ));
        }
        Ok(Inputs {
            repeated: given - items.len(),
            items,
            left_out,
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
    let before = (found.images.len(), found.left_out.clone());
    for entry in matches {
        match entry {
            Ok(path) if path.file_name().is_some_and(is_hidden) => {}
            Ok(path) => found.path(&path),
            Err(error) => found.images.push(error.path().to_path_buf()),
        }
    }
    if before == (found.images.len(), found.left_out.clone()) {
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
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty()).collect();
    refuse_other_lists(&lines)?;
    lines
        .iter()
        .for_each(|(_, line)| found.path(Path::new(line)));
    Ok(())
}

/// An error where `lines` (with their numbers) are rows of a table, or sentences, rather than paths. Such lines can
/// hold patient data, and would be shown as files that are missing: no message may show one.
fn refuse_other_lists(lines: &[(usize, &str)]) -> Result<()> {
    let missing = |line: &str| !exists(Path::new(line));
    let is_row = |line: &str| line.contains([',', ';', '\t']) && missing(line);
    let message = if let Some((number, _)) = lines.iter().find(|(_, line)| is_row(line)) {
        format!("standard input: line {number} is no file, and looks like a row of a table")
    } else if !lines.is_empty() && lines.iter().all(|(_, line)| missing(line)) {
        let lines = count(lines.len(), "line");
        format!("standard input: none of its {lines} is a file or folder here")
    } else {
        return Ok(());
    };
    Err(Failure::argument(message).hint(
        "give one path a line, or a CSV (with commas) whose first line names a column path, image or text",
    ))
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

/// What a file of a folder is.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// A picture, or a file whose extension claims that it is one.
    Picture,
    /// A picture of a format that cannot be read yet.
    Unsupported(&'static str),
    /// No picture.
    Other,
}

/// Looks at a file's name, then at its first bytes.
fn look(path: &Path) -> Look {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    let has = |extension: &&str| {
        let stem = name.strip_suffix(extension);
        stem.is_some_and(|stem| stem.ends_with('.'))
    };
    if EXTENSIONS.iter().any(has) {
        return Look::Picture;
    }
    let named = UNSUPPORTED.iter().find(|(extension, _)| has(extension));
    match (first_bytes_show(path), named) {
        (Kind::Unsupported(name), _) => Look::Unsupported(name),
        // Many slides are TIFF.
        (Kind::Unknown | Kind::Tiff, Some((_, name))) => Look::Unsupported(name),
        (Kind::Unknown, None) => Look::Other,
        _ => Look::Picture,
    }
}

fn first_bytes_show(path: &Path) -> Kind {
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    let read =
        File::open(path).and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut start));
    read.map_or(Kind::Unknown, |_| sniff(&start))
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
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("b, c.png"), "").unwrap();
        let (missing, there) = (path("a.png"), path("b, c.png"));
        let list = format!(
            "\u{feff}{}\r\n\n  {} \n",
            missing.display(),
            there.display()
        );
        let (images, texts) = listed(&list);
        assert_eq!(images, [missing, there]);
        assert!(texts.is_empty());
    }

    #[test]
    fn rows_and_sentences_are_no_list_and_are_not_shown() {
        let cases = [
            ("DOE JOHN,1950,a.png\nROE JANE,1960,b.png\n", "line 1"),
            ("name;path\n\nDOE JOHN;a.png\n", "line 1"),
            ("Cargo.toml\n\nDOE JOHN\ta.png\n", "line 3"),
            ("Export\nDOE JOHN,a.png\n", "line 2"),
            (
                "DOE JOHN has a fracture\nROE JANE has none\n",
                "none of its 2 lines",
            ),
        ];
        for (text, expected) in cases {
            let mut found = Found::default();
            let failure = read_list(text.as_bytes(), &mut found).unwrap_err();
            let told = format!("{failure:?}");
            assert!(
                told.contains(expected) && told.contains("column path"),
                "{told}"
            );
            assert!(!told.contains("DOE") && !told.contains("Export"), "{told}");
        }
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
    fn files_are_known_by_their_names_and_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut dicom = [0; 200];
        dicom[128..132].copy_from_slice(b"DICM");
        let cases = [
            ("torn.PNG", &b""[..], Look::Picture),
            ("scan", b"P5\n2 2\n255\n", Look::Picture),
            ("slide.svs", b"II*\0", Look::Unsupported("whole-slide")),
            ("page.tif", b"", Look::Picture),
            ("IM0001", &dicom, Look::Unsupported("dicom")),
            ("torn.dcm", b"", Look::Unsupported("dicom")),
            ("brain.nii.gz", b"\x1f\x8b", Look::Unsupported("nifti")),
            ("film.gif", b"GIF89a", Look::Unsupported("gif")),
            ("notes.txt", b"hello", Look::Other),
            ("archive.gz", b"\x1f\x8b", Look::Other),
            ("png", b"", Look::Other),
        ];
        for (name, bytes, expected) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(look(&path), expected, "{name}");
        }
    }
}
