"""`mmapcache.diskcache.FanoutCache` and the recipes, between threads and processes."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmapcache.diskcache import (
    Averager,
    BoundedSemaphore,
    Cache,
    FanoutCache,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Open an empty cache that evicts nothing, as the recipes need it."""
    with Cache(tmp_path / "cache", eviction_policy="none") as cache:
        yield cache


def test_keys_are_spread(tmp_path: Path) -> None:
    with FanoutCache(tmp_path) as cache:
        for key in range(800):
            cache[key] = key
        shards = [len(shard) for shard in cache._shards]
        assert sum(shards) == 800
        assert min(shards) > 60
        assert all(cache[key] == key for key in range(800))


def test_size_limit_is_kept(tmp_path: Path) -> None:
    with FanoutCache(tmp_path, shards=4, size_limit=2**24) as cache:
        assert cache.size_limit == 2**22
        other = pickle.loads(pickle.dumps(cache))
        assert other.size_limit == 2**22
        assert len(other._shards) == 4
        other.close()
    with FanoutCache(tmp_path, shards=4) as cache:
        assert cache.size_limit == 2**22


def test_busy_shard_fails_silently(tmp_path: Path) -> None:
    with FanoutCache(tmp_path, shards=2) as cache:
        cache["key"] = 1
        results: list[Any] = []

        def write() -> None:
            results.extend(
                [
                    cache.set("key", 2),
                    cache.add("new", 2),
                    cache.incr("key"),
                    cache.touch("key"),
                    cache.delete("key"),
                    cache.pop("key", "default"),
                    cache.get("key"),
                ]
            )

        with cache.transact():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert results == [False, False, None, False, False, "default", 1]


def test_unknown_attribute_is_missing(tmp_path: Path) -> None:
    with FanoutCache(tmp_path, shards=1) as cache:
        assert cache.timeout == 0.010
        with pytest.raises(AttributeError):
            cache.no_such


def count(path: str, times: int) -> None:
    """Count in a cache of several shards."""
    with FanoutCache(path, shards=4) as cache:
        for number in range(times):
            cache.incr(number % 10, retry=True)
            cache.set((number, "other"), number, retry=True)


def test_processes_count_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=count, args=(str(tmp_path), 1000)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    with FanoutCache(tmp_path, shards=4) as cache:
        assert [cache[number] for number in range(10)] == [400] * 10
        assert cache.check() == []


def fill_large(path: str, seed: int) -> None:
    """Store values for which the engine makes room by steps."""
    with Cache(path) as cache:
        for number in range(60):
            cache[(seed, number)] = bytes(500_000)


# Room is made by entries of the package's own, which no caller sees.
def test_listing_has_keys_of_callers(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=4 * 2**20) as cache:
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=fill_large, args=(str(tmp_path), seed)) for seed in range(2)
        ]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            assert all(type(key) is tuple for key in cache)
        assert [worker.exitcode for worker in workers] == [0, 0]


def add_under(path: str, kind: type[Any], times: int) -> None:
    """Add to a number in two steps, under a lock."""
    with Cache(path) as cache:
        lock = kind(cache, "lock")
        for _ in range(times):
            with lock:
                value = cache["number"]
                time.sleep(0)
                cache["number"] = value + 1


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_lock_excludes_processes(cache: Cache, kind: type[Any]) -> None:
    cache["number"] = 0
    context = multiprocessing.get_context("spawn")
    arguments = (cache.directory, kind, 100)
    workers = [context.Process(target=add_under, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert cache["number"] == 300


def test_foreign_release_is_refused(cache: Cache) -> None:
    lock = RLock(cache, "lock")
    semaphore = BoundedSemaphore(cache, "places", value=2)
    for free in (lock, semaphore):
        with pytest.raises(AssertionError, match="un-acquired"):
            free.release()
    with lock, lock:
        thread_failed: list[bool] = []

        def release() -> None:
            try:
                lock.release()
            except AssertionError:
                thread_failed.append(True)

        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert thread_failed == [True]
    with pytest.raises(AssertionError):
        lock.release()


def test_averager_needs_numbers(cache: Cache) -> None:
    average = Averager(cache, "average")
    assert average.get() is None
    average.add(1)
    average.add(2)
    assert average.get() == 1.5
    assert average.pop() == 1.5
    assert average.pop() is None


def test_throttle_limits_calls(cache: Cache) -> None:
    now, sleeps = [1000.0], []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        now[0] += seconds

    @throttle(cache, 2, 1, time_func=lambda: now[0], sleep_func=sleep)
    def function() -> float:
        return now[0]

    times = [function() for _ in range(6)]
    assert times == pytest.approx([1000, 1000, 1000.5, 1001, 1001.5, 1002])
    assert sleeps == pytest.approx([0.5] * 4)


def test_barrier_lets_one_in(cache: Cache) -> None:
    inside, most = [0], [0]

    @barrier(cache, Lock)
    def function() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1

    threads = [threading.Thread(target=function) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_stampede_is_computed_early(cache: Cache) -> None:
    calls: list[float] = []

    @memoize_stampede(cache, expire=0.5, beta=3)
    def function(number: int) -> int:
        calls.append(time.monotonic())
        time.sleep(0.05)
        return number

    begin = time.monotonic()
    waits = []
    while time.monotonic() - begin < 1.5:
        before = time.monotonic()
        assert function(5) == 5
        waits.append(time.monotonic() - before)
        time.sleep(0.001)
    # The first call computes; later ones find a result that a thread computed before it expired.
    assert len(calls) > 2
    assert sum(wait > 0.04 for wait in waits) <= 2
    with pytest.raises(TypeError):
        memoize_stampede(cache, 1, name=lambda: None)  # type: ignore[arg-type]
