"""A small HTTP server on the loopback interface, for the tests of the HTTP caches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Origin:
    """Counts requests. Paths: `/count`, `/redirect` to it, `/etag`, `/large`, `/fail`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[str] = []
        self.conditional = 0
        self.fails = False


@contextmanager
def origin() -> Iterator[Origin]:
    """Serves in a thread until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            status, headers, body = answer(served, self.path, self.headers)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Origin(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(served: Origin, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
    if served.fails or path == "/fail":
        return 500, {}, b"failed"
    if path == "/redirect":
        return 302, {"Location": "/count", "Set-Cookie": "colour=red"}, b""
    if path == "/large":
        return 200, {"Cache-Control": "max-age=60"}, bytes(500_000)
    if path == "/etag":
        if headers.get("If-None-Match") == '"1"':
            served.conditional += 1
            return 304, {"ETag": '"1"'}, b""
        return 200, {"ETag": '"1"', "Cache-Control": "max-age=0"}, b"tagged"
    cache_control = {"Cache-Control": "max-age=60", "X-Own": "\xfc", "Set-Cookie": "a=1"}
    return 200, cache_control, str(len(served.requests)).encode() + b"\xff"
