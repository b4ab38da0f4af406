//! Items batch after batch: pictures are decoded by a pool of threads while the model encodes the batch before.
//!
//! Batches are fixed by the list of items and the batch size alone, so that a result never depends on
//! where a run was interrupted. Three batches of pixel values are in memory (one being decoded, one waiting, one
//! being encoded), four while the pictures of one are joined.
//!
//! All threads decode the first batches, for which the engine waits; after that as many as keep it busy, so that the
//! cores are left to it: one where the model is large, all where it is tiny.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use medsiglip::embedding::Embeddings;
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::{Error, Model};
use serde::{Deserialize, Serialize};

use crate::inputs::{Item, Source};
use crate::journal::Stamp;
use crate::messages;
use crate::parallel;
use crate::pictures::{DicomSource, Reader};

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its pooled embedding, or why there is none.
    pub embedding: Result<Vec<f32>, Failed>,
    /// What else is known.
    pub about: About,
}

/// What is known about an item beside its embedding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Whether a text is longer than the model reads, so that its end was ignored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// What was dropped or changed when the picture was decoded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where a picture of a DICOM file comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dicom: Option<Box<DicomSource>>,
    /// The picture file as it was before it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// Why an item has no embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// A stable error code.
    pub code: String,
    /// What went wrong.
    pub message: String,
}

/// What the model takes of one item, or why it cannot; and what else is known.
type Ready<T> = (Result<T, Failed>, About);

/// How items are encoded.
pub struct Encoding<'a> {
    /// The model.
    pub model: &'a Model,
    /// Reads the pictures.
    pub reader: Reader,
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
        sender: &SyncSender<Vec<Ready<PixelValues>>>,
    ) {
        let mut threads = self.threads;
        for batch in batches {
            let sources: Vec<&Source> = batch.iter().filter_map(Item::source).collect();
            if sources.is_empty() {
                continue;
            }
            let start = Instant::now();
            let pixels = parallel::map(&sources, threads, |source| self.decode(source));
            let decoding = start.elapsed();
            if sender.send(pixels).is_err() {
                return;
            }
            threads = enough_threads(threads, decoding, start.elapsed()).min(self.threads);
        }
    }

    /// One picture. A decoder that panics on a hostile file costs that file alone.
    fn decode(&self, source: &Source) -> Ready<PixelValues> {
        let mut about = About::default();
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let picture = self.reader.read(source, &mut about)?;
            about.warnings.clone_from(&picture.source().warnings);
            Ok(self.model.preprocessor().pixel_values(&picture)?)
        }));
        let failed = || Error::BadImage("the decoder failed on this file".into()).into();
        let pixels = decoded
            .unwrap_or_else(|_| Err(failed()))
            .map_err(|failed: Failed| failed.without(source.path()));
        (pixels, about)
    }

    fn encode(
        &self,
        batch: &[Item],
        decoded: &Receiver<Vec<Ready<PixelValues>>>,
    ) -> Result<Vec<Outcome>, Error> {
        let texts: Vec<&str> = batch.iter().filter_map(Item::text).collect();
        if !texts.is_empty() {
            return self.encode_texts(&texts);
        }
        // The decoder ends early only by a bug of ours, and that has been told by then.
        let pixels = decoded.recv().map_err(|_| Error::Interrupted)?;
        self.fill(pixels, |good| {
            let pixels = PixelValues::concat(&good)?;
            drop(good);
            self.model.encode_images(&pixels)
        })
    }

    fn encode_texts(&self, texts: &[&str]) -> Result<Vec<Outcome>, Error> {
        let ready: Result<Vec<_>, Error> = texts.iter().map(|text| self.tokenize(text)).collect();
        self.fill(ready?, |good| self.encode_distinct(&good))
    }

    /// Encodes each distinct row of token ids once: texts that differ in case or punctuation alone are one text to
    /// the model. Rows are compared within a batch, so that a result depends on nothing outside it.
    fn encode_distinct(&self, rows: &[TokenIds]) -> medsiglip::Result<Embeddings> {
        let (distinct, places) = distinct(rows.iter().map(TokenIds::data));
        let length = rows.first().map_or(0, TokenIds::length);
        let ids = TokenIds::new(distinct.len(), length, distinct.concat())?;
        let encoded = self.model.encode_tokens(&ids)?;
        let all = places.iter().flat_map(|&place| encoded.row(place));
        Embeddings::new(encoded.dim(), all.copied().collect())
    }

    /// One text. What is wrong with the text costs that text alone, any other error ends the run.
    fn tokenize(&self, text: &str) -> Result<Ready<TokenIds>, Error> {
        match self.model.tokenize(&[text]) {
            Ok((ids, truncated)) => {
                let truncated = !truncated.is_empty();
                let about = About {
                    truncated,
                    ..About::default()
                };
                Ok((Ok(ids), about))
            }
            Err(error @ (Error::BadText(_) | Error::Limit { .. })) => {
                Ok((Err(error.into()), About::default()))
            }
            Err(error) => Err(error),
        }
    }

    /// Encodes what is good, and puts each embedding into its item's place.
    fn fill<T>(
        &self,
        ready: Vec<Ready<T>>,
        encode: impl FnOnce(Vec<T>) -> medsiglip::Result<Embeddings>,
    ) -> Result<Vec<Outcome>, Error> {
        let (good, places) = sort_out(ready);
        let mut embeddings = Vec::new();
        if !good.is_empty() {
            let mut encoded = encode(good)?;
            if self.normalized {
                encoded = encoded.normalized();
            }
            embeddings.push(encoded);
        }
        let mut rows = embeddings.iter().flat_map(Embeddings::rows);
        Ok(places
            .into_iter()
            .filter_map(|(failed, about)| {
                let embedding = match failed {
                    Some(failed) => Err(failed),
                    None => finite(rows.next()?),
                };
                Some(Outcome { embedding, about })
            })
            .collect())
    }
}

/// How many threads decode a batch in the time that the engine takes for one, with a quarter to spare, where `threads` of
/// them decoded for `decoding` of the time `whole` from one batch to the next. Those that are always busy get one more.
fn enough_threads(threads: usize, decoding: Duration, whole: Duration) -> usize {
    let share = decoding.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
    (1.25 * share * threads as f64).ceil().max(1.0) as usize
}

/// What is good, in order, and for each place the failure that stands there.
fn sort_out<T>(ready: Vec<Ready<T>>) -> (Vec<T>, Vec<(Option<Failed>, About)>) {
    let mut good = Vec::with_capacity(ready.len());
    let places = ready.into_iter().map(|(one, about)| match one {
        Ok(one) => {
            good.push(one);
            (None, about)
        }
        Err(failed) => (Some(failed), about),
    });
    let places = places.collect();
    (good, places)
}

/// The distinct ones of `rows`, in order of first appearance, and for each row its place among them.
fn distinct<'r>(rows: impl Iterator<Item = &'r [u32]>) -> (Vec<&'r [u32]>, Vec<usize>) {
    let mut found = Vec::new();
    let mut known = HashMap::new();
    let places = rows.map(|row| {
        *known.entry(row).or_insert_with(|| {
            found.push(row);
            found.len() - 1
        })
    });
    let places = places.collect();
    (found, places)
}

/// JSON has no NaN, and nobody can use one: an embedding is made of numbers, or has failed.
fn finite(row: &[f32]) -> Result<Vec<f32>, Failed> {
    if row.iter().all(|x| x.is_finite()) {
        return Ok(row.to_vec());
    }
    Err(Failed {
        code: "NOT_FINITE".into(),
        message: "the model gave numbers that are not finite".into(),
    })
}

impl Item {
    /// Where the picture is; `None` for a text.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Image(source) => Some(source),
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
    pub fn without(mut self, path: &Path) -> Self {
        if let Some(message) = self.message.strip_suffix(&format!(": {}", path.display())) {
            self.message = message.to_owned();
        }
        self
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C finish what is in work (a batch, a file) and undo what is half done; a second Ctrl-C ends the process at once.
pub fn stop_on_ctrl_c() {
    // A second handler in one process is no concern: there is one run a process.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        messages::say("stopping; again to stop at once");
    });
}

/// Whether the person asked to stop.
pub fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Lets what is in work be finished, as Ctrl-C does.
#[cfg(feature = "dashboard")]
pub fn stop() {
    STOP.store(true, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_one_kind() {
        let mut items: Vec<Item> = (0..5)
            .map(|i| Item::Image(std::path::PathBuf::from(i.to_string()).into()))
            .collect();
        items.push(Item::Text("a".into()));
        assert_eq!(split(&items, 2), [0..2, 2..4, 4..5, 5..6]);
        assert_eq!(split(&items[4..], 8), [0..1, 1..2]);
        assert_eq!(split(&items, usize::MAX), [0..5, 5..6]);
        assert!(split(&[], 2).is_empty());
    }

    #[test]
    fn decoding_takes_the_threads_that_it_needs() {
        let enough = |threads, decoding, whole| {
            let [decoding, whole] = [decoding, whole].map(Duration::from_millis);
            enough_threads(threads, decoding, whole)
        };
        assert_eq!(enough(16, 10, 2000), 1, "a large model");
        assert_eq!(enough(1, 100, 100), 2, "one thread cannot keep up");
        assert!(enough(16, 100, 100) >= 16, "a tiny model");
        assert_eq!(enough(8, 100, 200), 5);
        assert_eq!(enough(2, 0, 0), 1);
    }

    #[test]
    fn failures_keep_their_places() {
        let failed = || Failed {
            code: "X".into(),
            message: "m".into(),
        };
        let ready = [Ok(1), Err(failed()), Ok(2)].map(|one| (one, About::default()));
        let (good, places) = sort_out(ready.into());
        assert_eq!(good, [1, 2]);
        let places: Vec<_> = places.into_iter().map(|(failed, _)| failed).collect();
        assert_eq!(places, [None, Some(failed()), None]);
    }

    #[test]
    fn equal_rows_have_one_place() {
        let rows: [&[u32]; 4] = [&[1, 2], &[3, 4], &[1, 2], &[5, 6]];
        let (found, places) = distinct(rows.into_iter());
        assert_eq!(found, [[1, 2], [3, 4], [5, 6]]);
        assert_eq!(places, [0, 1, 0, 2]);
    }

    #[test]
    fn numbers_that_are_none_are_a_failure() {
        assert_eq!(finite(&[1.0, -0.0]), Ok(vec![1.0, -0.0]));
        assert_eq!(finite(&[1.0, f32::NAN]).unwrap_err().code, "NOT_FINITE");
        assert!(finite(&[f32::INFINITY]).is_err());
    }
}
