//! The data of a run: sources, their sides, what is drawn, which texts are true of which pictures.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::config::{Positives, TrainConfig};
use super::step::Pairs;
use crate::Result;
use crate::dataset::{
    Batch, LeakReport, Loader, LoaderOptions, Mixture, Pictures, Pool, Side, Source, find_leaks,
    split, split_warnings,
};
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
    preprocessor: Preprocessor,
}

/// The sources of a configuration, read but not divided.
pub struct Sources(Vec<Source>);

impl Sources {
    /// Reads the sources; relative paths start at `base`.
    ///
    /// # Errors
    /// As of [`Source::open`].
    pub fn open(config: &TrainConfig, base: &Path) -> Result<Self> {
        let open = |source: &_| Source::open(Clone::clone(source), base);
        Ok(Self(
            config.sources.iter().map(open).collect::<Result<_>>()?,
        ))
    }

    /// Every different caption that a draw can have, and for each the examples' labels that it is true of, as numbers.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where an example can have more than ten thousand.
    pub fn captions(&self) -> Result<Vec<(String, Vec<u32>)>> {
        let mut captions: HashMap<String, Vec<u32>> = HashMap::new();
        let mut number = 0;
        for source in &self.0 {
            for example in &source.examples {
                for caption in source.all_captions(example)? {
                    captions.entry(caption).or_default().push(number);
                }
                number += 1;
            }
        }
        let mut captions: Vec<_> = captions.into_iter().collect();
        captions.sort();
        Ok(captions)
    }

    /// Divides them, searches for leaks, and makes ready to draw.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a split or the mixture is impossible; as of [`find_leaks`].
    pub fn divide(self, config: &TrainConfig, preprocessor: &Preprocessor) -> Result<Data> {
        let Self(sources) = self;
        let options = preprocessor.decode_options();
        let leaks = match config.split.search {
            true => find_leaks(&sources, &options)?,
            false => LeakReport::default(),
        };
        let policy = config.split.duplicates;
        let mut sides = Vec::new();
        let mut pools = Vec::new();
        let mut warnings = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            let joined = leaks.joined(number, policy);
            let divided = split(source, config.split.shares(), config.seed, &joined)?;
            let left_out = leaks.left_out(number, policy);
            warnings.extend(source.warnings.iter().cloned());
            warnings.extend(source.skipped.warning(&source.config.name));
            warnings.extend(split_warnings(source, &divided));
            pools.push(Pool::training(source, &divided, &left_out));
            sides.push(divided);
        }
        warnings.extend(leaks.warnings(&sources, &sides));
        Ok(Data {
            mixture: Mixture::new(pools, config.seed)?,
            pictures: Arc::new(Pictures::new(sources, options, PICTURE_BYTES)),
            sides,
            warnings,
            preprocessor: preprocessor.clone(),
        })
    }
}

impl Data {
    /// Batches from draw number `start` on, without end.
    ///
    /// # Errors
    /// As of [`Loader::training`].
    pub fn batches(&self, size: usize, start: u64) -> Result<Loader> {
        let options = LoaderOptions {
            batch: size,
            start,
            ..LoaderOptions::default()
        };
        let pictures = self.pictures.clone();
        Loader::training(
            pictures,
            self.mixture.clone(),
            self.preprocessor.clone(),
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
    pub fn in_order(&self, list: Vec<(usize, usize)>, size: usize) -> Result<Loader> {
        let options = LoaderOptions {
            batch: size,
            ..LoaderOptions::default()
        };
        Loader::in_order(
            self.pictures.clone(),
            list,
            self.preprocessor.clone(),
            options,
        )
    }

    /// A batch as the step takes it.
    ///
    /// # Errors
    /// `BAD_TEXT` where a caption cannot be tokenized; `LIMIT_EXCEEDED` as of [`Source::all_captions`].
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
            Positives::AllTrue => self.all_true(batch)?,
        };
        Ok(Pairs {
            pixels: batch.pixels.clone(),
            tokens,
            true_of,
            keys,
        })
    }

    /// Equal captions have one key; a picture's are those that could have been drawn for it.
    fn all_true(&self, batch: &Batch) -> Result<(Vec<i32>, Vec<Vec<i32>>)> {
        let mut numbers: HashMap<&str, i32> = HashMap::new();
        let keys: Vec<i32> = batch
            .captions
            .iter()
            .map(|caption| {
                let next = numbers.len() as i32;
                *numbers.entry(caption).or_insert(next)
            })
            .collect();
        let places = batch.sources.iter().zip(&batch.places);
        let true_of = places.map(|(source, place)| {
            let source = &self.pictures.sources()[*source];
            let captions = source.all_captions(&source.examples[*place])?;
            let known = captions
                .iter()
                .filter_map(|c| numbers.get(c.as_str()).copied());
            let mut known: Vec<i32> = known.collect();
            known.sort_unstable();
            known.dedup();
            Ok(known)
        });
        let mut true_of = true_of.collect::<Result<Vec<_>>>()?;
        let most = true_of.iter().map(Vec::len).max().unwrap_or(0);
        true_of.iter_mut().for_each(|keys| keys.resize(most, -1));
        Ok((keys, true_of))
    }
}
