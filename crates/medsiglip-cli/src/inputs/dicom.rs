//! DICOM files as inputs: frames, slices of a series in their order, and the files that a DICOMDIR lists.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use medsiglip::image::Kind;
use medsiglip::image::dicom::{
    DicomFile, SlicePosition, is_without_pixels, read_directory, stacks,
};

use super::{Found, FoundFile, Item, LeftOut, Origin, Part, Reading, Source, first_bytes_show};
use crate::messages::{self, Failure, Result};
use crate::parallel;
use crate::progress::Progress;

/// Which frames of a file, and which slices of a series, are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frames {
    /// By their place.
    pub choice: FrameChoice,
    /// At most as many, evenly chosen, the first and last among them.
    pub max: Option<NonZeroUsize>,
}

/// Which frames, by their place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FrameChoice {
    /// All.
    #[default]
    All,
    /// The first.
    First,
    /// The one in the middle, the later of two.
    Middle,
    /// The first, and then each that is as many further.
    Every(NonZeroUsize),
}

impl FromStr for FrameChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "first" => Ok(Self::First),
            "middle" => Ok(Self::Middle),
            _ => text
                .strip_prefix("every:")
                .and_then(|step| step.parse().ok())
                .map(Self::Every)
                .ok_or_else(|| "expected all, first, middle or every:N with N above 0".to_owned()),
        }
    }
}

impl std::fmt::Display for FrameChoice {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::All => out.write_str("all"),
            Self::First => out.write_str("first"),
            Self::Middle => out.write_str("middle"),
            Self::Every(step) => write!(out, "every:{step}"),
        }
    }
}

impl Frames {
    /// The places among `count` that are taken.
    fn of(self, count: usize) -> Vec<usize> {
        let chosen: Vec<usize> = match self.choice {
            FrameChoice::All => (0..count).collect(),
            FrameChoice::First => (0..count.min(1)).collect(),
            FrameChoice::Middle => (count / 2..count).take(1).collect(),
            FrameChoice::Every(step) => (0..count).step_by(step.get()).collect(),
        };
        match self.max {
            Some(max) if chosen.len() > max.get() => evenly(&chosen, max.get()),
            _ => chosen,
        }
    }
}

/// `number` of `all` at equal distances from the first to the last; one is the one in the middle.
fn evenly(all: &[usize], number: usize) -> Vec<usize> {
    let place = |i: usize| match number {
        1 => all.len() / 2,
        _ => (2 * i * (all.len() - 1) + number - 1) / (2 * (number - 1)),
    };
    let places = (0..number).map(place);
    places.filter_map(|at| all.get(at).copied()).collect()
}

/// What a file holds, as far as it decides the inputs.
enum Content {
    /// A picture of another format.
    Picture,
    /// DICOM that cannot be opened: it fails when its turn comes, and says why.
    Unreadable,
    /// DICOM that is no image: without pixels, or with those of masks or doses.
    NoImage,
    /// A whole slide in tiles.
    Slide,
    /// DICOM of one frame, and where it lies.
    Slice(SlicePosition),
    /// DICOM of so many frames.
    Frames(u32),
}

/// The items of `files`, and whether there is DICOM among them.
pub(super) fn expand(
    files: Vec<FoundFile>,
    reading: &Reading,
    left_out: &mut LeftOut,
) -> (Vec<Item>, bool) {
    let contents = look_into(&files, reading);
    let mut has_dicom = false;
    let mut groups = Vec::new();
    let mut places: BTreeMap<usize, Slices> = BTreeMap::new();
    for (file, content) in files.into_iter().zip(contents) {
        let is_dicom = !matches!(content, Content::Picture);
        match (content, file.from) {
            (Content::NoImage, Origin::Folder(_) | Origin::Listed(_)) => {
                left_out.no_images += 1;
                continue;
            }
            (Content::Slide, Origin::Folder(_) | Origin::Listed(_)) => {
                left_out.slides += 1;
                continue;
            }
            (Content::Slice(position), Origin::Folder(place) | Origin::Listed(place)) => {
                let slices = places.entry(place).or_default();
                slices.places.push(groups.len());
                slices.paths.push(file.path);
                slices.positions.push(position);
                groups.push(Group::Moved);
            }
            (Content::Frames(count), _) => groups.push(Group::Frames(file.path, count)),
            _ => groups.push(Group::One(file.path)),
        }
        has_dicom |= is_dicom;
    }
    for slices in places.values() {
        slices.sort_into(&mut groups);
    }
    let is_unplaced = |group: &&Group| match group {
        Group::Stack { paths, is_volume } => {
            !is_volume && reading.frames.of(paths.len()).len() < paths.len()
        }
        _ => false,
    };
    let unplaced = groups.iter().filter(is_unplaced).count();
    if unplaced > 0 {
        messages::say(format_args!(
            "warning: {unplaced} series without positions: all slices are taken, whatever --frames and --max-frames say"
        ));
    }
    let items = groups
        .into_iter()
        .flat_map(|group| group.into_items(reading.frames, left_out))
        .collect();
    (items, has_dicom)
}

/// The files of one frame in a folder, or in a DICOMDIR.
#[derive(Default)]
struct Slices {
    paths: Vec<PathBuf>,
    positions: Vec<SlicePosition>,
    /// Where each was found, among the groups.
    places: Vec<usize>,
}

impl Slices {
    /// Puts every stack of slices, in its order, where the first of them was found.
    fn sort_into(&self, groups: &mut [Group]) {
        for stack in stacks(&self.positions) {
            let place = stack.iter().filter_map(|at| self.places.get(*at)).min();
            let first = stack.first().and_then(|at| self.positions.get(*at));
            let has_place =
                |slice: &SlicePosition| slice.position_mm.is_some() && slice.orientation.is_some();
            let is_volume = stack.len() > 1 && first.is_some_and(has_place);
            let paths = stack.iter().filter_map(|at| self.paths.get(*at)).cloned();
            let group = Group::Stack {
                paths: paths.collect(),
                is_volume,
            };
            if let Some(at) = place.and_then(|place| groups.get_mut(*place)) {
                *at = group;
            }
        }
    }
}

/// Inputs that belong together.
enum Group {
    /// A file with one picture.
    One(PathBuf),
    /// A file with several frames.
    Frames(PathBuf, u32),
    /// Files of one series, in order; of a volume frames can be chosen.
    Stack {
        paths: Vec<PathBuf>,
        is_volume: bool,
    },
    /// A file that stands in a stack.
    Moved,
}

impl Group {
    fn into_items(self, frames: Frames, left_out: &mut LeftOut) -> Vec<Item> {
        let mut choose = |count: usize| {
            let chosen = frames.of(count);
            left_out.frames += count - chosen.len();
            chosen
        };
        match self {
            Self::Moved => Vec::new(),
            Self::One(path) => vec![Item::Image(path.into())],
            Self::Frames(path, count) => {
                let Source { file, .. } = path.into();
                let item = |frame: usize| {
                    Item::Image(Source {
                        file: Arc::clone(&file),
                        part: Part::Frame(frame as u32),
                    })
                };
                choose(count as usize).into_iter().map(item).collect()
            }
            Self::Stack { paths, is_volume } => {
                let chosen = match is_volume {
                    true => choose(paths.len()),
                    false => (0..paths.len()).collect(),
                };
                let chosen = chosen.into_iter().filter_map(|at| paths.get(at).cloned());
                chosen.map(|path| Item::Image(path.into())).collect()
            }
        }
    }
}

fn look_into(files: &[FoundFile], reading: &Reading) -> Vec<Content> {
    let progress = Mutex::new(Progress::new(files.len(), 0));
    let contents = parallel::map(files, reading.threads, |file| {
        let content = content(file, reading);
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.add(1);
        content
    });
    let progress = progress.into_inner();
    progress.unwrap_or_else(PoisonError::into_inner).finish();
    contents
}

fn content(file: &FoundFile, reading: &Reading) -> Content {
    let is_dicom = file
        .is_dicom
        .unwrap_or_else(|| first_bytes_show(&file.path) == Kind::Dicom);
    if !is_dicom {
        return Content::Picture;
    }
    // A reader that panics on a hostile file costs that file alone, when its turn comes.
    let open = || DicomFile::open(&file.path, &reading.limits);
    let opened = catch_unwind(AssertUnwindSafe(open));
    match opened {
        Ok(Ok(dicom)) => {
            if is_slide(&dicom) || is_of_slide(&dicom) && file.from != Origin::Named {
                return Content::Slide;
            }
            let class = dicom.info().sop_class_uid.as_deref();
            if class.is_some_and(|class| NO_IMAGES.contains(&class)) && file.from != Origin::Named {
                return Content::NoImage;
            }
            match dicom.frames() {
                1 => Content::Slice(dicom.slice_position(0)),
                count => Content::Frames(count),
            }
        }
        Ok(Err(error)) if is_without_pixels(&error) => Content::NoImage,
        _ => Content::Unreadable,
    }
}

/// Segmentation, Label Map Segmentation, Parametric Map and RT Dose Storage: what lies beside images and is derived from
/// them.
const NO_IMAGES: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.30",
    "1.2.840.10008.5.1.4.1.1.481.2",
];

/// Whether a file is a level of a whole slide, in tiles.
pub fn is_slide(dicom: &DicomFile) -> bool {
    dicom.frames() > 1 && is_of_slide(dicom)
}

/// Whether a file belongs to a whole slide (VL Whole Slide Microscopy Image Storage): a level, or what was taken of the
/// glass as a whole, on whose label there can be names.
fn is_of_slide(dicom: &DicomFile) -> bool {
    dicom.info().sop_class_uid.as_deref() == Some("1.2.840.10008.5.1.4.1.1.77.1.6")
}

/// Whether the file at `path` is a DICOMDIR, or one beside others.
pub(super) fn is_directory(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_ascii_uppercase();
    name.as_encoded_bytes().starts_with(b"DICOMDIR") && first_bytes_show(path) == Kind::Dicom
}

impl Found {
    /// The files that the DICOMDIR at `path` lists, whether they are there or not.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        let listed = read_directory(path, &self.limits);
        let from = Origin::Listed(self.next_place());
        for file in listed.map_err(|error| Failure::of_file(error, path))? {
            self.files.push(FoundFile {
                path: on_disk(file),
                from,
                is_dicom: None,
            });
        }
        Ok(())
    }

    /// Takes what the DICOMDIR of `folder` lists, if it has one that can be read. Gives the canonical paths of the
    /// DICOMDIR and of what it lists.
    pub(super) fn directory_of(&mut self, folder: &Path) -> Vec<PathBuf> {
        let names = ["DICOMDIR", "dicomdir"];
        let paths = names.map(|name| folder.join(name));
        let Some(path) = paths.iter().find(|path| is_directory(path)) else {
            return Vec::new();
        };
        let before = self.files.len();
        if let Err(failure) = self.directory(path) {
            messages::say(format_args!(
                "warning: the folder is searched instead of its DICOMDIR: {failure}"
            ));
            return Vec::new();
        }
        let listed = self.files.iter().skip(before).map(|file| &file.path);
        let listed = listed.chain([path]);
        listed.filter_map(|path| path.canonicalize().ok()).collect()
    }
}

/// The file as a DICOMDIR lists it: copies of discs often have names in lower case.
fn on_disk(listed: PathBuf) -> PathBuf {
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    if exists(&listed) {
        return listed;
    }
    let lower = |part: &std::ffi::OsStr| part.to_ascii_lowercase();
    let in_lower_case = listed.ancestors().find(|above| exists(above)).map(|above| {
        let rest = listed.strip_prefix(above).unwrap_or(Path::new(""));
        let rest: PathBuf = rest.iter().map(lower).collect();
        above.join(rest)
    });
    in_lower_case.filter(|path| exists(path)).unwrap_or(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_disc_may_be_in_lower_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("PAT/ser1")).unwrap();
        std::fs::write(path("PAT/ser1/im1"), "").unwrap();
        assert_eq!(on_disk(path("PAT/SER1/IM1")), path("PAT/ser1/im1"));
        assert_eq!(on_disk(path("PAT/SER1/IM2")), path("PAT/SER1/IM2"));
        assert_eq!(on_disk(path("PAT/ser1/im1")), path("PAT/ser1/im1"));
    }

    #[test]
    fn frames_are_chosen_by_their_place() {
        let chosen = |choice: &str, max: usize, count| {
            let choice = choice.parse().unwrap();
            let max = NonZeroUsize::new(max);
            Frames { choice, max }.of(count)
        };
        assert_eq!(chosen("all", 0, 3), [0, 1, 2]);
        assert_eq!(chosen("first", 0, 3), [0]);
        assert_eq!(chosen("middle", 0, 4), [2]);
        assert_eq!(chosen("middle", 0, 1), [0]);
        assert_eq!(chosen("every:2", 0, 5), [0, 2, 4]);
        assert_eq!(chosen("every:9", 0, 5), [0]);
        assert_eq!(chosen("all", 3, 9), [0, 4, 8]);
        assert_eq!(chosen("all", 1, 9), [4]);
        assert_eq!(chosen("all", 4, 4), [0, 1, 2, 3]);
        assert_eq!(chosen("every:2", 2, 9), [0, 8]);
        let many = chosen("all", 85, 1000);
        assert_eq!((many.len(), many[0], many[84]), (85, 0, 999));
        assert!(
            many.windows(2)
                .all(|two| (11..=12).contains(&(two[1] - two[0])))
        );
        for wrong in ["every:0", "every:", "last", "every:-1", ""] {
            assert!(wrong.parse::<FrameChoice>().is_err(), "{wrong}");
        }
    }
}
