//! Slices to volumes: which belong together, and in which order.

use std::collections::BTreeMap;

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, Tag};

use super::attributes::Attributes;
use super::header::Header;

/// Where a frame lies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SlicePosition {
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Option<String>,
    /// Frame Acquisition Number (0020,9156), else Acquisition Number (0020,0012).
    pub acquisition_number: Option<i64>,
    /// Instance Number (0020,0013).
    pub instance_number: Option<i64>,
    /// Image Position (Patient) (0020,0032) in mm: x to the left, y to the back, z to the head.
    pub position_mm: Option<[f64; 3]>,
    /// Image Orientation (Patient) (0020,0037): direction cosines of a row, then of a column.
    pub orientation: Option<[f64; 6]>,
}

impl SlicePosition {
    /// Of `frame`, counted from 0: from its functional groups (PS3.3 C.7.6.16.2.3 and C.7.6.16.2.4), in classic files from
    /// the top (C.7.6.2). What is malformed counts as absent.
    pub(super) fn of(header: &Header, frame: u32) -> Self {
        let content = header.of_frame(frame, tags::FRAME_CONTENT_SEQUENCE);
        let position = header.of_frame(frame, tags::PLANE_POSITION_SEQUENCE);
        let orientation = header.of_frame(frame, tags::PLANE_ORIENTATION_SEQUENCE);
        let acquisition = content.integer(tags::FRAME_ACQUISITION_NUMBER);
        Self {
            series_instance_uid: header.dataset.text(tags::SERIES_INSTANCE_UID),
            acquisition_number: acquisition
                .or_else(|| header.dataset.integer(tags::ACQUISITION_NUMBER)),
            instance_number: header.dataset.integer(tags::INSTANCE_NUMBER),
            position_mm: finite(position, tags::IMAGE_POSITION_PATIENT),
            orientation: finite(orientation, tags::IMAGE_ORIENTATION_PATIENT),
        }
    }

    /// Orientation and unit normal (row × column, C.7.6.2.1.1), where the slice has them and a position.
    fn plane(&self) -> Option<Plane> {
        self.position_mm?;
        let orientation = self.orientation?;
        let [a, b, c, d, e, f] = orientation;
        let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
        let length = dot(normal, normal).sqrt();
        // Perpendicular unit vectors give 1.
        ((length - 1.0).abs() < 0.1).then_some(Plane {
            orientation,
            normal: normal.map(|x| x / length),
        })
    }
}

fn finite<const N: usize>(dataset: &InMemDicomObject, tag: Tag) -> Option<[f64; N]> {
    let numbers: [f64; N] = dataset.numbers(tag).try_into().ok()?;
    numbers
        .iter()
        .all(|number| number.is_finite())
        .then_some(numbers)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// How a slice that has a position lies in space.
struct Plane {
    orientation: [f64; 6],
    normal: [f64; 3],
}

impl Plane {
    /// The same up to what writers round away: 1/1000 in each cosine.
    fn is_parallel(&self, other: &Self) -> bool {
        let pairs = self.orientation.iter().zip(other.orientation);
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-3)
    }
}

/// Sorts slices into stacks: lists of indices into `slices`, each in the order of space.
///
/// A stack is what has one Series Instance UID and one orientation. A series in which positions come again (phases, contrast,
/// repetitions) is parted further by Acquisition Number; it is not where they do not, for there are scanners that number
/// each slice. Slices without position and orientation (scouts, captures) are a stack of their own.
///
/// Within a stack the order is along the normal of the slices (row × column: for axial ones from the feet to the head), in
/// whole micrometers; then by Instance Number, those without one last; then as given. Stacks come in the order of their
/// first slices as given.
pub fn stacks(slices: &[SlicePosition]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, slice) in slices.iter().enumerate() {
        let plane = slice.plane();
        let series = slice.series_instance_uid.as_deref();
        let known = groups
            .iter_mut()
            .find(|group| group.has(series, plane.as_ref()));
        match known {
            Some(group) => group.slices.push(index),
            None => groups.push(Group {
                series,
                plane,
                slices: vec![index],
            }),
        }
    }
    let stacks = groups.iter().flat_map(|group| group.stacks(slices));
    let mut stacks: Vec<Vec<usize>> = stacks.collect();
    stacks.sort_by_key(|stack| stack.iter().min().copied());
    stacks
}

/// Slices of one series and orientation, as given.
struct Group<'a> {
    series: Option<&'a str>,
    plane: Option<Plane>,
    slices: Vec<usize>,
}

impl Group<'_> {
    fn has(&self, series: Option<&str>, plane: Option<&Plane>) -> bool {
        let is_parallel = match (&self.plane, plane) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is_parallel(b),
            _ => false,
        };
        self.series == series && is_parallel
    }

    /// Micrometers along the normal of the group's first slice; 0 without geometry.
    fn height_um(&self, slice: &SlicePosition) -> i64 {
        let plane = self.plane.as_ref().zip(slice.position_mm);
        plane.map_or(0, |(plane, position)| {
            (dot(plane.normal, position) * 1e3).round() as i64
        })
    }

    /// The slices in order, parted by acquisition where positions come again.
    fn stacks(&self, slices: &[SlicePosition]) -> Vec<Vec<usize>> {
        let mut ordered = self.slices.clone();
        ordered.sort_by_key(|&index| {
            let slice = &slices[index];
            let number = slice.instance_number;
            (self.height_um(slice), number.is_none(), number, index)
        });
        let is_repeated = ordered
            .windows(2)
            .any(|pair| self.height_um(&slices[pair[0]]) == self.height_um(&slices[pair[1]]));
        if self.plane.is_none() || !is_repeated {
            return vec![ordered];
        }
        let mut parts: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
        for index in ordered {
            let acquisition = slices[index].acquisition_number;
            parts.entry(acquisition).or_default().push(index);
        }
        parts.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::value::{DataSetSequence, PrimitiveValue};
    use dicom_core::{DataElement, VR};
    use proptest::prelude::*;

    use super::*;

    const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    const CORONAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0];

    fn slice(number: i64, orientation: [f64; 6], position_mm: [f64; 3]) -> SlicePosition {
        SlicePosition {
            series_instance_uid: Some("1.2".into()),
            instance_number: Some(number),
            position_mm: Some(position_mm),
            orientation: Some(orientation),
            ..Default::default()
        }
    }

    fn axial(number: i64, z: f64) -> SlicePosition {
        slice(number, AXIAL, [-250.0, -250.0, z])
    }

    #[test]
    fn axial_slices_go_from_feet_to_head() {
        let slices = [
            axial(1, 30.0),
            axial(2, -7.5),
            axial(3, 0.0),
            axial(4, 12.5),
        ];
        assert_eq!(stacks(&slices), [[1, 2, 3, 0]]);
    }

    #[test]
    fn oblique_slices_are_projected_on_their_normal() {
        // tilted by 30 degrees about x: y and z both change, and z alone would turn the order over
        let (sin, cos) = (0.5, 0.75_f64.sqrt());
        let tilted = [1.0, 0.0, 0.0, 0.0, cos, sin];
        let along = |distance: f64, shift: f64| {
            [
                0.0,
                -sin * distance + cos * shift,
                cos * distance + sin * shift,
            ]
        };
        let slices = [
            slice(1, tilted, along(2.0, 0.0)),
            slice(2, tilted, along(1.0, 50.0)),
            slice(3, tilted, along(3.0, -50.0)),
        ];
        assert_eq!(stacks(&slices), [[1, 0, 2]]);
    }

    #[test]
    fn ties_go_by_instance_number_then_as_given() {
        let mut slices = vec![
            axial(9, 1.0),
            axial(3, 1.0),
            axial(3, 1.0000001),
            axial(5, 0.0),
        ];
        slices[0].instance_number = None;
        assert_eq!(stacks(&slices), [[3, 1, 2, 0]]);
    }

    #[test]
    fn slices_without_geometry_are_a_stack_by_number() {
        let flat = |number| SlicePosition {
            orientation: None,
            ..axial(number, 0.0)
        };
        let mut damaged = axial(1, 0.0);
        damaged.orientation = Some([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]); // no plane
        let slices = [flat(7), axial(1, 5.0), flat(2), axial(2, 4.0), damaged];
        assert_eq!(stacks(&slices), [vec![4, 2, 0], vec![3, 1]]);
    }

    #[test]
    fn series_and_orientations_are_apart() {
        let mut other = axial(1, 0.0);
        other.series_instance_uid = Some("1.3".into());
        let mut rounded = axial(4, -1.0);
        rounded.orientation = Some([0.999_99, 0.000_1, 0.0, 0.0, 1.0, 0.0]);
        let scout = slice(3, CORONAL, [0.0, 20.0, 0.0]);
        let slices = [axial(2, 0.0), other, scout, rounded];
        assert_eq!(stacks(&slices), [vec![3, 0], vec![1], vec![2]]);
    }

    #[test]
    fn acquisitions_are_apart_where_positions_come_again() {
        let acquired = |acquisition, number, z| SlicePosition {
            acquisition_number: Some(acquisition),
            ..axial(number, z)
        };
        let numbered = [
            acquired(1, 1, 2.0),
            acquired(2, 2, 1.0),
            acquired(3, 3, 0.0),
        ];
        assert_eq!(stacks(&numbered), [[2, 1, 0]]);
        let phases = [
            acquired(1, 1, 1.0),
            acquired(1, 2, 0.0),
            acquired(2, 3, 1.0),
            acquired(2, 4, 0.0),
        ];
        assert_eq!(stacks(&phases), [[1, 0], [3, 2]]);
    }

    #[test]
    fn frames_of_an_enhanced_file_have_their_own_positions() {
        let numbers = |tag, numbers: &[f64]| {
            let text: Vec<String> = numbers.iter().map(f64::to_string).collect();
            DataElement::new(tag, VR::DS, PrimitiveValue::Strs(text.into()))
        };
        let object = |element| InMemDicomObject::from_element_iter([element]);
        let sequence = |tag, items: Vec<InMemDicomObject>| {
            DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
        };
        let own = [5.0, -5.0, f64::INFINITY].map(|z| {
            let position = object(numbers(tags::IMAGE_POSITION_PATIENT, &[1.0, 2.0, z]));
            object(sequence(tags::PLANE_POSITION_SEQUENCE, vec![position]))
        });
        let orientation = object(numbers(tags::IMAGE_ORIENTATION_PATIENT, &AXIAL));
        let shared = object(sequence(
            tags::PLANE_ORIENTATION_SEQUENCE,
            vec![orientation],
        ));
        let header = Header {
            dataset: InMemDicomObject::from_element_iter([
                sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]),
                sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, own.to_vec()),
                DataElement::new(tags::INSTANCE_NUMBER, VR::IS, "7"),
            ]),
            syntax: String::new(),
        };
        let slices = [0, 1, 2].map(|frame| SlicePosition::of(&header, frame));
        assert_eq!(slices[0].position_mm, Some([1.0, 2.0, 5.0]));
        assert_eq!(slices[2].position_mm, None);
        assert_eq!(slices[1].instance_number, Some(7));
        assert_eq!(stacks(&slices), [vec![1, 0], vec![2]]);
    }

    proptest! {
        #[test]
        fn every_slice_is_in_one_stack(
            slices in prop::collection::vec((0..3_i64, any::<bool>(), -2..3_i32, 0..3_i64), 0..20),
        ) {
            let slices: Vec<SlicePosition> = slices
                .into_iter()
                .map(|(number, is_axial, z, acquisition)| SlicePosition {
                    orientation: is_axial.then_some(AXIAL),
                    acquisition_number: Some(acquisition),
                    ..axial(number, f64::from(z))
                })
                .collect();
            let mut all = stacks(&slices).concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..slices.len()).collect::<Vec<_>>());
        }
    }
}
