"""The examples of the README and of the docstrings run, and the tables name what exists."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import mmapcache
from mmapcache import _handles

PACKAGE = Path(__file__).parent.parent
README = (PACKAGE / "README.md").read_text()


def examples(document: str) -> list[str]:
    """Return the Python examples of a document."""
    return re.findall(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(examples(README))))
def test_readme_example_runs(number: int, tmp_path: Path) -> None:
    example = examples(README)[number]
    names: dict[str, object] = {"directory": tmp_path}
    exec(compile(example, f"README.md, example {number + 1}", "exec"), names)
    assert any(tmp_path.iterdir()), "the example opens a cache"


def test_readme_has_examples() -> None:
    assert len(examples(README)) == 3


def test_docstring_examples_run(tmp_path: Path) -> None:
    names = {"directory": tmp_path, **vars(_handles)}
    runner = doctest.DocTestRunner()
    # Without a module: the classes say that they are of the package, not of their file.
    finder = doctest.DocTestFinder(recurse=False)
    for public in (_handles.MmapCache, _handles.Cache, _handles.Labels):
        for example in finder.find(public, module=False, globs=dict(names)):
            runner.run(example)
    tested = runner.summarize()
    assert tested.attempted >= 12
    assert tested.failed == 0


def test_readme_names_every_exception() -> None:
    for name in mmapcache.__all__:
        if name.endswith("Error"):
            assert f"`{name}`" in README, name


# Names in code spans of the README that look like attributes of the package, or methods, exist.
def test_readme_names_what_exists() -> None:
    for name in re.findall(r"`mmapcache\.(\w+)`", README):
        assert (
            hasattr(mmapcache, name)
            or (PACKAGE / "python/mmapcache").joinpath(f"{name}.py").exists()
            or (PACKAGE / "python/mmapcache" / name).is_dir()
        ), name
    rows = re.search(r"\| you want to \| call \|\n\|[-|]+\n((?:\|.*\n)+)", README)
    assert rows is not None
    methods = {*dir(mmapcache.MmapCache), *dir(mmapcache.Cache), *dir(mmapcache)}
    called = re.findall(r"`(?:mmapcache\.)?([a-z_]+)(?:\([^)]*\))?`", rows[1])
    assert len(called) > 15
    for name in called:
        assert name in methods, name
