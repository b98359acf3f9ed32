"""Which archives there are, whether they are what they should be, and what to say if not."""

import contextlib
import difflib
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import datasets
import fsspec
from datasets.exceptions import ManualDownloadError, NonMatchingChecksumError
from datasets.utils.py_utils import size_str

from .ilsvrc2012 import CLASS_TAR, CLUTTER, DOWNLOAD_PAGE, SOURCES, ArchiveError, without_secrets
from .remote import CHECK
from .storage import (
    FOLDER_VARIABLE,
    File,
    Options,
    Region,
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

# ------------------------------------------------------------------------- what is said

INSTRUCTIONS = f"""\
What can be read: the archives, fetched by hand from {DOWNLOAD_PAGE} after a log-in,
  ILSVRC2012_img_train.tar  (147,897,477,120 bytes, "Training images (Task 1 & 2)")
  ILSVRC2012_img_val.tar      (6,744,924,160 bytes, "Validation images (all tasks)")
or what was extracted from them: train/<wnid>/*.JPEG (or the class tars, train/<wnid>.tar), and
val/*.JPEG or val/<wnid>/*.JPEG. One of the two is enough for its split. Pass their folder,
  imagenet2012.load("/path/to/folder")
or set {FOLDER_VARIABLE} to it. Under other names, or in several folders:
  data_files={{"train": "/path/to/any_name.tar", "validation": "/path/to/any_folder"}}"""
NO_CHECKS = 'pass verification_mode="no_checks" (on the command line: --no-checks)'
NO_TAR = "no tar archive, or one without files, or whose beginning is damaged"
NO_IMAGES = "a folder without images or class tars of ILSVRC2012"
PARQUET = "Parquet: datasets.load_dataset(folder) loads it"
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\3\4", b"7z\xbc\xaf")
IMAGE = r"(n\d{8}_\d+|ILSVRC2012_(val|test)_\d{8})"
# What is none of the archives, and what to do with it: by a pattern of the name of a file or
# folder, of a name in the folder, or of the path of the first file in a tar; or by a file's first
# bytes. Of the rows that fit, the first is said.
KNOWN: tuple[tuple[str | tuple[bytes, ...], str], ...] = (
    (r"imagenet2012\.py", "a clone of this project, which holds no archives"),
    (r".*\.(part(ial)?|(cr)?download|aria2|filepart|tmp|!ut)", "a partial download: let it finish"),
    (r"ILSVRC2012_img_train_t3.*", "the archive of task 3 (120 breeds of dogs), not of task 1"),
    (r"(.*/)?ILSVRC2012_devkit.*", "the development kit, which is not needed"),
    (
        r"ILSVRC/.*|CLS-LOC/|ImageSets/|imagenet.object.localization.*",
        "Kaggle's images: extract all of them and pass the folder",
    ),
    (r"ILSVRC2012_bbox.*|(.*/)?(.*\.xml|n\d{8}\.tar\.gz)", "bounding boxes, which are not needed"),
    (
        rf"(train|val|test)_images(_\d)?\.tar\.gz|(.*/)?{IMAGE}_n\d{{8}}\.JPEG",
        "a part of the Hub's imagenet-1k from before it had Parquet, which cannot be read",
    ),
    (r".*\.parquet", PARQUET),
    (r".*\.tfrecord.*", "TFRecord of TensorFlow Datasets, which kept the archives it was made of"),
    (
        rf"(.*/)?{IMAGE}\.(?!JPEG)(?i:jpe?g)",
        "images with the suffix .jpg, .jpeg or .JPG, which the originals do not have: rename them "
        "to .JPEG (extracted, if they are in a tar) and pass the folder",
    ),
    (r".*/n\d{8}_\d+\.JPEG", "a tar of extracted images: extract it and pass the folder"),
    (
        r"n\d{8}_\d+\.JPEG|n\d{8}\.tar",
        "images of a class: pass the folder that holds the class folders or class tars of all",
    ),
    (COMPRESSED, "compressed: unpack it, but not the .tar that may be in it, and pass the folder"),
    ((b"PAR1",), PARQUET),
    ((b"<",), "a web page, as a download without a log-in leaves"),
    ((b"\0",), "an empty file, or one of which the beginning has not arrived yet"),
)
FIRST_FILE = {"train": CLASS_TAR} | {s: SOURCES[s].image for s in ("validation", "test")}
# Where the archives may be below a folder; the last two are those of TensorFlow Datasets.
SUBFOLDERS = ("", "/manual", "/downloads/manual", "/tensorflow_datasets/downloads/manual")
MOST = 100  # entries that are looked at in a folder


def _known(names: list[str], beginning: bytes = b"") -> str:
    """Return what something with one of these names or this beginning is, or nothing."""
    for sign, meaning in KNOWN:
        if isinstance(sign, tuple):
            if beginning.startswith(sign):
                return meaning
        elif any(re.fullmatch(sign, name) for name in names):
            return meaning
    return ""


def kind_of(path: str, options: Options = None) -> str:
    """Return the split whose archive or tree this is, by its content, or what it is instead."""
    status = status_of(path, options)
    if status is None:
        return "a link that leads nowhere, or hidden from you"
    if status.is_dir:
        return kind_of_tree(path) or _known(_names_below(path, options)) or NO_IMAGES
    beginning = b""
    with contextlib.suppress(ArchiveError):
        file = open_file(path, options)
        beginning = file.read(0, min(16, file.size)) or b"\0"
        if first := _first_file(file):
            name = first.rpartition("/")[2]
            split = next((s for s, pattern in FIRST_FILE.items() if pattern.fullmatch(name)), "")
            return split or _known([first]) or f"a tar of other files (the first is {first!r})"
    return _known([], beginning) or NO_TAR


def _first_file(file: File) -> str:
    """Return the path of the first file in a tar that is not an operating system's."""
    offset = 0
    while member := member_at(file, offset, sys.maxsize):  # a class tar may reach beyond a cut
        if member.kind in REGULAR and not CLUTTER.fullmatch(member.name):
            folder = file.read(member.header, 100).decode(errors="replace").rpartition("/")[0]
            return f"{folder}/{member.name}".lstrip("./")
        offset = member.next
    return ""


def _names_below(folder: str, options: Options, levels: int = 4) -> list[str]:
    """Return the names in a folder, in the first folder in it, and so on."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(entries(folder, options))[:MOST]
    first = next((name for name in names if name.endswith("/")), "") if levels else ""
    return names + (_names_below(f"{folder}/{first[:-1]}", options, levels - 1) if first else [])


def describe(folder: str, options: Options = None) -> str:
    """Say in words what a folder holds instead of the archives."""
    status, known = status_of(folder, options), folder
    if status is None and not is_url(folder):
        while known and not status_of(known):
            known = known.rpartition("/")[0]
        return (
            f"which does not exist, or is hidden from you (the path is right up to {known or '/'})."
            "\nPass the folder of the archives or of what was extracted from them."
        )
    if status and not status.is_dir:
        return "which is a file: pass the folder that it is in, or data_files={split: path}."
    try:
        names = sorted(entries(folder, options))
    except FileNotFoundError:
        return "which does not exist."
    except OSError as error:
        advice = f" {CHECK}" if is_url(folder) else ""
        return f"which cannot be listed: {error.strerror or error}.{advice}"
    found = (
        f"found {', '.join(names[:8])}{', …' * (len(names) > 8)}." if names else "which is empty."
    )
    return "\n  ".join([found, *_hints(folder, names, options)[:6]])


def _hints(folder: str, names: list[str], options: Options) -> list[str]:
    """Say what entries of a folder have to do with ILSVRC2012; of each kind, of the first."""
    kinds: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for name in names[:MOST]:
        path = f"{folder}/{name}".rstrip("/")
        places = [path + below for below in SUBFOLDERS if name.endswith("/")]
        found = next(filter(None, (_splits_in(place, options) for place in places)), {})
        kind = "" if found else _known([name]) or kind_of(path, options)
        elsewhere = ({kind: path} if kind in SOURCES else found) | elsewhere
        if kind not in (*SOURCES, "", NO_IMAGES) and (kind != NO_TAR or name.endswith(".tar")):
            kinds.setdefault(kind, name)
    hints = [
        f"{without_secrets(path)} is the {split} split, but is not called {_called(split)}."
        for split, path in elsewhere.items()
    ]
    if elsewhere:
        files = {split: without_secrets(path) for split, path in elsewhere.items()}
        hints.append(f"Pass data_files={files!r}.")
    return hints + [f"{name}: {kind}." for kind, name in kinds.items()]


def _called(split: str) -> str:
    """Return what is looked for: an archive or a folder."""
    return f"{SOURCES[split].file_names[0]} or {'val' if split == 'validation' else split}/"


# ------------------------------------------------------------------------- finding


def size_of(path: str, options: Options = None) -> int:
    """Return the bytes of a file, 0 if there is none."""
    status = status_of(path, options)
    return status.size if status and not status.is_dir else 0


def archives_in(folder: str, options: Options = None) -> dict[str, str]:
    """Return the path of the archive of each split that lies directly in a folder."""
    found: dict[str, str] = {}
    for split, source in SOURCES.items():
        for path in (f"{folder}/{name}" for name in source.file_names):
            status = status_of(path, options)
            if status and not status.is_dir:
                found.setdefault(split, path)
    return found


def _splits_in(folder: str, options: Options) -> dict[str, str]:
    found = archives_in(folder, options)
    found |= trees_in(folder, found)
    return {split: found[split] for split in SOURCES if split in found}


def find_archives(data_dir: str | None, options: Options = None) -> dict[str, str]:
    """Return the path of each split's archive in a folder, or of the tree that it was extracted to.

    Without a folder it is the folder that ``IMAGENET2012_DIR`` names, else the working directory.

    Raises
    ------
    ManualDownloadError
        If there is none. Says where it looked, what is there instead and what to do.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = data_dir or absolute(named or ".")
    if found := _splits_in(folder, options):
        return found
    given = f"No data_dir was given, {FOLDER_VARIABLE} is {'' if named else 'not '}set. "
    raise _nothing_at(folder, f"{'' if data_dir else given}Looked in", options)


def _nothing_at(path: str, looked: str, options: Options) -> ManualDownloadError:
    text = f"No archive of ILSVRC2012. {looked} {without_secrets(path)}, {describe(path, options)}"
    return ManualDownloadError(f"{text}\n\n{INSTRUCTIONS}" if status_of(path, options) else text)


def given_archives(
    data_files: Any, folder: str | None = None, options: Options = None
) -> dict[str, str]:
    """Return the path of each split's archive or tree, as they were given.

    Where no split is given, each file is what it holds. Relative paths start from `folder`.

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
        if not status_of(path, options):
            raise _nothing_at(path, "Looked for", options)
        split = key or kind_of(path, options)
        if split not in SOURCES:
            if key:
                raise ValueError(f"data_files has a split {split!r}{meant(split, SOURCES)}")
            split = "train"  # check_kind will say what it is instead
        if split in archives:
            raise ValueError(f"data_files has two archives for {split!r}, one is needed.")
        archives[split] = path
    return {split: archives[split] for split in SOURCES if split in archives}


def paths_by_split(data_files: Any, folder: str | None = None) -> dict[str, list[str]]:
    """Return `data_files`, in any of the forms that `datasets` takes, as lists by split."""
    by_split = data_files if isinstance(data_files, dict) else {"": data_files or []}
    found: dict[str, list[str]] = {}
    for split, given in by_split.items():
        for one in [given] if isinstance(given, str | os.PathLike) else given:
            path = absolute(one, folder)
            matches = (
                [] if is_url(path) or status_of(path) else fsspec.filesystem("file").glob(path)
            )
            found.setdefault(str(split), []).extend(sorted(matches) or [path])
    return found


def warn_of_missing(archives: dict[str, str], checks: bool = True, options: Options = None) -> None:
    """Warn of training or validation images that were not found beside the others.

    Without checks, only if something is there that may have been meant.
    """
    folder = next(iter(archives.values())).rpartition("/")[0]
    for split in {"train", "validation"} - archives.keys():
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = [name for name in entries(folder, options) if split[:3] in name.lower()]
        hints = _hints(folder, sorted(names), options)
        if hints or checks:
            text = f"No {split} split: there is no {_called(split)} in {folder}."
            logger.warning(" ".join([text, *hints]))


# ------------------------------------------------------------------------- checking

PIECE_BYTES = 1 << 20  # that are hashed at a time
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOTSUP)
LARGER_CACHE = 'Pass cache_dir= (or set HF_DATASETS_CACHE) to a larger disk, or take "in_place".'


def check_kind(split: str, path: str, options: Options = None) -> None:
    """Raise `ArchiveError` unless a file or folder is what it is given as, by its first member."""
    if not is_url(path) and status_of(f"{path}.aria2"):
        advice = "Let it finish, or remove the .aria2 file if the archive is whole."
        raise ArchiveError(path, "is still being downloaded: .aria2 is beside it.", advice=advice)
    if not is_dir(path, options):
        file = open_file(path, options)  # what is wrong with disk or server is no fault of the tar
        file.read(max(file.size - 1, 0), min(file.size, 1))
    kind = kind_of(path, options)
    if kind != split:
        what = f"the {kind} archive" if kind in SOURCES else kind
        problem = f"given as the {split} archive, but it is {what}."
        raise ArchiveError(path, problem, advice=INSTRUCTIONS)


def check_size(split: str, path: str, strict: bool, options: Options = None) -> None:
    """Hold an archive to its official size; only warn where `strict` is false."""
    expected, found = SOURCES[split].size, size_of(path, options)
    if expected in (None, found) or is_dir(path, options):
        return
    cause = "It was cut off while downloading or copying" if found < expected else "It is another"
    problem = f"has {found:,} bytes, the original {split} archive has {expected:,}."
    if not strict:
        return logger.warning(f"{path} {problem} {cause}, or it was repacked.")
    advice = f"Fetch it from {DOWNLOAD_PAGE}; or, for a subset that you trust, {NO_CHECKS}."
    raise ArchiveError(path, problem, advice=f"{cause}, or it was repacked. {advice}")


def sha256_of(path: str, progress: Callable[[int], object], options: Options = None) -> str:
    """Hash a whole archive; `progress` is told of the bytes."""
    digest, file = hashlib.sha256(), open_file(path, options)
    in_order = file.in_order(Region(0, file.size), alone=True)
    for offset in range(0, file.size, PIECE_BYTES):
        size = min(PIECE_BYTES, file.size - offset)
        in_order.announce(offset, size)
        digest.update(in_order.read(offset, size))
        progress(size)
    return digest.hexdigest()


def check_sha256(split: str, path: str, options: Options = None) -> None:
    """Hash a whole archive, with a progress bar, and hold it to the official SHA-256."""
    if is_dir(path, options):
        return logger.warning(f"{path}: extracted images have no SHA-256 that could be checked.")
    size, expected = size_of(path, options), SOURCES[split].sha256
    with datasets.utils.tqdm(total=size, unit="B", unit_scale=True, desc=f"SHA-256 {split}") as bar:
        found = sha256_of(path, bar.update, options)
    if found != expected:
        raise NonMatchingChecksumError(
            f"{without_secrets(path)}: its SHA-256 is {found}, that of the original {expected}. It "
            f"is damaged or was repacked: fetch it again from {DOWNLOAD_PAGE}. If a copy was made "
            'of it, pass download_mode="force_redownload" then.'
        )


def check_space(folder: str, needed: int, advice: str = LARGER_CACHE) -> None:
    """Raise `OSError` if the disk of a folder has less free than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        problem = f"the dataset needs about {size_str(needed)}, and {size_str(free)} are free in "
        raise OSError(errno.ENOSPC, f"{problem}{folder}. {advice}")


@contextlib.contextmanager
def cache_errors(folder: str | None) -> Iterator[None]:
    """Say what to do where the cache of `datasets` may not be written to, or not be locked."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second where nothing can be locked
        root = absolute(folder or datasets.config.HF_DATASETS_CACHE)
        path = str(getattr(error, "filename", None) or root)
        number = getattr(error, "errno", errno.ENOLCK)
        if number not in NOT_WRITABLE or not path.startswith(root):
            raise
        problem = (
            f"the cache {root} cannot be written to or locked, and `datasets` locks it even to "
            "read. Pass cache_dir= (or set HF_DATASETS_CACHE) to a folder of your own. Who prepared "
            "it for a group runs `chmod -R g+rwX` on it and prepares with `umask 002`, or gives "
            "them what save_to_disk() wrote, which is read without a lock. What failed is"
        )
        raise OSError(number, problem, path) from error


# ------------------------------------------------------------------------- options

VALUES = {
    "name": ("default", "in_place"),
    "label_names": ("words", "wnid"),
    "order": ("archive", "mixed"),
    "verification_mode": ("basic_checks", "all_checks", "no_checks"),
}


def meant(word: str, words: Iterable[str]) -> str:
    """Say which of these words a misspelt one may have meant."""
    words = list(words)
    close = [w for w in words if w.startswith(word)] or difflib.get_close_matches(word, words, 1)
    return f": did you mean {close[0]!r}?" if close else f", only {', '.join(words)}."


def check_options(options: dict[str, Any], known: Iterable[str]) -> None:
    """Raise `ValueError` for an option that is not known, or a value that it does not have."""
    for option, given in options.items():
        value = getattr(given, "value", given)
        if option in ("transform", "transforms"):
            raise ValueError(
                f"no option {option!r}: see dataset.with_transform() or, streaming, map()."
            )
        if option not in known:
            raise ValueError(f"no option {option!r}{meant(option, known)}")
        if option == "name" and value in SOURCES:
            raise ValueError(f"{value!r} is a split, not a configuration: pass split={value!r}.")
        if option in VALUES and value is not None and value not in VALUES[option]:
            raise ValueError(f"no {option} {value!r}{meant(str(value), VALUES[option])}")
