//! Linear probes: logistic regression on frozen embeddings.
//!
//! ```
//! use medsiglip::probe::{Features, Recipe, Task, folds};
//!
//! # fn main() -> medsiglip::Result<()> {
//! // Embeddings of N items in rows of D numbers, and whether each shows the finding.
//! # let embeddings: Vec<f32> = (0..80).map(|i| ((i * 7) % 13) as f32 / 13.0).collect();
//! # let labels: Vec<usize> = (0..40).map(|i| usize::from((i * 14) % 13 > 5)).collect();
//! let features = Features::f32(2, embeddings)?;
//! let tasks = [Task::new(2, labels.clone())?];
//! let recipe = Recipe { standardize: true, ..Recipe::default() };
//! let choice = recipe.choose(&features, &tasks, &folds(&labels, None, 5, 0)?)?;
//! let all: Vec<usize> = (0..features.items()).collect();
//! let fitted = recipe.fit(&features, &tasks, &all, &[choice[0].c])?;
//! assert!(fitted.fits[0][0].gap <= recipe.settings.tol);
//! # Ok(())
//! # }
//! ```
//!
//! Names are scikit-learn's, and so is the objective: C Σ cᵢ ℓᵢ + r(w), the intercept not penalised. What differs is the end: a
//! fit stops at a duality gap, which says how far it is from the optimum at most, and one that has not come there is an
//! error. scikit-learn's SAGA stops where coefficients change little in a pass, which on correlated columns is long before.
//!
//! # How it is solved
//! [`Solver`] runs SAGA in passes of five (`saga.rs`). Three things make it fast: features are rotated once to the
//! eigenvectors of their covariance, where each coordinate has a step of its own (`basis.rs`); tasks share each pass, and each
//! C starts at the solution of the one before; passes run in single precision around a point that is known in double, so
//! that gap, gradient and objective are exact. Where SAGA's progress promises more than fifty further passes (large C,
//! nearly separable classes), a second-order method takes over from its point: Newton's by conjugate gradients
//! (`newton.rs`), or by coordinate descent with l1 (`coordinate.rs`). [`Fit::polish_steps`] tells.
//!
//! # The gap
//! For l2 and the elastic net it is that of Fenchel's dual at the residuals, for l1 at the residuals scaled until they are
//! feasible; each a bound. Two assumptions stand behind what has no bound: an intercept is no further from its optimum than
//! 1 + |b| (it is brought there by Newton's method each time, so that this hardly counts), and, without a penalty,
//! coefficients are no further than their own norm.

mod basis;
mod calibrated;
mod coordinate;
mod direct;
mod features;
#[cfg(feature = "data")]
mod labels;
mod newton;
mod objective;
mod saga;
mod saved;
mod select;
mod solver;
mod splits;
mod task;

pub use calibrated::{Calibrate, Calibration, Cut, Threshold};
pub use features::{Features, Scaler};
#[cfg(feature = "data")]
pub use labels::{LabelColumns, Labelled, Labels, Learned, Learning};
pub use objective::Penalty;
pub use saved::{FitNote, Head, Kind, Probe};
pub use select::{Choice, DEFAULT_C, Fitted, Recipe, Score};
pub use solver::{Fit, Settings, Solver, default_cs};
pub use splits::{Split, folds, subsets};
pub use task::{ClassWeight, Task};
