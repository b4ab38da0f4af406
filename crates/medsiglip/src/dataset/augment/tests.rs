use std::collections::BTreeMap;

use proptest::prelude::*;

use super::geometry::{Area, crop};
use super::*;
use crate::dataset::random::{Purpose, generator};
use crate::preprocess::{Padding, Recipe};

const SIZE: usize = 11;

/// The picture of `scripts/make_augment_golden.py`.
fn sample(channels: usize) -> Canvas {
    let mut samples = Vec::new();
    for y in 0..SIZE {
        for x in 0..SIZE {
            for c in 0..channels {
                samples.push(match (y, x) {
                    (0, 0..4) => 0,
                    (0, 4..8) => 255,
                    (0, _) => 90,
                    _ => ((x * 37 + y * 101 + c * 59 + x * y * (c + 3)) % 256) as u8,
                });
            }
        }
    }
    Canvas {
        size: SIZE,
        channels,
        samples,
    }
}

fn made(name: &str) -> Canvas {
    let words: Vec<&str> = name.split(' ').collect();
    let number = |i: usize| words[i].parse::<f64>().unwrap();
    let mut canvas = sample(if words[0] == "rgb" { 3 } else { 1 });
    let last = SIZE - 1;
    match words[1] {
        "brightness" => canvas.adjust_brightness(number(2)),
        "contrast" => canvas.adjust_contrast(number(2)),
        "saturation" => canvas.adjust_saturation(number(2)),
        "hue" => canvas.adjust_hue(number(2)),
        "rotate" => canvas.rotate(number(2)),
        "blur" => blur::gaussian(&mut canvas, number(2) as usize, number(3)),
        "horizontal_flip" => canvas.rearrange(|x, y| (last - x, y)),
        "vertical_flip" => canvas.rearrange(|x, y| (x, last - y)),
        "quarter_turn" => canvas.quarter_turn(),
        other => panic!("{other}"),
    }
    canvas
}

#[test]
fn every_operation_is_torchvisions() {
    let golden = include_str!("../../../tests/data/augment.json");
    let golden: BTreeMap<String, Vec<u8>> = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.len(), 50);
    let mut wrong = Vec::new();
    for (name, want) in golden {
        let got = made(&name).samples;
        assert_eq!(got.len(), want.len(), "{name}");
        let off: Vec<u8> = got.iter().zip(&want).map(|(g, w)| g.abs_diff(*w)).collect();
        let count = off.iter().filter(|d| **d > 0).count();
        if count > 0 {
            wrong.push(format!(
                "{name}: {count} levels differ, by {:?}",
                off.iter().max()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn random(place: u64) -> ChaCha8Rng {
    generator(7, Purpose::Augment, [place, 0])
}

#[test]
fn flips_and_turns_come_back() {
    for channels in [1, 3] {
        let before = sample(channels);
        let mut canvas = before.clone();
        for _ in 0..4 {
            canvas.quarter_turn();
        }
        assert_eq!(canvas, before);
        for (horizontal_flip, vertical_flip) in [(1.0, 0.0), (0.0, 1.0)] {
            let config = AugmentConfig {
                horizontal_flip,
                vertical_flip,
                ..AugmentConfig::default()
            };
            canvas.turn(&config, &mut random(0));
            assert_ne!(canvas, before);
            canvas.turn(&config, &mut random(0));
            assert_eq!(canvas, before);
        }
    }
}

fn picture(width: u32, height: u32, channels: u8) -> Picture {
    let count = width * height * u32::from(channels);
    let samples = (0..count).map(|i| ((i * 7919) >> 3) as u8).collect();
    Picture::new(width, height, channels, Samples::U8(samples)).unwrap()
}

/// With nothing but a crop of the whole picture, and with nothing at all, the pixels are those of evaluation, whatever the
/// recipe: what follows the resize leaves them alone.
#[test]
fn without_a_change_the_pixels_are_those_of_evaluation() {
    let whole = AugmentConfig {
        random_resized_crop: Some(RandomResizedCrop {
            scale: [1.0, 1.0],
            ratio: [1.0, 1.0],
        }),
        ..AugmentConfig::default()
    };
    let off = AugmentConfig::default();
    let black_and_white = Samples::U16(vec![0, u16::MAX, 300, u16::MAX]);
    let pictures = [
        picture(40, 40, 3),
        picture(9, 9, 1),
        Picture::new(2, 2, 1, black_and_white).unwrap(),
    ];
    for recipe in [
        Recipe::EvalTf,
        Recipe::Hf,
        Recipe::Container,
        Recipe::Torchvision,
    ] {
        for padding in [None, Some(Padding::Square)] {
            let preprocessor = Preprocessor::new(recipe, padding, 16, None).unwrap();
            for (picture, config) in pictures.iter().flat_map(|p| [(p, &whole), (p, &off)]) {
                let changed = augment(picture, &preprocessor, config, &mut random(0)).unwrap();
                assert_eq!(changed.channels(), picture.channels());
                assert_eq!(
                    preprocessor.pixel_values(&changed).unwrap(),
                    preprocessor.pixel_values(picture).unwrap(),
                    "{recipe}"
                );
            }
        }
    }
}

#[test]
fn the_same_numbers_make_the_same_picture_and_others_another() {
    let config: AugmentConfig = toml::from_str(
        "horizontal_flip = 0.5\nquarter_turns = true\nrotation_degrees = 10\n\
         [random_resized_crop]\nscale = [0.3, 1.0]\n[color_jitter]\nbrightness = 0.4\ncontrast = 0.4\n\
         saturation = 0.4\nhue = 0.1\n[gaussian_blur]\n[random_erasing]\n",
    )
    .unwrap();
    config.check().unwrap();
    let preprocessor = Preprocessor::new(Recipe::Hf, None, 32, None).unwrap();
    let make = |place, channels| {
        let picture = picture(61, 47, channels);
        augment(&picture, &preprocessor, &config, &mut random(place)).unwrap()
    };
    for channels in [1, 3] {
        for place in 0..20 {
            assert_eq!(make(place, channels), make(place, channels));
            assert_ne!(make(place, channels), make(place + 1, channels));
        }
    }
}

#[test]
fn erasing_fills_one_rectangle_of_the_drawn_share() {
    let config = RandomErasing {
        scale: [0.1, 0.2],
        ..RandomErasing::default()
    };
    for place in 0..50 {
        let mut canvas = Canvas {
            size: 64,
            channels: 1,
            samples: vec![0; 64 * 64],
        };
        canvas.erase(&config, &mut random(place));
        let filled: Vec<(usize, usize)> = (0..64 * 64)
            .filter(|i| canvas.samples[*i] == 128)
            .map(|i| (i % 64, i / 64))
            .collect();
        let span = |v: Vec<usize>| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
        let width = span(filled.iter().map(|(x, _)| *x).collect());
        let height = span(filled.iter().map(|(_, y)| *y).collect());
        assert_eq!(width * height, filled.len());
        let share = filled.len() as f64 / 4096.0;
        assert!((0.09..0.21).contains(&share), "{share}");
    }
}

#[test]
fn a_range_that_makes_no_sense_is_refused() {
    let wrong = [
        "horizontal_flip = 1.5",
        "vertical_flip = nan",
        "rotation_degrees = -1",
        "random_resized_crop = { scale = [0.0, 1.0] }",
        "random_resized_crop = { ratio = [2.0, 1.0] }",
        "color_jitter = { hue = 0.6 }",
        "color_jitter = { brightness = inf }",
        "gaussian_blur = { kernel_size = 4 }",
        "gaussian_blur = { sigma = [0.0, 1.0] }",
        "random_erasing = { p = -0.1 }",
    ];
    for text in wrong {
        let config: AugmentConfig = toml::from_str(text).unwrap();
        let error = config.check().unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG", "{text}");
        let key = text.split(' ').next().unwrap();
        assert!(error.to_string().contains(key), "{error}");
    }
    assert!(toml::from_str::<AugmentConfig>("flip = 1.0").is_err());
    assert!(toml::from_str::<AugmentConfig>("color_jitter = { gamma = 1.0 }").is_err());
}

proptest! {
    /// Of parts of a picture the area and the ratio are those that were asked for, as far as whole pixels allow.
    #[test]
    fn a_crop_lies_within_the_picture(width in 1..400_u32, height in 1..400_u32, place in any::<u64>()) {
        let config = RandomResizedCrop { scale: [0.2, 0.9], ..RandomResizedCrop::default() };
        let area = config.draw(width, height, &mut random(place));
        let (w, h) = (width as usize, height as usize);
        prop_assert!(area.width >= 1 && area.left + area.width <= w);
        prop_assert!(area.height >= 1 && area.top + area.height <= h);
        if width.min(height) > 100 && (0.8..1.25).contains(&(f64::from(width) / f64::from(height))) {
            let share = (area.width * area.height) as f64 / (w * h) as f64;
            prop_assert!((0.19..0.91).contains(&share), "{share}");
            let ratio = area.width as f64 / area.height as f64;
            prop_assert!((0.73..1.37).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn a_crop_holds_the_pixels_of_its_place(left in 0..5_usize, top in 0..4_usize, channels in prop::sample::select(vec![1_u8, 3])) {
        let whole = picture(9, 7, channels);
        let part = crop(&whole, &Area { left, top, width: 4, height: 3 }).unwrap();
        let (Samples::U8(whole), Samples::U8(part)) = (whole.samples(), part.samples()) else { unreachable!() };
        let c = usize::from(channels);
        for (y, row) in part.chunks_exact(4 * c).enumerate() {
            let at = ((top + y) * 9 + left) * c;
            prop_assert_eq!(row, &whole[at..at + 4 * c]);
        }
    }

    #[test]
    fn nothing_panics_on_small_and_odd_pictures(
        width in 1..6_u32, height in 1..6_u32, size in 1..7_usize, place in any::<u64>(), channels in prop::sample::select(vec![1_u8, 3]),
    ) {
        let config: AugmentConfig = toml::from_str(
            "horizontal_flip = 0.5\nvertical_flip = 0.5\nquarter_turns = true\nrotation_degrees = 180\nrandom_resized_crop = {}\n\
             color_jitter = { brightness = 2, contrast = 2, saturation = 2, hue = 0.5 }\n\
             gaussian_blur = { p = 1, kernel_size = 63 }\nrandom_erasing = { p = 1 }",
        ).unwrap();
        let preprocessor = Preprocessor::new(Recipe::Hf, None, size, None).unwrap();
        let made = augment(&picture(width, height, channels), &preprocessor, &config, &mut random(place)).unwrap();
        prop_assert_eq!(made.width() as usize, size);
    }
}
