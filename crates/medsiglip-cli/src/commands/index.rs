//! `index`: pictures or embeddings into a store.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::Model;
use medsiglip::embedding::{EmbeddingTable, IdMatch, Provenance, TableOptions};
use medsiglip::index::{
    About, Approximation, Digest, Item as Stored, LocalStore, Precision, Store, Tuned, Tuning,
};
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use crate::args::{
    IndexAddArgs, IndexArgs, IndexCommand, IndexCompactArgs, IndexImportArgs, IndexInfoArgs,
    IndexTuneArgs, MetadataArgs, OutputArgs,
};
use crate::batches::{self, Outcome};
use crate::inputs::{self, Inputs, Item};
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

/// The store in a folder.
pub fn open(folder: &Path) -> Result<LocalStore> {
    if !LocalStore::is_at(folder) {
        return Err(Failure::missing("read the store", folder)
            .hint("make one: medsiglip index add STORE PATHS, or index import STORE EMBEDDINGS"));
    }
    Ok(LocalStore::open(folder)?)
}

/// The store in a folder, made where there is none, for embeddings made like this.
fn open_for(
    folder: &Path,
    precision: Precision,
    dim: usize,
    made: Option<&Provenance>,
) -> Result<LocalStore> {
    if !LocalStore::is_at(folder) {
        let about = About {
            dim,
            precision,
            provenance: made.cloned(),
        };
        return Ok(LocalStore::create(folder, &about)?);
    }
    let store = LocalStore::open(folder)?;
    store.about().accepts(dim, made)?;
    Ok(store)
}

fn add(args: &IndexAddArgs) -> Result<Exit> {
    args.dicom.display.check(args.pixels.recipe)?;
    let key = args.dicom.patient_key()?;
    let inputs = gather(args)?;
    let extra = Extra::read(&args.metadata)?;
    let model = run::load(&inputs, &args.model, &args.pixels, &args.text_args)?;
    let made = model.provenance(false)?;
    let dim = model.config().vision.hidden_size;
    let mut store = open_for(&args.store, args.vectors.into(), dim, Some(&made))?;
    batches::stop_on_ctrl_c();
    let known: HashMap<String, Option<Digest>> = store.contents()?.into_iter().collect();
    let digests = digests(&inputs, args.model.decode_threads());
    if args.prune {
        prune(&mut store, &known, &inputs, &args.paths)?;
    }
    let is_new = |item: &&Item| {
        let Item::Image(source) = item else {
            return true;
        };
        let digest = digests.get(source.path());
        digest.is_none() || known.get(&*item.id()).and_then(Option::as_ref) != digest
    };
    let new: Vec<Item> = inputs.items.iter().filter(is_new).cloned().collect();
    let unchanged: Vec<&Item> = inputs.items.iter().filter(|item| !is_new(item)).collect();
    update(&mut store, &extra, &unchanged)?;
    let encoding = run::encoding(&model, &args.model, &args.pixels, &args.dicom, key);
    let batches = batches::split(&new, args.batch.batch_size.get());
    let mut adding = Adding {
        store,
        extra,
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
    adding.progress.finish();
    let done = adding.stored + adding.failed;
    messages::note(format_args!(
        "stored {}, {} unchanged, {} failed; the store holds {}",
        count(adding.stored, "picture"),
        unchanged.len(),
        adding.failed,
        adding.store.len()?
    ));
    adding.extra.tell_unused();
    if done < new.len() && batches::is_stopped() {
        messages::say("interrupted; the same command goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(match (adding.failed, adding.stored + unchanged.len()) {
        (0, _) => Exit::Done,
        (_, 0) => Exit::NothingDone,
        _ => Exit::SomeFailed,
    })
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

/// SHA-256 of a file; `None` where it cannot be read.
pub fn digest(path: &Path) -> Option<Digest> {
    let (mut file, mut hash) = (File::open(path).ok()?, sha2::Sha256::new());
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes).ok()? {
            0 => return Some(hash.finalize().into()),
            read => hash.update(bytes.get(..read)?),
        }
    }
}

/// Removes what came from files of the folders given that are not there any more.
fn prune(
    store: &mut LocalStore,
    known: &HashMap<String, Option<Digest>>,
    inputs: &Inputs,
    paths: &[PathBuf],
) -> Result<()> {
    let there: HashSet<_> = inputs.items.iter().map(Item::id).collect();
    let folders: Vec<&PathBuf> = paths.iter().filter(|path| path.is_dir()).collect();
    if folders.is_empty() {
        return Err(Failure::argument(
            "--prune: expected folders among the paths",
        ));
    }
    let is_gone = |(id, content): &(&String, &Option<Digest>)| {
        let path = Path::new(id.as_str());
        content.is_some()
            && !there.contains(id.as_str())
            && folders.iter().any(|folder| path.starts_with(folder))
    };
    let gone: Vec<String> = known
        .iter()
        .filter(is_gone)
        .map(|(id, _)| id.clone())
        .collect();
    let removed = store.remove(&gone)?;
    messages::note(format_args!("removed {}", count(removed, "picture")));
    Ok(())
}

/// Gives unchanged pictures the fields that they do not have so.
fn update(store: &mut LocalStore, extra: &Extra, unchanged: &[&Item]) -> Result<()> {
    if extra.fields.is_empty() {
        return Ok(());
    }
    let mut changed = Vec::new();
    for item in unchanged {
        let id = item.id();
        let (Some(fields), Some(stored)) = (extra.of(&id), store.get(&id)?) else {
            continue;
        };
        let mut metadata = stored.metadata.clone();
        metadata.extend(fields.clone());
        if metadata != stored.metadata {
            let content = item.source().and_then(|source| digest(source.path()));
            changed.push(Stored {
                id: id.into_owned(),
                content,
                embedding: stored.embedding,
                metadata,
            });
        }
    }
    for chunk in changed.chunks(CHUNK) {
        store.put(chunk)?;
    }
    if !changed.is_empty() {
        messages::note(format_args!(
            "gave new fields to {}",
            count(changed.len(), "picture")
        ));
    }
    Ok(())
}

/// Pictures on their way into a store.
struct Adding {
    store: LocalStore,
    extra: Extra,
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
                    let mut metadata = outcome
                        .about
                        .dicom
                        .as_deref()
                        .map(of_dicom)
                        .unwrap_or_default();
                    metadata.extend(self.extra.take(&id));
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
}

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

/// Fields that a table gives to ids.
struct Extra {
    fields: HashMap<String, Map<String, Value>>,
    ids: IdMatch,
    used: HashSet<String>,
    given: bool,
}

impl Extra {
    fn read(args: &MetadataArgs) -> Result<Self> {
        let mut extra = Self {
            fields: HashMap::new(),
            ids: args.ids(),
            used: HashSet::new(),
            given: args.metadata.is_some(),
        };
        let Some(path) = &args.metadata else {
            return Ok(extra);
        };
        let bad = |what: &str| Failure::argument(format!("metadata: {what}: {}", path.display()));
        let file = File::open(path).map_err(|e| Failure::io("read", path, e))?;
        let mut reader = csv::Reader::from_reader(file);
        let header = reader
            .headers()
            .map_err(|_| bad("expected a CSV file with a header"))?
            .clone();
        let place = |name: &str| header.iter().position(|own| own == name);
        let id = match &args.metadata_id {
            Some(name) => place(name).ok_or_else(|| bad(&format!("no column {name}")))?,
            None => ["id", "path", "image"]
                .into_iter()
                .find_map(place)
                .ok_or_else(|| {
                    bad("no column id, path or image; --metadata-id names the one with the ids")
                })?,
        };
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|_| bad(&format!("row {} cannot be read", row + 2)))?;
            let cells = header.iter().zip(&record).enumerate();
            let fields = cells.filter(|(at, (_, cell))| *at != id && !cell.trim().is_empty());
            let fields = fields.map(|(_, (name, cell))| (name.to_owned(), value(cell.trim())));
            let key = extra
                .ids
                .key(record.get(id).unwrap_or_default().trim())
                .to_owned();
            if extra.fields.insert(key, fields.collect()).is_some() {
                return Err(bad(&format!("the id of row {} is there twice", row + 2)));
            }
        }
        Ok(extra)
    }

    fn of(&self, id: &str) -> Option<&Map<String, Value>> {
        self.fields.get(self.ids.key(id))
    }

    fn take(&mut self, id: &str) -> Map<String, Value> {
        let fields = self.of(id).cloned();
        if fields.is_some() {
            self.used.insert(self.ids.key(id).to_owned());
        }
        fields.unwrap_or_default()
    }

    /// Where a table was given and nothing took anything from it, the ids are not what was meant.
    fn tell_unused(&self) {
        if self.given && self.used.is_empty() {
            messages::say(
                "warning: no stored picture has an id of the metadata; --metadata-ids file-name joins by the file's name",
            );
        }
    }
}

/// A number where it is written as one would be, so that `007` stays a text.
fn value(cell: &str) -> Value {
    let whole = cell
        .parse::<i64>()
        .ok()
        .filter(|number| number.to_string() == cell);
    if let Some(whole) = whole {
        return whole.into();
    }
    let digits = cell.trim_start_matches('-');
    let is_plain = digits.contains('.')
        && !digits.starts_with('.')
        && (digits.starts_with("0.") || !digits.starts_with('0'));
    let number = cell.parse::<f64>().ok().filter(|_| is_plain);
    number.map_or_else(|| cell.into(), Value::from)
}

fn import(args: &IndexImportArgs) -> Result<Exit> {
    let mut extra = Extra::read(&args.metadata)?;
    let table = EmbeddingTable::read(&args.embeddings, &TableOptions::default())?;
    let embeddings = table.embeddings();
    let mut store = open_for(
        &args.store,
        args.vectors.into(),
        embeddings.dim(),
        table.provenance(),
    )?;
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
            metadata: extra.take(id),
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
    extra.tell_unused();
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
        messages::say("interrupted; the store is as it was");
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
