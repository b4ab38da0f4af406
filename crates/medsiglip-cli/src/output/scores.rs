//! Zero-shot scores of pictures: JSON Lines, CSV, or tables for a person.

use std::io::Write;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::zero_shot::{ClassScore, ZeroShot};
use serde::Serialize;

use super::csv::{failure, number};
use super::jsonl::{ErrorList, write_error, write_line};
use super::{Destination, Sink, Writer};
use crate::batches::Outcome;
use crate::inputs::Item;
use crate::messages::{Failure, Result};

/// Stands wherever a person sees a score.
pub const NOT_CLINICAL: &str = "not for clinical use";

/// Writes `{"id", "kind", "scores": [{"label", ...}], "softmax_over", "note", "provenance"}` or the error of a failed
/// item.
pub struct JsonlScores<'a> {
    zero_shot: &'a ZeroShot,
    sink: Sink,
    provenance: Provenance,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    kind: &'static str,
    scores: &'a [ClassScore],
    softmax_over: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    note: &'static str,
    provenance: &'a Provenance,
}

impl<'a> JsonlScores<'a> {
    /// A writer of the scores of `zero_shot`.
    pub fn new(
        zero_shot: &'a ZeroShot,
        mut to: Destination,
        provenance: &Provenance,
    ) -> Result<Self> {
        Ok(Self {
            zero_shot,
            sink: to.main()?,
            provenance: provenance.clone(),
        })
    }
}

impl Writer for JsonlScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            match &outcome.embedding {
                Ok(embedding) => write_line(
                    &mut self.sink,
                    &Line {
                        id: &item.id(),
                        kind: item.kind(),
                        scores: &score(self.zero_shot, embedding)?,
                        softmax_over: softmax_over(self.zero_shot),
                        warnings: &outcome.about.warnings,
                        note: NOT_CLINICAL,
                        provenance: &self.provenance,
                    },
                )?,
                Err(_) => write_error(&mut self.sink, item, outcome)?,
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.sink.flush().map_err(Failure::stdout)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()
    }
}

/// Writes one line a picture and class.
pub struct CsvScores<'a> {
    zero_shot: &'a ZeroShot,
    csv: csv::Writer<Sink>,
    errors: ErrorList,
}

impl<'a> CsvScores<'a> {
    /// A writer of the scores of `zero_shot`.
    pub fn new(
        zero_shot: &'a ZeroShot,
        mut to: Destination,
        provenance: &Provenance,
    ) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(to.main()?);
        let header = [
            "id",
            "label",
            "cosine",
            "logit",
            "probability",
            "softmax",
            "note",
        ];
        csv.write_record(header).map_err(failure)?;
        to.provenance_beside(provenance)?;
        Ok(Self {
            zero_shot,
            csv,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl Writer for CsvScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            let Ok(embedding) = &outcome.embedding else {
                continue;
            };
            for class in score(self.zero_shot, embedding)? {
                let ClassScore {
                    label,
                    cosine,
                    logit,
                    probability,
                    softmax,
                } = class;
                let numbers = [cosine, logit, probability, softmax];
                let record = [item.id().into_owned(), label]
                    .into_iter()
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
        self.errors.finish()?;
        self.flush()
    }
}

/// Writes a table a picture, the largest softmax share first.
pub struct TableScores<'a> {
    zero_shot: &'a ZeroShot,
    sink: Sink,
    errors: ErrorList,
}

impl<'a> TableScores<'a> {
    /// A writer of the scores of `zero_shot`.
    pub fn new(zero_shot: &'a ZeroShot, mut to: Destination) -> Result<Self> {
        Ok(Self {
            zero_shot,
            sink: to.main()?,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl Writer for TableScores<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Ok(embedding) = &outcome.embedding {
                let scores = score(self.zero_shot, embedding)?;
                let table = table(scores, softmax_over(self.zero_shot));
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
            format!("{:.4}", score.cosine),
            format!("{:.4}", score.probability),
            format!("{:.4}", score.softmax),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn softmax_over(zero_shot: &ZeroShot) -> &'static str {
    zero_shot.prompts().kind.softmax_over()
}

fn score(zero_shot: &ZeroShot, embedding: &[f32]) -> Result<Vec<ClassScore>> {
    let one = Embeddings::new(embedding.len(), embedding.to_vec())?;
    Ok(zero_shot.scores(&one)?.pop().unwrap_or_default())
}
