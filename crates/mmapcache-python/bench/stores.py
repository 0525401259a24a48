"""The stores that bench/speed.py compares: each as the calls that its users write.

A call is timed as it is, without a layer between: `get` is the bound method of the store if the
store has one.
"""

from __future__ import annotations

import dbm
import functools
import importlib.metadata
import os
import shelve
from collections.abc import Callable
from typing import Any

import cachetools
import diskcache
import lmdb

import mmapcache
import mmapcache.diskcache

Call = Callable[..., Any]


class Store:
    """A store under test. `get`, `set` and `delete` take a key of `key_type`."""

    name = ""
    key_type: type = bytes
    shared_by_processes = True

    get: Call
    set: Call
    delete: Call

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def memoised(self, function: Call) -> Call | None:
        """Returns `function` with its results kept in the store; None if the store cannot."""
        return None

    def close(self) -> None:
        """Closes the store."""

    @classmethod
    def version(cls) -> str:
        """Returns the release that was measured."""
        return "Python's own"


def our_version() -> str:
    """Returns the release that is installed."""
    try:
        return importlib.metadata.version("mmapcache")
    except importlib.metadata.PackageNotFoundError:
        return "of this checkout"


class OurMap(Store):
    """`mmapcache.MmapCache`."""

    name = "mmapcache.MmapCache"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._map = mmapcache.MmapCache(os.path.join(directory, "map"))
        self.get, self.set, self.delete = self._map.get, self._map.put, self._map.delete
        self.close = self._map.close  # type: ignore[method-assign]

    @classmethod
    def version(cls) -> str:
        return our_version()


class OurCache(Store):
    """`mmapcache.Cache`."""

    name = "mmapcache.Cache"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._cache = mmapcache.Cache(os.path.join(directory, "cache"))
        self.get, self.set, self.delete = self._cache.get, self._cache.insert, self._cache.remove
        self.close = self._cache.close  # type: ignore[method-assign]

    def memoised(self, function: Call) -> Call:
        compute = self._cache.get_or_insert_with

        def call(number: int) -> int:
            found = compute(b"%d" % number, lambda: b"%d" % function(number))
            return int(found)

        return call

    @classmethod
    def version(cls) -> str:
        return our_version()


class OurDiskcache(Store):
    """`mmapcache.diskcache.Cache`."""

    name = "mmapcache.diskcache"
    key_type = str

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._cache = mmapcache.diskcache.Cache(directory)
        self.get, self.set, self.delete = self._cache.get, self._cache.set, self._cache.delete
        self.close = self._cache.close  # type: ignore[method-assign]

    def memoised(self, function: Call) -> Call:
        memoised: Call = self._cache.memoize()(function)
        return memoised

    @classmethod
    def version(cls) -> str:
        return our_version()


class Diskcache(Store):
    """`diskcache.Cache` with its defaults."""

    name = "diskcache"
    key_type = str

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._cache = diskcache.Cache(directory)
        self.get, self.set, self.delete = self._cache.get, self._cache.set, self._cache.delete
        self.close = self._cache.close  # type: ignore[method-assign]

    def memoised(self, function: Call) -> Call:
        memoised: Call = self._cache.memoize()(function)
        return memoised

    @classmethod
    def version(cls) -> str:
        return str(diskcache.__version__)


class Lmdb(Store):
    """`lmdb`, with a transaction for each call and, as everywhere here, no sync."""

    name = "lmdb, a transaction each"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._open(directory)
        environment = self._environment

        def get(key: bytes) -> bytes | None:
            with environment.begin() as transaction:
                return transaction.get(key)

        def put(key: bytes, value: bytes) -> bool:
            with environment.begin(write=True) as transaction:
                return transaction.put(key, value)

        def delete(key: bytes) -> bool:
            with environment.begin(write=True) as transaction:
                return transaction.delete(key)

        self.get, self.set, self.delete = get, put, delete
        self.close = environment.close  # type: ignore[method-assign]

    def _open(self, directory: str) -> None:
        self._environment = lmdb.open(
            directory, map_size=1 << 32, sync=False, metasync=False, writemap=True
        )

    @classmethod
    def version(cls) -> str:
        return str(lmdb.__version__)


class LmdbOneTransaction(Lmdb):
    """`lmdb` with one transaction for all calls: a state of one moment, for one thread."""

    name = "lmdb, one transaction"
    shared_by_processes = False

    def __init__(self, directory: str) -> None:
        Store.__init__(self, directory)
        self._open(directory)
        self._transaction = self._environment.begin(write=True)
        transaction = self._transaction
        self.get, self.set, self.delete = transaction.get, transaction.put, transaction.delete

    def close(self) -> None:
        self._transaction.commit()
        self._environment.close()


class Shelve(Store):
    """`shelve`, which pickles, on the best `dbm` that this Python has."""

    name = "shelve"
    key_type = str
    shared_by_processes = False

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._path = os.path.join(directory, "shelf")
        self._shelf = shelve.open(self._path)  # noqa: SIM115 (closed by `close`)
        self.get, self.set = self._shelf.get, self._shelf.__setitem__
        self.delete = self._shelf.__delitem__
        self.close = self._shelf.close  # type: ignore[method-assign]


class Dbm(Store):
    """`dbm`, the best that this Python has."""

    name = "dbm"
    shared_by_processes = False

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        path = os.path.join(directory, "file")
        self._file = dbm.open(path, "c")  # noqa: SIM115 (closed by `close`)
        self.get, self.set = self._file.get, self._file.__setitem__
        self.delete = self._file.__delitem__
        self.close = self._file.close  # type: ignore[method-assign]

    @classmethod
    def version(cls) -> str:
        # dbm.open chose one of its modules; `_defaultmod` names it once a file was made.
        return str(dbm._defaultmod.__name__)  # type: ignore[attr-defined]


class Cachetools(Store):
    """`cachetools.LRUCache`: in memory, of one process."""

    name = "cachetools.LRUCache"
    shared_by_processes = False

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._cache: cachetools.LRUCache[bytes, bytes] = cachetools.LRUCache(maxsize=1 << 20)
        self.get, self.set = self._cache.get, self._cache.__setitem__
        self.delete = self._cache.__delitem__

    def memoised(self, function: Call) -> Call:
        memoised: Call = cachetools.cached(cachetools.LRUCache(maxsize=1 << 20))(function)
        return memoised

    @classmethod
    def version(cls) -> str:
        return str(cachetools.__version__)


class Dict(Store):
    """A `dict`: in memory, of one process."""

    name = "dict"
    shared_by_processes = False

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        content: dict[bytes, bytes] = {}
        self.get, self.set, self.delete = content.get, content.__setitem__, content.__delitem__

    def memoised(self, function: Call) -> Call:
        return functools.cache(function)


STORES: tuple[type[Store], ...] = (
    OurMap,
    OurCache,
    OurDiskcache,
    Diskcache,
    Lmdb,
    LmdbOneTransaction,
    Shelve,
    Dbm,
    Cachetools,
    Dict,
)
