//! The journal `OUTPUT.part`: what a run has done so far, batch after batch, so that nothing is done twice.
//!
//! A JSON line (version and fingerprint: all that decides the result), then records: length (u64, little endian)
//! and SHA-256 of the payload, and the payload. The first record lists the inputs (the tiles of a slide as one); then
//! comes one a batch, the last one of a batch being valid; before the output is put into its place, one lists its files.
//! A torn last record is dropped.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use medsiglip::image::slide::Tiling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::batches::{About, Failed, Outcome};
use crate::inputs::{Item, hex, slides_among};
use crate::messages::{Failure, Result};

/// Everything that decides a result, by name.
pub type Fingerprint = BTreeMap<String, Value>;

/// Size and time of a file: where they are the same, it was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    size: u64,
    /// Nanoseconds since 1970; 0 where the file system does not know.
    modified: u64,
}

impl Stamp {
    /// Of the file at `path`; `None` where there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        let age = file.modified().ok();
        let age = age.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Self {
            size: file.len(),
            modified: age.map_or(0, |age| age.as_nanos() as u64),
        })
    }
}

/// An open journal.
pub struct Journal {
    file: File,
    path: PathBuf,
    synced: Instant,
    /// End of the last whole record.
    end: u64,
    /// Where the valid record of each batch begins, by the batch's first item.
    batches: BTreeMap<usize, u64>,
}

/// What a record says.
#[derive(Debug, PartialEq)]
enum Entry {
    /// Kinds and ids of all inputs.
    Inputs(Vec<(String, String)>),
    /// The outcomes of a batch, and the place of its first item.
    Batch(usize, Vec<Outcome>),
    /// Names of the files that are about to be put into their places.
    Commit(Vec<(String, Stamp)>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    medsiglip_journal: u32,
    fingerprint: Fingerprint,
}

const VERSION: u32 = 2;
/// How every journal begins: [`Header`]'s first field.
const MAGIC: &[u8] = br#"{"medsiglip_journal":"#;
/// Longest header: the fingerprint is a few hundred bytes.
const MAX_HEADER: u64 = 1 << 20;
/// At most this much work is lost when the machine itself goes down.
const SYNC_EVERY: Duration = Duration::from_secs(2);

impl Journal {
    /// Takes possession of the journal at `path`: creates it, or opens one that is there.
    ///
    /// # Errors
    /// `IO_ERROR`, also where another process has it; `BAD_ARGUMENT` where one is there that holds work
    /// and `resume` is not set.
    pub fn claim(path: &Path, resume: bool) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Failure::io("create", path, error))?;
        // A file system without locks still works, for one process at a time.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Failure::argument(format!(
                "another process is writing {}",
                path.display()
            )));
        }
        let journal = Self {
            file,
            path: path.to_path_buf(),
            synced: Instant::now(),
            end: 0,
            batches: BTreeMap::new(),
        };
        if !resume && journal.holds_work()? {
            return Err(Failure::argument(format!(
                "an earlier run was interrupted and left {}",
                path.display()
            ))
            .hint("go on with it: --resume; or delete that file to start anew"));
        }
        Ok(journal)
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an earlier run has left something here.
    pub fn holds_work(&self) -> Result<bool> {
        Ok(self.length()? > 0)
    }

    /// Begins an empty journal of `inputs`; checks the header of one that holds work, gives every batch to `keep`
    /// (a batch may come again, then the last one is valid) and drops a torn end.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where fingerprint or inputs differ, naming what differs; `IO_ERROR`.
    pub fn start(
        &mut self,
        fingerprint: &Fingerprint,
        inputs: &[Item],
        mut keep: impl FnMut(usize, Vec<Outcome>),
    ) -> Result<()> {
        if !self.holds_work()? {
            return self.begin(fingerprint, inputs);
        }
        let Some(mut records) = self.records()? else {
            // Interrupted within its very first write.
            return self.begin(fingerprint, inputs);
        };
        check_fingerprint(&records.fingerprint, fingerprint, &self.path)?;
        let Some(Entry::Inputs(kept)) = records.next()? else {
            return self.begin(fingerprint, inputs);
        };
        check_inputs(&kept, inputs, &self.path)?;
        let mut batches = BTreeMap::new();
        let mut end = records.end;
        while let Some(entry) = records.next()? {
            if let Entry::Batch(start, outcomes) = entry {
                batches.insert(start, end);
                keep(start, outcomes);
            }
            end = records.end;
        }
        (self.end, self.batches) = (end, batches);
        self.truncate()
    }

    /// Keeps the outcomes of the batch that begins with item `start`.
    pub fn append(&mut self, start: usize, outcomes: &[Outcome]) -> Result<()> {
        let at = self.end;
        let mut payload = vec![BATCH];
        payload.extend((start as u64).to_le_bytes());
        for outcome in outcomes {
            encode(outcome, &mut payload).map_err(|e| self.failure("write", e.into()))?;
        }
        self.write(&record(&payload))?;
        self.batches.insert(start, at);
        Ok(())
    }

    /// Notes that the output's files are about to be put into their places, and makes sure that this is on the disk.
    pub fn commit(&mut self, files: &[(String, Stamp)]) -> Result<()> {
        let payload = tagged(COMMIT, &files).map_err(|e| self.failure("write", e.into()))?;
        self.write(&record(&payload))?;
        self.sync()
    }

    /// The files that earlier runs were about to put into their places when they ended.
    pub fn committed(&self) -> Result<Vec<(String, Stamp)>> {
        let mut files = Vec::new();
        let mut records = self.records()?;
        while let Some(records) = &mut records
            && let Some(entry) = records.next()?
        {
            if let Entry::Commit(more) = entry {
                files.extend(more);
            }
        }
        Ok(files)
    }

    /// The outcomes of the batch that begins with item `start`.
    ///
    /// # Errors
    /// `IO_ERROR`, also where the file was changed by someone else since.
    pub fn batch(&self, start: usize) -> Result<Vec<Outcome>> {
        let changed = || std::io::Error::new(ErrorKind::InvalidData, "it was changed meanwhile");
        let records = self.records()?;
        let (Some(mut records), Some(at)) = (records, self.batches.get(&start)) else {
            return Err(self.failure("read", changed()));
        };
        records.seek(*at)?;
        match records.next()? {
            Some(Entry::Batch(found, outcomes)) if found == start => Ok(outcomes),
            _ => Err(self.failure("read", changed())),
        }
    }

    /// Reads the records from the first on; `None` where not even the header is whole.
    fn records(&self) -> Result<Option<Records<'_>>> {
        let mut file = BufReader::new(&self.file);
        file.rewind().map_err(|e| self.failure("read", e))?;
        let mut line = Vec::new();
        let mut start = file.by_ref().take(MAX_HEADER);
        start
            .read_until(b'\n', &mut line)
            .map_err(|e| self.failure("read", e))?;
        let is_torn = line.last() != Some(&b'\n') && (line.len() as u64) < MAX_HEADER;
        if is_torn && line.iter().zip(MAGIC).all(|(byte, magic)| byte == magic) {
            return Ok(None);
        }
        let header = serde_json::from_slice::<Header>(&line).ok();
        let Some(header) = header.filter(|header| header.medsiglip_journal == VERSION) else {
            return Err(Failure::argument(format!(
                "not a journal of this version of medsiglip: {}",
                self.path.display()
            ))
            .hint("if its work is not needed, delete it"));
        };
        Ok(Some(Records {
            end: line.len() as u64,
            length: self.length()?,
            fingerprint: header.fingerprint,
            file,
            path: &self.path,
        }))
    }

    /// Makes sure that everything kept so far is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(|e| self.failure("write", e))
    }

    /// Deletes the journal.
    pub fn delete(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|e| Failure::io("delete", &self.path, e))
    }

    fn begin(&mut self, fingerprint: &Fingerprint, inputs: &[Item]) -> Result<()> {
        let header = Header {
            medsiglip_journal: VERSION,
            fingerprint: fingerprint.clone(),
        };
        let ids = listing(inputs);
        let bytes = serde_json::to_vec(&header).and_then(|mut bytes| {
            bytes.push(b'\n');
            bytes.extend(record(&tagged(INPUTS, &ids)?));
            Ok(bytes)
        });
        let bytes = bytes.map_err(|e| self.failure("write", e.into()))?;
        self.truncate()?;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // A reader shares the position.
        let place = self.file.seek(SeekFrom::Start(self.end));
        if let Err(error) = place.and_then(|_| self.file.write_all(bytes)) {
            // What is there must end with a whole record, whoever reads it; a reader drops a torn one as well.
            let _ = self.truncate();
            return Err(self.failure("write", error).hint(format!(
                "finished work is kept in {}; when there is room, go on with --resume",
                self.path.display()
            )));
        }
        self.end += bytes.len() as u64;
        if self.synced.elapsed() > SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn truncate(&mut self) -> Result<()> {
        self.file
            .set_len(self.end)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.end)))
            .map(drop)
            .map_err(|e| self.failure("write", e))
    }

    fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|e| self.failure("read", e))?.len())
    }

    fn failure(&self, action: &'static str, error: std::io::Error) -> Failure {
        Failure::io(action, &self.path, error)
    }
}

impl Drop for Journal {
    /// A journal that never held anything leaves no trace.
    fn drop(&mut self) {
        if self.holds_work().is_ok_and(|work| !work) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The records of a journal, one after the other.
struct Records<'a> {
    file: BufReader<&'a File>,
    path: &'a Path,
    fingerprint: Fingerprint,
    /// End of the last whole record read.
    end: u64,
    length: u64,
}

impl Records<'_> {
    /// Goes to the record that begins at `at`.
    fn seek(&mut self, at: u64) -> Result<()> {
        self.end = at;
        let place = self.file.seek(SeekFrom::Start(at));
        place
            .map(drop)
            .map_err(|e| Failure::io("read", self.path, e))
    }

    /// What the next record says; `None` at the end, or where a torn or damaged record begins.
    fn next(&mut self) -> Result<Option<Entry>> {
        let mut head = [0; 40];
        match self.file.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other.map_err(|e| Failure::io("read", self.path, e))?,
        }
        let (length, checksum) = head.split_at(8);
        let length = length
            .iter()
            .rev()
            .fold(0, |sum, b| sum << 8 | u64::from(*b));
        let end = self
            .end
            .checked_add(40)
            .and_then(|at| at.checked_add(length));
        let Some(end) = end.filter(|end| *end <= self.length) else {
            return Ok(None);
        };
        let mut payload = Vec::new();
        self.file
            .by_ref()
            .take(length)
            .read_to_end(&mut payload)
            .map_err(|e| Failure::io("read", self.path, e))?;
        if payload.len() as u64 != length || Sha256::digest(&payload)[..] != *checksum {
            return Ok(None);
        }
        let entry = decode(&payload);
        if entry.is_some() {
            self.end = end;
        }
        Ok(entry)
    }
}

fn check_fingerprint(kept: &Fingerprint, wanted: &Fingerprint, path: &Path) -> Result<()> {
    let show = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
    let mut names: Vec<&String> = kept.keys().chain(wanted.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| kept.get(*name) != wanted.get(*name))
        .map(|name| {
            format!(
                "{name} was {}, is {}",
                show(kept.get(name)),
                show(wanted.get(name))
            )
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::argument(format!(
        "cannot resume: {}: {}",
        differences.join("; "),
        path.display()
    ))
    .hint("give the inputs and options of the first run, or delete that file to start anew"))
}

/// Kinds and ids of `inputs`, by which a run knows its own again; of a slide's tiles one for all.
fn listing(inputs: &[Item]) -> Vec<(&'static str, Cow<'_, str>)> {
    let is_tile = |item: &Item| matches!(item, Item::Image(source) if source.tile().is_some());
    let mut listed: Vec<(usize, (&'static str, Cow<'_, str>))> = inputs
        .iter()
        .enumerate()
        .filter(|(_, item)| !is_tile(item))
        .map(|(place, item)| (place, (item.kind(), item.id())))
        .collect();
    for (file, places) in slides_among(inputs) {
        let Some(tiles) = file.tiles() else { continue };
        let Tiling {
            level,
            read_size,
            tiles,
            ..
        } = &tiles.tiling;
        let mut checksum = Sha256::new();
        checksum.update(format!("{level} {read_size}\n"));
        for (x, y) in tiles {
            checksum.update(x.to_le_bytes());
            checksum.update(y.to_le_bytes());
        }
        let checksum = hex(checksum.finalize().get(..4).unwrap_or_default());
        let path = file.path.display();
        let id = format!("{path}: {} tiles, {checksum}", tiles.len());
        listed.push((places.start, ("slide", id.into())));
    }
    listed.sort_unstable_by_key(|(place, _)| *place);
    listed.into_iter().map(|(_, one)| one).collect()
}

/// An error that names up to three of the inputs that are new, and of those that are missing.
fn check_inputs(kept: &[(String, String)], wanted: &[Item], path: &Path) -> Result<()> {
    let wanted = listing(wanted);
    let kept: Vec<_> = kept.iter().map(|(kind, id)| (&**kind, id.into())).collect();
    if kept == wanted {
        return Ok(());
    }
    let (new, missing) = (left_out(&wanted, &kept), left_out(&kept, &wanted));
    let differences = match (new, missing) {
        (None, None) => "the inputs come in another order".to_owned(),
        (Some(new), None) => format!("inputs that are new: {new}"),
        (None, Some(missing)) => format!("inputs that are missing: {missing}"),
        (Some(new), Some(missing)) => {
            format!("inputs that are new: {new}; that are missing: {missing}")
        }
    };
    Err(
        Failure::argument(format!("cannot resume: {differences}: {}", path.display()))
            .hint("give the inputs of the first run, or delete that file to start anew"),
    )
}

/// How many of `some` are not among `others`, and the first three; texts are not shown.
fn left_out(some: &[(&str, Cow<str>)], others: &[(&str, Cow<str>)]) -> Option<String> {
    let others: HashSet<_> = others.iter().collect();
    let out: Vec<_> = some.iter().filter(|one| !others.contains(one)).collect();
    let shown = |(kind, id): &&(&str, Cow<str>)| match *kind {
        "text" => "a text".to_owned(),
        _ => id.to_string(),
    };
    let names: Vec<String> = out.iter().take(3).map(shown).collect();
    let more = if out.len() > 3 { ", ..." } else { "" };
    (!out.is_empty()).then(|| format!("{} ({}{more})", out.len(), names.join(", ")))
}

/// First byte of the payload that lists the inputs, as JSON.
const INPUTS: u8 = b'I';
/// First byte of a batch: then the place of its first item (u64), then its outcomes.
const BATCH: u8 = b'B';
/// First byte of the payload that lists the files of the output, as JSON.
const COMMIT: u8 = b'C';

/// What stands before an outcome's numbers.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, Failed>>,
    #[serde(flatten)]
    about: Cow<'a, About>,
}

/// Length (u32) of the head, head as JSON, count (u32) of numbers, numbers (f32); all little endian.
fn encode(outcome: &Outcome, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
    let head = serde_json::to_vec(&Head {
        error: outcome.embedding.as_ref().err().map(Cow::Borrowed),
        about: Cow::Borrowed(&outcome.about),
    })?;
    let numbers = outcome.embedding.as_deref().unwrap_or_default();
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(head);
    bytes.extend((numbers.len() as u32).to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    Ok(())
}

fn tagged(tag: u8, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut payload = vec![tag];
    serde_json::to_writer(&mut payload, value)?;
    Ok(payload)
}

fn record(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(40 + payload.len());
    record.extend((payload.len() as u64).to_le_bytes());
    record.extend(Sha256::digest(payload));
    record.extend(payload);
    record
}

fn decode(payload: &[u8]) -> Option<Entry> {
    let (tag, body) = payload.split_first()?;
    match *tag {
        INPUTS => serde_json::from_slice(body).ok().map(Entry::Inputs),
        COMMIT => serde_json::from_slice(body).ok().map(Entry::Commit),
        BATCH => {
            let (start, mut body) = body.split_first_chunk()?;
            let mut outcomes = Vec::new();
            while !body.is_empty() {
                let (outcome, rest) = decode_outcome(body)?;
                outcomes.push(outcome);
                body = rest;
            }
            let start = usize::try_from(u64::from_le_bytes(*start)).ok()?;
            Some(Entry::Batch(start, outcomes))
        }
        _ => None,
    }
}

fn decode_outcome(bytes: &[u8]) -> Option<(Outcome, &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (head, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (count, bytes) = bytes.split_first_chunk()?;
    let size = (u32::from_le_bytes(*count) as usize).checked_mul(4)?;
    let (numbers, rest) = bytes.split_at_checked(size)?;
    let numbers = numbers.as_chunks().0.iter();
    let head: Head = serde_json::from_slice(head).ok()?;
    let outcome = Outcome {
        embedding: match head.error {
            Some(failed) => Err(failed.into_owned()),
            None => Ok(numbers.map(|x| f32::from_le_bytes(*x)).collect()),
        },
        about: head.about.into_owned(),
    };
    Some((outcome, rest))
}

#[cfg(test)]
mod tests;
