"""The examples of docs/backends.md, each run as a program of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from backend_helpers import run_python
from http_origin import origin

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"


def examples() -> list[str]:
    """Returns the Python blocks of the page; Django's settings and their use are one."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    settings, use, *others = blocks
    start = "from django.conf import settings\nsettings.configure(CACHES=CACHES)\n"
    return [settings + start + use, *others]


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.split("\n")[0])
def test_example_runs(example: str, tmp_path: Path) -> None:
    program = example.replace("/var/", f"{tmp_path}/")
    assert program != example
    with origin() as server:
        run_python(f"URL = {server.url + '/count'!r}\n" + program + "\nprint('done')")
    assert list(tmp_path.iterdir()), "the example made no files"


def test_page_has_examples() -> None:
    assert len(examples()) == 7
