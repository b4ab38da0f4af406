//! A page with the hits of a search, as the model sees them. One file, which asks nothing of any network.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use medsiglip::image::slide::{self, TileOptions, Tiling};
use medsiglip::image::{Picture, Samples};
use medsiglip::index::{Digest, Store};
use serde_json::Value;

use super::{png, write_file};
use crate::args::{SearchArgs, tile_of};
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
    /// The page of a search; pictures that cannot be read any more, or whose files are not what they were, have an empty place.
    pub fn new(
        args: &SearchArgs,
        hits: &[TellHit],
        encoding: &Encoding,
        store: &dyn Store,
    ) -> Result<Self> {
        let files = Files {
            encoding,
            contents: store.contents()?.into_iter().collect(),
            tile: store.about().reading.as_ref().and_then(tile_of),
        };
        let asked = args.image.iter().map(|path| Card {
            title: "asked with".into(),
            picture: files
                .read(&Source::from(path.clone()))
                .and_then(|picture| files.view(&picture)),
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
                picture: files
                    .picture(&hit.id)
                    .and_then(|picture| files.view(&picture)),
                numbers,
                fields: fields
                    .map(|(name, value)| (name.clone(), shown(value)))
                    .collect(),
            }
        };
        Ok(Self {
            texts: args.text.clone(),
            without: args.without.clone(),
            asked: asked.collect(),
            hits: hits.iter().map(hit).collect(),
        })
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

/// The files that hits were made from.
struct Files<'a> {
    encoding: &'a Encoding<'a>,
    /// What they were; of what was imported nobody knows.
    contents: HashMap<String, Option<Digest>>,
    /// How slides were cut.
    tile: Option<TileOptions>,
}

impl Files<'_> {
    /// The picture that an id stands for: a file, a frame of one, or a tile.
    fn picture(&self, id: &str) -> Option<Picture> {
        let path = Path::new(file_of(id));
        let stored = self.contents.get(id).copied().flatten();
        if stored.is_some() && stored != digest(path) {
            return None;
        }
        let part = &id[file_of(id).len()..];
        if let Some(corner) = part.strip_prefix("#x=") {
            let (x, y) = corner.split_once(",y=")?;
            return self.tile(path, (x.parse().ok()?, y.parse().ok()?));
        }
        let part = match part.strip_prefix("#frame=") {
            Some(frame) => Part::Frame(frame.parse::<u32>().ok()?.checked_sub(1)?),
            None => Part::Whole,
        };
        let file = SourceFile {
            path: path.to_owned(),
            cut: Cut::No,
        };
        self.read(&Source {
            file: Arc::new(file),
            part,
        })
    }

    fn read(&self, source: &Source) -> Option<Picture> {
        self.encoding
            .reader
            .read(source, &mut About::default())
            .ok()
    }

    fn tile(&self, path: &Path, corner: (u32, u32)) -> Option<Picture> {
        let slide = slide::open(path, &self.encoding.reader.decode.limits).ok()?;
        let tiling = Tiling::from_coords(slide.as_ref(), self.tile.as_ref()?, vec![corner]).ok()?;
        tiling.tile(slide.as_ref(), 0).ok()
    }

    /// What the model sees, as a data URL.
    fn view(&self, picture: &Picture) -> Option<String> {
        let preprocessor = self.encoding.model.preprocessor();
        let side = u32::try_from(preprocessor.size()).ok()?;
        let samples = Samples::U8(preprocessor.view(picture).ok()?);
        let view = Picture::new(side, side, 3, samples).ok()?;
        let bytes = BASE64_STANDARD.encode(png(&view).ok()?);
        Some(format!("data:image/png;base64,{bytes}"))
    }
}
