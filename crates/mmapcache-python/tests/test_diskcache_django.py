"""`mmapcache.diskcache.DjangoCache`: the settings and arguments that diskcache's backend has."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import CacheHandler

from mmapcache.diskcache import FanoutCache
from mmapcache.diskcache.djangocache import DjangoCache

if not settings.configured:
    settings.configure()


def backend(path: Path, **params: Any) -> DjangoCache:
    """Open a backend as Django does."""
    setting = {"BACKEND": "mmapcache.diskcache.DjangoCache", "LOCATION": str(path), **params}
    made = CacheHandler({"default": setting})["default"]
    assert isinstance(made, DjangoCache)
    return made


def test_settings_are_applied(tmp_path: Path) -> None:
    cache = backend(
        tmp_path,
        SHARDS=2,
        DATABASE_TIMEOUT=0.5,
        TIMEOUT=100,
        KEY_PREFIX="p",
        VERSION=3,
        OPTIONS={"size_limit": 2**24, "codec": "json"},
    )
    cache.set("key", [1])
    assert cache.directory == str(tmp_path)
    with FanoutCache(tmp_path, shards=2, codec="json") as below:
        assert below.size_limit == 2**23
        value, expire_time = below.get("p:3:key", expire_time=True)
        assert value == [1]
        assert expire_time - time.time() == pytest.approx(100, abs=5)


def test_timeouts_follow_django(tmp_path: Path) -> None:
    cache = backend(tmp_path, TIMEOUT=None)
    assert cache.set("never", 1)
    assert cache.get("never", expire_time=True) == (1, None)
    for timeout in (0, -1):
        assert cache.set("dead", 1, timeout)
        assert cache.get("dead") is None
        assert cache.touch("never", timeout)
        assert not cache.has_key("never")
        cache.set("never", 1)
    assert cache.get_backend_timeout(0.5) == 0.5


def test_further_arguments_work(tmp_path: Path) -> None:
    cache = backend(tmp_path)
    cache.set("file", io.BytesIO(b"abc"), read=True, tag="t")
    assert cache.read("file").read() == b"abc"
    assert cache.get("file", tag=True) == (b"abc", "t")
    assert cache.evict("t") == 1
    assert cache.add("number", 1)
    assert not cache.add("number", 2)
    assert (cache.incr("number"), cache.decr("number", 5)) == (2, -3)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("missing")
    assert cache.incr("missing", default=5) == 6
    assert cache.pop("missing") == 6
    assert cache.delete("number")
    cache.cache("c")["key"] = 1
    cache.deque("d").append(1)
    cache.index("i")["key"] = 1
    assert cache.clear() == 0


def test_versions_are_apart(tmp_path: Path) -> None:
    cache = backend(tmp_path)
    cache.set("key", 1)
    cache.set("key", 2, version=2)
    assert (cache.get("key"), cache.get("key", version=2)) == (1, 2)
    assert cache.incr_version("key", 5) == 6
    assert cache.get("key", version=6) == 1
    assert cache.get_many(["key", "other"], version=2) == {"key": 2}
    assert cache.set_many({"a": 1, "b": 2}) == []
    assert cache.get_or_set("c", lambda: 3) == 3


# Django has an object for each thread, and closes them after each request.
def test_threads_share_the_files(tmp_path: Path) -> None:
    handler = CacheHandler(
        {"default": {"BACKEND": "mmapcache.diskcache.DjangoCache", "LOCATION": str(tmp_path)}}
    )
    below = [handler["default"]._cache]  # type: ignore[attr-defined]
    handler["default"].set("key", 1)
    handler["default"].close()

    def request() -> None:
        assert handler["default"].get("key") == 1
        below.append(handler["default"]._cache)  # type: ignore[attr-defined]
        handler["default"].close()

    thread = threading.Thread(target=request)
    thread.start()
    thread.join()
    assert len(below) == 2
    assert below[0] is below[1]


def test_memoized_calls_are_apart(tmp_path: Path) -> None:
    cache = backend(tmp_path)
    calls: list[Any] = []

    @cache.memoize(timeout=60)
    def function(*args: Any) -> int:
        calls.append(args)
        return len(calls)

    # As texts these would be one.
    assert [function("1, 2"), function("1", "2"), function(1, 2), function("1, 2")] == [1, 2, 3, 1]
    assert cache.get(function.__cache_key__(1, 2)) == 3  # type: ignore[attr-defined]
    assert cache.get(function.__cache_key__(1, 2), version=2) is None  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="callable"):
        cache.memoize(function)  # type: ignore[arg-type]


def test_objects_need_named_pickle(tmp_path: Path) -> None:
    cache = backend(tmp_path / "safe")
    with pytest.raises(TypeError, match="pickle"):
        cache.set("key", Path("a"))
    cache = backend(tmp_path / "named", OPTIONS={"codec": "pickle"})
    cache.set("key", Path("a"))
    assert cache.get("key") == Path("a")
