"""A directory of ``diskcache`` 5.6.3, read without it: rows of ``cache.db``, and value files.

The database is opened for reading only, and read in one transaction: other processes may go on
writing. Pickles are loaded only as far as the caller allows.

======= ===============================================
mode    value
======= ===============================================
1       the column, as SQLite has it
2       a file of bytes
3       a file of text in UTF-8
4       a pickle, in the column or in a file
======= ===============================================

A key is the column if ``raw`` is 1, else a pickle. ``JSONDisk`` stores keys and values as JSON,
compressed by zlib, inside these forms. A directory does not say which disk made it, unless the
setting ``disk_compress_level`` was given; otherwise its keys tell.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import urllib.parse
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

DATABASE = "cache.db"
NO_PICKLE = "none"
PLAIN_PICKLE = "plain"
ANY_PICKLE = "any"
AUTOMATIC_DISK = "automatic"
PLAIN_DISK = "plain"
JSON_DISK = "json"

_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4
_COLUMNS = "rowid, key, raw, expire_time, tag, mode, filename, value"
_ROWS_AT_ONCE = 256
_TRIES = 3
_KEYS_TO_TELL_DISK = 1000


class Row(NamedTuple):
    """A row of the table ``Cache`` as SQLite returns it."""

    rowid: int
    key: Any
    raw: int
    expire_time: float | None
    tag: Any
    mode: int
    filename: str | None
    value: Any


class PickledError(Exception):
    """The key or value is a pickle, and the caller does not allow to load it."""


class RemovedError(Exception):
    """Another program removed the row since."""


class UnreadableError(Exception):
    """The key or value cannot be read; the text says why."""


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, texts, bytes and collections of them: what needs no name of a class.

    A pickle can run code only through a name that it makes the reader import.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise PickledError(f"it needs {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise PickledError("it refers to an object outside")


class SqliteRows:
    """The entries of one directory. A context manager: it closes the database."""

    def __init__(
        self, directory: str, pickles: str = NO_PICKLE, disk: str = AUTOMATIC_DISK
    ) -> None:
        if pickles not in (NO_PICKLE, PLAIN_PICKLE, ANY_PICKLE):
            raise ValueError(f"pickles must be none, plain or any, not {pickles!r}")
        self.directory = directory
        self._pickles = pickles
        self._database = _open(os.path.join(directory, DATABASE))
        self.settings: dict[str, Any] = {}
        try:
            self.settings.update(self._database.execute("SELECT key, value FROM Settings"))
            self.is_json = self._has_json() if disk == AUTOMATIC_DISK else disk == JSON_DISK
        except sqlite3.Error:
            self._database.close()
            raise

    def __enter__(self) -> SqliteRows:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def _has_json(self) -> bool:
        if "disk_compress_level" in self.settings:
            return True
        keys = self._database.execute(
            "SELECT key FROM Cache ORDER BY rowid LIMIT ?", (_KEYS_TO_TELL_DISK,)
        ).fetchall()
        try:
            for (key,) in keys:
                _from_json(key)
        except UnreadableError:
            return False
        return bool(keys)

    def rows(self) -> Iterator[Row]:
        """Yields all rows of one moment in the order of their insertion."""
        cursor = self._database.execute(f"SELECT {_COLUMNS} FROM Cache ORDER BY rowid")
        while part := cursor.fetchmany(_ROWS_AT_ONCE):
            for columns in part:
                yield Row(*columns)

    def key(self, row: Row) -> Any:
        """Returns the key of a row. Raises PickledError, UnreadableError."""
        key = row.key if row.raw else self._load(bytes(row.key))
        return _from_json(key) if self.is_json else key

    def value(self, row: Row) -> tuple[Any, Row]:
        """Returns the value of a row, and the row that it belongs to.

        That is another one if a process replaced the entry since: its file is gone then.
        Raises PickledError, RemovedError, UnreadableError.
        """
        for _ in range(_TRIES):
            try:
                value = self._stored(row)
            except FileNotFoundError:
                row = self._newest(row)
                continue
            except OSError as error:
                raise UnreadableError(f"{error.filename}: {error.strerror}") from error
            return (_json_or_bytes(value, row) if self.is_json else value), row
        raise UnreadableError(f"its file {row.filename} is missing")

    def _stored(self, row: Row) -> Any:
        if row.mode == _RAW:
            return row.value
        if row.mode == _PICKLE and row.value is not None:
            return self._load(row.value)
        if row.mode not in (_BINARY, _TEXT, _PICKLE) or not row.filename:
            raise UnreadableError(f"its mode {row.mode} is unknown, or it names no file")
        path = os.path.join(self.directory, row.filename)
        if os.path.relpath(path, self.directory).startswith(".."):
            raise UnreadableError(f"its file {row.filename} is outside of the directory")
        with open(path, "rb") as file:
            stored = file.read()
        if row.mode == _PICKLE:
            return self._load(stored)
        if row.mode == _BINARY:
            return stored
        try:
            # diskcache opens the file as text, which loses carriage returns. The file has them.
            return stored.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableError(f"its file {row.filename} is no text: {error}") from error

    def _newest(self, row: Row) -> Row:
        # A connection of its own, because this one sees the moment when it began to read.
        database = _open(os.path.join(self.directory, DATABASE))
        try:
            columns = database.execute(
                f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?", (row.rowid,)
            ).fetchone()
        finally:
            database.close()
        if columns is None:
            raise RemovedError
        return Row(*columns)

    def _load(self, stored: bytes) -> Any:
        if self._pickles == NO_PICKLE:
            raise PickledError("it is a pickle")
        unpickler = pickle.Unpickler if self._pickles == ANY_PICKLE else _PlainUnpickler
        try:
            return unpickler(io.BytesIO(stored)).load()
        except PickledError:
            raise
        except Exception as error:  # a pickle may raise anything
            raise UnreadableError(
                f"its pickle cannot be loaded: {type(error).__name__}: {error}"
            ) from error


def _open(path: str) -> sqlite3.Connection:
    if not os.path.isfile(path):
        raise FileNotFoundError(2, "no database of diskcache", path)
    address = "file:" + urllib.parse.quote(os.path.abspath(path))
    try:
        return _connect(address + "?mode=ro")
    except sqlite3.OperationalError as error:
        # A reader in WAL mode has to make a file, unless no process uses the database.
        wal = path + "-wal"
        if os.path.exists(wal) and os.path.getsize(wal) > 0:
            raise OSError(
                5, f"SQLite cannot read the database: {error}; may this user write there?", path
            ) from error
        return _connect(address + "?immutable=1")


def _connect(address: str) -> sqlite3.Connection:
    database = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None)
    try:
        # Opens the file, which connecting does not.
        database.execute("SELECT 1 FROM Cache LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _from_json(stored: Any) -> Any:
    try:
        return json.loads(zlib.decompress(stored))
    except (TypeError, ValueError, zlib.error) as error:
        raise UnreadableError(f"it is no compressed JSON: {error}") from error


def _json_or_bytes(stored: Any, row: Row) -> Any:
    try:
        return _from_json(stored)
    except UnreadableError:
        # `set(..., read=True)` stores a file as it is.
        if row.mode == _BINARY:
            return stored
        raise
