"""The examples of `docs/diskcache.md` run, and the list of exceptions names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "diskcache.md").read_text()
EXCEPTIONS = (TESTS / "foreign" / "diskcache_exceptions.txt").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(4))
def test_example_runs(number: int, tmp_path: Path) -> None:
    names: dict[str, object] = {"directory": tmp_path}
    exec(compile(EXAMPLES[number], f"diskcache.md, example {number + 1}", "exec"), names)
    assert any(tmp_path.iterdir()), "the example opens a cache"


def test_all_examples_run() -> None:
    assert len(EXAMPLES) == 4


def listed() -> list[tuple[str, str]]:
    """Return the exceptions with their reasons."""
    lines = [line for line in EXCEPTIONS.splitlines() if line and not line.startswith("#")]
    return [(name, reason) for name, _, reason in (line.partition("  ") for line in lines)]


def test_exceptions_are_few() -> None:
    assert len(listed()) == len(dict(listed())) <= 50
    passed = 179 - len(listed())
    assert f"{passed} of the 179 tests" in DOCUMENT


def test_exceptions_have_replacements() -> None:
    sources = [path.read_text() for path in TESTS.glob("test_diskcache_*.py")]
    for name, reason in listed():
        (replacement,) = re.findall(r"\((test_\w+)\)$", reason)
        found = [source for source in sources if f"def {replacement}(" in source]
        assert found, f"{name}: {replacement}"
