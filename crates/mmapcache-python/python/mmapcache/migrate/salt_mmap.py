"""A bank of Salt's driver ``mmap_cache`` (3008.5), read by its layout.

Salt's own reader is not used: it needs Salt, it leaves entries out of its listing without an error
(those whose value ends in a zero byte), and it returns "absent" for an entry that is damaged.

The index is an array of slots, number 0 being the header. Neither file says how large a slot is;
that is in Salt's configuration (``mmap_cache_slot_size``, ``mmap_cache_key_size``).

================= ======================================================================
header            magic (1 byte), number of used slots (u64), and what is not needed here
slot of the index status (1: used), key padded with zeros, heap offset (u64), length of
                  the value (u32), time of writing in nanoseconds (u64), padding
offset            segment in the upper 16 bits, place in the segment in the lower 48
heap              XXH3-64 of the value (u64), value; one after another
================= ======================================================================
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

INDEX_NAME = ".mmap_cache.idx"
SLOT_SIZE = 96
KEY_SIZE = 64

_HEADER_MAGIC = 0xAB
_USED = b"\x01"
_POINTER = struct.Struct("<QIQ")
_CHECKSUM = struct.Struct("<Q")
_COUNT = struct.Struct("<Q")
_PLACE_BITS = 48
# A time in nanoseconds, in 2059. Eight bytes of text, read as a number, are more: with wrong sizes
# the reader may find them in the place of the time.
_LATEST = 2_840_000_000 * 10**9


class Slot(NamedTuple):
    """A used slot: the key, and the value or why it cannot be read."""

    key: str
    value: bytes | None
    problem: str
    written_at: float
    may_be_cut: bool


class WrongLayoutError(ValueError):
    """The files are no bank of this layout, or have slots of another size."""


class MmapBank:
    """Reads the bank whose index is at ``index_path``, under a shared lock on Salt's lock file."""

    def __init__(self, index_path: str, slot_size: int, key_size: int) -> None:
        if key_size < 1 or slot_size < 1 + key_size + _POINTER.size:
            raise WrongLayoutError(
                f"a slot of {slot_size} bytes has no room for a key of {key_size}"
            )
        self._path = index_path
        self._slot_size = slot_size
        self._key_size = key_size
        try:
            from xxhash import xxh3_64_intdigest
        except ImportError as error:
            raise WrongLayoutError(
                "checking a bank of mmap_cache needs the package xxhash, which Salt installs too"
            ) from error
        self._hash = xxh3_64_intdigest
        self._heaps: dict[int, int] = {}

    def slots(self) -> Iterator[Slot]:
        """Yields the used slots. Salt's writers wait until the end."""
        lock = _open_shared(self._path + ".lock")
        try:
            yield from self._read()
        finally:
            for heap in self._heaps.values():
                os.close(heap)
            self._heaps.clear()
            if lock is not None:
                os.close(lock)

    def _read(self) -> Iterator[Slot]:
        with open(self._path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0 or size % self._slot_size:
                raise WrongLayoutError(self._other_size(f"an index of {size} bytes"))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as index:
                if index[0] != _HEADER_MAGIC:
                    raise WrongLayoutError("the index has no header of mmap_cache")
                statuses = index[:: self._slot_size]
                [counted] = _COUNT.unpack_from(index, 1)
                used = statuses.count(_USED, 1)
                if used != counted:
                    # Salt counts again after a crash, when it next stores something.
                    raise WrongLayoutError(
                        self._other_size(
                            f"a header that counts {counted} entries, with {used} found,"
                        )
                    )
                number = statuses.find(_USED, 1)
                while number != -1:
                    start = number * self._slot_size
                    yield self._slot(index[start : start + self._slot_size])
                    number = statuses.find(_USED, number + 1)

    def _slot(self, slot: bytes) -> Slot:
        raw_key = slot[1 : 1 + self._key_size]
        key = raw_key.split(b"\0", 1)[0]
        offset, length, written = _POINTER.unpack_from(slot, 1 + self._key_size)
        if not 0 < written < _LATEST:
            raise WrongLayoutError(self._other_size("a time of writing that cannot be"))
        value, problem = self._value(offset, length)
        name = key.decode("utf-8", "surrogateescape")
        return Slot(name, value, problem, written / 1e9, len(key) == self._key_size)

    def _value(self, offset: int, length: int) -> tuple[bytes | None, str]:
        if length == 0:
            return b"", ""
        segment, place = offset >> _PLACE_BITS, offset & ((1 << _PLACE_BITS) - 1)
        try:
            heap = self._heap(segment)
            if place + _CHECKSUM.size + length > os.fstat(heap).st_size:
                return None, f"its value would end after the end of heap segment {segment}"
            record = os.pread(heap, _CHECKSUM.size + length, place)
        except OSError as error:
            return None, f"heap segment {segment}: {error.strerror}"
        value = record[_CHECKSUM.size :]
        if len(value) != length or _CHECKSUM.unpack_from(record)[0] != self._hash(value):
            return None, "the checksum of its value is wrong"
        return value, ""

    def _heap(self, segment: int) -> int:
        if segment not in self._heaps:
            suffix = f".{segment}" if segment else ""
            path = f"{self._path}.heap{suffix}"
            self._heaps[segment] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._heaps[segment]

    def _other_size(self, what: str) -> str:
        return (
            f"{what} does not fit slots of {self._slot_size} bytes: give --slot-size and "
            "--key-size as in Salt's configuration"
        )


def _open_shared(path: str) -> int | None:
    """Opens a lock file and waits for a shared lock; None if there is no such file."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        os.close(lock)
        raise
    return lock
