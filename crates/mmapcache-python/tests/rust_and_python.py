"""A Rust program and a Python program that write to one cache at once, and check everything.

`python tests/rust_and_python.py SECONDS` runs them for so long; the tests run a few seconds. It
needs cargo, which builds `examples/rust_peer.rs`.

Both repeat the same step on one `Cache`:

* a key that all write (`shared/N`): its value is whole, of either program;
* a key that only this program writes (`own/NAME/N`): it is what was stored last, or absent;
* `add` of a key that both add (`claim/N`): the programs' successes are as many as the keys;
* `get_or_insert_with` of a key that both compute (`computed/N`): it is computed once for all;
* a key that lives 20 ms (`brief/NAME`): absent afterwards;
* `increment` of one counter: it ends as the sum of all steps.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mmapcache

_PACKAGE = Path(__file__).resolve().parent.parent
_BRIEF = 0.02
_spawn = multiprocessing.get_context("spawn")


class WrongError(AssertionError):
    """A program read what cannot be right."""


class Peer:
    """The Python side; its methods have the names of the Rust side's."""

    def __init__(self, path: str, name: str = "python") -> None:
        self.cache = mmapcache.Cache(path)
        self.name = name
        self.steps = self.claims = self.computations = 0
        self.own: dict[int, bytes] = {}
        self.brief_until: float | None = None

    def step(self) -> None:
        """Does each thing once."""
        self.steps += 1
        self.change_shared_key()
        self.change_own_key()
        self.claim()
        self.compute()
        self.look_at_brief_key()
        self.cache.increment(b"count", 1)

    def change_shared_key(self) -> None:
        """Any program's value, whole."""
        key = b"shared/%d" % random.randrange(500)
        found = self.cache.get(key)
        if found is not None:
            check_value(found)
        self.cache.insert(key, self.value())

    def change_own_key(self) -> None:
        """Exactly what this program stored there, for no other one does."""
        number = random.randrange(200)
        key = self.own_key(number)
        if self.cache.get(key) != self.own.get(number):
            raise WrongError(f"{key!r} is not what was stored there")
        if self.steps % 7 == 0:
            if self.cache.remove(key) != (self.own.pop(number, None) is not None):
                raise WrongError(f"removing {key!r} returned the wrong answer")
        else:
            self.own[number] = self.value()
            self.cache.insert(key, self.own[number])

    def claim(self) -> None:
        """One of the programs adds the key."""
        if self.cache.add(b"claim/%d" % random.randrange(5_000), self.name.encode()) is not None:
            self.claims += 1

    def compute(self) -> None:
        """One of the programs computes the value."""
        key = b"computed/%d" % random.randrange(2_000)

        def function() -> bytes:
            self.computations += 1
            return key

        if self.cache.get_or_insert_with(key, function) != key:
            raise WrongError(f"{key!r} has another key's value")

    def look_at_brief_key(self) -> None:
        """Absent after its deadline."""
        key = f"brief/{self.name}".encode()
        # The clock first: this process may be stopped between the two.
        is_over = self.brief_until is None or time.monotonic() >= self.brief_until
        is_there = key in self.cache
        if is_over and is_there and self.brief_until is not None:
            raise WrongError(f"{key!r} outlived its deadline")
        if is_over:
            self.cache.insert(key, b"brief", ttl=_BRIEF)
            # Later than the moment from which the engine counts.
            self.brief_until = time.monotonic() + _BRIEF + 0.002

    def check_own_keys(self) -> None:
        """All that this program stored last is there."""
        for number, value in self.own.items():
            if self.cache.get(self.own_key(number)) != value:
                raise WrongError(f"own key {number} was lost")

    def own_key(self, number: int) -> bytes:
        """Returns the key that only this program writes."""
        return f"own/{self.name}/{number}".encode()

    def value(self) -> bytes:
        """Returns who stored it, at which step, and bytes that follow from the step."""
        return b"python:%d:" % self.steps + bytes((self.steps & 255,)) * filler_length(self.steps)

    def figures(self) -> dict[str, int]:
        """Returns what the coordinator adds up."""
        return {"steps": self.steps, "claims": self.claims, "computations": self.computations}


def filler_length(step: int) -> int:
    """Returns how many bytes follow the step in a value."""
    return step * 7_919 % 1_500


def check_value(value: bytes) -> None:
    """Raises WrongError unless one program stored the whole value at one step."""
    parts = value.split(b":", 2)
    if len(parts) != 3 or parts[0] not in (b"rust", b"python") or not parts[1].isdigit():
        raise WrongError(f"the value names no program or step: {value[:40]!r}")
    step = int(parts[1])
    if parts[2] != bytes((step & 255,)) * filler_length(step):
        raise WrongError(f"the value of step {step} is not whole")


def _work(path: str, name: str, seconds: float, results: Any) -> None:
    try:
        peer = Peer(path, name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            peer.step()
        peer.check_own_keys()
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")
        raise
    results.put(peer.figures())


def build_rust_peer() -> str:
    """Builds the Rust side; returns the path of the program."""
    built = subprocess.run(
        ["cargo", "build", "--release", "--example", "rust_peer", "--message-format", "json"],
        cwd=_PACKAGE,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "rust_peer":
            return str(message["executable"])
    raise RuntimeError("cargo built no program rust_peer")


def run(program: str, path: str, seconds: float, pythons: int = 1) -> dict[str, dict[str, int]]:
    """Runs all programs at once; returns what each did. Raises WrongError if anything is wrong."""
    results: Any = _spawn.SimpleQueue()
    children = [
        _spawn.Process(target=_work, args=(path, f"python{number}", seconds, results))
        for number in range(pythons)
    ]
    for child in children:
        child.start()
    rust = subprocess.run(
        [program, path, str(seconds)], capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = {f"python{number}": results.get() for number in range(pythons)}
    for child in children:
        child.join()
    if rust.returncode != 0:
        raise WrongError(f"the Rust program: {rust.stderr.strip()}")
    found["rust"] = json.loads(rust.stdout)
    for name, figures in found.items():
        if isinstance(figures, str):
            raise WrongError(f"{name}: {figures}")
    check_sums(path, list(found.values()))
    return found


def check_sums(path: str, figures: list[dict[str, int]]) -> None:
    """Compares what the programs did with what is in the cache."""
    cache = mmapcache.Cache(path)
    keys = list(cache.keys())
    there = {
        "steps": cache.increment(b"count", 0),
        "claims": sum(key.startswith(b"claim/") for key in keys),
        "computations": sum(key.startswith(b"computed/") for key in keys),
    }
    done = {name: sum(each[name] for each in figures) for name in there}
    if done != there:
        raise WrongError(f"the programs did {done}, the cache has {there}")
    cache.verify()


def main() -> int:
    """Runs for the seconds of the first argument, 60 without one; returns the exit code."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    program = build_rust_peer()
    with tempfile.TemporaryDirectory() as directory:
        found = run(program, os.path.join(directory, "cache"), seconds, pythons=2)
    for name, figures in found.items():
        print(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in figures.items()))
    print("every value that was read was right, and all sums agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
