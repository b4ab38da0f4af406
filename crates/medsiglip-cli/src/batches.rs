//! Items batch after batch: pictures are decoded by a pool of threads while the model encodes the batch before.
//!
//! Batches are fixed by the list of items and the batch size alone, so that a result never depends on
//! where a run was interrupted. At most three batches of pixel values are in memory.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use medsiglip::embedding::Embeddings;
use medsiglip::image::{self, DecodeOptions};
use medsiglip::preprocess::PixelValues;
use medsiglip::{Error, Model};
use serde::{Deserialize, Serialize};

use crate::inputs::Item;
use crate::messages;

/// What became of one item: its pooled embedding, or why there is none.
pub type Outcome = Result<Vec<f32>, Failed>;

/// Why an item has no embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// A stable error code.
    pub code: String,
    /// What went wrong.
    pub message: String,
}

/// How items are encoded.
pub struct Encoding<'a> {
    /// The model.
    pub model: &'a Model,
    /// How picture files are read.
    pub decode: DecodeOptions,
    /// Threads that decode.
    pub threads: usize,
    /// Whether embeddings are divided by their norm.
    pub normalized: bool,
}

/// The batches of `items`: consecutive, of one kind, at most `size` items.
pub fn split(items: &[Item], size: usize) -> Vec<Range<usize>> {
    let images = items
        .iter()
        .take_while(|item| matches!(item, Item::Image(_)))
        .count();
    let cut = |start: usize, end: usize| {
        (start..end)
            .step_by(size)
            .map(move |at| at..end.min(at.saturating_add(size)))
    };
    cut(0, images).chain(cut(images, items.len())).collect()
}

impl Encoding<'_> {
    /// Encodes `batches` of `items` in order and gives the outcomes of each to `keep`, until it answers `false`.
    pub fn run<E: From<Error>>(
        &self,
        items: &[Item],
        batches: &[Range<usize>],
        mut keep: impl FnMut(&[Item], Vec<Outcome>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let batches = || batches.iter().filter_map(|range| items.get(range.clone()));
        std::thread::scope(|scope| {
            let (sender, decoded) = sync_channel(1);
            scope.spawn(move || self.decode_all(batches(), &sender));
            for batch in batches() {
                let outcomes = self.encode(batch, &decoded)?;
                if !keep(batch, outcomes)? {
                    break;
                }
            }
            // Dropping the receiver ends the decoder.
            drop(decoded);
            Ok(())
        })
    }

    /// Decodes the pictures of every batch that has some, until nobody listens.
    fn decode_all<'i>(
        &self,
        batches: impl Iterator<Item = &'i [Item]>,
        sender: &SyncSender<Vec<Result<PixelValues, Failed>>>,
    ) {
        for batch in batches {
            let paths: Vec<&Path> = batch.iter().filter_map(Item::path).collect();
            if paths.is_empty() {
                continue;
            }
            if sender.send(self.decode_batch(&paths)).is_err() {
                return;
            }
        }
    }

    fn decode_batch(&self, paths: &[&Path]) -> Vec<Result<PixelValues, Failed>> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(paths.len()));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = paths.get(at) else { break };
                let pixels = self.decode(path);
                done.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((at, pixels));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.clamp(1, paths.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, pixels)| pixels).collect()
    }

    /// One picture. A decoder that panics on a hostile file costs that file alone.
    fn decode(&self, path: &Path) -> Result<PixelValues, Failed> {
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let picture = image::open_with(path, &self.decode)?;
            self.model.preprocessor().pixel_values(&picture)
        }));
        decoded
            .unwrap_or_else(|_| Err(Error::BadImage("the decoder failed on this file".into())))
            .map_err(|error| Failed::from(error).without(path))
    }

    fn encode(
        &self,
        batch: &[Item],
        decoded: &Receiver<Vec<Result<PixelValues, Failed>>>,
    ) -> Result<Vec<Outcome>, Error> {
        let texts: Vec<&str> = batch.iter().filter_map(Item::text).collect();
        if !texts.is_empty() {
            return self.encode_texts(&texts);
        }
        // The decoder ends early only by a bug of ours, and that has been told by then.
        let pixels = decoded.recv().map_err(|_| Error::Interrupted)?;
        let (good, places) = sort_out(pixels);
        self.fill(places, good, |good| {
            self.model.encode_images(&PixelValues::concat(&good)?)
        })
    }

    fn encode_texts(&self, texts: &[&str]) -> Result<Vec<Outcome>, Error> {
        let checked = texts.iter().map(|text| {
            let (_, truncated) = self.model.tokenize(&[text])?;
            if !truncated.is_empty() {
                messages::warn_truncated(text);
            }
            Ok(*text)
        });
        let checked = checked.map(|text: Result<_, Error>| match text {
            // A model without text tower fails every text alike: that is no matter of this text.
            Err(Error::BadText(message)) => Ok(Err(Failed::from(Error::BadText(message)))),
            other => other.map(Ok),
        });
        let (good, places) = sort_out(checked.collect::<Result<Vec<_>, Error>>()?);
        self.fill(places, good, |good| self.model.encode_texts(&good))
    }

    /// Puts the embeddings of `good` into the places that wait for one.
    fn fill<T>(
        &self,
        places: Vec<Option<Failed>>,
        good: Vec<T>,
        encode: impl FnOnce(Vec<T>) -> medsiglip::Result<Embeddings>,
    ) -> Result<Vec<Outcome>, Error> {
        if good.is_empty() {
            return Ok(places.into_iter().flatten().map(Err).collect());
        }
        let mut embeddings = encode(good)?;
        if self.normalized {
            embeddings = embeddings.normalized();
        }
        let mut rows = embeddings.rows();
        Ok(places
            .into_iter()
            .filter_map(|place| match place {
                Some(failed) => Some(Err(failed)),
                None => rows.next().map(|row| Ok(row.to_vec())),
            })
            .collect())
    }
}

/// What is good, in order, and for each place the failure that stands there.
fn sort_out<T>(all: Vec<Result<T, Failed>>) -> (Vec<T>, Vec<Option<Failed>>) {
    let mut good = Vec::with_capacity(all.len());
    let places = all.into_iter().map(|one| match one {
        Ok(one) => {
            good.push(one);
            None
        }
        Err(failed) => Some(failed),
    });
    let places = places.collect();
    (good, places)
}

impl Item {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Image(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Image(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}

impl Failed {
    /// Without the path at the end of the message: the item's id stands beside it.
    fn without(mut self, path: &Path) -> Self {
        if let Some(message) = self.message.strip_suffix(&format!(": {}", path.display())) {
            self.message = message.to_owned();
        }
        self
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C finish the batch in work; a second Ctrl-C ends the process at once.
pub fn stop_on_ctrl_c() {
    // A second handler in one process is no concern: there is one run a process.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        messages::say("stopping after this batch; again to stop at once");
    });
}

/// Whether the person asked to stop.
pub fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_one_kind() {
        let mut items: Vec<Item> = (0..5).map(|i| Item::Image(i.to_string().into())).collect();
        items.push(Item::Text("a".into()));
        assert_eq!(split(&items, 2), [0..2, 2..4, 4..5, 5..6]);
        assert_eq!(split(&items[4..], 8), [0..1, 1..2]);
        assert_eq!(split(&items, usize::MAX), [0..5, 5..6]);
        assert!(split(&[], 2).is_empty());
    }

    #[test]
    fn failures_keep_their_places() {
        let failed = || Failed {
            code: "X".into(),
            message: "m".into(),
        };
        let (good, places) = sort_out(vec![Ok(1), Err(failed()), Ok(2)]);
        assert_eq!(good, [1, 2]);
        assert_eq!(places, [None, Some(failed()), None]);
    }
}
