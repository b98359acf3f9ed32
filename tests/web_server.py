"""Servers of our own on this machine; a web server, as unhelpful as some out there."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers without a word on the terminal."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(handler: type[Handler]) -> Iterator[str]:
    """Run a server, and give its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Web:
    """What the tests set and read."""

    def __init__(self) -> None:
        self.url = self.host = ""
        self.files: dict[str, bytes] = {}  # by path
        self.knows_ranges = self.tells_length = True
        self.keeps_conditions = True  # whether it minds ``If-Match`` and its like
        self.etag = '"md5"'  # with that of the file
        self.modified = 0  # seconds since 1970; 0 for no ``Last-Modified``
        self.refuses = 0  # status of each answer
        # Spoils one of 20 answers with data: an error, or too few or too many bytes.
        self.faults: random.Random | None = None
        self.hangs, self.released = threading.Event(), threading.Event()  # requests for data
        self.requests = self.spoilt = 0
        self.sent = 0  # bytes of data


def handler(web: Web) -> type[Handler]:
    """Return a handler that answers as the `Web` says."""

    class Unhelpful(Handler):
        def do_GET(self) -> None:
            web.requests += 1
            data = web.files.get(self.path.partition("?")[0])
            if web.refuses or data is None:
                return self.answer(web.refuses or 404)
            etag = web.etag.replace("md5", hashlib.md5(data).hexdigest())
            time = formatdate(web.modified, usegmt=True) if web.modified else ""
            for name, value in (("If-Match", etag), ("If-Unmodified-Since", time)):
                if web.keeps_conditions and self.headers.get(name, value) != value:
                    return self.answer(412)
            if self.command == "GET" and web.hangs.is_set():
                web.released.wait()
            packs = "gzip" in self.headers.get("Accept-Encoding", "")  # which ends ranges
            asked = self.headers.get("Range", "") if web.knows_ranges and not packs else ""
            first, _, last = asked.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1] if asked else data
            fault = self.fault()
            if fault in ("status", "closed"):
                self.close_connection = fault == "closed"
                return None if fault == "closed" else self.answer(500)
            part += part[:100] if fault == "long" else b""
            part = part[: len(part) // 2] if fault == "short" else part
            self.send_response(206 if asked else 200)
            given = {"ETag": etag, "Last-Modified": time}
            given["Content-Range"] = f"bytes {first}-{last}/{len(data)}" if asked else ""
            given["Content-Length"] = str(len(part)) if web.tells_length else ""
            for name, value in given.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.close_connection = not web.tells_length or fault == "cut"
            if self.command == "GET":
                self.send(part[: len(part) // 3] if fault == "cut" else part)

        do_HEAD = do_GET

        def fault(self) -> str:
            if not web.faults or self.command != "GET" or web.faults.random() > 1 / 20:
                return ""
            web.spoilt += 1
            return web.faults.choice(["status", "short", "long", "cut", "closed"])

        def send(self, part: bytes) -> None:
            with suppress(OSError):
                for start in range(0, len(part), 1 << 16):
                    web.sent += self.wfile.write(part[start : start + (1 << 16)])

    return Unhelpful


@contextmanager
def running() -> Iterator[Web]:
    """Run a web server."""
    web = Web()
    with serving(handler(web)) as web.host:
        web.url = f"http://{web.host}"
        try:
            yield web
        finally:
            web.released.set()
