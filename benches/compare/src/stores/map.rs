//! The limit: a hash map in this process's memory, neither persistent nor shared.

use std::path::Path;
use std::sync::Arc;

use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

type HashMap = hashbrown::HashMap<Box<[u8]>, Box<[u8]>>;

pub(crate) enum Map {
    Own(HashMap),
    /// Shared by several threads.
    Shared(Arc<HashMap>),
}

impl Map {
    fn read(&self) -> &HashMap {
        match self {
            Self::Own(map) => map,
            Self::Shared(map) => map,
        }
    }

    fn write(&mut self) -> Result<&mut HashMap> {
        if let Self::Shared(map) = self {
            // Once the other threads have ended, the map belongs to one thread again.
            let alone = Arc::get_mut(map).map(std::mem::take);
            *self = Self::Own(alone.ok_or(Error::Refused(
                "a map has no lock, so no thread uses it beside a writer",
            ))?);
        }
        match self {
            Self::Own(map) => Ok(map),
            Self::Shared(_) => unreachable!("it was made its own above"),
        }
    }
}

impl Store for Map {
    const SHARING: Sharing = Sharing::Memory;

    fn open(_dir: &Path, _access: Access, _entries: u64) -> Result<Self> {
        Ok(Self::Own(HashMap::default()))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write()?.insert(key.into(), value.into());
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let map = self.write()?;
        for (key, value) in batch.items() {
            map.insert(key.into(), value.into());
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.read().get(key);
        Ok(value.map(|value| see(value)).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.read().contains_key(key))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.write()?.remove(key);
        Ok(())
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let map = self.read();
        map.iter().for_each(|(key, value)| see(key, value));
        Ok(map.len() as u64)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        if let Self::Own(map) = self {
            *self = Self::Shared(Arc::new(std::mem::take(map)));
        }
        let Self::Shared(map) = self else {
            unreachable!("it was made shared above");
        };
        let map = Arc::clone(map);
        Ok(Box::new(|| Ok(Self::Shared(map))))
    }
}
