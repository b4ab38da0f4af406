//! The journal `OUTPUT.part`: what a run has done so far, batch after batch, so that nothing is done twice.
//!
//! A JSON line (version and fingerprint: all that decides the result), then one record a batch: its length
//! (u64, little endian), the SHA-256 of its payload, its payload. A torn last record is dropped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::batches::{Failed, Outcome};
use crate::messages::{Failure, Result};

/// Everything that decides a result, by name.
pub type Fingerprint = BTreeMap<String, Value>;

/// An open journal, at its end.
pub struct Journal {
    file: File,
    path: PathBuf,
    synced: Instant,
    /// End of the last whole record.
    end: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    medsiglip_journal: u32,
    fingerprint: Fingerprint,
}

const VERSION: u32 = 1;
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

    /// Writes the header of an empty journal; checks the header of one that holds work, gives every record to
    /// `keep` and drops a torn end.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the fingerprint differs, naming what differs; `IO_ERROR`.
    pub fn start(
        &mut self,
        fingerprint: &Fingerprint,
        mut keep: impl FnMut(&[Outcome]) -> Result<()>,
    ) -> Result<()> {
        if !self.holds_work()? {
            return self.write_header(fingerprint);
        }
        let Some(mut records) = self.records()? else {
            // Interrupted within its very first write.
            return self.write_header(fingerprint);
        };
        check_fingerprint(&records.fingerprint, fingerprint, &self.path)?;
        while let Some(outcomes) = records.next()? {
            keep(&outcomes)?;
        }
        self.end = records.end;
        self.truncate()
    }

    /// Keeps the outcomes of one more batch.
    pub fn append(&mut self, outcomes: &[Outcome]) -> Result<()> {
        let payload = encode(outcomes);
        let mut record = Vec::with_capacity(40 + payload.len());
        record.extend((payload.len() as u64).to_le_bytes());
        record.extend(Sha256::digest(&payload));
        record.extend(payload);
        self.write(&record)
    }

    /// Reads the records from the first on; `None` where not even the header is whole.
    pub fn records(&self) -> Result<Option<Records<'_>>> {
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

    fn write_header(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        let header = Header {
            medsiglip_journal: VERSION,
            fingerprint: fingerprint.clone(),
        };
        let mut line = serde_json::to_vec(&header).map_err(|e| self.failure("write", e.into()))?;
        line.push(b'\n');
        self.truncate()?;
        self.write(&line)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
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
pub struct Records<'a> {
    file: BufReader<&'a File>,
    path: &'a Path,
    fingerprint: Fingerprint,
    /// End of the last whole record read.
    end: u64,
    length: u64,
}

impl Records<'_> {
    /// The outcomes of the next batch; `None` at the end, or where a torn or damaged record begins.
    pub fn next(&mut self) -> Result<Option<Vec<Outcome>>> {
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
        let outcomes = decode(&payload);
        if outcomes.is_some() {
            self.end = end;
        }
        Ok(outcomes)
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

/// For each outcome 0, its width and its numbers; or 1, a length and the failure as JSON. All u32 little endian.
fn encode(outcomes: &[Outcome]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(embedding) => {
                bytes.push(0);
                bytes.extend((embedding.len() as u32).to_le_bytes());
                bytes.extend(embedding.iter().flat_map(|x| x.to_le_bytes()));
            }
            Err(failed) => {
                let json = serde_json::json!(failed).to_string();
                bytes.push(1);
                bytes.extend((json.len() as u32).to_le_bytes());
                bytes.extend(json.as_bytes());
            }
        }
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (length, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let size = if *tag == 0 {
            length.checked_mul(4)?
        } else {
            length
        };
        let (body, rest) = rest.split_at_checked(size)?;
        bytes = rest;
        outcomes.push(match tag {
            0 => Ok(body
                .as_chunks()
                .0
                .iter()
                .map(|x| f32::from_le_bytes(*x))
                .collect()),
            _ => Err(serde_json::from_slice::<Failed>(body).ok()?),
        });
    }
    Some(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<Outcome> {
        let failed = Failed {
            code: "BAD_IMAGE".into(),
            message: "torn".into(),
        };
        vec![
            Ok(vec![0.5, -0.0, f32::MIN_POSITIVE]),
            Err(failed),
            Ok(vec![1.0]),
        ]
    }

    fn fingerprint(recipe: &str) -> Fingerprint {
        Fingerprint::from([("recipe".into(), recipe.into())])
    }

    fn journal_of(path: &Path, batches: usize) {
        let mut journal = Journal::claim(path, false).unwrap();
        journal.start(&fingerprint("hf"), |_| Ok(())).unwrap();
        (0..batches).for_each(|_| journal.append(&outcomes()).unwrap());
    }

    fn resume(path: &Path) -> (Journal, usize) {
        let mut count = 0;
        let mut journal = Journal::claim(path, true).unwrap();
        let keep = |kept: &[Outcome]| {
            assert_eq!(kept, outcomes());
            count += 1;
            Ok(())
        };
        journal.start(&fingerprint("hf"), keep).unwrap();
        (journal, count)
    }

    #[test]
    fn what_was_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        journal_of(&path, 2);
        let (mut journal, count) = resume(&path);
        assert_eq!(count, 2);
        journal.append(&outcomes()).unwrap();
        drop(journal);
        assert_eq!(resume(&path).1, 3);
    }

    #[test]
    fn a_torn_or_damaged_end_is_dropped_wherever_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        journal_of(&path, 2);
        let whole = std::fs::read(&path).unwrap();
        let header = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        let record = (whole.len() - header) / 2;
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, count) = resume(&path);
            assert_eq!(
                count,
                length.saturating_sub(header) / record,
                "torn at {length}"
            );
            journal.append(&outcomes()).unwrap();
            drop(journal);
            assert_eq!(resume(&path).1, count + 1, "torn at {length}");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(resume(&path).1, 1);
    }

    #[test]
    fn a_run_with_other_options_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        journal_of(&path, 1);
        assert!(Journal::claim(&path, false).is_err());
        let mut journal = Journal::claim(&path, true).unwrap();
        let refused = journal
            .start(&fingerprint("eval-tf"), |_| Ok(()))
            .unwrap_err();
        assert!(format!("{refused:?}").contains(r#"recipe was \"hf\", is \"eval-tf\""#));
        drop(journal);
        assert_eq!(resume(&path).1, 1, "a refusal must not touch the journal");
    }

    #[test]
    fn a_foreign_file_is_not_taken_for_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        for text in ["something else\n", "something else"] {
            std::fs::write(&path, text).unwrap();
            let mut journal = Journal::claim(&path, true).unwrap();
            assert!(journal.start(&fingerprint("hf"), |_| Ok(())).is_err());
            drop(journal);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_processes_cannot_share_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        let _first = Journal::claim(&path, false).unwrap();
        assert!(Journal::claim(&path, true).is_err());
    }
}
