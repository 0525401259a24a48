//! TDB with robust mutexes: processes lock a key's chain in memory that they share.
//!
//! With mutexes it truncates a file that no other process has open, so that it stays open while
//! other processes use it, and is never opened again.
#![expect(unsafe_code, reason = "the store is a C library")]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use super::foreign::bytes;
use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

const CLEAR_IF_FIRST: c_int = 1;
const INCOMPATIBLE_HASH: c_int = 2048;
const MUTEX_LOCKING: c_int = 4096;
const REPLACE: c_int = 1;
const NO_SUCH_ENTRY: c_int = 8;

#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    start: *const u8,
    len: usize,
}

impl Data {
    fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            len: bytes.len(),
        }
    }
}

type Parse = extern "C" fn(Data, Data, *mut c_void) -> c_int;
type Visit = extern "C" fn(*mut Context, Data, Data, *mut c_void) -> c_int;

unsafe extern "C" {
    fn tdb_open(
        name: *const c_char,
        hash_size: c_int,
        flags: c_int,
        open_flags: c_int,
        mode: c_uint,
    ) -> *mut Context;
    fn tdb_close(tdb: *mut Context) -> c_int;
    fn tdb_store(tdb: *mut Context, key: Data, value: Data, flag: c_int) -> c_int;
    fn tdb_delete(tdb: *mut Context, key: Data) -> c_int;
    fn tdb_exists(tdb: *mut Context, key: Data) -> c_int;
    fn tdb_parse_record(tdb: *mut Context, key: Data, parse: Parse, context: *mut c_void) -> c_int;
    fn tdb_traverse_read(tdb: *mut Context, visit: Visit, context: *mut c_void) -> c_int;
    fn tdb_error(tdb: *mut Context) -> c_int;
    fn tdb_runtime_check_for_robust_mutexes() -> bool;
}

pub(crate) struct Tdb(NonNull<Context>);

impl Tdb {
    fn context(&self) -> *mut Context {
        self.0.as_ptr()
    }

    /// Whether the last call failed only because there is no such entry.
    fn is_missing(&self) -> bool {
        // SAFETY: the database is open.
        unsafe { tdb_error(self.context()) == NO_SUCH_ENTRY }
    }
}

impl Drop for Tdb {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `tdb_open`, and is not used after this.
        unsafe { tdb_close(self.context()) };
    }
}

extern "C" fn parse<F: FnMut(&[u8])>(_key: Data, value: Data, context: *mut c_void) -> c_int {
    // SAFETY: the context is the closure on the stack of `get`.
    let see = unsafe { &mut *context.cast::<F>() };
    // SAFETY: the chain is locked until this returns.
    see(unsafe { bytes(value.start, value.len) });
    0
}

struct Listing<'a, F> {
    see: &'a mut F,
}

extern "C" fn visit<F: FnMut(&[u8], &[u8])>(
    _tdb: *mut Context,
    key: Data,
    value: Data,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the context is the listing on the stack of `list`.
    let listing = unsafe { &mut *context.cast::<Listing<'_, F>>() };
    // SAFETY: the record stays as it is until this returns.
    let (key, value) = unsafe { (bytes(key.start, key.len), bytes(value.start, value.len)) };
    (listing.see)(key, value);
    0
}

fn failed(what: &str) -> Error {
    Error::Failed(format!("TDB could not {what}"))
}

impl Store for Tdb {
    const SHARING: Sharing = Sharing::BesideWhileOpen;
    const BATCHES: bool = false;

    fn open(dir: &Path, _access: Access, entries: u64) -> Result<Self> {
        // SAFETY: has no arguments. The answer is needed before the flag may be used.
        if !unsafe { tdb_runtime_check_for_robust_mutexes() } {
            return Err(failed("find robust mutexes on this system"));
        }
        let path = CString::new(dir.join("tdb").as_os_str().as_bytes())?;
        // Two chains for an entry; each has a mutex of 40 bytes.
        let chains = c_int::try_from(2 * entries + 1)?;
        let flags = CLEAR_IF_FIRST | INCOMPATIBLE_HASH | MUTEX_LOCKING;
        // Readers too: mutexes need writable memory.
        let mode = libc::O_RDWR | libc::O_CREAT;
        // SAFETY: the path is a C string.
        let tdb = unsafe { tdb_open(path.as_ptr(), chains, flags, mode, 0o600) };
        NonNull::new(tdb)
            .map(Self)
            .ok_or_else(|| failed("open its file"))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (key, value) = (Data::of(key), Data::of(value));
        // SAFETY: the database is open, and the slices outlive the call.
        match unsafe { tdb_store(self.context(), key, value, REPLACE) } {
            0 => Ok(()),
            _ => Err(failed("put")),
        }
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        // A transaction writes everything twice, and is slower than single puts.
        batch
            .items()
            .try_for_each(|(key, value)| self.put(key, value))
    }

    fn get(&mut self, key: &[u8], see: impl FnMut(&[u8])) -> Result<bool> {
        fn callback<F: FnMut(&[u8])>(_: &F) -> Parse {
            parse::<F>
        }
        let mut see = see;
        let parse = callback(&see);
        let context = (&raw mut see).cast();
        // SAFETY: the database is open, and key and closure outlive the call.
        match unsafe { tdb_parse_record(self.context(), Data::of(key), parse, context) } {
            0 => Ok(true),
            _ if self.is_missing() => Ok(false),
            _ => Err(failed("get")),
        }
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        // SAFETY: the database is open, and the slice outlives the call.
        Ok(unsafe { tdb_exists(self.context(), Data::of(key)) } != 0)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        // SAFETY: the database is open, and the slice outlives the call.
        match unsafe { tdb_delete(self.context(), Data::of(key)) } {
            0 => Ok(()),
            _ if self.is_missing() => Ok(()),
            _ => Err(failed("delete")),
        }
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        fn callback<F: FnMut(&[u8], &[u8])>(_: &Listing<'_, F>) -> Visit {
            visit::<F>
        }
        let mut listing = Listing { see: &mut see };
        let visit = callback(&listing);
        let context = (&raw mut listing).cast();
        // SAFETY: the database is open, and the listing outlives the call.
        let count = unsafe { tdb_traverse_read(self.context(), visit, context) };
        u64::try_from(count).map_err(|_| failed("list"))
    }

    fn another(&mut self) -> Result<Another<Self>> {
        Err(Error::Refused("is not for several threads"))
    }
}
