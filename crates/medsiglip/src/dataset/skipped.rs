//! What was left out of a source, and why.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Places that are listed by name; the rest is counted.
const MAX_LISTED: usize = 100;
/// Those of them that are told in a line.
const MAX_TOLD: usize = 10;

/// Examples that were left out: counted by reason, the first hundred listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// `PLACE: REASON` of the first hundred; a place is that of [`Example`](super::Example), never a picture's path or a value.
    pub listed: Vec<String>,
}

impl Skipped {
    /// How many examples were left out.
    pub fn total(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(super) fn add(&mut self, place: &str, reason: &str) {
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(format!("{place}: {reason}"));
        }
    }

    /// `said` is what the error with this code says without the picture's path.
    pub(super) fn add_unreadable(&mut self, place: &str, code: &str, said: &str) {
        let reason = format!("unreadable picture ({code})");
        *self.reasons.entry(reason).or_default() += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(format!("{place}: {said}"));
        }
    }

    /// Adds what `other` left out.
    pub(super) fn extend(&mut self, other: &Self) {
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        let room = MAX_LISTED.saturating_sub(self.listed.len());
        self.listed.extend(other.listed.iter().take(room).cloned());
    }

    /// An error where more than the share `max_share` of `seen` examples was left out.
    pub(super) fn check(&self, seen: u64, max_share: f64, source: &str) -> Result<()> {
        let total = self.total();
        if total as f64 <= max_share * seen as f64 {
            return Ok(());
        }
        let first = self.listed.first().map_or("", String::as_str);
        Err(Error::BadArgument(format!(
            "source {source}: {total} of {seen} examples cannot be used ({}), over max_skipped = {max_share}; the first \
             is {first}",
            self.counts()
        )))
    }

    /// What a person is told where examples were left out: how many, why, and the first places.
    pub fn warning(&self, source: &str) -> Option<String> {
        let summary = self.summary(source)?;
        Some(format!("{summary}: {}", self.first_places()))
    }

    /// The same without places.
    pub fn summary(&self, source: &str) -> Option<String> {
        (self.total() > 0).then(|| {
            format!(
                "source {source}: left out {} ({})",
                self.total(),
                self.counts()
            )
        })
    }

    /// The first ten of the list in a line.
    pub(super) fn first_places(&self) -> String {
        self.listed[..self.listed.len().min(MAX_TOLD)].join("; ")
    }

    fn counts(&self) -> String {
        let reasons = self.reasons.iter();
        let reasons: Vec<String> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.join(", ")
    }
}
