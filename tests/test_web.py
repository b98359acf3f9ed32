"""Archives on web servers, some of them of little help."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pytest
import web_server
from conftest import HANG, ROOT, Archives
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import imagenet2012
from imagenet2012 import ArchiveError, remote, remote_archive
from rows import contents, undecoded, wanted

VALIDATION = "ILSVRC2012_img_val.tar"
without_secrets = imagenet2012.ilsvrc2012.without_secrets
text_without_secrets = imagenet2012.ilsvrc2012.text_without_secrets


@pytest.fixture
def web(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> Iterator[web_server.Web]:
    monkeypatch.setattr(remote_archive, "RETRY_AFTER", (0.01,))
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 6)  # of 90 images, not of 50,000
    with web_server.running() as server:
        server.files[f"/a/{VALIDATION}"] = (archives.folder / VALIDATION).read_bytes()
        yield server
    remote._placed.clear()
    remote._named.clear()
    os.environ.pop(remote.HOSTS_VARIABLE, None)


def load(url: str, cache: dict[str, Any], name: str = "default", **kwargs: Any) -> Any:
    return imagenet2012.load(
        None, name, data_files={"validation": url}, split="validation", **cache, **kwargs
    )


# ------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/a/b?c@d", "/a/b?c@d"),
        ("http://h/x", "http://h/x"),
        ("http://user:PW@h:80/x@y?sig=PW/PW&PW", "http://h:80/x@y"),
        ("HTTPS://PW@h/x#token=PW", "HTTPS://h/x"),
        ("http://h?sig=PW", "http://h"),
        ("http://[::1]:80/x?PW", "http://[::1]:80/x"),
        ("http://user:PW/PW@h/x", "http://…"),  # these should be quoted
        ("http://user:PW#PW@h/x", "http://…"),
        ("http://user:PW?PW@h/x", "http://…"),
        ("simplecache::http://u:PW@h/f?sig=PW::PW", "simplecache::http://h/f"),
        ("zip://x.tar::https://u:PW@h/a.zip?PW", "zip://x.tar::https://h/a.zip"),
        ("sftp://user:PW@h/x", "sftp://h/x"),
        ("s3://KEY:PW@bucket/x", "s3://bucket/x"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
        ("s3://bucket/a::b", "s3://bucket/a::b"),
        ("abfs://container@account.dfs.core.windows.net/x", None),
        ("hf://datasets/a/b@main/x", None),
    ],
)
def test_secrets_are_struck_out_of_urls(url: str, said: str | None) -> None:
    assert without_secrets(url) == (said or url)
    assert "PW" not in str(ArchiveError(url, "is odd.")) + repr(vars(ArchiveError(url, "is odd.")))
    text = f"403, message='Forbidden', url='{url}' and more"
    assert "PW" not in text_without_secrets(text).replace("PW@h/x", "")
    assert text_without_secrets(text).startswith("403, message='Forbidden', url='")


def test_no_secret_is_written_or_said(
    web: web_server.Web, cache: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://user:PASSWORD@{web.host}/a/{VALIDATION}?sig=SIGNATURE/AND&MORE"
    assert len(load(url, cache)) == 90
    origin = json.loads(next(tmp_path.rglob("origin.json")).read_text())
    assert origin["folders"] == [f"http://{web.host}/a"]
    cache["verification_mode"] = "basic_checks"
    caplog.set_level(logging.WARNING, "datasets.imagenet2012")
    logging.getLogger("datasets.imagenet2012").addHandler(caplog.handler)
    streamed = load(url, cache, streaming=True)  # warns of the size
    assert "90" not in caplog.text or VALIDATION in caplog.text
    said = [caplog.text]
    web.refuses = 500
    for path in (url, url.replace("/a/", "/missing/")):
        for status in (500, 403, 404):
            web.refuses = status
            for call in (lambda path=path: load(path, cache), lambda: next(iter(streamed))):
                with pytest.raises(Exception) as caught:
                    call()
                said += traceback.format_exception(caught.value)
    logging.getLogger("datasets.imagenet2012").removeHandler(caplog.handler)
    written = [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    for text in [*said, *written, *map(str, tmp_path.rglob("*"))]:
        for secret in ("PASSWORD", "SIGNATURE", "MORE"):
            assert secret not in text


# ------------------------------------------------------------------------- in place


READ = "import datasets, sys; print(datasets.load_from_disk(sys.argv[1])[3]['image'].mode)"


def test_rows_in_place_are_read_by_other_processes(
    web: web_server.Web, cache: dict[str, Any], tmp_path: Path, archives: Archives
) -> None:
    url = f"{web.url}/a/{VALIDATION}"
    placed = load(url, cache, "in_place")
    assert sorted(contents(placed)) == wanted(archives.expected["validation"])
    placed.save_to_disk(str(tmp_path / "saved"))
    command = [sys.executable, "-c", READ, str(tmp_path / "saved")]
    # Processes that this one starts may read what it may.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout == "RGB\n", done.stderr
    # Others are told what to set, and that is enough.
    env.pop(remote.HOSTS_VARIABLE)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert f"IMAGENET2012_HOSTS={web.host}" in done.stderr
    env[remote.HOSTS_VARIABLE] = f"example.org, {web.host}"
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout == "RGB\n", done.stderr


def test_a_second_process_finds_the_index_and_reads_it(
    web: web_server.Web, cache: dict[str, Any]
) -> None:
    url = f"{web.url}/a/{VALIDATION}"
    load(url, cache, "in_place")
    code = (
        "import sys, imagenet2012\n"
        "d = imagenet2012.load(None, 'in_place', data_files={'validation': sys.argv[1]},\n"
        "    split='validation', cache_dir=sys.argv[2], verification_mode='no_checks')\n"
        "print(d[0]['image'].mode)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop(remote.HOSTS_VARIABLE)
    command = [sys.executable, "-c", code, url, cache["cache_dir"]]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout == "RGB\n", done.stderr


def test_a_host_that_was_not_named_is_not_asked(
    web: web_server.Web, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = undecoded(load(f"{web.url}/a/{VALIDATION}", cache, "in_place"))[0]["image"]["path"]
    remote._named.clear()
    monkeypatch.setenv(remote.HOSTS_VARIABLE, f"{web.host}0,x{web.host}")
    before = web.requests
    quoted = f"http%3A%2F%2F{web.host.replace(':', '%3A')}"
    for other in (
        quoted,
        f"simplecache%3A%3A{quoted}",
        f"s3%3A%2F%2Fb%2Fx%3A%3A{quoted}",
        quoted.replace("%2F%2F", "%2F%2Fu%40"),
    ):
        with pytest.raises(ArchiveError, match="nobody but a dataset names it"):
            fsspec.open(url.replace(quoted, other)).open()
    assert web.requests == before


@pytest.mark.parametrize("add", ["?sig=1", "#part"])
def test_a_url_that_an_index_cannot_hold_is_refused_with_the_reason(
    web: web_server.Web, cache: dict[str, Any], add: str
) -> None:
    with pytest.raises(ArchiveError, match="which may be a secret and which the index would"):
        load(f"{web.url}/a/{VALIDATION}{add}", cache, "in_place")


# ------------------------------------------------------------------------- servers of little help


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_a_server_without_ranges_is_named_and_sends_little(
    web: web_server.Web, cache: dict[str, Any], config: str
) -> None:
    web.files["/large.tar"] = web.files[f"/a/{VALIDATION}"] + bytes(40 << 20)
    web.knows_ranges = False
    with pytest.raises(ArchiveError, match="sends the whole object"):
        load(f"{web.url}/large.tar", cache, config)
    assert web.sent < 16 << 20  # what the sockets' buffers take


def test_a_server_that_tells_no_length_is_named(web: web_server.Web, cache: dict[str, Any]) -> None:
    web.tells_length = False
    with pytest.raises(ArchiveError, match=r"no size \(Content-Length\)"):
        load(f"{web.url}/a/{VALIDATION}", cache)


def test_a_refused_connection_is_not_a_missing_file(cache: dict[str, Any]) -> None:
    with pytest.raises(ArchiveError, match=r"cannot be reached: .*[Cc]onnect"):
        load(f"http://127.0.0.1:9/a/{VALIDATION}", cache)
    with pytest.raises(ArchiveError, match=r"cannot be reached: .*[Cc]onnect"):
        imagenet2012.load("http://127.0.0.1:9/a", **cache)


@pytest.mark.parametrize("status", [401, 403])
def test_a_forbidden_file_is_not_a_missing_one(
    web: web_server.Web, cache: dict[str, Any], status: int
) -> None:
    web.refuses = status
    with pytest.raises(ArchiveError, match=rf"forbidden .*{status}.*\n.*credentials"):
        load(f"{web.url}/a/{VALIDATION}", cache)
    with pytest.raises(ArchiveError, match=rf"forbidden .*{status}.*\n.*credentials"):
        imagenet2012.load(f"{web.url}/a", **cache)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("tells", ["etag", "time"])
@pytest.mark.parametrize("order", ["archive", "mixed"])
def test_an_archive_that_is_replaced_while_it_is_read_gives_no_wrong_row(
    web: web_server.Web,
    cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tells: str,
    keeps: bool,
    order: str,
) -> None:
    monkeypatch.setattr(imagenet2012.rows, "MIN_REGION_BYTES", 1 << 14)
    monkeypatch.setattr(remote_archive, "AHEAD_BYTES", 1 << 16)
    monkeypatch.setattr(remote_archive, "PIECE_BYTES", 1 << 14)
    web.tells_etag, web.keeps_conditions, web.modified = tells == "etag", keeps, 1_000_000_000
    images = {w: [(n, d + b"a" * 9000) for n, d in m] for w, m in fakes.train_images(3, 30)}
    others = {w: [(n, d[:-9000] + b"b" * 9000) for n, d in m] for w, m in images.items()}
    web.files["/t.tar"] = fakes.train_tar(images)
    streamed = imagenet2012.load(
        data_files={"train": f"{web.url}/t.tar"}, split="train", streaming=True, order=order
    )
    rows = iter(undecoded(streamed))
    right = {name: data for members in images.values() for name, data in members}
    seen = [next(rows) for _ in range(5)]
    web.files["/t.tar"], web.modified = fakes.train_tar(others), 1_000_000_001
    with pytest.raises(ArchiveError, match="changed while it was being read"):
        seen.extend(rows)
    assert all(row["image"]["bytes"] == right[row["file_name"]] for row in seen)


STREAM = (
    "import sys, imagenet2012\n"
    "d = imagenet2012.load(None, sys.argv[2], data_files={'validation': sys.argv[1]}, \n"
    "    split='validation', streaming=sys.argv[3] == 'stream', cache_dir=sys.argv[4],\n"
    "    verification_mode='no_checks')\n"
    "list(d)"
)


@pytest.mark.parametrize("how", ["stream", "prepare"])
@pytest.mark.parametrize("config", ["default", "in_place"])
def test_ctrl_c_ends_a_process_whose_server_hangs(
    web: web_server.Web, tmp_path: Path, config: str, how: str
) -> None:
    web.files["/l.tar"] = fakes.tar(
        [(name, data + bytes(100_000)) for name, data in fakes.flat_images("val", 90)]
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STREAM, f"{web.url}/l.tar", config, how, str(tmp_path)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + HANG
    while web.requests < 12 and time.monotonic() < limit:
        time.sleep(0.01)
    web.hangs.set()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=HANG)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in said


def test_signed_urls_do_not_fill_the_memory(web: web_server.Web) -> None:
    for number in range(remote_archive.KEPT_ARCHIVES + 3):
        imagenet2012.storage.open_archive(f"{web.url}/a/{VALIDATION}?signature={number}")
    assert len(remote_archive._archives) == remote_archive.KEPT_ARCHIVES


def test_a_silent_server_is_given_up(
    web: web_server.Web, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet2012.ranges, "SILENT_SECONDS", 0.3)
    web.hangs.set()
    with pytest.raises(ArchiveError, match=r"cannot be read: .*[Tt]imeout"):
        load(f"{web.url}/a/{VALIDATION}", cache)


# ------------------------------------------------------------------------- other file systems


class Particular(MemoryFileSystem):
    """A file system that takes no options but its own, as that of SFTP."""

    protocol = "particular"

    def __init__(self, host: str = "h") -> None:
        super().__init__()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("particular://").strip("/")


@pytest.mark.parametrize("url", ["memory://a?b/c::d@e", "particular://h/x@y"])
def test_odd_keys_and_file_systems_are_read(
    url: str, archives: Archives, cache: dict[str, Any]
) -> None:
    fsspec.register_implementation("particular", Particular, clobber=True)
    files = fsspec.get_filesystem_class(url.partition("://")[0])()
    files.pipe(files._strip_protocol(f"{url}/v.tar"), (archives.folder / VALIDATION).read_bytes())
    for config in ("default", "in_place"):
        loaded = load(f"{url}/v.tar", cache, config)
        assert sorted(contents(loaded)) == wanted(archives.expected["validation"])
    assert isinstance(loaded, datasets.Dataset)


# ------------------------------------------------------------------------- storage options


class Bucket(HTTPFileSystem):
    """A store whose URLs do not say where it is, as those of S3."""

    protocol = "bucket"

    def __init__(self, endpoint_url: str = "http://127.0.0.1:9", key: str = "", **kw: Any) -> None:
        self.endpoint_url = endpoint_url
        super().__init__(client_kwargs={"headers": {"X-Key": key}}, **kw)

    def encode_url(self, url: str) -> Any:
        return super().encode_url(f"{self.endpoint_url}/{url.partition('://')[2]}")


BUCKET = f"bucket://a/{VALIDATION}"


@pytest.fixture
def twins(web: web_server.Web) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Options of two stores that have an archive of the same layout under the same URL."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    members = fakes.flat_images("val", 30)
    with web_server.running() as other:
        for server, end in ((web, b"1"), (other, b"2")):
            server.files[f"/a/{VALIDATION}"] = fakes.tar((n, d + end * 70_000) for n, d in members)
        yield {"endpoint_url": web.url}, {"endpoint_url": other.url}


def ends(rows: Any) -> set[bytes]:
    """Return the last byte of each image, which tells the store."""
    return {data[-1:] for _, data, _ in contents(rows)}


def test_what_was_loaded_from_a_store_is_read_from_it(
    twins: tuple[dict[str, str], dict[str, str]],
    cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = twins
    monkeypatch.setattr(remote_archive, "AHEAD_BYTES", 1 << 18)
    placed = load(BUCKET, cache, "in_place", storage_options=first)
    streams = [load(BUCKET, cache, streaming=True, storage_options=o) for o in (first, second)]
    running = iter(undecoded(streams[0]))
    assert next(running)["image"]["bytes"][-1:] == b"1"
    copied = load(BUCKET, cache, storage_options=second)
    assert ends(copied) == {b"2"}
    assert ends(placed) == {b"1"}
    assert [ends(stream) for stream in streams] == [{b"1"}, {b"2"}]
    assert {row["image"]["bytes"][-1:] for row in running} == {b"1"}
    assert ends(placed) == {b"1"}
    builders = [
        datasets.load_dataset_builder(
            "imagenet2012",
            data_files={"validation": BUCKET},
            cache_dir=cache["cache_dir"] + "/builders",
            storage_options=options,
        )
        for options in (first, second)
    ]
    builders[0].download_and_prepare(verification_mode="no_checks")
    assert ends(builders[0].as_dataset("validation")) == {b"1"}


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_in_place_of_two_stores_are_refused(
    twins: tuple[dict[str, str], dict[str, str]], cache: dict[str, Any], streaming: bool
) -> None:
    first, second = twins
    placed = load(BUCKET, cache, "in_place", storage_options=first)
    with pytest.raises(ArchiveError, match=r"from another store .*endpoint_url") as caught:
        load(BUCKET, cache, "in_place", storage_options=second, streaming=streaming)
    assert "Use another process" in str(caught.value)
    assert ends(placed) == {b"1"}


def test_a_failed_load_does_not_bind_a_bucket(
    twins: tuple[dict[str, str], dict[str, str]], cache: dict[str, Any]
) -> None:
    with pytest.raises(ArchiveError, match="cannot be reached"):
        load(BUCKET, cache, "in_place")
    assert ends(load(BUCKET, cache, "in_place", storage_options=twins[0])) == {b"1"}


def test_a_new_key_is_taken_at_the_next_load(
    twins: tuple[dict[str, str], dict[str, str]], web: web_server.Web, cache: dict[str, Any]
) -> None:
    web.key = "old"
    placed = load(BUCKET, cache, "in_place", storage_options={**twins[0], "key": "old"})
    assert ends(placed) == {b"1"}
    web.key = "new"
    with pytest.raises(ArchiveError, match="403"):
        contents(placed)
    load(BUCKET, cache, "in_place", storage_options={**twins[0], "key": "new"})
    assert ends(placed) == {b"1"}
