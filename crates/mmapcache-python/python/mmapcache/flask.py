"""A backend for Flask-Caching, shared by all processes of a machine.

    cache = flask_caching.Cache(
        config={
            "CACHE_TYPE": "mmapcache.flask.MmapCache",
            "CACHE_DIR": "/var/cache/shop",
            "CACHE_OPTIONS": {"max_bytes": 256 << 20},
        }
    )

The files are in `CACHE_DIR`, unless `CACHE_OPTIONS` has a `path`, that of the cache itself.
`CACHE_DEFAULT_TIMEOUT` and `CACHE_IGNORE_ERRORS` apply. `CACHE_OPTIONS` takes what
`mmapcache.cachelib.MmapCache` takes: `codec`, `threshold`, `max_bytes` (1 GiB if it is not given)
and others. `CACHE_THRESHOLD`, which is for the backends `simple` and `filesystem`, is ignored.

If `codec` is not given, values are stored by msgpack, with `flask.Response`, what `flask.abort`
raises, and `markupsafe.Markup`: views, memoized functions and template fragments need no other
unless they return further objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cachelib.serializers import BaseSerializer
from flask import Flask, Response
from flask_caching import CachedResponse
from flask_caching.backends.base import BaseCache
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, default_exceptions

from mmapcache import cachelib
from mmapcache.codecs import Codec, CodecError, MsgpackCodec, MsgpackType

__all__ = ["CODEC", "MmapCache"]


_EXCEPTIONS: dict[int, type[HTTPException]] = {
    80: HTTPException,
    # Those of the statuses 400 to 511.
    **{status - 300: kind for status, kind in default_exceptions.items()},
}


def _response_fields(response: Response) -> list[Any]:
    if response.is_streamed or response.direct_passthrough:
        raise TypeError("a response that is streamed cannot be cached; its body is not known")
    return [response.get_data(), response.status, list(response.headers)]


def _build_response(fields: list[Any]) -> Response:
    body, status, headers = fields
    response = Response(body, status=status)
    # Not as an argument: a response without a type would get one.
    response.headers.clear()
    response.headers.extend([(name, value) for name, value in headers])
    return response


def _cached_response_fields(response: CachedResponse) -> list[Any]:
    return [response.timeout, *_response_fields(response)]


def _build_cached_response(fields: list[Any]) -> CachedResponse:
    timeout, *rest = fields
    return CachedResponse(_build_response(rest), timeout)


def _exception_fields(error: HTTPException) -> list[Any]:
    return [list(error.args), dict(error.__dict__)]


def _exception_builder(kind: type[HTTPException]) -> Callable[[list[Any]], HTTPException]:
    def build(fields: list[Any]) -> HTTPException:
        arguments, state = fields
        error = kind.__new__(kind, *arguments)
        error.__dict__.update(state)
        return error

    return build


CODEC = MsgpackCodec(
    [
        # What `abort` raises is cached like a response, and raised again.
        *(
            MsgpackType(number, kind, _exception_fields, _exception_builder(kind))
            for number, kind in _EXCEPTIONS.items()
        ),
        MsgpackType(64, Markup, lambda text: [str(text)], lambda fields: Markup(*fields)),
        MsgpackType(65, Response, _response_fields, _build_response),
        MsgpackType(66, CachedResponse, _cached_response_fields, _build_cached_response),
    ]
)
"""The codec if `CACHE_OPTIONS` name none: msgpack, with responses, HTTP errors and markup."""


class MmapCache(cachelib.MmapCache, BaseCache):
    """The backend; `mmapcache.cachelib.MmapCache` says what its methods do."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> MmapCache:
        """Makes the backend from a configuration; Flask-Caching calls this.

        Raises ValueError if that says neither `CACHE_DIR` nor a path.
        """
        options = dict(kwargs)
        path = args[0] if args else options.pop("path", None)
        if path is None:
            folder = config.get("CACHE_DIR")
            if not folder:
                raise ValueError(
                    "name the folder of the cache by CACHE_DIR, or a path in CACHE_OPTIONS"
                )
            path = os.path.join(folder, "mmapcache")
        if options.setdefault("codec", "msgpack") == "msgpack":
            options["codec"] = CODEC
        return cls(path, *args[1:], **options)

    @property
    def serializer(self) -> Codec:
        """The codec. Flask-Caching sets it to what `CACHE_SERIALIZER` names."""
        return self._codec

    @serializer.setter
    def serializer(self, serializer: BaseSerializer) -> None:
        self._codec = _SerializerCodec(serializer)


class _SerializerCodec:
    """A serializer of cachelib as a codec. Those that cachelib has pickle, except for one."""

    def __init__(self, serializer: BaseSerializer) -> None:
        kind = type(serializer)
        self.name = f"{kind.__module__}.{kind.__qualname__}"
        self._serializer = serializer

    def dumps(self, value: Any, /) -> bytes:
        data = self._serializer.dumps(value)
        if data is None:
            raise TypeError(f"the serializer {self.name} does not support {type(value).__name__}")
        return data

    def loads(self, data: Any, /) -> Any:
        try:
            return self._serializer.loads(bytes(data))
        except Exception as error:
            # A serializer of the caller may raise anything for damaged bytes.
            raise CodecError(f"the value cannot be read: {error!r}") from error
