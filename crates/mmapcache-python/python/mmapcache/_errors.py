"""The exceptions of the package, in one tree.

Each carries the file that it is about. Errors of the system are the ``OSError`` that Python has for
them (``PermissionError``, ``FileNotFoundError``, ...), with number, text and file name, and are not
in the tree.
"""

from __future__ import annotations


class MmapCacheError(Exception):
    """The base of all exceptions of this package."""

    path: str | None = None
    """The file that the error is about, or the path of the cache; ``None`` if it is about none."""


class CorruptionError(MmapCacheError):
    """A file has contents that this package never writes, or an entry is damaged."""


class LockedError(MmapCacheError, TimeoutError):
    """Another thread or process held the writer lock for longer than ``lock_timeout``."""


class WriterError(MmapCacheError, RuntimeError):
    """A writer, or a computation, is used where it cannot work.

    For example: a second writer in the same thread, a writer in another thread, a writer that was
    taken before a fork, a computation that asks for its own key.
    """


class CacheFullError(MmapCacheError):
    """The cache has as many entries, bytes or ids as it may have."""


class ValueTooLargeError(MmapCacheError, ValueError):
    """The value and its key do not fit into a segment, or into a sixteenth of ``max_bytes``."""


class KeyLengthError(MmapCacheError, ValueError):
    """The key is empty, or longer than 65,535 bytes."""


class OptionError(MmapCacheError, ValueError):
    """An option is outside its range, or differs from what the files were created with."""


class ReadOnlyError(MmapCacheError):
    """The handle was opened with ``read_only=True``."""


class AppendOnlyError(ReadOnlyError):
    """The entries of this cache are never changed or deleted."""


class DiskFullError(MmapCacheError, OSError):
    """The disk has no room. Nothing was changed."""


class SyncFailedError(MmapCacheError, OSError):
    """An earlier sync failed: writes since the last good one may not be on the disk."""


class NotFoundError(MmapCacheError, FileNotFoundError):
    """There is no cache at the path, and the options do not create one."""


class ExistsError(MmapCacheError, FileExistsError):
    """There is a cache, or another file, where one was to be created."""


class HeapMissingError(MmapCacheError, FileNotFoundError):
    """A file with values is not at its path; perhaps its disk is not mounted."""


class OtherTypeError(MmapCacheError):
    """Another class of this package made the files."""


class UnsupportedVersionError(MmapCacheError):
    """Another release made the files; see ``upgrade``."""


class UnsupportedError(MmapCacheError):
    """The file system, the platform or the key is one that the cache cannot work with."""


class ContendedError(MmapCacheError):
    """Other writers were in the way of a reader, again and again. The call can be repeated."""


class NotACounterError(MmapCacheError, ValueError):
    """The value of a counter is not 8 bytes long. Nothing was changed."""


class CounterOverflowError(MmapCacheError, OverflowError):
    """A counter would leave the range of 64 bits. Nothing was changed."""


class NotStoredError(MmapCacheError):
    """A value was computed and could not be stored; the cause says why."""

    value: bytes = b""
    """The computed value, to be used all the same."""


class RecoveryWarning(UserWarning):
    """Opening rebuilt the index and lost entries; ``last_recovery`` has the figures."""


class ClosedError(MmapCacheError, ValueError):
    """The handle is closed, or was never opened."""
