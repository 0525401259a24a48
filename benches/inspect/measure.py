#!/usr/bin/env python3
"""Measures mmapcache-inspect: the time of `verify` beside that of reading the same files once, in
turns, and the peak private memory of each command.

    cargo xtask bench inspect [--entries N] [--rounds N] [--dir DIR]

DIR is where the cache goes, in memory if not given.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target" / "release" / "mmapcache-inspect"


def fill(cache, entries):
    """Entries with keys of 28 bytes and values of 100."""
    child = subprocess.Popen(
        [PROGRAM, "import", cache, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for number in range(entries):
        key = f"{number * 0x9E3779B97F4A7C15 % 2**64:020d}{number % 10**8:08d}"
        child.stdin.write(json.dumps({"key": key, "value": key[:20] * 5}) + "\n")
    child.stdin.close()
    assert child.wait() == 0


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def private_peak(arguments):
    """The most KiB of its own that a command has had, looked at without a pause."""
    child = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while child.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]))
    return peak, child.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dir", default="/dev/shm")
    asked = parser.parse_args()
    build = ["cargo", "build", "--release", "--quiet", "--features", "inspect"]
    subprocess.run([*build, "--bin", PROGRAM.name], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(dir=asked.dir) as made:
        cache = pathlib.Path(made, "cache")
        fill(cache, asked.entries)
        files = sorted(pathlib.Path(made).iterdir())
        quiet = {"stdout": subprocess.DEVNULL, "check": True}
        read = lambda: subprocess.run(["cat", *files], **quiet)
        rivals = {"cat of the files": read}
        for jobs in ["1", "2"]:
            command = [PROGRAM, "verify", cache, "--jobs", jobs]
            rivals[f"verify --jobs {jobs}"] = lambda command=command: subprocess.run(command, **quiet)
        times = {name: [] for name in rivals}
        for _ in range(asked.rounds):
            for name, run in rivals.items():
                times[name].append(seconds(run))
        base = statistics.median(times["cat of the files"])
        print("| | median, ms | times that of `cat` |\n|---|--:|--:|")
        for name, all_times in times.items():
            median = statistics.median(all_times)
            print(f"| `{name}` | {median * 1e3:.0f} | {median / base:.1f} |")
        print("\n| command | peak private memory, KiB |\n|---|--:|")
        key = f"{0:028d}"
        for arguments in [
            ["stats"], ["stats", "--full"], ["header"], ["slot", "7"], ["record", "1:128"], ["get", key],
            ["heap"], ["list"], ["list", "--sort", "size", "--limit", "10"], ["list", "--sort", "key"],
            ["histogram"], ["map"], ["report", "--html", "-"], ["metrics"], ["watch", "--count", "2"],
            ["verify"], ["export"], ["copy", f"{made}/copy"], ["put", key, "value"], ["delete", key],
            ["compact"], ["repair"],
        ]:
            command = [arguments[0], str(cache), *arguments[1:]]
            peak, code = private_peak(command)
            assert code == 0, (command, code)
            print(f"| `{' '.join(arguments[:1] + [it for it in arguments[1:] if it != key and made not in it])}` | {peak:,} |")


if __name__ == "__main__":
    main()
