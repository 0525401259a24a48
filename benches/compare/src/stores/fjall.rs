//! fjall: an LSM tree with its default options.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::keys::Batch;
use crate::store::{Access, Another, Result, Sharing, Store};

#[derive(Clone)]
pub(crate) struct Fjall {
    database: Database,
    entries: Keyspace,
}

impl Store for Fjall {
    const SHARING: Sharing = Sharing::Alone;

    fn open(dir: &Path, _access: Access, _entries: u64) -> Result<Self> {
        // The default cache, 32 MB, holds a fifth of a million entries.
        let database = Database::builder(dir.join("fjall"))
            .cache_size(512 << 20)
            .open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.entries.insert(key, value)?)
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let mut writes = self.database.batch();
        for (key, value) in batch.items() {
            writes.insert(&self.entries, key, value);
        }
        Ok(writes.commit()?)
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.entries.get(key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.entries.contains_key(key)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.entries.remove(key)?)
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        for item in self.entries.iter() {
            let (key, value) = item.into_inner()?;
            see(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }
}
