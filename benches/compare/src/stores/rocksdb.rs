//! RocksDB through its C interface: no write-ahead log, a Bloom filter, a cache that holds
//! everything. Closing writes the memory tables, which a kill would lose.
#![expect(unsafe_code, reason = "the store is a C++ library")]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::foreign::bytes;
use crate::keys::Batch;
use crate::store::{Access, Another, Error, Result, Sharing, Store};

type Any = *mut c_void;

unsafe extern "C" {
    fn rocksdb_options_create() -> Any;
    fn rocksdb_options_set_create_if_missing(options: Any, on: c_uchar);
    fn rocksdb_options_set_block_based_table_factory(options: Any, table: Any);
    fn rocksdb_block_based_options_create() -> Any;
    fn rocksdb_block_based_options_set_filter_policy(table: Any, filter: Any);
    fn rocksdb_block_based_options_set_block_cache(table: Any, cache: Any);
    fn rocksdb_filterpolicy_create_bloom_full(bits: f64) -> Any;
    fn rocksdb_cache_create_lru(bytes: usize) -> Any;
    fn rocksdb_writeoptions_create() -> Any;
    fn rocksdb_writeoptions_disable_WAL(options: Any, disable: c_int);
    fn rocksdb_readoptions_create() -> Any;
    fn rocksdb_open(options: Any, name: *const c_char, error: *mut *mut c_char) -> Any;
    fn rocksdb_open_for_read_only(
        options: Any,
        name: *const c_char,
        fail_if_log: c_uchar,
        error: *mut *mut c_char,
    ) -> Any;
    fn rocksdb_close(db: Any);
    fn rocksdb_put(
        db: Any,
        options: Any,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        len: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_delete(db: Any, options: Any, key: *const u8, len: usize, error: *mut *mut c_char);
    fn rocksdb_get_pinned(
        db: Any,
        options: Any,
        key: *const u8,
        len: usize,
        error: *mut *mut c_char,
    ) -> Any;
    fn rocksdb_pinnableslice_value(slice: Any, len: *mut usize) -> *const u8;
    fn rocksdb_pinnableslice_destroy(slice: Any);
    fn rocksdb_multi_get(
        db: Any,
        options: Any,
        count: usize,
        keys: *const *const u8,
        key_lens: *const usize,
        values: *mut *mut u8,
        lens: *mut usize,
        errors: *mut *mut c_char,
    );
    fn rocksdb_writebatch_create() -> Any;
    fn rocksdb_writebatch_put(
        batch: Any,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        len: usize,
    );
    fn rocksdb_writebatch_destroy(batch: Any);
    fn rocksdb_write(db: Any, options: Any, batch: Any, error: *mut *mut c_char);
    fn rocksdb_create_iterator(db: Any, options: Any) -> Any;
    fn rocksdb_iter_seek_to_first(iterator: Any);
    fn rocksdb_iter_valid(iterator: Any) -> c_uchar;
    fn rocksdb_iter_next(iterator: Any);
    fn rocksdb_iter_key(iterator: Any, len: *mut usize) -> *const u8;
    fn rocksdb_iter_value(iterator: Any, len: *mut usize) -> *const u8;
    fn rocksdb_iter_get_error(iterator: Any, error: *mut *mut c_char);
    fn rocksdb_iter_destroy(iterator: Any);
}

/// The open database and its options, which are never freed.
struct Open {
    db: NonNull<c_void>,
    read: Any,
    write: Any,
}

// SAFETY: the C interface lets any thread use a database and its options.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the pointer came from opening, and is not used after this.
        unsafe { rocksdb_close(self.db.as_ptr()) };
    }
}

#[derive(Clone)]
pub(crate) struct Rocksdb(Arc<Open>);

/// Gives a call a place for its error, and returns the error if there is one.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T> {
    let mut error = ptr::null_mut();
    let done = call(&raw mut error);
    if error.is_null() {
        return Ok(done);
    }
    // SAFETY: the library leaves a C string made with malloc.
    let text = unsafe { CStr::from_ptr(error) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: as above; it is not used after this.
    unsafe { libc::free(error.cast()) };
    Err(Error::Failed(format!("RocksDB: {text}")))
}

fn options(create: bool) -> Any {
    // SAFETY: each call takes what an earlier one made; the options take over filter and cache.
    unsafe {
        let table = rocksdb_block_based_options_create();
        rocksdb_block_based_options_set_filter_policy(
            table,
            rocksdb_filterpolicy_create_bloom_full(10.0),
        );
        rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(512 << 20));
        let options = rocksdb_options_create();
        rocksdb_options_set_create_if_missing(options, c_uchar::from(create));
        rocksdb_options_set_block_based_table_factory(options, table);
        options
    }
}

impl Store for Rocksdb {
    const SHARING: Sharing = Sharing::Beside;
    const WRITERS: bool = false;

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let path = CString::new(dir.join("rocksdb").as_os_str().as_bytes())?;
        let options = options(access == Access::Create);
        let db = checked(|error| {
            // SAFETY: the path is a C string, the options were made above.
            unsafe {
                match access {
                    // Reads what was on the disk when it opened.
                    Access::Read => rocksdb_open_for_read_only(options, path.as_ptr(), 0, error),
                    _ => rocksdb_open(options, path.as_ptr(), error),
                }
            }
        })?;
        // SAFETY: makes options, and sets one of them.
        let (read, write) = unsafe {
            let write = rocksdb_writeoptions_create();
            rocksdb_writeoptions_disable_WAL(write, 1);
            (rocksdb_readoptions_create(), write)
        };
        let db =
            NonNull::new(db).ok_or_else(|| Error::Failed("RocksDB: no database".to_owned()))?;
        Ok(Self(Arc::new(Open { db, read, write })))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let Open { db, write, .. } = &*self.0;
        checked(|error| {
            let (start, len) = (value.as_ptr(), value.len());
            // SAFETY: the database is open, and the lengths are those of the slices.
            unsafe {
                rocksdb_put(
                    db.as_ptr(),
                    *write,
                    key.as_ptr(),
                    key.len(),
                    start,
                    len,
                    error,
                )
            }
        })
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let Open { db, write, .. } = &*self.0;
        // SAFETY: makes an empty batch.
        let writes = unsafe { rocksdb_writebatch_create() };
        for (key, value) in batch.items() {
            let (start, len) = (value.as_ptr(), value.len());
            // SAFETY: the lengths are those of the slices.
            unsafe { rocksdb_writebatch_put(writes, key.as_ptr(), key.len(), start, len) };
        }
        // SAFETY: the database is open, and the batch was made above.
        let done = checked(|error| unsafe { rocksdb_write(db.as_ptr(), *write, writes, error) });
        // SAFETY: the batch is not used after this.
        unsafe { rocksdb_writebatch_destroy(writes) };
        done
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let Open { db, read, .. } = &*self.0;
        let slice = checked(|error| {
            // SAFETY: the database is open, and the length is the slice's.
            unsafe { rocksdb_get_pinned(db.as_ptr(), *read, key.as_ptr(), key.len(), error) }
        })?;
        if slice.is_null() {
            return Ok(false);
        }
        let mut len = 0;
        // SAFETY: the value stays where it is until its slice is destroyed.
        see(unsafe { bytes(rocksdb_pinnableslice_value(slice, &raw mut len), len) });
        // SAFETY: the slice is not used after this.
        unsafe { rocksdb_pinnableslice_destroy(slice) };
        Ok(true)
    }

    fn get_many(&mut self, keys: &[&[u8]], mut see: impl FnMut(&[u8])) -> Result<usize> {
        let Open { db, read, .. } = &*self.0;
        let starts: Vec<_> = keys.iter().map(|key| key.as_ptr()).collect();
        let lens: Vec<_> = keys.iter().map(|key| key.len()).collect();
        let mut values = vec![ptr::null_mut(); keys.len()];
        let mut value_lens = vec![0; keys.len()];
        let mut errors = vec![ptr::null_mut(); keys.len()];
        // SAFETY: the database is open, and every list has as many places as there are keys.
        unsafe {
            rocksdb_multi_get(
                db.as_ptr(),
                *read,
                keys.len(),
                starts.as_ptr(),
                lens.as_ptr(),
                values.as_mut_ptr(),
                value_lens.as_mut_ptr(),
                errors.as_mut_ptr(),
            );
        }
        let mut found = 0;
        for ((value, len), error) in values.into_iter().zip(value_lens).zip(errors) {
            checked(|place| {
                // SAFETY: the place is `checked`'s own.
                unsafe { *place = error }
            })?;
            if !value.is_null() {
                found += 1;
                // SAFETY: the library allocated that many bytes with malloc.
                see(unsafe { bytes(value, len) });
                // SAFETY: the value is not used after this.
                unsafe { libc::free(value.cast()) };
            }
        }
        Ok(found)
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        self.get(key, |_| {})
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let Open { db, write, .. } = &*self.0;
        checked(|error| {
            // SAFETY: the database is open, and the length is the slice's.
            unsafe { rocksdb_delete(db.as_ptr(), *write, key.as_ptr(), key.len(), error) }
        })
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let Open { db, read, .. } = &*self.0;
        let (mut count, mut key_len, mut len) = (0, 0, 0);
        // SAFETY: the database is open; the iterator is destroyed below.
        let iterator = unsafe { rocksdb_create_iterator(db.as_ptr(), *read) };
        // SAFETY: the iterator was made above.
        unsafe { rocksdb_iter_seek_to_first(iterator) };
        // SAFETY: as above.
        while unsafe { rocksdb_iter_valid(iterator) } != 0 {
            // SAFETY: key and value stay until the iterator moves.
            let (key, value) = unsafe {
                (
                    bytes(rocksdb_iter_key(iterator, &raw mut key_len), key_len),
                    bytes(rocksdb_iter_value(iterator, &raw mut len), len),
                )
            };
            see(key, value);
            count += 1;
            // SAFETY: as above.
            unsafe { rocksdb_iter_next(iterator) };
        }
        // SAFETY: as above.
        let done = checked(|error| unsafe { rocksdb_iter_get_error(iterator, error) });
        // SAFETY: the iterator is not used after this.
        unsafe { rocksdb_iter_destroy(iterator) };
        done.map(|()| count)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }
}
