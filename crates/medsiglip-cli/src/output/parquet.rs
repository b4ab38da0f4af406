//! Parquet: columns id, kind, those of DICOM files and tiles where there are some, embedding (fixed-size list of float32); provenance in the file's metadata.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use medsiglip::embedding::Provenance;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::columns::{Cell, Column};
use super::jsonl::ErrorList;
use super::{Destination, Sink, Writer};
use crate::batches::Outcome;
use crate::inputs::Item;
use crate::messages::{Failure, Result};

/// Key of the provenance (JSON) in the file's metadata.
const PROVENANCE: &str = "medsiglip.provenance";
/// Rows that are held in memory before they are written: about 19 MB at width 1152.
const ROWS_A_GROUP: usize = 4096;

/// Writes one row an item that has an embedding.
pub struct ParquetWriter {
    parquet: ArrowWriter<Sink>,
    schema: Arc<Schema>,
    columns: Vec<&'static Column>,
    item: Arc<Field>,
    dim: i32,
    errors: ErrorList,
}

impl ParquetWriter {
    /// A writer of embeddings of width `dim`. Its footer needs the end of the file: files alone will do.
    pub fn new(
        mut to: Destination,
        provenance: &Provenance,
        columns: Vec<&'static Column>,
        dim: usize,
    ) -> Result<Self> {
        if matches!(to, Destination::Stdout { .. }) {
            return Err(
                Failure::argument("parquet cannot be written to standard output")
                    .hint("give a file: --output FILE.parquet"),
            );
        }
        let width = i32::try_from(dim);
        let dim = width.map_err(|_| Failure::argument("the embedding is too wide for parquet"))?;
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let mut fields = vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("kind", DataType::Utf8, false),
        ];
        fields.extend(columns.iter().map(|column| match column.is_number() {
            true => Field::new(column.name, DataType::Int64, true),
            false => Field::new(column.name, DataType::Utf8, true),
        }));
        let list = DataType::FixedSizeList(item.clone(), dim);
        fields.push(Field::new("embedding", list, false));
        let schema = Arc::new(Schema::new(fields));
        let json = serde_json::to_string(provenance).map_err(|e| Failure::stdout(e.into()))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROWS_A_GROUP))
            .set_key_value_metadata(Some(vec![KeyValue::new(PROVENANCE.to_owned(), json)]))
            .build();
        let parquet = ArrowWriter::try_new(to.main()?, schema.clone(), Some(properties));
        Ok(Self {
            parquet: parquet.map_err(failure)?,
            schema,
            columns,
            item,
            dim,
            errors: ErrorList::new(to.errors_beside()?),
        })
    }
}

impl Writer for ParquetWriter {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        let good = || {
            let all = items.iter().zip(outcomes);
            all.filter_map(|(item, outcome)| {
                Some((item, &outcome.about, outcome.embedding.as_ref().ok()?))
            })
        };
        let ids = StringArray::from_iter_values(good().map(|(item, ..)| item.id()));
        let kinds = StringArray::from_iter_values(good().map(|(item, ..)| item.kind()));
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(kinds)];
        for column in &self.columns {
            let cells = good().map(|(item, about, _)| column.cell(item, about));
            arrays.push(array(column.is_number(), cells));
        }
        let values = Float32Array::from_iter_values(good().flat_map(|(.., e)| e.iter().copied()));
        let batch =
            FixedSizeListArray::try_new(self.item.clone(), self.dim, Arc::new(values), None)
                .and_then(|embeddings| {
                    arrays.push(Arc::new(embeddings));
                    RecordBatch::try_new(self.schema.clone(), arrays)
                });
        self.parquet
            .write(&batch.map_err(|e| failure(e.into()))?)
            .map_err(failure)?;
        self.errors.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.errors.finish()?;
        self.parquet.close().map(drop).map_err(failure)
    }
}

fn array(is_number: bool, cells: impl Iterator<Item = Option<Cell>>) -> ArrayRef {
    let number = |cell| match cell {
        Some(Cell::Number(number)) => Some(number),
        _ => None,
    };
    let text = |cell| match cell {
        Some(Cell::Text(text)) => Some(text),
        _ => None,
    };
    match is_number {
        true => Arc::new(cells.map(number).collect::<Int64Array>()),
        false => Arc::new(cells.map(text).collect::<StringArray>()),
    }
}

fn failure(error: parquet::errors::ParquetError) -> Failure {
    use parquet::errors::ParquetError;
    let error = match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    };
    Failure::stdout(error)
}
