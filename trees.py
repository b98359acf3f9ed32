"""The same images in files of their own, as they were extracted, or in 1000 class tars.

A split lies in a tree: a folder of class folders, one of class tars, or (validation and test only)
one of the images themselves.
"""

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .ilsvrc2012 import CLASS_TAR, CLUTTER, NO_CHECKS, SOURCES, ArchiveError
from .regions import MEAN_IMAGE_BYTES, Part, Region, Status
from .storage import MAX_ENTRIES, Options, is_url, open_file, status_of

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16  # a cluster's file system takes a millisecond to list a folder
# Where the splits may lie below a folder; the last are Kaggle's, from any of the folders above.
BASES = ("", "/CLS-LOC", "/Data/CLS-LOC", "/ILSVRC/Data/CLS-LOC")
FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
WNID = re.compile(r"n\d{8}", re.ASCII)
TREE_ADVICE = (
    "Extract the archive again, or put it there instead; `imagenet2012 check` lists all. For a "
    f"subset {NO_CHECKS}: what does not belong is left out, and all else is loaded."
)

# ------------------------------------------------------------------------- finding


def trees_in(folder: str, archives: dict[str, str]) -> dict[str, str]:
    """Return the path of the tree of each split in a folder, or in Kaggle's below it.

    Where both training and validation archives are found, nothing else is looked for. What a
    folder holds is decided by the names in it, not by its own.
    """
    found: dict[str, str] = {}
    if is_url(folder) or {"train", "validation"} <= archives.keys():
        return found
    for base, split in itertools.product(BASES, SOURCES.keys() - archives.keys()):
        for place in (f"{folder}{base}/{name}" for name in FOLDERS[split]):
            if split not in found and kind_of_tree(place) == split:
                found[split] = place
    if not found and not archives and (kind := kind_of_tree(folder)):
        found[kind] = folder
    return found


def kind_of_tree(path: str, depth: int = 1) -> str:
    """Return the split of which a folder holds class tars, class folders or images, or nothing."""
    folders: list[str] = []
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in itertools.islice(entries, MAX_ENTRIES):
            if CLASS_TAR.fullmatch(entry.name):
                return "train"
            for split, source in SOURCES.items():
                # Training images lie in class folders only.
                if (split != "train" or not depth) and source.image.fullmatch(entry.name):
                    return split
            if depth and WNID.fullmatch(entry.name):
                folders.append(f"{path}/{entry.name}")
    return next(filter(None, (kind_of_tree(one, depth - 1) for one in sorted(folders))), "")


def status_of_split(path: str, options: Options = None) -> Status | None:
    """Return the status of what is at a path or URL; that of a tree tells one from another.

    Its version is a hash of what the system tells of the folder and of each class folder or class
    tar in it: also of the times that no program can set back, as a subset may have the times of the
    whole. It changes when a file is added, taken away or renamed, but not when one is overwritten.
    """
    status = status_of(path, options)
    if status is None or not status.is_dir or is_url(path):
        return status
    inner: list[str] = []
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        inner = sorted(e.name for e in entries if WNID.fullmatch(e.name.removesuffix(".tar")))
    states = in_threads(_state_of, [path, *(f"{path}/{name}" for name in inner)])
    told = repr(list(zip(["", *inner], states, strict=True)))
    return Status(0, hashlib.sha256(told.encode()).hexdigest()[:16], True)


def _state_of(path: str) -> tuple[int, ...]:
    with contextlib.suppress(OSError):  # a link to nowhere
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
    return ()


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function that waits for a file system to each item, several at a time."""
    with ThreadPoolExecutor(THREADS, "imagenet2012-list") as pool:
        return list(pool.map(function, items))


# ------------------------------------------------------------------------- listing


def list_tree(split: str, path: str, wnids: tuple[str, ...]) -> tuple[tuple[Part, ...], list[str]]:
    """List a split's tree: training by wnid and number, the others by the numbers in their names.

    Returns its parts, class by class or a single one of all images, and the paths of what is left
    out: what is no image, training images of another class, and images that appear twice.
    """
    left_out: list[str] = []
    if split == "train":
        return _list_classes(path, wnids, left_out), left_out
    return (_list_numbered(split, path, left_out),), left_out


def _folder(path: str, names: list[str], wnid: str = "", label: int = -1) -> Part:
    return Part(path, 0, len(names) * MEAN_IMAGE_BYTES, wnid, label, "\n".join(names))


def _list_classes(path: str, wnids: tuple[str, ...], left_out: list[str]) -> tuple[Part, ...]:
    tars, folders = _scan(path, CLASS_TAR, left_out)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    # Where both are there, the tar wins: it is whole, or proves that it is not.
    place_of = {name.removesuffix(".tar"): f"{path}/{name}" for name in [*folders, *tars]}
    left_out.extend(place_of[wnid] for wnid in place_of.keys() - label_of.keys())

    def part_of(wnid: str) -> Part:
        if place_of[wnid].endswith(".tar"):
            return Part(place_of[wnid], 0, open_file(place_of[wnid]).size, wnid, label_of[wnid])
        image = re.compile(rf"{wnid}_\d+\.JPEG", re.ASCII)
        names, _ = _scan(place_of[wnid], image, left_out, depth=0)
        return _folder(place_of[wnid], names, wnid, label_of[wnid])

    return tuple(in_threads(part_of, sorted(place_of.keys() & label_of.keys())))


def _list_numbered(split: str, path: str, left_out: list[str]) -> Part:
    """List images by their names, flat or in class folders, or some of each."""
    image, found = SOURCES[split].image, dict[str, str]()
    flat, folders = _scan(path, image, left_out)
    inner = in_threads(lambda wnid: _scan(f"{path}/{wnid}", image, left_out, depth=0)[0], folders)
    for wnid, names in zip(["", *folders], [flat, *inner], strict=True):
        for name in names:
            place = f"{wnid}/{name}".lstrip("/")
            is_numbered = 1 <= int(name[-13:-5]) <= SOURCES[split].num_examples
            if not is_numbered or found.setdefault(name, place) != place:
                left_out.append(f"{path}/{place}")
    return _folder(path, [found[name] for name in sorted(found)])


def _scan(
    folder: str, wanted: re.Pattern[str], left_out: list[str], depth: int = 1
) -> tuple[list[str], list[str]]:
    """Return the sorted names of files in a folder that are called as wanted, and of class folders.

    All else, but what operating systems leave, is left out, and so are folders at `depth` 0. Only
    links are asked for their status.
    """
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            # Shorter names come first, which puts numbers in order.
            found = sorted(entries, key=lambda entry: (len(entry.name), entry.name))
    except OSError as error:  # which says nothing of what is in it, so it is not left out
        problem = f"cannot be listed: {error.strerror}."
        raise ArchiveError(folder, problem, advice="Check the disk, and its rights.") from error
    for entry in found:
        name, is_file, is_folder = entry.name, False, False
        with contextlib.suppress(OSError):  # as of a link that goes round
            is_file, is_folder = entry.is_file(), entry.is_dir()
        if is_file and wanted.fullmatch(name):
            names.append(name)
        elif is_folder and depth and WNID.fullmatch(name):
            folders.append(name)
        elif not is_file or not CLUTTER.fullmatch(name):
            left_out.append(f"{folder}/{name}")
    return names, folders


# ------------------------------------------------------------------------- reading


def is_folder(part: Part) -> bool:
    """Tell whether the images of a part are files of their own."""
    return part.names is not None


def paths_in(part: Part, region: Region) -> list[str]:
    """Return the paths of the images in a region of a folder, without a look at them."""
    names = part.names.split("\n") if part.names else []
    chosen = slice(*(-(-place // MEAN_IMAGE_BYTES) for place in region))
    return [f"{part.path}/{name}" for name in names[chosen]]
