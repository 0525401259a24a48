//! Kyoto Cabinet's HashDB, mapped as a whole, with twice as many buckets as it will have entries, as its documentation advises.
#![expect(unsafe_code, reason = "the store is a C++ library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::foreign::{Lister, SeeItem};
use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

#[repr(C)]
struct HashDb {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn kyoto_open(path: *const c_char, write: c_int, buckets: i64) -> *mut HashDb;
    fn kyoto_close(db: *mut HashDb) -> c_int;
    fn kyoto_put(
        db: *mut HashDb,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        len: usize,
    ) -> c_int;
    fn kyoto_get(
        db: *mut HashDb,
        key: *const u8,
        key_len: usize,
        buffer: *mut u8,
        room: usize,
    ) -> i64;
    fn kyoto_check(db: *mut HashDb, key: *const u8, key_len: usize) -> c_int;
    fn kyoto_delete(db: *mut HashDb, key: *const u8, key_len: usize) -> c_int;
    fn kyoto_list(db: *mut HashDb, see: SeeItem, context: *mut c_void) -> c_int;
}

/// The open database; its own locks let any thread use it.
struct Open(NonNull<HashDb>);

// SAFETY: HashDB is documented as safe for concurrent use by threads.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `kyoto_open`, and is not used after this.
        unsafe { kyoto_close(self.0.as_ptr()) };
    }
}

#[derive(Clone)]
pub(crate) struct Kyoto {
    open: Arc<Open>,
    value: Vec<u8>,
}

impl Kyoto {
    fn db(&self) -> *mut HashDb {
        self.open.0.as_ptr()
    }

    /// Copies as much of a value as the buffer holds. Returns the value's length.
    fn copy(&mut self, key: &[u8]) -> Result<Option<usize>> {
        let (buffer, room) = (self.value.as_mut_ptr(), self.value.len());
        // SAFETY: the database is open, and the lengths are those of the slices.
        let len = unsafe { kyoto_get(self.open.0.as_ptr(), key.as_ptr(), key.len(), buffer, room) };
        match usize::try_from(len) {
            Ok(len) => Ok(Some(len)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(failed("get")),
        }
    }
}

fn failed(what: &str) -> Error {
    Error::Failed(format!("Kyoto Cabinet could not {what}"))
}

impl Store for Kyoto {
    const SHARING: Sharing = Sharing::Readers;
    const BATCHES: bool = false;

    fn open(dir: &Path, access: Access, entries: u64) -> Result<Self> {
        let path = CString::new(dir.join("kyoto.kch").as_os_str().as_bytes())?;
        // The default, a million, or more for more entries.
        let buckets = i64::try_from(2 * entries)?.max(1 << 20);
        let write = c_int::from(access != Access::Read);
        // SAFETY: the path is a C string.
        let db = unsafe { kyoto_open(path.as_ptr(), write, buckets) };
        let open = Open(NonNull::new(db).ok_or_else(|| failed("open its file"))?);
        Ok(Self {
            open: Arc::new(open),
            value: vec![0; 64 << 10],
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the lengths are those of the slices.
        let done = unsafe {
            kyoto_put(
                self.db(),
                key.as_ptr(),
                key.len(),
                value.as_ptr(),
                value.len(),
            )
        };
        if done == 0 {
            Err(failed("put"))
        } else {
            Ok(())
        }
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        batch
            .items()
            .try_for_each(|(key, value)| self.put(key, value))
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let mut len = self.copy(key)?;
        if len.is_some_and(|len| len > self.value.len()) {
            self.value.resize(len.unwrap_or_default(), 0);
            len = self.copy(key)?;
        }
        let Some(len) = len else {
            return Ok(false);
        };
        let value = self.value.get(..len);
        see(value.ok_or_else(|| failed("copy a value whole"))?);
        Ok(true)
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        // SAFETY: the database is open, and the length is the slice's.
        match unsafe { kyoto_check(self.db(), key.as_ptr(), key.len()) } {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(failed("look for a key")),
        }
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the length is the slice's.
        let done = unsafe { kyoto_delete(self.db(), key.as_ptr(), key.len()) };
        if done == 0 {
            Err(failed("delete"))
        } else {
            Ok(())
        }
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut lister = Lister::new(&mut see);
        // SAFETY: the database is open, and the lister outlives the call, which alone uses it.
        let done = unsafe { kyoto_list(self.db(), lister.callback(), lister.context()) };
        if done == 0 {
            Err(failed("list"))
        } else {
            Ok(lister.count)
        }
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }
}
