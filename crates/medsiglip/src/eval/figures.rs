//! Figures of a [`Report`], as SVG and PNG. Every one shows its intervals.

use std::sync::Arc;

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::annotations::{ReferenceLine, TextAnnotation};
use kuva::plot::colormap::ColorMap;
use kuva::plot::scatter::ScatterPlot;
use kuva::plot::{BarPlot, Heatmap, LegendPosition, LinePlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

use super::report::{
    Band, DataCurve, Map, Measure, Method, MethodReport, NOTICE, Report, TaskReport,
};
use crate::metrics::Estimate;
use crate::{Error, Result};

/// Colours that people with any kind of colour vision tell apart (Wong, Nature Methods 8, 441, 2011).
const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
];
/// What chance gives.
const CHANCE: &str = "#888888";
/// Pixels of a PNG for one of an SVG.
const PNG_SCALE: f32 = 2.0;
/// Letters of a file's name.
const MAX_NAME: usize = 100;
/// Curves that one picture can hold.
const MAX_CURVES: usize = 5;

/// A figure.
pub struct Figure {
    /// Its file's name without extension.
    pub name: String,
    /// The task it belongs to; none for what sums up all.
    pub task: Option<usize>,
    /// What it shows, in a sentence.
    pub caption: String,
    /// It, as SVG.
    pub svg: String,
    /// It, as PNG.
    pub png: Vec<u8>,
}

/// All figures of a report, in reading order.
///
/// # Errors
/// `BAD_ARGUMENT` where one cannot be drawn.
pub fn figures(report: &Report) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    all.extend(summary(report)?);
    for (number, task) in report.tasks.iter().enumerate() {
        let mut drawn = Vec::new();
        for method in [Method::ZeroShot, Method::LinearProbe] {
            drawn.extend(bars(task, method)?);
        }
        drawn.extend(data_curves(task)?);
        for result in &task.results {
            drawn.extend(of_result(task, result)?);
        }
        for map in &task.maps {
            drawn.push(embedding_map(task, map)?);
        }
        for (place, figure) in drawn.iter_mut().enumerate() {
            figure.task = Some(number);
            // Numbers keep names apart that are the same in letters, digits and dashes.
            figure.name = format!("{:02}-{:02}-{}", number + 1, place + 1, figure.name);
        }
        all.extend(drawn);
    }
    Ok(all)
}

/// The first overall measure of every task, by encoder and method.
fn summary(report: &Report) -> Result<Option<Figure>> {
    let series = series_of(report);
    let mut plot = BarPlot::new();
    let mut errors = Vec::new();
    for task in &report.tasks {
        let mut bars = Vec::new();
        for (number, (encoder, method)) in series.iter().enumerate() {
            let result = task
                .results
                .iter()
                .find(|r| (&r.encoder, r.method) == (encoder, *method));
            let (value, error) = bar(result.and_then(|result| result.overall.first()));
            bars.push((value, COLORS[number % COLORS.len()]));
            errors.push(error);
        }
        plot = plot.with_group(task.name.clone(), bars);
    }
    if report.tasks.is_empty() || series.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = series
        .iter()
        .map(|(e, method)| format!("{e}, {}", method.title()))
        .collect();
    let names = names.iter().map(String::as_str).collect();
    let plots = vec![Plot::Bar(
        plot.with_legend(names).with_asymmetric_error(errors),
    )];
    let names = report.tasks.iter().map(|task| task.name.as_str());
    let layout = bar_layout(&plots, names, series.len());
    let caption = "Every task at a glance: its first measure with 95 % intervals; where there is no bar, there is no value, and a whisker of no length is no interval. The line is chance.";
    figure("summary", caption, plots, layout).map(Some)
}

/// Encoders and methods that have any result.
fn series_of(report: &Report) -> Vec<(String, Method)> {
    let mut series = Vec::new();
    for result in report.tasks.iter().flat_map(|task| &task.results) {
        let one = (result.encoder.clone(), result.method);
        if !series.contains(&one) {
            series.push(one);
        }
    }
    series
}

/// AUROC of every question of a task, the encoders side by side; a task of one question has no more than the summary.
fn bars(task: &TaskReport, method: Method) -> Result<Option<Figure>> {
    let results: Vec<&MethodReport> = task.results.iter().filter(|r| r.method == method).collect();
    let Some(first) = results.first().filter(|first| first.questions.len() > 1) else {
        return Ok(None);
    };
    let mut plot = BarPlot::new();
    let mut errors = Vec::new();
    for question in &first.questions {
        let of = |result: &&MethodReport| {
            let same = result.questions.iter().find(|q| q.name == question.name);
            bar(same.and_then(|q| q.measures.first()))
        };
        let values: Vec<_> = results.iter().map(of).collect();
        errors.extend(values.iter().map(|(_, error)| *error));
        let bars = values
            .iter()
            .enumerate()
            .map(|(n, (value, _))| (*value, COLORS[n % COLORS.len()]));
        plot = plot.with_group(question.name.clone(), bars);
    }
    let names = results.iter().map(|r| r.encoder.as_str()).collect();
    let plots = vec![Plot::Bar(
        plot.with_legend(names).with_asymmetric_error(errors),
    )];
    let names = first
        .questions
        .iter()
        .map(|question| question.name.as_str());
    let layout = bar_layout(&plots, names, results.len());
    let caption = format!(
        "{}, {}: AUROC of each class or finding with 95 % intervals; a whisker of no length is none.",
        task.name,
        method.title()
    );
    figure(
        &file_name(&[&task.name, method.title(), "auroc"]),
        &caption,
        plots,
        layout,
    )
    .map(Some)
}

/// Curves over the steps of a training run.
///
/// # Errors
/// `BAD_ARGUMENT` where they cannot be drawn.
pub fn over_steps(name: &str, label: &str, curves: &[(String, Band)]) -> Result<Figure> {
    let shown = curves.iter().map(|(name, band)| (name.as_str(), band));
    let layout = |plots: &[Plot]| {
        styled(plots)
            .with_x_label("step")
            .with_y_label(label)
            .with_width(720.0)
            .with_height(440.0)
            .with_legend_position(LegendPosition::OutsideTopLeft)
    };
    bands(name, "", shown, None, layout)
}

/// Height of a bar, and how far its whiskers reach down and up.
fn bar(measure: Option<&Measure>) -> (f64, (f64, f64)) {
    let Some(measure) = measure else {
        return (0.0, (0.0, 0.0));
    };
    let reach = |e: Estimate| ((e.value - e.low).max(0.0), (e.high - e.value).max(0.0));
    (
        measure.value().unwrap_or(0.0),
        measure.estimate.map_or((0.0, 0.0), reach),
    )
}

/// Bars in groups of these names, so many in each.
fn bar_layout<'a>(plots: &[Plot], names: impl Iterator<Item = &'a str>, each: usize) -> Layout {
    let lengths: Vec<usize> = names.map(|name| name.chars().count()).collect();
    let width = (160 + lengths.len() * (40 + 40 * each)).clamp(480, 1500);
    let layout = styled(plots)
        .with_y_label("AUROC")
        .with_width(width as f64)
        .with_height(440.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.0)
        .with_legend_position(LegendPosition::OutsideTopLeft)
        .with_reference_line(ReferenceLine::horizontal(0.5).with_color(CHANCE));
    match touch(&lengths, width.saturating_sub(120)) {
        true => layout.with_x_tick_rotate(-35.0),
        false => layout,
    }
}

/// Whether names of these lengths would touch each other along an axis of so many pixels; then they are turned.
fn touch(lengths: &[usize], pixels: usize) -> bool {
    let room = pixels / lengths.len().max(1);
    lengths.iter().any(|length| 7 * length > room)
}

/// The figures of one encoder and method.
fn of_result(task: &TaskReport, result: &MethodReport) -> Result<Vec<Figure>> {
    let named = |what: &str| file_name(&[&task.name, &result.encoder, result.method.title(), what]);
    let said = |what: &str| {
        format!(
            "{}, {}, {}: {what}",
            task.name,
            result.encoder,
            result.method.title()
        )
    };
    let shown: Vec<_> = result
        .questions
        .iter()
        .filter(|q| !q.roc.x.is_empty())
        .take(MAX_CURVES)
        .collect();
    let few = match result.questions.len() > shown.len() {
        true => format!(" ({} of {} questions)", shown.len(), result.questions.len()),
        false => String::new(),
    };
    let banded = format!("95 % bands (of at most 500 samples){few}");
    let mut all = Vec::new();
    if !shown.is_empty() {
        let curves = shown.iter().map(|q| (q.name.as_str(), &q.roc));
        let layout = |plots: &[Plot]| {
            unit_square(plots)
                .with_x_label("1 - specificity")
                .with_y_label("sensitivity")
                .with_legend_position(LegendPosition::InsideBottomRight)
        };
        let diagonal = Some([(0.0, 0.0), (1.0, 1.0)]);
        let caption = said(&format!("receiver operating characteristic with {banded}."));
        all.push(bands(&named("roc"), &caption, curves, diagonal, layout)?);
        let curves = shown.iter().map(|q| (q.name.as_str(), &q.precision_recall));
        let layout = |plots: &[Plot]| {
            unit_square(plots)
                .with_x_label("recall")
                .with_y_label("precision")
                .with_legend_position(LegendPosition::InsideBottomLeft)
        };
        let caption = said(&format!("precision and recall with {banded}."));
        all.push(bands(&named("pr"), &caption, curves, None, layout)?);
        all.push(reliability(
            &named("reliability"),
            &said(&format!(
                "how often what was given a score is so{few}. On the line, scores are probabilities."
            )),
            result,
        )?);
    }
    if let Some(confusion) = &result.confusion {
        all.push(confusion_matrix(
            &named("confusion"),
            &said("pictures by truth and by highest score."),
            &task.classes,
            confusion,
        )?);
    }
    Ok(all)
}

fn bands<'a>(
    name: &str,
    caption: &str,
    curves: impl Iterator<Item = (&'a str, &'a Band)>,
    reference: Option<[(f64, f64); 2]>,
    layout: impl Fn(&[Plot]) -> Layout,
) -> Result<Figure> {
    let mut plots = Vec::new();
    if let Some(ends) = reference {
        plots.push(Plot::Line(
            LinePlot::new()
                .with_data(ends)
                .with_color(CHANCE)
                .with_stroke_width(1.0)
                .with_dashed(),
        ));
    }
    for ((label, band), color) in curves.zip(COLORS.into_iter().cycle()) {
        let points = band.x.iter().copied().zip(band.y.iter().copied());
        let line = LinePlot::new()
            .with_data(points)
            .with_color(color)
            .with_legend(label)
            .with_band(band.low.iter().copied(), band.high.iter().copied());
        plots.push(Plot::Line(line));
    }
    let layout = layout(&plots);
    figure(name, caption, plots, layout)
}

fn reliability(name: &str, caption: &str, result: &MethodReport) -> Result<Figure> {
    let ends = [(0.0, 0.0), (1.0, 1.0)];
    let mut plots = vec![Plot::Line(
        LinePlot::new()
            .with_data(ends)
            .with_color(CHANCE)
            .with_stroke_width(1.0)
            .with_dashed(),
    )];
    let shown = result
        .questions
        .iter()
        .filter(|q| !q.reliability.is_empty());
    for (question, color) in shown.zip(COLORS).take(MAX_CURVES) {
        let points: Vec<(f64, f64)> = question
            .reliability
            .iter()
            .map(|bin| (bin.score, bin.share))
            .collect();
        plots.push(Plot::Line(
            LinePlot::new()
                .with_data(points.clone())
                .with_color(color)
                .with_legend(&question.name),
        ));
        plots.push(Plot::Scatter(
            ScatterPlot::new()
                .with_data(points)
                .with_color(color)
                .with_size(4.0),
        ));
    }
    let layout = unit_square(&plots)
        .with_x_label("mean score")
        .with_y_label("share of positives")
        .with_legend_position(LegendPosition::InsideTopLeft);
    figure(name, caption, plots, layout)
}

/// Truth from top to bottom, as the table has it.
fn confusion_matrix(
    name: &str,
    caption: &str,
    classes: &[String],
    counts: &[Vec<usize>],
) -> Result<Figure> {
    let largest = counts.iter().flatten().copied().max().unwrap_or(0);
    let rows = counts.iter().rev();
    let data = rows.map(|row| row.iter().map(|count| *count as f64).collect::<Vec<_>>());
    // From white to a blue that black numbers can be read on.
    let blues = ColorMap::Custom(Arc::new(|share: f64| {
        let mix = |end: f64| (255.0 + (end - 255.0) * share).round() as u8;
        format!("#{:02x}{:02x}{:02x}", mix(96.0), mix(172.0), mix(224.0))
    }));
    let plots = vec![Plot::Heatmap(
        Heatmap::new().with_data(data).with_color_map(blues),
    )];
    let side = (220 + 70 * classes.len()).clamp(440, 1200) as f64;
    let reversed = classes.iter().rev().cloned().collect();
    let mut layout = styled(&plots)
        .with_x_label("class with the highest score")
        .with_y_label("truth")
        .with_x_categories(classes.to_vec())
        .with_y_categories(reversed)
        .with_width(side + 160.0)
        .with_height(side);
    let lengths: Vec<usize> = classes.iter().map(|class| class.chars().count()).collect();
    if touch(&lengths, side as usize - 60) {
        layout = layout.with_x_tick_rotate(-40.0);
    }
    layout.show_colorbar = false;
    if largest < 10_000 {
        for (row, counts) in counts.iter().rev().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                // Text stands a little above its point.
                let (x, y) = (column as f64 + 1.0, row as f64 + 0.93);
                layout = layout.with_annotation(TextAnnotation::new(count.to_string(), x, y));
            }
        }
    }
    figure(name, caption, plots, layout)
}

fn data_curves(task: &TaskReport) -> Result<Option<Figure>> {
    let mut plots = Vec::new();
    for (
        DataCurve {
            encoder, points, ..
        },
        color,
    ) in task.data_curves.iter().zip(COLORS.into_iter().cycle())
    {
        let known: Vec<_> = points
            .iter()
            .filter_map(|p| Some((p.size, p.auroc?)))
            .collect();
        if known.is_empty() {
            continue;
        }
        let line = LinePlot::new()
            .with_data(known.iter().map(|(size, of)| (*size, of.mean)))
            .with_color(color)
            .with_legend(encoder)
            .with_band(
                known.iter().map(|(_, of)| of.worst),
                known.iter().map(|(_, of)| of.best),
            );
        plots.push(Plot::Line(line));
        let dots = known.iter().map(|(size, of)| (*size, of.mean));
        plots.push(Plot::Scatter(
            ScatterPlot::new()
                .with_data(dots)
                .with_color(color)
                .with_size(4.0),
        ));
    }
    if plots.is_empty() {
        return Ok(None);
    }
    let layout = styled(&plots)
        .with_x_label("pictures that the probe learned from")
        .with_y_label("AUROC")
        .with_log_x()
        .with_y_axis_max(1.0)
        .with_width(620.0)
        .with_height(440.0)
        .with_legend_position(LegendPosition::InsideBottomRight)
        .with_reference_line(ReferenceLine::horizontal(0.5).with_color(CHANCE));
    let caption = format!(
        "{}: a linear probe that learns from more and more pictures, tuned each time on the whole validation side. The band reaches from the worst to the best of the repeats; it is no interval.",
        task.name
    );
    figure(
        &file_name(&[&task.name, "data-curve"]),
        &caption,
        plots,
        layout,
    )
    .map(Some)
}

fn embedding_map(task: &TaskReport, map: &Map) -> Result<Figure> {
    let mut plots = Vec::new();
    for (class, name) in task.classes.iter().enumerate() {
        let of_class = map.points.iter().filter(|(_, _, of)| *of == class);
        let points: Vec<(f64, f64)> = of_class
            .map(|(x, y, _)| (f64::from(*x), f64::from(*y)))
            .collect();
        if points.is_empty() {
            continue;
        }
        let dots = ScatterPlot::new()
            .with_data(points)
            .with_color(COLORS[class % COLORS.len()])
            .with_size(3.0)
            .with_marker_opacity(0.6)
            .with_legend(name);
        plots.push(Plot::Scatter(dots));
    }
    let [first, second] = map.variance.map(|share| 100.0 * share);
    let layout = styled(&plots)
        .with_x_label(format!("first component ({first:.0} % of the variance)"))
        .with_y_label(format!("second component ({second:.0} %)"))
        .with_width(760.0)
        .with_height(520.0)
        .with_legend_position(LegendPosition::OutsideRightTop);
    let caption = format!(
        "{}: embeddings of {} in the plane of their two principal components.",
        task.name, map.encoder
    );
    figure(
        &file_name(&[&task.name, &map.encoder, "map"]),
        &caption,
        plots,
        layout,
    )
}

fn unit_square(plots: &[Plot]) -> Layout {
    styled(plots)
        .with_width(520.0)
        .with_height(480.0)
        .with_x_axis_min(0.0)
        .with_x_axis_max(1.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.0)
        .with_x_tick_format(TickFormat::Fixed(1))
        .with_y_tick_format(TickFormat::Fixed(1))
}

fn styled(plots: &[Plot]) -> Layout {
    Layout::auto_from_plots(plots).with_font_family("DejaVu Sans, Arial, sans-serif")
}

fn figure(name: &str, caption: &str, plots: Vec<Plot>, layout: Layout) -> Result<Figure> {
    let mut layout = layout.with_title(NOTICE);
    layout.title_size = 11;
    let scene = render_multiple(plots, layout);
    let png = RasterBackend::new()
        .with_scale(PNG_SCALE)
        .render_scene(&scene);
    Ok(Figure {
        name: name.to_owned(),
        task: None,
        caption: caption.to_owned(),
        // With a view box it scales where it is shown.
        svg: SvgBackend::new().render_scene(&scene).replacen(
            "<svg ",
            &format!("<svg viewBox=\"0 0 {} {}\" ", scene.width, scene.height),
            1,
        ),
        png: png.map_err(|e| Error::BadArgument(format!("figure {name}: {e}")))?,
    })
}

/// A file name of these parts, of letters, digits and dashes.
pub(super) fn file_name(parts: &[&str]) -> String {
    let mut name = String::new();
    for c in parts.join(" ").chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    name.truncate(MAX_NAME);
    name.trim_end_matches('-').to_owned()
}
