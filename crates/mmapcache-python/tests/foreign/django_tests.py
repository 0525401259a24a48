"""Django's tests for cache backends, with ours: once with the default codec, once with pickle."""

import os
import shutil
import tempfile
import unittest
from pathlib import Path

# Not the classes themselves: the test runner would run those of Django's own backends.
from cache import tests as foreign
from django.core.cache import caches
from django.test import TestCase, override_settings

FOLDER = tempfile.mkdtemp()
unittest.addModuleCleanup(shutil.rmtree, FOLDER)


def exceptions():
    """Returns the names of the tests that have to fail with the default codec."""
    lines = Path(os.environ["FOREIGN_HERE"], "django_exceptions.txt").read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


def cache_settings(codec):
    location = str(Path(FOLDER, codec))
    settings = foreign.caches_setting_for_tests(
        BACKEND="mmapcache.django.MmapCache", LOCATION=location
    )
    for name, entry in settings.items():
        options = {**entry.get("OPTIONS", {}), "codec": codec}
        # A bound on entries is stored in the files, so each bound needs files of its own.
        settings[name] = {**entry, "OPTIONS": options}
        if "MAX_ENTRIES" in options:
            settings[name]["LOCATION"] = f"{location}-{name}"
    return settings


class OurTests(foreign.BaseCacheTests):
    # Django's backends remove a third of the entries, or all, when the bound is reached. Ours
    # removes as many as an insertion needs, so the bound is what is left.
    def test_cull(self):
        self._perform_cull_test("cull", 50, 30)

    def test_zero_cull(self):
        self._perform_cull_test("zero_cull", 50, 30)

    def tearDown(self):
        super().tearDown()
        for name in ("cull", "zero_cull"):
            caches[name].clear()


@override_settings(CACHES=cache_settings("pickle"))
class PickleTests(OurTests, TestCase):
    """All of them pass."""


@override_settings(CACHES=cache_settings("msgpack"))
class MsgpackTests(OurTests, TestCase):
    """All but the listed ones pass: they store functions, classes and models."""


def failing(name):
    """Returns a test that fails the run if Django's test of that name passes, or is gone."""
    foreign_test = getattr(foreign.BaseCacheTests, name)

    # A function of its own: the mark on Django's would hold for the other class too.
    def test(self):
        foreign_test(self)

    return unittest.expectedFailure(test)


for name in exceptions():
    setattr(MsgpackTests, name, failing(name))
