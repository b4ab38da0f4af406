//! One run over many items, for `embed` and `classify`: batch after batch to standard output, or into a journal
//! that becomes the output at the end and from which an interrupted run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

use medsiglip::embedding::Provenance;
use medsiglip::{Error, Model};
use serde_json::json;

use crate::args::{BatchArgs, DicomArgs, ModelArgs, OutputArgs, PixelArgs, TextArgs, TileArgs};
use crate::batches::{self, Encoding, Outcome};
use crate::inputs::{Frames, Inputs, Item, Overview, Reading, Slides, read_coords};
use crate::journal::{Fingerprint, Journal, Stamp};
use crate::messages::{self, Exit, Failure, Result, count};
use crate::output::{Destination, Files, Places, Writer, beside, parent, refuse_existing};
use crate::pictures::Reader;
use crate::progress::Progress;

/// Opens a writer once it is known how the embeddings are made.
pub type Open<'a> = dyn Fn(Destination, &Provenance) -> Result<Box<dyn Writer + 'a>> + 'a;

/// Where the results go; claimed before the model is loaded, so that a mistake costs no time.
pub enum Target {
    /// Standard output, and files beside it.
    Stdout {
        /// The files.
        places: Places,
    },
    /// A file, by way of its journal.
    File {
        /// The file, and those beside it.
        places: Places,
        /// What is done already.
        journal: Journal,
    },
}

/// What to run.
pub struct Run<'a> {
    /// The items.
    pub inputs: &'a Inputs,
    /// The model.
    pub model: &'a Model,
    /// How pictures and texts are encoded.
    pub encoding: Encoding<'a>,
    /// How the work is cut.
    pub batch: &'a BatchArgs,
    /// What decides the result beside items and provenance.
    pub options: Fingerprint,
    /// Opens the writer.
    pub open: &'a Open<'a>,
}

impl Target {
    /// Claims the output. `companions` are files that may stand beside it, or in it where it `is_folder`. `None` where
    /// nothing is left to do.
    pub fn claim(
        output: &OutputArgs,
        companions: Vec<PathBuf>,
        is_folder: bool,
    ) -> Result<Option<Self>> {
        let path = output
            .output
            .as_deref()
            .filter(|path| path.as_os_str() != "-");
        let Some(path) = path else {
            return Self::stdout(output, companions).map(Some);
        };
        let path: &Path = &path.components().collect::<PathBuf>();
        let mut places = Places {
            main: path.to_path_buf(),
            is_folder,
            companions,
            overwrite: output.overwrite,
            own: Vec::new(),
        };
        let is_there = match is_folder {
            true => places.companions.iter().any(|path| path.is_file()),
            false => path.is_file(),
        };
        let part = beside(path, ".part");
        let earlier = output.resume && part.metadata().is_ok_and(|file| file.len() > 0);
        let mut journal = None;
        if earlier {
            let earlier = Journal::claim(&part, true)?;
            places.own = earlier.committed()?;
            if !is_folder && places.is_own(path) {
                // The earlier run ended after its last file had come into its place.
                earlier.delete()?;
                return Ok(already_there(path));
            }
            journal = Some(earlier);
        } else if output.resume && !output.overwrite && is_there {
            return Ok(already_there(path));
        }
        places.check()?;
        if !parent(path).is_dir() {
            return Err(
                Failure::missing("write into", parent(path)).hint("create the folder first")
            );
        }
        let journal = match journal {
            Some(journal) => journal,
            None => Journal::claim(&part, output.resume)?,
        };
        Ok(Some(Self::File { places, journal }))
    }

    fn stdout(output: &OutputArgs, companions: Vec<PathBuf>) -> Result<Self> {
        if output.resume {
            return Err(Failure::argument("standard output cannot be resumed")
                .hint("give a file: --output FILE"));
        }
        let places = Places {
            main: PathBuf::new(),
            is_folder: false,
            companions,
            overwrite: output.overwrite,
            own: Vec::new(),
        };
        places.check()?;
        Ok(Self::Stdout { places })
    }
}

/// An error where the output stands that may not be replaced: said before slides are planned, which takes a while.
pub fn refuse_output(output: &OutputArgs) -> Result<()> {
    let path = output.output.as_deref();
    match path.filter(|path| !output.resume && !path.is_dir() && path.as_os_str() != "-") {
        Some(path) => refuse_existing(path, output.overwrite),
        None => Ok(()),
    }
}

/// A job that is started again when its work is complete has nothing to do.
fn already_there(path: &Path) -> Option<Target> {
    messages::say(format_args!(
        "warning: already there, options were not compared: {}",
        path.display()
    ));
    None
}

/// How pictures and texts are encoded, by the flags that `embed` and `classify` share.
pub fn encoding<'a>(
    model: &'a Model,
    flags: &ModelArgs,
    pixels: &PixelArgs,
    dicom: &DicomArgs,
    patient_key: Option<Vec<u8>>,
) -> Encoding<'a> {
    let decode = pixels.decode_options(&dicom.display, model.preprocessor());
    Encoding {
        model,
        reader: Reader::new(decode, patient_key),
        threads: flags.decode_threads(),
        normalized: false,
    }
}

/// How files are looked into while inputs are listed, by the flags that `embed` and `classify` share.
pub fn reading(
    flags: &ModelArgs,
    pixels: &PixelArgs,
    dicom: &DicomArgs,
    tiles: &TileArgs,
    output: &OutputArgs,
) -> Result<Reading> {
    tiles.check()?;
    let coords = tiles.coords.as_deref().map(read_coords).transpose()?;
    let slides = tiles.options().map(|options| Slides {
        options,
        coords,
        overview: tiles.overview.clone().map(|path| Overview {
            path,
            // A run that goes on writes it again.
            overwrite: output.overwrite || output.resume,
        }),
        heatmap: None,
    });
    let path = output.output.clone();
    Ok(Reading {
        frames: Frames {
            choice: dicom.frames,
            max: dicom.max_frames,
        },
        limits: pixels.limits(),
        threads: flags.decode_threads(),
        slides,
        output: path.filter(|path| path.as_os_str() != "-"),
    })
}

/// Loads the model, makes sure that it can take the inputs, and says what they are.
pub fn load(
    inputs: &Inputs,
    model: &ModelArgs,
    pixels: &PixelArgs,
    texts: &TextArgs,
) -> Result<Model> {
    if inputs.repeated > 0 {
        let times = count(inputs.repeated, "input");
        messages::note(format_args!(
            "note: {times} given again: each distinct one is done once"
        ));
    }
    for (is_warning, line) in inputs.left_out.told(inputs.has_tiles) {
        match is_warning {
            true => messages::say(format_args!("warning: {line}")),
            false => messages::note(format_args!("note: {line}")),
        }
    }
    let model = model.load(pixels, texts)?;
    check(&model, inputs)?;
    Ok(model)
}

/// What the model lacks is said before any work is done, not when the first text comes.
fn check(model: &Model, inputs: &Inputs) -> Result<()> {
    let is_image = |item: &Item| matches!(item, Item::Image(_));
    if inputs.items.iter().any(is_image) && !model.config().has_image_embedding() {
        let message = "this checkpoint has no pooling head, so it gives no image embedding";
        return Err(Failure::from(Error::Unsupported(message.into()))
            .hint("take the head from a MedSigLIP checkpoint: --head-from MODEL"));
    }
    if !inputs.items.iter().all(is_image) {
        model.tokenizer()?;
    }
    Ok(())
}

impl Run<'_> {
    /// Does the work.
    pub fn execute(self, target: Target) -> Result<Exit> {
        batches::stop_on_ctrl_c();
        let normalized = self.encoding.normalized;
        std::thread::scope(|scope| {
            // Hashing gigabytes of weights takes a while: the first batch is encoded meanwhile.
            let provenance = scope.spawn(|| self.model.provenance(normalized));
            let mut state = State {
                run: &self,
                provenance: Some(provenance),
                progress: Progress::new(self.inputs.items.len(), 0),
                done: 0,
                failed: BTreeSet::new(),
                warned: Warned::default(),
                batches: batches::split(&self.inputs.items, self.batch.batch_size.get()),
            };
            match target {
                Target::Stdout { places } => state.stream(&places),
                Target::File { places, journal } => state.build(&places, journal),
            }
        })
    }
}

/// A run in work.
struct State<'r, 'a, 's> {
    run: &'r Run<'a>,
    provenance: Option<ScopedJoinHandle<'s, medsiglip::Result<Provenance>>>,
    progress: Progress,
    /// Items that are done, failed ones among them.
    done: usize,
    /// The places of those that failed.
    failed: BTreeSet<usize>,
    warned: Warned,
    /// All batches.
    batches: Vec<Range<usize>>,
}

/// A batch that was done before.
struct Kept {
    items: usize,
    failed: Vec<usize>,
    lines: Vec<String>,
    /// A picture that is no longer what was encoded.
    changed: Option<String>,
    /// Whether another try can end otherwise: a file could not be read, or is another one now.
    again: bool,
}

/// Why the work ended before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Interrupted,
    FirstFailure,
}

impl<'a> State<'_, 'a, '_> {
    fn stream(&mut self, places: &Places) -> Result<Exit> {
        let stop = match self.write_stream(places) {
            // A reader that went away has what it wanted, but failures stay failures.
            Err(failure) if failure.is_closed_stdout() && !self.failed.is_empty() => None,
            other => other?,
        };
        self.progress.finish();
        if stop == Some(Stop::Interrupted) {
            self.say_interrupted(
                "to be able to go on after an interruption, give a file: --output FILE",
            );
        }
        Ok(self.exit(stop))
    }

    fn write_stream(&mut self, places: &Places) -> Result<Option<Stop>> {
        let mut files = Files::new(&places.main);
        let mut writer: Option<Box<dyn Writer + 'a>> = None;
        let batches = self.batches.clone();
        let stop = self.encode(&batches, |state, start, outcomes| {
            if writer.is_none() {
                let provenance = state.provenance()?;
                let to = Destination::Stdout { files: &mut files };
                writer = Some((state.run.open)(to, &provenance)?);
            }
            let first = outcomes.iter().position(|one| one.embedding.is_err());
            let end = first.filter(|_| state.run.batch.fail_fast);
            let outcomes = end.map_or(outcomes, |end| outcomes.get(..=end).unwrap_or(outcomes));
            state.account(start, outcomes);
            if let Some(writer) = &mut writer {
                writer.write(state.items(start, outcomes.len())?, outcomes)?;
                writer.flush()?;
            }
            Ok(())
        })?;
        let stop = stop.filter(|stop| *stop != Stop::Interrupted || self.done < self.total());
        if let Some(writer) = writer {
            writer.finish()?;
        }
        if stop.is_none() {
            files.commit(places, |_| Ok(()))?;
        }
        Ok(stop)
    }

    fn build(&mut self, places: &Places, mut journal: Journal) -> Result<Exit> {
        let mut provenance = None;
        let mut left = self.batches.clone();
        if journal.holds_work()? {
            provenance = Some(self.take_up(&mut journal, &mut left)?);
        }
        let mut stop = self.encode(&left, |state, start, outcomes| {
            if provenance.is_none() {
                provenance = Some(state.take_up(&mut journal, &mut Vec::new())?);
            }
            journal.append(start, outcomes)?;
            state.account(start, outcomes);
            Ok(())
        })?;
        self.progress.finish();
        if stop.is_none() && self.failed.len() == self.total() {
            journal.delete()?;
            return Ok(self.exit(None));
        }
        if let Some(provenance) = provenance.filter(|_| stop.is_none()) {
            stop = self
                .write_files(places, &mut journal, &provenance)
                .map_err(|failure| {
                    let part = journal.path().display();
                    failure.at(&places.main).hint(format!(
                        "all work is kept in {part}: --resume writes the output from it, with --overwrite also over \
                         what stands there"
                    ))
                })?;
        }
        if stop.is_none() {
            journal.delete()?;
        } else {
            journal.sync()?;
            self.say_interrupted("go on with the same command and --resume");
        }
        Ok(self.exit(stop))
    }

    /// Encodes the batches that are `left`, and gives the outcomes of each to `keep`.
    fn encode(
        &mut self,
        left: &[Range<usize>],
        mut keep: impl FnMut(&mut Self, usize, &[Outcome]) -> Result<()>,
    ) -> Result<Option<Stop>> {
        let run = self.run;
        let mut stop = batches::is_stopped().then_some(Stop::Interrupted);
        if stop.is_some() {
            return Ok(stop);
        }
        let mut starts = left.iter().map(|batch| batch.start);
        run.encoding.run(&run.inputs.items, left, |_, outcomes| {
            keep(self, starts.next().unwrap_or_default(), &outcomes)?;
            let failed = outcomes.iter().any(|one| one.embedding.is_err());
            if batches::is_stopped() {
                stop = Some(Stop::Interrupted);
            } else if failed && run.batch.fail_fast {
                stop = Some(Stop::FirstFailure);
            }
            Ok::<_, Failure>(stop.is_none())
        })?;
        Ok(stop)
    }

    /// Begins the journal, or takes up what it holds; leaves in `left` the batches that are not done.
    fn take_up(
        &mut self,
        journal: &mut Journal,
        left: &mut Vec<Range<usize>>,
    ) -> Result<Provenance> {
        let provenance = self.provenance()?;
        let mut fingerprint = self.run.options.clone();
        let entries = [
            ("provenance", json!(provenance)),
            ("batch size", json!(self.run.batch.batch_size)),
            (
                "max pixels",
                json!(self.run.encoding.reader.decode.limits.max_pixels),
            ),
        ];
        fingerprint.extend(entries.map(|(name, value)| (name.to_owned(), value)));
        if self.run.inputs.has_dicom {
            fingerprint.extend(self.run.encoding.reader.fingerprint());
        }
        let mut kept = BTreeMap::new();
        let warned = &mut self.warned;
        let items = &self.run.inputs.items;
        journal.start(&fingerprint, items, |start, outcomes| {
            kept.insert(start, look_at(items, start, &outcomes, warned));
        })?;
        if let Some(path) = kept.values().find_map(|batch| batch.changed.as_ref()) {
            let hint = format!("to start again, delete {}", journal.path().display());
            let message =
                format!("cannot resume: the picture was changed after it was done: {path}");
            return Err(Failure::argument(message).hint(hint));
        }
        kept.retain(|_, batch| !batch.again);
        for batch in kept.values() {
            batch.lines.iter().for_each(|line| self.progress.say(line));
            self.done += batch.items;
            self.failed.extend(&batch.failed);
        }
        left.retain(|batch| !kept.contains_key(&batch.start));
        if self.done > 0 {
            let total = self.total();
            let done = self.done;
            messages::note(format_args!(
                "note: resuming: {done} of {total} done before"
            ));
            self.progress = Progress::new(total, done);
        }
        Ok(provenance)
    }

    /// Writes the output from the journal, a batch in memory at a time.
    fn write_files(
        &self,
        places: &Places,
        journal: &mut Journal,
        provenance: &Provenance,
    ) -> Result<Option<Stop>> {
        let mut files = Files::new(&places.main);
        let destination = Destination::Files {
            files: &mut files,
            rows: (self.done - self.failed.len()) as u64,
            failed: &self.failed,
        };
        let mut writer = (self.run.open)(destination, provenance)?;
        for batch in &self.batches {
            if batches::is_stopped() {
                return Ok(Some(Stop::Interrupted));
            }
            let outcomes = journal.batch(batch.start)?;
            writer.write(self.items(batch.start, outcomes.len())?, &outcomes)?;
        }
        writer.finish()?;
        if batches::is_stopped() {
            return Ok(Some(Stop::Interrupted));
        }
        files.commit(places, |files| journal.commit(files))?;
        Ok(None)
    }

    /// The `count` items from `start` on.
    fn items(&self, start: usize, count: usize) -> Result<&'_ [Item]> {
        let items = &self.run.inputs.items;
        let items = items.get(start..).and_then(|items| items.get(..count));
        items.ok_or_else(|| Failure::argument("more outcomes than there are inputs"))
    }

    fn total(&self) -> usize {
        self.run.inputs.items.len()
    }

    fn provenance(&mut self) -> Result<Provenance> {
        let handle = self.provenance.take();
        let result = handle.and_then(|handle| handle.join().ok());
        // Only a panic of ours leaves no result; it has been told by then.
        Ok(result.unwrap_or(Err(medsiglip::Error::Interrupted))?)
    }

    /// Counts outcomes, and tells what a person should know about them.
    fn account(&mut self, start: usize, outcomes: &[Outcome]) {
        let items = self.run.inputs.items.get(start..).unwrap_or_default();
        for line in told(items, outcomes, &mut self.warned) {
            self.progress.say(line);
        }
        self.failed.extend(failed_places(start, outcomes));
        self.done += outcomes.len();
        self.progress.add(outcomes.len());
    }

    fn say_interrupted(&self, hint: &str) {
        let total = self.run.inputs.items.len();
        messages::say(format_args!("stopped: {} of {total} done", self.done));
        messages::say(format_args!("hint: {hint}"));
    }

    fn exit(&self, stop: Option<Stop>) -> Exit {
        let total = self.run.inputs.items.len();
        let failed = self.failed.len();
        if failed > 0 {
            messages::say(format_args!("{failed} of {total} failed"));
        }
        match stop {
            Some(Stop::Interrupted) => Exit::Interrupted,
            _ if failed == 0 => Exit::Done,
            _ if failed < self.done => Exit::SomeFailed,
            _ => Exit::NothingDone,
        }
    }
}

/// The file whose pictures came last, and the warnings about it.
type Warned = (PathBuf, BTreeSet<String>);

/// What a person should know about `outcomes`, a line each; of the frames or tiles of a file, a warning once.
fn told(items: &[Item], outcomes: &[Outcome], warned: &mut Warned) -> Vec<String> {
    let mut lines = Vec::new();
    for (item, outcome) in items.iter().zip(outcomes) {
        let shown = item.shown();
        if let Item::Image(source) = item {
            if warned.0 != source.path() {
                *warned = (source.path().to_path_buf(), BTreeSet::new());
            }
            let path = source.path().display();
            let new = outcome.about.warnings.iter();
            let new = new.filter(|warning| warned.1.insert(warning.to_string()));
            lines.extend(new.map(|warning| format!("warning: {warning}: {path}")));
        }
        if outcome.about.truncated {
            lines.push(messages::truncated(&shown));
        }
        if let Err(failed) = &outcome.embedding {
            let (code, message) = (&failed.code, &failed.message);
            lines.push(format!("error[{code}]: {message}: {shown}"));
        }
    }
    lines
}

/// The places of the items that failed in the batch from item `start` on.
fn failed_places(start: usize, outcomes: &[Outcome]) -> impl Iterator<Item = usize> {
    let places = (start..).zip(outcomes);
    places.filter_map(|(place, one)| one.embedding.is_err().then_some(place))
}

/// What the batch from item `start` on means for a run that goes on.
fn look_at(items: &[Item], start: usize, outcomes: &[Outcome], warned: &mut Warned) -> Kept {
    let failed = failed_places(start, outcomes).collect();
    let items = items.get(start..).unwrap_or_default();
    let mut kept = Kept {
        items: outcomes.len(),
        failed,
        lines: told(items, outcomes, warned),
        changed: None,
        again: false,
    };
    for (item, outcome) in items.iter().zip(outcomes) {
        let is_changed = match item {
            Item::Image(source) => Stamp::of(source.path()) != outcome.about.stamp,
            Item::Text(_) => false,
        };
        match &outcome.embedding {
            Ok(_) if is_changed => kept.changed = Some(item.shown().into_owned()),
            Err(failed) => kept.again |= is_changed || failed.code == "IO_ERROR",
            Ok(_) => {}
        }
    }
    kept
}
