//! HDF5: a data set of embeddings and one of ids, or of tiles' coordinates.

use std::path::Path;

use super::TableOptions;
use super::rows::Rows;
use crate::Result;
use crate::h5::{Data, H5};

/// Values that are read at a time.
const BLOCK: usize = 1 << 22;

/// As [`super::EmbeddingTable::read`].
pub(super) fn read(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let file = H5::open(path)?;
    let known = file.names()?;
    let find = |names: Vec<&str>| {
        let has = |name: &&str| known.iter().any(|k| k.trim_start_matches('/') == *name);
        let name = names.into_iter().find(has);
        name.map(|name| file.dataset(name)).transpose()
    };
    let data = find(options.embedding_names())?.ok_or_else(|| {
        let names = options.embedding_names().join(", ");
        rows.bad(&format!("expected a data set {names}"))
    })?;
    // TRIDENT writes (N, D), some versions (1, N, D).
    let (count, lead) = match *data.shape() {
        [n, _] => (n, 0),
        [1, n, _] => (n, 1),
        _ => return Err(data.bad("expected a shape (N, D)")),
    };
    let dim = data.shape()[data.shape().len() - 1];
    if dim == 0 {
        return Err(data.bad("embeddings without numbers"));
    }
    rows.expect((count as u64).saturating_mul(dim as u64))?;
    rows.expect_ids(count as u64, 0)?;
    let provenance = file.attribute("medsiglip.provenance")?;
    let provenance = provenance
        .map(|json| rows.parse_provenance(&json))
        .transpose()?;
    rows.made_by(provenance)?;
    let ids = match find(options.id_names())? {
        Some(ids) => texts(&ids, count, rows)?,
        None => match find(vec!["coords"])? {
            Some(coords) if options.id.is_none() => tiles(&coords, path, count)?,
            _ => {
                let names = options.id_names().join(", ");
                return Err(rows.bad(&format!("expected a data set of ids: {names} (or coords)")));
            }
        },
    };
    let each = (BLOCK / dim).max(1);
    for start in (0..count).step_by(each) {
        let block = each.min(count - start);
        let (mut starts, mut counts) = (vec![start, 0], vec![block, dim]);
        if lead == 1 {
            starts.insert(0, 0);
            counts.insert(0, 1);
        }
        let values = data.floats(&starts, &counts)?;
        for (row, values) in values.chunks_exact(dim).enumerate() {
            let row = start + row;
            rows.push(&ids[row], row as u64 + 1, values.iter().copied())?;
        }
    }
    Ok(())
}

fn texts(ids: &Data, count: usize, rows: &Rows) -> Result<Vec<String>> {
    match ids.shape() {
        [n] | [n, 1] if *n == count => {
            rows.expect_ids(count as u64, ids.element_size() as u64)?;
            let texts = ids.texts(rows.max_id_bytes())?;
            match texts.len() == count {
                true => Ok(texts),
                false => Err(ids.bad("ids that are not there")),
            }
        }
        _ => Err(ids.bad(format!("expected {count} ids, one an embedding"))),
    }
}

/// The ids that `medsiglip embed` gives tiles.
fn tiles(coords: &Data, path: &Path, count: usize) -> Result<Vec<String>> {
    if *coords.shape() != [count, 2] {
        return Err(coords.bad(format!("expected a shape ({count}, 2)")));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let corners = coords.integers(&[0, 0], &[count, 2])?;
    let name = |corner: &[i64]| format!("{stem}#x={},y={}", corner[0], corner[1]);
    Ok(corners.chunks_exact(2).map(name).collect())
}
