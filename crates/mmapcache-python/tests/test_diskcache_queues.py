"""Queues, `Deque` and `Index` of `mmapcache.diskcache`: order, processes and kills."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import StartChild, line_of

import mmapcache
from mmapcache.diskcache import Cache, Deque, FanoutCache, Index

FIRST = 500_000_000_000_000


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Open an empty cache."""
    with Cache(tmp_path / "cache") as cache:
        yield cache


def pulled(cache: Cache, prefix: str | None = None, side: str = "front") -> list[Any]:
    """Return all items of a queue."""
    return [value for _, value in iter(lambda: cache.pull(prefix, side=side), (None, None))]


def test_sides_are_independent(cache: Cache) -> None:
    keys = [cache.push(number, side=side) for number, side in enumerate(("back", "front") * 3)]
    assert keys == [FIRST, FIRST - 1, FIRST + 1, FIRST - 2, FIRST + 2, FIRST - 3]
    assert cache.peek()[1] == 5
    assert cache.peek(side="back")[1] == 4
    assert pulled(cache) == [5, 3, 1, 0, 2, 4]


def test_prefixes_are_independent(cache: Cache) -> None:
    prefixes = [None, "", "a", "a-b", "ü", "p" * 2000]
    for prefix in prefixes:
        for number in range(3):
            cache.push((prefix, number), prefix)
    assert cache.push(0, "a") == f"a-{FIRST + 3}"
    assert cache.pull("a", side="back") == (f"a-{FIRST + 3}", 0)
    for prefix in prefixes:
        assert pulled(cache, prefix) == [(prefix, number) for number in range(3)]
    assert len(cache) == 0


def test_too_long_prefix_is_refused(cache: Cache) -> None:
    with pytest.raises(ValueError, match="prefix"):
        cache.push(1, "p" * 60_000)
    assert len(cache) == 0


def test_unknown_side_is_refused(cache: Cache) -> None:
    with pytest.raises(KeyError):
        cache.push(1, side="left")
    with pytest.raises(KeyError):
        cache.pull(side="left")


def test_default_of_empty_queue(cache: Cache) -> None:
    for call in (cache.pull, cache.peek):
        assert call() == (None, None)
        assert call(default=None) is None
        assert call(default=1, tag=True) == (1, None)


def test_empty_queue_begins_again(cache: Cache) -> None:
    for _ in range(3):
        assert cache.push(1) == FIRST
        assert cache.push(2, side="front") == FIRST - 1
        assert pulled(cache, side="back") == [1, 2]


def test_removed_items_are_passed_over(cache: Cache) -> None:
    keys = [cache.push(number) for number in range(5000)]
    for key in keys[10:4990]:
        del cache[key]
    assert pulled(cache) == [*range(10), *range(4990, 5000)]
    keys = [cache.push(number) for number in range(5000)]
    for key in keys[10:4990]:
        del cache[key]
    assert pulled(cache, side="back") == [*range(4999, 4989, -1), *range(9, -1, -1)]


# As if a process had been killed between its two stores: the item is there, the ends are old.
def test_unfinished_push_is_found(cache: Cache) -> None:
    cache.push("a")
    cache[FIRST + 1] = "b"
    cache[FIRST - 1] = "z"
    assert cache.push("c") == FIRST + 2
    assert cache.push("y", side="front") == FIRST - 2
    assert pulled(cache) == ["y", "z", "a", "b", "c"]


def test_numbered_keys_are_items(cache: Cache) -> None:
    cache[7] = "seven"
    cache["p-000000000000003"] = "three"
    assert cache.push("eight") == 8
    assert cache.push("four", "p") == "p-000000000000004"
    assert pulled(cache) == ["seven", "eight"]
    assert pulled(cache, "p") == ["three", "four"]


# The numbers between them are not tried one by one.
@pytest.mark.parametrize("side", ["front", "back"])
def test_far_numbers_are_found(cache: Cache, side: str) -> None:
    cache[7], cache[10**14] = "near", "far"
    assert pulled(cache, side=side) == (["near", "far"] if side == "front" else ["far", "near"])


# A power loss may take the ends back to an older state. A recovery is counted: they are made again.
def test_ends_are_made_after_recovery(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        for number in range(10):
            cache.push(number)
            cache.push(number, "p", side="front")
        cache.pull()
    for path in tmp_path.glob("meta*"):
        path.unlink()
    with Cache(tmp_path) as cache:
        assert cache.push(10) == FIRST + 10
        assert pulled(cache) == list(range(1, 11))
        assert pulled(cache, "p") == list(range(9, -1, -1))


PUSHER = """
import itertools, sys
from mmapcache.diskcache import Cache
cache = Cache(sys.argv[1])
for number in itertools.count(int(sys.argv[2])):
    cache.push(number)
    print(number, flush=True)
"""


# Each item whose push returned is pulled, once and in order, whenever the process was killed.
def test_killed_pusher_loses_nothing(tmp_path: Path, start_child: StartChild) -> None:
    acknowledged: list[int] = []
    expected_next = 0
    for attempt in range(8):
        child = start_child(PUSHER, tmp_path, expected_next)
        assert int(line_of(child)) == expected_next
        time.sleep(0.003 * attempt)
        child.kill()
        assert child.stdout is not None
        rest = child.stdout.read().split("\n")
        last = max([expected_next, *(int(line) for line in rest[:-1])])
        acknowledged += range(expected_next, last + 1)
        # The one after it may have been stored too.
        expected_next = last + 2
    with Cache(tmp_path) as cache:
        found = pulled(cache)
        assert found == sorted(set(found))
        assert set(acknowledged) <= set(found)
        assert set(found) <= set(range(expected_next))
        assert len(cache) == 0


PULLER = """
import sys
from mmapcache.diskcache import Cache
cache = Cache(sys.argv[1])
while True:
    key, value = cache.pull()
    print(value, flush=True)
"""


def test_killed_puller_repeats_nothing(tmp_path: Path, start_child: StartChild) -> None:
    with Cache(tmp_path) as cache:
        for number in range(20_000):
            cache.push(number)
        seen: list[int] = []
        for attempt in range(8):
            child = start_child(PULLER, tmp_path)
            seen.append(int(line_of(child)))
            time.sleep(0.003 * attempt)
            child.kill()
            assert child.stdout is not None
            seen += [int(line) for line in child.stdout.read().split("\n")[:-1] if line != "None"]
        seen += pulled(cache)
        assert seen == sorted(set(seen)), "each once"
        # Of each killed process at most one that was removed and not printed.
        assert len(seen) >= 20_000 - 8


def pull_all(path: str, into: Any) -> None:
    """Pull until the queue is empty."""
    with Cache(path) as cache:
        into.put(pulled(cache))


def test_item_is_pulled_once(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        for number in range(4000):
            cache.push(number)
    context = multiprocessing.get_context("spawn")
    into = context.Queue()
    workers = [context.Process(target=pull_all, args=(str(tmp_path), into)) for _ in range(4)]
    for worker in workers:
        worker.start()
    parts = [into.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(itertools.chain(*parts)) == list(range(4000))
    assert all(part == sorted(part) for part in parts)


def test_deque_finds_by_position(tmp_path: Path) -> None:
    deque = Deque(range(100), str(tmp_path))
    assert [deque[index] for index in range(-100, 100)] == [*range(100), *range(100)]
    del deque[50]
    deque[-1] = "last"
    expected = [*range(50), *range(51, 99), "last"]
    assert [deque[index] for index in range(99)] == expected
    assert list(deque) == expected
    assert list(reversed(deque)) == expected[::-1]
    for index in (99, -100, 10**6):
        with pytest.raises(IndexError):
            deque[index]
    with pytest.raises(TypeError):
        deque["0"]
    # Keys that are no items of the queue come after them.
    deque.cache["key"] = "other"
    assert list(deque) == [*expected, "other"]
    assert list(reversed(deque)) == ["other", *expected[::-1]]
    assert (deque[99], deque[-1], deque[98]) == ("other", "other", "last")
    deque.clear()
    assert list(deque) == []


def test_deque_keeps_maxlen(tmp_path: Path) -> None:
    deque = Deque("abcde", str(tmp_path), maxlen=3)
    assert deque == "cde"
    deque.appendleft("b")
    assert deque == "bcd"
    deque.maxlen = 2
    assert deque == "cd"
    other = pickle.loads(pickle.dumps(deque))
    assert (list(other), other.maxlen, other.directory) == (["c", "d"], 2, str(tmp_path))
    assert deque.copy().maxlen == 2


def test_deque_compares_as_sequence(tmp_path: Path) -> None:
    deque = Deque([1, 2], str(tmp_path))
    assert deque == [1, 2]
    assert deque == (1, 2)
    assert deque != [1, 2, 3]
    assert deque < [1, 2, 3]
    assert deque > [1]
    assert deque >= [1, 1, 5]
    assert deque != {1, 2}
    with pytest.raises(TypeError):
        assert deque < {1, 2}


def test_index_behaves_as_dict(tmp_path: Path) -> None:
    index, model = Index(str(tmp_path)), OrderedDict[Any, Any]()
    for number in range(2000):
        key = number * 7919 % 300
        if number % 7 == 3:
            assert index.pop(key, None) == model.pop(key, None)
        elif number % 11 == 5 and model:
            last = number % 2 == 0
            assert index.popitem(last) == model.popitem(last)
        else:
            index[key] = model[key] = number
        if model:
            ends = next(iter(model)), next(reversed(model))
            assert (index.peekitem(last=False)[0], index.peekitem()[0]) == ends
    assert list(index.items()) == list(model.items())
    assert index == model
    assert list(reversed(index)) == list(reversed(model))
    assert index == dict(reversed(model.items()))
    assert index != OrderedDict(reversed(model.items()))


def test_index_is_one_for_processes(tmp_path: Path) -> None:
    index = Index(str(tmp_path), a=1)
    other = pickle.loads(pickle.dumps(index))
    other["b"] = 2
    assert list(index) == ["a", "b"]
    assert index.popitem() == ("b", 2)
    assert other.peekitem() == ("a", 1)
    assert Cache(tmp_path).peekitem() == ("a", 1)
    assert other.setdefault("a", 2) == 1
    assert other.setdefault("c", 3) == 3
    assert index.push("item", "q") == f"q-{FIRST}"
    assert index.pull("q") == (f"q-{FIRST}", "item")


# What the files are is decided when they are made: those of a Cache have no order of their own.
def test_plain_cache_serves_as_index(tmp_path: Path) -> None:
    with Cache(tmp_path, eviction_policy="none") as cache:
        cache["b"] = cache["a"] = 1
    index = Index(str(tmp_path))
    assert not hasattr(index.cache, "is_ordered")
    index["c"] = 2
    assert list(index) == ["b", "a", "c"]
    assert index.popitem(last=False) == ("b", 1)
    deque = Deque("x", str(tmp_path))
    assert not hasattr(deque.cache, "is_queue")
    assert list(deque) == ["x", 1, 2]


# As after a power loss: the order of the keys is older than the entries, or gone.
def test_order_is_made_after_recovery(tmp_path: Path) -> None:
    index = Index(str(tmp_path), ((number, number) for number in range(100)))
    del index[99], index[50]
    index[0] = "again"
    order = list(index)
    settings = index.cache._stored()
    index.cache.close()
    for path in tmp_path.glob("meta*"):
        path.unlink()
    index = Index.fromcache(Cache(tmp_path, **settings))
    assert list(index) == order
    assert index.popitem() == (98, 98)
    assert index.popitem(last=False) == (0, "again")
    index["new"] = 1
    assert index.peekitem() == ("new", 1)


# As if a process had been killed between the store of an item and that of the ends.
def test_unfinished_insertion_is_found(tmp_path: Path) -> None:
    index = Index(str(tmp_path), a=1)
    with mmapcache.MmapCache(tmp_path / "meta") as meta:
        ends = meta[b"O"]
        index["b"] = 2
        meta[b"O"] = ends
    index["c"] = 3
    assert list(index) == ["a", "b", "c"]
    assert [index.popitem() for _ in range(3)] == [("c", 3), ("b", 2), ("a", 1)]


def test_expired_end_is_passed_over(tmp_path: Path) -> None:
    index = Index(str(tmp_path), a=1, b=2)
    index.cache.set("c", 3, expire=0.01)
    index.cache.set("0", 3, expire=0.01)
    time.sleep(0.02)
    assert index.popitem() == ("b", 2)
    assert index.popitem() == ("a", 1)
    with pytest.raises(KeyError, match="empty"):
        index.popitem()


INSERTER = """
import itertools, sys
from mmapcache.diskcache import Index
index = Index(sys.argv[1])
for number in itertools.count(int(sys.argv[2])):
    index[number] = number
    if number % 3 == 0:
        index.popitem(last=number % 2 == 0)
    if number % 5 == 0:
        del index[number]
    print(number, flush=True)
"""


# Whenever it was killed: the ends are what a listing has, and the order is that of insertion.
def test_killed_inserter_keeps_order(tmp_path: Path, start_child: StartChild) -> None:
    index, begin = Index(str(tmp_path)), 1
    for attempt in range(8):
        child = start_child(INSERTER, tmp_path, begin)
        assert int(line_of(child)) == begin
        time.sleep(0.003 * attempt)
        child.kill()
        assert child.stdout is not None
        lines = child.stdout.read().split("\n")[:-1]
        begin = max([begin, *map(int, lines)]) + 2
        keys = list(index)
        assert keys == sorted(keys)
        if keys:
            assert index.peekitem() == (keys[-1], keys[-1])
            assert index.peekitem(last=False) == (keys[0], keys[0])
    keys = list(index)
    assert [index.popitem()[0] for _ in keys] == keys[::-1]
    assert len(index) == 0


# Popping is as fast in a large index as in a small one.
def test_popping_does_not_list(tmp_path: Path) -> None:
    index = Index(str(tmp_path), ((number, None) for number in range(30_000)))
    begin = time.perf_counter()
    list(index)
    listing = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(50):
        index.popitem()
        index.popitem(last=False)
    assert time.perf_counter() - begin < 20 * listing, "100 listings would take longer"


def test_fanout_makes_subcaches(tmp_path: Path) -> None:
    with FanoutCache(tmp_path, shards=2, codec="json") as cache:
        assert cache.cache("a/b") is cache.cache("a/b")
        cache.cache("a/b")["key"] = [1]
        cache.deque("d", maxlen=2).extend("abc")
        cache.index("i").update(b=1, a=2)
    with FanoutCache(tmp_path, shards=2, codec="json") as cache:
        assert cache.cache("a/b")["key"] == [1]
        assert list(cache.deque("d")) == ["b", "c"]
        assert list(cache.index("i")) == ["b", "a"]
        assert len(cache) == 0
    assert (tmp_path / "cache" / "a" / "b").is_dir()
