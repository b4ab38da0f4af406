use proptest::prelude::*;

use super::*;
use crate::image::Samples;

fn gray(width: u32, height: u32, samples: Vec<u8>) -> Picture {
    Picture::new(width, height, 1, Samples::U8(samples)).unwrap()
}

fn preprocessor(recipe: Recipe, size: usize) -> Preprocessor {
    Preprocessor::new(recipe, None, size, None).unwrap()
}

const NAMED: [Recipe; 4] = [
    Recipe::EvalTf,
    Recipe::Hf,
    Recipe::Container,
    Recipe::Torchvision,
];

#[test]
fn names_round_trip_and_unknown_names_list_the_known() {
    for recipe in Recipe::ALL {
        assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
    }
    for padding in Padding::ALL {
        assert_eq!(padding.to_string().parse::<Padding>().unwrap(), padding);
    }
    let error = "pil".parse::<Recipe>().unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(error.to_string().contains(
        "pixel recipe: expected one of eval-tf, hf, container, torchvision or checkpoint, got pil"
    ));
    assert!(
        "Square"
            .parse::<Padding>()
            .unwrap_err()
            .to_string()
            .contains("padding: expected one of none or square, got Square")
    );
}

#[test]
fn levels_run_from_minus_one_to_one_in_equal_steps() {
    for recipe in NAMED {
        let levels = preprocessor(recipe, 4).levels;
        for table in levels.iter() {
            assert_eq!((table[0], table[255]), (-1.0, 1.0));
            for (level, &value) in table.iter().enumerate() {
                assert!((f64::from(value) - (level as f64 / 127.5 - 1.0)).abs() < 1e-7);
            }
        }
    }
}

#[test]
fn pixel_values_are_planar_levels_of_the_view() {
    let samples: Vec<u8> = (0..5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let picture = Picture::new(5, 7, 3, Samples::U8(samples)).unwrap();
    let hf = preprocessor(Recipe::Hf, 6);
    let view = hf.view(&picture).unwrap();
    let values = hf.pixel_values(&picture).unwrap();
    assert_eq!((values.batch(), values.size(), view.len()), (1, 6, 108));
    for (i, &v) in view.iter().enumerate() {
        assert_eq!(
            values.data()[(i % 3) * 36 + i / 3],
            hf.levels[0][usize::from(v)]
        );
    }
}

/// A checkerboard of black and white is "already integer" to the container and resized as 0 and 1: no gray is left.
#[test]
fn container_resizes_black_and_white_as_zero_and_one() {
    let checkers = |black| {
        gray(
            8,
            8,
            (0..64)
                .map(|i| if (i + i / 8) % 2 == 0 { black } else { 255 })
                .collect(),
        )
    };
    let container = preprocessor(Recipe::Container, 5);
    assert!(
        container
            .view(&checkers(0))
            .unwrap()
            .iter()
            .all(|v| [0, 255].contains(v))
    );
    assert!(
        container
            .view(&checkers(1))
            .unwrap()
            .iter()
            .any(|v| ![0, 255].contains(v))
    );
    assert!(
        preprocessor(Recipe::Hf, 5)
            .view(&checkers(0))
            .unwrap()
            .iter()
            .any(|v| ![0, 255].contains(v))
    );
}

/// 30000x2 padded is 30000x30000: the padding is not made, and the picture is a thin line in the middle.
#[test]
fn a_long_thin_picture_is_padded_without_its_padding() {
    let line = gray(30_000, 2, vec![255; 60_000]);
    for recipe in NAMED {
        let padded = Preprocessor::new(recipe, Some(Padding::Square), 448, None).unwrap();
        let view = padded.view(&line).unwrap();
        assert!(view[..200 * 448 * 3].iter().all(|&v| v == 0), "{recipe}");
        let warped = Preprocessor::new(recipe, Some(Padding::None), 448, None).unwrap();
        assert!(
            warped.view(&line).unwrap().iter().all(|&v| v == 255),
            "{recipe}"
        );
    }
}

#[test]
fn sides_that_would_need_endless_weights_are_refused() {
    let line = gray(MAX_SIDE + 1, 1, vec![0; MAX_SIDE as usize + 1]);
    assert_eq!(
        preprocessor(Recipe::Hf, 4).view(&line).unwrap_err().code(),
        "LIMIT_EXCEEDED"
    );
}

#[test]
fn a_checkpoint_that_does_not_resize_takes_its_own_size_alone() {
    let text = r#"{"do_resize": false, "do_rescale": false, "do_normalize": false}"#;
    let keep = Preprocessor::new(Recipe::Checkpoint, None, 2, Some(text)).unwrap();
    let values = keep.pixel_values(&gray(2, 2, vec![0, 1, 2, 255])).unwrap();
    assert_eq!(values.data()[..4], [0.0, 1.0, 2.0, 255.0]);
    assert_eq!(
        keep.view(&gray(3, 2, vec![0; 6])).unwrap_err().code(),
        "BAD_IMAGE"
    );
    let missing = Preprocessor::new(Recipe::Checkpoint, None, 2, None);
    assert_eq!(missing.unwrap_err().code(), "BAD_CONFIG");
}

proptest! {
    #[test]
    fn a_constant_picture_stays_constant(
        width in 1_u32..40, height in 1_u32..40, size in 1_usize..40, level in 0_u8..=255, recipe in 0_usize..4,
    ) {
        let picture = gray(width, height, vec![level; (width * height) as usize]);
        let warped = Preprocessor::new(NAMED[recipe], Some(Padding::None), size, None).unwrap();
        prop_assert!(warped.view(&picture).unwrap().iter().all(|&v| v == level));
    }

    /// Also through the padded path, where both passes run over a square of the same size.
    #[test]
    fn a_picture_of_the_models_size_is_unchanged(size in 1_u32..24, seed in any::<u32>()) {
        let samples: Vec<u8> = (0..size * size * 3).map(|i| (i.wrapping_mul(seed | 1) >> 7) as u8).collect();
        let picture = Picture::new(size, size, 3, Samples::U8(samples.clone())).unwrap();
        for recipe in [Recipe::EvalTf, Recipe::Hf, Recipe::Torchvision] {
            for padding in Padding::ALL {
                let same = Preprocessor::new(recipe, Some(padding), size as usize, None).unwrap();
                prop_assert_eq!(&same.view(&picture).unwrap(), &samples);
            }
        }
    }

    /// Padding that is never made gives what padding that is made gives.
    #[test]
    fn virtual_padding_is_padding(width in 1_usize..30, height in 1_usize..30, size in 1_usize..30, seed in any::<u32>()) {
        let samples: Vec<u8> = (0..width * height).map(|i| ((i as u32).wrapping_mul(seed | 1) >> 5) as u8).collect();
        let side = width.max(height);
        let (left, top) = ((side - width) / 2, (side - height) / 2);
        let mut square = vec![0; side * side];
        for y in 0..height {
            square[(y + top) * side + left..][..width].copy_from_slice(&samples[y * width..][..width]);
        }
        let picture = gray(width as u32, height as u32, samples);
        let square = gray(side as u32, side as u32, square);
        for recipe in NAMED {
            let padded = Preprocessor::new(recipe, Some(Padding::Square), size, None).unwrap();
            prop_assert_eq!(padded.view(&picture).unwrap(), padded.view(&square).unwrap());
        }
        for filter in (0..=5).filter_map(Filter::from_code) {
            let framed = Frame::new(match picture.samples() { Samples::U8(v) => v, Samples::U16(_) => unreachable!() },
                width, height, 1, Padding::Square);
            let whole = Frame::new(match square.samples() { Samples::U8(v) => v, Samples::U16(_) => unreachable!() },
                side, side, 1, Padding::None);
            prop_assert_eq!(resample::resize(&framed, size, filter), resample::resize(&whole, size, filter));
        }
    }
}

#[test]
fn pixel_values_refuse_sizes_that_no_buffer_has() {
    for (batch, size) in [
        (0, 0),
        (1, 0),
        (1, 1),
        (usize::MAX, 2),
        (1, usize::MAX),
        // 3 * 2^64 numbers, 0 where the product wraps.
        (1 << 32, 1 << 16),
    ] {
        let error = PixelValues::new(batch, size, Vec::new()).unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT");
    }
    assert_eq!(PixelValues::new(0, 4, Vec::new()).unwrap().batch(), 0);
    assert_eq!(PixelValues::new(2, 1, vec![0.0; 6]).unwrap().batch(), 2);
}

#[test]
fn a_recipe_describes_what_it_does() {
    for recipe in NAMED {
        assert_eq!(preprocessor(recipe, 4).describe(), recipe.name());
    }
    for (config, expected) in [
        (
            "{}",
            "checkpoint: bicubic, mean 0.5, std 0.5, rescale 1/255",
        ),
        (
            r#"{"image_processor_type": "Gemma3ImageProcessor", "image_mean": [0.25, 0.5, 0.5], "rescale_factor": 0.004}"#,
            "checkpoint: bilinear, mean 0.25 0.5 0.5, std 0.5, rescale 0.004",
        ),
        (
            r#"{"do_resize": false, "do_normalize": false, "do_rescale": false}"#,
            "checkpoint: no resize, no normalization, no rescale",
        ),
    ] {
        let preprocessor = Preprocessor::new(Recipe::Checkpoint, None, 4, Some(config)).unwrap();
        assert_eq!(preprocessor.describe(), expected);
    }
}
