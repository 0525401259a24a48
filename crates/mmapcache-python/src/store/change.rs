//! Changes under the writer lock, of one call or of a transaction.

use std::time::{Duration, UNIX_EPOCH};

use mmapcache::{CacheWriter, InsertOptions, Result};

use crate::store::open::Open;
use crate::store::undo::{File, UndoLog};
use crate::store::value::Stored;

/// A moment beyond this is for ever: the year 10,889, which no deadline of the engine reaches.
const LATEST: f64 = (1_u64 << 48) as f64 / 1_000.0;

/// The writer of a store. In a transaction it notes what each entry was.
#[derive(Debug)]
pub(super) struct Change<'c, 'w> {
    pub open: &'c Open,
    writer: &'c mut CacheWriter<'w>,
    undo: Option<&'c mut UndoLog>,
}

/// An entry that a change found.
#[derive(Debug)]
pub(super) struct Found {
    pub value: Vec<u8>,
    /// The version, which is the place in the order of a key that was not overwritten.
    pub version: u64,
    /// Whether the engine counts it as expired.
    pub is_expired: bool,
}

impl Found {
    /// Returns the value's parts; `None` if another program stored it.
    pub(super) fn stored(&self) -> Option<Stored<'_>> {
        Stored::split(&self.value)
    }

    /// Returns whether the entry lives at a moment, in seconds since the epoch.
    pub(super) fn is_fresh(&self, now: f64) -> bool {
        let expire = self.stored().and_then(|stored| stored.expire);
        !self.is_expired && expire.is_none_or(|expire| expire > now)
    }

    /// Returns the place in the order of insertion.
    pub(super) fn place(&self) -> u64 {
        match self.stored().map_or(0, |stored| stored.place) {
            0 => self.version,
            place => place,
        }
    }
}

impl<'c, 'w> Change<'c, 'w> {
    pub(super) fn new(
        open: &'c Open,
        writer: &'c mut CacheWriter<'w>,
        undo: Option<&'c mut UndoLog>,
    ) -> Self {
        Self { open, writer, undo }
    }

    /// Returns whether it is one of a transaction.
    pub(super) fn is_transaction(&self) -> bool {
        self.undo.is_some()
    }

    /// Finds the entry of a key, expired or not. A damaged one is absent.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        find(self.open, key)
    }

    /// Stores a value, which says when it expires.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.note(File::Data, key)?;
        insert(self.writer, key, value)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<()> {
        self.note(File::Data, key)?;
        self.writer.remove(key)?;
        Ok(())
    }

    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.open.meta.get(key)
    }

    pub(super) fn put_meta(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.note(File::Meta, key)?;
        self.open.meta.put(key, value)?;
        Ok(())
    }

    pub(super) fn remove_meta(&mut self, key: &[u8]) -> Result<()> {
        self.note(File::Meta, key)?;
        self.open.meta.delete(key)?;
        Ok(())
    }

    #[inline]
    fn note(&mut self, file: File, key: &[u8]) -> Result<()> {
        match &mut self.undo {
            None => Ok(()),
            Some(undo) => undo.note(self.open, file, key),
        }
    }
}

/// Finds the entry of a key, expired or not. A damaged one is absent.
pub(super) fn find(open: &Open, key: &[u8]) -> Result<Option<Found>> {
    let entry = match open.data.stored_entry(key) {
        Err(error) if error.is_corruption() => None,
        entry => entry?,
    };
    Ok(entry.map(|entry| Found {
        version: entry.version().as_nanos(),
        is_expired: entry.is_expired(),
        value: entry.into_value(),
    }))
}

/// Stores a value with the deadline that it says.
pub(super) fn insert(writer: &mut CacheWriter<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let deadline = Stored::split(value)
        .filter(|stored| !stored.is_parked())
        .and_then(|stored| stored.expire);
    let options = match deadline {
        None => InsertOptions::new().no_expiry(),
        Some(expire) => {
            let since = Duration::from_secs_f64(expire.clamp(0.0, LATEST));
            InsertOptions::new().expires_at(UNIX_EPOCH + since)
        }
    };
    writer.insert_with(key, value, &options)?;
    Ok(())
}
