"""The moves: Salt's files by their layout, and directories that diskcache 5.6.3 makes.

`tests/foreign/salt` moves files that Salt's own code wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import multiprocessing
import os
import sqlite3
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import diskcache as theirs
import msgpack
import pytest
import xxhash

import mmapcache.diskcache as ours
from mmapcache import salt as driver
from mmapcache.migrate import __main__ as command
from mmapcache.migrate import diskcache as disk_move
from mmapcache.migrate import outcome, sqlite_rows
from mmapcache.migrate import salt as salt_move
from mmapcache.migrate.outcome import Outcome

spawn = multiprocessing.get_context("spawn")


def counts(result: Outcome) -> dict[str, int]:
    return {what: count for what, count in result.counts.items() if count}


# Salt.


def write_localfs(source: Path, bank: str, key: str, packed: bytes, age: float = 0) -> None:
    path = source / bank / f"{key}.p"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    written = time.time() - age
    os.utime(path, (written, written))


def write_mmap_bank(
    source: Path, bank: str, items: dict[str, bytes], *, slot_size: int = 96, key_size: int = 64
) -> Path:
    """Writes the three files as salt.utils.mmap_cache lays them out, with 64 slots."""
    index, heap = bytearray(64 * slot_size), b""
    index[0:9] = struct.pack("<BQ", 0xAB, len(items))
    for slot, (key, value) in enumerate(items.items(), start=3):
        start = slot * slot_size
        index[start] = 1
        index[start + 1 : start + 1 + len(key.encode())] = key.encode()
        pointer = struct.pack("<QIQ", len(heap), len(value), 1_700_000_000 * 10**9)
        index[start + 1 + key_size : start + 1 + key_size + len(pointer)] = pointer
        if value:
            heap += struct.pack("<Q", xxhash.xxh3_64_intdigest(value)) + value
    # A deleted slot keeps its key.
    index[40 * slot_size : 40 * slot_size + 5] = b"\x02gone"
    path = source / bank / ".mmap_cache.idx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(index)
    path.with_name(path.name + ".heap").write_bytes(heap)
    return path


def test_localfs_banks_are_moved(tmp_path: Path) -> None:
    source, to = tmp_path / "source", str(tmp_path / "to")
    write_localfs(source, "minions/alpha", "data", msgpack.packb({1: "one"}), age=5000)
    write_localfs(source, "pillar", "beta:some/env", msgpack.packb([b"\xff"]))
    write_localfs(source, "", "top", msgpack.packb(None))
    assert counts(salt_move.move(str(source), to)) == {outcome.MOVED: 3}
    assert driver.fetch("minions/alpha", "data", to) == {1: "one"}
    assert driver.fetch("pillar", "beta:some/env", to) == [b"\xff"]
    assert driver.fetch("", "top", to) is None
    updated = driver.updated("minions/alpha", "data", to)
    assert updated is not None and abs(time.time() - 5000 - updated) < 5


def test_wrapped_deadlines_become_real(tmp_path: Path) -> None:
    source, to = tmp_path / "source", str(tmp_path / "to")
    later = int(time.time()) + 100
    write_localfs(source, "tokens", "valid", msgpack.packb({"data": {"a": 1}, "_expires": later}))
    write_localfs(source, "tokens", "dead", msgpack.packb({"data": {"a": 1}, "_expires": 5}))
    write_localfs(source, "tokens", "odd", msgpack.packb({"data": 1, "_expires": "soon"}))
    result = salt_move.move(str(source), to, result=Outcome(io.StringIO()))
    assert counts(result) == {outcome.MOVED: 1, outcome.EXPIRED: 1, outcome.UNREADABLE: 1}
    found = driver.banks(to).entry("tokens", "valid")
    assert found is not None and found.expires_at == later
    assert driver.fetch("tokens", "valid", to) == {"a": 1}
    assert driver.list_names("tokens", to) == ["valid"]


def test_unreadable_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    write_localfs(source, "bank", "good", msgpack.packb(1))
    write_localfs(source, "bank", "cut", b"\x93\x01")
    write_localfs(source, "bank", "empty", b"")
    write_localfs(source, "bank", "longer", b"\x01\x01")
    (source / "bank" / "dir.p").mkdir()
    assert command.main(["salt", str(source), str(to)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "1 moved\n3 unreadable, left\n"
    assert [line.split(":")[0] for line in printed.err.splitlines()] == [
        "bank/cut",
        "bank/empty",
        "bank/longer",
    ]


def test_second_move_changes_nothing(tmp_path: Path) -> None:
    source, to = tmp_path / "source", str(tmp_path / "to")
    write_localfs(source, "bank", "same", msgpack.packb(1), age=100)
    write_localfs(source, "bank", "ours", msgpack.packb(1), age=100)
    write_localfs(source, "bank", "theirs", msgpack.packb(1), age=100)
    salt_move.move(str(source), to)
    driver.store("bank", "ours", "newer", to)
    write_localfs(source, "bank", "theirs", msgpack.packb("newer"), age=50)
    result = salt_move.move(str(source), to)
    assert counts(result) == {outcome.MOVED: 1, outcome.UNCHANGED: 1, outcome.NEWER: 1}
    assert result.exit_code() == 0
    assert driver.fetch("bank", "ours", to) == "newer"
    assert driver.fetch("bank", "theirs", to) == "newer"


def test_directory_can_be_its_own_destination(tmp_path: Path) -> None:
    write_localfs(tmp_path, "bank", "key", msgpack.packb(1))
    # What lies beside the destination's files is no bank.
    write_localfs(tmp_path, "mmapcache", "other", msgpack.packb(1))
    for expected in (outcome.MOVED, outcome.UNCHANGED):
        assert counts(salt_move.move(str(tmp_path), str(tmp_path))) == {expected: 1}


def test_named_banks_alone_are_moved(tmp_path: Path) -> None:
    source, to = tmp_path / "source", str(tmp_path / "to")
    for bank in ("a", "a/b", "ab", "c"):
        write_localfs(source, bank, "key", msgpack.packb(bank))
    assert counts(salt_move.move(str(source), to, banks=["a", "c"])) == {outcome.MOVED: 3}
    assert driver.list_names("", to) == ["a", "c"] or driver.list_names("", to) == ["c", "a"]
    with pytest.raises(NotADirectoryError):
        salt_move.move(str(source), to, banks=["nowhere"])


def test_missing_source_stops_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["salt", str(tmp_path / "none"), str(tmp_path / "to")]) == 2
    assert "stopped:" in capsys.readouterr().err


def test_salt_types_stay_packed(tmp_path: Path) -> None:
    # Salt packs a date as its extension type 78; only Salt can decode it.
    packed = msgpack.packb({"at": msgpack.ExtType(78, b"20261201T00:00:00.000000")})
    write_localfs(tmp_path, "bank", "key", packed)
    assert counts(salt_move.move(str(tmp_path), str(tmp_path))) == {outcome.MOVED: 1}
    stored = driver.banks(str(tmp_path)).get("bank", "key")
    assert stored is not None and stored[0] == driver._PAYLOAD
    assert stored.endswith(packed)


@pytest.mark.parametrize("sizes", [(96, 64), (128, 64), (200, 150)])
def test_mmap_banks_are_moved(tmp_path: Path, sizes: tuple[int, int]) -> None:
    slot_size, key_size = sizes
    items = {
        "dict": msgpack.packb({"a": 0, 5: None}),
        "ends in zero": msgpack.packb([1, 0]),
        "presence": b"",
        "\N{SNOWMAN}": msgpack.packb(b"\x00\x00"),
    }
    write_mmap_bank(tmp_path, "cluster/log", items, slot_size=slot_size, key_size=key_size)
    to = str(tmp_path / "to")
    layout = salt_move.Layout(slot_size, key_size)
    assert counts(salt_move.move(str(tmp_path), to, layout=layout)) == {outcome.MOVED: 4}
    assert driver.list_all("cluster/log", to, include_data=True) == {
        "dict": {"a": 0, 5: None},
        "ends in zero": [1, 0],
        "presence": {},
        "\N{SNOWMAN}": b"\x00\x00",
    }
    assert driver.updated("cluster/log", "dict", to) == 1_700_000_000


def test_damaged_mmap_entry_is_named(tmp_path: Path) -> None:
    items = {f"k{number}": msgpack.packb("v" * 20) for number in range(3)}
    index = write_mmap_bank(tmp_path, "bank", items)
    heap = index.with_name(index.name + ".heap")
    content = bytearray(heap.read_bytes())
    content[10] ^= 1
    heap.write_bytes(content[:-1])
    log = io.StringIO()
    result = salt_move.move(str(tmp_path), str(tmp_path / "to"), result=Outcome(log))
    assert counts(result) == {outcome.MOVED: 1, outcome.UNREADABLE: 2}
    assert log.getvalue().splitlines() == [
        "bank/k0: the checksum of its value is wrong",
        "bank/k2: its value would end after the end of heap segment 0",
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ((128, 64), (96, 64)),
        ((128, 64), (64, 32)),
        ((64, 32), (128, 64)),
        ((96, 32), (96, 64)),
        ((96, 64), (96, 32)),
        ((96, 64), (48, 20)),
        ((96, 64), (192, 64)),
    ],
)
def test_other_slot_size_is_refused(
    tmp_path: Path, written: tuple[int, int], read: tuple[int, int]
) -> None:
    items = {"k" * (written[1] - 4): msgpack.packb(1), "other": msgpack.packb("v" * 200)}
    write_mmap_bank(tmp_path, "bank", items, slot_size=written[0], key_size=written[1])
    log = io.StringIO()
    result = salt_move.move(
        str(tmp_path), str(tmp_path / "to"), layout=salt_move.Layout(*read), result=Outcome(log)
    )
    assert counts(result) == {outcome.UNREADABLE: 1}
    assert "--slot-size" in log.getvalue()


def test_slot_without_room_is_refused(tmp_path: Path) -> None:
    write_mmap_bank(tmp_path, "bank", {"key": msgpack.packb(1)})
    log = io.StringIO()
    layout = salt_move.Layout(32, 16)
    result = salt_move.move(str(tmp_path), str(tmp_path), layout=layout, result=Outcome(log))
    assert counts(result) == {outcome.UNREADABLE: 1}
    assert "no room for a key of 16" in log.getvalue()


def test_move_waits_for_salt(tmp_path: Path) -> None:
    # Salt overwrites values in place, under this lock.
    index = write_mmap_bank(tmp_path, "bank", {"key": msgpack.packb(1)})
    results: list[Outcome] = []
    mover = threading.Thread(
        target=lambda: results.append(salt_move.move(str(tmp_path), str(tmp_path)))
    )
    with open(f"{index}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mover.start()
        mover.join(0.3)
        assert mover.is_alive()
        assert not driver.contains("bank", "key", str(tmp_path))
    mover.join()
    assert counts(results[0]) == {outcome.MOVED: 1}


def test_missing_heap_is_named(tmp_path: Path) -> None:
    index = write_mmap_bank(tmp_path, "bank", {"key": msgpack.packb(1)})
    index.with_name(index.name + ".heap").unlink()
    result = salt_move.move(str(tmp_path), str(tmp_path / "to"), result=Outcome(io.StringIO()))
    assert counts(result) == {outcome.UNREADABLE: 1}


def test_key_that_may_be_cut_is_named(tmp_path: Path) -> None:
    write_mmap_bank(tmp_path, "bank", {"k" * 64: msgpack.packb(1)})
    log = io.StringIO()
    result = salt_move.move(str(tmp_path), str(tmp_path / "to"), result=Outcome(log))
    assert counts(result) == {outcome.MOVED: 1, outcome.CUT: 1}
    assert "may be longer" in log.getvalue()


# diskcache.


PLAIN: list[tuple[Any, Any]] = [
    ("text", "text \N{SNOWMAN}"),
    (b"bytes", b"\x00\xff"),
    (1, 2**63 - 1),
    (1.5, -0.25),
    ("large bytes", bytes(100_000)),
    ("large text", "line\r\n" * 20_000),
    ("", ""),
]


def test_diskcache_is_moved(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source")) as source:
        for number, (key, value) in enumerate(PLAIN):
            source.set(key, value, tag=f"t{number}", expire=1000 if number % 2 else None)
        source.set("dead", 1, expire=0.001)
        deadlines = {key: source.get(key, expire_time=True)[1] for key, _ in PLAIN}
    time.sleep(0.01)
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: len(PLAIN), outcome.EXPIRED: 1}
    assert result.exit_code() == 0
    with ours.Cache(str(tmp_path / "to")) as to:
        assert list(to) == [key for key, _ in PLAIN]
        for number, (key, value) in enumerate(PLAIN):
            found, deadline, tag = to.get(key, expire_time=True, tag=True)
            assert (found, tag) == (value, f"t{number}")
            assert disk_move._is_same_time(deadline, deadlines[key])


def test_pickles_need_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["plain"] = {"list": [1, None, (True, {2})]}
        source["class"] = io.BytesIO
        source[("tuple", "key")] = "text"
        source["text"] = "text"
    for option, moved, left in (("", 1, 3), ("--pickle=plain", 3, 1)):
        to = tmp_path / f"to{option}"
        arguments = ["diskcache", str(tmp_path / "source"), str(to), *option.split()]
        assert command.main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [
            f"{moved} moved",
            f"{left} pickled, left (see --pickle)",
        ]
        assert len(printed.err.splitlines()) == left
    with ours.Cache(str(tmp_path / "to--pickle=plain")) as cache:
        assert cache["plain"] == {"list": [1, None, (True, {2})]}
        assert cache[("tuple", "key")] == "text"


class Bomb:
    """An object whose pickle makes a directory when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("pickles", ["none", "plain"])
def test_pickled_code_never_runs(tmp_path: Path, pickles: str) -> None:
    mark = tmp_path / "ran"
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["bomb"] = Bomb(str(mark))
        source["in a list"] = [Bomb(str(mark))]
    result = disk_move.move(
        str(tmp_path / "source"),
        str(tmp_path / "to"),
        pickles=pickles,
        result=Outcome(io.StringIO()),
    )
    assert counts(result) == {outcome.PICKLED: 2}
    assert not mark.exists()


def test_any_pickle_is_loaded_if_named(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["bomb"] = Bomb(str(mark))
        source["set"] = frozenset([1])
        source["class"] = io.BytesIO
    result = disk_move.move(
        str(tmp_path / "source"),
        str(tmp_path / "to"),
        pickles="any",
        result=Outcome(io.StringIO()),
    )
    assert mark.exists()
    # The destination's codec holds no classes.
    assert counts(result) == {outcome.MOVED: 2, outcome.UNSUPPORTED: 1}


def test_json_disk_is_decoded(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source"), disk=theirs.JSONDisk) as source:
        source["key"] = {"a": [1, None]}
        source[5] = "v" * 50_000
        source.set("file", io.BytesIO(b"\x00raw"), read=True)
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: 3}
    with ours.Cache(str(tmp_path / "to")) as to:
        assert (to["key"], to[5], to["file"]) == ({"a": [1, None]}, "v" * 50_000, b"\x00raw")


def test_compressed_bytes_can_be_plain(tmp_path: Path) -> None:
    # Keys that look like those of JSONDisk, and are not.
    key = zlib.compress(b"1")
    with theirs.Cache(str(tmp_path / "source")) as source:
        source[key] = "value"
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"), disk="plain")
    assert counts(result) == {outcome.MOVED: 1}
    with ours.Cache(str(tmp_path / "to")) as to:
        assert [(key, to[key]) for key in to] == [(key, "value")]


def test_fanout_cache_is_moved(tmp_path: Path) -> None:
    with theirs.FanoutCache(str(tmp_path / "source"), shards=3) as source:
        for number in range(50):
            source[f"k{number}"] = number
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: 50}
    with ours.FanoutCache(str(tmp_path / "to"), shards=3) as to:
        assert all(to[f"k{number}"] == number for number in range(50))


def test_queues_and_indexes_are_moved(tmp_path: Path) -> None:
    # They are entries with keys of their own form, which mmapcache.diskcache reads too.
    index = theirs.Index(str(tmp_path / "index"))
    index.update({"z": 1, "x": 2, "y": 3})
    index.cache.close()
    queue = theirs.Deque([1, "b", 2.5], str(tmp_path / "deque"))
    queue.appendleft("first")
    queue.cache.close()
    with theirs.Cache(str(tmp_path / "cache")) as source:
        source.push("a")
        source.push("b")
        source.push("c", prefix="other")
    for name, count in (("index", 3), ("deque", 4), ("cache", 3)):
        result = disk_move.move(str(tmp_path / name), str(tmp_path / f"to-{name}"))
        assert counts(result) == {outcome.MOVED: count}
    moved_index = ours.Index(str(tmp_path / "to-index"))
    assert list(moved_index.items()) == [("z", 1), ("x", 2), ("y", 3)]
    assert moved_index.popitem(last=False) == ("z", 1)
    moved_queue = ours.Deque(directory=str(tmp_path / "to-deque"))
    moved_queue.append("last")
    assert list(moved_queue) == ["first", 1, "b", 2.5, "last"]
    assert (moved_queue.popleft(), moved_queue.pop()) == ("first", "last")
    with ours.Cache(str(tmp_path / "to-cache")) as to:
        to.push("d")
        assert [to.pull()[1] for _ in range(3)] == ["a", "b", "d"]
        assert to.pull(prefix="other")[1] == "c"


def test_second_disk_move_keeps_changes(tmp_path: Path) -> None:
    source_path, to_path = str(tmp_path / "source"), str(tmp_path / "to")
    with theirs.Cache(source_path) as source:
        source["same"], source["changed"], source["life"] = 1, 1, 1
    disk_move.move(source_path, to_path)
    with ours.Cache(to_path) as to:
        to["changed"] = 2
        to.set("life", 1, expire=500)
    result = disk_move.move(source_path, to_path, result=Outcome(io.StringIO()))
    assert counts(result) == {outcome.UNCHANGED: 1, outcome.DIFFERENT: 2}
    with ours.Cache(to_path) as to:
        assert to["changed"] == 2
    result = disk_move.move(source_path, to_path, overwrite=True)
    assert counts(result) == {outcome.UNCHANGED: 1, outcome.MOVED: 2}
    with ours.Cache(to_path) as to:
        assert (to["changed"], to.get("life", expire_time=True)) == (1, (1, None))


def test_settings_come_along(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source"), eviction_policy="least-recently-used") as source:
        for number in range(300):
            source[number] = os.urandom(30_000)
        # Less than what is there: the move must not evict, later insertions may.
        source.reset("size_limit", 2**22)
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"), size_limit=2**20)
    assert counts(result) == {outcome.MOVED: 300}
    with ours.Cache(str(tmp_path / "to")) as to:
        assert len(to) == 300
        assert to.size_limit == 2**22
        assert to.eviction_policy == "least-recently-used"
    assert not (tmp_path / "to" / disk_move._UNFINISHED).exists()


def test_old_destination_keeps_settings(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source"), size_limit=2**30) as source:
        for number in range(100):
            source[number] = os.urandom(30_000)
    with ours.Cache(
        str(tmp_path / "to"), size_limit=2**21, eviction_policy="least-recently-used"
    ) as to:
        to["before"] = 1
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: 100}
    with ours.Cache(str(tmp_path / "to")) as to:
        assert len(to) == 101
        assert (to.size_limit, to.eviction_policy) == (2**21, "least-recently-used")


def test_interrupted_move_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source_path, to_path = str(tmp_path / "source"), str(tmp_path / "to")
    with theirs.Cache(source_path, eviction_policy="least-recently-used") as source:
        for number in range(10):
            source[number] = number
    calls = 0
    move_row = disk_move._move_row

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        move_row(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(disk_move, "_move_row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            disk_move.move(source_path, to_path)
    assert counts(disk_move.move(source_path, to_path)) == {
        outcome.UNCHANGED: 4,
        outcome.MOVED: 6,
    }
    with ours.Cache(to_path) as to:
        assert to.eviction_policy == "least-recently-used"


def _write_for_ever(path: str) -> None:
    with theirs.Cache(path) as cache:
        for number in range(10**9):
            cache[number % 100] = b"x" * (40_000 if number % 2 else 10)
            if number % 5 == 0:
                cache.delete((number * 7) % 100)


def test_source_in_use_is_moved(tmp_path: Path) -> None:
    # Value files vanish under the reader, because the writer replaces them.
    source = str(tmp_path / "source")
    with theirs.Cache(source) as cache:
        cache["key"] = "value"
    child = spawn.Process(target=_write_for_ever, args=(source,))
    child.start()
    try:
        deadline = time.monotonic() + 30
        while len(os.listdir(source)) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for number in range(5):
            result = disk_move.move(source, str(tmp_path / f"to{number}"))
            assert result.exit_code() == 0
            with ours.Cache(str(tmp_path / f"to{number}")) as to:
                assert to["key"] == "value"
                assert len(to) == result.counts[outcome.MOVED]
    finally:
        child.kill()
        child.join()


def test_lost_value_file_is_named(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["lost"] = b"x" * 50_000
        source["there"] = 1
    [file] = (tmp_path / "source").rglob("*.val")
    file.unlink()
    log = io.StringIO()
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"), result=Outcome(log))
    assert counts(result) == {outcome.MOVED: 1, outcome.UNREADABLE: 1}
    assert "'lost': its file" in log.getvalue()


def test_read_only_source_is_moved(tmp_path: Path) -> None:
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["key"] = "value"
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "source").iterdir()}
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: 1}
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "source").iterdir()}
    assert after["cache.db"] == before["cache.db"]


def test_other_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    assert command.main(["diskcache", str(tmp_path / "source"), str(tmp_path / "to")]) == 2
    database = tmp_path / "source" / "cache.db"
    database.write_bytes(b"not SQLite at all" * 100)
    assert command.main(["diskcache", str(tmp_path / "source"), str(tmp_path / "to")]) == 2
    database.unlink()
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE Cache (key)")
    assert command.main(["diskcache", str(tmp_path / "source"), str(tmp_path / "to")]) == 2


def test_unwritable_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite has to make a file beside a database in WAL mode, even to read it.
    with theirs.Cache(str(tmp_path / "source")) as source:
        source["key"] = "value"
    connect = sqlite_rows._connect

    def refuse(address: str) -> sqlite3.Connection:
        if "mode=ro" in address:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(address)

    monkeypatch.setattr(sqlite_rows, "_connect", refuse)
    result = disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
    assert counts(result) == {outcome.MOVED: 1}
    # What is only in the log of a program that uses the database would be missing.
    (tmp_path / "source" / "cache.db-wal").write_bytes(b"something")
    with pytest.raises(OSError, match="may this user write there"):
        disk_move.move(str(tmp_path / "source"), str(tmp_path / "to"))
