//! Tables of a [`Report`]: for people (Markdown and the page), and all numbers in long form (CSV).

use super::report::{
    Comparison, DataPoint, Measure, Method, MethodReport, Published, Report, TaskReport,
};
use crate::metrics::Estimate;
use crate::{Error, Result};

/// A table for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Its columns.
    pub header: Vec<String>,
    /// Its cells, as many in each row as there are columns; the first is what the row is about.
    pub rows: Vec<Vec<String>>,
}

/// How numbers are to be read.
pub const READING: &str = "The bootstrap draws calibration errors (ECE) upwards, the more the fewer pictures there are: their intervals lie too high.";

/// What stands where there is no number.
const NONE: &str = "–";

impl Table {
    fn new(caption: impl Into<String>, header: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            header: header.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// As GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let plain = |cell: &String| cell.replace('|', "\\|").replace(['\r', '\n'], " ");
            let cells: Vec<String> = cells.iter().map(plain).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!("{}\n\n{}|", self.caption, line(&self.header));
        text += &"---|".repeat(self.header.len());
        text.push('\n');
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

/// The first measure of every task by encoder and method, beside what was published.
pub fn summary(report: &Report) -> Table {
    let mut columns: Vec<(String, Method)> = Vec::new();
    let mut theirs: Vec<(String, Method)> = Vec::new();
    for task in &report.tasks {
        let own = task.results.iter().map(|r| (r.encoder.clone(), r.method));
        let published = task.published.iter().map(|p| (p.encoder.clone(), p.method));
        own.for_each(|one| add(&mut columns, one));
        published.for_each(|one| add(&mut theirs, one));
    }
    let mut table = Table::new("AUROC with 95 % intervals", &["task", "pictures"]);
    table.header.extend(
        columns
            .iter()
            .map(|(encoder, method)| format!("{encoder}, {}", method.title())),
    );
    table.header.extend(
        theirs.iter().map(|(encoder, method)| {
            format!("{encoder}, {} (published, other data)", method.title())
        }),
    );
    for task in &report.tasks {
        let mut row = vec![task.name.clone(), task.images.to_string()];
        for (encoder, method) in &columns {
            let own = task
                .results
                .iter()
                .find(|r| r.encoder == *encoder && r.method == *method);
            row.push(cell(own.and_then(|own| own.overall.first())));
        }
        for (encoder, method) in &theirs {
            let whole = |p: &&Published| {
                p.encoder == *encoder && p.method == *method && p.question.is_empty()
            };
            let found = task.published.iter().find(whole);
            row.push(found.map_or(NONE.into(), |found| format!("{:.3}", found.auroc)));
        }
        table.rows.push(row);
    }
    table
}

fn add(to: &mut Vec<(String, Method)>, one: (String, Method)) {
    if !to.contains(&one) {
        to.push(one);
    }
}

/// The tables of one task, each with rows.
pub fn of_task(task: &TaskReport) -> Vec<Table> {
    let mut tables = vec![counts(task), overall(task)];
    for result in &task.results {
        tables.push(questions(task, result));
    }
    tables.extend([
        strata(task),
        comparisons(&task.comparisons),
        data_curves(task),
    ]);
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn counts(task: &TaskReport) -> Table {
    let header = ["class", "train", "val", "test (measured)"];
    let mut table = Table::new(format!("{}: pictures of each class", task.name), &header);
    for (class, counts) in task.classes.iter().zip(&task.counts) {
        let mut row = vec![class.clone()];
        row.extend(counts.map(|count| count.to_string()));
        table.rows.push(row);
    }
    table
}

fn overall(task: &TaskReport) -> Table {
    let mut table = Table::new(format!("{}: all measures", task.name), &["measure"]);
    table.header.extend(
        task.results
            .iter()
            .map(|r| format!("{}, {}", r.encoder, r.method.title())),
    );
    let Some(first) = task.results.first() else {
        return table;
    };
    for (number, measure) in first.overall.iter().enumerate() {
        let mut row = vec![measure.name.clone()];
        row.extend(
            task.results
                .iter()
                .map(|result| cell(result.overall.get(number))),
        );
        table.rows.push(row);
    }
    table
}

fn questions(task: &TaskReport, result: &MethodReport) -> Table {
    let caption = format!(
        "{}, {}, {}: each class or finding",
        task.name,
        result.encoder,
        result.method.title()
    );
    let mut table = Table::new(caption, &["", "positive", "negative"]);
    let names = result
        .questions
        .first()
        .map(|q| q.measures.iter().map(|m| m.name.clone()));
    table.header.extend(names.into_iter().flatten());
    for question in &result.questions {
        let mut row = vec![
            question.name.clone(),
            question.positives.to_string(),
            question.negatives.to_string(),
        ];
        row.extend(question.measures.iter().map(|measure| cell(Some(measure))));
        table.rows.push(row);
    }
    let same = |p: &&Published| p.method == result.method && !p.question.is_empty();
    let theirs: Vec<&Published> = task.published.iter().filter(same).collect();
    let mut encoders: Vec<&String> = theirs.iter().map(|p| &p.encoder).collect();
    encoders.dedup_by(|a, b| a == b);
    encoders.sort();
    encoders.dedup();
    for encoder in encoders {
        table
            .header
            .push(format!("AUROC of {encoder} (published, other data)"));
        for row in &mut table.rows {
            let found = theirs
                .iter()
                .find(|p| p.encoder == *encoder && p.question == row[0]);
            row.push(found.map_or(NONE.into(), |found| format!("{:.3}", found.auroc)));
        }
    }
    table
}

fn strata(task: &TaskReport) -> Table {
    let header = ["pictures with", "pictures", "encoder", "measure", ""];
    let mut table = Table::new(format!("{}: by groups of pictures", task.name), &header);
    for result in &task.results {
        for stratum in &result.strata {
            table.rows.push(vec![
                format!("{} = {}", stratum.column, stratum.value),
                stratum.images.to_string(),
                format!("{}, {}", result.encoder, result.method.title()),
                stratum.measure.name.clone(),
                cell(Some(&stratum.measure)),
            ]);
        }
    }
    table
}

fn comparisons(all: &[Comparison]) -> Table {
    let header = [
        "question",
        "method",
        "encoders",
        "difference of AUROC",
        "p",
        "p (Holm)",
    ];
    let mut table = Table::new(
        "Two encoders on the same pictures: p by DeLong's test, or by the paired bootstrap where patients have several pictures; Holm's correction over all tests of a method",
        &header,
    );
    let number = |p: Option<f64>| {
        p.map_or(NONE.to_owned(), |p| match p < 0.001 {
            true => "< 0.001".into(),
            false => format!("{p:.3}"),
        })
    };
    for one in all {
        table.rows.push(vec![
            one.question.clone(),
            one.method.title().into(),
            format!("{} less {}", one.a, one.b),
            one.difference
                .estimate
                .map_or_else(|| cell(Some(&one.difference)), |e| signed(&e)),
            number(one.p),
            number(one.p_holm),
        ]);
    }
    table
}

fn data_curves(task: &TaskReport) -> Table {
    let mut table = Table::new(
        format!(
            "{}: AUROC of a linear probe by the pictures that it learned from, mean (worst to best of the repeats), each tuned on all {} pictures of the validation side",
            task.name,
            task.data_curves.first().map_or(0, |curve| curve.tuned_on)
        ),
        &["pictures"],
    );
    table
        .header
        .extend(task.data_curves.iter().map(|curve| curve.encoder.clone()));
    let Some(first) = task.data_curves.first() else {
        return table;
    };
    for (number, point) in first.points.iter().enumerate() {
        let mut row = vec![format!("{:.0}", point.size)];
        row.extend(
            task.data_curves
                .iter()
                .map(|curve| curve.points.get(number).map_or(NONE.into(), point_cell)),
        );
        table.rows.push(row);
    }
    table
}

fn point_cell(point: &DataPoint) -> String {
    let Some(of) = point.auroc else {
        return NONE.into();
    };
    let mut cell = format!("{:.3} ({:.3} to {:.3})", of.mean, of.worst, of.best);
    for (count, what) in [
        (point.without_value, "repeats had no value"),
        (point.fits.not_chosen, "with C not chosen"),
        (point.fits.not_converged, "NOT CONVERGED"),
        (
            point.fits.not_converged_in_choice,
            "not converged in the choice of C",
        ),
    ] {
        if count > 0 {
            cell += &format!("; {count} {what}");
        }
    }
    cell
}

/// A measure in a cell: a number with its interval, or why there is none, or no interval.
pub fn cell(measure: Option<&Measure>) -> String {
    match measure {
        None => NONE.into(),
        Some(Measure {
            estimate: Some(estimate),
            ..
        }) => plain(estimate),
        Some(Measure { alone, missing, .. }) => {
            let why = missing.as_deref().unwrap_or("no value");
            match alone {
                Some(value) => format!("{value:.3} (no interval: {why})"),
                None => format!("{NONE} ({why})"),
            }
        }
    }
}

fn plain(e: &Estimate) -> String {
    let interval = format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high);
    match e.without_value {
        0 => interval,
        some => format!("{interval} ({some} samples had none)"),
    }
}

fn signed(e: &Estimate) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", e.value, e.low, e.high)
}

/// Every measure in long form, as CSV.
///
/// # Errors
/// Never, but for a bug of the writer.
pub fn long(report: &Report) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "task",
        "encoder",
        "method",
        "about",
        "positives",
        "negatives",
        "measure",
        "value",
        "low",
        "high",
        "samples_without_value",
        "missing",
        "notice",
    ];
    let failed = |e: csv::Error| Error::BadArgument(format!("table: {e}"));
    writer.write_record(header).map_err(failed)?;
    for task in &report.tasks {
        for result in &task.results {
            for row in long_rows(result) {
                let of = [&task.name, &result.encoder].map(String::as_str);
                let row = row.iter().map(String::as_str);
                let method = std::iter::once(result.method.title());
                let record = of.into_iter().chain(method).chain(row);
                let record = record.chain([report.notice.as_str()]);
                writer.write_record(record).map_err(failed)?;
            }
        }
    }
    writer
        .into_inner()
        .map_err(|e| Error::BadArgument(format!("table: {e}")))
}

/// The columns from `about` on.
fn long_rows(result: &MethodReport) -> Vec<[String; 9]> {
    let row = |about: &str, counts: Option<(usize, usize)>, measure: &Measure| {
        let Measure {
            name,
            estimate,
            missing,
            ..
        } = measure;
        let count = |of: fn((usize, usize)) -> usize| counts.map(|c| of(c).to_string());
        let number = |of: fn(&Estimate) -> String| estimate.as_ref().map(of);
        [
            Some(about.to_owned()),
            count(|c| c.0),
            count(|c| c.1),
            Some(name.clone()),
            measure.value().map(|value| value.to_string()),
            number(|e| e.low.to_string()),
            number(|e| e.high.to_string()),
            number(|e| e.without_value.to_string()),
            missing.clone(),
        ]
        .map(Option::unwrap_or_default)
    };
    let mut rows: Vec<_> = result.overall.iter().map(|m| row("all", None, m)).collect();
    for question in &result.questions {
        let counts = Some((question.positives, question.negatives));
        rows.extend(
            question
                .measures
                .iter()
                .map(|m| row(&question.name, counts, m)),
        );
    }
    let strata = result.strata.iter();
    rows.extend(strata.map(|s| row(&format!("{} = {}", s.column, s.value), None, &s.measure)));
    rows
}
