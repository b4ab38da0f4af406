//! `index` and `search` on a database: as on a folder, and nobody's password is told.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::folder::{Folder, answer, run};
use crate::server::Server;

#[test]
fn a_database_answers_as_a_folder_does() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = Folder::with_pictures(12);
    let (url, none) = (server.url("scans"), server.url("none"));
    let mut csv = String::from("path,kind,number\n");
    for i in 0..12 {
        let kind = if i < 6 { "early" } else { "late" };
        csv += &format!("scans/{i:03}.png,{kind},{i}\n");
    }
    folder.write("fields.csv", csv);
    let missing = run(&folder, &format!("index info {none}")).expect(2);
    assert!(missing.stderr.contains("index add STORE"), "{missing:?}");
    let add = |more: &str| {
        let of = |store: &str| run(&folder, &format!("index add {store} scans {more}")).expect(0);
        ["store", &url].map(of)
    };
    add("");
    let [_, described] = add("--metadata fields.csv");
    assert!(described.stderr.contains("12 unchanged"), "{described:?}");
    folder.picture("scans/004.png", 99);
    std::fs::remove_file(folder.path("scans/007.png")).unwrap();
    let [_, pruned] = add("--prune");
    assert!(pruned.stderr.contains("holds 11\n"), "{pruned:?}");
    for line in [
        "search STORE --image scans/003.png --k 5",
        "search STORE --text nodule --where number>=3 --k 20",
        "search STORE --like scans/002.png --group-by kind --per-group 2",
        "index eval STORE --label kind --k 1,3 --replicates 100 --format json",
    ] {
        let [local, other] = ["store", &url]
            .map(|store| run(&folder, &line.replace("STORE", store)).expect(0).stdout);
        assert_eq!(other, local, "{line}");
        assert!(!local.is_empty());
    }
    run(&folder, &format!("index compact {url}")).expect(0);
    let told = run(&folder, &format!("index info {url} --verify")).expect(0);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        (&told["verified"], &told["search"]),
        (&11.into(), &"exact".into())
    );
}

#[test]
fn a_database_is_tuned() {
    let Some(server) = Server::start() else {
        return;
    };
    let (folder, url) = (Folder::new(), server.url("other"));
    let row = |i: u32| format!("i{i},{},{},{}\n", i % 17, i % 23 + 1, i % 29);
    let rows: String = (0..400).map(row).collect();
    folder.write("other.csv", format!("id,e0,e1,e2\n{rows}"));
    // What is there already is replaced.
    for _ in 0..2 {
        let told = run(&folder, &format!("index import {url} other.csv")).expect(0);
        assert!(told.stderr.contains("holds 400\n"), "{told:?}");
    }
    let table = run(
        &folder,
        &format!("index tune {url} --queries 20 --recall 0.8"),
    )
    .expect(0);
    assert!(table.stdout.contains("recall@10"), "{table:?}");
    let told = run(&folder, &format!("index info {url}")).expect(0);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["search"]["tuned"]["queries"], 20);
    let search = |more: &str| {
        let line = format!("search {url} --like i7 --k 5{more}");
        run(&folder, &line).expect(0).stdout
    };
    assert_eq!(search(""), search(" --exact"));
}

#[test]
fn passwords_are_looked_for_where_postgresql_does_and_not_told() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = Folder::new();
    folder.write("other.csv", "id,e0,e1\na,1,2\n");
    run(
        &folder,
        &format!("index import {} other.csv", server.url("p")),
    )
    .expect(0);
    server.sql("CREATE ROLE ann SUPERUSER LOGIN PASSWORD 'se:cret'");
    let url = server.url_of("ann", "p");
    let info = |url: &str, name: &str, value: &str| {
        let mut command = folder.command(&["index", "info", url]);
        command.env_remove("PGPASSWORD").env("PGPASSFILE", "none");
        answer(command.env(name, value).output().unwrap())
    };
    folder.write("passwords", "# ours\n127.0.0.1:*:postgres:ann:se\\:cret\n");
    let path = folder.path("passwords");
    let open_to = |mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    open_to(0o600);
    info(&url, "PGPASSWORD", "se:cret").expect(0);
    info(&url, "PGPASSFILE", "passwords").expect(0);
    info(&server.url_of("ann:se%3Acret", "p"), "X", "").expect(0);
    open_to(0o644);
    for told in [
        info(&url, "PGPASSFILE", "passwords"),
        info(&url, "X", ""),
        info(&url, "PGPASSWORD", "se:crets"),
        info(&server.url_of("ann:se:crets", "p"), "X", ""),
        info(&server.url_of("ann:se@cret", "p"), "X", ""),
    ] {
        assert_ne!(told.code, Some(0), "{told:?}");
        assert!(!told.stderr.contains("cret"), "{told:?}");
    }
}
