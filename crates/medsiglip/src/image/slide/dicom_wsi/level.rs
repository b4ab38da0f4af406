//! One level of a DICOM slide: its files, and where each frame lies (PS3.3 C.7.6.17.3 and C.8.12.14).

use dicom_dictionary_std::tags;
use dicom_object::Tag;

use crate::image::dicom::DicomFile;
use crate::image::dicom::attributes::Attributes;
use crate::{Error, Result};

/// Most frames of a level, 16 bytes each: a slide of 100,000 x 100,000 pixels in tiles of 256 has 150,000.
const MAX_TILES: u64 = 1 << 24;

/// One level.
pub(super) struct LevelImage {
    /// Total Pixel Matrix Columns (0048,0006).
    pub(super) width: u32,
    /// Total Pixel Matrix Rows (0048,0007).
    pub(super) height: u32,
    /// Columns (0028,0011) of a frame.
    pub(super) tile_width: u32,
    /// Rows (0028,0010) of a frame.
    pub(super) tile_height: u32,
    /// By their place in the concatenation.
    files: Vec<DicomFile>,
    /// By y, then x.
    tiles: Vec<Tile>,
}

/// Where a frame lies in the level, and where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tile {
    pub(super) y: u32,
    pub(super) x: u32,
    pub(super) file: u32,
    pub(super) frame: u32,
}

impl LevelImage {
    /// A level of the files of one concatenation, or of one file.
    pub(super) fn new(mut files: Vec<DicomFile>, warnings: &mut Vec<String>) -> Result<Self> {
        files.sort_by_key(frame_offset);
        let Some(first) = files.first() else {
            return Err(Error::BadImage("slide without files".into()));
        };
        let side = |tag: Tag, name: &str| {
            let side = first.header().dataset.integer(tag);
            let side = side.and_then(|side| u32::try_from(side).ok());
            side.filter(|side| *side > 0)
                .ok_or_else(|| Error::BadImage(format!("DICOM {name}: expected a number above 0")))
        };
        let mut image = Self {
            width: side(
                tags::TOTAL_PIXEL_MATRIX_COLUMNS,
                "total pixel matrix columns (0048,0006)",
            )?,
            height: side(
                tags::TOTAL_PIXEL_MATRIX_ROWS,
                "total pixel matrix rows (0048,0007)",
            )?,
            tile_width: first.shape().columns,
            tile_height: first.shape().rows,
            files: Vec::new(),
            tiles: Vec::new(),
        };
        let is_same = |file: &DicomFile| file.shape() == first.shape();
        if !files.iter().all(is_same) {
            return Err(Error::BadImage(
                "DICOM concatenation: expected frames of one shape in all its files".into(),
            ));
        }
        image.files = files;
        image.tiles = if image.is_sparse() {
            image.sparse(warnings)?
        } else {
            image.full(warnings)?
        };
        image.tiles.sort_unstable();
        Ok(image)
    }

    /// The file of a tile.
    pub(super) fn file(&self, index: u32) -> Result<&DicomFile> {
        let file = self.files.get(index as usize);
        file.ok_or_else(|| Error::BadImage("slide without files".into()))
    }

    /// The tiles that touch the rows from `top` to `bottom`, in pixels of the level.
    pub(super) fn tiles_of_rows(&self, top: u64, bottom: u64) -> &[Tile] {
        let is_above = |tile: &Tile| u64::from(tile.y) + u64::from(self.tile_height) <= top;
        let from = self.tiles.partition_point(is_above);
        let to = self
            .tiles
            .partition_point(|tile| u64::from(tile.y) < bottom);
        self.tiles.get(from..to).unwrap_or_default()
    }

    /// Whether frames say themselves where they lie. Before the standard had Dimension Organization Type, they did.
    fn is_sparse(&self) -> bool {
        let Some(first) = self.files.first() else {
            return false;
        };
        let header = first.header();
        match header.dataset.text(tags::DIMENSION_ORGANIZATION_TYPE) {
            Some(kind) => kind != "TILED_FULL",
            None => header
                .functional(0, tags::PLANE_POSITION_SLIDE_SEQUENCE)
                .is_some(),
        }
    }

    /// TILED_FULL: frames run row by row over a plane, then over the focal planes, then over the optical paths.
    fn full(&self, warnings: &mut Vec<String>) -> Result<Vec<Tile>> {
        let columns = self.width.div_ceil(self.tile_width);
        let rows = self.height.div_ceil(self.tile_height);
        let in_plane = u64::from(columns) * u64::from(rows);
        if in_plane > MAX_TILES {
            return Err(Error::Limit {
                what: "frames of a slide's level",
                got: in_plane,
                limit: MAX_TILES,
            });
        }
        let dataset = &self.file(0)?.header().dataset;
        let count = |tag: Tag| dataset.integer(tag).filter(|count| *count > 0).unwrap_or(1) as u64;
        let planes = count(tags::TOTAL_PIXEL_MATRIX_FOCAL_PLANES);
        warn_of_choice(planes, count(tags::NUMBER_OF_OPTICAL_PATHS), warnings);
        let first = (planes / 2).saturating_mul(in_plane);
        let mut tiles = Vec::new();
        let mut from = 0;
        for (file, index) in self.files.iter().zip(0..) {
            from = frame_offset(file).max(from);
            let end = from + u64::from(file.frames());
            for at in first.max(from)..first.saturating_add(in_plane).min(end) {
                let place = (at - first) as u32;
                tiles.push(Tile {
                    y: place / columns * self.tile_height,
                    x: place % columns * self.tile_width,
                    file: index,
                    frame: (at - from) as u32,
                });
            }
            from = end;
        }
        if tiles.len() as u64 != in_plane {
            return Err(Error::BadImage(format!(
                "DICOM slide (TILED_FULL): expected {in_plane} frames in a plane, got {}; are files of a concatenation \
                 missing from the folder?",
                tiles.len()
            )));
        }
        Ok(tiles)
    }

    /// TILED_SPARSE: frames of the first optical path, where they say that they lie; of several at one place the one of
    /// middle height.
    fn sparse(&self, warnings: &mut Vec<String>) -> Result<Vec<Tile>> {
        let mut found = Vec::new();
        let mut lost = 0;
        for (file, index) in self.files.iter().zip(0..) {
            for frame in 0..file.frames() {
                match self.place(file, index, frame) {
                    Some(place) => found.push(place),
                    None => lost += 1,
                }
            }
        }
        if found.is_empty() {
            return Err(Error::BadImage(
                "DICOM slide (TILED_SPARSE): no frame says where it lies in the total pixel matrix"
                    .into(),
            ));
        }
        if lost > 0 {
            warnings.push(format!(
                "{lost} frames of a slide's level do not lie in its total pixel matrix: left out"
            ));
        }
        let path = found.first().and_then(|(_, _, path)| path.clone());
        let all = found.len();
        found.retain(|(_, _, other)| *other == path);
        let paths = if found.len() < all { 2 } else { 1 };
        found.sort_by(|(a, low, _), (b, high, _)| {
            (a.y, a.x).cmp(&(b.y, b.x)).then(low.total_cmp(high))
        });
        let places = || found.chunk_by(|(a, ..), (b, ..)| (a.y, a.x) == (b.y, b.x));
        let planes = places().map(<[_]>::len).max().unwrap_or(1);
        warn_of_choice(planes as u64, paths, warnings);
        Ok(places()
            .filter_map(|place| place.get(place.len() / 2))
            .map(|(tile, ..)| *tile)
            .collect())
    }

    /// Where a frame lies, its height over the slide, and its optical path; `None` where it lies outside of the level.
    fn place(
        &self,
        file: &DicomFile,
        index: u32,
        frame: u32,
    ) -> Option<(Tile, f64, Option<String>)> {
        let header = file.header();
        let position = header.functional(frame, tags::PLANE_POSITION_SLIDE_SEQUENCE)?;
        // Counted from 1 (PS3.3 C.8.12.6.1.1).
        let from_zero = |tag: Tag, side: u32| {
            let at = position.integer(tag)?.checked_sub(1)?;
            u32::try_from(at).ok().filter(|at| *at < side)
        };
        let tile = Tile {
            y: from_zero(tags::ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, self.height)?,
            x: from_zero(
                tags::COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX,
                self.width,
            )?,
            file: index,
            frame,
        };
        let z = position.number(tags::Z_OFFSET_IN_SLIDE_COORDINATE_SYSTEM);
        let path = header.functional(frame, tags::OPTICAL_PATH_IDENTIFICATION_SEQUENCE);
        Some((
            tile,
            z.unwrap_or(0.0),
            path.and_then(|path| path.text(tags::OPTICAL_PATH_IDENTIFIER)),
        ))
    }
}

/// Where the frames of a file begin in its concatenation (0020,9228).
fn frame_offset(file: &DicomFile) -> u64 {
    let offset = file
        .header()
        .dataset
        .integer(tags::CONCATENATION_FRAME_OFFSET_NUMBER);
    offset
        .and_then(|offset| u64::try_from(offset).ok())
        .unwrap_or(0)
}

fn warn_of_choice(planes: u64, paths: u64, warnings: &mut Vec<String>) {
    let mut warn = |warning: &str| {
        if !warnings.iter().any(|known| known == warning) {
            warnings.push(warning.into());
        }
    };
    if planes > 1 {
        warn("the slide has several focal planes: the middle one is read");
    }
    if paths > 1 {
        warn("the slide has several optical paths: the first is read");
    }
}
