//! Approximate search: an HNSW index of pgvector, what is measured of it, and when it is used.
//!
//! The index holds the vectors in half precision; what it finds is scored by the stored ones. The server keeps it up to date, so
//! that nothing is ever behind. While it is measured, the items that it is measured with are not in it, and search is exact.

use std::thread;
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, GenericClient, Transaction};
use serde::{Deserialize, Serialize};

use super::vector::Binary;
use super::{PostgresStore, within_reach};
use crate::embedding::Embeddings;
use crate::index::scan::{self, Scored, Vectors};
use crate::index::tune::{Measuring, bad};
use crate::index::{Approximation, Tuned, Tuning};
use crate::{Error, Result};

/// Rows that a walk keeps at most.
const MOST: usize = 1000;
/// Numbers of a vector of the index.
const MAX_DIM: usize = 4000;
/// How often is asked how far the index is.
const PAUSE: Duration = Duration::from_millis(200);
/// Vectors that are read at a time.
const ROWS: usize = 4096;

/// What was measured, and of which items.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    tuned: Tuned,
    items: usize,
    newest: i64,
}

impl PostgresStore {
    /// What was measured, and whether there is the index.
    fn measured(&self, client: &mut impl GenericClient) -> Result<Option<(Measured, bool)>> {
        let sql = "SELECT tuned, to_regclass('items_near') IS NOT NULL FROM store";
        let row = client.query_one(sql, &[]).map_err(self.wrong())?;
        let text: Option<String> = row.try_get(0).map_err(self.wrong())?;
        let is_there = row.try_get(1).map_err(self.wrong())?;
        let measured = |text: String| -> Result<_> {
            let measured: Option<Measured> = serde_json::from_str(&text).ok();
            let measured = measured.filter(|own| own.tuned.is_possible());
            Ok((measured.ok_or_else(|| self.place.damaged())?, is_there))
        };
        text.map(measured).transpose()
    }

    pub(super) fn state_of_graph(&self) -> Result<Approximation> {
        let mut client = self.client.borrow_mut();
        Ok(match self.measured(&mut *client)? {
            None => Approximation::Absent,
            Some((own, false)) if own.tuned.ef.is_some() => Approximation::Unusable,
            Some((own, _)) => Approximation::Usable {
                tuned: own.tuned,
                behind: 0,
            },
        })
    }

    /// How many rows a walk for `k` hits keeps; `None` where search is exact.
    pub(super) fn ef_for(&self, reading: &mut Transaction, k: usize) -> Result<Option<usize>> {
        let measured = self.measured(reading)?.filter(|(_, is_there)| *is_there);
        Ok(measured.and_then(|(own, _)| own.tuned.ef_for(k, MOST)))
    }

    /// The best rows by the index; `None` where it gives too few.
    pub(super) fn near(
        &self,
        reading: &mut Transaction,
        queries: &Embeddings,
        k: usize,
        ef: usize,
    ) -> Result<Option<Vec<Vec<Scored>>>> {
        self.prefer(reading, Some(ef))?;
        let statement = reading.prepare(&self.near_sql()).map_err(self.wrong())?;
        let mut all = Vec::with_capacity(queries.len());
        for query in queries.rows() {
            let limit = ef as i64;
            let best = self.best(reading, &statement, query, k, &[&limit])?;
            if best.len() < k {
                self.prefer(reading, None)?;
                return Ok(None);
            }
            all.push(best);
        }
        Ok(Some(all))
    }

    /// Rows by the index, of which the first parameter says how many.
    fn near_sql(&self) -> String {
        let dim = self.about.dim;
        let rows = format!(
            "SELECT seq, embedding::vector <#> $2::vector AS distance FROM items WHERE is_linked
            ORDER BY embedding::halfvec({dim}) <#> $2::vector::halfvec({dim}) LIMIT $1::bigint"
        );
        within_reach(&rows, 2)
    }

    /// Has the server walk and keep so many rows until the transaction ends, or compare all.
    fn prefer(&self, reading: &mut Transaction, ef: Option<usize>) -> Result<()> {
        let settings = match ef {
            // What is removed and not yet cleared away counts among what a walk keeps; it goes on.
            Some(ef) => format!(
                "SET LOCAL hnsw.ef_search = {ef}; SET LOCAL hnsw.iterative_scan = strict_order;
                SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"
            ),
            None => "SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on".into(),
        };
        reading.batch_execute(&settings).map_err(self.wrong())
    }

    pub(super) fn make_graph(
        &mut self,
        how: &Tuning,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Tuned>> {
        how.check()?;
        self.check_server()?;
        let key = "hashtextextended('medsiglip ' || 'items'::regclass::oid, 0)";
        let lock = |name: &str| -> Result<bool> {
            let sql = format!("SELECT {name}({key})");
            let row = self.client.borrow_mut().query_one(&sql, &[]);
            row.and_then(|row| row.try_get(0)).map_err(self.wrong())
        };
        if !lock("pg_try_advisory_lock")? {
            return bad("another process is tuning the store".into());
        }
        let tuned = self.make_alone(how, go_on);
        // It ends with the connection at the latest.
        let _ = lock("pg_advisory_unlock");
        tuned
    }

    /// Whether the server can have the index, and lets this user make it.
    fn check_server(&self) -> Result<()> {
        let mut client = self.client.borrow_mut();
        let sql = "SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector'";
        let row = client.query_one(sql, &[]);
        let is_new: bool = row.and_then(|row| row.try_get(0)).map_err(self.wrong())?;
        if !is_new || self.about.dim > MAX_DIM {
            return Err(Error::Unsupported(self.place.wrong(&format!(
                "approximate search needs pgvector 0.8 or newer, and embeddings of up to {MAX_DIM} numbers; search is exact"
            ))));
        }
        self.check_owner(&mut client)
    }

    fn make_alone(
        &self,
        how: &Tuning,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Tuned>> {
        let items = self.seqs()?;
        let queries = how.held_out(items.len());
        let newest = items.last().copied().unwrap_or_default();
        let count = items.len();
        if let Some(tuned) = self.chosen_anew(how, queries, count, newest)? {
            return Ok(Some(tuned));
        }
        let order = how.shuffled(items)?;
        let (linked, held_out) = order.split_at(count - queries);
        self.leave_out(held_out)?;
        let tuned = match self.build(&mut |done| go_on(done, count))? {
            true => self.measure(how, held_out, &mut || go_on(linked.len(), count))?,
            false => None,
        };
        let measured = tuned.map(|mut tuned| {
            tuned.choose(how);
            Measured {
                tuned,
                items: count,
                newest,
            }
        });
        self.finish(measured.as_ref())?;
        Ok(measured.map(|own| own.tuned))
    }

    fn seqs(&self) -> Result<Vec<i64>> {
        let mut client = self.client.borrow_mut();
        let rows = client.query("SELECT seq FROM items ORDER BY seq", &[]);
        let seq = |row: &postgres::Row| row.try_get(0).map_err(self.wrong());
        rows.map_err(self.wrong())?.iter().map(seq).collect()
    }

    /// What was measured of the same items, chosen from anew.
    fn chosen_anew(
        &self,
        how: &Tuning,
        queries: usize,
        items: usize,
        newest: i64,
    ) -> Result<Option<Tuned>> {
        let mut client = self.client.borrow_mut();
        let Some((mut own, true)) = self.measured(&mut *client)? else {
            return Ok(None);
        };
        if (own.items, own.newest) != (items, newest) || !how.is_told_by(&own.tuned, queries) {
            return Ok(None);
        }
        own.tuned.choose(how);
        let text = serde_json::to_string(&own).expect("plain fields");
        let mut writing = self.writing(&mut client)?;
        writing
            .execute("UPDATE store SET tuned = $1", &[&text])
            .and_then(|_| writing.commit())
            .map_err(self.wrong())?;
        Ok(Some(own.tuned))
    }

    /// From here on search is exact, and the index that is made next does not have these.
    fn leave_out(&self, held_out: &[i64]) -> Result<()> {
        let mut client = self.client.borrow_mut();
        let mut writing = self.writing(&mut client)?;
        let relink = "UPDATE items SET is_linked = NOT is_linked WHERE is_linked = (seq = ANY($1))";
        writing
            .batch_execute("UPDATE store SET tuned = NULL; DROP INDEX IF EXISTS items_near")
            .and_then(|()| writing.execute(relink, &[&held_out]))
            .and_then(|_| writing.commit())
            .map_err(self.wrong())
    }

    /// Makes the index; whether it was not stopped.
    fn build(&self, go_on: &mut dyn FnMut(usize) -> bool) -> Result<bool> {
        let mut client = self.client.borrow_mut();
        let mut watcher = self.address.connect()?;
        let own = client.query_one("SELECT pg_backend_pid()", &[]);
        let own: i32 = own.and_then(|row| row.try_get(0)).map_err(self.wrong())?;
        let sql = format!(
            "CREATE INDEX items_near ON items USING hnsw ((embedding::halfvec({})) halfvec_ip_ops)
            WITH (m = 16, ef_construction = 128) WHERE is_linked",
            self.about.dim
        );
        let mut is_stopped = false;
        let built = thread::scope(|scope| {
            let client: &mut Client = &mut client;
            let building = scope.spawn(move || client.batch_execute(&sql));
            while !building.is_finished() {
                thread::sleep(PAUSE);
                is_stopped = is_stopped || !go_on(linked_by(&mut watcher, own));
                if is_stopped {
                    let _ = watcher.execute("SELECT pg_cancel_backend($1)", &[&own]);
                }
            }
            building.join().expect("a statement is sent")
        });
        match built {
            _ if is_stopped => Ok(false),
            built => built.map(|()| true).map_err(self.wrong()),
        }
    }

    /// Measures the index with items that it does not have; `None` where it was stopped.
    fn measure(
        &self,
        how: &Tuning,
        held_out: &[i64],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Tuned>> {
        let mut client = self.client.borrow_mut();
        let mut reading = self.reading(&mut client)?;
        let dim = self.about.dim;
        let queries = self.rows_of(&mut reading, held_out)?;
        if queries.is_empty() {
            return bad("the store was changed meanwhile; do it again".into());
        }
        let exact = self.exact_of_linked(&mut reading, &queries, how.k)?;
        let one = |query: &[f32]| Embeddings::new(dim, query.to_vec());
        let mut search = |query: &[f32]| {
            let found = self.exact(&mut reading, &one(query)?, how.k, None);
            found.map(drop)
        };
        let measuring = Measuring::new(dim, how.k, queries, &exact, &mut search)?;
        let statement = reading.prepare(&self.near_sql()).map_err(self.wrong())?;
        let mut current = None;
        let mut walk = |query: &[f32], ef: usize| {
            if current != Some(ef) {
                self.prefer(&mut reading, Some(ef))?;
                current = Some(ef);
            }
            self.best(&mut reading, &statement, query, how.k, &[&(ef as i64)])
        };
        measuring.run(how, MOST, &mut walk, go_on)
    }

    /// The vectors of some items, one after the other.
    fn rows_of(&self, reading: &mut Transaction, seqs: &[i64]) -> Result<Vec<f32>> {
        let sql = "SELECT embedding FROM unnest($1::bigint[]) WITH ORDINALITY AS own (seq, place) JOIN items USING (seq) ORDER BY place";
        let mut all = Vec::new();
        for row in reading.query(sql, &[&seqs]).map_err(self.wrong())? {
            let numbers = self.numbers(&row.try_get(0).map_err(self.wrong())?)?;
            all.extend(numbers.into_iter().map(|x| x as f32));
        }
        Ok(all)
    }

    /// The best for each of `queries` (Q, D) of what the index has: all vectors are read once, and compared here.
    fn exact_of_linked(
        &self,
        reading: &mut Transaction,
        queries: &[f32],
        k: usize,
    ) -> Result<Vec<Vec<Scored>>> {
        let (dim, wrong) = (self.about.dim, self.wrong());
        let mut all = vec![Vec::new(); queries.len() / dim];
        let mut take = |seqs: &[usize], data: &[f32]| {
            let found = scan::top_k(Vectors::F32(data), dim, queries, k, None);
            for (best, found) in all.iter_mut().zip(found) {
                let row = |own: Scored| Scored {
                    row: seqs[own.row],
                    ..own
                };
                best.extend(found.into_iter().map(row));
                best.sort_by(Scored::order);
                best.truncate(k);
            }
        };
        let sql = "SELECT seq, embedding FROM items WHERE is_linked ORDER BY seq";
        let none: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = reading.query_raw(sql, none).map_err(wrong)?;
        let (mut seqs, mut data) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next().map_err(wrong)? {
            let seq: i64 = row.try_get(0).map_err(wrong)?;
            seqs.push(usize::try_from(seq).map_err(|_| self.place.damaged())?);
            let embedding: Binary = row.try_get(1).map_err(wrong)?;
            data.extend(self.numbers(&embedding)?.into_iter().map(|x| x as f32));
            if seqs.len() == ROWS {
                take(&seqs, &data);
                seqs.clear();
                data.clear();
            }
        }
        take(&seqs, &data);
        Ok(all)
    }

    /// All items are in the index again, which is used from here on where anything was measured that is to be used.
    fn finish(&self, measured: Option<&Measured>) -> Result<()> {
        let mut client = self.client.borrow_mut();
        let mut writing = self.writing(&mut client)?;
        let text = measured.map(|own| serde_json::to_string(own).expect("plain fields"));
        // An index that nobody uses only makes writing slower.
        let unused = match measured.is_some_and(|own| own.tuned.ef.is_some()) {
            true => "",
            false => "DROP INDEX IF EXISTS items_near;",
        };
        let relink = format!("{unused} UPDATE items SET is_linked = true WHERE NOT is_linked");
        writing
            .batch_execute(&relink)
            .and_then(|()| writing.execute("UPDATE store SET tuned = $1", &[&text]))
            .and_then(|_| writing.commit())
            .map_err(self.wrong())
    }
}

/// How many items the index has that this process of the server makes.
fn linked_by(watcher: &mut Client, process: i32) -> usize {
    let sql = "SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = $1";
    let row = watcher.query_opt(sql, &[&process]).ok().flatten();
    let done: Option<i64> = row.and_then(|row| row.try_get(0).ok());
    done.and_then(|done| usize::try_from(done).ok())
        .unwrap_or(0)
}
