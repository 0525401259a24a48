"""`MmapCache` as Salt's class of that name; `tests/foreign/salt` runs Salt's own tests with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import mmapcache
from mmapcache.salt_map import MmapCache


@pytest.fixture
def cache(tmp_path: Path) -> MmapCache:
    return MmapCache(tmp_path / "sub" / "cache.idx", size=1000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text \N{SNOWMAN}", "text \N{SNOWMAN}"),
        (b"\x80\xff", b"\x80\xff"),
        (b"text", "text"),
        ("", True),
        (None, True),
        ("ends in zero\0", "ends in zero\0"),
    ],
)
def test_values_come_back(cache: MmapCache, value: Any, expected: Any) -> None:
    assert cache.put("key", value) is True
    assert cache.get("key") == expected
    assert cache.contains("key")
    assert cache.list_items() == [("key", expected)]


def test_lookups_make_no_files(cache: MmapCache, tmp_path: Path) -> None:
    assert cache.get("key", "default") == "default"
    assert cache.get_mtime("key") is None
    assert cache.delete("key") is False
    assert cache.contains("key") is False
    assert cache.list_keys() == []
    assert cache.list_items() == []
    assert cache.get_stats()["occupied"] == 0
    assert cache.open() is False
    assert list(tmp_path.iterdir()) == []


def test_long_keys_stay_apart(cache: MmapCache) -> None:
    assert cache.put("k" * 64, "one")
    assert cache.put("k" * 65, "two")
    assert cache.get("k" * 64) == "one"
    assert sorted(cache.list_keys()) == ["k" * 64, "k" * 65]


def test_failed_change_is_false(cache: MmapCache, caplog: pytest.LogCaptureFixture) -> None:
    assert cache.put("", "value") is False
    assert cache.put("k" * 70_000, "value") is False
    assert cache.atomic_rebuild([("good", "1"), ("", "2")]) is False
    assert cache.list_keys() == []
    assert len(caplog.records) == 3


def test_times_are_those_of_storing(cache: MmapCache) -> None:
    before = time.time()
    cache.put("key", "value")
    found = cache.get_mtime("key")
    assert found is not None
    assert before - 1e-3 <= found <= time.time() + 1e-3


def test_rebuild_replaces_everything(cache: MmapCache) -> None:
    cache.put("old", "value")
    assert cache.atomic_rebuild(iter([("a", "1"), ("b",), ["c", b"\xff"], "d", ("e", True)]))
    assert dict(cache.list_items()) == {"a": "1", "b": True, "c": b"\xff", "d": True, "e": True}
    assert cache.atomic_rebuild(cache.list_items())
    assert cache.get_stats()["occupied"] == 5


def test_closed_files_open_again(cache: MmapCache) -> None:
    cache.put("key", "value")
    cache.close()
    cache.close()
    assert cache.get("key") == "value"
    assert cache.delete("key") is True
    assert cache.delete("key") is False


def test_files_are_those_of_the_engine(cache: MmapCache) -> None:
    cache.put("key", "value")
    assert mmapcache.MmapCache(cache.path, read_only=True)[b"key"] == b"value"


def test_heap_can_be_elsewhere(tmp_path: Path) -> None:
    cache = MmapCache(tmp_path / "index", heap_path=tmp_path / "elsewhere", max_segment_bytes=30)
    assert cache.put("key", "value" * 100)
    assert (tmp_path / "elsewhere").exists()
    assert cache.get("key") == "value" * 100


def test_too_small_slot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room for a key of 64"):
        MmapCache(tmp_path / "index", slot_size=84, key_size=64)
