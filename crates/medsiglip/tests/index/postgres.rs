//! The store in PostgreSQL: the same as the one in a folder, and safe from a server that is killed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::index::{
    About, Filter, Fusion, Item, LocalStore, PostgresStore, Precision, Query, Store, Term,
};
use postgres::{Client, NoTls};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::filter::{conditions, fields, searches_what_filters_say};
use crate::server::Server;
use crate::{about, item, map, numbers};

const DIM: usize = 48;

fn create(server: &Server, schema: &str) -> PostgresStore {
    PostgresStore::create(&server.url(schema), &about(DIM, Precision::F32)).unwrap()
}

fn open(server: &Server, schema: &str) -> PostgresStore {
    PostgresStore::open(&server.url(schema)).unwrap()
}

/// A connection past the store.
pub fn client(server: &Server) -> Client {
    let (folder, port) = server.at();
    let mut config = Client::configure();
    config.host_path(folder).port(port);
    config.user("owner").dbname("postgres");
    config.connect(NoTls).unwrap()
}

/// Items of which many are the same, or the same but for the last bits.
fn items(count: usize) -> Vec<Item> {
    let rows = numbers(11, DIM * count);
    let near = numbers(12, DIM * count);
    let item = |i: usize| {
        let own = &rows[i * DIM..(i + 1) * DIM];
        let embedding: Vec<f32> = match i % 4 {
            0 => own.to_vec(),
            1 => rows[..DIM].to_vec(),
            _ => {
                let parts = rows[..DIM].iter().zip(&near[i * DIM..(i + 1) * DIM]);
                parts.map(|(x, off)| x + 1e-7 * off).collect()
            }
        };
        Item {
            metadata: map(json!({
                "number": i, "half": i as f64 / 2.0, "kind": if i.is_multiple_of(3) { "Ä" } else { "b" }, "nested": {"a": [1, null, "\"\\u"]}
            })),
            ..item(i, &embedding)
        }
    };
    (0..count).map(item).collect()
}

#[test]
fn both_stores_give_the_same() {
    let Some(server) = Server::start() else {
        return;
    };
    let all = items(900);
    for (precision, schema) in [(Precision::F32, "single"), (Precision::F16, "half")] {
        let folder = tempfile::tempdir().unwrap();
        let about = about(DIM, precision);
        let mut stores: [Box<dyn Store>; 2] = [
            Box::new(LocalStore::create(&folder.path().join("s"), &about).unwrap()),
            Box::new(PostgresStore::create(&server.url(schema), &about).unwrap()),
        ];
        for store in &mut stores {
            assert!(store.is_empty().unwrap());
            all.chunks(100).for_each(|items| store.put(items).unwrap());
            // What is replaced is the last of equals.
            store.put(&all[200..260]).unwrap();
            let described = |i: usize| {
                let number = i + usize::from(i.is_multiple_of(50));
                (
                    format!("item {i}"),
                    map(json!({"number": number, "kind": "described"})),
                )
            };
            let mut new: Vec<_> = (0..300).step_by(10).map(described).collect();
            new.push(("nobody".into(), map(json!({}))));
            new.push(("item 10".into(), map(json!({"number": 0.5}))));
            store.describe(&new).unwrap();
            let gone: Vec<String> = (0..900).step_by(7).map(|i| format!("item {i}")).collect();
            assert_eq!(store.remove(&gone).unwrap(), gone.len());
            assert_eq!(store.remove(&gone).unwrap(), 0);
            assert_eq!((store.len().unwrap(), store.verify().unwrap()), (771, 771));
        }
        check_the_same(&stores, &all);
        stores.iter_mut().for_each(|store| store.compact().unwrap());
        check_the_same(&stores, &all);
    }
}

fn check_the_same(stores: &[Box<dyn Store>; 2], all: &[Item]) {
    let [local, other] = stores;
    let mut queries = numbers(13, DIM * 8);
    queries.extend(&all[0].embedding);
    let queries = Embeddings::new(DIM, queries).unwrap();
    for filter in [
        None,
        Some("kind = 'Ä' and number >= 100"),
        Some("kind > 'c' or half < 20.5"),
        Some("number in (3, 8, 500) or nested is null"),
        Some("kind = 'described' or number in (0.5, 'x', true)"),
    ] {
        let filter: Option<Filter> = filter.map(|text| text.parse().unwrap());
        for k in [0, 1, 10, 300, 5000] {
            let expected = local.search(&queries, k, filter.as_ref()).unwrap();
            let found = other.search(&queries, k, filter.as_ref()).unwrap();
            assert_eq!(found, expected, "{filter:?} {k}");
        }
    }
    let term = |i: usize| Term {
        embedding: all[i].embedding.clone(),
        weight: 1.0,
    };
    let query = Query {
        terms: vec![term(4), term(8)],
        fusion: Fusion::ReciprocalRank,
        k: 30,
        distinct: Some(0.9),
        ..Query::default()
    };
    assert_eq!(query.ask(&**other).unwrap(), query.ask(&**local).unwrap());
    let contents =
        |store: &dyn Store| -> HashSet<_> { store.contents().unwrap().into_iter().collect() };
    assert_eq!(contents(&**other), contents(&**local));
    for id in ["item 1", "item 2", "item 7", "", "\0"] {
        assert_eq!(other.get(id).unwrap(), local.get(id).unwrap());
    }
}

#[test]
fn a_database_searches_what_a_filter_says() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut store = PostgresStore::create(&server.url("f"), &about(2, Precision::F32)).unwrap();
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&(fields(), conditions()), |(fields, conditions)| {
        let mut store = open(&server, "f");
        let before = store.contents().unwrap().into_iter();
        store
            .remove(&before.map(|(id, _)| id).collect::<Vec<_>>())
            .unwrap();
        searches_what_filters_say(&mut store, &fields, conditions)
    });
    tested.unwrap();
    // Texts are compared by bytes, whatever the language; no value is a part of the statement.
    let names = ["a", "B", "ä", "Z", "a b", "'; DROP TABLE items; --"];
    let named = |(i, name): (usize, &&str)| Item {
        metadata: map(json!({"name": name, "$1": i})),
        ..item(i, &[1.0, i as f32])
    };
    let items: Vec<Item> = names.iter().enumerate().map(named).collect();
    store.put(&items).unwrap();
    for text in [
        "name < 'a'",
        "name > 'Z'",
        "name = '''; DROP TABLE items; --'",
        "`$1` >= 3",
    ] {
        let filter: Filter = text.parse().unwrap();
        let hits = store
            .search(
                &Embeddings::new(2, vec![1.0, 0.0]).unwrap(),
                10,
                Some(&filter),
            )
            .unwrap();
        let found: HashSet<&String> = hits[0]
            .iter()
            .map(|hit| &hit.id)
            .filter(|id| id.starts_with("item"))
            .collect();
        let expected = items
            .iter()
            .filter(|item| filter.matches(&item.metadata))
            .map(|item| &item.id)
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn two_writers_wait_for_each_other() {
    let Some(server) = Server::start() else {
        return;
    };
    create(&server, "w");
    let rows = numbers(2, DIM * 200);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (server, rows) = (&server, &rows);
            scope.spawn(move || {
                let mut store = open(server, "w");
                for i in (writer..200).step_by(2) {
                    // One of them in every second round is the other's, too.
                    let own = item(i, &rows[i * DIM..(i + 1) * DIM]);
                    let both = Item {
                        id: format!("both {}", i / 4),
                        ..own.clone()
                    };
                    store.put(&[own, both]).unwrap();
                }
            });
        }
    });
    let store = open(&server, "w");
    assert_eq!((store.len().unwrap(), store.verify().unwrap()), (250, 250));
    for (i, row) in rows.chunks_exact(DIM).enumerate() {
        let hits = store
            .search(&Embeddings::new(DIM, row.to_vec()).unwrap(), 1, None)
            .unwrap();
        assert!(hits[0][0].cosine > 0.999_999, "item {i}");
    }
}

/// Imports in chunks of 20 until the server is gone; how many chunks it reported as stored.
fn import(store: &mut PostgresStore, all: &[Item], done: &AtomicUsize) -> Option<&'static str> {
    for items in all.chunks(20) {
        if let Err(wrong) = store.put(items) {
            return Some(wrong.code());
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    None
}

#[test]
fn a_killed_server_loses_nothing_and_doubles_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let all = items(4000);
    create(&server, "k");
    let mut most = 0;
    for kill_after in [1, 17, 60, 119] {
        let mut store = open(&server, "k");
        let done = AtomicUsize::new(0);
        let stopped = std::thread::scope(|scope| {
            scope.spawn(|| {
                while done.load(Ordering::SeqCst) < kill_after {
                    std::thread::sleep(Duration::from_micros(50));
                }
                std::thread::sleep(Duration::from_micros(40 * kill_after as u64));
                server.kill();
            });
            import(&mut store, &all, &done)
        });
        assert_eq!(stopped, Some("IO_ERROR"));
        assert_eq!(store.len().unwrap_err().code(), "IO_ERROR");
        server.up();
        let store = open(&server, "k");
        let there: HashSet<String> = store
            .contents()
            .unwrap()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(
            (there.len(), store.verify().unwrap()),
            (store.len().unwrap(), there.len())
        );
        let of = |chunk: &[Item]| chunk.iter().filter(|item| there.contains(&item.id)).count();
        let by_chunk: Vec<usize> = all.chunks(20).map(of).collect();
        most = most.max(done.load(Ordering::SeqCst));
        assert!(
            by_chunk[..most].iter().all(|count| *count == 20),
            "what was reported is there"
        );
        assert!(
            by_chunk.iter().all(|count| [0, 20].contains(count)),
            "nothing is there in half"
        );
    }
    let mut store = open(&server, "k");
    assert!(store.len().unwrap() < 4000);
    assert_eq!(import(&mut store, &all, &AtomicUsize::new(0)), None);
    assert_eq!(
        (store.len().unwrap(), store.verify().unwrap()),
        (4000, 4000)
    );
    let folder = tempfile::tempdir().unwrap();
    let mut local =
        LocalStore::create(&folder.path().join("s"), &about(DIM, Precision::F32)).unwrap();
    local.put(&all).unwrap();
    let queries = Embeddings::new(DIM, numbers(3, DIM * 3)).unwrap();
    assert_eq!(
        store.search(&queries, 4000, None).unwrap(),
        local.search(&queries, 4000, None).unwrap()
    );
}

#[test]
fn older_formats_are_brought_here_and_newer_ones_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut client = client(&server);
    let first = include_str!("../../src/index/postgres/0001_items.sql");
    let text = serde_json::to_string(&about(DIM, Precision::F32)).unwrap();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION vector; CREATE SCHEMA old; SET search_path TO old, public; {};
             INSERT INTO store VALUES (1, '{text}');
             INSERT INTO items (id, embedding, metadata) VALUES ('a', ARRAY[1{}]::real[]::vector, '{{\"x\": 1}}')",
            first.replace("{embedding}", &format!("vector({DIM})")),
            ", 0".repeat(DIM - 1)
        ))
        .unwrap();
    let mut store = open(&server, "old");
    assert_eq!(store.get("a").unwrap().unwrap().embedding[0], 1.0);
    store.put(&items(30)).unwrap();
    let [format, storage] = ["SELECT format::text FROM store", "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'embedding'"]
        .map(|sql| client.query_one(sql, &[]).unwrap().get::<_, String>(0));
    assert_eq!((format.as_str(), storage.as_str()), ("2", "m"));
    assert_eq!(open(&server, "old").verify().unwrap(), 31);
    client.execute("UPDATE store SET format = 3", &[]).unwrap();
    let newer = PostgresStore::open(&server.url("old")).err().unwrap();
    assert_eq!(newer.code(), "UNSUPPORTED");
    // Who has it open does not write into it either.
    assert_eq!(store.put(&items(1)).unwrap_err().code(), "UNSUPPORTED");
    assert_eq!(
        store.remove(&["a".into()]).unwrap_err().code(),
        "UNSUPPORTED"
    );
}

#[test]
fn what_is_foreign_or_cannot_be_stored_is_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let made: Provenance = serde_json::from_value(json!({
        "medsiglip": "0.1.0", "model": "mini", "checksum": "ab", "config_checksum": "cd", "device": "cpu", "dtype": "f32",
        "recipe": "hf", "pad": "none", "canonicalizer": null, "resolution": 448, "positions": null, "normalized": false
    }))
    .unwrap();
    let about = About {
        provenance: Some(made.clone()),
        ..about(DIM, Precision::F32)
    };
    assert!(!PostgresStore::is_at(&server.url("m")).unwrap());
    assert_eq!(
        PostgresStore::open(&server.url("m")).err().unwrap().code(),
        "BAD_CONFIG"
    );
    let mut store = PostgresStore::create(&server.url("m"), &about).unwrap();
    assert!(PostgresStore::is_at(&server.url("m")).unwrap());
    assert_eq!(*open(&server, "m").about(), about);
    let other = Provenance {
        checksum: "ef".into(),
        ..made
    };
    assert_eq!(
        open(&server, "m")
            .about()
            .accepts(DIM, Some(&other))
            .unwrap_err()
            .code(),
        "BAD_ARGUMENT"
    );
    // Neither is a schema that is in use made into a store.
    assert_eq!(
        PostgresStore::create(&server.url("m"), &about)
            .err()
            .unwrap()
            .code(),
        "BAD_ARGUMENT"
    );
    server.sql("CREATE SCHEMA ward; CREATE TABLE ward.beds (n integer)");
    assert_eq!(
        PostgresStore::create(&server.url("ward"), &about)
            .err()
            .unwrap()
            .code(),
        "BAD_ARGUMENT"
    );
    for (dim, precision) in [(DIM, Precision::I8), (20_000, Precision::F32)] {
        let about = About {
            dim,
            precision,
            provenance: None,
            reading: None,
        };
        assert_eq!(
            PostgresStore::create(&server.url("no"), &about)
                .err()
                .unwrap()
                .code(),
            "UNSUPPORTED"
        );
    }
    assert!(!PostgresStore::is_at(&server.url("no")).unwrap());
    let good = items(2);
    let with = |change: &dyn Fn(&mut Item)| {
        let mut item = good[1].clone();
        change(&mut item);
        [good[0].clone(), item]
    };
    for (bad, code) in [
        (with(&|item| item.embedding.fill(0.0)), "BAD_ARGUMENT"),
        (with(&|item| item.embedding.truncate(3)), "BAD_ARGUMENT"),
        (with(&|item| item.id = "item 0".into()), "BAD_ARGUMENT"),
        (with(&|item| item.id = "secret \0".into()), "BAD_ARGUMENT"),
        (
            with(&|item| drop(item.metadata.insert("x".into(), "secret \0".into()))),
            "BAD_ARGUMENT",
        ),
        (
            with(&|item| item.id = "secret".repeat(400)),
            "LIMIT_EXCEEDED",
        ),
        (
            with(&|item| {
                drop(
                    item.metadata
                        .insert("x".into(), "secret".repeat(200_000).into()),
                )
            }),
            "BAD_ARGUMENT",
        ),
    ] {
        let wrong = store.put(&bad).unwrap_err();
        assert_eq!(wrong.code(), code, "{wrong}");
        assert!(!wrong.to_string().contains("secret"), "{wrong}");
    }
    assert_eq!(store.len().unwrap(), 0);
    // The longest id and metadata beyond a page.
    let large = with(&|item| {
        item.id = numbers(5, 1000)
            .iter()
            .map(|x| if *x > 0.0 { "ab" } else { "ba" })
            .collect();
        item.metadata
            .insert("x".into(), format!("{:?}", numbers(6, 40_000)).into());
    });
    store.put(&large).unwrap();
    assert_eq!(
        store.get(&large[1].id).unwrap().unwrap().metadata,
        large[1].metadata
    );
    // A store that another one was made in the place of.
    server.sql("DROP SCHEMA m CASCADE");
    assert_eq!(store.put(&good).unwrap_err().code(), "BAD_CONFIG");
    create(&server, "m");
    assert_eq!(store.put(&good).unwrap_err().code(), "BAD_ARGUMENT");
}

#[test]
fn users_may_what_the_server_lets_them_and_passwords_are_not_told() {
    let Some(server) = Server::start() else {
        return;
    };
    create(&server, "u").put(&items(5)).unwrap();
    server.sql("CREATE ROLE reader LOGIN PASSWORD 'p@ss/word'; GRANT USAGE ON SCHEMA u TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA u TO reader");
    let mut store = PostgresStore::open(&server.url_of("reader:p%40ss%2Fword", "u")).unwrap();
    let query = Embeddings::new(DIM, numbers(1, DIM)).unwrap();
    assert_eq!(store.search(&query, 10, None).unwrap()[0].len(), 5);
    assert_eq!(store.put(&items(1)).unwrap_err().code(), "BAD_ARGUMENT");
    assert_eq!(store.compact().unwrap_err().code(), "BAD_ARGUMENT");
    for (user, schema) in [
        ("reader:secret", "u"),
        ("nobody:secret", "u"),
        ("reader:p%40ss%2Fword", "new"),
    ] {
        let url = server.url_of(user, schema);
        let wrong = PostgresStore::create(&url, &about(DIM, Precision::F32))
            .err()
            .unwrap();
        let told = wrong.to_string();
        assert!(
            ["BAD_ARGUMENT", "UNSUPPORTED"].contains(&wrong.code()),
            "{told}"
        );
        assert!(
            told.contains("SQLSTATE") && !told.contains("secret") && !told.contains("word@"),
            "{told}"
        );
    }
    // Without TLS nothing is sent where it was asked for.
    let url = format!("{}&sslmode=require", server.url_of("reader:secret", "u"));
    let wrong = PostgresStore::open(&url).err().unwrap();
    assert_eq!(wrong.code(), "IO_ERROR");
    drop(server);
    let wrong = PostgresStore::open(&url).err().unwrap();
    assert_eq!(wrong.code(), "IO_ERROR");
    assert!(!wrong.to_string().contains("secret"), "{wrong}");
}
