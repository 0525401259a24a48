"""Persistent caches in memory-mapped files, shared by any number of threads and processes.

``MmapCache`` is a mapping of bytes to bytes; the entries of a ``Cache`` expire, are evicted and are
invalidated in groups; ``Labels`` gives each string an id. Adapters for other packages are modules
of their own: ``mmapcache.diskcache``, ``mmapcache.django``, ``mmapcache.dogpile``,
``mmapcache.cachelib``, ``mmapcache.flask``, ``mmapcache.requests_cache``,
``mmapcache.persidict`` and ``mmapcache.salt``.
"""

from __future__ import annotations

from mmapcache._errors import (
    AppendOnlyError,
    CacheFullError,
    ClosedError,
    ContendedError,
    CorruptionError,
    CounterOverflowError,
    DiskFullError,
    ExistsError,
    HeapMissingError,
    KeyLengthError,
    LockedError,
    MmapCacheError,
    NotACounterError,
    NotFoundError,
    NotStoredError,
    OptionError,
    OtherTypeError,
    ReadOnlyError,
    RecoveryWarning,
    SyncFailedError,
    UnsupportedError,
    UnsupportedVersionError,
    ValueTooLargeError,
    WriterError,
)
from mmapcache._handles import Cache, Labels, MmapCache
from mmapcache._native import (
    KEEP,
    UNSET,
    CacheEntry,
    CacheWriter,
    Entry,
    Listing,
    Sentinel,
    Writer,
    repair,
    upgrade,
)

# Messages and pickles name the package, so that a class can move to another file of it.
for _class in (MmapCache, Cache, Labels):
    _class.__module__ = __name__
del _class

__all__ = [
    "KEEP",
    "UNSET",
    "AppendOnlyError",
    "Cache",
    "CacheEntry",
    "CacheFullError",
    "CacheWriter",
    "ClosedError",
    "ContendedError",
    "CorruptionError",
    "CounterOverflowError",
    "DiskFullError",
    "Entry",
    "ExistsError",
    "HeapMissingError",
    "KeyLengthError",
    "Labels",
    "Listing",
    "LockedError",
    "MmapCache",
    "MmapCacheError",
    "NotACounterError",
    "NotFoundError",
    "NotStoredError",
    "OptionError",
    "OtherTypeError",
    "ReadOnlyError",
    "RecoveryWarning",
    "Sentinel",
    "SyncFailedError",
    "UnsupportedError",
    "UnsupportedVersionError",
    "ValueTooLargeError",
    "Writer",
    "WriterError",
    "repair",
    "upgrade",
]
