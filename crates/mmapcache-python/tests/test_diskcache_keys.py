"""Keys of `mmapcache.diskcache`: which are one key, and that each comes back as it was."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmapcache
from mmapcache.diskcache import Cache
from mmapcache.diskcache.core import TypeName

KEYS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**200),
    0.5,
    float("inf"),
    1e300,
    "",
    "1",
    "ü",
    b"",
    b"1",
    (),
    (1,),
    (1.0,),
    ("1",),
    ("ab", "c"),
    ("a", "bc"),
    (("a",), "b"),
    ("a", ("b",)),
    (None, 0, "abc"),
    frozenset(),
    frozenset((1, "a", b"a")),
    int,
    (int, str),
    ["a", 1],
    {"a": [1, (2, 3)]},
]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Open an empty cache."""
    with Cache(tmp_path / "cache") as cache:
        yield cache


def test_keys_are_distinct(cache: Cache) -> None:
    for number, key in enumerate(KEYS):
        cache[key] = number
    assert len(cache) == len(KEYS)
    for number, key in enumerate(KEYS):
        assert cache[key] == number, repr(key)


def test_keys_come_back(cache: Cache) -> None:
    for key in KEYS:
        cache[key] = None
    listed = list(cache)
    assert listed == KEYS
    assert [type(key) for key in listed] == [type(key) for key in KEYS]


# As for diskcache, in whose column both are equal.
@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0, -0.0), (2**62, float(2**62))])
def test_equal_numbers_are_one(cache: Cache, one: object, other: object) -> None:
    cache[one] = "a"
    assert cache[other] == "a"
    cache[other] = "b"
    assert cache[one] == "b"
    assert len(cache) == 1


def test_number_beyond_float_differs(cache: Cache) -> None:
    cache[2**63] = "int"
    cache[float(2**63)] = "float"
    assert (cache[2**63], cache[float(2**63)]) == ("int", "float")


def test_nan_is_one_key(cache: Cache) -> None:
    cache[math.nan] = 1
    cache[float("-nan")] = 2
    assert cache[math.nan] == 2
    assert len(cache) == 1


# The order of a set of texts differs between processes.
def test_frozenset_has_one_form(cache: Cache) -> None:
    names = [f"name {number}" for number in range(50)]
    cache[frozenset(names)] = 1
    assert cache[frozenset(reversed(names))] == 1
    assert list(cache) == [frozenset(names)]


# The engine takes 65,535 bytes; above 60,000 it gets a hash.
@pytest.mark.parametrize("length", [59_999, 60_000, 60_001, 300_000])
def test_long_key_comes_back(cache: Cache, length: int) -> None:
    key, other = "k" * length, "k" * (length - 1) + "l"
    cache[key] = 1
    assert other not in cache
    assert cache.get(other) is None
    cache[other] = 2
    assert (cache[key], cache[other]) == (1, 2)
    assert list(cache) == [key, other]
    assert cache.peekitem() == (other, 2)
    assert cache.incr(key) == 2
    assert cache.pop(key) == 2
    assert list(cache) == [other]


# As if the hashes of two long keys were equal: the entry says whose it is.
def test_equal_hashes_are_a_miss(cache: Cache) -> None:
    one, other = "a" * 70_000, "b" * 70_000
    cache[one], cache[other] = 1, 2
    cache.close()
    with mmapcache.Cache(Path(cache.directory, "cache")) as raw:
        hashed = {value[-8:]: key for key, value in raw.items()}
        of_one, of_other = (hashed[number.to_bytes(8, "little")] for number in (1, 2))
        raw.insert(of_other, raw[of_one])
    assert cache.get(other) is None
    assert other not in cache
    assert cache.pop(other) is None
    assert not cache.delete(other)
    assert not cache.touch(other)
    assert cache[one] == 1
    assert cache.incr(other) == 1
    assert (cache[one], cache[other]) == (1, 1)


def test_type_is_not_imported(cache: Cache) -> None:
    module = types.ModuleType("loaded_for_a_test")
    module.Thing = type("Thing", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        cache[("call", module.Thing)] = 1
        assert list(cache) == [("call", module.Thing)]
    finally:
        del sys.modules[module.__name__]
    (key,) = cache
    assert type(key[1]) is TypeName
    assert key[1] == "loaded_for_a_test.Thing"
    assert cache[key] == 1


def test_deep_key_is_refused(cache: Cache) -> None:
    key: Any = ()
    for _ in range(1000):
        key = (key,)
    with pytest.raises(ValueError, match="100 tuples"):
        cache[key] = 1
    assert len(cache) == 0


def test_unknown_object_is_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match="pickle"):
        cache[object()] = 1


def test_iterkeys_sorts_as_diskcache(cache: Cache) -> None:
    for key in [b"a", "b", 2, "a", 1.5, b"A", 10, "ü", -3]:
        cache[key] = 0
    expected = [-3, 1.5, 2, 10, "a", "b", "ü", b"A", b"a"]
    assert list(cache.iterkeys()) == expected
    assert list(cache.iterkeys(reverse=True)) == expected[::-1]


def test_shard_is_stable(cache: Cache) -> None:
    # Files of earlier releases are found only if these never change.
    assert [cache._shard(key, 8) for key in (0, "a", b"a", ("a", 1), None)] == [5, 4, 7, 3, 3]
    assert cache._shard(1, 1000) == cache._shard(1.0, 1000)
