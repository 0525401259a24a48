"""A mutex for each key, across threads and processes, which the kernel frees if its holder dies.

The mutex of a key is a lock on one byte of the file `PATH.mutex`, at an offset that is a hash of
the key, so any number of keys need one file and no clean-up. The locks are of the kind that
belongs to an open file (OFD locks), not to a process: each acquisition opens the file for itself,
so it excludes other threads too, and a thread may release what another one acquired.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import struct
import threading
import time
from types import TracebackType
from weakref import WeakSet

__all__ = ["FileMutex"]

# struct flock of 64-bit Linux: type, whence, start, length, process (0 for this kind of lock).
_FLOCK = "hhqqi4x"
_OFFSET_BITS = 62

# While another process holds the lock and there is a limit to the wait, the next attempt comes
# after these times. The kernel has no limited wait for such locks.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05

# The descriptors that acquisitions have open, in case of a fork, and the mutexes that are held.
_descriptors: set[int] = set()
_held: WeakSet[FileMutex] = WeakSet()


class FileMutex:
    """The mutex of one key of the cache at `path`. Not reentrant.

    Objects for the same key exclude each other in all processes; one object may be used by several
    threads. Two keys whose hashes of 62 bits are equal share a mutex.

    A child that is forked while a mutex is held does not hold it. The holder's death, also by
    SIGKILL, frees it at once.
    """

    def __init__(self, path: str | os.PathLike[str], key: str | bytes) -> None:
        data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        digest = hashlib.blake2b(data, digest_size=8).digest()
        self._offset = int.from_bytes(digest, "little") >> (64 - _OFFSET_BITS)
        self._cache_path = os.path.realpath(os.fspath(path))
        self._descriptor: int | None = None
        self._guard = threading.Lock()

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Acquires the mutex. Returns False if another holder has it and the wait ends without it.

        Waits if `wait`: up to `timeout` seconds, without limit if that is None. A signal handler
        that raises ends the wait. Raises OSError if the file cannot be opened or its file system
        has no such locks, ValueError for a negative timeout.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout {timeout}; it is 0 or more")
        descriptor = self._open()
        try:
            is_acquired = self._lock(descriptor, wait, timeout)
        except BaseException:
            _close(descriptor)
            raise
        if not is_acquired:
            _close(descriptor)
            return False
        with self._guard:
            self._descriptor = descriptor
            _held.add(self)
        return True

    def release(self) -> None:
        """Releases the mutex; raises RuntimeError if this object does not hold it."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, None
            _held.discard(self)
        if descriptor is None:
            raise RuntimeError("the mutex is not held")
        # Not only by closing: a child that was forked since then may have the file open too.
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, self._request(fcntl.F_UNLCK))
        finally:
            _close(descriptor)

    def locked(self) -> bool:
        """Returns whether any thread of any process holds the mutex now."""
        descriptor = self._open()
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, self._request(fcntl.F_WRLCK))
        finally:
            _close(descriptor)
        kind: int = struct.unpack(_FLOCK, answer)[0]
        return kind != fcntl.F_UNLCK

    def __del__(self) -> None:
        # A mutex that is dropped while it is held would stay locked until the process ends.
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            _close(descriptor)

    def __enter__(self) -> FileMutex:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _open(self) -> int:
        path = self._cache_path + ".mutex"
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            # The permissions of the cache, whatever the umask: who may use one may use the other.
            mode = stat.S_IMODE(os.stat(self._cache_path).st_mode)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
            # Another user's process may have made the file at the same time, and has done this.
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, mode)
        _descriptors.add(descriptor)
        return descriptor

    def _lock(self, descriptor: int, wait: bool, timeout: float | None) -> bool:
        request = self._request(fcntl.F_WRLCK)
        if wait and timeout is None:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, request)
            return True
        ends = time.monotonic() + (timeout or 0.0 if wait else 0.0)
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
                return True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            left = ends - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _request(self, kind: int) -> bytes:
        return struct.pack(_FLOCK, kind, os.SEEK_SET, self._offset, 1, 0)


def _close(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _forget_all() -> None:
    # In a forked child: its copies of the open files would keep locks of the parent after its
    # death.
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    for mutex in list(_held):
        mutex._descriptor = None
        mutex._guard = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_all)
