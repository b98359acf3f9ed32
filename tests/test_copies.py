"""One copy of a split, ever: however it is loaded, it is found again, with what was made of it."""

import os
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import Archives
from datasets.exceptions import ManualDownloadError
from imagenet2012.ilsvrc2012 import SOURCES
from layouts import TRAIN, VAL

import imagenet2012
from rows import by_class, by_name, contents, undecoded, wanted

AGAIN = 'pass download_mode="force_redownload"'


def write_official(path: Path, members: list[fakes.Member], size: int) -> None:
    """Write a tar of the official size, of which nearly all is a hole that no split takes."""
    with path.open("wb") as file:
        file.write(fakes.tar(members, blocking=512)[:-1024])
        while (room := size - file.tell() - 512 - 1024) >= 0:
            room = min(room, 1 << 32)
            file.write(fakes.header(".DS_Store", room))
            file.seek(room, os.SEEK_CUR)
        file.truncate(size)


def make_official(folder: Path, seed: int = 0) -> None:
    """Write archives of the official sizes with an image of each class, and 5 for validation."""
    folder.mkdir(exist_ok=True)
    image = fakes.jpeg(seed, size=(8, 8))
    images = {wnid: [(f"{wnid}_{seed + 1}.JPEG", image)] for wnid in fakes.wnids()}
    tars = [(f"{wnid}.tar", fakes.tar(members, 512)) for wnid, members in images.items()]
    write_official(folder / TRAIN, tars, SOURCES["train"].size or 0)
    flat = [(name, image) for name, _ in fakes.flat_images("val", 5, seed)]
    write_official(folder / VAL, flat, SOURCES["validation"].size or 0)


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of archives of the official sizes, which are read and copied in a moment."""
    monkeypatch.setattr(imagenet2012.rows, "NUM_REGIONS", 1)  # a search would read all of the hole
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1 << 40))
    make_official(tmp_path / "official")
    return tmp_path / "official"


def warned(said: list[str], words: str) -> int:
    """Return how many warnings had some words since it was last asked."""
    found = sum(words in message for message in said)
    said.clear()
    return found


def copies(cache: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return size and time of each file in the copies, by its path, without what `map` made."""
    top = Path(cache["cache_dir"])
    return {
        str(path.relative_to(top)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in top.rglob("data-5.0.0/*")
        if not path.name.startswith("cache-")
    }


def copies_of(prefix: str, cache: dict[str, Any]) -> set[str]:
    """Return the folders in the cache whose names begin so."""
    return {path.name for path in Path(cache["cache_dir"]).glob(f"imagenet2012/{prefix}*")}


def mapped(dataset: datasets.Dataset) -> datasets.Dataset:
    """Return what a user's `map` makes."""
    return dataset.map(lambda label: {"again": label}, input_columns="label", batched=True)


# ------------------------------------------------------------------------- of official archives


@pytest.mark.parametrize("first", ["load with wnid", "load_dataset"])
def test_one_copy_of_a_split_ever(
    first: str, official: Path, tmp_path: Path, cache: Any, monkeypatch: Any, said: list[str]
) -> None:
    def load(**options: Any) -> Any:
        return imagenet2012.load(official, **options, **cache)

    ways: dict[str, Callable[[], Any]] = {
        "load": load,
        "load with wnid": lambda: load(label_names="wnid"),
        "load by two": lambda: load(num_proc=2),
        "load a split": lambda: {"train": load(split="train")},
        "load_dataset": lambda: by_name(official, **cache),
        "load_dataset with wnid": lambda: by_name(official, label_names="wnid", **cache),
        "load_dataset of a split": lambda: {"train": by_name(official, split="train", **cache)},
        "by class": lambda: by_class(official, **cache),
    }
    expected, maps = ways[first](), {}
    made = copies(cache)
    assert copies_of("", cache) == {"default-train", "default-validation"}
    assert sum(name.endswith(".arrow") for name in made) == 2

    def check_ways(ways: dict[str, Callable[[], Any]]) -> None:
        for way, found in ((way, ways[way]()) for way in ways):
            assert copies(cache) == made, way
            for split, rows in found.items():
                assert contents(rows) == contents(expected[split])
                key = (split, rows.features["label"].names[0])
                assert ("wnid" in way) == (key[1] == imagenet2012.WNIDS[0]), way
                assert mapped(rows).features["label"] == rows.features["label"]
                files = str(mapped(rows).cache_files)
                assert maps.setdefault(key, files) == files, way

    files = {"validation": official / VAL}
    check_ways({**ways, "by path": lambda: imagenet2012.load(data_files=files, **cache)})
    assert not warned(said, AGAIN)
    os.utime(official / TRAIN)
    check_ways({"touched": load})
    assert warned(said, AGAIN) == 1
    official = official.rename(tmp_path / "moved")
    check_ways(ways)
    shutil.rmtree(official)
    imagenet2012.load(data_files=files, split="validation", **cache)
    check_ways({way: ways[way] for way in ways if way != "by class"})
    monkeypatch.chdir(tmp_path)
    check_ways({"load": lambda: imagenet2012.load(**cache)})
    check_ways({"load_dataset": lambda: by_name(None, **cache)})
    assert len(set(maps.values())) == len(maps) == 4
    assert len(list(Path(cache["cache_dir"]).rglob("cache-*.arrow"))) == 4


def test_a_copy_that_may_not_be_what_is_asked_for_is_one_warning(
    official: Path, cache: dict[str, Any], said: list[str]
) -> None:
    options = {"split": "validation", "cache_dir": cache["cache_dir"]}
    before = imagenet2012.load(official, **options, verification_mode="no_checks")
    assert not warned(said, AGAIN)
    assert imagenet2012.load(official, **options).num_rows == 5  # with checks, of the same archive
    assert warned(said, "made without checks") == 1
    make_official(official, seed=1)
    replaced = imagenet2012.load(official, **options, verification_mode="no_checks")
    assert contents(replaced) == contents(before)
    assert warned(said, AGAIN) == 1
    again = {**options, "download_mode": "force_redownload", "verification_mode": "no_checks"}
    assert contents(imagenet2012.load(official, **again)) != contents(before)
    imagenet2012.load(official, **options, verification_mode="no_checks")
    assert not warned(said, AGAIN)
    shutil.rmtree(official)
    imagenet2012.load(official, **options, verification_mode="no_checks")
    assert warned(said, "No validation archive was found") == 1


def test_rows_in_place_belong_to_a_folder(
    official: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    """As they hold it; a touch costs no other index."""
    first = imagenet2012.load(official, "in_place", split="train", **cache)
    os.utime(official / TRAIN)
    imagenet2012.load(official, "in_place", split="train", **cache)
    assert len(copies_of("in_place-train", cache)) == 1
    moved = official.rename(tmp_path / "moved")
    second = imagenet2012.load(moved, "in_place", split="train", **cache)
    assert len(copies_of("in_place-train", cache)) == 2
    assert contents(second.select([7]))[0][1] == fakes.jpeg(0, size=(8, 8))
    assert undecoded(first)[7]["image"] != undecoded(second)[7]["image"]


# ------------------------------------------------------------------------- of others


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_other_archives_have_copies_of_their_own(
    config: str, archives: Archives, tmp_path: Path, cache: dict[str, Any]
) -> None:
    whole, subset = tmp_path / "whole", tmp_path / "subset"
    shutil.copytree(archives.folder, whole)
    expected = fakes.make_archives(subset, classes=2, per_class=2, validation=5)
    for folder, rows in 2 * [(whole, archives.expected), (subset, expected)]:
        loaded = imagenet2012.load(folder, config, split="validation", **cache)
        assert sorted(contents(loaded)) == wanted(rows["validation"])
    assert len(copies_of(f"{config}-validation-", cache)) == 2
    shutil.copy2(subset / VAL, whole / VAL)  # in the place of the other
    loaded = imagenet2012.load(whole, config, split="validation", **cache)
    assert sorted(contents(loaded)) == wanted(expected["validation"])
    assert len(copies_of(f"{config}-validation-", cache)) == (2 if config == "default" else 3)


def test_a_copy_of_another_archive_is_not_taken_without_it(
    archives: Archives, tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says that it is ImageNet; the builder that made it still gives it."""
    shutil.copytree(archives.folder, tmp_path / "own")
    options = {"data_dir": tmp_path / "own", "cache_dir": cache["cache_dir"]}
    builder = imagenet2012.Imagenet2012(**options)
    builder.download_and_prepare(verification_mode="no_checks")
    shutil.rmtree(tmp_path / "own")
    assert builder.as_dataset()["validation"].num_rows == 90
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "own", None):
        with pytest.raises(ManualDownloadError):
            imagenet2012.load(folder, **cache)


def test_nothing_is_copied_if_a_split_is_missing(tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path, 2, 2, 4)
    (tmp_path / "ILSVRC2012_img_val.tar").unlink()
    for streaming in (False, True):
        with pytest.raises(datasets.exceptions.ManualDownloadError, match="validation split"):
            imagenet2012.load(tmp_path, split=["train", "validation"], streaming=streaming, **cache)
    assert not list(tmp_path.rglob("*.arrow"))
