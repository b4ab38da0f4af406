//! CSV: id, kind, the columns of DICOM files and tiles where there are some, e0, e1, ...; failed items and provenance beside it.

use medsiglip::embedding::Provenance;

use super::columns::{Column, cells};
use super::jsonl::ErrorList;
use super::{Destination, Sink, Writer};
use crate::batches::Outcome;
use crate::inputs::Item;
use crate::messages::{Failure, Result};

/// Writes one line an item that has an embedding.
pub struct CsvWriter {
    csv: csv::Writer<Sink>,
    columns: Vec<&'static Column>,
    errors: ErrorList,
}

impl CsvWriter {
    /// A writer of embeddings of width `dim`.
    pub fn new(
        mut to: Destination,
        provenance: &Provenance,
        columns: Vec<&'static Column>,
        dim: usize,
    ) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(to.main()?);
        let names = ["id".to_owned(), "kind".to_owned()];
        let more = columns.iter().map(|column| column.name.to_owned());
        let numbers = (0..dim).map(|i| format!("e{i}"));
        let header = names.into_iter().chain(more).chain(numbers);
        csv.write_record(header).map_err(failure)?;
        to.provenance_beside(provenance)?;
        Ok(Self {
            csv,
            columns,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl Writer for CsvWriter {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Ok(embedding) = &outcome.embedding {
                let names = [item.id().into_owned(), item.kind().to_owned()];
                let more = cells(&self.columns, item, &outcome.about);
                let numbers = embedding.iter().map(number);
                let record = names.into_iter().chain(more).chain(numbers);
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

/// The fewest digits that read back the same f32.
pub fn number(value: &f32) -> String {
    format!("{value:?}")
}

/// A failed write of a CSV.
pub fn failure(error: csv::Error) -> Failure {
    Failure::stdout(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_the_same() {
        for bits in (0..u32::MAX).step_by(65_537) {
            let value = f32::from_bits(bits);
            let back: f32 = number(&value).parse().unwrap();
            assert!(back.to_bits() == bits || value.is_nan());
        }
    }
}
