//! The data of a run: sources, their sides, what is drawn, which texts are true of which pictures.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::{Positives, TrainConfig};
use super::step::Pairs;
use super::truth::Truth;
use crate::Result;
use crate::dataset::{
    Batch, LeakReport, Loader, LoaderOptions, Mixture, Pictures, Pool, Side, Source, SourceConfig,
    find_leaks, split, split_warnings,
};
use crate::image::DecodeOptions;
use crate::preprocess::Preprocessor;
use crate::tokenizer::{Canonicalizer, Tokenizer};

/// Decoded pictures that are kept in memory.
const PICTURE_BYTES: u64 = 4 << 30;

/// The data of a run.
pub struct Data {
    /// All sources, with their pictures.
    pub pictures: Arc<Pictures>,
    /// The side of every example.
    pub sides: Vec<Vec<Side>>,
    /// What is drawn.
    pub mixture: Mixture,
    /// What a person should know before training.
    pub warnings: Vec<String>,
    /// SHA-256 over what is on which side: a run that goes on needs the same.
    pub fingerprint: String,
    /// For a head, what is known of the examples.
    pub truth: Option<Truth>,
    /// Examples of each source that are not trained on although they are on the training side.
    left_out: Vec<HashSet<usize>>,
}

/// The captions that training can draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captions {
    /// Each once, sorted.
    pub texts: Vec<String>,
    /// Captions that are true of the same examples have the same number: they say the same.
    pub meanings: Vec<i32>,
}

impl Data {
    /// Reads the sources, divides them, searches for leaks, and makes ready to draw; relative paths start at `base`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a split or the mixture is impossible; as of [`Source::open`] and [`find_leaks`].
    pub fn open(config: &TrainConfig, base: &Path, options: &DecodeOptions) -> Result<Self> {
        let open = |source: &SourceConfig| {
            let mut source = source.clone();
            if let Some(head) = &config.head {
                source
                    .labels
                    .extend(head.label.iter().chain(&head.columns).cloned());
            }
            Source::open(source, base)
        };
        let sources: Vec<_> = config.sources.iter().map(open).collect::<Result<_>>()?;
        let pictures = Pictures::new(sources, options.clone(), PICTURE_BYTES);
        let sources = pictures.sources();
        let leaks = match config.split.search {
            true => find_leaks(&pictures)?,
            false => LeakReport::default(),
        };
        let policy = config.split.duplicates;
        let mut sides = Vec::new();
        let mut warnings = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            if config.head.is_none() {
                source.expect_texts()?;
            }
            let joined = leaks.joined(number, policy);
            let divided = split(source, config.split.shares(), config.seed, &joined)?;
            warnings.extend(source.warnings.iter().cloned());
            warnings.extend(source.skipped.warning(&source.config.name));
            warnings.extend(split_warnings(source, &divided));
            sides.push(divided);
        }
        warnings.extend(leaks.warnings(sources, &sides, policy));
        let head = config.head.as_ref();
        let truth = head.map(|head| Truth::new(head, sources, &sides));
        let truth = truth.transpose()?;
        let mut left_out: Vec<_> = (0..sources.len())
            .map(|number| leaks.left_out(number, policy, &sides))
            .collect();
        if let Some(truth) = &truth {
            warnings.extend(truth.warnings.iter().cloned());
            for (number, left_out) in left_out.iter_mut().enumerate() {
                left_out.extend(truth.unknown(number));
            }
        }
        let pools = sources.iter().zip(&sides).zip(&left_out);
        let pools = pools.map(|((source, sides), without)| Pool::training(source, sides, without));
        Ok(Self {
            mixture: Mixture::new(pools.collect(), config.seed)?,
            fingerprint: fingerprint(sources, &sides, &left_out),
            pictures: Arc::new(pictures),
            sides,
            warnings,
            truth,
            left_out,
        })
    }

    /// The captions that training can draw: nothing of what is held out.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where an example can have more than ten thousand.
    pub fn captions(&self) -> Result<Captions> {
        let mut examples: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (number, source) in self.pictures.sources().iter().enumerate() {
            if source.config.weight == 0.0 {
                continue;
            }
            for place in self.drawn_of(number) {
                for caption in source.all_captions(&source.examples[place])? {
                    examples.entry(caption).or_default().push((number, place));
                }
            }
        }
        let mut numbers: HashMap<Vec<(usize, usize)>, i32> = HashMap::new();
        let meaning = |mut of: Vec<(usize, usize)>| {
            // A caption that stands twice in an example is true of it once.
            of.dedup();
            let next = numbers.len() as i32;
            *numbers.entry(of).or_insert(next)
        };
        let (texts, of): (Vec<_>, Vec<_>) = examples.into_iter().unzip();
        Ok(Captions {
            texts,
            meanings: of.into_iter().map(meaning).collect(),
        })
    }

    /// The places of a source's examples that are trained on.
    fn drawn_of(&self, source: usize) -> impl Iterator<Item = usize> {
        let places = self.on_side(source, Side::Train).into_iter();
        places.filter(move |place| !self.left_out[source].contains(place))
    }

    /// The examples (source, place) that are trained on.
    pub fn drawn(&self) -> impl Iterator<Item = (usize, usize)> {
        let pools = self.mixture.pools().iter().enumerate();
        let pools = pools.filter(|(_, pool)| pool.weight > 0.0);
        pools.flat_map(|(source, _)| self.drawn_of(source).map(move |place| (source, place)))
    }

    /// Whether any example is on a side.
    pub fn has(&self, side: Side) -> bool {
        self.sides.iter().flatten().any(|of| *of == side)
    }

    /// Batches from draw number `start` on, without end.
    ///
    /// # Errors
    /// As of [`Loader::training`].
    pub fn batches(&self, preprocessor: &Preprocessor, size: usize, start: u64) -> Result<Loader> {
        let options = LoaderOptions {
            batch: size,
            start,
            ..LoaderOptions::default()
        };
        let pictures = self.pictures.clone();
        Loader::training(
            pictures,
            self.mixture.clone(),
            preprocessor.clone(),
            options,
        )
    }

    /// A line for every source with pictures that could not be read when their turn came.
    pub fn skipped(&self) -> Vec<String> {
        let sources = self.pictures.sources().iter();
        let skipped = sources.zip(self.pictures.skipped());
        let lines = skipped.filter_map(|(source, skipped)| skipped.warning(&source.config.name));
        lines.collect()
    }

    /// The places of a source's examples on a side.
    pub fn on_side(&self, source: usize, side: Side) -> Vec<usize> {
        let sides = self.sides[source].iter().enumerate();
        let there = sides.filter(|(_, of)| **of == side);
        there.map(|(place, _)| place).collect()
    }

    /// The pictures of a list (source, place), in its order, without augmentation.
    ///
    /// # Errors
    /// As of [`Loader::in_order`].
    pub fn in_order(
        &self,
        preprocessor: &Preprocessor,
        list: Vec<(usize, usize)>,
        size: usize,
    ) -> Result<Loader> {
        let options = LoaderOptions {
            batch: size,
            ..LoaderOptions::default()
        };
        Loader::in_order(self.pictures.clone(), list, preprocessor.clone(), options)
    }

    /// A batch as the step takes it.
    ///
    /// # Errors
    /// `BAD_TEXT` where a caption cannot be tokenized.
    pub fn pairs(
        &self,
        batch: &Batch,
        tokenizer: &Tokenizer,
        positives: Positives,
    ) -> Result<Pairs> {
        let (tokens, _) = tokenizer.encode_batch(&batch.captions, Canonicalizer::default())?;
        let (keys, true_of) = match positives {
            Positives::Diagonal => {
                let keys: Vec<i32> = (0..batch.captions.len() as i32).collect();
                let true_of = keys.iter().map(|key| vec![*key]).collect();
                (keys, true_of)
            }
            Positives::AllTrue => self.all_true(batch),
        };
        Ok(Pairs {
            pixels: batch.pixels.clone(),
            tokens,
            true_of,
            keys,
        })
    }

    /// Equal captions have one key; a picture's are those that could have been drawn for it.
    fn all_true(&self, batch: &Batch) -> (Vec<i32>, Vec<Vec<i32>>) {
        let mut numbers: HashMap<&str, i32> = HashMap::new();
        let mut distinct = Vec::new();
        let keys: Vec<i32> = batch
            .captions
            .iter()
            .map(|caption| {
                *numbers.entry(caption).or_insert_with(|| {
                    distinct.push(caption);
                    distinct.len() as i32 - 1
                })
            })
            .collect();
        let places = batch.sources.iter().zip(&batch.places);
        let true_of = places.map(|(source, place)| {
            let source = &self.pictures.sources()[*source];
            let example = &source.examples[*place];
            let known = (0..)
                .zip(&distinct)
                .filter(|(_, c)| source.may_have(example, c));
            known.map(|(key, _)| key).collect()
        });
        let mut true_of: Vec<Vec<i32>> = true_of.collect();
        let most = true_of.iter().map(Vec::len).max().unwrap_or(0);
        true_of.iter_mut().for_each(|keys| keys.resize(most, -1));
        (keys, true_of)
    }
}

/// SHA-256 over every example's source, id and side, and what is left out.
fn fingerprint(sources: &[Source], sides: &[Vec<Side>], left_out: &[HashSet<usize>]) -> String {
    let mut hasher = Sha256::new();
    for ((source, sides), left_out) in sources.iter().zip(sides).zip(left_out) {
        for (place, (example, side)) in source.examples.iter().zip(sides).enumerate() {
            let left_out = left_out.contains(&place);
            let line = (&source.config.name, &example.id, side.name(), left_out);
            hasher.update(serde_json::to_vec(&line).expect("plain texts"));
        }
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
