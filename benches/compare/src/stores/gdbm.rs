//! gdbm with its default options.
#![expect(unsafe_code, reason = "the store is a C library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use super::foreign::bytes;
use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

const READER: c_int = 0;
const CREATING_WRITER: c_int = 2;
const REPLACE: c_int = 1;
const NO_SUCH_ITEM: c_int = 15;

#[repr(C)]
struct File {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Datum {
    start: *mut u8,
    len: c_int,
}

unsafe extern "C" {
    fn gdbm_open(
        name: *const c_char,
        block_size: c_int,
        flags: c_int,
        mode: c_int,
        fatal: Option<extern "C" fn(*const c_char)>,
    ) -> *mut File;
    fn gdbm_close(file: *mut File) -> c_int;
    fn gdbm_store(file: *mut File, key: Datum, value: Datum, flag: c_int) -> c_int;
    fn gdbm_fetch(file: *mut File, key: Datum) -> Datum;
    fn gdbm_exists(file: *mut File, key: Datum) -> c_int;
    fn gdbm_delete(file: *mut File, key: Datum) -> c_int;
    fn gdbm_firstkey(file: *mut File) -> Datum;
    fn gdbm_nextkey(file: *mut File, key: Datum) -> Datum;
    fn gdbm_last_errno(file: *mut File) -> c_int;
}

/// Memory that the library allocated for its caller.
struct Owned(Datum);

impl Owned {
    fn of(datum: Datum) -> Option<Self> {
        (!datum.start.is_null()).then_some(Self(datum))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the library allocated that many bytes, which live as long as this.
        unsafe { bytes(self.0.start, self.0.len as usize) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the library allocated it with malloc, and leaves it to its caller.
        unsafe { libc::free(self.0.start.cast::<c_void>()) };
    }
}

pub(crate) struct Gdbm(NonNull<File>);

impl Gdbm {
    fn file(&self) -> *mut File {
        self.0.as_ptr()
    }

    fn fetch(&self, key: Datum) -> Result<Option<Owned>> {
        // SAFETY: the database is open, and the key outlives the call.
        let value = unsafe { gdbm_fetch(self.file(), key) };
        match Owned::of(value) {
            Some(value) => Ok(Some(value)),
            None if self.is_missing() => Ok(None),
            None => Err(failed("get")),
        }
    }

    /// Whether the last call failed only because there is no such entry.
    fn is_missing(&self) -> bool {
        // SAFETY: the database is open.
        unsafe { gdbm_last_errno(self.file()) == NO_SUCH_ITEM }
    }
}

/// The library takes a mutable pointer, but only reads.
fn datum(bytes: &[u8]) -> Result<Datum> {
    Ok(Datum {
        start: bytes.as_ptr().cast_mut(),
        len: c_int::try_from(bytes.len())?,
    })
}

fn failed(what: &str) -> Error {
    Error::Failed(format!("gdbm could not {what}"))
}

impl Drop for Gdbm {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `gdbm_open`, and is not used after this.
        unsafe { gdbm_close(self.file()) };
    }
}

impl Store for Gdbm {
    const SHARING: Sharing = Sharing::Readers;
    const BATCHES: bool = false;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let path = CString::new(dir.join("gdbm").as_os_str().as_bytes())?;
        let flags = match access {
            Access::Read => READER,
            Access::Create | Access::Write => CREATING_WRITER,
        };
        // SAFETY: the path is a C string; without a block size the library chooses.
        let file = unsafe { gdbm_open(path.as_ptr(), 0, flags, 0o600, None) };
        NonNull::new(file)
            .map(Self)
            .ok_or_else(|| failed("open its file"))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (key, value) = (datum(key)?, datum(value)?);
        // SAFETY: the database is open, and the slices outlive the call.
        match unsafe { gdbm_store(self.file(), key, value, REPLACE) } {
            0 => Ok(()),
            _ => Err(failed("put")),
        }
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        batch
            .items()
            .try_for_each(|(key, value)| self.put(key, value))
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.fetch(datum(key)?)?;
        Ok(value.map(|value| see(value.bytes())).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        // SAFETY: the database is open, and the slice outlives the call.
        Ok(unsafe { gdbm_exists(self.file(), datum(key)?) } != 0)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the slice outlives the call.
        match unsafe { gdbm_delete(self.file(), datum(key)?) } {
            0 => Ok(()),
            _ if self.is_missing() => Ok(()),
            _ => Err(failed("delete")),
        }
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        // SAFETY: the database is open.
        let mut next = Owned::of(unsafe { gdbm_firstkey(self.file()) });
        while let Some(key) = next {
            let value = self.fetch(key.0)?.ok_or_else(|| failed("list"))?;
            see(key.bytes(), value.bytes());
            count += 1;
            // SAFETY: the database is open, and the key outlives the call.
            next = Owned::of(unsafe { gdbm_nextkey(self.file(), key.0) });
        }
        Ok(count)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        Err(Error::Refused("is not for several threads"))
    }
}
