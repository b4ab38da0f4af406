//! Reading a value by its stable name: one wording for all options.

use crate::{Error, Result};

/// The one of `all` whose name is `text`.
///
/// # Errors
/// `BAD_ARGUMENT`: `{what}: expected one of a, b or c, got x`.
pub(crate) fn parse<T: Copy>(
    what: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    text: &str,
) -> Result<T> {
    let known = all.iter().copied().find(|item| name(*item) == text);
    known.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|item| name(*item)).collect();
        let names = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        };
        Error::BadArgument(format!("{what}: expected one of {names}, got {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known() {
        let message = |all: &[&'static str]| {
            let error = parse("fruit", all, |name| name, "x").unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT");
            error.to_string()
        };
        assert_eq!(message(&["a"]), "fruit: expected one of a, got x");
        assert_eq!(message(&["a", "b"]), "fruit: expected one of a or b, got x");
        assert_eq!(
            message(&["a", "b", "c"]),
            "fruit: expected one of a, b or c, got x"
        );
        assert_eq!(parse("fruit", &["a", "b"], |name| name, "b").unwrap(), "b");
    }
}
