"""Salt's cache in mmapcache: the driver ``mmapcache`` for ``salt.cache``.

Install the package into Salt's Python (``salt-pip install mmapcache``), then set in the
configuration of the master or minion::

    cache: mmapcache

Salt finds the driver by the entry point ``salt.loader``, which names :func:`loader_dirs`. The
driver's functions are those of ``salt.cache`` with the meaning that ``localfs`` gives them, and

* ``store(..., expires=seconds)`` gives the entry a deadline of its own: an entry that has expired
  is absent to every function at once, by one clock, in every process;
* values are msgpack with maps of any keys; what plain msgpack has no type for (dates, sets, large
  integers) is encoded by ``salt.payload`` as ``localfs`` does;
* names and keys may have any characters and any length.

Differences from ``localfs``: ``list`` names a key and a sub-bank of the same name once; a key is
not looked for inside the value of a key that is named as its bank; ``..`` does not lead out of the
cache.

The files are ``mmapcache/banks`` in Salt's ``cachedir``, for the owner only. Nothing in them is
evicted. Functions raise ``salt.exceptions.SaltCacheError``.
"""

from __future__ import annotations

import functools
import logging
import os
import struct
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import msgpack

from mmapcache import MmapCacheError
from mmapcache._banks import KEY, Banks

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The first byte of a value: how the data is encoded. Then the moment of its writing, in seconds
# since 1970, which `updated` returns: of data that was moved here it is that of the source, and the
# engine's own is that of a clock that ticks every 4 ms.
_PLAIN = 1
_PAYLOAD = 2
_HEAD = struct.Struct("<Bd")

_banks: dict[str, Banks] = {}


def loader_dirs() -> dict[str, list[str]]:
    """Returns where Salt's loader finds the driver; called through the entry point."""
    here = os.path.dirname(os.path.abspath(__file__))
    return {"cache": [os.path.join(here, "_salt_loader", "cache")]}


def banks(cachedir: str) -> Banks:
    """Returns the banks in a cache directory of Salt; one object for each directory."""
    try:
        return _banks[cachedir]
    except KeyError:
        return _banks.setdefault(cachedir, Banks(os.path.join(cachedir, "mmapcache", "banks")))


def encode(data: Any) -> bytes:
    """Returns data as the driver stores it; raises ``SaltCacheError`` for what has no encoding."""
    now = time.time()
    try:
        packed: bytes = msgpack.packb(data, use_bin_type=True)
        return _HEAD.pack(_PLAIN, now) + packed
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        # Several times slower, so it gets only what plain msgpack refuses.
        import salt.payload

        packed = salt.payload.dumps(data, use_bin_type=True)
        return _HEAD.pack(_PAYLOAD, now) + packed
    except Exception as error:
        raise _error(f"the data cannot be encoded: {error}") from error


def encode_moved(packed: bytes, *, written_at: float, has_extensions: bool) -> bytes:
    """Returns packed data of another driver as this one stores it.

    ``written_at`` is the moment of its writing, in seconds since 1970. ``has_extensions`` says
    whether ``salt.payload`` has to decode the data.
    """
    return _HEAD.pack(_PAYLOAD if has_extensions else _PLAIN, written_at) + packed


def decode(value: bytes) -> Any:
    """Returns the data of a stored value."""
    encoding, _ = _head(value)
    return _unpack(encoding, memoryview(value)[_HEAD.size :])


def written_at(value: bytes) -> float:
    """Returns when a stored value was written, in seconds since 1970."""
    return _head(value)[1]


def _head(value: bytes) -> tuple[int, float]:
    if len(value) < _HEAD.size:
        raise _error("an entry is too short, so another program stored it")
    encoding, moment = _HEAD.unpack_from(value)
    return encoding, moment


def _unpack(encoding: int, packed: memoryview) -> Any:
    try:
        if encoding == _PLAIN:
            try:
                return msgpack.unpackb(packed, raw=False, strict_map_key=False)
            except TypeError:
                # A tuple was the key of a map.
                return msgpack.unpackb(packed, raw=False, strict_map_key=False, use_list=False)
        if encoding == _PAYLOAD:
            import salt.payload

            return salt.payload.loads(bytes(packed), encoding="utf-8")
    except Exception as error:
        raise _error(f"an entry cannot be decoded: {error}") from error
    raise _error(f"an entry has the unknown encoding {encoding}: a newer release stored it")


def _error(text: str) -> Exception:
    try:
        from salt.exceptions import SaltCacheError
    except ImportError:
        # The migration runs without Salt.
        return ValueError(text)
    error: Exception = SaltCacheError(text)
    return error


def _raises_salt_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    # Above all no TypeError may come out of `store`: Salt would take it for a driver without
    # deadlines, and store again, with the deadline in the value.
    @functools.wraps(function)
    def with_salt_errors(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except (MmapCacheError, OSError, TypeError, ValueError) as error:
            raise _error(f"mmapcache: {error}") from error

    return with_salt_errors


def init_kwargs(kwargs: dict[str, Any], cachedir: str) -> dict[str, Any]:
    """Returns the arguments that ``salt.cache.Cache`` adds to each call."""
    return {"cachedir": kwargs.get("cachedir") or cachedir}


def get_storage_id(kwargs: dict[str, Any]) -> tuple[str, str]:
    """Returns what tells this storage from others."""
    return "mmapcache", kwargs["cachedir"]


@_raises_salt_errors
def store(bank: str, key: str, data: Any, cachedir: str, expires: float | None = None) -> None:
    """Stores data under a key of a bank, for ``expires`` seconds; None and 0 mean no end.

    With a negative number of seconds the key has expired at once.
    """
    # The engine stores milliseconds.
    expires_at = round(time.time() + expires, 3) if expires else None
    banks(cachedir).store(bank, key, encode(data), expires_at=expires_at)


@_raises_salt_errors
def fetch(bank: str, key: str, cachedir: str) -> Any:
    """Returns the data of a key; an empty dictionary if it is absent or has expired."""
    value = banks(cachedir).get(bank, key)
    return {} if value is None else decode(value)


@_raises_salt_errors
def updated(bank: str, key: str, cachedir: str) -> int | None:
    """Returns when the key was stored, in whole seconds since 1970; None if it is absent."""
    value = banks(cachedir).get(bank, key)
    return None if value is None else int(written_at(value))


@_raises_salt_errors
def flush(bank: str, key: str | None, cachedir: str) -> bool:
    """Removes a key, or a bank with its keys and sub-banks if ``key`` is None.

    Returns whether it was there.
    """
    where = banks(cachedir)
    return where.remove_bank(bank) if key is None else where.remove(bank, key)


@_raises_salt_errors
def list_names(bank: str, cachedir: str) -> list[str]:
    """Returns the names of the keys and sub-banks of a bank, in no order."""
    return list(dict.fromkeys(member.name for member in banks(cachedir).members(bank)))


@_raises_salt_errors
def list_all(bank: str, cachedir: str, include_data: bool = False) -> dict[str, Any]:
    """Returns the keys of a bank with their data, or with empty dictionaries without it.

    An entry that cannot be decoded is left out, and logged.
    """
    where = banks(cachedir)
    if not include_data:
        return {member.name: {} for member in where.members(bank) if member.kind == KEY}
    found = {}
    for name, value in where.items(bank):
        try:
            found[name] = decode(value)
        except Exception as error:
            log.error("mmapcache: bank %r, key %r: %s", bank, name, error)
    return found


@_raises_salt_errors
def contains(bank: str, key: str | None, cachedir: str) -> bool:
    """Returns whether the key is there and has not expired, or whether there is such a bank."""
    where = banks(cachedir)
    return where.contains_bank(bank) if key is None else where.contains(bank, key)


@_raises_salt_errors
def clean_expired(bank: str, cachedir: str) -> None:
    """Frees the room of expired keys: those of ``bank`` in its table, all in the files.

    Calling it is not needed: expired keys are absent at once, and stores free room step by step.
    """
    where = banks(cachedir)
    where.clean(bank)
    where.cache().sweep()
