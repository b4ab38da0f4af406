//! [`Source`]: the examples of one `[[source]]`, checked, and what was left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::captions::Captions;
use super::location::is_picture;
use super::{Example, Location, PictureColumn, Skipped, SourceConfig, shards, table};
use crate::{Error, Result};

/// Folders below folders that are walked.
const MAX_DEPTH: usize = 64;

/// The examples of one source, in the order of its manifest, folder (sorted by path) or shards.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it was made from.
    pub config: SourceConfig,
    /// What can be drawn; at least one.
    pub examples: Vec<Example>,
    /// What was left out.
    pub skipped: Skipped,
    /// What a person should know before training: for example a label that has texts and no example.
    pub warnings: Vec<String>,
    pub(super) captions: Captions,
}

impl Source {
    /// Reads everything but the pictures; relative paths of `config` start at `base`.
    ///
    /// # Errors
    /// `BAD_CONFIG` for a contradiction in `config`, an unknown column, a manifest that is damaged as a whole, no example
    /// at all, an id that is there twice or a `group` that no example has; `BAD_ARGUMENT` where more than `max_skipped` cannot be used; `IO_ERROR`;
    /// `LIMIT_EXCEEDED`.
    pub fn open(config: SourceConfig, base: impl AsRef<Path>) -> Result<Self> {
        config.check()?;
        let base = base.as_ref();
        let mut found = Found::default();
        if let Some(adapter) = config.adapter {
            adapter.read(base, &config, &mut found)?;
            check_columns(&config, &found)?;
        } else if let Some(manifest) = &config.manifest {
            read_manifest(&base.join(manifest), &config, &mut found)?;
        } else if let Some(folder) = &config.folder {
            read_folder(&base.join(folder), &mut found)?;
        } else {
            read_shards(base, &config, &mut found)?;
        }
        let mut warnings = std::mem::take(&mut found.warnings);
        let captions = Captions::new(&config)?;
        let seen = found.examples.len() as u64 + found.skipped.total();
        let (examples, skipped) = found.usable(&config, &captions)?;
        skipped.check(seen, config.max_skipped, &config.name)?;
        if examples.is_empty() {
            return Err(config.bad("no example"));
        }
        warnings.extend(texts_without_examples(&config, &examples));
        warnings.extend(ungrouped(&config, &examples)?);
        Ok(Self {
            warnings,
            config,
            examples,
            skipped,
            captions,
        })
    }

    /// The caption of an example that is looked at without chance: its first, or the first template that fits with the
    /// first of its texts; empty where the source has labels alone.
    pub fn first_caption(&self, example: &Example) -> String {
        self.captions.first(example).unwrap_or_default()
    }

    /// Every caption that a draw of `example` can have.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there are more than ten thousand.
    pub fn all_captions(&self, example: &Example) -> Result<Vec<String>> {
        self.captions.all(example)
    }

    /// Whether `caption` is among [`all_captions`](Self::all_captions) of `example`. None of them is made for it, so that
    /// their number does not matter.
    pub fn may_have(&self, example: &Example, caption: &str) -> bool {
        self.captions.may_give(example, caption)
    }

    /// Whether every example has a caption: else the source has labels or pictures alone.
    pub fn has_texts(&self) -> bool {
        self.config.has_texts() || self.examples.iter().any(|e| !e.captions.is_empty())
    }

    /// That the source has texts, or is never drawn from: what it must have where pictures are learned from texts.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it has a weight and no texts.
    pub fn expect_texts(&self) -> Result<()> {
        if self.config.weight == 0.0 || self.has_texts() {
            return Ok(());
        }
        Err(self.config.bad(
            "no example has a text; expected captions, templates or label_texts, or weight = 0",
        ))
    }

    /// The columns whose values are classes: those with texts, and the one to stratify by.
    pub(super) fn class_columns(&self) -> BTreeSet<&str> {
        let columns = self.config.label_texts.keys().chain(&self.config.stratify);
        columns.map(String::as_str).collect()
    }
}

/// Examples before they are checked.
#[derive(Default)]
pub(super) struct Found {
    pub(super) examples: Vec<Example>,
    pub(super) warnings: Vec<String>,
    pub(super) skipped: Skipped,
}

impl Found {
    /// The examples that can be used.
    fn usable(
        mut self,
        config: &SourceConfig,
        captions: &Captions,
    ) -> Result<(Vec<Example>, Skipped)> {
        refuse_twins(config, &self.examples)?;
        let given = |example: &Example| !example.captions.is_empty();
        let has_texts = config.has_texts() || self.examples.iter().any(given);
        let mut usable = Vec::with_capacity(self.examples.len());
        for example in self.examples {
            let texts = example.captions.iter().chain(example.labels.values());
            let wrong = if texts.into_iter().any(|text| text.contains('\0')) {
                Some("text with a NUL byte")
            } else if has_texts && captions.first(&example).is_none() {
                Some("no caption, and no template that fits")
            } else if config.pictures {
                missing(&example.picture)
            } else {
                None
            };
            match wrong {
                Some(wrong) => self.skipped.add(&example.place, wrong),
                None => usable.push(example),
            }
        }
        Ok((usable, self.skipped))
    }
}

/// The columns that `config` names are among those that an adapter gave.
fn check_columns(config: &SourceConfig, found: &Found) -> Result<()> {
    let has = |column: &String| {
        let mut examples = found.examples.iter();
        examples.any(|example| example.labels.contains_key(column))
    };
    match config
        .label_columns()
        .into_iter()
        .find(|column| !has(column))
    {
        Some(column) => Err(config.bad(&format!("no example has a value of {column}"))),
        None => Ok(()),
    }
}

/// Ids name examples in reports and checkpoints: each is there once.
fn refuse_twins(config: &SourceConfig, examples: &[Example]) -> Result<()> {
    let mut places: HashMap<&str, &str> = HashMap::new();
    for example in examples {
        if let Some(first) = places.insert(&example.id, &example.place) {
            return Err(config.bad(&format!(
                "two examples have the same id: {first} and {}; name a column of unique ids (id = \"...\"), and put \
                 the captions of one picture into one row",
                example.place
            )));
        }
    }
    Ok(())
}

fn missing(picture: &Location) -> Option<&'static str> {
    let Location::File(path) = picture else {
        return None;
    };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Some("picture that is no file"),
        Ok(metadata) if metadata.len() == 0 => Some("empty picture file"),
        Ok(_) => None,
        Err(_) => Some("missing picture file"),
    }
}

fn texts_without_examples(config: &SourceConfig, examples: &[Example]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (column, texts) in &config.label_texts {
        let values = examples
            .iter()
            .filter_map(|example| example.labels.get(column));
        let values: BTreeSet<&str> = values.flat_map(|v| v.split('|')).map(str::trim).collect();
        for value in texts.keys().filter(|v| !values.contains(v.as_str())) {
            warnings.push(format!(
                "source {}: {column} = {value} has texts and no example",
                config.name
            ));
        }
    }
    warnings
}

/// A warning where some examples have no group: each of them is divided by itself.
///
/// # Errors
/// `BAD_CONFIG` where none has one, so that nothing would keep patients together.
fn ungrouped(config: &SourceConfig, examples: &[Example]) -> Result<Option<String>> {
    let Some(column) = &config.group else {
        return Ok(None);
    };
    let all = examples.len();
    match examples.iter().filter(|e| e.group.is_none()).count() {
        0 => Ok(None),
        without if without == all => {
            Err(config.bad(&format!("group: no example has a value of {column}")))
        }
        without => Ok(Some(format!(
            "source {}: {without} of {all} examples have no value of {column}; a split puts each of them on a side by \
             itself",
            config.name
        ))),
    }
}

fn read_manifest(path: &Path, config: &SourceConfig, found: &mut Found) -> Result<()> {
    let labels: Vec<String> = config.label_columns().into_iter().collect();
    let mut wanted: Vec<Vec<&str>> = Vec::new();
    let picture = match (&config.image_bytes, &config.image) {
        (Some(column), _) => {
            if !path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("parquet"))
            {
                return Err(config.bad("image_bytes: expected a .parquet manifest"));
            }
            Some(Arc::new(PictureColumn::open(path, column)?))
        }
        (None, Some(column)) => {
            wanted.push(vec![column]);
            None
        }
        (None, None) => {
            wanted.push(vec!["image", "path"]);
            None
        }
    };
    let others = config.id.iter().chain(&config.group);
    wanted.extend(
        others
            .chain(&config.captions)
            .chain(&labels)
            .map(|column| vec![column.as_str()]),
    );
    let folder = path.parent().unwrap_or(Path::new(""));
    table::read(path, &wanted, &mut |number, row| {
        let example = row.and_then(|row| {
            let picture = picture.as_ref().map(|column| Location::Cell {
                column: column.clone(),
                row: number,
            });
            example_of_row(row, number, picture, folder, config, &labels)
        });
        let place = format!("{}: row {number}", path.display());
        match example {
            Ok(example) => found.examples.push(Example { place, ..example }),
            Err(reason) => found.skipped.add(&place, reason),
        }
    })
}

/// The cells stand as `read_manifest` asked for them: picture path, id, group, captions, labels.
fn example_of_row(
    row: table::Row,
    number: u64,
    bytes: Option<Location>,
    folder: &Path,
    config: &SourceConfig,
    labels: &[String],
) -> std::result::Result<Example, table::Unusable> {
    let mut cells = row.into_iter();
    let mut next = || cells.next().unwrap_or_default();
    let (picture, mut id) = match bytes {
        Some(bytes) => (bytes, format!("row {number}")),
        None => {
            let path = next().into_iter().next().ok_or("no picture path")?;
            (Location::File(folder.join(&path)), path)
        }
    };
    if config.id.is_some() {
        id = next().into_iter().next().ok_or("no id")?;
    }
    let group = match config.group {
        Some(_) => next().into_iter().next(),
        None => None,
    };
    let captions = (0..config.captions.len()).flat_map(|_| next()).collect();
    let mut values = BTreeMap::new();
    for column in labels {
        let value = next();
        if !value.is_empty() {
            values.insert(column.clone(), value.join("|"));
        }
    }
    Ok(Example {
        id,
        picture,
        place: String::new(),
        captions,
        labels: values,
        group,
    })
}

fn read_folder(folder: &Path, found: &mut Found) -> Result<()> {
    let mut files = Vec::new();
    walk(folder, 0, &mut files)?;
    for (number, path) in (1..).zip(files) {
        let below = path.strip_prefix(folder).unwrap_or(&path);
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        let label = (parts.len() > 1).then(|| ("label".to_owned(), parts[0].to_string()));
        let example = Example {
            id: parts.join("/"),
            captions: Vec::new(),
            labels: label.into_iter().collect(),
            group: None,
            // A file's name can be a patient's: the number in the order of the paths finds it again.
            place: format!("{}: picture {number}", folder.display()),
            picture: Location::File(path),
        };
        found.examples.push(example);
    }
    Ok(())
}

/// The picture files below `folder`, in the order of their paths. Links to folders are not followed: they can lead in a ring.
pub(super) fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error| Error::io("read", folder, error);
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .and_then(Iterator::collect)
        .map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            if depth >= MAX_DEPTH {
                return Err(Error::Limit {
                    what: "depth of folders",
                    got: depth as u64 + 1,
                    limit: MAX_DEPTH as u64,
                });
            }
            walk(&path, depth + 1, files)?;
        } else {
            let extension = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .to_ascii_lowercase();
            if is_picture(&extension) {
                files.push(path);
            }
        }
    }
    Ok(())
}

fn read_shards(base: &Path, config: &SourceConfig, found: &mut Found) -> Result<()> {
    let patterns = config.shards.as_ref().map_or(&[][..], |s| s.patterns());
    let mut paths = BTreeSet::new();
    for pattern in patterns {
        let full = base.join(pattern);
        if full.is_file() {
            paths.insert(full);
            continue;
        }
        // The folder of the configuration is no part of the pattern.
        let base = glob::Pattern::escape(&base.to_string_lossy());
        let full = Path::new(&base).join(pattern);
        let matches = glob::glob(&full.to_string_lossy())
            .map_err(|_| config.bad("shards: not a pattern of paths"))?;
        let before = paths.len();
        paths.extend(matches.flatten().filter(|path| path.is_file()));
        if paths.len() == before {
            return Err(config.bad("shards: a path or pattern names no file"));
        }
    }
    for path in paths {
        let examples = shards::read(&path, config, &mut found.skipped)?;
        found.examples.extend(examples);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
