"""Handles of several threads and processes: counting, waiting, forks, kills."""

from __future__ import annotations

import _thread
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from conftest import StartChild, finish, line_of

import mmapcache
from mmapcache import Cache, Entry, MmapCache

ROUNDS = 500


def add_one(entry: Entry | None) -> bytes:
    """Count in an entry."""
    return b"%d" % (int(entry.value) + 1 if entry else 1)


COUNT = """
    import sys
    from mmapcache import MmapCache
    with MmapCache(sys.argv[1]) as mapping:
        for _ in range(int(sys.argv[2])):
            mapping.update_with(b"n", lambda entry: b"%d" % (int(entry.value) + 1 if entry else 1))
"""


def test_processes_count_together(mapping: MmapCache, start_child: StartChild) -> None:
    children = [start_child(COUNT, mapping.path, ROUNDS) for _ in range(3)]
    for _ in range(ROUNDS):
        mapping.update_with(b"n", add_one)
    for child in children:
        finish(child)
    assert mapping[b"n"] == b"%d" % (4 * ROUNDS)


def test_threads_count_together(cache: Cache) -> None:
    def count() -> None:
        for _ in range(ROUNDS):
            cache.increment(b"n")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.increment(b"n", 0) == 4 * ROUNDS


COMPUTE = """
    import sys, time
    from mmapcache import Cache
    cache = Cache(sys.argv[1])
    def compute():
        with open(sys.argv[2], "a") as log:
            log.write("x")
        time.sleep(0.3)
        return b"dear"
    print("ready", flush=True)
    sys.stdin.readline()
    print(cache.get_or_insert_with(b"key", compute, ttl=60).decode())
"""


def test_processes_compute_a_value_once(
    path: Path, tmp_path: Path, start_child: StartChild
) -> None:
    log = tmp_path / "log"
    children = [start_child(COMPUTE, path, log) for _ in range(4)]
    for child in children:
        assert line_of(child) == "ready"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [finish(child) for child in children] == ["dear"] * 4
    assert log.read_text() == "x"


HOLD = """
    import sys, time
    from mmapcache import MmapCache
    with MmapCache(sys.argv[1]).writer() as writer:
        writer.put(b"held", b"1")
        print("held", flush=True)
        time.sleep(60)
"""


def test_killed_writer_frees_the_lock(mapping: MmapCache, start_child: StartChild) -> None:
    child = start_child(HOLD, mapping.path)
    assert line_of(child) == "held"
    child.kill()
    child.wait()
    mapping[b"after"] = b"2"
    # What the call has returned for is there.
    assert dict(mapping) == {b"held": b"1", b"after": b"2"}
    assert mapping.verify()["is_clean"]


WRITE = """
    import sys
    from mmapcache import MmapCache
    mapping = MmapCache(sys.argv[1])
    for number in range(1_000_000):
        mapping[b"key%d" % (number % 500)] = b"%d" % number * 20
        print(number, flush=True)
"""


def test_killed_process_loses_nothing(mapping: MmapCache, start_child: StartChild) -> None:
    for _ in range(3):
        child = start_child(WRITE, mapping.path)
        for _ in range(700):
            last = line_of(child)
        child.kill()
        rest, _ = child.communicate()
        complete = rest[: rest.rfind("\n") + 1].split()
        last = (complete or [last])[-1]
        value = mapping[b"key%d" % (int(last) % 500)]
        assert int(value[: len(value) // 20]) >= int(last)
        assert mapping.verify()["is_clean"]


def test_wait_for_lock_has_an_end(path: Path, start_child: StartChild) -> None:
    child = start_child(HOLD, path)
    assert line_of(child) == "held"
    with MmapCache(path, lock_timeout=0.5) as mapping:
        began = time.monotonic()
        with pytest.raises(mmapcache.LockedError, match=f"process {child.pid}") as raised:
            mapping[b"a"] = b"1"
        assert 0.5 <= time.monotonic() - began < 5
        assert raised.value.path == str(path)
        with pytest.raises(mmapcache.LockedError), mapping.writer():
            pass
        # Readers do not wait.
        assert mapping[b"held"] == b"1"


def test_interrupt_ends_the_wait(path: Path, start_child: StartChild) -> None:
    child = start_child(HOLD, path)
    assert line_of(child) == "held"
    with MmapCache(path, lock_timeout=float("inf")) as mapping:
        threading.Timer(0.3, _thread.interrupt_main).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            mapping[b"a"] = b"1"
        assert time.monotonic() - began < 10
        assert b"a" not in mapping


# Other threads run while one waits: the interpreter is released.
def test_other_threads_run_during_wait(path: Path, start_child: StartChild) -> None:
    child = start_child(HOLD, path)
    assert line_of(child) == "held"
    turns = 0
    with MmapCache(path, lock_timeout=0.5) as mapping:

        def write() -> None:
            with pytest.raises(mmapcache.LockedError):
                mapping[b"a"] = b"1"

        thread = threading.Thread(target=write)
        thread.start()
        while thread.is_alive():
            turns += 1
            time.sleep(0.001)
    assert turns > 50


def test_interrupt_ends_a_computation_wait(path: Path, start_child: StartChild) -> None:
    child = start_child(COMPUTE.replace("0.3", "60"), path, path.with_name("log"))
    assert line_of(child) == "ready"
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    while not path.with_name("log").exists():
        time.sleep(0.01)
    with Cache(path) as cache:
        threading.Timer(0.3, _thread.interrupt_main).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_insert_with(b"key", lambda: b"other")
        assert time.monotonic() - began < 10
        # The process that computes dies, and the next caller takes over.
        child.kill()
        assert cache.get_or_insert_with(b"key", lambda: b"other") == b"other"


# The value that another writer kept from being stored is stored when the lock is free.
def test_computed_value_waits_for_the_lock(path: Path, start_child: StartChild) -> None:
    hold = HOLD.replace("MmapCache", "Cache").replace("put(", "insert(").replace("60", "1")
    with Cache(path, lock_timeout=30) as cache:
        child = start_child(hold, path)
        assert line_of(child) == "held"
        assert cache.get_or_insert_with(b"key", lambda: b"dear", ttl=60) == b"dear"
        entry = cache.entry(b"key")
        assert entry is not None
        assert entry.remaining == pytest.approx(60, abs=10)


def read_and_write(mapping: MmapCache, number: int) -> bytes | None:
    """Use a handle that came by a pickle, in a process of a pool."""
    mapping[b"from%d" % number] = b"%d" % os.getpid()
    return mapping.get(b"seed")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool_uses_pickled_handles(mapping: MmapCache, method: str) -> None:
    mapping[b"seed"] = b"s"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        results = list(pool.map(read_and_write, [mapping] * 6, range(6)))
    assert results == [b"s"] * 6
    assert len(mapping) == 7
    assert b"%d" % os.getpid() not in mapping.values()


def in_forked_child(run: object) -> int:
    """Run a function in a forked child, and return the status of its end; 99 if it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if run() else 2  # type: ignore[operator]
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 99


def test_forked_child_uses_the_handle(mapping: MmapCache) -> None:
    mapping[b"a"] = b"1"
    listing = iter(mapping.items())

    def run() -> bool:
        mapping[b"b"] = b"2"
        gc.collect()
        return mapping[b"a"] == b"1" and (b"a", b"1") in list(listing)

    assert in_forked_child(run) == 0
    assert dict(mapping) == {b"a": b"1", b"b": b"2"}


def test_fork_works_with_busy_threads(mapping: MmapCache) -> None:
    stop = threading.Event()
    mapping[b"n"] = b"0"

    def work(number: int) -> None:
        while not stop.is_set():
            mapping[b"t%d" % number] = b"1"
            list(mapping)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert in_forked_child(lambda: mapping.update_with(b"n", add_one)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert mapping[b"n"] == b"20"


def test_forked_child_has_no_writer(mapping: MmapCache) -> None:
    with mapping.writer() as writer:
        writer.put(b"a", b"1")

        def run() -> bool:
            with pytest.raises(mmapcache.WriterError, match="fork"):
                writer.put(b"b", b"2")
            return True

        assert in_forked_child(run) == 0
        # The parent's lock and batch go on.
        writer.put(b"c", b"3")
    assert dict(mapping) == {b"a": b"1", b"c": b"3"}


def test_exit_inside_a_batch_is_clean(path: Path, start_child: StartChild) -> None:
    script = """
        import sys
        from mmapcache import MmapCache
        mapping = MmapCache(sys.argv[1])
        writer = mapping.writer().__enter__()
        writer.put(b"a", b"1")
        listing = iter(mapping)
        next(listing)
        print("done")
    """
    assert finish(start_child(script, path)) == "done"
    with MmapCache(path, lock_timeout=5) as mapping:
        mapping[b"b"] = b"2"
        assert len(mapping) == 2


def test_iterator_is_for_one_thread(mapping: MmapCache) -> None:
    mapping.update({b"%d" % number: b"" for number in range(5000)})
    listing = iter(mapping)
    taken: list[bytes] = []
    refused: list[str] = []

    def take() -> None:
        while True:
            try:
                taken.append(next(listing))
            except StopIteration:
                return
            except ValueError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each item went to one thread; a thread that was refused tried again.
    assert sorted(taken) == sorted(mapping)
    assert all("iterator" in text for text in refused)
