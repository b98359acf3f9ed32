"""Trees that were extracted by halves, of links, with faults: the right rows, or what is wrong."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import layouts
import pytest
from conftest import Archives, patch_os
from PIL import Image

import imagenet2012
from imagenet2012 import ArchiveError
from rows import contents, undecoded, wanted


@pytest.fixture
def tree(archives: Archives, tmp_path: Path) -> Path:
    """All of the images, extracted as torchvision does."""
    return layouts.class_folders(archives.folder, tmp_path / "tree")


# ------------------------------------------------------------------------- which there are


@pytest.mark.parametrize("below", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_from_any_folder_above(
    below: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    folder = layouts.kaggle(archives.folder, tmp_path / "tree") / below
    loaded = imagenet2012.load(folder, "in_place", **cache)
    assert set(loaded) == {"train", "validation", "test"}


@pytest.mark.parametrize(("below", "split"), [("train", "train"), ("val", "validation")])
def test_the_folder_of_a_split(
    below: str, split: str, tree: Path, archives: Archives, cache: dict[str, Any]
) -> None:
    for loaded in (
        imagenet2012.load(tree / below, **cache),
        datasets.load_dataset("imagenet2012", data_dir=str(tree / below), **cache),
        datasets.load_dataset("imagenet2012", data_files={split: str(tree / below)}, **cache),
    ):
        assert list(loaded) == [split]
        assert sorted(contents(loaded[split])) == wanted(archives.expected[split])


def test_rows_in_place_are_paths_in_the_order_of_names(tree: Path, cache: dict[str, Any]) -> None:
    """Which any program can read, without this package."""
    loaded = imagenet2012.load(tree, "in_place", **cache)
    names = loaded["train"]["file_name"][:]
    assert names == sorted(names, key=lambda name: (name[:9], int(name[10:-5])))
    rows = loaded["validation"]
    assert rows["file_name"][:] == sorted(rows["file_name"][:])
    for row in undecoded(rows):
        with Image.open(row["image"]["path"]) as image:
            image.load()


# ------------------------------------------------------------------------- faults


def twice(folder: Path) -> None:
    shutil.copy(next((folder / "val").glob("n*/*.JPEG")), folder / "val")


def adding(*paths: str) -> Callable[[Path], object]:
    def add(folder: Path) -> None:
        for path in paths:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(b"x")

    return add


def linking(path: str, target: str = "gone.JPEG") -> Callable[[Path], object]:
    return lambda folder: (folder / path).symlink_to(folder / target)


ONE, SEVENTH = "train/n01440764", "train/n01440764/n01440764_7.JPEG"
NAMES = ("notes.txt", "n01440764_x.JPEG", "n01440764_1.jpeg", ".DS_Store", "../n00000001/x")
NOWHERE, FOREIGN = "that do not belong: 1", "names that do not belong: "
# What is done to which split, and what is said of it.
FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("train", adding("train/n01443537/n01440764_7.JPEG"), "that do not belong: 1"),
    ("train", adding(*(f"{ONE}/{name}" for name in NAMES)), rf"{FOREIGN}4 \(.*, …\)"),
    ("train", adding(f"{ONE}/n01440764_\u0661.JPEG"), f"{FOREIGN}1"),
    ("train", linking(SEVENTH), NOWHERE),
    ("train", linking(SEVENTH, SEVENTH), NOWHERE),  # goes round
    ("train", lambda folder: os.mkfifo(folder / f"{ONE}.tar"), NOWHERE),
    ("validation", twice, "that do not belong: 1"),
    ("validation", adding("val/ILSVRC2012_val_00050001.JPEG"), f"{FOREIGN}1"),
]


@pytest.mark.parametrize(("split", "fault", "words"), FAULTS)
def test_faults(
    split: str,
    fault: Callable[[Path], object],
    words: str,
    tree: Path,
    archives: Archives,
    cache: dict[str, Any],
    said: list[str],
) -> None:
    """An error that says so, or without checks a warning; what is given is right."""
    fault(tree)
    for streaming in (False, True):
        with pytest.raises(ArchiveError, match=words):
            imagenet2012.load(tree, split=split, streaming=streaming, cache_dir=cache["cache_dir"])
    loaded = imagenet2012.load(tree, split=split, **cache)
    (warned,) = said  # and not of what a subset lacks
    assert re.search(words, warned) and "is left out" in warned
    expected = wanted(archives.expected[split])
    assert set(contents(loaded)) <= set(expected)
    assert len(loaded) == len(expected)


def test_a_validation_image_has_the_label_of_its_number(
    tree: Path, archives: Archives, cache: dict[str, Any]
) -> None:
    """Whatever folder it lies in."""
    file = next((tree / "val").glob("n*/*.JPEG"))
    (tree / "val/n15075141").mkdir(exist_ok=True)
    file.rename(tree / "val/n15075141" / file.name)
    loaded = imagenet2012.load(tree, split="validation", **cache)
    assert sorted(contents(loaded)) == wanted(archives.expected["validation"])


@pytest.mark.parametrize("name", ["train", "validation"])
def test_fewer_images_than_the_original(
    name: str, tree: Path, cache: dict[str, Any], said: list[str]
) -> None:
    """Are an error, and in a stream a warning."""
    words = {
        "train": "tree/train.*12 classes instead of 1,000; 60 images instead",
        "validation": "tree/val.*90 images instead of 50,000",
    }[name]
    options = {"split": name, "cache_dir": cache["cache_dir"]}
    for config in ("default", "in_place"):
        with pytest.raises(ArchiveError, match=words):
            imagenet2012.load(tree, config, **options)
    assert not said
    assert next(iter(imagenet2012.load(tree, streaming=True, **options)))["image"]
    assert re.search(words, said.pop())
    imagenet2012.load(tree, split=name, **cache)
    assert not said, "without checks it is a subset"


def test_an_empty_file(tree: Path, cache: dict[str, Any]) -> None:
    """As an interrupted extraction leaves it: an error with checks, one broken image without."""
    file = sorted((tree / "train/n01440764").iterdir(), key=lambda f: int(f.stem[10:]))[3]
    file.write_bytes(b"")
    for config in ("default", "in_place"):
        rows = imagenet2012.load(tree, config, split="train", **cache)
        assert len(rows) == 60
        with pytest.raises(Exception, match=file.name):
            rows[3]
    with pytest.raises(ArchiveError, match=f"{file.name}.*empty"):
        list(undecoded(imagenet2012.load(tree, split="train", streaming=True)))


def test_a_file_that_is_gone(tree: Path, cache: dict[str, Any]) -> None:
    """It is no broken image, of which a recipe leaves out as many as there are."""
    rows = imagenet2012.load(tree, "in_place", split="validation", **cache)
    iterator = iter(imagenet2012.load(tree, split="validation", streaming=True, **cache))
    file = next(tree.glob(f"val/*/{rows[80]['file_name']}"))
    next(iterator)
    file.unlink()
    for read in (lambda: rows[80], lambda: list(iterator)):
        with pytest.raises(ArchiveError, match=rf"{file.name}.*be opened|val: changed since"):
            read()


# ------------------------------------------------------------------------- what changes


def test_a_changed_tree_is_read_anew(tree: Path, tmp_path: Path, cache: dict[str, Any]) -> None:
    assert len(imagenet2012.load(tree, **cache)["validation"]) == 90
    file = next(tree.glob("val/*/*.JPEG"))
    times = file.parent.stat()
    file.unlink()
    os.utime(file.parent, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `rsync -a` sets it
    assert len(imagenet2012.load(tree, **cache)["validation"]) == 89
    number = next(n for n in range(1, 99) if not list(tree.glob(f"val/*/*_{n:08d}.JPEG")))
    (tree / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(fakes.jpeg(1))
    before = imagenet2012.load(tree, **cache)
    assert len(before["validation"]) == 90
    moved = tree.rename(tmp_path / "moved")
    assert imagenet2012.load(moved, **cache)["train"].cache_files == before["train"].cache_files


def test_a_subset_with_the_times_of_the_whole_has_a_copy_of_its_own(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    """As `rsync -a` makes it, which keeps the times of folders."""
    for folder, names in (("whole", ("1", "2", "3")), ("subset", ("1",))):
        made = tmp_path / folder / "train" / "n01440764"
        made.mkdir(parents=True)
        for name in names:
            (made / f"n01440764_{name}.JPEG").write_bytes(fakes.jpeg(int(name)))
        for path in (made, made.parent, made.parent.parent):
            os.utime(path, ns=(10**18, 10**18))
        assert imagenet2012.load(tmp_path / folder, split="train", **cache).num_rows == len(names)


def test_a_class_tar_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    members = [(f"n01440764_{number}.JPEG", fakes.jpeg(number)) for number in range(1, 9)]
    path = tmp_path / "n01440764.tar"
    path.write_bytes(fakes.tar(members))
    options = {"split": "train", "streaming": True, "verification_mode": "no_checks"}
    rows = iter(imagenet2012.load(tmp_path, order="archive", **options))
    next(rows)
    with path.open("r+b") as file:
        file.seek(-2000, os.SEEK_END)
        file.write(b"\0")
    with pytest.raises(ArchiveError, match="changed while"):
        list(rows)


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without checks: its images would be missing from the copy for good."""
    for wnid in ("n01440764", "n01443537"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        (tmp_path / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(fakes.jpeg(1))
    scandir = os.scandir

    def failing(path: Any = ".") -> Any:
        if str(path).endswith("train/n01443537"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    patch_os(monkeypatch, "scandir", failing)
    with pytest.raises(ArchiveError, match="n01443537: cannot be listed: Input/output"):
        imagenet2012.load(tmp_path, split="train", **cache)
