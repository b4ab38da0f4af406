//! SQLite: how connections are set up, what its errors mean, values of filters.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{Connection, ErrorCode};
use serde_json::Value;

use crate::Error;

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sets up a connection.
pub(super) fn prepare(database: &Connection) -> rusqlite::Result<()> {
    database.busy_timeout(PATIENCE)?;
    // A rollback journal, so that a store on a read-only disk can be searched. Every commit is on the disk, and so is that its journal
    // is gone, which would take it back after a power cut.
    database.pragma_update(None, "synchronous", "EXTRA")?;
    database.pragma_update(None, "trusted_schema", false)
}

/// What is there is not what was written.
pub(super) fn damaged(path: &Path) -> Error {
    Error::BadConfig(format!("the store is damaged: {}", path.display()))
}

/// What SQLite answered, for the person who must act.
pub(super) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::BadArgument(format!(
            "another process is using the store; try again when it is done: {}",
            path.display()
        )),
        Some(_) => Error::io("use", path, std::io::Error::other(error)),
        // Columns that are not what we wrote.
        None => damaged(path),
    }
}

/// A value of a filter.
pub(super) struct Parameter<'a>(pub &'a Value);

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::String(text) => ToSqlOutput::from(text.as_str()),
            Value::Bool(value) => ToSqlOutput::from(*value),
            Value::Number(number) => match number.as_i64() {
                Some(number) => ToSqlOutput::from(number),
                None => ToSqlOutput::from(number.as_f64().unwrap_or(f64::NAN)),
            },
            _ => ToSqlOutput::Owned(SqlValue::Null),
        })
    }
}
