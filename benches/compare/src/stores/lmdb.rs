//! LMDB through heed: a transaction for each call. In one form the map is written directly, and
//! nothing is synced; the other is LMDB's default, which syncs each transaction.
#![expect(unsafe_code, reason = "opening maps a file that others might change")]

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

/// Address space for the file: no memory and, as it is sparse, no disk.
const MAP_BYTES: usize = 64 << 30;

#[derive(Clone)]
pub(crate) struct Handle<const SYNCED: bool> {
    env: Env,
    entries: Database<'static, Bytes, Bytes>,
}

pub(crate) type Lmdb = Handle<false>;
/// LMDB as it is without options.
pub(crate) type Synced = Handle<true>;

impl<const SYNCED: bool> Store for Handle<SYNCED> {
    const SHARING: Sharing = Sharing::Beside;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let flags = if access == Access::Read {
            EnvFlags::READ_ONLY
        } else if SYNCED {
            EnvFlags::empty()
        } else {
            EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::WRITE_MAP
        };
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        // SAFETY: the flags promise nothing about other programs' stores.
        unsafe { options.flags(flags) };
        // SAFETY: the directory is the benchmark's own, and only LMDB writes to it.
        let env = unsafe { options.open(dir)? };
        let entries = if access == Access::Create {
            env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
                let entries = opener.create_database(txn, None)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(entries))
            })?
            .commit()
        } else {
            env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
                let entries = opener.open_database(txn, None)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(entries))
            })?
            .commit()
            .flatten()
        };
        let entries =
            entries.ok_or_else(|| Error::Failed("LMDB has no main database".to_owned()))?;
        Ok(Self { env, entries })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.entries.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in batch.items() {
            self.entries.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: &[u8], see: impl FnMut(&[u8])) -> Result<bool> {
        let txn = self.env.read_txn()?;
        let value = self.entries.get(&txn, key)?;
        Ok(value.map(see).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        self.get(key, |_| {})
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.entries.delete(&mut txn, key)?;
        Ok(txn.commit()?)
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let txn = self.env.read_txn()?;
        let mut count = 0;
        for item in self.entries.iter(&txn)? {
            let (key, value) = item?;
            see(key, value);
            count += 1;
        }
        Ok(count)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }
}
