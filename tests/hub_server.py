"""A server that speaks the few calls of the Hugging Face Hub that an upload needs.

Files are kept in memory as the commits leave them. All are taken as regular files, in the commit
itself, as the protocols for large ones are of no interest here.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from typing import Any

from web_server import Handler, serving


class Hub:
    """What the server has and has been told, of its one repository."""

    def __init__(self) -> None:
        self.url = ""
        self.private, self.created = True, False  # what it is, and whether it was asked for
        self.files = {".gitattributes": b""}
        self.commits: list[dict[str, list[str]]] = []  # names by `file` and `deletedFile`
        self.refusal: tuple[int, str] | None = None  # status and words for commits

    def commit(self, lines: list[dict[str, Any]]) -> None:
        done: dict[str, list[str]] = {"header": [], "file": [], "deletedFile": []}
        for line in lines:
            path = line["value"].get("path", "")
            done[line["key"]].append(path)
            if line["key"] == "file":
                self.files[path] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del self.files[path]
        self.commits.append(done)

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and content for a request."""
        if path == "/api/repos/create":
            self.created = True
            return 200, {"url": f"{self.url}/datasets/me/imagenet", "name": "me/imagenet"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            given = {"uploadMode": "regular", "shouldIgnore": False}
            paths = [one["path"] for one in json.loads(body)["files"]]
            return 200, {"files": [{**given, "path": path, **self.oid(path)} for path in paths]}
        if "/commit/" in path:
            if self.refusal:
                return self.refusal
            self.commit([json.loads(line) for line in body.splitlines()])
            commit = {"commitUrl": f"{self.url}/datasets/me/imagenet/commit/c", "commitOid": "c"}
            return 200, commit
        if "/tree/" in path:
            listed = [(path, len(data)) for path, data in self.files.items()]
            return 200, [{"type": "file", "path": p, "size": n, **self.oid(p)} for p, n in listed]
        if path.startswith("/api/datasets/me/imagenet"):
            return 200, {"id": "me/imagenet", "sha": "c" * 40, "private": self.private}
        return 404, f"{path} is not spoken here"

    def oid(self, path: str) -> dict[str, str]:
        """Return what git calls a file of this content, if there is one."""
        data = self.files.get(path)
        return {} if data is None else {"oid": sha1(b"blob %d\0" % len(data) + data).hexdigest()}


@contextmanager
def running() -> Iterator[Hub]:
    """Run a server on this machine."""
    hub = Hub()

    class Speaker(Handler):
        def do_POST(self) -> None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b"".join(self.chunks())
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = hub.answer(self.path.partition("?")[0], body)
            failed = {"X-Error-Message": content} if status >= 400 else {}
            data = json.dumps({"error": content} if failed else content).encode()
            self.answer(status, data, Content_Type="application/json", **failed)

        do_GET = do_POST

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    with serving(Speaker) as host:
        hub.url = f"http://{host}"
        yield hub
