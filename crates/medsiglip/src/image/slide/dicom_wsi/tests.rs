//! Slides of made-up DICOM files; `scripts/compare_slides.py` compares with OpenSlide.

use std::path::{Path, PathBuf};

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_object::meta::FileMetaTableBuilder;
use dicom_object::{FileDicomObject, InMemDicomObject};

use super::*;

/// Frames of 4 x 3 pixels; the slide has 10 x 5 of them, so that those at the ends are cut.
const WIDTH: u32 = 10;
const HEIGHT: u32 = 5;

fn color(x: u32, y: u32) -> [u8; 3] {
    [x as u8, y as u8, 9]
}

/// The frame at (x, y), filled with 77 beyond the slide.
fn frame(x: u32, y: u32, width: u32, height: u32) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in y..y + 3 {
        for x in x..x + 4 {
            let is_inside = x < width && y < height;
            rgb.extend(if is_inside { color(x, y) } else { [77; 3] });
        }
    }
    rgb
}

/// One file of a slide.
struct Made {
    data: InMemDicomObject,
}

impl Made {
    fn new(uid: &str, width: u32, height: u32, frames: &[(u32, u32)]) -> Self {
        let data = InMemDicomObject::new_empty();
        let mut made = Self { data };
        let class = uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE;
        made.text(tags::SOP_CLASS_UID, VR::UI, class);
        made.text(tags::SOP_INSTANCE_UID, VR::UI, uid);
        made.text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3");
        made.text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\VOLUME\\NONE");
        made.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
        made.text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.len().to_string());
        made.text(tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "TILED_FULL");
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 3),
            (tags::PLANAR_CONFIGURATION, 0),
            (tags::ROWS, 3),
            (tags::COLUMNS, 4),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            let value = PrimitiveValue::from(value as u16);
            made.data.put(DataElement::new(tag, VR::US, value));
        }
        made.number(tags::TOTAL_PIXEL_MATRIX_COLUMNS, width);
        made.number(tags::TOTAL_PIXEL_MATRIX_ROWS, height);
        let spacing = DataElement::new(
            tags::PIXEL_SPACING,
            VR::DS,
            dicom_value!(Strs, ["0.0006", "0.0004"]),
        );
        let measures = item(vec![spacing]);
        let measures = sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
        made.data.put(sequence(
            tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            vec![item(vec![measures])],
        ));
        let mut pixels: Vec<u8> = Vec::new();
        for &(x, y) in frames {
            pixels.extend(frame(x, y, width, height));
        }
        pixels.resize(pixels.len().next_multiple_of(2), 0);
        let pixels = PrimitiveValue::from(pixels);
        made.data
            .put(DataElement::new(tags::PIXEL_DATA, VR::OB, pixels));
        made
    }

    fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        let values: Vec<String> = text.split('\\').map(str::to_owned).collect();
        let value = PrimitiveValue::Strs(values.into());
        self.data.put(DataElement::new(tag, vr, value));
    }

    fn number(&mut self, tag: Tag, value: u32) {
        self.data
            .put(DataElement::new(tag, VR::UL, PrimitiveValue::from(value)));
    }

    /// Where each frame lies, and its height over the slide.
    fn sparse(mut self, places: &[(u32, u32, f64)]) -> Self {
        self.text(tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "TILED_SPARSE");
        let groups = places.iter().map(|&(x, y, z)| {
            let at = |tag: Tag, v: u32| {
                DataElement::new(tag, VR::SL, PrimitiveValue::from(v as i32 + 1))
            };
            let z = PrimitiveValue::from(z.to_string());
            let position = item(vec![
                at(tags::COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, x),
                at(tags::ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, y),
                DataElement::new(tags::Z_OFFSET_IN_SLIDE_COORDINATE_SYSTEM, VR::DS, z),
            ]);
            let position = sequence(tags::PLANE_POSITION_SLIDE_SEQUENCE, vec![position]);
            item(vec![position])
        });
        let groups = groups.collect();
        let tag = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
        self.data.put(sequence(tag, groups));
        self
    }

    fn part(mut self, offset: u32) -> Self {
        self.text(tags::CONCATENATION_UID, VR::UI, "1.2.3.4");
        self.number(tags::CONCATENATION_FRAME_OFFSET_NUMBER, offset);
        self
    }

    fn write(self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file: FileDicomObject<_> = self.data.with_meta(meta).unwrap();
        file.write_to_file(&path).unwrap();
        path
    }
}

fn item(elements: Vec<DataElement<InMemDicomObject>>) -> InMemDicomObject {
    InMemDicomObject::from_element_iter(elements)
}

fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

/// Row by row.
const FULL: [(u32, u32); 6] = [(0, 0), (4, 0), (8, 0), (0, 3), (4, 3), (8, 3)];

fn open(path: &Path) -> Result<DicomSlide> {
    DicomSlide::open(path, &Limits::default())
}

/// Every pixel of level 0, read as one and in parts.
fn check(slide: &DicomSlide) {
    let expected = |x: u32, y: u32| {
        if x < WIDTH && y < HEIGHT {
            color(x, y)
        } else {
            [255; 3]
        }
    };
    for (x, y, width, height) in [
        (0, 0, WIDTH, HEIGHT),
        (3, 2, 2, 2),
        (7, 1, 9, 9),
        (9, 4, 1, 1),
    ] {
        let rgb = slide.read(0, x.into(), y.into(), width, height).unwrap();
        let places = (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y)));
        for (pixel, (x, y)) in rgb.chunks_exact(3).zip(places) {
            assert_eq!(pixel, expected(x, y), "({x}, {y})");
        }
    }
}

#[test]
fn full_tilings_are_read_row_by_row_and_cut_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = Made::new("1.1", WIDTH, HEIGHT, &FULL).write(folder.path(), "a.dcm");
    let slide = open(&path).unwrap();
    check(&slide);
    let info = slide.info();
    let (x, y) = info.mpp_xy.unwrap();
    assert!((x - 0.4).abs() < 1e-9 && (y - 0.6).abs() < 1e-9);
    assert_eq!((info.format.as_str(), info.warnings.len()), ("dicom", 0));
}

#[test]
fn sparse_tilings_lie_where_they_say_and_leave_the_rest_white() {
    let folder = tempfile::tempdir().unwrap();
    let mut places = FULL;
    places.reverse();
    let at = places.map(|(x, y)| (x, y, 0.0));
    let made = Made::new("1.1", WIDTH, HEIGHT, &places).sparse(&at);
    check(&open(&made.write(folder.path(), "a.dcm")).unwrap());

    let made = Made::new("1.1", WIDTH, HEIGHT, &[(8, 3), (4, 0)]);
    let path = made
        .sparse(&[(8, 3, 0.0), (4, 0, 0.0)])
        .write(folder.path(), "a.dcm");
    let rgb = open(&path).unwrap().read(0, 0, 0, WIDTH, HEIGHT).unwrap();
    for (pixel, at) in rgb.chunks_exact(3).zip(0..) {
        let (x, y) = (at % WIDTH, at / WIDTH);
        let is_scanned = ((4..8).contains(&x) && y < 3) || (x >= 8 && y >= 3);
        let expected = if is_scanned { color(x, y) } else { [255; 3] };
        assert_eq!(pixel, expected, "({x}, {y})");
    }
}

#[test]
fn of_several_planes_the_middle_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let moved = FULL.map(|(x, y)| (x + 100, y));
    let all = [moved, FULL, moved].concat();
    let mut made = Made::new("1.1", WIDTH, HEIGHT, &all);
    made.number(tags::TOTAL_PIXEL_MATRIX_FOCAL_PLANES, 3);
    let slide = open(&made.write(folder.path(), "a.dcm")).unwrap();
    check(&slide);
    assert_eq!(slide.info().warnings.len(), 1);

    let at = |z: f64| FULL.map(|(x, y)| (x, y, z));
    let made = Made::new("1.1", WIDTH, HEIGHT, &all);
    let made = made.sparse(&[at(2.0), at(1.0), at(-1.0)].concat());
    let slide = open(&made.write(folder.path(), "a.dcm")).unwrap();
    check(&slide);
    assert_eq!(slide.info().warnings.len(), 1);
}

#[test]
fn of_a_focus_map_every_tile_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let places = [(0, 0), (4, 0), (8, 0), (0, 3), (4, 3), (8, 3)];
    let heights: Vec<_> = (0..)
        .zip(places)
        .map(|(z, (x, y))| (x, y, f64::from(z)))
        .collect();
    let path = Made::new("1.1", WIDTH, HEIGHT, &places)
        .sparse(&heights)
        .write(folder.path(), "a.dcm");
    let slide = open(&path).unwrap();
    check(&slide);
    assert!(
        slide.info().warnings.is_empty(),
        "{:?}",
        slide.info().warnings
    );
}

#[test]
fn frames_that_lie_nowhere_are_told_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let far = [(0, 0, 0.0), (400, 0, 0.0)];
    let path = Made::new("1.1", WIDTH, HEIGHT, &[(0, 0), (4, 0)])
        .sparse(&far)
        .write(folder.path(), "a.dcm");
    let slide = open(&path).unwrap();
    assert!(
        slide.info().warnings[0].starts_with("1 frames"),
        "{:?}",
        slide.info().warnings
    );
    let path = Made::new("1.2", WIDTH, HEIGHT, &[(0, 0)])
        .sparse(&[(400, 0, 0.0)])
        .write(folder.path(), "b.dcm");
    assert_eq!(open(&path).err().unwrap().code(), "BAD_IMAGE");
}

#[test]
fn a_damaged_level_beside_the_slide_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let frames = [(0, 0), (4, 0), (8, 0), (0, 3), (4, 3), (8, 3)];
    let path = Made::new("1.1", WIDTH, HEIGHT, &frames).write(folder.path(), "a.dcm");
    let other = Made::new("1.2", 2 * WIDTH, 2 * HEIGHT, &frames).write(folder.path(), "b.dcm");
    let bytes = std::fs::read(&other).unwrap();
    std::fs::write(&other, &bytes[..bytes.len() - 60]).unwrap();
    let slide = open(&path).unwrap();
    assert!(
        slide.info().warnings[0].contains("levels may be missing"),
        "{:?}",
        slide.info().warnings
    );
}

#[test]
fn levels_and_concatenations_are_found_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Made::new("1.1", WIDTH, HEIGHT, &FULL[4..])
        .part(4)
        .write(folder, "a.dcm");
    let path = Made::new("1.2", WIDTH, HEIGHT, &FULL[..4])
        .part(0)
        .write(folder, "b.dcm");
    Made::new("1.3", 5, 3, &[(0, 0), (4, 0)]).write(folder, "c.dcm");
    let mut label = Made::new("1.4", 4, 3, &[(0, 0)]);
    let label_type = "ORIGINAL\\PRIMARY\\LABEL\\NONE";
    label.text(tags::IMAGE_TYPE, VR::CS, label_type);
    let label = label.write(folder, "d.dcm");
    let mut other = Made::new("1.5", 2, 1, &[(0, 0)]);
    other.text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.9");
    other.write(folder, "e.dcm");
    std::fs::write(folder.join("notes.txt"), "nothing").unwrap();

    let slide = open(&path).unwrap();
    check(&slide);
    let sizes: Vec<_> = slide
        .info()
        .levels
        .iter()
        .map(|l| (l.width, l.height))
        .collect();
    assert_eq!(sizes, [(10, 5), (5, 3)]);
    assert!((slide.info().levels[1].downsample - (2.0 + 5.0 / 3.0) / 2.0).abs() < 1e-12);
    assert_eq!(slide.read(1, 0, 0, 1, 1).unwrap(), color(0, 0));
    assert_eq!(open(&label).err().map(|e| e.code()), Some("UNSUPPORTED"));

    std::fs::remove_file(folder.join("a.dcm")).unwrap();
    let error = open(&path).err().unwrap();
    assert_eq!(error.code(), "BAD_IMAGE");
    assert!(error.to_string().contains("concatenation"), "{error}");
}

#[test]
fn sizes_that_lie_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for (width, height, code) in [
        (u32::MAX, u32::MAX, "LIMIT_EXCEEDED"),
        (WIDTH, 100, "BAD_IMAGE"),
        (0, HEIGHT, "BAD_IMAGE"),
    ] {
        let mut made = Made::new("1.1", WIDTH, HEIGHT, &FULL);
        made.number(tags::TOTAL_PIXEL_MATRIX_COLUMNS, width);
        made.number(tags::TOTAL_PIXEL_MATRIX_ROWS, height);
        let path = made.write(folder.path(), "a.dcm");
        assert_eq!(open(&path).err().map(|e| e.code()), Some(code));
    }
}

/// Truncated and changed bytes give an error, or a slide that can be read to its end or not.
#[test]
fn damaged_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let at = FULL.map(|(x, y)| (x, y, 0.0));
    let made = Made::new("1.1", WIDTH, HEIGHT, &FULL).sparse(&at);
    let path = made.write(folder.path(), "a.dcm");
    let bytes = std::fs::read(&path).unwrap();
    for place in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[place] ^= 0x81;
        for bytes in [&bytes[..place], &changed] {
            std::fs::write(&path, bytes).unwrap();
            if let Ok(slide) = open(&path) {
                let _ = slide.read(0, 1, 1, 20, 20);
            }
        }
    }
}
