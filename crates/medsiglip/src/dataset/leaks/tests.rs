use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::dataset::testing::{noise, open, pgm, write};
use crate::dataset::{Shares, split};

/// A smooth picture that another `number` makes another.
fn smooth(number: u64, side: usize, change: f64) -> Vec<u8> {
    let phase = number as f64 * 1.7;
    let level = |i: usize| {
        let (x, y) = (i % side, i / side);
        let (x, y) = (x as f64 / side as f64, y as f64 / side as f64);
        let wave = (x * 9.0 + phase).sin() + (y * 7.0 - phase * 2.0).cos() + (x * y * 5.0).sin();
        (128.0 + 40.0 * wave + change).round() as u8
    };
    pgm(&(0..side * side).map(level).collect::<Vec<u8>>(), side)
}

fn source(folder: &Path, rows: &[(&str, Vec<u8>, &str)]) -> Source {
    let mut table = "path,grade\n".to_owned();
    for (name, bytes, grade) in rows {
        write(folder, name, bytes);
        table += &format!("{name},{grade}\n");
    }
    write(folder, "list.csv", table.as_bytes());
    open("manifest = \"list.csv\"\nlabels = [\"grade\"]", folder).unwrap()
}

/// 0 and 1 are one file with two grades; 2 and 3 the same picture at two sizes; 4 and 5 are pictures of their own.
fn rows() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("0.pgm", noise(1, 64), "1"),
        ("1.pgm", noise(1, 64), "2"),
        ("2.pgm", smooth(2, 200, 0.0), "0"),
        ("3.pgm", smooth(2, 170, 1.0), "0"),
        ("4.pgm", smooth(5, 200, 0.0), "0"),
        ("5.pgm", noise(9, 64), "0"),
    ]
}

fn found() -> (TempDir, Vec<Source>, LeakReport) {
    let folder = tempfile::tempdir().unwrap();
    let sources = vec![source(folder.path(), &rows())];
    let report = find_leaks(&sources, &DecodeOptions::default()).unwrap();
    (folder, sources, report)
}

#[test]
fn equal_files_and_near_pictures_are_found() {
    let (_folder, _, report) = found();
    let expected = [
        Cluster {
            members: vec![(0, 0), (0, 1)],
            likeness: Likeness::SameFile,
            conflicts: vec!["grade".into()],
        },
        Cluster {
            members: vec![(0, 2), (0, 3)],
            likeness: Likeness::NearIdentical,
            conflicts: Vec::new(),
        },
    ];
    assert_eq!(report.clusters, expected);
    assert_eq!(report.skipped.total(), 0);
}

#[test]
fn clusters_reach_across_sources_and_unreadable_pictures_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let one = source(&folder.path().join("a"), &rows()[..1]);
    let mut second = rows();
    second.push(("6.pgm", b"P5\n9 9\n255\n".to_vec(), "0"));
    let sources = vec![one, source(&folder.path().join("b"), &second)];
    let report = find_leaks(&sources, &DecodeOptions::default()).unwrap();
    assert_eq!(report.clusters[0].members, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!(report.skipped.total(), 1);
    assert!(report.skipped.listed[0].contains("6.pgm"));
}

#[test]
fn joined_pictures_stay_on_one_side_and_conflicts_are_left_out() {
    let (_folder, sources, report) = found();
    let shares = Shares {
        val: 0.5,
        test: 0.0,
    };
    let mut crossed = 0;
    for seed in 0..30 {
        let apart = vec![split(&sources[0], shares, seed, &[]).unwrap()];
        let count = report.crossing(&apart).count();
        crossed += count;
        let warnings = report.warnings(&sources, &apart);
        assert_eq!(warnings.len(), 1 + count);
        assert!(warnings[0].starts_with("2 pictures are there more than once, 1 of them"));
        let joined = report.joined(0, Duplicates::Join);
        let together = vec![split(&sources[0], shares, seed, &joined).unwrap()];
        assert_eq!(report.crossing(&together).count(), 0);
    }
    assert!(crossed > 0);
    assert!(report.joined(0, Duplicates::Warn).is_empty());
    assert!(report.left_out(0, Duplicates::Join).is_empty());
    assert_eq!(report.left_out(0, Duplicates::DropConflicts), [0, 1].into());
}

#[test]
fn every_hash_within_the_limit_shares_a_band() {
    let print = |hash| Print {
        sha256: [0; 32],
        hash,
        thumb: vec![0; THUMB * THUMB],
    };
    let one = print(0x0123_4567_89ab_cdef);
    let widths: Vec<u32> = (0..BANDS)
        .map(|b| (b + 1) * 64 / BANDS - b * 64 / BANDS)
        .collect();
    assert_eq!(widths.iter().sum::<u32>(), 64);
    // As bad as it gets: one bit in each of six bands.
    for spared in 0..BANDS {
        let bits = (0..BANDS).filter(|b| *b != spared);
        let other = print(bits.fold(one.hash, |hash, b| hash ^ 1 << (b * 64 / BANDS)));
        assert!(one.is_near(&other));
        assert!(one.bands().zip(other.bands()).any(|(a, b)| a == b));
    }
}

#[test]
fn the_policy_has_names() {
    let policy: BTreeMap<String, Duplicates> =
        toml::from_str("a = \"warn\"\nb = \"join\"\nc = \"drop-conflicts\"").unwrap();
    assert_eq!(policy["c"], Duplicates::DropConflicts);
    assert!(toml::from_str::<BTreeMap<String, Duplicates>>("a = \"drop\"").is_err());
}
