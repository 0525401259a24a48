"""`FanoutCache`: several caches, so that as many processes write at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from mmapcache.codecs import Codec, get_codec
from mmapcache.diskcache import core
from mmapcache.diskcache.core import DEFAULT_SETTINGS, ENOVAL, Cache, Disk, Timeout
from mmapcache.diskcache.persistent import Deque, Index

_Function = TypeVar("_Function", bound=Callable[..., Any])


class FanoutCache:
    """A mapping whose keys are spread over several caches, the shards, in directories of their own.

    Unlike `Cache` it gives up silently if a lock is not free within the timeout, which is short:
    `set` returns False, `get` the default; with `retry` it waits.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float = 0.010,
        disk: type[Disk] = Disk,
        *,
        codec: str | Codec = "msgpack",
        **settings: Any,
    ) -> None:
        """Opens the shards in a directory, or makes them. `size_limit` is that of all together."""
        self._directory = core._expanded(directory)
        self._count = shards
        self._disk = disk
        self._codec = get_codec(codec)
        if "size_limit" in settings or not os.path.exists(os.path.join(self._directory, "000")):
            # Otherwise the stored limit of the shards counts.
            limit = settings.get("size_limit", DEFAULT_SETTINGS["size_limit"])
            settings["size_limit"] = limit / shards
        self._shards = tuple(
            Cache(
                os.path.join(self._directory, f"{number:03}"),
                timeout,
                disk,
                codec=codec,
                **settings,
            )
            for number in range(shards)
        )
        first = self._shards[0]
        self._native_shard = first._shard if disk is Disk else None
        self._hash = first.disk.hash
        self._caches: dict[str, Cache] = {}
        self._deques: dict[str, Deque] = {}
        self._indexes: dict[str, Index] = {}

    def _shard(self, key: Any) -> Any:
        if self._native_shard is not None:
            return self._shards[self._native_shard(key, self._count)]
        return self._shards[self._hash(key) % self._count]

    @property
    def directory(self) -> str:
        """The directory with those of the shards."""
        return self._directory

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULT_SETTINGS and name not in ("timeout", "disk"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._shards[0], name)

    @contextlib.contextmanager
    def transact(self, retry: bool = True) -> Iterator[None]:
        """Holds the locks of all shards for the `with` block, as `Cache.transact`.

        The shards are rolled back one by one: the death of the process undoes the changes in each.
        """
        if not retry:
            raise ValueError("retry must be True in FanoutCache")
        with contextlib.ExitStack() as stack:
            for shard in self._shards:
                stack.enter_context(shard.transact(retry=True))
            yield

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Stores a value, as `Cache.set`; False if the lock was not free."""
        try:
            return bool(self._shard(key).set(key, value, expire, read, tag, retry))
        except Timeout:
            return False

    def __setitem__(self, key: Any, value: Any) -> None:
        self._shard(key)[key] = value

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Sets when an item expires, as `Cache.touch`; False if the lock was not free."""
        try:
            return bool(self._shard(key).touch(key, expire, retry))
        except Timeout:
            return False

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Stores a value if there is none, as `Cache.add`; False if the lock was not free."""
        try:
            return bool(self._shard(key).add(key, value, expire, read, tag, retry))
        except Timeout:
            return False

    def incr(self, key: Any, delta: Any = 1, default: Any = 0, retry: bool = False) -> Any:
        """Adds to a number, as `Cache.incr`; None if the lock was not free."""
        try:
            return self._shard(key).incr(key, delta, default, retry)
        except Timeout:
            return None

    def decr(self, key: Any, delta: Any = 1, default: Any = 0, retry: bool = False) -> Any:
        """Subtracts from a number, as `Cache.decr`; None if the lock was not free."""
        try:
            return self._shard(key).decr(key, delta, default, retry)
        except Timeout:
            return None

    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Returns the value of a key, as `Cache.get`."""
        try:
            return self._shard(key).get(key, default, read, expire_time, tag, retry)
        except Timeout:
            return default

    def __getitem__(self, key: Any) -> Any:
        return self._shard(key)[key]

    def read(self, key: Any) -> Any:
        """Returns the value of a key as a file; raises KeyError if there is none."""
        handle = self.get(key, ENOVAL, read=True, retry=True)
        if handle is ENOVAL:
            raise KeyError(key)
        return handle

    def __contains__(self, key: Any) -> bool:
        return key in self._shard(key)

    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Removes an item, as `Cache.pop`; returns `default` if the lock was not free."""
        try:
            return self._shard(key).pop(key, default, expire_time, tag, retry)
        except Timeout:
            return default

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Removes an item, as `Cache.delete`; False if the lock was not free."""
        try:
            return bool(self._shard(key).delete(key, retry))
        except Timeout:
            return False

    def __delitem__(self, key: Any) -> None:
        del self._shard(key)[key]

    def check(self, fix: bool = False, retry: bool = False) -> list[Any]:
        """Verifies all shards, and returns warnings, as `Cache.check`."""
        return [found for shard in self._shards for found in shard.check(fix, retry)]

    def expire(self, retry: bool = False) -> int:
        """Removes items that have expired, and returns how many."""
        return self._remove("expire", (time.time(),), retry)

    def create_tag_index(self) -> None:
        """Sets `tag_index` of the shards to 1, which changes nothing."""
        for shard in self._shards:
            shard.create_tag_index()

    def drop_tag_index(self) -> None:
        """Sets `tag_index` of the shards to 0."""
        for shard in self._shards:
            shard.drop_tag_index()

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Removes items with a tag, and returns how many."""
        return self._remove("evict", (tag,), retry)

    def cull(self, retry: bool = False) -> int:
        """Evicts from each shard until it is within its size limit; returns how many items."""
        return self._remove("cull", (), retry)

    def clear(self, retry: bool = False) -> int:
        """Removes all items, and returns how many."""
        return self._remove("clear", (), retry)

    def _remove(self, method: str, args: tuple[Any, ...], retry: bool) -> int:
        """Calls a method of each shard until it is done."""
        total = 0
        for shard in self._shards:
            while True:
                try:
                    total += getattr(shard, method)(*args, retry=retry)
                    break
                except Timeout as timeout:
                    # What it had removed before it gave up.
                    total += timeout.args[0] if timeout.args else 0
        return total

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Returns hits and misses of all shards, as `Cache.stats`."""
        results = [shard.stats(enable, reset) for shard in self._shards]
        return sum(hits for hits, _ in results), sum(misses for _, misses in results)

    def volume(self) -> int:
        """Returns the bytes that the files of all shards take."""
        return sum(shard.volume() for shard in self._shards)

    def close(self) -> None:
        """Closes the files of the shards; the next call opens them again."""
        for shard in self._shards:
            shard.close()
        self._caches.clear()
        self._deques.clear()
        self._indexes.clear()

    def __enter__(self) -> FanoutCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (
            self._directory,
            self._count,
            self.timeout,
            self._disk,
            core.picklable(self._codec),
        )
        return _reopened, (type(self), *state)

    def __iter__(self) -> Iterator[Any]:
        """Iterates over the keys, shard by shard."""
        return itertools.chain.from_iterable(iter(shard) for shard in self._shards)

    def __reversed__(self) -> Iterator[Any]:
        """Iterates over the keys in the reversed order."""
        return itertools.chain.from_iterable(reversed(shard) for shard in reversed(self._shards))

    def __len__(self) -> int:
        """Counts items, with those that have expired and were not removed yet."""
        return sum(len(shard) for shard in self._shards)

    def reset(self, key: str, value: Any = ENOVAL) -> Any:
        """Sets a setting of all shards, as `Cache.reset`; the size limit is that of each shard."""
        result = None
        for shard in self._shards:
            while True:
                try:
                    result = shard.reset(key, value)
                    break
                except Timeout:
                    pass
        return result

    def cache(
        self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any
    ) -> Cache:
        """Returns the cache of a name, in a directory inside of this one."""
        if name not in self._caches:
            self._caches[name] = Cache(
                os.path.join(self._directory, "cache", *name.split("/")),
                timeout,
                self._disk if disk is None else disk,
                codec=self._codec,
                **settings,
            )
        return self._caches[name]

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Returns the Deque of a name, in a directory inside of this one."""
        if name not in self._deques:
            directory = os.path.join(self._directory, "deque", *name.split("/"))
            cache = Cache(
                directory,
                disk=self._disk,
                codec=self._codec,
                eviction_policy="none",
                is_queue=True,
            )
            self._deques[name] = Deque.fromcache(cache, maxlen=maxlen)
        return self._deques[name]

    def index(self, name: str) -> Index:
        """Returns the Index of a name, in a directory inside of this one."""
        if name not in self._indexes:
            directory = os.path.join(self._directory, "index", *name.split("/"))
            cache = Cache(
                directory,
                disk=self._disk,
                codec=self._codec,
                eviction_policy="none",
                is_ordered=True,
            )
            self._indexes[name] = Index.fromcache(cache)
        return self._indexes[name]

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[Any] = (),
    ) -> Callable[[_Function], _Function]:
        """Makes a decorator that stores the results of a function, as `Cache.memoize`."""
        return core.memoize(self, name, typed, expire, tag, ignore)


def _reopened(
    cls: type[FanoutCache],
    directory: str,
    shards: int,
    timeout: float,
    disk: type[Disk],
    codec: str | Codec,
) -> FanoutCache:
    """Opens a cache that was pickled. The size limit is the stored one."""
    cache = cls.__new__(cls)
    FanoutCache.__init__(cache, directory, shards, timeout, disk, codec=codec)
    return cache
