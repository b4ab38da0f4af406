//! `train --dry-run`: what a run would do, and its first batch to look at.

use std::fs;
use std::io::Write;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use image::{Rgb, RgbImage};
use medsiglip::towers::params::Parameter;
use medsiglip::train::config::TrainConfig;
use medsiglip::train::dry_run::{DryRun, Memory, dry_run};
use medsiglip::train::run::RunOptions;

use crate::messages::{self, Exit, Failure, Result};

/// Pixels between the pictures of the sheet.
const GAP: usize = 4;

/// Tells what `config` would do.
pub fn run(config: &TrainConfig, options: &RunOptions) -> Result<Exit> {
    let found = dry_run(config, options)?;
    for warning in &found.warnings {
        messages::say(format_args!("warning: {warning}"));
    }
    for note in &found.notes {
        messages::note(note);
    }
    let told = [
        groups(&found, config.optimizer.lr),
        sources(&found),
        memory(&found.memory),
    ];
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(told.join("\n").as_bytes());
    printed.map_err(Failure::stdout)?;
    let [sheet, list] = ["dry_run.png", "dry_run.txt"].map(|name| options.output.join(name));
    contact_sheet(&found, &sheet)?;
    fs::write(&list, captions(&found)).map_err(|e| Failure::io("write", &list, e))?;
    messages::note(format_args!(
        "wrote {} and {}",
        sheet.display(),
        list.display()
    ));
    Ok(Exit::Done)
}

fn groups(found: &DryRun, lr: f64) -> String {
    let mut table = table([
        "parameters",
        "numbers",
        "learning rate",
        "weight decay",
        "first of them",
    ]);
    let mut row = |parameters: &[Parameter], rate: String, decay: String| {
        let numbers: usize = parameters.iter().map(Parameter::count).sum();
        let first = parameters.first().map_or("", |p| p.name.as_str());
        table.add_row([
            &parameters.len().to_string(),
            &numbers.to_string(),
            &rate,
            &decay,
            first,
        ]);
    };
    for group in &found.groups.trained {
        let rate = format!("{} x {lr}", group.lr);
        row(&group.parameters, rate, group.weight_decay.to_string());
    }
    row(&found.groups.frozen, "frozen".into(), String::new());
    format!("{table}\n")
}

fn sources(found: &DryRun) -> String {
    let mut table = table([
        "source",
        "train",
        "val",
        "test",
        "drawn from",
        "share of draws",
    ]);
    for source in &found.sources {
        let mut row = vec![source.name.clone()];
        row.extend(source.examples.map(|count| count.to_string()));
        row.push(source.drawn_from.to_string());
        row.push(format!("{:.2} %", 100.0 * source.share));
        table.add_row(row);
    }
    format!("{table}\n")
}

fn memory(memory: &Memory) -> String {
    let parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("layers", memory.layers),
        ("batches", memory.batches),
        ("pictures", memory.pictures),
        ("all", memory.total()),
    ];
    let mut table = table(["memory, estimated", "MiB"]);
    for (name, bytes) in parts {
        table.add_row([name, &format!("{:.1}", bytes as f64 / f64::from(1 << 20))]);
    }
    format!("{table}\n")
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

/// The batch in rows, as nearly a square as it can be.
fn contact_sheet(found: &DryRun, path: &Path) -> Result<()> {
    let size = found.batch.pixels.size();
    let pictures = found.samples.chunks_exact(3 * size * size);
    let columns = (pictures.len() as f64).sqrt().ceil() as usize;
    let step = size + GAP;
    let side = |count: usize| (count * step + GAP) as u32;
    let mut sheet = RgbImage::from_pixel(
        side(columns),
        side(pictures.len().div_ceil(columns)),
        Rgb([255; 3]),
    );
    for (number, samples) in pictures.enumerate() {
        let left = GAP + number % columns * step;
        let top = GAP + number / columns * step;
        for (place, pixel) in samples.as_chunks().0.iter().enumerate() {
            let (x, y) = (left + place % size, top + place / size);
            sheet.put_pixel(x as u32, y as u32, Rgb(*pixel));
        }
    }
    let mut png = std::io::Cursor::new(Vec::new());
    let written = sheet.write_to(&mut png, image::ImageFormat::Png);
    let written = written.map_err(std::io::Error::other);
    let written = written.and_then(|()| fs::write(path, png.into_inner()));
    written.map_err(|e| Failure::io("write", path, e))
}

/// A line for every picture of the sheet, row by row: its number, id and caption, or where it has none its labels.
fn captions(found: &DryRun) -> String {
    let batch = &found.batch;
    let texts = batch.captions.iter().zip(&batch.labels);
    let texts = texts.map(|(caption, labels)| match caption.is_empty() {
        true => labels
            .iter()
            .map(|(column, value)| format!("{column}: {value}"))
            .collect::<Vec<_>>()
            .join(", "),
        false => caption.clone(),
    });
    let lines = (1..).zip(batch.ids.iter().zip(texts));
    let lines = lines.map(|(number, (id, text))| format!("{number}\t{id}\t{text}\n"));
    lines.collect()
}
