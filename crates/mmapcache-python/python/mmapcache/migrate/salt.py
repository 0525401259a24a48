"""Moves the banks of Salt's drivers ``localfs`` and ``mmap_cache`` to the driver ``mmapcache``.

The source is a cache directory of Salt. A file ``BANK/KEY.p`` is a key of ``localfs``; a file
``BANK/.mmap_cache.idx`` makes its directory a bank of ``mmap_cache``. Directories may hold both.

An entry is moved with the time of its writing, unless the destination has one that is as new. So
the command can be repeated while Salt still writes to the source, and does not undo what Salt
has written to the destination since. Deadlines that Salt wrapped into the data become real ones.
Banks without entries are not moved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgpack

from mmapcache import salt as driver
from mmapcache._banks import Banks
from mmapcache.migrate import outcome
from mmapcache.migrate.outcome import Outcome
from mmapcache.migrate.salt_mmap import INDEX_NAME, KEY_SIZE, SLOT_SIZE, MmapBank, WrongLayoutError

_KEY_SUFFIX = ".p"
_OWN_DIRECTORY = "mmapcache"
# Times are floating-point seconds; localfs has those of its file system.
_SAME_TIME = 1e-6


class Layout(NamedTuple):
    """The sizes of ``mmap_cache`` that Salt's configuration sets."""

    slot_size: int = SLOT_SIZE
    key_size: int = KEY_SIZE


class _Source(NamedTuple):
    """An entry of the source: its packed data, and when it was written."""

    bank: str
    key: str
    packed: bytes
    written_at: float


def move(
    source: str,
    destination: str,
    *,
    banks: Iterable[str] = (),
    layout: Layout | None = None,
    result: Outcome | None = None,
) -> Outcome:
    """Moves ``banks``, or all, from one cache directory of Salt to another, or to the same.

    Returns what became of each entry. Raises OSError if the source cannot be listed at all, and the
    errors of mmapcache if the destination cannot be written.
    """
    result = result if result is not None else Outcome()
    to = driver.banks(destination)
    for entry in _entries(source, sorted(set(banks)), layout or Layout(), result):
        _move_entry(to, entry, result)
    if result.counts[outcome.MOVED]:
        to.cache().flush()
    return result


def _move_entry(to: Banks, entry: _Source, result: Outcome) -> None:
    name = f"{entry.bank}/{entry.key}"
    try:
        data, has_extensions = _unpack(entry.packed)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        result.count(outcome.UNREADABLE, name, f"not msgpack: {error}")
        return
    packed, expires_at = entry.packed, None
    if isinstance(data, dict) and set(data) == {"data", "_expires"}:
        if not isinstance(data["_expires"], int | float):
            result.count(outcome.UNREADABLE, name, "its deadline is no number")
            return
        expires_at = float(data["_expires"])
        packed = msgpack.packb(data["data"], use_bin_type=True)
        if expires_at <= time.time():
            result.count(outcome.EXPIRED)
            return
    there = to.entry(entry.bank, entry.key)
    if there is not None:
        newer = driver.written_at(there.value) - entry.written_at
        if newer > -_SAME_TIME:
            result.count(outcome.UNCHANGED if newer < _SAME_TIME else outcome.NEWER)
            return
    value = driver.encode_moved(packed, written_at=entry.written_at, has_extensions=has_extensions)
    to.store(entry.bank, entry.key, value, expires_at=expires_at)
    result.count(outcome.MOVED)


def _unpack(packed: bytes) -> tuple[Any, bool]:
    """Returns packed data, and whether it has types of Salt, which stay as they are packed."""
    codes = []

    def keep(code: int, data: bytes) -> msgpack.ExtType:
        codes.append(code)
        return msgpack.ExtType(code, data)

    # Maps may have tuples as keys.
    data = msgpack.unpackb(packed, raw=False, strict_map_key=False, use_list=False, ext_hook=keep)
    return data, bool(codes)


def _entries(source: str, banks: list[str], layout: Layout, result: Outcome) -> Iterator[_Source]:
    for start in banks or [""]:
        top = os.path.join(source, start) if start else source
        if not os.path.isdir(top):
            raise NotADirectoryError(20, "no such bank in the source", top)
        # os.walk does not follow links to directories, as they may form a circle.
        for directory, directories, files in os.walk(top, onerror=_unlisted(result)):
            bank = os.path.relpath(directory, source)
            bank = "" if bank == "." else bank
            if not bank and _OWN_DIRECTORY in directories:
                directories.remove(_OWN_DIRECTORY)
            directories.sort()
            for file in sorted(files):
                path = os.path.join(directory, file)
                if file == INDEX_NAME:
                    yield from _mmap_entries(bank, path, layout, result)
                elif file.endswith(_KEY_SUFFIX):
                    yield from _file_entry(bank, path, result)


def _unlisted(result: Outcome) -> Any:
    def report(error: OSError) -> None:
        result.count(outcome.UNREADABLE, str(error.filename), error.strerror or str(error))

    return report


def _file_entry(bank: str, path: str, result: Outcome) -> Iterator[_Source]:
    key = os.path.basename(path)[: -len(_KEY_SUFFIX)]
    try:
        with open(path, "rb") as file:
            written_at = os.fstat(file.fileno()).st_mtime
            packed = file.read()
    except FileNotFoundError:
        result.count(outcome.GONE)
    except OSError as error:
        result.count(outcome.UNREADABLE, path, error.strerror or str(error))
    else:
        yield _Source(bank, key, packed, written_at)


def _mmap_entries(bank: str, index: str, layout: Layout, result: Outcome) -> Iterator[_Source]:
    try:
        for slot in MmapBank(index, layout.slot_size, layout.key_size).slots():
            if slot.value is None:
                result.count(outcome.UNREADABLE, f"{bank}/{slot.key}", slot.problem)
                continue
            if slot.may_be_cut:
                result.count(
                    outcome.CUT, f"{bank}/{slot.key}", "the key fills its slot: it may be longer"
                )
            # Presence without data; Salt returns an empty dictionary for it.
            packed = slot.value or msgpack.packb({})
            yield _Source(bank, slot.key, packed, slot.written_at)
    except FileNotFoundError:
        result.count(outcome.GONE)
    except (OSError, WrongLayoutError) as error:
        result.count(outcome.UNREADABLE, index, str(error))
