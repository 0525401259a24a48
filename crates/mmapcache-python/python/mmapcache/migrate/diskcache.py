"""Moves a directory of ``diskcache`` (5.6.3) to one of :mod:`mmapcache.diskcache`.

Keys, values, deadlines, tags and the order of insertion are moved; numbers of accesses and times of
storing are not. A new destination also gets the source's ``size_limit``, ``cull_limit`` and
``eviction_policy``. The destination evicts nothing until everything is there; later insertions may.

An entry that the destination has with another value is kept there, unless ``overwrite`` is set. So
the command may be repeated, and does not undo what programs have stored at the destination since.

diskcache pickles what is no text, bytes or number. Loading a pickle can run any code, and every
program that may write to the directory can make one, so pickles are left out unless the caller
names them: ``plain`` loads those that need no class (None, booleans, lists, dictionaries, tuples,
sets), which cannot run code; ``any`` loads all.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from mmapcache import diskcache
from mmapcache.migrate import outcome
from mmapcache.migrate.outcome import Outcome
from mmapcache.migrate.sqlite_rows import (
    AUTOMATIC_DISK,
    DATABASE,
    NO_PICKLE,
    PickledError,
    RemovedError,
    Row,
    SqliteRows,
    UnreadableError,
)

_SETTINGS = ("size_limit", "cull_limit", "eviction_policy")
_UNFINISHED = "move-unfinished.json"
_MISSING = object()
# Deadlines are stored in milliseconds.
_SAME_TIME = 0.002


def move(
    source: str,
    destination: str,
    *,
    pickles: str = NO_PICKLE,
    disk: str = AUTOMATIC_DISK,
    overwrite: bool = False,
    result: Outcome | None = None,
    **options: Any,
) -> Outcome:
    """Moves a ``Cache`` or ``FanoutCache``; ``options`` are those of the destination's class.

    ``disk`` is "json" if ``JSONDisk`` made the source, "plain" if not, "automatic" to tell by the
    first keys.

    Returns what became of each entry. Raises OSError or sqlite3.Error if the source cannot be read
    at all, and the errors of mmapcache if the destination cannot be written.
    """
    result = result if result is not None else Outcome()
    shards = _shards(source)
    is_new = not os.path.exists(destination) or not os.listdir(destination)
    to: Any
    if shards == [""]:
        to = diskcache.Cache(destination, **options)
    else:
        to = diskcache.FanoutCache(destination, shards=len(shards), **options)
    with to:
        settings = {name: getattr(to, name) for name in _SETTINGS}
        if is_new:
            with SqliteRows(os.path.join(source, shards[0])) as rows:
                settings.update(
                    (name, rows.settings[name]) for name in _SETTINGS if name in rows.settings
                )
        settings = _keep_settings(destination, settings)
        to.reset("eviction_policy", "none")
        for shard in shards:
            with SqliteRows(os.path.join(source, shard), pickles, disk) as rows:
                for row in rows.rows():
                    _move_row(to, rows, row, overwrite, result)
        for name, value in settings.items():
            to.reset(name, value)
    os.remove(os.path.join(destination, _UNFINISHED))
    return result


def _keep_settings(destination: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Keeps the settings for the end of the move in a file, and returns them.

    If there is such a file, another move was killed: returns what it kept. What is set now is the
    policy "none", and the cache must not stay so.
    """
    path = os.path.join(destination, _UNFINISHED)
    try:
        with open(path, encoding="utf-8") as file:
            kept: dict[str, Any] = json.load(file)
            return kept
    except FileNotFoundError:
        pass
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(settings, file)
    os.rename(path + ".new", path)
    return settings


def _shards(source: str) -> list[str]:
    """Returns the folders with databases: the directory itself, or those of a FanoutCache."""
    if os.path.exists(os.path.join(source, DATABASE)):
        return [""]
    shards = [
        name
        for name in sorted(os.listdir(source))
        if name.isdigit() and os.path.exists(os.path.join(source, name, DATABASE))
    ]
    if not shards:
        raise FileNotFoundError(2, "no directory of diskcache", source)
    return shards


def _move_row(to: Any, rows: SqliteRows, row: Row, overwrite: bool, result: Outcome) -> None:
    name = f"row {row.rowid} of {rows.directory}"
    if row.expire_time is not None and row.expire_time <= time.time():
        result.count(outcome.EXPIRED)
        return
    try:
        key = rows.key(row)
        name = f"{key!r:.80}"
        value, row = rows.value(row)
    except PickledError as error:
        result.count(outcome.PICKLED, name, str(error))
        return
    except RemovedError:
        result.count(outcome.GONE)
        return
    except UnreadableError as error:
        result.count(outcome.UNREADABLE, name, str(error))
        return
    there, deadline, tag = to.get(key, _MISSING, expire_time=True, tag=True)
    if there is not _MISSING:
        is_same = type(there) is type(value) and there == value and tag == row.tag
        if is_same and _is_same_time(deadline, row.expire_time):
            result.count(outcome.UNCHANGED)
            return
        if not overwrite:
            result.count(outcome.DIFFERENT, name, "the destination has another value, tag or life")
            return
    expire = None if row.expire_time is None else row.expire_time - time.time()
    try:
        to.set(key, value, expire=expire, tag=row.tag)
    except (TypeError, ValueError) as error:
        result.count(outcome.UNSUPPORTED, name, str(error))
        return
    result.count(outcome.MOVED)


def _is_same_time(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < _SAME_TIME
