//! [`LocalStore`]: a folder of a SQLite database, which says what there is, and a file of vectors, which is mapped into memory.
//!
//! Vectors are appended and brought to the disk before the transaction that names their places. A place is never used again
//! until the store is compacted into another file. So whatever was reported as stored is there after a crash, nothing is there in
//! half, and who reads meanwhile sees the state before.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use serde_json::{Map, Value};

use super::filter::Dialect;
use super::scan::{self, Vectors};
use super::sqlite::{self, Parameter, damaged, failed, prepare};
use super::tune::{Approximation, Opened, Tuned, Tuning};
use super::{About, Digest, Filter, Hit, Item, Precision, Store, Stored, map_file, text_of};
use crate::embedding::Embeddings;
use crate::{Error, Result};

const DATABASE: &str = "index.sqlite";
/// How the name of a database begins that is not whole yet.
const UNFINISHED: &str = ".new-";

/// A store in a folder.
pub struct LocalStore {
    pub(super) folder: PathBuf,
    database: Connection,
    about: About,
    mapped: RefCell<Option<(Place, Arc<Mmap>)>>,
    pub(super) graph: RefCell<Option<Arc<Opened>>>,
    is_exact: bool,
}

/// Where the vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub generation: i64,
    pub next: usize,
}

impl LocalStore {
    /// Whether there is a store in this folder.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(DATABASE).is_file()
    }

    /// Makes an empty store.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the folder holds something, or the width is 0; `IO_ERROR`.
    pub fn create(folder: &Path, about: &About) -> Result<Self> {
        about.check()?;
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
        // What a process left that was killed here is in nobody's way.
        let is_other = |name: &OsStr| !name.to_string_lossy().starts_with(UNFINISHED);
        if entries.flatten().any(|entry| is_other(&entry.file_name())) {
            return Err(Error::BadArgument(format!(
                "the store's folder holds something else: {}",
                folder.display()
            )));
        }
        let io = |e| Error::io("create", folder, e);
        let new = crate::folder::new_file(folder, UNFINISHED).map_err(io)?;
        let wrong = |e| failed(new.path(), e);
        sqlite::make(new.path(), about).map_err(wrong)?;
        // It has its name when it is whole; another process may have been faster.
        new.persist_noclobber(folder.join(DATABASE))
            .map_err(|e| io(e.error))?;
        Self::open(folder)
    }

    /// Opens a store.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is none, or damaged; `UNSUPPORTED` for a newer format; `IO_ERROR`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(DATABASE);
        fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?;
        let wrong = |e| failed(&path, e);
        let flags =
            rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&path, flags).map_err(wrong)?;
        prepare(&database).map_err(wrong)?;
        sqlite::check_format(&database, &path)?;
        let text: String = database
            .query_row("SELECT about FROM store", [], |row| row.get(0))
            .map_err(wrong)?;
        let about: About = serde_json::from_str(&text).map_err(|_| damaged(&path))?;
        about.check().map_err(|_| damaged(&path))?;
        let store = Self {
            folder: folder.to_owned(),
            database,
            about,
            mapped: RefCell::default(),
            graph: RefCell::default(),
            is_exact: false,
        };
        store.map(&store.place()?)?;
        Ok(store)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    fn wrong(&self) -> impl Fn(rusqlite::Error) -> Error + Copy + '_ {
        |e| failed(&self.path(), e)
    }

    /// A transaction of the only writer, for which others wait.
    fn writing(&self) -> Result<Transaction<'_>> {
        let begun = Transaction::new_unchecked(&self.database, TransactionBehavior::Immediate);
        begun.map_err(self.wrong())
    }

    fn vectors_at(&self, generation: i64) -> PathBuf {
        self.folder.join(format!("vectors-{generation}.bin"))
    }

    /// Removes files of vectors of other generations. Who has one open keeps it; where one cannot be deleted, it is only too much.
    fn remove_others(&self, generation: i64) {
        let own = self.vectors_at(generation);
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.starts_with("vectors-") && name.ends_with(".bin") && path != own {
                let _ = fs::remove_file(path);
            }
        }
    }

    pub(super) fn place(&self) -> Result<Place> {
        let row = self
            .database
            .query_row("SELECT generation, next FROM store", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            });
        let (generation, next) = row.map_err(self.wrong())?;
        let next = usize::try_from(next).map_err(|_| damaged(&self.path()))?;
        Ok(Place { generation, next })
    }

    fn stride(&self) -> usize {
        self.about.precision.stride(self.about.dim)
    }

    /// The file of vectors; `None` where there is no vector yet.
    pub(super) fn map(&self, place: &Place) -> Result<Option<Arc<Mmap>>> {
        if place.next == 0 {
            return Ok(None);
        }
        let mut mapped = self.mapped.borrow_mut();
        if let Some((_, map)) = mapped.as_ref().filter(|(own, _)| own == place) {
            return Ok(Some(map.clone()));
        }
        let path = self.vectors_at(place.generation);
        let io = |e| Error::io("read", &path, e);
        let file = File::open(&path).map_err(io)?;
        let needed = place.next.checked_mul(self.stride());
        let length = file.metadata().map_err(io)?.len();
        match needed {
            Some(needed) if needed as u64 <= length => {
                let map = Arc::new(map_file(&file, needed).map_err(io)?);
                *mapped = Some((*place, map.clone()));
                Ok(Some(map))
            }
            _ => Err(Error::BadConfig(format!(
                "the store is damaged: its vectors are cut off: {}",
                path.display()
            ))),
        }
    }

    pub(super) fn vectors<'a>(&self, bytes: &'a [u8]) -> Result<Vectors<'a>> {
        let unaligned = |_| damaged(&self.path());
        Ok(match self.about.precision {
            Precision::F32 => Vectors::F32(bytemuck::try_cast_slice(bytes).map_err(unaligned)?),
            Precision::F16 => Vectors::F16(bytemuck::try_cast_slice(bytes).map_err(unaligned)?),
            Precision::I8 => Vectors::I8(bytes),
        })
    }

    /// Which places are searched; `None` for all.
    fn kept(&self, place: &Place, filter: Option<&Filter>) -> Result<Option<Vec<bool>>> {
        let count = self.len()?;
        if filter.is_none() && count == place.next {
            return Ok(None);
        }
        let mut values = Vec::new();
        let condition = filter.map_or("1".into(), |filter| {
            filter.sql(Dialect::Sqlite, &mut values)
        });
        let sql = format!("SELECT slot FROM items WHERE {condition}");
        let mut query = self.database.prepare(&sql).map_err(self.wrong())?;
        let values = values.iter().map(Parameter);
        let slots = query
            .query_map(rusqlite::params_from_iter(values), |row| {
                row.get::<_, i64>(0)
            })
            .map_err(self.wrong())?;
        let mut kept = vec![false; place.next];
        for slot in slots {
            let slot = usize::try_from(slot.map_err(self.wrong())?).ok();
            let own = slot.and_then(|slot| kept.get_mut(slot));
            *own.ok_or_else(|| damaged(&self.path()))? = true;
        }
        Ok(Some(kept))
    }

    /// Where the vectors are, and the places of all items, at one moment.
    pub(super) fn items(&self) -> Result<(Place, Vec<usize>)> {
        let reading = self.database.unchecked_transaction();
        let reading = reading.map_err(self.wrong())?;
        let (place, slots) = (self.place()?, self.slots(0)?);
        reading.commit().map_err(self.wrong())?;
        match slots.last().is_none_or(|last| *last < place.next) {
            true => Ok((place, slots)),
            false => Err(damaged(&self.path())),
        }
    }

    /// The places of all items from one on.
    pub(super) fn slots(&self, first: usize) -> Result<Vec<usize>> {
        let sql = "SELECT slot FROM items WHERE slot >= ?1 ORDER BY slot";
        let mut query = self.database.prepare(sql).map_err(self.wrong())?;
        let rows = query.query_map([first as i64], |row| row.get::<_, i64>(0));
        let slot = |slot: rusqlite::Result<i64>| {
            let slot = usize::try_from(slot.map_err(self.wrong())?);
            slot.map_err(|_| damaged(&self.path()))
        };
        rows.map_err(self.wrong())?.map(slot).collect()
    }

    /// Whether there is an item at a place.
    pub(super) fn is_there(&self, slot: usize) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM items WHERE slot = ?1)";
        let mut query = self.database.prepare_cached(sql).map_err(self.wrong())?;
        let is_there = query.query_row([slot as i64], |row| row.get(0));
        is_there.map_err(self.wrong())
    }

    /// What is known of the vector at a place, whose bytes are compared with their checksum.
    fn hit(&self, slot: usize, map: &[u8]) -> Result<(String, Map<String, Value>)> {
        let sql = "SELECT id, crc, metadata FROM items WHERE slot = ?1";
        let mut query = self.database.prepare_cached(sql).map_err(self.wrong())?;
        let row = query.query_row([slot as i64], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
            ))
        });
        let (id, crc, metadata) = row.map_err(self.wrong())?;
        let stride = self.stride();
        self.check_crc(&map[slot * stride..(slot + 1) * stride], crc)?;
        let metadata = serde_json::from_str(&metadata).map_err(|_| damaged(&self.path()))?;
        Ok((id, metadata))
    }

    fn check_crc(&self, bytes: &[u8], crc: i64) -> Result<()> {
        match i64::from(crc32c::crc32c(bytes)) == crc {
            true => Ok(()),
            false => Err(Error::BadConfig(format!(
                "the store is damaged: a vector is not what was stored; make it again: {}",
                self.folder.display()
            ))),
        }
    }

    /// The place and checksum of every vector, and where they are, which is mapped.
    fn checksums(&self) -> Result<(Place, Vec<(i64, i64)>)> {
        let wrong = self.wrong();
        let reading = self.database.unchecked_transaction().map_err(wrong)?;
        let place = self.place()?;
        self.map(&place)?;
        let rows = {
            let sql = "SELECT slot, crc FROM items";
            let mut query = self.database.prepare(sql).map_err(wrong)?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
            let rows: rusqlite::Result<Vec<_>> = rows.map_err(wrong)?.collect();
            rows.map_err(wrong)?
        };
        reading.commit().map_err(wrong)?;
        Ok((place, rows))
    }
}

impl Store for LocalStore {
    fn about(&self) -> &About {
        &self.about
    }

    fn len(&self) -> Result<usize> {
        let count = self
            .database
            .query_row("SELECT count(*) FROM items", [], |row| row.get::<_, i64>(0));
        usize::try_from(count.map_err(self.wrong())?).map_err(|_| damaged(&self.path()))
    }

    fn put(&mut self, items: &[Item]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let rows = self.about.rows(items)?;
        let path = self.path();
        let wrong = |e| failed(&path, e);
        let (precision, stride) = (self.about.precision, self.stride());
        let writing = self.writing()?;
        let place = self.place()?;
        let mut bytes = Vec::with_capacity(items.len() * stride);
        rows.iter()
            .for_each(|row| precision.encode(row, &mut bytes));
        append(
            &self.vectors_at(place.generation),
            (place.next * stride) as u64,
            &bytes,
        )?;
        {
            let mut gone = writing
                .prepare_cached("DELETE FROM items WHERE id = ?1")
                .map_err(wrong)?;
            let mut new = writing
                .prepare_cached("INSERT INTO items VALUES (?1, ?2, ?3, ?4, ?5)")
                .map_err(wrong)?;
            for (i, (item, bytes)) in items.iter().zip(bytes.chunks_exact(stride)).enumerate() {
                let metadata = text_of(&item.metadata)?;
                gone.execute([&item.id]).map_err(wrong)?;
                let (slot, crc) = ((place.next + i) as i64, i64::from(crc32c::crc32c(bytes)));
                let content = item.content.as_ref().map(|digest| &digest[..]);
                new.execute((slot, &item.id, content, crc, metadata))
                    .map_err(wrong)?;
            }
            let next = (place.next + items.len()) as i64;
            writing
                .execute("UPDATE store SET next = ?1", [next])
                .map_err(wrong)?;
        }
        writing.commit().map_err(wrong)
    }

    fn describe(&mut self, metadata: &[(String, Map<String, Value>)]) -> Result<()> {
        let path = self.path();
        let wrong = |e| failed(&path, e);
        let writing = self.writing()?;
        {
            let sql = "UPDATE items SET metadata = ?1 WHERE id = ?2";
            let mut changed = writing.prepare_cached(sql).map_err(wrong)?;
            for (id, metadata) in metadata {
                changed.execute((text_of(metadata)?, id)).map_err(wrong)?;
            }
        }
        writing.commit().map_err(wrong)
    }

    fn contents(&self) -> Result<Vec<(String, Option<Digest>)>> {
        let wrong = self.wrong();
        let mut query = self
            .database
            .prepare("SELECT id, content FROM items")
            .map_err(wrong)?;
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(wrong)?;
        rows.collect::<rusqlite::Result<_>>().map_err(wrong)
    }

    fn remove(&mut self, ids: &[String]) -> Result<usize> {
        let path = self.path();
        let wrong = |e| failed(&path, e);
        let writing = self.writing()?;
        let mut count = 0;
        {
            let mut gone = writing
                .prepare_cached("DELETE FROM items WHERE id = ?1")
                .map_err(wrong)?;
            for id in ids {
                count += gone.execute([id]).map_err(wrong)?;
            }
        }
        writing.commit().map_err(wrong)?;
        Ok(count)
    }

    fn get(&self, id: &str) -> Result<Option<Stored>> {
        let wrong = self.wrong();
        let reading = self.database.unchecked_transaction().map_err(wrong)?;
        let slot = self
            .database
            .query_row("SELECT slot FROM items WHERE id = ?1", [id], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map_err(wrong)?;
        let Some(slot) = slot else {
            return Ok(None);
        };
        let place = self.place()?;
        let slot = usize::try_from(slot).ok().filter(|slot| *slot < place.next);
        let (Some(slot), Some(map)) = (slot, self.map(&place)?) else {
            return Err(damaged(&self.path()));
        };
        let (id, metadata) = self.hit(slot, &map)?;
        let embedding = self.vectors(&map)?.row(slot, self.about.dim);
        reading.commit().map_err(wrong)?;
        Ok(Some(Stored {
            id,
            embedding: embedding.into_iter().map(|x| x as f32).collect(),
            metadata,
        }))
    }

    fn search(
        &self,
        queries: &Embeddings,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.about.check_queries(queries)?;
        let wrong = self.wrong();
        // What is written meanwhile is not seen.
        let reading = self.database.unchecked_transaction().map_err(wrong)?;
        let place = self.place()?;
        let Some(map) = self.map(&place)? else {
            return Ok(vec![Vec::new(); queries.len()]);
        };
        let queries = queries.clone().normalized();
        let vectors = self.vectors(&map)?;
        let found = match self.is_exact || filter.is_some() {
            true => None,
            false => self.approximate(&place, vectors, &queries, k)?,
        };
        let found = match found {
            Some(found) => found,
            None => {
                let kept = self.kept(&place, filter)?;
                scan::top_k(vectors, self.about.dim, queries.data(), k, kept.as_deref())
            }
        };
        let hit = |scored: &scan::Scored| {
            let (id, metadata) = self.hit(scored.row, &map)?;
            Ok(Hit {
                id,
                cosine: scored.score,
                metadata,
            })
        };
        let hits = found.iter().map(|found| found.iter().map(hit).collect());
        let hits = hits.collect::<Result<_>>()?;
        reading.commit().map_err(wrong)?;
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

    fn compact(&mut self) -> Result<()> {
        let path = self.path();
        let wrong = |e| failed(&path, e);
        let writing = self.writing()?;
        let (place, stride) = (self.place()?, self.stride());
        let new = self.vectors_at(place.generation + 1);
        let map = self.map(&place)?;
        let slots: Vec<i64> = {
            let mut query = writing
                .prepare("SELECT slot FROM items ORDER BY slot")
                .map_err(wrong)?;
            let rows = query.query_map([], |row| row.get(0)).map_err(wrong)?;
            rows.collect::<rusqlite::Result<_>>().map_err(wrong)?
        };
        let io = |e| Error::io("write", &new, e);
        let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(&new).map_err(io)?);
        {
            // In rising order, so that the new place is not beyond the old one, and is free.
            let sql = "UPDATE items SET slot = ?1 WHERE slot = ?2";
            let mut moved = writing.prepare(sql).map_err(wrong)?;
            for (to, from) in slots.iter().enumerate() {
                let first = usize::try_from(*from)
                    .ok()
                    .and_then(|from| from.checked_mul(stride));
                let bytes = first.and_then(|first| map.as_ref()?.get(first..first + stride));
                file.write_all(bytes.ok_or_else(|| damaged(&path))?)
                    .map_err(io)?;
                moved.execute([to as i64, *from]).map_err(wrong)?;
            }
        }
        let file = file.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(io)?;
        let state = [place.generation + 1, slots.len() as i64];
        writing
            .execute("UPDATE store SET generation = ?1, next = ?2", state)
            .map_err(wrong)?;
        writing.commit().map_err(wrong)?;
        drop(map);
        *self.mapped.borrow_mut() = None;
        self.forget_graph();
        self.remove_others(place.generation + 1);
        // The room that it gives back is little; another process may be reading.
        let _ = self.database.execute_batch("VACUUM");
        Ok(())
    }

    /// Every vector and the graph, and SQLite checks its own structure.
    fn verify(&self) -> Result<usize> {
        let wrong = self.wrong();
        let sound: String = self
            .database
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(wrong)?;
        if sound != "ok" {
            return Err(damaged(&self.path()));
        }
        let (place, rows) = self.checksums()?;
        // No writer waits for the vectors: what they were stays mapped.
        let map = self.map(&place)?;
        for (slot, crc) in &rows {
            let bytes = usize::try_from(*slot).ok().and_then(|slot| {
                let first = slot.checked_mul(self.stride())?;
                map.as_ref()?.get(first..first.checked_add(self.stride())?)
            });
            self.check_crc(bytes.ok_or_else(|| damaged(&self.path()))?, *crc)?;
        }
        self.verify_graph(&place)?;
        Ok(rows.len())
    }
}

/// Writes `bytes` from `start` on, where nothing that counts is, and brings them to the disk.
fn append(path: &Path, start: u64, bytes: &[u8]) -> Result<()> {
    let io = |e| Error::io("write", path, e);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io)?;
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_data().map_err(io)
}
