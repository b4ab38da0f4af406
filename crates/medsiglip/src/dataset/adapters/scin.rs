//! SCIN: photographs by the public, with the conditions that dermatologists thought of.

use std::collections::HashMap;

use super::Entry;
use super::files::Files;
use super::label_file::LabelFile;
use crate::Result;
use crate::dataset::source::Found;
use crate::zero_shot::PromptSet;

/// SCIN (Ward et al., JAMA Network Open 2024). Columns: google-research-datasets/scin's schema; `scin_cases.csv` has
/// `case_id` and up to three pictures a case, `image_1_path` to `image_3_path`; `scin_labels.csv` has
/// `weighted_skin_condition_label`, a Python dictionary of conditions and weights.
///
/// `conditions` are all of them, `skin_conditions` is the one of the largest weight, where there is one and it is among the
/// task's. The case is the group.
pub(super) fn read(files: &Files, found: &mut Found) -> Result<()> {
    let cases = LabelFile::open(&files.main(&["scin_cases.csv"])?)?;
    let names = ["scin_labels.csv"];
    let labels = files.table(&names)?.ok_or_else(|| files.missing(&names))?;
    let conditions = conditions(&labels)?;
    let task = PromptSet::task("skin_conditions")?;
    let case = cases.column(&["case_id"])?;
    let images = ["image_1_path", "image_2_path", "image_3_path"].map(|n| cases.column(&[n]));
    let [first, second, third] = images;
    let images = [first?, second?, third?];
    let others = [
        ("age", "age_group"),
        ("sex", "sex_at_birth"),
        ("fitzpatrick", "fitzpatrick_skin_type"),
    ]
    .map(|(column, name)| (column, cases.find(&[name])));
    let pictures = files.pictures()?;
    for row in cases.rows() {
        let case = row.text(case)?;
        let known = conditions.get(case).map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        let likeliest =
            likeliest(known).filter(|name| task.classes.iter().any(|c| c.label == *name));
        for path in images.map(|column| row.get(column)) {
            if path.is_empty() {
                continue;
            }
            let mut entry = Entry::new(path, pictures.get(path), row.place())
                .group(case)
                .label("conditions", names.join("|"))
                .label("skin_conditions", likeliest.unwrap_or_default());
            for (column, place) in others {
                entry = entry.label(column, row.get_if(place));
            }
            entry.add_to(found);
        }
    }
    Ok(())
}

type Weighted = Vec<(String, f64)>;

fn conditions(labels: &LabelFile) -> Result<HashMap<&str, Weighted>> {
    let case = labels.column(&["case_id"])?;
    let column = labels.column(&["weighted_skin_condition_label"])?;
    let weighted = labels.rows().map(|row| {
        let weighted = dictionary(row.get(column))
            .ok_or_else(|| row.bad(column, "expected a dictionary {'CONDITION': WEIGHT, ...}"))?;
        Ok((row.text(case)?, weighted))
    });
    weighted.collect()
}

/// The condition of the largest weight, unless two have it.
fn likeliest(weighted: &[(String, f64)]) -> Option<&str> {
    let largest = weighted
        .iter()
        .map(|(_, weight)| *weight)
        .fold(0.0, f64::max);
    let mut of_largest = weighted.iter().filter(|(_, weight)| *weight == largest);
    match (of_largest.next(), of_largest.next()) {
        (Some((name, _)), None) => Some(name),
        _ => None,
    }
}

/// A Python dictionary of texts and numbers as `repr` writes it; an empty cell is an empty one.
fn dictionary(text: &str) -> Option<Weighted> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut name = String::new();
        let mut letters = rest.char_indices().skip(1);
        let end = loop {
            match letters.next()? {
                (_, '\\') => name.push(letters.next()?.1),
                (at, letter) if letter == quote => break at,
                (_, letter) => name.push(letter),
            }
        };
        rest = rest[end + 1..].trim_start().strip_prefix(':')?;
        let (weight, others) = rest.split_once(',').unwrap_or((rest, ""));
        let weight: f64 = weight.trim().parse().ok()?;
        if !weight.is_finite() || weight < 0.0 || name.is_empty() || name.contains('|') {
            return None;
        }
        items.push((name, weight));
        rest = others.trim_start();
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_dictionaries() {
        let pair = |name: &str, weight| (name.to_owned(), weight);
        let read = |text| dictionary(text);
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("{}"), Some(vec![]));
        assert_eq!(
            read("{'Eczema': 0.33, \"Majocchi's granuloma\": 0.67}"),
            Some(vec![
                pair("Eczema", 0.33),
                pair("Majocchi's granuloma", 0.67)
            ])
        );
        assert_eq!(
            read(r"{'a\'b, c: d': 1}"),
            Some(vec![pair("a'b, c: d", 1.0)])
        );
        for wrong in [
            "{",
            "Eczema",
            "{'Eczema'}",
            "{'Eczema': x}",
            "{Eczema: 1}",
            "{'a': nan}",
            "{'a': 1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_likeliest_condition_is_one() {
        let weighted = |pairs: &[(&str, f64)]| -> Weighted {
            pairs.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect()
        };
        assert_eq!(likeliest(&weighted(&[("a", 0.2), ("b", 0.8)])), Some("b"));
        assert_eq!(likeliest(&weighted(&[("a", 0.5), ("b", 0.5)])), None);
        assert_eq!(likeliest(&[]), None);
    }
}
