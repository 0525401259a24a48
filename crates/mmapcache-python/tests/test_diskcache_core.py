"""`mmapcache.diskcache.Cache`: values, terms, settings and eviction."""

from __future__ import annotations

import datetime
import io
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import StartChild, finish

from mmapcache.codecs import CodecError
from mmapcache.diskcache import (
    DEFAULT_SETTINGS,
    ENOVAL,
    Cache,
    Disk,
    EmptyDirWarning,
    JSONDisk,
    UnknownFileWarning,
)

MIB = 2**20


class Thing:
    """A class that no codec but pickle knows."""

    def __eq__(self, other: object) -> bool:
        return type(other) is Thing


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Open an empty cache."""
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -(2**63),
        2**63,
        -(2**512),
        1.5,
        float("inf"),
        "",
        "ü",
        "\ud800",
        b"",
        b"\0" * MIB,
        (1, (2.0, "3"), [4]),
        {"a": {1, 2}, 2: frozenset((3,))},
        datetime.datetime(2026, 12, 1, 5, 30, tzinfo=datetime.timezone.utc),
        1j,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_value_keeps_its_type(cache: Cache, value: object) -> None:
    cache["key"] = value
    assert cache["key"] == value
    assert type(cache["key"]) is type(value)


def test_object_is_not_pickled(cache: Cache) -> None:
    with pytest.raises(TypeError, match="pickle"):
        cache["key"] = Thing()
    assert "key" not in cache


def test_named_pickle_stores_objects(tmp_path: Path) -> None:
    with Cache(tmp_path, codec="pickle") as cache:
        cache[Thing()] = Thing()
        assert cache[Thing()] == Thing()
        assert list(cache) == [Thing()]


# The files cannot make a process unpickle that did not name it: by a value or by a setting.
def test_files_choose_no_codec(tmp_path: Path) -> None:
    with Cache(tmp_path, codec="pickle") as cache:
        cache["key"] = Trap()
        settings = {**DEFAULT_SETTINGS, "disk_codec": "pickle", "codec": "pickle"}
        cache._store_settings(json.dumps(settings).encode())
    with Cache(tmp_path) as cache:
        with pytest.raises(CodecError):
            cache["key"]
        with pytest.raises(TypeError):
            cache["other"] = Thing()
    with pytest.raises(TypeError, match="argument `codec`"):
        Cache(tmp_path, disk_codec="pickle")


def test_undecodable_value_stays(tmp_path: Path) -> None:
    with Cache(tmp_path, codec="json") as cache:
        cache["key"] = [1]
        cache.push([2])
    with Cache(tmp_path) as cache:
        with pytest.raises(CodecError):
            cache.pop("key")
        with pytest.raises(CodecError):
            cache.pull()
        assert len(cache) == 2
    with Cache(tmp_path, codec="json") as cache:
        assert cache.pop("key") == [1]
        assert cache.pull() == (500_000_000_000_000, [2])


def test_overwritten_key_keeps_place(cache: Cache) -> None:
    for key in "abc":
        cache[key] = 0
    cache["a"] = 1
    cache.incr("b")
    cache.touch("c", 60)
    cache.set("a", 2, tag="t")
    assert list(cache) == ["a", "b", "c"]
    assert list(reversed(cache)) == ["c", "b", "a"]
    del cache["a"]
    cache["a"] = 3
    assert list(cache) == ["b", "c", "a"]
    assert cache.peekitem() == ("a", 3)
    assert cache.peekitem(last=False) == ("b", 1)


def test_order_survives_reopening(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        for key in range(100):
            cache[key] = key
        cache[0] = "again"
    with Cache(tmp_path) as cache:
        assert list(cache) == list(range(100))


def test_expiry_is_exact(cache: Cache) -> None:
    with mock.patch("time.time", return_value=2_000_000_000.123456):
        cache.set("key", 1, expire=0.5, tag="t")
        found = cache.get("key", expire_time=True, tag=True)
    assert found == (1, 2_000_000_000.623456, "t")


# Programs test their expiry with a clock of their own.
@pytest.mark.parametrize("begin", [0.0, 1e9, 4e9])
def test_replaced_clock_counts(cache: Cache, begin: float) -> None:
    with mock.patch("time.time", return_value=begin):
        cache.set("key", 1, expire=100)
        assert cache["key"] == 1
    with mock.patch("time.time", return_value=begin + 99):
        assert "key" in cache
        assert cache.touch("key", 100)
    with mock.patch("time.time", return_value=begin + 198):
        assert cache["key"] == 1
    with mock.patch("time.time", return_value=begin + 200):
        assert "key" not in cache
        assert cache.get("key") is None
        assert not cache.touch("key", 100)
        assert cache.add("key", 2)


@pytest.mark.parametrize("expire", [0, -1, -1e300, float("-inf"), -(10**400)])
def test_past_expiry_is_dead(cache: Cache, expire: float) -> None:
    cache["key"] = 1
    assert cache.set("key", 2, expire=expire)
    assert "key" not in cache
    assert cache.add("key", 3, expire=expire)
    assert cache.get("key") is None


@pytest.mark.parametrize("expire", [1e300, float("inf"), 10**400, datetime.timedelta(days=1)])
def test_far_expiry_is_kept(cache: Cache, expire: Any) -> None:
    cache.set("key", 1, expire=expire)
    assert cache["key"] == 1


def test_invalid_expiry_changes_nothing(cache: Cache) -> None:
    cache["key"] = 1
    with pytest.raises(ValueError, match="not a number"):
        cache.set("key", 2, expire=float("nan"))
    with pytest.raises(TypeError):
        cache.set("key", 2, expire="1")  # type: ignore[arg-type]
    assert cache["key"] == 1


def test_engine_removes_expired(cache: Cache) -> None:
    for key in range(200):
        cache.set(key, 0, expire=0.001)
    time.sleep(0.01)
    # Each write looks at some entries.
    for key in range(1000, 1200):
        cache[key] = 0
    assert len(cache) < 300


# Without culling, which is what a limit of 0 says, expired items stay until they are asked to go.
def test_items_stay_without_culling(cache: Cache) -> None:
    cache.reset("cull_limit", 0)
    for key in range(20):
        cache.set(key, 0, expire=0.001)
    cache.set("kept", 0, expire=60)
    time.sleep(0.01)
    for key in range(1000, 1100):
        cache[key] = 0
    assert len(cache) == 121
    assert 0 not in cache
    assert cache.expire() == 20
    assert len(cache) == 101


def test_culling_is_resumed(tmp_path: Path) -> None:
    with Cache(tmp_path, cull_limit=0) as cache:
        cache.set("dead", 0, expire=0.001)
        cache.set("later", 0, expire=0.2)
    with Cache(tmp_path, cull_limit=10) as cache:
        time.sleep(0.01)
        cache["new"] = 0
        assert list(cache) == ["later", "new"]
        time.sleep(0.2)
        cache["newer"] = 0
        assert list(cache) == ["new", "newer"]


def test_touch_keeps_the_rest(cache: Cache) -> None:
    cache.set("key", [1], expire=60, tag="t")
    assert cache.touch("key")
    assert cache.get("key", expire_time=True, tag=True) == ([1], None, "t")


def test_incr_keeps_the_rest(cache: Cache) -> None:
    cache.set("key", 1, expire=60, tag="t")
    expire_time = cache.get("key", expire_time=True)[1]
    assert cache.incr("key", 2) == 3
    assert cache.incr("key", 0.5) == 3.5
    assert cache.incr("key", 2**70) == 3.5 + 2**70
    found = cache.get("key", expire_time=True, tag=True)
    assert found[0] == 3.5 + 2**70
    assert found[1] == pytest.approx(expire_time, abs=0.01)
    assert found[2] == "t"


def test_incr_leaves_64_bits(cache: Cache) -> None:
    cache["key"] = 2**63 - 1
    assert cache.incr("key") == 2**63
    assert cache.incr("key") == 2**63 + 1
    assert cache.decr("key", 2) == 2**63 - 1
    assert cache["key"] == 2**63 - 1


def test_incr_adds_any_object(cache: Cache) -> None:
    cache["key"] = "a"
    assert cache.incr("key", "b") == "ab"
    with pytest.raises(TypeError):
        cache.incr("key", 1)
    assert cache["key"] == "ab"
    with pytest.raises(KeyError):
        cache.incr("missing", "b", default=None)
    assert cache.incr("missing", "b", default="a") == "ab"


def test_tags_are_distinct(cache: Cache) -> None:
    tags = [None, 1, "1", b"1", 1.5, ("a", 1)]
    for number, tag in enumerate(tags):
        cache.set(number, 0, tag=tag)
    for number, tag in enumerate(tags):
        assert cache.get(number, tag=True) == (0, tag)
    assert cache.evict("1") == 1
    assert cache.evict(1.0) == 1
    assert cache.evict("2") == 0
    assert list(cache) == [0, 3, 4, 5]


def test_read_returns_a_file(cache: Cache) -> None:
    cache.set("file", io.BytesIO(b"abc"), read=True)
    cache["small"] = b"abc"
    cache["large"] = b"abc" * MIB
    with cache.read("file") as file:
        assert file.read() == b"abc"
    assert cache.read("small") == b"abc"
    with cache.get("large", read=True) as file:
        assert file.read(4) == b"abca"
        assert file.name == "<value of a cache>"
    with pytest.raises(TypeError, match="binary mode"):
        cache.set("text", io.StringIO("abc"), read=True)
    assert "text" not in cache


def test_closed_cache_opens_again(cache: Cache) -> None:
    cache["key"] = 1
    cache.close()
    cache.close()
    assert cache["key"] == 1
    cache.reset("cull_limit", 0)
    cache.close()
    cache.set("dead", 1, expire=0.001)
    time.sleep(0.01)
    cache["other"] = 1
    assert len(cache) == 3, "the settings are as before"


def test_settings_are_shared(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=10 * MIB, statistics=True, tag_index=1) as one:
        with Cache(tmp_path) as other:
            assert (other.size_limit, other.statistics, other.tag_index) == (10 * MIB, True, 1)
            other.reset("size_limit", 20 * MIB)
        assert one.size_limit == 10 * MIB
        assert one.reset("size_limit") == 20 * MIB
        assert one.size_limit == 20 * MIB
        assert one.reset("cull_limit", 5, update=False) == 5
        assert one.reset("cull_limit") == 10


def test_unknown_setting_is_refused(cache: Cache) -> None:
    with pytest.raises(KeyError):
        cache.reset("no_such")
    with pytest.raises(KeyError):
        cache.reset("eviction_policy", "no-such")
    assert cache.eviction_policy == "least-recently-stored"


def test_statistics_are_of_all(tmp_path: Path) -> None:
    with Cache(tmp_path, statistics=True) as one:
        one["key"] = 1
        assert one.get("key") == 1
        with Cache(tmp_path) as other:
            assert other["key"] == 1
            assert other.get("missing") is None
        assert one.stats() == (2, 1)
        assert one.stats(reset=True) == (2, 1)
        assert one.stats(enable=False) == (0, 0)
        assert one["key"] == 1
        assert one.stats() == (0, 0)


def fill(cache: Cache, count: int, size: int) -> None:
    """Store so many values of a size."""
    for key in range(count):
        cache[key] = key.to_bytes(4, "big") * (size // 4)


def test_size_limit_holds(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=8 * MIB) as cache:
        fill(cache, 2000, 16_384)
        assert cache.volume() < 13 * MIB
        assert 200 < len(cache) < 600
        assert 1999 in cache, "the newest stays"
        assert 0 not in cache, "the oldest goes"


def test_used_items_outlive_others(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=8 * MIB, eviction_policy="least-recently-used") as cache:
        fill(cache, 100, 16_384)
        for key in range(1000, 3000):
            cache[key] = b"x" * 16_384
            assert all(used in cache for used in range(10)), key


def test_stored_order_ignores_uses(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=8 * MIB) as cache:
        fill(cache, 100, 16_384)
        for key in range(1000, 3000):
            cache[key] = b"x" * 16_384
            cache.get(0)
        assert 0 not in cache


@pytest.mark.parametrize("settings", [{"eviction_policy": "none"}, {"cull_limit": 0}])
def test_unlimited_cache_evicts_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    with Cache(tmp_path, size_limit=2 * MIB, **settings) as cache:
        fill(cache, 1000, 16_384)
        assert len(cache) == 1000


def test_cull_leaves_most(tmp_path: Path) -> None:
    with Cache(tmp_path, size_limit=16 * MIB, cull_limit=0) as cache:
        fill(cache, 2000, 16_384)
        before = len(cache)
        removed = cache.cull()
        assert cache.volume() <= 16 * MIB
        assert removed == before - len(cache)
        # Half of the limit at least is still used, by the newest.
        assert len(cache) > 500
        assert 1999 in cache
        # And nothing is evicted after it.
        fill(cache, 2000, 16_384)
        assert len(cache) == 2000


# The engine refuses what takes more than a sixteenth of its bound; diskcache takes any value.
@pytest.mark.parametrize("policy", ["least-recently-stored", "least-recently-used"])
def test_large_value_is_stored(tmp_path: Path, policy: str) -> None:
    with Cache(tmp_path, size_limit=8 * MIB, eviction_policy=policy) as cache:
        for number in range(30):
            value = bytes([number]) * MIB
            cache.set(f"key {number}", value)
            assert cache[f"key {number}"] == value
            assert len(cache) >= min(number + 1, 4)
        assert cache.volume() < 13 * MIB
        cache.push(b"q" * MIB)
        assert cache.pull()[1] == b"q" * MIB
        # It is stored again without being evicted for that.
        assert cache.touch("key 29", 60)
        assert cache["key 29"] == bytes([29]) * MIB
        # The bound is in force again.
        fill(cache, 2000, 16_384)
        assert cache.volume() < 13 * MIB


def test_check_names_unknown_files(cache: Cache, tmp_path: Path) -> None:
    cache["key"] = 1
    assert cache.check() == []
    directory = Path(cache.directory)
    (directory / "other").touch()
    (directory / "a" / "b").mkdir(parents=True)
    found = [warning.category for warning in cache.check()]
    assert found == [EmptyDirWarning, UnknownFileWarning]
    cache.check(fix=True)
    assert cache.check() == []
    assert not (directory / "a").exists()
    assert cache["key"] == 1


def test_check_repairs_damage(cache: Cache) -> None:
    for key in range(100):
        cache[key] = f"value {key}" * 10
    cache.close()
    (heap,) = Path(cache.directory).glob("cache.heap*")
    data = bytearray(heap.read_bytes())
    at = data.index(b"value 50value 50")
    data[at] ^= 1
    heap.write_bytes(data)
    assert cache.check()
    assert cache.get(50) is None
    cache.check(fix=True)
    assert cache.check() == []
    assert len(cache) == 99
    assert cache[49] == "value 49" * 10


LIMITED = """
import resource, sys
from mmapcache.diskcache import Cache
cache = Cache(sys.argv[1])
cache["key"] = "value"
# The system refuses to make a file longer than this, as a full disk does.
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
stored = 0
try:
    for number in range(100):
        cache["large"] = bytes([number]) * 100_000
        cache[number] = b"x" * 100_000
        stored = number
except OSError as error:
    print(type(error).__name__, stored > 0, cache["large"] in
          (bytes([stored]) * 100_000, bytes([stored + 1]) * 100_000), cache["key"])
"""


def test_failed_write_changes_nothing(tmp_path: Path, start_child: StartChild) -> None:
    child = start_child(LIMITED, tmp_path)
    assert finish(child).split()[1:] == ["True", "True", "value"]
    with Cache(tmp_path) as cache:
        assert cache["key"] == "value"
        cache["large"] = b"x" * 2**21
        assert cache["large"] == b"x" * 2**21
        assert cache.check() == []


class ShoutingDisk(Disk):
    """Stores texts in capitals, and keys under a name of their own."""

    def __init__(self, directory: str, mark: str = "!", **kwargs: Any) -> None:
        super().__init__(directory, **kwargs)
        self.mark = mark

    def put(self, key: Any) -> tuple[Any, bool]:
        return super().put(("key", key))

    def get(self, key: Any, raw: bool) -> Any:
        return super().get(key, raw)[1]

    def store(self, value: Any, read: bool, key: Any = ENOVAL) -> tuple[int, int, str | None, Any]:
        return super().store(value.upper() + self.mark, read, key=key)


def test_disk_of_the_user_counts(tmp_path: Path) -> None:
    with Cache(tmp_path, disk=ShoutingDisk, disk_mark="?") as cache:
        cache["key"] = "value"
        assert cache["key"] == "VALUE?"
        assert list(cache) == ["key"]
        assert cache.pop("key") == "VALUE?"
        assert cache.push("item") == 500_000_000_000_000
        assert cache.pull() == (500_000_000_000_000, "ITEM?")
    with Cache(tmp_path, disk=ShoutingDisk) as cache:
        assert cache.disk.mark == "?"  # type: ignore[attr-defined]


def test_json_disk_stores_json(tmp_path: Path) -> None:
    with Cache(tmp_path, disk=JSONDisk, disk_compress_level=9) as cache:
        cache[["a", 1]] = {"b": [None, 1.5]}
        assert cache[["a", 1]] == {"b": [None, 1.5]}
        assert list(cache) == [["a", 1]]
        assert cache.incr("counter", 2) == 2
        assert cache.incr("counter") == 3
        with pytest.raises(TypeError):
            cache["key"] = {1}
    # The stored settings have an argument that only that class takes.
    with pytest.raises(TypeError, match="compress_level"):
        Cache(tmp_path)


def test_file_name_of_disk_is_refused(tmp_path: Path) -> None:
    class Files(Disk):
        def store(
            self, value: Any, read: bool, key: Any = ENOVAL
        ) -> tuple[int, int, str | None, Any]:
            return 1, 2, "file.val", None

    with Cache(tmp_path, disk=Files) as cache, pytest.raises(NotImplementedError):
        cache["key"] = 1


def test_pickled_cache_is_the_same(tmp_path: Path) -> None:
    with Cache(tmp_path, timeout=5, disk=JSONDisk, codec="json") as cache:
        cache["key"] = 1
        other = pickle.loads(pickle.dumps(cache))
        assert other["key"] == 1
        assert (other.timeout, type(other.disk), other.directory) == (5, JSONDisk, str(tmp_path))
        other.close()


def test_subclass_may_override(tmp_path: Path) -> None:
    class Logged(Cache):
        seen: list[Any]

        def __enter__(self) -> Logged:
            return self

        def __init__(self, directory: Path) -> None:
            self.seen = []
            super().__init__(directory)

        def set(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> bool:
            self.seen.append(key)
            return super().set(key, value, *args, **kwargs)

    with Logged(tmp_path) as cache:
        cache.set("a", 1)
        assert cache["a"] == 1
        assert cache.seen == ["a"]


def test_memoize_keeps_calls_apart(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.memoize(name="f", typed=True)
    def function(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        return len(calls)

    results = [function(1), function(1.0), function("1"), function(a=1), function(a=1.0)]
    assert results == [1, 2, 3, 4, 5]
    assert [function(1), function(1.0), function("1"), function(a=1), function(a=1.0)] == results
    # As for diskcache: the types come last.
    key = ("f", 1, None, "a", 2.0, int, float)
    assert function.__cache_key__(1, a=2.0) == key  # type: ignore[attr-defined]
    assert cache[function.__cache_key__(1)] == 1  # type: ignore[attr-defined]


def test_memoize_without_call_is_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match="name cannot be callable"):

        @cache.memoize  # type: ignore[arg-type]
        def function() -> None:
            pass


def test_unopened_cache_is_refused() -> None:
    cache = Cache.__new__(Cache)
    with pytest.raises(RuntimeError, match="__init__"):
        cache.get("key")
    with pytest.raises(RuntimeError, match="__init__"):
        len(cache)


def test_file_as_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="could not be made") as raised:
        Cache(tmp_path / "file" / "cache")
    assert raised.value.errno is not None
