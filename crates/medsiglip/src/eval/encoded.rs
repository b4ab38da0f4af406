//! [`Encoded`]: what an encoder makes of the pictures of all tasks.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use super::config::{EncoderConfig, Temperature};
use super::embed::{Rows, embed};
use super::figures::file_name;
use super::prepared::Prepared;
use super::report::EncoderFacts;
use super::run::{EvalOptions, Event};
use crate::checkpoint::ModelSource;
use crate::dataset::{Divided, Side};
use crate::embedding::{EmbeddingTable, Provenance, TableOptions};
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

/// What encoders are asked for.
pub(super) struct Asked<'a> {
    pub divided: &'a Divided,
    pub tasks: &'a [Prepared<'a>],
    pub options: &'a EvalOptions<'a>,
}

impl Encoded {
    /// Embeds what the tasks need, or reads it.
    ///
    /// # Errors
    /// As of [`Model::load`], [`embed`] and [`EmbeddingTable::read`]; `INTERRUPTED`.
    pub fn new(
        config: &EncoderConfig,
        asked: &Asked,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let mut encoded = Self {
            facts: EncoderFacts {
                name: config.name.clone(),
                dim: 0,
                provenance: None,
                trained_on: config.trained_on.clone(),
            },
            rows: Vec::new(),
            zero_shot: HashMap::new(),
            notes: Vec::new(),
        };
        match &config.model {
            Some(id) => encoded.run_model(id, asked, tell)?,
            None => encoded.read_tables(config, asked)?,
        }
        for note in &encoded.notes {
            tell(&Event::Warning(note.clone()))?;
        }
        Ok(encoded)
    }

    fn run_model(
        &mut self,
        id: &str,
        asked: &Asked,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let EvalOptions {
            base,
            kept,
            device,
            stop,
        } = *asked.options;
        let load = LoadOptions {
            device,
            ..LoadOptions::default()
        };
        let model = Model::load(&ModelSource::parse_in(base, id)?, &load)?;
        fs::create_dir_all(kept).map_err(|e| Error::io("create", kept, e))?;
        for (number, source) in asked.divided.sources().iter().enumerate() {
            let places = asked.needed(number);
            if places.is_empty() {
                self.rows.push(None);
                continue;
            }
            let what = format!("{}: pictures of {}", self.facts.name, source.config.name);
            let of = places.len();
            tell(&Event::Begins { what, of })?;
            // Other names may be the same in letters, digits and dashes.
            let name = file_name(&[&self.facts.name, &source.config.name, &number.to_string()]);
            let kept = kept.join(name).with_extension("bin");
            let mut done = |count| match stop() {
                true => Err(Error::Interrupted),
                false => tell(&Event::Done(count)),
            };
            let rows = embed(&model, asked.divided, number, &places, &kept, &mut done)?;
            self.rows.push(Some(rows));
        }
        self.facts.dim = model.config().vision.hidden_size;
        self.facts.provenance = Some(model.provenance(false)?);
        for (number, task) in asked.tasks.iter().enumerate() {
            let prompts = task
                .prompts
                .clone()
                .filter(|_| model.config().text.is_some());
            if let (Some(prompts), Some(rows)) = (prompts, self.rows(task.source)) {
                let (scores, cut) = zero_shot_scores(&model, task, prompts, rows, asked.divided)?;
                self.zero_shot.insert(number, scores);
                if cut > 0 {
                    self.notes.push(format!(
                        "{cut} prompts of {} are too long for {} and lose their end.",
                        task.config.name, self.facts.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn read_tables(&mut self, config: &EncoderConfig, asked: &Asked) -> Result<()> {
        let ids_file = config.ids_file.as_ref();
        let how = TableOptions {
            id: config.id_column.clone(),
            embedding: config.embedding_column.clone(),
            ids_file: ids_file.map(|path| asked.options.base.join(path)),
            ..TableOptions::default()
        };
        let mut first: Option<(&str, usize, Option<Provenance>)> = None;
        for (number, source) in asked.divided.sources().iter().enumerate() {
            let places = asked.needed(number);
            let path = config.embeddings.get(&source.config.name);
            let Some(path) = path.filter(|_| !places.is_empty()) else {
                self.rows.push(None);
                continue;
            };
            let path = asked.options.base.join(path);
            let table = EmbeddingTable::read(path, &how)?;
            let ids = places
                .iter()
                .map(|place| source.examples[*place].id.as_str());
            let joined = table.join(&ids.collect::<Vec<_>>(), config.ids)?;
            if !joined.missing.is_empty() {
                self.notes.push(format!(
                    "{} has no embeddings of {} of {} pictures of {}: they are left out for all encoders.",
                    config.name,
                    joined.missing.len(),
                    places.len(),
                    source.config.name,
                ));
            }
            let mut own = Rows::new(joined.embeddings.dim());
            for (at, row) in joined.found.iter().zip(joined.embeddings.rows()) {
                own.insert(places[*at], row);
            }
            let name = source.config.name.as_str();
            let made = (joined.embeddings.dim(), table.provenance().cloned());
            let (of, dim, provenance) = first.get_or_insert((name, made.0, made.1.clone()));
            let both = provenance.as_ref().zip(made.1.as_ref());
            if *dim != made.0 || both.is_some_and(|(a, b)| a.difference(b).is_some()) {
                return Err(Error::BadConfig(format!(
                    "evaluation: encoder {}: expected embeddings of one model in all tables, those of {name} have another width, model \
                     or recipe than those of {of}; give them to an encoder of their own",
                    config.name
                )));
            }
            self.facts.dim = made.0;
            self.facts.provenance = self.facts.provenance.take().or(made.1);
            self.rows.push(Some(own));
        }
        Ok(())
    }

    /// Its embeddings of a source, where it has any.
    pub fn rows(&self, source: usize) -> Option<&Rows> {
        self.rows[source].as_ref()
    }
}

impl Asked<'_> {
    /// Places of a source that any task needs.
    fn needed(&self, source: usize) -> Vec<usize> {
        let tasks = self.tasks.iter().filter(|task| task.source == source);
        let places = tasks.flat_map(|task| task.places(self.divided));
        places.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Of the measured pictures, and how many prompts lost their end.
fn zero_shot_scores(
    model: &Model,
    task: &Prepared,
    prompts: PromptSet,
    rows: &Rows,
    divided: &Divided,
) -> Result<(ZeroShotScores, usize)> {
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
    let classes = task.truth.classes.len();
    let zero_shot = ZeroShot::with_options(model, prompts, options)?;
    let shares = zero_shot.classifier().shares(&rows.select(&places)?)?;
    let shares = shares.chunks_exact(classes).map(<[f64]>::to_vec);
    let scores = ZeroShotScores {
        of_place: places.into_iter().zip(shares).collect(),
        temperature,
    };
    Ok((scores, zero_shot.truncated().len()))
}
