//! TFRecord files of `tf.train.Example`, as the CXR Foundation service writes embeddings.
//!
//! A record is its length (u64), the CRC of that, the bytes, the CRC of those, little-endian; the CRC is CRC-32C, masked
//! (tensorflow/core/lib/io/record_writer.h and tensorflow/core/lib/hash/crc32c.h). Example and its parts:
//! tensorflow/core/example/feature.proto.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use prost::Message;

use super::TableOptions;
use super::rows::Rows;
use crate::{Error, Result};

/// Bytes of one record: an embedding of a million numbers is far below.
const MAX_RECORD_BYTES: u64 = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct Example {
    #[prost(message, optional, tag = "1")]
    features: Option<Features>,
}

#[derive(Clone, PartialEq, Message)]
struct Features {
    #[prost(btree_map = "string, message", tag = "1")]
    feature: BTreeMap<String, Feature>,
}

#[derive(Clone, PartialEq, Message)]
struct Feature {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Bytes(BytesList),
    #[prost(message, tag = "2")]
    Floats(FloatList),
    #[prost(message, tag = "3")]
    Numbers(Int64List),
}

#[derive(Clone, PartialEq, Message)]
struct BytesList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    value: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct FloatList {
    #[prost(float, repeated, tag = "1")]
    value: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct Int64List {
    #[prost(int64, repeated, tag = "1")]
    value: Vec<i64>,
}

/// As [`super::EmbeddingTable::read`].
pub(super) fn read(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let failed = |error| Error::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let mut reader = BufReader::new(file);
    rows.made_by(None)?;
    let mut nameless = false;
    let mut number = 0;
    while let Some(record) = next(&mut reader, number + 1, rows, path)? {
        number += 1;
        let example = Example::decode(&record[..]);
        let example = example.map_err(|_| rows.bad_row(number, "no tf.train.Example"))?;
        let features = example.features.unwrap_or_default().feature;
        let (id, values) = id_and_values(&features, options, number, rows)?;
        // Files of one record each do not say whose it is: their names do.
        nameless |= id.is_none();
        if nameless && number > 1 {
            return Err(rows.bad_row(
                number,
                "no id, and more than one record in the file; name their key: id_column in a configuration, --embedding-id on the command line",
            ));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let id = id.unwrap_or_else(|| stem.into_owned());
        rows.push(&id, number, values.iter().map(|value| f64::from(*value)))?;
    }
    Ok(())
}

fn id_and_values<'a>(
    features: &'a BTreeMap<String, Feature>,
    options: &TableOptions,
    number: u64,
    rows: &Rows,
) -> Result<(Option<String>, &'a [f32])> {
    let kind = |name: &str| features.get(name).and_then(|feature| feature.kind.as_ref());
    let floats = |name: &str| match kind(name) {
        Some(Kind::Floats(list)) => Some(&list.value[..]),
        _ => None,
    };
    let named = options.embedding_names().into_iter().find_map(floats);
    let mut lists = features.keys().filter_map(|name| floats(name));
    let only = || match (lists.next(), lists.next()) {
        (Some(list), None) if options.embedding.is_none() => Some(list),
        _ => None,
    };
    let values = named.or_else(only).ok_or_else(|| {
        let names = options.embedding_names().join(", ");
        rows.bad_row(number, &format!("no list of floats called {names}"))
    })?;
    let id = options.id_names().into_iter().find_map(kind);
    let id = match id {
        Some(Kind::Bytes(BytesList { value })) if value.len() == 1 => {
            let text = String::from_utf8(value[0].clone());
            Some(text.map_err(|_| rows.bad_row(number, "an id that is not UTF-8"))?)
        }
        Some(Kind::Numbers(Int64List { value })) if value.len() == 1 => Some(value[0].to_string()),
        Some(_) => return Err(rows.bad_row(number, "expected one text or whole number as the id")),
        None if options.id.is_some() => return Err(rows.bad_row(number, "no id")),
        None => None,
    };
    Ok((id, values))
}

/// The next record; `None` at the end of the file.
fn next(reader: &mut impl Read, number: u64, rows: &Rows, path: &Path) -> Result<Option<Vec<u8>>> {
    let cut = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => rows.bad_row(number, "a record that is cut off"),
        _ => Error::io("read", path, error),
    };
    let mut head = [0; 12];
    let mut have = 0;
    while have < head.len() {
        match reader.read(&mut head[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(cut(ErrorKind::UnexpectedEof.into())),
            Ok(read) => have += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(cut(error)),
        }
    }
    let (length, crc) = head.split_at(8);
    check(length, crc, number, rows)?;
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if length > MAX_RECORD_BYTES {
        return Err(Error::Limit {
            what: "bytes of a TFRecord",
            got: length,
            limit: MAX_RECORD_BYTES,
        });
    }
    let mut record = Vec::new();
    reader.take(length).read_to_end(&mut record).map_err(cut)?;
    if record.len() as u64 != length {
        return Err(cut(ErrorKind::UnexpectedEof.into()));
    }
    let mut crc = [0; 4];
    reader.read_exact(&mut crc).map_err(cut)?;
    check(&record, &crc, number, rows)?;
    Ok(Some(record))
}

fn check(bytes: &[u8], crc: &[u8], number: u64, rows: &Rows) -> Result<()> {
    match masked_crc(bytes).to_le_bytes() == crc {
        true => Ok(()),
        false => Err(rows.bad_row(number, "damaged, or no TFRecord: the checksum is another")),
    }
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}
