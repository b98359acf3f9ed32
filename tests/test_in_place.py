"""The images stay in the archives: everything works as with a copy, or says why not."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import fsspec
import pytest
from conftest import Archives, patch_os, run_python
from layouts import TRAIN, VAL

import imagenet2012
from imagenet2012 import ArchiveError
from rows import contents, stored, undecoded, wanted

DIR = "IMAGENET2012_DIR"


def url(dataset: datasets.Dataset, index: int = 0) -> str:
    return undecoded(dataset)[index]["image"]["path"]


def place(address: str) -> tuple[int, int]:
    """Return offset and size that a URL names."""
    offset, size = address.split("/")[3].split("-")
    return int(offset), int(size)


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
    "embed": lambda d: (
        d.with_format("arrow")
        .map(datasets.table.embed_table_storage, batched=True)
        .with_format(None)
    ),
}


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_operations(operation: str, train: datasets.Dataset, archives: Archives) -> None:
    done = OPERATIONS[operation](train)
    assert sorted(contents(done)) == wanted(archives.expected["train"])
    assert next(iter(done))["image"].mode == "RGB"


OTHER_SYSTEM = """
import os, sys, threading
for name in sys.argv[2:]: delattr(os, name)
import imagenet2012, datasets
num_proc = 3 if hasattr(os, "pread") else None  # Windows has neither that nor a fork
for config in ("default", "in_place"):
    d = imagenet2012.load(sys.argv[1], config, split="train", num_proc=num_proc,
        verification_mode="no_checks")
    rows = d.map(lambda row: {"width": row["image"].width}, num_proc=num_proc)
    assert set(rows["width"]) <= {96, 72}
fs = imagenet2012.Imagenet2012FileSystem()
urls = [row["path"] for row in d.cast_column("image", datasets.Image(decode=False))["image"]]
right, wrong = [fs.cat_file(url) for url in urls], []
def read(step):
    for index in range(500):
        if fs.cat_file(urls[index * step % len(urls)]) != right[index * step % len(urls)]:
            wrong.append(index)
threads = [threading.Thread(target=read, args=(step,)) for step in (1, 7, 11, 13)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(urls), len(wrong))
"""


@pytest.mark.parametrize("missing", [[], ["posix_fadvise"], ["pread", "posix_fadvise"]])
def test_threads_and_processes_on_any_system(
    missing: list[str], archives: Archives, tmp_path: Path
) -> None:
    """Windows and macOS lack some functions."""
    done = run_python(OTHER_SYSTEM, archives.folder, *missing, HF_HOME=str(tmp_path))
    assert done.stdout == "60 0\n", done.stderr


def test_the_file_system(train: datasets.Dataset, archives: Archives) -> None:
    fs, address = fsspec.filesystem("imagenet2012"), url(train)
    data = archives.expected["train"][train[0]["file_name"]].data
    assert fs.cat_file(address) == data
    assert fs.cat_file(address, 10, 20) == data[10:20]
    assert fs.size(address) == len(data)
    assert fs.exists(address) and fs.isfile(address) and not fs.isdir(address)
    assert not fs.exists(address + "x")
    with fsspec.open(address) as file:
        assert file.read() == data
    for mode in ("wb", "ab", "r+b"):
        with pytest.raises((ValueError, NotImplementedError)), fsspec.open(address, mode):
            pass
    with pytest.raises(NotImplementedError):
        fs.rm(address)
    assert fs.cat_file(address) == data


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_file_handles_stay_bounded(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for index in range(200):
        path = tmp_path / f"{index}.tar"
        path.write_bytes(fakes.tar([("n01440764_1.JPEG", b"image")], blocking=512))
        address = f"imagenet2012://{str(path).replace('/', '%2F')}/0-5/n01440764_1.JPEG"
        assert fsspec.filesystem("imagenet2012").cat_file(address) == b"image"
    assert len(os.listdir("/proc/self/fd")) < before + 100


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
    for read in (lambda: dataset[0], lambda: dataset[:3]):
        with pytest.raises(
            ArchiveError, match=rf"own/{TRAIN}: cannot be opened.*\n.*load it again"
        ):
            read()
    assert imagenet2012.load(moved, "in_place", split="train", **cache)[0]["image"].mode == "RGB"
    moved.rename(path.parent)  # as a mount that comes back
    assert dataset[0]["image"].mode == "RGB"


def test_replaced(own: tuple[Path, datasets.Dataset]) -> None:
    """Not one row may give an image of the new archive under an old name."""
    path, dataset = own
    assert dataset[0]["image"].mode == "RGB"
    other = path.with_name("new.tar")
    other.write_bytes(fakes.train_tar(dict(fakes.train_images(3, 4, seed=77, odd=False))))
    other.replace(path)
    for index in range(len(dataset)):
        with pytest.raises(ArchiveError, match=r"is not here\.\n.*replaced, cut or damaged"):
            dataset[index]


def test_cut(own: tuple[Path, datasets.Dataset]) -> None:
    path, dataset = own
    before, rows = contents(dataset), undecoded(dataset)
    os.truncate(path, path.stat().st_size // 2)
    refused = 0
    for row, (name, data, _) in zip(rows, before, strict=True):
        try:
            assert stored(row["image"]) == data
        except ArchiveError as error:
            assert name in str(error)
            refused += 1
    assert 0 < refused < len(rows)


def test_a_damaged_header(own: tuple[Path, datasets.Dataset]) -> None:
    path, dataset = own
    offset, _ = place(url(dataset, 5))
    data = path.read_bytes()
    for at in range(offset, offset + 512, 7):
        if at - offset == 154:  # after the digits of the checksum
            continue
        path.write_bytes(data[:at] + b"~" + data[at + 1 :])
        with pytest.raises(ArchiveError, match="is not here"):
            dataset[5]
    path.write_bytes(data)
    assert dataset[5]["image"].mode == "RGB"


def test_an_unreadable_sector(
    own: tuple[Path, datasets.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names place and cause; when the disk is well again, so is the dataset."""
    dataset = own[1]
    pread, bad = os.pread, place(url(dataset, 5))[0] + 512

    def failing(fd: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, size, offset)

    patch_os(monkeypatch, "pread", failing)
    assert dataset[4]["image"].mode == "RGB"
    with pytest.raises(ArchiveError, match=r"(?s)train\.tar, at byte [\d,]+: .*Input/output"):
        dataset[5]
    monkeypatch.undo()
    assert dataset[5]["image"].mode == "RGB"


def test_long_folder_names_in_the_archive_are_refused(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    """Their names stand in an extension header, so the check on reading could not be made."""
    (member,) = fakes.flat_images("val", 1)
    long = "folder/" * 20 + member[0]
    extension = fakes.header("././@LongLink", len(long), b"L") + long.encode().ljust(512, b"\0")
    cut = [(long[:100], member[1])]
    (tmp_path / VAL).write_bytes(extension + fakes.tar(cut))
    copied = imagenet2012.load(tmp_path, split="validation", **cache)
    assert copied["file_name"][:] == [member[0]]
    with pytest.raises(Exception, match='Use the "default" configuration'):
        imagenet2012.load(tmp_path, "in_place", split="validation", **cache)


# ------------------------------------------------------------------------- on other machines


@pytest.fixture
def named(archives: Archives, cache: dict[str, Any]) -> datasets.DatasetDict:
    """Rows that hold only the names of the archives, as in an index that may travel."""
    loaded = undecoded(imagenet2012.load(archives.folder, "in_place", **cache))
    folder = str(archives.folder).replace("/", "%2F") + "%2F"

    def name(image: dict[str, Any]) -> dict[str, Any]:
        return {"image": {"bytes": None, "path": image["path"].replace(folder, "")}}

    mapped = loaded.map(name, input_columns="image")
    return mapped.cast_column("image", datasets.Image(mode="RGB"))


def test_the_variable_may_be_set_later_and_changed(
    named: datasets.DatasetDict, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = named["validation"]
    with pytest.raises(ArchiveError, match=f"{DIR} is not set.\nSet {DIR} to the folder"):
        rows[0]
    monkeypatch.setenv(DIR, str(tmp_path))
    with pytest.raises(ArchiveError, match=f"{tmp_path}/{VAL}: cannot be opened"):
        rows[0]
    (tmp_path / "imagenet").symlink_to(archives.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("imagenet", "~/imagenet", f"{tmp_path}/imagenet/", f"file://{archives.folder}"):
        monkeypatch.setenv(DIR, folder)
        assert sorted(contents(rows)) == wanted(archives.expected["validation"])
        assert rows[0]["image"].mode == "RGB"
