"""Archives in object storage and behind other URLs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import fakes
import fsspec
import pytest
from conftest import ROOT, Archives

import imagenet2012
from imagenet2012 import remote, remote_archive
from rows import contents, undecoded, wanted

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
import object_store

CHECKED = ("default", "in_place")


@pytest.fixture(scope="module")
def server() -> Iterator[object_store.Store]:
    with object_store.running() as store:
        yield store


@pytest.fixture
def store(
    server: object_store.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[object_store.Store]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.setattr(remote_archive, "RETRY_AFTER", (0.01, 0.01))
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 6)  # of 90 images, not of 50,000
    remote_archive._archives.clear()
    server.reset()
    yield server
    server.latency, server.failures = 0.0, {"status": 0, "cut": 0}
    server.forbidden = False
    remote._placed.clear()
    remote._named.clear()
    os.environ.pop(remote.HOSTS_VARIABLE, None)


@pytest.fixture(scope="module")
def folder(server: object_store.Store, archives: Archives) -> str:
    return server.put_folder(archives.folder, "imagenet")


class Large(NamedTuple):
    """Training images of 200 kB in 4 classes: their store, URL of the folder, images, bytes."""

    store: object_store.Store
    url: str
    images: dict[str, list[fakes.Member]]
    size: int


@pytest.fixture(scope="module")
def stored(server: object_store.Store) -> Large:
    images = {
        wnid: [(name, data + os.urandom(200_000)) for name, data in members]
        for wnid, members in fakes.train_images(4, 10)
    }
    data = fakes.train_tar(images)
    url = server.put("large/ILSVRC2012_img_train.tar", data)
    return Large(server, url.rpartition("/")[0], images, len(data))


@pytest.fixture
def large(stored: Large, store: object_store.Store) -> Large:
    """The same, where each request takes a while: only so do several stand side by side."""
    store.latency = 0.02
    return stored


@pytest.fixture
def options(store: object_store.Store, cache: dict[str, Any]) -> dict[str, Any]:
    return {**cache, "storage_options": store.options}


@pytest.mark.parametrize("config", CHECKED)
def test_all_splits_are_loaded(
    folder: str, archives: Archives, options: dict[str, Any], config: str
) -> None:
    loaded = imagenet2012.load(folder, config, **options)
    for split, expected in archives.expected.items():
        assert sorted(contents(loaded[split])) == wanted(expected)
        assert loaded[split][0]["image"].mode == "RGB"


@pytest.mark.parametrize("config", CHECKED)
def test_two_processes_load_the_same(
    folder: str, archives: Archives, options: dict[str, Any], config: str
) -> None:
    loaded = imagenet2012.load(folder, config, split="train", num_proc=2, **options)
    assert sorted(contents(loaded)) == wanted(archives.expected["train"])


@pytest.mark.parametrize("order", ["archive", "mixed"])
def test_streaming(folder: str, archives: Archives, options: dict[str, Any], order: str) -> None:
    streamed = imagenet2012.load(folder, streaming=True, order=order, **options)
    for split, expected in archives.expected.items():
        assert sorted(contents(streamed[split])) == wanted(expected)


def test_the_library_loads_files_by_url(
    folder: str, archives: Archives, options: dict[str, Any]
) -> None:
    files = {"validation": f"{folder}/ILSVRC2012_img_val.tar"}
    options["storage_options"] = {"s3": options["storage_options"]}  # as `datasets` wants them
    loaded = datasets.load_dataset("imagenet2012", data_files=files, **options)
    assert sorted(contents(loaded["validation"])) == wanted(archives.expected["validation"])


@pytest.mark.parametrize("config", CHECKED)
def test_credentials_are_not_stored(
    folder: str, options: dict[str, Any], tmp_path: Path, config: str
) -> None:
    loaded = imagenet2012.load(folder, config, split="validation", **options)
    loaded.save_to_disk(str(tmp_path / "saved"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".arrow" for path in files)
    for path in files:
        assert object_store.SECRET.encode() not in path.read_bytes(), path
        assert object_store.KEY.encode() not in path.read_bytes(), path
        assert object_store.SECRET not in str(path)


def test_a_signed_url_is_not_indexed(
    folder: str, store: object_store.Store, cache: dict[str, Any]
) -> None:
    url = f"{store.url}/{object_store.BUCKET}/imagenet/ILSVRC2012_img_val.tar?signature=secret"
    files = {"validation": url}
    assert len(imagenet2012.load(data_files=files, **cache)["validation"]) == 90
    with pytest.raises(imagenet2012.ArchiveError, match=r"which the index would store"):
        imagenet2012.load(None, "in_place", data_files=files, **cache)


def test_the_copy_reads_each_byte_once_by_few_requests_several_at_a_time(
    large: Large, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_archive, "AHEAD_BYTES", 1 << 19)  # 8 MiB would be a whole class tar
    loaded = imagenet2012.load(large.url, split="train", **options)
    assert len(loaded) == 40
    assert large.size <= large.store.sent < 1.05 * large.size
    headers = len(large.images) + 8  # one for each class tar, and the checks before the work
    assert sum(large.store.gets.values()) <= large.size / (1 << 19) + len(large.images) + headers
    assert large.store.most >= remote_archive.AHEAD_REQUESTS


def test_mixed_order_reads_each_byte_about_once(
    large: Large, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 2)
    streamed = imagenet2012.load(large.url, split="train", streaming=True, order="mixed", **options)
    expected = sorted((name, data) for members in large.images.values() for name, data in members)
    assert sorted((name, data) for name, data, _ in contents(streamed)) == expected
    assert large.store.sent < 1.4 * large.size
    assert large.store.most >= len(large.images)  # a class each


def test_an_index_reads_only_headers_many_at_a_time(large: Large, options: dict[str, Any]) -> None:
    loaded = imagenet2012.load(large.url, "in_place", split="train", **options)
    assert len(loaded) == 40
    assert large.store.sent < 0.05 * large.size
    assert large.store.most >= len(large.images)
    large.store.reset()
    name = loaded[7]["file_name"]
    data = dict(member for members in large.images.values() for member in members)[name]
    large.store.reset()
    assert undecoded(loaded)[7]["image"]["path"].startswith("imagenet2012://s3%3A%2F%2Fbucket%2F")
    assert contents(loaded.select([7]))[0][1] == data
    assert (sum(large.store.gets.values()), large.store.sent) == (
        1,
        len(data) + 512,
    )  # header and data


@pytest.mark.parametrize("how", ["status", "cut"])
@pytest.mark.parametrize("config", CHECKED)
def test_failed_requests_are_tried_again(
    folder: str,
    archives: Archives,
    store: object_store.Store,
    options: dict[str, Any],
    config: str,
    how: str,
) -> None:
    store.failures[how] = 2
    loaded = imagenet2012.load(folder, config, split="validation", **options)
    assert store.failures[how] < 0
    assert sorted(contents(loaded)) == wanted(archives.expected["validation"])


def test_a_lasting_failure_is_named(
    folder: str, store: object_store.Store, options: dict[str, Any]
) -> None:
    streamed = imagenet2012.load(folder, split="validation", streaming=True, **options)
    store.failures["status"] = 1000
    with pytest.raises(imagenet2012.ArchiveError, match=r"s3://.*img_val\.tar, at byte.*cannot be"):
        next(iter(streamed))


def test_a_server_out_of_reach_is_named(options: dict[str, Any]) -> None:
    options["storage_options"]["client_kwargs"]["endpoint_url"] = "http://127.0.0.1:9"
    with pytest.raises(imagenet2012.ArchiveError, match=r"cannot be reached.*\n.*storage_options"):
        imagenet2012.load("s3://other/imagenet", **options)


def test_a_folder_without_archives_is_described(
    store: object_store.Store, options: dict[str, Any]
) -> None:
    store.put("empty/ILSVRC2012_img_train.tar.gz", b"\x1f\x8b")
    missing = datasets.exceptions.ManualDownloadError
    with pytest.raises(missing, match=r"Looked in s3://bucket/nothing, which does not exist"):
        imagenet2012.load("s3://bucket/nothing", **options)
    with pytest.raises(missing, match=r"train\.tar\.gz seems to be a gzip file"):
        imagenet2012.load("s3://bucket/empty/", **options)


def test_a_replaced_object_is_noticed(
    archives: Archives, store: object_store.Store, options: dict[str, Any]
) -> None:
    data = (archives.folder / "ILSVRC2012_img_val.tar").read_bytes()
    url = store.put("replaced/ILSVRC2012_img_val.tar", data)
    folder = url.rpartition("/")[0]
    placed = imagenet2012.load(folder, "in_place", split="validation", **options)
    streamed = imagenet2012.load(folder, split="validation", streaming=True, **options)
    other = fakes.tar(fakes.flat_images("val", 90, seed=1))
    store.put("replaced/ILSVRC2012_img_val.tar", other)
    with pytest.raises(imagenet2012.ArchiveError, match=r"changed|is not here"):
        list(streamed)
    with pytest.raises(imagenet2012.ArchiveError, match="is not here"):
        placed[0]
    again = imagenet2012.load(folder, "in_place", split="validation", **options)
    assert again[0]["file_name"] != placed.with_format("arrow")[0]["file_name"][0].as_py()


def test_other_processes_take_credentials_from_the_environment(
    folder: str, store: object_store.Store, options: dict[str, Any], tmp_path: Path
) -> None:
    loaded = imagenet2012.load(folder, "in_place", split="validation", **options)
    loaded.save_to_disk(str(tmp_path / "saved"))
    code = "import datasets, imagenet2012\n"
    code += f"print(datasets.load_from_disk({str(tmp_path / 'saved')!r})[3]['image'].mode)"
    env = {**os.environ, **store.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "RGB", done.stderr


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader_read_in_place(
    folder: str,
    store: object_store.Store,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    context: str,
) -> None:
    data = pytest.importorskip("torch.utils.data")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    loaded = imagenet2012.load(folder, "in_place", split="validation", **options)
    assert loaded[0]["image"].mode == "RGB"  # what is open here must not harm a forked worker
    sizes = loaded.select(range(8)).select_columns("image")
    loader = data.DataLoader(
        sizes, batch_size=2, num_workers=2, collate_fn=len, multiprocessing_context=context
    )
    assert list(loader) == [2, 2, 2, 2]


def test_a_url_in_a_dataset_does_not_lead_to_other_hosts(
    folder: str, store: object_store.Store, options: dict[str, Any]
) -> None:
    placed = imagenet2012.load(folder, "in_place", split="validation", **options)
    url = undecoded(placed)[0]["image"]["path"]
    host = store.url.replace(":", "%3A").replace("/", "%2F")
    other = url.replace("s3%3A%2F%2F", f"{host}%2F")
    store.reset()
    with pytest.raises(imagenet2012.ArchiveError, match="nobody but a dataset names it"):
        fsspec.open(other).open()
    chained = url.replace("s3%3A%2F%2F", f"simplecache%3A%3A{host}%2F")
    with pytest.raises(imagenet2012.ArchiveError, match="nobody but a dataset names it"):
        fsspec.open(chained).open()
    assert not store.gets


@pytest.mark.parametrize("protocol", ["memory", "file", "http"])
def test_other_protocols(
    archives: Archives, folder: str, store: object_store.Store, cache: dict[str, Any], protocol: str
) -> None:
    url = archives.folder.as_uri()
    if protocol == "http":
        url = f"{store.url}/{object_store.BUCKET}/imagenet"
        cache["storage_options"] = {"block_size": 1 << 20}
    if protocol == "memory":
        url = "memory://imagenet"
        for path in archives.folder.iterdir():
            fsspec.filesystem("memory").pipe(f"/imagenet/{path.name}", path.read_bytes())
    for config in CHECKED:
        loaded = imagenet2012.load(url, config, split="validation", **cache)
        assert sorted(contents(loaded)) == wanted(archives.expected["validation"])


def test_all_checks_hash_a_remote_archive(folder: str, options: dict[str, Any]) -> None:
    options["verification_mode"] = "all_checks"
    with pytest.raises(imagenet2012.ArchiveError, match="bytes, the original validation archive"):
        imagenet2012.load(folder, split="validation", **options)


def test_a_wrong_key_is_not_a_missing_archive(
    folder: str, store: object_store.Store, options: dict[str, Any]
) -> None:
    store.forbidden = True
    for named in ({"data_dir": folder}, {"data_files": {"train": f"{folder}/x.tar"}}):
        with pytest.raises(imagenet2012.ArchiveError, match=r"forbidden.*\n.*credentials"):
            imagenet2012.load(**named, **options)


def test_keys_of_odd_characters(
    archives: Archives, store: object_store.Store, options: dict[str, Any]
) -> None:
    data = (archives.folder / "ILSVRC2012_img_val.tar").read_bytes()
    url = store.put("odd/a?b@c::d#e f%20.tar", data)
    for config in CHECKED:
        loaded = imagenet2012.load(
            None, config, data_files={"validation": url}, split="validation", **options
        )
        assert sorted(contents(loaded)) == wanted(archives.expected["validation"])


def test_a_replaced_object_gives_no_wrong_row(
    large: Large, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_archive, "AHEAD_BYTES", 1 << 19)
    images = {w: [(n, d + b"a" * 90_000) for n, d in m] for w, m in fakes.train_images(2, 30)}
    others = {w: [(n, d[:-90_000] + b"b" * 90_000) for n, d in m] for w, m in images.items()}
    url = large.store.put("twice/ILSVRC2012_img_train.tar", fakes.train_tar(images))
    stream = imagenet2012.load(
        url.rpartition("/")[0], split="train", streaming=True, order="archive", **options
    )
    rows = iter(undecoded(stream))
    seen = [next(rows)]
    large.store.put("twice/ILSVRC2012_img_train.tar", fakes.train_tar(others))
    with pytest.raises(imagenet2012.ArchiveError, match="changed while it was being read"):
        seen.extend(rows)
    assert {row["image"]["bytes"][-1:] for row in seen} == {b"a"}


FORK = """
import gc, multiprocessing, sys, imagenet2012
d = imagenet2012.load(sys.argv[1], "in_place", split="train", cache_dir=sys.argv[2],
    verification_mode="no_checks")
def read():
    print(d[1]["image"].mode, flush=True)
    gc.collect()
d[0]
process = multiprocessing.get_context("fork").Process(target=read)
process.start()
process.join()
"""


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(
    folder: str, store: object_store.Store, tmp_path: Path
) -> None:
    env = {**os.environ, **store.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORK, folder, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.stdout, "different loop" in done.stderr) == ("RGB\n", False), done.stderr


def test_headers_are_fetched_once_for_an_archive(large: Large, options: dict[str, Any]) -> None:
    imagenet2012.load(large.url, split="train", streaming=True, **options)
    gets = {asked: count for asked, count in large.store.gets.items() if asked}
    assert gets and max(gets.values()) == 1
    large.store.reset()
    imagenet2012.load(large.url, split="train", streaming=True, **options)
    again = {asked for asked in large.store.gets if asked}
    assert len(again) <= len(gets) - len(large.images)


def test_another_process_fetches_the_headers_together(
    large: Large, options: dict[str, Any], tmp_path: Path
) -> None:
    """Where they are is kept; a damaged list of places is not used."""
    together, rows = [], []
    for number in range(3):
        remote_archive._archives.clear()
        large.store.reset()
        stream = imagenet2012.load(large.url, split="train", streaming=True, **options)
        together.append(large.store.most)
        rows.append(contents(stream))
        (kept,) = tmp_path.rglob("headers/*.json")
        if number == 1:
            kept.write_text('[-512, 99999999999, null, "x"]')
    assert together == [1, together[1], 1] and together[1] >= len(large.images)
    assert rows[0] == rows[1] == rows[2] and len(rows[0]) == 40
    places = kept.read_text()
    for _ in range(2):  # the headers of images, which the index reads one by one, are not kept
        imagenet2012.load(large.url, "in_place", split="train", order="mixed", **options)
        imagenet2012.load(large.url, split="train", streaming=True, **options)
    assert kept.read_text() == places


def test_a_mixed_stream_of_a_small_subset_sends_little(
    large: Large, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions are not much larger than an image there."""
    images = {w: [(n, d + bytes(60_000)) for n, d in m] for w, m in fakes.train_images(8, 50)}
    data = fakes.train_tar(images)
    url = large.store.put("small/ILSVRC2012_img_train.tar", data)
    stream = imagenet2012.load(
        url.rpartition("/")[0], split="train", streaming=True, order="mixed", **options
    )
    large.store.reset()
    assert len(list(undecoded(stream))) == 400
    assert large.store.sent < 1.6 * len(data)
    assert sum(large.store.gets.values()) < 1.2 * 400
