//! What `bench` prints: a line as soon as it is measured, or one JSON object at the end.

use std::io::Write;

use indicatif::ProgressBar;
use medsiglip::checkpoint::{Drift, Dtype};
use medsiglip::engine::peak::Peak;
use serde_json::{Map, Value, json};

use super::cold_start::ColdStart;
use crate::args::InspectFormat;
use crate::commands::drift::sentence;
use crate::messages::{Failure, Result};
use crate::progress;

/// Collects measurements and prints them.
pub struct Report {
    format: InspectFormat,
    steps: ProgressBar,
    peak: Peak,
    /// Whether what is measured can be compared with it.
    on_cpu: bool,
    json: Map<String, Value>,
    rows: Vec<Value>,
}

/// Seconds an item of several runs.
pub struct Row<'a> {
    /// Name of the part, stable.
    pub part: &'static str,
    /// For a person.
    pub title: &'a str,
    /// Items of one run.
    pub batch: usize,
    /// Seconds an item, one of each run; not empty.
    pub seconds: Vec<f64>,
    /// Floating-point operations of an item, where it is the towers' work.
    pub flops: Option<u64>,
}

impl Report {
    /// Begins the report with the machine: the peak of one thread and that of `threads`, which is what a model on the CPU is
    /// compared with.
    pub fn new(
        format: InspectFormat,
        about: &str,
        on_cpu: bool,
        threads: usize,
        [one, peak]: [Peak; 2],
    ) -> Result<Self> {
        let mut report = Self {
            format,
            steps: progress::steps(),
            peak,
            on_cpu,
            json: Map::new(),
            rows: Vec::new(),
        };
        let giga = |peak: Peak| peak.flops_per_second / 1e9;
        report.put("about", json!(about));
        report.put("threads", json!(threads));
        report.put(
            "peak_gflops_per_s",
            json!({"one_thread": giga(one), "all_threads": giga(peak)}),
        );
        report.line(about)?;
        report.line(&format!(
            "arithmetic peak, f32, {} lanes: {:.0} GFLOP/s on 1 thread, {:.0} on {threads}\n\n{:44} {:>10} \
             {:>19} {:>9} {:>8} {:>6}",
            peak.lanes, giga(one), giga(peak), "", "s an item", "min - max", "items/s", "GFLOP/s", "% peak"
        ))?;
        Ok(report)
    }

    /// Says what is being measured, to a person who waits.
    pub fn step(&self, what: &str, run: usize, runs: usize) {
        self.steps.set_message(match run {
            0 => format!("{what}: warming up"),
            _ => format!("{what}: run {run} of {runs}"),
        });
        self.steps.tick();
    }

    /// Adds a row of the table.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        let (median, min, max) = spread(&row.seconds);
        let gflops = row.flops.map(|flops| flops as f64 / median / 1e9);
        let share = gflops.filter(|_| self.on_cpu);
        let share = share.map(|gflops| gflops * 1e9 / self.peak.flops_per_second);
        self.rows.push(json!({
            "part": row.part, "title": row.title, "batch": row.batch, "seconds": row.seconds, "median_s": median,
            "items_per_s": 1.0 / median, "gflops_per_s": gflops, "share_of_peak": share,
        }));
        let cell = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.0}"));
        self.line(&format!(
            "{:44} {median:>10.4} {:>19} {:>9.2} {:>8} {:>6}",
            row.title,
            format!("{min:.4} - {max:.4}"),
            1.0 / median,
            cell(gflops),
            cell(share.map(|share| share * 100.0)),
        ))
    }

    /// Adds the cold starts; not empty.
    pub fn cold_starts(&mut self, starts: &[ColdStart]) -> Result<()> {
        let all = |of: fn(&ColdStart) -> f64| spread(&starts.iter().map(of).collect::<Vec<_>>());
        let (median, min, max) = all(|start| start.total_s);
        let (beyond, ..) = all(ColdStart::beyond_forward_s);
        let (load, ..) = all(|start| start.inside.load_s);
        self.put(
            "cold_start",
            json!({"starts": starts, "median_s": median, "median_beyond_forward_s": beyond}),
        );
        self.line(&format!(
            "\ncold start to the first score of a picture and two texts: {median:.3} s [{min:.3} - {max:.3}], \
             {beyond:.3} s of it beyond a warm forward pass (loading: {load:.3} s)"
        ))
    }

    /// Adds how far embeddings of `dtype` are from those of the weights as `stored`.
    pub fn drift(&mut self, dtype: Dtype, stored: Dtype, drift: &Drift) -> Result<()> {
        let Drift {
            cosine_images,
            cosine_texts,
        } = drift;
        let json = json!({
            "dtype": dtype.name(), "stored": stored.name(),
            "cosine_images": cosine_images, "cosine_texts": cosine_texts,
        });
        self.put("drift", json);
        let sentence = sentence(drift);
        self.line(&format!(
            "\ndrift of {dtype} from the weights as stored, {stored}: {sentence}"
        ))
    }

    /// Ends the report.
    pub fn finish(mut self) -> Result<()> {
        self.steps.finish_and_clear();
        let rows = std::mem::take(&mut self.rows);
        self.put("rows", rows.into());
        match self.format {
            InspectFormat::Text => Ok(()),
            InspectFormat::Json => print(&format!("{:#}", Value::Object(self.json))),
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        self.json.insert(name.to_owned(), value);
    }

    /// Prints a line for a person.
    fn line(&self, line: &str) -> Result<()> {
        match self.format {
            InspectFormat::Text => self.steps.suspend(|| print(line)),
            InspectFormat::Json => Ok(()),
        }
    }
}

fn print(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}

/// Median (of an even number the mean of the middle two), least and greatest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (
        (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0,
        sorted[0],
        sorted[last],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(spread(&[7.0]), (7.0, 7.0, 7.0));
    }
}
