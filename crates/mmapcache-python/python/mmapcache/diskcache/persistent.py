"""`Deque` and `Index`: a sequence and an ordered mapping in a directory."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    Sequence,
    ValuesView,
)
from typing import Any, TypeVar

from mmapcache.diskcache.core import ENOVAL, Cache

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Deque(Sequence[Any]):
    """A double-ended queue in a directory, shared by threads and processes.

    Appending and popping at both sides costs the same for any length. An index costs a look at
    each item between it and the nearer end. Nothing is evicted.
    """

    def __init__(
        self,
        iterable: Iterable[Any] = (),
        directory: str | os.PathLike[str] | None = None,
        maxlen: int | None = None,
    ) -> None:
        """Opens the deque in a directory, or makes one, and appends the items of `iterable`."""
        cache = Cache(directory, eviction_policy="none", is_queue=True)
        self._begin(cache, iterable, maxlen)

    @classmethod
    def fromcache(
        cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: int | None = None
    ) -> Deque:
        """Makes a deque of the items that were pushed to a cache without a prefix."""
        deque = cls.__new__(cls)
        deque._begin(cache, iterable, maxlen)
        return deque

    def _begin(self, cache: Cache, iterable: Iterable[Any], maxlen: int | None) -> None:
        self._cache = cache
        self._maxlen = float("inf") if maxlen is None else maxlen
        self.extend(iterable)

    @property
    def cache(self) -> Cache:
        """The cache that has the items."""
        return self._cache

    @property
    def directory(self) -> str:
        """The directory of the deque."""
        return self._cache.directory

    @property
    def maxlen(self) -> float:
        """The length that appending keeps, by removing from the other side; infinite by default."""
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: float) -> None:
        self._maxlen = value
        with self._cache.transact(retry=True):
            while len(self._cache) > self._maxlen:
                self.popleft()

    def _keys(self, index: int) -> Iterator[Any]:
        """Iterates over the keys of items from a position on."""
        position = operator.index(index)
        length = len(self._cache)
        if not -length <= position < length:
            raise IndexError("deque index out of range")
        from_front = position + length if position < 0 else position
        from_back = length - 1 - from_front
        reverse = from_back < from_front
        keys = iter(self._cache.iterkeys(reverse=reverse))
        return itertools.islice(keys, min(from_front, from_back), None)

    def _at(self, index: int, do: Callable[[Any], Any]) -> Any:
        """Calls a function with the key at a position; with the next one, if it is gone."""
        for key in self._keys(index):
            with contextlib.suppress(KeyError):
                return do(key)
        raise IndexError("deque index out of range")

    def __getitem__(self, index: Any) -> Any:
        return self._at(index, self._cache.__getitem__)

    def __setitem__(self, index: int, value: Any) -> None:
        self._at(index, lambda key: self._cache.__setitem__(key, value))

    def __delitem__(self, index: int) -> None:
        self._at(index, self._cache.__delitem__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"

    def __iadd__(self, iterable: Iterable[Any]) -> Deque:
        self.extend(iterable)
        return self

    def _values(self, reverse: bool) -> Iterator[Any]:
        for key in self._cache.iterkeys(reverse=reverse):
            # Another process may have removed it.
            with contextlib.suppress(KeyError):
                yield self._cache[key]

    def __iter__(self) -> Iterator[Any]:
        return self._values(False)

    def __reversed__(self) -> Iterator[Any]:
        return self._values(True)

    def __len__(self) -> int:
        return len(self._cache)

    def __reduce__(self) -> tuple[Any, ...]:
        maxlen = None if self._maxlen == float("inf") else self._maxlen
        return _reopened_deque, (type(self), self._cache, maxlen)

    def append(self, value: Any) -> None:
        """Adds an item at the back."""
        self._append(value, "back", "front")

    def appendleft(self, value: Any) -> None:
        """Adds an item at the front."""
        self._append(value, "front", "back")

    def _append(self, value: Any, side: str, other: str) -> None:
        if self._maxlen == float("inf"):
            self._cache.push(value, side=side, retry=True)
            return
        with self._cache.transact(retry=True):
            self._cache.push(value, side=side, retry=True)
            if len(self._cache) > self._maxlen:
                self._cache.pull(side=other, retry=True)

    def extend(self, iterable: Iterable[Any]) -> None:
        """Appends the items of an iterable."""
        for value in iterable:
            self._append(value, "back", "front")

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Adds the items of an iterable at the front, one by one: the last of them is the first."""
        for value in iterable:
            self._append(value, "front", "back")

    def clear(self) -> None:
        """Removes all items."""
        self._cache.clear(retry=True)

    def copy(self) -> Deque:
        """Returns another object for the same directory."""
        maxlen = None if self._maxlen == float("inf") else int(self._maxlen)
        return type(self).fromcache(_same(self._cache), maxlen=maxlen)

    __copy__ = copy

    def count(self, value: Any) -> int:
        """Counts the items that are equal to a value."""
        return sum(1 for item in self if item == value)

    def _peek(self, side: str) -> Any:
        _, value = self._cache.peek(default=(None, ENOVAL), side=side, retry=True)
        if value is ENOVAL:
            raise IndexError("peek from an empty deque")
        return value

    def peek(self) -> Any:
        """Returns the item at the back; raises IndexError if there is none."""
        return self._peek("back")

    def peekleft(self) -> Any:
        """Returns the item at the front; raises IndexError if there is none."""
        return self._peek("front")

    def _pop(self, side: str) -> Any:
        _, value = self._cache.pull(default=(None, ENOVAL), side=side, retry=True)
        if value is ENOVAL:
            raise IndexError("pop from an empty deque")
        return value

    def pop(self) -> Any:
        """Removes the item at the back and returns it; raises IndexError if there is none."""
        return self._pop("back")

    def popleft(self) -> Any:
        """Removes the item at the front and returns it; raises IndexError if there is none."""
        return self._pop("front")

    def remove(self, value: Any) -> None:
        """Removes the first item that is equal to a value; raises ValueError if there is none."""
        for key in self._cache.iterkeys():
            with contextlib.suppress(KeyError):
                if self._cache[key] == value:
                    del self._cache[key]
                    return
        raise ValueError("deque.remove(value): value not in deque")

    def reverse(self) -> None:
        """Reverses the order of the items, in a transaction."""
        with self._cache.transact(retry=True):
            items = list(reversed(self))
            self.clear()
            self.extend(items)

    def rotate(self, steps: int = 1) -> None:
        """Moves so many items from the back to the front; from front to back, if it is negative."""
        if not isinstance(steps, int):
            raise TypeError(f"integer argument expected, got {type(steps).__name__}")
        length = len(self)
        if length == 0:
            return
        take, give = ("back", "front") if steps >= 0 else ("front", "back")
        with self._cache.transact(retry=True):
            for _ in range(abs(steps) % length):
                # Another object's thread may have emptied it before the transaction.
                _, value = self._cache.pull(default=(None, ENOVAL), side=take, retry=True)
                if value is ENOVAL:
                    return
                self._cache.push(value, side=give, retry=True)

    def _compare(self, that: Any, compare: Callable[[Any, Any], bool]) -> Any:
        """Compares as two lists: by the first items that differ, then by the lengths."""
        if not isinstance(that, Sequence):
            return NotImplemented
        for one, other in zip(self, that, strict=False):
            if one != other:
                return compare(one, other)
        return compare(len(self), len(that))

    def __eq__(self, that: Any) -> Any:
        if isinstance(that, Sequence) and len(self) != len(that):
            return False
        return self._compare(that, operator.eq)

    def __ne__(self, that: Any) -> Any:
        if isinstance(that, Sequence) and len(self) != len(that):
            return True
        return self._compare(that, operator.ne)

    def __lt__(self, that: Any) -> Any:
        return self._compare(that, operator.lt)

    def __gt__(self, that: Any) -> Any:
        return self._compare(that, operator.gt)

    def __le__(self, that: Any) -> Any:
        return self._compare(that, operator.le)

    def __ge__(self, that: Any) -> Any:
        return self._compare(that, operator.ge)

    __hash__ = None  # type: ignore[assignment]

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Holds the writer lock for the `with` block, as `Cache.transact`."""
        with self._cache.transact(retry=True):
            yield


def _same(cache: Cache) -> Cache:
    """Returns another object for the directory of a cache."""
    make, arguments = cache.__reduce__()
    return make(*arguments)  # type: ignore[no-any-return]


def _reopened_deque(cls: type[Deque], cache: Cache, maxlen: int | None) -> Deque:
    """Makes a deque that was pickled."""
    return cls.fromcache(cache, maxlen=maxlen)


class Index(MutableMapping[Any, Any]):
    """A mapping in a directory that keeps the order of insertion, shared by threads and processes.

    `peekitem` and `popitem` cost the same for any number of items. Nothing is evicted or expires.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Opens the index in the directory that is the first argument, or makes one.

        Without a directory, or with None, it is in a temporary one. The other arguments are those
        of `dict.update`.
        """
        directory = None
        if args and (args[0] is None or isinstance(args[0], (str, bytes, os.PathLike))):
            directory = None if args[0] is None else os.fsdecode(args[0])
            args = args[1:]
        self._cache = Cache(directory, eviction_policy="none", is_ordered=True)
        self.update(*args, **kwargs)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **kwargs: Any) -> Index:
        """Makes an index of the items of a cache.

        Finding its ends costs a look at each item, unless the cache was made by an Index.
        """
        index = cls.__new__(cls)
        index._cache = cache
        index.update(*args, **kwargs)
        return index

    @property
    def cache(self) -> Cache:
        """The cache that has the items."""
        return self._cache

    @property
    def directory(self) -> str:
        """The directory of the index."""
        return self._cache.directory

    def __getitem__(self, key: Any) -> Any:
        return self._cache[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._cache[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._cache

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key; stores `default` first, if it has none."""
        while True:
            value = self._cache.get(key, ENOVAL, retry=True)
            if value is not ENOVAL:
                return value
            self._cache.add(key, default, retry=True)

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Returns key and value that were inserted last, or first; KeyError if there is none."""
        return self._cache.peekitem(last, retry=True)  # type: ignore[no-any-return]

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """Removes a key and returns its value, or `default`; without one raises KeyError."""
        value = self._cache.pop(key, default, retry=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Removes the item that `peekitem` returns, and returns it."""
        return self._cache._popitem(last)  # type: ignore[no-any-return]

    def push(self, value: Any, prefix: str | None = None, side: str = "back") -> Any:
        """Stores a value at a side of a queue, as `Cache.push`."""
        return self._cache.push(value, prefix, side, retry=True)

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
    ) -> Any:
        """Removes the item at a side of a queue, as `Cache.pull`."""
        return self._cache.pull(prefix, default, side, retry=True)

    def clear(self) -> None:
        """Removes all items."""
        self._cache.clear(retry=True)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cache)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._cache)

    def __len__(self) -> int:
        return len(self._cache)

    def keys(self) -> KeysView[Any]:
        """Returns a view of the keys."""
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        """Returns a view of the values."""
        return ValuesView(self)

    def items(self) -> ItemsView[Any, Any]:
        """Returns a view of keys with values."""
        return ItemsView(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened_index, (type(self), self._cache)

    def __eq__(self, other: object) -> bool:
        """Compares with any mapping; with one that has an order, the orders too."""
        if not isinstance(other, (Index, OrderedDict, MutableMapping, dict)):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, (Index, OrderedDict)):
            return all(one == two for one, two in zip(self.items(), other.items(), strict=False))
        return all(other.get(key, ENOVAL) == value for key, value in self.items())

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        ignore: Collection[Any] = (),
    ) -> Callable[[_Function], _Function]:
        """Makes a decorator that stores the results of a function, as `Cache.memoize`."""
        return self._cache.memoize(name, typed, ignore=ignore)

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Holds the writer lock for the `with` block, as `Cache.transact`."""
        with self._cache.transact(retry=True):
            yield

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"


def _reopened_index(cls: type[Index], cache: Cache) -> Index:
    """Makes an index that was pickled."""
    return cls.fromcache(cache)
