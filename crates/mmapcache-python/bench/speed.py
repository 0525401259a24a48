"""Measures our stores beside others in one run: `python bench/speed.py`; `--help` for options.

All stores are measured in turns, round after round, and the medians are printed, because the speed
of a shared machine changes within minutes. Compare within a table, not between runs.

Needs `pip install -r bench/requirements.txt`. `--write docs/speed.md` puts the tables into the
document.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import processes
from stores import (
    STORES,
    Diskcache,
    Lmdb,
    LmdbOneTransaction,
    OurCache,
    OurDiskcache,
    OurMap,
    Store,
)

BEGIN, END = "<!-- begin of the figures -->", "<!-- end of the figures -->"
OPERATIONS = ("get", "get, absent", "set", "set, new key", "delete", "memoised call")
# A measurement ends early if the store is so slow that it takes longer.
SLOW_SECONDS = 0.5
CALLS_BETWEEN_LOOKS = 50

Times = dict[type[Store], dict[str, list[float]]]


def main() -> int:
    """Measures and prints; returns 0."""
    parser = argparse.ArgumentParser(description="Measures our stores beside others.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=5_000, help="of each operation in a round")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round of processes")
    parser.add_argument("--write", metavar="FILE", help="put the tables into this document")
    chosen = parser.parse_args()
    times = measure_calls(chosen)
    totals = measure_processes(chosen)
    text = "\n".join([about(chosen), "", *tables(times, totals, chosen.processes)])
    print(text)
    if chosen.write:
        write(chosen.write, text)
    return 0


def measure_calls(chosen: argparse.Namespace) -> Times:
    """Returns the seconds that a call of each operation took, for each store and round."""
    times: Times = {store: {name: [] for name in OPERATIONS} for store in STORES}
    with tempfile.TemporaryDirectory() as directory:
        opened = []
        for number, kind in enumerate(STORES):
            path = os.path.join(directory, str(number))
            os.mkdir(path)
            opened.append(_filled(kind(path), chosen))
        for number in range(chosen.rounds):
            # Others go first in each round: no store always runs after the same one.
            for store in opened[number % len(opened) :] + opened[: number % len(opened)]:
                for name, seconds in _round(store, chosen).items():
                    times[type(store)][name].append(seconds)
        for store in opened:
            store.close()
    return times


def _filled(store: Store, chosen: argparse.Namespace) -> Store:
    for key in processes.make_keys(store.key_type, chosen.keys):
        store.set(key, random.randbytes(chosen.value_bytes))
    return store


def _round(store: Store, chosen: argparse.Namespace) -> dict[str, float]:
    keys = random.sample(processes.make_keys(store.key_type, chosen.keys), chosen.calls)
    marks = {"new": f"new-{random.random()}-", "absent": "absent-"}
    other: dict[str, list[Any]] = {
        name: [mark + str(number) for number in range(chosen.calls)] for name, mark in marks.items()
    }
    if store.key_type is bytes:
        other = {name: [text.encode() for text in texts] for name, texts in other.items()}
    put = store.set
    value = random.randbytes(chosen.value_bytes)
    found = {
        "get": _per_call(store.get, keys),
        "get, absent": _per_call(store.get, other["absent"]),
        "set": _per_pair(put, keys, value),
        "set, new key": _per_pair(put, other["new"], value),
        "delete": _per_call(store.delete, other["new"]),
    }
    memoised = store.memoised(_square)
    if memoised is not None:
        numbers = [random.randrange(1000) for _ in range(chosen.calls)]
        _per_call(memoised, range(1000))
        found["memoised call"] = _per_call(memoised, numbers)
    return found


def _square(number: int) -> int:
    return number * number


def _per_call(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    done, start = 0, time.perf_counter()
    for first in range(0, len(arguments), CALLS_BETWEEN_LOOKS):
        for argument in arguments[first : first + CALLS_BETWEEN_LOOKS]:
            call(argument)
        done = min(first + CALLS_BETWEEN_LOOKS, len(arguments))
        # dbm.dumb writes its whole directory of keys for each deletion.
        if time.perf_counter() - start > SLOW_SECONDS:
            break
    return (time.perf_counter() - start) / done


def _per_pair(call: Callable[[Any, Any], Any], keys: Sequence[Any], value: bytes) -> float:
    start = time.perf_counter()
    for key in keys:
        call(key, value)
    return (time.perf_counter() - start) / len(keys)


def measure_processes(chosen: argparse.Namespace) -> dict[type[Store], list[processes.Total]]:
    """Returns the totals of several processes for each store that they can share, and round."""
    shared = [store for store in STORES if store.shared_by_processes]
    totals: dict[type[Store], list[processes.Total]] = {store: [] for store in shared}
    for _ in range(max(1, chosen.rounds // 2)):
        for store in shared:
            total = processes.measure(
                store, chosen.processes, chosen.seconds, chosen.keys, chosen.value_bytes
            )
            totals[store].append(total)
    return totals


def about(chosen: argparse.Namespace) -> str:
    """Returns what was measured, on what."""
    versions = sorted({f"{store.name.split(',')[0]} {store.version()}" for store in STORES})
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{kernel}, {os.cpu_count()} cores. {', '.join(versions)}. "
        f"{chosen.keys:,} keys of 12 bytes, values of {chosen.value_bytes}; "
        f"medians of {chosen.rounds} rounds."
    )


def tables(times: Times, totals: dict[type[Store], list[processes.Total]], count: int) -> list[str]:
    """Returns the lines of the three tables in Markdown."""
    medians = {
        store: {name: statistics.median(found) for name, found in rows.items() if found}
        for store, rows in times.items()
    }
    lines = ["Microseconds a call, in one process:", ""]
    lines += ["| store | " + " | ".join(OPERATIONS) + " |", "|---|" + "--:|" * len(OPERATIONS)]
    for store, row in medians.items():
        cells = [f"{row[name] * 1e6:.2f}" if name in row else "" for name in OPERATIONS]
        lines.append(f"| {store.name} | " + " | ".join(cells) + " |")
    lines += ["", f"{count} processes at once, nine gets to a set:", ""]
    lines += ["| store | calls a second, all together | failed calls |", "|---|--:|--:|"]
    rates = {}
    for store, found in totals.items():
        rates[store] = statistics.median(total.calls_per_second for total in found)
        errors = sum(total.errors for total in found)
        lines.append(f"| {store.name} | {rates[store]:,.0f} | {errors} |")
    lines += ["", "Goals:", "", "| what | goal | measured |", "|---|--:|--:|"]
    for what, goal, measured, is_reached in goals(medians, rates, count):
        lines.append(f"| {what} | {goal} | {measured}{'' if is_reached else ', missed'} |")
    return lines


def goals(
    medians: dict[type[Store], dict[str, float]], rates: dict[type[Store], float], count: int
) -> list[tuple[str, str, str, bool]]:
    """Returns each goal, what was measured, and whether it was reached."""
    disk, theirs = medians[OurDiskcache], medians[Diskcache]
    gets, sets = theirs["get"] / disk["get"], theirs["set"] / disk["set"]
    lmdb = min(medians[kind]["get"] for kind in (Lmdb, LmdbOneTransaction))
    together = rates[OurDiskcache] / rates[Diskcache]
    rows = [
        ("gets of mmapcache.diskcache to diskcache's", "6 x", f"{gets:.1f} x", gets >= 6),
        ("sets of mmapcache.diskcache to diskcache's", "20 x", f"{sets:.1f} x", sets >= 20),
        (
            f"calls of {count} processes to diskcache's",
            "20 x",
            f"{together:.1f} x",
            together >= 20,
        ),
    ]
    for store in (OurMap, OurCache, OurDiskcache):
        share = medians[store]["get"] / lmdb
        rows.append(
            (
                f"time of a get of {store.name} to lmdb's faster one",
                "1.3",
                f"{share:.2f}",
                share <= 1.3,
            )
        )
    return rows


def write(path: str, text: str) -> None:
    """Replaces the figures in a document, between the two marks."""
    with open(path, encoding="utf-8") as file:
        document = file.read()
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no place for the figures: {BEGIN} ... {END}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
