//! JSON Lines: one object an item, failed ones among them.

use std::borrow::Cow;
use std::io::Write;

use medsiglip::embedding::Provenance;
use serde::Serialize;

use super::columns::Row;
use super::{Destination, Sink, Writer};
use crate::batches::{About, Failed, Outcome};
use crate::inputs::Item;
use crate::messages::{Failure, Result};

/// Writes `{"id", "kind", "embedding", "provenance"}` or `{"id", "kind", "error": {"code", "message"}}`;
/// after the kind stands where a DICOM picture or a tile comes from, before the provenance stand `"truncated": true` and `"warnings": [...]` where there is something to say.
pub struct JsonlWriter {
    sink: Sink,
    provenance: Provenance,
}

#[derive(Serialize)]
struct Line<'a> {
    id: Cow<'a, str>,
    kind: &'static str,
    #[serde(flatten)]
    row: Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failed>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a Provenance>,
}

impl<'a> Line<'a> {
    fn new(item: &'a Item, outcome: &'a Outcome, provenance: Option<&'a Provenance>) -> Self {
        let About {
            truncated,
            warnings,
            dicom: _,
            stamp: _,
        } = &outcome.about;
        let embedding = outcome.embedding.as_deref();
        Self {
            id: item.id(),
            kind: item.kind(),
            row: Row::of(item, &outcome.about),
            embedding: embedding.ok(),
            error: embedding.err(),
            truncated: *truncated,
            warnings,
            provenance: provenance.filter(|_| embedding.is_ok()),
        }
    }
}

impl JsonlWriter {
    /// A writer of embeddings.
    pub fn new(mut to: Destination, provenance: &Provenance) -> Result<Self> {
        Ok(Self {
            sink: to.main()?,
            provenance: provenance.clone(),
        })
    }
}

impl Writer for JsonlWriter {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            let line = Line::new(item, outcome, Some(&self.provenance));
            write_line(&mut self.sink, &line)?;
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

/// Lists failed items, for formats that have no place for them.
pub struct ErrorList {
    sink: Option<Sink>,
}

impl ErrorList {
    /// A list into `sink`, if there is one.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { sink }
    }

    /// Lists what failed among `items`.
    pub fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        for (item, outcome) in items.iter().zip(outcomes) {
            if outcome.embedding.is_err() {
                write_error(sink, item, outcome)?;
            }
        }
        Ok(())
    }

    /// Writes what belongs to the end.
    pub fn finish(&mut self) -> Result<()> {
        self.sink
            .as_mut()
            .map_or(Ok(()), |sink| sink.flush().map_err(Failure::stdout))
    }
}

/// The line of a failed item.
pub fn write_error(sink: &mut impl Write, item: &Item, outcome: &Outcome) -> Result<()> {
    write_line(sink, &Line::new(item, outcome, None))
}

/// `value` as JSON on one line; floats in the fewest digits that read back the same.
pub fn write_line(sink: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *sink, value)
        .map_err(std::io::Error::from)
        .and_then(|()| sink.write_all(b"\n"))
        .map_err(Failure::stdout)
}
