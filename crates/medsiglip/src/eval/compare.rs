//! Two encoders on the same pictures.

use super::doubt::LEVEL;
use super::measure::{Measured, Sample};
use super::report::{Comparison, Measure, Method, MethodReport};
use crate::Result;
use crate::metrics::{Samples, delong, holm};

/// Every two encoders by the same method: for the task as a whole, and for every question. Holm's correction is over all tests of a
/// method.
pub(super) fn comparisons(
    sample: &Sample,
    results: &[(MethodReport, Measured)],
) -> Result<Vec<Comparison>> {
    let mut all = Vec::new();
    for method in [Method::ZeroShot, Method::LinearProbe] {
        let own: Vec<_> = results
            .iter()
            .filter(|(report, _)| report.method == method)
            .collect();
        let mut of_method = Vec::new();
        for (first, (a, of_a)) in own.iter().enumerate() {
            for (b, of_b) in &own[first + 1..] {
                of_method.extend(compare(
                    sample,
                    method,
                    (&a.encoder, of_a),
                    (&b.encoder, of_b),
                )?);
            }
        }
        let known: Vec<f64> = of_method.iter().filter_map(|c: &Comparison| c.p).collect();
        let mut corrected = holm(&known)?.into_iter();
        for comparison in &mut of_method {
            comparison.p_holm = comparison.p.and_then(|_| corrected.next());
        }
        all.extend(of_method);
    }
    Ok(all)
}

fn compare(
    sample: &Sample,
    method: Method,
    (a, of_a): (&str, &Measured),
    (b, of_b): (&str, &Measured),
) -> Result<Vec<Comparison>> {
    let comparison = |question: &str, difference: &Samples, p: Option<f64>| -> Result<Comparison> {
        let difference = Measure::new("difference of AUROC", difference, None)?;
        Ok(Comparison {
            method,
            question: question.to_owned(),
            a: a.to_owned(),
            b: b.to_owned(),
            // What has no interval has no test.
            p: p.filter(|_| difference.estimate.is_some()),
            difference,
            p_holm: None,
        })
    };
    let mut comparisons = Vec::new();
    let pairs = of_a.columns.iter().zip(&of_b.columns);
    let says_nothing = pairs
        .clone()
        .any(|(a, b)| a.doubt.is_some() || b.doubt.is_some());
    if of_a.columns.len() > 1 && sample.truth.positive.is_empty() && !says_nothing {
        let difference = of_a.first.minus(&of_b.first)?;
        comparisons.push(comparison(
            "all together",
            &difference,
            difference.p_value(),
        )?);
    }
    // DeLong's test takes pictures as independent.
    let independent = sample.bootstrap.units() == sample.places.len();
    let items: Vec<usize> = (0..sample.places.len()).collect();
    for (number, (a, b)) in pairs.enumerate() {
        if a.doubt.is_some() || b.doubt.is_some() {
            continue;
        }
        let difference = of_a.samples[number]
            .roc_auc
            .minus(&of_b.samples[number].roc_auc)?;
        let p = match independent {
            true => {
                let ((first, positive), (second, _)) = (a.pick(&items), b.pick(&items));
                let areas = delong(&[&first, &second], &positive)?;
                let test = areas.map(|areas| areas.compare(0, 1, LEVEL)).transpose()?;
                test.flatten().map(|test| test.p_value)
            }
            false => difference.p_value(),
        };
        comparisons.push(comparison(&a.asked.name, &difference, p)?);
    }
    Ok(comparisons)
}
