//! The report as one page that needs nothing else: figures and style are in it.

use askama::Template;

use super::figures::Figure;
use super::report::{Report, TaskReport};
use super::tables::{self, Table};
use crate::{Error, Result};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    reading: &'static str,
    summary: Table,
    overview: Vec<&'a Figure>,
    sections: Vec<Section<'a>>,
}

struct Section<'a> {
    task: &'a TaskReport,
    tables: Vec<Table>,
    figures: Vec<&'a Figure>,
}

/// The page.
///
/// # Errors
/// `BAD_ARGUMENT` where it cannot be written.
pub fn page(report: &Report, figures: &[Figure]) -> Result<String> {
    let of = |task: Option<usize>| figures.iter().filter(move |figure| figure.task == task);
    let sections = report
        .tasks
        .iter()
        .enumerate()
        .map(|(number, task)| Section {
            task,
            tables: tables::of_task(task),
            figures: of(Some(number)).collect(),
        });
    let page = Page {
        report,
        reading: tables::READING,
        summary: tables::summary(report),
        overview: of(None).collect(),
        sections: sections.collect(),
    };
    page.render()
        .map_err(|e| Error::BadArgument(format!("the page: {e}")))
}
