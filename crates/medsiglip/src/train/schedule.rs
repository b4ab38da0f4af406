//! The learning rate over the steps: big_vision's schedules (`utils.create_learning_rate_schedule`).

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine, to zero.
    #[default]
    Cosine,
    /// A line, to zero.
    Linear,
    /// With one over the square root of the steps.
    Rsqrt,
    /// Not at all.
    Constant,
}

/// The learning rate over the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// How it falls.
    pub decay: Decay,
    /// Steps over which it rises from zero along a line.
    pub warmup_steps: u64,
    /// Steps at the end over which it falls to zero along a line, whatever `decay` is.
    pub cooldown_steps: u64,
    /// Steps after which `rsqrt` has halved the square of the rate.
    pub timescale: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            decay: Decay::Cosine,
            warmup_steps: 0,
            cooldown_steps: 0,
            timescale: 10_000.0,
        }
    }
}

impl Schedule {
    /// What the peak rate is multiplied by at `step` of `total`, counted from 0.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        let (step, total) = (step as f64, total as f64);
        let warmup = self.warmup_steps as f64;
        let progress = ((step - warmup) / (total - warmup).max(1.0)).clamp(0.0, 1.0);
        let decayed = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Decay::Linear => 1.0 - progress,
            Decay::Rsqrt if step > warmup => {
                (self.timescale / (step + self.timescale - warmup)).sqrt()
            }
            Decay::Rsqrt | Decay::Constant => 1.0,
        };
        let ramp = |of: f64, length: u64| match length {
            0 => 1.0,
            length => (of / length as f64).min(1.0),
        };
        decayed * ramp(step, self.warmup_steps) * ramp(total - step, self.cooldown_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_big_vision() {
        let cosine = Schedule {
            warmup_steps: 10,
            ..Schedule::default()
        };
        let at = |s: &Schedule, step| s.at(step, 110);
        assert_eq!(at(&cosine, 0), 0.0);
        assert_eq!(at(&cosine, 5), 0.5);
        assert!((at(&cosine, 60) - 0.5).abs() < 1e-12);
        assert!(at(&cosine, 110).abs() < 1e-12);
        let linear = Schedule {
            decay: Decay::Linear,
            ..cosine.clone()
        };
        assert!((at(&linear, 35) - 0.75).abs() < 1e-12);
        let rsqrt = Schedule {
            decay: Decay::Rsqrt,
            timescale: 30.0,
            cooldown_steps: 20,
            ..cosine
        };
        assert_eq!(at(&rsqrt, 10), 1.0);
        assert!((at(&rsqrt, 40) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((at(&rsqrt, 100) - 0.5 * 0.5).abs() < 1e-12);
    }
}
