//! [`PostgresStore`]: a schema of a PostgreSQL database with pgvector.
//!
//! A `put` is one transaction of one `COPY`, and writers wait for each other at the row of the table `store`: items are stored in
//! the order of their numbers, and nothing is there in half. The server scans in single precision; what could be among the best
//! within its error comes here and is computed again in double precision, as [`LocalStore`](super::LocalStore) does, so that both
//! give the same.

mod near;
mod pgpass;
mod server;
mod vector;

use std::cell::RefCell;
use std::collections::HashMap;

use postgres::binary_copy::BinaryCopyInWriter;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, GenericClient, IsolationLevel, Statement, Transaction};
use serde_json::{Map, Value};

use self::server::{Address, Place};
use self::vector::Binary;
use super::filter::Dialect;
use super::scan::{self, Best, Scored};
use super::{
    About, Approximation, Digest, Filter, Hit, Item, Precision, Store, Stored, Tuned, Tuning,
    text_of,
};
use crate::embedding::Embeddings;
use crate::{Error, Result};

/// What leads from each format to the next, from none on.
const MIGRATIONS: [&str; 2] = [
    include_str!("0001_items.sql"),
    include_str!("0002_near.sql"),
];
const FORMAT: i32 = MIGRATIONS.len() as i32;
/// Bytes of an id, which has to fit into a page of an index.
const MAX_ID: usize = 2000;
/// Numbers of a vector of pgvector.
const MAX_DIM: usize = 16_000;
/// Items whose metadata go to the server at a time, of a gigabyte that it takes.
const CHUNK: usize = 256;
/// Parameters of a statement, less those that are not the filter's.
const MAX_VALUES: usize = 65_000;

/// A store in PostgreSQL.
///
/// Its address is `postgresql://USER@HOST:PORT/DATABASE`, with the options of PostgreSQL's own and `schema=NAME`, which is `medsiglip`
/// where it says none. Other machines are reached through TLS unless it says `sslmode=disable`; the password may be in the
/// environment's `PGPASSWORD` or in `~/.pgpass`.
pub struct PostgresStore {
    client: RefCell<Client>,
    address: Address,
    place: Place,
    about: About,
    is_exact: bool,
}

impl PostgresStore {
    /// Whether there is a store.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the address is none, or the server refuses it; `IO_ERROR` where the server is not reached.
    pub fn is_at(url: &str) -> Result<bool> {
        let address = Address::parse(url)?;
        let mut client = address.connect()?;
        let row = client.query_one(
            "SELECT to_regclass(quote_ident($1) || '.store') IS NOT NULL",
            &[&address.schema],
        );
        let row = row.and_then(|row| row.try_get(0));
        row.map_err(|e| address.place.failed(e))
    }

    /// Makes an empty store.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the schema holds something, or the width is 0; `UNSUPPORTED` where the server has no pgvector, or
    /// embeddings are wider than it takes, or to be stored in whole numbers; as of [`is_at`](Self::is_at).
    pub fn create(url: &str, about: &About) -> Result<Self> {
        about.check()?;
        if about.precision == Precision::I8 || about.dim > MAX_DIM {
            return Err(Error::Unsupported(format!(
                "store: PostgreSQL takes embeddings of up to {MAX_DIM} numbers, in f32 or f16"
            )));
        }
        let address = Address::parse(url)?;
        let mut client = address.connect()?;
        let wrong = |e| address.place.failed(e);
        let mut making = client.transaction().map_err(wrong)?;
        lock(&mut making, &address.place)?;
        prepare(&mut making, &address, about.precision)?;
        migrate(&mut making, 0, about).map_err(wrong)?;
        let text = serde_json::to_string(about).expect("plain fields");
        making
            .execute("INSERT INTO store VALUES ($1, $2)", &[&FORMAT, &text])
            .map_err(wrong)?;
        making.commit().map_err(wrong)?;
        Self::open(url)
    }

    /// Opens a store, and brings one of an older format to this one.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is none, or damaged; `UNSUPPORTED` for a newer format; as of [`is_at`](Self::is_at).
    pub fn open(url: &str) -> Result<Self> {
        let address = Address::parse(url)?;
        let mut client = address.connect()?;
        address.enter(&mut client)?;
        let place = address.place.clone();
        let (format, about) = state(&mut client, &place, "")?;
        if format < MIGRATIONS.len() {
            upgrade(&mut client, &address)?;
        }
        let client = RefCell::new(client);
        Ok(Self {
            client,
            address,
            place,
            about,
            is_exact: false,
        })
    }

    /// A transaction that alone writes.
    fn writing<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>> {
        let mut writing = client.transaction().map_err(self.wrong())?;
        let (_, about) = state(&mut writing, &self.place, "FOR UPDATE")?;
        match about == self.about {
            true => Ok(writing),
            false => Err(Error::BadArgument(
                self.place.wrong("another one was made in its place"),
            )),
        }
    }

    /// A transaction that does not see what is written meanwhile.
    fn reading<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>> {
        let reading = client.build_transaction().read_only(true);
        let reading = reading.isolation_level(IsolationLevel::RepeatableRead);
        reading.start().map_err(self.wrong())
    }

    fn wrong(&self) -> impl Fn(postgres::Error) -> Error + Copy + '_ {
        |e| self.place.failed(e)
    }

    fn numbers(&self, embedding: &Binary) -> Result<Vec<f64>> {
        let numbers = embedding.numbers(self.about.dim, self.about.precision);
        numbers.ok_or_else(|| self.place.damaged())
    }

    fn map(&self, metadata: &str) -> Result<Map<String, Value>> {
        serde_json::from_str(metadata).map_err(|_| self.place.damaged())
    }

    /// The best rows of all that the filter holds for.
    fn exact(
        &self,
        reading: &mut Transaction,
        queries: &Embeddings,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Scored>>> {
        let mut values = Vec::new();
        let condition = filter.map_or("TRUE".into(), |filter| {
            filter.sql(Dialect::Postgres, &mut values)
        });
        let texts = texts(values)?;
        let values: Vec<_> = texts.iter().map(|x| x as &(dyn ToSql + Sync)).collect();
        let query = values.len() + 1;
        let rows = format!(
            "SELECT seq, embedding::vector <#> ${query}::vector AS distance FROM items WHERE {condition}"
        );
        let statement = reading.prepare(&within_reach(&rows, query));
        let statement = statement.map_err(self.wrong())?;
        let all = queries
            .rows()
            .map(|query| self.best(reading, &statement, query, k, &values));
        all.collect()
    }

    /// The best of the rows that a statement of [`within_reach`] gives.
    fn best(
        &self,
        reading: &mut Transaction,
        statement: &Statement,
        query: &[f32],
        k: usize,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Scored>> {
        let wrong = self.wrong();
        let vector = Binary::vector(query, Precision::F32);
        let reach = 2.0 * f64::from(scan::error(self.about.dim));
        let depth = i64::try_from(k).unwrap_or(i64::MAX);
        let own: [&(dyn ToSql + Sync); 3] = [&vector, &reach, &depth];
        let values: Vec<_> = values.iter().copied().chain(own).collect();
        let mut rows = reading.query_raw(statement, values).map_err(wrong)?;
        let mut best = Best::of(k);
        while let Some(row) = rows.next().map_err(wrong)? {
            let seq: i64 = row.try_get(0).map_err(wrong)?;
            let seq = usize::try_from(seq).map_err(|_| self.place.damaged())?;
            let embedding = self.numbers(&row.try_get(1).map_err(wrong)?)?;
            best.take(seq, query, &embedding);
        }
        Ok(best.sorted())
    }

    /// Others than the owner of its tables would be told a warning, and nothing done.
    fn check_owner(&self, client: &mut Client) -> Result<()> {
        let sql =
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'items'::regclass";
        let row = client.query_one(sql, &[]);
        let is_owner: bool = row.and_then(|row| row.try_get(0)).map_err(self.wrong())?;
        let what = "the server lets the owner of its tables alone compact or tune it";
        match is_owner {
            true => Ok(()),
            false => Err(Error::BadArgument(self.place.wrong(what))),
        }
    }

    /// What is known of rows that were found.
    fn hits(&self, reading: &mut Transaction, found: &[Scored]) -> Result<Vec<Hit>> {
        let rows: Vec<i64> = found.iter().map(|scored| scored.row as i64).collect();
        let sql = "SELECT seq, id, metadata::text FROM items WHERE seq = ANY($1)";
        let mut known = HashMap::new();
        for row in reading.query(sql, &[&rows]).map_err(self.wrong())? {
            let metadata: String = row.try_get(2).map_err(self.wrong())?;
            let id: String = row.try_get(1).map_err(self.wrong())?;
            let seq: i64 = row.try_get(0).map_err(self.wrong())?;
            known.insert(seq, (id, self.map(&metadata)?));
        }
        let hit = |scored: &Scored| -> Result<_> {
            let known = known.remove(&(scored.row as i64));
            let (id, metadata) = known.ok_or_else(|| self.place.damaged())?;
            Ok(Hit {
                id,
                cosine: scored.score,
                metadata,
            })
        };
        found.iter().map(hit).collect()
    }
}

/// Format and content of the store.
fn state(client: &mut impl GenericClient, place: &Place, lock: &str) -> Result<(usize, About)> {
    let rows = client.query(
        format!("SELECT format, about FROM store {lock}").as_str(),
        &[],
    );
    let rows = rows.map_err(|e| place.failed(e))?;
    let [row] = &rows[..] else {
        return Err(place.damaged());
    };
    let format: i32 = row.try_get(0).map_err(|_| place.damaged())?;
    let format = usize::try_from(format).map_err(|_| place.damaged())?;
    if format > MIGRATIONS.len() {
        return Err(Error::Unsupported(place.wrong(&format!(
            "expected format {}, got {format}; a newer version may read it",
            MIGRATIONS.len()
        ))));
    }
    let text: String = row.try_get(1).map_err(|_| place.damaged())?;
    let about: About = serde_json::from_str(&text).map_err(|_| place.damaged())?;
    about.check().map_err(|_| place.damaged())?;
    Ok((format, about))
}

/// Brings a store of an older format to this one.
fn upgrade(client: &mut Client, address: &Address) -> Result<()> {
    let wrong = |e| address.place.failed(e);
    let mut moving = client.transaction().map_err(wrong)?;
    lock(&mut moving, &address.place)?;
    let (format, about) = state(&mut moving, &address.place, "FOR UPDATE")?;
    migrate(&mut moving, format, &about).map_err(wrong)?;
    moving
        .execute("UPDATE store SET format = $1", &[&FORMAT])
        .map_err(wrong)?;
    moving.commit().map_err(wrong)
}

/// Who makes or changes tables in a database is alone until the transaction ends.
fn lock(client: &mut impl GenericClient, place: &Place) -> Result<()> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('medsiglip', 0))";
    let locked = client.execute(sql, &[]);
    locked.map(drop).map_err(|e| place.failed(e))
}

/// pgvector, and an empty schema that is entered.
fn prepare(making: &mut Transaction, address: &Address, precision: Precision) -> Result<()> {
    let (place, schema) = (&address.place, &address.schema);
    let wrong = |e| place.failed(e);
    making
        .batch_execute("CREATE EXTENSION IF NOT EXISTS vector")
        .map_err(|e| match e.code() {
            Some(code) => Error::Unsupported(place.wrong(&format!(
                "the database has no pgvector; its administrator installs it, then: CREATE EXTENSION vector (SQLSTATE {})",
                code.code()
            ))),
            None => wrong(e),
        })?;
    // Who may not make schemas uses one that is there.
    let is_there: bool = making
        .query_one(
            "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL",
            &[schema],
        )
        .and_then(|row| row.try_get(0))
        .map_err(wrong)?;
    if !is_there {
        making
            .batch_execute(&format!("CREATE SCHEMA \"{schema}\""))
            .map_err(wrong)?;
    }
    let relations: i64 = making
        .query_one(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1))",
            &[schema],
        )
        .and_then(|row| row.try_get(0))
        .map_err(wrong)?;
    if relations > 0 {
        return Err(Error::BadArgument(place.wrong(
            "the schema holds something else; the URL's option schema=NAME names another",
        )));
    }
    address.enter(making)?;
    let has_half: bool = making
        .query_one("SELECT to_regtype('halfvec') IS NOT NULL", &[])
        .and_then(|row| row.try_get(0))
        .map_err(wrong)?;
    match precision == Precision::F16 && !has_half {
        true => Err(Error::Unsupported(
            place.wrong("f16 needs pgvector 0.7 or newer"),
        )),
        false => Ok(()),
    }
}

/// From format `from` on to this one.
fn migrate(
    client: &mut impl GenericClient,
    from: usize,
    about: &About,
) -> Result<(), postgres::Error> {
    let name = match about.precision {
        Precision::F16 => "halfvec",
        _ => "vector",
    };
    let embedding = format!("{name}({})", about.dim);
    let mut steps = MIGRATIONS.iter().skip(from);
    steps.try_for_each(|sql| client.batch_execute(&sql.replace("{embedding}", &embedding)))
}

impl Store for PostgresStore {
    fn about(&self) -> &About {
        &self.about
    }

    fn len(&self) -> Result<usize> {
        let mut client = self.client.borrow_mut();
        let row = client.query_one("SELECT count(*) FROM items", &[]);
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(self.wrong())?;
        usize::try_from(count).map_err(|_| self.place.damaged())
    }

    fn put(&mut self, items: &[Item]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let rows = self.about.rows(items)?;
        let wrong = self.wrong();
        let metadata = items.iter().map(|item| text_of(&item.metadata));
        let metadata: Vec<String> = metadata.collect::<Result<_>>()?;
        if let Some(long) = items.iter().find(|item| item.id.len() > MAX_ID) {
            return Err(Error::Limit {
                what: "the length of an id in bytes",
                got: long.id.len() as u64,
                limit: MAX_ID as u64,
            });
        }
        let mut client = self.client.borrow_mut();
        let mut writing = self.writing(&mut client)?;
        let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        writing
            .execute("DELETE FROM items WHERE id = ANY($1)", &[&ids])
            .map_err(wrong)?;
        let table = writing
            .prepare("SELECT embedding FROM items")
            .map_err(wrong)?;
        let vector = table
            .columns()
            .first()
            .ok_or_else(|| self.place.damaged())?;
        let types = [Type::TEXT, Type::BYTEA, vector.type_().clone(), Type::JSONB];
        let copy = "COPY items (id, content, embedding, metadata) FROM STDIN (FORMAT binary)";
        let mut writer = BinaryCopyInWriter::new(writing.copy_in(copy).map_err(wrong)?, &types);
        for ((item, row), metadata) in items.iter().zip(&rows).zip(&metadata) {
            let content = item.content.as_ref().map(|digest| &digest[..]);
            let embedding = Binary::vector(row, self.about.precision);
            let metadata = Binary::jsonb(metadata);
            writer
                .write(&[&item.id, &content, &embedding, &metadata])
                .map_err(wrong)?;
        }
        writer.finish().map_err(wrong)?;
        writing.commit().map_err(wrong)
    }

    fn contents(&self) -> Result<Vec<(String, Option<Digest>)>> {
        let mut client = self.client.borrow_mut();
        let rows = client.query("SELECT id, content FROM items", &[]);
        let known = |row: &postgres::Row| -> Result<_> {
            let id = row.try_get(0).map_err(self.wrong())?;
            let content: Option<&[u8]> = row.try_get(1).map_err(self.wrong())?;
            let content = content.map(Digest::try_from).transpose();
            Ok((id, content.map_err(|_| self.place.damaged())?))
        };
        rows.map_err(self.wrong())?.iter().map(known).collect()
    }

    fn remove(&mut self, ids: &[String]) -> Result<usize> {
        let ids: Vec<&String> = ids.iter().filter(|id| !id.contains('\0')).collect();
        let mut client = self.client.borrow_mut();
        let mut writing = self.writing(&mut client)?;
        let count = writing
            .execute("DELETE FROM items WHERE id = ANY($1)", &[&ids])
            .map_err(self.wrong())?;
        writing.commit().map_err(self.wrong())?;
        Ok(count as usize)
    }

    fn describe(&mut self, metadata: &[(String, Map<String, Value>)]) -> Result<()> {
        let is_possible = |(id, _): &&(String, _)| !id.contains('\0');
        // Of an id that is there twice, the last counts.
        let new: HashMap<&String, &Map<String, Value>> = metadata
            .iter()
            .filter(is_possible)
            .map(|(id, map)| (id, map))
            .collect();
        let new: Vec<_> = new.into_iter().collect();
        let mut client = self.client.borrow_mut();
        let mut writing = self.writing(&mut client)?;
        let sql = "UPDATE items SET metadata = new.metadata::jsonb
            FROM unnest($1::text[], $2::text[]) AS new (id, metadata) WHERE items.id = new.id";
        for new in new.chunks(CHUNK) {
            let ids: Vec<&String> = new.iter().map(|(id, _)| *id).collect();
            let texts = new.iter().map(|(_, map)| text_of(map));
            let texts = texts.collect::<Result<Vec<_>>>()?;
            writing
                .execute(sql, &[&ids, &texts])
                .map_err(self.wrong())?;
        }
        writing.commit().map_err(self.wrong())
    }

    fn get(&self, id: &str) -> Result<Option<Stored>> {
        if id.contains('\0') {
            return Ok(None);
        }
        let mut client = self.client.borrow_mut();
        let sql = "SELECT id, embedding, metadata::text FROM items WHERE id = $1";
        let row = client.query_opt(sql, &[&id]).map_err(self.wrong())?;
        let stored = |row: postgres::Row| -> Result<_> {
            let embedding = self.numbers(&row.try_get(1).map_err(self.wrong())?)?;
            Ok(Stored {
                id: row.try_get(0).map_err(self.wrong())?,
                embedding: embedding.into_iter().map(|x| x as f32).collect(),
                metadata: self.map(row.try_get(2).map_err(self.wrong())?)?,
            })
        };
        row.map(stored).transpose()
    }

    fn search(
        &self,
        queries: &Embeddings,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.about.check_queries(queries)?;
        let mut client = self.client.borrow_mut();
        let mut reading = self.reading(&mut client)?;
        let queries = queries.clone().normalized();
        let ef = match self.is_exact || filter.is_some() {
            true => None,
            false => self.ef_for(&mut reading, k)?,
        };
        let found = match ef {
            Some(ef) => self.near(&mut reading, &queries, k, ef)?,
            None => None,
        };
        let found = match found {
            Some(found) => found,
            None => self.exact(&mut reading, &queries, k, filter)?,
        };
        let hits = found.iter().map(|found| self.hits(&mut reading, found));
        let hits = hits.collect::<Result<_>>()?;
        reading.commit().map_err(self.wrong())?;
        Ok(hits)
    }

    fn search_exactly(&mut self, is_exact: bool) {
        self.is_exact = is_exact;
    }

    fn approximation(&self) -> Result<Approximation> {
        self.state_of_graph()
    }

    fn tune(
        &mut self,
        how: &Tuning,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Tuned>> {
        self.make_graph(how, go_on)
    }

    fn verify(&self) -> Result<usize> {
        let wrong = self.wrong();
        let mut client = self.client.borrow_mut();
        let sql = "SELECT embedding, metadata::text FROM items";
        let mut rows = client.query_raw(sql, [0i32; 0]).map_err(wrong)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(wrong)? {
            let numbers = self.numbers(&row.try_get(0).map_err(wrong)?)?;
            let square: f64 = numbers.iter().map(|x| x * x).sum();
            self.map(row.try_get(1).map_err(wrong)?)?;
            if (square - 1.0).abs() > 0.01 {
                return Err(self.place.damaged());
            }
            count += 1;
        }
        Ok(count)
    }

    fn compact(&mut self) -> Result<()> {
        let mut client = self.client.borrow_mut();
        self.check_owner(&mut client)?;
        let vacuumed = client.batch_execute("VACUUM (FULL, ANALYZE) items");
        vacuumed.map_err(self.wrong())
    }
}

/// The values of a filter as parameters.
fn texts(values: Vec<Value>) -> Result<Vec<String>> {
    if values.len() > MAX_VALUES {
        return Err(Error::Limit {
            what: "the number of fields and values of a filter",
            got: values.len() as u64,
            limit: MAX_VALUES as u64,
        });
    }
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(values.into_iter().map(text).collect())
}

/// The vectors that may be among the best of `rows`, a statement that gives their numbers and distances from its last parameter,
/// the query. Two more parameters are how far scores may lie below that of the last of the best, and how many these are.
fn within_reach(rows: &str, query: usize) -> String {
    let [reach, k] = [query + 1, query + 2];
    format!(
        "WITH scored AS MATERIALIZED ({rows}), edge AS (
            SELECT max(distance) + ${reach}::float8 AS distance
            FROM (SELECT distance FROM scored ORDER BY distance LIMIT ${k}::bigint) AS best
        )
        SELECT items.seq, items.embedding FROM scored JOIN items USING (seq), edge
        WHERE scored.distance <= edge.distance"
    )
}
