"""The mutex of a key: threads, processes, forks, a holder that is killed."""

from __future__ import annotations

import gc
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from backend_helpers import python_at_work, run_forked, run_together

from mmapcache._mutex import FileMutex

HOLD = """
    import sys, time
    from mmapcache._mutex import FileMutex
    mutex = FileMutex(sys.argv[1], "key")
    mutex.acquire()
    print("held", flush=True)
    time.sleep(600)
"""

FORK_AND_HOLD = """
    import os, sys, time
    from mmapcache._mutex import FileMutex
    mutex = FileMutex(sys.argv[1], "key")
    mutex.acquire()
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""

COUNT = """
    import sys
    from mmapcache._mutex import FileMutex
    from backend_helpers import wait_for_all
    path, times = sys.argv[1], int(sys.argv[2])
    wait_for_all()
    for _ in range(times):
        with FileMutex(path, "key"):
            with open(path) as file:
                count = int(file.read())
            with open(path, "w") as file:
                file.write(str(count + 1))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "cache"
    file.write_text("0")
    return file


def test_second_acquisition_fails(path: Path) -> None:
    mutex = FileMutex(path, "key")
    assert not mutex.locked()
    assert mutex.acquire()
    assert mutex.locked()
    assert not mutex.acquire(False)
    assert not FileMutex(path, b"key").acquire(wait=False)
    mutex.release()
    assert not mutex.locked()
    assert mutex.acquire(False)
    mutex.release()


def test_other_keys_are_free(path: Path) -> None:
    with FileMutex(path, "one"):
        for number in range(100):
            other = FileMutex(path, f"other {number}")
            assert other.acquire(timeout=5)
            other.release()


def test_release_needs_holder(path: Path) -> None:
    mutex = FileMutex(path, "key")
    with pytest.raises(RuntimeError, match="not held"):
        mutex.release()
    with mutex, pytest.raises(RuntimeError, match="not held"):
        FileMutex(path, "key").release()


def test_wait_ends_at_timeout(path: Path) -> None:
    with FileMutex(path, "key"):
        began = time.monotonic()
        assert not FileMutex(path, "key").acquire(timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 5
    assert FileMutex(path, "key").acquire(timeout=0)
    with pytest.raises(ValueError, match="timeout"):
        FileMutex(path, "key").acquire(timeout=-1)


def test_waiting_thread_gets_mutex(path: Path) -> None:
    mutex = FileMutex(path, "key")
    mutex.acquire()
    threading.Timer(0.2, mutex.release).start()
    began = time.monotonic()
    assert FileMutex(path, "key").acquire()
    assert time.monotonic() - began >= 0.15


def test_threads_exclude_each_other(path: Path) -> None:
    shared = FileMutex(path, "key")
    inside: list[int] = []

    def work() -> None:
        for _ in range(50):
            with shared:
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside
    assert not shared.locked()


def test_processes_exclude_each_other(path: Path) -> None:
    run_together(COUNT, 3, path, 200)
    assert path.read_text() == "600"


def test_killed_holder_frees_mutex(path: Path) -> None:
    with python_at_work(HOLD, path) as holder:
        mutex = FileMutex(path, "key")
        assert mutex.locked()
        assert not mutex.acquire(False)
        holder.send_signal(signal.SIGKILL)
        assert mutex.acquire(timeout=10)
        mutex.release()


def test_child_does_not_keep_mutex(path: Path) -> None:
    # The child of a holder has its open files. The mutex is the parent's: it ends with the parent.
    with python_at_work(FORK_AND_HOLD, path) as holder:
        (child,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        try:
            mutex = FileMutex(path, "key")
            time.sleep(0.2)
            assert mutex.locked(), "the child's start freed the parent's mutex"
            holder.send_signal(signal.SIGKILL)
            assert mutex.acquire(timeout=10), "the child keeps it"
            mutex.release()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_forked_child_holds_nothing(path: Path) -> None:
    mutex = FileMutex(path, "key")
    mutex.acquire()

    def child() -> None:
        assert not mutex.acquire(False)
        with pytest.raises(RuntimeError):
            mutex.release()

    run_forked(child)
    assert mutex.locked()
    mutex.release()
    run_forked(lambda: mutex.acquire(timeout=1) or os._exit(2))


def test_copied_descriptor_keeps_nothing(path: Path) -> None:
    # A child that a C library forks has a copy of the open file until it runs another program.
    mutex = FileMutex(path, "key")
    mutex.acquire()
    assert mutex._descriptor is not None
    copy = os.dup(mutex._descriptor)
    mutex.release()
    assert not mutex.locked()
    os.close(copy)


def test_dropped_mutex_is_free(path: Path) -> None:
    mutex = FileMutex(path, "key")
    mutex.acquire()
    del mutex
    gc.collect()
    assert not FileMutex(path, "key").locked()


def test_signal_ends_wait(path: Path) -> None:
    class Alarm(Exception):
        pass

    def alarm(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with FileMutex(path, "key"):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Alarm):
                FileMutex(path, "key").acquire()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not FileMutex(path, "key").locked()


def test_file_has_permissions_of_cache(path: Path) -> None:
    path.chmod(0o660)
    before = os.umask(0o077)
    try:
        FileMutex(path, "key").locked()
    finally:
        os.umask(before)
    assert stat.S_IMODE((path.parent / "cache.mutex").stat().st_mode) == 0o660


def test_missing_cache_is_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileMutex(tmp_path / "none", "key").acquire()


def test_descriptors_are_closed(path: Path) -> None:
    mutex = FileMutex(path, "key")
    mutex.locked()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        with mutex:
            assert not mutex.acquire(False)
            assert not mutex.acquire(timeout=0)
        mutex.locked()
    assert len(os.listdir("/proc/self/fd")) == before
