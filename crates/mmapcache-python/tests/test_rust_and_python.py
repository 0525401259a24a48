"""A Rust and a Python program share a cache: the short form of `tests/rust_and_python.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import rust_and_python
from rust_and_python import Peer, WrongError


@pytest.fixture(scope="module")
def program() -> str:
    return rust_and_python.build_rust_peer()


def test_rust_and_python_agree(program: str, tmp_path: Path) -> None:
    found = rust_and_python.run(program, str(tmp_path / "cache"), 3.0, pythons=2)
    assert set(found) == {"python0", "python1", "rust"}
    for figures in found.values():
        assert figures["steps"] > 100
        assert figures["claims"] > 0


def test_wrong_values_are_noticed(program: str, tmp_path: Path) -> None:
    # The checks themselves can fail, on both sides.
    for value in (b"other:1:", b"python:x:", b"rust:2:\x03", b"python:1:" + b"\x01" * 1_499):
        with pytest.raises(WrongError):
            rust_and_python.check_value(value)
    peer = Peer(str(tmp_path / "cache"))
    for number in range(500):
        peer.cache.insert(b"shared/%d" % number, b"rust:1:")
    with pytest.raises(WrongError, match=r"the Rust program: .*not whole"):
        rust_and_python.run(program, str(tmp_path / "cache"), 0.5, pythons=0)


def test_wrong_sums_are_noticed(tmp_path: Path) -> None:
    peer = Peer(str(tmp_path / "cache"))
    for _ in range(50):
        peer.step()
    rust_and_python.check_sums(str(tmp_path / "cache"), [peer.figures()])
    peer.cache.increment(b"count", 1)
    with pytest.raises(WrongError, match="the cache has"):
        rust_and_python.check_sums(str(tmp_path / "cache"), [peer.figures()])
