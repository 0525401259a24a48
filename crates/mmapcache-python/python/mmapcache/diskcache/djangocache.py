"""`DjangoCache`: the Django backend of diskcache, on a `FanoutCache`.

For a new project take `mmapcache.django`, which follows Django's own backends. This one is for a
project that has diskcache's: it takes the same settings and has the same further arguments.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from mmapcache.diskcache.core import ENOVAL, Cache, args_to_key, full_name
from mmapcache.diskcache.fanout import FanoutCache
from mmapcache.diskcache.persistent import Deque, Index

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Django makes a backend for each thread. Those of one directory share their files.
_open: weakref.WeakValueDictionary[tuple[Any, ...], FanoutCache] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _shared(directory: str, shards: int, timeout: float, options: dict[str, Any]) -> FanoutCache:
    place = os.path.realpath(os.path.expandvars(os.path.expanduser(directory)))
    key = (place, shards, timeout, repr(sorted(options.items())))
    with _lock:
        cache = _open.get(key)
        if cache is None:
            cache = _open[key] = FanoutCache(directory, shards, timeout, **options)
        return cache


class DjangoCache(BaseCache):
    """A cache of Django.

    Settings: LOCATION, SHARDS, DATABASE_TIMEOUT, and as OPTIONS those of `FanoutCache`, with the
    codec. Django itself stores responses as objects, for which the codec has to be "pickle".
    """

    def __init__(self, directory: str | os.PathLike[str], params: dict[str, Any]) -> None:
        super().__init__(params)
        shards = params.get("SHARDS", 8)
        timeout = params.get("DATABASE_TIMEOUT", 0.010)
        options = params.get("OPTIONS", {})
        self._cache = _shared(os.fspath(directory), shards, timeout, options)

    @property
    def directory(self) -> str:
        """The directory of the shards."""
        return self._cache.directory

    def cache(self, name: str) -> Cache:
        """Returns the `Cache` of a name, in a directory inside of this one."""
        return self._cache.cache(name)

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Returns the `Deque` of a name, in a directory inside of this one."""
        return self._cache.deque(name, maxlen=maxlen)

    def index(self, name: str) -> Index:
        """Returns the `Index` of a name, in a directory inside of this one."""
        return self._cache.index(name)

    def _key(self, key: Any, version: int | None) -> Any:
        """Returns the key of the cache below.

        That of a memoized call is a tuple. It is not made a text, as by diskcache: `repr` leaves
        out parts of large arrays, and two calls would have one key.
        """
        if isinstance(key, tuple):
            return (self.key_prefix, self.version if version is None else version, key)
        return self.make_key(key, version=version)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Stores a value if the key has none; returns whether it did."""
        life = self.get_backend_timeout(timeout)
        return self._cache.add(self._key(key, version), value, life, read, tag, retry)

    def get(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Returns the value of a key, or `default`."""
        made = self._key(key, version)
        return self._cache.get(made, default, read, expire_time, tag, retry)

    def read(self, key: Any, version: int | None = None) -> Any:
        """Returns the value of a key as a file; raises KeyError if there is none."""
        return self._cache.read(self._key(key, version))

    def set(  # type: ignore[override]
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Stores a value."""
        life = self.get_backend_timeout(timeout)
        return self._cache.set(self._key(key, version), value, life, read, tag, retry)

    def touch(
        self,
        key: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        retry: bool = True,
    ) -> bool:
        """Sets when an item expires; False if there is none."""
        life = self.get_backend_timeout(timeout)
        return self._cache.touch(self._key(key, version), life, retry)

    def pop(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = True,
    ) -> Any:
        """Removes an item and returns its value, or `default`."""
        return self._cache.pop(self._key(key, version), default, expire_time, tag, retry)

    def delete(self, key: Any, version: int | None = None, retry: bool = True) -> bool:
        """Removes an item; False if there is none."""
        return self._cache.delete(self._key(key, version), retry)

    def incr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        default: Any = None,
        retry: bool = True,
    ) -> int:
        """Adds to a number; without one, and without a default, raises ValueError."""
        try:
            return cast("int", self._cache.incr(self._key(key, version), delta, default, retry))
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    def decr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        default: Any = None,
        retry: bool = True,
    ) -> int:
        """Subtracts from a number, as `incr`."""
        return self.incr(key, -delta, version, default, retry)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Returns whether a key has a value."""
        return self._key(key, version) in self._cache

    def expire(self) -> int:
        """Removes items that have expired, and returns how many."""
        return self._cache.expire()

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Returns hits and misses, as `Cache.stats`."""
        return self._cache.stats(enable=enable, reset=reset)

    def create_tag_index(self) -> None:
        """Sets `tag_index` to 1, which changes nothing."""
        self._cache.create_tag_index()

    def drop_tag_index(self) -> None:
        """Sets `tag_index` to 0."""
        self._cache.drop_tag_index()

    def evict(self, tag: Any) -> int:
        """Removes items with a tag, and returns how many."""
        return self._cache.evict(tag)

    def cull(self) -> int:
        """Evicts until the volume is at most the size limit; returns how many items."""
        return self._cache.cull()

    def clear(self) -> int:  # type: ignore[override]
        """Removes all items, and returns how many."""
        return self._cache.clear()

    def close(self, **kwargs: Any) -> None:
        """Does nothing: Django calls it at the end of each request."""

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Returns the seconds until an item expires; None is never, 0 and less at once."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return -1 if timeout == 0 else cast("float | None", timeout)

    def memoize(
        self,
        name: str | None = None,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        typed: bool = False,
        tag: Any = None,
        ignore: Collection[Any] = (),
    ) -> Callable[[_Function], _Function]:
        """Makes a decorator that stores the results of a function, as `Cache.memoize`."""
        if callable(name):
            raise TypeError("name cannot be callable")

        def decorator(function: _Function) -> _Function:
            base = (full_name(function) if name is None else name,)

            def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
                return args_to_key(base, args, kwargs, typed, ignore)

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                key = cache_key(*args, **kwargs)
                result = self.get(key, ENOVAL, version, retry=True)
                if result is ENOVAL:
                    result = function(*args, **kwargs)
                    life = self.get_backend_timeout(timeout)
                    if life is None or life > 0:
                        self.set(key, result, timeout, version, tag=tag, retry=True)
                return result

            wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]
            return cast("_Function", wrapper)

        return decorator
