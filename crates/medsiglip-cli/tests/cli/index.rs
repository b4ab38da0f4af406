//! `index` and `search` as processes: what is stored is found, what happens in between loses nothing, what is foreign is refused.

use std::time::{Duration, Instant};

use medsiglip::index::{LocalStore, Store};
use serde_json::Value;

use crate::folder::{Folder, answer, column, run};

pub fn indexed(count: u32) -> Folder {
    let folder = Folder::with_pictures(count);
    run(&folder, "index add store scans").expect(0);
    folder
}

fn store(folder: &Folder) -> LocalStore {
    LocalStore::open(&folder.path("store")).unwrap()
}

/// Embeddings by `embed`, each divided by its norm, with their ids.
fn embedded(folder: &Folder, what: &[&str]) -> Vec<(String, Vec<f64>)> {
    let args = [&["embed", "--normalized"], what].concat();
    let lines = folder.run(&args).expect(0).json();
    let numbers = |line: &Value| serde_json::from_value(line["embedding"].clone()).unwrap();
    lines
        .iter()
        .map(|line| (line["id"].as_str().unwrap().to_owned(), numbers(line)))
        .collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn pictures_are_found_by_a_picture_and_by_words() {
    let folder = indexed(12);
    let pictures = embedded(&folder, &["scans"]);
    let like = |query: &[f64]| {
        let mut all: Vec<(f64, &str)> = pictures
            .iter()
            .map(|(id, own)| (cosine(own, query), id.as_str()))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    };
    // The picture itself is left out.
    let found = run(&folder, "search store --image scans/003.png --k 5")
        .expect(0)
        .json();
    let expected = like(&pictures[3].1);
    assert_eq!(expected[0].1, "scans/003.png");
    for (place, (hit, (cosine, id))) in found.iter().zip(&expected[1..6]).enumerate() {
        assert_eq!(
            (hit["rank"].as_u64(), hit["id"].as_str()),
            (Some(place as u64 + 1), Some(*id))
        );
        assert!((hit["cosine"].as_f64().unwrap() - cosine).abs() < 1e-5);
        assert!(hit["probability"].is_null() && hit["metadata"].is_object());
    }
    assert_eq!(found.len(), 5);
    // By words: with the probability that `classify` gives for the same pair.
    let found = folder
        .run(&["search", "store", "--text", "a scan", "--k", "3"])
        .expect(0)
        .json();
    let text = embedded(&folder, &["--text", "a scan"]).remove(0).1;
    assert_eq!(
        column(&found, "id"),
        like(&text)[..3]
            .iter()
            .map(|(_, id)| *id)
            .collect::<Vec<_>>()
    );
    for hit in &found {
        let id = hit["id"].as_str().unwrap();
        let scored = folder
            .run(&["classify", id, "--labels", "a scan,another"])
            .expect(0)
            .json();
        let scores = scored[0]["scores"].as_array().unwrap();
        let own = scores
            .iter()
            .find(|score| score["label"] == "a scan")
            .unwrap();
        let (a, b) = (
            own["probability"].as_f64().unwrap(),
            hit["probability"].as_f64().unwrap(),
        );
        assert!((a - b).abs() < 1e-5, "{own} {hit}");
    }
    // A table for a person says what it is not for.
    let table = run(
        &folder,
        "search store --image scans/003.png --k 2 --format table",
    )
    .expect(0);
    assert!(table.stdout.contains("not for clinical use"), "{table:?}");
    // By likes alone no model is needed.
    let found = run(
        &folder,
        "search store --like scans/003.png --k 1 --model owner/nowhere",
    )
    .expect(0)
    .json();
    assert_eq!(found[0]["id"].as_str(), Some(expected[1].1));
}

#[test]
fn unchanged_files_are_skipped_changed_ones_embedded_and_gone_ones_pruned() {
    let folder = indexed(4);
    let again = run(&folder, "index add store scans").expect(0);
    assert!(
        again.stderr.contains("stored 0 pictures, 4 unchanged"),
        "{again:?}"
    );
    folder.picture("scans/001.png", 77);
    folder.picture("scans/004.png", 4);
    std::fs::remove_file(folder.path("scans/002.png")).unwrap();
    let changed = run(&folder, "index add store scans --prune").expect(0);
    assert!(changed.stderr.contains("removed 1 picture"), "{changed:?}");
    assert!(
        changed.stderr.contains("stored 2 pictures, 2 unchanged"),
        "{changed:?}"
    );
    let store = store(&folder);
    let mut ids: Vec<String> = store
        .contents()
        .unwrap()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    ids.sort();
    assert_eq!(
        ids,
        [
            "scans/000.png",
            "scans/001.png",
            "scans/003.png",
            "scans/004.png"
        ]
    );
    let expected = embedded(&folder, &["scans/001.png"]).remove(0).1;
    let own = store.get("scans/001.png").unwrap().unwrap().embedding;
    assert!(
        own.iter()
            .zip(expected)
            .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5)
    );
    drop(store);
    run(&folder, "index compact store").expect(0);
    let info = run(&folder, "index info store --verify").expect(0);
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(
        (info["items"].as_u64(), info["verified"].as_u64()),
        (Some(4), Some(4))
    );
    // A picture that cannot be read is told, the others are stored; what is there still is not pruned.
    folder.write("scans/005.png", "no picture");
    folder.write("scans/004.png", "no picture either");
    let broken = run(&folder, "index add store scans --prune").expect(1);
    assert!(
        broken.stderr.contains("scans/005.png") && broken.stderr.contains("2 failed"),
        "{broken:?}"
    );
    // An empty folder may be a disk that is not there.
    std::fs::remove_dir_all(folder.path("scans")).unwrap();
    std::fs::create_dir(folder.path("scans")).unwrap();
    folder.picture("others/000.png", 3);
    let empty = run(&folder, "index add store scans others --prune").expect(2);
    assert!(empty.stderr.contains("nothing is removed"), "{empty:?}");
    let none = run(
        &folder,
        "index add store others/000.png --prune --model owner/nowhere",
    )
    .expect(2);
    assert!(none.stderr.contains("expected folders"), "{none:?}");
    let info = run(&folder, "index info store").expect(0);
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info["items"], 4);
}

#[test]
fn a_changed_file_keeps_its_fields_and_a_row_of_several_files_is_refused() {
    let folder = indexed(3);
    folder.write("fields.csv", "path,finding\n001.png,nodule\n");
    let line = "index add store scans --metadata fields.csv --metadata-ids file-name";
    run(&folder, line).expect(0);
    folder.picture("scans/001.png", 99);
    let changed = run(&folder, "index add store scans").expect(0);
    assert!(changed.stderr.contains("stored 1 picture"), "{changed:?}");
    let metadata = || {
        store(&folder)
            .get("scans/001.png")
            .unwrap()
            .unwrap()
            .metadata
    };
    assert_eq!(metadata()["finding"], "nodule");
    folder.picture("scans/more/001.png", 5);
    let refused = run(&folder, line).expect(2);
    assert!(
        refused
            .stderr
            .contains("row 2 has the name of several files"),
        "{refused:?}"
    );
    assert!(
        !refused.stderr.contains("001"),
        "no id in a message: {refused:?}"
    );
    assert_eq!(store(&folder).len().unwrap(), 3);
    // Files that would be read otherwise do not belong beside these.
    let refused = run(&folder, "index add store scans --window 40/400").expect(2);
    assert!(refused.stderr.contains("made with window"), "{refused:?}");
}

#[test]
fn metadata_filters_groups_and_excludes() {
    let folder = indexed(9);
    let mut csv = String::from("path,patient,age,view\n");
    for i in 0..9 {
        csv += &format!(
            "{i:03}.png,p{},{},{}\n",
            i / 3,
            50 + i,
            if i % 2 == 0 { "PA" } else { "" }
        );
    }
    folder.write("fields.csv", csv);
    let given = run(
        &folder,
        "index add store scans --metadata fields.csv --metadata-ids file-name",
    )
    .expect(0);
    assert!(
        given.stderr.contains("gave new fields to 9 pictures"),
        "{given:?}"
    );
    let metadata = store(&folder)
        .get("scans/004.png")
        .unwrap()
        .unwrap()
        .metadata;
    assert_eq!(
        Value::Object(metadata),
        serde_json::json!({"patient": "p1", "age": 54, "view": "PA"})
    );
    let ids = |args: &[&str]| {
        let all = [&["search", "store", "--image", "scans/000.png"], args].concat();
        let lines = folder.run(&all).expect(0).json();
        let mut ids: Vec<String> = column(&lines, "id")
            .iter()
            .map(|id| id[6..9].to_owned())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(
        ids(&["--where", "age > 53 and view = 'PA'"]),
        ["004", "006", "008"]
    );
    assert_eq!(
        ids(&["--where", "view is null and patient in ('p0', 'p1')"]),
        ["001", "003", "005"]
    );
    assert_eq!(
        ids(&["--exclude-own", "patient"]),
        ["003", "004", "005", "006", "007", "008"]
    );
    assert_eq!(ids(&["--group-by", "patient"]).len(), 3);
    assert_eq!(ids(&["--group-by", "patient", "--per-group", "2"]).len(), 6);
    let wrong = folder
        .run(&["search", "store", "--text", "x", "--where", "age ~ 3"])
        .expect(2);
    assert!(wrong.stderr.contains("filter: expected"), "{wrong:?}");
    let none = folder
        .run(&["search", "store", "--text", "x", "--exclude-own", "patient"])
        .expect(2);
    assert!(none.stderr.contains("no such field"), "{none:?}");
    folder.picture("other.png", 88);
    let args = [
        "--image",
        "scans/000.png",
        "--image",
        "other.png",
        "--exclude-own",
        "patient",
    ];
    let one = folder
        .run(&[&["search", "store"], &args[..]].concat())
        .expect(2);
    assert!(one.stderr.contains("no such field"), "{one:?}");
    let unused = run(&folder, "index add store scans --metadata fields.csv").expect(0);
    assert!(
        unused.stderr.contains("--metadata-ids file-name"),
        "{unused:?}"
    );
}

#[test]
fn a_killed_run_loses_nothing_and_goes_on() {
    let folder = Folder::with_pictures(150);
    let args = ["index", "add", "store", "scans", "--batch-size", "1"];
    let vectors = folder.path("store/vectors-0.bin");
    for _ in 0..3 {
        let before = vectors.metadata().map_or(0, |file| file.len());
        let mut child = folder.command(&args).spawn().unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while vectors.metadata().map_or(0, |file| file.len()) < before + 2000 {
            assert!(Instant::now() < patience, "nothing was stored in time");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert_ne!(answer(child.wait_with_output().unwrap()).code, Some(0));
        let store = store(&folder);
        let count = store.len().unwrap();
        assert!(count > 0 && store.verify().unwrap() == count);
    }
    let kept = store(&folder).len().unwrap();
    let rest = folder.run(&args).expect(0);
    assert!(
        rest.stderr.contains(&format!("{kept} unchanged")),
        "{rest:?}"
    );
    assert_eq!(store(&folder).verify().unwrap(), 150);
    let expected = embedded(&folder, &["scans"]);
    for (id, embedding) in expected {
        let own = store(&folder).get(&id).unwrap().unwrap().embedding;
        assert!(
            own.iter()
                .zip(embedding)
                .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5),
            "{id}"
        );
    }
}

#[test]
fn embeddings_made_before_are_imported() {
    let folder = Folder::with_pictures(6);
    run(&folder, "embed scans --output scans.parquet").expect(0);
    run(&folder, "index import store scans.parquet --vectors f16").expect(0);
    let found = run(&folder, "search store --image scans/002.png --k 1")
        .expect(0)
        .json();
    assert_eq!(found[0]["id"], "scans/002.png");
    // Those of nobody knows what: found by likes, not by a model.
    folder.write("other.csv", "id,e0,e1\na,1,0\nb,0.9,0.1\nc,0,1\n");
    run(&folder, "index import foreign other.csv").expect(0);
    let found = run(&folder, "search foreign --like a --k 2")
        .expect(0)
        .json();
    assert_eq!(column(&found, "id"), ["b", "c"]);
    folder.write(
        "named.csv",
        "slide,name,f0,f1,g0,g1\n7,a,1,0,0,1\n7,b,0,1,1,0\n",
    );
    let refused = run(&folder, "index import named named.csv").expect(2);
    assert!(refused.stderr.contains("error"), "{refused:?}");
    run(
        &folder,
        "index import named named.csv --embedding-id name --embedding-column g",
    )
    .expect(0);
    let own = LocalStore::open(&folder.path("named"))
        .unwrap()
        .get("a")
        .unwrap()
        .unwrap();
    assert_eq!(own.embedding, [0.0, 1.0]);
    let refused = run(&folder, "search foreign --text x").expect(2);
    assert!(refused.stderr.contains("width"), "{refused:?}");
    let zeros: String = (0..1500)
        .map(|i| format!("z{i},{},0\n", u8::from(i != 1300)))
        .collect();
    folder.write("zero.csv", format!("id,e0,e1\n{zeros}"));
    let refused = run(&folder, "index import zero zero.csv").expect(2);
    assert!(refused.stderr.contains("embedding 1301"), "{refused:?}");
    assert!(
        !folder.path("zero").exists(),
        "refused before anything is stored"
    );
    let refused = run(&folder, "index import store other.csv").expect(2);
    assert!(refused.stderr.contains("width"), "{refused:?}");
    let refused = run(&folder, "index add store scans --recipe eval-tf").expect(2);
    assert!(refused.stderr.contains("got eval-tf"), "{refused:?}");
    let refused = run(&folder, "search nowhere --text x").expect(2);
    assert!(
        refused.stderr.contains("medsiglip index add"),
        "{refused:?}"
    );
    let refused = run(&folder, "search store").expect(2);
    assert!(
        refused.stderr.contains("a picture or a text"),
        "{refused:?}"
    );
}

#[test]
fn how_well_items_are_found_is_measured() {
    let folder = indexed(12);
    let mut csv = String::from("path,kind,patient,caption\n");
    for i in 0..12 {
        let kind = if i < 6 { "early" } else { "late" };
        csv += &format!("scans/{i:03}.png,{kind},p{},a {kind} scan\n", i / 2);
    }
    folder.write("fields.csv", csv);
    run(&folder, "index add store scans --metadata fields.csv").expect(0);
    folder.write(
        "prompts.json",
        r#"{"early": ["an early scan"], "late": ["a late scan"], "none": ["no scan"]}"#,
    );
    folder.write(
        "early.json",
        r#"{"early": ["an early scan"], "none": ["no scan"]}"#,
    );
    let line =
        "index eval store --label kind --prompts early.json --k 1 --replicates 10 --format json";
    let one = run(&folder, line).expect(0);
    assert!(
        one.stderr.contains("1 value of the field have no prompts")
            && one.stdout.contains("early by words, 6 of 6"),
        "{one:?}"
    );
    let line = "index eval store --label kind --group patient --prompts prompts.json --captions caption --k 1,3 --replicates 100";
    let answer = run(&folder, &format!("{line} --format json")).expect(0);
    assert!(
        answer.stderr.contains("no item is of the class none"),
        "{answer:?}"
    );
    let found: Value = serde_json::from_str(&answer.stdout).unwrap();
    let parts = found["parts"].as_array().unwrap();
    let asked: Vec<&str> = parts
        .iter()
        .map(|part| part["asked"].as_str().unwrap())
        .collect();
    let expected = [
        "pictures by 12 pictures",
        "early by words, 6 of 12",
        "late by words, 6 of 12",
        "2 captions by 12 pictures",
        "12 pictures by 2 captions",
    ];
    assert_eq!(asked, expected);
    // Six of a kind, two of a patient: of ten others four are right.
    let chance = parts[0]["measures"]["chance"]["value"].as_f64().unwrap();
    assert!((chance - 0.4).abs() < 1e-12);
    // The first by hand.
    let pictures = embedded(&folder, &["scans"]);
    let first = |query: usize| {
        let others = (0..12).filter(|other| other / 2 != query / 2);
        let near = |a: &usize| cosine(&pictures[query].1, &pictures[*a].1);
        others.max_by(|a, b| near(a).total_cmp(&near(b))).unwrap()
    };
    let right = (0..12)
        .filter(|query| (first(*query) < 6) == (*query < 6))
        .count();
    let own = parts[0]["measures"]["precision@1"]["value"]
        .as_f64()
        .unwrap();
    assert!((own - right as f64 / 12.0).abs() < 1e-12, "{own} {right}");
    let told = run(&folder, line).expect(0).stdout;
    assert!(
        told.contains("95 % interval") && told.contains("not for clinical use"),
        "{told}"
    );
    let none = run(&folder, "index eval store --label nothing").expect(2);
    assert!(none.stderr.contains("at least two classes"), "{none:?}");
}

#[test]
fn a_tuned_store_says_so_and_falls_back_where_it_is_damaged() {
    let folder = Folder::new();
    let row = |i: u32| format!("i{i},{},{},{}\n", i % 17, i % 23 + 1, i % 29);
    let rows: String = (0..400).map(row).collect();
    folder.write("other.csv", format!("id,e0,e1,e2\n{rows}"));
    run(&folder, "index import store other.csv").expect(0);
    let search =
        |more: &str| run(&folder, &format!("search store --like i7 --k 5{more}")).expect(0);
    let exact = search("").json();
    let info = || -> Value {
        let told = run(&folder, "index info store").expect(0);
        serde_json::from_str(&told.stdout).unwrap()
    };
    assert_eq!(info()["search"], "exact");
    let few = run(&folder, "index tune store --queries 20").expect(2);
    assert!(
        few.stderr
            .contains("20 queries cannot show a recall of 0.99, but of 0.850 at most"),
        "{few:?}"
    );
    let table = run(&folder, "index tune store --queries 20 --recall 0.8").expect(0);
    assert!(table.stdout.contains("recall@10"), "{table:?}");
    assert_eq!(info()["search"]["behind"], 0);
    assert_eq!(info()["search"]["tuned"]["queries"], 20);
    // So small a store is searched exactly anyway, or by a graph that finds as much.
    assert_eq!(column(&search("").json(), "id"), column(&exact, "id"));
    assert_eq!(
        column(&search(" --exact").json(), "id"),
        column(&exact, "id")
    );
    run(&folder, "index info store --verify").expect(0);
    folder.write("store/graph.json", "{");
    let found = search("");
    assert!(found.stderr.contains("tune again"), "{found:?}");
    assert_eq!(column(&found.json(), "id"), column(&exact, "id"));
    let quiet = search(" --exact");
    assert!(!quiet.stderr.contains("warning"), "{quiet:?}");
    run(&folder, "index info store --verify").expect(2);
    run(&folder, "index tune store --recall 0.8").expect(0);
    run(&folder, "index info store --verify").expect(0);
    let refused = run(&folder, "index tune store --k 50 --recall 0.8").expect(2);
    assert!(refused.stderr.contains("500"), "{refused:?}");
    run(&folder, "index compact store").expect(0);
    assert_eq!(info()["search"], "exact");
    // A vector that is not what was stored is told by the search that meets it.
    let vectors = folder.path("store/vectors-1.bin");
    let mut bytes = std::fs::read(&vectors).unwrap();
    let own = column(&exact, "id")[0]
        .trim_start_matches('i')
        .parse::<usize>()
        .unwrap();
    bytes[own * 12] ^= 1;
    std::fs::write(&vectors, bytes).unwrap();
    let damaged = run(&folder, "search store --like i7 --k 5").expect(2);
    assert!(
        damaged.stderr.contains("is not what was stored"),
        "{damaged:?}"
    );
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_store_in_a_database_needs_its_feature() {
    let folder = Folder::new();
    folder.write("embeddings.csv", "id,e0,e1\na,1,2\n");
    for line in [
        "index info STORE",
        "index compact STORE",
        "index tune STORE",
        "index eval STORE --label x",
        "index import STORE embeddings.csv",
        "search STORE --like a",
    ] {
        let line = line.replace("STORE", "postgresql://ann:secret@db/x");
        let told = run(&folder, &line).expect(2).stderr;
        assert!(told.contains("--features postgres"), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}
