"""The cache with cachelib's interface: its meaning of timeouts, counters, processes."""

from __future__ import annotations

import datetime as dt
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from backend_helpers import python_at_work, run_together

from mmapcache._shared import change_value
from mmapcache.cachelib import MmapCache
from mmapcache.codecs import get_codec


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache"


@pytest.fixture
def cache(location: Path) -> MmapCache:
    return MmapCache(location)


def deadline(cache: MmapCache) -> float | None:
    """Returns the deadline of the only entry."""
    (key,) = cache.store
    entry = cache.store.entry(key)
    assert entry is not None
    return entry.expires_at


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", (1, {2}), {"a": [None]}], ids=repr)
def test_value_keeps_type(cache: MmapCache, value: Any) -> None:
    assert cache.set("key", value) is True
    assert cache.get("key") == value
    assert type(cache.get("key")) is type(value)
    assert cache.has("key") is True


def test_absent_key_is_none(cache: MmapCache) -> None:
    assert cache.get("key") is None
    assert cache.has("key") is False
    assert cache.delete("key") is False
    assert cache.get_many("a", "b") == [None, None]
    assert cache.get_dict("a", "b") == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, 300), (60, 60), (dt.timedelta(minutes=2), 120), (0, None), (10**12, None)],
)
def test_timeout_is_kept(cache: MmapCache, timeout: Any, seconds: int | None) -> None:
    for store in (cache.set, cache.add):
        cache.clear()
        assert store("key", 1, timeout) is True
        left = deadline(cache)
        if seconds is None:
            assert left is None
        else:
            assert left is not None
            assert seconds - 1 < left - time.time() <= seconds


def test_default_timeout_zero_never_ends(location: Path) -> None:
    cache = MmapCache(location, default_timeout=0)
    cache.set("key", 1)
    assert deadline(cache) is None


def test_negative_timeout_is_over(cache: MmapCache) -> None:
    cache.set("key", 1)
    assert cache.set("key", 2, -1) is True
    assert cache.has("key") is False
    assert cache.add("key", 1, -1) is True
    assert cache.has("key") is False
    cache.set("key", 1)
    assert cache.add("key", 2, -1) is False
    cache.set_many({"key": 1, "other": 2}, -1)
    assert cache.get_many("key", "other") == [None, None]


def test_add_replaces_expired_entry(cache: MmapCache) -> None:
    # The file cache says False for ever.
    cache.set("key", 1, 1)
    assert cache.add("key", 2) is False
    time.sleep(1.1)
    assert cache.has("key") is False
    assert cache.add("key", 2) is True
    assert cache.get("key") == 2


def test_many_keys_at_once(cache: MmapCache) -> None:
    assert cache.set_many({"a": 1, "b": None}) == ["a", "b"]
    assert cache.get_dict("a", "b", "c") == {"a": 1, "b": None, "c": None}
    assert cache.delete_many("a", "c") == ["a", "c"]
    assert cache.has("a") is False
    assert cache.clear() is True
    assert cache.has("b") is False


def test_counter_keeps_deadline(cache: MmapCache) -> None:
    assert cache.inc("key") == 1
    first = deadline(cache)
    assert first is not None
    assert [cache.inc("key", 5), cache.dec("key", 2), cache.dec("key", 10)] == [6, 4, -6]
    last = deadline(cache)
    assert last is not None
    assert abs(last - first) < 0.001
    assert cache.dec("other") == -1
    cache.set("none", None)
    assert cache.inc("none") == 1
    cache.set("text", "1")
    with pytest.raises(TypeError):
        cache.inc("text")


COUNT = """
    import sys
    from mmapcache.cachelib import MmapCache
    from backend_helpers import wait_for_all
    cache = MmapCache(sys.argv[1])
    wait_for_all()
    for _ in range(1_000):
        cache.inc("count")
"""


def test_overtaken_change_sees_other_value(cache: MmapCache) -> None:
    # Another writer comes between the look and the store: its value is not lost.
    cache.set("count", 0)
    seen: list[int] = []

    def change(value: int) -> int:
        if not seen:
            cache.set("count", 10)
        seen.append(value)
        return value + 1

    assert change_value(cache.store, get_codec("msgpack"), b"kcount", change) == 11
    assert (seen, cache.get("count")) == ([0, 10], 11)


def test_processes_count_together(cache: MmapCache, location: Path) -> None:
    run_together(COUNT, 3, location)
    assert cache.get("count") == 3_000


WRITE = """
    import sys
    from mmapcache.cachelib import MmapCache
    cache = MmapCache(sys.argv[1])
    number = 0
    while True:
        number += 1
        cache.set_many({"number": number, str(number % 50): "x" * number}, 0)
        if number == 200:
            print("at work", flush=True)
"""


def test_killed_writer_loses_nothing(cache: MmapCache, location: Path) -> None:
    with python_at_work(WRITE, location) as writer:
        seen = cache.get("number")
        writer.kill()
        writer.wait()
    assert cache.get("number") >= seen >= 200
    assert cache.inc("number", -cache.get("number")) == 0


def test_unsupported_value_is_named(cache: MmapCache) -> None:
    cache.set("a", 1)
    for change in (
        lambda: cache.set("a", object()),
        lambda: cache.add("new", object()),
        lambda: cache.set_many({"a": 2, "b": object()}),
    ):
        with pytest.raises(TypeError, match="codec pickle"):
            change()
    assert cache.get_many("a", "b", "new") == [1, None, None]


def test_failed_change_is_false(location: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = MmapCache(location, max_bytes=1 << 20)
    large = bytes(500_000)
    with caplog.at_level(logging.WARNING):
        assert cache.set("large", large) is False
        assert cache.add("large", large) is False
        assert cache.set_many({"a": 1, "large": large, "b": 2}) == ["a", "b"]
    assert "large" in caplog.text
    assert cache.get_many("a", "large", "b") == [1, None, 2]


def test_threshold_bounds_entries(location: Path) -> None:
    cache = MmapCache(location, threshold=50)
    for number in range(500):
        cache.set(str(number), number, 0)
    assert 45 <= len(cache.store) <= 50
    assert cache.get("499") == 499


def test_other_codec_is_miss(location: Path) -> None:
    pickling, safe = MmapCache(location, codec="pickle"), MmapCache(location)
    pickling.set("key", complex(1))
    assert pickling.get("key") == complex(1)
    assert safe.get("key") is None
    assert safe.has("key") is False
    assert safe.inc("key") == 1
    assert pickling.has("key") is False


def test_damaged_value_can_be_replaced(cache: MmapCache) -> None:
    # Neither a hang nor an error: what cannot be decoded is a miss to every method.
    for data in (b"m\xc1", b"m", b"", b"m\x92\x01"):
        cache.store.insert(b"kkey", data)
        assert cache.get("key") is None
        assert cache.has("key") is False
        assert cache.add("key", 1) is True
        cache.store.insert(b"kkey", data)
        assert cache.inc("key", 5) == 5


def test_any_text_is_key(cache: MmapCache) -> None:
    keys = ["", "ü", "a b", "\0", "\ud800", "x" * 70_000, "x" * 70_001]
    cache.set_many({key: number for number, key in enumerate(keys)})
    assert cache.get_many(*keys) == list(range(len(keys)))
    for key in (5, b"bytes", None):
        with pytest.raises((TypeError, AttributeError)):
            cache.set(key, 1)  # type: ignore[arg-type]
