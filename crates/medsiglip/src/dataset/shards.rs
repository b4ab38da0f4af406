//! WebDataset shards: tar files whose members `KEY.jpg`, `KEY.txt`, `KEY.json`, `KEY.cls` are one example.
//!
//! A shard's headers and texts are read once; pictures are passed over and read where they lie when they are drawn. The
//! format: <https://github.com/webdataset/webdataset>, a key reaches to the first dot of the base name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tar::{Archive, EntryType, PaxExtensions};

use super::location::is_picture;
use super::table::{one, texts};
use super::{Example, Location, Skipped, SourceConfig};
use crate::image::Limits;
use crate::{Error, Result};

/// Bytes of a block of a tar file, in which headers and members begin.
const BLOCK: u64 = 512;

/// Bytes of a text member, or of a long name.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The examples of one shard, in its order.
///
/// # Errors
/// `IO_ERROR` where it cannot be opened. `BAD_CONFIG` where it is damaged: nobody can say how much follows and is lost.
/// Where `max_skipped` is 1, what lies before the damage is taken, and the damage counted as one example.
pub(super) fn read(
    path: &Path,
    config: &SourceConfig,
    skipped: &mut Skipped,
) -> Result<Vec<Example>> {
    let failed = |error| Error::io("read", path, error);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    let mut shard = Shard {
        path: path.into(),
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        length,
        config,
        labels: config.label_columns(),
        sample: None,
        samples: 0,
        examples: Vec::new(),
    };
    let open = || File::open(path).map(BufReader::new).map_err(failed);
    let (names, members) = (open()?, open()?);
    let end = check_names(names, length).and_then(|()| shard.walk(members, skipped));
    shard.finish_sample(skipped);
    if let Err(Damage { at, what }) = end {
        let place = format!("{} at byte {at}", path.display());
        if config.max_skipped < 1.0 {
            return Err(config.bad(&format!(
                "{what}; all that follows is lost: copy the shard again, or take what lies before with max_skipped = 1: \
                 {place}"
            )));
        }
        skipped.add(&place, what);
    }
    Ok(shard.examples)
}

/// Where a tar file stops making sense, and how.
struct Damage {
    at: u64,
    what: &'static str,
}

const UNREADABLE: &str = "tar file that cannot be read";
const CUT: &str = "tar file that is cut off, or claims more than it has";

/// The tar crate reads the members that hold long names into memory, whatever their length: it is looked at before. One
/// that gives a member another size than its header (pax, needed from 8 GiB on) would lead the crate past what was
/// looked at here.
fn check_names(file: BufReader<File>, length: u64) -> std::result::Result<(), Damage> {
    let mut archive = Archive::new(file);
    let damage = |at, what| Damage { at, what };
    let entries = archive
        .entries_with_seek()
        .map_err(|_| damage(0, UNREADABLE))?;
    let mut at = 0;
    for entry in entries.raw(true) {
        // The walk over the members tells where the damage is, after it has taken what lies before.
        let Ok(mut entry) = entry else {
            return Ok(());
        };
        let kind = entry.header().entry_type();
        let names = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if names && entry.size() > MAX_TEXT_BYTES {
            return Err(damage(at, "tar file with a name of more than 1 MiB"));
        }
        let mut text = Vec::new();
        if kind.is_pax_local_extensions() && entry.read_to_end(&mut text).is_ok() && has_size(&text)
        {
            return Err(damage(at, "tar file with members of 8 GiB or more"));
        }
        at = entry.raw_file_position().saturating_add(entry.size());
        if at > length {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a pax header gives a size, as the tar crate reads it: up to the first malformed record.
fn has_size(records: &[u8]) -> bool {
    PaxExtensions::new(records)
        .map_while(Result::ok)
        .any(|record| record.key_bytes() == b"size")
}

/// The members of one key so far.
#[derive(Default)]
struct Sample {
    key: String,
    picture: Option<Location>,
    captions: Vec<String>,
    json: Map<String, Value>,
    class: Vec<String>,
    wrong: Option<&'static str>,
}

struct Shard<'a> {
    path: Arc<Path>,
    name: String,
    length: u64,
    config: &'a SourceConfig,
    labels: BTreeSet<String>,
    sample: Option<Sample>,
    /// Samples so far: keys are not told, they can be a patient's.
    samples: u64,
    examples: Vec<Example>,
}

impl Shard<'_> {
    fn walk(
        &mut self,
        file: BufReader<File>,
        skipped: &mut Skipped,
    ) -> std::result::Result<(), Damage> {
        let mut at = 0;
        let mut archive = Archive::new(file);
        let entries = archive.entries_with_seek();
        let entries = entries.map_err(|_| Damage {
            at,
            what: UNREADABLE,
        })?;
        for entry in entries {
            let mut entry = entry.map_err(|error| Damage {
                at,
                what: match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => CUT,
                    _ if !self.has_block_after(at) => CUT,
                    _ => UNREADABLE,
                },
            })?;
            let (offset, bytes) = (entry.raw_file_position(), entry.size());
            match offset.checked_add(bytes) {
                Some(end) if end <= self.length => at = end,
                _ => {
                    return Err(Damage {
                        at: offset,
                        what: CUT,
                    });
                }
            }
            let is_file = matches!(
                entry.header().entry_type(),
                EntryType::Regular | EntryType::Continuous
            );
            let name = entry.path_bytes();
            let Some((key, extension)) = is_file.then(|| split_name(&name)).flatten() else {
                continue;
            };
            if self.sample.as_ref().is_none_or(|sample| sample.key != key) {
                self.finish_sample(skipped);
                self.sample = Some(Sample {
                    key,
                    ..Sample::default()
                });
            }
            self.member(&extension, offset, bytes, &mut entry);
        }
        // The reader takes the end of the file for the end of the archive, which is a block of zeros: a file that is cut
        // between two members would look whole.
        match self.has_block_after(at) {
            true => Ok(()),
            false => Err(Damage { at, what: CUT }),
        }
    }

    fn has_block_after(&self, member_end: u64) -> bool {
        let start = member_end.next_multiple_of(BLOCK);
        start.saturating_add(BLOCK) <= self.length
    }

    fn member(&mut self, extension: &str, offset: u64, bytes: u64, entry: &mut impl Read) {
        let Some(sample) = &mut self.sample else {
            return;
        };
        if is_picture(extension) {
            if Limits::default().check_file(bytes).is_err() {
                sample.wrong = Some("picture over the limit of file size");
            } else if bytes == 0 {
                sample.wrong = Some("empty picture file");
            }
            // Of several pictures, the first: depth maps and masks follow the picture.
            sample.picture.get_or_insert(Location::Member {
                shard: self.path.clone(),
                offset,
                bytes,
            });
            return;
        }
        if !matches!(extension, "txt" | "json" | "cls") {
            return;
        }
        let mut text = String::new();
        if bytes > MAX_TEXT_BYTES {
            sample.wrong = Some("text of more than 1 MiB");
        } else if entry.read_to_string(&mut text).is_err() {
            sample.wrong = Some("text that is not UTF-8");
        } else {
            match extension {
                "txt" => sample.captions.extend(one(&text)),
                "cls" => sample.class = one(&text),
                _ => match serde_json::from_str(&text) {
                    Ok(Value::Object(object)) => sample.json = object,
                    _ => sample.wrong = Some("member .json that is no JSON object"),
                },
            }
        }
    }

    fn finish_sample(&mut self, skipped: &mut Skipped) {
        let Some(sample) = self.sample.take() else {
            return;
        };
        let id = format!("{}/{}", self.name, sample.key);
        self.samples += 1;
        let place = format!("{}: example {}", self.path.display(), self.samples);
        match self.example(id, sample) {
            Ok(example) => self.examples.push(Example { place, ..example }),
            Err(reason) => skipped.add(&place, reason),
        }
    }

    fn example(&self, id: String, sample: Sample) -> std::result::Result<Example, &'static str> {
        if let Some(wrong) = sample.wrong {
            return Err(wrong);
        }
        let get = |key: &str| {
            let labels = sample.json.get("labels").and_then(Value::as_object);
            let value = labels.and_then(|labels| labels.get(key));
            value
                .or_else(|| sample.json.get(key))
                .map_or(Ok(Vec::new()), texts)
        };
        let mut captions = sample.captions;
        let keys: Vec<&str> = match self.config.captions.as_slice() {
            [] => vec!["caption", "captions"],
            keys => keys.iter().map(String::as_str).collect(),
        };
        for key in keys {
            captions.extend(get(key)?);
        }
        let mut labels = BTreeMap::new();
        for column in &self.labels {
            let mut value = get(column)?;
            if column == "cls" && value.is_empty() {
                value.clone_from(&sample.class);
            }
            if !value.is_empty() {
                labels.insert(column.clone(), value.join("|"));
            }
        }
        let group = match &self.config.group {
            Some(column) => get(column)?.into_iter().next(),
            None => None,
        };
        let id = match &self.config.id {
            Some(column) => get(column)?.into_iter().next().ok_or("no id")?,
            None => id,
        };
        Ok(Example {
            id,
            picture: sample.picture.ok_or("no picture")?,
            place: String::new(),
            captions,
            labels,
            group,
        })
    }
}

/// A member's key (with its folder) and its extension in lower case: both end at the first dot of the base name.
fn split_name(name: &[u8]) -> Option<(String, String)> {
    let name = std::str::from_utf8(name).ok()?;
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    if dot == base {
        return None;
    }
    Some((name[..dot].to_owned(), name[dot + 1..].to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;
