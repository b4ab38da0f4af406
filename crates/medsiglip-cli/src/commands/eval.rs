//! `eval`: a configuration to a report.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::Error;
use medsiglip::eval::config::EvalConfig;
use medsiglip::eval::report::Report;
use medsiglip::eval::run::{EvalOptions, Event, evaluate};
use medsiglip::eval::tables;
use medsiglip::eval::write::{check, write};

use crate::args::EvalArgs;
use crate::batches;
use crate::messages::{self, Exit, Failure, Result};
use crate::progress::Progress;

/// Evaluates.
pub fn run(args: &EvalArgs) -> Result<Exit> {
    let config = EvalConfig::open(&args.config)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let name = args.config.file_stem().unwrap_or("report".as_ref());
        Path::new("reports").join(name)
    });
    fs::create_dir_all(&output).map_err(|e| Failure::io("create", &output, e))?;
    check(&output)?;
    let kept: PathBuf = output.join("embeddings");
    let options = EvalOptions {
        base: args.config.parent().unwrap_or(Path::new("")),
        kept: &kept,
        device: args.device,
        stop: batches::is_stopped,
    };
    batches::stop_on_ctrl_c();
    let mut bar: Option<Progress> = None;
    let evaluated = evaluate(&config, &options, &mut |event| {
        match event {
            Event::Warning(message) => messages::say(format_args!("warning: {message}")),
            Event::Begins { what, of } => {
                if let Some(bar) = bar.take() {
                    bar.finish();
                }
                messages::note(what);
                bar = (*of > 0).then(|| Progress::new(*of, 0));
            }
            Event::Done(count) => {
                if let Some(bar) = &mut bar {
                    bar.add(*count);
                }
            }
        }
        Ok(())
    });
    if let Some(bar) = bar.take() {
        bar.finish();
    }
    let (report, predictions) = match evaluated {
        Err(Error::Interrupted) => {
            messages::say("stopped: the embeddings made so far are kept; the same command goes on");
            return Ok(Exit::Interrupted);
        }
        evaluated => evaluated?,
    };
    write(&report, &predictions, &output)?;
    print(&report)?;
    messages::note(format_args!(
        "wrote {}",
        output.join("report.html").display()
    ));
    Ok(Exit::Done)
}

/// The summary, for the terminal.
fn print(report: &Report) -> Result<()> {
    let summary = tables::summary(report);
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(&summary.header);
    for row in &summary.rows {
        table.add_row(row);
    }
    let text = format!("{}; not for clinical use\n{table}\n", summary.caption);
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).map_err(Failure::stdout)
}
