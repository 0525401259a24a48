"""How long the drivers of Salt's cache take, in one run: `tests/foreign/salt PACKAGE speed`.

Prints a table in Markdown, of which docs/salt.md has a copy. Rounds are in turns; medians.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import salt.cache
import salt.config

DRIVERS = ("localfs", "mmap_cache", "mmapcache")
MINIONS = 200
ROUNDS = 7
# As large as the grains of a small machine.
GRAINS = {f"grain{number}": ["a value of a grain"] * 5 for number in range(40)}


def main() -> None:
    """Measures and prints."""
    times: dict[str, dict[str, list[float]]] = {driver: {} for driver in DRIVERS}
    with tempfile.TemporaryDirectory() as directory:
        caches = {driver: _open(driver, f"{directory}/{driver}") for driver in DRIVERS}
        for number in range(ROUNDS):
            for driver in DRIVERS[number % 3 :] + DRIVERS[: number % 3]:
                for name, seconds in _round(caches[driver]).items():
                    times[driver].setdefault(name, []).append(seconds)
        for cache in caches.values():
            _fill(cache)
        room = {driver: _kilobytes(f"{directory}/{driver}") for driver in DRIVERS}
    names = list(times[DRIVERS[0]])
    print("| driver | " + " | ".join(names) + f" | KiB for {MINIONS} minions |")
    print("|---|" + "--:|" * (len(names) + 1))
    for driver in DRIVERS:
        cells = [f"{statistics.median(times[driver][name]) * 1e6:,.0f}" for name in names]
        print(f"| `{driver}` | " + " | ".join([*cells, f"{room[driver]:,}"]) + " |")


def _open(driver: str, directory: str) -> Any:
    opts = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update({"cache": driver, "cachedir": directory, "extension_modules": ""})
    return salt.cache.factory(opts)


def _round(cache: Any) -> dict[str, float]:
    names = [f"minion{number}" for number in range(MINIONS)]
    return {
        "store, new": _each(lambda name: cache.store("grains", name, GRAINS), names),
        "store, again": _each(lambda name: cache.store("grains", name, GRAINS), names),
        "fetch": _each(lambda name: cache.fetch("grains", name), names),
        "list": _each(lambda _: cache.list("grains"), names[:10]),
        "flush": _each(lambda name: cache.flush("grains", name), names),
    }


def _each(call: Callable[[str], Any], names: list[str]) -> float:
    start = time.perf_counter()
    for name in names:
        call(name)
    return (time.perf_counter() - start) / len(names)


def _fill(cache: Any) -> None:
    for number in range(MINIONS):
        cache.store("grains", f"minion{number}", GRAINS)


def _kilobytes(directory: str) -> int:
    found = subprocess.run(["du", "-sk", directory], check=True, capture_output=True, text=True)
    return int(found.stdout.split()[0])


if __name__ == "__main__":
    main()
