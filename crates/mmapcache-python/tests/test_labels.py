"""`Labels`: ids that never change."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import mmapcache
from mmapcache import Labels


@pytest.fixture
def labels(path: Path) -> Labels:
    """Open empty labels."""
    return Labels(path)


def test_labels_have_one_id(labels: Labels) -> None:
    assert labels.get("a") is None
    assert labels.get_or_intern("a") == 0
    assert labels.get_or_intern(b"b") == 1
    assert labels.get_or_intern(bytearray(b"a")) == 0
    assert labels.get("b") == 1
    assert "a" in labels
    assert "c" not in labels
    assert len(labels) == 2


def test_ids_have_one_label(labels: Labels) -> None:
    labels.get_or_intern("größe")
    labels.get_or_intern(b"\xff")
    assert labels.resolve(0) == "größe".encode()
    assert labels.resolve_str(0) == "größe"
    assert labels.resolve(2) is None
    assert labels.resolve_str(2) is None
    with pytest.raises(UnicodeDecodeError):
        labels.resolve_str(1)
    with pytest.raises(OverflowError):
        labels.resolve(-1)


def test_many_labels_are_interned(labels: Labels, path: Path) -> None:
    names = [f"label{number}" for number in range(500)]
    ids = labels.get_or_intern_many([*names, "label0"])
    assert ids == [*range(500), 0]
    assert list(labels) == [(number, name.encode()) for number, name in enumerate(names)]
    labels.close()
    with Labels(path, read_only=True) as again:
        assert [again.get(name) for name in names] == list(range(500))
        with pytest.raises(mmapcache.ReadOnlyError):
            again.get_or_intern("new")
        assert again.get_or_intern("label7") == 7


def test_wrong_labels_are_refused(labels: Labels) -> None:
    with pytest.raises(mmapcache.KeyLengthError):
        labels.get_or_intern("")
    with pytest.raises(TypeError):
        labels.get_or_intern(3)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        labels.get_or_intern("\ud800")
    assert len(labels) == 0


def test_ids_can_be_used_up(path: Path) -> None:
    with Labels(path, max_entries=1) as labels:
        labels.get_or_intern("a")
        with pytest.raises(mmapcache.CacheFullError):
            labels.get_or_intern("b")


def test_labels_are_copied_and_checked(labels: Labels, tmp_path: Path) -> None:
    labels.get_or_intern("a")
    labels.flush()
    assert labels.verify()["is_clean"]
    assert labels.disk_usage()["total"] > 0
    assert labels.last_recovery is None
    assert labels.backup(tmp_path / "backup")["entries"] == 1
    with Labels(tmp_path / "backup") as backup, pickle.loads(pickle.dumps(labels)) as other:
        assert backup.get("a") == other.get("a") == 0
        assert repr(backup) == f"Labels({str(tmp_path / 'backup')!r})"


def test_closed_labels_refuse_calls(labels: Labels) -> None:
    listing = iter(labels)
    labels.close()
    assert labels.closed
    assert list(listing) == []
    with pytest.raises(mmapcache.ClosedError):
        labels.get("a")
