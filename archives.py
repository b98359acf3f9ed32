"""Which archives there are, whether they are what they should be, and what to say if not."""

import errno
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import datasets
import fsspec
from datasets.exceptions import ManualDownloadError
from datasets.exceptions import NonMatchingChecksumError
from datasets.utils.py_utils import size_str

from .ilsvrc2012 import CLASS_TAR
from .ilsvrc2012 import CLUTTER
from .ilsvrc2012 import DOWNLOAD_PAGE
from .ilsvrc2012 import IMAGE_NAME
from .ilsvrc2012 import SOURCES
from .ilsvrc2012 import ArchiveError
from .ilsvrc2012 import without_secrets
from .tar_reader import BLOCK
from .tar_reader import REGULAR
from .tar_reader import Region
from .tar_reader import Tar
from .tar_reader import is_url
from .tar_reader import logger
from .tar_reader import member_at
from .tar_reader import open_archive
from .tar_reader import status_of
from .tar_reader import storage_of

FOLDER_VARIABLE = "IMAGENET2012_DIR"

INSTRUCTIONS = f"""\
ILSVRC2012 must be fetched by hand: log in at {DOWNLOAD_PAGE}, get
  ILSVRC2012_img_train.tar  (147,897,477,120 bytes, "Training images (Task 1 & 2)")
  ILSVRC2012_img_val.tar      (6,744,924,160 bytes, "Validation images (all tasks)")
put them in one folder as they are (.tar files, not extracted), and pass that folder:
  imagenet2012.load("/path/to/folder")
or load_dataset("imagenet2012", data_dir="/path/to/folder"), or set {FOLDER_VARIABLE} to it.
One of the two is enough for its split. Files with other names:
  data_files={{"train": "/path/to/any_name.tar"}}"""


# ------------------------------------------------------------------------- finding


def absolute(path: str | os.PathLike[str], folder: str | None = None) -> str:
    """Return a path, relative to `folder` or the working directory, as an absolute one with ``/``.

    ``~`` is the home folder; a URL stays as it is, but ``file://`` is a path.
    """
    text = os.fspath(path)
    if text.startswith(("file://", "local://")):
        text = str(fsspec.get_filesystem_class("file")._strip_protocol(text))
    if is_url(text):
        return text.rstrip("/")
    text = os.path.expanduser(text).replace(os.sep, "/")
    if folder and not os.path.isabs(text):
        text = f"{folder}/{text}"
    return text if is_url(text) else os.path.abspath(text).replace(os.sep, "/")


def is_dir(path: str) -> bool:
    """Tell whether there is a folder at a path or URL."""
    status = status_of(path)
    return status is not None and status.is_dir


def size_of(path: str) -> int:
    """Return the bytes of a file, 0 if there is none."""
    status = status_of(path)
    return status.size if status else 0


def archives_in(folder: str) -> dict[str, str]:
    """Return the path of the archive of each split that lies directly in a folder."""
    found: dict[str, str] = {}
    for split, source in SOURCES.items():
        for name in source.file_names:
            status = status_of(f"{folder}/{name}")
            if split not in found and status and not status.is_dir:
                found[split] = f"{folder}/{name}"
    return found


def find_archives(data_dir: str | None) -> dict[str, str]:
    """Return the path of each split's archive in a folder.

    Without one it is the folder that ``IMAGENET2012_DIR`` names, else the working directory.

    Raises
    ------
    ManualDownloadError
        If there is none. Says where it looked, what is there instead and what to do.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if data_dir:
        folder, where = data_dir, f"Looked in {without_secrets(data_dir)},"
    elif named:
        folder = absolute(named)
        where = f"Looked in {without_secrets(folder)}, which {FOLDER_VARIABLE} names,"
    else:
        folder = absolute(".")
        where = f"No data_dir was given, {FOLDER_VARIABLE} is not set; in {folder},"
    if found := archives_in(folder):
        return found
    raise ManualDownloadError(
        f"No archive of ILSVRC2012. {where} {describe(folder)}\n\n{INSTRUCTIONS}"
    )


def given_archives(data_files: Any, folder: str | None = None) -> dict[str, str]:
    """Return the path of each split's archive, as they were given.

    Parameters
    ----------
    data_files : dict, str, path-like or list
        Paths or patterns by split; where no split is given, each file is what it holds.
    folder : str, optional
        What relative paths start from, instead of the working directory.

    Raises
    ------
    ManualDownloadError
        If one does not exist.
    ValueError
        If a split is unknown, or has several archives.
    """
    by_split = data_files if isinstance(data_files, dict) else {"": data_files}
    archives: dict[str, str] = {}
    for key, path in ((k, p) for k, paths in listed(by_split, folder).items() for p in paths):
        if not status_of(path):
            looked = f"Looked for {without_secrets(path)}, {describe(path)}"
            raise ManualDownloadError(f"{looked}\n\n{INSTRUCTIONS}")
        split = key
        if not split:
            kind = kind_of(path)
            split = kind if kind in SOURCES else "train"
        if split not in SOURCES or split in archives:
            problem = f"two archives for {split!r}" if split in archives else f"a split {split!r}"
            raise ValueError(f"data_files has {problem}: one for each of {', '.join(SOURCES)}.")
        archives[split] = path
    return {split: archives[split] for split in SOURCES if split in archives}


def listed(data_files: Any, folder: str | None = None) -> dict[str, list[str]]:
    """Return `data_files`, in any of the forms that `datasets` takes, as lists by split."""
    by_split = data_files if isinstance(data_files, dict) else {"train": data_files or []}
    return {
        str(split): [
            path
            for one in ([paths] if isinstance(paths, str | os.PathLike) else paths)
            for path in _matches(absolute(one, folder))
        ]
        for split, paths in by_split.items()
    }


def _matches(path: str) -> list[str]:
    """Return the path itself, or what it matches as a pattern."""
    if is_url(path) or status_of(path) or not glob.has_magic(path):
        return [path]
    return sorted(fsspec.filesystem("file").glob(path)) or [path]


# ------------------------------------------------------------------------- describing in words

# What else may be in the folder, and what it means.
HINTS = (
    (r"ILSVRC2012_img_train_t3.*", "is the archive of task 3 (120 breeds of dogs), not of task 1."),
    (
        r".*\.(part|partial|crdownload|download|aria2|filepart|tmp|!ut)",
        "is still being downloaded, or was interrupted: let it finish.",
    ),
    (
        r".*\.(gz|tgz|bz2|xz|zst|zip|7z|Z|lz4)",
        "is compressed: decompress it (only that: the .tar inside is what is read).",
    ),
    (r"n\d{8}\.tar", "is a class tar: the training archive that holds 1000 of them was extracted."),
    (IMAGE_NAME.pattern, "is an extracted image: this loader reads the archives."),
    (
        r"n\d{8}/|train/|val/|validation/|ILSVRC\w*/",
        "looks like extracted images or class tars. This loader reads the archives as they were "
        'fetched; for extracted images there is load_dataset("imagefolder").',
    ),
)
MAGIC = (
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"PK", "a zip file"),
    (b"7z\xbc\xaf", "a 7z file"),
    (b"<", "a web page, as a download without a log-in leaves"),
)


def describe(folder: str) -> str:
    """Say in words what a folder holds instead of the archives."""
    if not status_of(folder):
        storage_of(folder).check_rights(folder)
        parent = folder
        while parent and not is_url(folder) and not status_of(parent):
            parent = parent.rpartition("/")[0]
        known = "" if is_url(folder) else f" (the path is right up to {parent or '/'})"
        return f"which does not exist, or is hidden from you{known}."
    if not is_dir(folder):
        parent = without_secrets(folder).rpartition("/")[0]
        return f"which is a file: pass the folder that it is in, {parent}."
    try:
        names = sorted(storage_of(folder).entries(folder))
    except OSError as error:
        return f"which cannot be listed: {error.strerror or error}."
    if not names:
        return "which is empty."
    hints = [hint for name in names for hint in _hints(folder, name)]
    shown = [n if n[-1] == "/" else f"{n} ({size_of(f'{folder}/{n}'):,} bytes)" for n in names[:8]]
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return "\n  ".join([f"found {', '.join(shown)}{more}.", *hints[:5]])


def _hints(folder: str, name: str) -> Iterator[str]:
    """Say what an entry of a folder has to do with ILSVRC2012, if it has."""
    path = f"{folder}/{name}".rstrip("/")
    if name[-1] == "/" and (inside := archives_in(path)):
        splits, path = ", ".join(inside), without_secrets(path)
        yield f"The archives are in its subfolder {name} ({splits}): pass {path}."
        return
    for pattern, meaning in HINTS:
        if re.fullmatch(pattern, name):
            yield f"{name} {meaning}"
            return
    if name.endswith(".tar") or re.match("ILSVRC2012|imagenet", name, re.IGNORECASE):
        kind = kind_of(path)
        if kind in SOURCES:
            kind = (
                f"the {kind} archive under another name: call it {SOURCES[kind].file_names[0]}, "
                f"or pass data_files={{{kind!r}: {without_secrets(path)!r}}}"
            )
        yield f"{name} seems to be {kind}."


def kind_of(path: str) -> str:
    """Return the split whose archive a file seems to be, or a few words on what it is."""
    try:
        archive = open_archive(path)
        block = archive.read(0, min(BLOCK, archive.size))
        for magic, words in MAGIC:
            if block.startswith(magic):
                return words
        if not block.strip(b"\0"):
            return "an empty file, or one of which the beginning has not arrived yet"
        offset = 0
        while member := member_at(archive, offset, max(archive.size, 1 << 62)):
            if member.kind in REGULAR and not CLUTTER.fullmatch(member.name):
                break
            offset = member.next
    except ArchiveError:
        return "no tar archive, or one whose beginning is damaged"
    if member is None:
        return "an empty tar archive"
    if CLASS_TAR.fullmatch(member.name):
        return "train"
    for split, source in SOURCES.items():
        if source.image.fullmatch(member.name):
            return split if split != "train" else "the tar of a single class"
    return f"a tar archive of other files (the first is {member.name!r})"


# ------------------------------------------------------------------------- checking


def check_kind(split: str, path: str) -> None:
    """Check that a file is what its name says, by its first member."""
    if not is_url(path) and status_of(path + ".aria2"):
        advice = "Let it finish, or remove the .aria2 file if the archive is whole."
        problem = f"is still being downloaded: {path}.aria2 exists."
        raise ArchiveError(path, problem, advice=advice)
    storage_of(path).forget(path)  # it may have been replaced since it was opened
    open_archive(path)  # raises what may be wrong with the file itself
    kind = kind_of(path)
    if kind != split:
        what = f"the {kind} archive" if kind in SOURCES else kind
        names = " or ".join(SOURCES[split].file_names)
        advice = (
            f"Needed is {names} as it was fetched from {DOWNLOAD_PAGE}: a .tar, not extracted. "
        )
        advice += f"Pass its folder as data_dir, or its path as data_files={{{split!r}: path}}."
        raise ArchiveError(path, f"given as the {split} archive, but it is {what}.", advice=advice)


def check_size(split: str, path: str, strict: bool) -> None:
    """Hold an archive to its official size; only warn where `strict` is false."""
    expected, found = SOURCES[split].size, size_of(path)
    if expected in (None, found):
        return
    problem = f"has {found:,} bytes, the original {split} archive has {expected:,}."
    cause = "It was cut off while downloading or copying" if found < expected else "It is another"
    advice = (
        f"{cause}, or it was repacked. Fetch it from {DOWNLOAD_PAGE}; or, for a subset or "
        'a repacked archive that you trust, pass verification_mode="no_checks".'
    )
    if strict:
        raise ArchiveError(path, problem, advice=advice)
    logger.warning(f"{path} {problem} {cause}, or it was repacked.")


def sha256_of(path: str, progress: Callable[[int], object]) -> str:
    """Hash a whole archive; `progress` is told of the bytes."""
    digest, size = hashlib.sha256(), size_of(path)
    archive = open_archive(path).in_order(Tar(0, size), Region(0, size), alone=True)
    for offset in range(0, size, 1 << 20):
        data = archive.read(offset, min(1 << 20, size - offset))
        digest.update(data)
        progress(len(data))
    return digest.hexdigest()


def check_sha256(split: str, path: str) -> None:
    """Hash a whole archive, with a progress bar, and hold it to the official SHA-256."""
    expected = SOURCES[split].sha256
    bar = datasets.utils.tqdm(
        total=size_of(path), unit="B", unit_scale=True, desc=f"SHA-256 {split}"
    )
    with bar:
        found = sha256_of(path, bar.update)
    if found != expected:
        raise NonMatchingChecksumError(
            f"{without_secrets(path)}: its SHA-256 is {found}, that of the original {expected}. "
            f"The archive is damaged or was repacked: fetch it again from {DOWNLOAD_PAGE}."
        )


def warn_of_missing(archives: Iterable[str]) -> None:
    """Warn of a training or validation archive that is missing beside the other."""
    for split in ("train", "validation"):
        if split not in archives:
            logger.warning(f"There is no {SOURCES[split].file_names[0]}, so no {split} split.")


def check_space(folder: str, needed: int) -> None:
    """Raise `OSError` if the disk of a folder has less free than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        available = size_str(free) if free else "0 bytes"
        raise OSError(
            errno.ENOSPC,
            f"the dataset needs about {size_str(needed)}, and {available} are free in {folder}. "
            "Pass cache_dir= (or set HF_DATASETS_CACHE) to a larger disk, or use the "
            '"in_place" configuration, which needs next to nothing',
        )
