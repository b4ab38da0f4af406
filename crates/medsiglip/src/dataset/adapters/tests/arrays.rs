use std::io::Write;

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use rust_hdf5::H5File;

use super::*;
use crate::image::{DecodeOptions, Picture, Samples};

fn pixels(picture: &Picture) -> &[u8] {
    match picture.samples() {
        Samples::U8(samples) => samples,
        Samples::U16(_) => panic!("16 bits"),
    }
}

/// Ascending bytes, another row of them for each seed.
fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + seed * 31) as u8).collect()
}

fn pcam(side: &str, folder: &Path, labels: &[u8]) {
    let count = labels.len();
    let name = |end: &str| folder.join(format!("camelyonpatch_level_2_split_{side}_{end}"));
    let file = H5File::create(name("x.h5")).unwrap();
    let x = file
        .new_dataset::<u8>()
        .shape([count, 8, 8, 3])
        .chunk(&[count.min(2), 8, 8, 3])
        .deflate(4);
    x.create("x")
        .unwrap()
        .write_raw(&bytes(count * 192, count))
        .unwrap();
    file.close().unwrap();
    let file = H5File::create(name("y.h5")).unwrap();
    let y = file
        .new_dataset::<u8>()
        .shape([count, 1, 1, 1])
        .create("y")
        .unwrap();
    y.write_raw(labels).unwrap();
    file.close().unwrap();
    let mut meta = ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\n".to_owned();
    for (index, label) in labels.iter().enumerate() {
        let tumor = if *label == 1 { "True" } else { "False" };
        meta += &format!(
            "{index},100,200,{tumor},{tumor},camelyon16_{side}_{:03}\n",
            index / 2
        );
    }
    std::fs::write(name("meta.csv"), meta).unwrap();
}

#[test]
fn pcam_from_hdf5() {
    let folder_ = folder(&[], &[]);
    pcam("train", folder_.path(), &[0, 1, 1]);
    pcam("valid", folder_.path(), &[1]);
    let source = open_with("pcam", folder_.path(), "split = \"split\"").unwrap();
    assert!(source.warnings.is_empty(), "{:?}", source.warnings);
    let ids: Vec<_> = source.examples.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["train/0", "train/1", "train/2", "val/0"]);
    let third = &source.examples[2];
    assert_eq!(
        labels(third, &["label", "split"]),
        "label=tumor split=train"
    );
    assert_eq!(third.group.as_deref(), Some("camelyon16_train_001"));
    let picture = third.picture.open(&DecodeOptions::default()).unwrap();
    assert_eq!((picture.width(), picture.height()), (8, 8));
    assert_eq!(pixels(&picture), &bytes(3 * 192, 3)[2 * 192..]);
    assert!(
        third.picture.place().ends_with("train_x.h5: x 2"),
        "{}",
        third.picture.place()
    );
}

#[test]
fn pcam_that_does_not_fit_together() {
    let folder_ = folder(&[], &[]);
    assert!(error("pcam", &folder_).contains("camelyonpatch_level_2_split_train_x.h5"));
    pcam("train", folder_.path(), &[0, 2]);
    assert!(error("pcam", &folder_).contains("data set y: row 2: expected 0 or 1"));
    pcam("train", folder_.path(), &[0, 1]);
    let y = folder_
        .path()
        .join("camelyonpatch_level_2_split_train_y.h5");
    std::fs::write(&y, b"not HDF5").unwrap();
    assert!(error("pcam", &folder_).contains("not a readable HDF5 file"));
    std::fs::remove_file(&y).unwrap();
    std::fs::write(y.with_extension("h5.gz"), b"\x1f\x8b").unwrap();
    let error = open_with("pcam", folder_.path(), "").unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("gunzip"), "{error}");
}

/// The arrays of one set; `side` pixels a side, RGB where `rgb`.
fn medmnist(path: &Path, side: usize, rgb: bool, labels: &[&[&[u8]]; 3], pack: bool) {
    let mut npz = NpzWriter::create(path).unwrap();
    let mut put = |name: &str, shape: &[u64], data: &[u8]| {
        let file = npyz::zip::write::FileOptions::default().compression_method(match pack {
            true => npyz::zip::CompressionMethod::Deflated,
            false => npyz::zip::CompressionMethod::Stored,
        });
        let mut writer = npz
            .array(name, file)
            .unwrap()
            .default_dtype()
            .shape(shape)
            .begin_nd()
            .unwrap();
        writer.extend(data.iter().copied()).unwrap();
        writer.finish().unwrap();
    };
    for (number, (name, labels)) in ["train", "val", "test"].iter().zip(labels).enumerate() {
        let count = labels.len();
        let mut shape = vec![count as u64, side as u64, side as u64];
        shape.extend(rgb.then_some(3));
        let size = shape.iter().product::<u64>() as usize;
        put(&format!("{name}_images"), &shape, &bytes(size, number));
        let flat = labels.concat();
        put(
            &format!("{name}_labels"),
            &[count as u64, (flat.len() / count) as u64],
            &flat,
        );
    }
}

#[test]
fn medmnist_plain_and_packed() {
    for pack in [false, true] {
        let folder_ = folder(&[], &[]);
        let labels_of: [&[&[u8]]; 3] = [&[&[0], &[4]], &[&[2]], &[&[1]]];
        medmnist(
            &folder_.path().join("retinamnist.npz"),
            28,
            true,
            &labels_of,
            pack,
        );
        let source = open_with("medmnist", folder_.path(), "split = \"split\"").unwrap();
        answers_its_tasks(&source);
        let columns = ["label", "diabetic_retinopathy", "split"];
        let all: Vec<_> = source
            .examples
            .iter()
            .map(|e| (e.id.as_str(), labels(e, &columns)))
            .collect();
        assert_eq!(
            all[1],
            (
                "train/1",
                "label=4 diabetic_retinopathy=Proliferative DR split=train".into()
            )
        );
        assert_eq!(
            all[3],
            (
                "test/0",
                "label=1 diabetic_retinopathy=Mild DR split=test".into()
            )
        );
        let picture = source.examples[1]
            .picture
            .open(&DecodeOptions::default())
            .unwrap();
        let each = 28 * 28 * 3;
        assert_eq!(
            pixels(&picture),
            &bytes(2 * each, 0)[each..],
            "packed: {pack}"
        );
    }
}

#[test]
fn chestmnist_has_the_findings_of_chestxray14() {
    let folder_ = folder(&[], &[]);
    let mut effusion = [0; 14];
    effusion[2] = 1;
    let none = [0; 14];
    let labels_of: [&[&[u8]]; 3] = [&[&effusion], &[&none], &[&none]];
    medmnist(
        &folder_.path().join("chestmnist_64.npz"),
        64,
        false,
        &labels_of,
        true,
    );
    let source = open("medmnist", &folder_);
    answers_its_tasks(&source);
    assert_eq!(
        labels(
            &source.examples[0],
            &["Pleural Effusion", "Atelectasis", "No Finding"]
        ),
        "Pleural Effusion=1 Atelectasis=0 No Finding=0"
    );
    assert_eq!(
        labels(&source.examples[1], &["cxr_pneumonia"]),
        "cxr_pneumonia=No finding"
    );
    let picture = source.examples[0]
        .picture
        .open(&DecodeOptions::default())
        .unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
}

#[test]
fn medmnist_that_cannot_be_read() {
    let folder_ = folder(&[], &[]);
    assert!(error("medmnist", &folder_).contains("expected one .npz file in "));
    let path = folder_.path().join("breastmnist.npz");
    let labels_of: [&[&[u8]]; 3] = [&[&[0], &[2]], &[&[0]], &[&[1]]];
    medmnist(&path, 28, false, &labels_of, false);
    let message = error("medmnist", &folder_);
    assert!(
        message.contains("array train_labels: row 2: expected a whole number from 0 to 1"),
        "{message}"
    );
    let whole = std::fs::read(&path).unwrap();
    for end in [0, 30, whole.len() / 2, whole.len() - 1] {
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&whole[..end])
            .unwrap();
        assert!(
            error("medmnist", &folder_).contains("cannot be read"),
            "{end}"
        );
    }
    std::fs::rename(&path, folder_.path().join("imagenet.npz")).unwrap();
    assert!(error("medmnist", &folder_).contains("expected a file called chestmnist"));
}

/// Arrays that claim more pictures than can be, or another size than they unpack to, are refused before they are unpacked.
#[test]
fn arrays_that_claim_too_much_are_refused() {
    let folder_ = folder(&[], &[]);
    let path = folder_.path().join("breastmnist.npz");
    let write = |shape: &str, bytes: usize| {
        let dictionary = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
        let mut zip = npyz::zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        let packed = npyz::zip::write::FileOptions::default();
        zip.start_file("train_images.npy", packed).unwrap();
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        zip.write_all(&(dictionary.len() as u16).to_le_bytes())
            .unwrap();
        zip.write_all(dictionary.as_bytes()).unwrap();
        zip.write_all(&vec![0; bytes]).unwrap();
        zip.finish().unwrap();
    };
    for (shape, bytes, code) in [
        ("(4194305, 1, 1)", 4_194_305, "LIMIT_EXCEEDED"),
        ("(18446744073709551615, 2, 2)", 0, "LIMIT_EXCEEDED"),
        ("(1, 1000000, 1000000)", 0, "LIMIT_EXCEEDED"),
        ("(2, 28, 28)", 64 << 20, "BAD_CONFIG"),
        ("(100000, 28, 28)", 784, "BAD_CONFIG"),
    ] {
        write(shape, bytes);
        let error = open_with("medmnist", folder_.path(), "").unwrap_err();
        assert_eq!(error.code(), code, "{shape}: {error}");
    }
}

#[test]
fn hdf5_arrays_that_claim_too_much_are_refused() {
    let folder_ = folder(&[], &[]);
    pcam("train", folder_.path(), &[0, 1]);
    let x = folder_
        .path()
        .join("camelyonpatch_level_2_split_train_x.h5");
    let file = H5File::create(&x).unwrap();
    // Nothing is written: the pictures are a claim.
    let data = file
        .new_dataset::<u8>()
        .shape([1 << 24, 8, 8, 3])
        .chunk(&[1, 8, 8, 3]);
    drop(data.create("x").unwrap());
    file.close().unwrap();
    let error = open_with("pcam", folder_.path(), "").unwrap_err();
    assert_eq!(error.code(), "LIMIT_EXCEEDED", "{error}");
}
