"""Which archives there are, whether they are what they should be, and what to say if not."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import datasets
from datasets.exceptions import ManualDownloadError, NonMatchingChecksumError
from datasets.utils.py_utils import size_str

from .ilsvrc2012 import (
    CLASS_TAR,
    CLUTTER,
    DOWNLOAD_PAGE,
    NO_CHECKS,
    SOURCES,
    ArchiveError,
    without_secrets,
)
from .regions import Region
from .remote import CHECK
from .storage import (
    FOLDER_VARIABLE,
    File,
    InOrder,
    Options,
    absolute,
    entries,
    is_dir,
    is_url,
    logger,
    open_file,
    status_of,
)
from .tar_reader import REGULAR, member_at
from .trees import kind_of_tree, trees_in

INSTRUCTIONS = f"""\
What can be read: the archives, fetched by hand from {DOWNLOAD_PAGE} after a log-in,
  ILSVRC2012_img_train.tar  (147,897,477,120 bytes, "Training images (Task 1 & 2)")
  ILSVRC2012_img_val.tar      (6,744,924,160 bytes, "Validation images (all tasks)")
or what was extracted from them: train/<wnid>/*.JPEG (or the class tars, train/<wnid>.tar), and
val/*.JPEG or val/<wnid>/*.JPEG. One of the two is enough for its split. Pass their folder, or set
{FOLDER_VARIABLE} to it. Under other names, or in several folders:
  data_files={{"train": "/path/to/any_name.tar", "validation": "/path/to/any_folder"}}"""
LARGER_CACHE = 'Pass cache_dir= (or set HF_DATASETS_CACHE) to a larger disk, or take "in_place".'

# ------------------------------------------------------------------------- what a path is

NO_TAR = "no tar archive, or one without files, or whose beginning is damaged"
NO_IMAGES = "a folder without images or class tars of ILSVRC2012"
COMPRESSED = r"(\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|PK\x03\x04|7z\xbc\xaf).*"
IMAGE = r"(.*/)?(n\d{8}_\d+|ILSVRC2012_(val|test)_\d{8})"
OLD_HUB = rf"(train|val|test)_images(_\d)?\.tar\.gz|{IMAGE}_n\d{{8}}\.JPEG"
OTHER_SUFFIX = rf"{IMAGE}\.(?!JPEG)(?i:jpe?g)"
# What is none of the archives, and what to do with it: by the name of a file or folder, a name in
# the folder, the path of the first file in a tar, or a file's first bytes. The first match counts.
KNOWN = (
    (r"imagenet2012\.py", "a clone of this project, which holds no archives"),
    (r".*\.(part(ial)?|(cr)?download|aria2|filepart|tmp|!ut)", "a partial download: let it finish"),
    (r"ILSVRC2012_img_train_t3.*", "the archive of task 3 (120 breeds of dogs), not of task 1"),
    (r"(.*/)?ILSVRC2012_devkit.*", "the development kit, which is not needed"),
    (r"ILSVRC/.*|CLS-LOC/|imagenet.object.*", "Kaggle's images: extract all and pass the folder"),
    (r"ILSVRC2012_bbox.*", "bounding boxes, which are not needed"),
    (OLD_HUB, "a part of the Hub's imagenet-1k from before it had Parquet, which cannot be read"),
    (r".*\.parquet|PAR1.*", "Parquet: datasets.load_dataset(folder) loads it"),
    (r".*\.tfrecord.*|downloads/", "TensorFlow Datasets': pass its folder downloads/manual"),
    (OTHER_SUFFIX, "images that end in .jpg, .jpeg or .JPG, not in .JPEG: extract and rename them"),
    (r".*/n\d{8}_\d+\.JPEG", "a tar of extracted images: extract it and pass the folder"),
    (r"n\d{8}_\d+\.JPEG", "images of one class: pass the folder of all class folders or tars"),
    (COMPRESSED, "compressed: unpack it, but not the .tar that may be in it, and pass the folder"),
    (r"<.*", "a web page, as a download without a log-in leaves"),
    (r"\0.*", "an empty file, or one of which the beginning has not arrived yet"),
)
# Of files with other names, such as logs and locks, nothing is said.
RELEVANT = re.compile(r"\.(tar|tgz|gz|bz2|xz|zip)|tfrecord|ILSVRC|n\d{8}|imagenet|parquet", re.I)
FIRST_FILE = {"train": CLASS_TAR} | {s: SOURCES[s].image for s in ("validation", "test")}
MOST = 100  # entries that are looked at in a folder


def _known(*signs: str) -> str:
    """Return what `KNOWN` says of the first of its rows that fits one of these, or nothing."""
    fits = (said for row, said in KNOWN if any(re.fullmatch(row, s, re.DOTALL) for s in signs))
    return next(fits, "")


def kind_of(path: str, options: Options = None) -> str:
    """Return the split whose archive or tree this is, by its content, or what it is instead."""
    status = status_of(path, options)
    if status is None:
        return "a link that leads nowhere, or hidden from you"
    if status.is_dir:
        files, folder = [], path
        for _ in range(3):  # down to train/<wnid>/ below it
            names = _listed(folder, options)
            files += [name for name in names if not name.endswith("/")]
            folder += next((f"/{name[:-1]}" for name in names if name.endswith("/")), "")
        return kind_of_tree(path) or _known(*files) or NO_IMAGES
    beginning = ""
    with contextlib.suppress(ArchiveError):
        file = open_file(path, options)
        beginning = file.read(0, min(16, file.size)).decode("latin-1") or "\0"
        if first := _first_file(file):
            name = first.rpartition("/")[2]
            split = next((s for s, pattern in FIRST_FILE.items() if pattern.fullmatch(name)), "")
            return split or _known(first) or f"a tar of other files (the first is {first!r})"
    return _known(beginning) or NO_TAR


def _listed(folder: str, options: Options) -> list[str]:
    """Return the first names in a folder, or none if it cannot be listed."""
    with contextlib.suppress(OSError):
        return sorted(entries(folder, options))[:MOST]
    return []


def _first_file(file: File) -> str:
    """Return the path of the first file in a tar that is not an operating system's."""
    offset = 0
    while member := member_at(file, offset, sys.maxsize):  # a class tar may reach beyond a cut
        if member.kind in REGULAR and not CLUTTER.fullmatch(member.name):
            folder = file.read(member.header, 100).decode(errors="replace").rpartition("/")[0]
            return f"{folder}/{member.name}".lstrip("./")
        offset = member.next
    return ""


def describe(path: str, options: Options = None) -> str:
    """Say in words what a folder holds instead of the archives, and what to do."""
    status = status_of(path, options)
    if status and not status.is_dir:
        return "which is a file: pass the folder that it is in, or data_files={split: path}."
    advice = CHECK if is_url(path) else "Pass the folder of the archives, or of what was extracted."
    try:
        names = sorted(entries(path, options))
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        problem = "does not exist" if is_missing else f"cannot be listed: {error.strerror or error}"
        return f"which {problem}.\n{advice}"
    found = f"found {', '.join(names[:8]) or 'nothing'}{', …' * (len(names) > 8)}."
    hints = _hints(path, names, options, archives_in(path, options))[:6]
    return "\n  ".join([found, *hints]) + f"\n\n{INSTRUCTIONS}"


def _hints(folder: str, names: list[str], options: Options, found: dict[str, str]) -> list[str]:
    """Say what entries of a folder have to do with the splits that are not found yet."""
    kinds: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for name in [name for name in names if not name.startswith(".")][:MOST]:
        path = f"{folder}/{name}".rstrip("/")
        here = archives_in(path, options) if name.endswith("/") else {}
        kind = "" if here else _known(name) or kind_of(path, options)
        if kind in SOURCES:
            here = {kind: path}
        elif kind not in ("", NO_IMAGES) and (name.endswith("/") or RELEVANT.search(name)):
            kinds.setdefault(kind, name)
        elsewhere |= {s: path for s, path in here.items() if s not in found | elsewhere}
    hints = [f"{name}: {kind}." for kind, name in kinds.items()]
    if elsewhere:
        places = " and ".join(path.removeprefix(f"{folder}/") for path in elsewhere.values())
        there = f"{places}: under another name or in another folder than is looked for: rename, or "
        files = {split: without_secrets(path) for split, path in (found | elsewhere).items()}
        hints.insert(0, f"{there}pass data_files={files!r}.")
    return hints


# ------------------------------------------------------------------------- finding


def archives_in(folder: str, options: Options = None) -> dict[str, str]:
    """Return the path of each split's archive in a folder, or of what was extracted from it."""
    found: dict[str, str] = {}
    for split, source in SOURCES.items():
        for path in (f"{folder}/{name}" for name in source.file_names):
            status = status_of(path, options)
            if status and not status.is_dir:
                found.setdefault(split, path)
    found |= trees_in(folder, found)
    return {split: found[split] for split in SOURCES if split in found}


def folder_of(data_dir: str | None) -> str:
    """Return a folder, else that which ``IMAGENET2012_DIR`` names, else the working directory."""
    return data_dir or absolute(os.getenv(FOLDER_VARIABLE) or ".")


def find_archives(folder: str) -> dict[str, str]:
    """Return what `archives_in` finds, or raise `ManualDownloadError` if that is nothing."""
    if found := archives_in(folder):
        return found
    raise not_found(folder, SOURCES)


def not_found(path: str, splits: Iterable[str], options: Options = None) -> ManualDownloadError:
    """Say what is at a path instead of the archives of these splits."""
    looked = f"Looked in {without_secrets(path)}, {describe(path, options)}"
    return ManualDownloadError(f"No archive of the {' or '.join(splits)} split. {looked}")


def given_archives(
    data_files: Any, folder: str | None = None, options: Options = None
) -> dict[str, str]:
    """Return the path of each split's archive or tree, as given, or raise `ManualDownloadError`.

    A path without a split is what it holds. Relative paths start from `folder`.
    """
    archives: dict[str, str] = {}
    for key, given in (data_files if isinstance(data_files, dict) else {"": data_files}).items():
        if isinstance(given, list | tuple) and len(given) == 1:
            (given,) = given
        if not isinstance(given, str | os.PathLike):
            raise ValueError(f"data_files is the path of one archive for each split, not {given!r}")
        path = absolute(given, folder)
        if not status_of(path, options):
            raise not_found(path, [key] if key else SOURCES, options)
        kind = key or kind_of(path, options)
        if key and key not in SOURCES:
            raise ValueError(f"data_files has no split {key!r}, only {', '.join(SOURCES)}.")
        archives[kind if kind in SOURCES else "train"] = path  # check_kind says what it is instead
    return {split: archives[split] for split in SOURCES if split in archives}


def warn_of_missing(archives: dict[str, str], checks: bool = True, options: Options = None) -> None:
    """Warn of images that were not found beside others; without checks, of what is left out."""
    folder = next(iter(archives.values())).rpartition("/")[0]
    for split, word in (("train", "train"), ("validation", "val")):
        if split not in archives:
            names = [name for name in _listed(folder, options) if word in name.lower()]
            hints = _hints(folder, names, options, archives)
            if hints or checks:
                logger.warning(" ".join([f"No {split} images were found in {folder}.", *hints]))


# ------------------------------------------------------------------------- checking


def check_kind(split: str, path: str, options: Options = None) -> None:
    """Raise `ArchiveError` unless a file or folder is what it is given as, by its first member."""
    if not is_dir(path, options):
        file = open_file(path, options)  # what is wrong with disk or server is no fault of the tar
        file.read(max(file.size - 1, 0), min(file.size, 1))
    kind = kind_of(path, options)
    if kind != split:
        what = f"the {kind} archive" if kind in SOURCES else kind
        problem = f"given as the {split} archive, but it is {what}."
        raise ArchiveError(path, problem, advice=INSTRUCTIONS)


def check_archive(
    split: str, path: str, strict: bool, checks: bool, options: Options = None
) -> None:
    """Check what a file or folder is and, if there are `checks`, hold it to the official size.

    Of another size it is only warned where `strict` is false.
    """
    check_kind(split, path, options)
    expected, status = SOURCES[split].size, status_of(path, options)
    if not checks or not status or status.is_dir or expected in (None, status.size):
        return
    problem = f"has {status.size:,} bytes, the original {split} archive has {expected:,}."
    cause = f"It was {'cut off' if status.size < expected else 'repacked'}, or is another"
    if not strict:
        return logger.warning(f"{path} {problem} {cause}.")
    advice = f"{cause}: fetch it from {DOWNLOAD_PAGE} or, for a subset, {NO_CHECKS}."
    raise ArchiveError(path, problem, advice=advice)


def sha256_of(path: str, options: Options = None) -> str:
    """Hash a whole archive, with a progress bar."""
    digest, file = hashlib.sha256(), open_file(path, options)
    in_order = InOrder(file, Region(0, file.size), alone=True)
    with datasets.utils.tqdm(total=file.size, unit="B", unit_scale=True, desc="SHA-256") as bar:
        for offset in range(0, file.size, 1 << 20):
            size = min(1 << 20, file.size - offset)
            in_order.announce(offset, size)
            digest.update(in_order.read(offset, size))
            bar.update(size)
    return digest.hexdigest()


def check_sha256(split: str, path: str, options: Options = None) -> None:
    """Hash a whole archive and hold it to the official SHA-256."""
    if is_dir(path, options):
        return logger.warning(f"{path}: extracted images have no SHA-256 that could be checked.")
    found, expected = sha256_of(path, options), SOURCES[split].sha256
    if found != expected:
        problem = f"its SHA-256 is {found}, that of the original {expected}: fetch it again from "
        advice = 'if a copy was made of it, pass download_mode="force_redownload" then.'
        path = without_secrets(path)
        raise NonMatchingChecksumError(f"{path}: {problem}{DOWNLOAD_PAGE}; {advice}")


def check_space(folder: str, needed: int, advice: str = LARGER_CACHE) -> None:
    """Raise `OSError` if the disk of a folder has less free than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        there = size_str(free) if free else "0 bytes"
        problem = f"the dataset needs about {size_str(needed)}, and {there} are free in {folder}."
        raise OSError(errno.ENOSPC, f"{problem} {advice}")
