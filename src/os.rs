//! The operating system: mapped files, file names, durable changes of directories, permissions,
//! file systems, clocks, the boot id.
//!
//! Independent of what a cache is. May call `error`, `sync`, `format` and `lock`.

pub(crate) mod boot_id;
pub(crate) mod burst;
pub(crate) mod clock;
pub(crate) mod file_names;
pub(crate) mod files;
pub(crate) mod mapped_file;
pub(crate) mod mmap;
pub(crate) mod reflink;
pub(crate) mod words;
