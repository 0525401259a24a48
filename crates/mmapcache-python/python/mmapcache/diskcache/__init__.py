"""The interface of diskcache 5.6.3 on the files of mmapcache: a program changes one import.

`from mmapcache.diskcache import Cache` instead of `from diskcache import Cache`. The files are
other ones; `python -m mmapcache.migrate diskcache` takes over the items. What differs is in
`docs/diskcache.md`. First of all: no value is pickled unless the program names that codec. A
process that can write a pickle into the directory runs code in each process that reads it
(CVE-2025-69872).
"""

from typing import Any

from mmapcache.diskcache.core import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    UNKNOWN,
    Cache,
    Disk,
    EmptyDirWarning,
    JSONDisk,
    Timeout,
    UnknownFileWarning,
)
from mmapcache.diskcache.fanout import FanoutCache
from mmapcache.diskcache.persistent import Deque, Index
from mmapcache.diskcache.recipes import (
    Averager,
    BoundedSemaphore,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "Deque",
    "Disk",
    "EmptyDirWarning",
    "FanoutCache",
    "Index",
    "JSONDisk",
    "Lock",
    "RLock",
    "Timeout",
    "UnknownFileWarning",
    "barrier",
    "memoize_stampede",
    "throttle",
]


def __getattr__(name: str) -> Any:
    # Only here, for Django need not be installed.
    if name == "DjangoCache":
        from mmapcache.diskcache.djangocache import DjangoCache

        return DjangoCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
