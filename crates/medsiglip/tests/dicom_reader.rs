//! The DICOM reader on files that are odd, damaged or hostile.

#[path = "common/dicom.rs"]
mod dicom;

use dicom::{Dataset, EXPLICIT, RLE};
use medsiglip::Error;
use medsiglip::image::Limits;
use medsiglip::image::dicom::{DicomFile, DisplayOptions, Values};

fn open(bytes: Vec<u8>) -> Result<DicomFile, Error> {
    DicomFile::from_bytes(bytes, &Limits::default())
}

/// The code and text of what opening the file or decoding its frames fails with.
fn refusal(bytes: Vec<u8>) -> (&'static str, String) {
    let error = match open(bytes) {
        Err(error) => error,
        Ok(file) => {
            let frames: Result<Vec<_>, _> =
                (0..file.frames()).map(|frame| file.stored(frame)).collect();
            frames.expect_err("it must be refused")
        }
    };
    (error.code(), error.to_string())
}

fn two_by_three() -> Dataset {
    Dataset::default()
        .gray(2, 3, 8)
        .put((0x7FE0, 0x10), "OW", &[1, 2, 3, 4, 5, 6])
}

fn values(file: &DicomFile, frame: u32) -> Values {
    file.stored(frame).unwrap().values
}

#[test]
fn a_plain_file_is_read_with_and_without_preamble_and_meta() {
    let dataset = two_by_three();
    let whole = dataset.file(EXPLICIT);
    let without_preamble = whole[128..].to_vec();
    let without_magic = whole[132..].to_vec();
    for bytes in [whole, without_preamble, without_magic, dataset.0] {
        let file = open(bytes).unwrap();
        assert_eq!(file.frames(), 1);
        assert_eq!(file.info().transfer_syntax_uid, EXPLICIT);
        assert_eq!(values(&file, 0), Values::U8(vec![1, 2, 3, 4, 5, 6]));
    }
}

#[test]
fn an_explicit_file_that_is_implicit_in_truth_is_read() {
    let mut bytes = Dataset::default().file(EXPLICIT);
    let elements: [((u16, u16), &[u8]); 9] = [
        ((0x28, 2), &[1, 0]),
        ((0x28, 4), b"MONOCHROME2 "),
        ((0x28, 0x10), &[1, 0]),
        ((0x28, 0x11), &[2, 0]),
        ((0x28, 0x100), &[8, 0]),
        ((0x28, 0x101), &[8, 0]),
        ((0x28, 0x102), &[7, 0]),
        ((0x28, 0x103), &[0, 0]),
        ((0x7FE0, 0x10), &[9, 8]),
    ];
    for ((group, element), value) in elements {
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    assert_eq!(values(&open(bytes).unwrap(), 0), Values::U8(vec![9, 8]));
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    let sequence = {
        let mut bytes = Dataset::default();
        bytes.head((0x28, 0x3010), "SQ", u32::MAX);
        bytes
            .0
            .extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
        let mut bytes = bytes.put((0x28, 0x3002), "US", &[1, 0, 0, 0, 8, 0]);
        bytes.0.extend([
            0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0,
        ]);
        bytes.0
    };
    let mut dataset = Dataset::default().gray(2, 3, 8);
    dataset.0.extend(sequence);
    let whole = dataset
        .put((0x7FE0, 0x10), "OW", &[1, 2, 3, 4, 5, 6])
        .file(EXPLICIT);
    assert!(open(whole.clone()).is_ok());
    for end in 0..whole.len() {
        let error = open(whole[..end].to_vec()).expect_err("cut short");
        assert!(
            ["BAD_IMAGE", "UNSUPPORTED"].contains(&error.code()),
            "{end}: {error}"
        );
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    for (tag, vr) in [
        ((0x20, 0x4000), "UN"),
        ((0x28, 0x3010), "SQ"),
        ((0x08, 0x08), "CS"),
    ] {
        let mut dataset = Dataset::default();
        dataset.head(tag, vr, 0xFFFF_FFF0);
        dataset.0.extend(Dataset::default().gray(2, 3, 8).0);
        let (code, message) = refusal(dataset.file(EXPLICIT));
        assert_eq!(code, "BAD_IMAGE", "{message}");
    }
}

#[test]
fn a_bad_value_representation_is_read_over() {
    let mut dataset = Dataset::default();
    dataset.head((0x09, 0x10), "ZZ", 4);
    dataset.0.extend([1, 2, 3, 4]);
    dataset.0.extend(two_by_three().0);
    assert!(open(dataset.file(EXPLICIT)).is_ok());
}

#[test]
fn sequences_without_end_are_refused() {
    let mut dataset = Dataset::default();
    for _ in 0..100_000 {
        dataset.head((0x28, 0x3010), "SQ", u32::MAX);
        dataset
            .0
            .extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    let (code, message) = refusal(dataset.file(EXPLICIT));
    assert_eq!(code, "BAD_IMAGE");
    assert!(
        message.contains("(0028,3010)") && message.contains("nested"),
        "{message}"
    );
}

#[test]
fn absurd_sizes_take_no_memory() {
    let huge = Dataset::default()
        .gray(65_535, 65_535, 16)
        .put((0x7FE0, 0x10), "OW", &[0; 16]);
    assert_eq!(refusal(huge.file(EXPLICIT)).0, "LIMIT_EXCEEDED");
    let rle = Dataset::default()
        .gray(16_000, 16_000, 16)
        .fragments(&[&[], &[0; 64]]);
    assert_eq!(refusal(rle.file(RLE)).0, "BAD_IMAGE");
    let empty = Dataset::default()
        .gray(0, 3, 8)
        .put((0x7FE0, 0x10), "OW", &[0; 16]);
    assert_eq!(refusal(empty.file(EXPLICIT)).0, "BAD_IMAGE");
    let frames = |number: &[u8]| Dataset::default().frames(number);
    for number in [&b"2147483647"[..], b"-1", b"0", b"1A", b"99999999999999"] {
        let native = frames(number).put((0x7FE0, 0x10), "OW", &[0; 12]);
        assert_eq!(refusal(native.file(EXPLICIT)).0, "BAD_IMAGE");
        let encapsulated = frames(number).fragments(&[&[], &[0; 64], &[0; 64]]);
        assert_eq!(refusal(encapsulated.file(RLE)).0, "BAD_IMAGE");
    }
    let two = frames(b"2").put(
        (0x7FE0, 0x10),
        "OW",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    );
    let two = open(two.file(EXPLICIT)).unwrap();
    assert_eq!(values(&two, 1), Values::U8(vec![7, 8, 9, 10, 11, 12]));
    assert_eq!(two.stored(2).unwrap_err().code(), "BAD_ARGUMENT");
}

/// A byte segment of RLE that repeats `value` six times, as a frame of two by three.
fn rle_frame(value: u8) -> Vec<u8> {
    let mut frame = vec![0; 64];
    (frame[0], frame[4]) = (1, 64);
    frame.extend([251, value]);
    frame
}

#[test]
fn frames_are_found_with_and_without_an_offset_table() {
    let head = Dataset::default().frames(b"2");
    let (first, second) = (rle_frame(5), rle_frame(6));
    let table = |offsets: [u32; 2]| offsets.map(u32::to_le_bytes).concat();
    let second_at = 8 + first.len() as u32;
    for table in [
        vec![],
        table([0, second_at]),
        table([0, 3]),
        table([7, 7]),
        vec![1, 2, 3],
    ] {
        let file = head.clone().fragments(&[&table, &first, &second]).file(RLE);
        let file = open(file).unwrap();
        assert_eq!(values(&file, 0), Values::U8(vec![5; 6]));
        assert_eq!(values(&file, 1), Values::U8(vec![6; 6]));
    }
    // The first frame in two fragments: only the table tells.
    let (a, b) = first.split_at(30);
    let three: [&[u8]; 4] = [&table([0, 16 + first.len() as u32]), a, b, &second];
    let file = open(head.clone().fragments(&three).file(RLE)).unwrap();
    assert_eq!(values(&file, 0), Values::U8(vec![5; 6]));
    let lost: [&[u8]; 4] = [&[], a, b, &second];
    assert_eq!(refusal(head.fragments(&lost).file(RLE)).0, "BAD_IMAGE");
}

#[test]
fn surplus_pixels_are_told() {
    let more = Dataset::default()
        .gray(2, 3, 8)
        .put((0x7FE0, 0x10), "OW", &[1; 12]);
    let file = open(more.file(EXPLICIT)).unwrap();
    let picture = file.picture(0, &DisplayOptions::default()).unwrap();
    assert!(
        picture.source().warnings[0].contains("6 bytes longer"),
        "{:?}",
        picture.source().warnings
    );
    // An offset table of two frames where the header says one: the first is not joined with the second.
    let (first, second) = (rle_frame(5), rle_frame(6));
    let table = [0, 8 + first.len() as u32].map(u32::to_le_bytes).concat();
    let two = Dataset::default()
        .gray(2, 3, 8)
        .fragments(&[&table, &first, &second]);
    let file = open(two.file(RLE)).unwrap();
    let picture = file.picture(0, &DisplayOptions::default()).unwrap();
    assert_eq!(values(&file, 0), Values::U8(vec![5; 6]));
    assert!(
        picture.source().warnings[0].contains("offset table has 2"),
        "{:?}",
        picture.source().warnings
    );
}

#[test]
fn pixels_that_are_not_subsampled_are_no_ybr_full_422() {
    let ybr = |length: usize| {
        Dataset::default()
            .put((0x28, 2), "US", &3_u16.to_le_bytes())
            .put((0x28, 4), "CS", b"YBR_FULL_422")
            .us((0x28, 6), 0)
            .size(2, 4, 8)
            .put((0x7FE0, 0x10), "OW", &vec![128; length])
            .file(EXPLICIT)
    };
    assert_eq!(
        values(&open(ybr(16)).unwrap(), 0),
        Values::U8(vec![128; 24])
    );
    let (code, message) = refusal(ybr(24));
    assert_eq!(code, "BAD_IMAGE");
    assert!(message.contains("YBR_FULL_422"), "{message}");
}

#[test]
fn fragments_with_a_length_are_read_and_plain_bytes_are_not_taken_for_them() {
    let mut file = Dataset::default().gray(2, 3, 8);
    let start = file.0.len();
    file = file.fragments(&[&[], &rle_frame(5)]);
    let length = (file.0.len() - start - 12) as u32;
    file.0[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
    assert_eq!(
        values(&open(file.file(RLE)).unwrap(), 0),
        Values::U8(vec![5; 6])
    );
    let (code, message) = refusal(two_by_three().file(RLE));
    assert_eq!(code, "BAD_IMAGE");
    assert!(message.contains("expected fragments"), "{message}");
}

#[test]
fn long_texts_take_no_memory() {
    let text = vec![b'\\'; 1 << 20];
    let mut dataset = Dataset::default();
    dataset.head((0x18, 0x15), "UT", text.len() as u32);
    dataset.0.extend(&text);
    dataset.0.extend(two_by_three().0);
    assert_eq!(
        open(dataset.file(EXPLICIT))
            .unwrap()
            .info()
            .body_part_examined,
        None
    );
}

#[test]
fn fragments_that_lie_are_refused() {
    let whole = Dataset::default()
        .gray(2, 3, 8)
        .fragments(&[&[], &rle_frame(5)])
        .file(RLE);
    assert_eq!(
        values(&open(whole.clone()).unwrap(), 0),
        Values::U8(vec![5; 6])
    );
    let item = whole
        .windows(4)
        .rposition(|w| w == [0xFE, 0xFF, 0x00, 0xE0])
        .unwrap();
    for length in [0xFFFF_FFFE_u32, 1_000, 65, 0] {
        let mut lie = whole.clone();
        lie[item + 4..item + 8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(refusal(lie).0, "BAD_IMAGE", "{length}");
    }
    // Files that end without the delimiter are forgiven.
    assert!(
        open(whole[..whole.len() - 8].to_vec())
            .unwrap()
            .stored(0)
            .is_ok()
    );
}

#[test]
fn files_without_pixels_say_what_they_are() {
    let report = Dataset::default().put((8, 0x16), "UI", b"1.2.840.10008.5.1.4.1.1.88.11");
    let (code, message) = refusal(report.file(EXPLICIT));
    assert_eq!(code, "UNSUPPORTED");
    assert!(message.contains("Basic Text SR"), "{message}");
}

#[test]
fn a_person_is_in_no_message_and_no_debug_text() {
    let dataset = Dataset::default()
        .put((0x08, 0x20), "DA", b"19500102")
        .put((0x08, 0x50), "SH", b"ACC-DOE")
        .put((0x10, 0x10), "PN", b"DOE^JOHN")
        .put((0x10, 0x20), "LO", b"PID-DOE")
        .put((0x10, 0x30), "DA", b"19500102")
        .put((0x18, 0x15), "CS", b"Doe's chest")
        .put((0x20, 0x4000), "LT", b"JOHN DOE has a cough");
    let mut bytes = dataset.0.clone();
    bytes.extend(two_by_three().0);
    let file = open(Dataset(bytes).file(EXPLICIT)).unwrap();
    let told = format!("{file:?}");
    assert!(
        !told.contains("DOE") && !told.contains("Doe") && !told.contains("1950"),
        "{told}"
    );
    let hash = |key: &[u8]| file.patient_id_hash(key).unwrap();
    // Python: hmac.new(b"key", b"PID-DOE", hashlib.sha256).hexdigest()
    assert_eq!(
        hash(b"key"),
        "013716504649b408ff47eef3455d9722c9ca579b1602edfd4544af335f252565"
    );
    assert_ne!(hash(b"key"), hash(b"other key"));
}
