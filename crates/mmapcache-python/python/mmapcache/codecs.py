"""Codecs: how a Python object becomes the bytes of a stored value, and back.

A codec is chosen by name. `msgpack` is the default of every backend:

- `msgpack`: None, bool, int, float, str, bytes, list, dict, tuple, set, frozenset, complex,
  datetime, date, time, timedelta, timezone, ZoneInfo, Decimal and UUID, nested in any way, each
  with its type. `bytearray` and `memoryview` come back as bytes.
- `json`: what JSON gives back unchanged: None, bool, int, finite float, str, list, and dict with
  str keys. Other programs can read it.
- `bytes`: bytes, stored as they are.
- `pickle`: nearly any object. Only if the caller names it: unpickling runs code that the bytes
  name, so every process that may write the files can run code in every process that reads them.

Codecs refuse what they could not give back. Loading never trusts the bytes: damaged ones raise
`CodecError`, within memory in proportion to their length and a fixed depth (`pickle` excepted).

`encode` and `decode` put a marker of the codec before the bytes, so that a value which another
codec wrote is recognised, never misread, and never unpickled unless pickle was named.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import pickle
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgpack

__all__ = [
    "BytesCodec",
    "Codec",
    "CodecError",
    "JsonCodec",
    "MsgpackCodec",
    "MsgpackType",
    "OtherCodecError",
    "PickleCodec",
    "decode",
    "encode",
    "get_codec",
    "marker",
]

Buffer = bytes | bytearray | memoryview


class CodecError(ValueError):
    """The bytes are not what the codec writes: damage, or another program's value."""


class OtherCodecError(CodecError):
    """The value was written by another codec than the one that reads it."""


@runtime_checkable
class Codec(Protocol):
    """What turns objects into bytes and back. Instances are used by several threads at once."""

    @property
    def name(self) -> str:
        """Identifies the codec in stored values: 1 to 255 bytes of UTF-8."""

    def dumps(self, value: Any, /) -> bytes:
        """Returns the bytes of `value`.

        Raises TypeError for a type that the codec does not support, ValueError for a value that it
        does not, such as a list that contains itself.
        """

    def loads(self, data: Buffer, /) -> Any:
        """Returns the object that `data` holds; raises CodecError if it holds none."""


class BytesCodec:
    """Stores bytes as they are."""

    name = "bytes"

    def dumps(self, value: Any, /) -> bytes:
        """Returns the bytes; TypeError for another type."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise _unsupported(self.name, value)

    def loads(self, data: Buffer, /) -> bytes:
        """Returns the bytes."""
        return bytes(data)


class PickleCodec:
    """Stores nearly any object, by pickle protocol 5.

    Unpickling runs code that the bytes name. Take this codec only for files that no process may
    write but those that you trust like your own program.
    """

    name = "pickle"

    def dumps(self, value: Any, /) -> bytes:
        """Returns the pickle; raises what pickling raises."""
        return pickle.dumps(value, protocol=5)

    def loads(self, data: Buffer, /) -> Any:
        """Returns the object, which may run code; CodecError if that raises."""
        try:
            return pickle.loads(data)
        except Exception as error:
            # Unpickling calls constructors, which may raise anything. A class that was moved or
            # removed since the value was stored ends here too.
            raise CodecError(f"the value cannot be unpickled: {error!r}") from error


class JsonCodec:
    """Stores what JSON gives back unchanged, as UTF-8 without blanks."""

    name = "json"

    def dumps(self, value: Any, /) -> bytes:
        """Returns the text; TypeError for what JSON would change, ValueError for NaN."""
        self._check(value, _MAX_DEPTH)
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair has no UTF-8; its escape is JSON.
            return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: Buffer, /) -> Any:
        """Returns the value; CodecError for what is not JSON."""
        try:
            return json.loads(str(data, "utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise CodecError(f"the value is not JSON: {error}") from error

    def _check(self, value: Any, depth: int) -> None:
        """Refuses what `json` would change without an error: tuples, other keys than str."""
        kind = type(value)
        if kind in _JSON_SCALARS:
            return
        if depth == 0:
            raise ValueError(f"a value for the codec json may be nested {_MAX_DEPTH} deep")
        if kind is float:
            if not math.isfinite(value):
                raise ValueError(f"JSON has no number for {value}; the codec msgpack has")
        elif kind is list:
            for item in value:
                self._check(item, depth - 1)
        elif kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise _unsupported(self.name, key, "as a key of a dict")
                self._check(item, depth - 1)
        else:
            raise _unsupported(self.name, value)


@dataclass(frozen=True)
class MsgpackType:
    """A further type for `MsgpackCodec`: how its instances become supported values, and back."""

    number: int
    """Identifies the type in stored values: 64 to 255, never reused for another type."""
    type: type
    """Instances of exactly this type are encoded; subclasses are not."""
    encode: Callable[[Any], list[Any]]
    """Returns a list of supported values."""
    decode: Callable[[list[Any]], Any]
    """Returns the instance; any exception of it becomes a CodecError."""


class MsgpackCodec:
    """Stores values in MessagePack, with their types. See the module for the list."""

    name = "msgpack"

    def __init__(self, types: Iterable[MsgpackType] = ()) -> None:
        """Makes a codec that supports `types` in addition."""
        self._encoders = dict(_ENCODERS)
        self._marks = dict(_MARKS)
        for extra in types:
            if not 64 <= extra.number <= 255:
                raise ValueError(f"the number of a type is from 64 to 255, not {extra.number}")
            if extra.number in self._marks or extra.type in self._encoders:
                raise ValueError(f"type {extra.type.__name__} or its number is taken")
            self._encoders[extra.type] = _composite(extra.number, extra.encode)
            self._marks[extra.number] = _Mark(extra.decode)

    def dumps(self, value: Any, /) -> bytes:
        """Returns the bytes; TypeError for a type that is not supported."""
        try:
            return self._pack(value, None)
        except UnicodeEncodeError:
            # Half of a surrogate pair: slower, and no UTF-8, but it comes back.
            return self._pack(value, "surrogatepass")

    def _pack(self, value: Any, unicode_errors: str | None) -> bytes:
        # msgpack packs one level of nesting more than it unpacks. In a list of its own, whose
        # header of one byte is cut off again, a value that is packed can be unpacked.
        try:
            packed: bytes = msgpack.packb(
                [value], default=self._default, strict_types=True, unicode_errors=unicode_errors
            )
        except RecursionError as error:
            raise ValueError("the value is nested too deeply, or contains itself") from error
        return packed[1:]

    def _default(self, value: Any) -> Any:
        encoder = self._encoders.get(type(value))
        if encoder is None:
            raise _unsupported(self.name, value)
        return encoder(value)

    def loads(self, data: Buffer, /) -> Any:
        """Returns the value; CodecError for damage and for types that are not known."""
        open_marks = 0

        def extension(code: int, payload: bytes) -> Any:
            nonlocal open_marks
            if code != _EXTENSION:
                return msgpack.ExtType(code, payload)
            if len(payload) == 1:
                open_marks += 1
                return self._marks[payload[0]]
            return _SCALARS[payload[0]](payload[1:])

        def build(items: list[Any]) -> Any:
            nonlocal open_marks
            if items and type(items[0]) is _Mark:
                open_marks -= 1
                return items[0].build(items[1:])
            return items

        try:
            if len(data) > _CHECK_FIRST:
                _check_complete(data)
            value = msgpack.unpackb(
                data,
                ext_hook=extension,
                list_hook=build,
                strict_map_key=False,
                unicode_errors="surrogatepass",
            )
        except Exception as error:
            # msgpack raises several kinds, and a constructor that gets damaged arguments any.
            raise CodecError(f"the value is not in the form of msgpack here: {error!r}") from error
        if open_marks:
            raise CodecError("the value has the mark of a type where none belongs")
        return value


_MAX_DEPTH = 200
_JSON_SCALARS = frozenset((type(None), bool, int, str))

# All our types share one MessagePack extension code, so that an ExtType which a caller stores under
# another code comes back as it was. The first byte of the payload is the number of the type.
# A type that consists of values is an array whose first item is the extension with that number
# alone, a mark: nested extensions would copy their payload once for each level and would need a
# decoder, 20 KB of stack, for each.
_EXTENSION = 77
_INT, _DECIMAL, _UUID = 1, 2, 3
_TUPLE, _SET, _FROZENSET, _COMPLEX = 16, 17, 18, 19
_DATETIME, _DATE, _TIME, _TIMEDELTA, _TIMEZONE, _ZONE = 20, 21, 22, 23, 24, 25

# An array header in damaged bytes can claim any length up to that of the data, at each of 1,024
# levels, and msgpack allocates what it claims. Up to this many bytes that is harmless.
_CHECK_FIRST = 65_536
_MICROSECOND = dt.timedelta(microseconds=1)


class _Mark:
    """The first item of an array that is to become an instance of a type."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], Any]) -> None:
        self.build = build


def _check_complete(data: Buffer) -> None:
    """Raises unless every array in `data` has as many items as it claims; allocates a copy."""
    if data[0] in b"\xc4\xc5\xc6\xd9\xda\xdb":
        return  # one string or one bytes object: no array in it
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _composite(number: int, encode: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Returns a function from an instance to the array that begins with the mark `number`."""
    mark = msgpack.ExtType(_EXTENSION, bytes((number,)))
    return lambda value: [mark, *encode(value)]


def _scalar(number: int, encode: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    """Returns a function from an instance to an extension with its bytes."""
    prefix = bytes((number,))
    return lambda value: msgpack.ExtType(_EXTENSION, prefix + encode(value))


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _date_fields(value: dt.date) -> list[Any]:
    return [value.year, value.month, value.day]


def _time_fields(value: dt.time | dt.datetime) -> list[Any]:
    if type(value.tzinfo) not in (type(None), dt.timezone, zoneinfo.ZoneInfo):
        raise _unsupported("msgpack", value.tzinfo, "as a time zone (timezone and ZoneInfo are)")
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return [*clock, value.fold, value.tzinfo]


def _build_datetime(fields: list[Any]) -> dt.datetime:
    *numbers, fold, zone = fields
    return dt.datetime(*numbers).replace(fold=fold, tzinfo=zone)


def _build_time(fields: list[Any]) -> dt.time:
    *numbers, fold, zone = fields
    return dt.time(*numbers).replace(fold=fold, tzinfo=zone)


def _timezone_fields(value: dt.timezone) -> list[Any]:
    offset = value.utcoffset(None) // _MICROSECOND
    # The name is among the constructor's arguments only if it was given.
    arguments = value.__getinitargs__()  # type: ignore[attr-defined]
    return [offset, *arguments[1:]]


def _build_timezone(fields: list[Any]) -> dt.timezone:
    offset, *name = fields
    return dt.timezone(offset * _MICROSECOND, *name)


def _zone_fields(value: zoneinfo.ZoneInfo) -> list[Any]:
    if value.key is None:
        raise TypeError("the codec msgpack stores a ZoneInfo by its key; this one has no key")
    return [value.key]


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    int: _scalar(_INT, _int_bytes),  # msgpack asks only for those beyond 64 bits
    decimal.Decimal: _scalar(_DECIMAL, lambda value: str(value).encode("ascii")),
    uuid.UUID: _scalar(_UUID, lambda value: value.bytes),
    tuple: _composite(_TUPLE, list),
    set: _composite(_SET, list),
    frozenset: _composite(_FROZENSET, list),
    complex: _composite(_COMPLEX, lambda value: [value.real, value.imag]),
    dt.datetime: _composite(_DATETIME, lambda value: _date_fields(value) + _time_fields(value)),
    dt.date: _composite(_DATE, _date_fields),
    dt.time: _composite(_TIME, _time_fields),
    dt.timedelta: _composite(
        _TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]
    ),
    dt.timezone: _composite(_TIMEZONE, _timezone_fields),
    zoneinfo.ZoneInfo: _composite(_ZONE, _zone_fields),
}

_SCALARS: dict[int, Callable[[bytes], Any]] = {
    _INT: lambda payload: int.from_bytes(payload, "big", signed=True),
    _DECIMAL: lambda payload: decimal.Decimal(payload.decode("ascii")),
    _UUID: lambda payload: uuid.UUID(bytes=payload),
}

_MARKS: dict[int, _Mark] = {
    _TUPLE: _Mark(tuple),
    _SET: _Mark(set),
    _FROZENSET: _Mark(frozenset),
    _COMPLEX: _Mark(lambda fields: complex(*fields)),
    _DATETIME: _Mark(_build_datetime),
    _DATE: _Mark(lambda fields: dt.date(*fields)),
    _TIME: _Mark(_build_time),
    _TIMEDELTA: _Mark(lambda fields: dt.timedelta(*fields)),
    _TIMEZONE: _Mark(_build_timezone),
    _ZONE: _Mark(lambda fields: zoneinfo.ZoneInfo(*fields)),
}

_CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (MsgpackCodec(), JsonCodec(), BytesCodec(), PickleCodec())
}
_MARKERS = {"msgpack": b"m", "json": b"j", "bytes": b"b", "pickle": b"p"}
_CUSTOM = b"x"


def get_codec(codec: str | Codec) -> Codec:
    """Returns the codec of that name, or `codec` itself if it is one.

    Raises ValueError for an unknown name, TypeError for an object that is no codec, for example a
    module with `dumps` and `loads` but without `name`.
    """
    if isinstance(codec, str):
        found = _CODECS.get(codec)
        if found is None:
            raise ValueError(f"unknown codec {codec!r}; there are {', '.join(sorted(_CODECS))}")
        return found
    if isinstance(codec, type) or not isinstance(codec, Codec):
        raise TypeError(f"a codec has name, dumps and loads; {codec!r} has not, or is a class")
    marker(codec)
    return codec


def marker(codec: Codec) -> bytes:
    """Returns what precedes the bytes of `codec` in a stored value.

    One byte for the codecs here; a caller's own codec has a byte, the length of its name, its name.
    """
    known = _MARKERS.get(codec.name)
    if known is not None:
        return known
    name = codec.name.encode()
    if not 1 <= len(name) <= 255:
        raise ValueError(f"the name of a codec has 1 to 255 bytes, not {len(name)}")
    return _CUSTOM + bytes((len(name),)) + name


def encode(codec: Codec, value: Any) -> bytes:
    """Returns `value` with the marker of `codec` before it. Raises what `codec.dumps` raises."""
    return marker(codec) + codec.dumps(value)


def decode(codec: Codec, data: Buffer) -> Any:
    """Returns the object that `encode` made `data` of.

    Raises OtherCodecError if another codec wrote it, CodecError if the bytes are damaged.
    """
    mark = marker(codec)
    if bytes(data[: len(mark)]) != mark:
        raise OtherCodecError(f"the value was not written by the codec {codec.name}")
    return codec.loads(memoryview(data)[len(mark) :])


def _unsupported(name: str, value: Any, place: str = "") -> TypeError:
    kind = type(value)
    where = f" {place}" if place else ""
    way_out = "; the codec msgpack supports more types" if name != "msgpack" else ""
    return TypeError(
        f"the codec {name} does not support {kind.__module__}.{kind.__qualname__}{where}{way_out};"
        " convert the value, or name the codec pickle if you trust all that can write the files"
    )


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
