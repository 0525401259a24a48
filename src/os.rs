//! The operating system: mapped files, file names and durable changes of directories, permissions,
//! file systems, the boot id, clocks and random numbers.
//!
//! Independent of what a cache is. May call `error`, `sync`, `format` and `lock`.

pub(crate) mod boot_id;
pub(crate) mod burst;
pub(crate) mod clock;
pub(crate) mod file_names;
pub(crate) mod files;
pub(crate) mod mapped_file;
pub(crate) mod mmap;
pub(crate) mod random;
pub(crate) mod reflink;
pub(crate) mod words;
