//! Scores beside the truth to measures with intervals, curves with bands, and comparisons.

use super::report::{Band, Bin, Comparison, Measure, Method, Question, Stratum};
use super::truth::{Answers, Asked, Truth};
use crate::metrics::{
    Bins, Bootstrap, ConfusionMatrix, Ranking, RankingSamples, Resampling, Samples, brier_score,
    brier_score_multiclass, delong, expected_calibration_error, holm, reliability_curve, top_label,
};
use crate::{Error, Result};

/// Level of all intervals.
const LEVEL: f64 = 0.95;
/// Bins of the calibration error.
const BINS: Bins = Bins::EqualWidth(10);
/// Points of a curve.
const GRID: usize = 101;
/// Bootstrap samples behind a band.
const BAND_REPLICATES: usize = 500;
/// Specificity, or sensitivity, at which the other is told.
const OPERATING: f64 = 0.9;

/// A measure of scores and what is positive.
type OfScores = dyn Fn(&[f64], &[bool]) -> Result<Option<f64>> + Sync;

/// The measured pictures of a task.
pub struct Sample<'a> {
    truth: &'a Truth,
    places: &'a [usize],
    /// The group of each.
    groups: &'a [usize],
    how: Resampling<'a>,
    bootstrap: Bootstrap,
}

/// What a method's scores gave, and what a comparison needs of them.
pub struct Measured {
    /// Of the task as a whole.
    pub overall: Vec<Measure>,
    /// The questions behind it.
    pub questions: Vec<Question>,
    /// Pictures by truth and highest score.
    pub confusion: Option<Vec<Vec<usize>>>,
    scores: Vec<Vec<f64>>,
    samples: Vec<RankingSamples>,
    first: Samples,
    /// Why a question has no area.
    why: Vec<Option<String>>,
}

impl<'a> Sample<'a> {
    /// The pictures at `places`, of which those of one group stand or fall together.
    ///
    /// # Errors
    /// As of [`Bootstrap::new`].
    pub fn new(
        truth: &'a Truth,
        places: &'a [usize],
        groups: &'a [usize],
        replicates: usize,
        seed: u64,
    ) -> Result<Self> {
        let how = Resampling {
            groups: Some(groups),
            replicates,
            seed,
            ..Resampling::default()
        };
        Ok(Self {
            truth,
            places,
            groups,
            bootstrap: Bootstrap::new(places.len(), &how)?,
            how,
        })
    }

    fn answers(&self, asked: &Asked) -> Vec<Option<bool>> {
        let answers = self
            .places
            .iter()
            .map(|place| self.truth.answer(asked, *place));
        answers.collect()
    }

    /// Where all pictures with an answer have the same score, there is an area, of a half, and nothing in it.
    fn constant(&self, asked: &Asked, scores: &[f64]) -> Option<String> {
        let answers = self.answers(asked);
        let mut known = scores
            .iter()
            .zip(&answers)
            .filter_map(|(s, answer)| answer.map(|_| s));
        let first = known.next();
        known
            .all(|score| Some(score) == first)
            .then(|| "all scores are the same".to_owned())
    }

    /// The class of every picture, for classes.
    fn labels(&self) -> Option<Vec<usize>> {
        match &self.truth.of {
            Answers::Classes(classes) => self.places.iter().map(|place| classes[*place]).collect(),
            Answers::Findings(_) => None,
        }
    }

    /// Measures scores (N, C), row by row, each from 0 to 1.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a score is no number from 0 to 1, or their number is another.
    pub fn measure(&self, scores: &[f64]) -> Result<Measured> {
        let classes = self.truth.classes.len();
        if scores.len() != self.places.len() * classes {
            return Err(Error::BadArgument(format!(
                "scores: expected {} for {} pictures and {classes} classes, got {}",
                self.places.len() * classes,
                self.places.len(),
                scores.len()
            )));
        }
        let asked = self.truth.questions();
        let columns: Vec<Vec<f64>> = asked
            .iter()
            .map(|asked| column(asked, scores, classes))
            .collect();
        let rankings = asked.iter().zip(&columns);
        let rankings =
            rankings.map(|(asked, column)| Ranking::labelled(column, &self.answers(asked)));
        let rankings: Vec<Ranking> = rankings.collect::<Result<_>>()?;
        let samples = self.bootstrap.rankings(&rankings)?;
        let mut questions = Vec::new();
        for (number, asked) in asked.iter().enumerate() {
            questions.push(self.question(
                asked,
                &columns[number],
                &rankings[number],
                &samples[number],
            )?);
        }
        let mut overall = Vec::new();
        let pairs = questions.iter().zip(&columns);
        let why = pairs.zip(&asked).map(|((question, column), asked)| {
            no_area(question).or_else(|| self.constant(asked, column))
        });
        let why: Vec<Option<String>> = why.collect();
        let first = self.areas(&asked, &why, &samples, &mut overall)?;
        let mut confusion = None;
        if let Some(labels) = self.labels() {
            self.of_classes(&labels, scores, &mut overall)?;
            let decided = highest(scores, classes);
            let mut counts = vec![vec![0; classes]; classes];
            labels
                .iter()
                .zip(&decided)
                .for_each(|(truth, decided)| counts[*truth][*decided] += 1);
            confusion = Some(counts);
        }
        Ok(Measured {
            overall,
            questions,
            confusion,
            scores: columns,
            samples,
            first,
            why,
        })
    }

    /// The first overall measure, without an interval.
    ///
    /// # Errors
    /// As of [`Sample::measure`].
    pub fn first(&self, scores: &[f64]) -> Result<Option<f64>> {
        let classes = self.truth.classes.len();
        let asked = self.truth.questions();
        let quoted = match self.truth.positive.is_empty() {
            true => &asked[..],
            false => &asked[..1],
        };
        let area = |asked: &Asked| -> Result<Option<f64>> {
            let column = column(asked, scores, classes);
            if self.constant(asked, &column).is_some() {
                return Ok(None);
            }
            Ok(Ranking::labelled(&column, &self.answers(asked))?.roc_auc())
        };
        let areas: Option<Vec<f64>> = quoted.iter().map(area).collect::<Result<_>>()?;
        Ok(areas.map(|areas| areas.iter().sum::<f64>() / areas.len() as f64))
    }

    /// The areas of the task as a whole, the one to quote first; `why` a question has none.
    fn areas(
        &self,
        asked: &[Asked],
        why: &[Option<String>],
        samples: &[RankingSamples],
        overall: &mut Vec<Measure>,
    ) -> Result<Samples> {
        let together = !self.truth.positive.is_empty();
        let single = usize::from(together)..asked.len();
        let mut means = Vec::new();
        if together {
            overall.push(measure("AUROC", &samples[0].roc_auc, why[0].clone())?);
            overall.push(measure(
                "average precision",
                &samples[0].average_precision,
                why[0].clone(),
            )?);
        }
        if !single.is_empty() {
            let named = asked[single.clone()].iter().zip(&why[single.clone()]);
            let named =
                named.filter_map(|(asked, why)| Some(format!("{}: {}", asked.name, why.as_ref()?)));
            let missing = named.into_iter().next();
            let of: Vec<&Samples> = samples[single.clone()].iter().map(|s| &s.roc_auc).collect();
            let mean = Samples::mean(&of)?;
            overall.push(measure("macro AUROC", &mean, missing.clone())?);
            means.push(mean);
            let of: Vec<&Samples> = samples[single]
                .iter()
                .map(|s| &s.average_precision)
                .collect();
            overall.push(measure(
                "macro average precision",
                &Samples::mean(&of)?,
                missing,
            )?);
        }
        Ok(match together {
            true => samples[0].roc_auc.clone(),
            false => means.remove(0),
        })
    }

    /// What is decided, and how good shares of classes are as probabilities.
    fn of_classes(
        &self,
        labels: &[usize],
        scores: &[f64],
        overall: &mut Vec<Measure>,
    ) -> Result<()> {
        let classes = self.truth.classes.len();
        let decided = highest(scores, classes);
        let mut add = |name: &str,
                       of: &(dyn Fn(&ConfusionMatrix) -> Option<f64> + Sync)|
         -> Result<()> {
            let samples = self.bootstrap.measure(|items| {
                let pick =
                    |of: &[usize]| -> Vec<usize> { items.iter().map(|item| of[*item]).collect() };
                Ok(of(&ConfusionMatrix::new(
                    &pick(labels),
                    &pick(&decided),
                    classes,
                )?))
            })?;
            overall.push(measure(name, &samples, None)?);
            Ok(())
        };
        add("accuracy", &ConfusionMatrix::accuracy)?;
        add("balanced accuracy", &ConfusionMatrix::balanced_accuracy)?;
        add("macro F1", &|matrix| matrix.mean(ConfusionMatrix::f1))?;
        add("Cohen's kappa", &ConfusionMatrix::cohen_kappa)?;
        if self.truth.ordered {
            add("quadratic kappa", &ConfusionMatrix::quadratic_kappa)?;
        }
        let (top, right) = top_label(scores, labels, classes)?;
        let pick = |items: &[usize]| -> (Vec<f64>, Vec<bool>) {
            items.iter().map(|i| (top[*i], right[*i])).unzip()
        };
        let ece = self.bootstrap.measure(|items| {
            let (top, right) = pick(items);
            expected_calibration_error(&top, &right, BINS)
        })?;
        overall.push(measure(
            "ECE of the highest score, 10 equal bins",
            &ece,
            None,
        )?);
        let brier = self.bootstrap.measure(|items| {
            let rows = items
                .iter()
                .flat_map(|i| &scores[i * classes..(i + 1) * classes])
                .copied();
            let labels: Vec<usize> = items.iter().map(|i| labels[*i]).collect();
            brier_score_multiclass(&rows.collect::<Vec<_>>(), &labels, classes)
        })?;
        overall.push(measure("Brier score", &brier, None)?);
        Ok(())
    }

    fn question(
        &self,
        asked: &Asked,
        scores: &[f64],
        ranking: &Ranking,
        samples: &RankingSamples,
    ) -> Result<Question> {
        let answers = self.answers(asked);
        let known: Vec<usize> = (0..answers.len())
            .filter(|i| answers[*i].is_some())
            .collect();
        let pick = |items: &[usize]| -> (Vec<f64>, Vec<bool>) {
            items
                .iter()
                .filter_map(|i| Some((scores[*i], answers[*i]?)))
                .unzip()
        };
        let (of_known, positive) = pick(&known);
        let mut question = Question {
            name: asked.name.clone(),
            positives: ranking.positives(),
            negatives: ranking.negatives(),
            measures: Vec::new(),
            roc: Band::default(),
            precision_recall: Band::default(),
            reliability: Vec::new(),
        };
        let missing = no_area(&question);
        let note = missing.clone().or_else(|| self.constant(asked, scores));
        let add = |name: &str, of: &OfScores| -> Result<Measure> {
            let samples = self.bootstrap.measure(|items| {
                let (scores, positive) = pick(items);
                of(&scores, &positive)
            })?;
            measure(name, &samples, note.clone())
        };
        question.measures = vec![
            measure("AUROC", &samples.roc_auc, note.clone())?,
            measure(
                "average precision",
                &samples.average_precision,
                note.clone(),
            )?,
            add("sensitivity at 90 % specificity", &|scores, positive| {
                let point =
                    Ranking::new(scores, positive)?.sensitivity_at_specificity(OPERATING)?;
                Ok(point.map(|point| point.sensitivity))
            })?,
            add("specificity at 90 % sensitivity", &|scores, positive| {
                let point =
                    Ranking::new(scores, positive)?.specificity_at_sensitivity(OPERATING)?;
                Ok(point.map(|point| point.specificity))
            })?,
            add("Brier score", &|scores, positive| {
                brier_score(scores, positive)
            })?,
            add("ECE, 10 equal bins", &|scores, positive| {
                expected_calibration_error(scores, positive, BINS)
            })?,
        ];
        if missing.is_none() {
            (question.roc, question.precision_recall) = self.curves(&pick)?;
            let bins = reliability_curve(&of_known, &positive, Bins::EqualMass(10))?;
            question.reliability = bins
                .into_iter()
                .map(|bin| Bin {
                    score: bin.predicted,
                    share: bin.observed,
                    images: bin.count,
                })
                .collect();
        }
        Ok(question)
    }

    /// Both curves at even steps, and where they lie in 95 of 100 samples.
    fn curves(
        &self,
        pick: &(impl Fn(&[usize]) -> (Vec<f64>, Vec<bool>) + Sync),
    ) -> Result<(Band, Band)> {
        let at = |items: &[usize]| {
            let (scores, positive) = pick(items);
            let ranking = Ranking::new(&scores, &positive)?;
            Ok(roc_at(&ranking).zip(precision_at(&ranking)))
        };
        let few = Resampling {
            replicates: self.how.replicates.min(BAND_REPLICATES),
            ..self.how
        };
        let all: Vec<usize> = (0..self.places.len()).collect();
        let Some((roc, precision)) = at(&all)? else {
            return Ok(Default::default());
        };
        let drawn = Bootstrap::new(self.places.len(), &few)?.each(at)?;
        let (rocs, precisions): (Vec<_>, Vec<_>) = drawn.into_iter().flatten().unzip();
        Ok((band(roc, &rocs), band(precision, &precisions)))
    }

    /// The first overall measure of the pictures with each value of a column.
    ///
    /// # Errors
    /// As of [`Sample::measure`].
    pub fn strata(
        &self,
        column: &str,
        values: &[Option<String>],
        scores: &[f64],
    ) -> Result<Vec<Stratum>> {
        let classes = self.truth.classes.len();
        let mut known: Vec<&String> = values.iter().flatten().collect();
        known.sort();
        known.dedup();
        let mut strata = Vec::new();
        for value in known {
            let items: Vec<usize> = (0..values.len())
                .filter(|i| values[*i].as_ref() == Some(value))
                .collect();
            let places: Vec<usize> = items.iter().map(|i| self.places[*i]).collect();
            let groups: Vec<usize> = items.iter().map(|i| self.groups[*i]).collect();
            let scores: Vec<f64> = items
                .iter()
                .flat_map(|i| &scores[i * classes..(i + 1) * classes])
                .copied()
                .collect();
            let sample = Sample::new(
                self.truth,
                &places,
                &groups,
                self.how.replicates,
                self.how.seed,
            )?;
            let measured = sample.measure(&scores)?;
            strata.push(Stratum {
                column: column.to_owned(),
                value: value.clone(),
                images: items.len(),
                measure: measured
                    .overall
                    .into_iter()
                    .next()
                    .expect("there is always a first one"),
            });
        }
        Ok(strata)
    }

    /// Whether `a` is better than `b`, for the task and for each question.
    ///
    /// # Errors
    /// As of [`delong`].
    pub fn compare(
        &self,
        method: Method,
        a: (&str, &Measured),
        b: (&str, &Measured),
    ) -> Result<Vec<Comparison>> {
        let alone = self.bootstrap.units() == self.places.len();
        let asked = self.truth.questions();
        let mut comparisons = Vec::new();
        for (number, asked) in asked.iter().enumerate() {
            let answers = self.answers(asked);
            let known: Vec<usize> = (0..answers.len())
                .filter(|i| answers[*i].is_some())
                .collect();
            let positive: Vec<bool> = known.iter().filter_map(|i| answers[*i]).collect();
            let pick = |measured: &Measured| -> Vec<f64> {
                known.iter().map(|i| measured.scores[number][*i]).collect()
            };
            if a.1.why[number].is_some() || b.1.why[number].is_some() {
                continue;
            }
            let difference = a.1.samples[number]
                .roc_auc
                .minus(&b.1.samples[number].roc_auc)?;
            // DeLong's test takes pictures as independent.
            let p = match alone {
                true => delong(&[&pick(a.1), &pick(b.1)], &positive)?
                    .map(|areas| areas.compare(0, 1, LEVEL))
                    .transpose()?
                    .flatten()
                    .map(|c| c.p_value),
                false => difference.p_value(),
            };
            comparisons.push(comparison(method, &asked.name, a.0, b.0, &difference, p)?);
        }
        let known: Vec<f64> = comparisons.iter().filter_map(|c| c.p).collect();
        let mut corrected = holm(&known)?.into_iter();
        for comparison in &mut comparisons {
            comparison.p_holm = comparison.p.and_then(|_| corrected.next());
        }
        if comparisons.len() == asked.len() && asked.len() > 1 && self.truth.positive.is_empty() {
            let difference = a.1.first.minus(&b.1.first)?;
            comparisons.insert(
                0,
                comparison(
                    method,
                    "all together",
                    a.0,
                    b.0,
                    &difference,
                    difference.p_value(),
                )?,
            );
        }
        Ok(comparisons)
    }
}

/// The scores of a question: those of its classes together.
fn column(asked: &Asked, scores: &[f64], classes: usize) -> Vec<f64> {
    let together = |row: &[f64]| asked.classes.iter().map(|class| row[*class]).sum::<f64>();
    // Shares of classes are at most 1, but for rounding.
    scores
        .chunks_exact(classes)
        .map(|row| together(row).min(1.0))
        .collect()
}

fn comparison(
    method: Method,
    question: &str,
    a: &str,
    b: &str,
    difference: &Samples,
    p: Option<f64>,
) -> Result<Comparison> {
    Ok(Comparison {
        method,
        question: question.to_owned(),
        a: a.to_owned(),
        b: b.to_owned(),
        difference: difference.estimate(LEVEL)?,
        p,
        p_holm: None,
    })
}

fn measure(name: &str, samples: &Samples, missing: Option<String>) -> Result<Measure> {
    let estimate = match &missing {
        // Where all scores are the same there is an area, of a half, and nothing to trust in it.
        Some(_) => None,
        None => samples.estimate(LEVEL)?,
    };
    Ok(Measure {
        name: name.to_owned(),
        missing: match estimate {
            Some(_) => None,
            None => Some(missing.unwrap_or_else(|| "it has no value on these pictures".into())),
        },
        estimate,
    })
}

/// Why a question has no area.
fn no_area(question: &Question) -> Option<String> {
    match (question.positives, question.negatives) {
        (0, 0) => Some("no picture is labelled".into()),
        (0, _) => Some("no picture is positive".into()),
        (_, 0) => Some("every picture is positive".into()),
        _ => None,
    }
}

/// The class with the highest score of each picture; of equal ones the first.
fn highest(scores: &[f64], classes: usize) -> Vec<usize> {
    let best = |row: &[f64]| {
        (1..classes).fold(
            0,
            |best, class| if row[class] > row[best] { class } else { best },
        )
    };
    scores.chunks_exact(classes).map(best).collect()
}

/// Sensitivity at even steps of 1 - specificity, on straight lines between the curve's points.
fn roc_at(ranking: &Ranking) -> Option<Vec<f64>> {
    let curve = ranking.roc_curve()?;
    let (x, y) = (&curve.false_positive_rate, &curve.true_positive_rate);
    let at = |step: usize| {
        let wanted = step as f64 / (GRID - 1) as f64;
        // Of several points above one another, the highest: it is the last.
        let next = x.partition_point(|x| *x <= wanted);
        if next == x.len() {
            return y[next - 1];
        }
        let share = (wanted - x[next - 1]) / (x[next] - x[next - 1]);
        y[next - 1] + share * (y[next] - y[next - 1])
    };
    Some((0..GRID).map(at).collect())
}

/// Precision at even steps of recall: that of the first point which reaches it.
fn precision_at(ranking: &Ranking) -> Option<Vec<f64>> {
    let curve = ranking.precision_recall_curve()?;
    let at = |step: usize| {
        let wanted = step as f64 / (GRID - 1) as f64;
        let first = curve.recall.partition_point(|recall| *recall < wanted);
        curve.precision[first.min(curve.precision.len() - 1)]
    };
    Some((0..GRID).map(at).collect())
}

fn band(y: Vec<f64>, drawn: &[Vec<f64>]) -> Band {
    let tail = (1.0 - LEVEL) / 2.0;
    let quantile = |step: usize, share: f64| {
        let mut values: Vec<f64> = drawn.iter().map(|curve| curve[step]).collect();
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().saturating_sub(1) as f64;
        values
            .get((share * last).round() as usize)
            .copied()
            .unwrap_or(y[step])
    };
    Band {
        x: (0..GRID)
            .map(|step| step as f64 / (GRID - 1) as f64)
            .collect(),
        low: (0..GRID).map(|step| quantile(step, tail)).collect(),
        high: (0..GRID).map(|step| quantile(step, 1.0 - tail)).collect(),
        y,
    }
}
