//! tkrzw's HashDBM, with twice as many buckets as it will have entries, as its documentation advises.
#![expect(unsafe_code, reason = "the store is a C++ library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::foreign::{Lister, SeeItem, bytes};
use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

#[repr(C)]
struct HashDbm {
    _opaque: [u8; 0],
}

#[repr(C)]
struct StdString {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn tkrzw_open(path: *const c_char, write: c_int, buckets: i64) -> *mut HashDbm;
    fn tkrzw_close(db: *mut HashDbm) -> c_int;
    fn tkrzw_buffer() -> *mut StdString;
    fn tkrzw_free_buffer(buffer: *mut StdString);
    fn tkrzw_put(
        db: *mut HashDbm,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        len: usize,
    ) -> c_int;
    fn tkrzw_get(
        db: *mut HashDbm,
        key: *const u8,
        key_len: usize,
        buffer: *mut StdString,
        value: *mut *const u8,
        len: *mut usize,
    ) -> c_int;
    fn tkrzw_check(db: *mut HashDbm, key: *const u8, key_len: usize) -> c_int;
    fn tkrzw_delete(db: *mut HashDbm, key: *const u8, key_len: usize) -> c_int;
    fn tkrzw_list(db: *mut HashDbm, see: SeeItem, context: *mut c_void) -> c_int;
}

/// The open database; its own locks let any thread use it.
struct Open(NonNull<HashDbm>);

// SAFETY: HashDBM is documented as safe for concurrent use by threads.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `tkrzw_open`, and is not used after this.
        unsafe { tkrzw_close(self.0.as_ptr()) };
    }
}

/// One thread's string for values.
struct Buffer(NonNull<StdString>);

impl Buffer {
    fn new() -> Result<Self> {
        // SAFETY: makes an empty string.
        let buffer = unsafe { tkrzw_buffer() };
        NonNull::new(buffer)
            .map(Self)
            .ok_or_else(|| failed("make a buffer"))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `tkrzw_buffer`, and is not used after this.
        unsafe { tkrzw_free_buffer(self.0.as_ptr()) };
    }
}

pub(crate) struct Tkrzw {
    open: Arc<Open>,
    buffer: Buffer,
}

impl Tkrzw {
    fn db(&self) -> *mut HashDbm {
        self.open.0.as_ptr()
    }
}

fn failed(what: &str) -> Error {
    Error::Failed(format!("tkrzw could not {what}"))
}

impl Store for Tkrzw {
    const SHARING: Sharing = Sharing::Readers;
    const BATCHES: bool = false;

    fn open(dir: &Path, access: Access, entries: u64) -> Result<Self> {
        let path = CString::new(dir.join("tkrzw.tkh").as_os_str().as_bytes())?;
        // The default, a million, or more for more entries.
        let buckets = i64::try_from(2 * entries)?.max(1_048_583);
        let write = c_int::from(access != Access::Read);
        // SAFETY: the path is a C string.
        let db = unsafe { tkrzw_open(path.as_ptr(), write, buckets) };
        let open = Open(NonNull::new(db).ok_or_else(|| failed("open its file"))?);
        Ok(Self {
            open: Arc::new(open),
            buffer: Buffer::new()?,
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the lengths are those of the slices.
        let done = unsafe {
            tkrzw_put(
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
        let (mut start, mut len) = (ptr::null(), 0);
        let buffer = self.buffer.0.as_ptr();
        // SAFETY: the database is open, the length is the slice's, and the buffer is this handle's.
        let found = unsafe {
            tkrzw_get(
                self.db(),
                key.as_ptr(),
                key.len(),
                buffer,
                &raw mut start,
                &raw mut len,
            )
        };
        match found {
            1 => {
                // SAFETY: the buffer holds the value until its next use.
                see(unsafe { bytes(start, len) });
                Ok(true)
            }
            0 => Ok(false),
            _ => Err(failed("get")),
        }
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        // SAFETY: the database is open, and the length is the slice's.
        match unsafe { tkrzw_check(self.db(), key.as_ptr(), key.len()) } {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(failed("look for a key")),
        }
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the length is the slice's.
        let done = unsafe { tkrzw_delete(self.db(), key.as_ptr(), key.len()) };
        if done == 0 {
            Err(failed("delete"))
        } else {
            Ok(())
        }
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut lister = Lister::new(&mut see);
        // SAFETY: the database is open, and the lister outlives the call, which alone uses it.
        let done = unsafe { tkrzw_list(self.db(), lister.callback(), lister.context()) };
        if done == 0 {
            Err(failed("list"))
        } else {
            Ok(lister.count)
        }
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let open = Arc::clone(&self.open);
        Ok(Box::new(|| {
            Ok(Self {
                open,
                buffer: Buffer::new()?,
            })
        }))
    }
}
