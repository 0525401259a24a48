"""Recipes: locks, counters and decorators, each on a cache.

They need entries that stay: set the eviction policy of their cache to "none".
"""

from __future__ import annotations

import functools
import math
import os
import random
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from mmapcache.diskcache.core import ENOVAL, args_to_key, full_name

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Between attempts at a lock.
_PAUSE = 0.001


class Averager:
    """The average of numbers that any process adds."""

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._cache = cache
        self._key = key
        self._expire = expire
        self._tag = tag

    def add(self, value: float) -> None:
        """Adds a number."""
        with self._cache.transact(retry=True):
            total, count = self._cache.get(self._key, default=(0.0, 0))
            sums = (total + value, count + 1)
            self._cache.set(self._key, sums, expire=self._expire, tag=self._tag)

    def get(self) -> float | None:
        """Returns the average; None if there is no number."""
        return _mean(self._cache.get(self._key, default=(0.0, 0), retry=True))

    def pop(self) -> float | None:
        """Returns the average, and forgets all numbers."""
        return _mean(self._cache.pop(self._key, default=(0.0, 0), retry=True))


def _mean(sums: tuple[float, int]) -> float | None:
    total, count = sums
    return None if count == 0 else total / count


class Lock:
    """A lock between threads and processes; the death of its owner does not free it."""

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._cache = cache
        self._key = key
        self._expire = expire
        self._tag = tag

    def acquire(self) -> None:
        """Waits until the lock is free, and takes it."""
        while not self._cache.add(self._key, None, expire=self._expire, tag=self._tag, retry=True):
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Frees the lock, also one that another thread or process holds."""
        self._cache.delete(self._key, retry=True)

    def locked(self) -> bool:
        """Returns whether a thread or process holds the lock."""
        return self._key in self._cache

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


class RLock:
    """A lock between threads and processes that its owner may take several times."""

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._cache = cache
        self._key = key
        self._expire = expire
        self._tag = tag

    def _change(self, step: int) -> bool:
        """Counts up or down for this thread. Returns False if another one holds the lock."""
        me = f"{os.getpid()}-{threading.get_ident()}"
        with self._cache.transact(retry=True):
            owner, count = self._cache.get(self._key, default=(None, 0))
            if count > 0 and owner != me:
                return False
            if count + step < 0:
                return False
            self._cache.set(self._key, (me, count + step), expire=self._expire, tag=self._tag)
            return True

    def acquire(self) -> None:
        """Waits until no other thread or process holds the lock, and takes it once more."""
        while not self._change(1):
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Frees the lock once; raises AssertionError if this thread does not hold it."""
        if not self._change(-1):
            raise AssertionError("cannot release un-acquired lock")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


class BoundedSemaphore:
    """Lets so many threads and processes in at a time."""

    def __init__(
        self,
        cache: Any,
        key: Any,
        value: int = 1,
        expire: float | None = None,
        tag: Any = None,
    ) -> None:
        self._cache = cache
        self._key = key
        self._value = value
        self._expire = expire
        self._tag = tag

    def _change(self, step: int) -> bool:
        """Adds to the free places. Returns False if there would be too few or too many."""
        with self._cache.transact(retry=True):
            free = self._cache.get(self._key, default=self._value) + step
            if not 0 <= free <= self._value:
                return False
            self._cache.set(self._key, free, expire=self._expire, tag=self._tag)
            return True

    def acquire(self) -> None:
        """Waits for a free place, and takes it."""
        while not self._change(-1):
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Frees a place; raises AssertionError if none is taken."""
        if not self._change(1):
            raise AssertionError("cannot release un-acquired semaphore")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


def throttle(
    cache: Any,
    count: int,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], None] = time.sleep,
) -> Callable[[_Function], _Function]:
    """Makes a decorator that lets a function run `count` times in so many seconds."""
    rate = count / float(seconds)

    def decorator(function: _Function) -> _Function:
        key = full_name(function) if name is None else name
        cache.set(key, (time_func(), count), expire=expire, tag=tag, retry=True)

        def delay() -> float:
            """Takes a turn, and returns 0; or the seconds until there is one."""
            with cache.transact(retry=True):
                now = time_func()
                last, left = cache.get(key, default=(now, count))
                left = min(left + (now - last) * rate, count)
                if left < 1:
                    return (1 - left) / rate  # type: ignore[no-any-return]
                cache.set(key, (now, left - 1), expire=expire, tag=tag)
                return 0.0

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            while pause := delay():
                sleep_func(pause)
            return function(*args, **kwargs)

        return cast("_Function", wrapper)

    return decorator


def barrier(
    cache: Any,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
) -> Callable[[_Function], _Function]:
    """Makes a decorator that runs a function under a `Lock`, `RLock` or `BoundedSemaphore`."""

    def decorator(function: _Function) -> _Function:
        key = full_name(function) if name is None else name
        lock = lock_factory(cache, key, expire=expire, tag=tag)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return function(*args, **kwargs)

        return cast("_Function", wrapper)

    return decorator


def memoize_stampede(
    cache: Any,
    expire: float,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Collection[Any] = (),
) -> Callable[[_Function], _Function]:
    """As `Cache.memoize`, and computes a popular result again before it expires.

    A thread does so in the background, at a random moment that is earlier the longer the function
    takes and the larger `beta` is (Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache
    Stampede Prevention", 2015). Until it is done, callers get the stored result.
    """
    if callable(name):
        raise TypeError("name cannot be callable")

    def decorator(function: _Function) -> _Function:
        base = (full_name(function) if name is None else name,)

        def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            return args_to_key(base, args, kwargs, typed, ignore)

        def compute(key: Any, args: Any, kwargs: Any) -> Any:
            begin = time.time()
            result = function(*args, **kwargs)
            pair = (result, time.time() - begin)
            cache.set(key, pair, expire=expire, tag=tag, retry=True)
            return result

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = cache_key(*args, **kwargs)
            pair, expires = cache.get(key, ENOVAL, expire_time=True, retry=True)
            if pair is ENOVAL:
                return compute(key, args, kwargs)
            result, cost = pair
            # From 0, without it, to 1: the logarithm is finite.
            draw = 1.0 - random.random()
            is_early = -cost * beta * math.log(draw) >= expires - time.time()
            # One thread of all processes computes: the one that adds this key.
            if is_early and cache.add((key, "recompute"), None, expire=cost, retry=True):
                thread = threading.Thread(target=compute, args=(key, args, kwargs), daemon=True)
                thread.start()
            return result

        wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]
        return cast("_Function", wrapper)

    return decorator
