use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::dataset::testing::{noise, open, pgm, write};
use crate::dataset::{Mixture, Pictures, Pool, Shares, split};
use crate::image::DecodeOptions;

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

fn loaded(sources: Vec<Source>) -> Pictures {
    Pictures::new(sources, DecodeOptions::default(), 0)
}

fn found() -> (TempDir, Pictures, LeakReport) {
    let folder = tempfile::tempdir().unwrap();
    let pictures = loaded(vec![source(folder.path(), &rows())]);
    let report = find_leaks(&pictures).unwrap();
    (folder, pictures, report)
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
    assert_eq!(report.skipped[0].total(), 0);
}

#[test]
fn clusters_reach_across_sources_and_unreadable_pictures_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let one = source(&folder.path().join("a"), &rows()[..1]);
    let mut second = rows();
    second.push(("6.pgm", b"P5\n9 9\n255\n".to_vec(), "0"));
    let mut two = source(&folder.path().join("b"), &second);
    two.config.max_skipped = 0.2;
    let pictures = loaded(vec![one, two]);
    let report = find_leaks(&pictures).unwrap();
    assert_eq!(report.clusters[0].members, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!(
        (report.skipped[0].total(), report.skipped[1].total()),
        (0, 1)
    );
    assert!(report.skipped[1].listed[0].contains("list.csv: row 7: "));
    // It is not tried again.
    assert!(pictures.has_failed(1, 6) && !pictures.has_failed(1, 5));
    assert_eq!(pictures.skipped(), report.skipped);
    let sides = [vec![Side::Train; 1], vec![Side::Train; 7]];
    let warnings = report.warnings(pictures.sources(), &sides, Duplicates::Warn);
    let told = "source s: 1 pictures cannot be read and were not compared: ";
    assert!(
        warnings
            .iter()
            .any(|w| w.starts_with(told) && w.contains("list.csv: row 7: ") && !w.contains(".pgm"))
    );
}

/// One row of ten is missing, one of ten is broken: each alone is within the share.
#[test]
fn missing_and_broken_pictures_have_one_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows: Vec<(String, Vec<u8>)> = (0..9)
        .map(|number| (format!("{number}.pgm"), noise(number, 8)))
        .collect();
    rows[4].1 = b"P5\n9 9\n255\n".to_vec();
    let mut table = "path\nmissing.pgm\n".to_owned();
    for (name, bytes) in &rows {
        write(folder.path(), name, bytes);
        table += &format!("{name}\n");
    }
    write(folder.path(), "list.csv", table.as_bytes());
    let search = |share: f64| {
        let toml = format!("manifest = \"list.csv\"\nmax_skipped = {share}");
        find_leaks(&loaded(vec![open(&toml, folder.path()).unwrap()]))
    };
    let error = search(0.15).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let told = error.to_string();
    assert!(told.contains("2 of 10"), "{told}");
    assert!(
        told.contains("missing picture file") && told.contains("BAD_IMAGE"),
        "{told}"
    );
    assert_eq!(search(0.2).unwrap().skipped[0].total(), 1);
}

#[test]
fn joined_pictures_stay_on_one_side_and_conflicts_are_left_out() {
    let (_folder, pictures, report) = found();
    let sources = pictures.sources();
    let shares = Shares {
        val: 0.5,
        test: 0.0,
    };
    let mut crossed = 0;
    for seed in 0..30 {
        let apart = vec![split(&sources[0], shares, seed, &[]).unwrap()];
        let count = report.crossing(&apart).count();
        crossed += count;
        let warnings = report.warnings(sources, &apart, Duplicates::Warn);
        assert_eq!(warnings.len(), 1 + count + 1);
        assert!(warnings[0].starts_with("2 pictures are there more than once, 1 of them"));
        assert!(warnings[0].ends_with("; 0 examples are left out of training for it"));
        let conflict = &warnings[1 + count];
        assert!(
            conflict.contains("contradict each other (grade): "),
            "{conflict}"
        );
        for row in [1, 2] {
            let told = format!("list.csv: row {row} of source s (");
            assert!(conflict.contains(&told), "{conflict}");
        }
        assert!(warnings.iter().all(|warning| !warning.contains(".pgm")));
        let joined = report.joined(0, Duplicates::Join);
        let together = vec![split(&sources[0], shares, seed, &joined).unwrap()];
        assert_eq!(report.crossing(&together).count(), 0);
    }
    assert!(crossed > 0);
    assert!(report.joined(0, Duplicates::Warn).is_empty());
    let sides = [vec![Side::Train; 6]];
    let left_out = |policy| report.left_out(0, policy, &sides);
    assert!(left_out(Duplicates::Join).is_empty());
    assert_eq!(left_out(Duplicates::DropConflicts), [0, 1].into());
}

/// A column of the source itself puts 0 and 1 apart, and 2 and 3.
#[test]
fn what_a_split_column_puts_apart_is_left_out_of_training() {
    use Side::{Test, Train, Val};
    let (_folder, pictures, report) = found();
    let sides = [vec![Train, Val, Train, Test, Train, Train]];
    let left_out = |policy| report.left_out(0, policy, &sides);
    assert!(left_out(Duplicates::Warn).is_empty());
    assert_eq!(left_out(Duplicates::Join), [0, 2].into());
    assert_eq!(left_out(Duplicates::DropConflicts), [0, 2].into());
    // Nothing is chosen on copies of what is tested.
    let tested = [vec![Train, Train, Val, Test, Train, Train]];
    assert_eq!(report.left_out(0, Duplicates::Join, &tested), [2].into());
    let warnings = report.warnings(pictures.sources(), &sides, Duplicates::Join);
    assert!(
        warnings[0].ends_with(
            "2 on more than one side of the split; 2 examples are left out of training for it"
        ),
        "{warnings:?}"
    );
}

#[test]
fn labels_contradict_within_one_source_and_whatever_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |grades: [&'static str; 2]| {
        [("0.pgm", grades[0]), ("1.pgm", grades[1])].map(|(name, g)| (name, noise(1, 64), g))
    };
    let conflicts = |a: [&'static str; 2], b: [&'static str; 2]| {
        let one = source(&folder.path().join("a"), &rows(a));
        let two = source(&folder.path().join("b"), &rows(b));
        let report = find_leaks(&loaded(vec![one, two])).unwrap();
        assert_eq!(report.clusters.len(), 1);
        report.clusters[0].conflicts.clone()
    };
    assert!(conflicts(["Mass|Nodule", "Nodule | Mass"], ["x", "x"]).is_empty());
    assert!(conflicts(["1", "1"], ["mild", ""]).is_empty());
    assert_eq!(conflicts(["1", "1"], ["1", "2"]), ["grade"]);
    assert_eq!(conflicts(["Mass|Nodule", "Mass"], ["x", "x"]), ["grade"]);
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

/// Two sources of eight patients, two pictures each; the second's 0, 1, 6 and 7 are copies of the first's 4, 5, 12 and 13.
fn two_sources(folder: &Path) -> Vec<Source> {
    let make = |name: &str, picture: fn(u64) -> u64| {
        let mut table = "path,who,caption\n".to_owned();
        for number in 0..16 {
            let picture = noise(picture(number), 64);
            write(folder, &format!("{name}/{number}.pgm"), &picture);
            table += &format!("{number}.pgm,{name}{},c\n", number / 2);
        }
        write(folder, &format!("{name}/list.csv"), table.as_bytes());
        let toml =
            format!("manifest = \"{name}/list.csv\"\ngroup = \"who\"\ncaptions = [\"caption\"]");
        open(&toml, folder).unwrap()
    };
    let copies = |number| match number {
        0 | 1 => number + 4,
        6 | 7 => number + 6,
        _ => number + 100,
    };
    vec![make("a", |number| number), make("b", copies)]
}

/// Leak search, split and pools together: no picture that is drawn for training is also looked at in validation or test,
/// whatever the source, and no patient of a source is.
#[test]
fn what_is_drawn_is_on_no_other_side() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = loaded(two_sources(folder.path()));
    let (sources, report) = (pictures.sources(), find_leaks(&pictures).unwrap());
    assert_eq!(report.clusters.len(), 4);
    let shares = Shares {
        val: 0.25,
        test: 0.25,
    };
    let limits = DecodeOptions::default().limits;
    let bytes = |(s, place): (usize, usize)| sources[s].examples[place].picture.read(&limits);
    let (mut dropped, mut leaked) = (0, 0);
    for seed in 0..20 {
        for policy in [Duplicates::Warn, Duplicates::Join] {
            let divide = |s: usize| split(&sources[s], shares, seed, &report.joined(s, policy));
            let sides = [divide(0).unwrap(), divide(1).unwrap()];
            let left_out = [0, 1].map(|s| report.left_out(s, policy, &sides));
            let pools = [0, 1].map(|s| Pool::training(&sources[s], &sides[s], &left_out[s]));
            let mut mixture = Mixture::new(pools.into(), seed).unwrap();
            let drawn: BTreeSet<(usize, usize)> = (0..400)
                .map(|index| mixture.draw(index))
                .map(|draw| (draw.source, draw.example()))
                .collect();
            let mut held = HashSet::new();
            let mut held_groups = HashSet::new();
            for (s, sides) in sides.iter().enumerate() {
                for place in (0..16).filter(|place| sides[*place] != Side::Train) {
                    held.insert(bytes((s, place)).unwrap());
                    held_groups.insert(sources[s].examples[place].group.clone());
                }
            }
            let on_both = drawn.iter().filter(|d| held.contains(&bytes(**d).unwrap()));
            match policy {
                Duplicates::Warn => leaked += on_both.count(),
                _ => assert_eq!(on_both.count(), 0),
            }
            for (s, place) in &drawn {
                assert!(!held_groups.contains(&sources[*s].examples[*place].group));
            }
            dropped += left_out.iter().map(HashSet::len).sum::<usize>();
        }
    }
    assert!(dropped > 0 && leaked > 0);
}

#[test]
fn patients_of_two_sources_on_two_sides_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = two_sources(folder.path());
    sources[1].config.name = "t".into();
    let sides = [vec![Side::Train; 16], vec![Side::Val; 16]];
    let warnings =
        |sources: &[Source]| LeakReport::default().warnings(sources, &sides, Duplicates::Join);
    assert!(warnings(&sources).is_empty());
    for example in &mut sources[1].examples[..6] {
        example.group = example.group.as_ref().map(|g| g.replace('b', "a"));
    }
    let told = warnings(&sources);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("sources s and t: 3 groups of the same name lie on different sides"),
        "{told:?}"
    );
    let together = [vec![Side::Train; 16], vec![Side::Train; 16]];
    let report = LeakReport::default();
    assert!(
        report
            .warnings(&sources, &together, Duplicates::Join)
            .is_empty()
    );
}

/// Of a folder, a message has the number of a picture: its name can be a patient's.
#[test]
fn pictures_of_a_folder_are_told_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    for (name, number) in [("a/miller.pgm", 1), ("b/miller.pgm", 1), ("b/smith.pgm", 2)] {
        write(folder.path(), name, &noise(number, 64));
    }
    write(folder.path(), "b/zimmer.pgm", b"P5\n9 9\n255\n");
    let toml = "folder = \".\"\nmax_skipped = 0.5";
    let pictures = loaded(vec![open(toml, folder.path()).unwrap()]);
    let report = find_leaks(&pictures).unwrap();
    let sides = [vec![Side::Train; 4]];
    let warnings = report.warnings(pictures.sources(), &sides, Duplicates::Warn);
    let all = warnings.join("\n");
    for told in [
        ": picture 1 of source s (train)",
        ": picture 2 of source s (train)",
        ": picture 4: ",
    ] {
        assert!(all.contains(told), "{all}");
    }
    assert!(
        ["miller", "smith", "zimmer"]
            .iter()
            .all(|name| !all.contains(name)),
        "{all}"
    );
}

/// One picture of a patient at two ages is one answer; two diagnoses are not. A manifest's labels are all answers.
#[test]
fn strata_of_a_published_set_do_not_contradict() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["HAM_1.jpg", "HAM_2.jpg"] {
        write(folder.path(), name, &noise(1, 64));
    }
    let conflicts = |config: &str, classes: [&str; 2]| {
        let [a, b] = classes;
        let header = "lesion_id,image_id,dx,dx_type,age,sex,localization";
        let table = format!(
            "{header}\nL,HAM_1,{a},histo,50,male,back\nL,HAM_2,{b},consensus,51,male,scalp\n"
        );
        write(folder.path(), "HAM10000_metadata.csv", table.as_bytes());
        let table = format!("path,dx,age\nHAM_1.jpg,{a},50\nHAM_2.jpg,{b},51\n");
        write(folder.path(), "list.csv", table.as_bytes());
        let source = open(config, folder.path()).unwrap();
        let report = find_leaks(&loaded(vec![source])).unwrap();
        assert_eq!(report.clusters.len(), 1);
        let left_out = report.left_out(0, Duplicates::DropConflicts, &[vec![Side::Train; 2]]);
        let conflicts = report.clusters[0].conflicts.clone();
        assert_eq!(left_out.len(), if conflicts.is_empty() { 0 } else { 2 });
        conflicts
    };
    let adapter = "adapter = \"ham10000\"\nfolder = \".\"";
    assert!(conflicts(adapter, ["nv", "nv"]).is_empty());
    assert_eq!(
        conflicts(adapter, ["nv", "mel"]),
        ["label", "skin_conditions"]
    );
    let manifest = "manifest = \"list.csv\"\nlabels = [\"dx\", \"age\"]";
    assert_eq!(conflicts(manifest, ["nv", "nv"]), ["age"]);
}
