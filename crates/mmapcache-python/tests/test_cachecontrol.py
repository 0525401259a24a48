"""The cache for CacheControl, against a server on the loopback interface."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cachecontrol import CacheControl
from http_origin import Origin, origin

from mmapcache.cachecontrol import MmapCache


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin() as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> MmapCache:
    return MmapCache(tmp_path / "folder" / "http", max_bytes=1 << 20)


def session(cache: MmapCache) -> requests.Session:
    made = requests.Session()
    _opened.append(made)
    return CacheControl(made, cache=cache)


_opened: list[requests.Session] = []


@pytest.fixture(autouse=True)
def close_sessions() -> Iterator[None]:
    # A socket that is left to the garbage collector is a warning, in any later test.
    yield
    while _opened:
        _opened.pop().close()


def test_response_is_cached(server: Origin, cache: MmapCache) -> None:
    first = session(cache).get(f"{server.url}/count")
    second = session(cache).get(f"{server.url}/count")
    assert second.content == first.content == b"1\xff"
    assert second.headers == first.headers
    assert server.requests == ["/count"]


def test_response_is_validated(server: Origin, cache: MmapCache) -> None:
    for _ in range(3):
        assert session(cache).get(f"{server.url}/etag").content == b"tagged"
    assert server.conditional == 2


def test_too_large_response_is_served(server: Origin, cache: MmapCache) -> None:
    for _ in range(2):
        assert session(cache).get(f"{server.url}/large").content == bytes(500_000)
    assert server.requests == ["/large", "/large"]


def test_too_large_response_replaces(cache: MmapCache) -> None:
    # The old response is not that of the origin any more.
    cache.set("key", b"old")
    cache.set("key", bytes(500_000))
    assert cache.get("key") is None


def test_deadline_is_kept(cache: MmapCache) -> None:
    now = dt.datetime.now(dt.timezone.utc)
    for expires, least, most in (
        (60, 59, 60),
        (now + dt.timedelta(seconds=60), 59, 60),
        ((now + dt.timedelta(seconds=60)).replace(tzinfo=None), 59, 60),
    ):
        cache.set("key", b"value", expires)
        entry = cache.store.entry(next(iter(cache.store)))
        assert entry is not None
        assert entry.remaining is not None
        assert least < seconds(entry.expires_at) - time.time() <= most + 0.01
    for endless in (None, 0, 10**12):
        cache.set("key", b"value", endless)
        entry = cache.store.entry(next(iter(cache.store)))
        assert entry is not None
        assert entry.expires_at is None
    for past in (-5, now - dt.timedelta(seconds=5)):
        cache.set("key", b"value", past)
        assert cache.get("key") is None


def seconds(moment: float | None) -> float:
    assert moment is not None
    return moment


def test_deletion_is_silent(cache: MmapCache) -> None:
    cache.set("key", b"value")
    cache.delete("key")
    cache.delete("key")
    assert cache.get("key") is None
    cache.close()
    cache.set("key", b"value")
    assert cache.get("key") == b"value"
