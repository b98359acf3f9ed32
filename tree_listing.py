"""Finding trees of extracted images and class tars, and listing what is in them."""

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from .ilsvrc2012 import CLASS_TAR, CLUTTER, IMAGE_NAME, SOURCES, ArchiveError, Labels
from .storage import Region, Status, Tar, is_url, open_archive, status_of

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16  # a cluster's file system takes a millisecond to list a folder
MEAN_IMAGE_BYTES = 115_000  # nothing asks each file for its size
ANNOUNCED_FILES = 32  # that are under way while one is read
# Where the splits may lie below a folder; the last are Kaggle's, from any of the folders above.
BASES = ("", "/CLS-LOC", "/Data/CLS-LOC", "/ILSVRC/Data/CLS-LOC")
FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
WNID = re.compile(r"n\d{8}", re.ASCII)

# ------------------------------------------------------------------------- finding


def trees_in(folder: str, archives: dict[str, str]) -> dict[str, str]:
    """Return the path of the tree of each split in a folder, or in Kaggle's below it.

    None is looked for where an archive is, nor any at all beside both of those that are needed.
    What a folder holds is decided by the names in it, not by its own.
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
        for entry in itertools.islice(entries, 10_000):
            if CLASS_TAR.fullmatch(entry.name):
                return "train"
            for split, source in SOURCES.items():
                # Training images lie in class folders only.
                if (split != "train" or not depth) and source.image.fullmatch(entry.name):
                    return split
            if depth and WNID.fullmatch(entry.name) and _leads_to(entry.is_dir):
                folders.append(entry.path.replace(os.sep, "/"))
    return next(filter(None, (kind_of_tree(one, depth - 1) for one in sorted(folders))), "")


def status_of_split(path: str) -> Status | None:
    """Return the status of what is at a path or URL; that of a tree tells one from another.

    Its version is a hash of inode, size and times of the folder, and of each class folder or class
    tar in it: also of the times that no program can set back, as a subset may have the times of the
    whole. It changes when a file is added, taken away or renamed, but not when one is overwritten.
    """
    status = status_of(path)
    if status is None or not status.is_dir or is_url(path):
        return status
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        names = sorted(e.name for e in entries if WNID.fullmatch(e.name.removesuffix(".tar")))
        states = in_threads(_state_of, [path, *(f"{path}/{name}" for name in names)])
        told = repr(list(zip(["", *names], states, strict=True)))
        return Status(0, hashlib.sha256(told.encode()).hexdigest()[:16], True)
    return Status(0, status.version, True)


def _state_of(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function that waits for a file system to each item, several at a time."""
    with ThreadPoolExecutor(THREADS, "imagenet2012-list") as pool:
        return list(pool.map(function, items))


# ------------------------------------------------------------------------- listing


class File(NamedTuple):
    """An image in a file of its own.

    Attributes
    ----------
    name : str
        Without folders.
    path : str
    start : None
        Where a member of a tar has an offset.
    """

    name: str
    path: str
    start: None = None


class Files(NamedTuple):
    """Images in a folder; those of a class folder have wnid and label.

    Attributes
    ----------
    folder : str
    names : str
        Their paths below the folder, joined by newlines, which takes a fourth of a list's memory.
    wnid : str
    label : int
    """

    folder: str
    names: str
    wnid: str = ""
    label: int = -1

    @property
    def images(self) -> int:
        """How many there are."""
        return self.names.count("\n") + 1 if self.names else 0

    @property
    def size(self) -> int:
        """Their bytes, as an estimate."""
        return self.images * MEAN_IMAGE_BYTES

    def region(self, number: int, count: int) -> Region:
        """Return one of `count` equal regions, which together are all: here numbers of files."""
        start, stop = (self.images * k // count for k in (number, number + 1))
        return Region(start, stop)

    def listed(self, region: Region | None = None) -> list[File]:
        """Return the files of a region, or all."""
        names = (self.cut(region) if region else self).names
        return [File(n.rpartition("/")[2], f"{self.folder}/{n}") for n in names.split("\n") if n]

    def cut(self, region: Region) -> "Files":
        """Return the images of a region alone."""
        names = self.names.split("\n")[slice(*region)]
        return Files(self.folder, "\n".join(names), self.wnid, self.label)


Part = Tar | Files  # what is read by itself of a split


class Faults(dict[str, list[str]]):
    """What is wrong with a tree: the places of each kind of fault."""

    def add(self, kind: str, *places: str) -> None:
        """Add places of a kind."""
        if places:
            self.setdefault(kind, []).extend(places)

    def sentences(self) -> list[str]:
        """Say of each kind how many there are, and where the first are."""
        shown = {kind: ", ".join(p[:3]) + ", …" * (len(p) > 3) for kind, p in self.items()}
        return [f"{kind}: {len(self[kind]):,} ({places})" for kind, places in shown.items()]


def scan(folder: str, wanted: re.Pattern[str], faults: Faults) -> tuple[list[str], list[str]]:
    """Return the sorted names of files in a folder that are called as wanted, and of class folders.

    Shorter names come first, which puts numbers in order. All else, but what operating systems
    leave, is a fault. No file is asked for its status but links.
    """
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        faults.add("folders that cannot be read", f"{folder}: {error.strerror}")
        return [], []
    others = [entry for entry in found if not _leads_to(entry.is_file)]
    folders = sorted(entry.name for entry in others if _leads_to(entry.is_dir))
    files = {entry.name for entry in found}.difference(entry.name for entry in others)
    names = sorted(filter(wanted.fullmatch, files))
    names.sort(key=len)
    broken = {entry.name for entry in others}.difference(folders)
    faults.add("links to nowhere, or no files", *sorted(f"{folder}/{name}" for name in broken))
    foreign = sorted(name for name in files.difference(names) if not CLUTTER.fullmatch(name))
    foreign += [name for name in folders if not WNID.fullmatch(name)]
    for name in foreign:
        is_image = IMAGE_NAME.fullmatch(name)
        kind = "images in a folder of others" if is_image else "names that do not belong"
        faults.add(kind, f"{folder}/{name}")
    return names, [name for name in folders if WNID.fullmatch(name)]


def _leads_to(is_so: Callable[[], bool]) -> bool:
    """Ask an entry of a folder; of a link that goes round or may not be followed it is not so."""
    try:
        return is_so()
    except OSError:
        return False


def _scan_classes(
    folder: str, wnids: Iterable[str], wanted: Callable[[str], re.Pattern[str]], faults: Faults
) -> Iterator[tuple[str, str]]:
    """Yield wnid and names, joined as in `Files`, of class folders, several scanned at a time."""

    def scan_class(wnid: str) -> tuple[str, str, Faults]:
        found = Faults()
        names, inner = scan(f"{folder}/{wnid}", wanted(wnid), found)
        found.add("names that do not belong", *(f"{folder}/{wnid}/{name}" for name in inner))
        return wnid, "\n".join(names), found

    for wnid, joined, found in in_threads(scan_class, wnids):
        for kind, places in found.items():
            faults.add(kind, *places)
        yield wnid, joined


def _images_of(wnid: str) -> re.Pattern[str]:
    return re.compile(rf"{wnid}_\d+\.JPEG", re.ASCII)


def list_tree(
    split: str, path: str, labels: Labels
) -> tuple[tuple[Files | Tar, ...], Faults, Faults]:
    """List a split's tree: training by wnid and number, the others by number.

    Returns
    -------
    parts : tuple
        Class by class, or a single one of all images.
    faults : Faults
        What is not in the parts, or contradicts itself.
    differences : Faults
        What is missing or too many, beside the original.
    """
    faults = Faults()
    if split == "train":
        parts: tuple[Files | Tar, ...] = _list_classes(path, labels.wnids, faults)
    else:
        parts = (_list_numbered(split, path, labels, faults),)
    return parts, faults, _differences(split, parts, labels)


def _list_classes(path: str, wnids: tuple[str, ...], faults: Faults) -> tuple[Files | Tar, ...]:
    tars, folders = scan(path, CLASS_TAR, faults)
    parts: dict[str, Files | Tar] = {}
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    found = [name.removesuffix(".tar") for name in tars]
    unknown = sorted({*found, *folders}.difference(label_of))
    faults.add("names that do not belong", *(f"{path}/{name}" for name in unknown))
    # Where both are there, the tar wins: it is whole, or proves that it is not.
    folders = [wnid for wnid in folders if wnid not in {*found, *unknown}]
    for wnid, names in _scan_classes(path, folders, _images_of, faults):
        parts[wnid] = Files(f"{path}/{wnid}", names, wnid, label_of[wnid])
    for wnid in (wnid for wnid in found if wnid in label_of):
        try:
            parts[wnid] = Tar(0, open_archive(f"{path}/{wnid}.tar").size, wnid, label_of[wnid])
        except ArchiveError:
            faults.add("class tars that cannot be read", f"{path}/{wnid}.tar")
    return tuple(parts[wnid] for wnid in sorted(parts))


def _list_numbered(split: str, path: str, labels: Labels, faults: Faults) -> Files:
    """List images by the number in their names, flat or in class folders, or some of each."""
    image = SOURCES[split].image
    names, folders = scan(path, image, faults)
    found: dict[str, str] = {}
    inner = _scan_classes(path, folders, lambda _: image, faults)
    for wnid, joined in (("", "\n".join(names)), *inner):
        for name in filter(None, joined.split("\n")):
            number, place = int(image.fullmatch(name)[1]), f"{wnid}/{name}".lstrip("/")  # type: ignore[index]
            if not 1 <= number <= SOURCES[split].num_examples:
                faults.add("names that do not belong", f"{path}/{place}")
            elif wnid and split == "validation" and wnid != labels.wnid_of(number):
                faults.add("images in a folder of others", f"{path}/{place}")
            elif name in found:
                faults.add("images that appear twice", f"{path}/{place}")
            else:
                found[name] = place
    return Files(path, "\n".join(found[name] for name in sorted(found)))


def _differences(split: str, parts: Iterable[Files | Tar], labels: Labels) -> Faults:
    """Return what is missing or too many, as far as the names tell; a class tar's are not read."""
    found = Faults()
    counts = {part.wnid: part.images for part in parts if isinstance(part, Files)}
    source = SOURCES[split]
    if split == "train":
        assert source.in_class
        fewest, most = source.in_class
        present = {part.wnid for part in parts}
        odd = [f"{w} has {n:,}" for w, n in counts.items() if not fewest <= n <= most]
        found.add("missing classes", *(w for w in labels.wnids if w not in present))
        found.add(f"classes that do not have {fewest} to {most:,} images", *odd)
    complete = split != "train" or len(counts) == len(labels.wnids)
    if not found and complete and (total := sum(counts.values())) != source.num_examples:
        found.add(
            "splits with another number of images than the original",
            f"{total:,} instead of {source.num_examples:,}",
        )
    return found
