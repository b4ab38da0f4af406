use super::*;

#[test]
fn quantiles_are_on_the_line_between_two_values() {
    assert_eq!(quantile(&[3.0], 0.7), 3.0);
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.0), 1.0);
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), 4.0);
}
