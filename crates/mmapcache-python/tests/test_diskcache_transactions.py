"""Transactions of `mmapcache.diskcache`: what an exception, a kill, a thread and a fork leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import StartChild, finish, line_of

from mmapcache import ValueTooLargeError
from mmapcache.diskcache import Cache, Deque, FanoutCache, Index, Timeout


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Open an empty cache."""
    with Cache(tmp_path / "cache", timeout=0.2) as cache:
        yield cache


class StopError(Exception):
    """Ends a transaction."""


def contents(cache: Cache) -> list[Any]:
    """Return all that a cache has of its items."""
    keys = list(cache)
    return [(key, *cache.get(key, expire_time=True, tag=True)) for key in keys]


def change_all(cache: Cache) -> None:
    """Make each kind of change."""
    cache["old"] = "other"
    cache["new"] = 1
    cache.incr("counter", 5)
    cache.touch("expiring", 1)
    cache.add("added", 1)
    del cache["deleted"]
    cache.pop("popped")
    cache.push("item")
    cache.pull()
    cache.push("item", prefix="p", side="front")
    cache.evict("tag")
    cache["new"] = 2


def prepare(cache: Cache) -> None:
    """Store an item for each change."""
    for key in ("old", "deleted", "popped"):
        cache[key] = [key]
    cache.set("expiring", 1, expire=1000, tag=("a", 1))
    cache.set("tagged", b"b" * 100_000, tag="tag")
    cache["counter"] = 1
    cache.push("first")
    cache.push("second")


def test_exception_undoes_all(cache: Cache) -> None:
    prepare(cache)
    before = contents(cache)
    with pytest.raises(StopError), cache.transact():
        change_all(cache)
        assert cache["old"] == "other"
        raise StopError
    assert contents(cache) == before
    assert cache.pull() == (500_000_000_000_000, "first")
    assert cache.push("third") == 500_000_000_000_002
    assert cache.check() == []


def test_committed_changes_stay(cache: Cache) -> None:
    prepare(cache)
    with cache.transact():
        change_all(cache)
    assert cache["new"] == 2
    assert "deleted" not in cache
    assert "tagged" not in cache
    assert cache.pull()[1] == "second"
    assert cache.pull("p")[1] == "item"


def test_order_of_index_is_undone(tmp_path: Path) -> None:
    index = Index(str(tmp_path), {"a": 1, "b": 2})
    with pytest.raises(StopError), index.transact():
        index["c"] = 3
        assert index.popitem(last=False) == ("a", 1)
        del index["b"]
        raise StopError
    assert list(index.items()) == [("a", 1), ("b", 2)]
    index["d"] = 4
    assert index.popitem() == ("d", 4)
    assert index.popitem(last=False) == ("a", 1)


def test_clear_is_undone(cache: Cache) -> None:
    prepare(cache)
    before = contents(cache)
    with pytest.raises(StopError), cache.transact():
        cache["more"] = 1
        assert cache.clear() == len(before) + 1
        assert len(cache) == 0
        raise StopError
    assert contents(cache) == before


# diskcache has one transaction for all levels, too.
def test_outermost_level_decides(cache: Cache) -> None:
    with cache.transact():
        cache["a"] = 1
        with pytest.raises(StopError), cache.transact():
            cache["b"] = 1
            raise StopError
        assert cache["b"] == 1
    assert (cache["a"], cache["b"]) == (1, 1)
    with pytest.raises(StopError), cache.transact():
        with cache.transact():
            cache["a"] = 2
        raise StopError
    assert cache["a"] == 1


def test_other_thread_waits(cache: Cache) -> None:
    seen: list[object] = []

    def write() -> None:
        calls: list[Callable[[], object]] = [
            lambda: cache.set("a", 2),
            lambda: cache.clear(),
            lambda: cache.evict("t"),
        ]
        for call in calls:
            begin = time.monotonic()
            try:
                seen.append(call())
            except Timeout as timeout:
                seen.append((type(timeout), time.monotonic() - begin > 0.19))
        seen.append(cache.get("a"))
        cache.set("a", 3, retry=True)

    with cache.transact():
        cache["a"] = 1
        cache.set("tagged", 1, tag="t")
        thread = threading.Thread(target=write)
        thread.start()
        while len(seen) < 4:
            time.sleep(0.01)
        assert cache["a"] == 1
    thread.join(10)
    assert seen == [(Timeout, True)] * 3 + [1]
    assert cache["a"] == 3


def test_timeout_counts_removed_items(cache: Cache) -> None:
    with pytest.raises(Timeout) as raised:
        raise Timeout(5)
    assert raised.value.args == (5,)


# The lock is not free again, but a signal is heard.
def test_signal_ends_a_wait(tmp_path: Path, start_child: StartChild) -> None:
    child = start_child(
        """
        import sys
        from mmapcache.diskcache import Cache
        cache = Cache(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            cache.set("key", 1, retry=True)
        except KeyboardInterrupt:
            print("interrupted")
        """,
        tmp_path,
    )
    with Cache(tmp_path) as cache:
        assert line_of(child) == "ready"
        with cache.transact():
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            assert finish(child) == "interrupted"
        assert "key" not in cache


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_diskcache_transactions import change_all
from mmapcache.diskcache import Cache
cache = Cache(sys.argv[1])
with cache.transact():
    change_all(cache)
    print("changed", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("opens_again", [False, True])
def test_kill_undoes_all(tmp_path: Path, start_child: StartChild, opens_again: bool) -> None:
    cache = Cache(tmp_path)
    prepare(cache)
    before = contents(cache)
    child = start_child(KILLED, tmp_path, Path(__file__).parent)
    assert line_of(child) == "changed"
    child.kill()
    child.wait()
    if opens_again:
        cache = Cache(tmp_path)
    else:
        cache["next"] = 1
        del cache["next"]
    assert contents(cache) == before
    assert cache.pull() == (500_000_000_000_000, "first")
    assert cache.check() == []


def test_ended_thread_undoes_all(cache: Cache) -> None:
    def begin() -> None:
        cache._begin(False)
        cache["key"] = 1

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    cache["other"] = 1
    assert "key" not in cache


def test_forked_child_writes_itself(cache: Cache) -> None:
    cache["key"] = 0
    with cache.transact():
        cache["key"] = 1
        child = os.fork()
        if child == 0:
            # The lock is the parent's: this waits until it is free.
            try:
                cache.set("child", 1, retry=True)
                cache.incr("key", retry=True)
            finally:
                os._exit(0)
        time.sleep(0.1)
        assert "child" not in cache
        cache["key"] = 2
    assert os.waitpid(child, 0)[1] == 0
    assert (cache["child"], cache["key"]) == (1, 3)


# The engine refuses a value of this size under the bound; undoing must not fail for that.
@pytest.mark.parametrize("is_killed", [False, True])
def test_large_value_comes_back(tmp_path: Path, is_killed: bool, start_child: StartChild) -> None:
    value = b"large" * 300_000
    with Cache(tmp_path, size_limit=8 * 2**20) as cache:
        cache.set("large", value, tag="t")
        if is_killed:
            child = start_child(
                """
                import sys
                from mmapcache.diskcache import Cache
                cache = Cache(sys.argv[1])
                with cache.transact():
                    cache["large"] = "small"
                    print("changed", flush=True)
                    sys.stdin.readline()
                """,
                tmp_path,
            )
            assert line_of(child) == "changed"
            child.kill()
            child.wait()
        else:
            with pytest.raises(StopError), cache.transact():
                cache["large"] = "small"
                raise StopError
        cache["other"] = 1
        assert cache.get("large", tag=True) == (value, "t")
        for number in range(1000):
            cache[number] = b"x" * 16_384
        assert cache.volume() < 13 * 2**20, "the bound is in force again"


# The engine's own calls take the lock, which this thread has: none of them may wait for it.
def test_first_call_inside_works(cache: Cache) -> None:
    cache.reset("size_limit", 4 * 2**20)
    cache.set("dead", 1, expire=0.001)
    time.sleep(0.01)
    with cache.transact():
        cache.expire()
    with cache.transact():
        cache.cull()
    with cache.transact(), pytest.raises(ValueTooLargeError):
        cache["large"] = b"x" * 2**20
    with cache.transact():
        cache.reset("size_limit", 8 * 2**20, update=False)
    with cache.transact():
        cache.clear()
        cache["key"] = 1
    with cache.transact():
        cache.check()
        cache.stats(reset=True)
        cache.volume()
    assert list(cache) == ["key"]


def test_size_limit_is_set_inside(cache: Cache) -> None:
    with cache.transact(), cache.transact():
        cache.reset("size_limit", 4 * 2**20)
        cache["key"] = 1
    assert cache.size_limit == 4 * 2**20
    for number in range(1000):
        cache[number] = b"x" * 16_384
    assert cache.volume() < 9 * 2**20


def test_foreign_end_is_refused(cache: Cache) -> None:
    with pytest.raises(Exception, match="no transaction"):
        cache._end(True)


def move(path: str, times: int, seed: int) -> None:
    """Move one from a number to another in transactions."""
    with Cache(path) as cache:
        for number in range(times):
            one, other = (seed + number) % 4, (seed + 3 * number + 1) % 4
            with cache.transact(retry=True):
                cache[one] = cache[one] - 1
                cache[other] = cache[other] + 1


def test_sum_is_kept_by_processes(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        for key in range(4):
            cache[key] = 100
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=move, args=(str(tmp_path), 200, seed)) for seed in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert sum(cache[key] for key in range(4)) == 400


# At any moment of a kill each transaction is there as a whole or not at all.
def test_killed_movers_keep_the_sum(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with Cache(tmp_path) as cache:
        for key in range(4):
            cache[key] = 100
        for attempt in range(10):
            worker = context.Process(target=move, args=(str(tmp_path), 10**9, attempt))
            worker.start()
            moved = cache[0]
            while cache[0] == moved and worker.is_alive():
                time.sleep(0.001)
            time.sleep(0.001 * attempt)
            worker.kill()
            worker.join()
            with cache.transact():
                assert sum(cache[key] for key in range(4)) == 400, attempt


def test_fanout_transaction_undoes_all(tmp_path: Path) -> None:
    with FanoutCache(tmp_path, shards=4) as cache:
        for key in range(40):
            cache[key] = 0
        with pytest.raises(StopError), cache.transact():
            for key in range(80):
                cache[key] = 1
            raise StopError
        assert sorted(cache) == list(range(40))
        assert {cache[key] for key in range(40)} == {0}


def test_deque_transaction_undoes_all(tmp_path: Path) -> None:
    deque = Deque("abc", str(tmp_path))
    with pytest.raises(StopError), deque.transact():
        deque.rotate(1)
        deque.reverse()
        deque.append("d")
        deque.popleft()
        raise StopError
    assert deque == "abc"
    deque.append("d")
    assert deque == "abcd"
