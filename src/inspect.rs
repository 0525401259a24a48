//! Decodes the files of a cache without opening the cache, whether they are valid or not.
//!
//! [`CacheFiles`] reads the headers, also those of files that the library refuses to open, and
//! reports their problems. It decodes single slots and records, scans segments, and counts what is
//! in the index. It takes no lock and changes nothing. It is therefore safe on a damaged file, on a
//! copy, and on files that other processes write to. It does not check a whole cache:
//! [`MmapCache::verify`](crate::MmapCache::verify) does.

mod cache_file;
mod cache_files;
mod field;
mod file_reader;
mod header_problems;
mod headers;
mod heap_scan;
mod index_header;
mod index_scan;
mod index_state;
mod layout;
mod lock_state;
mod page_cache;
mod record;
mod region_state;
mod slot;

#[cfg(test)]
mod tests;

pub use crate::inspect::cache_file::CacheFile;
pub use crate::inspect::cache_files::CacheFiles;
pub use crate::inspect::field::Field;
pub use crate::inspect::index_header::IndexHeader;
pub use crate::inspect::index_scan::{IndexScan, RegionScan};
pub use crate::inspect::index_state::{HeapAddress, IndexState};
pub use crate::inspect::lock_state::LockState;
pub use crate::inspect::record::Record;
pub use crate::inspect::slot::Slot;
