"""A cache backend for Django, shared by all processes of a machine.

In the settings:

    CACHES = {
        "default": {
            "BACKEND": "mmapcache.django.MmapCache",
            "LOCATION": "/var/cache/shop/cache",
        }
    }

`LOCATION` is the path of a cache, a file that need not exist yet. The usual settings apply:
`TIMEOUT`, `KEY_PREFIX`, `VERSION`, `KEY_FUNCTION`. `OPTIONS` takes:

- `MAX_ENTRIES`: a bound on entries; without it there is none, as with Redis and Memcached.
- `max_bytes`: a bound on the disk that all files take, 1 GiB if it is not given; None is no bound.
- `codec`: how values are stored. The default keeps the types that `mmapcache.codecs` lists, safe
  strings, and responses of `django.http` and `django.template.response`, so sessions, template
  fragments and `cache_page` need no other. "pickle" stores nearly any object, model instances and
  query sets for example: read in `mmapcache.codecs` what that risks. "json", "bytes", or a codec of
  your own.
- what `mmapcache.Cache` takes besides: `max_entries`, `eviction`, `jitter`, `durability`,
  `lock_timeout`, `file_mode`, and others.

`CULL_FREQUENCY` has no use here: an insertion that exceeds a bound evicts as many entries as it
needs, those first that were not read for long.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from http.cookies import Morsel, SimpleCookie
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured
from django.http import (
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseForbidden,
    HttpResponseGone,
    HttpResponseNotAllowed,
    HttpResponseNotFound,
    HttpResponseNotModified,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
    HttpResponseServerError,
    JsonResponse,
)
from django.http.response import ResponseHeaders
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.utils.safestring import SafeString

import mmapcache
from mmapcache import ValueTooLargeError
from mmapcache._keys import store_key
from mmapcache._shared import (
    MISSING,
    add_value,
    change_value,
    has_value,
    load,
    open_cache,
)
from mmapcache.codecs import MsgpackCodec, MsgpackType, encode, get_codec

__all__ = ["CODEC", "MmapCache"]

_SAFE_STRING = 64
_RESPONSES: dict[int, type[HttpResponse]] = {
    65: HttpResponse,
    66: JsonResponse,
    67: SimpleTemplateResponse,
    68: TemplateResponse,
    69: HttpResponseNotModified,
    70: HttpResponseRedirect,
    71: HttpResponsePermanentRedirect,
    72: HttpResponseBadRequest,
    73: HttpResponseForbidden,
    74: HttpResponseNotFound,
    75: HttpResponseNotAllowed,
    76: HttpResponseGone,
    77: HttpResponseServerError,
}
# What belongs to the request that made the response, and what is stored in another form.
_UNSTORED = ("_resource_closers", "_handler_class", "headers", "cookies", "_container")


def _response_fields(response: HttpResponse) -> list[Any]:
    # The protocol of pickle, which tells responses to leave out what cannot be stored; a template
    # response that was not rendered yet raises.
    state = dict(response.__reduce_ex__(2)[2])
    for name in _UNSTORED:
        state.pop(name, None)
    cookies = [
        [name, morsel.value, morsel.coded_value, dict(morsel)]
        for name, morsel in response.cookies.items()
    ]
    return [response.content, list(response.headers.items()), cookies, state]


def _response_builder(kind: Any) -> Callable[[list[Any]], HttpResponse]:
    def build(fields: list[Any]) -> HttpResponse:
        content, headers, cookies, state = fields
        response = kind.__new__(kind)
        response.__dict__.update(state)
        response.headers = ResponseHeaders({})
        for name, value in headers:
            response.headers[name] = value
        response.cookies = SimpleCookie()
        for name, value, coded, attributes in cookies:
            morsel: Morsel[str] = Morsel()
            morsel.set(name, value, coded)
            morsel.update(attributes)
            response.cookies[name] = morsel
        response._container = [bytes(content)]
        response._resource_closers = []
        response._handler_class = None
        return response

    return build


CODEC = MsgpackCodec(
    [
        MsgpackType(
            _SAFE_STRING, SafeString, lambda text: [str.__str__(text)], lambda f: SafeString(*f)
        ),
        *(
            MsgpackType(number, kind, _response_fields, _response_builder(kind))
            for number, kind in _RESPONSES.items()
        ),
    ]
)
"""The codec if `OPTIONS` name none: msgpack, with safe strings and responses."""


class MmapCache(BaseCache):
    """The backend. Django makes one for each thread; all of a process share one open cache.

    An expired entry is absent to every method, and no method brings it back. Deadlines are exact
    to a millisecond up to 37 hours. `add`, `incr`, `decr` and `touch` are atomic across
    processes, and an `incr` keeps the deadline. What another codec has stored is a miss.

    A value that the codec does not support raises TypeError and leaves the old value; one that is
    too large for the cache raises `ValueTooLargeError`, except in `set_many`, which returns its
    key.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        if not location:
            raise ImproperlyConfigured(
                "LOCATION is the path of the cache, such as /var/cache/shop/cache; it is empty"
            )
        options = dict(params.get("OPTIONS", {}))
        options.pop("CULL_FREQUENCY", None)
        entries = options.pop("MAX_ENTRIES", None)
        if entries is not None:
            options["max_entries"] = int(entries)
        codec = options.pop("codec", CODEC)
        self._codec = CODEC if codec == "msgpack" else get_codec(codec)
        self._location = location
        self._options = options
        self._opened: mmapcache.Cache | None = None

    @property
    def store(self) -> mmapcache.Cache:
        """The open cache behind this backend, for what Django's interface does not have."""
        if self._opened is None:
            self._opened = open_cache(self._location, self._options)
        return self._opened

    def _key(self, key: Any, version: int | None) -> bytes:
        return store_key(self.make_and_validate_key(key, version=version))

    def _life(self, timeout: Any) -> dict[str, Any] | None:
        """Returns the life of an insertion; None if it ends before it begins."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None:
            return {"no_expiry": True}
        if timeout > 0:
            return {"ttl": timeout}
        if math.isnan(timeout):
            raise ValueError("a timeout is a number of seconds or None, not NaN")
        return None

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Returns the value, or `default` if there is none."""
        return load(self._codec, self.store.get(self._key(key, version)), default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Returns the values that are there, by the keys as they were given."""
        names = list(keys)
        found = self.store.get_many([self._key(name, version) for name in names])
        loaded = ((name, load(self._codec, data)) for name, data in zip(names, found, strict=True))
        return {name: value for name, value in loaded if value is not MISSING}

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Returns whether there is a value; decodes it."""
        return has_value(self.store, self._codec, self._key(key, version))

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Stores a value. A timeout of 0 or below removes it."""
        store_as = self._key(key, version)
        life = self._life(timeout)
        data = encode(self._codec, value)
        if life is None:
            self.store.remove(store_as)
        else:
            self.store.insert(store_as, data, **life)

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """As Django's. One lock for all; nothing is stored if the codec refuses any value."""
        life = self._life(timeout)
        keys = {name: self._key(name, version) for name in data}
        encoded = {name: encode(self._codec, value) for name, value in data.items()}
        if life is None:
            self.store.remove_many(keys.values())
            return []
        try:
            self.store.insert_many([(keys[name], encoded[name]) for name in encoded], **life)
            return []
        except ValueTooLargeError:
            return [name for name in encoded if not self._fits(keys[name], encoded[name], life)]

    def _fits(self, key: bytes, data: bytes, life: dict[str, Any]) -> bool:
        try:
            self.store.insert(key, data, **life)
        except ValueTooLargeError:
            return False
        return True

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Stores a value if there is none; returns whether there was none."""
        store_as = self._key(key, version)
        life = self._life(timeout)
        if life is None:
            encode(self._codec, value)  # An unsupported type is an error for every timeout.
            return not has_value(self.store, self._codec, store_as)
        return add_value(self.store, self._codec, store_as, value, **life)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Sets another timeout; returns whether there is a value."""
        store_as = self._key(key, version)
        life = self._life(timeout)
        if life is None:
            return self.store.remove(store_as)
        if "ttl" in life:
            return self.store.touch(store_as, life["ttl"])
        return self.store.persist(store_as)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Removes a value; returns whether there was one."""
        return self.store.remove(self._key(key, version))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Removes values under one lock."""
        self.store.remove_many([self._key(key, version) for key in keys])

    def incr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """Adds `delta` and returns the sum; ValueError if there is no value."""
        store_as = self._key(key, version)
        changed = change_value(self.store, self._codec, store_as, lambda value: value + delta)
        if changed is MISSING:
            raise ValueError(f"Key {key!r} not found")
        return changed

    def clear(self) -> None:
        """Removes every entry of the files, those of other prefixes and versions too."""
        self.store.clear()

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As `get`, and without a thread."""
        # No lock, and less than the passage to a thread costs: half a microsecond if in memory.
        return self.get(key, default, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`, and without a thread."""
        return self.get_many(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """As `has_key`, and without a thread."""
        return self.has_key(key, version)

    async def aincr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """As `incr`, in a thread."""
        # The base class would read and write in two steps, and lose what comes between them.
        return await sync_to_async(self.incr)(key, delta, version)

    def close(self, **kwargs: Any) -> None:
        """Keeps the files open: Django calls this at the end of each request.

        If they were removed since they were opened, the next call opens new ones.
        """
        opened = self._opened
        if opened is not None and (opened.closed or not os.path.exists(opened.path)):
            self._opened = None
