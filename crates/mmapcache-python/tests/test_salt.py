"""The Salt driver, without Salt: `tests/foreign/salt` runs it under Salt's loader and suites."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mmapcache
from mmapcache import _banks, salt
from mmapcache._banks import Banks

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def driver(tmp_path: Path) -> ModuleType:
    """The module that Salt's loader makes of the driver's file."""
    [directory] = salt.loader_dirs()["cache"]
    spec = importlib.util.spec_from_file_location(
        "salt.loaded.ext.cache.mmapcache", os.path.join(directory, "mmapcache.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__["cachedir"] = str(tmp_path)
    return module


@pytest.fixture
def banks(tmp_path: Path) -> Banks:
    return Banks(tmp_path / "banks")


def names(banks: Banks, bank: str) -> list[str]:
    return sorted(member.name for member in banks.members(bank))


def slots(banks: Banks, bank: str) -> int:
    return banks._table(banks.cache(), bank)[0]


# The driver.


VALUES: list[Any] = [
    {},
    [],
    "",
    None,
    0,
    False,
    1.5,
    "text \N{SNOWMAN}",
    b"\x00\xff",
    [1, "two", None],
    {1: "one", -2: {3.5: b""}, None: True, b"k": []},
    {"deep": {"er": [{"and": {"er": [2**63, -(2**63), 2**64 - 1]}}]}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_comes_back_equal(driver: ModuleType, tmp_path: Path, value: Any) -> None:
    driver.store("bank", "key", value, str(tmp_path))
    fetched = driver.fetch("bank", "key", str(tmp_path))
    assert fetched == value
    assert type(fetched) is type(value)


def test_tuple_keys_come_back(driver: ModuleType, tmp_path: Path) -> None:
    driver.store("bank", "key", {(1, "a"): [2]}, str(tmp_path))
    assert driver.fetch("bank", "key", str(tmp_path)) == {(1, "a"): (2,)}


def test_absent_key_is_empty_dict(driver: ModuleType, tmp_path: Path) -> None:
    cachedir = str(tmp_path)
    assert driver.fetch("bank", "key", cachedir) == {}
    assert driver.updated("bank", "key", cachedir) is None
    assert driver.flush("bank", "key", cachedir) is False
    assert driver.flush("bank", None, cachedir) is False
    assert driver.contains("bank", "key", cachedir) is False
    assert driver.contains("bank", None, cachedir) is False
    assert driver.list_("bank", cachedir) == []
    assert driver.list_all("bank", cachedir) == {}


def test_lookups_make_no_files(driver: ModuleType, tmp_path: Path) -> None:
    test_absent_key_is_empty_dict(driver, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_updated_is_time_of_storing(driver: ModuleType, tmp_path: Path) -> None:
    before = time.time()
    driver.store("bank", "key", 1, str(tmp_path))
    updated = driver.updated("bank", "key", str(tmp_path))
    assert int(before) <= updated <= time.time()
    assert type(updated) is int
    value = salt.banks(str(tmp_path)).get("bank", "key")
    assert value is not None
    assert before <= salt.written_at(value) <= time.time()


def test_expired_key_is_absent_everywhere(driver: ModuleType, tmp_path: Path) -> None:
    cachedir = str(tmp_path)
    driver.store("bank", "short", {"x": 1}, cachedir, expires=1)
    driver.store("bank", "long", {"x": 2}, cachedir, expires=1000)
    assert driver.fetch("bank", "short", cachedir) == {"x": 1}
    assert sorted(driver.list_("bank", cachedir)) == ["long", "short"]
    time.sleep(1.1)
    assert driver.fetch("bank", "short", cachedir) == {}
    assert driver.contains("bank", "short", cachedir) is False
    assert driver.updated("bank", "short", cachedir) is None
    assert driver.flush("bank", "short", cachedir) is False
    assert driver.list_("bank", cachedir) == ["long"]
    assert driver.list_all("bank", cachedir, include_data=True) == {"long": {"x": 2}}


@pytest.mark.parametrize("none", [None, 0])
def test_no_seconds_mean_no_end(driver: ModuleType, tmp_path: Path, none: int | None) -> None:
    driver.store("bank", "key", 1, str(tmp_path), expires=100)
    driver.store("bank", "key", 2, str(tmp_path), expires=none)
    found = salt.banks(str(tmp_path)).entry("bank", "key")
    assert found is not None and found.expires_at is None


def test_negative_seconds_expire_at_once(driver: ModuleType, tmp_path: Path) -> None:
    driver.store("bank", "key", 1, str(tmp_path))
    driver.store("bank", "key", 2, str(tmp_path), expires=-5)
    assert driver.contains("bank", "key", str(tmp_path)) is False


def test_new_life_changes_listing(driver: ModuleType, tmp_path: Path) -> None:
    # The key's place in the table has to live as long as the key.
    cachedir = str(tmp_path)
    driver.store("bank", "key", 1, cachedir, expires=0.3)
    driver.store("bank", "key", 2, cachedir, expires=1000)
    time.sleep(0.4)
    assert driver.list_("bank", cachedir) == ["key"]
    driver.store("bank", "key", 3, cachedir, expires=0.3)
    time.sleep(0.4)
    assert driver.list_("bank", cachedir) == []


def test_unencodable_data_is_refused(driver: ModuleType, tmp_path: Path) -> None:
    # A TypeError would make Salt store the data again, wrapped. Without Salt it is a ValueError.
    driver.store("bank", "key", 1, str(tmp_path))
    with pytest.raises(ValueError, match="cannot be encoded"):
        driver.store("bank", "key", object(), str(tmp_path))
    assert driver.fetch("bank", "key", str(tmp_path)) == 1


@pytest.mark.parametrize(
    "stored",
    [b"", b"\x01", b"\x01" + bytes(8), b"\x01" + bytes(8) + b"\xc1", b"\x07" + bytes(8) + b"\x01"],
)
def test_foreign_value_is_error(driver: ModuleType, tmp_path: Path, stored: bytes) -> None:
    salt.banks(str(tmp_path)).store("bank", "key", stored)
    driver.store("bank", "good", 1, str(tmp_path))
    with pytest.raises(ValueError, match="mmapcache: an entry"):
        driver.fetch("bank", "key", str(tmp_path))
    assert driver.list_all("bank", str(tmp_path), include_data=True) == {"good": 1}


def test_bank_must_be_text(driver: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be text, not NoneType"):
        driver.flush(None, None, str(tmp_path))


def test_files_are_for_owner_only(driver: ModuleType, tmp_path: Path) -> None:
    driver.store("bank", "key", 1, str(tmp_path))
    files = list((tmp_path / "mmapcache").iterdir())
    assert files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_storage_ids_tell_directories_apart(driver: ModuleType) -> None:
    one, two = ({"cachedir": path} for path in ("/a", "/b"))
    assert driver.get_storage_id(one) != driver.get_storage_id(two)
    assert driver.storage_id(one) == driver.get_storage_id(one)
    assert driver.init_kwargs({"cachedir": "/a", "driver": "mmapcache"}) == one


def test_clean_expired_keeps_the_rest(driver: ModuleType, tmp_path: Path) -> None:
    cachedir = str(tmp_path)
    for number in range(50):
        driver.store("tokens", f"t{number}", number, cachedir, expires=0.2)
    driver.store("tokens", "valid", 1, cachedir, expires=1000)
    driver.store("tokens", "eternal", 2, cachedir)
    time.sleep(0.3)
    driver.clean_expired("tokens", cachedir)
    assert sorted(driver.list_("tokens", cachedir)) == ["eternal", "valid"]
    assert slots(salt.banks(cachedir), "tokens") == 2
    # What is left: the two keys with their places and members, the bank with its own, two tables.
    assert salt.banks(cachedir).cache().len_with_expired() == 10


def test_clean_expired_frees_other_banks(driver: ModuleType, tmp_path: Path) -> None:
    cachedir = str(tmp_path)
    for number in range(200):
        driver.store("other", f"k{number}", number, cachedir, expires=0.2)
    time.sleep(0.3)
    driver.clean_expired("tokens", cachedir)
    # The members of the other bank, its place, and two tables; not the keys and their places.
    assert salt.banks(cachedir).cache().len_with_expired() <= 200 + 4


# Names.


def test_key_with_slash_lies_deeper(banks: Banks) -> None:
    banks.store("pillar", "minion:some/env", b"1")
    assert banks.get("pillar/minion:some", "env") == b"1"
    assert names(banks, "pillar") == ["minion:some"]
    assert names(banks, "pillar/minion:some") == ["env"]


@pytest.mark.parametrize("key", ["", "..", ".", "a b", "k" * 255, "\N{SNOWMAN}", "\udc80", "a\0b"])
def test_any_key_is_listed(banks: Banks, key: str) -> None:
    banks.store("bank", key, b"1")
    assert banks.get("bank", key) == b"1"
    assert names(banks, "bank") == [key]
    assert banks.remove("bank", key)
    assert names(banks, "bank") == []


def test_very_long_names_work(banks: Banks) -> None:
    bank, key = "b" * 70_000, "k" * 70_000
    banks.store(bank, key, b"1")
    banks.store(bank, key + "2", b"2")
    assert banks.get(bank, key) == b"1"
    assert names(banks, bank) == [key, key + "2"]
    assert names(banks, "") == [bank]
    assert banks.remove_bank(bank)
    assert not banks.contains_bank(bank)


def test_number_is_its_text(banks: Banks) -> None:
    banks.store("bank", 20261201, b"1")
    assert banks.get("bank", "20261201") == b"1"


@pytest.mark.parametrize("same", ["a/b", "/a/b", "a//b/", "./a/./b", "x/../a/b", "../../a/b"])
def test_bank_names_are_normalised(banks: Banks, same: str) -> None:
    banks.store("a/b", "key", b"1")
    assert banks.get(same, "key") == b"1"
    assert banks.contains_bank(same)


def test_similar_names_are_apart(banks: Banks) -> None:
    paths = [("", "a"), ("a", ""), ("a", "a"), ("a/a", "a"), ("aa", "a"), ("a", "aa")]
    for number, (bank, key) in enumerate(paths):
        banks.store(bank, key, b"%d" % number)
    for number, (bank, key) in enumerate(paths):
        assert banks.get(bank, key) == b"%d" % number


# Trees.


def test_bank_names_keys_and_sub_banks(banks: Banks) -> None:
    banks.store("p", "key", b"1")
    banks.store("p/sub/deep", "key", b"2")
    assert sorted(banks.members("p")) == [(b"k", "key"), (b"s", "sub")]
    assert names(banks, "p/sub") == ["deep"]
    assert names(banks, "") == ["p"]
    assert [name for name, _ in banks.items("p")] == ["key"]


def test_key_and_sub_bank_share_name(banks: Banks, driver: ModuleType, tmp_path: Path) -> None:
    banks.store("p", "x", b"1")
    banks.store("p/x", "y", b"2")
    assert sorted(banks.members("p")) == [(b"k", "x"), (b"s", "x")]
    assert banks.remove("p", "x")
    assert banks.get("p/x", "y") == b"2"
    driver.store("p", "x", 1, str(tmp_path))
    driver.store("p/x", "y", 1, str(tmp_path))
    assert driver.list_("p", str(tmp_path)) == ["x"]


def test_emptied_bank_still_exists(banks: Banks) -> None:
    banks.store("p/q", "key", b"1")
    assert banks.remove("p/q", "key")
    assert banks.contains_bank("p/q")
    assert banks.members("p/q") == []
    assert names(banks, "p") == ["q"]


def test_removed_bank_takes_all_along(banks: Banks) -> None:
    for bank in ("p", "p/a", "p/a/b", "p/c", "pp", "q"):
        for number in range(5):
            banks.store(bank, f"k{number}", b"1")
    assert banks.remove_bank("p")
    for bank in ("p", "p/a", "p/a/b", "p/c"):
        assert not banks.contains_bank(bank)
        assert banks.members(bank) == []
        assert not banks.contains(bank, "k0")
    assert names(banks, "") == ["pp", "q"]
    assert len(names(banks, "pp")) == 5
    assert banks.remove_bank("p") is False
    assert banks.remove_bank("pp") and banks.remove_bank("q")
    # The root has an empty table; nothing else is left.
    assert banks.cache().len_with_expired() == 1


def test_removed_bank_can_come_back(banks: Banks) -> None:
    banks.store("p/q", "old", b"1")
    assert banks.remove_bank("p")
    banks.store("p/q", "new", b"2")
    assert names(banks, "p/q") == ["new"]
    assert banks.get("p/q", "old") is None


def test_root_can_be_removed(banks: Banks) -> None:
    banks.store("", "key", b"1")
    banks.store("p/q", "key", b"1")
    assert banks.remove_bank("")
    assert banks.cache().len_with_expired() == 0
    assert not banks.contains_bank("")


def test_removals_leave_the_others(banks: Banks) -> None:
    # Each removal moves the last member of the table.
    left = {f"k{number}" for number in range(300)}
    for key in left:
        banks.store("bank", key, key.encode())
    for number in range(0, 300, 3):
        assert banks.remove("bank", f"k{number}")
        left.discard(f"k{number}")
        assert set(names(banks, "bank")) == left
    assert slots(banks, "bank") == len(left)
    assert dict(banks.items("bank")) == {key: key.encode() for key in left}


def test_long_table_is_listed_whole(banks: Banks) -> None:
    count = 2 * _banks._SLOTS_PER_READ + 3
    for number in range(count):
        banks.store("bank", f"k{number}", b"")
    assert len(set(names(banks, "bank"))) == count
    assert len(dict(banks.items("bank"))) == count


def test_expired_keys_do_not_pile_up(banks: Banks) -> None:
    # Sessions that expire and new ones all the time, without a call of `clean`.
    largest = 0
    for number in range(600):
        banks.store("tokens", f"t{number}", b"1", expires_at=round(time.time() + 0.05, 3))
        largest = max(largest, len(banks.members("tokens")))
        time.sleep(0.001)
    assert slots(banks, "tokens") < 2 * largest + 10


def test_moved_member_keeps_its_life(banks: Banks) -> None:
    banks.store("bank", "first", b"1")
    banks.store("bank", "last", b"2", expires_at=round(time.time() + 1, 3))
    assert banks.remove("bank", "first")
    assert names(banks, "bank") == ["last"]
    time.sleep(1.1)
    assert names(banks, "bank") == []


# Files, threads, processes.


def test_removed_files_are_made_again(banks: Banks, tmp_path: Path) -> None:
    # An administrator empties the cache directory while Salt runs.
    banks.store("bank", "key", b"1")
    for file in tmp_path.iterdir():
        file.unlink()
    assert banks.get("bank", "key") is None
    banks.store("bank", "key", b"2")
    assert Banks(tmp_path / "banks").get("bank", "key") == b"2"


def _replace_files(directory: Path) -> None:
    """Puts other files in the place of those in the directory."""
    other = Banks(directory / "other" / "banks")
    other.store("bank", "key", b"new")
    for file in directory.iterdir():
        if file.is_file():
            file.unlink()
    for file in (directory / "other").iterdir():
        shutil.copy(file, directory / file.name)


def test_replaced_files_are_noticed(banks: Banks, tmp_path: Path) -> None:
    banks.store("bank", "key", b"old")
    _replace_files(tmp_path)
    assert banks.get("bank", "key") == b"new"


def test_files_replaced_during_opening_are_noticed(
    banks: Banks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks.store("bank", "key", b"old")
    reader, is_replaced = Banks(banks.path), False

    def open_files(*arguments: Any, **options: Any) -> Any:
        nonlocal is_replaced
        cache = mmapcache.Cache(*arguments, **options)
        if not is_replaced:
            is_replaced = True
            _replace_files(tmp_path)
        return cache

    monkeypatch.setattr(_banks, "Cache", open_files)
    reader.get("bank", "key")
    assert is_replaced
    assert reader.get("bank", "key") == b"new"


def test_threads_keep_the_tree(banks: Banks) -> None:
    errors: list[BaseException] = []

    def change(thread: int) -> None:
        try:
            for number in range(100):
                banks.store("bank", f"{thread}-{number}", b"1")
                if number % 2:
                    assert banks.remove("bank", f"{thread}-{number - 1}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    expected = sorted(f"{thread}-{number}" for thread in range(4) for number in range(1, 100, 2))
    assert names(banks, "bank") == expected


def _change_for_ever(path: str, process: int) -> None:
    banks = Banks(path)
    for number in range(10**9):
        banks.store(f"p/{number % 3}", f"{process}-{number % 50}", b"%d" % number)
        if number % 2:
            banks.remove(f"p/{number % 3}", f"{process}-{(number * 7) % 50}")
        if number % 400 == 399:
            banks.remove_bank(f"p/{number % 3}")


def _check_tree(banks: Banks, kills: int) -> None:
    """Each key with a value is listed; a kill may leave a name that is listed without a value."""
    cache = banks.cache()
    with_value = {key[1:] for key in cache.keys() if key[:1] == b"d"}
    listed = set()
    pending = [""]
    for bank in pending:
        for member in banks.members(bank):
            path = f"{bank}/{member.name}" if bank else member.name
            if member.kind == _banks.BANK:
                assert banks.contains_bank(path)
                pending.append(path)
            else:
                listed.add(path.encode())
    assert with_value <= listed
    assert len(listed - with_value) <= kills


def test_kills_leave_a_correct_tree(tmp_path: Path) -> None:
    path = str(tmp_path / "banks")
    banks = Banks(path)
    banks.store("p/0", "first", b"1")
    for kills in range(1, 7):
        children = [spawn.Process(target=_change_for_ever, args=(path, n)) for n in range(2)]
        for child in children:
            child.start()
        before = banks.cache().last_version()
        while banks.cache().last_version() == before:
            time.sleep(0.001)
        time.sleep(0.15)
        for child in children:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        _check_tree(banks, kills)
        banks.store("p/0", "after", b"1")
        assert banks.get("p/0", "after") == b"1"
    for bank in ("p/0", "p/1", "p/2"):
        banks.clean(bank)
    _check_tree(banks, 0)


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_listing_that_was_overtaken_repeats(
    banks: Banks, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    # The reader has seen the first slots when a removal moves the last member to one of them.
    for number in range(10):
        banks.store("bank", f"k{number}", b"1")
    other, read, left = Banks(banks.path), _banks._get_sound, changes

    def overtaken(cache: Any, keys: list[bytes]) -> Any:
        nonlocal left
        values = read(cache, keys)
        if left and keys and keys[0].endswith(_banks._SLOT.pack(4)):
            left -= 1
            assert other.remove("bank", f"k{left}")
        return values

    monkeypatch.setattr(_banks, "_SLOTS_PER_READ", 1)
    monkeypatch.setattr(_banks, "_get_sound", overtaken)
    expected = [f"k{number}" for number in range(10) if number >= changes]
    assert names(banks, "bank") == expected
    assert left == 0


def _add_and_remove_others(path: str, stop: Any) -> None:
    banks = Banks(path)
    number = 0
    while not stop.is_set():
        number += 1
        banks.store("bank", f"other{number % 20}", b"1")
        banks.remove("bank", f"other{(number * 7) % 20}")


def test_listing_misses_no_unchanged_key(tmp_path: Path) -> None:
    # Removals move members; a listing that is under way must not miss one.
    path = str(tmp_path / "banks")
    banks = Banks(path)
    expected = {f"k{number}" for number in range(100)}
    for number in range(10):
        banks.store("bank", f"other{number}", b"1")
    for key in expected:
        banks.store("bank", key, b"1")
    stop = spawn.Event()
    child = spawn.Process(target=_add_and_remove_others, args=(path, stop))
    child.start()
    try:
        for _ in range(300):
            assert expected <= set(names(banks, "bank"))
    finally:
        stop.set()
        child.join()
    assert child.exitcode == 0


def _damage(directory: Path, *marks: bytes) -> None:
    """Changes a byte of the record that has the marks, in this order."""
    [heap] = directory.glob("banks.heap*")
    content = heap.read_bytes()
    place = 0
    for mark in marks:
        place = content.index(mark, place)
    with heap.open("r+b") as file:
        file.seek(place)
        file.write(bytes((content[place] ^ 1,)))


DAMAGES = [(b"mbank", b"ka"), (b"tbank",), (b"s/bank",), (b"kbank/a",), (b"kbank/b",)]


@pytest.mark.parametrize("marks", DAMAGES, ids=repr)
@pytest.mark.parametrize("call", ["members", "store", "clean", "remove_bank"])
def test_damaged_tables_are_made_again(
    banks: Banks, tmp_path: Path, marks: tuple[bytes, ...], call: str
) -> None:
    # A listing that silently misses keys would be worse than one that takes longer.
    banks.store("bank", "a", b"1", expires_at=round(time.time() + 1000, 3))
    banks.store("bank", "b", b"2")
    banks.store("bank/sub", "c", b"3")
    _damage(tmp_path, *marks)
    if call == "store":
        banks.store("bank", "b", b"2")
    elif call == "remove_bank":
        assert banks.remove_bank("bank")
        assert names(banks, "") == []
        assert banks.get("bank", "a") is None
        assert banks.get("bank/sub", "c") is None
        return
    else:
        getattr(banks, call)("bank")
    assert names(banks, "bank") == ["a", "b", "sub"]
    assert names(banks, "bank/sub") == ["c"]
    assert names(banks, "") == ["bank"]
    found = banks.entry("bank", "a")
    assert found is not None and found.expires_at is not None
    assert banks.remove("bank", "a")
    assert names(banks, "bank") == ["b", "sub"]


def test_removal_beside_damage_is_reported(banks: Banks, tmp_path: Path) -> None:
    for name in "abc":
        banks.store("bank", name, b"1")
    _damage(tmp_path, b"mbank", b"kc")
    # It would move the last member, which is damaged, into the slot.
    assert banks.remove("bank", "a") is True
    assert names(banks, "bank") == ["b", "c"]


def test_damaged_place_without_key_is_replaced(banks: Banks, tmp_path: Path) -> None:
    banks.store("bank", "a", b"a value that is long enough")
    banks.store("bank", "b", b"2")
    _damage(tmp_path, b"long enough")
    _damage(tmp_path, b"kbank/a")
    banks.store("bank", "a", b"1")
    assert names(banks, "bank") == ["a", "b"]
    assert banks.remove("bank", "a")
    assert names(banks, "bank") == ["b"]


def test_damaged_value_is_absent(driver: ModuleType, tmp_path: Path) -> None:
    driver.store("bank", "key", "a text that is long enough", str(tmp_path))
    _damage(tmp_path / "mmapcache", b"long enough")
    assert driver.fetch("bank", "key", str(tmp_path)) == {}
    assert driver.updated("bank", "key", str(tmp_path)) is None
    driver.store("bank", "key", "new", str(tmp_path))
    assert driver.fetch("bank", "key", str(tmp_path)) == "new"
    assert driver.list_("bank", str(tmp_path)) == ["key"]
