"""Images in files of their own, as they were extracted, and class tars that were.

A split lies in a tree: a folder of 1000 class folders, one of the images themselves (validation and
test), or one of class tars. To the builder a tree is what an archive is: it has parts, of each of
which a reader yields the members of a region, and a member has a name and a place.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from .ilsvrc2012 import CLASS_TAR
from .ilsvrc2012 import CLUTTER
from .ilsvrc2012 import IMAGE_NAME
from .ilsvrc2012 import NUM_CLASSES
from .ilsvrc2012 import SOURCES
from .ilsvrc2012 import ArchiveError
from .ilsvrc2012 import Labels
from .in_turns import begun_ahead
from .storage import HAS_FADVISE
from .storage import MAX_IMAGE_BYTES
from .storage import Archive
from .storage import Region
from .storage import Status
from .storage import Tar
from .storage import is_url
from .storage import logger
from .storage import open_archive
from .storage import status_of
from .tar_reader import TarReader
from .tar_reader import class_tars

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16  # a cluster's file system takes a millisecond to list a folder
MEAN_IMAGE_BYTES = 115_000  # nothing asks each file for its size
ANNOUNCED_FILES = 32  # that are under way while one is read
# Where the splits may lie below a folder; the last are Kaggle's, from any of the folders above.
BASES = ("", "/CLS-LOC", "/Data/CLS-LOC", "/ILSVRC/Data/CLS-LOC")
FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
WNID = re.compile(r"n\d{8}")

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
            if depth and WNID.fullmatch(entry.name) and entry.is_dir():
                folders.append(entry.path.replace(os.sep, "/"))
    return next(filter(None, (kind_of_tree(one, depth - 1) for one in sorted(folders))), "")


def status_of_split(path: str) -> Status | None:
    """Return the status of what is at a path or URL; that of a tree tells one from another.

    Its version is made of the times at which its class folders changed, or of the sizes and times
    of its class tars, as there are. So it changes when a file is added, taken away or renamed, but
    not when one is overwritten.
    """
    status = status_of(path)
    if status is None or not status.is_dir or is_url(path):
        return status
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        names = sorted(e.name for e in entries if WNID.fullmatch(e.name.removesuffix(".tar")))
        if names:
            states = _in_threads(status_of, [f"{path}/{name}" for name in names])
            told = [
                (n, s and s.version, s and not s.is_dir and s.size)
                for n, s in zip(names, states, strict=True)
            ]
            version = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
            return Status(0, version, True)
    return Status(0, status.version, True)


def _in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
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
        others = [entry for entry in found if not entry.is_file()]
        folders = sorted(entry.name for entry in others if entry.is_dir())
    except OSError as error:
        faults.add("folders that cannot be read", f"{folder}: {error.strerror}")
        return [], []
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


def _scan_classes(
    folder: str, wnids: Iterable[str], wanted: Callable[[str], re.Pattern[str]], faults: Faults
) -> Iterator[tuple[str, list[str]]]:
    """Yield wnid and names of class folders, which are scanned several at a time."""

    def scan_class(wnid: str) -> tuple[str, str, Faults]:
        found = Faults()
        names, inner = scan(f"{folder}/{wnid}", wanted(wnid), found)
        found.add("names that do not belong", *(f"{folder}/{wnid}/{name}" for name in inner))
        return wnid, "\n".join(names), found

    for wnid, joined, found in _in_threads(scan_class, wnids):
        for kind, places in found.items():
            faults.add(kind, *places)
        yield wnid, joined.split("\n") if joined else []


def _images_of(wnid: str) -> re.Pattern[str]:
    return re.compile(rf"{wnid}_\d+\.JPEG")


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
        parts[wnid] = Files(f"{path}/{wnid}", "\n".join(names), wnid, label_of[wnid])
    for wnid in (wnid for wnid in found if wnid in label_of):
        parts[wnid] = Tar(0, open_archive(f"{path}/{wnid}.tar").size, wnid, label_of[wnid])
    return tuple(parts[wnid] for wnid in sorted(parts))


def _list_numbered(split: str, path: str, labels: Labels, faults: Faults) -> Files:
    """List images by the number in their names, flat or in class folders, or some of each."""
    image = SOURCES[split].image
    names, folders = scan(path, image, faults)
    found: dict[str, str] = {}
    for wnid, inner in (("", names), *_scan_classes(path, folders, lambda _: image, faults)):
        for name in inner:
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
        found.add("images beside the original's", f"{total:,} instead of {source.num_examples:,}")
    return found


# ------------------------------------------------------------------------- reading


def read_file(path: str) -> bytes:
    """Return the bytes of an image's file."""
    with io.FileIO(path) as file:
        return file.readall()


def sizes_of(part: Files) -> dict[str, int]:
    """Return the bytes of each file, by path; -1 of one that is gone."""
    paths = [f"{part.folder}/{name}" for name in part.names.split("\n") if name]
    sizes = (status.size if status else -1 for status in _in_threads(status_of, paths))
    return dict(zip(paths, sizes, strict=True))


def announce_file(path: str) -> None:
    """Let the kernel fetch a file that will be read soon; what is wrong, the reading says."""
    if HAS_FADVISE:
        with contextlib.suppress(OSError), io.FileIO(path) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


class FileReader:
    """Reads images in files of their own, as a `TarReader` reads the members of a tar.

    Parameters
    ----------
    archive : Tree
    tar : Files
    """

    def __init__(self, archive: "Tree", tar: Files) -> None:
        self.archive, self.tar = archive, tar

    def members(self, region: Region | None = None) -> Iterator[File]:
        """Return the images of a region, or all, without a look at them."""
        names = self.tar.names.split("\n") if self.tar.names else []
        chosen = names[slice(*region)] if region else names
        files = (File(n.rpartition("/")[2], f"{self.tar.folder}/{n}") for n in chosen)
        return (
            begun_ahead(map(self._announced, files), self.archive.ahead)
            if self.archive.ahead
            else files
        )

    def _announced(self, file: File) -> File:
        announce_file(file.path)
        return file

    def check_end_mark(self) -> None:
        """Do nothing: a file of its own ends where it ends."""

    def read(self, member: File) -> bytes:
        """Return the bytes of an image, or raise `ArchiveError`."""
        try:
            data = read_file(member.path)
        except OSError as error:
            raise _unreadable(member.path, error) from error
        self._check_size(member, len(data))
        return data

    def read_into(self, member: File, target: memoryview) -> int:
        """Read an image to the beginning of `target`; return its size, or -1 if it is larger."""
        try:
            with io.FileIO(member.path) as file:
                size = os.fstat(file.fileno()).st_size
                self._check_size(member, size)
                if size > len(target) or file.readinto(target[:size]) != size or file.read(1):
                    return -1
        except OSError as error:
            raise _unreadable(member.path, error) from error
        return size

    def _check_size(self, member: File, size: int) -> None:
        if size > MAX_IMAGE_BYTES:
            raise ArchiveError(member.path, f"has {size:,} bytes, more than any image.", None, " ")
        if not size:
            problem = "is empty, as files are that an interrupted extraction or copy left."
            if self.archive.is_checked:
                raise ArchiveError(member.path, problem, advice=ADVICE)
            logger.warning(f"{member.path} {problem}")


def _unreadable(path: str, error: OSError) -> ArchiveError:
    problem = f"cannot be read: {error.strerror or error}."
    advice = "Check the disk or the mount. If the tree was changed or moved, load it again."
    return ArchiveError(path, problem, advice=advice)


ADVICE = (
    "Extract the archive again, or put it there instead; `imagenet2012 check` lists what is wrong. "
    'For a subset pass verification_mode="no_checks", which leaves out what is named here.'
)


class Tree:
    """A folder of extracted images or of class tars, as the builder uses an `Archive`.

    Parameters
    ----------
    path : str
    is_checked : bool
        Whether an image that is empty is an error, instead of a warning.
    ahead : int
        How many files are announced to the kernel before they are read; 0 if they are not read.
    """

    is_remote = False
    size, version = 0, ""

    def __init__(self, path: str, is_checked: bool = True, ahead: int = 0) -> None:
        self.path, self.is_checked, self.ahead = path, is_checked, ahead

    def parts(
        self, split: str, labels: Labels, checked: bool | None = None
    ) -> tuple[Files | Tar, ...]:
        """List the tree.

        Parameters
        ----------
        checked : bool, optional
            True holds it to the original's counts; None warns of what is missing; False of all.

        Raises
        ------
        ArchiveError
            Says all that is wrong, how many there are of each kind, and where the first are.
        """
        parts, faults, differences = list_tree(split, self.path, labels)
        errors = faults.sentences() if checked is not False else []
        errors += differences.sentences() if checked else []
        if errors or not parts:
            listed = "; ".join(errors) or "no class is left"
            raise ArchiveError(self.path, f"not a whole {split} split. {listed}.", advice=ADVICE)
        if warnings := faults.sentences() + differences.sentences():
            problem = f"not a whole {split} split. {'; '.join(warnings)}"
            left_out = ". What does not belong is left out." if faults else "."
            logger.warning(f"{self.path}: {problem}{left_out}")
        return parts

    def in_order(self, part: Files | Tar, region: Region, alone: bool) -> "Tree | Archive":
        """Return what reads a region of a part from first to last."""
        if alone and isinstance(part, Tar):
            return open_archive(f"{self.path}/{part.wnid}.tar").in_order(part, region, alone)
        return Tree(self.path, self.is_checked, ANNOUNCED_FILES if alone else 1)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function that reads to each item, in order."""
        return map(function, items)

    def advise(self, advice: str) -> None:
        """Do nothing: there is no file yet."""

    def check_unchanged(self) -> None:
        """Do nothing: a file that is gone is an error when it is read."""


class ClassTar(Archive):
    """A class tar in a file of its own, opened for each read.

    A thousand are read in turn, and a process may not have so many files open.
    """

    def __init__(self, path: str) -> None:
        self._fd = -1
        opened = open_archive(path)
        self.path, self.size, self.version = path, opened.size, opened.version

    def _file(self) -> Archive:
        opened = open_archive(self.path)
        if (opened.size, opened.version) != (self.size, self.version):
            problem = "changed while it was being read."
            raise ArchiveError(self.path, problem, advice="Load it again.")
        return opened

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon."""
        self._file().announce(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        return self._file().read(offset, size)

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`, or raise `ArchiveError`."""
        self._file().read_into(offset, target)

    def advise(self, advice: str) -> None:
        """Do nothing: it is opened anew."""

    check_unchanged = functools.partialmethod(_file)  # type: ignore[assignment]


def parts_of(
    opened: Archive | Tree, split: str, labels: Labels, checked: bool | None = None
) -> tuple[Part, ...]:
    """Return what can be read by itself of a split: classes, or a single part of all images.

    `checked` is for a tree, see `Tree.parts`: what is wrong with an archive is always an error.
    """
    if isinstance(opened, Tree):
        return opened.parts(split, labels, checked)
    if split != "train":
        return (Tar(0, opened.size),)
    tars = class_tars(opened, labels.wnids)
    if is_official(opened, split, tars) and len(tars) != NUM_CLASSES:
        raise ArchiveError(opened.path, f"holds {len(tars):,} class tars instead of 1000.")
    return tars


def is_official(opened: Archive | Tree, split: str, parts: Iterable[Part]) -> bool:
    """Tell whether an archive has the original's size, or a tree as many images, if it tells."""
    if isinstance(opened, Tree):
        counts = [part.images for part in parts if isinstance(part, Files)]
        return sum(counts) == SOURCES[split].num_examples
    return opened.size == SOURCES[split].size


def reader_of(opened: Archive | Tree, part: Part, pattern: re.Pattern[str]) -> Any:
    """Return what yields the members of a region of a part, and reads them."""
    if isinstance(part, Files):
        assert isinstance(opened, Tree)
        return FileReader(opened, part)
    if isinstance(opened, Tree):
        opened = ClassTar(f"{opened.path}/{part.wnid}.tar")
    return TarReader(opened, part, pattern)


def open_split(path: str, is_checked: bool = True) -> Any:
    """Open what a split lies in: the `Tree` at a folder, the `Archive` at a file or URL."""
    status = None if is_url(path) else status_of(path)
    return Tree(path, is_checked) if status and status.is_dir else open_archive(path)
