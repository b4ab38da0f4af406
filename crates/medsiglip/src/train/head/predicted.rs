//! [`Predicted`]: what a classifier says of held-out pictures, measured.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;
use crate::config::{ClassKind, Classes};
use crate::metrics::{Bootstrap, Estimate, Ranking, RankingSamples, Samples};
use crate::train::truth::Known;
use crate::train::validate::{LEVEL, TaskResult, by_groups};

/// What a classifier says of some examples, and what is true.
#[derive(Default)]
pub(super) struct Predicted {
    /// (n, C): probabilities.
    pub shares: Vec<Vec<f64>>,
    /// (n, C).
    pub truth: Vec<Known>,
    /// (n): source and place.
    pub examples: Vec<(usize, usize)>,
}

impl Predicted {
    /// All classes together, then each; intervals over whole groups.
    pub fn results(
        &self,
        Classes { kind, labels }: &Classes,
        groups: &[usize],
    ) -> Result<Vec<TaskResult>> {
        let bootstrap = by_groups(groups)?;
        let classes = 0..labels.len();
        let rankings = classes.clone().map(|class| self.ranking(class));
        let samples = bootstrap.rankings(&rankings.collect::<Result<Vec<_>>>()?)?;
        // A class that all or none have on this side has no AUROC; in every sample the mean is over the same classes.
        let judged: Vec<&Samples> = samples
            .iter()
            .map(|RankingSamples { roc_auc, .. }| roc_auc)
            .filter(|samples| samples.value.is_some())
            .collect();
        let measure = match judged.len() == labels.len() {
            true => "macro AUROC".into(),
            false => format!(
                "macro AUROC of {} of {} classes",
                judged.len(),
                labels.len()
            ),
        };
        let all = TaskResult {
            task: "all classes".into(),
            images: self.shares.len(),
            measure,
            auroc: match judged.is_empty() {
                true => None,
                false => Samples::mean(&judged)?.estimate(LEVEL)?,
            },
            accuracy: self.accuracies(&bootstrap, *kind, classes.clone())?,
        };
        let of_class = |class: usize| {
            Ok(TaskResult {
                task: labels[class].clone(),
                images: self.truth.iter().filter(|row| row[class].is_some()).count(),
                measure: "AUROC".into(),
                auroc: samples[class].roc_auc.estimate(LEVEL)?,
                accuracy: match kind {
                    // Of one class there is none where another may be right in its place.
                    ClassKind::Multiclass => None,
                    ClassKind::Multilabel => {
                        self.accuracies(&bootstrap, *kind, class..class + 1)?
                    }
                },
            })
        };
        let each: Vec<_> = classes
            .into_par_iter()
            .map(of_class)
            .collect::<Result<_>>()?;
        Ok([vec![all], each].concat())
    }

    /// Against all others, of the items of which it is known.
    fn ranking(&self, class: usize) -> Result<Ranking> {
        let scores: Vec<f64> = self.shares.iter().map(|row| row[class]).collect();
        let positive: Vec<Option<bool>> = self.truth.iter().map(|row| row[class]).collect();
        Ranking::labelled(&scores, &positive)
    }

    fn accuracies(
        &self,
        bootstrap: &Bootstrap,
        kind: ClassKind,
        classes: Range<usize>,
    ) -> Result<Option<Estimate>> {
        let accuracy = |at: &[usize]| Ok(self.accuracy(at, kind, classes.clone()));
        bootstrap.measure(accuracy)?.estimate(LEVEL)
    }

    /// The share of items whose class is the likeliest; or of known cells on whose side of one half the probability is.
    fn accuracy(&self, at: &[usize], kind: ClassKind, classes: Range<usize>) -> Option<f64> {
        let (mut right, mut all) = (0usize, 0usize);
        for (shares, truth) in at.iter().map(|i| (&self.shares[*i], &self.truth[*i])) {
            for class in classes.clone() {
                let Some(has) = truth[class] else { continue };
                match kind {
                    ClassKind::Multilabel => {
                        all += 1;
                        right += usize::from((shares[class] > 0.5) == has);
                    }
                    ClassKind::Multiclass if has => {
                        all += 1;
                        let mut others = shares.iter().enumerate().filter(|(i, _)| *i != class);
                        right += usize::from(others.all(|(_, share)| *share < shares[class]));
                    }
                    ClassKind::Multiclass => {}
                }
            }
        }
        (all > 0).then(|| right as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [usize; 4] = [0, 1, 2, 3];

    fn predicted(shares: [[f64; 3]; 4], truth: [[Option<bool>; 3]; 4]) -> Predicted {
        Predicted {
            shares: shares.map(Vec::from).into(),
            truth: truth.map(Vec::from).into(),
            examples: GROUPS.map(|i| (0, i)).into(),
        }
    }

    fn classes(kind: ClassKind) -> Classes {
        Classes {
            kind,
            labels: ["a", "b", "c"].map(Into::into).into(),
        }
    }

    #[test]
    fn what_nobody_knows_counts_for_nothing() {
        let (yes, no) = (Some(true), Some(false));
        let shares = [
            [0.9, 0.2, 0.4],
            [0.8, 0.6, 0.7],
            [0.7, 0.9, 0.1],
            [0.1, 0.8, 0.2],
        ];
        let truth = [
            [yes, no, no],
            [None, yes, no],
            [no, yes, None],
            [yes, yes, no],
        ];
        let results = predicted(shares, truth)
            .results(&classes(ClassKind::Multilabel), &GROUPS)
            .unwrap();
        let value = |estimate: Option<Estimate>| estimate.map(|e| e.value);
        // Of a: one of two pairs is right. Of b: all three. Of c nobody has it.
        let aurocs: Vec<_> = results.iter().map(|r| value(r.auroc)).collect();
        assert_eq!(aurocs, [Some(0.75), Some(0.5), Some(1.0), None]);
        assert_eq!(results[0].measure, "macro AUROC of 2 of 3 classes");
        let accuracies: Vec<_> = results.iter().map(|r| value(r.accuracy)).collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            accuracies,
            [Some(0.7), Some(third), Some(1.0), Some(2.0 * third)]
        );
        let images: Vec<_> = results.iter().map(|r| r.images).collect();
        assert_eq!(images, [4, 3, 4, 3]);
    }

    #[test]
    fn the_likeliest_of_several_classes_is_the_answer_and_a_tie_is_none() {
        let third = 1.0 / 3.0;
        let shares = [
            [0.8, 0.1, 0.1],
            [0.2, 0.5, 0.3],
            [0.5, 0.2, 0.3],
            [third; 3],
        ];
        let right = [0, 1, 2, 0];
        let truth = right.map(|class| [0, 1, 2].map(|c| Some(c == class)));
        let results = predicted(shares, truth)
            .results(&classes(ClassKind::Multiclass), &GROUPS)
            .unwrap();
        assert_eq!(results[0].accuracy.unwrap().value, 0.5);
        assert!(results[1..].iter().all(|r| r.accuracy.is_none()));
        assert_eq!(results[0].measure, "macro AUROC");
    }
}
