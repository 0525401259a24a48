//! SQLite through rusqlite: a table without row ids, a write-ahead log that is never synced, the
//! file mapped.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Statement};

use crate::keys::Batch;
use crate::store::{Access, Another, Result, Sharing, Store};

pub(crate) struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_mins(1))?;
    connection.pragma_update(None, "mmap_size", 1_i64 << 32)?;
    // In KiB: room for a million entries.
    connection.pragma_update(None, "cache_size", -(512 << 10))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    Ok(connection)
}

fn upsert(connection: &Connection) -> rusqlite::Result<rusqlite::CachedStatement<'_>> {
    connection.prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2)")
}

impl Store for Sqlite {
    const SHARING: Sharing = Sharing::Beside;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let path = dir.join("sqlite");
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if access == Access::Create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let connection = connect(&path, flags)?;
        if access == Access::Create {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.execute_batch(
                "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID",
            )?;
        }
        Ok(Self { connection, path })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        upsert(&self.connection)?.execute((key, value))?;
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let txn = self.connection.transaction()?;
        let mut put = upsert(&txn)?;
        for (key, value) in batch.items() {
            put.execute((key, value))?;
        }
        drop(put);
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let query = "SELECT value FROM entries WHERE key = ?1";
        let mut query = self.connection.prepare_cached(query)?;
        let found = query.query_row((key,), |row| {
            see(row.get_ref(0)?.as_blob()?);
            Ok(())
        });
        Ok(found.optional()?.is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        let query = "SELECT 1 FROM entries WHERE key = ?1";
        let mut query = self.connection.prepare_cached(query)?;
        Ok(Statement::exists(&mut query, (key,))?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let change = "DELETE FROM entries WHERE key = ?1";
        self.connection.prepare_cached(change)?.execute((key,))?;
        Ok(())
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut query = self.connection.prepare("SELECT key, value FROM entries")?;
        let (mut rows, mut count) = (query.query(())?, 0);
        while let Some(row) = rows.next()? {
            see(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            count += 1;
        }
        Ok(count)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let path = self.path.clone();
        Ok(Box::new(move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = connect(&path, flags)?;
            Ok(Self { connection, path })
        }))
    }
}
