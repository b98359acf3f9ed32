"""A real S3 server on this machine (moto's), behind a proxy that counts, delays and fails."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from web_server import Handler, serving

KEY, SECRET, BUCKET = "tests-access-key", "tests-secret-never-to-be-stored", "bucket"
REGION = "us-east-1"


class Store:
    """What the tests set and read; several endpoints share one server, which knows `bucket`."""

    def __init__(self, port: int, bucket: str) -> None:
        self.port, self.bucket, self.lock, self.url = port, bucket, threading.Lock(), ""
        self.reset()

    def reset(self) -> None:
        self.latency = 0.0  # seconds that each request waits
        self.forbidden = False  # whether all requests are, as with a wrong key
        self.failures = 0  # how many of the next requests for data fail
        self.count_anew()

    def count_anew(self) -> None:
        self.gets: Counter[str] = Counter()  # GET requests by range
        self.sent = 0  # bytes of objects
        self.under_way = self.most = 0  # GET requests at a time

    @property
    def options(self) -> dict[str, Any]:
        """Storage options for `fsspec`."""
        client = {"endpoint_url": self.url, "region_name": REGION}
        retries = {"retries": {"max_attempts": 0}}
        return {"key": KEY, "secret": SECRET, "client_kwargs": client, "config_kwargs": retries}

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return {**keys, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": REGION}

    def put(self, key: str, data: bytes) -> str:
        """Store an object and return its URL."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def put_folder(self, folder: Path, name: str) -> str:
        """Store the files of a folder and return its URL."""
        for path in folder.iterdir():
            self.put(f"{name}/{path.name}", path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def client(self) -> Any:
        import boto3

        url, keys = f"http://127.0.0.1:{self.port}", {"aws_access_key_id": KEY}
        keys["aws_secret_access_key"] = SECRET
        return boto3.client("s3", endpoint_url=url, region_name=REGION, **keys)

    @contextmanager
    def counted(self, words: str | None) -> Iterator[bool]:
        """Count a GET request by its range, and tell whether it is to fail."""
        with self.lock:
            self.gets[words or ""] += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.failures -= bool(words)
            fails = bool(words) and self.failures >= 0
        try:
            yield fails
        finally:
            with self.lock:
                self.under_way -= 1


def handler(store: Store) -> type[Handler]:
    """Return a handler that passes requests on to the server."""

    class Proxy(Handler):
        def do_HEAD(self) -> None:
            self.pass_on(False)

        def do_GET(self) -> None:
            with store.counted(self.headers.get("Range")) as fails:
                self.pass_on(fails)

        def pass_on(self, fails: bool) -> None:
            time.sleep(store.latency)
            if fails or store.forbidden:
                return self.answer(500 if fails else 403)
            link = http.client.HTTPConnection("127.0.0.1", store.port)
            path = self.path.replace(f"/{BUCKET}", f"/{store.bucket}", 1)
            link.request(self.command, path, headers=dict(self.headers))
            answer = link.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("date", "server", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            with store.lock:
                store.sent += len(body) if "Range" in self.headers else 0
            self.wfile.write(body)

    return Proxy


@contextmanager
def running(*buckets: str) -> Iterator[list[Store]]:
    """Run a server, and for each bucket an endpoint that knows it as `BUCKET`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    stores = [Store(server.get_host_and_port()[1], bucket) for bucket in buckets]
    with ExitStack() as stack:
        stack.callback(server.stop)
        for store in stores:
            store.url = f"http://{stack.enter_context(serving(handler(store)))}"
            store.client().create_bucket(Bucket=store.bucket)
        yield stores
