//! Wide tables: which columns are the numbers of an embedding.

use std::collections::BTreeMap;

/// A column: its name, and whether it holds floating-point numbers (text files do not say: all can).
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) is_float: bool,
}

/// The places of the columns of an embedding, in the order of its numbers: a family of columns called `PREFIX0`, `PREFIX1`,
/// ... (or from 1 on), the one with the prefix that is `asked` for, else the only one of at least two columns. Any other
/// column, be it of floats, may be a label.
///
/// # Errors
/// What is wrong, where there is no such family, several are, one lacks a number or has columns of another type. Names are
/// not told: where the header is missing, they are a patient's row.
pub(super) fn columns<'a>(
    all: impl Iterator<Item = (usize, Named<'a>)>,
    asked: Option<&str>,
) -> Result<Vec<usize>, String> {
    let mut families: BTreeMap<&str, Vec<(u64, usize, bool)>> = BTreeMap::new();
    for (place, Named { name, is_float }) in all {
        let prefix = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        if let Ok(number) = name[prefix.len()..].parse() {
            let family = families.entry(prefix).or_default();
            family.push((number, place, is_float));
        }
    }
    match asked {
        Some(prefix) => families.retain(|known, _| *known == prefix),
        None => families.retain(|_, family| family.len() > 1 && family.iter().any(|c| c.2)),
    }
    let shown = asked.unwrap_or("PREFIX");
    let Some((_, mut family)) = families.pop_first() else {
        return Err(format!(
            "there are no columns of floats {shown}0, {shown}1, ..."
        ));
    };
    if !families.is_empty() {
        return Err(
            "there are several families of columns PREFIX0, PREFIX1, ...; name the prefix of the one: embedding_column in a configuration, --embedding-column on the command line"
                .into(),
        );
    }
    family.sort_unstable();
    let first = family[0].0;
    let is_whole = (first..).zip(&family).all(|(n, column)| n == column.0);
    if first > 1 || !is_whole {
        return Err(format!(
            "expected columns {shown}0, {shown}1, ... (or from {shown}1 on), each number once"
        ));
    }
    match family.iter().all(|column| column.2) {
        true => Ok(family.into_iter().map(|(_, place, _)| place).collect()),
        false => Err(format!(
            "expected floats in all columns {shown}0, {shown}1, ..."
        )),
    }
}
