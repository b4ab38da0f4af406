//! [`Loader`]: batches, made ahead of use by several threads, the same whatever their number.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::random::{Purpose, generator};
use super::{Draw, Mixture, Pictures, augment};
use crate::preprocess::{PixelValues, Preprocessor};
use crate::{Error, Result};

/// Examples ready for the towers; the texts are still texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The draws that it was made of, or the places in the list for [`Loader::in_order`]; those of all ranks.
    pub draws: Range<u64>,
    /// Ids of the examples, B.
    pub ids: Vec<String>,
    /// Their sources, B.
    pub sources: Vec<usize>,
    /// Places in their sources, B.
    pub places: Vec<usize>,
    /// One caption each, B; empty where the source has labels alone.
    pub captions: Vec<String>,
    /// Their labels, B.
    pub labels: Vec<BTreeMap<String, String>>,
    /// The pixels, (B, 3, size, size).
    pub pixels: PixelValues,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Examples of a batch, of all ranks together.
    pub batch: usize,
    /// The first draw.
    pub start: u64,
    /// Which share of each batch is made here: draws `rank`, `rank + ranks`, ... of it.
    pub rank: usize,
    /// Into how many shares batches are dealt out.
    pub ranks: usize,
    /// Threads that decode; 0 for one a processor.
    pub threads: usize,
    /// Batches that are made before they are asked for.
    pub ahead: usize,
}

impl Default for LoaderOptions {
    /// Batches of 32 from the first draw on, one rank, two batches ahead.
    fn default() -> Self {
        Self {
            batch: 32,
            start: 0,
            rank: 0,
            ranks: 1,
            threads: 0,
            ahead: 2,
        }
    }
}

/// An iterator over batches: without end for [`Loader::training`], over a list for [`Loader::in_order`].
///
/// After an error there is nothing more.
#[derive(Debug)]
pub struct Loader {
    batches: Option<Receiver<Result<Batch>>>,
    worker: Option<JoinHandle<()>>,
}

impl Loader {
    /// The draws of `mixture` from `options.start` on, augmented as their sources say.
    ///
    /// An example whose picture cannot be read is replaced by the next of its source, noted in [`Pictures::skipped`],
    /// and an error once there are more than the source's `max_skipped`. So is a batch without any readable picture.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the options contradict each other.
    pub fn training(
        pictures: Arc<Pictures>,
        mut mixture: Mixture,
        preprocessor: Preprocessor,
        options: LoaderOptions,
    ) -> Result<Self> {
        let seed = mixture.seed();
        let LoaderOptions {
            start, batch, rank, ..
        } = options;
        let ranks = options.ranks.max(1);
        let batches = (0_u64..).map(move |number| {
            let first = start + number * batch as u64;
            let draws = first..first + batch as u64;
            let own = draws.clone().skip(rank).step_by(ranks);
            let items = own.map(|index| Item::Draw(mixture.draw(index))).collect();
            (draws, items)
        });
        Self::start(pictures, preprocessor, seed, options, batches)
    }

    /// The examples of `list` (source, place) once, in their order, without augmentation and with their first captions;
    /// for validation. Those that cannot be read are left out and noted as in [`Loader::training`].
    ///
    /// # Errors
    /// As [`Loader::training`].
    pub fn in_order(
        pictures: Arc<Pictures>,
        list: Vec<(usize, usize)>,
        preprocessor: Preprocessor,
        options: LoaderOptions,
    ) -> Result<Self> {
        let LoaderOptions {
            start, batch, rank, ..
        } = options;
        let ranks = options.ranks.max(1);
        let (batch, end) = (batch.max(1) as u64, list.len() as u64);
        let batches = (start..end).step_by(batch as usize).map(move |first| {
            let draws = first..(first + batch).min(end);
            let own = draws.clone().skip(rank).step_by(ranks);
            let items = own
                .map(|place| Item::Listed(list[place as usize]))
                .collect();
            (draws, items)
        });
        Self::start(pictures, preprocessor, 0, options, batches)
    }

    fn start(
        pictures: Arc<Pictures>,
        preprocessor: Preprocessor,
        seed: u64,
        options: LoaderOptions,
        batches: impl Iterator<Item = (Range<u64>, Vec<Item>)> + Send + 'static,
    ) -> Result<Self> {
        let LoaderOptions {
            batch, rank, ranks, ..
        } = options;
        if batch == 0 || rank >= ranks || batch % ranks != 0 {
            return Err(Error::BadArgument(format!(
                "batches of {batch}, rank {rank} of {ranks}: expected a batch that the ranks share evenly, and ranks \
                 counted from 0"
            )));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .build()
            .map_err(|_| Error::BadArgument("threads: the system gives no more".into()))?;
        let (sender, receiver) = sync_channel(options.ahead.max(1));
        let maker = Maker {
            pictures,
            preprocessor,
            seed,
        };
        let worker = std::thread::spawn(move || pool.install(|| maker.run(batches, &sender)));
        Ok(Self {
            batches: Some(receiver),
            worker: Some(worker),
        })
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.as_ref()?.recv().ok();
        if !matches!(batch, Some(Ok(_))) {
            self.batches = None;
            // A panic of the worker is no end of the data.
            if let Some(Err(panic)) = self.worker.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
        }
        batch
    }
}

impl Drop for Loader {
    /// Waits for the batch that is being made.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// What a batch is made of.
enum Item {
    Draw(Draw),
    Listed((usize, usize)),
}

/// One example of a batch.
struct Made {
    source: usize,
    place: usize,
    caption: String,
    pixels: PixelValues,
}

/// A picture that cannot be read.
type Failed = (usize, usize, Error);

struct Maker {
    pictures: Arc<Pictures>,
    preprocessor: Preprocessor,
    seed: u64,
}

impl Maker {
    fn run(
        &self,
        batches: impl Iterator<Item = (Range<u64>, Vec<Item>)>,
        sender: &SyncSender<Result<Batch>>,
    ) {
        for (draws, items) in batches {
            let batch = match self.batch(draws, &items).transpose() {
                Some(batch) => batch,
                // Draws have no end: without this nobody would listen, and this would go on for ever.
                None if items.iter().any(|item| matches!(item, Item::Draw(_))) => Err(
                    Error::BadArgument("training data: no picture of a batch can be read".into()),
                ),
                None => continue,
            };
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// A batch; `None` where none of its pictures can be read.
    fn batch(&self, draws: Range<u64>, items: &[Item]) -> Result<Option<Batch>> {
        let made: Vec<(Option<Made>, Vec<Failed>)> =
            items.par_iter().map(|item| self.make(item)).collect();
        // One after the other, so that an error does not depend on the threads.
        let mut usable = Vec::with_capacity(made.len());
        for (made, failed) in made {
            for (source, place, error) in failed {
                self.pictures.note(source, place, &error)?;
            }
            usable.extend(made);
        }
        if usable.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch {
            draws,
            ids: Vec::new(),
            sources: Vec::new(),
            places: Vec::new(),
            captions: Vec::new(),
            labels: Vec::new(),
            pixels: PixelValues::new(0, self.preprocessor.size(), Vec::new())?,
        };
        let mut pixels = Vec::with_capacity(usable.len());
        for made in usable {
            let example = self.pictures.example(made.source, made.place);
            batch.ids.push(example.id.clone());
            batch.labels.push(example.labels.clone());
            batch.sources.push(made.source);
            batch.places.push(made.place);
            batch.captions.push(made.caption);
            pixels.push(made.pixels);
        }
        batch.pixels = PixelValues::concat(&pixels)?;
        Ok(Some(batch))
    }

    /// The first candidate whose picture can be read, and those before it.
    fn make(&self, item: &Item) -> (Option<Made>, Vec<Failed>) {
        let mut failed = Vec::new();
        let made = match item {
            Item::Draw(draw) => draw
                .candidates()
                .find_map(|place| self.attempt(draw.source, place, Some(draw.index), &mut failed)),
            Item::Listed((source, place)) => self.attempt(*source, *place, None, &mut failed),
        };
        (made, failed)
    }

    fn attempt(
        &self,
        source: usize,
        place: usize,
        draw: Option<u64>,
        failed: &mut Vec<Failed>,
    ) -> Option<Made> {
        if self.pictures.has_failed(source, place) {
            return None;
        }
        self.example(source, place, draw)
            .map_err(|error| failed.push((source, place, error)))
            .ok()
    }

    fn example(&self, number: usize, place: usize, draw: Option<u64>) -> Result<Made> {
        let picture = self.pictures.get(number, place)?;
        let source = &self.pictures.sources()[number];
        let example = self.pictures.example(number, place);
        let (caption, pixels) = match draw {
            None => (
                source.first_caption(example),
                self.preprocessor.pixel_values(&picture)?,
            ),
            Some(draw) => {
                let mut random = generator(self.seed, Purpose::Caption, [draw, 0]);
                let caption = source.captions.draw(example, &mut random);
                let pixels = if source.config.augment.is_off() {
                    self.preprocessor.pixel_values(&picture)?
                } else {
                    let mut random = generator(self.seed, Purpose::Augment, [draw, 0]);
                    let augment_config = &source.config.augment;
                    let picture =
                        augment(&picture, &self.preprocessor, augment_config, &mut random)?;
                    self.preprocessor.pixel_values(&picture)?
                };
                (caption.unwrap_or_default(), pixels)
            }
        };
        Ok(Made {
            source: number,
            place,
            caption,
            pixels,
        })
    }
}

#[cfg(test)]
mod tests;
