"""Which archives are found, whether they are what they should be, and what is said if not."""

import errno
import functools
import hashlib
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fakes
import pytest
from conftest import official
from datasets.exceptions import (
    ManualDownloadError,
    NonMatchingChecksumError,
    NonMatchingSplitsSizesError,
)
from layouts import TEST, TRAIN, VAL

import imagenet2012
from imagenet2012 import ArchiveError, archives, ilsvrc2012
from rows import contents

SOURCES = ilsvrc2012.SOURCES
OLD_TEST = "ILSVRC2012_img_test.tar"
CLASS = "n01440764"


def packed(*names: str) -> bytes:
    return fakes.tar((name, b"x" * 600) for name in names)


VALIDATION = packed("ILSVRC2012_val_00000001.JPEG")
TRAINING = fakes.train_tar({CLASS: [(f"{CLASS}_1.JPEG", b"x")]})


def write(folder: Path, *files: str, data: bytes = b"x") -> None:
    """Write files, and the folders that they are in."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def trees(folder: Path, suffix: str = "JPEG") -> None:
    """Write an image of each split as it lies there when it was extracted."""
    write(folder, f"train/{CLASS}/{CLASS}_1.{suffix}")
    write(folder, f"val/{CLASS}/ILSVRC2012_val_00000293.{suffix}")


def refusal(folder: Path) -> str:
    """Return what is said where nothing is found in a folder."""
    with pytest.raises(ManualDownloadError) as caught:
        archives.find_archives(str(folder))
    return str(caught.value)


def below(folder: Path, names: dict[str, str]) -> dict[str, str]:
    return {split: f"{folder.as_posix()}/{name}" for split, name in names.items()}


def printed(text: str) -> Any:
    """Return the `data_files` that a text says are to be passed."""
    return eval(text.partition("pass data_files=")[2].partition("}")[0] + "}")


# ------------------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([TRAIN, VAL], {"train": TRAIN, "validation": VAL}),
        ([OLD_TEST, TEST], {"test": TEST}),
        ([f"train/{CLASS}/{CLASS}_1.JPEG"], {"train": "train"}),
        ([f"train/{CLASS}.tar", VAL], {"train": "train", "validation": VAL}),
        (["val/ILSVRC2012_val_00000001.JPEG"], {"validation": "val"}),
        ([TRAIN, f"train/{CLASS}/{CLASS}_1.JPEG"], {"train": TRAIN}),
        ([VAL, f"other/{TRAIN}", f"val/{VAL}"], {"validation": VAL}),
    ],
)
def test_what_is_found_in_a_folder(files: list[str], found: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, *files)
    assert archives.find_archives(tmp_path.as_posix()) == below(tmp_path, found)


def test_without_a_folder_the_variable_comes_before_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f"variable/{VAL}", f"working/{VAL}")
    monkeypatch.chdir(tmp_path / "working")
    for name, found in (("variable", "variable"), ("", "working")):
        monkeypatch.setenv("IMAGENET2012_DIR", name and str(tmp_path / name))
        builder = imagenet2012.Imagenet2012(cache_dir=str(tmp_path))
        assert builder.archives == {"validation": f"{tmp_path}/{found}/{VAL}"}
    (tmp_path / "working" / VAL).unlink()
    for name in ("variable/none", "working"):
        monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / name) if "none" in name else "")
        with pytest.raises(ManualDownloadError, match=rf"Looked in {tmp_path}/{name}, "):
            imagenet2012.load(cache_dir=str(tmp_path))


def test_files_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'valid', only train, validation, test"):
        archives.given_archives({"valid": __file__})
    with pytest.raises(ManualDownloadError, match=r"nowhere\.tar.*does not exist"):
        archives.given_archives({"train": "nowhere.tar"}, str(tmp_path))


# ------------------------------------------------------------------------- nothing is found


SUFFIX = "images that end in .jpg, .jpeg or .JPG, not in .JPEG"
KAGGLE = f"ILSVRC/Annotations/CLS-LOC/train/{CLASS}/{CLASS}_10040.xml"
GZIP, COMPRESSED = b"\x1f\x8b\x08", "unpack it, but not the .tar"
# A file's name and content, and what is said of it. Nothing is decompressed to know this.
FILES: list[tuple[str, bytes, str]] = [
    ("ILSVRC2012_img_train_t3.tar", fakes.train_tar({"n02085620": []}), "task 3"),
    (f"{TRAIN}.part", TRAINING, "partial download"),
    ("imagenet_object_localization_patched2019.tar.gz", GZIP, "Kaggle's"),
    ("kaggle.tar", packed(KAGGLE), "Kaggle's images: extract all and pass the folder"),
    ("train_images_0.tar.gz", GZIP, "a part of the Hub's imagenet-1k"),
    ("old.tar", packed(f"{CLASS}_10026_{CLASS}.JPEG"), "a part of the Hub's imagenet-1k"),
    ("ILSVRC2012_devkit_t12.tar.gz", GZIP, "development kit, which is not needed"),
    ("ILSVRC2012_bbox_val_v3.tgz", GZIP, "bounding boxes"),
    ("folders.tar", packed(f"./train/{CLASS}/{CLASS}_1.JPEG"), "extract it and pass the folder"),
    ("class.tar", packed(f"{CLASS}_1.JPEG"), "images of one class: pass the folder of all"),
    ("v.tar.gz", GZIP, COMPRESSED),
    ("train.tar", b"<!DOCTYPE html>\nPlease log in", "a web page"),
    ("zeros.tar", bytes(20_000), "beginning has not arrived"),
    ("train-00000-of-00294.parquet", b"PAR1", "datasets.load_dataset(folder)"),
    ("imagenet2012-train.tfrecord-00000-of-01024", b"x", "downloads/manual"),
    ("readme.tar", packed("readme.txt"), "other files (the first is 'readme.txt')"),
]


@pytest.mark.parametrize(("name", "data", "message"), FILES, ids=[name for name, *_ in FILES])
def test_a_file_that_is_no_archive(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path, name, data=data)
    text = refusal(tmp_path)
    assert f"Looked in {tmp_path}, found {name}." in text and message in text
    assert archives.INSTRUCTIONS in text


FOLDERS = [
    (["x.lock", "x.log"], "found x.lock, x.log.\n\nWhat can be read"),
    ([], "found nothing"),
    ([f"notes-{number}" for number in range(30)], "found notes-0, notes-1, "),
    (["ILSVRC/ImageSets/x"], "ILSVRC/: Kaggle's images"),
    ([f"downloads/manual/{VAL}"], "pass its folder downloads/manual"),
    (["data/train-00000-of-00128.parquet"], "data/: Parquet: datasets.load_dataset(folder)"),
    (["imagenet2012.py"], "a clone of this project"),
    *(([f"train/{CLASS}/{CLASS}_1.{end}"], f"train/: {SUFFIX}") for end in ("jpg", "jpeg", "JPG")),
    ([f"{CLASS}/{CLASS}_1.jpg"], f"{CLASS}/: {SUFFIX}"),
]


@pytest.mark.parametrize(("files", "message"), FOLDERS)
def test_a_folder_without_archives(files: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path, *files)
    assert message in refusal(tmp_path)


def test_a_link_that_leads_nowhere(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / VAL).symlink_to("/nowhere/val.tar")
    assert f"{VAL}: a link that leads nowhere" in refusal(tmp_path)
    write(tmp_path, TRAIN)
    archives.warn_of_missing(archives.find_archives(str(tmp_path)))
    assert f"{VAL}: a link that leads nowhere" in said[0]


@pytest.mark.parametrize(
    "found",
    [
        {"train": "imagenet.tar", "validation": "val (1)"},
        {"validation": f"archives/{VAL}"},
        {"train": f"a/{TRAIN}", "validation": f"b/{VAL}"},
        {"train": "training"},
        {"train": "Train"},
        {"train": "imagenet/train"},
    ],
)
def test_the_data_files_that_are_printed_work(found: dict[str, str], tmp_path: Path) -> None:
    """What lies in another folder, or is called otherwise, as `training/` for `train/`."""
    for name in found.values():
        if name.lower().endswith(("train", "training")):
            name += f"/{CLASS}/{CLASS}_1.JPEG"
        write(tmp_path, name, data=VALIDATION if "val" in name else TRAINING)
    assert archives.given_archives(printed(refusal(tmp_path))) == below(tmp_path, found)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path, VAL)
    assert "is a file: pass the folder" in refusal(tmp_path / VAL)


# ------------------------------------------------------------------------- one split is missing


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("other", b"", "No validation images were found in "),
        (f"{VAL}.gz", GZIP, f"{VAL}.gz: compressed"),
        ("Validation/ILSVRC2012_val_00000001.JPEG", b"x", "Validation: under another name"),
        (f"val/{CLASS}/ILSVRC2012_val_00000293.jpg", b"x", f"val/: {SUFFIX}"),
    ],
)
@pytest.mark.parametrize("checks", [True, False])
def test_the_other_split_is_not_ready(
    name: str, data: bytes, message: str, checks: bool, tmp_path: Path, said: list[str]
) -> None:
    """Who wants no checks is told only of what is there and left out."""
    write(tmp_path, f"train/{CLASS}/{CLASS}_1.JPEG")
    write(tmp_path, name, data=data)
    archives.warn_of_missing(archives.find_archives(str(tmp_path)), checks)
    assert [message in text for text in said] == [True] * bool(checks or name != "other")
    assert f"no {VAL}" not in "".join(said), "the owner of a tree needs none"


# ------------------------------------------------------------------------- a wrong file


NO_ARCHIVES = [(b"\xff\xd8\xff" * 1000, "no tar archive"), (b"", "an empty file")]
NO_ARCHIVES += [(VALIDATION, "the validation archive"), (bytes(20_000), "has not arrived")]


@pytest.mark.parametrize(("data", "message"), NO_ARCHIVES)
def test_not_the_training_archive(data: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path, TRAIN, data=data)
    with pytest.raises(ArchiveError) as caught:
        archives.check_kind("train", str(tmp_path / TRAIN))
    text = str(caught.value)
    assert "given as the train archive, but it is" in text and message in text


def test_not_the_training_folder(tmp_path: Path) -> None:
    trees(tmp_path, suffix="jpg")
    for split, folder in (("train", "/train"), ("validation", "/val"), ("train", "")):
        with pytest.raises(ArchiveError, match=re.escape(SUFFIX)):
            archives.check_kind(split, f"{tmp_path}{folder}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match="a folder without images"):
        archives.check_kind("train", str(tmp_path / "empty"))


CLUTTER = [("._n.JPEG", b"x"), (".DS_Store", b"x")]


@pytest.mark.parametrize(
    ("split", "data"),
    [
        ("train", TRAINING),
        ("train", TRAINING[:1100]),
        ("validation", VALIDATION),
        ("validation", packed("PK/ILSVRC2012_val_00000001.JPEG")),
        ("validation", fakes.tar([*CLUTTER, ("./val/ILSVRC2012_val_00000001.JPEG", b"x")])),
        ("test", fakes.header("test/", 0, b"5") + packed("test/ILSVRC2012_test_00000001.JPEG")),
    ],
    ids=["train", "cut off", "validation", "begins like a zip", "packed again", "test"],
)
def test_what_an_archive_is_by_its_first_file(split: str, data: bytes, tmp_path: Path) -> None:
    write(tmp_path, "any.name", data=data)
    archives.check_kind(split, str(tmp_path / "any.name"))


def test_sizes(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is an error or a warning; of one that is right or not known nothing is said."""
    write(tmp_path, VAL, data=VALIDATION)
    write(tmp_path, TEST, data=fakes.tar(fakes.flat_images("test", 1)))
    trees(tmp_path)
    path, message = str(tmp_path / VAL), "has 10,240 bytes, the original validation archive has 6"
    with pytest.raises(ArchiveError, match=message) as caught:
        archives.check_archive("validation", path, strict=True, checks=True)
    assert "--no-checks" in str(caught.value) and not said
    archives.check_archive("validation", path, strict=False, checks=True)
    assert message in said.pop()
    official(monkeypatch, "validation", size=len(VALIDATION))
    for split, name in (("validation", VAL), ("test", TEST), ("train", "train")):
        archives.check_archive(split, str(tmp_path / name), strict=True, checks=True)
    assert not said


def test_a_changed_byte_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    data = fakes.tar([(name, data * 600) for name, data in fakes.flat_images("val", 3)])
    assert len(data) > 2 << 20, "several pieces"
    write(tmp_path, VAL, data=data)
    path, digest = str(tmp_path / VAL), hashlib.sha256(data).hexdigest()
    assert archives.sha256_of(path) == digest
    official(monkeypatch, "validation", sha256=digest)
    archives.check_sha256("validation", path)
    write(tmp_path, VAL, data=data[:700] + b"!" + data[701:])
    with pytest.raises(NonMatchingChecksumError, match=r"val\.tar.*SHA-256"):
        archives.check_sha256("validation", path)
    trees(tmp_path)
    archives.check_sha256("train", str(tmp_path / "train"))
    assert "no SHA-256" in said[0]


# ------------------------------------------------------------------------- disk and cache


def test_too_little_disk(tmp_path: Path, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, VAL, data=VALIDATION)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"needs about .* free in .*cache_dir=.*in_place") as caught:
        imagenet2012.load(tmp_path, **cache)
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.rglob("*.arrow"))


# ------------------------------------------------------------------------- when it is loaded


WAYS = [
    imagenet2012.load,
    lambda folder, **options: datasets.load_dataset("imagenet2012", data_dir=folder, **options),
    partial(imagenet2012.load, streaming=True),
]


@pytest.mark.parametrize("load", WAYS)
def test_what_is_there_is_told_before_the_work(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every way of loading; sizes of all archives are checked before the first is copied."""
    cache = str(tmp_path / "cache")
    write(tmp_path / "no", f"{VAL}.gz", data=GZIP)
    with pytest.raises(ManualDownloadError, match=rf"Looked in .*no, found {VAL}\.gz"):
        load(str(tmp_path / "no"), cache_dir=cache)
    count = len(fakes.make_archives(tmp_path / "in", classes=2, validation=3)["train"])
    official(monkeypatch, "train", size=None, num_examples=count)
    if load in WAYS[:2]:
        with pytest.raises(ArchiveError, match=r"val\.tar: has .*6,744,924,160"):
            load(str(tmp_path / "in"), cache_dir=cache)
    assert not list(tmp_path.rglob("*.arrow"))


@pytest.mark.parametrize("mode", ["basic_checks", "all_checks"])
def test_images_are_counted(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, VAL, data=VALIDATION)
    facts = {"size": len(VALIDATION), "sha256": hashlib.sha256(VALIDATION).hexdigest()}
    options = {"cache_dir": str(tmp_path / "cache"), "verification_mode": mode}
    official(monkeypatch, "validation", **facts)
    with pytest.raises(NonMatchingSplitsSizesError, match=r"50,000 in .*val\.tar.*no_checks"):
        imagenet2012.load(tmp_path, split="validation", **options)
    assert not list(tmp_path.rglob("*.arrow"))
    official(monkeypatch, "validation", **facts, num_examples=1)
    assert imagenet2012.load(tmp_path, split="validation", **options).num_rows == 1


@pytest.mark.parametrize("end", [0, 512, 700])
def test_an_odd_end_of_an_original_is_a_warning(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """The originals cannot be had for tests, so no guess about their ends may refuse them."""
    write(tmp_path, VAL, data=VALIDATION[:1536] + bytes(end))
    with pytest.raises(ArchiveError, match="cut off"):
        contents(imagenet2012.load(tmp_path, split="validation", streaming=True))
    official(monkeypatch, "validation", size=1536 + end)
    stream = imagenet2012.load(tmp_path, split="validation", streaming=True)
    assert stream.info.splits["validation"].num_examples == 50_000  # for the length of an epoch
    assert len(contents(stream)) == 1
    assert "It was cut off" in said[-1]


@functools.cache
def whole(split: str) -> bytes:
    """Return an archive of 60 images, or the training archive of 1000 classes that has as many."""
    members = [(name, data * 20) for name, data in fakes.flat_images("val", 60)]
    if split == "validation":
        return fakes.tar(members)
    images: dict[str, list[fakes.Member]] = {wnid: [] for wnid in fakes.wnids()}
    images[CLASS] = [(f"{CLASS}_{k}.JPEG", data) for k, (_, data) in enumerate(members)]
    return fakes.train_tar(images)


HOLES = {
    "a header": lambda data: (at := data.index(b"ustar  ", 20_000) - 257, at + 512),
    "a piece": lambda data: (at := data.index(b"ustar  ", 20_000) - 1000, at + 9_000),
    "the end": lambda data: (len(data) // 2, len(data)),
}


@pytest.mark.parametrize("hole", list(HOLES))
@pytest.mark.parametrize("order", ["archive", "mixed"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_hole_in_an_archive_of_the_official_size(
    split: str, order: str, hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As downloaders that reserve the whole file at once leave it: nothing is lost in silence."""
    data = whole(split)
    start, stop = HOLES[hole](data)
    write(
        tmp_path,
        SOURCES[split].file_names[0],
        data=data[:start] + bytes(stop - start) + data[stop:],
    )
    official(monkeypatch, split, size=len(data))
    with pytest.raises(ArchiveError, match="at byte"):
        list(imagenet2012.load(tmp_path, split=split, streaming=True, order=order))


@pytest.mark.parametrize("config", ["default", "in_place"])
def test_a_cut_class_tar(config: str, tmp_path: Path, cache: dict[str, Any]) -> None:
    """Cut between two members before it was packed, in the middle of the training archive."""
    tars = [[f"{wnid}.tar", fakes.tar(images)] for wnid, images in fakes.train_images(3, 4)]
    cut = tars[1][1].rstrip(b"\0")
    tars[1][1] = cut + bytes(-len(cut) % 512)
    write(tmp_path, TRAIN, data=fakes.tar(tars))
    with pytest.raises(Exception, match=r"(?s)train\.tar, at byte .*cut off"):
        imagenet2012.load(tmp_path, config, split="train", **cache)
    with pytest.raises(ArchiveError, match="cut off"):
        list(imagenet2012.load(tmp_path, config, split="train", streaming=True))
