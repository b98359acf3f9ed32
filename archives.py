"""Which archives there are, whether they are what they should be, and what to say if not."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import fsspec
from datasets.exceptions import ManualDownloadError, NonMatchingChecksumError
from datasets.utils.py_utils import size_str

from .contents import NO_TAR, kind_of
from .ilsvrc2012 import DOWNLOAD_PAGE, IMAGE_NAME, SOURCES, ArchiveError, without_secrets
from .options import meant
from .storage import (
    MAX_ENTRIES,
    Region,
    Tar,
    is_dir,
    is_url,
    logger,
    open_archive,
    status_of,
    storage_of,
)
from .tree_listing import trees_in

FOLDER_VARIABLE = "IMAGENET2012_DIR"

INSTRUCTIONS = f"""\
ILSVRC2012 must be fetched by hand: log in at {DOWNLOAD_PAGE}, get
  ILSVRC2012_img_train.tar  (147,897,477,120 bytes, "Training images (Task 1 & 2)")
  ILSVRC2012_img_val.tar      (6,744,924,160 bytes, "Validation images (all tasks)")
put them in one folder as they are (.tar files; if they were extracted, the folder in which train/
and val/ are will do), and pass that folder:
  imagenet2012.load("/path/to/folder")
or load_dataset("imagenet2012", data_dir="/path/to/folder"), or set {FOLDER_VARIABLE} to it.
One of the two is enough for its split. Files with other names:
  data_files={{"train": "/path/to/any_name.tar"}}"""
LARGER_CACHE = (
    "Pass cache_dir= (or set HF_DATASETS_CACHE) to a larger disk, or use the "
    '"in_place" configuration, which needs next to nothing.'
)


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


def size_of(path: str) -> int:
    """Return the bytes of a file, 0 if there is none."""
    status = status_of(path)
    return status.size if status and not status.is_dir else 0


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
    """Return the path of each split's archive in a folder, or of the tree that it was extracted to.

    Without a folder it is the folder that ``IMAGENET2012_DIR`` names, else the working directory.

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
    found = archives_in(folder)
    found |= trees_in(folder, found)
    if found:
        return {split: found[split] for split in SOURCES if split in found}
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
    archives: dict[str, str] = {}
    given = paths_by_split(data_files, folder)
    for key, path in ((split, path) for split, paths in given.items() for path in paths):
        if not status_of(path):
            looked = f"Looked for {without_secrets(path)}, {describe(path)}"
            raise ManualDownloadError(f"{looked}\n\n{INSTRUCTIONS}")
        split = key or kind_of(path)
        if not key and split not in SOURCES:
            split = "train"
        if split not in SOURCES:
            raise ValueError(
                f"data_files has a split {split!r}; there is none{meant(split, SOURCES)}"
            )
        if split in archives:
            raise ValueError(f"data_files has two archives for {split!r}, one is needed.")
        archives[split] = path
    return {split: archives[split] for split in SOURCES if split in archives}


def paths_by_split(data_files: Any, folder: str | None = None) -> dict[str, list[str]]:
    """Return `data_files`, in any of the forms that `datasets` takes, as lists by split."""
    by_split = data_files if isinstance(data_files, dict) else {"": data_files or []}
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

EXTRACTED = (
    "Extracted images are found as train/<wnid>/*.JPEG, and val/*.JPEG or val/<wnid>/*.JPEG, below "
    "the folder that is passed, or one by one by data_files={{'train': folder}}."
)
PARTIAL = ("part", "partial", "crdownload", "download", "aria2", "filepart", "tmp", "!ut")
# What a file's name says of it, where its content cannot.
FILE_NAMES = (
    (r"ILSVRC2012_img_train_t3.*", "is the archive of task 3 (120 breeds of dogs), not of task 1."),
    (
        rf".*\.({'|'.join(PARTIAL)})",
        "is still being downloaded, or was interrupted: let it finish.",
    ),
    (r"n\d{8}\.tar", "is a class tar: pass the folder that holds 1000 of them."),
    (IMAGE_NAME.pattern, "is an extracted image."),
)
# What a folder is in which something of such a name lies; `{}` is its path.
FOLDER_CONTENTS = (
    (r"imagenet2012\.py", "is a clone of this loader, not a folder of archives."),
    (r".*\.parquet", "holds Parquet files: datasets.load_dataset({!r}) loads those."),
    (
        r".*\.tfrecord.*",
        "holds TFRecord files, which TensorFlow Datasets made; it kept the archives.",
    ),
    (r"n\d{8}\.tar", "holds class tars: pass {}."),
    (
        rf"n\d{{8}}/|ILSVRC/|CLS-LOC/|ImageSets/|{IMAGE_NAME.pattern}",
        f"looks like extracted images. {EXTRACTED}",
    ),
)
# Where the archives may be below a folder; the last two are those of TensorFlow Datasets.
SUBFOLDERS = ("", "/manual", "/downloads/manual", "/tensorflow_datasets/downloads/manual")


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
    shown = ", ".join(_shown(folder, name) for name in names[:8])
    least = "at least " if len(names) >= MAX_ENTRIES else ""
    more = f" and {least}{len(names) - 8:,} more" if len(names) > 8 else ""
    hints = [*_archives_below(folder, names), *_contents_hint(folder, names, "This folder")]
    for name in names[:100]:
        hints += hints_of(folder, name)
    return "\n  ".join([f"found {shown}{more}.", *dict.fromkeys(hints[:5])])


def _shown(folder: str, name: str) -> str:
    path = f"{folder}/{name}"
    if name.endswith("/"):
        return name
    if status := status_of(path):
        return f"{name} ({status.size:,} bytes)"
    return f"{name} ({'which leads nowhere' if os.path.islink(path) else 'hidden from you'})"


def _archives_below(folder: str, names: list[str]) -> Iterator[str]:
    """Say in which folders below this one the archives are."""
    folders = [name.rstrip("/") for name in names if name[-1] == "/"][:100]
    candidates = [f"{name}{below}" for name in folders for below in SUBFOLDERS]
    places = {place: found for place in candidates if (found := archives_in(f"{folder}/{place}"))}
    every = {split: path for found in reversed(places.values()) for split, path in found.items()}
    for place, found in places.items():
        if len(found) == len(every):
            splits = ", ".join(found)
            yield f"The archives are in its subfolder {place}/ ({splits}): pass {folder}/{place}."
            return
    if every:
        every = {split: every[split] for split in SOURCES if split in every}
        yield f"The archives are in several of its subfolders: pass data_files={every!r}."


def _contents_hint(folder: str, names: list[str], called: str) -> Iterator[str]:
    """Say what a folder is, by the names of what is in it."""
    for pattern, meaning in FOLDER_CONTENTS:
        if any(re.fullmatch(pattern, name) for name in names):
            yield f"{called} {meaning.format(folder)}"
            return


def hints_of(folder: str, name: str) -> Iterator[str]:
    """Say what an entry of a folder has to do with ILSVRC2012, if it has."""
    path = f"{folder}/{name}".rstrip("/")
    if name[-1] == "/":
        with contextlib.suppress(OSError):
            yield from _contents_hint(path, storage_of(path).entries(path), name)
        return
    if not status_of(path):
        if os.path.islink(path):
            yield f"{name} is a link to {os.readlink(path)}, which does not exist."
        return
    for pattern, meaning in FILE_NAMES:
        if re.fullmatch(pattern, name):
            yield f"{name} {meaning}"
            return
    kind = kind_of(path)
    if kind in SOURCES:
        kind = (
            f"the {kind} archive under another name: call it {SOURCES[kind].file_names[0]}, "
            f"or pass data_files={{{kind!r}: {without_secrets(path)!r}}}"
        )
    if kind != NO_TAR or re.match(r"(ILSVRC2012|imagenet).*|.*\.tar", name, re.IGNORECASE):
        yield f"{name} seems to be {kind}."


# ------------------------------------------------------------------------- checking

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOTSUP)
NO_CACHE = (
    "the cache {} cannot be written to or locked, and `datasets` locks it even to read. "
    "Pass cache_dir= (or set HF_DATASETS_CACHE) to a folder of your own. If another user of your "
    "group prepared the cache, let them `chmod -R g+rwX` it, and prepare with `umask 002`; or let "
    "them save_to_disk() the dataset, which datasets.load_from_disk() reads without a lock"
)


def check_size(split: str, path: str, strict: bool) -> None:
    """Hold an archive to its official size; only warn where `strict` is false."""
    expected, found = SOURCES[split].size, size_of(path)
    if expected in (None, found) or is_dir(path):
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
    if is_dir(path):
        logger.warning(f"{path}: extracted images have no SHA-256 that could be checked.")
        return
    expected = SOURCES[split].sha256
    bar = datasets.utils.tqdm(
        total=size_of(path), unit="B", unit_scale=True, desc=f"SHA-256 {split}"
    )
    with bar:
        found = sha256_of(path, bar.update)
    if found != expected:
        raise NonMatchingChecksumError(
            f"{without_secrets(path)}: its SHA-256 is {found}, that of the original {expected}. "
            f"The archive is damaged or was repacked: fetch it again from {DOWNLOAD_PAGE}. If a "
            'copy was made of it, pass download_mode="force_redownload" then.'
        )


def warn_of_missing(archives: dict[str, str]) -> None:
    """Warn of a training or validation archive that is missing beside the other."""
    folder = next(iter(archives.values())).rpartition("/")[0]
    for split in ("train", "validation"):
        if split not in archives:
            name = SOURCES[split].file_names[0]
            others = [name, *(f"{name}.{ending}" for ending in (*PARTIAL, "gz", "zip"))]
            hints = [hint for other in others for hint in hints_of(folder, other)]
            logger.warning(" ".join([f"There is no {name}, so no {split} split.", *hints]))


def check_space(folder: str, needed: int, advice: str = LARGER_CACHE) -> None:
    """Raise `OSError` if the disk of a folder has less free than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        available = size_str(free) if free else "0 bytes"
        raise OSError(
            errno.ENOSPC,
            f"the dataset needs about {size_str(needed)}, and {available} are free in {folder}. "
            f"{advice}",
        )


@contextlib.contextmanager
def told_of_the_cache(folder: str | None) -> Iterator[None]:
    """Say what to do where the cache of `datasets` may not be written to, or not be locked."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        number = error.errno if isinstance(error, OSError) else errno.ENOLCK
        root = absolute(folder or datasets.config.HF_DATASETS_CACHE)
        path = str(getattr(error, "filename", None) or root)
        if number not in NOT_WRITABLE or not path.startswith((root, root.replace("/", "_"))):
            raise
        raise OSError(number, f"{NO_CACHE.format(root)}. What failed is", path) from error
