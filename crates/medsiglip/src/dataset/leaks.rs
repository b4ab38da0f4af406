//! The leak check: the same picture more than once, on both sides of a split, or with labels that contradict each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::split::{find, join};
use super::{Pictures, Side, Skipped, Source};
use crate::Result;
use crate::image::{Picture, Samples};
use crate::preprocess::{Preprocessor, Recipe};

/// Side of the thumbnails that are compared, in pixels.
const THUMB: usize = 32;
/// Bits of 64 in which the difference hashes of one picture may differ.
const MAX_BITS: u32 = 6;
/// Mean difference of the thumbnails of one picture, in levels of 255. Copies of chest X-rays, fundus photographs and
/// histology tiles at 60 % of the size and JPEG quality 60 differ by at most 0.6; of different ones, two fundus
/// photographs come nearest, with 2.8.
const MAX_LEVELS: f64 = 1.5;
/// Bands of the hash: of `MAX_BITS` different bits, one band has none.
const BANDS: u32 = MAX_BITS + 1;

/// Clusters of a kind that are told by name.
const MAX_TOLD: usize = 10;

/// What is done about pictures that are there more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// They are reported.
    #[default]
    Warn,
    /// Those of one source are put on one side of the split; of those that lie on several sides all the same (of two sources,
    /// or of a source that names the sides itself) the ones for training are not trained on.
    Join,
    /// As `join`; those whose labels contradict each other are not trained on either.
    DropConflicts,
}

/// How alike the pictures of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// The files are the same, byte by byte (SHA-256).
    SameFile,
    /// The pictures are hard to tell apart.
    NearIdentical,
}

/// Examples that show one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// (source, place in it), ascending; two at least.
    pub members: Vec<(usize, usize)>,
    /// That of the least alike.
    pub likeness: Likeness,
    /// Label columns that do not say the same of all members of one source, of those that say what a picture shows: not the
    /// split, and of published sets not the strata (view, age, ...). The order of several values is no difference; two
    /// sources may name things differently.
    pub conflicts: Vec<String>,
}

/// What [`find_leaks`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeakReport {
    /// The pictures that are there more than once.
    pub clusters: Vec<Cluster>,
    /// Pictures of each source that could not be read and were not compared.
    pub skipped: Vec<Skipped>,
}

/// What is compared of a picture.
struct Print {
    sha256: [u8; 32],
    /// dHash: for 8 rows of 9 pixels, whether each is brighter than the next.
    hash: u64,
    /// (THUMB, THUMB), gray.
    thumb: Vec<u8>,
}

/// Looks for pictures that are there more than once within and across the sources of `pictures`. Every picture is decoded;
/// those that cannot be read are noted in [`Pictures::skipped`], and not tried again.
///
/// Two pictures are near-identical where their 64-bit difference hashes (Krawetz's dHash) differ in at most 6 bits, and gray
/// thumbnails of 32x32 pixels by at most 1.5 levels of 255 on average: the hash finds candidates, the thumbnail refuses
/// those that only have their layout in common, as most chest X-rays have. A picture that was saved again, smaller or
/// with stronger compression, is found; one that was cropped, turned or mirrored is not.
///
/// # Errors
/// `BAD_ARGUMENT` where more than a source's `max_skipped` cannot be read.
pub fn find_leaks(pictures: &Pictures) -> Result<LeakReport> {
    let (sources, options) = (pictures.sources(), pictures.options());
    let places: Vec<(usize, usize)> = (0..)
        .zip(sources)
        .filter(|(_, source)| source.config.pictures)
        .flat_map(|(number, source)| (0..source.examples.len()).map(move |place| (number, place)))
        .collect();
    let shrink = Shrink::new()?;
    let print = |(source, place): &(usize, usize)| {
        let location = &sources[*source].examples[*place].picture;
        let bytes = location.read(&options.limits)?;
        let picture = location.decode(&bytes, options)?;
        shrink.print(&bytes, &picture)
    };
    let prints: Vec<Result<Print>> = places.par_iter().map(print).collect();
    let mut readable = Vec::new();
    for (place, print) in places.into_iter().zip(prints) {
        match print {
            Ok(print) => readable.push((place, print)),
            Err(error) => pictures.note(place.0, place.1, &error)?,
        }
    }
    Ok(LeakReport {
        clusters: clusters(&readable, sources),
        skipped: pictures.skipped(),
    })
}

/// The two preprocessors that make thumbnails: Pillow's antialiased bilinear resize.
struct Shrink {
    thumb: Preprocessor,
    hash: Preprocessor,
}

impl Shrink {
    fn new() -> Result<Self> {
        Ok(Self {
            thumb: Preprocessor::new(Recipe::Torchvision, None, THUMB, None)?,
            hash: Preprocessor::new(Recipe::Torchvision, None, 9, None)?,
        })
    }

    fn print(&self, bytes: &[u8], picture: &Picture) -> Result<Print> {
        let thumb = gray(&self.thumb.view(picture)?);
        let side = THUMB as u32;
        let small = Picture::new(side, side, 1, Samples::U8(thumb.clone()))?;
        let small = gray(&self.hash.view(&small)?);
        let mut hash = 0;
        for row in small.chunks_exact(9).take(8) {
            for pair in row.windows(2) {
                hash = hash << 1 | u64::from(pair[0] > pair[1]);
            }
        }
        Ok(Print {
            sha256: Sha256::digest(bytes).into(),
            hash,
            thumb,
        })
    }
}

/// Rec. 601 luma of interleaved RGB.
fn gray(rgb: &[u8]) -> Vec<u8> {
    let luma = |p: &[u8; 3]| {
        ((299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2]) + 500) / 1000) as u8
    };
    rgb.as_chunks().0.iter().map(luma).collect()
}

impl Print {
    fn is_near(&self, other: &Self) -> bool {
        if (self.hash ^ other.hash).count_ones() > MAX_BITS {
            return false;
        }
        let pairs = self.thumb.iter().zip(&other.thumb);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 <= MAX_LEVELS * (THUMB * THUMB) as f64
    }

    /// The bands of the hash, 9 or 10 bits each.
    fn bands(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..BANDS).map(|band| {
            let (start, end) = (band * 64 / BANDS, (band + 1) * 64 / BANDS);
            (band, self.hash >> start & ((1 << (end - start)) - 1))
        })
    }
}

fn clusters(prints: &[((usize, usize), Print)], sources: &[Source]) -> Vec<Cluster> {
    let mut leader: Vec<usize> = (0..prints.len()).collect();
    // Equal files first, so that the rest compares one of each.
    let mut first_of_file = HashMap::new();
    let mut distinct = Vec::new();
    for (place, (_, print)) in prints.iter().enumerate() {
        match first_of_file.entry(print.sha256) {
            std::collections::hash_map::Entry::Occupied(first) => {
                join(&mut leader, *first.get(), place);
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(place);
                distinct.push(place);
            }
        }
    }
    let mut buckets: HashMap<(u32, u64), Vec<usize>> = HashMap::new();
    for place in distinct {
        for band in prints[place].1.bands() {
            buckets.entry(band).or_default().push(place);
        }
    }
    let near: Vec<(usize, usize)> = buckets
        .par_iter()
        .flat_map_iter(|(_, places)| near_pairs(prints, places))
        .collect();
    for (a, b) in near {
        join(&mut leader, a, b);
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in 0..prints.len() {
        let first = find(&mut leader, place);
        members.entry(first).or_default().push(place);
    }
    let several = members.into_values().filter(|members| members.len() > 1);
    several.map(|m| cluster(prints, &m, sources)).collect()
}

/// Pairs that connect all near pictures among `places`; one fewer than there are pictures at most.
fn near_pairs(prints: &[((usize, usize), Print)], places: &[usize]) -> Vec<(usize, usize)> {
    let mut leader: Vec<usize> = (0..places.len()).collect();
    let mut pairs = Vec::new();
    for (i, a) in places.iter().enumerate() {
        for (j, b) in places.iter().enumerate().skip(i + 1) {
            let apart = find(&mut leader, i) != find(&mut leader, j);
            if apart && prints[*a].1.is_near(&prints[*b].1) {
                join(&mut leader, i, j);
                pairs.push((*a, *b));
            }
        }
    }
    pairs
}

fn cluster(prints: &[((usize, usize), Print)], members: &[usize], sources: &[Source]) -> Cluster {
    let first = prints[members[0]].1.sha256;
    let same = members.iter().all(|place| prints[*place].1.sha256 == first);
    let mut values: BTreeMap<(&str, usize), BTreeSet<BTreeSet<&str>>> = BTreeMap::new();
    for place in members {
        let (source, example) = prints[*place].0;
        let Source {
            config, examples, ..
        } = &sources[source];
        let labels = examples[example].labels.iter();
        for (column, value) in labels.filter(|(column, _)| config.is_answer(column)) {
            let said = value.split('|').map(str::trim).filter(|v| !v.is_empty());
            let of_source = values.entry((column, source)).or_default();
            of_source.insert(said.collect());
        }
    }
    let conflicting = values.into_iter().filter(|(_, said)| said.len() > 1);
    let conflicts: BTreeSet<&str> = conflicting.map(|((column, _), _)| column).collect();
    Cluster {
        members: members.iter().map(|place| prints[*place].0).collect(),
        likeness: match same {
            true => Likeness::SameFile,
            false => Likeness::NearIdentical,
        },
        conflicts: conflicts.into_iter().map(str::to_owned).collect(),
    }
}

impl Cluster {
    fn crosses(&self, sides: &[Vec<Side>]) -> bool {
        let mut of = self.members.iter().map(|(s, place)| sides[*s][*place]);
        let first = of.next();
        of.any(|side| Some(side) != first)
    }

    /// The members' places, sources and sides, for messages.
    fn told(&self, sources: &[Source], sides: &[Vec<Side>]) -> String {
        let member = |(s, place): &(usize, usize)| {
            let (source, side) = (&sources[*s], sides[*s][*place].name());
            let told = &source.examples[*place].place;
            format!("{told} of source {} ({side})", source.config.name)
        };
        let members: Vec<String> = self.members.iter().map(member).collect();
        members.join(", ")
    }
}

impl LeakReport {
    /// The clusters with members on more than one side; `sides` as [`super::split`] gives them, by source.
    pub fn crossing<'a>(&'a self, sides: &'a [Vec<Side>]) -> impl Iterator<Item = &'a Cluster> {
        let crosses = |cluster: &&Cluster| cluster.crosses(sides);
        self.clusters.iter().filter(crosses)
    }

    /// The clusters whose labels contradict each other.
    pub fn conflicting(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters
            .iter()
            .filter(|cluster| !cluster.conflicts.is_empty())
    }

    /// Pairs of places of one source that a split must keep together under `policy`, for [`super::split`].
    pub fn joined(&self, source: usize, policy: Duplicates) -> Vec<(usize, usize)> {
        if policy == Duplicates::Warn {
            return Vec::new();
        }
        let mut pairs = Vec::new();
        for cluster in &self.clusters {
            let mut places = cluster.members.iter().filter(|(s, _)| *s == source);
            if let Some((_, first)) = places.next() {
                pairs.extend(places.map(|(_, place)| (*first, *place)));
            }
        }
        pairs
    }

    /// Places of one source's sides train and val that nothing is learned from under `policy`: see [`Duplicates`]. `sides`
    /// holds those of all sources.
    pub fn left_out(
        &self,
        source: usize,
        policy: Duplicates,
        sides: &[Vec<Side>],
    ) -> HashSet<usize> {
        let is_left_out = |cluster: &&Cluster| match policy {
            Duplicates::Warn => false,
            Duplicates::Join => cluster.crosses(sides),
            Duplicates::DropConflicts => cluster.crosses(sides) || !cluster.conflicts.is_empty(),
        };
        let clusters = self.clusters.iter().filter(is_left_out);
        let of_cluster = |cluster: &Cluster| -> Vec<usize> {
            let side = |(s, place): &(usize, usize)| sides[*s][*place];
            let is_tested = cluster
                .members
                .iter()
                .any(|member| side(member) == Side::Test);
            let own = cluster.members.iter().filter(|(s, _)| *s == source);
            let own = own.filter(|member| match side(member) {
                Side::Train => true,
                Side::Val => is_tested,
                Side::Test => false,
            });
            own.map(|(_, place)| *place).collect()
        };
        clusters.flat_map(of_cluster).collect()
    }

    /// What a person should know before training: what is there more than once, what is left out under `policy`, the first
    /// ten clusters that cross a split and that contradict themselves, pictures that cannot be read, groups that two
    /// sources have on different sides.
    pub fn warnings(
        &self,
        sources: &[Source],
        sides: &[Vec<Side>],
        policy: Duplicates,
    ) -> Vec<String> {
        let mut lines = self.summary(sources, sides, policy);
        for (source, skipped) in sources.iter().zip(&self.skipped) {
            if skipped.total() > 0 {
                lines.push(format!(
                    "source {}: {} pictures cannot be read and were not compared: {}",
                    source.config.name,
                    skipped.total(),
                    skipped.first_places()
                ));
            }
        }
        for cluster in self.crossing(sides).take(MAX_TOLD) {
            let members = cluster.told(sources, sides);
            lines.push(format!("one picture on several sides: {members}"));
        }
        for cluster in self.conflicting().take(MAX_TOLD) {
            let (columns, members) = (cluster.conflicts.join(", "), cluster.told(sources, sides));
            lines.push(format!(
                "one picture with labels that contradict each other ({columns}): {members}"
            ));
        }
        lines
    }

    /// The counts among [`warnings`](Self::warnings), which name no picture.
    pub fn summary(
        &self,
        sources: &[Source],
        sides: &[Vec<Side>],
        policy: Duplicates,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let (crossing, all) = (self.crossing(sides).count(), self.clusters.len());
        let conflicting = self.conflicting().count();
        if all > 0 {
            let in_training = |source: usize| {
                let left_out = self.left_out(source, policy, sides).into_iter();
                left_out
                    .filter(|place| sides[source][*place] == Side::Train)
                    .count()
            };
            let left_out: usize = (0..sources.len()).map(in_training).sum();
            lines.push(format!(
                "{all} pictures are there more than once, {conflicting} of them with labels that contradict each other, \
                 {crossing} on more than one side of the split; {left_out} examples are left out of training for it"
            ));
        }
        lines.extend(groups_on_two_sides(sources, sides));
        lines
    }
}

/// A line for two sources that have groups of one name on different sides. They may be other patients who have the same
/// number by chance, so that nothing is done about it.
fn groups_on_two_sides(sources: &[Source], sides: &[Vec<Side>]) -> Vec<String> {
    let of_source = |(source, sides): (&Source, &Vec<Side>)| -> HashMap<String, Side> {
        let examples = source.examples.iter().zip(sides);
        let groups = examples.filter_map(|(e, side)| Some((e.group.clone()?, *side)));
        groups.collect()
    };
    let groups: Vec<HashMap<String, Side>> = sources.iter().zip(sides).map(of_source).collect();
    let mut lines = Vec::new();
    for (a, of_a) in groups.iter().enumerate() {
        for (b, of_b) in groups.iter().enumerate().skip(a + 1) {
            let differs = |group: &&String| of_b.get(*group).is_some_and(|s| *s != of_a[*group]);
            let count = of_a.keys().filter(differs).count();
            if count > 0 {
                lines.push(format!(
                    "sources {} and {}: {count} groups of the same name lie on different sides; where they are the same \
                     patients, put both into one manifest or name the sides in a column (split)",
                    sources[a].config.name, sources[b].config.name
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests;
