//! Decoding and pixel recipes against Pillow, transformers, torchvision, TensorFlow and the container's steps.
//!
//! The reference results are made by `scripts/make_pixel_golden.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use medsiglip::image::{DecodeOptions, Limits, Picture, Samples, decode, open};
use medsiglip::preprocess::{Padding, Preprocessor, Recipe};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/pixels")
        .join(name)
}

/// The synthetic pictures, as in the script: name, width, height, channels, bits, pattern, size of the result.
const CASES: [(&str, u64, u64, u64, u8, &str, usize); 16] = [
    ("down", 61, 47, 3, 8, "mix", 24),
    ("up", 9, 7, 3, 8, "mix", 24),
    ("tall", 13, 90, 3, 8, "mix", 24),
    ("gray", 50, 31, 1, 8, "mix", 24),
    ("gray16", 40, 33, 1, 16, "mix", 24),
    ("row", 33, 1, 1, 8, "mix", 24),
    ("column", 1, 33, 3, 8, "mix", 24),
    ("pixel", 1, 1, 3, 8, "mix", 24),
    ("same", 24, 24, 3, 8, "mix", 24),
    ("same_width", 24, 40, 3, 8, "mix", 24),
    ("binary", 31, 22, 1, 8, "binary", 24),
    ("binary16", 31, 22, 1, 16, "binary", 24),
    ("black", 20, 30, 3, 8, "black", 24),
    ("white", 30, 20, 3, 8, "white", 24),
    ("long", 3000, 2, 1, 8, "mix", 24),
    ("big", 500, 333, 3, 8, "mix", 64),
];

/// `sample` of the script.
fn sample(width: u64, height: u64, channels: u64, bits: u8, pattern: &str) -> Picture {
    let top: u64 = if bits == 8 { 255 } else { 65_535 };
    let value = |x: u64, y: u64, c: u64| match pattern {
        "black" => 0,
        "white" => top,
        "binary" => (x / 3 + y / 2) % 2 * top,
        _ => {
            let noise = ((x * 2_654_435_761 + y * 40_503 + c * 97) >> 3) % 61;
            let smooth = (x * 7 + y * 5 + c * 40) % 256;
            let edge = (x / 8 + y / 5) % 2 * 90;
            let v = ((smooth + noise + edge) % 288).min(255);
            if bits == 8 {
                v
            } else {
                v * 257 - ((x * 31 + y * 17) % 257).min(v * 257)
            }
        }
    };
    let places = || (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)));
    let values = places().flat_map(|(x, y)| (0..channels).map(move |c| value(x, y, c)));
    let samples = if bits == 8 {
        Samples::U8(values.map(|v| v as u8).collect())
    } else {
        Samples::U16(values.map(|v| v as u16).collect())
    };
    Picture::new(width as u32, height as u32, channels as u8, samples).unwrap()
}

/// `hf`, `hf+square` (padding asked for), or `checkpoint-bilinear` (a config with that filter).
fn preprocessor(name: &str, size: usize) -> Preprocessor {
    if let Some(filter) = name.strip_prefix("checkpoint-") {
        let names = [
            "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming",
        ];
        let code = names.iter().position(|n| *n == filter).unwrap();
        let config =
            format!(r#"{{"resample": {code}, "size": {{"height": {size}, "width": {size}}}}}"#);
        return Preprocessor::new(Recipe::Checkpoint, None, size, Some(&config)).unwrap();
    }
    let (recipe, padding) = match name.split_once('+') {
        Some((recipe, padding)) => (recipe, Some(padding.parse::<Padding>().unwrap())),
        None => (name, None),
    };
    Preprocessor::new(recipe.parse().unwrap(), padding, size, None).unwrap()
}

/// Every line of `index`: the view of a synthetic picture has the checksum that the reference has.
fn check_views(index: &str) -> usize {
    let text = fs::read_to_string(golden(index)).unwrap();
    for line in text.lines() {
        let [name, recipe, checksum] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let &(_, w, h, c, bits, pattern, size) = CASES.iter().find(|case| case.0 == name).unwrap();
        let view = preprocessor(recipe, size)
            .view(&sample(w, h, c, bits, pattern))
            .unwrap();
        // Kept whole for two pictures, so that a failure says more than "differs".
        if let Ok(expected) = fs::read(golden(&format!("{name}.{recipe}.rgb"))) {
            let worst = view
                .iter()
                .zip(&expected)
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            assert_eq!((worst, view.len()), (Some(0), expected.len()), "{line}");
        }
        assert_eq!(digest(&view), checksum, "{line}");
    }
    text.lines().count()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[test]
fn pillow_recipes_are_bit_equal_to_the_references() {
    assert!(check_views("hf.txt") > 150);
}

#[test]
fn eval_tf_is_bit_equal_to_tensorflow() {
    assert!(check_views("tf.txt") > 30);
}

#[test]
fn float_levels_are_those_of_the_reference() {
    let expected = fs::read(golden("levels.f32")).unwrap();
    let ramp = Picture::new(16, 16, 1, Samples::U8((0..=255).collect())).unwrap();
    for recipe in ["hf", "eval-tf", "container", "torchvision"] {
        let values = preprocessor(recipe, 16).pixel_values(&ramp).unwrap();
        for plane in values.data().chunks(256) {
            let bytes: Vec<u8> = plane.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(bytes, expected, "{recipe}");
        }
    }
    let config = r#"{"size": {"height": 24, "width": 24}, "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28], "rescale_factor": 0.004}"#;
    let odd = Preprocessor::new(Recipe::Checkpoint, None, 24, Some(config)).unwrap();
    let values = odd.pixel_values(&sample(24, 24, 3, 8, "mix")).unwrap();
    let bytes: Vec<u8> = values.data().iter().flat_map(|v| v.to_le_bytes()).collect();
    let index = fs::read_to_string(golden("odd_levels.txt")).unwrap();
    assert_eq!(
        Some(digest(&bytes).as_str()),
        index.trim().split(' ').nth(1)
    );
}

/// The stored files with Pillow's reading of them; gray may come as RGB where Pillow simplified a palette.
#[test]
fn files_decode_as_in_pillow() {
    let mut seen = 0;
    for entry in fs::read_dir(golden("files")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "raw") {
            continue;
        }
        let picture = open(&path).unwrap_or_else(|e| panic!("{e}"));
        let expected = fs::read(format!("{}.raw", path.display())).unwrap();
        let got = match picture.samples() {
            Samples::U8(v) => v.clone(),
            Samples::U16(v) => v.iter().flat_map(|s| s.to_le_bytes()).collect(),
        };
        let pixels = (picture.width() * picture.height()) as usize;
        let expected = if expected.len() == pixels && picture.channels() == 3 {
            expected.into_iter().flat_map(|v| [v; 3]).collect()
        } else {
            expected
        };
        assert!(got == expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 30, "{seen} files");
}

fn read(name: &str) -> Vec<u8> {
    fs::read(golden("files").join(name)).unwrap()
}

static COMPAT: LazyLock<DecodeOptions> = LazyLock::new(|| DecodeOptions {
    limits: Limits {
        max_file_bytes: 1 << 20,
        max_pixels: 1 << 20,
    },
    container_compat: true,
    ..DecodeOptions::default()
});

#[test]
fn orientation_is_applied_except_for_the_container() {
    for (name, compat_orientation) in [
        ("oriented.png", 1),
        ("oriented.jpg", 1),
        ("oriented.tif", 8),
    ] {
        let upright = decode(&read(name), &DecodeOptions::default()).unwrap();
        assert_eq!((upright.width(), upright.height()), (21, 37), "{name}");
        let compat = decode(&read(name), &COMPAT).unwrap();
        assert_eq!(compat.source().orientation, compat_orientation, "{name}");
    }
    assert_eq!(decode(&read("oriented.jpg"), &COMPAT).unwrap().width(), 37);
}

#[test]
fn the_container_reads_palettes_as_gray_and_cmyk_as_rgb() {
    for name in ["palette4.png", "palette.bmp"] {
        let indices = decode(&read(name), &COMPAT).unwrap();
        assert_eq!(indices.channels(), 1, "{name}");
        let Samples::U8(samples) = indices.samples() else {
            panic!("{name}")
        };
        assert_eq!(
            samples.iter().max(),
            Some(&12),
            "{name}: 13 colours, so indices up to 12"
        );
        assert!(!indices.source().warnings.is_empty());
    }
    let inks = decode(&read("cmyk.tif"), &COMPAT).unwrap();
    let stored = read("cmyk.tif");
    let Samples::U8(samples) = inks.samples() else {
        panic!()
    };
    let first: Vec<u8> = samples[..6].to_vec();
    let found = stored
        .windows(8)
        .any(|w| w[..3] == first[..3] && w[4..7] == first[3..]);
    assert!(found, "the first three inks of the first two pixels");
}

/// Found by fuzzing: the BMP decoder panicked on compressed indices.
#[test]
fn a_run_length_bmp_is_read_but_for_the_container() {
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x3e\0\0\0\x28\0\0\0".to_vec();
    let numbers = [2_u32, 1, 1 | 8 << 16, 1, 4, 0, 0, 2, 0];
    bmp.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    bmp.extend([1, 2, 3, 0, 40, 50, 60, 0]); // two colours, blue first
    bmp.extend([2, 1, 0, 1]); // two pixels of the second, end
    let picture = decode(&bmp, &DecodeOptions::default()).unwrap();
    assert_eq!(
        picture.samples(),
        &Samples::U8(vec![60, 50, 40, 60, 50, 40])
    );
    let compat = DecodeOptions {
        container_compat: true,
        ..DecodeOptions::default()
    };
    assert_eq!(decode(&bmp, &compat).unwrap_err().code(), "UNSUPPORTED");
}

#[test]
fn what_was_dropped_is_recorded() {
    for (name, word) in [
        ("rgba.png", "alpha"),
        ("gray_alpha.png", "alpha"),
        ("alpha.webp", "alpha"),
        ("palette_transparent.png", "transparency"),
    ] {
        let picture = decode(&read(name), &DecodeOptions::default()).unwrap();
        assert!(
            picture.source().warnings.iter().any(|w| w.contains(word)),
            "{name}"
        );
    }
    let plain = decode(&read("rgb.png"), &DecodeOptions::default()).unwrap();
    assert_eq!(
        (plain.source().format, plain.source().color.as_str()),
        ("png", "rgb8")
    );
    assert!(plain.source().warnings.is_empty());
}

/// Every prefix of every file is an error or the whole picture, never a part of one.
#[test]
fn truncated_files_are_errors() {
    for entry in fs::read_dir(golden("files")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "raw") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let whole = decode(&bytes, &DecodeOptions::default()).unwrap();
        for len in 0..bytes.len() {
            match decode(&bytes[..len], &DecodeOptions::default()) {
                Ok(part) => assert_eq!(
                    part.samples(),
                    whole.samples(),
                    "{len} bytes of {}",
                    path.display()
                ),
                Err(e) => assert!(["BAD_IMAGE", "UNSUPPORTED"].contains(&e.code()), "{e}"),
            }
        }
    }
}

#[test]
fn sizes_are_refused_from_the_header() {
    let mut png = read("rgb.png");
    png[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&png, &DecodeOptions::default()).unwrap_err();
    assert_eq!(error.code(), "LIMIT_EXCEEDED");
    assert!(error.to_string().contains("3600000000"), "{error}");

    let mut jpeg = read("color_420.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    let mut bmp = read("rgb.bmp");
    bmp[18..26].copy_from_slice(&[0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0]);
    let pnm = b"P6 60000 60000 255\n".to_vec();
    let small = DecodeOptions {
        limits: Limits {
            max_file_bytes: 1 << 20,
            max_pixels: 700,
        },
        ..COMPAT.clone()
    };
    for (bytes, options) in [
        (jpeg, DecodeOptions::default()),
        (bmp, DecodeOptions::default()),
        (pnm, DecodeOptions::default()),
        (read("rgb.tif"), small.clone()),
        (read("lossless.webp"), small),
    ] {
        assert_eq!(
            decode(&bytes, &options).unwrap_err().code(),
            "LIMIT_EXCEEDED"
        );
    }
    let tiny = DecodeOptions {
        limits: Limits {
            max_file_bytes: 10,
            max_pixels: 700,
        },
        ..COMPAT.clone()
    };
    assert_eq!(
        decode(&[0; 11], &tiny).unwrap_err().code(),
        "LIMIT_EXCEEDED"
    );
}

/// PNG's checksum (ISO 3309), to make a header that is wrong in its size alone.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn other_files_are_told_apart() {
    let mut dicom = [0; 200];
    dicom[128..132].copy_from_slice(b"DICM");
    for (bytes, code, word) in [
        (&dicom[..], "BAD_IMAGE", "DICOM file without pixels"),
        (b"GIF89a............", "UNSUPPORTED", "gif"),
        (b"", "BAD_IMAGE", "empty"),
        (b"hello", "BAD_IMAGE", "not a picture"),
    ] {
        let error = decode(bytes, &DecodeOptions::default()).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(open(golden("absent.png")).unwrap_err().code(), "IO_ERROR");
}

proptest! {
    /// Damaged files are errors or pictures, never panics.
    #[test]
    fn damaged_files_never_panic(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        compat in any::<bool>(),
    ) {
        let mut names: Vec<PathBuf> = fs::read_dir(golden("files")).unwrap().map(|e| e.unwrap().path()).collect();
        names.retain(|p| p.extension().is_some_and(|e| e != "raw"));
        names.sort();
        let mut bytes = fs::read(file.get(&names)).unwrap();
        for (at, value) in &damage {
            let len = bytes.len();
            bytes[at.index(len)] = *value;
        }
        let limits = Limits { max_file_bytes: 1 << 20, max_pixels: 1 << 20 };
        let options = DecodeOptions { limits, container_compat: compat, ..DecodeOptions::default() };
        if let Ok(picture) = decode(&bytes, &options) {
            let view = preprocessor("hf", 8).view(&picture).unwrap();
            prop_assert_eq!(view.len(), 8 * 8 * 3);
        }
    }
}

/// Opt-in, on real pictures: `MEDSIGLIP_PIXEL_LIST` names a list of files, `MEDSIGLIP_PIXEL_VIEWS` the folder that
/// `make_pixel_golden.py hf --compare LIST FOLDER` (and `eval-tf --compare`) filled.
#[test]
fn real_pictures_match_the_references() {
    let (Ok(list), Ok(folder)) = (
        std::env::var("MEDSIGLIP_PIXEL_LIST"),
        std::env::var("MEDSIGLIP_PIXEL_VIEWS"),
    ) else {
        eprintln!("skipped: MEDSIGLIP_PIXEL_LIST and MEDSIGLIP_PIXEL_VIEWS are not set");
        return;
    };
    for recipe in ["hf", "container", "torchvision", "eval-tf"] {
        let preprocessor = preprocessor(recipe, 448);
        let (mut worst, mut differing, mut total) = (0, 0, 0);
        for (i, path) in fs::read_to_string(&list)
            .unwrap()
            .split_whitespace()
            .enumerate()
        {
            let expected =
                fs::read(Path::new(&folder).join(format!("{i:04}.{recipe}.rgb"))).unwrap();
            let view = preprocessor.view(&open(path).unwrap()).unwrap();
            assert_eq!(view.len(), expected.len());
            for (a, b) in view.iter().zip(&expected) {
                worst = worst.max(a.abs_diff(*b));
                differing += usize::from(a != b);
            }
            total += view.len();
        }
        eprintln!("{recipe}: largest difference {worst}, {differing} of {total} samples differ");
        assert_eq!(worst, 0, "{recipe}");
    }
}
