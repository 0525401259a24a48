"""The dictionary with persidict's interface: keys, conditions, views, processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend_helpers import python_at_work, run_together
from persidict import (
    ANY_ETAG,
    DELETE_CURRENT,
    ETAG_HAS_CHANGED,
    ETAG_IS_THE_SAME,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    VALUE_NOT_RETRIEVED,
    MutationPolicyError,
    SafeStrTuple,
)

from mmapcache.codecs import CodecError
from mmapcache.persidict import MmapDict


@pytest.fixture
def values(tmp_path: Path) -> MmapDict:
    return MmapDict(base_dir=tmp_path / "values")


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", (1, {2}), {"a": [None]}], ids=repr)
def test_value_keeps_type(values: MmapDict, value: Any) -> None:
    values["a", "b"] = value
    assert values["a", "b"] == value
    assert type(values["a", "b"]) is type(value)
    assert ("a", "b") in values
    assert "a" not in values
    assert list(values.items()) == [(SafeStrTuple("a", "b"), value)]


def test_absent_key_is_error(values: MmapDict) -> None:
    for call in (values.__getitem__, values.__delitem__, values.timestamp, values.etag):
        with pytest.raises(KeyError):
            call("a")
    assert values.discard("a") is False
    assert values.setdefault("other", 5) == 5
    del values["other"]
    for key in ("", "a/b", "a b", "ü", ".."):
        with pytest.raises(ValueError, match=r"non-empty|disallowed|not allowed"):
            values[key] = 1
    assert not values
    assert len(values) == 0


def test_jokers_are_commands(values: MmapDict) -> None:
    values["a"] = KEEP_CURRENT
    assert "a" not in values
    values["a"] = 1
    values["a"] = KEEP_CURRENT
    assert values["a"] == 1
    values["a"] = DELETE_CURRENT
    assert "a" not in values


def test_timestamp_is_time_of_write(values: MmapDict) -> None:
    before = time.time()
    values["a"] = 1
    first, etag = values.timestamp("a"), values.etag("a")
    assert before - 0.02 <= first <= time.time()
    values["a"] = 1
    assert values.etag("a") != etag
    time.sleep(0.02)
    values["b"] = 2
    assert values.timestamp("b") > values.timestamp("a") >= first
    assert values.newest_keys() == [("b",), ("a",)]
    assert values.oldest_keys(max_n=1) == [("a",)]
    assert [value for value, _ in sorted(values.values_and_timestamps())] == [1, 2]


def test_view_shows_prefix(values: MmapDict) -> None:
    for key in (("a",), ("a", "b"), ("a", "b", "c"), ("ab", "c")):
        values[key] = key[-1]
    view = values.get_subdict("a")
    assert sorted(key.strings for key in view) == [("b",), ("b", "c")]
    assert len(view) == 2
    view["d"] = "new"
    assert values["a", "d"] == "new"
    assert view.get_subdict("b")["c"] == "c"
    assert sorted(values.subdicts()) == ["a", "ab"]
    assert view.random_key() in view
    view.clear()
    assert sorted(key.strings for key in values) == [("a",), ("ab", "c")]
    assert values.random_key() in values
    values.clear()
    assert values.random_key() is None


def test_append_only_refuses_changes(tmp_path: Path) -> None:
    values = MmapDict(base_dir=tmp_path, append_only=True)
    values["a"] = 1
    for change in (
        lambda: values.__setitem__("a", 2),
        lambda: values.__delitem__("a"),
        lambda: values.discard("a"),
        lambda: values.clear(),
        lambda: values.pop("a"),
        lambda: values.set_item_if(
            "a", value=2, condition=ANY_ETAG, expected_etag=ITEM_NOT_AVAILABLE
        ),
        lambda: values.discard_if("a", condition=ANY_ETAG, expected_etag=ITEM_NOT_AVAILABLE),
    ):
        with pytest.raises(MutationPolicyError):
            change()
    assert dict(values.items()) == {SafeStrTuple("a"): 1}


def test_condition_decides(values: MmapDict) -> None:
    made = values.set_item_if(
        "a", value=1, condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE
    )
    assert made.condition_was_satisfied
    assert made.resulting_etag == values.etag("a")
    again = values.set_item_if(
        "a", value=2, condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE
    )
    assert (again.condition_was_satisfied, again.new_value) == (False, 1)
    same = {"condition": ETAG_IS_THE_SAME, "expected_etag": made.resulting_etag}
    kept = values.set_item_if("a", value=KEEP_CURRENT, **same)
    assert (kept.condition_was_satisfied, kept.new_value) == (True, VALUE_NOT_RETRIEVED)
    changed = values.set_item_if("a", value=3, **same)
    assert changed.value_was_mutated
    assert values["a"] == 3
    assert not values.discard_if("a", **same).condition_was_satisfied
    other = {"condition": ETAG_HAS_CHANGED, "expected_etag": made.resulting_etag}
    assert values.setdefault_if("a", default_value=4, **other).new_value == 3
    assert values.discard_if("a", **other).condition_was_satisfied
    assert values.setdefault_if("a", default_value=4, **other).new_value == 4
    deleted = values.set_item_if("a", value=DELETE_CURRENT, **other)
    assert deleted.resulting_etag is ITEM_NOT_AVAILABLE
    assert "a" not in values


def test_setdefault_keeps_first(values: MmapDict) -> None:
    assert values.setdefault("a", 1) == 1
    assert values.setdefault("a", 2) == 1
    with pytest.raises(TypeError):
        values.setdefault("b", KEEP_CURRENT)


def test_removal_returns_value(values: MmapDict) -> None:
    values["a"] = None
    assert values.pop("a") is None
    assert values.pop("a", 5) == 5
    with pytest.raises(KeyError):
        values.pop("a")
    values["b"] = 2
    key, value = values.popitem()
    assert (key.strings, value) == (("b",), 2)
    with pytest.raises(KeyError):
        values.popitem()


class Racing(MmapDict):
    """Another writer stores a value just after this one has looked."""

    def _actual_etag(self, key: Any) -> Any:
        return self._then_other_writes(super()._actual_etag(key), key)

    def _get_value_and_etag(self, key: Any) -> Any:
        try:
            return super()._get_value_and_etag(key)
        except KeyError as error:
            self._then_other_writes(None, key)
            raise error

    def _then_other_writes(self, seen: Any, key: Any) -> Any:
        if not hasattr(self, "was_overtaken"):
            self.was_overtaken = True
            MmapDict(base_dir=self.base_dir)[key] = "theirs"
        return seen


def test_overtaken_writer_notices(tmp_path: Path) -> None:
    changes: dict[str, Callable[[MmapDict], Any]] = {
        "setdefault": lambda racing: racing.setdefault("a", "mine"),
        "set_item_if": lambda racing: (
            racing.set_item_if(
                "a", value="mine", condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE
            ).new_value
        ),
        "setdefault_if": lambda racing: (
            racing.setdefault_if(
                "a",
                default_value="mine",
                condition=ETAG_IS_THE_SAME,
                expected_etag=ITEM_NOT_AVAILABLE,
            ).new_value
        ),
    }
    for name, change in changes.items():
        racing = Racing(base_dir=tmp_path / name)
        assert change(racing) == "theirs", name
        assert racing["a"] == "theirs"
    replacing = Racing(base_dir=tmp_path / "replace")
    MmapDict(base_dir=tmp_path / "replace")["a"] = "first"
    etag = MmapDict(base_dir=tmp_path / "replace").etag("a")
    same = {"condition": ETAG_IS_THE_SAME, "expected_etag": etag}
    assert replacing.set_item_if("a", value="mine", **same).new_value == "theirs"
    assert not replacing.discard_if("a", **same).condition_was_satisfied
    removing = Racing(base_dir=tmp_path / "remove")
    MmapDict(base_dir=tmp_path / "remove")["a"] = "first"
    etag = MmapDict(base_dir=tmp_path / "remove").etag("a")
    same = {"condition": ETAG_IS_THE_SAME, "expected_etag": etag}
    assert not removing.discard_if("a", **same).condition_was_satisfied
    assert removing["a"] == "theirs"


COUNT = """
    import sys
    from mmapcache.persidict import MmapDict
    from backend_helpers import wait_for_all
    values = MmapDict(base_dir=sys.argv[1])
    wait_for_all()
    for _ in range(300):
        while True:
            found = values.get_with_etag("count")
            changed = values.set_item_if(
                "count", value=found.new_value + 1,
                condition=sys.modules["persidict"].ETAG_IS_THE_SAME,
                expected_etag=found.actual_etag,
            )
            if changed.condition_was_satisfied:
                break
"""


def test_processes_count_together(values: MmapDict) -> None:
    values["count"] = 0
    run_together(COUNT, 3, values.base_dir)
    assert values["count"] == 900


CLAIM = """
    import os, sys
    from mmapcache.persidict import MmapDict
    from backend_helpers import wait_for_all
    values = MmapDict(base_dir=sys.argv[1])
    wait_for_all()
    print(sum(values.setdefault(str(number), os.getpid()) == os.getpid() for number in range(200)))
"""


def test_one_process_wins_each_key(values: MmapDict) -> None:
    won = [int(text) for text in run_together(CLAIM, 3, values.base_dir)]
    assert sum(won) == 200


WRITE = """
    import sys
    from mmapcache.persidict import MmapDict
    values = MmapDict(base_dir=sys.argv[1])
    number = 0
    while True:
        number += 1
        values["number"] = number
        if number == 200:
            print("at work", flush=True)
"""


def test_killed_writer_loses_nothing(values: MmapDict) -> None:
    with python_at_work(WRITE, values.base_dir) as writer:
        seen = values["number"]
        writer.kill()
        writer.wait()
    assert values["number"] >= seen >= 200
    values["number"] = 0
    assert values["number"] == 0


def test_formats_are_apart(tmp_path: Path) -> None:
    formats = {"msgpack": (1,), "json": [1], "pkl": complex(1)}
    for name, value in formats.items():
        MmapDict(base_dir=tmp_path, serialization_format=name)["a"] = value
    for name, value in formats.items():
        assert MmapDict(base_dir=tmp_path, serialization_format=name)["a"] == value
    text = MmapDict(base_dir=tmp_path, serialization_format="txt", base_class_for_values=str)
    text["a"] = "ü"
    assert text["a"] == "ü"
    with pytest.raises(TypeError):
        text["a"] = 5
    with pytest.raises(ValueError, match="serialization_format"):
        MmapDict(base_dir=tmp_path, serialization_format="txt")
    with pytest.raises(ValueError, match="file"):
        MmapDict(base_dir=Path(__file__))


def test_unsupported_value_is_named(values: MmapDict) -> None:
    values["a"] = 1
    with pytest.raises(TypeError, match="codec pickle"):
        values["a"] = object()
    with pytest.raises(TypeError, match="PersiDict"):
        values["a"] = values
    assert values["a"] == 1


def test_foreign_value_is_error(values: MmapDict) -> None:
    values["a"] = 1
    values.store.put(b"ka", b"p\x80")
    with pytest.raises(CodecError):
        values["a"]
    values["a"] = 2
    assert values["a"] == 2


def test_parameters_open_same_dictionary(values: MmapDict) -> None:
    values["a", "b"] = 1
    view = values.get_subdict("a")
    same = MmapDict(**view.get_params())
    assert same["b"] == 1
    assert same == view
    assert "prefix=('a',)" in repr(view)


def test_long_key_is_listed(values: MmapDict) -> None:
    long = tuple("x" * 200 for _ in range(400))
    values[long] = 1
    values["a"] = 2
    assert values[long] == 1
    assert sorted((len(key), value) for key, value in values.items()) == [(1, 2), (400, 1)]
    assert len(values.get_subdict(long[:1])) == 1
    del values[long]
    assert list(values) == [("a",)]
