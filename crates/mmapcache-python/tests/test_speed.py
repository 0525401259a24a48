"""The command of docs/speed.md runs: a very short run, whose figures mean nothing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent


def test_speed_writes_its_tables(tmp_path: Path) -> None:
    document = tmp_path / "speed.md"
    document.write_text((PACKAGE / "docs" / "speed.md").read_text())
    short = ["--rounds", "1", "--keys", "300", "--calls", "60", "--seconds", "0.2"]
    run = subprocess.run(
        [sys.executable, str(PACKAGE / "bench" / "speed.py"), *short, "--write", str(document)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = document.read_text()
    for store in ("mmapcache.MmapCache", "mmapcache.Cache", "mmapcache.diskcache"):
        # Six columns in the first table, of which the plain map has no memoised call.
        assert len(re.findall(rf"^\| {store} \|(?: [\d.]+ \|){{5}}", text, re.MULTILINE)) == 1
        assert len(re.findall(rf"^\| {store} \| [\d,]+ \| 0 \|$", text, re.MULTILINE)) == 1
    assert text.count("| 20 x |") == 2
    assert text.startswith("# Speed from Python")
    # The next run replaces these figures.
    assert text.count("begin of the figures") == text.count("end of the figures") == 1


def test_speed_needs_a_place_to_write(tmp_path: Path) -> None:
    sys.path.insert(0, str(PACKAGE / "bench"))
    try:
        speed = importlib.import_module("speed")
    finally:
        sys.path.remove(str(PACKAGE / "bench"))
    document = tmp_path / "speed.md"
    document.write_text("no marks")
    with pytest.raises(SystemExit, match="has no place for the figures"):
        speed.write(str(document), "figures")
    assert document.read_text() == "no marks"
