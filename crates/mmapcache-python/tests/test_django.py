"""The Django backend, with Django's own handlers, middleware, sessions and templates."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from backend_helpers import python_at_work, run_forked, run_together
from django.apps import apps
from django.conf import settings

if not settings.configured:
    settings.configure()
if not apps.ready:
    django.setup()

from django.core.cache import CacheKeyWarning, caches
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import path as route
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import cache_page
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.vary import vary_on_headers

from mmapcache import ClosedError, ValueTooLargeError
from mmapcache.django import MmapCache

MakeCache = Callable[..., MmapCache]


# Another file of tests may have configured Django.
SETTINGS = {
    "ALLOWED_HOSTS": ["*"],
    "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"],
    "ROOT_URLCONF": __name__,
    "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    "USE_TZ": True,
}


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    with override_settings(**SETTINGS):
        yield


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache"


@pytest.fixture
def make_cache(location: Path) -> MakeCache:
    def make(**params: Any) -> MmapCache:
        return MmapCache(str(location), params)

    return make


@pytest.fixture
def cache(make_cache: MakeCache) -> MmapCache:
    return make_cache()


@pytest.fixture
def site(location: Path) -> Iterator[Client]:
    backend = {"BACKEND": "mmapcache.django.MmapCache", "LOCATION": str(location)}
    with override_settings(CACHES={"default": backend}):
        yield Client()


VALUES = [
    None,
    0,
    2**80,
    "text",
    b"bytes",
    (1, [2, {"three": {4}}]),
    dt.datetime(2026, 12, 1, tzinfo=dt.timezone.utc),
    decimal.Decimal("1.10"),
    mark_safe("<b>"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_keeps_type(cache: MmapCache, value: Any) -> None:
    cache.set("key", value)
    found = cache.get("key", "default")
    assert found == value
    assert type(found) is type(value)
    assert cache.has_key("key")
    assert "key" in cache


def test_absent_key_gives_default(cache: MmapCache) -> None:
    assert cache.get("key") is None
    assert cache.get("key", 5) == 5
    assert not cache.has_key("key")
    assert cache.delete("key") is False
    assert cache.touch("key") is False
    with pytest.raises(ValueError, match="not found"):
        cache.incr("key")


def test_returned_value_is_copy(cache: MmapCache) -> None:
    value = [1]
    cache.set("key", value)
    value.append(2)
    cache.get("key").append(3)
    assert cache.get("key") == [1]


@pytest.mark.parametrize("timeout", [0, -1, -0.5, -1e30])
def test_past_timeout_deletes(cache: MmapCache, timeout: float) -> None:
    cache.set("key", 1)
    cache.set("key", 2, timeout)
    assert cache.get("key") is None
    # `add` says whether the key was free, and stores nothing.
    assert cache.add("key", 3, timeout) is True
    assert cache.get("key") is None
    cache.set("key", 4)
    assert cache.add("key", 5, timeout) is False
    assert cache.touch("key", timeout) is True
    assert cache.get("key") is None
    assert cache.touch("key", timeout) is False
    cache.set("key", 6)
    cache.set_many({"key": 7, "other": 8}, timeout)
    assert cache.get_many(["key", "other"]) == {}


def test_fraction_of_second_counts(cache: MmapCache) -> None:
    # Redis and Memcached take it for 0.
    cache.set("key", 1, 0.9)
    assert cache.add("lock", 1, 0.9)
    assert not cache.add("lock", 1, 0.9)
    cache.set("touched", 1)
    assert cache.touch("touched", 0.9)
    assert cache.get_many(["key", "lock", "touched"]) == {"key": 1, "lock": 1, "touched": 1}
    time.sleep(0.95)
    assert cache.get_many(["key", "lock", "touched"]) == {}
    assert cache.add("lock", 1, 0.9)


@pytest.mark.parametrize("timeout", [None, 10**12, 1e300, 10**400])
def test_long_timeout_never_ends(cache: MmapCache, timeout: Any) -> None:
    cache.set("set", 1, timeout)
    cache.add("added", 1, timeout)
    cache.set("touched", 1, 60)
    assert cache.touch("touched", timeout)
    assert [entry.expires_at for _, entry in stored(cache)] == [None] * 3


def stored(cache: MmapCache) -> list[tuple[bytes, Any]]:
    return [(key, cache.store.entry(key)) for key in cache.store]


def test_timeout_without_end_is_refused(cache: MmapCache) -> None:
    cache.set("key", 1)
    with pytest.raises(ValueError, match="NaN"):
        cache.set("key", 2, float("nan"))
    with pytest.raises(TypeError):
        cache.set("key", 2, "60")
    assert cache.get("key") == 1


@pytest.mark.parametrize(
    ("timeout", "least", "most"), [(100, 99, 101), (None, None, None), ("7", 6, 8)]
)
def test_default_timeout_applies(
    make_cache: MakeCache, timeout: Any, least: float | None, most: float | None
) -> None:
    cache = make_cache(TIMEOUT=timeout)
    cache.set("key", 1)
    ((_, entry),) = stored(cache)
    if least is None or most is None:
        assert entry.expires_at is None
    else:
        assert least < entry.expires_at - time.time() < most


def test_default_timeout_of_zero_stores_nothing(make_cache: MakeCache) -> None:
    cache = make_cache(TIMEOUT=0)
    cache.set("key", 1)
    assert cache.get("key") is None
    cache.set("key", 1, 60)
    assert cache.get("key") == 1


def test_expired_entry_is_absent(cache: MmapCache) -> None:
    # No method brings an expired value back; the database backend's `touch` does.
    for name in ("touched", "added", "counted", "deleted"):
        cache.set(name, 1, 0.05)
    time.sleep(0.1)
    assert cache.touch("touched", 60) is False
    assert cache.get("touched") is None
    assert cache.add("added", 2) is True
    assert cache.get("added") == 2
    with pytest.raises(ValueError, match="not found"):
        cache.incr("counted")
    assert cache.delete("deleted") is False
    assert "counted" not in cache


def test_touch_moves_deadline(cache: MmapCache) -> None:
    cache.set("key", "x" * 10_000, 1)
    assert cache.touch("key", 60)
    time.sleep(1.05)
    assert cache.get("key") == "x" * 10_000
    assert cache.touch("key")  # The default timeout.
    ((_, entry),) = stored(cache)
    assert 299 < entry.expires_at - time.time() <= 300


def test_increment_keeps_deadline(cache: MmapCache) -> None:
    # The file and database backends give the entry the default timeout.
    cache.set("key", 1, 100)
    ((_, before),) = stored(cache)
    for _ in range(200):
        cache.incr("key")
    assert cache.decr("key", 50) == 151
    ((_, after),) = stored(cache)
    assert abs(after.expires_at - before.expires_at) < 0.001
    cache.set("key", 1, None)
    cache.incr("key")
    ((_, never),) = stored(cache)
    assert never.expires_at is None


def test_increment_takes_numbers_only(cache: MmapCache) -> None:
    cache.set("text", "1")
    with pytest.raises(TypeError):
        cache.incr("text")
    assert cache.get("text") == "1"
    cache.set("big", 2**64)
    assert cache.incr("big", 2**70) == 2**64 + 2**70
    cache.set("fraction", 0.5)
    assert cache.incr("fraction") == 1.5


INCREMENT = """
    import sys
    from django.conf import settings
    settings.configure()
    from mmapcache.django import MmapCache
    from backend_helpers import wait_for_all
    cache = MmapCache(sys.argv[1], {})
    wait_for_all()
    for _ in range(int(sys.argv[2])):
        cache.incr("count")
    print(cache.get("count"))
"""


def test_processes_count_together(cache: MmapCache, location: Path) -> None:
    cache.set("count", 0, None)
    run_together(INCREMENT, 3, location, 400)
    assert cache.get("count") == 1200


def test_threads_count_together(cache: MmapCache, make_cache: MakeCache) -> None:
    cache.set("count", 0)

    def work() -> None:
        own = make_cache()
        for _ in range(200):
            own.incr("count")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("count") == 800


def test_get_or_set_computes_once(cache: MmapCache) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert cache.get_or_set("key", lambda: calls.append(1)) is None
    assert calls == [1]
    assert cache.get_or_set("other", 5) == 5
    assert cache.get_or_set("key", 6) is None, "None is a value"


def test_overtaken_default_gives_way(cache: MmapCache) -> None:
    assert cache.get_or_set("key", lambda: cache.set("key", "theirs")) == "theirs"


def test_versions_are_separate(make_cache: MakeCache) -> None:
    cache = make_cache(VERSION=2, KEY_PREFIX="a")
    cache.set("key", 2)
    cache.set("key", 3, version=3)
    assert (cache.get("key"), cache.get("key", version=3), cache.get("key", version=1)) == (
        2,
        3,
        None,
    )
    assert cache.incr_version("key", 2) == 4
    assert cache.get("key") is None
    assert cache.get("key", version=4) == 2
    cache.set("none", None)
    assert cache.incr_version("none") == 3
    assert cache.get("none", 1, version=3) is None
    with pytest.raises(ValueError, match="not found"):
        cache.decr_version("absent")
    other = make_cache(VERSION=2, KEY_PREFIX="b")
    assert other.get("key", version=4) is None
    other.clear()
    assert cache.get("key", version=4) is None, "clear empties the store, as in all backends"


def test_many_keys_at_once(cache: MmapCache) -> None:
    assert cache.set_many({"a": 1, 5: 2, "none": None}) == []
    assert cache.get_many(["a", "5", "none", "absent"]) == {"a": 1, "5": 2, "none": None}
    assert cache.get_many(iter(["a"])) == {"a": 1}
    assert cache.get_many([]) == {}
    cache.delete_many(iter(["a", "absent"]))
    assert cache.get_many(["a", 5]) == {5: 2}
    assert cache.set_many({}) == []


def test_unsupported_value_stores_nothing(cache: MmapCache) -> None:
    cache.set("a", 1)
    for change in (
        lambda: cache.set("a", object()),
        lambda: cache.add("new", object()),
        lambda: cache.add("new", object(), 0),
        lambda: cache.set_many({"a": 2, "b": object()}),
    ):
        with pytest.raises(TypeError, match="codec pickle"):
            change()
    assert cache.get_many(["a", "b", "new"]) == {"a": 1}


def test_too_large_value_is_reported(make_cache: MakeCache) -> None:
    cache = make_cache(OPTIONS={"max_bytes": 1 << 20})
    large = bytes(500_000)
    with pytest.raises(ValueTooLargeError):
        cache.set("large", large)
    assert cache.set_many({"a": 1, "large": large, "b": 2}) == ["large"]
    assert cache.get_many(["a", "large", "b"]) == {"a": 1, "b": 2}


@pytest.mark.parametrize("key", ["", "ü", "a/b", 5, None, ("t", 1)])
def test_any_key_is_stored(cache: MmapCache, key: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        cache.set(key, 1)
        assert cache.get(key) == 1


@pytest.mark.parametrize("key", ["x" * 300, "a b", "\x7f", "x" * 100_000])
def test_foreign_key_warns(cache: MmapCache, key: str) -> None:
    for call in (
        functools.partial(cache.set, key, 1),
        functools.partial(cache.get, key),
        functools.partial(cache.has_key, key),
        functools.partial(cache.touch, key),
        functools.partial(cache.incr, key),
        functools.partial(cache.get_many, [key]),
        functools.partial(cache.set_many, {key: 2}),
        functools.partial(cache.delete, key),
        functools.partial(cache.add, key, 3),
        functools.partial(cache.delete_many, [key]),
    ):
        with pytest.warns(CacheKeyWarning):
            call()
    with pytest.warns(CacheKeyWarning):
        assert cache.get(key) is None


def test_long_keys_are_distinct(cache: MmapCache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        cache.set_many({"x" * 70_000: 1, "x" * 70_001: 2})
        assert (cache.get("x" * 70_000), cache.get("x" * 70_001)) == (1, 2)


def test_entries_are_bounded(make_cache: MakeCache) -> None:
    cache = make_cache(OPTIONS={"MAX_ENTRIES": 100, "CULL_FREQUENCY": 3})
    for number in range(1_000):
        cache.set(number, number)
    assert 95 <= len(cache.store) <= 100
    assert cache.get(999) == 999


def test_disk_is_bounded(make_cache: MakeCache) -> None:
    assert make_cache().store.settings()["max_bytes"] == 1 << 30
    named = make_cache(OPTIONS={"max_bytes": 4 << 20})
    assert named.store.settings()["max_bytes"] == 4 << 20
    for number in range(200):
        named.set(number, bytes(100_000))
    assert named.store.disk_usage()["total"] <= 9 << 20
    assert make_cache(OPTIONS={"max_bytes": None}).store.settings()["max_bytes"] is None


def test_eviction_ignores_text_of_key(make_cache: MakeCache) -> None:
    # The database backend evicts the keys that come first in the alphabet.
    cache = make_cache(OPTIONS={"MAX_ENTRIES": 200})
    for number in range(300):
        cache.set(f"a{number}", 1)
        cache.set(f"z{number}", 1)
    left = [key.split(b":")[-1][:1] for key in cache.store]
    assert 60 <= left.count(b"a") <= 140
    assert 190 <= left.count(b"a") + left.count(b"z") <= 200


def test_codec_is_named_in_options(make_cache: MakeCache) -> None:
    pickling = make_cache(OPTIONS={"codec": "pickle"})
    value = {"of": Plain(1)}
    pickling.set("key", value)
    assert pickling.get("key")["of"].number == 1
    # The same files through the default codec: nothing is unpickled, the entry is a miss.
    safe = make_cache()
    assert safe.get("key") is None
    assert "key" not in safe
    assert safe.get_many(["key"]) == {}
    assert safe.add("key", "safe") is True
    assert safe.add("key", "again") is False
    assert safe.get("key") == "safe"
    assert pickling.get("key") is None
    for wrong in ("marshal", "msgpack "):
        with pytest.raises(ValueError, match="unknown codec"):
            make_cache(OPTIONS={"codec": wrong})


class Plain:
    def __init__(self, number: int) -> None:
        self.number = number


def test_handle_is_shared(make_cache: MakeCache, location: Path) -> None:
    first, second = make_cache(), make_cache(KEY_PREFIX="other", TIMEOUT=5)
    assert first.store is second.store
    in_thread: list[Any] = []
    thread = threading.Thread(target=lambda: in_thread.append(make_cache().store))
    thread.start()
    thread.join()
    assert in_thread == [first.store]
    # The end of a request closes nothing.
    first.set("key", 1)
    first.close(signal=None)
    assert second.store is first.store
    # Other options, another handle on the same files.
    other = make_cache(OPTIONS={"lock_timeout": 5})
    assert other.store is not first.store
    assert other.get("key") == 1


def test_forked_child_uses_cache(cache: MmapCache) -> None:
    cache.set("key", 1)

    def child() -> None:
        assert cache.get("key") == 1
        cache.set("child", 2)

    run_forked(child)
    assert cache.get("child") == 2


def test_removed_files_are_made_again(cache: MmapCache, location: Path) -> None:
    cache.set("key", 1)
    for file in location.parent.iterdir():
        file.unlink()
    cache.close()
    assert cache.get("key") is None
    cache.set("key", 2)
    assert location.exists()
    assert cache.get("key") == 2


def test_closed_handle_is_opened_again(cache: MmapCache, make_cache: MakeCache) -> None:
    cache.set("key", 1)
    cache.store.close()
    assert make_cache().get("key") == 1
    with pytest.raises(ClosedError):
        cache.get("key")
    cache.close()
    assert cache.get("key") == 1


WRITE = """
    import sys
    from django.conf import settings
    settings.configure()
    from mmapcache.django import MmapCache
    cache = MmapCache(sys.argv[1], {})
    number = 0
    while True:
        number += 1
        cache.set("number", number, None)
        cache.set(number % 100, "x" * (number % 5_000))
        if number == 200:
            print("at work", flush=True)
"""


def test_killed_writer_loses_nothing(cache: MmapCache, location: Path) -> None:
    with python_at_work(WRITE, location) as writer:
        seen = [cache.get("number") for _ in range(200)]
        assert seen == sorted(seen)
        assert seen[0] >= 200
        writer.kill()
        writer.wait()
    assert cache.get("number") >= seen[-1]
    began = time.monotonic()
    cache.set("number", 0)
    assert time.monotonic() - began < 5
    assert cache.get("number") == 0


def test_missing_location_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="LOCATION"):
        MmapCache("", {})
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        MmapCache(str(tmp_path), {}).get("key")


def test_async_twins_agree(cache: MmapCache) -> None:
    async def work() -> None:
        await cache.aset("key", 1)
        assert await cache.aget("key") == 1
        assert await cache.aget_many(["key", "absent"]) == {"key": 1}
        assert await cache.ahas_key("key")
        assert await cache.aget_or_set("other", lambda: 5) == 5
        await asyncio.gather(*(cache.aincr("key") for _ in range(50)))
        assert await cache.adecr("key") == 50
        await cache.adelete("key")
        assert await cache.aget("key", 7) == 7
        await cache.aclear()

    asyncio.run(work())
    assert len(cache.store) == 0


# Views, for the tests with Django's client.


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.session["list"] = [1, {"a": "b"}]
    return HttpResponse(str(request.session["visits"]))


def now(_request: HttpRequest) -> HttpResponse:
    response = HttpResponse(f"{time.time_ns()}", headers={"X-Own": "ü"}, status=200)
    response.set_cookie("colour", "red; blue", max_age=60, httponly=True, samesite="Lax")
    return response


def template(request: HttpRequest) -> HttpResponse:
    source = engines["django"].from_string("{{ moment }}<b>")
    return TemplateResponse(request, source, {"moment": time.time_ns()})


urlpatterns = [
    route("visits", visits),
    route("now", cache_page(60)(vary_on_headers("X-Language")(now))),
    route("brief", cache_page(1)(now)),
    route("json", cache_page(60)(lambda _: JsonResponse({"now": time.time_ns()}))),
    route("template", cache_page(60)(template)),
    route("frame", cache_page(60)(xframe_options_exempt(now))),
]


def test_session_is_kept(site: Client) -> None:
    assert [site.get("/visits").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert site.session["list"] == [1, {"a": "b"}]
    assert Client().get("/visits").content == b"1"


@pytest.mark.parametrize("page", ["now", "json", "template"])
def test_page_is_cached(site: Client, page: str) -> None:
    first, second = site.get(f"/{page}"), site.get(f"/{page}")
    assert first.content == second.content
    # Django's middleware adds the age of what it finds.
    assert dict(first.items()) == {k: v for k, v in second.items() if k != "Age"}
    assert type(first) is type(second)
    assert first.cookies == second.cookies
    caches["default"].clear()
    assert site.get(f"/{page}").content != first.content


def test_page_varies_by_header(site: Client) -> None:
    german = site.get("/now", headers={"X-Language": "de"})
    assert site.get("/now", headers={"X-Language": "en"}).content != german.content
    assert site.get("/now", headers={"X-Language": "de"}).content == german.content


def test_page_expires(site: Client) -> None:
    first = site.get("/brief").content
    assert site.get("/brief").content == first
    time.sleep(1.05)
    assert site.get("/brief").content != first


def test_cached_cookie_is_whole(site: Client) -> None:
    site.get("/now")
    cookie = Client().get("/now").cookies["colour"]
    assert cookie.value == "red; blue"
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (60, True, "Lax")


def test_mark_on_response_survives(cache: MmapCache) -> None:
    # Decorators mark responses for middleware that sees them later, from the cache too.
    cache.set("key", xframe_options_exempt(now)(HttpRequest()))
    found = cache.get("key")
    assert found.xframe_options_exempt is True
    assert found["X-Own"] == "ü"
    assert not found.closed
    found.write(b"more")
    assert found.content.endswith(b"more")


def test_other_statuses_survive(cache: MmapCache) -> None:
    response = HttpResponse(b"\xff", status=418, reason="Teapot", content_type="image/x; charset=a")
    cache.set("key", response)
    found = cache.get("key")
    assert (found.status_code, found.reason_phrase, found.charset) == (418, "Teapot", "a")
    assert found.content == b"\xff"
    cache.set("key", HttpResponseNotModified())
    found = cache.get("key")
    assert type(found) is HttpResponseNotModified
    assert (found.status_code, "Content-Type" in found) == (304, False)


def test_unrendered_response_is_refused(cache: MmapCache) -> None:
    with pytest.raises(Exception, match="must be rendered"):
        cache.set("key", template(HttpRequest()))
    assert "key" not in cache


def test_own_response_class_needs_pickle(cache: MmapCache) -> None:
    class Own(HttpResponse):  # type: ignore[misc]
        pass

    with pytest.raises(TypeError, match="Own"):
        cache.set("key", Own())


def test_template_fragment_is_cached(site: Client) -> None:
    source = "{% load cache %}{% cache 60 part name %}<i>{{ moment }}</i>{% endcache %}"
    page = engines["django"].from_string(source)
    first = page.render({"name": "a", "moment": 1})
    assert page.render({"name": "a", "moment": 2}) == first == "<i>1</i>"
    assert page.render({"name": "b", "moment": 3}) == "<i>3</i>"
    (fragment, _) = (caches["default"].get(key.decode().split(":", 2)[2]) for key in stored_keys())
    assert type(fragment) is SafeString


def stored_keys() -> list[bytes]:
    return list(caches["default"].store)


def test_two_processes_share_pages(site: Client, location: Path) -> None:
    page = site.get("/now").content
    program = """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import test_django as tests
        backend = {"BACKEND": "mmapcache.django.MmapCache", "LOCATION": sys.argv[1]}
        with tests.override_settings(CACHES={"default": backend}, **tests.SETTINGS):
            print(tests.Client().get("/now").content.decode())
    """
    printed = run_together(program, 2, location, Path(__file__).parent)
    assert {text.strip().encode() for text in printed} == {page}
