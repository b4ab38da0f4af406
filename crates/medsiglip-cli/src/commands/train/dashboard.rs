//! `train --dashboard`: Burn's dashboard on a terminal.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};
use medsiglip::train::config::TrainConfig;
use medsiglip::train::run::{Event, StepReport};

use super::{of_results, of_step};
use crate::batches;
use crate::messages::{self, Failure, Result};

/// The dashboard, from the first step on. Messages that come later are held back until it is closed.
pub struct Dashboard {
    shown: Option<Shown>,
    /// What Burn calls an epoch: so many steps from one validation to the next.
    epoch: u64,
    held_back: Vec<String>,
}

/// What is on the terminal.
struct Shown {
    burn: TuiMetricsRendererWrapper,
    /// Where `q` is noted.
    interrupter: Interrupter,
    /// Names of numbers that it knows.
    known: HashSet<String>,
}

impl Dashboard {
    /// A dashboard that is not shown yet.
    ///
    /// # Errors
    /// Where there is no terminal.
    pub fn new(config: &TrainConfig) -> Result<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Err(Failure::argument("--dashboard: expected a terminal"));
        }
        Ok(Self {
            shown: None,
            epoch: match config.validation.every {
                0 => config.steps.max(1),
                every => every,
            },
            held_back: Vec::new(),
        })
    }

    /// Shows the numbers of an event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Warning { message } | Event::Note { message } => match self.shown {
                Some(_) => self.held_back.push(message.clone()),
                None => messages::say(message),
            },
            Event::Step(report) => self.step(report),
            Event::Measured { side, results, .. } => {
                if let Some(shown) = &mut self.shown {
                    for (name, value) in of_results(side, results) {
                        let state = shown.state(name, value);
                        shown.burn.update_valid(state);
                    }
                }
            }
        }
        let stops = |shown: &Shown| shown.interrupter.should_stop();
        if self.shown.as_ref().is_some_and(stops) {
            batches::stop();
        }
    }

    fn step(&mut self, report: &StepReport) {
        let number = |steps: u64| usize::try_from(steps).unwrap_or(usize::MAX);
        // The epochs before this one, and the steps of this one.
        let before = (report.step - 1) / self.epoch;
        let within = report.step - before * self.epoch;
        let is_first = self.shown.is_none();
        let shown = self.shown.get_or_insert_with(|| Shown::new(number(before)));
        if is_first {
            let epochs = report.steps.div_ceil(self.epoch);
            shown
                .burn
                .start(number(epochs), number(before + 1), None, None);
        }
        if is_first || within == 1 {
            shown.burn.start_split("train", number(self.epoch));
        }
        for (name, value) in of_step(report) {
            let state = shown.state(name, value);
            shown.burn.update_train(state);
        }
        shown.burn.update_split(number(within));
        if within == self.epoch {
            shown.burn.update_epoch(number(before + 1));
        }
    }

    /// Gives the terminal back, and tells what was held back.
    pub fn finish(self) {
        drop(self.shown);
        self.held_back.into_iter().for_each(messages::say);
    }
}

impl Shown {
    fn new(epochs_before: usize) -> Self {
        let interrupter = Interrupter::new();
        Self {
            burn: TuiMetricsRendererWrapper::new(interrupter.clone(), Some(epochs_before)),
            interrupter,
            known: HashSet::new(),
        }
    }

    fn state(&mut self, name: String, value: f64) -> MetricState {
        let metric_id = MetricId::new(Arc::new(name.clone()));
        if self.known.insert(name.clone()) {
            self.burn.register_metric(MetricDefinition {
                metric_id: metric_id.clone(),
                name: Arc::new(name),
                description: None,
                attributes: NumericAttributes::default().into(),
            });
        }
        let shown = format!("{value:.4e}");
        let entry = MetricEntry::new(metric_id, SerializedEntry::new(shown, value.to_string()));
        MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
    }
}
