//! NumPy: a float32 array (N, D) in C order; `STEM.ids.csv` (row, id, kind, and the columns of DICOM files and
//! tiles where there are some), failed items and provenance beside it.

use medsiglip::embedding::Provenance;
use npyz::WriterBuilder;

use super::columns::{Column, cells};
use super::csv::failure;
use super::jsonl::ErrorList;
use super::{Destination, Sink, Writer};
use crate::batches::Outcome;
use crate::inputs::Item;
use crate::messages::{Failure, Result};

/// Writes one row an item that has an embedding.
pub struct NpyWriter {
    array: npyz::NpyWriter<f32, Sink>,
    ids: csv::Writer<Sink>,
    columns: Vec<&'static Column>,
    row: u64,
    errors: ErrorList,
}

impl NpyWriter {
    /// A writer of embeddings of width `dim`. The number of rows stands at the file's head: files alone will do.
    pub fn new(
        mut to: Destination,
        provenance: &Provenance,
        columns: Vec<&'static Column>,
        dim: usize,
    ) -> Result<Self> {
        let sink = to.main()?;
        let Destination::Files { files, rows, .. } = &mut to else {
            return Err(
                Failure::argument("npy cannot be written to standard output")
                    .hint("give a file: --output FILE.npy"),
            );
        };
        let (ids, rows) = (files.create(files.ids())?, *rows);
        let mut ids = csv::Writer::from_writer(ids);
        let names = ["row", "id", "kind"].into_iter();
        let names = names.chain(columns.iter().map(|column| column.name));
        ids.write_record(names).map_err(failure)?;
        to.provenance_beside(provenance)?;
        let array = npyz::WriteOptions::new()
            .default_dtype()
            .shape(&[rows, dim as u64])
            .writer(sink)
            .begin_nd()
            .map_err(Failure::stdout)?;
        Ok(Self {
            array,
            ids,
            columns,
            row: 0,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl Writer for NpyWriter {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Ok(embedding) = &outcome.embedding {
                let values = embedding.iter().copied();
                self.array.extend(values).map_err(Failure::stdout)?;
                let names = [self.row.to_string(), item.id().into(), item.kind().into()];
                let more = cells(&self.columns, item, &outcome.about);
                let record = names.into_iter().chain(more);
                self.ids.write_record(record).map_err(failure)?;
                self.row += 1;
            }
        }
        self.errors.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        self.ids.flush().map_err(Failure::stdout)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        self.errors.finish()?;
        self.array.finish().map_err(Failure::stdout)
    }
}
