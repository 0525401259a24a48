//! The undo log of a transaction, in `meta`: what each changed entry was before.
//!
//! It serves an exception inside of the transaction and a kill alike. A marker says that there is a log,
//! and has its number; records of another number are left from a log that was removed in part. The
//! marker is stored before the first change and removed as the commit: a process that finds it while
//! it holds the lock rolls back, for the one that stored it has lost the lock by a kill.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use mmapcache::{CacheWriter, Result};

use crate::store::change::{self, insert};
use crate::store::open::Open;
use crate::store::value;

const MARKER: &[u8] = b"t";
const RECORD: u8 = b'u';

/// Which file an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum File {
    Data,
    Meta,
}

/// The log of a transaction that goes on.
#[derive(Debug)]
pub(super) struct UndoLog {
    number: u64,
    records: u32,
    /// The entries that have a record.
    seen: HashSet<(File, Vec<u8>)>,
}

impl UndoLog {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.map_or(0, |since| since.as_nanos() as u64);
        Self {
            // Differs from that of any log that may have left records.
            number: nanos ^ (u64::from(std::process::id()) << 40),
            records: 0,
            seen: HashSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Notes what an entry is, before its first change.
    pub(super) fn note(&mut self, open: &Open, file: File, key: &[u8]) -> Result<()> {
        if !self.seen.insert((file, key.to_owned())) {
            return Ok(());
        }
        let before = match file {
            File::Meta => open.meta.get(key)?,
            File::Data => stored(open, key)?,
        };
        let record = encode(self.number, file, key, before.as_deref());
        open.meta.put(record_key(self.records), record)?;
        if self.records == 0 {
            open.meta.put(MARKER, self.number.to_le_bytes())?;
        }
        self.records += 1;
        Ok(())
    }

    /// Makes the changes of the transaction last: the moment is that of the marker's removal.
    pub(super) fn commit(&self, open: &Open) -> Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        open.meta.delete(MARKER)?;
        for record in 0..self.records {
            open.meta.delete(record_key(record))?;
        }
        Ok(())
    }
}

/// Returns whether there is the log of a transaction that was not committed.
#[inline]
pub(super) fn is_pending(open: &Open) -> Result<bool> {
    open.meta.contains(MARKER)
}

/// Restores what the log has, and removes it. Repeated after a kill, it does the same again.
pub(super) fn roll_back(open: &Open, writer: &mut CacheWriter<'_>) -> Result<()> {
    let Some(marker) = open.meta.get(MARKER)? else {
        return Ok(());
    };
    let mut records = 0;
    while let Some(record) = open.meta.get(record_key(records))? {
        let Some((number, file, key, before)) = decode(&record) else {
            break;
        };
        if *number != marker[..] {
            break;
        }
        match (file, before) {
            (File::Data, Some(before)) => insert(writer, key, before)?,
            (File::Data, None) => {
                writer.remove(key)?;
            }
            (File::Meta, Some(before)) => {
                open.meta.put(key, before)?;
            }
            (File::Meta, None) => {
                open.meta.delete(key)?;
            }
        }
        records += 1;
    }
    open.meta.delete(MARKER)?;
    for record in 0..records {
        open.meta.delete(record_key(record))?;
    }
    Ok(())
}

/// Returns a stored value; one that has expired or is damaged is absent.
fn stored(open: &Open, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let found = change::find(open, key)?.filter(|found| !found.is_expired);
    Ok(found.map(|found| {
        let place = found.place();
        let mut value = found.value;
        // Restored, it has another version.
        value::set_place(&mut value, place);
        value
    }))
}

fn record_key(record: u32) -> [u8; 5] {
    let [a, b, c, d] = record.to_be_bytes();
    [RECORD, a, b, c, d]
}

/// Number, file, whether there was an entry, length of the key, key, value.
fn encode(number: u64, file: File, key: &[u8], before: Option<&[u8]>) -> Vec<u8> {
    let value = before.unwrap_or_default();
    let mut record = Vec::with_capacity(14 + key.len() + value.len());
    record.extend_from_slice(&number.to_le_bytes());
    record.push(u8::from(file == File::Meta));
    record.push(u8::from(before.is_some()));
    record.extend_from_slice(&(key.len() as u32).to_le_bytes());
    record.extend_from_slice(key);
    record.extend_from_slice(value);
    record
}

type Record<'r> = (&'r [u8], File, &'r [u8], Option<&'r [u8]>);

fn decode(record: &[u8]) -> Option<Record<'_>> {
    let (number, rest) = record.split_at_checked(8)?;
    let (&[is_meta, is_there], rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let file = if is_meta == 1 { File::Meta } else { File::Data };
    Some((number, file, key, (is_there == 1).then_some(value)))
}
