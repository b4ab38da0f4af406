//! Heat maps of slides: a PNG of one class for a person, a GeoJSON of all scores for QuPath. Not for clinical use.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsiglip::embedding::Provenance;
use medsiglip::image::Limits;
use medsiglip::image::slide;
use medsiglip::zero_shot::{ClassScore, PromptKind};
use serde::Serialize;
use serde_json::{Value, json};

use super::drawing::{Square, heatmap};
use super::scores::score;
use super::{Destination, Files, NOT_CLINICAL, Scorer, Writer, png};
use crate::batches::Outcome;
use crate::inputs::{Inputs, Item, Source, SourceFile, slides_among};
use crate::messages::{Failure, Result};

/// Longer side of the thumbnail in pixels.
const SIDE: u32 = 2048;

/// Where the heat map of a slide stands: the PNG; the GeoJSON has its stem.
pub fn geojson_beside(png: &Path) -> PathBuf {
    png.with_extension("geojson")
}

/// What is drawn.
pub struct HeatMapOptions {
    /// Where, one for each slide that has tiles.
    pub places: Vec<PathBuf>,
    /// Which class, by its place.
    pub class: usize,
    /// How slides are opened.
    pub limits: Limits,
}

/// Writes heat maps beside what another writer writes.
pub struct HeatMaps<'a> {
    inner: Box<dyn Writer + 'a>,
    scorer: &'a dyn Scorer,
    options: &'a HeatMapOptions,
    provenance: Value,
    waiting: VecDeque<Planned>,
    open: Option<Open>,
}

/// A slide whose maps will be written.
struct Planned {
    slide: Arc<SourceFile>,
    place: PathBuf,
    png: PathBuf,
    geojson: PathBuf,
}

/// The slide whose tiles come.
struct Open {
    planned: Planned,
    geojson: BufWriter<File>,
    squares: Vec<Square>,
}

impl<'a> HeatMaps<'a> {
    /// Reserves the files; `inner` opens the writer of the scores themselves.
    pub fn new(
        scorer: &'a dyn Scorer,
        options: &'a HeatMapOptions,
        inputs: &Inputs,
        mut to: Destination,
        provenance: &Provenance,
        inner: impl FnOnce(Destination) -> Result<Box<dyn Writer + 'a>>,
    ) -> Result<Self> {
        let slides = slides_among(&inputs.items);
        let plan = |files: &mut Files| -> Result<VecDeque<Planned>> {
            let all = slides.iter().zip(&options.places);
            all.map(|((slide, _), place)| {
                Ok(Planned {
                    slide: Arc::clone(slide),
                    place: place.clone(),
                    geojson: files.reserve(geojson_beside(place))?,
                    png: files.reserve(place.clone())?,
                })
            })
            .collect()
        };
        let waiting = plan(to.files())?;
        Ok(Self {
            inner: inner(to)?,
            scorer,
            options,
            provenance: json!(provenance),
            waiting,
            open: None,
        })
    }

    fn tile(&mut self, source: &Source, embedding: &[f32]) -> Result<()> {
        let Some((tiling, (x, y))) = source.tile() else {
            return Ok(());
        };
        let is_open = |open: &Open| Arc::ptr_eq(&open.planned.slide, &source.file);
        if !self.open.as_ref().is_some_and(is_open) {
            self.close()?;
            self.open = self.next(&source.file)?;
        }
        let scores = score(self.scorer, embedding)?;
        let class = self.options.class;
        let feature = Feature::new(self.scorer, &scores, (x, y), tiling.size_level0);
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let before = if open.squares.is_empty() { "\n" } else { ",\n" };
        open.geojson
            .write_all(before.as_bytes())
            .and_then(|()| Ok(serde_json::to_writer(&mut open.geojson, &feature)?))
            .map_err(|e| Failure::io("write", geojson_beside(&open.planned.place), e))?;
        let value = scores.get(class).map_or(0.0, |score| score.softmax);
        open.squares.push(Square { x, y, value });
        Ok(())
    }

    /// Begins the maps of `slide`; those of slides before it that gave nothing are left empty of tiles.
    fn next(&mut self, slide: &Arc<SourceFile>) -> Result<Option<Open>> {
        while let Some(planned) = self.waiting.pop_front() {
            let is_it = Arc::ptr_eq(&planned.slide, slide);
            let open = self.begin(planned)?;
            if is_it {
                return Ok(Some(open));
            }
            self.end(open)?;
        }
        Ok(None)
    }

    fn begin(&self, planned: Planned) -> Result<Open> {
        let failed = |e| Failure::io("write", geojson_beside(&planned.place), e);
        let mut geojson = BufWriter::new(File::create(&planned.geojson).map_err(failed)?);
        let begun = write!(
            geojson,
            r#"{{"type":"FeatureCollection","note":{},"slide":{},"softmax_over":{},"provenance":{},"features":["#,
            json!(NOT_CLINICAL),
            json!(planned.slide.path.to_string_lossy()),
            json!(self.scorer.kind().softmax_over()),
            self.provenance,
        );
        begun.map_err(failed)?;
        Ok(Open {
            planned,
            geojson,
            squares: Vec::new(),
        })
    }

    /// Ends the slide that is open.
    fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) => self.end(open),
            None => Ok(()),
        }
    }

    fn end(&self, mut open: Open) -> Result<()> {
        let place = &open.planned.place;
        open.geojson
            .write_all(b"\n]}\n")
            .and_then(|()| open.geojson.flush())
            .map_err(|e| Failure::io("write", geojson_beside(place), e))?;
        let Some(tiles) = open.planned.slide.tiles() else {
            return Ok(());
        };
        let path = &open.planned.slide.path;
        let of_slide = |error| Failure::of_file(error, path);
        let slide = slide::open(path, &self.options.limits).map_err(of_slide)?;
        let thumbnail = slide::thumbnail(&*slide, SIDE).map_err(of_slide)?;
        let (width, _) = tiles.info.size();
        let side = tiles.tiling.size_level0;
        let picture = heatmap(&thumbnail, width, side, &open.squares, &self.legend())?;
        std::fs::write(&open.planned.png, png(&picture)?)
            .map_err(|e| Failure::io("write", place, e))
    }

    fn legend(&self) -> [String; 2] {
        let label = self.scorer.label(self.options.class).unwrap_or_default();
        let over = self.scorer.kind().softmax_over();
        [
            format!("{label}: softmax share over {over}"),
            "Not for clinical use".to_owned(),
        ]
    }
}

/// A tile as QuPath reads it: a square in pixels of level 0, its best class where classes compete, all its scores.
#[derive(Serialize)]
struct Feature<'a> {
    r#type: &'static str,
    geometry: Geometry,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Geometry {
    r#type: &'static str,
    coordinates: [[[u64; 2]; 5]; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    object_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    classification: Option<Classification<'a>>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct Classification<'a> {
    name: &'a str,
    color: [u8; 3],
}

#[derive(Serialize)]
struct Measurement {
    name: String,
    value: f32,
}

impl<'a> Feature<'a> {
    fn new(scorer: &dyn Scorer, scores: &'a [ClassScore], (x, y): (u32, u32), side: u32) -> Self {
        let (left, top) = (u64::from(x), u64::from(y));
        let (right, bottom) = (left + u64::from(side), top + u64::from(side));
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        let [first, second, third, fourth] = corners;
        let measurements = scores.iter().flat_map(|score| {
            let all = [
                ("softmax", Some(score.softmax)),
                ("probability", Some(score.probability)),
                ("cosine", score.cosine),
            ];
            all.into_iter().filter_map(|(name, value)| {
                Some(Measurement {
                    name: format!("{name}: {}", score.label),
                    value: value?,
                })
            })
        });
        let is_multiclass = scorer.kind() == PromptKind::Multiclass;
        Self {
            r#type: "Feature",
            geometry: Geometry {
                r#type: "Polygon",
                coordinates: [[first, second, third, fourth, first]],
            },
            properties: Properties {
                object_type: "tile",
                classification: is_multiclass.then(|| best(scores)).flatten(),
                measurements: measurements.collect(),
            },
        }
    }
}

fn best(scores: &[ClassScore]) -> Option<Classification<'_>> {
    let places = scores.iter().enumerate();
    let (class, score) = places.max_by(|(_, a), (_, b)| a.softmax.total_cmp(&b.softmax))?;
    let palette = &colorous::TABLEAU10;
    let color = palette.get(class % palette.len());
    Some(Classification {
        name: &score.label,
        color: color.map_or([0; 3], |c| [c.r, c.g, c.b]),
    })
}

impl Writer for HeatMaps<'_> {
    fn write(&mut self, items: &[Item], outcomes: &[Outcome]) -> Result<()> {
        for (item, outcome) in items.iter().zip(outcomes) {
            if let (Item::Image(source), Ok(embedding)) = (item, &outcome.embedding) {
                self.tile(source, embedding)?;
            }
        }
        self.inner.write(items, outcomes)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close()?;
        while let Some(planned) = self.waiting.pop_front() {
            let open = self.begin(planned)?;
            self.end(open)?;
        }
        self.inner.finish()
    }
}
