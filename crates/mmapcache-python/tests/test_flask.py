"""The backend for Flask-Caching, with Flask applications and their test client."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import flask
import flask_caching
import pytest
from backend_helpers import run_together
from cachelib.serializers import JSONSerializer
from flask_caching import CachedResponse
from markupsafe import Markup

from mmapcache.flask import MmapCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make(folder: Path, **config: Any) -> tuple[flask.Flask, Any]:
    app = flask.Flask(__name__)
    config = {"CACHE_TYPE": "mmapcache.flask.MmapCache", "CACHE_DIR": str(folder), **config}
    cache = flask_caching.Cache(app, config=config)
    count = itertools.count(1)

    @app.route("/text")
    @cache.cached(timeout=60)
    def text() -> str:
        return f"{next(count)}"

    @app.route("/brief")
    @cache.cached(timeout=1)
    def brief() -> str:
        return f"{next(count)}"

    @app.route("/response")
    @cache.cached(timeout=60, query_string=True)
    def response() -> flask.Response:
        made = flask.Response(f"{next(count)}", status=201, headers={"X-Own": "ü"})
        made.set_cookie("colour", "red", max_age=5)
        made.headers.add("Set-Cookie", "second=1")
        return made

    @app.route("/bare")
    @cache.cached(timeout=60)
    def bare() -> flask.Response:
        made = flask.Response(f"{next(count)}")
        del made.headers["Content-Type"]
        return made

    @app.route("/own")
    @cache.cached(timeout=60)
    def own() -> CachedResponse:
        return CachedResponse(flask.Response(f"{next(count)}"), timeout=1)

    @app.route("/tuple")
    @cache.cached(timeout=60)
    def pair() -> tuple[str, int]:
        return f"{next(count)}", 202

    @app.route("/fragment")
    def fragment() -> str:
        return flask.render_template_string(
            "{% cache 60, 'part' %}<b>{{ value }}</b>{% endcache %}", value=next(count)
        )

    @app.route("/abort/<int:status>")
    @cache.cached(timeout=60)
    def abort(status: int) -> str:
        flask.abort(status, f"{next(count)}")

    @app.route("/abort-with")
    @cache.cached(timeout=60)
    def abort_with() -> str:
        flask.abort(flask.Response(f"{next(count)}", status=418))

    @app.route("/stream")
    @cache.cached(timeout=60)
    def stream() -> flask.Response:
        return flask.Response(iter(["a"]))

    return app, cache


PAGES = ["text", "response", "bare", "own", "tuple", "fragment"]
PAGES += ["abort/404", "abort/500", "abort/401", "abort/429", "abort/503", "abort-with"]


@pytest.mark.parametrize("page", PAGES)
def test_page_is_cached(folder: Path, page: str) -> None:
    app, cache = make(folder)
    client = app.test_client()
    first, second = client.get(f"/{page}"), client.get(f"/{page}")
    assert first.data == second.data
    assert first.status == second.status
    assert sorted(first.headers) == sorted(second.headers)
    with app.app_context():
        cache.clear()
    assert client.get(f"/{page}").data != first.data


@pytest.mark.parametrize("page", ["brief", "own"])
def test_page_expires(folder: Path, page: str) -> None:
    client = make(folder)[0].test_client()
    first = client.get(f"/{page}").data
    assert client.get(f"/{page}").data == first
    time.sleep(1.1)
    assert client.get(f"/{page}").data != first


def test_query_makes_other_entry(folder: Path) -> None:
    client = make(folder)[0].test_client()
    assert client.get("/response?a=1").data != client.get("/response?a=2").data


def test_memoized_function_is_cached(folder: Path) -> None:
    app, cache = make(folder)
    calls: list[int] = []

    def plain(number: int) -> dict[str, Any]:
        calls.append(number)
        return {"square": (number * number, number)}

    square = cache.memoize(60)(plain)

    with app.app_context():
        assert square(3) == square(number=3) == {"square": (9, 3)}
        assert calls == [3]
        cache.delete_memoized(square)
        assert square(3) == {"square": (9, 3)}
    assert calls == [3, 3]


def test_options_reach_backend(folder: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "elsewhere")
    options = {"path": path, "threshold": 10, "codec": "pickle"}
    app, cache = make(folder, CACHE_OPTIONS=options, CACHE_DEFAULT_TIMEOUT=7)
    with app.app_context():
        backend = cache.cache
        assert isinstance(backend, MmapCache)
        assert backend.default_timeout == 7
        for number in range(20):
            cache.set(str(number), complex(number))
        assert 8 <= len(backend.store) <= 10
        assert str(backend.store.path) == path
        assert cache.get("19") == complex(19)
    assert not folder.exists()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CACHE_DIR"):
        make(tmp_path, CACHE_DIR=None)


def test_named_serializer_is_used(folder: Path) -> None:
    app, cache = make(folder, CACHE_SERIALIZER=JSONSerializer)
    with app.app_context():
        cache.set("key", [1, "a"])
        assert cache.get("key") == [1, "a"]
        (stored,) = cache.cache.store.values()
        assert stored.endswith(b'[1, "a"]')
        with pytest.raises(TypeError, match="JSONSerializer"):
            cache.set("key", b"bytes")
    with make(folder)[0].app_context():
        assert flask.current_app.extensions["cache"]


def test_markup_keeps_type(folder: Path) -> None:
    app, cache = make(folder)
    with app.app_context():
        cache.set("key", Markup("<b>"))
        assert type(cache.get("key")) is Markup


def test_stream_is_not_cached(folder: Path) -> None:
    # The page is served, and the error is logged: Flask-Caching's way.
    client = make(folder)[0].test_client()
    assert client.get("/stream").data == b"a"
    assert client.get("/stream").data == b"a"


def test_streams_are_refused(folder: Path) -> None:
    app, cache = make(folder)
    with app.app_context(), pytest.raises(TypeError, match="streamed"):
        cache.set("key", flask.Response(iter(["a"])))


def test_processes_share_pages(folder: Path) -> None:
    app, _ = make(folder)
    page = app.test_client().get("/text").data
    program = """
        import sys
        sys.path.insert(0, sys.argv[2])
        import test_flask as tests
        from pathlib import Path
        client = tests.make(Path(sys.argv[1]))[0].test_client()
        print(client.get("/fragment").data and client.get("/text").data.decode())
    """
    printed = run_together(program, 2, folder, Path(__file__).parent)
    assert {text.strip().encode() for text in printed} == {page}
