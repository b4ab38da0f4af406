//! `index eval`: how well a store's items are found by pictures, by words and by their captions.

use std::collections::{BTreeSet, HashMap};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use medsiglip::Model;
use medsiglip::embedding::Embeddings;
use medsiglip::index::evaluate::{Collection, Measured, by_pairs, by_text};
use medsiglip::index::{Store, Stored};
use medsiglip::metrics::{Bootstrap, Estimate, Resampling};
use medsiglip::zero_shot::{ClassScore, PromptSet, ZeroShot};
use serde_json::{Value, json};

use super::index::{check_model, print};
use super::store::open;
use crate::args::{IndexEvalArgs, InspectFormat};
use crate::messages::{self, Exit, Failure, Result, count};
use crate::output::NOT_CLINICAL;
use crate::progress::Progress;

/// Level of all intervals.
const LEVEL: f64 = 0.95;

/// What was measured, by what was asked.
type Part = (String, Vec<Measured>);

/// Measures and tells.
pub fn run(args: &IndexEvalArgs) -> Result<Exit> {
    let store = open(&args.store)?;
    let items = items(&*store, args)?;
    let needs_model = args.task.is_some() || args.prompts.is_some() || args.captions.is_some();
    let model = match needs_model {
        true => Some(args.model.load(&args.pixels, &args.text_args)?),
        false => None,
    };
    if let Some(model) = &model {
        check_model(&*store, model)?;
    }
    let asking = Asking::new(args, &items)?;
    let mut parts: Vec<Part> = Vec::new();
    if let Some(label) = &args.label {
        let (collection, classes) = asking.collection(label)?;
        parts.push(asking.by_items(&collection)?);
        if let Some(model) = &model {
            parts.extend(asking.by_words(&collection, &classes, model)?);
        }
    }
    if let (Some(field), Some(model)) = (&args.captions, &model) {
        parts.extend(asking.by_captions(field, model)?);
    }
    match args.format {
        InspectFormat::Text => print(&table(&parts)?),
        InspectFormat::Json => print(&json_of(&parts)?),
    }
}

/// The items that the filter holds for.
fn items(store: &dyn Store, args: &IndexEvalArgs) -> Result<Vec<Stored>> {
    let contents = store.contents()?;
    let mut progress = Progress::new(contents.len(), 0);
    let mut items = Vec::new();
    for (id, _) in contents {
        let stored = store.get(&id)?;
        let is_asked = |stored: &Stored| {
            args.filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&stored.metadata))
        };
        items.extend(stored.filter(is_asked));
        progress.add(1);
    }
    progress.finish();
    match items.is_empty() {
        true => Err(Failure::argument("there is no such item in the store")),
        false => Ok(items),
    }
}

/// A field as a text.
fn field(item: &Stored, name: &str) -> Option<String> {
    match item.metadata.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

struct Asking<'a> {
    args: &'a IndexEvalArgs,
    items: &'a [Stored],
    embeddings: Embeddings,
    /// The number of each item's group.
    groups: Vec<usize>,
    ks: Vec<usize>,
}

impl<'a> Asking<'a> {
    fn new(args: &'a IndexEvalArgs, items: &'a [Stored]) -> Result<Self> {
        let dim = items.first().map_or(1, |item| item.embedding.len());
        let data = items.iter().flat_map(|item| item.embedding.iter().copied());
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut groups = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let group = args.group.as_ref().and_then(|name| field(item, name));
            groups.push(match group {
                Some(group) => *numbers.entry(group).or_insert(place),
                None => place,
            });
        }
        if let (Some(name), true) = (&args.group, numbers.is_empty()) {
            return Err(Failure::argument(format!("no item has a field {name}")));
        }
        Ok(Self {
            args,
            items,
            embeddings: Embeddings::new(dim, data.collect())?,
            groups,
            ks: args.k.iter().map(|k| k.get()).collect(),
        })
    }

    fn bootstrap(&self, items: &[usize]) -> Result<Bootstrap> {
        let groups: Vec<usize> = items.iter().map(|item| self.groups[*item]).collect();
        let how = Resampling {
            groups: Some(&groups),
            replicates: self.args.replicates.get(),
            ..Resampling::default()
        };
        Ok(Bootstrap::new(items.len(), &how)?)
    }

    /// All items with their classes, and the classes' names.
    fn collection(&self, label: &str) -> Result<(Collection, Vec<String>)> {
        let labels: Vec<Option<String>> =
            self.items.iter().map(|item| field(item, label)).collect();
        let names: BTreeSet<&String> = labels.iter().flatten().collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        if names.len() < 2 {
            return Err(Failure::argument(format!(
                "the field {label}: expected at least two classes among the items, got {}",
                names.len()
            )));
        }
        let class = |own: &Option<String>| names.binary_search(own.as_ref()?).ok();
        let collection = Collection {
            embeddings: self.embeddings.clone(),
            classes: labels.iter().map(class).collect(),
            groups: self.groups.clone(),
        };
        Ok((collection, names))
    }

    fn by_items(&self, collection: &Collection) -> Result<Part> {
        let known = (0..self.items.len()).filter(|item| collection.classes[*item].is_some());
        let known: Vec<usize> = known.collect();
        let step = known.len().div_ceil(self.args.queries.get()).max(1);
        let queries: Vec<usize> = known.iter().copied().step_by(step).collect();
        let found = collection.by_items(&queries, &self.ks, &self.bootstrap(&queries)?)?;
        let what = format!("pictures by {}", count(queries.len(), "picture"));
        Ok((what, found))
    }

    fn by_words(
        &self,
        collection: &Collection,
        classes: &[String],
        model: &Model,
    ) -> Result<Vec<Part>> {
        let set = match (&self.args.task, &self.args.prompts) {
            (Some(name), _) => PromptSet::task(name)?,
            (None, Some(path)) => PromptSet::from_file(path)?,
            (None, None) => return Ok(Vec::new()),
        };
        let zero_shot = ZeroShot::new(model, set)?;
        let labels: Vec<String> = zero_shot
            .prompts()
            .classes
            .iter()
            .map(|class| class.label.clone())
            .collect();
        let scores = zero_shot.scores(&self.embeddings)?;
        let bootstrap = self.bootstrap(&(0..self.items.len()).collect::<Vec<_>>())?;
        let places = places(classes, &labels)?;
        let own: Vec<Option<usize>> = collection
            .classes
            .iter()
            .map(|own| places[(*own)?])
            .collect();
        let searched = own.iter().flatten().count();
        let mut parts = Vec::new();
        for (class, label) in labels.iter().enumerate() {
            let there = own.iter().filter(|own| **own == Some(class)).count();
            if there == 0 {
                messages::say(format_args!("warning: no item is of the class {label}"));
                continue;
            }
            let cosine =
                |scores: &Vec<ClassScore>| scores[class].cosine.map_or(f64::NAN, f64::from);
            let cosines: Vec<f64> = scores.iter().map(cosine).collect();
            let relevant: Vec<Option<bool>> =
                own.iter().map(|own| Some((*own)? == class)).collect();
            let found = by_text(&cosines, &relevant, &self.ks, &bootstrap)?;
            parts.push((format!("{label} by words, {there} of {searched}"), found));
        }
        Ok(parts)
    }

    fn by_captions(&self, name: &str, model: &Model) -> Result<Vec<Part>> {
        let known = self
            .items
            .iter()
            .enumerate()
            .filter_map(|(place, item)| Some((place, field(item, name)?)));
        let (places, captions): (Vec<usize>, Vec<String>) = known.unzip();
        let distinct: BTreeSet<&String> = captions.iter().collect();
        let distinct: Vec<&String> = distinct.into_iter().collect();
        if distinct.len() < 2 {
            return Err(Failure::argument(format!(
                "the field {name}: expected at least two captions among the items, got {}",
                distinct.len()
            )));
        }
        let number = |caption: &String| distinct.partition_point(|known| *known < caption);
        let of: Vec<usize> = captions.iter().map(number).collect();
        let texts = model.encode_texts(&distinct)?;
        let rows = places
            .iter()
            .flat_map(|place| self.embeddings.row(*place))
            .copied();
        let pictures = Embeddings::new(self.embeddings.dim(), rows.collect())?;
        // The pictures' groups are drawn whole; captions stand for themselves.
        let to_text = by_pairs(
            &pictures,
            &texts,
            |picture, text| of[picture] == text,
            &self.ks,
            &self.bootstrap(&places)?,
        )?;
        let how = Resampling {
            replicates: self.args.replicates.get(),
            ..Resampling::default()
        };
        let of_texts = Bootstrap::new(distinct.len(), &how)?;
        let to_picture = by_pairs(
            &texts,
            &pictures,
            |text, picture| of[picture] == text,
            &self.ks,
            &of_texts,
        )?;
        let (texts, pictures) = (
            count(distinct.len(), "caption"),
            count(places.len(), "picture"),
        );
        Ok(vec![
            (format!("{texts} by {pictures}"), to_text),
            (format!("{pictures} by {texts}"), to_picture),
        ])
    }
}

/// The places of the items' classes in a prompt set; items of other classes are not searched by words.
fn places(classes: &[String], labels: &[String]) -> Result<Vec<Option<usize>>> {
    let same = |class: &String| {
        let is_it = |label: &String| label.eq_ignore_ascii_case(class);
        labels.iter().position(is_it)
    };
    let places: Vec<Option<usize>> = classes.iter().map(same).collect();
    let others = places.iter().filter(|place| place.is_none()).count();
    if others == classes.len() {
        return Err(Failure::argument(format!(
            "no class of the items is among the prompts': {}",
            labels.join(", ")
        )));
    }
    if others > 0 {
        messages::say(format_args!(
            "warning: {} of the field have no prompts; their items are not searched by words",
            count(others, "value")
        ));
    }
    Ok(places)
}

/// Why there is no interval.
const EVEN: &str = "the same in all samples";

/// Whether an interval has no width: it says nothing of other pictures.
fn is_even(estimate: &Estimate) -> bool {
    estimate.low == estimate.high
}

fn table(parts: &[Part]) -> Result<String> {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["", "", "", "95 % interval"]);
    for (what, found) in parts {
        for (place, measured) in found.iter().enumerate() {
            let (value, interval) = match measured.samples.estimate(LEVEL)? {
                Some(e) if is_even(&e) => (format!("{:.3}", e.value), EVEN.to_owned()),
                Some(e) => (
                    format!("{:.3}", e.value),
                    format!("{:.3} to {:.3}", e.low, e.high),
                ),
                None => ("none".to_owned(), String::new()),
            };
            let what = if place == 0 { what.as_str() } else { "" };
            table.add_row([what, &measured.name, &value, &interval]);
        }
    }
    Ok(format!("{table}\n{NOT_CLINICAL}\n"))
}

fn json_of(parts: &[Part]) -> Result<String> {
    let mut all = Vec::new();
    for (what, found) in parts {
        let mut measures = serde_json::Map::new();
        for measured in found {
            let estimate = measured.samples.estimate(LEVEL)?;
            let estimate = estimate.map(|e| match is_even(&e) {
                true => json!({"value": e.value, "low": null, "high": null, "why": EVEN}),
                false => json!({"value": e.value, "low": e.low, "high": e.high}),
            });
            measures.insert(measured.name.clone(), json!(estimate));
        }
        all.push(json!({"asked": what, "measures": measures}));
    }
    Ok(format!(
        "{}\n",
        json!({"level": LEVEL, "parts": all, "use": NOT_CLINICAL})
    ))
}
