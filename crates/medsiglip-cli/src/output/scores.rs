//! Scores of pictures: JSON Lines, CSV, or tables for a person.

use std::io::Write;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::zero_shot::ClassScore;
use serde::Serialize;

use super::columns::{Column, Row, cells};
use super::csv::{failure, number};
use super::jsonl::{ErrorList, write_error, write_line};
use super::summary::{ClassSummary, SlideSummary, Spread, Summaries};
use super::{Destination, Scorer, Sink, Writer, beside};
use crate::batches::Outcome;
use crate::inputs::Item;
use crate::messages::{self, Failure, Result, count};

/// Stands wherever a person sees a score.
pub const NOT_CLINICAL: &str = "not for clinical use";

/// Writes `{"id", "kind", "scores": [{"label", ...}], "softmax_over", "note", "provenance"}` or the error of a failed
/// item; after the tiles of a slide a line of the slide, its kind `slide`.
pub struct JsonlScores<'a> {
    scorer: &'a dyn Scorer,
    sink: Sink,
    slides: Summaries,
    provenance: Provenance,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    kind: &'static str,
    #[serde(flatten)]
    row: Row,
    scores: &'a [ClassScore],
    softmax_over: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    note: &'static str,
    provenance: &'a Provenance,
}

#[derive(Serialize)]
struct SlideLine<'a> {
    kind: &'static str,
    #[serde(flatten)]
    summary: &'a SlideSummary,
    softmax_over: &'static str,
    note: &'static str,
    provenance: &'a Provenance,
}

impl<'a> JsonlScores<'a> {
    /// A writer of the scores of `scorer`.
    pub fn new(
        scorer: &'a dyn Scorer,
        mut to: Destination,
        provenance: &Provenance,
        top_k: usize,
    ) -> Result<Self> {
        Ok(Self {
            scorer,
            sink: to.main()?,
            slides: Summaries::new(top_k),
            provenance: provenance.clone(),
        })
    }
}

impl JsonlScores<'_> {
    fn slide(&mut self, summary: Option<SlideSummary>) -> Result<()> {
        let Some(summary) = &summary else {
            return Ok(());
        };
        let line = SlideLine {
            kind: "slide",
            summary,
            softmax_over: softmax_over(self.scorer),
            note: NOT_CLINICAL,
            provenance: &self.provenance,
        };
        write_line(&mut self.sink, &line)
    }
}

impl Writer for JsonlScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            let Ok(embedding) = &outcome.embedding else {
                write_error(&mut self.sink, item, outcome)?;
                continue;
            };
            let scores = score(self.scorer, embedding)?;
            let before = self.slides.add(item, &scores);
            self.slide(before)?;
            let line = Line {
                id: &item.id(),
                kind: item.kind(),
                row: Row::of(item, &outcome.about),
                scores: &scores,
                softmax_over: softmax_over(self.scorer),
                warnings: &outcome.about.warnings,
                note: NOT_CLINICAL,
                provenance: &self.provenance,
            };
            write_line(&mut self.sink, &line)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.sink.flush().map_err(Failure::stdout)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let last = self.slides.end();
        self.slide(last)?;
        self.flush()
    }
}

/// Suffix of the scores of slides beside a CSV of those of their tiles.
pub const SLIDES: &str = ".slides.csv";

/// Writes one line a picture and class; for slides beside it one line a slide and class.
pub struct CsvScores<'a> {
    scorer: &'a dyn Scorer,
    csv: csv::Writer<Sink>,
    slides: Summaries,
    slides_csv: Option<csv::Writer<Sink>>,
    columns: Vec<&'static Column>,
    errors: ErrorList,
}

impl<'a> CsvScores<'a> {
    /// A writer of the scores of `scorer`.
    pub fn new(
        scorer: &'a dyn Scorer,
        mut to: Destination,
        provenance: &Provenance,
        columns: Vec<&'static Column>,
        top_k: Option<usize>,
    ) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(to.main()?);
        let names = columns.iter().map(|column| column.name);
        let scores = ["label", "cosine", "logit", "probability", "softmax", "note"];
        csv.write_record(["id"].into_iter().chain(names).chain(scores))
            .map_err(failure)?;
        to.provenance_beside(provenance)?;
        Ok(Self {
            scorer,
            csv,
            slides: Summaries::new(top_k.unwrap_or_default()),
            slides_csv: top_k.map_or(Ok(None), |_| slides_csv(&mut to))?,
            columns,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

/// Begins the CSV of slides.
fn slides_csv(to: &mut Destination) -> Result<Option<csv::Writer<Sink>>> {
    let Destination::Files { files, .. } = to else {
        messages::note("note: the scores of the slides themselves are written with --output");
        return Ok(None);
    };
    let path = beside(files.target(), SLIDES);
    let mut csv = csv::Writer::from_writer(files.create(path)?);
    let spreads = ["cosine", "probability", "softmax"]
        .into_iter()
        .flat_map(|score| ["mean", "top_k_mean", "max"].map(|of| format!("{score}_{of}")));
    let names = ["id", "label", "tiles", "top_k"].map(str::to_owned);
    let header = names.into_iter().chain(spreads).chain(["note".to_owned()]);
    csv.write_record(header).map_err(failure)?;
    Ok(Some(csv))
}

impl CsvScores<'_> {
    fn slide(&mut self, summary: Option<SlideSummary>) -> Result<()> {
        let (Some(summary), Some(csv)) = (summary, &mut self.slides_csv) else {
            return Ok(());
        };
        for class in &summary.scores {
            let counts = [summary.tiles, summary.top_k].map(|count| count.to_string());
            let spreads = [class.cosine, Some(class.probability), Some(class.softmax)];
            let numbers = spreads.iter().flat_map(|spread| {
                let of = |value: fn(&Spread) -> f32| spread.as_ref().map(value);
                [of(|s| s.mean), of(|s| s.top_k_mean), of(|s| s.max)]
            });
            let record = [summary.id.clone(), class.label.clone()]
                .into_iter()
                .chain(counts)
                .chain(numbers.map(|x| x.as_ref().map(number).unwrap_or_default()))
                .chain([NOT_CLINICAL.to_owned()]);
            csv.write_record(record).map_err(failure)?;
        }
        Ok(())
    }
}

impl Writer for CsvScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            let Ok(embedding) = &outcome.embedding else {
                continue;
            };
            let scores = score(self.scorer, embedding)?;
            let before = self.slides.add(item, &scores);
            self.slide(before)?;
            for class in scores {
                let ClassScore {
                    label,
                    cosine,
                    logit,
                    probability,
                    softmax,
                } = class;
                let cosine = cosine.as_ref().map(number).unwrap_or_default();
                let numbers = [logit, probability, softmax];
                let record = [item.id().into_owned()]
                    .into_iter()
                    .chain(cells(&self.columns, item, &outcome.about))
                    .chain([label, cosine])
                    .chain(numbers.iter().map(number))
                    .chain([NOT_CLINICAL.to_owned()]);
                self.csv.write_record(record).map_err(failure)?;
            }
        }
        self.errors.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        self.csv.flush().map_err(Failure::stdout)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let last = self.slides.end();
        self.slide(last)?;
        if let Some(csv) = &mut self.slides_csv {
            csv.flush().map_err(Failure::stdout)?;
        }
        self.errors.finish()?;
        self.flush()
    }
}

/// Writes a table a picture, the largest softmax share first; of slides a table a slide.
pub struct TableScores<'a> {
    scorer: &'a dyn Scorer,
    sink: Sink,
    slides: Summaries,
    errors: ErrorList,
}

impl<'a> TableScores<'a> {
    /// A writer of the scores of `scorer`.
    pub fn new(scorer: &'a dyn Scorer, mut to: Destination, top_k: usize) -> Result<Self> {
        Ok(Self {
            scorer,
            sink: to.main()?,
            slides: Summaries::new(top_k),
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl TableScores<'_> {
    fn slide(&mut self, summary: Option<SlideSummary>) -> Result<()> {
        let Some(summary) = summary else {
            return Ok(());
        };
        let tiles = count(summary.tiles, "tile");
        let id = summary.id.clone();
        let table = slide_table(summary, softmax_over(self.scorer));
        writeln!(
            self.sink,
            "{id} ({tiles})\n{table}\nNot for clinical use.\n"
        )
        .map_err(Failure::stdout)
    }
}

impl Writer for TableScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Ok(embedding) = &outcome.embedding {
                let scores = score(self.scorer, embedding)?;
                let before = self.slides.add(item, &scores);
                self.slide(before)?;
                if matches!(item, Item::Image(source) if source.tile().is_some()) {
                    continue;
                }
                let table = table(scores, softmax_over(self.scorer));
                writeln!(self.sink, "{}\n{table}\nNot for clinical use.\n", item.id())
                    .map_err(Failure::stdout)?;
            }
        }
        self.errors.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        self.sink.flush().map_err(Failure::stdout)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let last = self.slides.end();
        self.slide(last)?;
        self.errors.finish()?;
        self.flush()
    }
}

fn table(mut scores: Vec<ClassScore>, softmax_over: &str) -> Table {
    scores.sort_by(|a, b| b.softmax.total_cmp(&a.softmax));
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let softmax = format!("softmax over {softmax_over}");
    table.set_header(["label", "cosine", "probability", &softmax]);
    for score in scores {
        table.add_row([
            score.label,
            score.cosine.map_or(String::new(), |x| format!("{x:.4}")),
            format!("{:.4}", score.probability),
            format!("{:.4}", score.softmax),
        ]);
    }
    align(&mut table);
    table
}

/// The shares of a slide's tiles, and the highest sigmoid.
fn slide_table(mut summary: SlideSummary, softmax_over: &str) -> Table {
    let order = |class: &ClassSummary| class.softmax.top_k_mean;
    summary.scores.sort_by(|a, b| order(b).total_cmp(&order(a)));
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let top_k = format!("mean of top {}", summary.top_k.min(summary.tiles));
    let softmax = format!("softmax over {softmax_over}: mean");
    table.set_header(["label", &softmax, &top_k, "max", "highest probability"]);
    for class in summary.scores {
        let softmax = class.softmax;
        let numbers = [
            softmax.mean,
            softmax.top_k_mean,
            softmax.max,
            class.probability.max,
        ];
        let numbers = numbers.map(|x| format!("{x:.4}"));
        table.add_row([class.label].into_iter().chain(numbers));
    }
    align(&mut table);
    table
}

/// Numbers stand to the right.
fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn softmax_over(scorer: &dyn Scorer) -> &'static str {
    scorer.kind().softmax_over()
}

/// The scores of one picture.
pub(super) fn score(scorer: &dyn Scorer, embedding: &[f32]) -> Result<Vec<ClassScore>> {
    let one = Embeddings::new(embedding.len(), embedding.to_vec())?;
    Ok(scorer.scores(&one)?.pop().unwrap_or_default())
}
