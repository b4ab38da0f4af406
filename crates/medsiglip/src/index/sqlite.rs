//! SQLite: what a store's database is, how connections are set up, what its errors mean, values of filters.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{Connection, ErrorCode};
use serde_json::Value;

use super::About;
use crate::{Error, Result};

/// Of the database: it is ours, and of this format ("msig").
const APPLICATION: i64 = 0x6d73_6967;
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE store (
        about TEXT NOT NULL,        -- JSON
        generation INTEGER NOT NULL,-- of the file of vectors
        next INTEGER NOT NULL       -- place of the next vector
    ) STRICT;
    CREATE TABLE items (
        slot INTEGER PRIMARY KEY,   -- place of the vector
        id TEXT NOT NULL UNIQUE,
        content BLOB,               -- SHA-256 of the file
        crc INTEGER NOT NULL,       -- CRC-32C of the vector's bytes
        metadata TEXT NOT NULL      -- JSON
    ) STRICT;
";

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the database of an empty store.
pub(super) fn make(path: &Path, about: &About) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    prepare(&database)?;
    let made = database.transaction()?;
    made.execute_batch(SCHEMA)?;
    made.pragma_update(None, "application_id", APPLICATION)?;
    made.pragma_update(None, "user_version", FORMAT)?;
    let text = serde_json::to_string(about).expect("plain fields");
    made.execute("INSERT INTO store VALUES (?1, 0, 0)", [text])?;
    made.commit()?;
    database.close().map_err(|(_, e)| e)
}

/// Whether a database is a store's.
pub(super) fn check_format(database: &Connection, path: &Path) -> Result<()> {
    let pragma = |name: &str| {
        let value = database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        value.map_err(|e| failed(path, e))
    };
    if pragma("application_id")? != APPLICATION {
        return Err(Error::BadConfig(format!(
            "not a store of medsiglip: {}",
            path.display()
        )));
    }
    match pragma("user_version")? {
        FORMAT => Ok(()),
        format => Err(Error::Unsupported(format!(
            "store: expected format {FORMAT}, got {format}; a newer version may read it: {}",
            path.display()
        ))),
    }
}

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
