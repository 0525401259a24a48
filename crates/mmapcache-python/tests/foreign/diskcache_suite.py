#!/usr/bin/env python3
"""Runs the tests of diskcache 5.6.3 with `mmapcache.diskcache` in its place.

    python tests/foreign/diskcache_suite.py [--tb=short -x ...]     arguments of pytest

The interpreter needs this package and pytest. The tests come with diskcache's source package from
the package index, into a temporary folder; nothing of them is in this repository.
`diskcache_exceptions.txt` lists those that cannot pass, each with the reason. The run fails if a
test fails that is not listed, and also if a listed one passes or is not there any more. Left out
are the tests of the Django backend, which need an application that the source package lacks, and
those of the examples in docstrings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from backends import HERE, pytest_command, run, source_package

SUITES = ("core", "fanout", "deque", "index", "recipes")


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = source_package("diskcache", "5.6.3", Path(work))
        # Beside the tests: without it only `mmapcache.diskcache` can be meant.
        (folder / "diskcache").rename(folder / "not_diskcache")
        tests = [f"tests/test_{name}.py" for name in SUITES]
        # The suite's own configuration is for its own tools.
        arguments = ["-p", "diskcache_in_place", "-c", os.devnull, "--rootdir", ".", *sys.argv[1:]]
        try:
            run(pytest_command("diskcache", *arguments, *tests), folder, PYTHONPATH=str(HERE))
        except subprocess.CalledProcessError as error:
            sys.exit(f"failed: {error.returncode}")


if __name__ == "__main__":
    main()
