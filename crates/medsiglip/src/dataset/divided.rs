//! [`Divided`]: sources, searched for leaks, with a side for every example.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::split::units;
use super::{
    Duplicates, LeakReport, Pictures, Shares, Side, Source, SourceConfig, find_leaks, split,
    split_warnings,
};
use crate::Result;
use crate::image::DecodeOptions;

/// Decoded pictures that are kept in memory.
const PICTURE_BYTES: u64 = 4 << 30;

/// The `[split]` table of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// Share of validation.
    pub val: f64,
    /// Share of test, which is measured once, at the end.
    pub test: f64,
    /// What it follows from, in place of the run's seed: so that several seeds are compared on the same pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What is done about pictures that are there more than once.
    pub duplicates: Duplicates,
    /// Search for such pictures before anything else. It reads every picture once.
    pub search: bool,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            val: 0.1,
            test: 0.0,
            seed: None,
            duplicates: Duplicates::Join,
            search: true,
        }
    }
}

impl SplitConfig {
    pub(super) fn shares(self) -> Shares {
        Shares {
            val: self.val,
            test: self.test,
        }
    }
}

/// Sources with a side for every example.
#[derive(Debug, Clone)]
pub struct Divided {
    /// All sources, with their pictures.
    pub pictures: Arc<Pictures>,
    /// The side of every example.
    pub sides: Vec<Vec<Side>>,
    /// For every example a number that it shares with those that stand or fall together with it: of its group, or of its picture.
    pub groups: Vec<Vec<usize>>,
    /// Examples of each source that nothing is learned from, although they are on the side train or val.
    pub left_out: Vec<HashSet<usize>>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The same in counts, without the place or name of any picture.
    pub summary: Vec<String>,
    /// SHA-256 over the examples, what is said of them, and what is on which side.
    pub fingerprint: String,
}

impl Divided {
    /// Reads the sources, divides them and searches for leaks; relative paths start at `base`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a split is impossible; as of [`Source::open`] and [`find_leaks`].
    pub fn open(
        sources: &[SourceConfig],
        config: SplitConfig,
        seed: u64,
        base: &Path,
        options: &DecodeOptions,
    ) -> Result<Self> {
        let open = |source: &SourceConfig| Source::open(source.clone(), base);
        let sources: Vec<_> = sources.iter().map(open).collect::<Result<_>>()?;
        let pictures = Pictures::new(sources, options.clone(), PICTURE_BYTES);
        let sources = pictures.sources();
        let leaks = match config.search {
            true => find_leaks(&pictures)?,
            false => LeakReport::default(),
        };
        let policy = config.duplicates;
        let (mut sides, mut groups, mut first) = (Vec::new(), Vec::new(), 0);
        let (mut warnings, mut summary) = (Vec::new(), Vec::new());
        for (number, source) in sources.iter().enumerate() {
            let mut own = vec![0; source.examples.len()];
            for unit in units(source, &leaks.joined(number, Duplicates::Join)) {
                unit.iter().for_each(|place| own[*place] = first);
                first += 1;
            }
            groups.push(own);
            let joined = leaks.joined(number, policy);
            let seed = config.seed.unwrap_or(seed);
            let divided = split(source, config.shares(), seed, &joined)?;
            let name = &source.config.name;
            let mut told = source.warnings.clone();
            if config.search && !source.config.pictures {
                told.push(format!(
                    "source {name}: without its pictures, copies of them on several sides cannot be found"
                ));
            }
            told.extend(split_warnings(source, &divided));
            summary.extend(told.iter().cloned());
            summary.extend(source.skipped.summary(name));
            warnings.extend(told);
            warnings.extend(source.skipped.warning(name));
            sides.push(divided);
        }
        summary.extend(leaks.summary(sources, &sides, policy));
        warnings.extend(leaks.warnings(sources, &sides, policy));
        let left_out: Vec<_> = (0..sources.len())
            .map(|number| leaks.left_out(number, policy, &sides))
            .collect();
        Ok(Self {
            fingerprint: fingerprint(sources, &sides, &left_out),
            pictures: Arc::new(pictures),
            sides,
            groups,
            left_out,
            warnings,
            summary,
        })
    }

    /// Leaves out more: the places of each source that `of` names.
    pub fn leave_out(&mut self, of: impl Fn(usize) -> Vec<usize>) {
        for (number, left_out) in self.left_out.iter_mut().enumerate() {
            left_out.extend(of(number));
        }
        self.fingerprint = fingerprint(self.sources(), &self.sides, &self.left_out);
    }

    /// The sources.
    pub fn sources(&self) -> &[Source] {
        self.pictures.sources()
    }

    /// Whether any example is on a side.
    pub fn has(&self, side: Side) -> bool {
        self.sides.iter().flatten().any(|of| *of == side)
    }

    /// The places of a source's examples on a side.
    pub fn on_side(&self, source: usize, side: Side) -> Vec<usize> {
        let sides = self.sides[source].iter().enumerate();
        let there = sides.filter(|(_, of)| **of == side);
        there.map(|(place, _)| place).collect()
    }

    /// The places of a source's examples to use on a side: to learn from, to choose by, or to measure on.
    pub fn to_use(&self, source: usize, side: Side) -> Vec<usize> {
        let mut places = self.on_side(source, side);
        places.retain(|place| !self.left_out[source].contains(place));
        places
    }

    /// A line for every source with pictures that could not be read when their turn came.
    pub fn skipped(&self) -> Vec<String> {
        let skipped = self.sources().iter().zip(self.pictures.skipped());
        let lines = skipped.filter_map(|(source, skipped)| skipped.warning(&source.config.name));
        lines.collect()
    }
}

/// SHA-256 over every example's source, id, labels, captions and side, and what is left out.
fn fingerprint(sources: &[Source], sides: &[Vec<Side>], left_out: &[HashSet<usize>]) -> String {
    let mut hasher = Sha256::new();
    for ((source, sides), left_out) in sources.iter().zip(sides).zip(left_out) {
        for (place, (example, side)) in source.examples.iter().zip(sides).enumerate() {
            let left_out = left_out.contains(&place);
            let said = (&example.id, &example.labels, &example.captions);
            let line = (&source.config.name, said, side.name(), left_out);
            hasher.update(serde_json::to_vec(&line).expect("plain texts"));
        }
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
