"""AutoIncrementDict: the four methods of the class in memory, and what being persistent adds."""

from __future__ import annotations

import datetime
import doctest
import multiprocessing
import pickle
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

import mmapcache
import mmapcache.seeds
from mmapcache.seeds import AutoIncrementDict

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def numbers(tmp_path: Path) -> AutoIncrementDict:
    return AutoIncrementDict(tmp_path / "labels")


def test_numbers_count_from_zero(numbers: AutoIncrementDict) -> None:
    assert [numbers.get_or_insert(key) for key in ("a", "b", "a", "c")] == [0, 1, 0, 2]
    assert [numbers.get_by_id(number) for number in range(3)] == ["a", "b", "c"]
    assert len(numbers) == 3
    assert "b" in numbers
    assert "d" not in numbers
    assert len(numbers) == 3


def test_docstring_example_runs(tmp_path: Path) -> None:
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for example in finder.find(
        AutoIncrementDict, globs={**vars(mmapcache.seeds), "directory": tmp_path}
    ):
        runner.run(example)
    assert runner.summarize() == (0, 4)


KEYS: list[Any] = [
    "",
    "text",
    "\N{SNOWMAN}",
    b"",
    b"text",
    b"\xff",
    0,
    1,
    True,
    1.0,
    -(2**70),
    None,
    ("a", 1),
    ("a", (1, None)),
    uuid.UUID(int=5),
    datetime.date(2026, 12, 1),
]


def test_keys_keep_their_types(numbers: AutoIncrementDict) -> None:
    given = [numbers.get_or_insert(key) for key in KEYS]
    assert given == list(range(len(KEYS)))
    for number, key in enumerate(KEYS):
        found = numbers.get_by_id(number)
        assert (type(found), found) == (type(key), key)
        assert key in numbers
    assert list(numbers) == KEYS
    assert list(numbers.items()) == [(key, number) for number, key in enumerate(KEYS)]


@pytest.mark.parametrize("id", [3, -1, 2**31, 2**70])
def test_unknown_number_is_index_error(numbers: AutoIncrementDict, id: int) -> None:
    for key in "abc":
        numbers.get_or_insert(key)
    with pytest.raises(IndexError, match=f"no key has the number {id}"):
        numbers.get_by_id(id)


def test_number_must_be_whole(numbers: AutoIncrementDict) -> None:
    numbers.get_or_insert("a")
    with pytest.raises(TypeError):
        numbers.get_by_id(0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [[], {}, {1}, frozenset([1]), ("a", frozenset()), object()])
def test_other_types_are_no_keys(numbers: AutoIncrementDict, key: Any) -> None:
    with pytest.raises(TypeError):
        numbers.get_or_insert(key)
    with pytest.raises(TypeError):
        key in numbers
    assert len(numbers) == 0


def test_too_long_key_adds_nothing(numbers: AutoIncrementDict) -> None:
    with pytest.raises(mmapcache.KeyLengthError):
        numbers.get_or_insert("k" * 65_536)
    assert len(numbers) == 0


def test_get_adds_nothing(numbers: AutoIncrementDict) -> None:
    assert numbers.get("a") is None
    assert numbers.get("a", -1) == -1
    assert numbers.get_or_insert("a") == 0
    assert numbers.get("a") == 0


def test_many_keys_at_once(numbers: AutoIncrementDict) -> None:
    numbers.get_or_insert("b")
    assert numbers.get_or_insert_many(iter(["a", "b", 5, "a"])) == [1, 0, 2, 1]


def test_numbers_survive_reopening(numbers: AutoIncrementDict, tmp_path: Path) -> None:
    numbers.get_or_insert("a")
    numbers.close()
    with pytest.raises(mmapcache.ClosedError):
        numbers.get_or_insert("a")
    with AutoIncrementDict(tmp_path / "labels") as again:
        assert again.get_or_insert("b") == 1
        assert again.get_by_id(0) == "a"
        again.flush()


def test_texts_are_plain_labels(numbers: AutoIncrementDict, tmp_path: Path) -> None:
    # A program in Rust sees the same text.
    assert numbers.get_or_insert("r/outfits") == 0
    labels = mmapcache.Labels(tmp_path / "labels")
    assert labels.resolve(0) == b"r/outfits"
    assert labels.get_or_intern(b"r/aww") == 1
    assert numbers.get_by_id(1) == "r/aww"
    labels.get_or_intern(b"\x80")
    assert numbers.get_by_id(2) == b"\x80"


def test_pickle_opens_the_path(numbers: AutoIncrementDict) -> None:
    numbers.get_or_insert("a")
    again = pickle.loads(pickle.dumps(numbers))
    assert again.get_or_insert("b") == 1
    assert numbers.get_by_id(1) == "b"


def test_threads_agree(numbers: AutoIncrementDict) -> None:
    found: list[list[int]] = []

    def insert() -> None:
        found.append([numbers.get_or_insert(f"k{number}") for number in range(500)])

    threads = [threading.Thread(target=insert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found[1:] == found[:-1]
    assert sorted(found[0]) == list(range(500))


def _insert(path: str, keys: list[str]) -> list[int]:
    numbers = AutoIncrementDict(path)
    return [numbers.get_or_insert(key) for key in keys]


def test_processes_agree(tmp_path: Path) -> None:
    path, keys = str(tmp_path / "labels"), [f"k{number}" for number in range(500)]
    orders = [keys, keys[::-1], keys[250:] + keys[:250]]
    with spawn.Pool(3) as pool:
        given = pool.starmap(_insert, [(path, order) for order in orders])
    by_key = [
        dict(zip(order, numbers, strict=True)) for order, numbers in zip(orders, given, strict=True)
    ]
    assert by_key[0] == by_key[1] == by_key[2]
    assert sorted(by_key[0].values()) == list(range(500))
