"""A small web server of our own, which can be as unhelpful as those out there."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """What the tests set and read.

    Attributes
    ----------
    files : dict of str to bytes
        By path.
    knows_ranges, tells_length, tells_etag : bool
        What the server can do.
    keeps_conditions : bool
        Whether it minds ``If-Match`` and its like.
    refuses : int
        Status of each answer, if it is not 0.
    modified : int
        Seconds since 1970, for ``Last-Modified``; 0 for none.
    key : str
        What requests must have as ``X-Key``, if it is not empty.
    faults : random.Random, optional
        Spoils one of 20 answers with data: an error, or too few or too many bytes.
    hangs : threading.Event
        While it is set, requests for data are not answered.
    sent : int
        Bytes of data that were sent.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.knows_ranges = self.tells_length = self.tells_etag = self.keeps_conditions = True
        self.refuses, self.modified, self.sent, self.requests = 0, 0, 0, 0
        self.hangs, self.released = threading.Event(), threading.Event()
        self.url = self.host = self.key = ""
        self.faults: random.Random | None = None
        self.spoilt = 0


def handler(web: Web) -> type[BaseHTTPRequestHandler]:
    """Return a handler that answers as the `Web` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def end(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            web.requests += 1
            data = web.files.get(self.path.partition("?")[0])
            if web.key and self.headers.get("X-Key") != web.key:
                return self.end(403)
            if web.refuses or data is None:
                return self.end(web.refuses or 404)
            etag = f'"{hashlib.md5(data).hexdigest()}"' if web.tells_etag else ""
            time = formatdate(web.modified, usegmt=True) if web.modified else ""
            if web.keeps_conditions:
                if self.headers.get("If-Match", etag) != etag:
                    return self.end(412)
                if self.headers.get("If-Unmodified-Since", time) != time:
                    return self.end(412)
            if web.hangs.is_set() and self.command == "GET":
                web.released.wait(60)
            asked = self.headers.get("Range", "") if web.knows_ranges else ""
            first, _, last = asked.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1] if asked else data
            fault = ""
            if web.faults and self.command == "GET" and web.faults.random() < 1 / 20:
                fault = web.faults.choice(["500", "short", "long", "cut", "closed"])
                web.spoilt += 1
            if fault == "500":
                return self.end(500)
            if fault == "closed":
                self.close_connection = True
                return None
            if fault in ("short", "long"):
                part = part[: len(part) // 2] if fault == "short" else part + part[:100]
            self.send_response(206 if asked else 200)
            for name, value in (("ETag", etag), ("Last-Modified", time)):
                if value:
                    self.send_header(name, value)
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.close_connection = not web.tells_length
            if web.tells_length:
                self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if fault == "cut":
                self.close_connection, part = True, part[: len(part) // 3]
            if self.command == "GET":
                for start in range(0, len(part), 1 << 16):
                    try:
                        self.wfile.write(part[start : start + (1 << 16)])
                    except OSError:
                        return
                    web.sent += len(part[start : start + (1 << 16)])

    return Handler


@contextmanager
def running() -> Iterator[Web]:
    """Run a server."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(web))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web.host = f"127.0.0.1:{server.server_port}"
    web.url = f"http://{web.host}"
    try:
        yield web
    finally:
        web.released.set()
        server.shutdown()
        server.server_close()
