//! This crate: a lock for each write, the same with a sync of each write, one `Writer` for all
//! writes, and an exclusive handle; and a handle whose gets return values in the mapped file, with
//! the checksum verified or not. The others verify it.
#![expect(unsafe_code, reason = "`get_ref` reads the mapped file in place")]

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use mmapcache::{Durability, MmapCache, Options, Writer};

use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

/// How a handle locks and syncs.
pub(crate) trait Mode: 'static {
    const EXCLUSIVE: bool = false;
    const DURABLE: bool = false;
    /// Whether a get returns the value in the mapped file, without a copy.
    const IN_PLACE: bool = false;
    const VERIFIED: bool = true;
}

/// A lock for each write.
pub(crate) struct LockEach;
/// The handle holds the lock until it is closed.
pub(crate) struct LockOnce;
/// A lock and a sync for each write.
pub(crate) struct SyncEach;
/// A lock for each write; values are read in the mapped file.
pub(crate) struct ReadInPlace<const VERIFIED: bool>;

impl Mode for LockEach {}
impl Mode for LockOnce {
    const EXCLUSIVE: bool = true;
}
impl Mode for SyncEach {
    const DURABLE: bool = true;
}
impl<const VERIFIED: bool> Mode for ReadInPlace<VERIFIED> {
    const IN_PLACE: bool = true;
    const VERIFIED: bool = VERIFIED;
}

/// A handle that locks and syncs as its mode says.
pub(crate) struct Handle<M: Mode> {
    mode: PhantomData<M>,
    cache: Arc<MmapCache>,
    value: Vec<u8>,
}

pub(crate) type Single = Handle<LockEach>;
pub(crate) type Exclusive = Handle<LockOnce>;
pub(crate) type Durable = Handle<SyncEach>;
pub(crate) type Ref = Handle<ReadInPlace<true>>;
pub(crate) type RefUnverified = Handle<ReadInPlace<false>>;

impl<M: Mode> Handle<M> {
    fn of(cache: &Arc<MmapCache>) -> Self {
        Self {
            mode: PhantomData,
            cache: Arc::clone(cache),
            value: Vec::new(),
        }
    }
}

fn open<M: Mode>(dir: &Path, access: Access) -> Result<MmapCache> {
    let mut options = Options::new();
    options
        .create_new(access == Access::Create)
        .read_only(access == Access::Read)
        .exclusive(M::EXCLUSIVE && access != Access::Read)
        .verify_checksums(M::VERIFIED);
    if M::DURABLE {
        options.durability(Durability::Sync);
    }
    Ok(options.open(dir.join("cache"))?)
}

fn list(cache: &MmapCache, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
    let (mut items, mut count) = (cache.iter()?, 0);
    while let Some(item) = items.next_borrowed() {
        let (key, value) = item?;
        see(key, value);
        count += 1;
    }
    Ok(count)
}

fn get_many(cache: &MmapCache, keys: &[&[u8]], mut see: impl FnMut(&[u8])) -> Result<usize> {
    let mut found = 0;
    cache.get_many(keys, |_, value| {
        if let Some(value) = value {
            found += 1;
            see(value);
        }
    })?;
    Ok(found)
}

impl<M: Mode> Store for Handle<M> {
    const SHARING: Sharing = Sharing::Beside;
    const WRITERS: bool = !M::EXCLUSIVE;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        Ok(Self::of(&Arc::new(open::<M>(dir, access)?)))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.cache.put(key, value)?;
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let mut writer = self.cache.writer()?;
        for (key, value) in batch.items() {
            writer.put(key, value)?;
        }
        Ok(writer.commit()?)
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        if M::IN_PLACE {
            // SAFETY: the directory is the benchmark's own, and only this crate writes to it.
            let value = unsafe { self.cache.get_ref(key)? };
            return Ok(value.map(|value| see(&value)).is_some());
        }
        let found = self.cache.get_into(key, &mut self.value)?;
        if found {
            see(&self.value);
        }
        Ok(found)
    }

    fn get_many(&mut self, keys: &[&[u8]], see: impl FnMut(&[u8])) -> Result<usize> {
        get_many(&self.cache, keys, see)
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.cache.contains(key)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.cache.delete(key)?;
        Ok(())
    }

    fn list(&mut self, see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        list(&self.cache, see)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.cache.flush()?)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let cache = Arc::clone(&self.cache);
        Ok(Box::new(move || Ok(Self::of(&cache))))
    }
}

/// A handle whose writer is taken when it is opened, and kept.
pub(crate) struct Held {
    /// Leaked, because the writer borrows it.
    cache: &'static MmapCache,
    writer: Option<Writer<'static>>,
    value: Vec<u8>,
}

impl Held {
    fn writer(&mut self) -> Result<&mut Writer<'static>> {
        self.writer
            .as_mut()
            .ok_or(Error::Refused("only one thread holds the writer"))
    }
}

impl Store for Held {
    const SHARING: Sharing = Sharing::Beside;
    const WRITERS: bool = false;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let cache: &'static MmapCache = Box::leak(Box::new(open::<LockEach>(dir, access)?));
        let writer = match access {
            Access::Read => None,
            Access::Create | Access::Write => Some(cache.writer()?),
        };
        Ok(Self {
            cache,
            writer,
            value: Vec::new(),
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.writer()?.put(key, value)?;
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let writer = self.writer()?;
        for (key, value) in batch.items() {
            writer.put(key, value)?;
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let found = self.cache.get_into(key, &mut self.value)?;
        if found {
            see(&self.value);
        }
        Ok(found)
    }

    fn get_many(&mut self, keys: &[&[u8]], see: impl FnMut(&[u8])) -> Result<usize> {
        get_many(self.cache, keys, see)
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.cache.contains(key)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.writer()?.delete(key)?;
        Ok(())
    }

    fn list(&mut self, see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        list(self.cache, see)
    }

    fn sync(&mut self) -> Result<()> {
        self.writer = None;
        self.cache.flush()?;
        self.writer = Some(self.cache.writer()?);
        Ok(())
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let cache = self.cache;
        Ok(Box::new(move || {
            Ok(Self {
                cache,
                writer: None,
                value: Vec::new(),
            })
        }))
    }
}
