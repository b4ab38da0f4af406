//! Cold start: from the start of a process to its first score.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use medsiglip::{Error, LoadOptions, Model};
use serde::{Deserialize, Serialize};

use crate::args::BenchArgs;
use crate::messages::{Exit, Failure, Result};

/// The texts that are scored.
const TEXTS: [&str; 2] = [
    "a normal chest x-ray",
    "a chest x-ray with pleural effusion",
];

/// One start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ColdStart {
    /// From before the process is started until its first score is read, in seconds.
    pub total_s: f64,
    #[serde(flatten)]
    pub inside: Inside,
}

/// What the started process says of itself, in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Inside {
    /// Loading the model.
    pub load_s: f64,
    /// The first pass of one picture and two texts through the towers.
    pub first_forward_s: f64,
    /// The second pass of the same.
    pub second_forward_s: f64,
}

impl ColdStart {
    /// What a person waits beside the arithmetic.
    pub fn beyond_forward_s(&self) -> f64 {
        self.total_s - self.inside.second_forward_s
    }
}

/// Starts this program anew with the same arguments, to score the picture at `picture`.
pub fn measure(picture: &Path) -> Result<ColdStart> {
    let program = std::env::current_exe().map_err(|e| Failure::io("find", "medsiglip", e))?;
    let failed = |source| Failure::io("run", &program, source);
    let start = Instant::now();
    let mut child = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .arg("--first-score")
        .arg(picture)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut lines = child
        .stdout
        .take()
        .map(|out| BufReader::new(out).lines())
        .into_iter()
        .flatten();
    let score = lines.next().transpose().map_err(failed)?;
    let total_s = start.elapsed().as_secs_f64();
    let inside = lines.next().transpose().map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    let inside = score
        .and(inside)
        .and_then(|line| serde_json::from_str(&line).ok());
    match inside {
        Some(inside) if status.success() => Ok(ColdStart { total_s, inside }),
        _ => Err(Error::Unsupported(format!("the started process gave no score: {status}")).into()),
    }
}

/// The started process: prints its first probabilities as soon as it has them, then its times.
pub fn first_score(args: &BenchArgs, options: &LoadOptions, picture: &Path) -> Result<Exit> {
    let start = Instant::now();
    let model = Model::load(&args.model.source.model, options)?;
    let load_s = start.elapsed().as_secs_f64();
    let pixels = model.preprocessor().open(picture)?;
    let ids = model.tokenize(&TEXTS)?.0;
    let forward = || -> medsiglip::Result<(Vec<f32>, f64)> {
        let start = Instant::now();
        let (images, texts) = (model.encode_images(&pixels)?, model.encode_tokens(&ids)?);
        let seconds = start.elapsed().as_secs_f64();
        Ok((model.scores(&images, &texts)?.probability, seconds))
    };
    let (probability, first_forward_s) = forward()?;
    print(&probability)?;
    let (_, second_forward_s) = forward()?;
    print(&Inside {
        load_s,
        first_forward_s,
        second_forward_s,
    })?;
    Ok(Exit::Done)
}

fn print(line: &impl Serialize) -> Result<()> {
    let line = serde_json::json!(line);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}
