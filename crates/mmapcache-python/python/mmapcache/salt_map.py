"""``MmapCache`` with the methods of ``salt.utils.mmap_cache.MmapCache`` (Salt 3008.5).

A program changes one import. The files are those of :class:`mmapcache.MmapCache`, not Salt's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import mmapcache
from mmapcache import MmapCacheError

__all__ = ["MmapCache"]

log = logging.getLogger(__name__)

# The smallest segments that make sense for the engine.
_LEAST_SEGMENT = 1 << 20


class MmapCache:
    """A persistent table of texts or bytes, shared by processes, as Salt's class of this name.

    As there, a value of None means that the key is only present (``get`` returns True), bytes that
    are UTF-8 come back as text, and methods that write return False and log the error instead of
    raising it.

    Otherwise than there, keys are never cut, which makes two keys one; the table grows instead of
    being full; values are found in a listing whatever their last byte is; a disk that is full
    changes nothing. ``size``, ``slot_size``, ``key_size``, ``staleness_check_interval`` and
    ``verify_checksums`` change nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int = 1_000_000,
        slot_size: int = 96,
        key_size: int = 64,
        heap_path: str | os.PathLike[str] | None = None,
        staleness_check_interval: float = 0.25,
        verify_checksums: bool = True,
        max_segment_bytes: int = 1 << 30,
    ) -> None:
        """Remembers the path. The files are made by the first change."""
        if slot_size < key_size + 21:
            # Salt's class refuses this, and programs may rely on it to find a wrong setting.
            raise ValueError(f"slot_size {slot_size} has no room for a key of {key_size} bytes")
        self.path = os.path.realpath(path)
        self.size, self.slot_size, self.key_size = size, slot_size, key_size
        self._options: dict[str, Any] = {
            "max_segment_bytes": max(max_segment_bytes, _LEAST_SEGMENT)
        }
        if heap_path is not None:
            self._options["heap_path"] = os.path.realpath(heap_path)
        self._map: mmapcache.MmapCache | None = None

    def open(self, write: bool = False) -> bool:
        """Opens the files, and makes them if ``write`` is set; returns whether they are open."""
        try:
            self._opened(write)
        except (MmapCacheError, OSError) as error:
            log.error("%s", error)
            return False
        return self._map is not None

    def _opened(self, write: bool) -> mmapcache.MmapCache | None:
        if self._map is None and (write or os.path.exists(self.path)):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._map = mmapcache.MmapCache(self.path, **self._options)
        return self._map

    def close(self) -> None:
        """Closes the files; the next call opens them again."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def put(self, key: str | bytes, value: str | bytes | None = None) -> bool:
        """Stores a value, or only the key; returns whether that succeeded."""
        try:
            found = self._opened(True)
            assert found is not None
            found.put(_to_bytes(key), _to_bytes(value))
        except (MmapCacheError, OSError) as error:
            log.error("%s", error)
            return False
        return True

    def get(self, key: str | bytes, default: Any = None) -> Any:
        """Returns the value of a key, True if it has none, ``default`` if it is absent."""
        found = self._opened(False)
        value = None if found is None else found.get(_to_bytes(key))
        return default if value is None else _from_bytes(value)

    def get_mtime(self, key: str | bytes) -> float | None:
        """Returns when the key was stored, in seconds since 1970; None if it is absent."""
        found = self._opened(False)
        version = None if found is None else found.version(_to_bytes(key))
        return None if version is None else version / 1e9

    def delete(self, key: str | bytes) -> bool:
        """Removes a key; returns whether it was there."""
        try:
            found = self._opened(False)
            return found is not None and found.delete(_to_bytes(key))
        except (MmapCacheError, OSError) as error:
            log.error("%s", error)
            return False

    def contains(self, key: str | bytes) -> bool:
        """Returns whether the key is there."""
        return self.get(key) is not None

    def list_keys(self) -> list[str | bytes]:
        """Returns all keys, in no order."""
        found = self._opened(False)
        return [] if found is None else [_text(key) for key in found]

    def list_items(self) -> list[tuple[str | bytes, Any]]:
        """Returns all keys with their values, in no order."""
        found = self._opened(False)
        if found is None:
            return []
        return [(_text(key), _from_bytes(value)) for key, value in found.items()]

    def get_stats(self) -> dict[str, int | float]:
        """Returns the counts of Salt's class. There are no deleted slots here, so they are 0."""
        found = self._opened(False)
        total = max(1, self.size - 1)
        occupied = 0 if found is None else len(found)
        usage = None if found is None else found.disk_usage()
        return {
            "occupied": occupied,
            "deleted": 0,
            "empty": max(0, total - occupied),
            "total": total,
            "load_factor": occupied / total,
            "heap_size_bytes": 0 if usage is None else usage["heap"],
            "heap_live_bytes": 0 if found is None else sum(map(len, found.values())),
        }

    def atomic_rebuild(self, iterator: Iterable[Any]) -> bool:
        """Replaces everything at once by pairs, or by keys alone; returns whether that succeeded.

        Readers see either all of the old entries or all of the new ones.
        """
        try:
            found = self._opened(True)
            assert found is not None
            found.atomic_rebuild(_pairs(iterator))
        except (MmapCacheError, OSError) as error:
            log.error("%s", error)
            return False
        return True


def _pairs(items: Iterable[Any]) -> Iterator[tuple[bytes, bytes]]:
    for item in items:
        if isinstance(item, list | tuple):
            key, value = (item[0], item[1]) if len(item) > 1 else (item[0], None)
        else:
            key, value = item, None
        # What a listing of this class returns for a key alone.
        yield _to_bytes(key), _to_bytes(None if value is True else value)


def _to_bytes(value: str | bytes | None) -> bytes:
    if value is None:
        return b""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)


def _from_bytes(value: bytes) -> Any:
    return True if not value else _text(value)


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
