"""The backend for dogpile.cache: regions, stampedes over processes, a creator that is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from backend_helpers import python_at_work, run_together
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE

from mmapcache.dogpile import MmapCacheBackend


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "regions"


def region(location: Path, expiration: float | None = None, **arguments: Any) -> CacheRegion:
    return make_region().configure(
        "mmapcache", expiration_time=expiration, arguments={"path": location, **arguments}
    )


VALUES = [None, 0, "text", b"bytes", (1, {2}), {"a": [None]}, NO_VALUE]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_keeps_type(location: Path, value: Any) -> None:
    region(location).set("key", value)
    found = region(location).get("key")
    assert found == value
    assert type(found) is type(value)


def test_absent_key_is_no_value(location: Path) -> None:
    cache = region(location)
    cache.delete("key")
    assert cache.get("key") is NO_VALUE
    cache.set_multi({"a": 1, "c": None})
    assert cache.get_multi(["a", "b", "c", "a"]) == [1, NO_VALUE, None, 1]
    cache.delete_multi(["a", "b"])
    assert cache.get_multi(["a", "c"]) == [NO_VALUE, None]


def test_value_is_created_once(location: Path) -> None:
    cache = region(location)
    calls: list[int] = []
    for _ in range(2):
        assert cache.get_or_create("key", lambda: calls.append(1)) is None
    assert calls == [1]


def test_unsupported_value_is_named(location: Path) -> None:
    cache = region(location)
    with pytest.raises(TypeError, match="codec pickle"):
        cache.set("key", object())
    assert cache.get("key") is NO_VALUE


def test_other_codec_creates_again(location: Path) -> None:
    pickling = region(location, codec="pickle")
    pickling.set("key", {"a": complex(1)})
    assert pickling.get("key") == {"a": complex(1)}
    safe = region(location)
    assert safe.get("key") is NO_VALUE
    assert safe.get_or_create("key", lambda: "safe") == "safe"
    assert pickling.get("key") is NO_VALUE
    with pytest.raises(ValueError, match="unknown codec"):
        region(location, codec="marshal")


def test_region_serializer_takes_precedence(location: Path) -> None:
    cache = make_region(serializer=lambda value: b"!" + value.encode(), deserializer=bytes.decode)
    cache.configure("mmapcache", arguments={"path": location})
    cache.set("key", "text")
    assert cache.get("key") == "!text"


def test_entry_outlives_expiration(location: Path) -> None:
    # The region's time is checked when it reads; the stale value is there for those that wait.
    cache = region(location, 0.1)
    cache.set("key", 1)
    time.sleep(0.15)
    assert cache.get("key") is NO_VALUE
    assert cache.get("key", ignore_expiration=True) == 1


def test_ttl_drops_entry(location: Path) -> None:
    cache = region(location, ttl=0.9)
    cache.set("key", 1)
    cache.set_multi({"other": 2})
    assert cache.get_multi(["key", "other"]) == [1, 2]
    time.sleep(0.95)
    assert cache.get_multi(["key", "other"], ignore_expiration=True) == [NO_VALUE, NO_VALUE]


def test_configuration_file_has_text(location: Path) -> None:
    cache = make_region().configure_from_config(
        {
            "cache.backend": "mmapcache",
            "cache.arguments.path": str(location),
            "cache.arguments.max_bytes": "4_000_000",
            "cache.arguments.max_entries": "20",
            "cache.arguments.ttl": "1.5",
            "cache.arguments.process_mutex": "off",
        },
        "cache.",
    )
    for number in range(30):
        cache.set(str(number), number)
    assert 18 <= len(cache.backend.store) <= 20
    assert cache.backend.store.settings()["max_bytes"] == 4_000_000
    assert cache.backend.get_mutex("key") is None


@pytest.mark.parametrize(
    "arguments",
    [{"max_bytes": "many"}, {"process_mutex": "maybe"}, {"ttl": 0}, {"ttl": "soon"}, {"path": ""}],
    ids=repr,
)
def test_wrong_argument_is_named(location: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))) as caught:
        region(location, **arguments)
    assert caught.type is ValueError


def test_unknown_argument_warns(location: Path) -> None:
    with pytest.warns(UserWarning, match="max_byte"):
        region(location, max_byte=5)


def test_regions_share_handle(location: Path) -> None:
    first, second = region(location).backend, region(location, ttl=5).backend
    assert isinstance(first, MmapCacheBackend)
    assert first.store is second.store


CREATE = """
    import sys, time
    import mmapcache.dogpile
    from dogpile.cache import make_region
    region = make_region().configure("mmapcache", arguments={"path": sys.argv[1]})
    def create():
        with open(sys.argv[2], "a") as file:
            file.write("created ")
        time.sleep(0.5)
        return "value"
    print(region.get_or_create("key", create))
"""


def test_processes_create_once(location: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    printed = run_together(CREATE, 4, location, log)
    assert printed == ["value\n"] * 4
    assert log.read_text() == "created "


HANG = """
    import sys, time
    import mmapcache.dogpile
    from dogpile.cache import make_region
    region = make_region().configure("mmapcache", arguments={"path": sys.argv[1]})
    def create():
        print("creating", flush=True)
        time.sleep(600)
    region.get_or_create("key", create)
"""


def test_killed_creator_frees_waiters(location: Path) -> None:
    with python_at_work(HANG, location) as creator:
        cache = region(location)
        assert cache.key_is_locked("key")
        threading.Timer(0.3, creator.kill).start()
        began = time.monotonic()
        assert cache.get_or_create("key", lambda: "mine") == "mine"
        assert 0.2 < time.monotonic() - began < 30


def test_waiters_take_stale_value(location: Path) -> None:
    # While another process computes the next value, the expired one is served at once.
    region(location).set("key", "old")
    time.sleep(0.3)
    program = HANG.replace('arguments={"path"', 'expiration_time=0.2, arguments={"path"')
    with python_at_work(program, location):
        began = time.monotonic()
        assert region(location, 0.2).get_or_create("key", lambda: "mine") == "old"
        assert time.monotonic() - began < 20, "it waited for the creator"


def test_decorated_function_is_cached(location: Path) -> None:
    calls: list[tuple[int, int]] = []

    def plain(left: int, right: int) -> int:
        calls.append((left, right))
        return left + right

    add: Any = region(location).cache_on_arguments()(plain)

    assert [add(1, 2), add(1, 2), add(2, 1)] == [3, 3, 3]
    assert calls == [(1, 2), (2, 1)]
    add.invalidate(1, 2)
    assert add(1, 2) == 3
    assert len(calls) == 3


def test_long_key_is_stored(location: Path) -> None:
    cache = region(location)
    cache.set_multi({"x" * 100_000: 1, "x" * 100_001: 2, "": 3})
    assert cache.get_multi(["x" * 100_000, "x" * 100_001, ""]) == [1, 2, 3]
