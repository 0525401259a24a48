"""A pytest plug-in: a test that imports diskcache gets `mmapcache.diskcache`."""

import sys

import mmapcache.diskcache
from mmapcache.diskcache import core, fanout, persistent, recipes

sys.modules["diskcache"] = mmapcache.diskcache
for module in (core, fanout, persistent, recipes):
    sys.modules[f"diskcache.{module.__name__.rpartition('.')[2]}"] = module
