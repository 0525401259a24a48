"""`MmapCache` in one process: a mapping, versions, batches, listings, errors."""

from __future__ import annotations

import array
import copy
import errno
import gc
import os
import pickle
import threading
import weakref
from collections.abc import ItemsView, KeysView, MutableMapping, ValuesView
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import mmapcache
from mmapcache import KEEP, Cache, Entry, Labels, MmapCache


def fill(mapping: MmapCache, count: int) -> dict[bytes, bytes]:
    """Store `count` entries, and return what was stored."""
    pairs = {b"key%d" % number: b"value%d" % number for number in range(count)}
    mapping.update(pairs)
    return pairs


# The mapping.


def test_handle_is_a_mapping(mapping: MmapCache) -> None:
    assert isinstance(mapping, MutableMapping)
    assert isinstance(mapping.keys(), KeysView)
    assert isinstance(mapping.values(), ValuesView)
    assert isinstance(mapping.items(), ItemsView)


def test_items_are_set_and_got(mapping: MmapCache) -> None:
    mapping[b"a"] = b"1"
    assert mapping[b"a"] == b"1"
    assert b"a" in mapping
    assert len(mapping) == 1
    mapping[b"a"] = b""
    assert mapping[b"a"] == b""
    del mapping[b"a"]
    assert b"a" not in mapping
    assert len(mapping) == 0


def test_missing_key_is_key_error(mapping: MmapCache) -> None:
    with pytest.raises(KeyError) as raised:
        mapping[b"a"]
    assert raised.value.args == (b"a",)
    with pytest.raises(KeyError):
        del mapping[b"a"]
    with pytest.raises(KeyError):
        mapping.pop(b"a")
    with pytest.raises(KeyError):
        mapping.popitem()


def test_default_is_returned_as_given(mapping: MmapCache) -> None:
    default = object()
    assert mapping.get(b"a") is None
    assert mapping.get(b"a", default) is default
    assert mapping.pop(b"a", default) is default
    assert mapping.pop(b"a", None) is None


def test_pop_takes_the_value(mapping: MmapCache) -> None:
    mapping[b"a"] = b"1"
    assert mapping.pop(b"a", None) == b"1"
    assert b"a" not in mapping
    with pytest.raises(TypeError, match="one default"):
        mapping.pop(b"a", 1, 2)  # type: ignore[call-overload]


def test_popitem_empties_the_map(mapping: MmapCache) -> None:
    pairs = fill(mapping, 20)
    popped = dict(mapping.popitem() for _ in range(20))
    assert popped == pairs
    assert len(mapping) == 0


def test_setdefault_stores_only_once(mapping: MmapCache) -> None:
    assert mapping.setdefault(b"a", b"1") == b"1"
    assert mapping.setdefault(b"a", b"2") == b"1"
    assert mapping[b"a"] == b"1"


def test_update_takes_all_forms(mapping: MmapCache) -> None:
    mapping.update({b"a": b"1"})
    mapping.update([(b"b", b"2"), (b"a", b"3")])
    mapping.update(iter([(b"c", b"4")]))
    mapping.update(mapping)
    assert dict(mapping) == {b"a": b"3", b"b": b"2", b"c": b"4"}
    with pytest.raises(TypeError, match="keyword"):
        mapping.update(a=b"1")


# `dict.update` has stored what came before the error, too.
def test_update_keeps_pairs_before_error(mapping: MmapCache) -> None:
    def pairs() -> Any:
        yield b"a", b"1"
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        mapping.update(pairs())
    assert dict(mapping) == {b"a": b"1"}
    with pytest.raises(TypeError, match="pair"):
        mapping.update([(b"b", b"2"), b"c"])  # type: ignore[list-item]
    assert mapping[b"b"] == b"2"


# More than a group of pairs; the source uses the cache between the groups.
def test_update_source_may_write(mapping: MmapCache) -> None:
    def pairs() -> Any:
        for number in range(3000):
            mapping[b"seen"] = b"%d" % number
            yield b"key%d" % number, b""

    mapping.update(pairs())
    assert len(mapping) == 3001
    assert mapping[b"seen"] == b"2999"


def test_equality_compares_all_entries(mapping: MmapCache, tmp_path: Path) -> None:
    pairs = fill(mapping, 5)
    assert mapping == pairs
    with MmapCache(tmp_path / "other") as other:
        assert mapping != other
        other.update(mapping)
        assert mapping == other
    with pytest.raises(TypeError, match="unhashable"):
        hash(mapping)


def test_clear_empties_the_map(mapping: MmapCache) -> None:
    fill(mapping, 5)
    mapping.clear()
    assert list(mapping) == []
    assert not mapping


def test_buffers_pass_for_bytes(mapping: MmapCache) -> None:
    mapping[bytearray(b"a")] = memoryview(b"12345")[::2]
    assert mapping[b"a"] == b"135"
    mapping.put(memoryview(b"b"), array.array("B", [1, 2]))  # type: ignore[arg-type]
    assert mapping[b"b"] == b"\x01\x02"


# `bytes(3)` would be three zeros, and a list of numbers a value.
@pytest.mark.parametrize("wrong", ["text", 3, [1, 2], None, 1.5])
def test_other_types_are_refused(mapping: MmapCache, wrong: Any) -> None:
    with pytest.raises(TypeError):
        mapping[wrong] = b"1"
    with pytest.raises(TypeError):
        mapping[b"a"] = wrong
    with pytest.raises(TypeError):
        assert wrong in mapping
    assert len(mapping) == 0


def test_large_values_come_back(mapping: MmapCache) -> None:
    value = os.urandom(3 << 20)
    mapping[b"large"] = value
    assert mapping[b"large"] == value
    assert mapping.get_many([b"large", b"absent", b"large"]) == [value, None, value]


# Versions and conditional writes.


def test_versions_only_grow(mapping: MmapCache) -> None:
    first = mapping.put(b"a", b"1")
    second = mapping.put(b"a", b"2")
    assert second > first
    assert mapping.version(b"a") == second
    assert mapping.version(b"b") is None
    entry = mapping.entry(b"a")
    assert entry is not None
    assert (entry.value, entry.version) == (b"2", second)
    assert mapping.entry(b"b") is None


def test_conditional_writes_compare_versions(mapping: MmapCache) -> None:
    first = mapping.insert_if_absent(b"a", b"1")
    assert first is not None
    assert mapping.insert_if_absent(b"a", b"2") is None
    second = mapping.put_if(b"a", b"3", first)
    assert second is not None
    assert mapping.put_if(b"a", b"4", first) is None
    assert mapping.put_if(b"b", b"4", first) is None
    assert mapping[b"a"] == b"3"
    assert not mapping.delete_if(b"a", first)
    assert mapping.delete_if(b"a", second)
    assert not mapping.delete(b"a")


def test_entries_compare_by_value(mapping: MmapCache) -> None:
    mapping.put(b"a", b"1")
    one, same = mapping.entry(b"a"), mapping.entry(b"a")
    assert one == same
    assert hash(one) == hash(same)
    mapping.put(b"a", b"1")
    assert mapping.entry(b"a") != one
    assert repr(same).startswith("Entry(value=b'1', version=")


def test_update_function_decides(mapping: MmapCache) -> None:
    seen: list[Entry | None] = []

    def count(entry: Entry | None) -> bytes:
        seen.append(entry)
        return b"%d" % (int(entry.value) + 1 if entry else 1)

    assert mapping.update_with(b"visits", count)
    assert mapping.update_with(b"visits", count)
    assert mapping[b"visits"] == b"2"
    assert seen[0] is None
    assert not mapping.update_with(b"visits", lambda entry: KEEP)
    assert mapping[b"visits"] == b"2"
    assert mapping.update_with(b"visits", lambda entry: None)
    assert b"visits" not in mapping
    assert not mapping.update_with(b"visits", lambda entry: None)


def test_update_function_may_raise(mapping: MmapCache) -> None:
    mapping[b"a"] = b"1"

    def fail(entry: Entry | None) -> bytes:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        mapping.update_with(b"a", fail)
    with pytest.raises(TypeError, match="KEEP"):
        mapping.update_with(b"a", lambda entry: 3)  # type: ignore[arg-type,return-value]
    assert mapping[b"a"] == b"1"
    # The lock is free again.
    mapping[b"a"] = b"2"


def test_update_function_reads_only(mapping: MmapCache) -> None:
    mapping[b"a"] = b"1"

    def write(entry: Entry | None) -> bytes:
        assert mapping[b"a"] == b"1"
        with pytest.raises(mmapcache.WriterError, match="already holds the writer"):
            mapping[b"a"] = b"2"
        return b"3"

    assert mapping.update_with(b"a", write)
    assert mapping[b"a"] == b"3"


# Batches.


def test_writer_makes_many_changes(mapping: MmapCache) -> None:
    with mapping.writer() as writer:
        version = writer.put(b"a", b"1")
        assert writer.insert_if_absent(b"a", b"2") is None
        assert writer.put_if(b"a", b"3", version) is not None
        entry = writer.entry(b"a")
        assert entry is not None
        assert entry.value == b"3"
        assert mapping[b"a"] == b"3"
        assert writer.put(b"b", b"") and writer.delete(b"b")
        assert not writer.delete_if(b"a", version)
    assert dict(mapping) == {b"a": b"3"}


def test_writer_keeps_changes_after_exception(mapping: MmapCache) -> None:
    with pytest.raises(LookupError), mapping.writer() as writer:
        writer.put(b"a", b"1")
        raise LookupError
    assert mapping[b"a"] == b"1"
    mapping[b"b"] = b"2"


def test_writer_outside_block_is_error(mapping: MmapCache) -> None:
    writer = mapping.writer()
    with pytest.raises(mmapcache.WriterError, match="not open"):
        writer.put(b"a", b"1")
    with writer:
        writer.put(b"a", b"1")
    with pytest.raises(mmapcache.WriterError, match="not open"):
        writer.put(b"a", b"2")
    # Entered again, it takes the lock again.
    with writer:
        writer.put(b"a", b"3")
    assert mapping[b"a"] == b"3"


def test_writer_in_writer_is_error(mapping: MmapCache) -> None:
    with mapping.writer() as writer:
        with pytest.raises(mmapcache.WriterError, match="already holds"), mapping.writer():
            pass
        with pytest.raises(mmapcache.WriterError, match="holds the lock already"), writer:
            pass
        with pytest.raises(mmapcache.WriterError):
            mapping[b"a"] = b"1"
        writer.put(b"a", b"2")
    assert mapping[b"a"] == b"2"


def test_writer_stays_in_its_thread(mapping: MmapCache) -> None:
    raised: list[BaseException] = []

    def use(writer: mmapcache.Writer) -> None:
        for call in (lambda: writer.put(b"a", b"1"), lambda: writer.__exit__(None, None, None)):
            try:
                call()
            except mmapcache.WriterError as error:
                raised.append(error)

    with mapping.writer() as writer:
        thread = threading.Thread(target=use, args=(writer,))
        thread.start()
        thread.join()
        writer.put(b"b", b"2")
    assert len(raised) == 2
    assert all("thread" in str(error) for error in raised)
    assert dict(mapping) == {b"b": b"2"}


# The writer of a thread that ends without leaving it must not lock the others out.
def test_ended_thread_releases_the_lock(path: Path) -> None:
    with MmapCache(path, lock_timeout=5) as mapping:
        left = mapping.writer()

        def enter() -> None:
            left.__enter__().put(b"a", b"1")

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        mapping[b"b"] = b"2"
        assert dict(mapping) == {b"a": b"1", b"b": b"2"}


def test_forgotten_writer_releases_the_lock(mapping: MmapCache) -> None:
    mapping.writer().__enter__().put(b"a", b"1")
    gc.collect()
    mapping[b"b"] = b"2"
    assert len(mapping) == 2


# A writer of a closed handle keeps the files open.
def test_writer_outlives_the_handle(path: Path) -> None:
    mapping = MmapCache(path)
    with mapping.writer() as writer:
        mapping.close()
        writer.put(b"a", b"1")
    with MmapCache(path) as mapping:
        assert mapping[b"a"] == b"1"


# Listings.


def test_listings_have_every_entry_once(mapping: MmapCache) -> None:
    pairs = fill(mapping, 1000)
    assert sorted(mapping) == sorted(mapping.keys()) == sorted(pairs)
    assert sorted(mapping.values()) == sorted(pairs.values())
    assert sorted(mapping.items()) == sorted(pairs.items())
    entries = dict(mapping.entries())
    assert {key: entry.value for key, entry in entries.items()} == pairs
    assert b"value7" in mapping.values()
    assert (b"key7", b"value7") in mapping.items()
    assert b"absent" not in mapping.values()


# What is there all the time is listed exactly once, whatever else is stored and deleted.
def test_listing_goes_on_during_writes(mapping: MmapCache) -> None:
    stays = fill(mapping, 500)
    for number in range(500):
        mapping[b"goes%d" % number] = b""
    listed = []
    for number, key in enumerate(mapping):
        listed.append(key)
        mapping.delete(b"goes%d" % number)
        mapping[b"new%d" % number] = b""
        mapping[b"key3"] = b"changed"
        if number > 5000:
            break
    kept = [key for key in listed if key in stays]
    assert sorted(kept) == sorted(stays)


def test_iterator_outlives_the_handle(path: Path) -> None:
    mapping = MmapCache(path)
    pairs = fill(mapping, 300)
    iterator = iter(mapping.items())
    first = next(iterator)
    mapping.close()
    del mapping
    gc.collect()
    assert dict([first, *iterator]) == pairs
    assert list(iterator) == []


def test_random_key_is_there(mapping: MmapCache) -> None:
    assert mapping.random_key() is None
    pairs = fill(mapping, 10)
    assert {mapping.random_key() for _ in range(50)} <= set(pairs)


# Rebuilding, copying, looking.


def test_rebuild_replaces_everything(mapping: MmapCache) -> None:
    fill(mapping, 10)
    mapping.atomic_rebuild((key, b"new") for key in list(mapping)[:3])
    assert len(mapping) == 3
    assert set(mapping.values()) == {b"new"}


def test_failed_rebuild_changes_nothing(mapping: MmapCache) -> None:
    pairs = fill(mapping, 10)

    def source() -> Any:
        yield b"a", b"1"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        mapping.atomic_rebuild(source())
    with pytest.raises(TypeError, match="pair"):
        mapping.atomic_rebuild([b"abc"])  # type: ignore[list-item]
    with pytest.raises(mmapcache.KeyLengthError):
        mapping.atomic_rebuild([(b"", b"1")])
    assert mapping == pairs


def test_backup_is_a_cache(mapping: MmapCache, tmp_path: Path) -> None:
    pairs = fill(mapping, 100)
    report = mapping.backup(tmp_path / "backup")
    assert report["entries"] == 100
    with MmapCache(tmp_path / "backup") as backup:
        assert backup == pairs
        assert backup.version(b"key1") == mapping.version(b"key1")
    with pytest.raises(mmapcache.ExistsError) as raised:
        mapping.backup(tmp_path / "backup")
    assert raised.value.errno == errno.EEXIST


def test_figures_describe_the_files(mapping: MmapCache) -> None:
    before = mapping.change_count()
    fill(mapping, 10)
    assert mapping.change_count() > before
    stats = mapping.stats()
    assert stats["occupied"] == 10
    assert stats["puts"] == 10
    assert stats["writer"] is None
    usage = mapping.disk_usage()
    assert usage["total"] == usage["index"] + usage["heap"] + usage["roster"] > 0
    assert mapping.last_recovery is None
    report = mapping.verify()
    assert report["is_clean"]
    assert report["problems"] == []
    assert report["entries"] == 10
    mapping.compact()
    mapping.flush()
    assert len(mapping) == 10


# Opening and closing.


def test_closed_handle_refuses_calls(path: Path) -> None:
    mapping = MmapCache(path)
    assert not mapping.closed
    assert repr(mapping) == f"MmapCache({str(path)!r})"
    mapping.close()
    mapping.close()
    assert mapping.closed
    assert repr(mapping) == "<closed MmapCache>"
    calls = [
        lambda: mapping[b"a"],
        lambda: mapping.put(b"a", b"1"),
        lambda: len(mapping),
        lambda: list(mapping),
        lambda: mapping.path,
        lambda: mapping.writer(),
        lambda: mapping.__enter__(),
        lambda: pickle.dumps(mapping),
    ]
    for call in calls:
        with pytest.raises(mmapcache.ClosedError):
            call()


def test_block_closes_the_handle(path: Path) -> None:
    with MmapCache(path) as mapping:
        mapping[b"a"] = b"1"
    assert mapping.closed


def test_missing_cache_is_not_found(path: Path) -> None:
    ways: list[dict[str, Any]] = [{"create": False}, {"read_only": True}]
    for options in ways:
        with pytest.raises(mmapcache.NotFoundError) as raised:
            MmapCache(path, **options)
        assert isinstance(raised.value, FileNotFoundError)
        assert raised.value.errno == errno.ENOENT
        assert raised.value.filename == raised.value.path == str(path)


def test_existing_cache_is_not_new(mapping: MmapCache, path: Path) -> None:
    with pytest.raises(mmapcache.ExistsError) as raised:
        MmapCache(path, create_new=True)
    assert isinstance(raised.value, FileExistsError)


def test_read_only_handle_refuses_writes(mapping: MmapCache, path: Path) -> None:
    mapping[b"a"] = b"1"
    with MmapCache(path, read_only=True) as reader:
        assert reader[b"a"] == b"1"
        with pytest.raises(mmapcache.ReadOnlyError, match="read-only"):
            reader[b"a"] = b"2"
    assert mapping[b"a"] == b"1"


def test_append_only_map_refuses_changes(path: Path) -> None:
    with MmapCache(path, append_only=True) as ledger:
        ledger[b"a"] = b"1"
        with pytest.raises(mmapcache.AppendOnlyError):
            ledger[b"a"] = b"2"
        assert ledger[b"a"] == b"1"


def test_wrong_options_are_refused(path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"max_segment_bytes": 1},
        {"lock_timeout": -1},
        {"lock_timeout": float("nan")},
        {"durability": "perhaps"},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match=r".") as raised:
            MmapCache(path, **options)
        assert next(iter(options)) in str(raised.value) or "seconds" in str(raised.value)
    mistaken: list[dict[str, Any]] = [{"unknown": 1}, {"capacity": "many"}, {"read_only": "yes"}]
    for options in mistaken:
        with pytest.raises(TypeError, match=next(iter(options))):
            MmapCache(path, **options)
    assert not path.exists()


def test_options_are_in_the_files(path: Path) -> None:
    with MmapCache(path, max_entries=2, max_segment_bytes=1 << 16) as mapping:
        mapping.update({b"a": b"", b"b": b""})
        with pytest.raises(mmapcache.CacheFullError, match="2 entries"):
            mapping[b"c"] = b""
        with pytest.raises(mmapcache.ValueTooLargeError) as raised:
            mapping[b"a"] = bytes(1 << 16)
        assert isinstance(raised.value, ValueError)
    with pytest.raises(mmapcache.OptionError, match="max_entries"):
        MmapCache(path, max_entries=3)


def test_key_length_is_checked(mapping: MmapCache) -> None:
    mapping[bytes(65535)] = b"1"
    for key in (b"", bytes(65536)):
        with pytest.raises(mmapcache.KeyLengthError, match=f"{len(key)} bytes"):
            mapping[key] = b"1"
        with pytest.raises(ValueError, match=f"{len(key)} bytes"):
            mapping.get(key)


def test_other_class_is_refused(mapping: MmapCache, path: Path) -> None:
    with pytest.raises(mmapcache.OtherTypeError, match="MmapCache") as raised:
        Cache(path)
    assert raised.value.path == str(path)
    with pytest.raises(mmapcache.OptionError):
        Labels(path)


def test_foreign_file_is_corruption(path: Path) -> None:
    path.write_bytes(b"not a cache" * 1000)
    with pytest.raises(mmapcache.CorruptionError, match="not a file of mmapcache"):
        MmapCache(path)


# The value is overwritten in the heap: `get` treats the entry as absent, the strict calls raise.
def test_damaged_value_is_corruption(path: Path) -> None:
    with MmapCache(path) as mapping:
        mapping[b"key"] = b"a value that is easy to find"
        mapping[b"other"] = b"1"
        mapping.flush()
    heap = path.with_name("cache.heap")
    damaged = heap.read_bytes().replace(b"easy to find", b"easy to lose")
    with heap.open("r+b") as file:
        file.write(damaged)
    with MmapCache(path, read_only=True) as mapping:
        assert mapping.get(b"key") is None
        with pytest.raises(mmapcache.CorruptionError) as raised:
            mapping.entry(b"key")
        assert raised.value.path is not None
        # The listing raises at the damaged entry, and goes on after it.
        iterator, listed, errors = iter(mapping.items()), [], 0
        while True:
            try:
                listed.append(next(iterator))
            except mmapcache.CorruptionError:
                errors += 1
            except StopIteration:
                break
        assert (listed, errors) == ([(b"other", b"1")], 1)
        report = mapping.verify()
        assert not report["is_clean"]
        assert report["problems"][0]["what"]


# Files that were copied are verified when they are opened; what is damaged among them is lost.
def test_lost_entries_are_warned_of(path: Path, tmp_path: Path) -> None:
    with MmapCache(path) as mapping:
        fill(mapping, 50)
        mapping.flush()
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in path.parent.glob("cache*"):
        if file.is_file():
            damaged = file.read_bytes().replace(b"value7", b"VALUE7")
            (copies / file.name).write_bytes(damaged)
    with (
        pytest.warns(mmapcache.RecoveryWarning, match="1 given up"),
        MmapCache(copies / "cache") as mapping,
    ):
        assert mapping.last_recovery is not None
        assert mapping.last_recovery["dropped"] == 1
        assert len(mapping) == 49
    # Without a loss there is nothing to warn of.
    MmapCache(copies / "cache").close()


def test_repair_keeps_good_entries(path: Path) -> None:
    with MmapCache(path) as mapping:
        pairs = fill(mapping, 50)
    path.unlink()
    with pytest.raises(mmapcache.CorruptionError):
        MmapCache(path)
    report = mmapcache.repair(path)
    assert report["rebuilt"]
    assert report["entries"] == 50
    with MmapCache(path) as mapping:
        assert mapping == pairs
    assert mmapcache.upgrade(path) is None


def test_system_errors_have_their_number(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        MmapCache(tmp_path / "absent" / "cache")
    assert raised.value.errno == errno.ENOENT
    assert raised.value.strerror
    assert raised.value.filename
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        MmapCache(tmp_path / "file" / "cache")


def test_timeout_takes_timedelta(path: Path) -> None:
    with MmapCache(path, exclusive=True), pytest.raises(mmapcache.LockedError) as raised:
        MmapCache(path, lock_timeout=timedelta(milliseconds=50))[b"a"] = b"1"
    assert isinstance(raised.value, TimeoutError)
    assert f"process {os.getpid()}" in str(raised.value)
    assert raised.value.path == str(path)


# Subclasses, references, copies.


class Named(MmapCache):
    """A subclass whose constructor has other arguments."""

    def __init__(self, directory: Path, *, name: str) -> None:
        super().__init__(directory / name)
        self.name = name


def test_subclass_has_own_constructor(tmp_path: Path) -> None:
    with Named(tmp_path, name="n") as named:
        named[b"a"] = b"1"
        with pickle.loads(pickle.dumps(named)) as other:
            assert type(other) is Named
            assert other.name == "n"
            assert other[b"a"] == b"1"


def test_subclass_without_opening_is_closed(tmp_path: Path) -> None:
    class Lazy(MmapCache):
        def __init__(self) -> None:
            pass

    lazy = Lazy()
    with pytest.raises(mmapcache.ClosedError):
        len(lazy)


def test_copies_open_the_files_again(path: Path) -> None:
    with MmapCache(path, lock_timeout=7, durability="sync") as mapping:
        mapping[b"a"] = b"1"
        for other in (pickle.loads(pickle.dumps(mapping)), copy.copy(mapping)):
            assert other is not mapping
            assert other._arguments() == mapping._arguments()
            mapping.update_with(b"a", lambda entry: b"2")
            assert other[b"a"] == b"2"
            other.close()
        assert not mapping.closed


def test_exclusive_handle_is_not_pickled(path: Path) -> None:
    with MmapCache(path, exclusive=True) as mapping, pytest.raises(TypeError, match="exclusive"):
        pickle.dumps(mapping)


def test_handles_have_weak_references(path: Path) -> None:
    mapping = MmapCache(path)
    reference = weakref.ref(mapping)
    del mapping
    gc.collect()
    assert reference() is None


def test_classes_are_in_the_package() -> None:
    for name in mmapcache.__all__:
        public = getattr(mmapcache, name)
        if isinstance(public, type):
            assert public.__module__.startswith("mmapcache")
            assert public.__doc__
    assert repr(MmapCache) == "<class 'mmapcache.MmapCache'>"
    assert pickle.loads(pickle.dumps(KEEP)) is KEEP
    assert repr(mmapcache.UNSET) == "UNSET"


def test_exceptions_are_pickled_with_path() -> None:
    error = mmapcache.DiskFullError(errno.ENOSPC, "no room", "/c")
    error.path = "/c"
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.filename, again.path) == (errno.ENOSPC, "/c", "/c")
    for name in mmapcache.__all__:
        public = getattr(mmapcache, name)
        if isinstance(public, type) and issubclass(public, BaseException):
            assert issubclass(public, (mmapcache.MmapCacheError, mmapcache.RecoveryWarning))
