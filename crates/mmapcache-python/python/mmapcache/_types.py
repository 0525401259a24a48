"""Types of arguments and of what the calls return."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypedDict

# `collections.abc.Buffer` is there only from Python 3.12 on.
BytesLike: TypeAlias = "bytes | bytearray | memoryview[Any]"
"""Keys and values: bytes, or another object with a buffer."""

Path: TypeAlias = "str | os.PathLike[str]"
Seconds: TypeAlias = "float | timedelta"
"""A length of time: an int or a float of seconds, or a timedelta; not negative."""

Moment: TypeAlias = "float | datetime"
"""A moment: seconds since the Unix epoch, or a datetime."""

Name: TypeAlias = "str | BytesLike"
"""The name of a tag or a namespace, or a label; text stands for its UTF-8."""

Pairs: TypeAlias = "Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]]"
Compute: TypeAlias = "Callable[[], BytesLike]"
Durability: TypeAlias = Literal["none", "sync"]
Eviction: TypeAlias = Literal["clock", "fifo", "none"]


class OpenOptions(TypedDict, total=False):
    """Options of every handle. ``None`` is the default."""

    read_only: bool
    exclusive: bool
    create: bool
    create_new: bool
    allow_network_fs: bool
    append_only: bool | None
    durability: Durability
    capacity: int | None
    max_segment_bytes: int | None
    compaction_threshold: tuple[int, int] | None
    lock_timeout: Seconds | None
    file_mode: int | None
    heap_path: Path | None


class Stats(TypedDict):
    """Counters and totals of the files; those of the engine's ``Stats``."""

    occupied: int
    deleted: int
    high_water_mark: int
    slots: int
    load: float
    heap_bytes: int
    live_bytes: int
    dead_bytes: int
    segments: int
    generation: int
    puts: int
    overwrites: int
    deletes: int
    dropped: int
    recoveries: int
    damaged_seen: int
    changes: int
    writer: int | None
    sync_failed: bool
    append_only: bool
    created: float
    compacted: float | None


class CacheCounts(TypedDict):
    """What was counted of lookups and entries."""

    hits: int
    stale_hits: int
    negative_hits: int
    misses: int
    insertions: int
    replaced: int
    removed: int
    evicted_size: int
    evicted_number: int
    expired: int
    invalidated: int
    hit_ratio: float | None


class CacheStats(TypedDict):
    """The statistics of a cache: of its files, of this handle and of all processes."""

    files: Stats
    handle: CacheCounts
    total: CacheCounts


class CacheSettings(TypedDict):
    """The limits and defaults of a cache; times in seconds, ``None`` where there is none."""

    max_bytes: int | None
    max_entries: int | None
    jitter: float
    time_to_live: float | None
    time_to_idle: float | None
    stale_while_revalidate: float | None
    stale_if_error: float | None
    eviction: Eviction


class DiskUsage(TypedDict):
    """Bytes that the files take on the disk."""

    index: int
    heap: int
    roster: int
    total: int


class BackupReport(TypedDict):
    """What a backup copied."""

    entries: int
    entries_before: int | None
    records: int
    heap_bytes: int
    damaged_bytes: int
    shared_bytes: int


class Problem(TypedDict):
    """A corruption, and where it is."""

    path: str
    at: int
    what: str


class VerifyReport(TypedDict):
    """What a verification found."""

    is_clean: bool
    entries: int
    records: int
    regions: int
    miss_groups: float
    damaged_bytes: int
    problem_count: int
    totals_compared: bool
    problems: list[Problem]


class Recovery(TypedDict):
    """What a recovery found and lost."""

    entries: int
    entries_before: int | None
    records: int
    dropped: int
    unwritten: int
    damaged_bytes: int


class RepairReport(TypedDict):
    """What a repair found and lost."""

    rebuilt: bool
    entries: int
    entries_before: int | None
    dropped: int
    unwritten: int
    records: int
    damaged_bytes: int
    rewritten: bool
    segments: int
    missing_segments: list[int]
    kept: list[str]
