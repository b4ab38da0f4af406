//! `train`: a configuration to a model's folder.

#[cfg(feature = "dashboard")]
mod dashboard;

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use medsiglip::Error;
use medsiglip::dataset::Side;
use medsiglip::metrics::Estimate;
use medsiglip::train::config::{Places, TrainConfig};
use medsiglip::train::run::{Event, RunOptions, StepReport, train};
use medsiglip::train::state;
use medsiglip::train::validate::TaskResult;

#[cfg(feature = "evaluate")]
use super::curves;
use super::dry_run;
use crate::args::TrainArgs;
use crate::messages::{self, Exit, Failure, Result};
use crate::tensorboard::EventWriter;
use crate::{batches, progress};

/// Time between two lines about steps where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Trains.
pub fn run(args: &TrainArgs) -> Result<Exit> {
    let config = TrainConfig::open(&args.config)?;
    let output = output(args);
    fs::create_dir_all(&output).map_err(|e| Failure::io("create", &output, e))?;
    let places = Places::of(&output);
    let options = RunOptions {
        base: args.config.parent().unwrap_or(Path::new("")),
        output: &output,
        resume: args.resume,
        devices: &args.device,
        stop: batches::is_stopped,
    };
    if args.dry_run {
        return dry_run::run(&config, &options);
    }
    batches::stop_on_ctrl_c();
    let mut display = Display::open(args, &config)?;
    // Opened when there is something to record: until then, the run may be refused.
    let mut records = None;
    let trained = train(&config, &options, &mut |event| {
        display.show(event);
        if let Event::Step(_) | Event::Measured { .. } = event {
            let records = match &mut records {
                Some(records) => records,
                none => none.insert(Records::open(&places, args.resume)?),
            };
            records.add(event)?;
        }
        Ok(())
    });
    display.finish();
    match trained {
        Err(Error::Interrupted) => {
            messages::say(match state::newest(&places.checkpoints())? {
                Some(_) => format!("stopped: go on with --resume --output {}", output.display()),
                None => "stopped before the first step: nothing is lost, begin anew".into(),
            });
            Ok(Exit::Interrupted)
        }
        trained => {
            trained?;
            #[cfg(feature = "evaluate")]
            if let Err(e) = curves::draw(&places) {
                messages::say(format_args!("warning: no curves are drawn: {e}"));
            }
            messages::note(format_args!("wrote {}", places.model().display()));
            Ok(Exit::Done)
        }
    }
}

fn output(args: &TrainArgs) -> PathBuf {
    args.output.clone().unwrap_or_else(|| {
        let name = args.config.file_stem().unwrap_or("run".as_ref());
        Path::new("runs").join(name)
    })
}

/// What stays of a run: `log.jsonl`, and the same numbers for TensorBoard.
struct Records {
    log: fs::File,
    path: PathBuf,
    board: EventWriter,
    /// Step and side of what was measured last: a run that goes on may measure it again.
    measured: Option<(u64, String)>,
}

impl Records {
    /// Those of a new run, or of one that goes on: what it did after its last checkpoint, it will do again.
    fn open(places: &Places, resume: bool) -> medsiglip::Result<Self> {
        let path = places.log();
        let (kept, measured, done) = match state::begin(places, resume)? {
            Some(checkpoint) => {
                let done = state::progress(&checkpoint)?.step;
                let (kept, measured) = kept(&path, done)?;
                (kept, measured, done)
            }
            None => (Vec::new(), None, 0),
        };
        let mut builder = tempfile::Builder::new();
        // A temporary file is its owner's alone; this one is the user's, under the usual mask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let written = builder
            .tempfile_in(&places.run)
            .and_then(|mut file| file.write_all(&kept).map(|()| file))
            .and_then(|file| file.persist(&path).map_err(|e| e.error))
            .and_then(|_| OpenOptions::new().append(true).open(&path));
        Ok(Self {
            log: written.map_err(|e| Error::io("write", &path, e))?,
            path,
            board: EventWriter::create(&places.tensorboard(), done)?,
            measured,
        })
    }

    fn add(&mut self, event: &Event) -> medsiglip::Result<()> {
        if let Event::Measured { step, side, .. } = event {
            let this = Some((*step, side.clone()));
            if self.measured == this {
                return Ok(());
            }
            self.measured = this;
        }
        let mut line = serde_json::to_string(event).expect("plain fields");
        line.push('\n');
        let written = self.log.write_all(line.as_bytes());
        written.map_err(|e| Error::io("write", &self.path, e))?;
        match event {
            Event::Warning { .. } | Event::Note { .. } => Ok(()),
            Event::Step(report) => self.board.scalars(report.step, &of_step(report)),
            Event::Measured {
                step,
                side,
                results,
            } => self.board.scalars(*step, &of_results(side, results)),
        }
    }
}

/// The lines of a log, and the step and side that were measured last.
type Kept = (Vec<u8>, Option<(u64, String)>);

/// The lines of a log up to the step `done`, and what was measured last there; the test at the end is made again.
fn kept(log: &Path, done: u64) -> medsiglip::Result<Kept> {
    let bytes = match fs::read(log) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(e) => return Err(Error::io("read", log, e)),
    };
    let (mut kept, mut measured) = (Vec::new(), None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // A line that was cut off is none.
        let keep = match serde_json::from_slice(line) {
            Ok(Event::Step(report)) => report.step <= done,
            Ok(Event::Measured { step, side, .. }) => {
                let keep = step <= done && side != Side::Test.name();
                measured = keep.then_some((step, side)).or(measured);
                keep
            }
            Ok(_) => true,
            Err(_) => break,
        };
        if keep {
            kept.extend_from_slice(line);
        }
    }
    Ok((kept, measured))
}

fn of_step(report: &StepReport) -> Vec<(String, f64)> {
    let values = [
        ("train/loss", Some(report.loss)),
        ("train/auxiliary_loss", report.auxiliary),
        ("train/learning_rate", Some(report.lr)),
        ("train/temperature", report.temperature),
        ("train/bias", report.bias),
        ("gradient_norm/all", Some(report.gradient_norm)),
        ("gradient_norm/vision", Some(report.gradient_norm_vision)),
        ("gradient_norm/text", Some(report.gradient_norm_text)),
        ("speed/images_per_second", Some(report.images_per_second)),
    ];
    let there = values.into_iter();
    there
        .filter_map(|(tag, value)| Some((tag.into(), value?)))
        .collect()
}

fn of_results(side: &str, results: &[TaskResult]) -> Vec<(String, f64)> {
    let values = |result: &TaskResult| {
        let of = |name: &str, estimate: Option<Estimate>| {
            Some((format!("{side}/{name}/{}", result.task), estimate?.value))
        };
        let all = [of("auroc", result.auroc), of("accuracy", result.accuracy)];
        all.into_iter().flatten()
    };
    results.iter().flat_map(values).collect()
}

/// What a person sees.
enum Display {
    Lines(Lines),
    #[cfg(feature = "dashboard")]
    Dashboard(Box<dashboard::Dashboard>),
}

impl Display {
    fn open(args: &TrainArgs, config: &TrainConfig) -> Result<Self> {
        match args.dashboard {
            #[cfg(feature = "dashboard")]
            true => Ok(Self::Dashboard(Box::new(dashboard::Dashboard::new(
                config,
            )?))),
            #[cfg(not(feature = "dashboard"))]
            true => Err(Failure::argument(
                "--dashboard: this build has none; build it with --features dashboard",
            )),
            false => Ok(Self::Lines(Lines::new(config))),
        }
    }

    fn show(&mut self, event: &Event) {
        match self {
            Self::Lines(lines) => lines.show(event),
            #[cfg(feature = "dashboard")]
            Self::Dashboard(dashboard) => dashboard.show(event),
        }
    }

    fn finish(self) {
        match self {
            Self::Lines(lines) => lines.finish(),
            #[cfg(feature = "dashboard")]
            Self::Dashboard(dashboard) => dashboard.finish(),
        }
    }
}

/// On a terminal one line that is written over, else a line every now and then.
struct Lines {
    line: indicatif::ProgressBar,
    how: &'static str,
    told: Option<Instant>,
}

impl Lines {
    fn new(config: &TrainConfig) -> Self {
        Self {
            how: match config.head {
                Some(_) => "classifier AUROC",
                None => "zero-shot AUROC",
            },
            line: progress::steps(),
            told: None,
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Warning { message } => self.say(format!("warning: {message}")),
            Event::Note { message } => self.note(message.clone()),
            Event::Step(report) => self.step(report),
            Event::Measured {
                step,
                side,
                results,
            } => {
                let results: Vec<_> = results.iter().map(measured).collect();
                self.note(format!(
                    "step {step}, {side}, {}: {}; not for clinical use",
                    self.how,
                    results.join("; ")
                ));
            }
        }
    }

    fn step(&mut self, report: &StepReport) {
        let logit = match (report.temperature, report.bias) {
            (Some(temperature), Some(bias)) => format!("t {temperature:.2}  b {bias:.2}  "),
            _ => String::new(),
        };
        let text = format!(
            "step {} of {}  loss {:.4}  lr {:.2e}  {logit}gradient {:.3}  {:.1} images/s",
            report.step,
            report.steps,
            report.loss,
            report.lr,
            report.gradient_norm,
            report.images_per_second
        );
        if std::io::stderr().is_terminal() {
            self.line.set_message(text);
            return;
        }
        let due = self.told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES);
        if due || report.step == report.steps {
            self.told = Some(Instant::now());
            messages::note(text);
        }
    }

    fn say(&self, text: String) {
        self.line.suspend(|| messages::say(text));
    }

    fn note(&self, text: String) {
        self.line.suspend(|| messages::note(text));
    }

    fn finish(&self) {
        self.line.finish_and_clear();
    }
}

fn measured(result: &TaskResult) -> String {
    let of = format!(
        "{} ({})",
        result.task,
        messages::count(result.images, "image")
    );
    match &result.auroc {
        Some(auroc) => format!(
            "{of} {:.3} [{:.3}, {:.3}]",
            auroc.value, auroc.low, auroc.high
        ),
        None => format!("{of} none: a class is missing"),
    }
}
