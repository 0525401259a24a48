"""Several processes that use one store at once, and how many calls they complete together."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import tempfile
import time
from typing import Any, NamedTuple

import diskcache
import lmdb
from stores import STORES, Store

import mmapcache

_ERRORS = (mmapcache.MmapCacheError, diskcache.Timeout, sqlite3.Error, lmdb.Error)
_SETS_IN_TEN = 1
_spawn = multiprocessing.get_context("spawn")


class Total(NamedTuple):
    """What all processes did in a second, and how many calls failed in all."""

    calls_per_second: float
    errors: int


def measure(
    store: type[Store], processes: int, seconds: float, keys: int, value_bytes: int
) -> Total:
    """Returns the total of `processes` that get nine times and set once, on random keys."""
    with tempfile.TemporaryDirectory() as directory:
        _fill(store(directory), keys, value_bytes)
        barrier = _spawn.Barrier(processes)
        results: Any = _spawn.SimpleQueue()
        children = [
            _spawn.Process(
                target=_work,
                args=(STORES.index(store), directory, seconds, keys, value_bytes, barrier, results),
            )
            for _ in range(processes)
        ]
        for child in children:
            child.start()
        done = [results.get() for _ in children]
        for child in children:
            child.join()
        return Total(sum(rate for rate, _ in done), sum(errors for _, errors in done))


def _fill(store: Store, keys: int, value_bytes: int) -> None:
    for key in make_keys(store.key_type, keys):
        store.set(key, bytes(value_bytes))
    store.close()


def make_keys(key_type: type, count: int) -> list[Any]:
    """Returns `count` keys of 12 characters."""
    texts = [f"key-{number:08d}" for number in range(count)]
    return texts if key_type is str else [text.encode() for text in texts]


def _work(
    index: int, directory: str, seconds: float, count: int, size: int, barrier: Any, results: Any
) -> None:
    store = STORES[index](directory)
    keys = random.Random().sample(make_keys(store.key_type, count), count)
    value, get, put = random.randbytes(size), store.get, store.set
    barrier.wait()
    start = time.perf_counter()
    calls = errors = 0
    while (now := time.perf_counter()) - start < seconds:
        key = keys[calls % count]
        for number in range(10):
            try:
                if number < _SETS_IN_TEN:
                    put(key, value)
                else:
                    get(keys[(calls + number) % count])
            except _ERRORS:
                errors += 1
        calls += 10
    results.put((calls / (now - start), errors))
    store.close()
