//! Exact search beside a plain loop in double precision.

use half::f16;
use medsiglip::index::scan::{Scored, Vectors, i8_stride, top_k};

use crate::{numbers, units};

/// What a plain loop finds among rows in double precision.
fn plain(rows: &[Vec<f64>], query: &[f32], k: usize, keep: Option<&[bool]>) -> Vec<Scored> {
    let kept = (0..rows.len()).filter(|row| keep.is_none_or(|keep| keep[*row]));
    let score = |row: usize| {
        query
            .iter()
            .zip(&rows[row])
            .map(|(q, x)| f64::from(*q) * x)
            .sum()
    };
    let mut all: Vec<Scored> = kept
        .map(|row| Scored {
            row,
            score: score(row),
        })
        .collect();
    all.sort_by(Scored::order);
    all.truncate(k);
    all
}

fn wide(rows: &[f32], dim: usize) -> Vec<Vec<f64>> {
    let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect();
    rows.chunks_exact(dim).map(wide).collect()
}

#[test]
fn it_finds_what_a_plain_loop_finds() {
    for (dim, count, k) in [
        (1, 50, 3),
        (7, 3000, 10),
        (64, 5000, 100),
        (1152, 2500, 10),
        (33, 20, 50),
    ] {
        let rows = units(numbers(dim as u64, dim * count), dim);
        let queries = units(numbers(99, dim * 11), dim);
        let keep: Vec<bool> = (0..count).map(|row| row % 5 != 2).collect();
        for keep in [None, Some(&keep[..])] {
            let found = top_k(Vectors::F32(&rows), dim, &queries, k, keep);
            assert_eq!(found.len(), 11);
            for (query, found) in queries.chunks_exact(dim).zip(found) {
                assert_eq!(
                    found,
                    plain(&wide(&rows, dim), query, k, keep),
                    "{dim} {count}"
                );
            }
        }
    }
}

#[test]
fn half_precision_and_whole_numbers_are_exact_in_what_is_stored() {
    let (dim, count) = (50, 4000);
    let rows = units(numbers(4, dim * count), dim);
    let queries = units(numbers(5, dim * 3), dim);
    let halves: Vec<f16> = rows.iter().map(|x| f16::from_f32(*x)).collect();
    let of_halves: Vec<Vec<f64>> = halves
        .chunks_exact(dim)
        .map(|row| row.iter().map(|x| x.to_f64()).collect())
        .collect();
    let mut bytes = Vec::new();
    let mut of_bytes = Vec::new();
    for row in rows.chunks_exact(dim) {
        let scale = row.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
        let numbers: Vec<i8> = row.iter().map(|x| (x / scale).round() as i8).collect();
        bytes.extend(scale.to_le_bytes());
        bytes.extend(numbers.iter().map(|x| *x as u8));
        bytes.resize(bytes.len() + i8_stride(dim) - 4 - dim, 77);
        of_bytes.push(
            numbers
                .iter()
                .map(|x| f64::from(*x) * f64::from(scale))
                .collect(),
        );
    }
    for (vectors, of) in [
        (Vectors::F16(&halves), of_halves),
        (Vectors::I8(&bytes), of_bytes),
    ] {
        for (query, found) in queries
            .chunks_exact(dim)
            .zip(top_k(vectors, dim, &queries, 20, None))
        {
            assert_eq!(found, plain(&of, query, 20, None));
        }
    }
}

/// Rows that are all the same, rows that differ in their last bits, and zeros among them.
#[test]
fn equals_come_in_the_order_of_their_places() {
    let dim = 96;
    let one = units(numbers(8, dim), dim);
    let mut rows = Vec::new();
    for i in 0..6000usize {
        let mut row = one.clone();
        match i % 4 {
            1 => row[i % dim] = f32::from_bits(row[i % dim].to_bits() + 1),
            2 if i % 7 == 0 => row.fill(0.0),
            3 => row.iter_mut().for_each(|x| *x = -*x),
            _ => {}
        }
        rows.extend(row);
    }
    let found = top_k(Vectors::F32(&rows), dim, &one, 4000, None);
    assert_eq!(found[0], plain(&wide(&rows, dim), &one, 4000, None));
}

#[test]
fn damaged_rows_hide_no_others() {
    let dim = 16;
    let mut rows = units(numbers(3, dim * 3000), dim);
    rows[5 * dim] = f32::NAN;
    rows[1700 * dim + 3] = f32::INFINITY;
    let query = units(numbers(1, dim), dim);
    let keep: Vec<bool> = (0..3000).map(|row| row != 5 && row != 1700).collect();
    let expected = top_k(Vectors::F32(&rows), dim, &query, 30, Some(&keep));
    assert_eq!(top_k(Vectors::F32(&rows), dim, &query, 30, None), expected);
    assert_eq!(expected[0].len(), 30);
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let query = [1.0, 0.0];
    assert_eq!(top_k(Vectors::F32(&[]), 2, &query, 3, None), [vec![]]);
    assert_eq!(
        top_k(Vectors::F32(&[1.0, 0.0]), 2, &query, 0, None),
        [vec![]]
    );
    assert_eq!(
        top_k(Vectors::F32(&[1.0, 0.0]), 2, &query, 3, Some(&[false])),
        [vec![]]
    );
    assert!(top_k(Vectors::F32(&[1.0, 0.0]), 2, &[], 3, None).is_empty());
}
