//! Standard input as a list of paths, or as a CSV of paths and texts.

use std::io::Read;
use std::path::Path;

use super::{Found, exists};
use crate::messages::{Failure, Result, count};

/// Standard input: a CSV where its first line names a column `path`, `image` or `text`, else one path a line.
pub(super) fn read(mut source: impl Read, found: &mut Found) -> Result<()> {
    let mut text = String::new();
    source
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("read", "standard input", error))?;
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().next().unwrap_or_default();
    let is_csv = header.split(',').any(|name| Column::of(name).is_some());
    if is_csv {
        return read_csv(text, found);
    }
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty()).collect();
    refuse_other_lists(&lines)?;
    lines
        .iter()
        .try_for_each(|(_, line)| found.path(Path::new(line)))
}

/// An error where `lines` (with their numbers) are rows of a table, or sentences, rather than paths. Such lines can
/// hold patient data, and would be shown as files that are missing: no message may show one.
fn refuse_other_lists(lines: &[(usize, &str)]) -> Result<()> {
    let missing = |line: &str| !exists(Path::new(line));
    let is_row = |line: &str| line.contains([',', ';', '\t']) && missing(line);
    let message = if let Some((number, _)) = lines.iter().find(|(_, line)| is_row(line)) {
        format!("standard input: line {number} is no file, and looks like a row of a table")
    } else if !lines.is_empty() && lines.iter().all(|(_, line)| missing(line)) {
        let lines = count(lines.len(), "line");
        format!("standard input: none of its {lines} is a file or folder here")
    } else {
        return Ok(());
    };
    Err(Failure::argument(message).hint(
        "give one path a line, or a CSV (with commas) whose first line names a column path, image or text",
    ))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Path,
    Text,
}

impl Column {
    fn of(name: &str) -> Option<Self> {
        match name.trim().trim_matches('"').to_ascii_lowercase().as_str() {
            "path" | "image" => Some(Self::Path),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

fn read_csv(text: &str, found: &mut Found) -> Result<()> {
    let bad = |error: csv::Error| Failure::argument(format!("standard input: {error}"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<_> = reader
        .headers()
        .map_err(bad)?
        .iter()
        .map(Column::of)
        .collect();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        for (column, cell) in columns.iter().zip(&record) {
            match column {
                Some(Column::Path) if !cell.is_empty() => found.path(Path::new(cell))?,
                Some(Column::Text) if !cell.is_empty() => found.text(cell),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn listed(text: &str) -> (Vec<PathBuf>, Vec<String>) {
        let mut found = Found::default();
        read(text.as_bytes(), &mut found).unwrap();
        let paths = found.files.into_iter().map(|file| file.path);
        (paths.collect(), found.texts)
    }

    #[test]
    fn a_list_holds_one_path_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("b, c.png"), "").unwrap();
        let (missing, there) = (path("a.png"), path("b, c.png"));
        let list = format!(
            "\u{feff}{}\r\n\n  {} \n",
            missing.display(),
            there.display()
        );
        let (images, texts) = listed(&list);
        assert_eq!(images, [missing, there]);
        assert!(texts.is_empty());
    }

    #[test]
    fn rows_and_sentences_are_no_list_and_are_not_shown() {
        let cases = [
            ("DOE JOHN,1950,a.png\nROE JANE,1960,b.png\n", "line 1"),
            ("name;path\n\nDOE JOHN;a.png\n", "line 1"),
            ("Cargo.toml\n\nDOE JOHN\ta.png\n", "line 3"),
            ("Export\nDOE JOHN,a.png\n", "line 2"),
            (
                "DOE JOHN has a fracture\nROE JANE has none\n",
                "none of its 2 lines",
            ),
        ];
        for (text, expected) in cases {
            let mut found = Found::default();
            let failure = read(text.as_bytes(), &mut found).unwrap_err();
            let told = format!("{failure:?}");
            assert!(
                told.contains(expected) && told.contains("column path"),
                "{told}"
            );
            assert!(!told.contains("DOE") && !told.contains("Export"), "{told}");
        }
    }

    #[test]
    fn a_csv_is_known_by_its_header() {
        let (images, texts) = listed("case,Image,TEXT\n1,a.png,\"x, y\"\n2,,z\n");
        assert_eq!(images, [Path::new("a.png")]);
        assert_eq!(texts, ["x, y", "z"]);
    }

    #[test]
    fn a_ragged_csv_is_refused() {
        let mut found = Found::default();
        assert!(read("path,text\na.png\n".as_bytes(), &mut found).is_err());
    }
}
