"""A backend for dogpile.cache, whose mutexes hold across processes.

    from dogpile.cache import make_region

    region = make_region().configure(
        "mmapcache", expiration_time=3600, arguments={"path": "/var/cache/shop/regions"}
    )

With the package installed dogpile.cache finds the name by itself; otherwise import this module,
which registers it. Arguments:

- `path`: the path of the cache, a file that need not exist yet. Regions of one process with the
same
  path and options share one open cache. Two regions on one path see each other's keys.
- `codec`: how values are stored: "msgpack" if it is not given, "json", "bytes", "pickle", or your
own.
  Read in `mmapcache.codecs` what pickle risks; dogpile.cache's other backends use it always. A
  serializer that the region names takes precedence.
- `ttl`: seconds after which the cache may drop an entry; None, as if not given, is never. Let it be
  longer than the region's `expiration_time`: an expired value is what other threads and processes
  get while one of them computes the next.
- `process_mutex`: True if it is not given: while one process creates a value, others wait or take
the
  expired one. The kernel frees the mutex of a process that dies. False: only threads of one process
  wait for each other.
- what `mmapcache.Cache` takes besides: `max_bytes` (1 GiB if it is not given), `max_entries`,
  `durability`, `file_mode`, and others. Numbers may be text, as in a configuration file.

`region.invalidate()` is dogpile.cache's own: other processes do not see it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dogpile.cache import register_backend
from dogpile.cache.api import (
    NO_VALUE,
    BytesBackend,
    CacheMutex,
    CantDeserializeException,
    NoValue,
    NoValueType,
)

import mmapcache
from mmapcache._keys import store_key
from mmapcache._mutex import FileMutex
from mmapcache._shared import open_cache, options_from_text
from mmapcache.codecs import (
    CodecError,
    MsgpackCodec,
    MsgpackType,
    decode,
    encode,
    get_codec,
)

__all__ = ["KeyMutex", "MmapCacheBackend"]

# A payload may be the mark of a missing value: a creator may return what a region gave it.
_CODEC = MsgpackCodec([MsgpackType(64, NoValue, lambda _: [], lambda _: NO_VALUE)])

_STORE_OPTIONS = frozenset(
    (
        "capacity",
        "compaction_threshold",
        "create",
        "durability",
        "eviction",
        "file_mode",
        "heap_path",
        "jitter",
        "lock_timeout",
        "max_bytes",
        "max_entries",
        "max_segment_bytes",
        "read_only",
    )
)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class KeyMutex(FileMutex, CacheMutex):
    """The mutex of one key, for all processes."""


class MmapCacheBackend(BytesBackend):
    """Stores the serialized values of a region as entries of a `mmapcache.Cache`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Opens the cache. Warns of arguments that it does not know.

        Raises ValueError without a path or for text that should be a number, and what opening
        raises.
        """
        given = options_from_text(arguments)
        path = given.pop("path", None)
        if not path:
            raise ValueError("arguments need a path, that of the cache")
        codec = given.pop("codec", _CODEC)
        self._codec = _CODEC if codec == "msgpack" else get_codec(codec)
        self._life = _life(given.pop("ttl", None))
        self._has_mutex = _flag("process_mutex", given.pop("process_mutex", True))
        options = {name: given.pop(name) for name in list(given) if name in _STORE_OPTIONS}
        if given:
            warnings.warn(f"unknown arguments: {', '.join(sorted(given))}", stacklevel=2)
        self.store: mmapcache.Cache = open_cache(path, options)
        self.serializer = self._serialize
        self.deserializer = self._deserialize

    def _serialize(self, payload: Any) -> bytes:
        return encode(self._codec, payload)

    def _deserialize(self, data: bytes) -> Any:
        try:
            return decode(self._codec, data)
        except CodecError as error:
            # The region creates the value again.
            raise CantDeserializeException(str(error)) from error

    def get_mutex(self, key: str) -> KeyMutex | None:
        """Returns the mutex of a key for all processes; None if they are off."""
        return KeyMutex(self.store.path, key) if self._has_mutex else None

    def get_serialized(self, key: str) -> bytes | NoValueType:
        """Returns the bytes of an entry, or NO_VALUE."""
        found = self.store.get(store_key(key))
        return NO_VALUE if found is None else found

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[bytes | NoValueType]:
        """Returns bytes or NO_VALUE for each key in turn."""
        found = self.store.get_many([store_key(key) for key in keys])
        return [NO_VALUE if data is None else data for data in found]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Stores an entry; replaces one that is there."""
        self.store.insert(store_key(key), value, **self._life)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Stores entries under one lock."""
        pairs = [(store_key(key), value) for key, value in mapping.items()]
        self.store.insert_many(pairs, **self._life)

    def delete(self, key: str) -> None:
        """Removes an entry; none is no error."""
        self.store.remove(store_key(key))

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Removes entries under one lock."""
        self.store.remove_many([store_key(key) for key in keys])


def _life(ttl: Any) -> dict[str, Any]:
    if isinstance(ttl, str):
        try:
            ttl = None if ttl.strip().lower() in ("", "none") else float(ttl)
        except ValueError:
            raise ValueError(f"ttl: {ttl!r} is no number") from None
    if ttl is None:
        return {"no_expiry": True}
    seconds = ttl.total_seconds() if hasattr(ttl, "total_seconds") else ttl
    if not seconds > 0:
        raise ValueError(f"ttl {ttl}; it is more than 0 seconds, or None")
    return {"ttl": seconds}


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"{name}: {value!r} is neither true nor false")
    return word in _TRUE


register_backend("mmapcache", __name__, "MmapCacheBackend")
