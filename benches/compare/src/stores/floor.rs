//! Two limits for large values: one copy out of a mapped file into a buffer, and the same with the
//! sum that a checked copy needs. Where a value lies is known from a map in memory.
//!
//! May use `keys` and `store`.
#![expect(unsafe_code, reason = "a mapped file is read in place")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hashbrown::HashMap;
use memmap2::{Mmap, MmapOptions};

use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

/// Address space for the file: no memory and, beyond the file's end, no disk.
const MAP_BYTES: usize = 64 << 30;

/// A copy of a value, with a CRC-32 of the copy or without.
pub(crate) struct Floor<const SUM: bool> {
    file: File,
    map: Mmap,
    end: usize,
    /// Where the value of each key begins, and its length.
    places: HashMap<Box<[u8]>, (usize, usize)>,
    value: Vec<u8>,
}

pub(crate) type Copy = Floor<false>;
pub(crate) type CopyAndSum = Floor<true>;

impl<const SUM: bool> Floor<SUM> {
    fn stored(&self, (start, len): (usize, usize)) -> &[u8] {
        &self.map[start..start + len]
    }
}

impl<const SUM: bool> Store for Floor<SUM> {
    const SHARING: Sharing = Sharing::Memory;
    const BATCHES: bool = false;

    fn open(dir: &Path, _access: Access, _entries: u64) -> Result<Self> {
        let path = dir.join("values");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        // SAFETY: the file is the benchmark's own. It only grows, and a value that was written is
        // never changed.
        let map = unsafe { MmapOptions::new().len(MAP_BYTES).map(&file)? };
        Ok(Self {
            file,
            map,
            end: 0,
            places: HashMap::default(),
            value: Vec::new(),
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.file.write_all_at(value, self.end as u64)?;
        self.places.insert(key.into(), (self.end, value.len()));
        self.end += value.len();
        Ok(())
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        batch
            .items()
            .try_for_each(|(key, value)| self.put(key, value))
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let Some(&(start, len)) = self.places.get(key) else {
            return Ok(false);
        };
        self.value.clear();
        self.value.extend_from_slice(&self.map[start..start + len]);
        if SUM {
            black_box(crc32fast::hash(&self.value));
        }
        see(&self.value);
        Ok(true)
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.places.contains_key(key))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.places.remove(key);
        Ok(())
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        for (key, &place) in &self.places {
            see(key, self.stored(place));
        }
        Ok(self.places.len() as u64)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        Err(Error::Refused("is measured in one thread"))
    }
}
