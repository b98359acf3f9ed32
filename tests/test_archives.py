"""Which archives are found, whether they are what they should be, and what is said if not."""

import bz2
import dataclasses
import errno
import gzip
import hashlib
import io
import logging
import lzma
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakes
import pytest
from datasets.exceptions import ManualDownloadError, NonMatchingChecksumError
from imagenet2012.ilsvrc2012 import SOURCES

from imagenet2012 import ArchiveError, archives

pytestmark = pytest.mark.loading
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TEST = "ILSVRC2012_img_test_v10102019.tar"
OLD_TEST = "ILSVRC2012_img_test.tar"
CLASS = "n01440764"


def packed(*names: str) -> bytes:
    return fakes.tar((name, b"x" * 600) for name in names)


VALIDATION = packed("ILSVRC2012_val_00000003.JPEG")
TRAINING = fakes.train_tar({CLASS: [(f"{CLASS}_1.JPEG", b"x")]})


def write(folder: Path, *files: str, data: bytes = b"x") -> None:
    """Write files, and the folders that they are in."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def trees(
    folder: Path, train: str = "train", validation: str = "val", suffix: str = "JPEG"
) -> None:
    """Write an image of each split as it lies there when it was extracted."""
    write(folder, f"{train}/{CLASS}/{CLASS}_1.{suffix}")
    write(folder, f"{validation}/{CLASS}/ILSVRC2012_val_00000293.{suffix}")


def official(monkeypatch: pytest.MonkeyPatch, split: str, **facts: Any) -> None:
    """Make a fake count as the original archive."""
    monkeypatch.setitem(SOURCES, split, dataclasses.replace(SOURCES[split], **facts))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the loader warns of."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("datasets.imagenet2012")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def refusal(folder: Path) -> str:
    """Return what is said where nothing is found in a folder."""
    with pytest.raises(ManualDownloadError) as caught:
        archives.find_archives(str(folder))
    return str(caught.value)


# ------------------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([TRAIN, VAL], {"train": TRAIN, "validation": VAL}),
        ([VAL], {"validation": VAL}),
        ([OLD_TEST], {"test": OLD_TEST}),
        ([OLD_TEST, TEST], {"test": TEST}),
        ([f"train/{CLASS}/{CLASS}_1.JPEG"], {"train": "train"}),
        ([f"train/{CLASS}.tar", VAL], {"train": "train", "validation": VAL}),
        (["val/ILSVRC2012_val_00000001.JPEG"], {"validation": "val"}),
        ([TRAIN, f"train/{CLASS}/{CLASS}_1.JPEG"], {"train": TRAIN}),
        ([VAL, f"other/{TRAIN}", f"val/{VAL}"], {"validation": VAL}),
        ([VAL, "metadata.csv", "data/train-00000-of-00001.parquet"], {"validation": VAL}),
    ],
)
def test_what_is_found_in_a_folder(files: list[str], found: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, *files)
    expected = {split: f"{tmp_path.as_posix()}/{name}" for split, name in found.items()}
    assert archives.find_archives(tmp_path.as_posix()) == expected


def test_without_a_folder_the_variable_comes_before_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f"variable/{VAL}", f"working/{VAL}")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "variable"))
    assert archives.find_archives(None) == {"validation": str(tmp_path / "variable" / VAL)}
    monkeypatch.delenv("IMAGENET2012_DIR")
    assert archives.find_archives(None) == {"validation": str(tmp_path / "working" / VAL)}
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ManualDownloadError, match="No data_dir was given, IMAGENET2012_DIR is not"):
        archives.find_archives(None)


def test_files_beside_both_archives_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder below may hold 1.3 million images."""
    write(tmp_path, TRAIN, VAL, f"train/{CLASS}/{CLASS}_1.JPEG")
    listed: list[str] = []
    monkeypatch.setattr(os, "scandir", listed.append)
    assert list(archives.find_archives(str(tmp_path))) == ["train", "validation"]
    assert not listed


GIVEN: list[tuple[Any, dict[str, str]]] = [
    ({"validation": VAL}, {"validation": VAL}),
    ({"train": "below/*.tar"}, {"train": "below/any.tar"}),
    ({"train": ["below/any.tar"]}, {"train": "below/any.tar"}),
    ({"train": "training"}, {"train": "training"}),
    ("below/any.tar", {"train": "below/any.tar"}),
    (Path("val [1].bin"), {"validation": "val [1].bin"}),
    (["val [1].bin", "below/any.tar"], {"train": "below/any.tar", "validation": "val [1].bin"}),
    (["training", VAL], {"train": "training", "validation": VAL}),
    ("notes.txt", {"train": "notes.txt"}),
]


@pytest.mark.parametrize(("files", "found"), GIVEN, ids=[str(files) for files, _ in GIVEN])
def test_files_that_are_given(files: Any, found: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, "below/any.tar", data=TRAINING)
    write(tmp_path, "val [1].bin", VAL, data=VALIDATION)
    write(tmp_path, f"training/{CLASS}/{CLASS}_1.JPEG", "notes.txt")
    expected = {split: f"{tmp_path.as_posix()}/{name}" for split, name in found.items()}
    assert archives.given_archives(files, tmp_path.as_posix()) == expected


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"valid": VAL}, ValueError, "no split 'valid': did you mean 'validation'"),
        ([VAL, f"again/{VAL}"], ValueError, "two archives for 'validation'"),
        ({"train": "nowhere.tar"}, ManualDownloadError, r"nowhere\.tar.*does not exist"),
    ],
)
def test_files_that_cannot_be_meant(
    files: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    write(tmp_path, VAL, f"again/{VAL}", data=VALIDATION)
    with pytest.raises(error, match=message):
        archives.given_archives(files, str(tmp_path))


# ------------------------------------------------------------------------- nothing is found


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


KAGGLE = f"ILSVRC/Annotations/CLS-LOC/train/{CLASS}/{CLASS}_10040.xml"
COMPRESSED = "unpack it, but not the .tar"
# A file's name and content, and what is said of it. Nothing is decompressed to know this.
FILES: list[tuple[str, bytes, str]] = [
    ("ILSVRC2012_img_train_t3.tar", fakes.train_tar({"n02085620": []}), "task 3"),
    (f"{TRAIN}.part", TRAINING, "partial download"),
    (f"{VAL}.crdownload", b"", "partial download"),
    (f"{VAL}.aria2", b"x", "partial download"),
    ("imagenet_object_localization_patched2019.tar.gz", gzip.compress(b"x"), "Kaggle's"),
    ("imagenet-object-localization-challenge.zip", zipped(KAGGLE), "Kaggle's"),
    ("kaggle.tar", packed(KAGGLE), "Kaggle's images: extract all and pass the folder"),
    ("train_images_0.tar.gz", gzip.compress(b"x"), "a part of the Hub's imagenet-1k"),
    ("old.tar", packed(f"{CLASS}_10026_{CLASS}.JPEG"), "a part of the Hub's imagenet-1k"),
    ("val.tar", packed(f"ILSVRC2012_val_00000001_{CLASS}.JPEG"), "a part of the Hub's imagenet-1k"),
    ("ILSVRC2012_devkit_t12.tar.gz", gzip.compress(b"x"), "development kit, which is not needed"),
    ("kit.tar", packed("ILSVRC2012_devkit_t12/readme.txt"), "development kit"),
    ("ILSVRC2012_bbox_val_v3.tgz", gzip.compress(b"x"), "bounding boxes"),
    ("boxes.tar", packed(f"{CLASS}/{CLASS}_1.xml"), "bounding boxes"),
    ("folders.tar", packed(f"./train/{CLASS}/{CLASS}_1.JPEG"), "extract it and pass the folder"),
    ("class.tar", packed(f"{CLASS}_1.JPEG"), "images of one class: pass the folder of all"),
    ("class-jpg.tar", packed(f"{CLASS}_1.jpg"), "end in .jpg, .jpeg or .JPG"),
    ("v.tar.gz", gzip.compress(VALIDATION), COMPRESSED),
    ("v.tar.bz2", bz2.compress(VALIDATION), COMPRESSED),
    ("v.tar.xz", lzma.compress(VALIDATION), COMPRESSED),
    ("v.zip", zipped(VAL), COMPRESSED),
    ("broken.gz", gzip.compress(VALIDATION)[:20], COMPRESSED),
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


def link(folder: Path) -> None:
    (folder / VAL).symlink_to("/nowhere/val.tar")


FOLDERS: list[tuple[str, Callable[[Path], None], str]] = [
    ("nothing", lambda folder: None, "found nothing"),
    ("other", lambda folder: write(folder, *(f"notes-{k}" for k in range(30))), "notes-0, notes-1"),
    ("link", link, f"{VAL}: a link that leads nowhere"),
    ("kaggle", lambda folder: write(folder, "ILSVRC/ImageSets/x"), "ILSVRC/: Kaggle's images"),
    ("tfds", lambda folder: write(folder, f"downloads/manual/{VAL}"), "folder downloads/manual"),
    ("export", lambda folder: write(folder, "data/train-00000-of-00128.parquet"), "load_dataset"),
    ("clone", lambda folder: write(folder, "imagenet2012.py"), "a clone of this project"),
    ("clone below", lambda folder: write(folder, "x/imagenet2012.py"), "x/: a clone"),
    ("jpg", lambda folder: trees(folder, suffix="jpg"), "train/: images that end in .jpg"),
    ("jpeg", lambda folder: trees(folder, suffix="jpeg"), "train/: images that end in .jpg"),
    ("JPG", lambda folder: trees(folder, suffix="JPG"), "train/: images that end in .jpg"),
    ("train jpg", lambda folder: write(folder, f"{CLASS}/{CLASS}_1.jpg"), "end in .jpg"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "message"), [f[1:] for f in FOLDERS], ids=[f[0] for f in FOLDERS]
)
def test_a_folder_without_archives(
    state: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    state(tmp_path)
    assert message in refusal(tmp_path)


ELSEWHERE: list[tuple[str, dict[str, bytes], dict[str, str]]] = [
    ("renamed", {"imagenet.tar": TRAINING, "v (1)": VALIDATION},
     {"train": "imagenet.tar", "validation": "v (1)"}),
    ("below", {f"archives/{VAL}": VALIDATION}, {"validation": f"archives/{VAL}"}),
    ("in two", {f"a/{TRAIN}": TRAINING, f"b/{VAL}": VALIDATION},
     {"train": f"a/{TRAIN}", "validation": f"b/{VAL}"}),
    ("training", {f"training/{CLASS}/{CLASS}_1.JPEG": b"x"}, {"train": "training"}),
    ("Train", {f"Train/{CLASS}/{CLASS}_1.JPEG": b"x"}, {"train": "Train"}),
    ("trees below", {f"imagenet/train/{CLASS}/{CLASS}_1.JPEG": b"x"}, {"train": "imagenet/train"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "found"), [e[1:] for e in ELSEWHERE], ids=[e[0] for e in ELSEWHERE]
)
def test_the_data_files_that_are_printed_work(
    files: dict[str, bytes], found: dict[str, str], tmp_path: Path
) -> None:
    """What lies in another folder, or is called otherwise, as `training/` for `train/`."""
    for name, data in files.items():
        write(tmp_path, name, data=data)
    text = refusal(tmp_path).partition("pass data_files=")[2].partition("}")[0] + "}"
    expected = {split: f"{tmp_path.as_posix()}/{name}" for split, name in found.items()}
    assert archives.given_archives(eval(text)) == expected


def test_a_path_that_does_not_exist_is_answered_in_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (refusal(tmp_path / "imagnet" / "x"), refusal(tmp_path / "imagnet")):
        assert f"does not exist, or is hidden from you (the path is right up to {tmp_path})" in text
        assert len(text.splitlines()) == 2 and "147,897,477,120" not in text
    monkeypatch.setenv("IMAGENET2012_DIR", str(tmp_path / "no"))
    with pytest.raises(
        ManualDownloadError, match=r"IMAGENET2012_DIR is set. Looked in .*not exist"
    ):
        archives.find_archives(None)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, VAL)
    assert "is a file: pass the folder" in refusal(tmp_path / VAL)


# ------------------------------------------------------------------------- one split is missing


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "No validation images were found in "),
        ({f"{VAL}.part": b""}, f"{VAL}.part: a partial download"),
        ({f"{VAL}.gz": gzip.compress(VALIDATION)}, f"{VAL}.gz: compressed"),
        ({"Validation/ILSVRC2012_val_00000001.JPEG": b"x"}, "Validation'}"),
        ({f"val/{CLASS}/ILSVRC2012_val_00000293.jpg": b"x"}, "val/: images that end in .jpg"),
    ],
)
@pytest.mark.parametrize("checks", [True, False])
def test_the_other_split_is_not_ready(
    files: dict[str, bytes], message: str, checks: bool, tmp_path: Path, said: list[str]
) -> None:
    """Who wants no checks is told only of what is there and left out."""
    write(tmp_path, TRAIN)
    for name, data in files.items():
        write(tmp_path, name, data=data)
    archives.warn_of_missing(archives.find_archives(str(tmp_path)), checks)
    assert [message in text for text in said] == [True] * bool(checks or files)


def test_training_beside_validation_is_mentioned(tmp_path: Path, said: list[str]) -> None:
    trees(tmp_path, "training", "validation")
    found = archives.find_archives(str(tmp_path))
    assert found == {"validation": f"{tmp_path.as_posix()}/validation"}
    archives.warn_of_missing(found)
    text = said[0].partition("pass data_files=")[2].partition("}")[0] + "}"
    assert archives.given_archives(eval(text)) == {
        "train": f"{tmp_path.as_posix()}/training",
        "validation": f"{tmp_path.as_posix()}/validation",
    }
    assert "training: not called" in said[0]


@pytest.mark.parametrize("checks", [True, False])
def test_nothing_is_said_where_both_are_found(
    checks: bool, tmp_path: Path, said: list[str]
) -> None:
    trees(tmp_path)
    archives.warn_of_missing(archives.find_archives(str(tmp_path)), checks)
    assert not said


def test_of_trees_no_archive_is_said_to_be_missing(tmp_path: Path, said: list[str]) -> None:
    write(tmp_path, f"train/{CLASS}/{CLASS}_1.JPEG")
    archives.warn_of_missing(archives.find_archives(str(tmp_path)))
    assert "No validation images" in said[0] and VAL not in said[0]


# ------------------------------------------------------------------------- a wrong file


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *(
            (data, said)
            for name, data, said in FILES
            if name.endswith(("r.tar", "s.tar", "v.tar.gz"))
        ),
        (packed(f"train/{CLASS}/{CLASS}_1.JPEG"), "a tar of extracted images: extract it and pass"),
        (packed(f"{CLASS}_1.JPEG"), "images of one class"),
        (b"\xff\xd8\xff" * 1000, "no tar archive"),
        (bytes(20_000), "the beginning has not arrived"),
        (b"", "an empty file"),
        (VALIDATION, "the validation archive"),
    ],
)
def test_not_the_training_archive(data: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path, TRAIN, data=data)
    with pytest.raises(ArchiveError) as caught:
        archives.check_kind("train", str(tmp_path / TRAIN))
    text = str(caught.value)
    assert "given as the train archive, but it is" in text and message in text
    for accepted in ("val/<wnid>/*.JPEG", "train/<wnid>.tar", "data_files="):
        assert accepted in text, "advice forgets nothing else that can be read"


def test_not_the_training_folder(tmp_path: Path) -> None:
    trees(tmp_path, suffix="jpg")
    for split, folder, message in (
        ("train", "train", "images that end in .jpg"),
        ("validation", "val", "images that end in .jpg"),
        ("train", "", "images that end in .jpg"),
    ):
        with pytest.raises(ArchiveError, match=message):
            archives.check_kind(split, f"{tmp_path}/{folder}".rstrip("/"))
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


def test_an_archive_that_aria2_still_fetches(tmp_path: Path) -> None:
    """It gives the file its full size at the start."""
    write(tmp_path, VAL, f"{VAL}.aria2", data=VALIDATION)
    with pytest.raises(ArchiveError, match="still being downloaded"):
        archives.check_kind("validation", str(tmp_path / VAL))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_archive_without_rights(tmp_path: Path) -> None:
    write(tmp_path, VAL, data=VALIDATION)
    (tmp_path / VAL).chmod(0)
    with pytest.raises(ArchiveError, match="Permission denied"):
        archives.check_kind("validation", str(tmp_path / VAL))


# ------------------------------------------------------------------------- sizes and hashes


def test_another_size_is_an_error_or_a_warning(tmp_path: Path, said: list[str]) -> None:
    write(tmp_path, VAL, data=VALIDATION)
    path, message = (
        str(tmp_path / VAL),
        "has 10,240 bytes, the original validation archive has 6,744",
    )
    archives.check_size("validation", path, strict=False)
    assert message in said[0]
    with pytest.raises(ArchiveError, match=message) as caught:
        archives.check_size("validation", path, strict=True)
    for advice in ("cut off", 'verification_mode="no_checks"', "--no-checks"):
        assert advice in str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_is_said_of_a_size_that_is_right_or_not_known(
    strict: bool, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, VAL, TEST, data=VALIDATION)
    trees(tmp_path)
    official(monkeypatch, "validation", size=len(VALIDATION))
    for split, name in (("validation", VAL), ("test", TEST), ("train", "train")):
        archives.check_size(split, str(tmp_path / name), strict)
    assert not said


def test_a_changed_byte_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fakes.tar([(name, data * 600) for name, data in fakes.flat_images("val", 3)])
    assert len(data) > 2 << 20, "several pieces"
    write(tmp_path, VAL, data=data)
    path, digest, passed = str(tmp_path / VAL), hashlib.sha256(data).hexdigest(), []
    assert archives.sha256_of(path, passed.append) == digest
    assert sum(passed) == len(data)
    official(monkeypatch, "validation", sha256=digest)
    archives.check_sha256("validation", path)
    write(tmp_path, VAL, data=data[:700] + b"!" + data[701:])
    with pytest.raises(NonMatchingChecksumError, match=r"val\.tar.*SHA-256"):
        archives.check_sha256("validation", path)


def test_a_tree_has_no_hash(tmp_path: Path, said: list[str]) -> None:
    trees(tmp_path)
    archives.check_sha256("train", str(tmp_path / "train"))
    assert "no SHA-256" in said[0]


# ------------------------------------------------------------------------- disk and cache


def test_too_little_disk(tmp_path: Path) -> None:
    archives.check_space(str(tmp_path), 1)
    with pytest.raises(OSError, match=r"needs about .* free in .*cache_dir=.*in_place") as caught:
        archives.check_space(str(tmp_path), shutil.disk_usage(tmp_path).total + 1)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "error",
    [
        lambda folder: PermissionError(errno.EACCES, "denied", f"{folder}/x.lock"),
        lambda folder: OSError(errno.EROFS, "read-only", f"{folder}/x.lock"),
        lambda folder: NotImplementedError("no flock here"),
    ],
)
def test_a_cache_that_cannot_be_written_to_or_locked(
    error: Callable[[Path], Exception], tmp_path: Path
) -> None:
    message, cache = "cannot be written to or locked", str(tmp_path)
    with pytest.raises(OSError, match=message) as caught, archives.cache_errors(cache):
        raise error(tmp_path)
    for part in (str(tmp_path), "cache_dir=", "umask 002", "save_to_disk"):
        assert part in str(caught.value)


def test_errors_of_other_folders_are_left_alone(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "denied", "/elsewhere/val.tar")
    with pytest.raises(PermissionError) as caught, archives.cache_errors(str(tmp_path)):
        raise error
    assert caught.value is error


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": "mixed"}, "no option 'orders': did you mean 'order'?"),
        ({"zzzz": 1}, "no option 'zzzz', only name, label_names, order, data_dir."),
        ({"transform": len}, "no option 'transform': use dataset.with_transform"),
        ({"label_names": "word"}, "no label_names 'word': did you mean 'words'?"),
        ({"order": "shuffled"}, "no order 'shuffled', only archive, mixed."),
        ({"name": "inplace"}, "no name 'inplace': did you mean 'in_place'?"),
        ({"name": "train"}, "no name 'train': it is a split, pass split='train'."),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        archives.check_options(options, ["name", "label_names", "order", "data_dir"])
    assert message in str(caught.value)


def test_options_that_exist() -> None:
    options = {"name": "in_place", "order": None, "data_dir": "/x"}
    archives.check_options(options, ["name", "label_names", "order", "data_dir"])


def test_a_split_that_was_shortened() -> None:
    assert archives.meant("val", SOURCES) == ": did you mean 'validation'?"
