//! `bench`: how fast this machine runs this model, beside what its arithmetic could reach.

mod cold_start;
mod report;

use std::num::NonZeroUsize;
use std::time::Instant;

use medsiglip::engine::peak::peak;
use medsiglip::image;
use medsiglip::model::Keep;
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::{LoadOptions, Model};

use super::{drift, picture};
use crate::args::{BenchArgs, BenchPart};
use crate::messages::{self, Exit, Failure, Result};

use report::{Report, Row};

/// The resolution of large radiographs, that of MedGemma's encoder.
const LARGE: usize = 896;

/// Texts of a batch.
const TEXT_BATCH: usize = 8;

/// Pictures that are decoded in one run: one alone takes too short a time to be measured well.
const PICTURES: usize = 20;

/// Measures what was asked for.
pub fn run(args: &BenchArgs) -> Result<Exit> {
    if let Some(picture) = &args.first_score {
        return cold_start::first_score(args, &options(args), picture);
    }
    args.model.source.tell_default();
    let model = Model::load(&args.model.source.model, &options(args))?;
    let threads = args.model.decode_threads();
    let about = about(args, &model);
    let on_cpu = model.encoder().device() == "cpu";
    let peaks = [peak(1), peak(threads)];
    let report = Report::new(args.format, &about, on_cpu, threads, peaks)?;
    let mut bench = Bench { args, report };
    if bench.wants(BenchPart::Pixels) {
        bench.pixels(&model)?;
    }
    if bench.wants(BenchPart::Text) {
        bench.text(&model)?;
    }
    if bench.wants(BenchPart::Vision) {
        bench.vision(&model, BenchPart::Vision, 1)?;
    }
    if bench.wants(BenchPart::VisionBatch4) {
        bench.vision(&model, BenchPart::VisionBatch4, 4)?;
    }
    if bench.wants(BenchPart::Vision896) {
        bench.vision_large(&model)?;
    }
    if bench.wants(BenchPart::ColdStart) {
        bench.cold_start(&model)?;
    }
    if bench.wants(BenchPart::Drift) && args.model.source.dtype.is_some() {
        bench.drift(&model)?;
    }
    bench.report.finish()?;
    Ok(Exit::Done)
}

/// How the model is loaded: as `embed` does without further flags.
fn options(args: &BenchArgs) -> LoadOptions {
    LoadOptions {
        checkpoint: args.model.source.open_options(),
        device: args.model.device,
        precision: args.model.precision,
        threads: args.model.threads.map(NonZeroUsize::get),
        ..LoadOptions::default()
    }
}

fn about(args: &BenchArgs, model: &Model) -> String {
    format!(
        "medsiglip {}, {} at {} pixels on {}, {}, {}; medians of {}",
        env!("CARGO_PKG_VERSION"),
        model.checkpoint().id(),
        model.config().vision.image_size,
        model.encoder().device(),
        model.encoder().dtype(),
        messages::count(args.model.decode_threads(), "thread"),
        messages::count(args.runs.get(), "run"),
    )
}

/// The measurements in work.
struct Bench<'a> {
    args: &'a BenchArgs,
    report: Report,
}

impl Bench<'_> {
    /// Whether the part was asked for; all are where none is named.
    fn wants(&self, part: BenchPart) -> bool {
        self.args.only.is_empty() || self.args.only.contains(&part)
    }

    /// Decoding and preprocessing on one thread: the picture that was given, or made-up ones.
    fn pixels(&mut self, model: &Model) -> Result<()> {
        if let Some(path) = &self.args.picture {
            let file = std::fs::read(path).map_err(|e| Failure::io("read", path, e))?;
            return self.decode(model, "pixels", "the picture given", &file);
        }
        let side = picture::SIDE;
        let gray = format!("gray JPEG {side}x{side}");
        self.decode(model, "pixels-gray", &gray, &picture::jpeg(true)?)?;
        let rgb = format!("colour JPEG {side}x{side}");
        self.decode(model, "pixels-rgb", &rgb, &picture::jpeg(false)?)
    }

    fn decode(&mut self, model: &Model, part: &'static str, kind: &str, file: &[u8]) -> Result<()> {
        let preprocessor = model.preprocessor();
        let title = format!("{kind} to {}, 1 thread", preprocessor.size());
        self.time(part, &title, PICTURES, None, || {
            for _ in 0..PICTURES {
                let picture = image::decode(file, &preprocessor.decode_options())?;
                std::hint::black_box(preprocessor.pixel_values(&picture)?);
            }
            Ok(())
        })
    }

    fn text(&mut self, model: &Model) -> Result<()> {
        let Some(config) = &model.config().text else {
            messages::note("note: no text tower: text is left out");
            return Ok(());
        };
        let (length, words) = (config.max_position_embeddings, config.vocab_size);
        let ids = (0..TEXT_BATCH * length)
            .map(|i| (i % words) as u32)
            .collect();
        let ids = TokenIds::new(TEXT_BATCH, length, ids)?;
        let title = format!("text, batch {TEXT_BATCH}");
        self.time(
            BenchPart::Text.name(),
            &title,
            TEXT_BATCH,
            Some(config.flops()),
            || {
                model
                    .encoder()
                    .encode_texts(&ids, Keep::default())
                    .map(drop)
            },
        )
    }

    fn vision(&mut self, model: &Model, part: BenchPart, batch: usize) -> Result<()> {
        let config = &model.config().vision;
        let size = config.image_size;
        let ramp = (0..batch * 3 * size * size).map(|i| ((i * 37 % 255) as f32) / 127.5 - 1.0);
        let pixels = PixelValues::new(batch, size, ramp.collect())?;
        let title = format!("vision {size}, batch {batch}");
        self.time(part.name(), &title, batch, Some(config.flops()), || {
            model
                .encoder()
                .encode_images(&pixels, Keep::default())
                .map(drop)
        })
    }

    /// The vision tower at [`LARGE`] pixels.
    fn vision_large(&mut self, model: &Model) -> Result<()> {
        let config = &model.config().vision;
        if config.image_size == LARGE || !LARGE.is_multiple_of(config.patch_size) {
            return Ok(());
        }
        let mut options = options(self.args);
        options.checkpoint.resolution = Some(LARGE);
        let large = Model::load(&self.args.model.source.model, &options)?;
        self.vision(&large, BenchPart::Vision896, 1)
    }

    /// Processes of their own that score one picture.
    fn cold_start(&mut self, model: &Model) -> Result<()> {
        if model.config().text.is_none() || !model.config().vision.use_head {
            messages::note("note: this checkpoint gives no scores: the cold start is left out");
            return Ok(());
        }
        let failed = |source| Failure::io("write", std::env::temp_dir(), source);
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("picture.jpg");
        std::fs::write(&path, picture::jpeg(true)?).map_err(failed)?;
        let runs = self.args.runs.get();
        let mut starts = Vec::with_capacity(runs);
        for run in 0..=runs {
            self.report.step("cold start", run, runs);
            let start = cold_start::measure(&path)?;
            // The first one reads what is not in memory yet.
            if run > 0 {
                starts.push(start);
            }
        }
        self.report.cold_starts(&starts)
    }

    /// How far the embeddings are from those of the weights as they are stored.
    fn drift(&mut self, model: &Model) -> Result<()> {
        let mut options = options(self.args);
        options.checkpoint.dtype = None;
        let stored = Model::load(&self.args.model.source.model, &options)?;
        let (dtype, stored_dtype) = (model.encoder().dtype(), stored.encoder().dtype());
        if dtype == stored_dtype {
            return Ok(());
        }
        self.report.step("drift", 1, 1);
        let drift = drift::measure(model.encoder(), stored.encoder(), model.config())?;
        self.report.drift(dtype, stored_dtype, &drift)
    }

    /// Does `work`, on `batch` items, once to warm up and then as often as asked for, and reports it.
    fn time(
        &mut self,
        part: &'static str,
        title: &str,
        batch: usize,
        flops: Option<u64>,
        mut work: impl FnMut() -> medsiglip::Result<()>,
    ) -> Result<()> {
        let runs = self.args.runs.get();
        let mut seconds = Vec::with_capacity(runs);
        for run in 0..=runs {
            self.report.step(title, run, runs);
            let start = Instant::now();
            work()?;
            if run > 0 {
                seconds.push(start.elapsed().as_secs_f64() / batch as f64);
            }
        }
        self.report.row(&Row {
            part,
            title,
            batch,
            seconds,
            flops,
        })
    }
}
