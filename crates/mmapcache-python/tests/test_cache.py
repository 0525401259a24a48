"""`Cache` in one process: lives, groups, computations, counters, limits."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import MutableMapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import mmapcache
from mmapcache import KEEP, UNSET, Cache, CacheEntry, MmapCache

SHORT = 0.05
"""A life that is over after a pause."""


def pause() -> None:
    """Wait until short lives are over."""
    time.sleep(2 * SHORT)


# The mapping.


def test_cache_is_a_mapping(cache: Cache) -> None:
    assert isinstance(cache, MutableMapping)
    cache[b"a"] = b"1"
    cache.update(
        {b"b": b"2"},
    )
    assert dict(cache) == {b"a": b"1", b"b": b"2"}
    assert sorted(cache.keys()) == [b"a", b"b"]
    assert sorted(cache.values()) == [b"1", b"2"]
    assert cache == {b"a": b"1", b"b": b"2"}
    assert cache.pop(b"a") == b"1"
    assert cache.popitem() == (b"b", b"2")
    assert not cache
    for call in (lambda: cache[b"a"], lambda: cache.pop(b"a"), cache.popitem):
        with pytest.raises(KeyError):
            call()
    with pytest.raises(KeyError):
        del cache[b"a"]
    assert cache.setdefault(b"a", b"3") == b"3"
    assert cache.setdefault(b"a", bytearray(b"4")) == b"3"
    del cache[b"a"]
    assert len(cache) == 0


def test_expired_entry_is_absent(cache: Cache) -> None:
    cache.insert(b"short", b"1", ttl=SHORT)
    cache.insert(b"long", b"2", ttl=60)
    assert cache.get(b"short") == b"1"
    pause()
    assert cache.get(b"short") is None
    assert b"short" not in cache
    assert dict(cache) == {b"long": b"2"}
    assert len(cache) == 1
    assert cache.len_with_expired() == 2
    assert cache.entry(b"short") is None
    stored = cache.stored_entry(b"short")
    assert stored is not None
    assert stored.is_expired
    assert cache.get_many([b"long", b"short"]) == [b"2", None]
    assert cache.sweep() == 1
    assert cache.len_with_expired() == 1


def test_lives_are_given_many_ways(cache: Cache) -> None:
    for life in (60, 60.0, timedelta(minutes=1)):
        cache.insert(b"a", b"1", ttl=life)
        entry = cache.entry(b"a")
        assert entry is not None
        assert entry.remaining == pytest.approx(60, abs=5)
    now = time.time()
    for moment in (now + 60, datetime.fromtimestamp(now + 60, timezone.utc)):
        cache.insert(b"a", b"1", expires_at=moment)
        entry = cache.entry(b"a")
        assert entry is not None
        assert entry.expires_at == pytest.approx(now + 60, abs=0.001)
    lives: list[dict[str, Any]] = [
        {"no_expiry": True},
        {"ttl": math.inf},
        {"ttl": 10**400},
        {"ttl": 1e12},
    ]
    for endless in lives:
        cache.insert(b"a", b"1", **endless)
        entry = cache.entry(b"a")
        assert entry is not None
        assert entry.expires_at is None
        assert entry.remaining is None
    deads: list[dict[str, Any]] = [{"ttl": 0}, {"expires_at": -5}, {"expires_at": 0}]
    for dead in deads:
        cache.insert(b"a", b"1", **dead)
        assert cache.get(b"a") is None


# A program that reads a deadline and stores it with the next value must not shorten it each time.
def test_deadline_comes_back_exactly(cache: Cache) -> None:
    # Of these fractions of a second about half are less than what they are written as.
    for millis in range(20):
        at = (int(time.time() + 1000) * 1000 + millis) / 1000
        cache.insert(b"a", b"1", expires_at=at)
        for _ in range(3):
            entry = cache.entry(b"a")
            assert entry is not None
            assert entry.expires_at == at
            cache.insert(b"a", b"1", expires_at=entry.expires_at)


@pytest.mark.parametrize(
    "terms",
    [{"ttl": -1}, {"ttl": math.nan}, {"expires_at": math.nan}, {"ttl": 1, "no_expiry": True}],
)
def test_wrong_lives_are_refused(cache: Cache, terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        cache.insert(b"a", b"1", **terms)
    assert len(cache) == 0


def test_unknown_terms_are_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match=r"insert\(\) got an unexpected keyword argument 'life'"):
        cache.insert(b"a", b"1", life=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ttl"):
        cache.insert(b"a", b"1", ttl="soon")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="patience"):
        cache.insert(b"a", b"1", patience=3)  # type: ignore[call-arg]
    cache.insert(b"a", b"1", ttl=None, tag=None)
    assert cache[b"a"] == b"1"


def test_conditional_insertions_see_freshness(cache: Cache) -> None:
    assert cache.replace(b"a", b"1") is None
    assert cache.add(b"a", b"1", ttl=SHORT) is not None
    assert cache.add(b"a", b"2") is None
    assert cache.replace(b"a", b"3", ttl=SHORT) is not None
    assert cache.swap(b"a", b"4", ttl=SHORT) == b"3"
    pause()
    assert cache.swap(b"a", b"5") is None
    assert cache.take(b"a") == b"5"
    assert cache.take(b"a") is None


def test_versions_decide_under_the_lock(cache: Cache) -> None:
    first = cache.insert(b"a", b"1", ttl=60)
    second = cache.insert_if(b"a", b"2", first, ttl=60)
    assert second is not None
    assert cache.insert_if(b"a", b"3", first) is None
    assert cache.insert_if(b"b", b"3", first) is None
    assert cache[b"a"] == b"2"
    assert not cache.remove_if(b"a", first)
    assert cache.remove_if(b"a", second)
    assert not cache.remove_if(b"a", second)
    # An expired entry is gone, whatever its version.
    short = cache.insert(b"a", b"4", ttl=SHORT)
    pause()
    assert cache.insert_if(b"a", b"5", short) is None
    assert not cache.remove_if(b"a", short)


def test_update_function_keeps_the_terms(cache: Cache) -> None:
    def longer(entry: CacheEntry | None) -> bytes:
        return entry.value + b"x" if entry else b"x"

    assert cache.update_with(b"a", longer) is not None
    cache.insert(b"a", b"1", ttl=60, tag="t")
    assert cache.update_with(b"a", longer) == cache.last_version()
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.value == b"1x"
    assert entry.has_tag("t")
    assert entry.remaining == pytest.approx(60, abs=5)
    cache.update_with(b"a", longer, ttl=6000)
    entry = cache.entry(b"a")
    assert entry is not None
    assert not entry.has_tag("t")
    assert entry.remaining == pytest.approx(6000, abs=5)
    assert cache.update_with(b"a", lambda entry: KEEP) is None
    assert cache[b"a"] == b"1xx"
    assert cache.update_with(b"a", lambda entry: None) is None
    assert b"a" not in cache


def test_update_function_may_raise(cache: Cache) -> None:
    cache[b"a"] = b"1"

    def fail(entry: CacheEntry | None) -> bytes:
        with pytest.raises(mmapcache.WriterError):
            cache[b"a"] = b"2"
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        cache.update_with(b"a", fail)
    with pytest.raises(TypeError, match="KEEP"):
        cache.update_with(b"a", lambda entry: 3)  # type: ignore[arg-type,return-value]
    assert cache[b"a"] == b"1"
    cache[b"a"] = b"2"


# A look that leaves no trace: neither counted nor a reason to live longer.
def test_peek_does_not_use_entries(path: Path) -> None:
    with Cache(path, time_to_idle=60) as cache:
        cache.insert(b"a", b"1")
        assert cache.peek(b"a") == b"1"
        assert cache.peek(b"b") is None
        assert cache.peek(b"b", 3) == 3
        entry = cache.peek_entry(b"a")
        assert entry is not None
        assert entry.value == b"1"
        assert cache.peek_entry(b"b") is None
        counts = cache.stats()["handle"]
        assert (counts["hits"], counts["misses"]) == (0, 0)
        assert cache.get(b"a") == b"1"
        assert cache.stats()["handle"]["hits"] == 1


def test_touch_changes_the_deadline(cache: Cache) -> None:
    assert not cache.touch(b"a", 60)
    assert not cache.persist(b"a")
    version = cache.insert(b"a", b"1", ttl=1)
    assert cache.touch(b"a", timedelta(hours=1))
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.version == version
    assert entry.remaining == pytest.approx(3600, abs=5)
    assert cache.persist(b"a")
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.remaining is None
    cache.insert(b"b", b"1", ttl=1)
    assert cache.get_and_renew(b"b", 60) == b"1"
    entry = cache.entry(b"b")
    assert entry is not None
    assert entry.remaining == pytest.approx(60, abs=5)
    assert cache.get_and_renew(b"c", 60) is None


def test_removals_count_fresh_entries(cache: Cache) -> None:
    cache.insert_many([(b"%d" % number, b"") for number in range(2000)], ttl=60)
    assert len(cache) == 2000
    assert cache.remove(b"0")
    assert not cache.remove(b"0")
    assert cache.remove_many([b"%d" % number for number in range(100)]) == 99
    assert cache.sweep_some(1) >= 0
    cache.clear()
    assert cache.len_with_expired() == 0


def test_counter_keeps_its_deadline(cache: Cache) -> None:
    assert cache.increment(b"n", ttl=60) == 1
    assert cache.increment(b"n", 5, ttl=6000) == 6
    assert cache.increment(b"n", -10) == -4
    entry = cache.entry(b"n")
    assert entry is not None
    assert entry.remaining == pytest.approx(60, abs=5)
    assert int.from_bytes(entry.value, "little", signed=True) == -4
    cache[b"text"] = b"abc"
    with pytest.raises(mmapcache.NotACounterError, match="3 bytes"):
        cache.increment(b"text")
    cache.increment(b"top", 2**63 - 1)
    with pytest.raises(mmapcache.CounterOverflowError):
        cache.increment(b"top")
    with pytest.raises(OverflowError):
        cache.increment(b"top", 2**63)


def test_groups_are_invalidated_at_once(cache: Cache) -> None:
    cache.insert(b"a", b"1", tag="user", namespace=b"pages")
    cache.insert(b"b", b"2", tag=b"user")
    cache.insert(b"c", b"3", namespace="pages")
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.has_tag(b"user")
    assert not entry.has_tag("pages")
    assert entry.has_namespace("pages")
    cache.invalidate_tag("user")
    assert dict(cache) == {b"c": b"3"}
    cache.invalidate_namespace("pages")
    assert dict(cache) == {}
    cache.insert(b"a", b"4", tag="user")
    assert cache[b"a"] == b"4"


def test_negative_entry_is_no_value(cache: Cache) -> None:
    cache.insert_absent(b"a", 60)
    assert cache.get(b"a") is None
    assert list(cache) == []
    assert len(cache) == 0
    assert not cache
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.is_negative
    assert [key for key, _ in cache.entries()] == [b"a"]
    assert cache.add(b"a", b"1") is None
    with pytest.raises(KeyError):
        del cache[b"a"]
    assert cache.pop(b"a", None) is None
    # What found no value has changed nothing.
    assert cache.entry(b"a") is not None
    assert cache.setdefault(b"a", b"2") == b"2"
    assert cache.pop(b"a") == b"2"


def test_stale_value_says_so(cache: Cache) -> None:
    cache.insert(b"a", b"1", ttl=SHORT, stale_for=60)
    pause()
    assert cache[b"a"] == b"1"
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.is_stale
    assert entry.remaining == 0
    assert entry.stale_for == 60
    assert repr(entry).startswith("CacheEntry(value=b'1', version=")


def test_writer_makes_many_changes(cache: Cache) -> None:
    with cache.writer() as writer:
        writer.insert(b"a", b"1", ttl=60)
        writer.insert(b"b", b"2")
        writer.insert_absent(b"c", 60)
        assert writer.remove(b"b")
        assert not writer.remove(b"b")
        assert writer.replace(b"d", b"3") is None
        version = writer.add(b"d", b"4", ttl=60)
        assert version is not None
        assert writer.add(b"d", b"5") is None
        version = writer.insert_if(b"d", b"6", version)
        assert version is not None
        entry = writer.entry(b"d")
        assert entry is not None
        assert (entry.value, entry.version) == (b"6", version)
        assert writer.remove_if(b"d", version)
        assert writer.entry(b"d") is None
        with pytest.raises(mmapcache.WriterError):
            cache.insert(b"a", b"2")
    assert dict(cache) == {b"a": b"1"}
    with pytest.raises(mmapcache.WriterError, match="not open"):
        writer.insert(b"a", b"2")


# Computations.


def test_value_is_computed_once(cache: Cache) -> None:
    calls = []

    def compute() -> bytes:
        calls.append(1)
        return b"dear"

    assert cache.get_or_insert_with(b"a", compute, ttl=60) == b"dear"
    assert cache.get_or_insert_with(b"a", compute, ttl=60) == b"dear"
    assert len(calls) == 1
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.remaining == pytest.approx(60, abs=5)


def test_threads_compute_a_value_once(cache: Cache) -> None:
    calls = []
    results: list[bytes] = []
    ready = threading.Barrier(8)

    def compute() -> bytes:
        calls.append(1)
        time.sleep(0.2)
        return b"dear"

    def ask() -> None:
        ready.wait()
        results.append(cache.get_or_insert_with(b"a", compute))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"dear"] * 8
    assert len(calls) == 1


def test_failed_computation_passes_through(cache: Cache) -> None:
    def fail() -> bytes:
        raise LookupError("no source")

    with pytest.raises(LookupError, match="no source"):
        cache.get_or_insert_with(b"a", fail)
    assert cache.get(b"a") is None
    # The next one computes.
    assert cache.get_or_insert_with(b"a", lambda: b"1") == b"1"


def test_computation_returns_bytes_only(cache: Cache) -> None:
    with pytest.raises(TypeError, match="absent_for"):
        cache.get_or_insert_with(b"a", lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="returns bytes"):
        cache.get_or_insert_with(b"a", lambda: "text")  # type: ignore[arg-type,return-value]
    assert cache.get_or_insert_with(b"a", lambda: memoryview(b"1")) == b"1"


def test_absence_is_stored(cache: Cache) -> None:
    calls = []

    def find() -> None:
        calls.append(1)

    assert cache.get_or_insert_with(b"a", find, absent_for=60) is None
    assert cache.get_or_insert_with(b"a", find, absent_for=60) is None
    assert len(calls) == 1
    entry = cache.entry(b"a")
    assert entry is not None
    assert entry.is_negative


# A task of the engine does not notice that it waits for itself: without a check of our own it would
# wait for its whole patience, and compute twice.
def test_own_computation_is_an_error(cache: Cache) -> None:
    raised: list[str] = []

    def compute() -> bytes:
        every: list[dict[str, Any]] = [{}, {"absent_for": 1}]
        for terms in every:
            with pytest.raises(mmapcache.WriterError) as error:
                cache.get_or_insert_with(b"a", compute, **terms)
            raised.append(str(error.value))
        # Another key, and other uses, are fine.
        assert cache.get_or_insert_with(b"b", lambda: b"2") == b"2"
        cache.insert(b"c", b"3")
        return b"1"

    began = time.monotonic()
    assert cache.get_or_insert_with(b"a", compute, patience=2) == b"1"
    assert time.monotonic() - began < 2
    assert len(raised) == 2
    assert all("computing the value of this key" in text for text in raised)


def test_stale_value_replaces_failure(cache: Cache) -> None:
    def fail() -> bytes:
        raise LookupError

    cache.insert(b"a", b"old", ttl=SHORT)
    pause()
    assert cache.get_or_insert_with(b"a", fail, stale_on_error=60) == b"old"
    with pytest.raises(LookupError):
        cache.get_or_insert_with(b"a", fail)


def test_invalidation_during_computation_counts(cache: Cache) -> None:
    def compute() -> bytes:
        cache.invalidate_tag("t")
        return b"1"

    assert cache.get_or_insert_with(b"a", compute, tag="t") == b"1"
    assert cache.get(b"a") is None


def test_value_that_fits_not_is_returned(cache: Cache, path: Path) -> None:
    Cache(path, max_bytes=1 << 20).close()
    value = bytes(1 << 18)
    with pytest.raises(mmapcache.NotStoredError, match="not stored") as raised:
        cache.get_or_insert_with(b"a", lambda: value)
    assert raised.value.value == value
    assert isinstance(raised.value.__cause__, mmapcache.ValueTooLargeError)


# Settings.


def test_settings_are_in_the_files(cache: Cache, path: Path) -> None:
    none = cache.settings()
    assert none["max_bytes"] is None
    assert none["eviction"] == "clock"
    options: dict[str, Any] = {
        "max_bytes": 1 << 20,
        "max_entries": 100,
        "time_to_live": 60,
        "time_to_idle": timedelta(seconds=30),
        "jitter": 0.25,
        "stale_while_revalidate": 5,
        "stale_if_error": 6.5,
        "eviction": "fifo",
    }
    Cache(path, **options).close()
    expected = {**options, "time_to_idle": 30}
    assert cache.settings() == expected
    Cache(path, max_entries=UNSET).close()
    Cache(path).close()
    assert cache.settings() == expected
    Cache(path, max_bytes=None, time_to_live=None, eviction="none").close()
    changed = cache.settings()
    assert (changed["max_bytes"], changed["time_to_live"], changed["eviction"]) == (
        None,
        None,
        "none",
    )
    assert changed["max_entries"] == 100


def test_wrong_settings_are_refused(path: Path) -> None:
    for name, value in (
        ("max_bytes", 1),
        ("jitter", 0.9),
        ("time_to_live", 0),
        ("max_entries", 0),
    ):
        options: dict[str, Any] = {name: value}
        with pytest.raises(mmapcache.OptionError, match=name):
            Cache(path, **options)
    with pytest.raises(ValueError, match="lru"):
        Cache(path, eviction="lru")  # type: ignore[arg-type]
    with pytest.raises(mmapcache.OptionError, match="append_only"):
        Cache(path, append_only=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        Cache(path, unknown=1)  # type: ignore[call-arg]


def test_bound_evicts_entries(path: Path) -> None:
    with Cache(path, max_entries=50) as cache:
        for number in range(200):
            cache[b"%d" % number] = b""
        assert len(cache) <= 50
        assert cache[b"199"] == b""
        total = cache.stats()["total"]
        assert total["evicted_number"] >= 150
        assert cache.evict_to(0) >= 0
        assert len(cache) == 0


def test_refusing_cache_raises_when_full(path: Path) -> None:
    with Cache(path, max_entries=2, eviction="none") as cache:
        cache.update({b"a": b"", b"b": b""})
        with pytest.raises(mmapcache.CacheFullError):
            cache[b"c"] = b""
        assert sorted(cache) == [b"a", b"b"]


def test_statistics_count_lookups(cache: Cache) -> None:
    cache[b"a"] = b"1"
    cache.get(b"a")
    cache.get(b"b")
    counts = cache.stats()["handle"]
    assert (counts["hits"], counts["misses"], counts["insertions"]) == (1, 1, 1)
    assert counts["hit_ratio"] == 0.5
    assert cache.stats()["files"]["occupied"] == 1
    assert cache.last_version() == cache.insert(b"b", b"2") or cache.last_version() > 0


def test_cache_is_copied_with_deadlines(cache: Cache, tmp_path: Path) -> None:
    cache.insert(b"a", b"1", ttl=60)
    assert cache.backup(tmp_path / "backup")["entries"] == 1
    assert cache.verify()["is_clean"]
    assert cache.disk_usage()["total"] > 0
    cache.flush()
    with Cache(tmp_path / "backup") as backup:
        entry = backup.entry(b"a")
        assert entry is not None
        assert entry.remaining == pytest.approx(60, abs=5)


def test_cache_is_pickled_by_path(cache: Cache, path: Path) -> None:
    cache[b"a"] = b"1"
    with pickle.loads(pickle.dumps(cache)) as other:
        assert other == {b"a": b"1"}
        assert other.path == cache.path == str(path)
    cache.close()
    with pytest.raises(mmapcache.ClosedError):
        cache.get(b"a")


def test_map_files_are_refused(cache: Cache, path: Path) -> None:
    with pytest.raises(mmapcache.OtherTypeError, match="made by Cache"):
        MmapCache(path)
