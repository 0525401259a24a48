"""Persistent classes with the names of well-known in-memory ones: a program changes one import.

:class:`AutoIncrementDict` gives each key a number: 0, 1, 2 and so on, in the order of first use.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Hashable, Iterable, Iterator
from types import TracebackType
from typing import Any, SupportsIndex

from mmapcache import Labels
from mmapcache.codecs import get_codec

__all__ = ["AutoIncrementDict"]

# No text in UTF-8 contains this byte, so texts keep the form that programs in Rust give them.
_OTHER_TYPE = b"\xff"
_MOST_IDS = 1 << 31
_CODEC = get_codec("msgpack")


class AutoIncrementDict:
    """Keys with numbers that never mean another key: in no thread, process, or later run.

    Keys are added and never removed. Known keys and numbers are looked up without a lock, in any
    number of threads and processes; a new key takes the lock of the files, and all who add the same
    key at once get the same number.

    A key is a text, or bytes, a number, None, a date, a UUID or a tuple of such. Unlike in a
    dictionary, keys of different types are different: 1, 1.0 and True have three numbers. A text
    is the label that :class:`mmapcache.Labels` and its Rust twin have under its UTF-8.

    After a power loss, keys that were not flushed may be gone; their numbers stay unused.

    >>> numbers = AutoIncrementDict(directory / "labels")
    >>> numbers.get_or_insert("r/outfits"), numbers.get_or_insert("r/aww")
    (0, 1)
    >>> numbers.get_or_insert("r/outfits")
    0
    >>> numbers.get_by_id(1)
    'r/aww'
    """

    __slots__ = ("__weakref__", "_labels")

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Opens the keys at ``path``, with the options of Labels; makes them if there are none."""
        self._labels = Labels(path, **options)

    def get_or_insert(self, key: Hashable) -> int:
        """Returns the number of a key; gives it the next one if it has none.

        Raises TypeError for a type that is no key, and KeyLengthError for a key of more than 65,535
        bytes, when encoded; then nothing is added.
        """
        return self._labels.get_or_intern(_encode(key))

    def get_or_insert_many(self, keys: Iterable[Hashable]) -> list[int]:
        """Returns the numbers of many keys in their order; adds what is new under one lock."""
        return list(self._labels.get_or_intern_many([_encode(key) for key in keys]))

    def get_by_id(self, id: SupportsIndex) -> Any:
        """Returns the key with this number. Raises IndexError if there is none."""
        number = operator.index(id)
        label = self._labels.resolve(number) if 0 <= number < _MOST_IDS else None
        if label is None:
            raise IndexError(f"no key has the number {number}")
        return _decode(label)

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Returns the number of a key, or ``default`` if it has none; adds nothing."""
        number = self._labels.get(_encode(key))
        return default if number is None else number

    def __len__(self) -> int:
        """Returns how many keys there are."""
        return len(self._labels)

    def __contains__(self, key: Hashable) -> bool:
        """Returns whether a key has a number."""
        return self._labels.get(_encode(key)) is not None

    def __iter__(self) -> Iterator[Any]:
        """Yields the keys in the order of their numbers, without those that are added later."""
        return (_decode(label) for _, label in self._labels)

    def items(self) -> Iterator[tuple[Any, int]]:
        """Yields each key with its number, in the order of the numbers."""
        return ((_decode(label), number) for number, label in self._labels)

    def flush(self) -> None:
        """Writes all keys to the disk: they then survive a power loss."""
        self._labels.flush()

    def close(self) -> None:
        """Closes the files; later calls raise ClosedError."""
        self._labels.close()

    def __enter__(self) -> AutoIncrementDict:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({os.fspath(self._labels.path)!r})"


def _reopen(kind: type[AutoIncrementDict], labels: Labels) -> AutoIncrementDict:
    opened = kind.__new__(kind)
    opened._labels = labels
    return opened


def _encode(key: Hashable) -> bytes:
    if type(key) is str and key:
        return key.encode()
    _check_order(key)
    return _OTHER_TYPE + _CODEC.dumps(key)


def _check_order(key: Any) -> None:
    # A key must have the same bytes in every process. The order of a set depends on the process.
    if isinstance(key, tuple):
        for part in key:
            _check_order(part)
    elif isinstance(key, frozenset):
        raise TypeError("a set is no key here: its order is not the same in all processes")
    else:
        hash(key)  # raises TypeError for lists and dictionaries, as a dictionary does


def _decode(label: bytes) -> Any:
    if label.startswith(_OTHER_TYPE):
        return _CODEC.loads(label[1:])
    try:
        return label.decode()
    except UnicodeDecodeError:
        return label  # another program added bytes that are no text
