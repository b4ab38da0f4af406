//! Whole slides as inputs: every file is opened as a slide and cut into tiles.

use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use medsiglip::Error;
use medsiglip::image::color::IccTarget;
use medsiglip::image::dicom::DicomFile;
use medsiglip::image::slide::{self, Slide, SlideInfo, TileOptions, Tiling};
use medsiglip::image::{Kind, Limits};

use super::{Cut, FoundFile, Item, LeftOut, Origin, Part, Reading, Source, SourceFile};
use super::{first_bytes_show, is_slide};
use crate::batches::Failed;
use crate::messages::{self, Failure, Result, count};
use crate::output::{geojson_beside, png, refuse_clashes, require_extension, write_file};
use crate::parallel;
use crate::progress::Progress;

/// How slides are taken.
#[derive(Debug)]
pub struct Slides {
    /// How they are cut.
    pub options: TileOptions,
    /// The tiles' corners in place of a grid, for one slide.
    pub coords: Option<Vec<(u32, u32)>>,
    /// Where the overview is written.
    pub overview: Option<Overview>,
    /// Where heat maps will be written.
    pub heatmap: Option<PathBuf>,
}

/// Where overviews are written.
#[derive(Debug)]
pub struct Overview {
    /// A file; for several slides a folder.
    pub path: PathBuf,
    /// Whether what stands there may be replaced.
    pub overwrite: bool,
}

/// A slide in tiles, and what its outputs say of it.
#[derive(Debug)]
pub struct Tiles {
    /// Where the tiles lie.
    pub tiling: Tiling,
    /// What was known before a pixel was read.
    pub info: SlideInfo,
    /// How it was cut, and by what it is read, for the outputs: `tile=448 mpp=0.499 overlap=0 min-tissue=0.1 icc=none
    /// reader=openslide-4.0.1`.
    pub description: String,
}

/// How a slide is cut by `slides`.
fn describe(slides: &Slides, tiling: &Tiling, info: &SlideInfo) -> String {
    let TileOptions {
        tissue,
        min_tissue,
        icc,
        ..
    } = &slides.options;
    let icc = match info.icc_profile {
        Some(_) => *icc,
        None => IccTarget::None,
    };
    let choice = match (&slides.coords, tissue) {
        (Some(_), _) => "coords".to_owned(),
        (None, Some(_)) => format!("min-tissue={min_tissue}"),
        (None, None) => format!("no-tissue min-on-slide={min_tissue}"),
    };
    let scale = match tiling.mpp {
        Some(mpp) => format!("mpp={mpp}"),
        None => format!("level={}", tiling.level),
    };
    format!(
        "tile={} {scale} overlap={} {choice} icc={} reader={}",
        tiling.size,
        tiling.overlap,
        icc.name(),
        info.reader.replace(' ', "-")
    )
}

/// Longer side of an overview in pixels.
const OVERVIEW_SIDE: u32 = 2048;

/// The tiles of `files`, slide after slide. A slide that cannot be cut becomes an item that fails when its turn comes.
pub(super) fn expand(
    files: Vec<FoundFile>,
    slides: &Slides,
    reading: &Reading,
    left_out: &mut LeftOut,
) -> Result<Vec<Item>> {
    let found = files.clone();
    let paths = slides_of(files, reading, left_out);
    if slides.coords.is_some() && paths.len() != 1 {
        let got = count(paths.len(), "slide");
        return Err(Failure::argument(format!(
            "--coords is for one slide, got {got}"
        )));
    }
    let overviews = overviews(&paths, slides.overview.as_ref())?;
    let found: Vec<&Path> = found.iter().map(|file| file.path.as_path()).collect();
    refuse_clashes(&outputs(&paths, slides, &overviews, reading)?, &found)?;
    let work: Vec<(&PathBuf, &Option<PathBuf>)> = paths.iter().zip(&overviews).collect();
    let progress = Mutex::new(Progress::new(work.len(), 0));
    let cuts = parallel::map(&work, reading.threads, |(path, overview)| {
        let cut = cut(path, slides, overview.as_deref(), &reading.limits);
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings(&cut) {
            progress.say(format_args!("warning: {warning}: {}", path.display()));
        }
        progress.add(1);
        cut
    });
    let progress = progress.into_inner();
    progress.unwrap_or_else(PoisonError::into_inner).finish();
    let cuts: Result<Vec<Cut>> = cuts.into_iter().collect();
    let items = paths.into_iter().zip(cuts?);
    Ok(items.flat_map(|(path, cut)| items_of(path, cut)).collect())
}

/// The files that are slides. Of a DICOM slide, whose levels are files of one series, the first.
fn slides_of(files: Vec<FoundFile>, reading: &Reading, left_out: &mut LeftOut) -> Vec<PathBuf> {
    let looks = parallel::map(&files, reading.threads, |file| look(file, &reading.limits));
    let mut series = HashSet::new();
    let mut paths = Vec::new();
    for (file, look) in files.into_iter().zip(looks) {
        match look {
            Look::OtherDicom if file.from != Origin::Named => left_out.others += 1,
            Look::Level(Some(uid)) => {
                let folder = file.path.parent().map(Path::to_path_buf);
                match series.insert((folder, uid)) {
                    true => paths.push(file.path),
                    false => left_out.levels += 1,
                }
            }
            _ => paths.push(file.path),
        }
    }
    paths
}

/// What a file can be beside a slide of its own.
enum Look {
    /// A level of a DICOM slide, and its series.
    Level(Option<String>),
    /// DICOM that is none.
    OtherDicom,
    /// No DICOM.
    Other,
}

fn look(file: &FoundFile, limits: &Limits) -> Look {
    let is_dicom = file.is_dicom;
    if !is_dicom.unwrap_or_else(|| first_bytes_show(&file.path) == Kind::Dicom) {
        return Look::Other;
    }
    let open = || DicomFile::open(&file.path, limits).ok();
    match catch_unwind(open).ok().flatten() {
        Some(dicom) if is_slide(&dicom) => Look::Level(dicom.info().series_instance_uid.clone()),
        _ => Look::OtherDicom,
    }
}

/// Where the overview of each slide is written.
fn overviews(paths: &[PathBuf], overview: Option<&Overview>) -> Result<Vec<Option<PathBuf>>> {
    let Some(overview) = overview else {
        return Ok(vec![None; paths.len()]);
    };
    let places = beside_each(paths, &overview.path, "png", paths.len() == 1)?;
    for place in &places {
        crate::output::refuse_existing(place, overview.overwrite)?;
    }
    Ok(places.into_iter().map(Some).collect())
}

/// All files that the run will write beside lists of errors and the like.
fn outputs(
    paths: &[PathBuf],
    slides: &Slides,
    overviews: &[Option<PathBuf>],
    reading: &Reading,
) -> Result<Vec<PathBuf>> {
    let maps = match &slides.heatmap {
        Some(place) => beside_each(paths, place, "png", paths.len() == 1)?,
        None => Vec::new(),
    };
    let maps = maps.into_iter().flat_map(|png| [geojson_beside(&png), png]);
    let overviews = overviews.iter().flatten().cloned();
    Ok(reading
        .output
        .iter()
        .cloned()
        .chain(overviews)
        .chain(maps)
        .collect())
}

/// A file for each slide: `place` where it `is_one` file, else `place/STEM.EXTENSION`; the folder is created.
///
/// # Errors
/// `BAD_ARGUMENT` where two slides have one name, or the one file another extension; `IO_ERROR`.
pub fn beside_each(
    paths: &[PathBuf],
    place: &Path,
    extension: &str,
    is_one: bool,
) -> Result<Vec<PathBuf>> {
    if is_one && !place.is_dir() {
        require_extension(place, extension)?;
        let folder = crate::output::parent(place);
        if !folder.is_dir() {
            return Err(Failure::missing("write into", folder).hint("create the folder first"));
        }
        return Ok(vec![place.to_path_buf(); paths.len()]);
    }
    std::fs::create_dir_all(place).map_err(|e| Failure::io("create", place, e))?;
    named_after(paths, place, extension)
}

/// `folder/STEM.EXTENSION` for each slide.
///
/// # Errors
/// `BAD_ARGUMENT` where two slides have one name.
pub fn named_after(paths: &[PathBuf], folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut seen = HashSet::new();
    let place = |path: &PathBuf| {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(".");
        name.push(extension);
        if seen.insert(name.to_ascii_lowercase()) {
            return Ok(folder.join(name));
        }
        let message = format!(
            "two slides would be written to {}: {}",
            Path::new(&name).display(),
            path.display()
        );
        Err(Failure::argument(message).hint("give them in two runs, to two folders"))
    };
    paths.iter().map(place).collect()
}

/// Opens a slide, cuts it, and writes its overview. An error is one of the overview; what is wrong with the slide
/// comes out as its own cut.
fn cut(path: &Path, slides: &Slides, overview: Option<&Path>, limits: &Limits) -> Result<Cut> {
    let plan = || {
        let slide = slide::open(path, limits)?;
        let tiling = match &slides.coords {
            Some(coords) => Tiling::from_coords(&*slide, &slides.options, coords.clone()),
            None => Tiling::plan(&*slide, &slides.options),
        };
        Ok((tiling?, slide))
    };
    // A reader that panics on a hostile file costs that file alone.
    let planned: medsiglip::Result<(Tiling, Box<dyn Slide>)> = catch_unwind(AssertUnwindSafe(plan))
        .unwrap_or_else(|_| Err(Error::BadImage("the reader failed on this file".into())));
    let (mut tiling, slide) = match planned {
        Ok(done) => done,
        Err(error) => return Ok(Cut::Refused(Failed::from(error).without(path))),
    };
    if let Some(place) = overview {
        let of_slide = |error| Failure::of_file(error, path);
        let picture = tiling.overview(&*slide, OVERVIEW_SIDE).map_err(of_slide)?;
        write_file(place, true, &png(&picture)?)?;
        messages::note(format_args!("wrote {}", place.display()));
    }
    if tiling.tiles.is_empty() {
        let what = match slides.options.tissue {
            Some(_) => {
                "no tile has enough tissue: lower --min-tissue, or take background too with --no-tissue"
            }
            None => "no tile lies on the slide far enough: lower --min-tissue",
        };
        return Ok(Cut::Refused(Error::BadImage(what.into()).into()));
    }
    // Millions of tiles are kept for the whole run, the mask is needed no longer, nor is the profile.
    tiling.mask = None;
    let description = describe(slides, &tiling, slide.info());
    let info = SlideInfo {
        icc_profile: None,
        ..slide.info().clone()
    };
    Ok(Cut::Tiles(Box::new(Tiles {
        tiling,
        info,
        description,
    })))
}

fn warnings(cut: &Result<Cut>) -> Vec<String> {
    let Ok(Cut::Tiles(slide)) = cut else {
        return Vec::new();
    };
    [&slide.info.warnings[..], &slide.tiling.warnings].concat()
}

/// The slides among `items` that have tiles, each with the places of these.
pub fn slides_among(items: &[Item]) -> Vec<(&Arc<SourceFile>, Range<usize>)> {
    let mut slides: Vec<(&Arc<SourceFile>, Range<usize>)> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let Item::Image(Source {
            file,
            part: Part::Tile(_),
        }) = item
        else {
            continue;
        };
        match slides.last_mut() {
            Some((last, places)) if Arc::ptr_eq(last, file) => places.end = at + 1,
            _ => slides.push((file, at..at + 1)),
        }
    }
    slides
}

fn items_of(path: PathBuf, cut: Cut) -> Vec<Item> {
    let parts = match &cut {
        Cut::Tiles(slide) => (0..slide.tiling.tiles.len() as u32)
            .map(Part::Tile)
            .collect(),
        _ => vec![Part::Whole],
    };
    let file = Arc::new(SourceFile { path, cut });
    let item = |part| {
        let file = Arc::clone(&file);
        Item::Image(Source { file, part })
    };
    parts.into_iter().map(item).collect()
}

/// The corners in the CSV at `path`, by its columns x and y.
pub fn read_coords(path: &Path) -> Result<Vec<(u32, u32)>> {
    let wrong = |line: u64, what: &str| {
        let path = path.display();
        Failure::argument(format!("coordinates: line {line}: {what}: {path}"))
            .hint("a CSV whose first line is x,y, then whole pixels of the slide's finest level")
    };
    let file = std::fs::File::open(path).map_err(|e| Failure::io("read", path, e))?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(file);
    let headers = reader.headers().map_err(|_| wrong(1, "not a CSV"))?;
    let place = |name| {
        let mut names = headers.iter();
        names.position(|header| {
            header
                .trim_start_matches('\u{feff}')
                .eq_ignore_ascii_case(name)
        })
    };
    let (Some(x), Some(y)) = (place("x"), place("y")) else {
        return Err(wrong(1, "expected columns x and y"));
    };
    let mut coords = Vec::new();
    for (line, record) in (2..).zip(reader.records()) {
        let record = record.map_err(|_| wrong(line, "not a row of this CSV"))?;
        let number = |at: usize| record.get(at).and_then(|cell| cell.parse::<u32>().ok());
        let (Some(x), Some(y)) = (number(x), number(y)) else {
            return Err(wrong(line, "expected whole pixels for x and y"));
        };
        coords.push((x, y));
    }
    if coords.is_empty() {
        return Err(wrong(2, "no coordinates"));
    }
    Ok(coords)
}
