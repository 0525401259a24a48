"""The tests that all caches of cachelib share, with ours."""

import pytest
from clear import ClearTests
from common import CommonTests
from has import HasTests

from mmapcache.cachelib import MmapCache


@pytest.fixture(autouse=True, params=["msgpack", "pickle"])
def cache_factory(request, tmp_path):
    def factory(self, *arguments, **options):
        return MmapCache(tmp_path / "cache", *arguments, codec=request.param, **options)

    request.cls.cache_factory = factory


class TestMmapCache(CommonTests, ClearTests, HasTests):
    pass
