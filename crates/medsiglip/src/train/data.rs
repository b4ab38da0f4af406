//! The data of a run: sources, their sides, what is drawn, which texts are true of which pictures.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::config::{Positives, TrainConfig};
use super::step::Pairs;
use super::truth::Truth;
use crate::dataset::{Batch, Divided, Loader, LoaderOptions, Mixture, Pool, Side, Source};
use crate::image::DecodeOptions;
use crate::preprocess::Preprocessor;
use crate::tokenizer::{Canonicalizer, Tokenizer};
use crate::{Error, Result};

/// The data of a run.
pub struct Data {
    /// The sources and their sides.
    pub divided: Divided,
    /// What is drawn.
    pub mixture: Mixture,
    /// For a head, what is known of the examples.
    pub truth: Option<Truth>,
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
    /// `BAD_CONFIG` where the mixture is impossible or a source has no texts; as of [`Divided::open`].
    pub fn open(config: &TrainConfig, base: &Path, options: &DecodeOptions) -> Result<Self> {
        let mut sources = config.sources.clone();
        if let Some(source) = sources.iter().find(|source| !source.pictures) {
            return Err(Error::BadConfig(format!(
                "source {}: pictures = false is for evaluations; training needs them",
                source.name
            )));
        }
        if let Some(head) = &config.head {
            let columns = head.label.iter().chain(&head.columns);
            for source in &mut sources {
                source.labels.extend(columns.clone().cloned());
            }
        }
        let mut divided = Divided::open(&sources, config.split, config.seed, base, options)?;
        let truth = match &config.head {
            Some(head) => Some(Truth::new(head, divided.sources(), &divided.sides)?),
            None => {
                divided
                    .sources()
                    .iter()
                    .try_for_each(Source::expect_texts)?;
                None
            }
        };
        if let Some(truth) = &truth {
            divided.warnings.extend(truth.warnings.iter().cloned());
            divided.leave_out(|source| truth.unknown(source).collect());
        }
        let pools = divided.sources().iter().zip(&divided.sides);
        let pools = pools.zip(&divided.left_out);
        let pools = pools.map(|((source, sides), without)| Pool::training(source, sides, without));
        Ok(Self {
            mixture: Mixture::new(pools.collect(), config.seed)?,
            divided,
            truth,
        })
    }

    /// The captions that training can draw: nothing of what is held out.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where an example can have more than ten thousand.
    pub fn captions(&self) -> Result<Captions> {
        let mut examples: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (number, source) in self.divided.sources().iter().enumerate() {
            if source.config.weight == 0.0 {
                continue;
            }
            for place in self.divided.to_use(number, Side::Train) {
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

    /// The examples (source, place) that are trained on.
    pub fn drawn(&self) -> impl Iterator<Item = (usize, usize)> {
        let pools = self.mixture.pools().iter().enumerate();
        let pools = pools.filter(|(_, pool)| pool.weight > 0.0);
        pools.flat_map(|(source, _)| {
            let places = self.divided.to_use(source, Side::Train).into_iter();
            places.map(move |place| (source, place))
        })
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
        let pictures = self.divided.pictures.clone();
        Loader::training(
            pictures,
            self.mixture.clone(),
            preprocessor.clone(),
            options,
        )
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
        Loader::in_order(
            self.divided.pictures.clone(),
            list,
            preprocessor.clone(),
            options,
        )
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
            auxiliary: None,
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
            let source = &self.divided.sources()[*source];
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
