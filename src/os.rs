//! The operating system: mapped files, file names and durable changes of directories, permissions,
//! file systems, the boot id.
//!
//! Nothing here knows what a cache is. May call `error`, `sync`, `format` and `lock`.

pub(crate) mod boot_id;
pub(crate) mod files;
pub(crate) mod mmap;
pub(crate) mod reflink;
pub(crate) mod words;
