"""Fixtures of all tests: fresh handles, and child processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from mmapcache import Cache, MmapCache

# Django has one configuration in a process, that of these tests. Where it is missing they fail by
# themselves.
with contextlib.suppress(ModuleNotFoundError):
    importlib.import_module("test_django")


# A shell that started the tests in the background has them ignore SIGINT, and their children too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StartChild(Protocol):
    """Starts a Python process that runs a script, with arguments."""

    def __call__(self, script: str, *arguments: object) -> subprocess.Popen[str]: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path where there is no cache."""
    return tmp_path / "cache"


@pytest.fixture
def mapping(path: Path) -> Iterator[MmapCache]:
    """Open an empty map."""
    with MmapCache(path) as handle:
        yield handle


@pytest.fixture
def cache(path: Path) -> Iterator[Cache]:
    """Open an empty cache."""
    with Cache(path) as handle:
        yield handle


@pytest.fixture
def start_child() -> Iterator[StartChild]:
    """Start Python processes; those that still run at the end of the test are killed."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        children.append(child)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def finish(child: subprocess.Popen[str]) -> str:
    """Wait for a child that must succeed, and return what it printed."""
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0, printed
    return printed.strip()


def line_of(child: subprocess.Popen[str]) -> str:
    """Return the next line that a child prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()
