//! Where a picture comes from, as columns: those of DICOM files where there are some among the inputs, those of tiles
//! where slides are cut. Outputs of other inputs have none of them.

use serde::{Serialize, Serializer};

use crate::batches::About;
use crate::inputs::{Inputs, Item};
use crate::pictures::DicomSource;

/// A column.
pub struct Column {
    /// Its name in every format.
    pub name: &'static str,
    value: Value,
}

/// How a column's cells are found.
enum Value {
    Dicom(fn(&DicomSource) -> Option<&str>),
    /// The frame, from 1.
    Frame,
    Slide,
    Tiling,
    Tile(fn(Place) -> i64),
    Warnings,
}

/// A tile: its top left corner and its side in pixels of level 0, and the level that is read.
struct Place {
    x: u32,
    y: u32,
    size: u32,
    level: usize,
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

const DICOM: [Column; 11] = [
    dicom("study_instance_uid", |d| d.study_instance_uid.as_deref()),
    dicom("series_instance_uid", |d| d.series_instance_uid.as_deref()),
    dicom("sop_instance_uid", |d| d.sop_instance_uid.as_deref()),
    dicom("sop_class_uid", |d| d.sop_class_uid.as_deref()),
    Column {
        name: "frame",
        value: Value::Frame,
    },
    dicom("modality", |d| d.modality.as_deref()),
    dicom("body_part", |d| d.body_part.as_deref()),
    dicom("view_position", |d| d.view_position.as_deref()),
    dicom("laterality", |d| d.laterality.as_deref()),
    dicom("patient_id_hash", |d| d.patient_id_hash.as_deref()),
    dicom("display", |d| d.display.as_deref()),
];

const TILES: [Column; 6] = [
    Column {
        name: "slide",
        value: Value::Slide,
    },
    tile("x", |place| place.x.into()),
    tile("y", |place| place.y.into()),
    tile("size_level0", |place| place.size.into()),
    tile("level", |place| place.level as i64),
    Column {
        name: "tiling",
        value: Value::Tiling,
    },
];

/// In JSON Lines they are a list at the end.
static WARNINGS: Column = Column {
    name: "warnings",
    value: Value::Warnings,
};

const fn dicom(name: &'static str, value: fn(&DicomSource) -> Option<&str>) -> Column {
    let value = Value::Dicom(value);
    Column { name, value }
}

const fn tile(name: &'static str, value: fn(Place) -> i64) -> Column {
    let value = Value::Tile(value);
    Column { name, value }
}

/// The columns that `inputs` have.
pub fn columns(inputs: &Inputs) -> Vec<&'static Column> {
    let dicom = DICOM.iter().filter(|_| inputs.has_dicom);
    let tiles = TILES.iter().filter(|_| inputs.has_tiles);
    let warnings = std::iter::once(&WARNINGS).filter(|_| inputs.has_dicom || inputs.has_tiles);
    dicom.chain(tiles).chain(warnings).collect()
}

impl Column {
    /// Whether its cells are numbers.
    pub fn is_number(&self) -> bool {
        matches!(self.value, Value::Frame | Value::Tile(_))
    }

    /// What stands in the row of `item`.
    pub fn cell(&self, item: &Item, about: &About) -> Option<Cell> {
        let source = match item {
            Item::Image(source) => source,
            Item::Text(_) => return None,
        };
        let place = || {
            let (tiling, (x, y)) = source.tile()?;
            let (size, level) = (tiling.size_level0, tiling.level);
            Some(Place { x, y, size, level })
        };
        match self.value {
            Value::Dicom(get) => get(about.dicom.as_ref()?).map(|text| Cell::Text(text.into())),
            Value::Frame => about
                .dicom
                .as_ref()
                .map(|dicom| Cell::Number(dicom.frame.into())),
            Value::Slide => place().map(|_| Cell::Text(source.path().to_string_lossy().into())),
            Value::Tiling => source
                .file
                .tiles()
                .map(|tiles| Cell::Text(tiles.description.clone())),
            Value::Warnings => {
                let warnings = &about.warnings;
                (!warnings.is_empty()).then(|| Cell::Text(warnings.join("; ")))
            }
            Value::Tile(get) => place().map(|place| Cell::Number(get(place))),
        }
    }
}

/// The cells of a row that are not empty, by their names.
pub struct Row(Vec<(&'static str, Cell)>);

impl Row {
    /// What is known of `item`.
    pub fn of(item: &Item, about: &About) -> Self {
        let all = DICOM.iter().chain(&TILES);
        Self(
            all.filter_map(|column| Some((column.name, column.cell(item, about)?)))
                .collect(),
        )
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, cell)| (name, cell)))
    }
}

/// The cells of a row of a CSV.
pub fn cells(columns: &[&Column], item: &Item, about: &About) -> Vec<String> {
    let text = |column: &&Column| match column.cell(item, about) {
        Some(Cell::Text(text)) => text,
        Some(Cell::Number(number)) => number.to_string(),
        None => String::new(),
    };
    columns.iter().map(text).collect()
}
