//! DICOM whole slides (VL Whole Slide Microscopy Image, PS3.3 A.32.8) by our own DICOM reader.
//!
//! A slide is a series: each level is a file, or several that are concatenated (PS3.3 C.7.6.16.2.2.4). They are found in
//! the folder of the file that is opened. Of several focal planes the middle one is read, of several optical paths the
//! first. A corner that falls between two pixels of a level is moved to the nearer; OpenSlide blends them.

mod frame_cache;
mod level;

use std::fs::DirEntry;
use std::path::Path;

use dicom_dictionary_std::{tags, uids};
use dicom_object::Tag;

use frame_cache::FrameCache;
use level::LevelImage;

use super::picture::{Canvas, rgb8};
use super::{Level, Limits, Slide, SlideInfo, checked_level, kind, white};
use crate::image::Kind;
use crate::image::dicom::attributes::Attributes;
use crate::image::dicom::{DicomFile, DisplayOptions, Values, is_without_pixels};
use crate::{Error, Result};

/// Most files of a folder that are looked at.
const MAX_FILES: usize = 10_000;

/// Bytes of decoded frames that are kept for a slide.
const CACHE_BYTES: usize = 64 << 20;

/// A DICOM whole slide.
pub(super) struct DicomSlide {
    info: SlideInfo,
    limits: Limits,
    images: Vec<LevelImage>,
    cache: FrameCache,
}

impl DicomSlide {
    /// Opens the slide that the file at `path` is a part of.
    ///
    /// # Errors
    /// As [`DicomFile::open`]; `UNSUPPORTED` where it is no whole slide, or the label, overview or thumbnail of one;
    /// `BAD_IMAGE` where files of a concatenation are missing or frames do not fit the slide.
    pub(super) fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let file = DicomFile::open(path, limits)?;
        check_kind(&file)?;
        let mut warnings = Vec::new();
        let mut files = series(path, &file, limits, &mut warnings);
        files.insert(0, file);
        Self::new(files, limits, warnings)
    }

    /// A slide of the files of a series, the one that was asked for first.
    fn new(files: Vec<DicomFile>, limits: &Limits, mut warnings: Vec<String>) -> Result<Self> {
        let mut images = Vec::new();
        for group in concatenations(files) {
            images.push(LevelImage::new(group, &mut warnings)?);
        }
        // Stable: of two of one size, the file that was asked for comes first.
        images.sort_by_key(|image| std::cmp::Reverse((image.width, image.height)));
        let count = images.len();
        images.dedup_by_key(|image| (image.width, image.height));
        if images.len() < count {
            warnings.push(
                "several images of the series have the same size: one of each size is read".into(),
            );
        }
        Ok(Self {
            info: info(&images, warnings)?,
            limits: *limits,
            images,
            cache: FrameCache::new(CACHE_BYTES),
        })
    }
}

impl Slide for DicomSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read(&self, level: usize, x: u64, y: u64, width: u32, height: u32) -> Result<Vec<u8>> {
        let found = checked_level(&self.info, level, width, height, &self.limits)?;
        let (x, y) = (
            (x as f64 / found.downsample).round() as u64,
            (y as f64 / found.downsample).round() as u64,
        );
        let mut canvas = Canvas::new(x, y, width, height, self.info.background);
        let Some(image) = self.images.get(level) else {
            return Ok(canvas.rgb);
        };
        let right = x.saturating_add(width.into());
        let bottom = y.saturating_add(height.into());
        for tile in image.tiles_of_rows(y, bottom) {
            let at_x = u64::from(tile.x);
            if at_x >= right || at_x + u64::from(image.tile_width) <= x {
                continue;
            }
            let frame = self.cache.get((level, tile.file, tile.frame), || {
                decoded(image.file(tile.file)?, tile.frame)
            })?;
            canvas.paste(
                &frame,
                at_x,
                tile.y.into(),
                image.tile_width.min(image.width - tile.x),
                image.tile_height.min(image.height - tile.y),
                image.tile_width,
            );
        }
        Ok(canvas.rgb)
    }
}

/// A frame as RGB, 8 bits; what is not stored so is shown by the standard display rule.
fn decoded(file: &DicomFile, frame: u32) -> Result<Vec<u8>> {
    let shape = file.shape();
    if shape.bits_stored == 8 && shape.samples_per_pixel == 3 {
        let stored = file.stored(frame)?;
        if let (Values::U8(rgb), 3) = (stored.values, stored.channels) {
            return Ok(rgb);
        }
    }
    Ok(rgb8(&file.picture(frame, &DisplayOptions::default())?))
}

/// Whether the file is the slide's own picture (Image Type value 3, PS3.3 C.8.12.4.1.1).
fn is_volume(file: &DicomFile) -> bool {
    let image_type = file.header().dataset.texts(tags::IMAGE_TYPE);
    is_slide(file) && image_type.get(2).is_none_or(|kind| kind == "VOLUME")
}

fn is_slide(file: &DicomFile) -> bool {
    file.info().sop_class_uid.as_deref() == Some(uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE)
}

fn check_kind(file: &DicomFile) -> Result<()> {
    let what = if !is_slide(file) {
        "DICOM file: expected a whole slide (VL Whole Slide Microscopy Image)"
    } else if !is_volume(file) {
        "DICOM file: a label, overview or thumbnail of a slide, not the slide itself (image type VOLUME)"
    } else {
        return Ok(());
    };
    Err(Error::Unsupported(what.into()))
}

/// The other files in the folder of `path` that belong to the slide of `file`, by their names. Those that cannot be
/// read may belong to anything: they are left out with a warning.
fn series(
    path: &Path,
    file: &DicomFile,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Vec<DicomFile> {
    let identity = |file: &DicomFile| {
        let series = file.info().series_instance_uid.clone();
        series.map(|series| (series, file.header().dataset.text(tags::PYRAMID_UID)))
    };
    let own = identity(file);
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else {
        return Vec::new();
    };
    if own.is_none() {
        return Vec::new();
    }
    let is_other = |entry: &DirEntry| {
        let is_file = std::fs::metadata(entry.path()).is_ok_and(|data| data.is_file());
        is_file && path.file_name() != Some(&entry.file_name())
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .take(MAX_FILES + 1)
        .filter(is_other)
        .map(|entry| entry.path())
        .collect();
    if paths.len() > MAX_FILES {
        warnings.push(format!(
            "the folder has more than {MAX_FILES} files: only the file itself was read, levels may be missing"
        ));
        return Vec::new();
    }
    paths.sort();
    let is_dicom = |path: &&std::path::PathBuf| kind(path).is_ok_and(|kind| kind == Kind::Dicom);
    let mut unreadable = 0;
    let mut opened = Vec::new();
    for path in paths.iter().filter(is_dicom) {
        match DicomFile::open(path, limits) {
            Ok(other) => opened.push(other),
            Err(error) if is_without_pixels(&error) => {}
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        warnings.push(format!(
            "{unreadable} damaged DICOM files lie beside the slide: levels may be missing"
        ));
    }
    opened
        .into_iter()
        .filter(|other| is_volume(other) && identity(other) == own)
        .filter(|other| other.info().sop_instance_uid != file.info().sop_instance_uid)
        .collect()
}

/// The files, those of one concatenation together.
fn concatenations(files: Vec<DicomFile>) -> Vec<Vec<DicomFile>> {
    let mut groups: Vec<(Option<String>, Vec<DicomFile>)> = Vec::new();
    for file in files {
        let uid = file.header().dataset.text(tags::CONCATENATION_UID);
        match groups
            .iter_mut()
            .find(|(known, _)| uid.is_some() && *known == uid)
        {
            Some((_, group)) => group.push(file),
            None => groups.push((uid, vec![file])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn info(images: &[LevelImage], warnings: Vec<String>) -> Result<SlideInfo> {
    let finest = images.first();
    let (Some(finest), Some(header)) = (
        finest,
        finest
            .and_then(|image| image.file(0).ok())
            .map(DicomFile::header),
    ) else {
        return Err(Error::BadImage("slide without levels".into()));
    };
    let levels = images.iter().map(|image| {
        let ratio = |full: u32, side: u32| f64::from(full) / f64::from(side);
        Level {
            width: image.width,
            height: image.height,
            downsample: (ratio(finest.width, image.width) + ratio(finest.height, image.height))
                / 2.0,
        }
    });
    let optical_path = header.dataset.items(tags::OPTICAL_PATH_SEQUENCE).first();
    let number = |tag: Tag| optical_path.and_then(|path| path.number(tag));
    let mut info = SlideInfo {
        format: "dicom".into(),
        reader: "dicom".into(),
        levels: levels.collect(),
        mpp_xy: None,
        objective_power: number(tags::OBJECTIVE_LENS_POWER).filter(|power| *power > 0.0),
        icc_profile: optical_path.and_then(|path| path.bytes(tags::ICC_PROFILE)),
        background: white(),
        warnings,
    };
    // Pixel Spacing is in millimetres, first that of rows (along y), then that of columns (PS3.3 10.7.1.3).
    let measures = header.of_frame(0, tags::PIXEL_MEASURES_SEQUENCE);
    if let [y_mm, x_mm] = measures.numbers(tags::PIXEL_SPACING)[..] {
        info.set_mpp(Some(1000.0 * x_mm), Some(1000.0 * y_mm));
    }
    Ok(info)
}

#[cfg(test)]
mod tests;
