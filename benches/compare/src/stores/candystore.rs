//! candystore: a log-structured hash store with its default options, for one process.

use std::path::Path;
use std::sync::Arc;

use candystore::{CandyStore, Config};

use crate::keys::Batch;
use crate::store::{Access, Another, Result, Sharing, Store};

#[derive(Clone)]
pub(crate) struct Candystore(Arc<CandyStore>);

impl Store for Candystore {
    const SHARING: Sharing = Sharing::Alone;
    const BATCHES: bool = false;

    fn open(dir: &Path, _access: Access, _entries: u64) -> Result<Self> {
        let store = CandyStore::open(dir.join("candystore"), Config::default())?;
        Ok(Self(Arc::new(store)))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.set(key, value)?;
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        // It has no call for several keys.
        for (key, value) in batch.items() {
            self.0.set(key, value)?;
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.0.contains(key)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key)?;
        Ok(())
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        for item in self.0.iter_items() {
            let (key, value) = item?;
            see(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }
}
