"""What is found wrong before the first example: where it looked, what is there, what to do."""

import dataclasses
import errno
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import Archives, patch_os
from datasets.exceptions import (
    ManualDownloadError,
    NonMatchingChecksumError,
    NonMatchingSplitsSizesError,
)

import imagenet2012
from imagenet2012 import ArchiveError
from rows import contents, wanted

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DOWNLOAD = "https://image-net.org/download-images"


# ------------------------------------------------------------------------- nothing usable is there


def no_folder(folder: Path) -> None:
    folder.rmdir()


def empty(folder: Path) -> None:
    pass


def file(folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"")


def task_3(folder: Path) -> None:
    (folder / "ILSVRC2012_img_train_t3.tar").write_bytes(fakes.train_tar({"n02085620": []}))


def renamed(folder: Path) -> None:
    members = dict(fakes.train_images(2, 1))
    (folder / "imagenet-train.tar").write_bytes(fakes.train_tar(members))


def renamed_validation(folder: Path) -> None:
    (folder / "val (1).tar").write_bytes(fakes.tar(fakes.flat_images("val", 3)))


def compressed(folder: Path) -> None:
    (folder / f"{VAL}.gz").write_bytes(gzip.compress(fakes.tar(fakes.flat_images("val", 3))))


def downloading(folder: Path) -> None:
    (folder / f"{TRAIN}.part").write_bytes(b"x" * 100)


def downloading_in_chrome(folder: Path) -> None:
    (folder / f"{TRAIN}.crdownload").write_bytes(b"x" * 100)


def extracted_classes(folder: Path) -> None:
    (folder / "train" / "n01440764").mkdir(parents=True)


def extracted_here(folder: Path) -> None:
    (folder / "n01440764").mkdir()


def subfolder(folder: Path) -> None:
    (folder / "archives").mkdir()
    (folder / "archives" / VAL).write_bytes(fakes.tar(fakes.flat_images("val", 3)))


def something_else(folder: Path) -> None:
    for index in range(30):
        (folder / f"notes-{index:02}.txt").write_text("x")


STATES: list[tuple[Callable[[Path], None], str]] = [
    (no_folder, r"does not exist.*right up to"),
    (empty, "empty"),
    (file, "is a file: pass the folder"),
    (task_3, "task 3"),
    (renamed, r"imagenet-train\.tar seems to be the train archive under another name"),
    (renamed_validation, r"the validation archive under another name.*data_files=\{'validation'"),
    (compressed, "a gzip file of the validation archive: decompress it"),
    (downloading, "still being downloaded"),
    (downloading_in_chrome, "still being downloaded"),
    (extracted_classes, r"train/ looks like extracted.*below the folder"),
    (extracted_here, "looks like extracted"),
    (subfolder, r"subfolder archives/ \(validation\): pass .*archives"),
    (something_else, r"notes-00\.txt \(1 bytes\).*and 22 more"),
]


@pytest.mark.parametrize("way", ["load", "builder", "streaming", "by name"])
@pytest.mark.parametrize(("state", "message"), STATES, ids=[s.__name__ for s, _ in STATES])
def test_nothing_usable(
    state: Callable[[Path], None], message: str, way: str, tmp_path: Path
) -> None:
    folder = tmp_path / "imagenet"
    folder.mkdir()
    state(folder)
    with pytest.raises(ManualDownloadError, match=f"(?s){message}") as caught:
        if way == "load":
            imagenet2012.load(folder)
        elif way == "by name":
            datasets.load_dataset("imagenet2012", data_dir=str(folder))
        elif way == "streaming":
            imagenet2012.load(folder, streaming=True)
        else:
            imagenet2012.Imagenet2012(data_dir=str(folder)).download_and_prepare()
    for part in (str(folder), TRAIN, "147,897,477,120", DOWNLOAD):
        assert part in str(caught.value)


def test_no_data_dir_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManualDownloadError, match="No data_dir was given"):
        imagenet2012.load(**cache)
    with pytest.raises(ManualDownloadError, match="No data_dir was given"):
        imagenet2012.Imagenet2012(cache_dir=cache["cache_dir"]).download_and_prepare()


def test_data_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManualDownloadError, match=r"nowhere/val\.tar.*does not exist"):
        imagenet2012.load(data_files={"validation": tmp_path / "nowhere" / "val.tar"})


def test_a_split_without_its_archive(tmp_path: Path, cache: dict[str, Any]) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=3)
    with pytest.raises(
        ManualDownloadError, match=r"No archive of the train split, only .*val\.tar"
    ):
        imagenet2012.load(tmp_path, split="train[:10%]", **cache)


def test_a_missing_split_is_named(
    tmp_path: Path, cache: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=3)
    logger = datasets.logging.get_logger("datasets")
    logger.addHandler(caplog.handler)
    try:
        logging = datasets.logging.get_logger("datasets.imagenet2012")
        logging.addHandler(caplog.handler)
        assert list(imagenet2012.load(tmp_path, **cache)) == ["validation"]
    finally:
        logger.removeHandler(caplog.handler)
        logging.removeHandler(caplog.handler)
    assert f"There is no {TRAIN}, so no train split" in caplog.text


def test_an_extracted_tree_is_not_walked(
    tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not even be listed beside the archives does no harm."""
    fakes.make_archives(tmp_path, classes=1, per_class=1, validation=0)
    for index in range(3000):
        (tmp_path / f"n01440764_{index}.JPEG").touch()
    listed: list[str] = []
    original = os.scandir

    def scandir(path: str) -> Any:
        listed.append(path)
        return original(path)

    patch_os(monkeypatch, "scandir", scandir)
    assert imagenet2012.load(tmp_path, split="train", **cache).num_rows == 1
    assert str(tmp_path) not in listed


# ------------------------------------------------------------------------- a wrong file


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"x" * 5000), "a gzip file"),
        (b"<!DOCTYPE html><html>Please log in", "a web page"),
        (bytes(20_000), ".* the beginning has not arrived"),
        (b"", "an empty file"),
        (b"\xff\xd8\xff" * 1000, "no tar archive"),
        (
            fakes.tar([("readme.txt", b"x")]),
            r"a tar archive of other files \(the first is 'readme\.txt'\)",
        ),
        (fakes.tar([("n01440764_1.JPEG", b"x")]), "the tar of a single class"),
        (fakes.tar(fakes.flat_images("val", 2)), "the validation archive"),
    ],
    ids=["gzip", "html", "zeros", "nothing", "jpeg", "other", "class", "validation"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_not_the_training_archive(
    data: bytes, message: str, streaming: bool, tmp_path: Path
) -> None:
    (tmp_path / TRAIN).write_bytes(data)
    with pytest.raises(ArchiveError, match=f"given as the train archive, but it is {message}"):
        imagenet2012.load(tmp_path, streaming=streaming)


def test_an_archive_that_aria2_still_fetches(tmp_path: Path) -> None:
    """aria2 gives the file its full size at the start."""
    fakes.make_archives(tmp_path)
    (tmp_path / f"{VAL}.aria2").touch()
    with pytest.raises(ArchiveError, match="still being downloaded"):
        imagenet2012.load(tmp_path, split="validation")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_archive_without_rights(tmp_path: Path) -> None:
    fakes.make_archives(tmp_path)
    (tmp_path / VAL).chmod(0)
    with pytest.raises(ArchiveError, match="Permission denied"):
        imagenet2012.load(tmp_path, split="validation")


# ------------------------------------------------------------------------- sizes, counts, hashes


def test_size_is_checked_by_default(archives: Archives, tmp_path: Path) -> None:
    size = (archives.folder / VAL).stat().st_size
    message = rf"(?s){size:,} bytes.*6,744,924,160.*cut off.*no_checks"
    with pytest.raises(ArchiveError, match=message):
        imagenet2012.load(archives.folder, split="validation", cache_dir=str(tmp_path))
    with pytest.raises(ArchiveError, match=message):
        datasets.load_dataset(
            "imagenet2012",
            data_files={"validation": str(archives.folder / VAL)},
            cache_dir=tmp_path,
        )
    assert not list(tmp_path.rglob("*.arrow"))


@pytest.mark.parametrize("split", [None, ["train", "validation"], "train+validation"])
@pytest.mark.parametrize("given", ["data_dir", "data_files"])
def test_the_second_archive_is_checked_before_the_first_is_copied(
    given: str, split: Any, tmp_path: Path, cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fakes.make_archives(tmp_path / "in", classes=2, validation=3)["train"]
    sources = imagenet2012.ilsvrc2012.SOURCES
    train = dataclasses.replace(sources["train"], size=None, num_examples=len(expected))
    monkeypatch.setitem(sources, "train", train)
    del cache["verification_mode"]
    files = {"train": str(tmp_path / "in" / TRAIN), "validation": str(tmp_path / "in" / VAL)}
    where = {"data_dir": tmp_path / "in"} if given == "data_dir" else {"data_files": files}
    with pytest.raises(ArchiveError, match=r"val\.tar: has .*6,744,924,160"):
        imagenet2012.load(**where, split=split, **cache)
    assert not arrow_files(cache)


def official(monkeypatch: pytest.MonkeyPatch, path: Path, split: str, num_examples: int) -> None:
    """Make a fake count as the original archive."""
    import dataclasses

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = dataclasses.replace(
        imagenet2012.ilsvrc2012.SOURCES[split],
        size=path.stat().st_size,
        sha256=digest,
        num_examples=num_examples,
    )
    monkeypatch.setitem(imagenet2012.ilsvrc2012.SOURCES, split, source)


@pytest.mark.parametrize("mode", ["basic_checks", "all_checks"])
def test_counts_are_checked(
    mode: str, archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"split": "validation", "cache_dir": str(tmp_path), "verification_mode": mode}
    official(monkeypatch, archives.folder / VAL, "validation", 50_000)
    with pytest.raises(NonMatchingSplitsSizesError, match=r"50,000 in .*val\.tar.*no_checks"):
        imagenet2012.load(archives.folder, **options)
    assert not list(tmp_path.rglob("*.arrow"))


def test_all_is_well(archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / VAL
    members = [(f"ILSVRC2012_val_{number:08d}.JPEG", b"x") for number in range(1, 61)]
    path.write_bytes(fakes.tar(members))
    official(monkeypatch, path, "validation", 60)
    for mode in ("basic_checks", "all_checks"):
        options = {"cache_dir": str(tmp_path / mode), "verification_mode": mode}
        assert imagenet2012.load(tmp_path, split="validation", **options).num_rows == 60


def test_a_changed_byte_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / VAL
    path.write_bytes(fakes.tar(fakes.flat_images("val", 60)))
    official(monkeypatch, path, "validation", 60)
    with path.open("r+b") as handle:
        handle.seek(700)
        handle.write(b"!")
    with pytest.raises(NonMatchingChecksumError, match=r"val\.tar.*SHA-256"):
        imagenet2012.load(tmp_path, split="validation", verification_mode="all_checks")


def test_the_test_archive_is_hashed_too(tmp_path: Path) -> None:
    members = fakes.flat_images("test", 20)
    (tmp_path / "ILSVRC2012_img_test.tar").write_bytes(fakes.tar(members))
    options = {"cache_dir": str(tmp_path / "c"), "verification_mode": "all_checks"}
    with pytest.raises(NonMatchingChecksumError, match="that of the original 9cf7f82496"):
        imagenet2012.load(tmp_path, split="test", **options)


def test_an_odd_end_of_an_original_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    """The originals cannot be had for tests, so no guess about their ends may refuse them."""
    members = [(f"ILSVRC2012_val_{number:08d}.JPEG", b"x") for number in range(1, 61)]
    path = tmp_path / VAL
    for end in (0, 512, 700):
        path.write_bytes(fakes.tar(members, blocking=1)[:-1024] + bytes(end))
        with pytest.raises(ArchiveError, match="cut off"):
            imagenet2012.load(tmp_path, split="validation", **cache)
        official(monkeypatch, path, "validation", 60)
        loaded = imagenet2012.load(tmp_path, split="validation", **cache)
        assert loaded["file_name"][:] == [name for name, _ in members]


HOLES = {
    "a header": lambda data: (at := data.index(b"ustar  ", 20_000) - 257, at + 512),
    "a piece": lambda data: (at := data.index(b"ustar  ", 20_000) - 1000, at + 9_000),
    "from the middle to the end": lambda data: (len(data) // 2, len(data)),
}


@pytest.mark.parametrize("hole", list(HOLES))
@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_hole_in_an_archive_of_the_official_size(
    split: str, order: str, hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As downloaders that reserve the whole file at once leave it: nothing is lost in silence."""
    if split == "train":
        images = {
            wnid: [(name, data * 20) for name, data in members]
            for wnid, members in fakes.train_images(1, 60)
        }
        data = fakes.train_tar(images)
        monkeypatch.setattr(imagenet2012.splits, "NUM_CLASSES", 1)
    else:
        members = [(name, data * 20) for name, data in fakes.flat_images("val", 60)]
        data = fakes.tar(members)
    start, stop = HOLES[hole](data)
    path = tmp_path / (TRAIN if split == "train" else VAL)
    path.write_bytes(data[:start] + bytes(stop - start) + data[stop:])
    official(monkeypatch, path, split, 60)
    with pytest.raises(ArchiveError, match="at byte"):
        list(imagenet2012.load(tmp_path, split=split, streaming=True, order=order))


@pytest.mark.parametrize("cut", [1, 511, 512, 10_240])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_cut_archive(cut: int, streaming: bool, tmp_path: Path, cache: dict[str, Any]) -> None:
    """Wherever it is cut in its data or end marker, also exactly between two members."""
    if streaming:
        cache = {}
    for name, data in (
        (VAL, fakes.tar(fakes.flat_images("val", 9), blocking=512)),
        (TRAIN, fakes.train_tar(dict(fakes.train_images(3, 2)))[:-9000]),
    ):
        split = "validation" if name == VAL else "train"
        (tmp_path / name).write_bytes(data[:-cut])
        with pytest.raises(ArchiveError, match=r"cut off|bytes, but"):
            imagenet2012.load(tmp_path, split=split, streaming=streaming, **cache)


@pytest.mark.parametrize("config", ["default", "in_place"])
@pytest.mark.parametrize("order", ["archive", "mixed"])
def test_a_cut_class_tar(config: str, order: str, tmp_path: Path, cache: dict[str, Any]) -> None:
    """Cut between two members before it was packed, in the middle of the training archive."""
    images = [(wnid, fakes.tar(members)) for wnid, members in fakes.train_images(3, 4)]
    cut = images[1][1].rstrip(b"\0")
    cut += bytes(-len(cut) % 512)
    whole = fakes.tar([(f"{w}.tar", cut if k == 1 else d) for k, (w, d) in enumerate(images)])
    (tmp_path / TRAIN).write_bytes(whole)
    with pytest.raises(Exception, match=r"(?s)train\.tar, at byte .*cut off"):
        imagenet2012.load(tmp_path, config, split="train", order=order, **cache)
    with pytest.raises(ArchiveError, match="cut off"):
        list(imagenet2012.load(tmp_path, config, split="train", order=order, streaming=True))


def test_too_little_disk(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"KiB.*free in .*cache_dir=.*in_place") as caught:
        imagenet2012.load(archives.folder, **cache)
    assert caught.value.errno == errno.ENOSPC


def test_too_little_disk_for_all_of_it(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any]
) -> None:
    sizes = [(archives.folder / name).stat().st_size for name in (TRAIN, VAL)]
    usage = shutil.disk_usage(tmp_path)._replace(free=max(sizes) + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs about .*free in"):
        imagenet2012.load(archives.folder, split=["train", "validation"], **cache)
    assert not arrow_files(cache)


def test_bad_options(archives: Archives, cache: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'words' or 'wnid', not 'word'"):
        imagenet2012.load(archives.folder, label_names="word", **cache)
    with pytest.raises(ValueError, match="not 'shuffled'"):
        imagenet2012.load(archives.folder, order="shuffled", **cache)
    with pytest.raises(ValueError, match="no configuration 'inplace': did you mean 'in_place'"):
        imagenet2012.load(archives.folder, "inplace", **cache)


# ------------------------------------------------------------------------- the cache


def arrow_files(cache: dict[str, Any]) -> set[Path]:
    return set(Path(cache["cache_dir"]).rglob("*.arrow"))


def by_name(folder: Path, cache: dict[str, Any], **options: Any) -> Any:
    return datasets.load_dataset("imagenet2012", data_dir=str(folder), **options, **cache)


@pytest.mark.parametrize("load", [imagenet2012.load, by_name])
def test_a_replaced_archive_is_prepared_again(
    load: Any, tmp_path: Path, cache: dict[str, Any]
) -> None:
    load = by_name if load is by_name else lambda f, c: imagenet2012.load(f, **c)
    folder = tmp_path / "archives"
    fakes.make_archives(folder, classes=0, validation=20)
    load(folder, cache)
    expected = fakes.make_archives(folder, classes=0, validation=30)
    assert sorted(contents(load(folder, cache)["validation"])) == wanted(expected["validation"])


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_a_moved_folder(config: str, tmp_path: Path, cache: dict[str, Any]) -> None:
    """The copy is used again; an index in place is made again, as it holds the paths."""
    folder = tmp_path / "archives"
    expected = fakes.make_archives(folder, classes=2, validation=0)
    imagenet2012.load(folder, config, **cache)
    before = arrow_files(cache)
    folder = folder.rename(tmp_path / "moved")
    loaded = imagenet2012.load(folder, config, **cache)
    assert sorted(contents(loaded["train"])) == wanted(expected["train"])
    assert (arrow_files(cache) == before) == (config == "default")


def test_options_do_not_share_a_cache(archives: Archives, cache: dict[str, Any]) -> None:
    made = []
    for options in ({}, {"label_names": "wnid"}, {"order": "mixed"}, {"name": "in_place"}):
        before = arrow_files(cache)
        imagenet2012.load(archives.folder, split="test", **options, **cache)
        made.append(len(arrow_files(cache) - before))
    assert made == [1, 1, 1, 1]
    for options in ({"label_names": "words"}, {"order": "archive"}, {"name": "default"}):
        before = arrow_files(cache)
        imagenet2012.load(archives.folder, split="test", **options, **cache)
        assert arrow_files(cache) == before


def test_a_new_release_does_not_prepare_again(archives: Archives, cache: dict[str, Any]) -> None:
    """The cache is named by the version of the data, not by a hash of the source."""
    by_name(archives.folder, cache)
    assert all("/5.0.0/data-5.0.0/" in path.as_posix() for path in arrow_files(cache))


# ------------------------------------------------------------------------- what is there already


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the loader warns of."""
    warnings: list[str] = []
    monkeypatch.setattr(imagenet2012.storage.logger, "warning", warnings.append)
    return warnings


@pytest.mark.parametrize("load", [imagenet2012.load, by_name])
def test_what_was_loaded_without_checks_is_checked_when_they_are_asked_for(
    load: Any, archives: Archives, cache: dict[str, Any], said: list[str]
) -> None:
    load = by_name if load is by_name else lambda f, c: imagenet2012.load(f, **c)
    load(archives.folder, cache)
    load(archives.folder, cache)
    assert not said
    load(archives.folder, {**cache, "verification_mode": "basic_checks"})
    assert "bytes, the original train archive has" in said[0]
    assert any("has 60 train images, the original 1,281,167" in text for text in said)
    said.clear()
    imagenet2012.load(archives.folder, **{**cache, "verification_mode": "basic_checks"})
    assert said and len(said) == len(set(said)), "told once, though three splits share a copy"
    with pytest.raises(ArchiveError, match="bytes, the original train archive has"):
        load(archives.folder, {**cache, "verification_mode": "all_checks"})


def test_a_prepared_copy_is_hashed_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any], said: list[str]
) -> None:
    fakes.make_archives(tmp_path, classes=0, validation=5)
    path = tmp_path / "ILSVRC2012_img_val.tar"
    source = imagenet2012.ilsvrc2012.SOURCES["validation"]
    source = dataclasses.replace(source, size=path.stat().st_size)
    monkeypatch.setitem(imagenet2012.ilsvrc2012.SOURCES, "validation", source)
    assert imagenet2012.load(tmp_path, split="validation", **cache).num_rows == 5
    strict = {**cache, "verification_mode": "all_checks"}
    with pytest.raises(NonMatchingChecksumError, match="its SHA-256 is"):
        imagenet2012.load(tmp_path, split="validation", **strict)
    # It was damaged when it was copied, say, and fetched again with the same time.
    right = imagenet2012.archives.sha256_of(str(path), lambda _: None)
    source = dataclasses.replace(source, sha256=right)
    monkeypatch.setitem(imagenet2012.ilsvrc2012.SOURCES, "validation", source)
    (record,) = Path(cache["cache_dir"]).rglob("origin.json")
    origin = json.loads(record.read_text())
    for hashed in (origin["hashed"], True):
        record.write_text(json.dumps({**origin, "hashed": hashed}))
        said.clear()
        with pytest.raises(NonMatchingSplitsSizesError):  # it has but 5 images
            imagenet2012.load(tmp_path, split="validation", **strict)
        assert any("was made without all_checks" in text for text in said) != hashed


def test_streaming_says_that_it_hashes_nothing(archives: Archives, said: list[str]) -> None:
    imagenet2012.load(archives.folder, streaming=True, verification_mode="all_checks")
    assert any("the SHA-256 of the archives is not checked" in text for text in said)


def test_streaming_says_what_differs_unless_told_not_to(
    archives: Archives, said: list[str]
) -> None:
    imagenet2012.load(archives.folder, streaming=True, verification_mode="no_checks")
    assert not said
    imagenet2012.load(archives.folder, streaming=True)
    assert "bytes, the original train archive has" in said[0]


def test_a_copy_outlives_its_archives(
    tmp_path: Path, cache: dict[str, Any], said: list[str]
) -> None:
    folder = tmp_path / "archives"
    expected = fakes.make_archives(folder, classes=2, validation=9)
    imagenet2012.load(folder, split="train", **cache)
    imagenet2012.load(folder, order="mixed", **cache)
    imagenet2012.load(folder, "in_place", **cache)
    shutil.rmtree(folder)
    loaded = imagenet2012.load(folder, **cache)
    assert list(loaded) == ["train"]
    assert f"the copy that was made of the one in {folder}" in said[0]
    assert sorted(contents(loaded["train"])) == wanted(expected["train"])
    assert isinstance(loaded["train"].features["image"], imagenet2012.in_place.NamedImage)
    fakes.make_archives(folder, classes=0, validation=9)
    assert imagenet2012.load(folder, split="train", **cache).num_rows == len(expected["train"])
    shutil.rmtree(folder)
    mixed = imagenet2012.load(split="validation[:3]+train", order="mixed", **cache)
    assert mixed.num_rows == 3 + len(expected["train"])
    for options in ({"label_names": "wnid"}, {"name": "in_place"}, {"streaming": True}):
        with pytest.raises(ManualDownloadError):
            imagenet2012.load(folder, **options, **cache)
    with pytest.raises(ManualDownloadError, match="No archive of the validation split"):
        imagenet2012.load(folder, split="validation", **cache)
    with pytest.raises(ManualDownloadError, match="which does not exist"):
        imagenet2012.load(tmp_path / "other", **cache)
    with pytest.raises(NonMatchingSplitsSizesError, match="has 6 train images"):
        imagenet2012.load(folder, **{**cache, "verification_mode": "all_checks"})
    assert "Its SHA-256 is not checked." in said[-1]


def test_a_builder_outlives_its_archives(tmp_path: Path, cache: dict[str, Any]) -> None:
    expected = fakes.make_archives(tmp_path / "in", classes=2, validation=0)["train"]
    mode = {"verification_mode": cache.pop("verification_mode")}
    builder = imagenet2012.Imagenet2012(data_dir=tmp_path / "in", **cache)
    builder.download_and_prepare(**mode)
    shutil.rmtree(tmp_path / "in")
    for options in (mode, {}):
        builder.download_and_prepare(**options)
        assert sorted(contents(builder.as_dataset(split="train"))) == wanted(expected)
