"""A cache with the interface of cachelib, shared by all processes of a machine.

    from mmapcache.cachelib import MmapCache

    cache = MmapCache("/var/cache/shop/cache", default_timeout=600)
    cache.set("greeting", "hello")

As in cachelib a timeout is whole seconds or a `timedelta`: None is the default timeout, 0 never
ends, and one below 0 is over at once.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
from typing import Any

from cachelib.base import BaseCache

import mmapcache
from mmapcache import MmapCacheError
from mmapcache._keys import store_key
from mmapcache._shared import (
    MISSING,
    add_value,
    change_value,
    has_value,
    load,
    open_cache,
)
from mmapcache.codecs import Codec, encode, get_codec

__all__ = ["MmapCache"]

_logger = logging.getLogger(__name__)


class MmapCache(BaseCache):
    """A cache at `path`, a file that need not exist yet; its folder is made.

    An expired entry is absent to every method. `add`, `inc` and `dec` are atomic across
    processes, and these two keep the deadline of an entry that is there. What another codec has
    stored is a miss.

    A full disk, a value that is too large, or a lock that another process holds too long, is
    logged and answered by False or None, as cachelib asks of a backend; other errors are raised,
    and so is a TypeError for a value that the codec does not support.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_timeout: int | dt.timedelta = 300,
        ignore_delete_many_errors: bool = True,
        codec: str | Codec = "msgpack",
        threshold: int | None = None,
        **options: Any,
    ) -> None:
        """Opens the cache.

        `codec` says how values are stored: "msgpack", "json", "bytes", "pickle", or your own;
        read in `mmapcache.codecs` what pickle risks. `threshold` is the number of entries above
        which the cache evicts; 0 and None are no bound. `options` are those of `mmapcache.Cache`;
        `max_bytes` is 1 GiB if it is not given.
        """
        super().__init__(default_timeout, ignore_delete_many_errors)
        if threshold:
            options["max_entries"] = threshold
        self._codec = get_codec(codec)
        self.store: mmapcache.Cache = open_cache(path, options)

    def _life(self, timeout: int | dt.timedelta | None) -> dict[str, Any] | None:
        """Returns the life of an insertion; None if it ends before it begins."""
        seconds = self._normalize_timeout(timeout)
        if seconds == 0:
            return {"no_expiry": True}
        return {"ttl": seconds} if seconds > 0 else None

    def get(self, key: str) -> Any:
        """Returns the value; None if there is none."""
        return load(self._codec, self.store.get(store_key(key)), None)

    def get_many(self, *keys: str) -> list[Any]:
        """Returns a value, or None, for each key in turn; one pass through the index."""
        found = self.store.get_many([store_key(key) for key in keys])
        return [load(self._codec, data, None) for data in found]

    def has(self, key: str) -> bool:
        """Returns whether there is a value; decodes it."""
        return has_value(self.store, self._codec, store_key(key))

    def set(self, key: str, value: Any, timeout: int | dt.timedelta | None = None) -> bool | None:
        """Stores a value; returns False if that fails. A negative timeout removes it."""
        life = self._life(timeout)
        data = encode(self._codec, value)
        try:
            if life is None:
                self.store.remove(store_key(key))
            else:
                self.store.insert(store_key(key), data, **life)
        except (MmapCacheError, OSError) as error:
            return _failed(key, error)
        return True

    def set_many(
        self, mapping: dict[str, Any], timeout: int | dt.timedelta | None = None
    ) -> list[Any]:
        """As cachelib's. One lock for all; nothing is stored if the codec refuses any value."""
        life = self._life(timeout)
        pairs = [(store_key(key), encode(self._codec, value)) for key, value in mapping.items()]
        try:
            if life is None:
                self.store.remove_many([key for key, _ in pairs])
            else:
                self.store.insert_many(pairs, **life)
        except (MmapCacheError, OSError):
            # One by one, to learn which ones fail.
            return super().set_many(mapping, timeout)
        return list(mapping)

    def add(self, key: str, value: Any, timeout: int | dt.timedelta | None = None) -> bool:
        """Stores a value if there is none; returns whether it did."""
        life = self._life(timeout)
        if life is None:
            encode(self._codec, value)  # An unsupported type is an error for every timeout.
            return not self.has(key)
        try:
            return add_value(self.store, self._codec, store_key(key), value, **life)
        except (MmapCacheError, OSError) as error:
            return _failed(key, error)

    def delete(self, key: str) -> bool:
        """Removes a value; returns whether there was one."""
        return self.store.remove(store_key(key))

    def clear(self) -> bool:
        """Removes every entry of the files."""
        self.store.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Adds `delta` and returns the sum.

        A missing entry counts as 0, and so does None; it gets the default timeout. An entry that
        is there keeps its deadline.
        """
        store_as = store_key(key)
        try:
            while True:
                changed: int = change_value(
                    self.store, self._codec, store_as, lambda value: (value or 0) + delta
                )
                if changed is not MISSING:
                    return changed
                if self.add(key, delta):
                    return delta
        except (MmapCacheError, OSError) as error:
            _failed(key, error)
            return None

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtracts `delta`; otherwise as `inc`."""
        return self.inc(key, -delta)


def _failed(key: str, error: Exception) -> bool:
    _logger.warning("the entry %r was not stored: %s", key, error)
    return False
