//! What there is to do: the paths, patterns, lists and texts of the command line as one list of [`Item`]s.

mod dicom;
#[cfg(feature = "evaluate")]
mod files;
mod left_out;
mod list;
mod look;
mod slides;

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsiglip::image::Limits;
use medsiglip::image::slide::Tiling;

use crate::batches::Failed;
use crate::messages::{Failure, Result, count};
use crate::output::refuse_clashes;
pub use dicom::{FrameChoice, Frames, is_slide};
#[cfg(feature = "evaluate")]
pub use files::{digest, file_of};
pub use left_out::LeftOut;
use look::{Look, is_tiff, look};
pub use look::{first_bytes_show, is_named_slide};
pub use slides::{Overview, Slides, Tiles, beside_each, named_after, read_coords, slides_among};

/// One input: a picture or a text.
#[derive(Debug, Clone)]
pub enum Item {
    /// A picture.
    Image(Source),
    /// A text.
    Text(Text),
}

/// A picture: a file or a part of one. Small, for there can be millions.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, shared by all its pictures.
    pub file: Arc<SourceFile>,
    /// Which of its pictures.
    pub part: Part,
}

/// A file of pictures.
#[derive(Debug)]
pub struct SourceFile {
    /// As given or found.
    pub path: PathBuf,
    /// Whether it is cut.
    pub cut: Cut,
}

impl SourceFile {
    /// The tiles, where it is a slide in tiles.
    pub fn tiles(&self) -> Option<&Tiles> {
        match &self.cut {
            Cut::Tiles(tiles) => Some(tiles),
            _ => None,
        }
    }
}

/// What becomes of a file.
#[derive(Debug)]
pub enum Cut {
    /// It is taken as it is.
    No,
    /// It is a slide, in tiles.
    Tiles(Box<Tiles>),
    /// It was to be cut, and cannot be.
    Refused(Failed),
}

/// Which of a file's pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The only one.
    Whole,
    /// A frame of a DICOM file that has several, from 0.
    Frame(u32),
    /// A tile of a slide, by its place among those of the tiling.
    Tile(u32),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self {
            file: Arc::new(SourceFile { path, cut: Cut::No }),
            part: Part::Whole,
        }
    }
}

/// A text, and where it stood.
#[derive(Debug, Clone)]
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
    /// Whether one of the pictures is in a DICOM file.
    pub has_dicom: bool,
    /// Whether they are tiles of slides.
    pub has_tiles: bool,
    /// How many were given again and left out.
    pub repeated: usize,
    /// Files of folders that were left out.
    pub left_out: LeftOut,
}

impl Item {
    /// The path as given or found, with the part where it is one: `scan.dcm#frame=3`, counted from 1 as DICOM does, or
    /// `slide.svs#x=0,y=448` in pixels of level 0; or the text.
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Image(source) => source.id(),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// What messages call it: the id, or `text 17` for the 17th text given. Texts can hold patient data,
    /// so that no message shows one.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Image(source) => source.id(),
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

impl Source {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The tiling of the slide, and the top left corner of this tile in pixels of level 0.
    pub fn tile(&self) -> Option<(&Tiling, (u32, u32))> {
        let Part::Tile(index) = self.part else {
            return None;
        };
        let tiling = &self.file.tiles()?.tiling;
        Some((tiling, *tiling.tiles.get(index as usize)?))
    }

    fn id(&self) -> Cow<'_, str> {
        let path = self.path().to_string_lossy();
        match (self.part, self.tile()) {
            (Part::Frame(frame), _) => format!("{path}#frame={}", u64::from(frame) + 1).into(),
            (_, Some((_, (x, y)))) => format!("{path}#x={x},y={y}").into(),
            _ => path,
        }
    }
}

/// How files are looked into while inputs are listed.
#[derive(Debug, Default)]
pub struct Reading {
    /// Which frames of DICOM files are taken.
    pub frames: Frames,
    /// What is refused.
    pub limits: Limits,
    /// Threads that look.
    pub threads: usize,
    /// How slides are cut; `None` where files are taken as pictures.
    pub slides: Option<Slides>,
    /// The file that will be written.
    pub output: Option<PathBuf>,
}

/// Lists the inputs. `paths` are files, folders, patterns, or `-` for standard input.
///
/// A path that does not exist becomes an item, which fails when its turn comes, unless there is nothing else to do.
pub fn gather(paths: &[PathBuf], texts: &[String], reading: &Reading) -> Result<Inputs> {
    let mut found = Found {
        limits: reading.limits,
        are_slides: reading.slides.is_some(),
        ..Found::default()
    };
    for path in paths {
        if path == Path::new("-") {
            list::read(std::io::stdin().lock(), &mut found)?;
        } else {
            expand(path, &mut found)?;
        }
    }
    texts.iter().for_each(|text| found.text(text));
    found.into_inputs(reading)
}

#[derive(Default)]
struct Found {
    files: Vec<FoundFile>,
    texts: Vec<String>,
    left_out: LeftOut,
    /// Folders and DICOMDIRs that were searched.
    places: usize,
    /// What is refused.
    limits: Limits,
    /// Whether files are taken as slides.
    are_slides: bool,
}

/// A file, and how it was found.
#[derive(Debug, Clone)]
struct FoundFile {
    path: PathBuf,
    from: Origin,
    /// Whether its first bytes are those of DICOM; `None` where nobody has looked.
    is_dicom: Option<bool>,
}

/// How a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It was named: it is an input whatever it is.
    Named,
    /// A DICOMDIR (which of the places searched) lists it: it is an input, there or not, but for what has no pixels.
    Listed(usize),
    /// In a folder (which of the places searched), with what else lies there.
    Folder(usize),
}

impl Found {
    fn text(&mut self, text: &str) {
        self.texts.push(text.to_owned());
    }

    fn named(&mut self, path: PathBuf) {
        self.files.push(FoundFile {
            path,
            from: Origin::Named,
            is_dicom: None,
        });
    }

    /// A file, or the pictures of a folder.
    fn path(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            self.folder(path);
        } else if dicom::is_directory(path) {
            self.directory(path)?;
        } else {
            self.named(path.to_path_buf());
        }
        Ok(())
    }

    fn next_place(&mut self) -> usize {
        self.places += 1;
        self.places
    }

    /// The files of a folder: of a DICOMDIR in it first what it lists, then what else lies there.
    fn folder(&mut self, folder: &Path) {
        let place = self.next_place();
        let mut listed = HashSet::new();
        let mut discs: Vec<PathBuf> = Vec::new();
        let mut walk = walkdir::WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // What cannot be read is listed like any other input that fails.
                Err(error) => {
                    self.files.extend(error.path().map(|path| FoundFile {
                        path: path.to_path_buf(),
                        from: Origin::Named,
                        is_dicom: Some(false),
                    }));
                    continue;
                }
            };
            let is_folder = entry.file_type().is_dir();
            if entry.depth() > 0 && is_hidden(entry.file_name()) {
                if is_folder {
                    walk.skip_current_dir();
                }
            } else if is_folder {
                let before = listed.len();
                listed.extend(self.directory_of(entry.path()));
                if listed.len() > before {
                    discs.push(entry.into_path());
                }
            } else if entry.file_type().is_file() && !is_among(&listed, entry.path()) {
                let is_on_disc = discs.iter().any(|disc| entry.path().starts_with(disc));
                self.file(entry.into_path(), place, is_on_disc);
            }
        }
    }

    /// A file of the folder `place`; on a disc, one that its DICOMDIR does not list.
    fn file(&mut self, path: PathBuf, place: usize, is_on_disc: bool) {
        let is_dicom = match look(&path) {
            // A disc's viewer has pictures of its own.
            Look::Picture if is_on_disc => return self.left_out.beside_discs += 1,
            // Beside slides lie their thumbnails.
            Look::Picture if self.are_slides && !is_tiff(&path) => {
                return self.left_out.others += 1;
            }
            Look::Picture => false,
            Look::Dicom => true,
            Look::Slide if self.are_slides => false,
            Look::Slide => return self.left_out.slides += 1,
            Look::Unsupported(name) => {
                return *self.left_out.unsupported.entry(name).or_default() += 1;
            }
            Look::Other => return self.left_out.others += 1,
        };
        self.files.push(FoundFile {
            path,
            from: Origin::Folder(place),
            is_dicom: Some(is_dicom),
        });
    }

    fn into_inputs(self, reading: &Reading) -> Result<Inputs> {
        let Self {
            files,
            texts,
            mut left_out,
            ..
        } = self;
        let first_missing = files.first().filter(|file| !exists(&file.path));
        if let Some(file) = first_missing
            && texts.is_empty()
            && !files.iter().any(|file| exists(&file.path))
        {
            return Err(Failure::missing("read", &file.path)
                .hint("check the path; patterns must be quoted"));
        }
        let given = files.len() + texts.len();
        let files = distinct_files(files);
        let texts: Vec<(usize, String)> = distinct(texts).collect();
        let repeated = given - files.len() - texts.len();
        let (mut items, has_dicom) = match &reading.slides {
            Some(slides) => (
                slides::expand(files, slides, reading, &mut left_out)?,
                false,
            ),
            None => {
                let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
                refuse_clashes(reading.output.as_slice(), &paths)?;
                dicom::expand(files, reading, &mut left_out)
            }
        };
        items.extend(texts.into_iter().map(|(index, text)| {
            Item::Text(Text {
                text,
                position: index + 1,
            })
        }));
        if items.is_empty() {
            return Err(nothing_found(&left_out, reading.slides.is_some()));
        }
        Ok(Inputs {
            items,
            has_dicom,
            has_tiles: reading.slides.is_some(),
            repeated,
            left_out,
        })
    }
}

fn nothing_found(left_out: &LeftOut, are_slides: bool) -> Failure {
    if are_slides {
        return Failure::argument("no slides found").hint(
            "folders are searched for slides and TIFF files; other pictures are taken as slides by name: \"scans/*.png\"",
        );
    }
    let message = match left_out.unsupported() {
        Some(files) => format!("no pictures found but {files}, not supported yet"),
        None if left_out.slides > 0 => format!(
            "no pictures found but {}",
            count(left_out.slides, "whole-slide file")
        ),
        None if left_out.no_images > 0 => format!(
            "no pictures found but {} that are no images",
            count(left_out.no_images, "dicom object")
        ),
        None => "no pictures found, and no text given".to_owned(),
    };
    let hint = if left_out.slides > 0 {
        "cut slides into tiles: --tile 448 --mpp 0.5"
    } else {
        "give picture files, folders that hold some, or texts; see `medsiglip help embed`"
    };
    Failure::argument(message).hint(hint)
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

/// The first of the files of each path.
fn distinct_files(files: Vec<FoundFile>) -> Vec<FoundFile> {
    let is_first: Vec<bool> = {
        let mut seen = HashSet::with_capacity(files.len());
        files.iter().map(|file| seen.insert(&file.path)).collect()
    };
    let files = files.into_iter().zip(is_first);
    files
        .filter_map(|(file, is_first)| is_first.then_some(file))
        .collect()
}

/// A path of the command line: what exists is taken as it is, then as a pattern.
fn expand(path: &Path, found: &mut Found) -> Result<()> {
    let pattern = path
        .to_str()
        .filter(|text| text.contains(['*', '?', '[']) && !exists(path));
    let Some(pattern) = pattern else {
        return found.path(path);
    };
    let matches = glob::glob(pattern).map_err(|error| {
        Failure::argument(format!("not a pattern: {}: {pattern}", error.msg))
            .hint("? and * stand for characters, ** for folders, [abc] for one of these")
    })?;
    let before = (found.files.len(), found.left_out.clone());
    for entry in matches {
        match entry {
            Ok(path) if path.file_name().is_some_and(is_hidden) => {}
            Ok(path) => found.path(&path)?,
            Err(error) => found.named(error.path().to_path_buf()),
        }
    }
    if before == (found.files.len(), found.left_out.clone()) {
        return Err(
            Failure::argument(format!("no file matches the pattern {pattern}"))
                .hint("patterns are relative to the current folder and match case"),
        );
    }
    Ok(())
}

/// Whether `path` is one of the canonical paths `listed`.
fn is_among(listed: &HashSet<PathBuf>, path: &Path) -> bool {
    let is_listed = |path: PathBuf| listed.contains(&path);
    !listed.is_empty() && path.canonicalize().is_ok_and(is_listed)
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

    #[test]
    fn each_input_is_listed_once() {
        let mut found = Found::default();
        ["b", "b", "a", "b"]
            .iter()
            .for_each(|text| found.text(text));
        ["x", "x"].iter().for_each(|path| found.named(path.into()));
        found.named(std::env::temp_dir());
        let inputs = found.into_inputs(&Reading::default()).unwrap();
        let ids: Vec<_> = inputs.items.iter().map(Item::id).collect();
        assert_eq!(
            ids,
            ["x", &std::env::temp_dir().to_string_lossy(), "b", "a"]
        );
        let shown: Vec<_> = inputs.items[2..].iter().map(Item::shown).collect();
        assert_eq!(shown, ["text 1", "text 3"]);
        assert_eq!(inputs.repeated, 3);
    }

    #[test]
    fn an_item_is_small() {
        assert!(size_of::<Item>() <= 40, "{}", size_of::<Item>());
    }
}
