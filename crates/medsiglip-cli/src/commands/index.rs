//! `index`: pictures or embeddings into a store.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::Model;
use medsiglip::embedding::EmbeddingTable;
use medsiglip::index::{About, Approximation, Digest, Item as Stored, Store, Tuned, Tuning};
use serde_json::{Map, Value, json};

use super::metadata::Fields;
use super::store::{self, open};
use crate::args::{
    IndexAddArgs, IndexArgs, IndexCommand, IndexCompactArgs, IndexImportArgs, IndexInfoArgs,
    IndexTuneArgs, OutputArgs,
};
use crate::batches::{self, Outcome};
use crate::inputs::{self, Inputs, Item, digest, file_of};
use crate::messages::{self, Exit, Failure, Result, count};
use crate::parallel;
use crate::pictures::DicomSource;
use crate::progress::Progress;
use crate::run;

/// Items that are stored in one go.
const CHUNK: usize = 4096;

/// Adds, imports, tells or compacts.
pub fn run(args: &IndexArgs) -> Result<Exit> {
    match &args.command {
        IndexCommand::Add(args) => add(args),
        IndexCommand::Import(args) => import(args),
        IndexCommand::Eval(args) => super::index_eval::run(args),
        IndexCommand::Info(args) => info(args),
        IndexCommand::Tune(args) => tune(args),
        IndexCommand::Compact(args) => compact(args),
    }
}

/// The store, made where there is none, for embeddings made like this.
fn open_for(store: &Path, about: &About) -> Result<Box<dyn Store>> {
    let store = store::open_or_create(store, about)?;
    store
        .about()
        .accepts(about.dim, about.provenance.as_ref())?;
    // What one of them says nothing of is no contradiction: slides beside pictures that were not cut.
    if let (Some(own), Some(now)) = (&store.about().reading, &about.reading) {
        let both = own
            .iter()
            .filter_map(|(name, own)| Some((name, own, now.get(name)?)));
        if let Some((name, own, now)) = both.into_iter().find(|(_, own, now)| own != now) {
            return Err(Failure::argument(format!(
                "store: made with {name} {own}, got {now}; give the options of then, or make another store"
            )));
        }
    }
    Ok(store)
}

fn add(args: &IndexAddArgs) -> Result<Exit> {
    args.dicom.display.check(args.pixels.recipe)?;
    if args.prune && !args.paths.iter().any(|path| path.is_dir()) {
        return Err(Failure::argument(
            "--prune: expected folders among the paths",
        ));
    }
    let key = args.dicom.patient_key()?;
    let inputs = gather(args)?;
    let mut fields = Fields::read(&args.metadata)?;
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let encoding = run::encoding(&model, &args.model, &args.pixels, &args.dicom, key);
    let mut reading = encoding.reader.fingerprint();
    reading.extend(args.tiles.fingerprint());
    let about = About {
        dim: model.config().vision.hidden_size,
        precision: args.vectors.into(),
        provenance: Some(model.provenance(false)?),
        reading: Some(reading),
    };
    let mut store = open_for(&args.store, &about)?;
    batches::stop_on_ctrl_c();
    let known: HashMap<String, Option<Digest>> = store.contents()?.into_iter().collect();
    let ids: Vec<_> = inputs.items.iter().map(Item::id).collect();
    fields.join(
        known
            .keys()
            .map(String::as_str)
            .chain(ids.iter().map(AsRef::as_ref)),
    )?;
    let digests = digests(&inputs, args.model.decode_threads());
    if batches::is_stopped() {
        return Ok(interrupted());
    }
    if args.prune {
        prune(&mut *store, &known, &ids, &args.paths)?;
    }
    let is_new = |item: &&Item| {
        let digest = item.source().and_then(|source| digests.get(source.path()));
        digest.is_none() || known.get(&*item.id()).and_then(Option::as_ref) != digest
    };
    let new: Vec<Item> = inputs.items.iter().filter(is_new).cloned().collect();
    let unchanged: Vec<&Item> = inputs.items.iter().filter(|item| !is_new(item)).collect();
    update(&mut *store, &fields, &unchanged)?;
    let batches = batches::split(&new, args.batch.batch_size.get());
    let mut adding = Adding {
        store,
        fields,
        digests,
        progress: Progress::new(new.len(), 0),
        stored: 0,
        failed: 0,
    };
    encoding.run(&new, &batches, |items, outcomes| {
        let failed = adding.batch(items, outcomes)?;
        let is_over = batches::is_stopped() || (failed && args.batch.fail_fast);
        Ok::<_, Failure>(!is_over)
    })?;
    adding.finish(new.len(), unchanged.len())
}

fn interrupted() -> Exit {
    messages::say("interrupted; the same command goes on");
    Exit::Interrupted
}

fn gather(args: &IndexAddArgs) -> Result<Inputs> {
    let output = OutputArgs {
        output: None,
        overwrite: false,
        resume: false,
    };
    let reading = run::reading(&args.model, &args.pixels, &args.dicom, &args.tiles, &output)?;
    let inputs = inputs::gather(&args.paths, &[], &reading)?;
    match inputs
        .items
        .iter()
        .all(|item| matches!(item, Item::Image(_)))
    {
        true => Ok(inputs),
        false => Err(Failure::argument(
            "index: expected pictures, got texts among them",
        )),
    }
}

/// SHA-256 of every file that can be read.
fn digests(inputs: &Inputs, threads: usize) -> HashMap<PathBuf, Digest> {
    let mut seen = HashSet::new();
    let sources = inputs.items.iter().filter_map(Item::source);
    let paths: Vec<&Path> = sources
        .map(|source| source.path())
        .filter(|path| seen.insert(*path))
        .collect();
    let digests = parallel::map(&paths, threads, |path| digest(path));
    let known = paths.iter().zip(digests);
    known
        .filter_map(|(path, digest)| Some((path.to_path_buf(), digest?)))
        .collect()
}

/// Removes what came from files below the folders given that do not exist any more.
///
/// # Errors
/// Where a folder holds no picture at all: it may be a disk that is not there.
fn prune<S: AsRef<str>>(
    store: &mut dyn Store,
    known: &HashMap<String, Option<Digest>>,
    ids: &[S],
    paths: &[PathBuf],
) -> Result<()> {
    let folders: Vec<&PathBuf> = paths.iter().filter(|path| path.is_dir()).collect();
    let is_below = |id: &str, folder: &Path| Path::new(id).starts_with(folder);
    let is_empty = |folder: &&&PathBuf| !ids.iter().any(|id| is_below(id.as_ref(), folder));
    if let Some(folder) = folders.iter().find(is_empty) {
        return Err(Failure::argument(format!(
            "--prune: nothing is removed, for there is no picture at all in {}",
            folder.display()
        ))
        .hint("is its disk there? what is gone for good can be dropped with the store"));
    }
    let is_gone = |id: &str| {
        let file = std::fs::symlink_metadata(file_of(id));
        file.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let made = known.iter().filter(|(_, content)| content.is_some());
    let below = made.filter(|(id, _)| folders.iter().any(|folder| is_below(id, folder)));
    let gone = below
        .filter(|(id, _)| is_gone(id))
        .map(|(id, _)| id.clone());
    let removed = store.remove(&gone.collect::<Vec<_>>())?;
    messages::note(format_args!("removed {}", count(removed, "picture")));
    Ok(())
}

/// Gives unchanged pictures the fields that they do not have so.
fn update(store: &mut dyn Store, fields: &Fields, unchanged: &[&Item]) -> Result<()> {
    let mut changed = 0;
    for chunk in unchanged.chunks(CHUNK) {
        let mut new = Vec::new();
        for item in chunk {
            let id = item.id();
            let (Some(fields), Some(stored)) = (fields.of(&id), store.get(&id)?) else {
                continue;
            };
            let mut metadata = stored.metadata.clone();
            metadata.extend(fields.clone());
            if metadata != stored.metadata {
                new.push((id.into_owned(), metadata));
            }
        }
        store.describe(&new)?;
        changed += new.len();
    }
    if changed > 0 {
        messages::note(format_args!(
            "gave new fields to {}",
            count(changed, "picture")
        ));
    }
    Ok(())
}

/// Pictures on their way into a store.
struct Adding {
    store: Box<dyn Store>,
    fields: Fields,
    digests: HashMap<PathBuf, Digest>,
    progress: Progress,
    stored: usize,
    failed: usize,
}

impl Adding {
    /// Stores a batch; whether something failed.
    fn batch(&mut self, items: &[Item], outcomes: Vec<Outcome>) -> Result<bool> {
        let mut new = Vec::new();
        for (item, outcome) in items.iter().zip(outcomes) {
            for warning in &outcome.about.warnings {
                self.progress
                    .say(format_args!("warning: {}: {warning}", item.shown()));
            }
            match outcome.embedding {
                Ok(embedding) => {
                    let id = item.id().into_owned();
                    let metadata = self.metadata(&id, outcome.about.dicom.as_deref())?;
                    let content = item
                        .source()
                        .and_then(|source| self.digests.get(source.path()));
                    new.push(Stored {
                        id,
                        content: content.copied(),
                        embedding,
                        metadata,
                    });
                }
                Err(failed) => {
                    self.failed += 1;
                    self.progress.say(format_args!(
                        "error[{}]: {}: {}",
                        failed.code,
                        failed.message,
                        item.shown()
                    ));
                }
            }
        }
        let failed = new.len() < items.len();
        self.store.put(&new)?;
        self.stored += new.len();
        self.progress.add(items.len());
        Ok(failed)
    }

    /// Fields that a changed file had from a table stay; those of DICOM are the file's own.
    fn metadata(&self, id: &str, dicom: Option<&DicomSource>) -> Result<Map<String, Value>> {
        let stored = self.store.get(id)?;
        let mut metadata = stored.map(|stored| stored.metadata).unwrap_or_default();
        metadata.retain(|name, _| !DICOM.contains(&name.as_str()) || dicom.is_none());
        metadata.extend(dicom.map(of_dicom).unwrap_or_default());
        metadata.extend(self.fields.of(id).cloned().unwrap_or_default());
        Ok(metadata)
    }

    /// Says what was done of so many, beside so many that had not changed.
    fn finish(self, new: usize, unchanged: usize) -> Result<Exit> {
        self.progress.finish();
        messages::note(format_args!(
            "stored {}, {unchanged} unchanged, {} failed; the store holds {}",
            count(self.stored, "picture"),
            self.failed,
            self.store.len()?
        ));
        if self.stored + self.failed < new && batches::is_stopped() {
            return Ok(interrupted());
        }
        Ok(match (self.failed, self.stored + unchanged) {
            (0, _) => Exit::Done,
            (_, 0) => Exit::NothingDone,
            _ => Exit::SomeFailed,
        })
    }
}

/// Names of the fields of [`of_dicom`].
const DICOM: [&str; 8] = [
    "modality",
    "view",
    "body_part",
    "laterality",
    "study",
    "series",
    "patient",
    "frame",
];

/// The fields of a DICOM file: nothing that names a person.
pub fn of_dicom(source: &DicomSource) -> Map<String, Value> {
    let fields = [
        ("modality", &source.modality),
        ("view", &source.view_position),
        ("body_part", &source.body_part),
        ("laterality", &source.laterality),
        ("study", &source.study_instance_uid),
        ("series", &source.series_instance_uid),
        ("patient", &source.patient_id_hash),
    ];
    let known = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
    known
        .chain([("frame".to_owned(), json!(source.frame))])
        .collect()
}

fn import(args: &IndexImportArgs) -> Result<Exit> {
    let mut fields = Fields::read(&args.metadata)?;
    let table = EmbeddingTable::read(&args.embeddings, &args.table.options())?;
    let embeddings = table.embeddings();
    if let Some(zero) = embeddings
        .rows()
        .position(|row| row.iter().all(|x| *x == 0.0))
    {
        return Err(Failure::argument(format!(
            "embedding {} is zero and like nothing: {}",
            zero + 1,
            args.embeddings.display()
        )));
    }
    fields.join(table.ids().iter().map(String::as_str))?;
    let about = About {
        dim: embeddings.dim(),
        precision: args.vectors.into(),
        provenance: table.provenance().cloned(),
        reading: None,
    };
    let mut store = open_for(&args.store, &about)?;
    batches::stop_on_ctrl_c();
    let rows: Vec<(&String, &[f32])> = table.ids().iter().zip(embeddings.rows()).collect();
    let mut progress = Progress::new(rows.len(), 0);
    let mut stored = 0;
    for chunk in rows.chunks(CHUNK) {
        if batches::is_stopped() {
            break;
        }
        let item = |(id, row): &(&String, &[f32])| Stored {
            id: (*id).clone(),
            content: None,
            embedding: row.to_vec(),
            metadata: fields.of(id).cloned().unwrap_or_default(),
        };
        let items: Vec<Stored> = chunk.iter().map(item).collect();
        store.put(&items)?;
        stored += items.len();
        progress.add(items.len());
    }
    progress.finish();
    messages::note(format_args!(
        "stored {}; the store holds {}",
        count(stored, "embedding"),
        store.len()?
    ));
    if stored < rows.len() {
        messages::say("interrupted; the same command begins again and replaces what is there");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}

fn info(args: &IndexInfoArgs) -> Result<Exit> {
    let store = open(&args.store)?;
    let mut facts = serde_json::to_value(store.about()).expect("plain fields");
    facts["items"] = json!(store.len()?);
    facts["search"] = match store.approximation()? {
        Approximation::Absent => json!("exact"),
        Approximation::Unusable => json!("exact; tune again"),
        Approximation::Usable { tuned, behind } => json!({"tuned": tuned, "behind": behind}),
    };
    if args.verify {
        facts["verified"] = json!(store.verify()?);
    }
    let text = serde_json::to_string_pretty(&facts).expect("plain fields");
    print(&format!("{text}\n"))
}

fn tune(args: &IndexTuneArgs) -> Result<Exit> {
    let mut store = open(&args.store)?;
    batches::stop_on_ctrl_c();
    let how = Tuning {
        k: args.k.get(),
        recall: args.recall,
        queries: args.queries.get(),
        seed: args.seed,
        always: false,
    };
    let mut progress = Progress::new(store.len()?, 0);
    let mut done = 0;
    let tuned = store.tune(&how, &mut |count, _| {
        progress.add(count.saturating_sub(done));
        done = count;
        !batches::is_stopped()
    })?;
    progress.finish();
    let Some(tuned) = tuned else {
        messages::say("interrupted; no item has changed");
        return Ok(Exit::Interrupted);
    };
    let used = tuned.points.iter().find(|own| Some(own.ef) == tuned.ef);
    match used {
        Some(own) => messages::note(format_args!(
            "search keeps {} at a time: recall {:.4} in {:.2} ms, exact search takes {:.2} ms",
            own.ef, own.recall, own.ms, tuned.exact_ms
        )),
        None if tuned.points.iter().any(|own| own.interval.0 >= args.recall) => {
            messages::note("exact search is as fast; search stays exact");
        }
        None => messages::note(format_args!(
            "nothing faster than exact search reaches a recall of {}; search stays exact",
            args.recall
        )),
    }
    print(&table(&tuned))
}

/// What was measured; a mark stands where it is used.
fn table(tuned: &Tuned) -> String {
    let mut table = Table::new();
    let header = ["", "kept", &format!("recall@{}", tuned.k), "95 %", "ms"];
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for point in &tuned.points {
        let (low, high) = point.interval;
        table.add_row([
            if Some(point.ef) == tuned.ef { "*" } else { "" }.to_owned(),
            point.ef.to_string(),
            format!("{:.4}", point.recall),
            format!("{low:.4} to {high:.4}"),
            format!("{:.3}", point.ms),
        ]);
    }
    let is_exact = if tuned.ef.is_none() { "*" } else { "" };
    let exact = format!("{:.3}", tuned.exact_ms);
    table.add_row([is_exact, "all", "1", "", &exact]);
    format!("{table}\n")
}

fn compact(args: &IndexCompactArgs) -> Result<Exit> {
    let mut store = open(&args.store)?;
    store.compact()?;
    messages::note(format_args!(
        "the store holds {}",
        count(store.len()?, "item")
    ));
    Ok(Exit::Done)
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<Exit> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(Failure::stdout)?;
    Ok(Exit::Done)
}

/// Whether the model gives embeddings like those of the store.
pub fn check_model(store: &dyn Store, model: &Model) -> Result<()> {
    let dim = model.config().vision.hidden_size;
    Ok(store
        .about()
        .accepts(dim, Some(&model.provenance(false)?))?)
}
