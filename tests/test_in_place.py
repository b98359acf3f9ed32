"""The images stay in the archives: everything works as with a copy, or says why not."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pytest
from conftest import ROOT, Archives, patch_os

import imagenet2012
from imagenet2012 import ArchiveError
from rows import contents, stored, undecoded, wanted

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


@pytest.fixture
def train(archives: Archives, cache: dict[str, Any]) -> datasets.Dataset:
    return imagenet2012.load(archives.folder, "in_place", split="train", **cache)


def url(dataset: datasets.Dataset, index: int = 0) -> str:
    return undecoded(dataset)[index]["image"]["path"]


# ------------------------------------------------------------------------- what it stores


def test_rows_hold_no_bytes(train: datasets.Dataset) -> None:
    for row in undecoded(train):
        assert row["image"]["bytes"] is None
        assert row["image"]["path"].startswith("imagenet2012://")
        assert row["image"]["path"].rpartition("/")[2] == row["file_name"]


def test_pixels_are_those_of_the_copy(
    train: datasets.Dataset, archives: Archives, cache: dict[str, Any]
) -> None:
    copy = imagenet2012.load(archives.folder, split="train", **cache)
    assert copy.features == train.features
    for one, other in zip(copy, train, strict=True):
        assert one["image"].tobytes() == other["image"].tobytes()
        assert (one["file_name"], one["label"]) == (other["file_name"], other["label"])


# ------------------------------------------------------------------------- what works


OPERATIONS: dict[str, Callable[[datasets.Dataset], Any]] = {
    "shuffle": lambda d: d.shuffle(seed=1),
    "select": lambda d: d.select(range(59, -1, -1)),
    "filter": lambda d: d.filter(lambda label: label >= 0, input_columns="label"),
    "sort": lambda d: d.sort("file_name"),
    "map": lambda d: d.map(lambda row: {"name": row["file_name"]}),
    "map in processes": lambda d: d.map(lambda row: {"name": row["file_name"]}, num_proc=2),
    "split": lambda d: datasets.concatenate_datasets(
        list(d.train_test_split(test_size=0.5, seed=1).values())
    ),
    "iterable": lambda d: d.to_iterable_dataset(num_shards=4).shuffle(seed=1, buffer_size=10),
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),
}


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_operations(operation: str, train: datasets.Dataset, archives: Archives) -> None:
    done = OPERATIONS[operation](train)
    assert sorted(contents(done)) == wanted(archives.expected["train"])
    assert next(iter(done))["image"].mode == "RGB"


def test_map_over_pixels(train: datasets.Dataset) -> None:
    done = train.map(lambda row: {"width": row["image"].width}, num_proc=2, remove_columns="image")
    assert done["width"] == [row["image"].width for row in train]


def test_batches_and_slices(train: datasets.Dataset) -> None:
    assert {image.mode for image in train[10:20]["image"]} == {"RGB"}
    assert len(train[[3, 1, 2]]["image"]) == 3
    assert train.with_format("numpy")[0]["image"].shape[2] == 3


def test_save_and_load_in_another_process(
    train: datasets.Dataset, archives: Archives, tmp_path: Path
) -> None:
    """The entry point makes the URLs known, without an import of this package."""
    train.save_to_disk(tmp_path / "saved")
    code = (
        "import sys, datasets; d = datasets.load_from_disk(sys.argv[1]); print(d[7]['image'].mode)"
    )
    site = tmp_path / "site"
    shutil.copytree(ROOT / "imagenet2012", site / "imagenet2012")
    shutil.copytree(ROOT / "labels", site / "labels")
    for module in ROOT.glob("*.py"):
        shutil.copy(module, site)
    info = site / "imagenet2012-5.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: imagenet2012\nVersion: 5.0.0\n")
    (info / "entry_points.txt").write_text(
        "[fsspec.specs]\nimagenet2012 = imagenet2012:Imagenet2012FileSystem\n"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code, str(tmp_path / "saved")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "RGB\n", done.stderr


def embedded(dataset: datasets.Dataset) -> datasets.Dataset:
    """Read the images in, as the documentation says to do before an export."""
    table = dataset.with_format("arrow")
    embed = datasets.table.embed_table_storage
    return table.map(embed, batched=True, batch_size=100).with_format(None)


def test_parquet_stands_alone(train: datasets.Dataset, archives: Archives, tmp_path: Path) -> None:
    path = str(tmp_path / "train.parquet")
    embedded(train).to_parquet(path)
    code = (
        "import sys, json, hashlib, datasets\n"
        "d = datasets.load_dataset('parquet', data_files=sys.argv[1], split='train')\n"
        "assert 'imagenet2012' not in sys.modules\n"
        "assert d[0]['image'].mode == 'RGB' and d.features['label'].num_classes == 1000\n"
        "d = d.cast_column('image', datasets.Image(decode=False))\n"
        "print(json.dumps([[r['file_name'], hashlib.sha256(r['image']['bytes']).hexdigest(),\n"
        "    r['image']['path']] for r in d]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    expected = [
        [name, hashlib.sha256(image.data).hexdigest(), name]
        for name, image in archives.expected["train"].items()
    ]
    assert json.loads(done.stdout) == expected, done.stderr


def test_a_spawned_worker_reads(train: datasets.Dataset) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(_mode, [(train, index) for index in range(8)])) == {"RGB"}


def _mode(task: tuple[datasets.Dataset, int]) -> str:
    return task[0][task[1]]["image"].mode


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader(context: str, train: datasets.Dataset) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader(
        train, batch_size=7, num_workers=8, multiprocessing_context=context, collate_fn=_names
    )
    assert [name for batch in loader for name in batch] == train["file_name"][:]


def _names(rows: list[dict[str, Any]]) -> list[str]:
    assert all(row["image"].mode == "RGB" for row in rows)
    return [row["file_name"] for row in rows]


def test_a_relative_folder_outlives_its_working_directory(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    monkeypatch.chdir(archives.folder.parent)
    loaded = imagenet2012.load(archives.folder.name, "in_place", split="train", **cache)
    monkeypatch.chdir(tmp_path)
    assert loaded[0]["image"].mode == "RGB"


# ------------------------------------------------------------------------- faults


@pytest.fixture
def own(tmp_path: Path, cache: dict[str, Any]) -> tuple[Path, datasets.Dataset]:
    """An archive that a test may damage, and the dataset over it."""
    folder = tmp_path / "own"
    fakes.make_archives(folder, classes=3, per_class=4, validation=0)
    return folder / TRAIN, imagenet2012.load(folder, "in_place", split="train", **cache)


def test_moved(own: tuple[Path, datasets.Dataset], cache: dict[str, Any]) -> None:
    path, dataset = own
    moved = path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(ArchiveError, match=r"own/ILSVRC2012_img_train\.tar: cannot be opened"):
        dataset[0]
    assert imagenet2012.load(moved, "in_place", split="train", **cache)[0]["image"].mode == "RGB"
    moved.rename(path.parent)  # as a mount that comes back
    assert dataset[0]["image"].mode == "RGB"


def test_replaced(own: tuple[Path, datasets.Dataset]) -> None:
    """Not one row may give an image of the new archive under an old name."""
    path, dataset = own
    assert dataset[0]["image"].mode == "RGB"
    images = dict(fakes.train_images(3, 4, seed=77, odd=False))
    other = path.with_name("new.tar")
    other.write_bytes(fakes.train_tar(images))
    other.replace(path)
    for index in range(len(dataset)):
        with pytest.raises(ArchiveError, match=r"is not here\.\n.*replaced, cut or damaged"):
            dataset[index]


def test_cut(own: tuple[Path, datasets.Dataset]) -> None:
    path, dataset = own
    names = dataset["file_name"][:]
    before = contents(dataset)
    os.truncate(path, path.stat().st_size // 2)
    for index, row in enumerate(undecoded(dataset)):
        try:
            assert stored(row["image"]) == before[index][1]
        except ArchiveError as error:
            assert names[index] in str(error)
    with pytest.raises(ArchiveError):
        dataset[len(dataset) - 1]


def test_a_damaged_header(own: tuple[Path, datasets.Dataset]) -> None:
    path, dataset = own
    offset = int(url(dataset, 5).split("/")[3].split("-")[0])
    for place in range(0, 512, 7):
        data = bytearray(path.read_bytes())
        if place in range(154, 156):  # after the digits of the checksum
            continue
        original, data[offset + place] = data[offset + place], ord("~")
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match="is not here"):
            dataset[5]
        data[offset + place] = original
        path.write_bytes(data)
    assert dataset[5]["image"].mode == "RGB"


def test_an_unreadable_sector(
    own: tuple[Path, datasets.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names place and cause; when the disk is well again, so is the dataset."""
    dataset = own[1]
    pread, bad = os.pread, int(url(dataset, 5).split("/")[3].split("-")[0])

    def failing(fd: int, size: int, offset: int) -> bytes:
        if offset <= bad + 512 < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, size, offset)

    patch_os(monkeypatch, "pread", failing)
    assert dataset[4]["image"].mode == "RGB"
    with pytest.raises(
        ArchiveError, match=rf"(?s)train\.tar, at byte {bad + 512:,}: .*Input/output"
    ):
        dataset[5]
    monkeypatch.undo()
    assert dataset[5]["image"].mode == "RGB"


@pytest.mark.parametrize(
    "address",
    [
        "imagenet2012://{path}/{offset}-{size}/n01440764_99999.JPEG",
        "imagenet2012://{path}/{later}-{size}/{name}",
        "imagenet2012://{path}/{offset}-{smaller}/{name}",
        "imagenet2012://{path}/{offset}-99999999999999/{name}",
        "imagenet2012://{path}/99999999999999-{size}/{name}",
        "imagenet2012://%2Fetc%2Fpasswd/0-100/{name}",
        "imagenet2012://%2Fdev%2Fzero/0-100/{name}",
        "imagenet2012://{path}/{offset}-{size}/passwd",
        "imagenet2012:///etc/passwd",
        "imagenet2012://",
    ],
)
def test_made_up_addresses(address: str, own: tuple[Path, datasets.Dataset]) -> None:
    head, place, name = url(own[1]).rsplit("/", 2)
    offset, size = map(int, place.split("-"))
    made_up = address.format(
        path=head.removeprefix("imagenet2012://"),
        offset=offset,
        later=offset + 512,
        size=size,
        smaller=size - 1,
        name=name,
    )
    with pytest.raises((ArchiveError, FileNotFoundError)), fsspec.open(made_up) as file:
        file.read()


def test_writing_is_refused(own: tuple[Path, datasets.Dataset]) -> None:
    before = own[0].read_bytes()
    for mode in ("wb", "ab", "r+b"):
        with pytest.raises((ValueError, NotImplementedError)), fsspec.open(url(own[1]), mode):
            pass
    with pytest.raises(NotImplementedError):
        fsspec.filesystem("imagenet2012").rm(url(own[1]))
    assert own[0].read_bytes() == before


def test_long_folder_names_in_the_archive_are_refused(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    """Their names stand in an extension header, so the check on reading could not be made."""
    buffer = io.BytesIO()
    members = fakes.flat_images("val", 3)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo("folder/" * 20 + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / VAL).write_bytes(buffer.getvalue())
    copied = imagenet2012.load(tmp_path, split="validation", **cache)
    assert copied["file_name"][:] == [name for name, _ in members]
    with pytest.raises(Exception, match='Use the "default" configuration'):
        imagenet2012.load(tmp_path, "in_place", split="validation", **cache)


# ------------------------------------------------------------------------- the file system


def test_file_system(train: datasets.Dataset, archives: Archives) -> None:
    fs, address = fsspec.filesystem("imagenet2012"), url(train)
    name = train[0]["file_name"]
    data = archives.expected["train"][name].data
    assert fs.cat_file(address) == data
    assert fs.cat_file(address, 10, 20) == data[10:20]
    assert fs.cat_file(address, -10) == data[-10:] and fs.cat_file(address, 5, -5) == data[5:-5]
    assert fs.size(address) == len(data)
    assert fs.exists(address) and fs.isfile(address) and not fs.isdir(address)
    assert not fs.exists(address + "x")
    assert fs.cat([address])[fs._strip_protocol(address)] == data
    with fsspec.open(address) as file:
        assert file.read() == data


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_file_handles_stay_bounded(tmp_path: Path, cache: dict[str, Any]) -> None:
    addresses = []
    for index in range(20):
        folder = tmp_path / str(index)
        fakes.make_archives(folder, classes=0, validation=2)
        addresses.append(url(imagenet2012.load(folder, "in_place", split="validation", **cache)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for address in addresses:
            fsspec.filesystem("imagenet2012").cat_file(address)
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    for path in tmp_path.glob("*/ILSVRC2012_img_val.tar"):
        path.unlink()


def test_threads_read_the_right_bytes(train: datasets.Dataset, archives: Archives) -> None:
    fs = fsspec.filesystem("imagenet2012")
    addresses = [url(train, index) for index in range(len(train))]
    wrong: list[str] = []

    def read(seed: int) -> None:
        for index in range(400):
            address = addresses[(index * seed) % len(addresses)]
            data = archives.expected["train"][address.rpartition("/")[2]].data
            if fs.cat_file(address) != data:
                wrong.append(address)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("missing", ["preadv", "pread preadv", "pread preadv posix_fadvise"])
def test_other_systems(missing: str, archives: Archives, tmp_path: Path) -> None:
    """As on Windows and macOS, with threads, a fork and all."""
    code = (
        "import os, sys, threading\n"
        f"for name in {missing.split()!r}: delattr(os, name)\n"
        "import imagenet2012, hashlib, datasets\n"
        "options = dict(verification_mode='no_checks', num_proc=3)\n"
        "for config in ('default', 'in_place'):\n"
        "    d = imagenet2012.load(sys.argv[1], config, split='train', **options)\n"
        "    rows = d.map(lambda r: {'w': r['image'].width}, num_proc=3)\n"
        "    assert set(rows['w']) <= {96, 72}\n"
        "fs = imagenet2012.Imagenet2012FileSystem()\n"
        "d = d.cast_column('image', datasets.Image(decode=False))\n"
        "urls = [r['path'] for r in d['image']]\n"
        "right = [fs.cat_file(u) for u in urls]\n"
        "wrong = []\n"
        "def read(k):\n"
        "    for i in range(500):\n"
        "        j = i * k % len(urls)\n"
        "        if fs.cat_file(urls[j]) != right[j]: wrong.append(j)\n"
        "ts = [threading.Thread(target=read, args=(k,)) for k in (1, 7, 11, 13)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]\n"
        "print(len(urls), len(wrong))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(archives.folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout == "60 0\n", done.stderr
