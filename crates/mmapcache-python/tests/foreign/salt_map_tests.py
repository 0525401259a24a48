"""Salt's tests of its class MmapCache with ours in its place: `tests/foreign/salt`.

A test that cannot pass is in EXCEPTIONS with the reason, and is expected to fail: one that passes
after all is an error.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import salt.utils.mmap_cache

from mmapcache.salt_map import MmapCache

_INSIDE = "looks into the files or private methods of Salt's class"
_DELETED = "counts deleted slots, of which there are none here"
_SIZES = "the smallest heap is 4 KiB here, whatever a value takes"
EXCEPTIONS = {
    "test_key_truncation": "keys are not cut here",
    "test_staleness_detection": "moves two of four files; what survives copying is in the docs",
    "test_overwrite_appends_for_larger_value": _SIZES,
    "test_atomic_rebuild_defragments_heap": _SIZES,
    "test_rebuild_compacts_deleted_entries": _SIZES,
    "test_size_mismatch_rejected": "the size changes nothing here",
    "test_get_stats": _DELETED,
    "test_get_stats_is_o1_from_header": _DELETED,
    "test_header_counts_persist": _DELETED,
    "test_header_occupied_count_tracks_puts": _INSIDE,
    "test_header_counts_update_on_delete": _INSIDE,
    "test_header_counts_on_reused_deleted_slot": _INSIDE,
    "test_header_hwm_never_decreases": _INSIDE,
    "test_atomic_rebuild_resets_header": _INSIDE,
    "test_roster_recovery_after_simulated_crash": _INSIDE,
    "test_missing_roster_is_rebuilt": _INSIDE,
    "test_extra_roster_entries_are_recovered": _INSIDE,
}
# They pass or fail: times come from a clock of the kernel that ticks every 4 ms.
SOMETIMES = {
    "test_get_mtime": "the time of a put may be 4 ms early",
    "test_mtime_survives_reopen": "the time of a put may be 4 ms early",
}

salt.utils.mmap_cache.MmapCache = MmapCache
_MODULES = (
    "tests.pytests.unit.utils.test_mmap_cache",
    "tests.pytests.functional.utils.test_mmap_cache",
)
pytest.register_assert_rewrite(*_MODULES)


def _expect(name: str, test: Any) -> Any:
    if name in EXCEPTIONS:
        return pytest.mark.xfail(reason=EXCEPTIONS[name], strict=True)(test)
    if name in SOMETIMES:
        return pytest.mark.xfail(reason=SOMETIMES[name], strict=False)(test)
    return test


for _module in map(importlib.import_module, _MODULES):
    for _name, _test in vars(_module).items():
        if _name.startswith("Test"):
            for _method, _function in list(vars(_test).items()):
                if _method.startswith("test_"):
                    setattr(_test, _method, _expect(_method, _function))
            globals()[_name] = _test
        elif _name.startswith("test_"):
            globals()[_name] = _expect(_name, _test)
        elif _name in ("cache", "cache_path"):
            globals()[_name] = _test  # fixtures of the module
