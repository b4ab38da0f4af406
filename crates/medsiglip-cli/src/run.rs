//! One run over many items, for `embed` and `classify`: batch after batch to standard output, or into a journal
//! that becomes the output at the end and from which an interrupted run goes on.

use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

use medsiglip::Model;
use medsiglip::embedding::Provenance;
use serde_json::json;

use crate::args::{BatchArgs, ModelArgs, OutputArgs, PixelArgs, TextArgs};
use crate::batches::{self, Encoding, Outcome};
use crate::inputs::{Inputs, Item};
use crate::journal::{Fingerprint, Journal};
use crate::messages::{self, Exit, Failure, Result, count};
use crate::output::{Destination, ERRORS, Files, Writer, beside, parent, refuse_existing};
use crate::progress::Progress;

/// Opens a writer once it is known how the embeddings are made.
pub type Open<'a> = dyn Fn(Destination, &Provenance) -> Result<Box<dyn Writer + 'a>> + 'a;

/// Where the results go; claimed before the model is loaded, so that a mistake costs no time.
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, by way of its journal.
    File {
        /// The file.
        path: PathBuf,
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
    /// Claims the output. `companions` are files that will stand beside it.
    pub fn claim(output: &OutputArgs, companions: &[PathBuf]) -> Result<Self> {
        let path = output
            .output
            .as_deref()
            .filter(|path| path.as_os_str() != "-");
        let Some(path) = path else {
            if output.resume {
                return Err(Failure::argument("standard output cannot be resumed")
                    .hint("give a file: --output FILE"));
            }
            return Ok(Self::Stdout);
        };
        for path in [path]
            .into_iter()
            .chain(companions.iter().map(PathBuf::as_path))
        {
            refuse_existing(path, output.overwrite)?;
        }
        if !parent(path).is_dir() {
            return Err(
                Failure::missing("write into", parent(path)).hint("create the folder first")
            );
        }
        let journal = Journal::claim(&beside(path, ".part"), output.resume)?;
        Ok(Self::File {
            path: path.to_path_buf(),
            journal,
        })
    }
}

/// How pictures and texts are encoded, by the flags that `embed` and `classify` share.
pub fn encoding<'a>(
    model: &'a Model,
    flags: &ModelArgs,
    pixels: &PixelArgs,
    normalized: bool,
) -> Encoding<'a> {
    Encoding {
        model,
        decode: pixels.decode_options(model.preprocessor()),
        threads: flags.decode_threads(),
        normalized,
    }
}

/// Loads the model, and says what the inputs are.
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
    if inputs.skipped > 0 {
        let files = count(inputs.skipped, "file");
        messages::note(format_args!("note: {files} left out: no picture"));
    }
    Ok(model.load(pixels, texts)?)
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
                failed: 0,
            };
            match target {
                Target::Stdout => state.stream(),
                Target::File { path, journal } => state.build(path, journal),
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
    failed: usize,
}

/// Why the work ended before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Interrupted,
    FirstFailure,
}

impl<'a> State<'_, 'a, '_> {
    fn stream(&mut self) -> Result<Exit> {
        let mut writer: Option<Box<dyn Writer + 'a>> = None;
        let stop = self.encode(|state, items, outcomes| {
            if writer.is_none() {
                let provenance = state.provenance()?;
                writer = Some((state.run.open)(Destination::Stdout, &provenance)?);
            }
            if let Some(writer) = &mut writer {
                writer.write(items, outcomes)?;
                writer.flush()?;
            }
            Ok(())
        })?;
        if let Some(writer) = writer {
            writer.finish()?;
        }
        self.progress.finish();
        if stop == Some(Stop::Interrupted) && self.done < self.run.inputs.items.len() {
            self.say_interrupted(
                "to be able to go on after an interruption, give a file: --output FILE",
            );
        }
        Ok(self.exit(stop))
    }

    fn build(&mut self, path: PathBuf, mut journal: Journal) -> Result<Exit> {
        let mut provenance = None;
        if journal.holds_work()? {
            provenance = Some(self.take_up(&mut journal)?);
        }
        let mut stop = self.stop_of(self.failed > 0);
        if stop.is_none() {
            stop = self.encode(|state, _, outcomes| {
                if provenance.is_none() {
                    provenance = Some(state.take_up(&mut journal)?);
                }
                journal.append(outcomes)
            })?;
        }
        self.progress.finish();
        match provenance {
            Some(provenance) if self.done == self.run.inputs.items.len() => {
                self.write_files(&path, &journal, &provenance)
                    .map_err(|failure| {
                        let part = journal.path().display();
                        failure.at(&path).hint(format!(
                            "all work is kept in {part}; write the output with --resume"
                        ))
                    })?;
                journal.delete()?;
                Ok(self.exit(None))
            }
            _ => {
                journal.sync()?;
                self.say_interrupted("go on with the same command and --resume");
                Ok(self.exit(stop))
            }
        }
    }

    /// Encodes what is not done yet, and gives each batch to `keep`.
    fn encode(
        &mut self,
        mut keep: impl FnMut(&mut Self, &[Item], &[Outcome]) -> Result<()>,
    ) -> Result<Option<Stop>> {
        let run = self.run;
        let items = &run.inputs.items;
        let batches = batches::split(items, run.batch.batch_size.get());
        let left = batches.iter().position(|batch| batch.start >= self.done);
        let left = batches
            .get(left.unwrap_or(batches.len())..)
            .unwrap_or_default();
        let mut stop = None;
        run.encoding.run(items, left, |items, outcomes| {
            let failed = outcomes.iter().any(Result::is_err);
            if failed && run.batch.fail_fast {
                // The batch is left out, so that a resumed run tries it again.
                self.list_failures(items, &outcomes);
                stop = Some(Stop::FirstFailure);
                return Ok(false);
            }
            keep(self, items, &outcomes)?;
            self.list_failures(items, &outcomes);
            self.done += items.len();
            self.progress.add(items.len());
            stop = self.stop_of(false);
            Ok::<_, Failure>(stop.is_none())
        })?;
        Ok(stop)
    }

    /// Begins the journal, or takes up what it holds.
    fn take_up(&mut self, journal: &mut Journal) -> Result<Provenance> {
        let provenance = self.provenance()?;
        let mut fingerprint = self.run.options.clone();
        let entries = [
            ("provenance", json!(provenance)),
            ("inputs", json!(self.run.inputs.digest())),
            ("input count", json!(self.run.inputs.items.len())),
            ("batch size", json!(self.run.batch.batch_size)),
            (
                "max pixels",
                json!(self.run.encoding.decode.limits.max_pixels),
            ),
        ];
        fingerprint.extend(entries.map(|(name, value)| (name.to_owned(), value)));
        journal.start(&fingerprint, |outcomes| {
            let items = self.run.inputs.items.get(self.done..).unwrap_or_default();
            self.list_failures(items, outcomes);
            self.done += outcomes.len();
            Ok(())
        })?;
        if self.done > 0 {
            let total = self.run.inputs.items.len();
            messages::note(format_args!(
                "note: resuming: {} of {total} done before",
                self.done
            ));
            self.progress = Progress::new(total, self.done);
        }
        Ok(provenance)
    }

    /// Writes the output from the journal, a batch in memory at a time.
    fn write_files(
        &self,
        path: &std::path::Path,
        journal: &Journal,
        provenance: &Provenance,
    ) -> Result<()> {
        let mut files = Files::new(path);
        let destination = Destination::Files {
            files: &mut files,
            rows: (self.done - self.failed) as u64,
            failed: self.failed as u64,
        };
        let mut writer = (self.run.open)(destination, provenance)?;
        let mut items = self.run.inputs.items.as_slice();
        let mut records = journal.records()?;
        while let Some(records) = &mut records
            && let Some(outcomes) = records.next()?
        {
            let (batch, rest) = items
                .split_at_checked(outcomes.len())
                .ok_or_else(|| Failure::argument("the journal holds more items than there are"))?;
            writer.write(batch, &outcomes)?;
            items = rest;
        }
        if !items.is_empty() {
            return Err(Failure::argument(
                "the journal holds fewer items than there are",
            ));
        }
        writer.finish()?;
        files.commit()?;
        remove_stale_errors(path, self.failed)
    }

    fn provenance(&mut self) -> Result<Provenance> {
        let handle = self.provenance.take();
        let result = handle.and_then(|handle| handle.join().ok());
        // Only a panic of ours leaves no result; it has been told by then.
        Ok(result.unwrap_or(Err(medsiglip::Error::Interrupted))?)
    }

    fn list_failures(&mut self, items: &[Item], outcomes: &[Outcome]) {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Err(failed) = outcome {
                self.failed += 1;
                let (code, message) = (&failed.code, &failed.message);
                let line = format!("error[{code}]: {message}: {}", item.id());
                self.progress.say(line);
            }
        }
    }

    fn stop_of(&self, failed_before: bool) -> Option<Stop> {
        if batches::is_stopped() {
            Some(Stop::Interrupted)
        } else if failed_before && self.run.batch.fail_fast {
            Some(Stop::FirstFailure)
        } else {
            None
        }
    }

    fn say_interrupted(&self, hint: &str) {
        let total = self.run.inputs.items.len();
        messages::say(format_args!("stopped: {} of {total} done", self.done));
        messages::say(format_args!("hint: {hint}"));
    }

    fn exit(&self, stop: Option<Stop>) -> Exit {
        let total = self.run.inputs.items.len();
        if self.failed > 0 {
            messages::say(format_args!("{} of {total} failed", self.failed));
        }
        match stop {
            Some(Stop::Interrupted) if self.done < total => Exit::Interrupted,
            Some(Stop::FirstFailure) => Exit::SomeFailed,
            _ if self.failed == 0 => Exit::Done,
            _ if self.failed < total => Exit::SomeFailed,
            _ => Exit::NothingDone,
        }
    }
}

/// An overwritten output's list of failures would lie about the new one.
fn remove_stale_errors(path: &std::path::Path, failed: usize) -> Result<()> {
    let errors = beside(path, ERRORS);
    if failed == 0 && errors.exists() {
        std::fs::remove_file(&errors).map_err(|e| Failure::io("delete", &errors, e))?;
    }
    Ok(())
}
