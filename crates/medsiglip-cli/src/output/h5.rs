//! HDF5 of a slide's tiles, a file a slide: `features` (N, D) float32 and `coords` (N, 2) int64, the tiles' top left
//! corners in pixels of level 0, with the attributes that TRIDENT and CLAM read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsiglip::embedding::Provenance;
use rust_hdf5::types::VarLenUnicode;
use rust_hdf5::{H5Dataset, H5File, Hdf5Error};

use super::jsonl::ErrorList;
use super::{Destination, Writer};
use crate::batches::Outcome;
use crate::inputs::{Inputs, Item, SourceFile, Tiles, slides_among};
use crate::messages::{Failure, Result};

/// Attribute of the file that holds the provenance, as JSON.
const PROVENANCE: &str = "medsiglip.provenance";

/// Attribute of `coords` that says how the slide was cut.
const TILING: &str = "medsiglip.tiling";

/// Writes the tiles of slide after slide.
pub struct H5Writer {
    /// The slides to come.
    waiting: VecDeque<Planned>,
    open: Option<Open>,
    provenance: String,
    dim: usize,
    errors: ErrorList,
}

/// A file that will be written.
struct Planned {
    slide: Arc<SourceFile>,
    /// Where it is written, and where it will stand.
    temporary: PathBuf,
    place: PathBuf,
    rows: usize,
}

/// The file that is being written.
struct Open {
    planned: Planned,
    file: H5File,
    features: H5Dataset,
    coords: H5Dataset,
    row: usize,
}

impl H5Writer {
    /// A writer of embeddings of width `dim`. `places` are the files, one for each slide of `inputs` that has tiles.
    pub fn new(
        mut to: Destination,
        provenance: &Provenance,
        inputs: &Inputs,
        places: &[PathBuf],
        dim: usize,
    ) -> Result<Self> {
        let errors = ErrorList::new(to.errors_beside()?);
        let Destination::Files { files, failed, .. } = &mut to else {
            return Err(Failure::argument("h5 cannot be written to standard output")
                .hint("give a file or folder: --output FILE.h5"));
        };
        let mut waiting = VecDeque::new();
        for ((slide, tiles), place) in slides_among(&inputs.items).into_iter().zip(places) {
            let rows = tiles.len() - failed.range(tiles).count();
            if rows == 0 {
                continue;
            }
            let folder = super::parent(place);
            std::fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, e))?;
            waiting.push_back(Planned {
                slide: Arc::clone(slide),
                temporary: files.reserve(place.clone())?,
                place: place.clone(),
                rows,
            });
        }
        let provenance =
            serde_json::to_string(provenance).map_err(|e| Failure::stdout(e.into()))?;
        Ok(Self {
            waiting,
            open: None,
            provenance,
            dim,
            errors,
        })
    }

    fn rows(
        &mut self,
        Rows {
            slide,
            features,
            coords,
        }: &Rows,
    ) -> Result<()> {
        let is_open = |open: &Open| Arc::ptr_eq(&open.planned.slide, slide);
        if !self.open.as_ref().is_some_and(is_open) {
            self.close()?;
            self.open = self.next(slide)?;
        }
        let dim = self.dim;
        let Some(open) = &mut self.open else {
            return Err(Failure::argument("tiles of a slide that was not planned"));
        };
        let rows = coords.len() / 2;
        open.features
            .write_slice(&[open.row, 0], &[rows, dim], features)
            .and_then(|()| open.coords.write_slice(&[open.row, 0], &[rows, 2], coords))
            .map_err(|e| failure(e, &open.planned.place))?;
        open.row += rows;
        Ok(())
    }

    fn next(&mut self, slide: &Arc<SourceFile>) -> Result<Option<Open>> {
        let next = self.waiting.pop_front();
        let Some(planned) = next.filter(|next| Arc::ptr_eq(&next.slide, slide)) else {
            return Ok(None);
        };
        let place = planned.place.clone();
        let open = create(planned, &self.provenance, self.dim);
        open.map(Some).map_err(|e| failure(e, &place))
    }

    fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(Open { planned, file, .. }) => {
                file.close().map_err(|e| failure(e, &planned.place))
            }
            None => Ok(()),
        }
    }
}

/// Begins the file of a slide. Data sets are contiguous and have their final size, so that a row is written where it
/// stands, and memory does not grow with the slide.
fn create(planned: Planned, provenance: &str, dim: usize) -> Result<Open, Hdf5Error> {
    let file = H5File::create(&planned.temporary)?;
    file.set_attr_string(PROVENANCE, provenance)?;
    let rows = planned.rows;
    let features = file.new_dataset::<f32>().shape([rows, dim]);
    let features = features.create("features")?;
    let coords = file.new_dataset::<i64>().shape([rows, 2]);
    let coords = coords.create("coords")?;
    let name = planned.slide.path.file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    let folder = super::parent(&planned.place).to_string_lossy();
    for data in [&features, &coords] {
        text(data, "name", &name)?;
        text(data, "savetodir", &folder)?;
    }
    if let Some(tiles) = planned.slide.tiles() {
        for (name, value) in attributes(tiles) {
            let attribute = coords.new_attr::<i64>().shape(()).create(name)?;
            attribute.write_numeric(&value)?;
        }
        text(&coords, TILING, &tiles.description)?;
        if let Some(mpp) = tiles.tiling.mpp {
            let attribute = coords.new_attr::<f64>().shape(()).create("mpp")?;
            attribute.write_numeric(&mpp)?;
        }
    }
    Ok(Open {
        planned,
        file,
        features,
        coords,
        row: 0,
    })
}

fn text(data: &H5Dataset, name: &str, value: &str) -> Result<(), Hdf5Error> {
    let attribute = data.new_attr::<VarLenUnicode>().shape(()).create(name)?;
    attribute.write_string(value)
}

/// The attributes of `coords`. `patch_size` and `overlap` are in pixels of a tile; CLAM takes `patch_size` for pixels
/// of `patch_level`, so that this one is there only where they are the same.
fn attributes(Tiles { tiling, info, .. }: &Tiles) -> Vec<(&'static str, i64)> {
    let (width, height) = info.size();
    let mut all = vec![
        ("patch_size", tiling.size.into()),
        ("patch_size_level0", tiling.size_level0.into()),
        ("overlap", tiling.overlap.into()),
        ("level0_width", width.into()),
        ("level0_height", height.into()),
    ];
    if tiling.read_size == tiling.size {
        all.push(("patch_level", tiling.level as i64));
    }
    // A 40x objective gives 0.25 um/px on the scanners of the field.
    let by_mpp = |mpp: f64| 10.0 / mpp;
    let downsample = f64::from(tiling.size_level0) / f64::from(tiling.size.max(1));
    let target = tiling.mpp.map(by_mpp);
    let level0 = info
        .objective_power
        .or(target.map(|target| target * downsample));
    let target = level0.map(|level0| level0 / downsample);
    let both = [
        ("level0_magnification", level0),
        ("target_magnification", target),
    ];
    all.extend(
        both.into_iter()
            .filter_map(|(name, x)| Some((name, x?.round() as i64))),
    );
    all
}

/// Rows of one slide, side by side.
struct Rows {
    slide: Arc<SourceFile>,
    features: Vec<f32>,
    coords: Vec<i64>,
}

impl Writer for H5Writer {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        let mut all: Vec<Rows> = Vec::new();
        for (item, outcome) in items.iter().zip(outcomes) {
            let (Item::Image(source), Ok(embedding)) = (item, &outcome.embedding) else {
                continue;
            };
            let Some((_, (x, y))) = source.tile() else {
                continue;
            };
            let slide = &source.file;
            if !all
                .last()
                .is_some_and(|rows| Arc::ptr_eq(&rows.slide, slide))
            {
                all.push(Rows {
                    slide: Arc::clone(slide),
                    features: Vec::new(),
                    coords: Vec::new(),
                });
            }
            if let Some(rows) = all.last_mut() {
                rows.features.extend_from_slice(embedding);
                rows.coords.extend([i64::from(x), i64::from(y)]);
            }
        }
        all.iter().try_for_each(|rows| self.rows(rows))?;
        self.errors.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close()?;
        self.errors.finish()
    }
}

fn failure(error: Hdf5Error, place: &Path) -> Failure {
    let error = match error {
        Hdf5Error::Io(io) => io,
        other => std::io::Error::other(other),
    };
    Failure::io("write", place, error)
}
