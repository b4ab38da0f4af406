//! A page with the hits of a search, as the model sees them. One file, which asks nothing of any network.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use medsiglip::image::{Picture, Samples};
use medsiglip::index::Digest;
use serde_json::Value;

use super::{png, write_file};
use crate::args::SearchArgs;
use crate::batches::{About, Encoding};
use crate::commands::search::TellHit;
use crate::inputs::{Cut, Part, Source, SourceFile, digest, file_of};
use crate::messages::{self, Result};

/// Fields that a page does not show: they lead to a person.
const NOT_SHOWN: [&str; 3] = ["patient", "study", "series"];

/// The page.
#[derive(Template)]
#[template(path = "hits.html")]
pub struct HitsPage {
    texts: Vec<String>,
    without: Vec<String>,
    asked: Vec<Card>,
    hits: Vec<Card>,
}

/// A picture with what is said of it.
struct Card {
    title: String,
    /// A PNG as a data URL; none where the picture cannot be read.
    picture: Option<String>,
    numbers: Vec<(&'static str, String)>,
    fields: Vec<(String, String)>,
}

impl HitsPage {
    /// The page of a search; pictures that cannot be read any more, or whose files are not those of `contents`, have an empty
    /// place.
    pub fn new(
        args: &SearchArgs,
        hits: &[TellHit],
        encoding: &Encoding,
        contents: &HashMap<String, Option<Digest>>,
    ) -> Self {
        let asked = args.image.iter().map(|path| Card {
            title: "asked with".into(),
            picture: view(encoding, &Source::from(path.clone())),
            numbers: Vec::new(),
            fields: Vec::new(),
        });
        let hit = |hit: &TellHit| {
            let mut numbers = vec![("cosine", format!("{:.4}", hit.cosine))];
            numbers.extend(hit.probability.map(|p| ("probability", format!("{p:.4}"))));
            let fields = hit
                .metadata
                .iter()
                .filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str()));
            Card {
                title: format!("{}", hit.rank),
                picture: source(&hit.id, contents).and_then(|source| view(encoding, &source)),
                numbers,
                fields: fields
                    .map(|(name, value)| (name.clone(), shown(value)))
                    .collect(),
            }
        };
        Self {
            texts: args.text.clone(),
            without: args.without.clone(),
            asked: asked.collect(),
            hits: hits.iter().map(hit).collect(),
        }
    }

    /// Writes it, in place of an earlier one.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.render().expect("a text takes what is written");
        write_file(path, true, text.as_bytes())?;
        messages::note(format_args!("wrote {}", path.display()));
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The picture that an id stands for: a file, or a frame of one. A tile's id does not say how the slide was cut.
fn source(id: &str, contents: &HashMap<String, Option<Digest>>) -> Option<Source> {
    let path = Path::new(file_of(id));
    let part = match id[file_of(id).len()..].strip_prefix("#frame=") {
        Some(frame) => Part::Frame(frame.parse::<u32>().ok()?.checked_sub(1)?),
        None if file_of(id) == id => Part::Whole,
        None => return None,
    };
    // Of what was imported nobody knows what the file was.
    let stored = contents.get(id).copied().flatten();
    if stored.is_some() && stored != digest(path) {
        return None;
    }
    let file = SourceFile {
        path: path.to_owned(),
        cut: Cut::No,
    };
    Some(Source {
        file: Arc::new(file),
        part,
    })
}

/// What the model sees, as a data URL.
fn view(encoding: &Encoding, source: &Source) -> Option<String> {
    let picture = encoding.reader.read(source, &mut About::default()).ok()?;
    let preprocessor = encoding.model.preprocessor();
    let side = u32::try_from(preprocessor.size()).ok()?;
    let view = Picture::new(
        side,
        side,
        3,
        Samples::U8(preprocessor.view(&picture).ok()?),
    )
    .ok()?;
    let bytes = png(&view).ok()?;
    Some(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(bytes)
    ))
}
