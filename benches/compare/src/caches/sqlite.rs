//! A cache as programs make it of SQLite: a table with an expiry column and an index on it. Beyond
//! the bound, an insertion deletes the ten entries that expire first; all live equally long, so these
//! are the oldest.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};

use super::bounded::{Bounded, LIFE, Promises};
use crate::clock::Clock;
use crate::keys::{Batch, Keys, consume};
use crate::store::{Error, Result};

/// Entries are deleted by their row id, which is faster than by their key.
const TABLE: &str = "
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, value BLOB NOT NULL, expires INTEGER NOT NULL
    );
    CREATE INDEX by_expiry ON entries (expires);";
const INSERT: &str = "INSERT OR REPLACE INTO entries (key, value, expires) VALUES (?1, ?2, ?3)";
const EVICT: &str =
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY expires LIMIT 10)";
const GET: &str = "SELECT value FROM entries WHERE key = ?1 AND expires > ?2";

pub(super) struct Sqlite {
    connection: Connection,
    /// The bound, in pages.
    pages: i64,
}

/// Returns the milliseconds since the Unix epoch.
fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

impl Sqlite {
    /// Inserts, and evicts if the pages in use are too many, in one transaction.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let expires = now()? + i64::try_from(LIFE.as_millis())?;
        let change = self.connection.transaction()?;
        change
            .prepare_cached(INSERT)?
            .execute((key, value, expires))?;
        let pragma = |name: &str| -> rusqlite::Result<i64> {
            change
                .prepare_cached(&format!("PRAGMA {name}"))?
                .query_row((), |row| row.get(0))
        };
        if pragma("page_count")? - pragma("freelist_count")? > self.pages {
            change.prepare_cached(EVICT)?.execute(())?;
        }
        Ok(change.commit()?)
    }
}

impl Bounded for Sqlite {
    const PROMISES: Promises = Promises {
        shared_by: "threads and processes",
        kill: "nothing",
        power: "the last transactions; WAL, `synchronous=NORMAL`: syncs at each checkpoint",
        goes: "a deadline for each entry; the oldest first",
    };

    fn create(dir: &Path, bound: u64) -> Result<Self> {
        let connection = Connection::open(dir.join("sqlite"))?;
        connection.busy_timeout(std::time::Duration::from_mins(1))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let size = i64::try_from(bound)?;
        connection.pragma_update(None, "mmap_size", size)?;
        // In KiB: room for everything.
        connection.pragma_update(None, "cache_size", -(size >> 10))?;
        connection.execute_batch(TABLE)?;
        let page: i64 = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        let pages = size / page;
        if pages < 8 {
            return Err(Error::Refused("needs some pages"));
        }
        Ok(Self { connection, pages })
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        let clock = Clock::start()?;
        for (key, value) in batch.items() {
            self.insert(key, value)?;
        }
        clock.elapsed()
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        let (mut found, mut sum) = (0, 0);
        let clock = Clock::start()?;
        for key in keys.iter() {
            let mut query = self.connection.prepare_cached(GET)?;
            let value = query.query_row((key, now()?), |row| {
                sum ^= consume(row.get_ref(0)?.as_blob()?);
                Ok(())
            });
            found += u64::from(value.optional()?.is_some());
        }
        let elapsed = clock.elapsed()?;
        std::hint::black_box(sum);
        Ok((elapsed, found))
    }
}
