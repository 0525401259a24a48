"""A pytest plug-in: puts our class in the place of persidict's own in the tests for all classes."""

import sys
import types


def pytest_configure(config):
    # The tests of the other classes need a model of a cloud service; ours does not.
    moto = types.ModuleType("moto")
    moto.mock_aws = lambda function: function
    sys.modules.setdefault("moto", moto)

    from tests import data_for_mutable_tests

    from mmapcache.persidict import MmapDict

    data_for_mutable_tests.mutable_tests[:] = [
        (MmapDict, {"serialization_format": "pkl"}),
        (MmapDict, {"serialization_format": "json"}),
        (MmapDict, {"serialization_format": "msgpack"}),
    ]


def pytest_collection_modifyitems(config, items):
    # The others test persidict's own classes.
    ours = [item for item in items if "MmapDict" in item.nodeid]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours
