"""A persistent dictionary with the interface of persidict, shared by all processes of a machine.

    from mmapcache.persidict import MmapDict

    settings = MmapDict(base_dir="/var/lib/shop/settings")
    settings["users", "ada"] = {"theme": "dark"}

Keys and methods are those of persidict. The conditional methods (`set_item_if`, `setdefault_if`,
`discard_if`) and `setdefault` are atomic across processes, and so are `pop` and `transform_item`,
which persidict builds on them. Entries never expire and are never evicted. An ETag is the version
of an entry, which no other write has; a timestamp is the time of that write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mixinforge import sort_dict_by_keys
from persidict import PersiDict, SafeStrTuple
from persidict.exceptions import MutationPolicyError
from persidict.jokers_and_status_flags import (
    ALWAYS_RETRIEVE,
    DELETE_CURRENT,
    EXECUTION_IS_COMPLETE,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    VALUE_NOT_RETRIEVED,
    ConditionalOperationResult,
    ETagValue,
    Joker,
)
from persidict.persi_dict import NonEmptyPersiDictKey, PersiDictKey
from persidict.safe_str_tuple import NonEmptySafeStrTuple

import mmapcache
from mmapcache._keys import is_hashed, store_key, text_of, unwrap, wrap
from mmapcache._shared import open_map
from mmapcache.codecs import Codec, CodecError, decode, encode, get_codec

__all__ = ["MmapDict"]

_CODECS = {"msgpack": "msgpack", "json": "json", "pkl": "pickle"}
_SEPARATOR = "/"  # No part of a key may contain it.


class MmapDict(PersiDict[Any]):
    """A dictionary in the folder `base_dir`, which is made if it is not there.

    Threads and processes may use the same dictionary at once, each with an object of its own or
    sharing one. Iteration goes on while others write; it has every key that stays, once.

    Besides what persidict raises, methods raise `mmapcache.CorruptionError` for an entry that is
    damaged and `CodecError` for a value that is not what the format writes.
    """

    def __init__(
        self,
        *,
        base_dir: str | os.PathLike[str],
        serialization_format: str = "msgpack",
        append_only: bool = False,
        base_class_for_values: type | None = None,
        prefix: PersiDictKey = (),
        **options: Any,
    ) -> None:
        """Opens the dictionary.

        `serialization_format` says how values are stored; each format has a dictionary of its own
        in the folder. "msgpack" and "json" are the codecs of `mmapcache.codecs`, "pkl" is its
        pickle: read there what that risks. Any other word is for a `base_class_for_values` of
        str: text. `prefix` makes it a view of the keys that begin with it. `options` are those of
        `mmapcache.MmapCache`.
        """
        is_text = base_class_for_values is not None and issubclass(base_class_for_values, str)
        # persidict knows two formats for values that are no text.
        known = "json" if serialization_format == "msgpack" else serialization_format
        super().__init__(
            append_only=append_only,
            base_class_for_values=base_class_for_values,
            serialization_format=known,
        )
        self.serialization_format = serialization_format
        if serialization_format in _CODECS:
            self._codec: Codec = get_codec(_CODECS[serialization_format])
        elif is_text:
            self._codec = _TextCodec()
        self._base_dir = os.path.abspath(os.fspath(base_dir))
        if os.path.isfile(self._base_dir):
            raise ValueError(f"base_dir {self._base_dir} is a file, not a folder")
        self._prefix = SafeStrTuple(prefix)
        self._options = options
        path = os.path.join(self._base_dir, serialization_format)
        self.store: mmapcache.MmapCache = open_map(path, options)

    @property
    def base_dir(self) -> str:
        """The folder, as an absolute path."""
        return self._base_dir

    def get_params(self) -> dict[str, Any]:
        """Returns the arguments that open the same dictionary."""
        params: dict[str, Any] = {
            **super().get_params(),
            **self._options,
            "base_dir": self._base_dir,
            "prefix": self._prefix.strings,
        }
        sorted_params: dict[str, Any] = sort_dict_by_keys(params)
        return sorted_params

    def _place(self, key: NonEmptyPersiDictKey) -> tuple[bytes, str]:
        """Returns the key in the store, and the text that it is made of."""
        parts = self._prefix.strings + NonEmptySafeStrTuple(key).strings
        text = _SEPARATOR.join(parts)
        return store_key(text), text

    def _encode(self, place: tuple[bytes, str], value: Any) -> bytes:
        self._validate_value(value)
        return wrap(*place, encode(self._codec, value))

    def _decode(self, store_as: bytes, stored: bytes) -> Any:
        try:
            value = decode(self._codec, unwrap(store_as, stored)[1])
        except CodecError:
            raise
        except ValueError as error:
            raise CodecError(str(error)) from error
        self._validate_returned_value(value)
        return value

    def __contains__(self, key: object) -> bool:
        return self._place(key)[0] in self.store  # type: ignore[arg-type]

    def __getitem__(self, key: NonEmptyPersiDictKey) -> Any:
        return self._get_value_and_etag(NonEmptySafeStrTuple(key))[0]

    def _get_value_and_etag(self, key: NonEmptySafeStrTuple) -> tuple[Any, ETagValue]:
        store_as, _ = self._place(key)
        entry = self.store.entry(store_as)
        if entry is None:
            raise KeyError(key)
        return self._decode(store_as, entry.value), ETagValue(str(entry.version))

    def __setitem__(self, key: NonEmptyPersiDictKey, value: Any) -> None:
        key = NonEmptySafeStrTuple(key)
        if self._process_setitem_args(key, value) is EXECUTION_IS_COMPLETE:
            return
        place = self._place(key)
        data = self._encode(place, value)
        if not self.append_only:
            self.store.put(place[0], data)
        elif self.store.insert_if_absent(place[0], data) is None:
            raise MutationPolicyError("append-only")

    def _remove_item(self, key: NonEmptySafeStrTuple) -> None:
        if not self.store.delete(self._place(key)[0]):
            raise KeyError(key)

    def __delitem__(self, key: NonEmptyPersiDictKey) -> None:
        self._check_delete_policy()
        self._remove_item(NonEmptySafeStrTuple(key))

    def __len__(self) -> int:
        if not self._prefix:
            return len(self.store)
        return sum(1 for _ in self._places())

    def clear(self) -> None:
        """Removes all entries; those of a view one by one."""
        self._check_delete_policy()
        if not self._prefix:
            self.store.clear()
            return
        for store_as, _ in self._places():
            self.store.delete(store_as)

    def _places(self) -> Iterator[tuple[bytes, tuple[str, ...]]]:
        """Yields the keys of this view in the store, and their parts behind the prefix."""
        prefix = self._prefix.strings
        for store_as in self.store:
            if not is_hashed(store_as):
                text = text_of(store_as)
            else:
                stored = self.store.get(store_as)
                if stored is None:
                    continue
                text = unwrap(store_as, stored)[0]
            parts = tuple(text.split(_SEPARATOR))
            if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
                yield store_as, parts[len(prefix) :]

    def _generic_iter(self, result_type: set[str]) -> Any:
        self._process_generic_iter_args(result_type)
        return self._iterate(result_type)

    def _iterate(self, result_type: set[str]) -> Iterator[Any]:
        for store_as, parts in self._places():
            found: dict[str, Any] = {"key": NonEmptySafeStrTuple(*parts)}
            if result_type != {"keys"}:
                entry = self.store.entry(store_as)
                if entry is None:
                    continue  # Removed since it was listed.
                found["timestamp"] = _seconds(entry.version)
                if "values" in result_type:
                    found["value"] = self._decode(store_as, entry.value)
            yield self._assemble_iter_result(result_type, **found)

    def timestamp(self, key: NonEmptyPersiDictKey) -> float:
        """Returns when an entry was written, in seconds since the epoch; KeyError."""
        return _seconds(self._version(key))

    def etag(self, key: NonEmptyPersiDictKey) -> ETagValue:
        """Returns the version of an entry as text; KeyError."""
        return ETagValue(str(self._version(key)))

    def _version(self, key: NonEmptyPersiDictKey) -> int:
        version = self.store.version(self._place(key)[0])
        if version is None:
            raise KeyError(NonEmptySafeStrTuple(key))
        return version

    def get_subdict(self, prefix_key: PersiDictKey) -> MmapDict:
        """Returns a view of the keys that begin with a prefix."""
        params = self.get_params()
        params["prefix"] = self._prefix.strings + SafeStrTuple(prefix_key).strings
        return type(self)(**params)

    def random_key(self) -> NonEmptySafeStrTuple | None:
        """Returns any key, or None. Constant time, except for a view."""
        if self._prefix:
            return super().random_key()
        store_as = self.store.random_key()
        if store_as is None or is_hashed(store_as):
            return super().random_key() if store_as is not None else None
        return NonEmptySafeStrTuple(*text_of(store_as).split(_SEPARATOR))

    def setdefault(self, key: NonEmptyPersiDictKey, default: Any = None) -> Any:
        """Returns the value; stores `default` first if there is none. Atomic."""
        if isinstance(default, Joker):
            raise TypeError("default must be a value, not a joker")
        place = self._place(key)
        while True:
            try:
                return self[key]
            except KeyError:
                if self.store.insert_if_absent(place[0], self._encode(place, default)) is not None:
                    return default

    def set_item_if(
        self,
        key: NonEmptyPersiDictKey,
        *,
        value: Any,
        condition: Any,
        expected_etag: Any,
        retrieve_value: Any = IF_ETAG_CHANGED,
    ) -> ConditionalOperationResult[Any]:
        """Stores a value, or applies a joker, if the condition holds. Atomic."""
        self._validate_retrieve_value(retrieve_value)
        key = self._validate_setitem_args(key, value)
        place = self._place(key)
        data = b"" if isinstance(value, Joker) else self._encode(place, value)
        while True:
            actual = self._actual_etag(key)
            if not self._check_condition(condition, expected_etag, actual):
                return self._unchanged(key, False, expected_etag, retrieve_value)
            if value is KEEP_CURRENT:
                return self._unchanged(key, True, expected_etag, retrieve_value)
            if actual is ITEM_NOT_AVAILABLE:
                if value is DELETE_CURRENT:
                    return self._result_item_not_available(True)
                version = self.store.insert_if_absent(place[0], data)
            elif value is DELETE_CURRENT:
                if self.store.delete_if(place[0], _number(actual)):
                    return self._result_delete_success(actual)
                continue
            elif self.append_only:
                raise MutationPolicyError("append-only")
            else:
                version = self.store.put_if(place[0], data, _number(actual))
            # None: another writer came in between, so the condition is asked again.
            if version is not None:
                return self._result_write_success(actual, ETagValue(str(version)), value)

    def setdefault_if(
        self,
        key: NonEmptyPersiDictKey,
        *,
        default_value: Any,
        condition: Any,
        expected_etag: Any,
        retrieve_value: Any = IF_ETAG_CHANGED,
    ) -> ConditionalOperationResult[Any]:
        """Stores a value if there is none and the condition holds. Atomic."""
        if isinstance(default_value, Joker):
            raise TypeError("default_value must be a value, not a joker")
        self._validate_retrieve_value(retrieve_value)
        key = NonEmptySafeStrTuple(key)
        place = self._place(key)
        data = self._encode(place, default_value)
        while True:
            actual = self._actual_etag(key)
            satisfied = self._check_condition(condition, expected_etag, actual)
            if actual is not ITEM_NOT_AVAILABLE or not satisfied:
                return self._unchanged(key, satisfied, expected_etag, retrieve_value)
            version = self.store.insert_if_absent(place[0], data)
            if version is not None:
                return self._result_write_success(actual, ETagValue(str(version)), default_value)

    def discard_if(
        self, key: NonEmptyPersiDictKey, *, condition: Any, expected_etag: Any
    ) -> ConditionalOperationResult[Any]:
        """Removes an entry if the condition holds. Atomic."""
        store_as, _ = self._place(key)
        while True:
            actual = self._actual_etag(NonEmptySafeStrTuple(key))
            satisfied = self._check_condition(condition, expected_etag, actual)
            if actual is ITEM_NOT_AVAILABLE:
                return self._result_item_not_available(satisfied)
            if not satisfied:
                return self._result_unchanged(False, actual, VALUE_NOT_RETRIEVED)
            self._check_delete_policy()
            if self.store.delete_if(store_as, _number(actual)):
                return self._result_delete_success(actual)

    def _unchanged(
        self, key: NonEmptySafeStrTuple, satisfied: bool, expected: Any, retrieve: Any
    ) -> ConditionalOperationResult[Any]:
        """Returns the result of a call that changed nothing, with the value if it is asked for."""
        actual = self._actual_etag(key)
        if actual is ITEM_NOT_AVAILABLE:
            return self._result_item_not_available(satisfied)
        if retrieve is ALWAYS_RETRIEVE or (retrieve is IF_ETAG_CHANGED and expected != actual):
            try:
                value, actual = self._get_value_and_etag(key)
            except KeyError:
                return self._result_item_not_available(satisfied)
            return self._result_unchanged(satisfied, actual, value)
        return self._result_unchanged(satisfied, actual, VALUE_NOT_RETRIEVED)


class _TextCodec:
    """Text as UTF-8."""

    name = "text"

    def dumps(self, value: Any, /) -> bytes:
        return str(value).encode("utf-8", "surrogatepass")

    def loads(self, data: Any, /) -> str:
        try:
            return str(data, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CodecError(str(error)) from error


def _number(etag: Any) -> int:
    return int(etag)


def _seconds(version: int) -> float:
    return version / 1_000_000_000
