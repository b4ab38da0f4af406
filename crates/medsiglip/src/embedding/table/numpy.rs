//! NumPy: `.npy` with the ids in a file beside it, `.npz` with them in an array.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use half::f16;
use npyz::npz::{NpzArchive, array_name_from_file_name};

use super::TableOptions;
use super::rows::Rows;
use super::text::{read_ids, read_provenance};
use crate::dataset::guarded;
use crate::npy::NpyHeader;
use crate::{Error, Result};

/// Bytes of one text of an array of ids.
const MAX_ID_BYTES: usize = 1 << 16;

/// As [`super::EmbeddingTable::read`].
pub(super) fn read_npy(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let failed = |error| Error::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let header =
        NpyHeader::read(&mut reader).ok_or_else(|| rows.bad("not a readable .npy file"))?;
    let floats = Floats::of(&header, "the array", rows)?;
    let [count, dim] = header.shape[..] else {
        return Err(rows.bad("expected an array of shape (N, D)"));
    };
    if header.bytes(floats.bytes) != Some(bytes) {
        return Err(rows.bad("cut off, or longer than its header says"));
    }
    let ids = ids_file(path, options).ok_or_else(|| {
        rows.bad("expected the ids in STEM.ids.csv or STEM.ids.txt beside it, or in a file that is named")
    })?;
    let ids = read_ids(&ids, count, options, rows)?;
    if ids.len() != count {
        return Err(rows.bad(&format!("{count} embeddings and {} ids", ids.len())));
    }
    rows.made_by(read_provenance(path, rows)?)?;
    floats.read(&mut reader, dim, &ids, rows)
}

fn ids_file(path: &Path, options: &TableOptions) -> Option<PathBuf> {
    if options.ids_file.is_some() {
        return options.ids_file.clone();
    }
    let beside = |extension: &str| path.with_extension(extension);
    ["ids.csv", "ids.txt"]
        .map(beside)
        .into_iter()
        .find(|path| path.is_file())
}

/// As [`super::EmbeddingTable::read`].
pub(super) fn read_npz(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    std::fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
    let damaged = Error::BadConfig(format!(
        "embeddings: not a readable .npz file: {}",
        path.display()
    ));
    guarded(|| read_arrays(path, options, rows), || damaged)
}

fn read_arrays(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let damaged = |rows: &Rows| rows.bad("not a readable .npz file");
    let mut archive = NpzArchive::open(path).map_err(|_| damaged(rows))?;
    let zip = archive.zip_archive();
    let names: Vec<String> = zip
        .file_names()
        .filter_map(array_name_from_file_name)
        .map(str::to_owned)
        .collect();
    let id_name = first_of(options.id_names(), &names);
    let is_only = |name: &&String| Some(name.as_str()) != id_name;
    let mut others = names.iter().filter(is_only);
    let only = match (others.next(), others.next()) {
        (Some(name), None) if options.embedding.is_none() => Some(name.as_str()),
        _ => None,
    };
    let name = first_of(options.embedding_names(), &names)
        .or(only)
        .ok_or_else(|| {
            let names = options.embedding_names().join(", ");
            rows.bad(&format!(
                "expected an array {names}, or one alone beside the ids"
            ))
        })?;
    let ids = match id_name {
        Some(name) => {
            let mut member = zip
                .by_name(&format!("{name}.npy"))
                .map_err(|_| damaged(rows))?;
            let size = member.size();
            Some(texts(&mut member, size, name, rows)?)
        }
        None if options.id.is_some() => {
            let names = options.id_names().join(", ");
            return Err(rows.bad(&format!("there is no array {names}")));
        }
        None => None,
    };
    let mut member = zip
        .by_name(&format!("{name}.npy"))
        .map_err(|_| damaged(rows))?;
    let header = NpyHeader::read(&mut member).ok_or_else(|| damaged(rows))?;
    let floats = Floats::of(&header, &format!("array {name}"), rows)?;
    if header.bytes(floats.bytes) != Some(member.size()) {
        return Err(damaged(rows));
    }
    let (ids, dim) = match_ids(ids, &header.shape, path).ok_or_else(|| {
        rows.bad(&format!(
            "array {name}: expected a shape (N, D) and an array of N ids ({}), or (D,) of one picture",
            options.id_names().join(", ")
        ))
    })?;
    rows.made_by(read_provenance(path, rows)?)?;
    floats.read(
        &mut BufReader::with_capacity(1 << 20, member),
        dim,
        &ids,
        rows,
    )
}

/// The ids of the rows of an array of this shape, and their width.
fn match_ids(
    ids: Option<Vec<String>>,
    shape: &[usize],
    path: &Path,
) -> Option<(Vec<String>, usize)> {
    match (ids, shape) {
        (Some(ids), &[count, dim]) if ids.len() == count => Some((ids, dim)),
        // CXR Foundation: a file a picture.
        (None, &[dim] | &[1, dim]) => {
            let stem = path.file_stem().unwrap_or_default();
            Some((vec![stem.to_string_lossy().into_owned()], dim))
        }
        _ => None,
    }
}

fn first_of<'a>(wanted: Vec<&'a str>, names: &[String]) -> Option<&'a str> {
    let is_there = |name: &&str| names.iter().any(|known| known == name);
    wanted.into_iter().find(is_there)
}

/// How floating-point numbers are stored.
struct Floats {
    bytes: u64,
    big_endian: bool,
}

impl Floats {
    /// Those of the array `name`, once it is known to fit into memory.
    fn of(header: &NpyHeader, name: &str, rows: &Rows) -> Result<Self> {
        let (order, kind) = header.descr.split_at_checked(1).unwrap_or_default();
        let bytes = match kind {
            "f2" => 2,
            "f4" => 4,
            "f8" => 8,
            _ => return Err(not_of(header, name, "floating-point numbers", rows)),
        };
        if header.fortran_order && header.shape.len() > 1 {
            return Err(rows.bad(&format!("{name}: expected C order, got Fortran order")));
        }
        if header.shape.last() == Some(&0) {
            return Err(rows.bad(&format!("{name}: embeddings without numbers")));
        }
        let count = header.count().map_or(u64::MAX, |n| n as u64);
        rows.expect(count)?;
        Ok(Self {
            bytes,
            big_endian: order == ">",
        })
    }

    fn read(
        &self,
        reader: &mut impl Read,
        dim: usize,
        ids: &[String],
        rows: &mut Rows,
    ) -> Result<()> {
        let size = self.bytes as usize;
        let mut row = vec![0; dim * size];
        for (id, number) in ids.iter().zip(1..) {
            let read = reader.read_exact(&mut row);
            read.map_err(|_| rows.bad_row(number, "cut off, or damaged"))?;
            rows.push(
                id,
                number,
                row.chunks_exact(size).map(|bytes| self.number(bytes)),
            )?;
        }
        Ok(())
    }

    fn number(&self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        let wide = &mut wide[..bytes.len()];
        wide.copy_from_slice(bytes);
        if self.big_endian {
            wide.reverse();
        }
        match *wide {
            [a, b] => f16::from_le_bytes([a, b]).to_f64(),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => f64::NAN,
        }
    }
}

fn not_of(header: &NpyHeader, name: &str, expected: &str, rows: &Rows) -> Error {
    if header.descr.ends_with('O') {
        return Error::Unsupported(format!(
            "{name} is a pickled Python object, which can run code when it is read; save it as an array of {expected} \
             (array.astype(str), or .astype(\"float32\"))"
        ));
    }
    rows.bad(&format!("{name}: expected {expected}"))
}

/// The texts of an array (`<U12`, `|S12`, or whole numbers), one a row; unpacked, the file has `bytes`.
fn texts(member: &mut impl Read, bytes: u64, name: &str, rows: &Rows) -> Result<Vec<String>> {
    let damaged = || rows.bad(&format!("array {name} cannot be read"));
    let header = NpyHeader::read(member).ok_or_else(damaged)?;
    let count = match header.shape[..] {
        [count] | [count, 1] => count,
        _ => return Err(rows.bad(&format!("array {name}: expected a shape (N,)"))),
    };
    let (order, kind) = header.descr.split_at_checked(1).unwrap_or_default();
    let (letter, size) = kind.split_at_checked(1).unwrap_or_default();
    let size: Option<usize> = size.parse().ok();
    let size = size.filter(|size| (1..=MAX_ID_BYTES / 4).contains(size));
    let unit = match (letter, size) {
        ("U", Some(size)) => 4 * size,
        ("S" | "i" | "u", Some(size)) => size,
        _ => {
            return Err(not_of(
                &header,
                &format!("array {name}"),
                "texts or whole numbers",
                rows,
            ));
        }
    };
    if ["i", "u"].contains(&letter) && unit > 8 {
        return Err(damaged());
    }
    rows.expect_ids(count as u64, unit as u64)?;
    if header.bytes(unit as u64) != Some(bytes) {
        return Err(damaged());
    }
    let mut cell = vec![0; unit];
    let mut all = Vec::new();
    for number in 1..=count as u64 {
        member.read_exact(&mut cell).map_err(|_| damaged())?;
        let text = text(&cell, letter, order == ">");
        all.push(text.ok_or_else(|| rows.bad_row(number, "an id that is no text"))?);
    }
    Ok(all)
}

fn text(cell: &[u8], letter: &str, big_endian: bool) -> Option<String> {
    if letter == "S" {
        let end = cell
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        return String::from_utf8(cell[..end].to_vec()).ok();
    }
    let number = |bytes: &[u8]| {
        let mut wide = [0; 8];
        let wide_bytes = &mut wide[..bytes.len()];
        wide_bytes.copy_from_slice(bytes);
        if big_endian {
            wide_bytes.reverse();
        }
        u64::from_le_bytes(wide)
    };
    match letter {
        "U" => {
            let letters = cell
                .chunks_exact(4)
                .map(number)
                .take_while(|letter| *letter != 0);
            letters
                .map(|letter| char::from_u32(u32::try_from(letter).ok()?))
                .collect()
        }
        "u" => Some(number(cell).to_string()),
        _ => {
            let unused = 64 - 8 * cell.len();
            Some((((number(cell) << unused) as i64) >> unused).to_string())
        }
    }
}
