"""Inserts into and gets from a diskcache, as it is asked on standard input, and times that.

An order is a letter and the number of items. `i`: keys and values follow. `g`: keys follow. Numbers
and lengths have four bytes. The answer is a line: nanoseconds, and how many values were found.
"""

import struct
import sys
import time

import diskcache


def waited():
    """Returns the nanoseconds that this thread waited for a processor."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])


def fields(count):
    """Reads some byte strings."""
    source = sys.stdin.buffer
    return [source.read(*struct.unpack("<I", source.read(4))) for _ in range(count)]


def insert(cache, count, life):
    items = fields(2 * count)
    items = list(zip(items[::2], items[1::2]))
    before, begin = waited(), time.perf_counter_ns()
    for key, value in items:
        cache.set(key, value, expire=life)
    return time.perf_counter_ns() - begin - (waited() - before), 0


def get(cache, count):
    keys, found, total = fields(count), 0, 0
    before, begin = waited(), time.perf_counter_ns()
    for key in keys:
        value = cache.get(key)
        if value is not None:
            found += 1
            total += len(value)
    return time.perf_counter_ns() - begin - (waited() - before), found


def main():
    directory, bound, life = sys.argv[1:]
    cache = diskcache.Cache(directory, size_limit=int(bound))
    print(diskcache.__version__, flush=True)
    while order := sys.stdin.buffer.read(5):
        kind, count = struct.unpack("<cI", order)
        if kind == b"i":
            answer = insert(cache, count, float(life))
        else:
            answer = get(cache, count)
        print(max(answer[0], 0), answer[1], flush=True)
    cache.close()


main()
