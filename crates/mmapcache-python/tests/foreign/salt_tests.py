"""Salt's tests of cache drivers with ours, and ours through Salt's loader: `tests/foreign/salt`.

Salt's test modules are imported from its source package. Where they name a driver, fixtures here
give them ours as well; nothing of Salt is copied.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import salt.cache
import salt.cache.localfs as localfs
import salt.cache.mmap_cache as mmap_cache
import salt.config
import salt.loader
import salt.runners.cache as cache_runner
import salt.utils.entrypoints
from salt.exceptions import SaltCacheError

_UNIT, _FUNCTIONAL = "tests.pytests.unit.cache", "tests.pytests.functional.cache"
pytest.register_assert_rewrite(
    f"{_UNIT}.test_cache_backends",
    f"{_FUNCTIONAL}.helpers",
    f"{_FUNCTIONAL}.test_mmap_cache_driver",
)
contract = importlib.import_module(f"{_UNIT}.test_cache_backends")
localfs_tests = importlib.import_module(f"{_FUNCTIONAL}.test_localfs")
run_common_cache_tests = importlib.import_module(f"{_FUNCTIONAL}.helpers").run_common_cache_tests
for _module in (contract, importlib.import_module(f"{_FUNCTIONAL}.test_mmap_cache_driver")):
    for _name, _test in vars(_module).items():
        if _name.startswith(("test_", "Test")):
            globals()[_name] = _test

_FORK = multiprocessing.get_context("fork")


def make_opts(tmp_path: Path, **more: Any) -> dict[str, Any]:
    opts: dict[str, Any] = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update({"cachedir": str(tmp_path / "cache"), "cache": "mmapcache"})
    opts.update({"mmap_cache_size": 256, "extension_modules": "", **more})
    return opts


@pytest.fixture
def opts(tmp_path: Path) -> dict[str, Any]:
    return make_opts(tmp_path)


@pytest.fixture
def cache(opts: dict[str, Any]) -> salt.cache.Cache:
    """For Salt's tests of its driver mmap_cache, and for ours."""
    return salt.cache.factory(opts)


# Salt's contract, parametrised by the drivers.


@pytest.fixture(autouse=True)
def configure_loader_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the drivers their `__opts__`, as Salt's plug-in does with this fixture's result."""
    monkeypatch.setattr(localfs, "__opts__", {}, raising=False)
    monkeypatch.setattr(mmap_cache, "__opts__", contract._MMAP_OPTS, raising=False)


def _make_ours(tmp_path: Path) -> SimpleNamespace:
    cachedir = str(tmp_path / "ours")
    driver = salt.loader.cache(make_opts(tmp_path))

    def call(name: str) -> Any:
        function = driver[f"mmapcache.{name}"]
        return lambda *arguments, **named: function(*arguments, **named, cachedir=cachedir)

    return SimpleNamespace(
        name="mmapcache",
        cachedir=cachedir,
        **{name: call(name) for name in ("store", "fetch", "updated", "flush", "list", "contains")},
    )


@pytest.fixture(params=["localfs", "mmap_cache", "mmapcache"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "mmapcache":
        return _make_ours(tmp_path)
    make = {"localfs": contract._make_localfs, "mmap_cache": contract._make_mmap}
    return make[request.param](tmp_path)


# The routine that Salt runs with every driver.


@pytest.mark.parametrize("in_memory", [0, 10])
def test_common_routine_passes(tmp_path: Path, subtests: Any, in_memory: int) -> None:
    opts = make_opts(tmp_path, memcache_expire_seconds=in_memory)
    run_common_cache_tests(subtests, salt.cache.factory(opts))


def test_unexpired_tokens_stay(cache: salt.cache.Cache) -> None:
    localfs_tests.test_clean_expired_does_not_drop_unexpired_entries_69307(cache)


@pytest.mark.parametrize("full_path", [False, True])
def test_names_lead_nowhere_else(cache: salt.cache.Cache, tmp_path: Path, full_path: bool) -> None:
    localfs_tests.test_updated_is_constrained_to_cachedir(cache, tmp_path)
    localfs_tests.test_list_is_constrained_to_cachedir(cache, tmp_path)
    for key in (None, "yikes"):
        localfs_tests.test_flush_is_constrained_to_cachedir(cache, tmp_path, key)
        localfs_tests.test_contains_is_constrained_to_cachedir(cache, tmp_path, key)
    localfs_tests.test_fetch_is_constrained_to_cachedir(cache, tmp_path, False, full_path)


# Ours, through Salt.


def test_loader_finds_the_driver(opts: dict[str, Any], cache: salt.cache.Cache) -> None:
    modules = salt.loader.cache(opts)
    for name in (
        "store",
        "fetch",
        "updated",
        "flush",
        "list",
        "list_all",
        "contains",
        "clean_expired",
        "init_kwargs",
        "get_storage_id",
    ):
        assert f"mmapcache.{name}" in modules
    cache.store("bank", "key", 1)
    assert (Path(opts["cachedir"]) / "mmapcache" / "banks").exists()


def test_folder_can_be_named(opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # As the documentation says, where there is no entry point.
    from mmapcache.salt import loader_dirs

    monkeypatch.setattr(salt.utils.entrypoints, "iter_entry_points", lambda group: [])
    assert "mmapcache.store" not in salt.loader.cache(opts)
    assert "mmapcache.store" in salt.loader.cache({**opts, "cache_dirs": loader_dirs()["cache"]})


def test_expiry_is_exact(cache: salt.cache.Cache) -> None:
    start = time.time()
    cache.store("b", "k", {"x": 1}, expires=1)
    cache.store("b", "other", {"x": 2})
    while cache.fetch("b", "k") == {"x": 1}:
        assert time.time() < start + 5
        time.sleep(0.001)
    # Not before; how much later depends on the machine's load. localfs may take 2 s.
    assert 0.999 <= time.time() - start < 1.5
    assert cache.fetch("b", "k") == {}
    assert not cache.contains("b", "k")
    assert cache.updated("b", "k") is None
    assert cache.list("b") == ["other"]
    assert cache.list_all("b") == {"other": {}}
    assert cache.flush("b", "k") is False


def test_common_types_of_salt_come_back(cache: salt.cache.Cache) -> None:
    import datetime

    data = {"at": datetime.datetime(2026, 12, 1, 5), "big": 2**70, "set": {1}}
    cache.store("bank", "key", data)
    theirs = salt.cache.Cache({**cache.opts, "cache": "localfs"})
    theirs.store("bank", "key", {"at": datetime.datetime(2026, 12, 1, 5), "big": 2**70, "set": {1}})
    assert cache.fetch("bank", "key") == theirs.fetch("bank", "key")
    assert cache.fetch("bank", "key")["at"] == datetime.datetime(2026, 12, 1, 5)


def test_unencodable_data_is_cache_error(cache: salt.cache.Cache) -> None:
    with pytest.raises(SaltCacheError):
        cache.store("bank", "key", object())
    with pytest.raises(SaltCacheError):
        cache.store("bank", "key", object(), expires=10)
    assert not cache.contains("bank", "key")


def test_memory_caches_are_apart(tmp_path: Path) -> None:
    # salt.cache.MemCache tells storages apart by the driver's function storage_id.
    one, two = (
        salt.cache.factory(make_opts(tmp_path / name, memcache_expire_seconds=10)) for name in "ab"
    )
    one.store("bank", "key", "one")
    assert two.fetch("bank", "key") == {}


def _count(opts: dict[str, Any], worker: int) -> None:
    cache = salt.cache.factory(opts)
    for number in range(200):
        cache.store("jobs/returns", f"{worker}-{number}", {"n": number})
        if number % 2:
            cache.flush("jobs/returns", f"{worker}-{number - 1}")


def test_workers_share_the_cache(opts: dict[str, Any], cache: salt.cache.Cache) -> None:
    # The master's workers are forked, with the cache already open.
    cache.store("jobs/returns", "first", {})
    workers = [_FORK.Process(target=_count, args=(opts, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    expected = {f"{worker}-{number}" for worker in range(3) for number in range(1, 200, 2)}
    assert set(cache.list("jobs/returns")) == expected | {"first"}
    assert cache.fetch("jobs/returns", "2-199") == {"n": 199}


@pytest.mark.parametrize("source", ["localfs", "mmap_cache"])
def test_runner_migrates_to_ours(
    opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(cache_runner, "__opts__", opts, raising=False)
    theirs = salt.cache.Cache({**opts, "cache": source})
    theirs.store("minions/alpha", "data", {"a": 1})
    theirs.store("pillar", "alpha:some_env", {"p": 2})
    said = cache_runner.migrate(src_driver=source, dst_driver="mmapcache")
    assert "Errors" not in said
    ours = salt.cache.Cache(opts)
    assert ours.fetch("pillar", "alpha:some_env") == {"p": 2}
    if source == "localfs":  # the runner does not find sub-banks of mmap_cache
        assert ours.fetch("minions/alpha", "data") == {"a": 1}


def test_runner_migrates_from_ours(opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_runner, "__opts__", opts, raising=False)
    ours = salt.cache.Cache(opts)
    ours.store("minions/alpha", "data", {"a": 1})
    ours.store("pillar", "alpha:some/env", {"p": 2})
    assert "Migrated 2 entries" in cache_runner.migrate(
        src_driver="mmapcache", dst_driver="localfs"
    )
    theirs = salt.cache.Cache({**opts, "cache": "localfs"})
    assert theirs.fetch("minions/alpha", "data") == {"a": 1}
    assert theirs.fetch("pillar", "alpha:some/env") == {"p": 2}


def _move(source: str, destination: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmapcache.migrate", "salt", source, destination, *more],
        capture_output=True,
        text=True,
        check=False,
        # The command does not need Salt.
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
    )


def test_command_moves_files_of_salt(opts: dict[str, Any]) -> None:
    files = salt.cache.Cache({**opts, "cache": "localfs"})
    mapped = salt.cache.Cache({**opts, "cache": "mmap_cache"})
    values: dict[str, Any] = {
        "dict": {"a": [1, None, {"b": b"\xff"}]},
        "numbers": {1: "one", 2: "two"},
        "zero": [1, 0],
        "none": None,
        "text": "a" * 100_000,
        "empty": {},
    }
    for key, value in values.items():
        files.store("files/bank", key, value)
        mapped.store("mapped/bank", key, value)
    files.store("files", "alpha:some/env", 1)
    files.store("tokens", "valid", {"t": 1}, expires=1000)
    files.store("tokens", "dead", {"t": 1}, expires=1)
    for number in range(20):
        mapped.store("mapped", f"k{number}", number)
    for number in range(0, 20, 2):
        mapped.flush("mapped", f"k{number}")
    time.sleep(1.1)
    moved = _move(opts["cachedir"], opts["cachedir"])
    assert moved.stdout.splitlines() == ["24 moved", " 1 expired"], moved.stderr
    assert moved.returncode == 0
    ours = salt.cache.Cache(opts)
    for key, value in values.items():
        for bank in ("files/bank", "mapped/bank"):
            assert ours.fetch(bank, key) == value
    assert ours.updated("files/bank", "dict") == files.updated("files/bank", "dict")
    assert ours.updated("mapped/bank", "dict") == mapped.updated("mapped/bank", "dict")
    assert ours.fetch("files", "alpha:some/env") == 1
    assert ours.fetch("tokens", "valid") == {"t": 1}
    assert sorted(ours.list("mapped")) == sorted(
        ["bank", *(f"k{number}" for number in range(1, 20, 2))]
    )
    assert _move(opts["cachedir"], opts["cachedir"]).stdout.splitlines()[:2] == [
        " 0 moved",
        "24 already there",
    ]


def test_command_reads_cut_keys_and_segments(opts: dict[str, Any]) -> None:
    opts = {**opts, "mmap_cache_max_segment_bytes": 3000}
    mapped = salt.cache.Cache({**opts, "cache": "mmap_cache"})
    long_key = "k" * 70
    mapped.store("bank", long_key, "cut")
    for number in range(30):
        mapped.store("bank", f"k{number}", "v" * 1000)
    assert (Path(opts["cachedir"]) / "bank" / ".mmap_cache.idx.heap.5").exists()
    moved = _move(opts["cachedir"], opts["cachedir"])
    assert "31 moved" in moved.stdout
    assert " 1 with a key that the source may have cut short, moved" in moved.stdout
    ours = salt.cache.Cache(opts)
    assert ours.fetch("bank", "k" * 64) == "cut"
    assert all(ours.fetch("bank", f"k{number}") == "v" * 1000 for number in range(30))
