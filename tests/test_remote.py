"""Archives behind URLs: in object storage, on web servers, some of them of little help."""

import os
import random
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import fakes
import fsspec
import pytest
import web_server
from conftest import HANG, ROOT, Archives, ended, run_python, start_python
from imagenet2012.ilsvrc2012 import without_secrets
from imagenet2012.storage import FOLDER_VARIABLE

import imagenet2012
from imagenet2012 import ArchiveError, remote
from rows import contents, undecoded, wanted

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
import object_store

Options = dict[str, Any]
TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
COPY: Options = {"name": "default"}
IN_PLACE: Options = {"name": "in_place"}
MIXED: Options = {"streaming": True, "order": "mixed"}
IN_ORDER: Options = {"streaming": True, "order": "archive"}
WAYS = [COPY, IN_PLACE, MIXED, IN_ORDER]
TWICE = [{**way, "num_proc": 2} for way in (COPY, IN_PLACE)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fit what is read at a time to small archives, and the waiting to servers at hand."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 6)
    monkeypatch.setattr(remote, "PAUSES", (0.01,) * 5)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


# ------------------------------------------------------------------------- servers


@pytest.fixture(scope="module")
def stores() -> Iterator[list[object_store.Store]]:
    with object_store.running(object_store.BUCKET, "another") as running:
        yield running


@pytest.fixture
def store(stores: list[object_store.Store], monkeypatch: pytest.MonkeyPatch) -> object_store.Store:
    """The first, which this process and those that it starts find by themselves."""
    for one in stores:
        one.reset()
    for name, value in {**stores[0].environment, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    return stores[0]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Fewer images than elsewhere, as this server takes 50 ms for each request."""
    folder = tmp_path_factory.mktemp("archives")
    return Archives(folder, fakes.make_archives(folder, 4, 4, 24, 3))


@pytest.fixture(scope="module")
def folder(stores: list[object_store.Store], archives: Archives) -> str:
    return stores[0].put_folder(archives.folder, "imagenet")


@pytest.fixture
def named(folder: str, store: object_store.Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same folder, named by the variable."""
    monkeypatch.setenv(FOLDER_VARIABLE, folder)
    return folder


@pytest.fixture
def web(archives: Archives) -> Iterator[web_server.Web]:
    with web_server.running() as server:
        for path in archives.folder.iterdir():
            server.files[f"/a/{path.name}"] = path.read_bytes()
        yield server


class Large(NamedTuple):
    """Training images of 200 kB in 4 classes: URL of their folder, images, bytes."""

    url: str
    images: dict[str, bytes]
    size: int


@pytest.fixture(scope="module")
def stored(stores: list[object_store.Store]) -> Large:
    images = {w: [(n, d + os.urandom(200_000)) for n, d in m] for w, m in fakes.train_images(4, 10)}
    data = fakes.train_tar(images)
    url = stores[0].put(f"large/{TRAIN}", data).rpartition("/")[0]
    return Large(url, {n: d for members in images.values() for n, d in members}, len(data))


@pytest.fixture
def large(stored: Large, store: object_store.Store, monkeypatch: pytest.MonkeyPatch) -> Large:
    """The same, where each request takes a while: only so are several under way."""
    monkeypatch.setenv(FOLDER_VARIABLE, stored.url)
    # 8 MiB would be a whole class tar.
    monkeypatch.setattr(remote.RemoteFile, "ALONE", (1 << 19, 1 << 21, 0))
    store.latency = 0.02
    return stored


# ------------------------------------------------------------------------- the right rows


@pytest.mark.parametrize("way", [*WAYS, *TWICE], ids=str)
def test_all_splits_are_loaded_from_s3(
    named: str, archives: Archives, cache: Options, way: Options
) -> None:
    loaded = imagenet2012.load(named, **way, **cache)
    for split, expected in archives.expected.items():
        assert sorted(contents(loaded[split])) == wanted(expected)
        assert next(iter(loaded[split]))["image"].mode == "RGB"


def test_the_library_loads_by_name(
    named: str, archives: Archives, stores: list[object_store.Store], cache: Options
) -> None:
    url = stores[1].put("odd/a?b@c#d e%20.tar", (archives.folder / VALIDATION).read_bytes())
    options = {"s3": stores[1].options}  # as `datasets` wants them
    in_place = {"data_files": {"validation": f"{named}/{VALIDATION}"}, "name": "in_place"}
    for given in (in_place, {"data_files": {"validation": url}, "storage_options": options}):
        loaded = datasets.load_dataset("imagenet2012", **given, **cache)
        assert sorted(contents(loaded["validation"])) == wanted(archives.expected["validation"])


FORK = """
import gc, multiprocessing, sys, imagenet2012
stream = imagenet2012.load(sys.argv[1], split="train", streaming=True)
rows = imagenet2012.load(sys.argv[1], "in_place", split="validation", cache_dir=sys.argv[2],
    verification_mode="no_checks")
def read():
    print(next(iter(stream))["image"].mode, rows[0]["image"].mode, flush=True)
    gc.collect()
read()
process = multiprocessing.get_context("fork").Process(target=read)
process.start()
process.join()
read()
"""


def test_a_forked_process_and_its_parent_leave_each_others_connections_alone(
    named: str, tmp_path: Path
) -> None:
    assert run_python(FORK, named, tmp_path).stdout == "RGB RGB\n" * 3


READ = "import datasets, sys; print(datasets.load_from_disk(sys.argv[1])[3]['image'].mode)"


def test_rows_in_place_hold_a_name_that_the_variable_leads_to(
    named: str, cache: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, saved = dict(os.environ), str(tmp_path / "saved")
    loaded = imagenet2012.load(named, "in_place", split="validation", **cache)
    loaded.save_to_disk(saved)
    assert before == dict(os.environ)
    path = undecoded(loaded)[0]["image"]["path"]
    assert path.startswith(f"imagenet2012://{VALIDATION}/")
    with pytest.raises(ArchiveError, match="neither an absolute path nor the name"):
        fsspec.open(path.replace(VALIDATION, "s3%3A%2F%2Fbucket%2Fimagenet%2F" + VALIDATION)).open()
    assert run_python(READ, saved).stdout == "RGB\n"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert f"{FOLDER_VARIABLE} is not set" in run_python(READ, saved).stderr
    with pytest.raises(ArchiveError, match=rf"export {FOLDER_VARIABLE}={named}"):
        imagenet2012.load(named, "in_place", split="train", **cache)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_other_file_systems_are_read(
    way: Options, cache: Options, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = fsspec.core.url_to_fs(f"memory://a?b/c@d/{VALIDATION}")
    files.pipe(path, (archives.folder / VALIDATION).read_bytes())
    for url in ("memory://a?b/c@d", archives.folder.as_uri()):
        monkeypatch.setenv(FOLDER_VARIABLE, url)
        loaded = imagenet2012.load(None, split="validation", **way, **cache)
        assert sorted(contents(loaded)) == wanted(archives.expected["validation"])


# ------------------------------------------------------------------------- requests


@pytest.mark.parametrize("way", [COPY, IN_ORDER], ids=str)
def test_what_is_read_in_order_comes_once_by_large_requests(
    large: Large, store: object_store.Store, cache: Options, way: Options
) -> None:
    loaded = imagenet2012.load(large.url, split="train", **way, **cache)
    assert {name: data for name, data, _ in contents(loaded)} == large.images
    assert large.size <= store.sent < 1.05 * large.size
    # For each class tar a header, and a request for what begins in it and ends behind a piece.
    assert sum(store.gets.values()) < large.size / (1 << 19) + 5 * 4 + 8
    assert store.most >= 4


def test_a_mixed_stream_reads_each_byte_about_once_many_requests_under_way(
    large: Large, store: object_store.Store
) -> None:
    images = {w: [(n, d + bytes(60_000)) for n, d in m] for w, m in fakes.train_images(8, 20)}
    data = fakes.train_tar(images)
    url = store.put(f"small/{TRAIN}", data).rpartition("/")[0]
    for folder, count, size in ((large.url, 40, large.size), (url, 160, len(data))):
        stream = imagenet2012.load(folder, split="train", **MIXED)
        store.count_anew()
        assert len(list(undecoded(stream))) == count
        assert store.sent < 1.6 * size
        assert sum(store.gets.values()) < max(1.2 * count, 2 * size / (1 << 17))
        assert store.most >= 4  # a class each


def test_in_place_only_headers_are_read_and_then_an_image_a_request_a_batch_at_once(
    large: Large, store: object_store.Store, cache: Options
) -> None:
    loaded = imagenet2012.load(None, "in_place", split="train", **cache)
    assert len(loaded) == 40
    assert store.sent < 0.05 * large.size
    assert store.most >= 4  # a class each
    store.count_anew()
    ((name, data, _),) = contents(loaded.select([7]))
    assert data == large.images[name]
    assert (sum(store.gets.values()), store.sent) == (1, len(data) + 512)
    for read in (
        lambda: list(imagenet2012.read_images(undecoded(loaded)[:]["image"])),
        lambda: loaded[:]["image"],
    ):
        store.latency = 0.1
        store.count_anew()
        count = len(read())
        assert (sum(store.gets.values()), store.most > 10) == (count, True)


def test_another_process_fetches_the_headers_together(
    large: Large, store: object_store.Store, tmp_path: Path
) -> None:
    """Where they are is kept; a damaged list of places is not used."""
    together = []
    for number in range(3):
        store.latency = 0.1
        store.count_anew()
        stream = imagenet2012.load(large.url, split="train", **IN_ORDER)
        together.append(store.most)
        store.latency = 0
        assert len(list(undecoded(stream))) == 40
        (kept,) = tmp_path.rglob("headers/*.json")
        if number == 1:
            kept.write_text('[-512, 99999999999, null, "x"]')
    assert together[1] >= 4 > max(together[::2])


# ------------------------------------------------------------------------- failures


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_failed_requests_are_tried_again(
    way: Options, web: web_server.Web, cache: Options, archives: Archives, monkeypatch: Any
) -> None:
    web.faults = random.Random(15)  # whose second answer is spoilt
    monkeypatch.setenv(FOLDER_VARIABLE, f"{web.url}/a")
    loaded = imagenet2012.load(None, **way, **cache)
    for split, expected in archives.expected.items():
        assert sorted(contents(loaded[split])) == wanted(expected)
    assert web.spoilt > 0


def test_a_lasting_failure_is_named(folder: str, store: object_store.Store) -> None:
    given = {"split": "validation", "storage_options": store.options, **MIXED}
    streamed = imagenet2012.load(folder, **given)
    store.failures = 2
    assert len(list(undecoded(streamed))) == 24
    store.failures = 1000
    with pytest.raises(ArchiveError, match=r"s3://.*img_val\.tar, at byte.*cannot be read"):
        next(iter(streamed))


def test_a_server_that_is_silent_for_long_is_given_up(web: web_server.Web, cache: Options) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    web.hangs.set()
    options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(0.3)}}
    with pytest.raises(ArchiveError, match=r"cannot be read: .*[Tt]imeout"):
        imagenet2012.load(f"{web.url}/a", split="train", storage_options=options, **cache)


def test_a_server_out_of_reach_is_named(store: object_store.Store, cache: Options) -> None:
    options = {**store.options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    for url, given in (("s3://other/a", options), ("http://127.0.0.1:9/a", {})):
        with pytest.raises(ArchiveError, match=r"cannot be reached: .*[Cc]onnect.*\n.*credentials"):
            imagenet2012.load(url, storage_options=given, **cache)


def test_credentials_that_come_later_are_found(
    folder: str, store: object_store.Store, cache: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = {"client_kwargs": store.options["client_kwargs"], "default_block_size": 1 << 20}
    options = {"split": "validation", "storage_options": client, **cache}
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ArchiveError, match=r"cannot be reached: .*[Cc]redentials"):
        imagenet2012.load(folder, **options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.KEY)
    assert len(imagenet2012.load(folder, **options)) == 24


def test_a_wrong_key_is_told_from_a_missing_archive(
    folder: str, store: object_store.Store, web: web_server.Web, cache: Options
) -> None:
    def said(folder: str | None, **given: Any) -> str:
        with pytest.raises(datasets.exceptions.ManualDownloadError) as caught:
            imagenet2012.load(folder, **given, **cache)
        return str(caught.value)

    store.put("empty/ILSVRC2012_img_train.tar.gz", b"\x1f\x8b")
    assert "Looked in s3://bucket/none, which does not exist" in said("s3://bucket/none")
    assert "train.tar.gz: compressed" in said("s3://bucket/empty")
    assert "does not exist" in said(f"{web.url}/b")
    store.forbidden, web.refuses = True, 403
    for text in (said(folder), said(None, data_files={"train": f"{folder}/x.tar"})):
        assert "PermissionError: Forbidden" in text and "credentials" in text
    assert "403" in said(f"{web.url}/a")


@pytest.mark.parametrize("name", ["default", "in_place"])
def test_a_server_without_ranges_is_refused_before_much_has_come(
    web: web_server.Web, cache: Options, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    web.files[f"/b/{VALIDATION}"] = web.files[f"/a/{VALIDATION}"] + bytes(40 << 20)
    web.knows_ranges = False
    monkeypatch.setenv(FOLDER_VARIABLE, f"{web.url}/b")
    with pytest.raises(ArchiveError, match="support range requests"):
        imagenet2012.load(None, name, **cache)
    assert web.sent < 16 << 20  # what the sockets' buffers take
    web.tells_length = False
    with pytest.raises(ArchiveError, match=r"no size \(Content-Length\)"):
        imagenet2012.load(None, name, **cache)


HANGING = """
import aiohttp, sys, imagenet2012
for_ever = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(None)}}
d = imagenet2012.load(None, sys.argv[1], split="validation", streaming=sys.argv[2] == "stream",
    cache_dir=sys.argv[3], verification_mode="no_checks",
    **({} if sys.argv[1] == "in_place" else {"storage_options": for_ever}))
list(d)
"""


@pytest.mark.parametrize(
    ("name", "how"), [("default", "stream"), ("default", "prepare"), ("in_place", "prepare")]
)
def test_ctrl_c_ends_a_process_whose_server_hangs(
    web: web_server.Web, tmp_path: Path, name: str, how: str
) -> None:
    images = fakes.flat_images("val", 90)
    web.files[f"/a/{VALIDATION}"] = fakes.tar((n, data + bytes(100_000)) for n, data in images)
    variables: Options = {FOLDER_VARIABLE: f"{web.url}/a"}
    process = start_python("-c", HANGING, name, how, tmp_path, **variables)
    limit = time.monotonic() + HANG
    while web.sent < 100_000 and time.monotonic() < limit:
        time.sleep(0.01)
    web.hangs.set()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    try:
        assert "KeyboardInterrupt" in ended(process).stderr
    finally:
        process.kill()


# ------------------------------------------------------------------------- another object


@pytest.mark.parametrize("way", [MIXED, IN_ORDER], ids=str)
@pytest.mark.parametrize("server", ["s3", "etag", "time", "deaf"])
def test_a_replaced_object_gives_an_error_and_no_wrong_row(
    server: str, way: Options, web: web_server.Web, store: object_store.Store, monkeypatch: Any
) -> None:
    monkeypatch.setattr(imagenet2012.rows, "MIN_REGION_BYTES", 1 << 14)
    monkeypatch.setattr(remote.RemoteFile, "ALONE", (1 << 16, 1 << 18, 0))
    monkeypatch.setattr(remote.RemoteFile, "IN_TURNS", (1 << 14, 1 << 14, 0))
    web.etag = '"md5"' if server == "etag" else ""
    web.keeps_conditions = server != "deaf"

    def put(end: bytes) -> str:
        images = {w: [(n, d + end * 9000) for n, d in m] for w, m in fakes.train_images(3, 30)}
        web.files[f"/t/{TRAIN}"], web.modified = fakes.train_tar(images), 10**9 + ord(end)
        return store.put(f"t/{TRAIN}", fakes.train_tar(images)).rpartition("/")[0]

    s3 = put(b"a")
    url, options = (s3, store.options) if server == "s3" else (f"{web.url}/t", None)
    streamed = imagenet2012.load(url, split="train", storage_options=options, **way)
    rows = iter(undecoded(streamed))
    seen = [next(rows) for _ in range(5)]
    put(b"b")
    with pytest.raises(ArchiveError, match="changed while it was being read"):
        seen.extend(rows)
    # Where there is no ETag, or it is not minded, this is found out at the end of a stretch.
    right = server in ("s3", "etag")
    assert not right or {row["image"]["bytes"][-1:] for row in seen} == {b"a"}


def test_rows_in_place_are_of_the_object_that_they_were_made_of_or_an_error(
    store: object_store.Store, cache: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = (fakes.tar(fakes.flat_images("val", 30, seed)) for seed in (0, 1))
    url = store.put(f"replaced/{VALIDATION}", first).rpartition("/")[0]
    monkeypatch.setenv(FOLDER_VARIABLE, url)
    placed = imagenet2012.load(None, "in_place", split="validation", **cache)
    assert placed[0]["image"].mode == "RGB"
    assert imagenet2012.storage.entries(url) == [VALIDATION]  # a listing is no news later on
    store.put(f"replaced/{VALIDATION}", other)
    for _ in range(2):
        with pytest.raises(ArchiveError, match=r"changed|is not here"):
            placed[1]
    again = imagenet2012.load(None, "in_place", split="validation", **cache)
    names = list(undecoded(placed)["file_name"])
    assert list(undecoded(again)["file_name"]) != names
    assert imagenet2012.storage.entries(url) == [VALIDATION]
    store.put(f"replaced/{VALIDATION}", first)
    back = imagenet2012.load(None, "in_place", split="validation", **cache)
    assert list(undecoded(back)["file_name"]) == names
    with pytest.raises(ArchiveError, match=r"changed|is not here"):
        again[1]


def test_one_bucket_name_on_two_endpoints_never_mixes(
    stores: list[object_store.Store], store: object_store.Store, cache: Options
) -> None:
    members = fakes.flat_images("val", 30)
    for one, end in zip(stores, (b"1", b"2"), strict=True):
        url = one.put(f"twin/{VALIDATION}", fakes.tar((n, d + end * 70_000) for n, d in members))
    given = [{**cache, "split": "validation", "storage_options": one.options} for one in stores]
    folder = url.rpartition("/")[0]
    streams = [imagenet2012.load(folder, **MIXED, **options) for options in given]
    running = iter(undecoded(streams[0]))
    assert next(running)["image"]["bytes"][-1:] == b"1"
    copies = [imagenet2012.load(folder, **options) for options in given]
    ends = [{data[-1:] for _, data, _ in contents(rows)} for rows in (*copies, *streams)]
    assert ends == [{b"1"}, {b"2"}, {b"1"}, {b"2"}]
    assert {row["image"]["bytes"][-1:] for row in running} == {b"1"}


# ------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user:PW@h:80/x@y?sig=PW/PW&PW", "http://h:80/x@y"),
        ("HTTPS://PW@h/x#token=PW", "HTTPS://h/x"),
        ("http://[::1]:80/x?PW", "http://[::1]:80/x"),
        ("http://user:PW/PW@h/x", "http://h/x"),  # these should be quoted
        ("http://user:PW#PW@h/x", "http://h/x"),
        ("simplecache::http://u:PW@h/f?sig=PW::PW", "simplecache::http://h/f"),
        ("zip://x.tar::https://u:PW@h/a.zip?PW", "zip://x.tar::https://h/a.zip"),
        ("s3://KEY:PW@bucket/x", "s3://bucket/x"),
        ("s3://bucket/a?b#c::d", None),
        ("abfs://container@account.dfs.core.windows.net/x", None),
        ("hf://datasets/a/b@main/x", None),
    ],
)
def test_secrets_are_struck_out_of_urls(url: str, said: str | None) -> None:
    assert without_secrets(url) == (said or url)
    error = ArchiveError(url, f"is at {url}.", advice=f"Look at {url}")
    assert "PW" not in str(error) + repr(vars(error))
    text = without_secrets(f"403, message='Forbidden', url='{url}' and more")
    assert "PW" not in text and text.startswith("403, message='Forbidden', url='")


def test_a_signed_url_is_in_no_message_cache_or_index(
    web: web_server.Web, cache: Options, tmp_path: Path, said: list[str], monkeypatch: Any
) -> None:
    url = f"http://user:PASSWORD@{web.host}/a/{VALIDATION}?sig=SIGNATURE/AND&MORE"

    def load(url: str = url, **given: Any) -> Any:
        return imagenet2012.load(data_files={"validation": url}, split="validation", **given)

    assert len(load(**cache)) == 24
    streamed = load(streaming=True)  # warns of the size
    assert VALIDATION in said[-1]
    with pytest.raises(ArchiveError, match="has not the name") as refused:
        load(name="in_place", **cache)
    said += traceback.format_exception(refused.value)
    monkeypatch.setenv(FOLDER_VARIABLE, f"http://user:PASSWORD@{web.host}/a")
    placed = imagenet2012.load(None, "in_place", split="validation", **cache)
    assert len(contents(placed)) == 24
    missing = url.replace("/a/", "/missing/")
    for status in (500, 403, 404):
        web.refuses = status
        for call in (load, lambda: load(missing), lambda: list(streamed), lambda: placed[0]):
            with pytest.raises(Exception) as caught:
                call()
            said += traceback.format_exception(caught.value)
    written = [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    for text in [*said, *written, *map(str, tmp_path.rglob("*"))]:
        for secret in ("PASSWORD", "SIGNATURE", "MORE"):
            assert secret not in text


def test_storage_options_are_stored_nowhere_and_refused_in_place(
    named: str, store: object_store.Store, cache: Options, tmp_path: Path
) -> None:
    options = {"split": "validation", "storage_options": store.options, **cache}
    with pytest.raises(ArchiveError, match="without storage_options") as caught:
        imagenet2012.load(named, "in_place", **options)
    assert object_store.SECRET not in str(caught.value)
    imagenet2012.load(named, **options).save_to_disk(str(tmp_path / "saved"))
    imagenet2012.load(named, "in_place", split="validation", **cache)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".arrow" for path in files)
    for path in files:
        for secret in (object_store.SECRET, object_store.KEY):
            assert secret.encode() not in path.read_bytes() + str(path).encode(), path
