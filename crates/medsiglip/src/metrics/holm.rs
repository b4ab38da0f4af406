//! Several tests at once.

use super::probabilities;
use crate::Result;

/// P values adjusted for how many there are, in the order given (Holm, 1979): where those below 0.05 are called
/// different, the chance of a single false call is below 0.05, whatever the tests' dependence.
///
/// # Errors
/// `BAD_ARGUMENT` where a value is not 0 to 1.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    probabilities(p_values)?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut highest: f64 = 0.0;
    for (rank, item) in order.into_iter().enumerate() {
        let scaled = p_values[item] * (p_values.len() - rank) as f64;
        highest = highest.max(scaled.min(1.0));
        adjusted[item] = highest;
    }
    Ok(adjusted)
}
