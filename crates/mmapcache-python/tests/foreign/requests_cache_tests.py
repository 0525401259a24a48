"""The tests that all backends of requests-cache share, with ours."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from tests.integration.base_cache_test import BaseCacheTest
from tests.integration.base_storage_test import BaseStorageTest

from mmapcache.requests_cache import MmapCache, MmapStorage

FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, FOLDER)


class CacheInFolder(MmapCache):
    """The tests give a name; the files are to be in a folder of their own."""

    def __init__(self, cache_name, **settings):
        super().__init__(Path(FOLDER, cache_name), **settings)


class StorageInFolder(MmapStorage):
    def __init__(self, cache_name, name, **settings):
        super().__init__(Path(FOLDER, cache_name), name, **settings)


class TestStorage(BaseStorageTest):
    storage_class = StorageInFolder


class TestPickledStorage(BaseStorageTest):
    storage_class = StorageInFolder
    init_kwargs: ClassVar = {"serializer": "pickle"}
    picklable = True


class TestCache(BaseCacheTest):
    backend_class = CacheInFolder


class TestPickledCache(BaseCacheTest):
    backend_class = CacheInFolder
    init_kwargs: ClassVar = {"serializer": "pickle"}
