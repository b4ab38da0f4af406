//! The progress bar: on a terminal, and only where the work takes long.

use std::fmt::{Display, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::messages;

/// Shows how much is done, the rate and the time left.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
}

/// Work shorter than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// Progress towards `total` items, `done` of which were done before.
    pub fn new(total: usize, done: usize) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.reset_eta();
        Self {
            bar,
            started: Instant::now(),
            shown: false,
        }
    }

    /// `count` more items are done.
    pub fn add(&mut self, count: usize) {
        if !self.shown && self.started.elapsed() > PATIENCE {
            self.show();
        }
        self.bar.inc(count as u64);
    }

    /// Prints one line above the bar.
    pub fn say(&self, line: impl Display) {
        self.bar.suspend(|| messages::say(line));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&mut self) {
        self.shown = true;
        if messages::is_quiet() {
            return;
        }
        let style = "{bar:30} {human_pos}/{human_len}  {rate}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style.with_key("rate", rate));
        }
        // Draws nothing where standard error is no terminal.
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
    }
}

/// A line that says what is going on, for work whose parts differ too much for a bar.
pub fn steps() -> ProgressBar {
    if messages::is_quiet() {
        return ProgressBar::hidden();
    }
    // Draws nothing where standard error is no terminal.
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
}

/// `12.3/s`.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    let _ = write!(out, "{:.1}/s", state.per_sec());
}

/// Shows how the download of a checkpoint's file gets on.
pub fn download(file: &str, done: u64, total: u64) {
    static BAR: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    if messages::is_quiet() {
        return;
    }
    let mut current = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    if current.as_ref().is_none_or(|(name, _)| name != file) {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(file.to_owned());
        *current = Some((file.to_owned(), bar));
    }
    if let Some((_, bar)) = &*current {
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }
}
