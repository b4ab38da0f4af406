//! [`finding`]: what the cell of a finding says.

/// A cell that says neither that a finding is there, nor that it is not, nor that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1, 0, true, false, -1 (uncertain) or nothing")]
pub struct NotAFinding;

/// Whether a finding is there: `1` or `true`, `0` or `false`, also as `1.0` and `0.0`; `None` where nobody knows: an empty
/// cell, or `-1`, CheXpert's "uncertain" (its U-Ignore). Case and spaces around do not matter.
///
/// # Errors
/// [`NotAFinding`] for every other cell, which is not told: it may be a patient's.
///
/// ```
/// use medsiglip::dataset::{NotAFinding, finding};
///
/// assert_eq!(finding("1.0"), Ok(Some(true)));
/// assert_eq!(finding(" False "), Ok(Some(false)));
/// assert_eq!(finding("-1"), Ok(None));
/// assert_eq!(finding("maybe"), Err(NotAFinding));
/// ```
pub fn finding(cell: &str) -> Result<Option<bool>, NotAFinding> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "1" | "1.0" | "true" => Ok(Some(true)),
        "0" | "0.0" | "false" => Ok(Some(false)),
        "" | "-1" | "-1.0" => Ok(None),
        _ => Err(NotAFinding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_finding() {
        for (cells, expected) in [
            (
                &["1", "1.0", "true", "True", "TRUE", " 1\t"][..],
                Some(true),
            ),
            (&["0", "0.0", "false", "False", " 0.0 "][..], Some(false)),
            (&["", "  ", "-1", "-1.0"][..], None),
        ] {
            for cell in cells {
                assert_eq!(finding(cell), Ok(expected), "{cell:?}");
            }
        }
    }

    #[test]
    fn everything_else_is_refused_and_not_told() {
        for cell in [
            "2", "0.5", "-2", "1.5", "10", "yes", "nan", "+1", "1,0", "-",
        ] {
            assert_eq!(finding(cell), Err(NotAFinding), "{cell:?}");
        }
        let told = NotAFinding.to_string();
        assert_eq!(
            told,
            "expected 1, 0, true, false, -1 (uncertain) or nothing"
        );
    }
}
