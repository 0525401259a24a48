"""A cache for CacheControl, the HTTP cache of `requests` sessions that `pip` uses too.

    session = CacheControl(requests.Session(), cache=MmapCache("/var/cache/shop/http"))

Response and body are one entry, so no reader finds one without the other.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

from cachecontrol.cache import BaseCache

import mmapcache
from mmapcache._keys import store_key
from mmapcache._shared import open_cache

__all__ = ["MmapCache"]


class MmapCache(BaseCache):
    """A cache at `path`, a file that need not exist yet; its folder is made.

    CacheControl encodes responses by msgpack; there is nothing to unpickle. A response that is too
    large for the cache is not stored.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Opens the cache.

        `options` are those of `mmapcache.Cache`; `max_bytes` is 1 GiB if it is not given.
        """
        self.store: mmapcache.Cache = open_cache(path, options)

    def get(self, key: str) -> bytes | None:
        """Returns the response as CacheControl encoded it, None if there is none."""
        return self.store.get(store_key(key))

    def set(self, key: str, value: bytes, expires: int | dt.datetime | None = None) -> None:
        """Stores a response until `expires`.

        That is a number of seconds from now, or a moment, in UTC if it is naive; None and 0 are
        without end.
        """
        if isinstance(expires, dt.datetime):
            moment = expires if expires.tzinfo else expires.replace(tzinfo=dt.timezone.utc)
            life: dict[str, Any] = {"expires_at": moment.timestamp()}
        elif expires:
            life = {"ttl": max(expires, 0)}
        else:
            life = {"no_expiry": True}
        try:
            self.store.insert(store_key(key), value, **life)
        except mmapcache.ValueTooLargeError:
            # What was stored before is not this response. Others are served, and not cached.
            self.store.remove(store_key(key))

    def delete(self, key: str) -> None:
        """Removes a response; none is no error."""
        self.store.remove(store_key(key))

    def close(self) -> None:
        """Does nothing: other sessions of the process may use the open cache."""
