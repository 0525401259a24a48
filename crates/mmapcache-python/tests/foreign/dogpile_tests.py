"""The suites of dogpile.cache for backends of third parties, with ours."""

import shutil
import tempfile
from pathlib import Path

from dogpile.testing import fixtures

import mmapcache.dogpile

# The import registers the backend; an installed package needs none.
assert mmapcache.dogpile.MmapCacheBackend


class _WithFiles:
    backend = "mmapcache"

    @classmethod
    def setup_class(cls):
        cls.folder = tempfile.mkdtemp()
        cls.config_args = {"arguments": {"path": str(Path(cls.folder, "cache"))}}
        super().setup_class()

    @classmethod
    def teardown_class(cls):
        shutil.rmtree(cls.folder)


class TestBackend(_WithFiles, fixtures._GenericBackendTestSuite):
    pass


class TestMutex(_WithFiles, fixtures._GenericMutexTestSuite):
    pass


class TestSerializer(
    fixtures._GenericSerializerTestSuite, _WithFiles, fixtures._GenericBackendTestSuite
):
    pass


class _WithPickle(_WithFiles):
    @classmethod
    def setup_class(cls):
        super().setup_class()
        cls.config_args["arguments"]["codec"] = "pickle"


class TestBackendWithPickle(_WithPickle, fixtures._GenericBackendTestSuite):
    pass


class _WithoutMutex(_WithFiles):
    @classmethod
    def setup_class(cls):
        super().setup_class()
        cls.config_args["arguments"]["process_mutex"] = False


class TestBackendWithoutMutex(_WithoutMutex, fixtures._GenericBackendTestSuite):
    pass
