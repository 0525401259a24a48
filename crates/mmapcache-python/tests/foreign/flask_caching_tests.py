"""Appended to the conftest of Flask-Caching's tests: their application, with our backend."""

import os

import flask
import pytest

from mmapcache import _shared


@pytest.fixture
def app(request, tmp_path):
    made = flask.Flask(request.module.__name__, template_folder=os.path.dirname(__file__))
    made.testing = True
    made.config["CACHE_TYPE"] = "mmapcache.flask.MmapCache"
    made.config["CACHE_DIR"] = str(tmp_path)
    return made


class _Deadlines:
    """In place of a clock that the tests move: moves the deadlines of our entries instead."""

    def advance(self, seconds):
        for store in list(_shared._open.values()):
            for key in store:
                entry = store.entry(key)
                if entry is None or entry.remaining is None:
                    continue
                left = entry.remaining - seconds
                if left > 0:
                    store.touch(key, left)
                else:
                    store.remove(key)


@pytest.fixture
def clock():
    return _Deadlines()
