"""Open caches of this process, which backend objects of frameworks share, and what these do alike.

Django makes a backend object for each thread, Flask-Caching for each application, dogpile.cache
for each region. Each would open the same files again: 700 MB of address space, some file
descriptors and 0.1 ms. They get the same handle instead, which threads share and a forked child
may go on using.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import mmapcache
from mmapcache.codecs import Codec, CodecError, decode, encode

__all__ = [
    "DEFAULT_MAX_BYTES",
    "MISSING",
    "add_value",
    "change_value",
    "has_value",
    "load",
    "open_cache",
    "open_map",
    "options_from_text",
]

DEFAULT_MAX_BYTES = 1 << 30
"""Bytes of disk that a backend's cache takes if its settings name no bound: 1 GiB."""

MISSING: Any = object()
"""Says that there is no value, where None is a value."""

_KEPT_OPEN = 16
_NUMBERS = frozenset(
    ("max_bytes", "max_entries", "capacity", "max_segment_bytes", "file_mode", "lock_timeout")
)

_lock = threading.Lock()
_open: WeakValueDictionary[Any, Any] = WeakValueDictionary()
# The handles that were asked for last. Without them a server with a new thread for each request
# would open the files for each request.
_recent: OrderedDict[Any, Any] = OrderedDict()


def _renew_lock() -> None:
    # In a forked child: a thread that is not in the child may have held the lock.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def open_cache(path: Any, options: Mapping[str, Any]) -> mmapcache.Cache:
    """Returns the `Cache` of this process at `path`, opened with these options.

    Makes the folder of the path. Without `max_bytes` among the options the bound is
    `DEFAULT_MAX_BYTES`; `max_bytes=None` is no bound. Opens the files again if they were removed
    since, or a caller closed the handle.

    Raises IsADirectoryError if the path is a folder, and what opening raises.
    """
    handle: mmapcache.Cache = _shared(
        mmapcache.Cache, path, {"max_bytes": DEFAULT_MAX_BYTES, **options}
    )
    return handle


def open_map(path: Any, options: Mapping[str, Any]) -> mmapcache.MmapCache:
    """Returns the `MmapCache` of this process at `path`; otherwise as `open_cache`."""
    handle: mmapcache.MmapCache = _shared(mmapcache.MmapCache, path, options)
    return handle


def _shared(kind: Callable[..., Any], path: Any, options: Mapping[str, Any]) -> Any:
    real = os.path.realpath(os.path.expanduser(os.fspath(path)))
    key = (kind, real, repr(sorted(options.items())))
    with _lock:
        handle = _open.get(key)
        if handle is None or handle.closed or not os.path.exists(real):
            handle = _open_files(kind, real, options)
            _open[key] = handle
        _recent[key] = handle
        _recent.move_to_end(key)
        while len(_recent) > _KEPT_OPEN:
            _recent.popitem(last=False)
        return handle


def _open_files(kind: Callable[..., Any], real: str, options: Mapping[str, Any]) -> Any:
    if os.path.isdir(real):
        example = os.path.join(real, "cache")
        raise IsADirectoryError(f"{real} is a folder; name a file in it, such as {example}")
    # Other users of the machine have no business with what is cached.
    os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
    return kind(real, **options)


def options_from_text(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options in which numbers that a configuration file gave as text are numbers.

    Raises ValueError, which names the option, for text that is no number.
    """
    return {
        name: _number(name, value) if isinstance(value, str) and name in _NUMBERS else value
        for name, value in options.items()
    }


def _number(name: str, text: str) -> float | int:
    try:
        return float(text) if name == "lock_timeout" else int(text, 0)
    except ValueError:
        raise ValueError(f"option {name}: {text!r} is no number") from None


def load(codec: Codec, data: bytes | None, default: Any = MISSING) -> Any:
    """Returns the object in `data`; `default` if there is none, or another codec's, or damage."""
    if data is None:
        return default
    try:
        return decode(codec, data)
    except CodecError:
        return default


def has_value(store: mmapcache.Cache, codec: Codec, key: bytes) -> bool:
    """Returns whether there is a value that `codec` reads."""
    return load(codec, store.get(key)) is not MISSING


def add_value(store: mmapcache.Cache, codec: Codec, key: bytes, value: Any, **life: Any) -> bool:
    """Stores `value` unless there is one that `codec` reads. Returns whether it stored.

    Replaces a value of another codec: it is a miss to readers, who could otherwise not add theirs
    until it expires. Atomic across processes.
    """
    data = encode(codec, value)
    while store.add(key, data, **life) is None:
        entry = store.entry(key)
        if entry is None:
            continue
        if not entry.is_negative and load(codec, entry.value) is not MISSING:
            return False
        if store.insert_if(key, data, entry.version, **life) is not None:
            break
    return True


def change_value(
    store: mmapcache.Cache, codec: Codec, key: bytes, change: Callable[[Any], Any]
) -> Any:
    """Replaces a value by what `change` returns for it, and returns that; MISSING if there is none.

    The deadline stays. Atomic across processes: if another writer comes in between, `change` is
    called again with the value that is there then. What `change` raises changes nothing.
    """
    while True:
        entry = store.entry(key)
        value = MISSING if entry is None or entry.is_negative else load(codec, entry.value)
        if entry is None or value is MISSING:
            return MISSING
        changed = change(value)
        life = {"no_expiry": True} if entry.expires_at is None else {"expires_at": entry.expires_at}
        if store.insert_if(key, encode(codec, changed), entry.version, **life) is not None:
            return changed
