"""The codecs: types that survive, values that are refused, bytes that are damaged."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import os
import pickle
import subprocess
import sys
import time
import uuid
import zoneinfo
from collections import OrderedDict, namedtuple
from enum import IntEnum
from typing import Any

import msgpack
import pytest

from mmapcache.codecs import (
    Codec,
    CodecError,
    MsgpackCodec,
    MsgpackType,
    OtherCodecError,
    decode,
    encode,
    get_codec,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NAMED = dt.timezone(dt.timedelta(hours=-3, minutes=-30), "NST")

JSON_VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    "",
    "ü\0",
    "half of a pair \ud800",
    [],
    {},
    [1, [2, {"a": None}]],
    {"": [], "a": {"b": 1e300}},
]
MSGPACK_VALUES: list[Any] = [
    *JSON_VALUES,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    2**9999,
    math.inf,
    b"\0\xff",
    (),
    (1, (2, [3])),
    {1, "a", (2, 3)},
    set(),
    frozenset((b"x", 1)),
    {(1, 2): "a", 3: {4.0: {None: b"c"}}, frozenset((1,)): []},
    complex(1, -2),
    dt.datetime(2026, 12, 1, 5, 4, 3, 999_999),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc),
    dt.datetime.max.replace(tzinfo=NAMED),
    dt.date(9999, 12, 31),
    dt.time(23, 59, 59, 1, fold=1, tzinfo=dt.timezone.utc),
    dt.timedelta(days=-999_999_999),
    dt.timedelta(days=1, microseconds=-1),
    dt.timezone(dt.timedelta(microseconds=1)),
    NAMED,
    BERLIN,
    decimal.Decimal("1.50"),
    decimal.Decimal("-0E+999999"),
    decimal.Decimal("sNaN123"),
    uuid.UUID(int=5),
    msgpack.ExtType(5, b"a caller's own"),
]


def same(left: Any, right: Any) -> bool:
    """Says whether both have the same types throughout; `==` calls 1 and True equal."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (set, frozenset)):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    return repr(left) == repr(right)


@pytest.mark.parametrize("value", MSGPACK_VALUES, ids=lambda value: repr(value)[:40])
def test_msgpack_keeps_type(value: Any) -> None:
    codec = get_codec("msgpack")
    assert same(codec.loads(codec.dumps(value)), value)
    nested = [value, {"k": (value,)}]
    assert same(codec.loads(codec.dumps(nested)), nested)


@pytest.mark.parametrize("value", JSON_VALUES, ids=repr)
def test_json_gives_same_value(value: Any) -> None:
    codec = get_codec("json")
    assert same(codec.loads(codec.dumps(value)), value)


def test_fold_and_zone_survive() -> None:
    codec = get_codec("msgpack")
    moment = dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
    back = codec.loads(codec.dumps(moment))
    assert (back.fold, back.tzinfo, back.utcoffset()) == (1, BERLIN, dt.timedelta(hours=1))


def test_pickle_stores_objects() -> None:
    codec = get_codec("pickle")
    value = {"when": dt.timedelta(1), "of": OrderedDict(a=1), "n": decimal.Decimal(3)}
    assert same(codec.loads(codec.dumps(value)), value)


def test_bytes_are_stored_unchanged() -> None:
    codec = get_codec("bytes")
    assert codec.dumps(bytearray(b"\0a")) == b"\0a"
    assert codec.loads(memoryview(b"\0a")) == b"\0a"
    assert encode(codec, b"\0a") == b"b\0a"


Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, _when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, _when: dt.datetime | None) -> None:
        return None

    def tzname(self, _when: dt.datetime | None) -> None:
        return None


UNSUPPORTED: list[tuple[str, Any, str]] = [
    ("msgpack", object(), "builtins.object"),
    ("msgpack", [Point(1, 2)], "Point"),
    ("msgpack", Colour.RED, "Colour"),
    ("msgpack", {"a": Text("b")}, "Text"),
    ("msgpack", OrderedDict(), "OrderedDict"),
    ("msgpack", dt.datetime(2026, 1, 1, tzinfo=Zone()), "Zone"),
    ("msgpack", len, "builtin_function"),
    ("json", (1,), "tuple"),
    ("json", [b"a"], "bytes"),
    ("json", {1: 2}, "int as a key"),
    ("json", Colour.RED, "Colour"),
    ("json", {"a": {1}}, "set"),
    ("bytes", "text", "str"),
    ("bytes", None, "NoneType"),
]


@pytest.mark.parametrize(("name", "value", "text"), UNSUPPORTED, ids=repr)
def test_unsupported_type_is_named(name: str, value: Any, text: str) -> None:
    # A type that would come back as another one is refused, with the ways out.
    with pytest.raises(TypeError, match=text) as caught:
        get_codec(name).dumps(value)
    assert "pickle" in str(caught.value)


@pytest.mark.parametrize("name", ["msgpack", "json"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_deep_value_is_refused(name: str, kind: type) -> None:
    # Whatever depth is stored can be read again; what is deeper raises before it is stored.
    if (name, kind) == ("json", tuple):
        kind = list
    codec = get_codec(name)
    value: Any = kind()
    depth = 0
    with pytest.raises(ValueError, match=r"recursion|nested"):
        while depth < 5_000:
            codec.loads(codec.dumps(value))
            value = kind((value,))
            depth += 1
    assert depth > 150


@pytest.mark.parametrize("name", ["msgpack", "json"])
def test_cycle_is_refused(name: str) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match=r"recursion|nested"):
        get_codec(name).dumps(value)


def test_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="nan"):
        get_codec("json").dumps([math.nan])
    for text in (b"NaN", b"[-Infinity]"):
        with pytest.raises(CodecError):
            get_codec("json").loads(text)


DAMAGED = {
    "msgpack": [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xa1\xff\xff",
        b"\x81\x90\x01",  # a list as a key
        b"\xd4\x4d\x10",  # the mark of a tuple alone
        b"\x92\x01\xd4\x4d\x10",  # in the second place
        b"\x81\xd4\x4d\x10\x01",  # as a key
        b"\x91\xd4\x4d\x63",  # of an unknown type
        b"\x91\xd4\x4d\x14",  # of a datetime without fields
        b"\xc7\x00\x4d",  # our extension without a number
        b"\xd5\x4d\x63\x00",
        b"\xd5\x4d\x03\x00",  # a UUID of one byte
        b"\xd5\x4d\x02\xff",
        b"\x92\xd4\x4d\x19\xa3../",  # a zone outside of the zones
        b"\x92\xd4\x4d\x19\xa7America",
        b"\x91" * 5_000 + b"\xc0",
    ],
    "json": [b"", b"{", b"\xff", b'"\n"', b"[" * 200_000 + b"]" * 200_000, b"1 1", b"9" * 5_000],
    "pickle": [b"", b"\x80\x05", b"cnone_such\nthing\n.", b"cos\nno_such_name\n."],
}


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name in DAMAGED for data in DAMAGED[name]]
)
def test_damaged_bytes_raise(name: str, data: bytes) -> None:
    with pytest.raises(CodecError):
        get_codec(name).loads(data)


@pytest.mark.parametrize("name", ["msgpack", "json", "pickle"])
def test_cut_bytes_raise(name: str) -> None:
    codec = get_codec(name)
    whole = codec.dumps([1, "two", [3.5, {"four": None}], "five"])
    for length in range(len(whole)):
        with pytest.raises(CodecError):
            codec.loads(whole[:length])


def test_flipped_bits_never_escape() -> None:
    # Either some value or CodecError, whatever bit changes.
    codec = get_codec("msgpack")
    whole = codec.dumps(MSGPACK_VALUES)
    errors = 0
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            codec.loads(data)
        except CodecError:
            errors += 1
    assert errors > 100


CLAIMS = """
import resource, sys
from mmapcache.codecs import CodecError, get_codec
# 500 arrays, each in the one before, each with a header that claims most of the data.
data = (b"\\xdd" + (18_000_000).to_bytes(4, "big")) * 500 + bytes(20_000_000)
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
try:
    get_codec("msgpack").loads(data)
except CodecError as error:
    sys.exit(0 if "No more data" in str(error) else f"another error: {error}")
"""


def test_false_lengths_allocate_little() -> None:
    # Without the check before, they take 72 GB of address space and a minute.
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", CLAIMS], env=os.environ, check=False)
    assert ended.returncode == 0
    assert time.monotonic() - began < 20


def test_other_codec_is_recognised() -> None:
    values = {"msgpack": 1, "json": 1, "bytes": b"1", "pickle": 1}
    for writer, value in values.items():
        data = encode(get_codec(writer), value)
        for reader in values:
            if reader == writer:
                assert decode(get_codec(reader), data) == value
            else:
                with pytest.raises(OtherCodecError):
                    decode(get_codec(reader), data)


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


def test_pickle_is_never_loaded(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    payload = pickle.dumps(Bomb())
    for name in ("msgpack", "json", "bytes"):
        codec = get_codec(name)
        for data in (payload, b"p" + payload):
            with pytest.raises(CodecError):
                decode(codec, data)
    assert not (tmp_path / "ran").exists()
    # The test can fail: the codec that is named does run it.
    decode(get_codec("pickle"), b"p" + payload)
    assert (tmp_path / "ran").exists()


class Rot13:
    """A caller's own codec."""

    name = "rot13"

    def dumps(self, value: Any, /) -> bytes:
        return str(value).translate(str.maketrans("ab", "no")).encode()

    def loads(self, data: Any, /) -> Any:
        return str(data, "utf-8").translate(str.maketrans("no", "ab"))


def test_own_codec_has_own_marker() -> None:
    codec = get_codec(Rot13())
    assert isinstance(codec, Codec)
    data = encode(codec, "abba")
    assert data == b"x\x05rot13noon"
    assert decode(codec, data) == "abba"
    with pytest.raises(OtherCodecError):
        decode(get_codec("json"), data)


def test_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes, json, msgpack, pickle"):
        get_codec("marshal")
    for wrong in (pickle, Rot13, None, 5):
        with pytest.raises(TypeError):
            get_codec(wrong)  # type: ignore[arg-type]


def test_further_type_survives() -> None:
    rule = MsgpackType(64, Point, list, lambda fields: Point(*fields))
    codec = MsgpackCodec([rule])
    value = {"at": Point(1, (2, 3))}
    assert same(codec.loads(codec.dumps(value)), value)
    with pytest.raises(CodecError):
        get_codec("msgpack").loads(codec.dumps(value))
    for number, kind in ((63, Colour), (256, Colour), (64, tuple)):
        with pytest.raises(ValueError, match="type"):
            MsgpackCodec([MsgpackType(number, kind, list, list)])
