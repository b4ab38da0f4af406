//! Approximate search in PostgreSQL: what is measured is so, and what comes between leaves right answers.

use medsiglip::embedding::Embeddings;
use medsiglip::index::{
    Approximation, Filter, Hit, LocalStore, PostgresStore, Precision, Store, Tuned, Tuning,
};

use crate::graph::{DIM, clustered, items};
use crate::server::Server;
use crate::{about, item, numbers};

fn how() -> Tuning {
    Tuning {
        always: true,
        queries: 100,
        recall: 0.95,
        ..Tuning::default()
    }
}

fn tune(store: &mut dyn Store) -> Tuned {
    store.tune(&how(), &mut |_, _| true).unwrap().unwrap()
}

fn is_tuned(store: &dyn Store) -> bool {
    let state = store.approximation().unwrap();
    matches!(state, Approximation::Usable { behind: 0, .. })
}

fn filled(server: &Server, precision: Precision) -> (PostgresStore, Vec<f32>) {
    let schema = format!("{precision:?}").to_lowercase();
    let mut store = PostgresStore::create(&server.url(&schema), &about(DIM, precision)).unwrap();
    let data = clustered(1600, 30, 0.5);
    store.put(&items(&data[..1500 * DIM])).unwrap();
    (store, data)
}

fn hits(store: &dyn Store, query: &[f32], filter: Option<&Filter>) -> Vec<Hit> {
    let query = Embeddings::new(DIM, query.to_vec()).unwrap();
    store.search(&query, 10, filter).unwrap().remove(0)
}

fn linked(server: &Server, schema: &str) -> (i64, i64) {
    let mut client = crate::postgres::client(server);
    let sql = format!("SELECT count(*), count(*) FILTER (WHERE is_linked) FROM {schema}.items");
    let row = client.query_one(&sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn a_tuned_database_finds_what_was_measured_and_what_came_later() {
    let Some(server) = Server::start() else {
        return;
    };
    for precision in [Precision::F32, Precision::F16] {
        let (mut store, data) = filled(&server, precision);
        assert_eq!(store.approximation().unwrap(), Approximation::Absent);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut local = LocalStore::create(&path, &about(DIM, precision)).unwrap();
        local.put(&items(&data[..1500 * DIM])).unwrap();
        let tuned = tune(&mut store);
        assert_eq!((tuned.queries, tuned.k), (100, 10));
        assert!(tuned.ef.is_some() && is_tuned(&store), "{tuned:?}");
        let schema = format!("{precision:?}").to_lowercase();
        assert_eq!(linked(&server, &schema), (1500, 1500));
        let mut found = 0;
        for query in data[1500 * DIM..].chunks_exact(DIM) {
            let exact = hits(&local, query, None);
            let near = hits(&store, query, None);
            assert_eq!(near.len(), 10);
            found += near.iter().filter(|hit| exact.contains(hit)).count();
            store.search_exactly(true);
            assert_eq!(hits(&store, query, None), exact);
            store.search_exactly(false);
            let filter: Filter = "number < 400 and kind = 'third'".parse().unwrap();
            assert_eq!(
                hits(&store, query, Some(&filter)),
                hits(&local, query, Some(&filter))
            );
        }
        assert!(found >= 980, "{found} of 1000");
        // The index is used: the scan of all that it does without.
        let plan = plan(&server, &schema);
        assert!(plan.contains("items_near"), "{plan}");
        let (new, gone) = (numbers(77, DIM), "item 3".to_owned());
        store.put(&[item(9000, &new)]).unwrap();
        store.remove(std::slice::from_ref(&gone)).unwrap();
        assert_eq!(hits(&store, &new, None)[0].id, "item 9000");
        let near = hits(&store, &data[3 * DIM..4 * DIM], None);
        assert!(near.len() == 10 && near.iter().all(|hit| hit.id != gone));
        store.compact().unwrap();
        assert!(is_tuned(&store));
        assert_eq!(hits(&store, &new, None)[0].id, "item 9000");
    }
}

/// How the server finds the nearest items.
fn plan(server: &Server, schema: &str) -> String {
    let mut client = crate::postgres::client(server);
    let zeros = "0,".repeat(DIM - 1);
    let sql = format!(
        "SET enable_seqscan = off; SET enable_sort = off;
        EXPLAIN SELECT seq FROM {schema}.items WHERE is_linked
        ORDER BY embedding::halfvec({DIM}) <#> '[{zeros}1]'::vector::halfvec({DIM}) LIMIT 10"
    );
    let said = client.simple_query(&sql).unwrap();
    let line = |said: &postgres::SimpleQueryMessage| match said {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    said.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_was_measured_is_chosen_from_again_and_a_stop_changes_no_item() {
    let Some(server) = Server::start() else {
        return;
    };
    let (mut store, data) = filled(&server, Precision::F32);
    let before = tune(&mut store);
    let less = Tuning {
        recall: 0.5,
        ..how()
    };
    let again = store
        .tune(&less, &mut |_, _| panic!("nothing is to be made"))
        .unwrap()
        .unwrap();
    assert_eq!(again.points, before.points);
    assert_eq!(again.ef, Some(before.points[0].ef));
    store.put(&[item(9000, &data[..DIM])]).unwrap();
    let mut calls = 0;
    let stopped = store
        .tune(&how(), &mut |_, _| {
            calls += 1;
            false
        })
        .unwrap();
    assert!(stopped.is_none() && calls == 1);
    assert_eq!(linked(&server, "f32"), (1501, 1501));
    assert_eq!(store.approximation().unwrap(), Approximation::Absent);
    let sql = "SELECT to_regclass('f32.items_near') IS NULL";
    let row = crate::postgres::client(&server).query_one(sql, &[]);
    assert!(row.unwrap().get::<_, bool>(0));
    assert_eq!(hits(&store, &data[..DIM], None)[0].id, "item 0");
    for wrong in [
        Tuning { k: 0, ..how() },
        Tuning { k: 200, ..how() },
        Tuning {
            recall: 1.0,
            ..how()
        },
    ] {
        let told = store.tune(&wrong, &mut |_, _| true).unwrap_err();
        assert_eq!(told.code(), "BAD_ARGUMENT");
    }
    let wide = about(4001, Precision::F32);
    let mut wide = PostgresStore::create(&server.url("wide"), &wide).unwrap();
    let told = wide.tune(&how(), &mut |_, _| true).unwrap_err();
    assert_eq!(told.code(), "UNSUPPORTED");
}

#[test]
fn a_server_that_is_killed_while_it_is_tuned_keeps_all_items() {
    let Some(server) = Server::start() else {
        return;
    };
    let (mut store, data) = filled(&server, Precision::F32);
    tune(&mut store);
    store.put(&[item(9000, &data[..DIM])]).unwrap();
    let mut is_up = true;
    // Not at once: what is measured with is out of the index.
    let told = store.tune(&how(), &mut |linked, _| {
        if is_up && linked == 1401 {
            server.kill();
            is_up = false;
        }
        true
    });
    assert_eq!(told.unwrap_err().code(), "IO_ERROR");
    server.up();
    let mut store = PostgresStore::open(&server.url("f32")).unwrap();
    assert_eq!(
        (store.len().unwrap(), store.verify().unwrap()),
        (1501, 1501)
    );
    assert_eq!(store.approximation().unwrap(), Approximation::Absent);
    let (all, some) = linked(&server, "f32");
    assert!((all, some) == (1501, 1401), "{some} of {all}");
    for row in [0, 700, 1499] {
        let near = hits(&store, &data[row * DIM..(row + 1) * DIM], None);
        assert_eq!(near[0].id, format!("item {row}"));
    }
    assert!(tune(&mut store).ef.is_some());
    assert_eq!(linked(&server, "f32"), (1501, 1501));
}

#[test]
fn an_index_that_somebody_dropped_is_not_missed() {
    let Some(server) = Server::start() else {
        return;
    };
    let (mut store, data) = filled(&server, Precision::F32);
    tune(&mut store);
    let mut client = crate::postgres::client(&server);
    client.batch_execute("DROP INDEX f32.items_near").unwrap();
    assert_eq!(store.approximation().unwrap(), Approximation::Unusable);
    assert_eq!(hits(&store, &data[..DIM], None)[0].id, "item 0");
    assert!(tune(&mut store).ef.is_some() && is_tuned(&store));
}
