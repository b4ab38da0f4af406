use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::dataset::testing::{noise, open, write};
use crate::dataset::{Pool, Shares, Source, split};
use crate::image::DecodeOptions;
use crate::preprocess::Recipe;

const AUGMENT: &str = "[augment]\nhorizontal_flip = 0.5\nrandom_resized_crop = {}\ncolor_jitter = { brightness = 0.4 }";

fn preprocessor() -> Preprocessor {
    Preprocessor::new(Recipe::Hf, None, 12, None).unwrap()
}

/// Two sources of 20 and 5 pictures; the first is augmented as `augment` says.
fn sources(folder: &Path, augment: &str, broken: &[u64]) -> Vec<Source> {
    let source = |name: &str, count: u64, more: &str| {
        let mut table = "path,caption,second,label\n".to_owned();
        for number in 0..count {
            let picture = match broken.contains(&number) {
                true => b"P5\n20 20\n255\nshort".to_vec(),
                false => noise(number + 1000 * count, 20),
            };
            write(folder, &format!("{name}/{number}.pgm"), &picture);
            table += &format!("{number}.pgm,{name} {number},or {number},{}\n", number % 2);
        }
        write(folder, &format!("{name}/list.csv"), table.as_bytes());
        let toml = format!(
            "manifest = \"{name}/list.csv\"\ncaptions = [\"caption\", \"second\"]\nlabels = [\"label\"]\n{more}"
        );
        open(&toml, folder).unwrap()
    };
    vec![
        source("a", 20, &format!("max_skipped = 0.2\n{augment}")),
        source("b", 5, "weight = 0.5"),
    ]
}

fn all_training(sources: &[Source]) -> Mixture {
    let nothing = Shares {
        val: 0.0,
        test: 0.0,
    };
    let pools = sources.iter().map(|source| {
        let sides = split(source, nothing, 1, &[]).unwrap();
        Pool::training(source, &sides, &Default::default())
    });
    Mixture::new(pools.collect(), 11).unwrap()
}

struct Fixture {
    _folder: TempDir,
    pictures: Arc<Pictures>,
    mixture: Mixture,
}

fn fixture(augment: &str, broken: &[u64], budget: u64) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let sources = sources(folder.path(), augment, broken);
    Fixture {
        mixture: all_training(&sources),
        pictures: Arc::new(Pictures::new(sources, DecodeOptions::default(), budget)),
        _folder: folder,
    }
}

impl Fixture {
    fn batches(&self, options: LoaderOptions, count: usize) -> Vec<Batch> {
        let loader = Loader::training(
            self.pictures.clone(),
            self.mixture.clone(),
            preprocessor(),
            options,
        );
        loader.unwrap().take(count).map(Result::unwrap).collect()
    }
}

fn options(batch: usize) -> LoaderOptions {
    LoaderOptions {
        batch,
        ..LoaderOptions::default()
    }
}

#[test]
fn batches_do_not_depend_on_threads_budget_or_the_place_of_the_start() {
    let one = fixture(AUGMENT, &[], 0);
    let expected = one.batches(options(8), 10);
    assert_eq!(expected[3].draws, 24..32);
    assert!(
        expected
            .iter()
            .all(|batch| batch.ids.len() == 8 && batch.pixels.batch() == 8)
    );
    let sources: BTreeSet<usize> = expected.iter().flat_map(|b| b.sources.clone()).collect();
    assert_eq!(sources, [0, 1].into());
    let kept = fixture(AUGMENT, &[], 1 << 20);
    for (fixture, threads, ahead) in [(&one, 1, 1), (&one, 3, 5), (&kept, 4, 2)] {
        let options = LoaderOptions {
            threads,
            ahead,
            ..options(8)
        };
        assert_eq!(fixture.batches(options, 10), expected);
    }
    let later = LoaderOptions {
        start: 40,
        ..options(8)
    };
    assert_eq!(one.batches(later, 5), expected[5..]);
    // 25 pictures of 400 bytes, each once.
    assert_eq!(
        (one.pictures.kept_bytes(), kept.pictures.kept_bytes()),
        (0, 10_000)
    );
}

/// Three shards of ten samples, two of them broken, in a mixture with files: any start gives what follows there.
#[test]
fn a_run_goes_on_in_the_middle_of_a_shard() {
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..3 {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: String, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content).unwrap();
        };
        for number in 0..10 {
            let picture = match (shard, number) {
                (0, 3) | (2, 7) => b"P5\n9 9\n255\n".to_vec(),
                _ => noise(shard * 10 + number, 20),
            };
            add(format!("{number}.pgm"), &picture);
            add(
                format!("{number}.txt"),
                format!("{shard} {number}").as_bytes(),
            );
        }
        let shard = format!("{shard}.tar");
        write(folder.path(), &shard, &tar.into_inner().unwrap());
    }
    let toml = format!(
        "shards = \"*.tar\"\nshuffle_buffer = 6\nmax_skipped = 0.1\nweight = 3.0\n{AUGMENT}"
    );
    let shards = open(&toml, folder.path()).unwrap();
    assert_eq!(shards.examples.len(), 30);
    let sources = vec![shards, sources(folder.path(), "", &[]).remove(0)];
    let mixture = all_training(&sources);
    let fixture = |sources: Vec<Source>| Fixture {
        pictures: Arc::new(Pictures::new(sources, DecodeOptions::default(), 0)),
        mixture: mixture.clone(),
        _folder: tempfile::tempdir().unwrap(),
    };
    let whole = fixture(sources.clone()).batches(options(4), 20);
    assert!(whole.iter().any(|batch| batch.sources.contains(&1)));
    // The run that goes on knows nothing of what failed before; its leak search has found all that is broken.
    for start in [1, 2, 5, 9, 13, 19] {
        let searched = fixture(sources.clone());
        crate::dataset::find_leaks(&searched.pictures).unwrap();
        assert_eq!(searched.pictures.skipped()[0].total(), 2);
        let later = LoaderOptions {
            start: 4 * start as u64,
            ..options(4)
        };
        let rest = fixture(sources.clone()).batches(later.clone(), 20 - start);
        assert_eq!(rest, whole[start..]);
        assert_eq!(searched.batches(later, 20 - start), whole[start..]);
    }
}

#[test]
fn a_budget_is_kept() {
    let fixture = fixture("", &[], 1000);
    fixture.batches(options(8), 10);
    assert_eq!(fixture.pictures.kept_bytes(), 800);
}

#[test]
fn ranks_share_a_batch() {
    let fixture = fixture(AUGMENT, &[], 1 << 20);
    let whole = fixture.batches(options(12), 4);
    for ranks in [2, 3] {
        for rank in 0..ranks {
            let own = LoaderOptions {
                rank,
                ranks,
                ..options(12)
            };
            for (own, whole) in fixture.batches(own, 4).iter().zip(&whole) {
                let ids: Vec<&String> = whole.ids.iter().skip(rank).step_by(ranks).collect();
                assert!(own.ids.iter().eq(ids));
                let item = 3 * 12 * 12;
                let first = &whole.pixels.data()[rank * item..(rank + 1) * item];
                assert_eq!(&own.pixels.data()[..item], first);
            }
        }
    }
    for (batch, rank, ranks) in [(0, 0, 1), (8, 2, 2), (9, 0, 2), (8, 0, 0)] {
        let wrong = LoaderOptions {
            rank,
            ranks,
            ..options(batch)
        };
        let loader = Loader::training(
            fixture.pictures.clone(),
            fixture.mixture.clone(),
            preprocessor(),
            wrong,
        );
        assert_eq!(loader.unwrap_err().code(), "BAD_ARGUMENT");
    }
}

#[test]
fn without_augmentation_pixels_are_those_of_evaluation() {
    let fixture = fixture("", &[], 1 << 20);
    let mut captions = BTreeSet::new();
    for batch in fixture.batches(options(8), 6) {
        for (i, (source, place)) in batch.sources.iter().zip(&batch.places).enumerate() {
            let example = &fixture.pictures.sources()[*source].examples[*place];
            let picture = example.picture.open(&DecodeOptions::default()).unwrap();
            let pixels = preprocessor().pixel_values(&picture).unwrap();
            let item = 3 * 12 * 12;
            assert_eq!(
                &batch.pixels.data()[i * item..(i + 1) * item],
                pixels.data()
            );
            assert!(example.captions.contains(&batch.captions[i]));
            assert_eq!(
                (&batch.ids[i], &batch.labels[i]),
                (&example.id, &example.labels)
            );
            captions.insert(batch.captions[i].clone());
        }
    }
    assert!(
        captions.iter().any(|c| c.starts_with("or "))
            && captions.iter().any(|c| c.starts_with("a "))
    );
}

/// Every draw of a broken picture is the next of its source's epoch; all others stay what they were.
#[test]
fn a_broken_picture_is_replaced_and_told() {
    let (sound, broken) = (fixture(AUGMENT, &[], 0), fixture(AUGMENT, &[3, 4], 0));
    // The second source has few examples: 2 of 5 are over its share.
    let only_first = |fixture: &Fixture| {
        let mut sources = fixture.pictures.sources().to_vec();
        sources[1].config.weight = 0.0;
        Fixture {
            mixture: all_training(&sources),
            pictures: Arc::new(Pictures::new(sources, DecodeOptions::default(), 0)),
            _folder: tempfile::tempdir().unwrap(),
        }
    };
    let (sound, broken) = (only_first(&sound), only_first(&broken));
    let wanted = sound.batches(options(5), 8);
    let got = broken.batches(options(5), 8);
    let mut replaced = 0;
    for (wanted, got) in wanted.iter().zip(&got) {
        for (place, real) in wanted.places.iter().zip(&got.places) {
            assert!(![3, 4].contains(real));
            replaced += usize::from(place != real);
            assert_eq!(place != real, [3, 4].contains(place));
        }
    }
    assert_eq!(replaced, 4);
    let skipped = &broken.pictures.skipped()[0];
    assert_eq!(skipped.total(), 2);
    assert!(
        skipped
            .listed
            .iter()
            .all(|line| line.contains("list.csv: row "))
    );
    let threads = LoaderOptions {
        threads: 1,
        ..options(5)
    };
    assert_eq!(broken.batches(threads, 8), got);
}

#[test]
fn too_many_broken_pictures_end_the_run() {
    let fixture = fixture(AUGMENT, &[0, 1, 2, 3, 4], 0);
    let loader = Loader::training(
        fixture.pictures.clone(),
        fixture.mixture.clone(),
        preprocessor(),
        options(8),
    );
    let results: Vec<Result<Batch>> = loader.unwrap().take(100).collect();
    let error = results.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(error.to_string().contains("max_skipped"), "{error}");
    assert!(results.len() < 100 && results[..results.len() - 1].iter().all(Result::is_ok));
}

#[test]
fn a_batch_without_a_readable_picture_ends_training() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..3 {
        write(folder.path(), &format!("{number}.pgm"), b"P5\n9 9\n255\n");
    }
    let toml = "folder = \".\"\ntemplates = [\"a\"]\nmax_skipped = 1.0";
    let sources = vec![open(toml, folder.path()).unwrap()];
    let mixture = all_training(&sources);
    let pictures = Arc::new(Pictures::new(sources, DecodeOptions::default(), 0));
    let loader = Loader::training(pictures.clone(), mixture, preprocessor(), options(4));
    let mut loader = loader.unwrap();
    let error = loader.next().unwrap().unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(error.to_string().contains("no picture"), "{error}");
    assert!(loader.next().is_none());
    // A list ends by itself.
    let list = vec![(0, 0), (0, 1)];
    let loader = Loader::in_order(pictures, list, preprocessor(), options(4));
    assert_eq!(loader.unwrap().count(), 0);
}

#[test]
fn a_list_is_gone_through_once_in_order() {
    let fixture = fixture(AUGMENT, &[7], 1 << 20);
    let list: Vec<(usize, usize)> = (0..20).map(|place| (0, place)).chain([(1, 3)]).collect();
    let options = LoaderOptions {
        batch: 8,
        ..LoaderOptions::default()
    };
    let loader = Loader::in_order(fixture.pictures.clone(), list, preprocessor(), options);
    let batches: Vec<Batch> = loader.unwrap().map(Result::unwrap).collect();
    let places: Vec<usize> = batches.iter().flat_map(|b| b.places.clone()).collect();
    let expected: Vec<usize> = (0..20).filter(|p| *p != 7).chain([3]).collect();
    assert_eq!(places, expected);
    assert_eq!(batches[0].captions[2], "a 2");
    let picture = fixture.pictures.get(0, 0).unwrap();
    let pixels = preprocessor().pixel_values(&picture).unwrap();
    assert_eq!(&batches[0].pixels.data()[..3 * 12 * 12], pixels.data());
    assert_eq!(fixture.pictures.skipped()[0].total(), 1);
}

#[test]
fn a_loader_that_is_dropped_ends_its_thread() {
    let fixture = fixture("", &[], 0);
    drop(fixture.batches(options(4), 1));
    // Joined in drop: nothing else holds the pictures.
    assert_eq!(Arc::strong_count(&fixture.pictures), 1);
}
