"""The cache driver ``mmapcache`` as Salt's loader reads it: each function calls mmapcache.salt.

Salt loads this file by its path and takes only functions that are defined in it.
"""

from __future__ import annotations

from typing import Any

from mmapcache import salt as _driver

__virtualname__ = "mmapcache"
__func_alias__ = {"list_": "list"}
__opts__: dict[str, Any] = {}


def __virtual__() -> str:
    return __virtualname__


def init_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that ``salt.cache.Cache`` adds to each call."""
    return _driver.init_kwargs(kwargs, __opts__.get("cachedir", ""))


def get_storage_id(kwargs: dict[str, Any]) -> tuple[str, str]:
    """Returns what tells this storage from others."""
    return _driver.get_storage_id(kwargs)


def storage_id(kwargs: dict[str, Any]) -> tuple[str, str]:
    """Returns the same: Salt's memory cache calls the function by this name."""
    return _driver.get_storage_id(kwargs)


def store(bank: str, key: str, data: Any, cachedir: str, expires: float | None = None) -> None:
    """Stores data, for ``expires`` seconds or without end."""
    _driver.store(bank, key, data, cachedir, expires)


def fetch(bank: str, key: str, cachedir: str) -> Any:
    """Returns the data of a key; an empty dictionary if it is absent."""
    return _driver.fetch(bank, key, cachedir)


def updated(bank: str, key: str, cachedir: str) -> int | None:
    """Returns when the key was stored, in seconds since 1970; None if it is absent."""
    return _driver.updated(bank, key, cachedir)


def flush(bank: str, key: str | None = None, cachedir: str | None = None) -> bool:
    """Removes a key, or a whole bank; returns whether it was there."""
    return _driver.flush(bank, key, cachedir or __opts__["cachedir"])


def list_(bank: str, cachedir: str) -> list[str]:
    """Returns the names of the keys and sub-banks of a bank."""
    return _driver.list_names(bank, cachedir)


def list_all(bank: str, cachedir: str, include_data: bool = False) -> dict[str, Any]:
    """Returns the keys of a bank, with their data if asked for."""
    return _driver.list_all(bank, cachedir, include_data)


def contains(bank: str, key: str | None, cachedir: str) -> bool:
    """Returns whether there is such a key, or such a bank if ``key`` is None."""
    return _driver.contains(bank, key, cachedir)


def clean_expired(bank: str, cachedir: str) -> None:
    """Frees the room of expired keys."""
    _driver.clean_expired(bank, cachedir)
