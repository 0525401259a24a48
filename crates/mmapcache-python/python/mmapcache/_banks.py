"""A tree of banks with keys in one :class:`mmapcache.Cache`, as Salt and its ``localfs`` see it.

A bank is what a directory is to ``localfs``, and a key is a file in it. All banks share one cache,
because Salt makes a bank for each job and, in older releases, for each minion: a cache of its own
would cost five files and 16 KiB each, and a bank could only be removed by unlinking files that
other processes have mapped.

The engine has no order of keys, so that each bank has a table of its members. Listing a bank reads
its table and nothing of other banks.

============ ============================ =======================================================
entry        key                          value
============ ============================ =======================================================
data         ``d`` + path of the key      what the caller stored; may have a deadline
key place    ``k`` + path of the key      slot in the table; the same deadline
bank place   ``s`` + path of the bank     slot in the table of the parent: the bank exists
member       ``m`` + path of bank + slot  ``k`` or ``s``, then the name of the key or sub-bank
table        ``t`` + path of the bank     number of slots, and where to look for unused ones next
============ ============================ =======================================================

Rule: a place in slot S means that member S has that name, and that S is below the number of slots.
Writers keep it in the order of their stores, so a process that is killed between two of them leaves
a correct tree, at worst with a slot whose member has no place (a hole), and with a name that is
listed and has no value. Holes also appear when a deadline passes; each insertion looks at a few
slots and closes those that it finds.

All changes are made under the writer lock of the cache. Readers take no lock; a listing begins
again if a writer changed the table during it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from mmapcache import Cache, CorruptionError, DiskFullError
from mmapcache._keys import LONGEST, store_key

if TYPE_CHECKING:
    from mmapcache import CacheEntry, CacheWriter

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

KEY = b"k"
BANK = b"s"
_DATA = b"d"
_MEMBER = b"m"
_TABLE = b"t"

_SLOT = struct.Struct("<Q")
_TABLE_VALUE = struct.Struct("<QQ")

# Slots that an insertion looks at. If every insertion replaces a key that expired, a table gets at
# most a third larger than its largest number of keys: a quarter of the slots is unused then, and an
# insertion finds one of four.
_SLOTS_PER_INSERTION = 4
_SLOTS_PER_READ = 1024
_LISTINGS_WITHOUT_LOCK = 3


class Member(NamedTuple):
    """A name in a bank: of a key (``kind`` is ``KEY``) or of a sub-bank (``BANK``)."""

    kind: bytes
    name: str


class Found(NamedTuple):
    """A value as it was stored, with its deadline in seconds since 1970, if it has one."""

    value: bytes
    expires_at: float | None


@lru_cache(maxsize=4096)
def bank_path(bank: str) -> str:
    """Returns the normal form of a bank's name: no empty parts, no ``.``; ``..`` goes one part up.

    The root is the empty text. Names never lead above it.
    """
    if not isinstance(bank, str):
        raise TypeError(f"the name of a bank must be text, not {type(bank).__name__}")
    parts: list[str] = []
    _append_parts(parts, bank.split("/"))
    return "/".join(parts)


def _append_parts(parts: list[str], names: list[str]) -> None:
    for name in names:
        if name == "..":
            if parts:
                parts.pop()
        elif name not in ("", "."):
            parts.append(name)


def split_key(bank: str, key: object) -> tuple[str, str]:
    """Returns the bank that holds ``key`` of ``bank``, in normal form, and the key's name in it.

    Key ``b/c`` of bank ``a`` is key ``c`` of bank ``a/b``, as the files of ``localfs`` are.
    """
    path, name = bank_path(bank), f"{key}"
    if "/" not in name:
        return path, name
    parts = path.split("/") if path else []
    *between, name = name.split("/")
    _append_parts(parts, between)
    return "/".join(parts), name


def _join(bank: str, name: str) -> str:
    return f"{bank}/{name}"


def _data_key(bank: str, name: str) -> bytes:
    return store_key(_join(bank, name), _DATA)


def _place_key(kind: bytes, bank: str, name: str) -> bytes:
    return store_key(_join(bank, name), kind)


def _member_key(bank: str, slot: int) -> bytes:
    # The slot goes last: the key then has the same form for paths that are hashed.
    return store_key(bank, _MEMBER) + _SLOT.pack(slot)


def _place_key_of(bank: str, path: bytes, member: bytes) -> bytes:
    """Returns the key of a member's place; `path` is that of the bank with a slash."""
    if len(path) + len(member) > LONGEST:
        kind, name = _decode_member(member)
        return _place_key(kind, bank, name)
    return member[:1] + path + member[1:]


def _table_key(bank: str) -> bytes:
    return store_key(bank, _TABLE)


def _parent(bank: str) -> tuple[str, str]:
    parent, _, name = bank.rpartition("/")
    return parent, name


def _encode_member(member: Member) -> bytes:
    return member.kind + member.name.encode("utf-8", "surrogatepass")


def _decode_member(value: bytes) -> Member:
    return Member(value[:1], value[1:].decode("utf-8", "surrogatepass"))


def _rebuilds(
    method: Callable[Concatenate[Banks, _P], _R],
) -> Callable[Concatenate[Banks, _P], _R]:
    """Makes a method that finds a damaged table rebuild all tables, and do its work then."""

    @wraps(method)
    def with_sound_tables(self: Banks, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self, *args, **kwargs)
        except CorruptionError as error:
            log.warning("%s; the tables of all banks are made again", error)
            self.rebuild()
            return method(self, *args, **kwargs)

    return with_sound_tables


class Banks:
    """The tree in the cache at ``path``. Threads, forked children and processes share it.

    Opens the cache at the first use, and again if another program has removed or replaced its
    files: administrators empty Salt's cache directory while Salt runs. A look-up makes no files.

    Methods raise the errors of :class:`mmapcache.Cache`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._cache: Cache | None = None
        self._file: tuple[int, int] | None = None

    # The cache.

    def _look(self) -> Cache | None:
        """Returns the cache, or None if there are no files."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        if self._file == (status.st_dev, status.st_ino) and self._cache is not None:
            return self._cache
        return self._open()

    def _open(self) -> Cache:
        if not os.path.exists(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._open_files().close()
        # Before opening: if another program replaces the files now, the next call notices it.
        status = os.stat(self.path)
        cache = self._open_files()
        # Threads that open at once each use their own; what one of them still uses is closed later.
        self._cache, self._file = cache, (status.st_dev, status.st_ino)
        return cache

    def _open_files(self) -> Cache:
        # Nothing may be evicted: these are sessions and keys. The mode is that of localfs, since
        # pillars hold secrets.
        return Cache(self.path, eviction="none", max_bytes=None, file_mode=0o600)

    def cache(self) -> Cache:
        """Returns the open cache; makes it if there is none."""
        cache = self._look()
        return self._open() if cache is None else cache

    # Look-ups: no lock.

    def get(self, bank: str, key: object) -> bytes | None:
        """Returns the value of a key; None if it is absent or expired."""
        cache = self._look()
        return None if cache is None else cache.get(_data_key(*split_key(bank, key)))

    def entry(self, bank: str, key: object) -> Found | None:
        """Returns the value of a key with its deadline; None if it is absent or expired."""
        cache = self._look()
        if cache is None:
            return None
        try:
            found = cache.entry(_data_key(*split_key(bank, key)))
        except CorruptionError:
            return None  # as for `get`
        if found is None:
            return None
        return Found(found.value, found.expires_at)

    def contains(self, bank: str, key: object) -> bool:
        """Returns whether the key is there and has not expired."""
        cache = self._look()
        return cache is not None and _data_key(*split_key(bank, key)) in cache

    @_rebuilds
    def contains_bank(self, bank: str) -> bool:
        """Returns whether the bank was stored to, or to a sub-bank, and not removed since.

        As with ``localfs``, a bank whose last key is removed or expires goes on existing.
        """
        cache = self._look()
        return cache is not None and self._exists(cache, bank_path(bank))

    @_rebuilds
    def members(self, bank: str) -> list[Member]:
        """Returns the keys that have not expired, and the sub-banks, in no order.

        Costs two look-ups a slot. If other processes keep changing the table, waits for the writer
        lock.
        """
        path = bank_path(bank)
        cache = self._look()
        if cache is None:
            return []
        for _ in range(_LISTINGS_WITHOUT_LOCK):
            before = cache.entry(_table_key(path))
            if before is None:
                return []
            members = self._read_members(cache, path, before)
            after = cache.entry(_table_key(path))
            # Each change of the table stores the table's entry.
            if after is not None and after.version == before.version:
                return members
        with cache.writer():
            table = cache.entry(_table_key(path))
            return [] if table is None else self._read_members(cache, path, table)

    def items(self, bank: str) -> Iterator[tuple[str, bytes]]:
        """Yields the names and values of the keys of a bank, without those of sub-banks."""
        cache = self._look()
        if cache is None:
            return
        path = bank_path(bank)
        names = [member.name for member in self.members(bank) if member.kind == KEY]
        for start in range(0, len(names), _SLOTS_PER_READ):
            part = names[start : start + _SLOTS_PER_READ]
            values = cache.get_many([_data_key(path, name) for name in part])
            for name, value in zip(part, values, strict=True):
                if value is not None:
                    yield name, value

    def _exists(self, cache: Cache, bank: str) -> bool:
        # `entry` raises for a damaged one, which `in` takes for absent.
        key = _place_key(BANK, *_parent(bank)) if bank else _table_key(bank)
        return cache.entry(key) is not None

    def _read_members(self, cache: Cache, bank: str, table: CacheEntry) -> list[Member]:
        slots, _ = _TABLE_VALUE.unpack(table.value)
        member_prefix = store_key(bank, _MEMBER)
        path = _join(bank, "").encode("utf-8", "surrogatepass")
        # A name whose place moves during the reading may be seen in two slots.
        found: dict[bytes, None] = {}
        for start in range(0, slots, _SLOTS_PER_READ):
            numbers = range(start, min(start + _SLOTS_PER_READ, slots))
            keys = [member_prefix + _SLOT.pack(slot) for slot in numbers]
            members = [value for value in _get_sound(cache, keys) if value is not None]
            keys = [_place_key_of(bank, path, member) for member in members]
            places = _get_sound(cache, keys)
            for member, place in zip(members, places, strict=True):
                if place is not None:
                    found[member] = None
        return [_decode_member(member) for member in found]

    # Changes: under the writer lock.

    @_rebuilds
    def store(
        self, bank: str, key: object, value: bytes, *, expires_at: float | None = None
    ) -> None:
        """Stores a value, until ``expires_at`` (seconds since 1970) or without end."""
        path, name = split_key(bank, key)
        cache = self.cache()
        with cache.writer() as writer:
            place = self._key_place(cache, writer, path, name)
            if place is None:
                self._add_member(cache, writer, path, Member(KEY, name), expires_at)
            elif place.expires_at != expires_at:
                _insert(writer, _place_key(KEY, path, name), place.value, expires_at)
            _insert(writer, _data_key(path, name), value, expires_at)

    @_rebuilds
    def remove(self, bank: str, key: object) -> bool:
        """Removes a key; returns whether it was there and had not expired."""
        cache = self._look()
        if cache is None:
            return False
        path, name = split_key(bank, key)
        with cache.writer() as writer:
            removed = writer.remove(_data_key(path, name))
            place = self._key_place(cache, writer, path, name)
            if place is not None:
                writer.remove(_place_key(KEY, path, name))
                self._try_to_close(cache, writer, path, _SLOT.unpack(place.value)[0])
            return bool(removed)

    @_rebuilds
    def remove_bank(self, bank: str) -> bool:
        """Removes a bank with its keys and sub-banks; returns whether it existed.

        Readers see it disappear key by key. A process that is killed during it leaves the rest; the
        bank can be removed again.
        """
        path = bank_path(bank)
        cache = self._look()
        if cache is None:
            return False
        with cache.writer() as writer:
            if not self._exists(cache, path):
                return False
            for inner in self._with_sub_banks(cache, path):
                self._empty(cache, writer, inner)
                if inner != path:
                    writer.remove(_place_key(BANK, *_parent(inner)))
            if path:
                self._unlink_bank(cache, writer, path)
            return True

    @_rebuilds
    def clean(self, bank: str) -> int:
        """Closes all holes in the table of a bank; returns how many there were.

        Holes are left by keys that have expired. Costs two look-ups a slot, under the writer lock.
        """
        path = bank_path(bank)
        cache = self._look()
        if cache is None:
            return 0
        closed = 0
        with cache.writer() as writer:
            slot = self._table(cache, path)[0]
            while slot > 0:
                slot -= 1
                if self._is_hole(cache, writer, path, slot):
                    self._close_hole(cache, writer, path, slot)
                    closed += 1
        return closed

    def rebuild(self) -> int:
        """Makes all tables again from the keys, and returns how many keys they have.

        Other methods call it when they find a damaged table. Banks without keys are gone then, and
        keys whose path is longer than 60,000 bytes are not listed until they are stored again.
        Reads everything, under the writer lock.
        """
        cache = self.cache()
        with cache.writer() as writer:
            paths = []
            for key in _readable(cache):
                if key[:1] == _DATA:
                    paths.append(key[1:].decode("utf-8", "surrogatepass"))
                elif key[:1] != _DATA.upper():
                    writer.remove(key)
            sound: set[str] = set()
            for path in paths:
                bank, _, name = path.rpartition("/")
                self._forget(writer, bank, sound)
                writer.remove(_place_key(KEY, bank, name))
                with contextlib.suppress(CorruptionError):
                    found = cache.entry(_data_key(bank, name))
                    if found is not None:
                        member = Member(KEY, name)
                        self._add_member(cache, writer, bank, member, found.expires_at)
            return len(paths)

    def _forget(self, writer: CacheWriter, bank: str, sound: set[str]) -> None:
        """Removes table and place of a bank and of those around it; they may be damaged."""
        while bank not in sound:
            sound.add(bank)
            writer.remove(_table_key(bank))
            if bank:
                writer.remove(_place_key(BANK, *_parent(bank)))
                bank = _parent(bank)[0]

    def _key_place(
        self, cache: Cache, writer: CacheWriter, bank: str, name: str
    ) -> CacheEntry | None:
        try:
            return cache.entry(_place_key(KEY, bank, name))
        except CorruptionError:
            # Its slot becomes a hole.
            writer.remove(_place_key(KEY, bank, name))
            return None

    def _with_sub_banks(self, cache: Cache, bank: str) -> list[str]:
        """Returns the paths of a bank and all banks in it, each after those that it holds."""
        paths = [bank]
        for path in paths:  # the list grows while it is read
            table = cache.entry(_table_key(path))
            if table is not None:
                paths.extend(
                    _join(path, member.name) if path else member.name
                    for member in self._read_members(cache, path, table)
                    if member.kind == BANK
                )
        return paths[::-1]

    def _empty(self, cache: Cache, writer: CacheWriter, bank: str) -> None:
        slots, _ = self._table(cache, bank)
        for slot in range(slots):
            entry = cache.entry(_member_key(bank, slot))
            if entry is None:
                continue
            member = _decode_member(entry.value)
            if member.kind == KEY:
                writer.remove(_data_key(bank, member.name))
                writer.remove(_place_key(KEY, bank, member.name))
        # The table goes last: with it, an interrupted removal can be repeated.
        for slot in range(slots):
            writer.remove(_member_key(bank, slot))
        writer.remove(_table_key(bank))

    def _unlink_bank(self, cache: Cache, writer: CacheWriter, bank: str) -> None:
        place = cache.entry(_place_key(BANK, *_parent(bank)))
        writer.remove(_place_key(BANK, *_parent(bank)))
        if place is not None:
            self._try_to_close(cache, writer, _parent(bank)[0], _SLOT.unpack(place.value)[0])

    def _table(self, cache: Cache, bank: str) -> tuple[int, int]:
        entry = cache.entry(_table_key(bank))
        if entry is None:
            return 0, 0
        slots, cursor = _TABLE_VALUE.unpack(entry.value)
        return slots, cursor

    def _add_member(
        self,
        cache: Cache,
        writer: CacheWriter,
        bank: str,
        member: Member,
        expires_at: float | None,
    ) -> None:
        """Gives ``member``, which has no place, a slot."""
        self._add_banks(cache, writer, bank)
        slots, cursor = self._table(cache, bank)
        for _ in range(min(_SLOTS_PER_INSERTION, slots)):
            cursor = cursor - 1 if 0 < cursor <= slots else slots - 1
            if self._is_hole(cache, writer, bank, cursor):
                self._close_hole(cache, writer, bank, cursor)
                slots -= 1
        # Without a place the member does not count yet; the table must reach it before the place.
        _insert(writer, _member_key(bank, slots), _encode_member(member), None)
        _insert(writer, _table_key(bank), _TABLE_VALUE.pack(slots + 1, cursor), None)
        _insert(writer, _place_key(member.kind, bank, member.name), _SLOT.pack(slots), expires_at)

    def _add_banks(self, cache: Cache, writer: CacheWriter, bank: str) -> None:
        """Makes the bank, and those that it lies in, if they do not exist."""
        missing = []
        while bank and not self._exists(cache, bank):
            missing.append(bank)
            bank = _parent(bank)[0]
        for path in reversed(missing):
            parent, name = _parent(path)
            self._add_member(cache, writer, parent, Member(BANK, name), None)

    def _is_hole(self, cache: Cache, writer: CacheWriter, bank: str, slot: int) -> bool:
        entry = cache.entry(_member_key(bank, slot))
        if entry is None:
            return True
        member = _decode_member(entry.value)
        if self._place(cache, bank, member, slot) is None:
            return True
        if member.kind == KEY and _data_key(bank, member.name) not in cache:
            # A process was killed when it had stored the place and not yet the data.
            writer.remove(_place_key(KEY, bank, member.name))
            return True
        return False

    def _place(self, cache: Cache, bank: str, member: Member, slot: int) -> CacheEntry | None:
        """Returns the place of a member if it is in this slot."""
        place = cache.entry(_place_key(member.kind, bank, member.name))
        if place is None or _SLOT.unpack(place.value)[0] != slot:
            return None
        return place

    def _try_to_close(self, cache: Cache, writer: CacheWriter, bank: str, hole: int) -> None:
        # A full disk or a damaged table hinders it, but what was asked for is done. Later changes
        # close the hole, or find the damage.
        with contextlib.suppress(DiskFullError, CorruptionError):
            self._close_hole(cache, writer, bank, hole)

    def _close_hole(self, cache: Cache, writer: CacheWriter, bank: str, hole: int) -> None:
        """Makes the table one slot shorter; the last member moves into ``hole``."""
        slots, cursor = self._table(cache, bank)
        last = slots - 1
        entry = cache.entry(_member_key(bank, last)) if hole != last else None
        if entry is not None:
            member = _decode_member(entry.value)
            place = self._place(cache, bank, member, last)
            if place is not None:
                _insert(writer, _member_key(bank, hole), entry.value, None)
                key = _place_key(member.kind, bank, member.name)
                _insert(writer, key, _SLOT.pack(hole), place.expires_at)
        _insert(writer, _table_key(bank), _TABLE_VALUE.pack(last, cursor), None)
        writer.remove(_member_key(bank, last))


def _insert(writer: CacheWriter, key: bytes, value: bytes, expires_at: float | None) -> None:
    # A default life in the settings must not end an entry of a table.
    if expires_at is None:
        writer.insert(key, value, no_expiry=True)
    else:
        writer.insert(key, value, expires_at=expires_at)


def _get_sound(cache: Cache, keys: list[bytes]) -> list[bytes | None]:
    """Returns values as `get_many`, which returns None for a damaged one; raises for that."""
    values = cache.get_many(keys)
    for number, value in enumerate(values):
        if value is None:
            entry = cache.entry(keys[number])
            values[number] = None if entry is None else entry.value
    return values


def _readable(cache: Cache) -> Iterator[bytes]:
    """Yields the keys that can be read."""
    keys = iter(cache)  # the views end at the first error
    while True:
        try:
            yield next(keys)
        except CorruptionError:
            continue
        except StopIteration:
            return
