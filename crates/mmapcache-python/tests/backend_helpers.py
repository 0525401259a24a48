"""Other processes for the tests of the backends: Python programs that run beside the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 60
"""Seconds after which a program that has not ended fails the test."""


def run_python(program: str, *arguments: Any) -> str:
    """Runs a program to its end and returns what it prints; raises if it fails."""
    done = subprocess.run(
        _command(program, arguments), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_together(program: str, count: int, *arguments: Any) -> list[str]:
    """Runs a program `count` times at once and returns what each prints.

    Each may call `wait_for_all` of this module, after which all of them are at work.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TOGETHER": f"{folder}:{count}",
        }
        running = [
            subprocess.Popen(
                _command(program, arguments),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        printed = []
        try:
            for process in running:
                output, errors = process.communicate(timeout=LIMIT)
                assert process.returncode == 0, errors
                printed.append(output)
        finally:
            for process in running:
                process.kill()
                process.wait()
        return printed


def wait_for_all() -> None:
    """Waits until every process of a `run_together` has called this; raises after a while."""
    folder, count = os.environ["TOGETHER"].rsplit(":", 1)
    Path(folder, str(os.getpid())).touch()
    ends = time.monotonic() + LIMIT
    while len(os.listdir(folder)) < int(count):
        assert time.monotonic() < ends, "another process has not begun"
        time.sleep(0.001)


@contextmanager
def python_at_work(program: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Runs a program up to its first line of output, and kills it at the end of the block."""
    process = subprocess.Popen(_command(program, arguments), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the program ended before its first line"
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run_forked(child: Any) -> None:
    """Runs `child` in a forked process; raises if it does."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _command(program: str, arguments: tuple[Any, ...]) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
