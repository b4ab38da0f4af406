//! Scores of a slide from those of its tiles.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use medsiglip::zero_shot::ClassScore;
use serde::Serialize;

use crate::inputs::{Item, SourceFile};

/// The scores of a slide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlideSummary {
    /// The path.
    pub id: String,
    /// How many tiles have scores.
    pub tiles: usize,
    /// How many of the highest scores a top-k mean is over, at most.
    pub top_k: usize,
    /// For every class.
    pub scores: Vec<ClassSummary>,
}

/// The scores of a slide for one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassSummary {
    /// The class.
    pub label: String,
    /// Of the cosines, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<Spread>,
    /// Of the sigmoids.
    pub probability: Spread,
    /// Of the softmax shares.
    pub softmax: Spread,
}

/// What the scores of a slide's tiles come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Of all tiles.
    pub mean: f32,
    /// Of the k highest; of all where there are fewer.
    pub top_k_mean: f32,
    /// The highest.
    pub max: f32,
}

/// Sums up slide after slide.
pub struct Summaries {
    top_k: usize,
    slide: Option<Slide>,
}

/// The slide whose tiles come.
struct Slide {
    file: Arc<SourceFile>,
    tiles: usize,
    /// By class: probabilities, shares and, where there are any, cosines.
    classes: Vec<(String, [Running; 2], Option<Running>)>,
}

impl Summaries {
    /// Sums of slides, with means of the `top_k` highest.
    pub fn new(top_k: usize) -> Self {
        Self { top_k, slide: None }
    }

    /// Takes the scores of a tile; gives the summary of the slide before, where another begins.
    pub fn add(&mut self, item: &Item, scores: &[ClassScore]) -> Option<SlideSummary> {
        let Item::Image(source) = item else {
            return None;
        };
        source.tile()?;
        let is_same = |slide: &Slide| Arc::ptr_eq(&slide.file, &source.file);
        let before = match self.slide.as_ref().is_some_and(is_same) {
            true => None,
            false => self.end(),
        };
        let slide = self.slide.get_or_insert_with(|| Slide {
            file: Arc::clone(&source.file),
            tiles: 0,
            classes: scores
                .iter()
                .map(|s| {
                    let cosine = s.cosine.map(|_| Running::default());
                    (s.label.clone(), Default::default(), cosine)
                })
                .collect(),
        });
        slide.tiles += 1;
        for ((_, running, cosine), score) in slide.classes.iter_mut().zip(scores) {
            let values = [Some(score.probability), Some(score.softmax), score.cosine];
            let running = running.iter_mut().chain(cosine);
            for (running, value) in running.zip(values.into_iter().flatten()) {
                running.add(value, self.top_k);
            }
        }
        before
    }

    /// The summary of the last slide.
    pub fn end(&mut self) -> Option<SlideSummary> {
        let Slide {
            file,
            tiles,
            classes,
        } = self.slide.take()?;
        let class = |(label, running, cosine): (String, [Running; 2], Option<Running>)| {
            let [probability, softmax] = running.map(|running| running.spread(tiles));
            ClassSummary {
                label,
                cosine: cosine.map(|running| running.spread(tiles)),
                probability,
                softmax,
            }
        };
        Some(SlideSummary {
            id: file.path.to_string_lossy().into_owned(),
            tiles,
            top_k: self.top_k,
            scores: classes.into_iter().map(class).collect(),
        })
    }
}

/// One score of the tiles so far.
#[derive(Default)]
struct Running {
    sum: f64,
    /// The highest, the lowest of them on top.
    highest: BinaryHeap<Reverse<Total>>,
}

impl Running {
    fn add(&mut self, value: f32, top_k: usize) {
        self.sum += f64::from(value);
        self.highest.push(Reverse(Total(value)));
        if self.highest.len() > top_k {
            self.highest.pop();
        }
    }

    fn spread(self, count: usize) -> Spread {
        let highest = self.highest.into_sorted_vec();
        let sum: f64 = highest.iter().map(|Reverse(Total(x))| f64::from(*x)).sum();
        Spread {
            mean: (self.sum / count.max(1) as f64) as f32,
            top_k_mean: (sum / highest.len().max(1) as f64) as f32,
            max: highest.first().map_or(f32::NAN, |Reverse(Total(x))| *x),
        }
    }
}

/// A number in the total order of IEEE 754.
#[derive(Clone, Copy)]
struct Total(f32);

impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Total {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_maxima() {
        let spread = |values: &[f32], top_k| {
            let mut running = Running::default();
            values.iter().for_each(|x| running.add(*x, top_k));
            running.spread(values.len())
        };
        let expected = |mean, top_k_mean, max| Spread {
            mean,
            top_k_mean,
            max,
        };
        assert_eq!(spread(&[1.0, 4.0, -2.0, 3.0], 2), expected(1.5, 3.5, 4.0));
        assert_eq!(spread(&[0.25, 0.75], 10), expected(0.5, 0.5, 0.75));
        assert_eq!(spread(&[-1.0], 1), expected(-1.0, -1.0, -1.0));
    }
}
