//! The kinds of errors, for programs that handle one of them.

/// The kind of an [`Error`](crate::Error), returned by [`Error::kind`](crate::Error::kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no cache at the path, and the options do not create one.
    NotFound,
    /// `create_new` was set and the cache exists, or a foreign file has the name of one of the cache's
    /// files. The file is left alone.
    AlreadyExists,
    /// Another thread or process held the writer lock for longer than the lock timeout.
    Locked,
    /// This thread already holds a [`Writer`](crate::Writer) of this cache: waiting for it would never
    /// end.
    AlreadyWriting,
    /// This process is a forked child, and its parent began the writer, backup or repair and goes on with
    /// it. The child must begin its own.
    ForkedWriter,
    /// The file is not a file of this crate.
    NotACacheFile,
    /// The file is of another release: it has a format version or a feature flag that this crate does not
    /// support. It is left alone.
    UnsupportedVersion,
    /// An option that is fixed at creation differs from the stored value.
    OptionMismatch,
    /// An option has a value outside its range.
    InvalidOption,
    /// A write was called on a read-only handle.
    ReadOnly,
    /// The key is empty or longer than 65,535 bytes.
    KeyLength,
    /// The value and its key do not fit into one heap segment.
    ValueTooLarge,
    /// The cache has as many entries as it may have. Updates and deletions still work.
    TableFull,
    /// All ids of the labels are assigned, or may have been before a power loss. Labels with an id are
    /// found as before.
    IdsExhausted,
    /// A label was read as text and is not UTF-8.
    NotUtf8,
    /// The cache or the labels only allow additions: no overwrite, deletion or rebuild.
    AppendOnly,
    /// The file system has no room. Nothing was changed.
    DiskFull,
    /// An obsolete file could not be removed or replaced: in a directory with the sticky bit only its
    /// owner, the directory's owner and root can. Puts fail with it if dead records would otherwise grow
    /// without bound; deletions still work.
    NotRemovable,
    /// A file has contents that this crate never writes.
    Corrupted,
    /// A segment of the heap is not at its path, or something else is there. Most likely its disk is not
    /// mounted, or the cache was opened without its [`heap_path`](crate::Options::heap_path); then
    /// nothing is lost. Nothing was changed.
    ///
    /// A read-only handle can be opened; for entries in that segment `get` returns `None`, and `entry`
    /// this error. If one segment of several is lost, [`Repair`](crate::Repair) keeps the entries of the
    /// others. If the whole heap is lost, remove the index and the roster to make a new cache.
    HeapMissing,
    /// A listing, a sample or a backup found fewer entries than the index counted, or damaged bytes that
    /// may have held entries. What it returned before this error is valid, but not complete.
    Incomplete,
    /// Other writers changed the same entry during each of many attempts to read it. Nothing is damaged:
    /// call again.
    Contended,
    /// The cache was rebuilt during a listing, and the old files are gone. Start the listing again.
    Superseded,
    /// An earlier sync failed: writes since the last successful sync may not be on the disk.
    SyncFailed,
    /// The file system or the platform lacks what shared mappings or locks need.
    Unsupported,
    /// The iterator passed to a rebuild returned an error. The cache is unchanged.
    RebuildSource,
    /// A [`Pool`](crate::intern::Pool) refused a label that was read from a file.
    #[cfg(feature = "intern")]
    Pool,
    /// The operating system refused a file operation;
    /// [`source`](std::error::Error::source) has its error.
    Io,
}
