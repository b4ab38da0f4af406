//! `search`: pictures like pictures, by words, or by both.

use std::io::IsTerminal;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::Model;
use medsiglip::index::{Approximation, Found, Query, Store, Term};
use serde::Serialize;
use serde_json::{Map, Value};

use super::index::{check_model, of_dicom, print};
use super::store::open;
use crate::args::{SearchArgs, SearchFormat};
use crate::batches::{self, Encoding, Outcome};
use crate::inputs::{Item, Source, digest};
use crate::messages::{self, Exit, Failure, Result};
use crate::output::{HitsPage, NOT_CLINICAL};
use crate::run;

/// What a liked and a disliked item count beside the query (Manning, Raghavan and Schütze, Introduction to Information
/// Retrieval, 2008, section 9.1.1).
const LIKED: f64 = 0.75;
const DISLIKED: f64 = -0.15;

/// Finds and tells.
pub fn run(args: &SearchArgs) -> Result<Exit> {
    args.dicom.display.check(args.pixels.recipe)?;
    let key = args.dicom.patient_key()?;
    let mut store = open(&args.store)?;
    store.search_exactly(args.exact);
    let needs_model = !(args.image.is_empty() && args.text.is_empty() && args.without.is_empty());
    let model = match needs_model || args.html.is_some() {
        true => Some(args.model.load(&args.pixels, &args.text_args)?),
        false => None,
    };
    let mut asking = Asking {
        args,
        store: &*store,
        query: query(args)?,
        own: Vec::new(),
        texts: Vec::new(),
    };
    if let Some(model) = &model {
        check_model(&*store, model)?;
        let encoding = run::encoding(model, &args.model, &args.pixels, &args.dicom, key);
        asking.pictures(&encoding)?;
        asking.texts(model)?;
    }
    asking.feedback()?;
    asking.exclude_own()?;
    if !args.exact {
        tell_approximation(&*store)?;
    }
    let found = asking.query.ask(&*store)?;
    let hits = asking.hits(&found, model.as_ref())?;
    if let (Some(path), Some(model)) = (&args.html, &model) {
        let encoding = run::encoding(model, &args.model, &args.pixels, &args.dicom, None);
        HitsPage::new(args, &hits, &encoding, &*store)?.write(path)?;
    }
    let format = args
        .format
        .unwrap_or(match std::io::stdout().is_terminal() {
            true => SearchFormat::Table,
            false => SearchFormat::Jsonl,
        });
    match format {
        SearchFormat::Jsonl => {
            let line = |hit: &TellHit| serde_json::to_string(hit).expect("plain fields") + "\n";
            print(&hits.iter().map(line).collect::<String>())
        }
        SearchFormat::Table => print(&table(&hits)),
    }
}

/// Warns where the store is not searched as it was tuned.
fn tell_approximation(store: &dyn Store) -> Result<()> {
    match store.approximation()? {
        Approximation::Unusable => messages::say(
            "warning: what index tune made is damaged or of another state of the store; searching exactly; tune again",
        ),
        Approximation::Usable { behind, .. } if behind > 0 && behind > store.len()? / 10 => {
            messages::note(format_args!(
                "{} were stored since index tune and are searched exactly; tune again to be faster",
                messages::count(behind, "item")
            ));
        }
        _ => {}
    }
    Ok(())
}

fn query(args: &SearchArgs) -> Result<Query> {
    for (name, weight) in [
        ("--image-weight", args.image_weight),
        ("--text-weight", args.text_weight),
    ] {
        if !(weight.is_finite() && weight > 0.0) {
            return Err(Failure::argument(format!(
                "{name}: expected a number above 0"
            )));
        }
    }
    Ok(Query {
        fusion: args.fuse.into(),
        k: args.k.get(),
        filter: args.filter.clone(),
        per_group: args
            .group_by
            .clone()
            .map(|field| (field, args.per_group.get())),
        distinct: args.distinct,
        min_cosine: args.min_cosine,
        ..Query::default()
    })
}

/// A query in the making.
struct Asking<'a> {
    args: &'a SearchArgs,
    store: &'a dyn Store,
    query: Query,
    /// Fields of each picture that is asked with, from its DICOM file and from the items of the store that were made from it.
    own: Vec<Vec<Map<String, Value>>>,
    /// Terms that are texts which hits are to fit.
    texts: Vec<usize>,
}

impl Asking<'_> {
    fn pictures(&mut self, encoding: &Encoding) -> Result<()> {
        if self.args.image.is_empty() {
            return Ok(());
        }
        let items: Vec<Item> = self
            .args
            .image
            .iter()
            .map(|path| Item::Image(Source::from(path.clone())))
            .collect();
        let mut outcomes: Vec<Outcome> = Vec::new();
        let batches = batches::split(&items, items.len());
        encoding.run(&items, &batches, |_, more| {
            outcomes.extend(more);
            Ok::<_, Failure>(true)
        })?;
        let known = self.store.contents()?;
        let weight = self.args.image_weight / items.len() as f64;
        for (path, outcome) in self.args.image.iter().zip(outcomes) {
            let embedding = outcome.embedding.map_err(|failed| {
                Failure::argument(format!("{}: {}", failed.message, path.display()))
            })?;
            self.query.terms.push(Term { embedding, weight });
            let mut own: Vec<_> = outcome
                .about
                .dicom
                .as_deref()
                .map(of_dicom)
                .into_iter()
                .collect();
            // The same file, under whatever name it is stored.
            let content = digest(path);
            for (id, _) in known
                .iter()
                .filter(|(_, own)| own.is_some() && *own == content)
            {
                own.extend(self.store.get(id)?.map(|stored| stored.metadata));
                self.query.without.insert(id.clone());
            }
            self.own.push(own);
        }
        Ok(())
    }

    fn texts(&mut self, model: &Model) -> Result<()> {
        for (texts, weight) in [
            (&self.args.text, self.args.text_weight),
            (&self.args.without, -self.args.text_weight),
        ] {
            if texts.is_empty() {
                continue;
            }
            let weight = weight / texts.len() as f64;
            for row in model.encode_texts(texts)?.rows() {
                if weight > 0.0 {
                    self.texts.push(self.query.terms.len());
                }
                self.query.terms.push(Term {
                    embedding: row.to_vec(),
                    weight,
                });
            }
        }
        Ok(())
    }

    fn feedback(&mut self) -> Result<()> {
        for (ids, weight) in [(&self.args.like, LIKED), (&self.args.dislike, DISLIKED)] {
            for id in ids {
                let stored = self.store.get(id)?.ok_or_else(|| {
                    Failure::argument("--like and --dislike: the store has no item of that id")
                })?;
                self.query.without.insert(id.clone());
                self.own.push(vec![stored.metadata]);
                let weight = weight / ids.len() as f64;
                self.query.terms.push(Term {
                    embedding: stored.embedding,
                    weight,
                });
            }
        }
        Ok(())
    }

    fn exclude_own(&mut self) -> Result<()> {
        for field in &self.args.exclude_own {
            let values = |own: &Vec<Map<String, Value>>| -> Vec<Value> {
                let values = own.iter().filter_map(|own| own.get(field));
                values.filter(|value| !value.is_null()).cloned().collect()
            };
            let values: Vec<Vec<Value>> = self.own.iter().map(values).collect();
            // One without would let its own patient through.
            if values.is_empty() || values.iter().any(Vec::is_empty) {
                return Err(Failure::argument(format!(
                    "--exclude-own {field}: a picture that is asked with has no such field"
                ))
                .hint("of a DICOM file, patient needs --patient-id hash and the key of the store's items"));
            }
            let unlike = values
                .into_iter()
                .flatten()
                .map(|value| (field.clone(), value));
            self.query.unlike.extend(unlike);
        }
        Ok(())
    }

    fn hits(&self, found: &[Found], model: Option<&Model>) -> Result<Vec<TellHit>> {
        let logit = match (self.texts.is_empty(), model) {
            (false, Some(model)) => Some(model.logit()?),
            _ => None,
        };
        let hit = |found: &Found| {
            // A picture is to fit all texts.
            let of_text = |term: &usize| {
                logit
                    .as_ref()
                    .map(|logit| f64::from(logit.probability(found.cosines[*term] as f32)))
            };
            let probability = self.texts.iter().filter_map(of_text).reduce(f64::min);
            TellHit {
                rank: found.rank,
                id: found.hit.id.clone(),
                score: found.score,
                cosine: found.hit.cosine,
                probability,
                metadata: found.hit.metadata.clone(),
            }
        };
        Ok(found.iter().map(hit).collect())
    }
}

/// A hit as it is told.
#[derive(Serialize)]
pub struct TellHit {
    pub rank: usize,
    pub id: String,
    pub score: f64,
    pub cosine: f64,
    /// That it fits the text; the least of several.
    pub probability: Option<f64>,
    pub metadata: Map<String, Value>,
}

fn table(hits: &[TellHit]) -> String {
    let mut table = Table::new();
    let has_probability = hits.iter().any(|hit| hit.probability.is_some());
    let mut header = vec!["", "id", "cosine"];
    header.extend(has_probability.then_some("probability"));
    header.push("");
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for hit in hits {
        let mut row = vec![
            hit.rank.to_string(),
            hit.id.clone(),
            format!("{:.4}", hit.cosine),
        ];
        if has_probability {
            row.push(
                hit.probability
                    .map_or_else(String::new, |p| format!("{p:.4}")),
            );
        }
        let fields = hit
            .metadata
            .iter()
            .filter(|(name, _)| !["study", "series", "patient"].contains(&name.as_str()));
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        row.push(fields.join(", "));
        table.add_row(row);
    }
    format!("{table}\n{NOT_CLINICAL}\n")
}
