//! Event files that TensorBoard reads, of scalars alone.
//!
//! A file is a sequence of records (TensorFlow, `core/lib/io/record_writer.h`): the length of the data, its checksum, the
//! data, their checksum. The data are an `Event` each (`core/util/event.proto`), which is so little of protocol buffers
//! that it is written here by hand: the Rust crates for it are not kept up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use medsiglip::{Error, Result};

/// Numbers and wire types of the fields.
const WALL_TIME: u8 = 1 << 3 | 1;
const STEP: u8 = 2 << 3;
const FILE_VERSION: u8 = 3 << 3 | 2;
const SUMMARY: u8 = 5 << 3 | 2;
const SESSION_LOG: u8 = 7 << 3 | 2;
/// Of a summary.
const VALUE: u8 = 1 << 3 | 2;
/// Of a value.
const TAG: u8 = 1 << 3 | 2;
const SIMPLE_VALUE: u8 = 2 << 3 | 5;
/// A session log that says that a session starts.
const START: [u8; 2] = [1 << 3, 1];

/// A new event file in a folder. Nothing is buffered, so that a killed run has told all it did.
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// A file that begins with the step after `done`: what files before it tell of later steps, a killed run did after its
    /// last checkpoint, and TensorBoard forgets it.
    pub fn create(folder: &Path, done: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let before = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
        // TensorBoard reads the files in the order of their names.
        let (seconds, number) = (now() as u64, before.count());
        let path = folder.join(format!(
            "events.out.tfevents.{seconds:010}.medsiglip.{number:04}"
        ));
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::io("create", &path, e))?;
        let mut writer = Self { file, path };
        writer.write(&event(now(), 0, FILE_VERSION, b"brain.Event:2"))?;
        writer.write(&event(now(), done + 1, SESSION_LOG, &START))?;
        Ok(writer)
    }

    /// The values of a step, each under its tag.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<()> {
        self.write(&event(now(), step, SUMMARY, &summary(values)))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        let written = self.file.write_all(&record(event));
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &checksum(&length)[..], data, &checksum(data)].concat()
}

/// CRC-32C, turned and shifted so that the checksum of data with checksums in them is none of theirs.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let turned = crc32c::crc32c(bytes).rotate_right(15);
    turned.wrapping_add(0xa282_ead8).to_le_bytes()
}

fn event(wall_time: f64, step: u64, field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut event = vec![WALL_TIME];
    event.extend(wall_time.to_le_bytes());
    if step > 0 {
        event.push(STEP);
        push_varint(&mut event, step);
    }
    push_bytes(&mut event, field, bytes);
    event
}

fn summary(values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        push_bytes(&mut value, TAG, tag.as_bytes());
        value.push(SIMPLE_VALUE);
        value.extend((*number as f32).to_le_bytes());
        push_bytes(&mut summary, VALUE, &value);
    }
    summary
}

fn push_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field);
    push_varint(to, bytes.len() as u64);
    to.extend(bytes);
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn push_varint(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tensorboard 2.21.0 writes of the same events (`RecordWriter`, `event_pb2`).
    #[test]
    fn bytes_are_those_of_tensorboard() {
        let values = [
            ("train/loss".into(), 0.7123456789),
            ("val/auroc \u{e9}".into(), -2.5),
        ];
        let long = [("x".repeat(200), 1.0)];
        let events = [
            event(1700000000.25, 0, FILE_VERSION, b"brain.Event:2"),
            event(1700000001.5, 301, SESSION_LOG, &START),
            event(1700000002.75, 300, SUMMARY, &summary(&values)),
            event(1700000003.0, 1 << 40, SUMMARY, &summary(&long)),
        ];
        let bytes = events.iter().flat_map(|event| record(event));
        let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = concat!(
        "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9100000000000000095fb",
        "fe180900006040fc54d94110ad023a020801118727df36000000000000004f578cef090000b040fc54d94110ac022a280a11",
        "0a0a747261696e2f6c6f737315495c363f0a130a0c76616c2f6175726f6320c3a915000020c0dd1b508ce600000000000000",
        "71234f87090000c040fc54d941108080808080202ad3010ad0010ac801787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878150000803f5f89cc49",
    );
}
