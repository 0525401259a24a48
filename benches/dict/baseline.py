"""Measures persidict's dictionaries at the work that the bench `dict` gives to ours.

    python baseline.py DIR [--entries 5000] [--rounds 5] [--format json]

DIR is where `FileDirDict` keeps its files; it belongs on a real disk. Prints a JSON object per line:
a dictionary, an operation, and its nanoseconds, as median and minimum of the rounds.

With `--turns` it measures a round of one dictionary for each line with the dictionary's name, and
prints its figures as one object: the process that reads them measures in turn with it.

Both sides make keys, values and orders from numbers by the rules of this file: `mix`, `key`, `value`
and `order`. Keys and values exist before the clock starts; what a dictionary does with them
(checking a key, encoding a value) is what is measured.
"""

import argparse
import contextlib
import gc
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
import zlib

import persidict
from persidict import ETAG_IS_THE_SAME, NEVER_RETRIEVE, FileDirDict, LocalDict

GROUPS = 40
TAGS = ("red", "green", "blue", "amber", "violet", "ochre", "teal", "rose")
# Numbers from here on are those of absent keys.
ABSENT = 500_000


def mix(number):
    """A number of 64 bits that looks random, from one that does not: splitmix64."""
    bits = (1 << 64) - 1
    z = (number + 0x9E3779B97F4A7C15) & bits
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
    return z ^ (z >> 31)


def key(number):
    return (f"group-{number % GROUPS:03}", f"item-{number:06}")


def value(number, salt):
    seed = mix(number ^ (salt << 32))
    count = seed % 1_000_000
    return {
        "name": f"{seed >> 16:012x}",
        "count": count,
        "ratio": count / 1_000_000,
        "tags": [TAGS[(seed >> shift) % 8] for shift in (20, 23, 26)],
    }


def order(entries, salt):
    """The numbers from 0 on, each once."""
    return sorted(range(entries), key=lambda number: mix(number ^ (salt << 32)))


def increment(current):
    return {**current, "count": current["count"] + 1}


class Clock:
    """Nanoseconds per operation, by the operation's name."""

    def __init__(self):
        self.figures = {}

    @contextlib.contextmanager
    def time(self, operation, count):
        gc.collect()
        start = time.perf_counter_ns()
        yield
        self.figures[operation] = (time.perf_counter_ns() - start) / count


def measure(d, entries):
    """One round on an empty dictionary, which is empty again afterwards."""
    clock = Clock()
    fill(clock, d, entries)
    read(clock, d, entries)
    change(clock, d, entries)
    return clock.figures


def fill(clock, d, entries):
    work = [(key(n), value(n, 0)) for n in order(entries, 0)]
    with clock.time("insert", entries):
        for k, v in work:
            d[k] = v


def read(clock, d, entries):
    keys = [key(n) for n in order(entries, 1)]
    absent = [key(n + ABSENT) for n in order(entries, 1)]
    expected = sum(value(n, 0)["count"] for n in range(entries))

    for operation in ("get", "get, again"):
        with clock.time(operation, entries):
            total = sum(d[k]["count"] for k in keys)
        assert total == expected
    with clock.time("get_with_etag", entries):
        total = sum(d.get_with_etag(k).new_value["count"] for k in keys)
    assert total == expected
    with clock.time("get, absent", entries):
        found = sum(d.get(k) is not None for k in absent)
    assert found == 0
    with clock.time("contains", entries):
        found = sum(k in d for k in keys)
    assert found == entries
    with clock.time("etag", entries):
        found = sum(d.etag(k) is not None for k in keys)
    assert found == entries
    with clock.time("len, one call", 1):
        found = len(d)
    assert found == entries
    with clock.time("keys, per entry", entries):
        found = sum(len(k) for k in d.keys())
    assert found == 2 * entries
    with clock.time("items, per entry", entries):
        total = sum(v["count"] for _, v in d.items())
    assert total == expected


def change(clock, d, entries):
    numbers = order(entries, 2)
    keys = [key(n) for n in numbers]

    work = [(k, value(n, 1)) for k, n in zip(keys, numbers)]
    with clock.time("overwrite", entries):
        for k, v in work:
            d[k] = v

    work = [(k, value(n, 2), d.etag(k)) for k, n in zip(keys, numbers)]
    with clock.time("set_item_if", entries):
        done = sum(
            d.set_item_if(
                k,
                value=v,
                condition=ETAG_IS_THE_SAME,
                expected_etag=etag,
                retrieve_value=NEVER_RETRIEVE,
            ).condition_was_satisfied
            for k, v, etag in work
        )
    assert done == entries

    with clock.time("transform_item", entries):
        for k in keys:
            d.transform_item(k, transformer=increment)
    assert all(d[k]["count"] == value(n, 2)["count"] + 1 for k, n in zip(keys, numbers))

    with clock.time("delete", entries):
        for k in keys:
            del d[k]
    assert len(d) == 0


def say(answer):
    print(json.dumps(answer), flush=True)


def greet(arguments):
    """Says who measures what."""
    say(
        {
            "persidict": persidict.__version__,
            "python": platform.python_version(),
            "work": [
                fingerprint(order(arguments.entries, by), salt)
                for by, salt in ((0, 0), (2, 1), (2, 2))
            ],
        }
    )


def fingerprint(numbers, salt):
    """A checksum over keys and values, for the other side to see that its work is the same."""
    crc = 0
    for n in numbers:
        v = value(n, salt)
        texts = [*key(n), v["name"], str(v["count"]), f"{v['ratio']:.6f}", *v["tags"]]
        crc = zlib.crc32("/".join(texts).encode(), crc)
    return crc


def run(name, arguments):
    if name == "LocalDict":
        d = LocalDict(serialization_format=arguments.format)
        return measure(d, arguments.entries)
    directory = tempfile.mkdtemp(dir=arguments.directory)
    try:
        d = FileDirDict(base_dir=directory, serialization_format=arguments.format)
        return measure(d, arguments.entries)
    finally:
        shutil.rmtree(directory)


def main():
    parser = argparse.ArgumentParser(description="Measures persidict's dictionaries.")
    parser.add_argument("directory")
    parser.add_argument("--entries", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", choices=("json", "pkl"), default="json")
    parser.add_argument("--turns", action="store_true")
    arguments = parser.parse_args()

    assert arguments.entries <= ABSENT

    greet(arguments)
    if arguments.turns:
        for line in sys.stdin:
            say(run(line.strip(), arguments))
        return
    for name in ("FileDirDict", "LocalDict"):
        rounds = [run(name, arguments) for _ in range(arguments.rounds)]
        for operation in rounds[0]:
            figures = [figures[operation] for figures in rounds]
            median, minimum = round(statistics.median(figures)), round(min(figures))
            say({"dict": name, "operation": operation, "median": median, "minimum": minimum})


if __name__ == "__main__":
    main()
