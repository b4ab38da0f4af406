//! A folder with two kinds of pictures that a tiny model tells apart, and runs in it.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::{ImageFormat, Rgb, RgbImage};
use medsiglip::checkpoint::{Checkpoint, ModelSource, expected_tensors};
use medsiglip::dataset::Side;
use medsiglip::model::{Device, Keep};
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::towers::Siglip;
use medsiglip::train::card::{Base, ModelCard};
use medsiglip::train::config::TrainConfig;
use medsiglip::train::dry_run::{DryRun, dry_run};
use medsiglip::train::export::export;
use medsiglip::train::init::Weights;
use medsiglip::train::run::{Event, RunOptions, StepReport, train};
use medsiglip::train::validate::TaskResult;
use medsiglip::{Error, Result};
use safetensors::SafeTensors;

pub const CONFIG: &str = r#"
seed = 3
steps = 8

[model.new]
vision = { hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2, num_attention_heads = 2, image_size = 32, patch_size = 16 }
text = { hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, num_attention_heads = 2, projection_size = 32 }
tokenizer = { vocab_size = 300, length = 8 }

[model.new.init]
logit_bias = -2.7

[batch]
size = 8

[loss]
positives = "all_true"

[optimizer]
lr = 3e-3

[split]
val = 0.25
search = false

[validation]

[[validation.task]]
name = "patterns"
source = "patterns"
label = "label"
prompts = "prompts.toml"
classes = { lines = "lines", dots = "dots" }

[[source]]
name = "patterns"
manifest = "manifest.csv"
stratify = "label"
[source.label_texts.label]
lines = ["bright lines", "a picture of lines"]
dots = ["dark dots", "many dots"]
"#;

const PROMPTS: &str = r#"
name = "patterns"
kind = "multiclass"
[[classes]]
label = "lines"
present = ["bright lines", "a picture of lines"]
[[classes]]
label = "dots"
present = ["dark dots", "many dots"]
"#;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Runs of this thread stop when they have asked so often.
pub fn stop_after(times: u64) {
    LEFT.set(times);
}

fn stop() -> bool {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    left == 0
}

/// A test's own folder: twelve bright pictures with lines, twelve dark ones with dots.
pub struct Lab(tempfile::TempDir);

/// What a run told and gave.
pub struct Outcome {
    pub events: Vec<Event>,
    pub result: Result<Vec<TaskResult>>,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        let mut rows = String::from("image,label\n");
        for number in 0..24 {
            let file = format!("{number:02}.bmp");
            draw(number)
                .save_with_format(lab.path(&file), ImageFormat::Bmp)
                .unwrap();
            rows += &format!("{file},{}\n", ["lines", "dots"][number as usize % 2]);
        }
        fs::write(lab.path("manifest.csv"), rows).unwrap();
        fs::write(lab.path("prompts.toml"), PROMPTS).unwrap();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// All pictures, and which class each is of.
    pub fn pictures(&self) -> impl Iterator<Item = (PathBuf, usize)> {
        (0..24).map(|number| (self.path(&format!("{number:02}.bmp")), number % 2))
    }

    pub fn add_row(&self, row: &str) {
        let file = fs::OpenOptions::new()
            .append(true)
            .open(self.path("manifest.csv"));
        writeln!(file.unwrap(), "{row}").unwrap();
    }

    pub fn config(&self, change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
        let mut config = TrainConfig::from_toml(CONFIG).unwrap();
        change(&mut config);
        config
    }

    pub fn run(&self, name: &str, config: &TrainConfig) -> Outcome {
        self.run_on(&[Device::Cpu], name, config, false)
    }

    pub fn resume(&self, name: &str, config: &TrainConfig) -> Outcome {
        self.run_on(&[Device::Cpu], name, config, true)
    }

    pub fn run_on(
        &self,
        devices: &[Device],
        name: &str,
        config: &TrainConfig,
        resume: bool,
    ) -> Outcome {
        let output = self.path(name);
        let options = RunOptions {
            devices,
            ..self.options(&output, resume)
        };
        let mut events = Vec::new();
        let result = train(config, &options, &mut |event| {
            events.push(event.clone());
            Ok(())
        });
        Outcome { events, result }
    }

    pub fn dry_run(&self, name: &str, config: &TrainConfig) -> Result<DryRun> {
        dry_run(config, &self.options(&self.path(name), false))
    }

    fn options<'a>(&'a self, output: &'a Path, resume: bool) -> RunOptions<'a> {
        fs::create_dir_all(output).unwrap();
        RunOptions {
            base: self.0.path(),
            output,
            resume,
            devices: &[Device::Cpu],
            stop,
        }
    }

    /// The model in a folder, in Burn.
    pub fn siglip(&self, folder: &str) -> Siglip {
        let source = ModelSource::Local(self.path(folder));
        let checkpoint = Checkpoint::open(&source, &Default::default()).unwrap();
        Siglip::load(&checkpoint, &burn::tensor::Device::flex()).unwrap()
    }

    /// Embeddings of made-up pixels and tokens, one after the other.
    pub fn embed(&self, model: &Siglip) -> Vec<f32> {
        let device = model.vision_model.device();
        let pixels = (0..2 * 3 * 32 * 32)
            .map(|i| ((i * 31 % 97) as f32) / 48.0 - 1.0)
            .collect();
        let pixels = PixelValues::new(2, 32, pixels).unwrap();
        let ids = TokenIds::new(2, 8, (0..16).map(|i| i * 5 % 90 + 1).collect()).unwrap();
        let (vision, text) = (&model.vision_model, model.text_model.as_ref().unwrap());
        let pictures = vision.forward(vision.input(&pixels, &device).unwrap(), Keep::default());
        let texts = text.forward(text.input(&ids, &device).unwrap(), Keep::default());
        let numbers = [pictures.pooled, texts.pooled]
            .map(|pooled| pooled.unwrap().into_data().try_to_vec::<f32>().unwrap());
        numbers.concat()
    }

    pub fn export(&self, name: &str, start: &Checkpoint, weights: Weights) {
        let card = ModelCard {
            name: "test".into(),
            base: Base::Random,
            license: "apache-2.0".into(),
            classes: Vec::new(),
            sources: Vec::new(),
            settings: Vec::new(),
            metrics: Vec::new(),
            limitations: Vec::new(),
        };
        export(
            &self.path(name),
            start,
            weights,
            medsiglip::checkpoint::Dtype::F32,
            &card,
        )
        .unwrap();
    }

    /// Panics where a run's checkpoint has other numbers than a model.
    pub fn assert_holds(&self, file: &str, model: &Checkpoint) {
        let bytes = fs::read(self.path(file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let expected = expected_tensors(model.config());
        assert_eq!(file.names().len(), expected.len());
        for t in expected {
            let stored = file.tensor(&t.name).unwrap();
            let (numbers, _) = stored.data().as_chunks();
            let numbers: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let model = model.tensor(&t.name, &t.shape).unwrap();
            assert!(same_bits(&numbers, &model.to_f32()), "{}", t.name);
        }
    }
}

impl Outcome {
    #[track_caller]
    pub fn done(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{}: {error}", error.code());
        }
        self
    }

    fn error(&self) -> &Error {
        self.result
            .as_ref()
            .expect_err("the run should have failed")
    }

    pub fn code(&self) -> &str {
        self.error().code()
    }

    pub fn message(&self) -> String {
        self.error().to_string()
    }

    pub fn steps(&self) -> Vec<&StepReport> {
        let events = self.events.iter();
        let steps = events.filter_map(|event| match event {
            Event::Step(report) => Some(report),
            _ => None,
        });
        steps.collect()
    }

    pub fn losses(&self) -> Vec<f64> {
        self.steps().iter().map(|step| step.loss).collect()
    }

    pub fn measured(&self, wanted: Side) -> Vec<Vec<TaskResult>> {
        let results = |event: &Event| match event {
            Event::Measured { side, results, .. } if side == wanted.name() => Some(results.clone()),
            _ => None,
        };
        self.events.iter().filter_map(results).collect()
    }

    pub fn warnings(&self) -> Vec<&str> {
        let events = self.events.iter();
        let messages = events.filter_map(|event| match event {
            Event::Warning { message } => Some(message.as_str()),
            _ => None,
        });
        messages.collect()
    }
}

/// Equal to the last bit.
pub fn same_bits<T: Bits>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.bits() == b.bits())
}

pub trait Bits {
    fn bits(&self) -> u64;
}

impl Bits for f32 {
    fn bits(&self) -> u64 {
        self.to_bits().into()
    }
}

impl Bits for f64 {
    fn bits(&self) -> u64 {
        self.to_bits()
    }
}

/// Bright lines for even numbers, dark dots for odd ones, each a little different.
fn draw(number: u32) -> RgbImage {
    RgbImage::from_fn(36 + number % 5, 34, |x, y| {
        let noise = (x * 13 + y * 7 + number * 29) % 23;
        let shade = match number % 2 {
            0 => 170 + 60 * (u32::from(y % 8 < 3)) + noise,
            _ => 20 + 50 * u32::from(x % 6 < 2 && y % 6 < 2) + noise,
        };
        Rgb([shade as u8, (shade * 9 / 10) as u8, (shade * 4 / 5) as u8])
    })
}
