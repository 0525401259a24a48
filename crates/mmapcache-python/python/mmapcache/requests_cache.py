"""A backend for requests-cache, shared by all processes of a machine.

    from requests_cache import CachedSession
    from mmapcache.requests_cache import MmapCache

    session = CachedSession(backend=MmapCache("/var/cache/shop/http"), expire_after=600)

Responses are stored by msgpack, where requests-cache's own default is pickle.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
from requests_cache.backends.base import BaseCache, BaseStorage
from requests_cache.models.response import CachedResponse
from requests_cache.policy.settings import CacheSettings
from requests_cache.serializers import CattrStage, SerializerPipeline, Stage

import mmapcache
from mmapcache._keys import is_hashed, store_key, text_of, unwrap, wrap
from mmapcache._shared import open_cache
from mmapcache.codecs import get_codec

__all__ = ["MmapCache", "MmapStorage"]

_RESPONSES, _REDIRECTS = "responses", "redirects"
_END = "\0"  # Between the name of a mapping and a key.
_logger = logging.getLogger(__name__)

# A session passes its settings to a backend that it makes by name.
_OF_SESSIONS = frozenset(field.name for field in attrs.fields(CacheSettings))


def _msgpack() -> SerializerPipeline:
    """Makes the default serializer: responses as dicts of plain values, in msgpack."""
    codec = get_codec("msgpack")
    return SerializerPipeline(
        [CattrStage(), Stage(dumps=codec.dumps, loads=codec.loads)], name="msgpack", is_binary=True
    )


class MmapCache(BaseCache):
    """The responses and the redirects of a session, in one cache.

    Responses stay after they expired, as in the other backends, to be validated again or served if
    the origin fails; beyond the bound of the cache those go first that were not used for long. To
    drop them earlier give `keep_expired`, in seconds.
    """

    def __init__(
        self,
        cache_name: str | os.PathLike[str] = "http_cache",
        serializer: Any = None,
        decode_content: bool = False,
        keep_expired: float | None = None,
        **options: Any,
    ) -> None:
        """Opens the cache at the path `cache_name`, a file that need not exist yet.

        `serializer` is the name of one of requests-cache, or an object; None is msgpack. "pickle"
        runs code that the files name: see `mmapcache.codecs`. `keep_expired` is how long a response
        is kept after its expiry; None is until it is evicted. `options` are those of
        `mmapcache.Cache`; `max_bytes` is 1 GiB if it is not given. Settings of a session are
        ignored.
        """
        super().__init__(cache_name=os.fspath(cache_name))
        options = {name: options[name] for name in options if name not in _OF_SESSIONS}
        self.store: mmapcache.Cache = open_cache(cache_name, options)
        self.responses: MmapStorage = MmapStorage(
            self.store,
            _RESPONSES,
            keep_expired=keep_expired,
            serializer=serializer or "msgpack",
            decode_content=decode_content,
        )
        self.redirects: MmapStorage = MmapStorage(self.store, _REDIRECTS, serializer=None)

    def get_response(self, key: str, default: Any = None) -> Any:
        """Returns a response, or `default` if there is none, or what is there is no response."""
        found = super().get_response(key, default)
        # A map that is no response has no status either.
        is_response = isinstance(found, CachedResponse) and found.status_code
        return found if is_response else default

    @property
    def db_path(self) -> Path:
        """The path of the cache."""
        return Path(self.store.path)


class MmapStorage(BaseStorage[str, Any]):
    """A mapping of texts, one of several in a cache; without a serializer, of texts to texts.

    Iteration goes on while other threads and processes write; it has every key that stays, once.
    """

    def __init__(
        self,
        store: mmapcache.Cache | str | os.PathLike[str],
        name: str = _RESPONSES,
        keep_expired: float | None = None,
        serializer: Any = "msgpack",
        **settings: Any,
    ) -> None:
        """Uses the mapping called `name` in `store`, an open cache or the path of one.

        `serializer` and `settings` are those of requests-cache; None is for texts as they are.
        """
        if _END in name:
            raise ValueError(f"the name {name!r} of a mapping has no NUL character")
        chosen = _msgpack() if serializer == "msgpack" else serializer
        super().__init__(serializer=chosen, **settings)
        self.store = store if isinstance(store, mmapcache.Cache) else open_cache(store, {})
        self._name = name
        self._keep_expired = keep_expired

    def _text(self, key: str) -> str:
        return f"{self._name}{_END}{key}"

    def __getitem__(self, key: str) -> Any:
        text = self._text(key)
        store_as = store_key(text)
        stored = self.store.get(store_as)
        if stored is None:
            raise KeyError(key)
        try:
            return self._load(key, unwrap(store_as, stored)[1])
        except ValueError:
            raise KeyError(key) from None

    def _load(self, key: str, data: bytes) -> Any:
        """Returns a value; None, as requests-cache's own backends, if the serializer refuses it."""
        if self.serializer is None:
            return data.decode("utf-8", "surrogatepass")
        try:
            is_binary = getattr(self.serializer, "is_binary", False)
            return self.deserialize(key, data if is_binary else data.decode())
        except Exception as error:
            # Beyond the errors that the base class expects: those of the library that makes
            # responses of dicts.
            _logger.warning("the response %r cannot be read: %r", key, error)
            return None

    def __setitem__(self, key: str, value: Any) -> None:
        data = value if self.serializer is None else self.serialize(value)
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        text = self._text(key)
        store_as = store_key(text)
        try:
            self.store.insert(
                store_as, wrap(store_as, text, data), namespace=self._name, **self._life(value)
            )
        except mmapcache.ValueTooLargeError as error:
            # What was stored before is not this response.
            self.store.remove(store_as)
            _logger.warning("the response %r was not stored: %s", key, error)

    def _life(self, value: Any) -> dict[str, Any]:
        expires = getattr(value, "expires", None)
        if self._keep_expired is None or expires is None:
            return {"no_expiry": True}
        return {"expires_at": expires.timestamp() + self._keep_expired}

    def __delitem__(self, key: str) -> None:
        if not self.store.remove(store_key(self._text(key))):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and store_key(self._text(key)) in self.store

    def __iter__(self) -> Iterator[str]:
        for store_as in self.store:
            if not is_hashed(store_as):
                text = text_of(store_as)
            elif (stored := self.store.get(store_as)) is not None:
                text = unwrap(store_as, stored)[0]
            else:
                continue  # Removed since it was listed.
            name, _, key = text.partition(_END)
            if name == self._name:
                yield key

    def __len__(self) -> int:
        """Returns the number of entries; reads all keys."""
        return sum(1 for _ in self)

    def bulk_delete(self, keys: Iterable[str]) -> None:
        """Removes entries under one lock; keys that are not there are no error."""
        self.store.remove_many([store_key(self._text(key)) for key in keys])

    def clear(self) -> None:
        """Removes all entries of this mapping, in the same time for any number of them."""
        self.store.invalidate_namespace(self._name)

    def close(self) -> None:
        """Does nothing: other sessions of the process may use the open cache."""
