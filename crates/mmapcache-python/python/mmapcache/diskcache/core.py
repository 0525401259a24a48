"""`Cache` and `Disk`: the main classes of diskcache, on the files of mmapcache."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
import tempfile
import time
import types
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar, cast

from mmapcache import _native
from mmapcache.codecs import Codec, get_codec
from mmapcache.codecs import decode as _decode
from mmapcache.codecs import encode as _encode

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Constant(tuple[str, ...]):
    """A value with a meaning of its own, printed as its name."""

    __slots__ = ()

    def __new__(cls, name: str) -> Constant:
        """Make the value of a name."""
        return super().__new__(cls, (name,))

    def __repr__(self) -> str:
        return self[0]

    def __reduce__(self) -> tuple[type[Constant], tuple[str]]:
        return Constant, (self[0],)


ENOVAL = Constant("ENOVAL")
"""Returned where there is no value, when None is one."""
UNKNOWN = Constant("UNKNOWN")
"""The key of a value that is stored before its key is known."""

MODE_NONE = 0
MODE_RAW = 1
MODE_BINARY = 2
MODE_TEXT = 3
MODE_PICKLE = 4
"""The mode of values that a codec encoded; the name is that of diskcache, which pickles them."""

DEFAULT_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "cull_limit": 10,
    # Settings with this prefix are kept for programs that read them, and change nothing.
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
    "sqlite_synchronous": 1,
    # Settings with this prefix are arguments of the Disk.
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": 5,
}

EVICTION_POLICY: dict[str, dict[str, str | None]] = {
    # How each policy evicts; diskcache has SQL here, of which a program can add its own.
    "none": {"evicts": None},
    "least-recently-stored": {"evicts": "fifo"},
    "least-recently-used": {"evicts": "clock"},
    "least-frequently-used": {"evicts": "clock"},
}

# Counters that diskcache stores like settings.
_COUNTERS = ("count", "size", "hits", "misses")
_OWN_FILES = ("cache", "meta")
# Never from the stored settings: who can write the files must not choose what runs.
_NEVER_STORED = ("disk_codec",)
# Whether the order of the keys is kept, and whether all keys are those of a queue. Set by `Index`
# and `Deque` when they make the directory; the files depend on it.
_FIXED = ("is_ordered", "is_queue")


class Timeout(Exception):
    """Another writer held the lock for longer than the timeout."""


class UnknownFileWarning(UserWarning):
    """A file in the directory is none of the cache's."""


class EmptyDirWarning(UserWarning):
    """A directory inside of the cache's is empty."""


class TypeName(str):
    """The name of a type in a key, where the type itself is not loaded."""

    __slots__ = ()


def _find_type(name: str) -> type | TypeName:
    """Returns the type of a name, if its module is loaded; imports nothing."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:length]))
        for part in parts[length:]:
            found = getattr(found, part, None)
        if isinstance(found, type):
            return found
    return TypeName(name)


class ValueReader(io.BytesIO):
    """A value opened as a file; its bytes are in memory."""

    @property
    def name(self) -> str:
        """Says what it is; there is no such file: the value is inside of the cache's files."""
        return "<value of a cache>"


class Disk:
    """Turns keys and values into what is stored, and back.

    Subclasses may override `put`, `get`, `store` and `fetch`, as those of diskcache. `store`
    returns no file name: values are in the cache's own files. What is none of None, bool, int,
    float, str and bytes is encoded by a codec.
    """

    def __init__(
        self,
        directory: str,
        min_file_size: int = 0,
        pickle_protocol: int = 0,
        codec: str | Codec = "msgpack",
    ) -> None:
        self._directory = directory
        self._codec = get_codec(codec)
        self.min_file_size = min_file_size
        self.pickle_protocol = pickle_protocol

    def hash(self, key: Any) -> int:
        """Returns a number for a key: the same one in each process and on each machine."""
        stored, _ = self.put(key)
        if isinstance(stored, float) and stored.is_integer():
            stored = int(stored)
        return zlib.adler32(repr(stored).encode("utf-8", "surrogatepass"))

    def put(self, key: Any) -> tuple[Any, bool]:
        """Returns what is stored of a key, and whether that is the key itself."""
        if _is_simple(key):
            return key, True
        return _encode(self._codec, key), False

    def get(self, key: Any, raw: bool) -> Any:
        """Returns the key of what `put` returned."""
        return key if raw else _decode(self._codec, key)

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Returns size, mode, None and what is stored of a value; with `read` that is a file."""
        if read:
            data = value.read()
            return len(data), MODE_BINARY, None, data
        if _is_simple(value):
            return 0, MODE_RAW, None, value
        return 0, MODE_PICKLE, None, _encode(self._codec, value)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Returns the value of what `store` returned; with `read` as a file."""
        if mode == MODE_PICKLE:
            return _decode(self._codec, value)
        is_large = isinstance(value, bytes) and len(value) >= self.min_file_size
        if read and (mode == MODE_BINARY or is_large):
            return ValueReader(value)
        return value

    def remove(self, file_path: str) -> None:
        """Does nothing: there is no file for a value."""


def _is_simple(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    return kind is str or kind is bytes or kind is float


class JSONDisk(Disk):
    """Stores keys and values as JSON, compressed by zlib."""

    def __init__(self, directory: str, compress_level: int = 1, **kwargs: Any) -> None:
        """`compress_level`: 0 (not compressed) to 9 (smallest)."""
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def _pack(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode(), self.compress_level)

    def put(self, key: Any) -> tuple[Any, bool]:
        """Returns what is stored of a key, as `Disk.put`."""
        return super().put(self._pack(key))

    def get(self, key: Any, raw: bool) -> Any:
        """Returns the key of what `put` returned."""
        return json.loads(zlib.decompress(super().get(key, raw)))

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Returns what is stored of a value, as `Disk.store`."""
        return super().store(value if read else self._pack(value), read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Returns the value of what `store` returned; with `read` the stored bytes as a file."""
        if read:
            return super().fetch(mode, filename, value, read)
        return json.loads(zlib.decompress(super().fetch(mode, filename, value, read)))


def full_name(function: Callable[..., Any]) -> str:
    """Returns the name of a function with that of its module."""
    return f"{function.__module__}.{function.__qualname__}"


def args_to_key(
    base: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    typed: bool,
    ignore: Collection[Any],
) -> tuple[Any, ...]:
    """Makes the key of a call. `ignore`: positions and names of arguments that do not count."""
    positional = tuple(arg for place, arg in enumerate(args) if place not in ignore)
    named = sorted((name, arg) for name, arg in kwargs.items() if name not in ignore)
    key = (*base, *positional, None)
    for pair in named:
        key += pair
    if typed:
        key += tuple(type(arg) for arg in positional)
        key += tuple(type(arg) for _, arg in named)
    return key


class Cache(_native.Store):
    """A mapping in a directory, shared by threads and processes, whose items can expire.

    It has the methods of diskcache's `Cache`. Values that are none of None, bool, int, float, str
    and bytes are encoded by `codec`: "msgpack", "json", "bytes", an object of the protocol
    `mmapcache.codecs.Codec`, or "pickle". Name "pickle" only if you trust all that can write the
    directory: unpickling runs code that the files name (CVE-2025-69872).
    """

    # Set from the settings.
    statistics: int
    tag_index: int
    eviction_policy: str
    size_limit: int
    cull_limit: int

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        *,
        codec: str | Codec = "msgpack",
        **settings: Any,
    ) -> None:
        """Opens the cache in a directory, or makes one; without a directory in a temporary one.

        `timeout`: seconds to wait for another writer. `settings`: those of `DEFAULT_SETTINGS`,
        which are stored, and arguments of the Disk with the prefix `disk_`.
        """
        if not (isinstance(disk, type) and issubclass(disk, Disk)):
            raise ValueError("disk must subclass mmapcache.diskcache.Disk")
        self._directory = _expanded(directory)
        self._timeout = timeout
        self._codec = get_codec(codec)
        try:
            os.makedirs(self._directory, 0o755, exist_ok=True)
        except OSError as error:
            message = f"the directory {self._directory!r} of a cache could not be made"
            raise OSError(error.errno, message, self._directory) from error
        self._open(self._directory, timeout)
        merged = self._merged(settings)
        arguments = {name[5:]: value for name, value in merged.items() if name.startswith("disk_")}
        self._disk = disk(self._directory, **arguments)
        self._disk._codec = self._codec
        self._use(
            types.SimpleNamespace(
                encode=functools.partial(_encode, self._codec),
                decode=functools.partial(_decode, self._codec),
                disk=None if disk is Disk else self._disk,
                type_name=TypeName,
                find_type=_find_type,
                reader=ValueReader,
            )
        )
        self._set(merged)

    def _merged(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns given, stored and default settings, in this order of preference; stores them."""
        for name, value in given.items():
            self._check_setting(name, value)
        stored = self._stored()
        merged = _preferred(given, stored)
        if merged != stored:
            with self._transact(retry=True):
                merged = _preferred(given, self._stored())
                self._store_settings(json.dumps(merged).encode())
        return merged

    def _stored(self) -> dict[str, Any]:
        stored = self._load_settings()
        if stored is None:
            return {}
        settings = cast("dict[str, Any]", json.loads(stored))
        return {name: value for name, value in settings.items() if name not in _NEVER_STORED}

    def _set(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            if name.startswith("disk_"):
                setattr(self._disk, name[5:], value)
            setattr(self, name, value)
        self._configure_native()

    def _configure_native(self) -> None:
        policy = EVICTION_POLICY.get(self.eviction_policy)
        if policy is None:
            raise KeyError(self.eviction_policy)
        evicts = policy.get("evicts", "clock")
        # If writes are to cull nothing, and by the policy "none", the engine evicts nothing.
        is_bounded = evicts is not None and self.cull_limit > 0
        self._configure(
            statistics=bool(self.statistics),
            parks=self.cull_limit == 0,
            ordered=bool(getattr(self, "is_ordered", False)),
            queue=bool(getattr(self, "is_queue", False)),
            file_bytes=max(0, int(self._disk.min_file_size)),
            max_bytes=max(0, int(self.size_limit)) if is_bounded else None,
            fifo=evicts == "fifo",
        )

    @property
    def directory(self) -> str:
        """The directory of the cache."""
        return self._directory

    @property
    def timeout(self) -> float:
        """How many seconds a write waits for another writer."""
        return self._timeout

    @property
    def disk(self) -> Disk:
        """What turns keys and values into what is stored."""
        return self._disk

    @contextlib.contextmanager
    def transact(self, retry: bool = False) -> Iterator[None]:
        """Holds the writer lock for the `with` block: other threads and processes do not write.

        An exception in the block undoes its changes, and so does the death of the process. Other
        processes see each change at once. Levels of one thread nest: the outermost decides.
        """
        with self._transact(retry=retry):
            yield

    @contextlib.contextmanager
    def _transact(self, retry: bool = False) -> Iterator[None]:
        self._begin(retry)
        try:
            yield
        except BaseException:
            self._end(False)
            raise
        self._end(True)

    def _add_object(self, key: Any, delta: Any, default: Any, retry: bool) -> Any:
        """Adds to a value that is no number of 64 bits."""
        with self._transact(retry=retry):
            value, expire_time, tag = self.get(key, ENOVAL, expire_time=True, tag=True)
            if value is ENOVAL:
                if default is None:
                    raise KeyError(key)
                value = default
            value += delta
            expire = None if expire_time is None else expire_time - time.time()
            self.set(key, value, expire=expire, tag=tag)
            return value

    def decr(self, key: Any, delta: Any = 1, default: Any = 0, retry: bool = False) -> Any:
        """Subtracts from the number of a key, as `incr` adds; the result may be negative."""
        return self.incr(key, -delta, default, retry)

    def read(self, key: Any, retry: bool = False) -> Any:
        """Returns the value of a key as a file; raises KeyError if there is none."""
        handle = self.get(key, ENOVAL, read=True, retry=retry)
        if handle is ENOVAL:
            raise KeyError(key)
        return handle

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[Any] = (),
    ) -> Callable[[_Function], _Function]:
        """Makes a decorator that stores the results of a function.

        `typed`: arguments of different types are different calls. `expire`: seconds; 0 stores
        nothing. `ignore`: positions and names of arguments that do not count. The decorated
        function has a method `__cache_key__`, which returns the key of a call.
        """
        return memoize(self, name, typed, expire, tag, ignore)

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Verifies all entries, and returns warnings about what is wrong.

        `fix` removes what is damaged, and files that are none of the cache's.
        """
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for problem in self._check(False):
                warnings.warn(problem, stacklevel=2)
            if found and fix:
                self._check(True)
            self._check_files(fix)
        return found

    def _check_files(self, fix: bool) -> None:
        # From the innermost directory out, so that those that become empty go too.
        for path, directories, files in os.walk(self._directory, topdown=False):
            for name in files:
                is_own = path == self._directory and name.split(".")[0] in _OWN_FILES
                if is_own:
                    continue
                unknown = os.path.join(path, name)
                warnings.warn(f"unknown file: {unknown}", UnknownFileWarning, stacklevel=3)
                if fix:
                    os.remove(unknown)
            is_empty = not (os.listdir(path) if fix else directories or files)
            if is_empty and path != self._directory:
                warnings.warn(f"empty directory: {path}", EmptyDirWarning, stacklevel=3)
                if fix:
                    os.rmdir(path)

    def create_tag_index(self) -> None:
        """Sets `tag_index` to 1, which changes nothing: `evict` reads all items."""
        self.reset("tag_index", 1)

    def drop_tag_index(self) -> None:
        """Sets `tag_index` to 0."""
        self.reset("tag_index", 0)

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Removes items that have expired, and returns how many. Reads all items."""
        return self._expire(now or time.time(), retry)

    def cull(self, retry: bool = False) -> int:
        """Removes expired items, and evicts until the volume is at most the size limit.

        Returns how many items it removed.
        """
        count = self.expire(time.time())
        evicts = EVICTION_POLICY[self.eviction_policy].get("evicts", "clock")
        if evicts is None:
            return 0
        if self.volume() > self.size_limit:
            try:
                with self._transact(retry=retry):
                    count += self._evict_to(max(0, int(self.size_limit)), evicts == "fifo")
            except Timeout:
                raise Timeout(count) from None
        return count

    def clear(self, retry: bool = False) -> int:
        """Removes all items, and returns how many."""
        try:
            with self._transact(retry=retry):
                return self._clear()
        except Timeout:
            raise Timeout(0) from None

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """Iterates over the keys in their order: numbers, texts, bytes, others."""
        ends = self._queue_numbers()
        if ends is None:
            keys: list[Any] = sorted(self._keys(), key=_sort_key, reverse=reverse)
            return iter(keys)
        # Those of a Deque: without a listing of all.
        numbers = range(*ends)
        return (number for number in (reversed(numbers) if reverse else numbers) if number in self)

    def __iter__(self) -> Iterator[Any]:
        """Iterates over the keys in the order of insertion. Reads all of them first."""
        return iter(self._keys())

    def __reversed__(self) -> Iterator[Any]:
        """Iterates over the keys, the last inserted first."""
        keys: list[Any] = self._keys()
        return iter(keys[::-1])

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Returns hits and misses, counted by all processes while statistics are enabled.

        What another process counted since it opened the cache is missing until it closes it or
        calls `stats`.
        """
        result = self._statistics(reset)
        if self.statistics != enable:
            self.reset("statistics", enable)
        return result

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Sets a setting to a value, here and, with `update`, for those that open the cache later.

        Without a value it is read again. Also reads `count`, `size`, `hits` and `misses`.
        """
        if key in _COUNTERS:
            return self._counter(key, value)
        if value is ENOVAL:
            value = self._stored()[key]
        elif update:
            self._check_setting(key, value)
            with self._transact(retry=True):
                stored = self._stored()
                if key in stored:
                    stored[key] = value
                    self._store_settings(json.dumps(stored).encode())
        self._set({key: value})
        return value

    def _check_setting(self, key: str, value: Any) -> None:
        if key in _NEVER_STORED:
            raise TypeError(f"{key} is no setting; name the codec by the argument `codec`")
        if key == "eviction_policy" and value not in EVICTION_POLICY:
            raise KeyError(value)

    def _counter(self, key: str, value: Any) -> int:
        if value is not ENOVAL:
            if key in ("hits", "misses") and value == 0:
                self._statistics(True)
            return int(value)
        if key == "count":
            return len(self)
        if key == "size":
            return self.volume()
        return self._statistics(False)[key == "misses"]

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self._directory, self._timeout, type(self._disk), picklable(self._codec))
        return _reopened, (type(self), *state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"


def _reopened(
    cls: type[Cache], directory: str, timeout: float, disk: type[Disk], codec: str | Codec
) -> Cache:
    """Opens a cache that was pickled."""
    return cls(directory, timeout, disk, codec=codec)


def _preferred(given: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    if stored:
        given = {name: value for name, value in given.items() if name not in _FIXED}
    return {**DEFAULT_SETTINGS, **stored, **given}


def picklable(codec: Codec) -> str | Codec:
    """Returns the name of a codec, if it is one that has a name for all programs."""
    try:
        return codec.name if get_codec(codec.name) is codec else codec
    except ValueError:
        return codec


def _expanded(directory: str | os.PathLike[str] | None) -> str:
    if directory is None:
        return tempfile.mkdtemp(prefix="mmapcache-")
    return os.path.expandvars(os.path.expanduser(os.fspath(directory)))


def _sort_key(key: Any) -> tuple[int, Any]:
    kind = type(key)
    if kind is int or kind is float:
        return 0, key
    if kind is str:
        return 1, key.encode("utf-8", "surrogatepass")
    if kind is bytes:
        return 2, key
    return 3, repr(key)


def memoize(
    cache: Any,
    name: str | None,
    typed: bool,
    expire: float | None,
    tag: Any,
    ignore: Collection[Any],
) -> Callable[[_Function], _Function]:
    """Makes a decorator that stores results in `cache`; see `Cache.memoize`."""
    if callable(name):
        raise TypeError("name cannot be callable")

    def decorator(function: _Function) -> _Function:
        base = (full_name(function) if name is None else name,)

        def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            return args_to_key(base, args, kwargs, typed, ignore)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = cache_key(*args, **kwargs)
            result = cache.get(key, ENOVAL, retry=True)
            if result is ENOVAL:
                result = function(*args, **kwargs)
                if expire is None or expire > 0:
                    cache.set(key, result, expire, tag=tag, retry=True)
            return result

        wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]
        return cast("_Function", wrapper)

    return decorator
