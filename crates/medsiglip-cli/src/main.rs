//! `medsiglip`: medical pictures and text to embeddings and zero-shot scores, on the command line.
//!
//! Reading order: [`args`] (what was asked) → [`inputs`] (what there is to do) → [`commands`] (the work),
//! which share [`run`] (chunk after chunk: decode, encode, keep), [`pictures`] (an item's picture, and where it comes
//! from), [`journal`] (what is done already) and [`output`] (the file formats). Standard output carries data alone; [`messages`] go to standard error.

mod args;
mod inputs;
mod commands;
mod run;
mod batches;
mod pictures;
mod parallel;
mod journal;
mod output;
mod progress;
#[cfg(feature = "train")]
mod tensorboard;
mod messages;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::{Cli, Command};
use messages::Exit;

fn main() -> ExitCode {
    messages::replace_panic_hook();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    messages::set_quiet(cli.quiet);
    // A panic has been told by the hook; it ends with a documented exit code like any other failure.
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(cli))).unwrap_or(Ok(Exit::NothingDone));
    result.unwrap_or_else(|failure| failure.report()).into()
}

fn dispatch(cli: Cli) -> messages::Result<Exit> {
    match cli.command {
        Command::Embed(args) => commands::embed::run(&args),
        Command::Classify(args) => commands::classify::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        #[cfg(feature = "train")]
        Command::Train(args) => commands::train::run(&args),
        #[cfg(feature = "evaluate")]
        Command::Eval(args) => commands::eval::run(&args),
        #[cfg(feature = "evaluate")]
        Command::Probe(args) => commands::probe::run(&args),
        #[cfg(feature = "evaluate")]
        Command::Index(args) => commands::index::run(&args),
        #[cfg(feature = "evaluate")]
        Command::Search(args) => commands::search::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
    }
}
