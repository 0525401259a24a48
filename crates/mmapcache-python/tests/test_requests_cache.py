"""The backend for requests-cache, against a server on the loopback interface."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_helpers import python_at_work, run_together
from http_origin import Origin, origin
from requests_cache import CachedSession
from requests_cache.models.response import CachedResponse

from mmapcache.requests_cache import MmapCache


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin() as served:
        yield served


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "http"


def session(location: Path, **settings: Any) -> Any:
    options = settings.pop("options", {})
    made = CachedSession(backend=MmapCache(location, **options), **settings)
    _opened.append(made)
    return made


_opened: list[CachedSession] = []


@pytest.fixture(autouse=True)
def close_sessions() -> Iterator[None]:
    # A socket that is left to the garbage collector is a warning, in any later test.
    yield
    while _opened:
        _opened.pop().close()


def test_response_is_cached(server: Origin, location: Path) -> None:
    first = session(location).get(f"{server.url}/count")
    # Another session on the same files.
    second = session(location).get(f"{server.url}/count")
    assert not first.from_cache
    assert second.from_cache
    assert isinstance(second, CachedResponse)
    assert second.content == first.content == b"1\xff"
    assert second.headers == first.headers
    assert second.cookies.get_dict() == {"a": "1"}
    assert (second.status_code, second.reason, second.url) == (200, "OK", first.url)
    assert second.request.method == "GET"
    assert server.requests == ["/count"]


def test_redirect_is_cached(server: Origin, location: Path) -> None:
    first = session(location).get(f"{server.url}/redirect")
    second = session(location).get(f"{server.url}/redirect")
    assert second.from_cache
    assert second.content == first.content
    assert [response.status_code for response in second.history] == [302]
    cache = session(location).cache
    assert len(cache.redirects) == 1
    assert set(cache.redirects.values()) < set(cache.responses)
    assert len(cache.responses) == 2


def test_response_expires(server: Origin, location: Path) -> None:
    own = session(location, expire_after=2)
    assert not own.get(f"{server.url}/count").from_cache
    assert own.get(f"{server.url}/count").from_cache
    time.sleep(2.05)
    assert not own.get(f"{server.url}/count").from_cache


def test_expired_response_is_kept(server: Origin, location: Path) -> None:
    # For an origin that fails, and to be validated again.
    own = session(location, expire_after=0.1, stale_if_error=True)
    first = own.get(f"{server.url}/count")
    time.sleep(0.15)
    server.fails = True
    assert own.get(f"{server.url}/count").content == first.content
    tagged = session(location, cache_control=True)
    tagged.get(f"{server.url}/etag")
    server.fails = False
    tagged.get(f"{server.url}/etag")
    assert tagged.get(f"{server.url}/etag").content == b"tagged"
    assert server.conditional >= 1


def test_expired_response_can_go(server: Origin, location: Path) -> None:
    own = session(location, expire_after=60, options={"keep_expired": 30})
    own.get(f"{server.url}/count")
    # Of what is stored: the response of the request computes the moment again.
    expires = own.get(f"{server.url}/count").expires
    (key,) = own.cache.store
    entry = own.cache.store.entry(key)
    assert abs(entry.expires_at - expires.timestamp() - 30) < 1
    # Without it the entry stays until it is evicted.
    session(location, expire_after=60).cache.responses["other"] = own.get(f"{server.url}/count")
    deadlines = [own.cache.store.entry(key).expires_at for key in own.cache.store]
    assert sorted(deadline is None for deadline in deadlines) == [False, True]


def test_delete_by_condition(server: Origin, location: Path) -> None:
    own = session(location)
    urls = [f"{server.url}/count?page={page}" for page in range(5)]
    for url in urls:
        own.get(url)
    own.cache.delete(urls=urls[:2])
    assert sorted(own.cache.urls()) == urls[2:]
    own.cache.reset_expiration(-5)
    own.cache.delete(expired=True)
    assert own.cache.urls() == []
    assert not own.cache.contains(url=urls[4])


def test_clear_empties_both(server: Origin, location: Path) -> None:
    own = session(location)
    own.get(f"{server.url}/redirect")
    own.cache.redirects.clear()
    assert (len(own.cache.responses), len(own.cache.redirects)) == (2, 0)
    own.get(f"{server.url}/redirect")
    own.cache.clear()
    assert (len(own.cache.responses), len(own.cache.redirects)) == (0, 0)
    assert not own.get(f"{server.url}/redirect").from_cache
    assert own.get(f"{server.url}/redirect").from_cache


def test_mapping_of_texts(location: Path) -> None:
    redirects = MmapCache(location).redirects
    keys = ["", "ü", "\ud800", "x" * 100_000, "x" * 100_001]
    for key in keys:
        assert key not in redirects
        redirects[key] = key[:3] + "!"
    assert sorted(redirects) == sorted(keys)
    assert {key: redirects[key] for key in keys} == {key: key[:3] + "!" for key in keys}
    redirects.bulk_delete([keys[0], "absent", keys[3]])
    assert sorted(redirects) == sorted([keys[1], keys[2], keys[4]])
    for call in (redirects.__getitem__, redirects.__delitem__):
        with pytest.raises(KeyError):
            call("absent")
    assert not redirects.__contains__(5)
    assert len(MmapCache(location).responses) == 0


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was unpickled",))


def test_damaged_response_is_fetched(server: Origin, location: Path) -> None:
    own = session(location)
    own.get(f"{server.url}/count")
    (key,) = own.cache.store
    whole = own.cache.store[key]
    for data in (b"", b"\xc1", whole[:-1], pickle.dumps(Bomb()), b"\x81\x01\x01", b"\x05"):
        own.cache.store.insert(key, data)
        assert not own.get(f"{server.url}/count").from_cache, data
        assert own.get(f"{server.url}/count").from_cache


@pytest.mark.parametrize("name", ["json", "pickle"])
def test_named_serializer_is_used(server: Origin, location: Path, name: str) -> None:
    own = session(location, options={"serializer": name})
    first = own.get(f"{server.url}/count")
    second = own.get(f"{server.url}/count")
    assert second.from_cache
    assert second.content == first.content
    (key,) = own.cache.store
    assert own.cache.store[key].startswith(b"{" if name == "json" else b"\x80")


def test_too_large_response_is_served(server: Origin, location: Path) -> None:
    own = session(location, options={"max_bytes": 1 << 20})
    for _ in range(2):
        response = own.get(f"{server.url}/large")
        assert not response.from_cache
        assert response.content == bytes(500_000)


FETCH = """
    import sys
    from requests_cache import CachedSession
    from mmapcache.requests_cache import MmapCache
    session = CachedSession(backend=MmapCache(sys.argv[1]))
    for page in range(20):
        session.get(sys.argv[2] + f"/count?page={page}")
    print(sum(session.get(sys.argv[2] + f"/count?page={page}").from_cache for page in range(20)))
"""


def test_processes_share_responses(server: Origin, location: Path) -> None:
    assert run_together(FETCH, 3, location, server.url) == ["20\n"] * 3
    before = len(server.requests)
    assert run_together(FETCH, 1, location, server.url) == ["20\n"]
    assert len(server.requests) == before


SAVE = """
    import sys
    from mmapcache.requests_cache import MmapCache
    redirects = MmapCache(sys.argv[1]).redirects
    number = 0
    while True:
        number += 1
        redirects[str(number % 50)] = str(number) * 500
        redirects["number"] = str(number)
        if number == 200:
            print("at work", flush=True)
"""


def test_killed_writer_loses_nothing(server: Origin, location: Path) -> None:
    redirects = MmapCache(location).redirects
    with python_at_work(SAVE, location) as writer:
        seen = int(redirects["number"])
        writer.kill()
        writer.wait()
    assert int(redirects["number"]) >= seen >= 200
    assert all(set(value) <= set("0123456789") for value in redirects.values())
    assert not session(location).get(f"{server.url}/count").from_cache
    assert session(location).get(f"{server.url}/count").from_cache
