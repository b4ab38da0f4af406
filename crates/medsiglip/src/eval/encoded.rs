//! [`Encoded`]: what an encoder makes of the pictures of all tasks.

use std::collections::HashMap;
use std::fs;

use super::config::{EncoderConfig, Temperature};
use super::embed::{Rows, embed};
use super::figures::file_name;
use super::prepared::Prepared;
use super::report::EncoderFacts;
use super::run::{EvalOptions, Event};
use crate::checkpoint::ModelSource;
use crate::dataset::{Divided, Side};
use crate::embedding::{EmbeddingTable, TableOptions};
use crate::model::{LoadOptions, Model};
use crate::zero_shot::{PromptSet, ZeroShot, ZeroShotOptions};
use crate::{Error, Result};

/// What an encoder makes of the pictures of all tasks.
pub(super) struct Encoded {
    /// What is told of it.
    pub facts: EncoderFacts,
    /// Embeddings by source; `None` where it was given none.
    rows: Vec<Option<Rows>>,
    /// Scores by task.
    pub zero_shot: HashMap<usize, ZeroShotScores>,
    /// What a reader must know of it.
    pub notes: Vec<String>,
}

/// Zero-shot scores of a task.
pub(super) struct ZeroShotScores {
    /// Shares of the classes by place.
    pub of_place: HashMap<usize, Vec<f64>>,
    /// What cosines were multiplied by.
    pub temperature: f64,
}

impl Encoded {
    /// Embeds what the tasks need, or reads it.
    ///
    /// # Errors
    /// As of [`Model::load`], [`embed`] and [`EmbeddingTable::read`]; `INTERRUPTED`.
    pub fn new(
        config: &EncoderConfig,
        divided: &Divided,
        tasks: &[Prepared],
        options: &EvalOptions,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        match &config.model {
            Some(id) => Self::of_model(id, config, divided, tasks, options, tell),
            None => Self::of_tables(config, divided, tasks, options, tell),
        }
    }

    fn of_model(
        id: &str,
        config: &EncoderConfig,
        divided: &Divided,
        tasks: &[Prepared],
        options: &EvalOptions,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let source = ModelSource::parse_in(options.base, id)?;
        let load = LoadOptions {
            device: options.device,
            ..LoadOptions::default()
        };
        let model = Model::load(&source, &load)?;
        fs::create_dir_all(options.kept).map_err(|e| Error::io("create", options.kept, e))?;
        let mut rows = Vec::new();
        for (number, source) in divided.sources().iter().enumerate() {
            let places = needed(number, tasks, divided);
            if places.is_empty() {
                rows.push(None);
                continue;
            }
            let what = format!("{}: pictures of {}", config.name, source.config.name);
            let of = places.len();
            tell(&Event::Begins { what, of })?;
            // Other names may be the same in letters, digits and dashes.
            let name = file_name(&[&config.name, &source.config.name, &number.to_string()]);
            let kept = options.kept.join(name).with_extension("bin");
            let mut done = |count| {
                if (options.stop)() {
                    return Err(Error::Interrupted);
                }
                tell(&Event::Done(count))
            };
            rows.push(Some(embed(
                &model, divided, number, &places, &kept, &mut done,
            )?));
        }
        let mut encoded = Self {
            facts: EncoderFacts {
                name: config.name.clone(),
                dim: model.config().vision.hidden_size,
                provenance: Some(model.provenance(false)?),
                trained_on: config.trained_on.clone(),
            },
            rows,
            zero_shot: HashMap::new(),
            notes: Vec::new(),
        };
        for (number, task) in tasks.iter().enumerate() {
            let prompts = task
                .prompts
                .clone()
                .filter(|_| model.config().text.is_some());
            if let (Some(prompts), Some(rows)) = (prompts, encoded.rows(task.source)) {
                let scores = zero_shot_scores(&model, task, prompts, rows, divided)?;
                encoded.zero_shot.insert(number, scores);
            }
        }
        Ok(encoded)
    }

    fn of_tables(
        config: &EncoderConfig,
        divided: &Divided,
        tasks: &[Prepared],
        options: &EvalOptions,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let mut facts = EncoderFacts {
            name: config.name.clone(),
            dim: 0,
            provenance: None,
            trained_on: config.trained_on.clone(),
        };
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for (number, source) in divided.sources().iter().enumerate() {
            let Some(path) = config.embeddings.get(&source.config.name) else {
                rows.push(None);
                continue;
            };
            let table = EmbeddingTable::read(options.base.join(path), &TableOptions::default())?;
            let places = needed(number, tasks, divided);
            if places.is_empty() {
                rows.push(None);
                continue;
            }
            let ids: Vec<&str> = places
                .iter()
                .map(|place| source.examples[*place].id.as_str())
                .collect();
            let joined = table.join(&ids, config.ids)?;
            if !joined.missing.is_empty() {
                let note = format!(
                    "{} has no embeddings of {} of {} pictures of {}: they are left out for all encoders.",
                    config.name,
                    joined.missing.len(),
                    ids.len(),
                    source.config.name,
                );
                tell(&Event::Warning(note.clone()))?;
                notes.push(note);
            }
            let mut own = Rows::new(joined.embeddings.dim());
            for (at, row) in joined.found.iter().zip(joined.embeddings.rows()) {
                own.insert(places[*at], row);
            }
            facts.dim = joined.embeddings.dim();
            facts.provenance = table.provenance().cloned();
            rows.push(Some(own));
        }
        Ok(Self {
            facts,
            rows,
            zero_shot: HashMap::new(),
            notes,
        })
    }

    /// Its embeddings of a source, where it has any.
    pub fn rows(&self, source: usize) -> Option<&Rows> {
        self.rows[source].as_ref()
    }
}

/// Places of a source that any task needs.
fn needed(source: usize, tasks: &[Prepared], divided: &Divided) -> Vec<usize> {
    let tasks = tasks.iter().filter(|task| task.source == source);
    let mut places: Vec<usize> = tasks.flat_map(|task| task.places(divided)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn zero_shot_scores(
    model: &Model,
    task: &Prepared,
    prompts: PromptSet,
    rows: &Rows,
    divided: &Divided,
) -> Result<ZeroShotScores> {
    let config = task.config.zero_shot.as_ref().expect("a task with prompts");
    let options = ZeroShotOptions {
        renormalize: config.renormalize,
        temperature: match config.temperature {
            Temperature::Fixed(value) => Some(value),
            Temperature::Model(_) => None,
        },
    };
    let temperature = options
        .temperature
        .map_or_else(|| model.logit().map(|logit| logit.temperature()), Ok)?;
    let mut places = task.on_side(divided, Side::Test);
    places.retain(|place| rows.has(*place));
    let scores = ZeroShot::with_options(model, prompts, options)?.scores(&rows.select(&places)?)?;
    let shares = scores
        .iter()
        .map(|row| row.iter().map(|score| f64::from(score.softmax)).collect());
    Ok(ZeroShotScores {
        of_place: places.into_iter().zip(shares).collect(),
        temperature,
    })
}
