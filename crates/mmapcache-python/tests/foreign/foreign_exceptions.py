"""A pytest plug-in: tests that a list names have to fail, all others have to pass.

The list has a line for each test, its name in pytest and the reason, with two blanks between them;
`*` is any text in a name. Lines that begin with `#` are comments.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest


def exceptions(name: str) -> dict[str, str]:
    """Returns the names of a list beside this file, with their reasons."""
    path = Path(os.environ["FOREIGN_HERE"], name)
    if not path.exists():
        return {}
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = (line.split("  ", 1) for line in lines if line and not line.startswith("#"))
    return {test: reason.strip() for test, reason in pairs}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exceptions", help="the list of tests that have to fail")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = exceptions(config.getoption("--exceptions"))
    used = set()
    for item in items:
        for pattern, reason in listed.items():
            # Brackets in names are parameters, not sets of characters.
            if fnmatchcase(item.nodeid, pattern.replace("[", "[[]")):
                used.add(pattern)
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    unused = set(listed) - used
    if unused:
        raise pytest.UsageError(f"no such tests: {', '.join(sorted(unused))}")
