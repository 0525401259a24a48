"""The classes that open files: the native ones, as mappings of Python.

A subclass may have an ``__init__`` with other arguments, as long as it calls the one here. A handle
is pickled and copied by its path: the copy opens the files again, in another process too.
"""

from __future__ import annotations

from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, cast

from mmapcache import _native
from mmapcache._native import Listing
from mmapcache._types import BytesLike, Pairs


def _reopen(cls: Any, path: str, options: dict[str, Any]) -> Any:
    """Open a handle of a class again, past the ``__init__`` of subclasses."""
    handle = cls.__new__(cls)
    native: Any = next(base for base in cls.__mro__ if base.__module__ == _native.__name__)
    native.__init__(handle, path, **options)
    return handle


def _reduce(handle: Any) -> tuple[Any, ...]:
    path, options = handle._arguments()
    return _reopen, (type(handle), path, options), handle.__dict__ or None


def _repr(handle: Any) -> str:
    name = type(handle).__name__
    return f"<closed {name}>" if handle.closed else f"{name}({handle.path!r})"


def _pairs(other: Pairs, keywords: dict[str, Any]) -> Iterable[tuple[BytesLike, BytesLike]]:
    """Return the pairs that ``update`` was given."""
    if keywords:
        raise TypeError("update() takes no keyword arguments: keys are bytes")
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        # What ``dict`` takes too: keys and a look-up, without being a ``Mapping``.
        mapping: Any = other
        return ((key, mapping[key]) for key in mapping.keys())
    return other


class _Values(ValuesView[bytes]):
    """The values of a handle; each iteration lists them lazily."""

    __slots__ = ()
    _mapping: Any

    def __iter__(self) -> Iterator[bytes]:
        return cast("Iterator[bytes]", self._mapping._values())

    def __contains__(self, value: object) -> bool:
        return any(value == other for other in self)


class _Items(ItemsView[bytes, bytes]):
    """The pairs of a handle; each iteration lists them lazily."""

    __slots__ = ()
    _mapping: Any

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return cast("Iterator[tuple[bytes, bytes]]", self._mapping._items())


class MmapCache(_native.MmapCache, MutableMapping[bytes, bytes]):
    """A persistent hash table in memory-mapped files, shared by threads and processes.

    >>> cache = MmapCache(directory / "thumbnails")
    >>> cache[b"cat.jpg"] = b"the small picture"
    >>> cache[b"cat.jpg"]
    b'the small picture'

    Another handle, in this process or another, sees it at once:

    >>> MmapCache(directory / "thumbnails").get(b"cat.jpg")
    b'the small picture'

    Keys have 1 to 65,535 bytes, and any object with a buffer passes for them and for values. Reads
    take no lock. Equality compares all entries, as for any mapping; a handle has no hash.
    """

    def __repr__(self) -> str:
        return _repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)

    def keys(self) -> KeysView[bytes]:
        """Return a view of the keys; each iteration lists them lazily, in no order."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """Return a view of the values; each iteration lists them lazily, in no order."""
        return _Values(self)

    def items(self) -> ItemsView[bytes, bytes]:
        """Return a view of the pairs; each iteration lists them lazily, in no order."""
        return _Items(self)

    def update(self, other: Pairs = (), /, **keywords: Any) -> None:  # type: ignore[override]
        """Store the pairs of a mapping or an iterable, some hundreds of them under one lock."""
        self._put_many(_pairs(other, keywords))

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete any entry and return its key and value; ``KeyError`` if there is none."""
        return _popitem(self)


class Cache(_native.Cache, MutableMapping[bytes, bytes]):
    """Keys and values that expire, in memory-mapped files, shared by threads and processes.

    >>> cache = Cache(directory / "pages", max_bytes=64 << 20)
    >>> version = cache.insert(b"/index.html", b"<h1>Hello</h1>", ttl=600, tag="user:alice")
    >>> cache.get(b"/index.html")
    b'<h1>Hello</h1>'
    >>> cache.invalidate_tag("user:alice")
    >>> cache.get(b"/index.html") is None
    True

    Limits and defaults are in the files, for all processes: one that is not given keeps its stored
    value, and ``None`` takes it away. Iteration and ``len`` see fresh values only, and read all
    entries.
    """

    def __repr__(self) -> str:
        return _repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)

    def keys(self) -> KeysView[bytes]:
        """Return a view of the fresh keys; each iteration lists them lazily, in no order."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """Return a view of the fresh values; each iteration lists them lazily, in no order."""
        return _Values(self)

    def items(self) -> ItemsView[bytes, bytes]:
        """Return a view of the fresh pairs; each iteration lists them lazily, in no order."""
        return _Items(self)

    def update(self, other: Pairs = (), /, **keywords: Any) -> None:  # type: ignore[override]
        """Store the pairs of a mapping or an iterable, some hundreds of them under one lock."""
        self.insert_many(_pairs(other, keywords))

    def setdefault(self, key: BytesLike, default: BytesLike) -> bytes:
        """Return the value of a key; store the default first if there is no fresh one."""
        return self.get_or_insert_with(key, lambda: default)

    def popitem(self) -> tuple[bytes, bytes]:
        """Remove any fresh entry and return its key and value; ``KeyError`` if there is none."""
        return _popitem(self)


def _popitem(handle: MmapCache | Cache) -> tuple[bytes, bytes]:
    for key in handle:
        try:
            return key, handle.pop(key)
        except KeyError:
            # Another thread or process took it.
            continue
    raise KeyError("popitem(): there is no entry")


class Labels(_native.Labels):
    """Strings, each with an id that never means another one, in every process and for ever.

    >>> labels = Labels(directory / "labels")
    >>> labels.get_or_intern("r/outfits")
    0
    >>> labels.get_or_intern("r/aww")
    1
    >>> labels.resolve_str(0)
    'r/outfits'
    >>> list(labels)
    [(0, b'r/outfits'), (1, b'r/aww')]
    """

    def __repr__(self) -> str:
        return _repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


__all__ = ["Cache", "Labels", "Listing", "MmapCache"]
