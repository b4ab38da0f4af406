//! [`Pictures`]: the decoded pictures of the sources, kept in memory as far as a budget reaches.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Example, Skipped, Source};
use crate::image::{DecodeOptions, Picture, Samples};
use crate::{Error, Result};

/// The sources with what was decoded of them. One is shared by all loaders of a run.
#[derive(Debug)]
pub struct Pictures {
    sources: Vec<Source>,
    options: DecodeOptions,
    budget: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<(usize, usize), Arc<Picture>>,
    bytes: u64,
    failed: Vec<HashSet<usize>>,
    skipped: Vec<Skipped>,
}

impl Pictures {
    /// The pictures of `sources`, decoded with `options` (those of the preprocessor); the first `budget_bytes` of them stay
    /// in memory as they were decoded. None is let go for another: in epochs, each is needed as often as the other.
    pub fn new(sources: Vec<Source>, options: DecodeOptions, budget_bytes: u64) -> Self {
        let state = State {
            failed: vec![HashSet::new(); sources.len()],
            skipped: vec![Skipped::default(); sources.len()],
            ..State::default()
        };
        Self {
            sources,
            options,
            budget: budget_bytes,
            state: Mutex::new(state),
        }
    }

    /// The sources.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The pictures of each source that could not be read when their turn came, be it in [`super::find_leaks`].
    pub fn skipped(&self) -> Vec<Skipped> {
        self.state().skipped.clone()
    }

    /// Bytes of the decoded pictures in memory.
    pub fn kept_bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Bytes that the pictures in memory will come to, judged by those that are there.
    pub fn expected_bytes(&self) -> u64 {
        let all: usize = self.sources.iter().map(|s| s.examples.len()).sum();
        let state = self.state();
        let mean = state.bytes as f64 / state.kept.len().max(1) as f64;
        ((mean * all as f64) as u64).min(self.budget)
    }

    /// How pictures are decoded.
    pub(super) fn options(&self) -> &DecodeOptions {
        &self.options
    }

    pub(super) fn example(&self, source: usize, place: usize) -> &Example {
        &self.sources[source].examples[place]
    }

    /// The picture of an example.
    ///
    /// # Errors
    /// As [`super::Location::open`].
    pub(super) fn get(&self, source: usize, place: usize) -> Result<Arc<Picture>> {
        if let Some(picture) = self.state().kept.get(&(source, place)) {
            return Ok(picture.clone());
        }
        let picture = Arc::new(self.example(source, place).picture.open(&self.options)?);
        let bytes = match picture.samples() {
            Samples::U8(samples) => samples.len() as u64,
            Samples::U16(samples) => 2 * samples.len() as u64,
        };
        let mut state = self.state();
        // Another thread may have been faster with the same picture.
        if state.bytes + bytes <= self.budget
            && state
                .kept
                .insert((source, place), picture.clone())
                .is_none()
        {
            state.bytes += bytes;
        }
        Ok(picture)
    }

    pub(super) fn has_failed(&self, source: usize, place: usize) -> bool {
        self.state().failed[source].contains(&place)
    }

    /// Notes a picture that cannot be read, once: it is not tried again.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where they and what was left out when the source was opened are more than its `max_skipped`.
    pub(super) fn note(&self, source: usize, place: usize, error: &Error) -> Result<()> {
        let mut state = self.state();
        if !state.failed[source].insert(place) {
            return Ok(());
        }
        let Example {
            picture,
            place: told,
            ..
        } = self.example(source, place);
        state.skipped[source].add_unreadable(told, error.code(), &picture.said(error));
        let Source {
            config,
            examples,
            skipped,
            ..
        } = &self.sources[source];
        let seen = examples.len() as u64 + skipped.total();
        let mut all = skipped.clone();
        all.extend(&state.skipped[source]);
        all.check(seen, config.max_skipped, &config.name)
    }

    /// A thread that panicked leaves nothing half done here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
