"""ILSVRC2012 (ImageNet-1k) as a Hugging Face dataset, read straight from the original archives.

    import datasets, imagenet2012

    ds = datasets.load_dataset("imagenet2012", data_dir="~/imagenet")              # Arrow copy
    ds = datasets.load_dataset("imagenet2012", "in_place", data_dir="~/imagenet")  # no copy
    ds = imagenet2012.load("~/imagenet", split="validation", streaming=True)       # no preparation

The folder holds ``ILSVRC2012_img_train.tar`` and/or ``ILSVRC2012_img_val.tar`` (and, if wanted, the
test archive), fetched by hand from https://image-net.org/download-images. Nothing is extracted.

The file reads from top to bottom: what the dataset is, how an archive is read, where the archives
are and whether they are sound, how an image is read in place, the builder, and ``load``.

``datasets`` replaces ``open``, ``os.path.join``, ``os.path.exists``, ``pathlib.Path`` and others in
this module with functions that take URLs, for which ``::`` in a path is special. So paths here are
strings with ``/``, and only ``os.stat``, ``os.scandir``, ``os.open`` and their like touch the disk.
"""

import dataclasses
import errno
import functools
import glob
import hashlib
import importlib
import io
import itertools
import json
import operator
import os
import random
import re
import shutil
import signal
import stat
import tarfile
import threading
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import NamedTuple
from typing import TypeVar
from urllib.parse import quote
from urllib.parse import unquote

import datasets
import fsspec
import PIL.Image
import pyarrow as pa
from datasets import packaged_modules
from datasets.data_files import DataFilesDict
from datasets.data_files import DataFilesList
from datasets.exceptions import DatasetGenerationError
from datasets.exceptions import ManualDownloadError
from datasets.exceptions import NonMatchingChecksumError
from datasets.exceptions import NonMatchingSplitsSizesError
from datasets.utils.py_utils import size_str

__all__ = ["WNIDS", "ArchiveError", "Imagenet2012", "Imagenet2012Config", "load"]

logger = datasets.logging.get_logger(__name__)

# ------------------------------------------------------------------------- what the dataset is

VERSION = "5.0.0"

DESCRIPTION = """\
ILSVRC 2012, commonly known as ImageNet-1k, is an image dataset organised according to the WordNet \
hierarchy: 1000 synsets, each with 732 to 1300 training images and 50 validation images, \
quality-controlled and annotated by hand. 1,281,167 images for training, 50,000 for validation and \
100,000 for testing, the last without public labels."""

CITATION = """\
@article{ILSVRC15,
  author  = {Olga Russakovsky and Jia Deng and Hao Su and Jonathan Krause and Sanjeev Satheesh and
             Sean Ma and Zhiheng Huang and Andrej Karpathy and Aditya Khosla and Michael Bernstein
             and Alexander C. Berg and Li Fei-Fei},
  title   = {{ImageNet Large Scale Visual Recognition Challenge}},
  journal = {International Journal of Computer Vision (IJCV)},
  year    = {2015},
  volume  = {115},
  number  = {3},
  pages   = {211--252},
  doi     = {10.1007/s11263-015-0816-y}
}"""

HOMEPAGE = "https://image-net.org/"
DOWNLOAD_PAGE = "https://image-net.org/download-images"
LICENSE = f"ImageNet terms of access: non-commercial research and education. See {DOWNLOAD_PAGE}"


@dataclasses.dataclass(frozen=True)
class Source:
    """An original archive and the split that is made of it.

    Sizes and SHA-256 are those that TensorFlow Datasets 4.9.10 and torchvision record, the counts
    those of the development kit's readme. Of the test archive neither size nor SHA-256 is known.
    """

    file_names: tuple[str, ...]
    image: re.Pattern[str]
    num_examples: int
    size: int | None = None
    sha256: str | None = None


SOURCES: dict[str, Source] = {
    "train": Source(
        ("ILSVRC2012_img_train.tar",),
        re.compile(r"(n\d{8})_\d+\.JPEG"),
        1_281_167,
        147_897_477_120,
        "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    ),
    "validation": Source(
        ("ILSVRC2012_img_val.tar",),
        re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG"),
        50_000,
        6_744_924_160,
        "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    ),
    "test": Source(
        ("ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test.tar"),
        re.compile(r"ILSVRC2012_test_(\d{8})\.JPEG"),
        100_000,
    ),
}
NUM_CLASSES = 1000
CLASS_TAR = re.compile(r"(n\d{8})\.tar")
IMAGE_NAME = re.compile(r"(?:n\d{8}_\d+|ILSVRC2012_(?:val|test)_\d{8})\.JPEG")
# What operating systems add to folders that people pack again; never an image.
CLUTTER = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini")

# Flat archives, and every class archive in mixed order, are read as this many stretches.
NUM_STRETCHES = 128


class Labels(NamedTuple):
    """The label tables.

    Attributes
    ----------
    wnids : tuple of str
        The 1000 WordNet identifiers in label order, which is their sorted order.
    words : tuple of str
        The 1000 names in the same order, unique, as in the Hub's ``imagenet-1k``.
    validation : tuple of int
        Label of validation image ``i + 1``, 50,000 of them.
    """

    wnids: tuple[str, ...]
    words: tuple[str, ...]
    validation: tuple[int, ...]


@functools.cache
def _labels(base_path: str | None = None) -> Labels:
    """Read the tables beside this file or, where it runs as a script, in `base_path`."""
    wnids, words = zip(
        *(line.split("\t") for line in _table("classes.tsv", base_path)), strict=True
    )
    index = {wnid: label for label, wnid in enumerate(wnids)}
    return Labels(wnids, words, tuple(index[w] for w in _table("validation.txt", base_path)))


def _table(name: str, base_path: str | None) -> list[str]:
    path = os.path.abspath(__file__).replace(os.sep, "/").rpartition("/")[0] + f"/labels/{name}"
    if base_path and not _stat(path):
        path = f"{base_path}/labels/{name}"
    with fsspec.open(path, "rb") if "://" in path else io.FileIO(path) as file:
        return file.read().decode().splitlines()


class ArchiveError(ValueError):
    """An archive is not what it should be: says which, where in it, and what to do."""


def _error(path: str, problem: str, offset: int | None = None, advice: str = "") -> ArchiveError:
    place = "" if offset is None else f", at byte {offset:,}"
    advice = advice or (
        "The archive is damaged, incomplete or not an original one. Compare it with the SHA-256 of "
        f"the original (verification_mode='all_checks') and fetch it again from {DOWNLOAD_PAGE}."
    )
    return ArchiveError(f"{path}{place}: {problem}\n{advice}")


# ------------------------------------------------------------------------- a file read by offset


class Status(NamedTuple):
    """What tells a file from another: bytes, time of change or ETag, whether it is a folder."""

    size: int
    version: int | str
    is_dir: bool
    inode: int = 0


def _stat(path: str) -> Status | None:
    """Return the status of a path or URL, or None where nothing is to be seen."""
    if _is_url(path):
        return _remote(path).status(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    is_dir = stat.S_ISDIR(status.st_mode)
    return Status(status.st_size, status.st_mtime_ns, is_dir, status.st_ino)


T = TypeVar("T")
R = TypeVar("R")
HAS_PREAD, HAS_PREADV = hasattr(os, "pread"), hasattr(os, "preadv")  # Windows has neither
KEPT_MEMORY = 1 << 24


class Archive:
    """A file that is read by offset, safely from several threads and after a fork.

    Attributes
    ----------
    path : str
    size : int
        Bytes, when it was opened.
    version : int or str
        Nanoseconds of the last change, when it was opened.
    is_remote : bool
        Whether a read is a request, of which several should be under way.
    """

    is_remote = False

    def __init__(self, path: str) -> None:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        self._fd = -1
        self._fd = os.open(path, flags)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise _error(path, "not a regular file.", advice="Pass the path of an archive.")
        self.path = path
        self.size = status.st_size
        self.version: int | str = status.st_mtime_ns
        self._lock = threading.Lock()
        # glibc keeps twice the greatest block that was freed; else it would return the memory of
        # every batch to the system and fetch it again. These pages are never touched.
        bytes(KEPT_MEMORY)

    def __del__(self, close: Any = os.close) -> None:  # `os` is gone when the process ends
        if self._fd >= 0:
            close(self._fd)

    @property
    def official(self) -> bool:
        """Whether it has the size of an original, whose oddities are warned of, never refused."""
        return self.size in {source.size for source in SOURCES.values()}

    def advise(self, advice: str) -> None:
        """Tell the kernel how the file will be read: ``RANDOM``, ``SEQUENTIAL`` or ``NORMAL``."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, getattr(os, f"POSIX_FADV_{advice}"))

    def _read_once(self, offset: int, size: int) -> bytes:
        if HAS_PREAD:
            return os.pread(self._fd, size, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        try:
            data = self._read_once(offset, size)
            while len(data) < size:
                more = self._read_once(offset + len(data), size - len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            _opened.cache_clear()  # the file may come back under a new handle
            problem = f"cannot be read: {error.strerror}."
            raise _error(self.path, problem, offset, "Check the disk or the mount.") from error
        if len(data) < size:
            raise _error(self.path, f"ends where {size - len(data):,} more bytes belong.", offset)
        return data

    def read_into(self, offset: int, room: memoryview) -> None:
        """Fill `room` with the bytes at `offset`, or raise `ArchiveError`."""
        try:
            count = os.preadv(self._fd, [room], offset) if HAS_PREADV else 0
        except OSError:
            count = 0
        if count < len(room):
            room[:] = self.read(offset, len(room))  # knows what to do, or what to say

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it."""
        # Two reads, as cutting the bytes out of one would copy them, which costs more. The
        # header comes second: it is nearly always in a page that the data have brought in.
        data = self.read(offset + BLOCK, size)
        return self.read(offset, BLOCK), data

    def ahead(self, tar: "Tar", start: int, stop: int, alone: bool) -> "Archive":
        """Return an archive for reading a stretch of a tar in order; the kernel reads ahead."""
        return self

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function that reads to each item, in order."""
        return map(function, items)

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the file was written to since it was opened."""
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.version):
            raise _error(self.path, "changed while it was being read.", advice="Load it again.")


def _open(path: str) -> Archive:
    """Open `path`, once in a process for as long as the file stays the same."""
    if _is_url(path):
        return _remote(path).opened(path, os.getpid())
    try:
        status = os.stat(path)
        return _opened(path, os.getpid(), status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        advice = (
            "Check that its disk is mounted, and its rights. If it was moved, load it again from "
        )
        advice += "its new folder: what stays in the archives is found by their paths."
        raise _error(path, f"cannot be opened: {error.strerror}.", advice=advice) from error


# Keyed by process, as a fork shares the position that lseek sets. An evicted archive is closed by
# its last reader, never under a thread that still reads from it.
@functools.lru_cache(maxsize=8)
def _opened(path: str, pid: int, inode: int, size: int, mtime: int) -> Archive:
    return Archive(path)


# What lies behind a URL is read by `imagenet2012_tools.remote`, which only its users have to load.
URL = re.compile(r"[A-Za-z][\w.+:-]*://")


def _is_url(path: str) -> bool:
    return "://" in path and URL.match(path) is not None


def _remote(url: str) -> Any:
    """Return the module that reads what is behind URLs."""
    if __name__.startswith("datasets_modules."):
        advice = "Install the package imagenet2012 and use imagenet2012.load, or copy the archive."
        raise _error(url, "the script alone reads no URLs.", advice=advice)
    return importlib.import_module("imagenet2012_tools.remote")


def _keep_options(options: dict[str, Any] | None, paths: Iterable[str | None]) -> None:
    """Keep what the file systems of these URLs need, for as long as the process lives."""
    for path in paths:
        if options and path and _is_url(path):
            _remote(path).keep_options(path, options)


# ------------------------------------------------------------------------- a tar read by regions

BLOCK = 512
END_BLOCK = bytes(BLOCK)
CHUNK = 1 << 16
MAX_IMAGE_BYTES = 1 << 29  # keeps a forged size from filling the memory; the largest is 16 MB
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EXTENSIONS = (b"L", b"K", b"x", b"g", b"X")  # long names (GNU) and records (PAX) for what follows
# How `tarfile` reads fields; not documented, but the same since Python 2.
_any_number, _sums = tarfile.nti, tarfile.calc_chksums  # type: ignore[attr-defined]
KINDS = frozenset(kind[0] for kind in (*REGULAR, *EXTENSIONS, tarfile.DIRTYPE))


class Member(NamedTuple):
    """A file in a tar: name without folders, type flag, bytes of data, and two offsets.

    `start` is that of its first header, `header` that of the one which directly precedes the data.
    They differ where headers for a long name or PAX records come first.
    """

    name: str
    kind: bytes
    size: int
    start: int
    header: int

    @property
    def data(self) -> int:
        """Offset of the data."""
        return self.header + BLOCK

    @property
    def next(self) -> int:
        """Offset of the header that follows. A folder has no data, as for `tarfile`."""
        size = 0 if self.kind == tarfile.DIRTYPE else self.size
        return self.header + BLOCK + -(-size // BLOCK) * BLOCK


class Tar(NamedTuple):
    """A tar that fills the bytes `start` to `end` of an archive; a class tar has wnid and label."""

    start: int
    end: int
    wnid: str = ""
    label: int = -1

    def stretch(self, number: int, stretches: int) -> tuple[int, int]:
        """Return where one of its equal stretches begins and ends."""
        blocks = (self.end - self.start) // BLOCK
        start, stop = (self.start + blocks * k // stretches * BLOCK for k in (number, number + 1))
        return start, stop


def _number(field: bytes) -> int:
    """Read a number as `tarfile` does, the usual octal ones four times as fast."""
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return _any_number(field)


def _header(block: bytes, offset: int = 0) -> Member | None:
    """Read a header as `tarfile` does, or return None if its checksum is wrong."""
    try:
        recorded = _number(field := block[148:156])  # counts itself as blanks, 256 together
        # Adler-32 holds the sum of up to 256 bytes exactly, and is ten times as fast as sum().
        total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF)
        unsigned = total - (zlib.adler32(field) & 0xFFFF) - 1 + 256
        if recorded != unsigned and recorded not in _sums(block):  # or signed bytes
            return None
        size = _number(block[124:136])
    except tarfile.HeaderError:
        return None
    name = block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    kind = block[156:157]
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    return Member(name.rpartition("/")[2], kind, size, offset, offset)


def _member_at(archive: Archive, offset: int, end: int) -> Member | None:
    """Read the member that begins at `offset`; None where the tar ends, marked or not."""
    if offset + BLOCK > end:
        return None
    block = archive.read(offset, BLOCK)
    if block == END_BLOCK:
        return None
    member = _header(block, offset)
    if member is None:
        raise _error(archive.path, "a member's header belongs here, and there is none.", offset)
    if member.kind in EXTENSIONS:
        member = _extended_member(archive, offset, end)
    if member.size < 0 or member.data + member.size > end:
        problem = f"{member.name!r} claims {member.size:,} bytes, but {end - member.data:,} follow."
        raise _error(archive.path, problem, offset)
    return member


def _extended_member(archive: Archive, offset: int, end: int) -> Member:
    """Let `tarfile` read a member that begins with extension headers."""
    problem = ""
    for window in (1 << 13, 1 << 20):
        buffer = io.BytesIO(archive.read(offset, min(window, end - offset)))
        try:
            with tarfile.open(fileobj=buffer, mode="r:") as tar:
                info, common = tar.next(), tar.pax_headers
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            problem = f"extension headers that cannot be read ({error})."
            continue
        if info is None or info.issparse() or {"path", "size"} & common.keys():
            problem = "a sparse member or global PAX records of name or size: not supported."
            break
        header = offset + info.offset_data - BLOCK
        return Member(info.name.rpartition("/")[2], info.type, info.size, offset, header)
    raise _error(archive.path, problem, offset)


def _is_wanted(archive: Archive, member: Member, pattern: re.Pattern[str]) -> bool:
    """Tell what `pattern` names from folders and clutter; raise `ArchiveError` for all else."""
    if member.kind == tarfile.DIRTYPE:
        return False
    if member.kind not in REGULAR:
        problem = f"{member.name!r} is a link or a special file (type {member.kind!r})."
        raise _error(archive.path, problem, member.start)
    if pattern.fullmatch(member.name):
        return True
    if CLUTTER.fullmatch(member.name):
        return False
    problem = f"{member.name!r} does not belong here, only names like {pattern.pattern}."
    raise _error(archive.path, problem, member.start)


def _members(
    archive: Archive, tar: Tar, pattern: re.Pattern[str], stretch: int = 0, stretches: int = 1
) -> Iterator[Member]:
    """Yield what `pattern` names in one of the equal stretches of a tar.

    A member belongs to the stretch in which its first header lies. As a stretch begins in the
    middle of an image, its first header is searched for. Whatever the bytes of the images are, the
    stretches together yield each member once, or one of them raises: each follows the headers
    to its end, and where they lead must be what the search finds for the next.

    Raises
    ------
    ArchiveError
        If a header is damaged, a member does not fit, a name does not belong, the tar was cut off
        (also between two members), data follow its end, or the stretches do not meet.
    """
    start, stop = tar.stretch(stretch, stretches)
    offset = tar.start if stretch == 0 else _first_header(archive, tar, start, stop)
    if offset is None:
        return
    last = stretch == stretches - 1
    while last or offset < stop:
        member = _member_at(archive, offset, tar.end)
        if member is None:
            return _check_end(archive, tar, offset)
        if _is_wanted(archive, member, pattern):
            yield member
        offset = member.next
    _check_meeting(archive, tar, pattern, stop, offset)


def _first_header(archive: Archive, tar: Tar, start: int, stop: int) -> int | None:
    """Find the first member that begins in the bytes `start` to `stop` of a tar, if any does."""
    for offset in range(start, stop, CHUNK):
        chunk = archive.read(offset, min(CHUNK, stop - offset))
        for index, kind in enumerate(chunk[156::BLOCK]):
            if kind in KINDS:
                header = _header(chunk[index * BLOCK : (index + 1) * BLOCK])
                if header and _begins_member(archive, tar, offset + index * BLOCK, header):
                    return offset + index * BLOCK
    return None


def _begins_member(archive: Archive, tar: Tar, offset: int, header: Member) -> bool:
    known = IMAGE_NAME.fullmatch(header.name) or CLUTTER.fullmatch(header.name)
    if header.kind in REGULAR and not known:
        return False
    # A header that follows an extension header is part of the member that begins there.
    start = max(tar.start, offset - 5 * BLOCK)
    before = archive.read(start, offset - start)
    for place in range(0, len(before) - BLOCK, BLOCK):
        earlier = _header(before[place : place + BLOCK])
        blocks = (len(before) - place) // BLOCK - 1
        if earlier and earlier.kind in EXTENSIONS and -(-earlier.size // BLOCK) == blocks:
            return False
    return True


def _check_end(archive: Archive, tar: Tar, offset: int) -> None:
    """Check that a tar holds nothing but zero bytes from `offset` on, and enough of them."""
    sound = tar.end - offset >= 2 * BLOCK and (tar.end - tar.start) % BLOCK == 0
    for place in range(offset, tar.end, CHUNK):
        chunk = archive.read(place, min(CHUNK, tar.end - place))
        sound = sound and chunk.count(0) == len(chunk)
    if not sound:
        problem = "the tar should end here with 1,024 zero bytes or more. It was cut off, or more "
        problem += "data follow its end."
        if not archive.official:
            raise _error(archive.path, problem, offset)
        logger.warning(f"{archive.path}, at byte {offset:,}: {problem}")


def _check_meeting(
    archive: Archive, tar: Tar, pattern: re.Pattern[str], stop: int, offset: int
) -> None:
    """Check that the stretch that begins at `stop` will begin with the member at `offset`."""
    member = _member_at(archive, offset, tar.end)
    if member is None:
        _check_end(archive, tar, offset)
    else:
        _is_wanted(archive, member, pattern)
    found = _first_header(archive, tar, stop, min(offset + BLOCK, tar.end))
    if found != (offset if member else None):
        problem = (
            f"the headers lead here, but a search from byte {stop:,} on finds "
            f"{'none' if found is None else f'one at byte {found:,}'}: an image's bytes look like "
            "a tar. Read it in one process, in archive order."
        )
        raise _error(archive.path, problem, offset)


def _read_image(archive: Archive, member: Member) -> bytes:
    if member.size > MAX_IMAGE_BYTES:
        problem = f"{member.name!r} has {member.size:,} bytes, more than any image of ILSVRC2012."
        raise _error(archive.path, problem, member.start)
    return archive.read(member.data, member.size)


def _class_tars(archive: Archive, wnids: tuple[str, ...]) -> tuple[Tar, ...]:
    """Read the training archive's own headers: one for each class tar in it."""
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    tars: dict[str, Tar] = {}
    for member in _members(archive, Tar(0, archive.size), CLASS_TAR):
        wnid = member.name.removesuffix(".tar")
        if wnid not in labels or wnid in tars:
            problem = "stands twice in it" if wnid in tars else "is not one of the 1000 classes"
            raise _error(archive.path, f"{member.name!r} {problem}.", member.start)
        tars[wnid] = Tar(member.data, member.data + member.size, wnid, labels[wnid])
    return tuple(tars.values())


# ------------------------------------------------------------------------- finding the archives

INSTRUCTIONS = f"""\
ILSVRC2012 must be fetched by hand: log in at {DOWNLOAD_PAGE}, get
  ILSVRC2012_img_train.tar  (147,897,477,120 bytes, "Training images (Task 1 & 2)")
  ILSVRC2012_img_val.tar      (6,744,924,160 bytes, "Validation images (all tasks)")
put them in one folder as they are (.tar files, not extracted), and pass that folder:
  imagenet2012.load("/path/to/folder")
or load_dataset("imagenet2012", data_dir="/path/to/folder"). One of the two is enough for its split.
Files with other names: data_files={{"train": "/path/to/any_name.tar"}}."""

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


def _absolute(path: str | os.PathLike[str], folder: str | None = None) -> str:
    text = os.fspath(path)
    if text.startswith(("file://", "local://")):
        text = str(fsspec.get_filesystem_class("file")._strip_protocol(text))
    if _is_url(text):
        return text.rstrip("/")
    text = os.path.expanduser(text).replace(os.sep, "/")
    if folder and not os.path.isabs(text):
        text = f"{folder}/{text}"
    return text if _is_url(text) else os.path.abspath(text).replace(os.sep, "/")


def _is_dir(path: str) -> bool:
    status = _stat(path)
    return status is not None and status.is_dir


def _size(path: str) -> int:
    status = _stat(path)
    return status.size if status else 0


def _known(paths: Iterable[str]) -> dict[str, str]:
    """Return, for each split, the first of the paths that is a file with the archive's name."""
    known: dict[str, str] = {}
    for path in paths:
        for split, source in SOURCES.items():
            if split not in known and path.rpartition("/")[2] in source.file_names:
                status = _stat(path)
                if status and not status.is_dir:
                    known[split] = path
    return known


def _in_folder(folder: str) -> dict[str, str]:
    return _known(f"{folder}/{name}" for s in SOURCES.values() for name in s.file_names)


def _find_archives(data_dir: str | None, data_files: dict[str, list[str]] | None) -> dict[str, str]:
    """Return the path of each split's archive.

    `data_files` are what the user gave, or all that ``datasets`` found below a folder. So the
    archives' own file names decide; else one file for each split, if no scan would have found it.

    Raises
    ------
    ManualDownloadError
        If there is none. Says where it looked, what is there instead and what to do.
    """
    listed = [path for paths in (data_files or {}).values() for path in paths]
    archives = _known(listed)
    others = {
        s: _absolute(*p) for s, p in (data_files or {}).items() if s in SOURCES and len(p) == 1
    }
    others = {s: p for s, p in others.items() if s not in archives and p not in archives.values()}
    if data_dir is not None:
        below = data_dir if _is_url(data_dir) else os.path.realpath(data_dir).replace(os.sep, "/")
        # A scan of the folder finds none of these, so they were given.
        given = {s: p for s, p in (archives | others).items() if not p.startswith(f"{below}/")}
        inside = _in_folder(data_dir)
        if inside and not archives:  # nor would it leave out those inside
            given |= {s: p for s, p in others.items() if _guess(p) == s}
        asked = archives or given or SOURCES
        archives = {s: p for s, p in inside.items() if s in asked} | given
    elif archives:
        archives |= {s: p for s, p in others.items() if _guess(p) == s}
    elif others.keys() == (data_files or {}).keys():
        archives = others
    if archives and all(map(_stat, archives.values())):
        return {split: archives[split] for split in SOURCES if split in archives}
    if archives:
        data_dir = next(path for path in archives.values() if not _stat(path))
    where = f"Looked in {data_dir}," if data_dir else f"No data_dir was given; in {os.getcwd()},"
    found = _describe(data_dir or os.getcwd())
    raise ManualDownloadError(f"No archive of ILSVRC2012. {where} {found}\n\n{INSTRUCTIONS}")


def _given(data_files: Any, folder: str | None) -> dict[str, str]:
    """Return the path of each split's archive, as they were given to `load`.

    Raises
    ------
    ManualDownloadError
        If one is not there.
    ArchiveError
        If one is not of its split. Where no split is given, each is what it holds.
    """
    by_split = data_files if isinstance(data_files, dict) else {"": data_files}
    archives: dict[str, str] = {}
    for key, path in ((k, p) for k, paths in _listed(by_split, folder).items() for p in paths):
        if not _stat(path):
            raise ManualDownloadError(f"Looked for {path}, {_describe(path)}\n\n{INSTRUCTIONS}")
        guess = _guess(path)
        split = key or (guess if guess in SOURCES else "train")
        if split not in SOURCES or split in archives:
            problem = f"two archives for {split!r}" if split in archives else f"a split {split!r}"
            raise ValueError(f"data_files has {problem}: one for each of {', '.join(SOURCES)}.")
        _check_kind(split, path)
        archives[split] = path
    return {split: archives[split] for split in SOURCES if split in archives}


def _listed(data_files: Any, folder: str | None = None) -> dict[str, list[str]]:
    """Return `data_files`, in any of the forms that `datasets` takes, as lists by split."""
    by_split = data_files if isinstance(data_files, dict) else {"train": data_files or []}
    return {
        str(split): [
            path
            for one in ([paths] if isinstance(paths, str | os.PathLike) else paths)
            for path in _matches(_absolute(one, folder))
        ]
        for split, paths in by_split.items()
    }


def _matches(path: str) -> list[str]:
    """Return the path itself, or what it matches as a pattern."""
    if _is_url(path) or _stat(path) or not glob.has_magic(path):
        return [path]
    return sorted(fsspec.filesystem("file").glob(path)) or [path]


def _describe(folder: str) -> str:
    """Say in words what a folder holds instead of the archives."""
    if not _stat(folder):
        parent = folder
        while parent and not _is_url(folder) and not _stat(parent):
            parent = parent.rpartition("/")[0]
        known = "" if _is_url(folder) else f" (the path is right up to {parent or '/'})"
        return f"which is not there, or hidden from you{known}."
    if not _is_dir(folder):
        return f"which is a file: pass the folder that it is in, {folder.rpartition('/')[0]}."
    try:
        names = sorted(_entries(folder))
    except OSError as error:
        return f"which cannot be listed: {error.strerror or error}."
    if not names:
        return "which is empty."
    hints = [hint for name in names for hint in _hints(folder, name)]
    shown = [n if n[-1] == "/" else f"{n} ({_size(f'{folder}/{n}'):,} bytes)" for n in names[:8]]
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return "\n  ".join([f"found {', '.join(shown)}{more}.", *hints[:5]])


def _entries(folder: str) -> list[str]:
    """Return the names in a folder, of folders with a slash."""
    if _is_url(folder):
        return _remote(folder).entries(folder)
    with os.scandir(folder) as entries:  # of extracted images there may be a million
        return [e.name + "/" * e.is_dir() for e in itertools.islice(entries, 10_000)]


def _hints(folder: str, name: str) -> Iterator[str]:
    """Say what an entry of a folder has to do with ILSVRC2012, if it has."""
    path = f"{folder}/{name}".rstrip("/")
    if name[-1] == "/" and (inside := _in_folder(path)):
        yield f"The archives are in its subfolder {name} ({', '.join(inside)}): pass {path}."
        return
    for pattern, meaning in HINTS:
        if re.fullmatch(pattern, name):
            yield f"{name} {meaning}"
            return
    if name.endswith(".tar") or re.match("ILSVRC2012|imagenet", name, re.IGNORECASE):
        guess = _guess(path)
        if guess in SOURCES:
            guess = (
                f"the {guess} archive under another name: call it {SOURCES[guess].file_names[0]}, "
                f"or pass data_files={{{guess!r}: {path!r}}}"
            )
        yield f"{name} seems to be {guess}."


def _guess(path: str) -> str:
    """Return the split whose archive a file seems to be, or a few words on what it is."""
    try:
        archive = _open(path)
        block = archive.read(0, min(BLOCK, archive.size))
        for magic, words in MAGIC:
            if block.startswith(magic):
                return words
        if not block.strip(b"\0"):
            return "an empty file, or one of which the beginning has not arrived yet"
        offset = 0
        while member := _member_at(archive, offset, max(archive.size, 1 << 62)):
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


# ------------------------------------------------------------------------- checking the archives


def _check_kind(split: str, path: str) -> None:
    """Check that a file is what its name says, by its first member."""
    if not _is_url(path) and _stat(path + ".aria2"):
        advice = "Let it finish, or remove the .aria2 file if the archive is whole."
        raise _error(path, f"is still being downloaded: {path}.aria2 is there.", advice=advice)
    if _is_url(path):
        _remote(path).opened.cache_clear()  # it may have been replaced since it was opened
    _open(path)  # raises what may be wrong with the file itself
    guess = _guess(path)
    if guess != split:
        what = f"the {guess} archive" if guess in SOURCES else guess
        names = " or ".join(SOURCES[split].file_names)
        advice = (
            f"Needed is {names} as it was fetched from {DOWNLOAD_PAGE}: a .tar, not extracted. "
        )
        advice += f"Pass its folder as data_dir, or its path as data_files={{{split!r}: path}}."
        raise _error(path, f"given as the {split} archive, but it is {what}.", advice=advice)


def _check_size(split: str, path: str, strict: bool) -> None:
    """Hold an archive to its official size; only warn where `strict` is false."""
    expected, found = SOURCES[split].size, _size(path)
    if expected in (None, found):
        return
    problem = f"has {found:,} bytes, the original {split} archive has {expected:,}."
    cause = "It was cut off while downloading or copying" if found < expected else "It is another"
    advice = (
        f"{cause}, or somebody packed it again. Fetch it from {DOWNLOAD_PAGE}; or, for a subset or "
        'a re-packed archive that you trust, pass verification_mode="no_checks".'
    )
    if strict:
        raise _error(path, problem, advice=advice)
    logger.warning(f"{path} {problem} {cause}, or somebody packed it again.")


def _sha256(path: str, progress: Callable[[int], object]) -> str:
    """Hash a whole archive; `progress` is told of the bytes."""
    digest, size = hashlib.sha256(), _size(path)
    archive = _open(path).ahead(Tar(0, size), 0, size, alone=True)
    for offset in range(0, size, 1 << 20):
        data = archive.read(offset, min(1 << 20, size - offset))
        digest.update(data)
        progress(len(data))
    return digest.hexdigest()


def _check_sha256(split: str, path: str) -> None:
    """Hash a whole archive, with a progress bar, and hold it to the official SHA-256."""
    expected = SOURCES[split].sha256
    if expected is None:
        return logger.warning(f"{path}: no official SHA-256 is known for it, so none is checked.")
    bar = datasets.utils.tqdm(total=_size(path), unit="B", unit_scale=True, desc=f"SHA-256 {split}")
    with bar:
        found = _sha256(path, bar.update)
    if found != expected:
        raise NonMatchingChecksumError(
            f"{path}: its SHA-256 is {found}, that of the original {expected}. The "
            f"archive is damaged or was packed again: fetch it again from {DOWNLOAD_PAGE}."
        )


def _warn_of_missing(archives: dict[str, str]) -> None:
    for split in ("train", "validation"):
        if split not in archives:
            logger.warning(f"There is no {SOURCES[split].file_names[0]}, so no {split} split.")


def _check_space(folder: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        room = size_str(free) if free else "0 bytes"
        raise OSError(
            errno.ENOSPC,
            f"the dataset needs about {size_str(needed)}, and {room} are free in {folder}. Pass "
            "cache_dir= (or set HF_DATASETS_CACHE) to a larger disk, or use the "
            '"in_place" configuration, which needs next to nothing',
        )


# ------------------------------------------------------------------------- images


@dataclasses.dataclass(eq=False, repr=False)
class NamedImage(datasets.Image):
    """`datasets.Image`, but an error says which image could not be decoded.

    It is stored as `datasets.Image`, so a dataset that is read back elsewhere has that instead.
    """

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> PIL.Image.Image:
        """Decode as `datasets.Image` does."""
        path = value["path"] if isinstance(value, dict) else None
        if path and path.startswith("imagenet2012://") and value["bytes"] is None:
            # `datasets` would look at the URL in many ways before it opens it, a tenth of the time.
            value = {"path": path, "bytes": Imagenet2012FileSystem.read_image(path)}
        try:
            return super().decode_example(value, token_per_repo_id=token_per_repo_id)
        except Exception as error:
            if path:
                error.args = (f"{path}: {error}",)
            raise

    def __eq__(self, other: object) -> bool:
        """Be equal to the `datasets.Image` that it is stored as."""
        if not isinstance(other, datasets.Image):
            return NotImplemented
        return (self.mode, self.decode) == (other.mode, other.decode)

    def __repr__(self) -> str:
        """Look like the `datasets.Image` that it is stored as."""
        return f"Image(mode={self.mode!r}, decode={self.decode!r})"


class StoredImage(dict[str, Any]):
    """The value of an image column as it will be stored: nothing is left to encode."""


class StoredFeatures(datasets.Features):
    """Features that take this module's own examples as they are.

    To encode one takes `datasets` longer than to read it, and it would drop the bytes of an image
    whose path is a file in the working directory.
    """

    def encode_example(self, example: dict[str, Any]) -> dict[str, Any]:
        """Encode as `datasets.Features` does."""
        own = type(example.get("image")) is StoredImage
        image, label = self.get("image"), self.get("label")
        if own and isinstance(image, datasets.Image) and isinstance(label, datasets.ClassLabel):
            return example
        return super().encode_example(example)

    def __reduce__(self) -> Any:
        """Stay of this class when copied."""
        return StoredFeatures, (dict(self),)


_quoted = functools.lru_cache(maxsize=8)(functools.partial(quote, safe=""))
_unquoted = functools.lru_cache(maxsize=8)(unquote)


class MemberFile(io.BytesIO):
    """The bytes of an image; unlike its parent it takes attributes, which `datasets` sets."""


class Imagenet2012FileSystem(fsspec.AbstractFileSystem):
    """Read-only `fsspec` file system of the images in the archives.

    A URL is ``imagenet2012://<path of the archive>/<offset>-<size>/<file name>`` with the absolute
    path quoted. At the offset a tar header stands, and the image's bytes follow it. They are
    refused unless the header names the same file and size. So all that such a URL can
    read is what a tar presents as an image of ILSVRC2012.
    """

    protocol = "imagenet2012"
    root_marker = "/"
    _URL = re.compile(rf"([^/]+)/(\d+)-(\d+)/({IMAGE_NAME.pattern})")

    @staticmethod
    def url(path: str, member: Member) -> str:
        """Return the URL of a member of the archive at the absolute `path`."""
        return f"imagenet2012://{_quoted(path)}/{member.header}-{member.size}/{member.name}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return os.fspath(path).removeprefix("imagenet2012://")

    @classmethod
    def _parse(cls, path: str) -> tuple[str, int, int, str]:
        if not (match := cls._URL.fullmatch(path.removeprefix("imagenet2012://"))):
            raise FileNotFoundError(
                errno.ENOENT, "not the URL of an image in an ILSVRC2012 archive", path
            )
        path, header, size, name = match.groups()
        path = _unquoted(path)
        if _is_url(path) and not _remote(path).may_read(path):
            problem = "is not read because a dataset says so. Load it from there yourself first."
            raise _error(path, problem, advice="A URL in a dataset could lead anywhere.")
        return path, int(header), int(size), name

    @classmethod
    def read_image(cls, path: str) -> bytes:
        """Return an image's bytes.

        Parameters
        ----------
        path : str
            Its URL.

        Raises
        ------
        ArchiveError
            If the archive cannot be read, or is not the one that the URL was made from.
        """
        archive_path, offset, size, name = cls._parse(path)
        archive = _open(archive_path)
        if fits := size <= MAX_IMAGE_BYTES and offset + BLOCK + size <= archive.size:
            block, data = archive.read_member(offset, size)
            header = _header(block)
            named = header is not None and (header.name, header.size) == (name, size)
            fits = named and header.kind in REGULAR  # type: ignore[union-attr]
        if not fits:
            advice = (
                "The archive was replaced, cut or damaged since the dataset was made: load it "
                "again from its folder to index the archive that is there now."
            )
            raise _error(archive_path, f"{name} ({size:,} bytes) is not here.", offset, advice)
        return data

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return an image's bytes, or some of them; see `read_image`."""
        data = self.read_image(path)
        return data[start:end] if start or end is not None else data

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Open an image; what else the parent's method prepares costs as much as the reading."""
        return self._open(path) if mode == "rb" else super().open(path, mode, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> MemberFile:
        if mode != "rb":
            raise ValueError(f"the archives are only ever read, not opened with mode {mode!r}")
        return MemberFile(self.read_image(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size and type of an image, from its URL alone."""
        path = self._strip_protocol(path)
        return {"name": path, "size": self._parse(path)[2], "type": "file"}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the file itself: there are no folders to list."""
        return [self.info(path)] if detail else [self.info(path)["name"]]


# ------------------------------------------------------------------------- the builder


class Shard(NamedTuple):
    """What is read in one go: the same stretch of each of the tars `first` to `last`."""

    first: int
    last: int
    stretch: int
    stretches: int


Image = tuple[str, Any]  # path and bytes, as the image column stores them
Row = tuple[Member, Image, int]  # with the label
Stored = Callable[[Archive, str, Member], Image]


@dataclasses.dataclass
class Imagenet2012Config(datasets.BuilderConfig):
    """What can be chosen.

    Attributes
    ----------
    name : {"default", "in_place"}
        Whether the images' bytes are copied into Arrow files, or stay in the archives and are
        read from there.
    label_names : {"words", "wnid"}
        Names of the classes: the Hub's ``imagenet-1k``'s ("tench"), or WordNet identifiers
        ("n01440764") as in TensorFlow Datasets. The labels are the same.
    order : {"archive", "mixed"}
        As in the archives, where a class follows another, or so that any 1000 training images in
        a row are of about 1000 classes.
    """

    label_names: str = "words"
    order: str = "archive"
    copy: str = ""  # the config id of a copy whose archives are gone; for `load`

    def archives(self) -> dict[str, str]:
        """Return the path of each split's archive; see `_find_archives`."""
        return _find_archives(self.data_dir, self.data_files)

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Name the cache by what the archives are, so that they may move but not change."""
        if self.copy:
            return self.copy
        chosen = {"label_names": self.label_names, "order": self.order}
        try:
            archives = self.archives()
        except ManualDownloadError:
            return super().create_config_id(config_kwargs, custom_features)
        for split, path in archives.items():
            status = _stat(path) or Status(0, 0, False)
            chosen[split] = f"{path.rpartition('/')[2]} {status.size} {status.version}"
            if self.name == "in_place":
                chosen[split] += f" in {path}"
        return super().create_config_id(chosen, custom_features)


class Imagenet2012(datasets.GeneratorBasedBuilder):
    """ILSVRC2012 from its original archives.

    Examples have ``file_name`` (str), ``image`` (`PIL.Image.Image`, mode RGB) and ``label``
    (int, 0 to 999, the index of the wnid in sorted order; -1 in the test split).

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder of the archives; ``~`` and relative paths are understood.
    data_files : dict, optional
        Path of the archive of each split, instead.
    config_name, label_names, order
        See `Imagenet2012Config`.
    **kwargs
        As for `datasets.DatasetBuilder`.
    """

    VERSION = datasets.Version(VERSION)
    BUILDER_CONFIG_CLASS = Imagenet2012Config
    BUILDER_CONFIGS = [  # noqa: RUF012
        Imagenet2012Config("default", VERSION, description="The images are copied into Arrow."),
        Imagenet2012Config("in_place", VERSION, description="The images stay in the archives."),
    ]
    DEFAULT_CONFIG_NAME = "default"
    manual_download_instructions = INSTRUCTIONS
    _verification = datasets.VerificationMode.BASIC_CHECKS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("data_dir") is not None:
            kwargs["data_dir"] = _absolute(kwargs["data_dir"])
        listed = _listed(kwargs.get("data_files"))
        paths = itertools.chain([kwargs.get("data_dir")], *listed.values())
        _keep_options(kwargs.get("storage_options"), paths)
        kwargs["hash"] = kwargs.get("hash") or DATA_HASH
        # Batches of images are held in memory; rows of an index are small.
        batch = 1000 if kwargs.get("config_name") == "in_place" else 100
        kwargs["writer_batch_size"] = kwargs.get("writer_batch_size") or batch
        super().__init__(*args, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        labels = _labels(self.base_path)
        names = {"words": labels.words, "wnid": labels.wnids}
        if self.config.label_names not in names:
            raise ValueError(f"label_names is 'words' or 'wnid', not {self.config.label_names!r}.")
        if self.config.order not in ("archive", "mixed"):
            raise ValueError(f"order is 'archive' or 'mixed', not {self.config.order!r}.")
        features = StoredFeatures(
            {
                "file_name": datasets.Value("string"),
                "image": NamedImage(mode="RGB"),
                "label": datasets.ClassLabel(names=list(names[self.config.label_names])),
            }
        )
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            citation=CITATION,
            homepage=HOMEPAGE,
            license=LICENSE,
            features=features,
            supervised_keys=datasets.info.SupervisedKeysData("image", "label"),
        )

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; see `datasets.DatasetBuilder`. What is there already is checked as well."""
        self._is_new = False
        super().download_and_prepare(*args, **kwargs)
        mode = datasets.VerificationMode(kwargs.get("verification_mode") or "basic_checks")
        if not self._is_new and mode != datasets.VerificationMode.NO_CHECKS:
            self._check_again(mode)

    def _check_manual_download(self, dl_manager: Any) -> None:
        """Leave it to `_find_archives`: `datasets` before 4.4.2 would insist on a data_dir."""

    def _download_and_prepare(
        self, dl_manager: Any, verification_mode: datasets.VerificationMode, **kwargs: Any
    ) -> None:
        checked = verification_mode != datasets.VerificationMode.NO_CHECKS
        archives = self.config.archives()
        self._verification = verification_mode
        self._restore_features()
        self._clear_leftovers()
        expected = {s: datasets.SplitInfo(s, 0, SOURCES[s].num_examples) for s in archives}
        self.info.splits = datasets.SplitDict(expected) if checked else None
        self.info.download_checksums = None  # recorded ones would be held to what it downloaded
        self._is_new, self._pid = True, os.getpid()
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        except NonMatchingSplitsSizesError as error:
            counts = ", ".join(f"{SOURCES[s].num_examples:,} in {p}" for s, p in archives.items())
            raise NonMatchingSplitsSizesError(
                f"The archives do not hold the expected numbers of images ({counts}). For a subset "
                f'pass verification_mode="no_checks". Details: {error}'
            ) from error
        except Exception as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # then its pool was torn down
                raise KeyboardInterrupt from None
            raise
        self._write_origin(archives)

    def _write_origin(self, archives: dict[str, str]) -> None:
        """Write what the copy was made of, for when the archives are gone."""
        if _is_dir(self._output_dir):
            folder = next(iter(archives.values())).rpartition("/")[0]
            origin = {"folder": folder, "splits": list(archives)}
            origin |= {key: getattr(self.config, key) for key in CHOICES}
            with io.FileIO(f"{self._output_dir}/{ORIGIN}", "w") as file:
                file.write(json.dumps(origin).encode())

    def _check_again(self, mode: datasets.VerificationMode) -> None:
        """Check what was prepared before, perhaps with fewer checks; only warn unless by all."""
        strict = mode == datasets.VerificationMode.ALL_CHECKS
        archives = {} if self.config.copy else self.config.archives()
        for split, path in archives.items():
            _check_size(split, path, strict)
            if strict:
                _check_sha256(split, path)
        for split, info in self.info.splits.items():
            if info.num_examples != (expected := SOURCES[split].num_examples):
                problem = f"{self._output_dir} has {info.num_examples:,} {split} images, the "
                problem += f"original {expected:,}: it was prepared without checks."
                if strict:
                    raise NonMatchingSplitsSizesError(problem)
                logger.warning(problem)

    def _clear_leftovers(self) -> None:
        """Remove what a killed run left: `datasets` would take its shards for this run's."""
        if self._output_dir.endswith(".incomplete") and _is_dir(self._output_dir):
            with os.scandir(self._output_dir) as entries:
                for entry in [entry for entry in entries if entry.is_file()]:
                    os.unlink(entry.path)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archives = self.config.archives()
        if self.config.data_dir:
            _warn_of_missing(archives)
        self._check(archives, dl_manager.is_streaming)
        return [
            datasets.SplitGenerator(split, self._gen_kwargs(split, path))
            for split, path in archives.items()
        ]

    def _check(self, archives: dict[str, str], streaming: bool) -> None:
        """Check all that can be known before the first example."""
        modes = datasets.VerificationMode
        for split, path in archives.items():
            _check_kind(split, path)
            if self.config.name == "in_place" and _is_url(path) and re.search("[?@]", path):
                problem = "its URL holds a password or a signature, which the index would store."
                advice = 'Use storage_options, or the "default" configuration.'
                raise _error(path, problem, advice=advice)
            if self._verification != modes.NO_CHECKS:
                _check_size(split, path, strict=not streaming)
        if not streaming and _is_dir(self._output_dir):
            part = 1 / 300 if self.config.name == "in_place" else 1
            _check_space(self._output_dir, int(part * sum(map(_size, archives.values()))))
        if not streaming and self._verification == modes.ALL_CHECKS:
            for split, path in archives.items():
                _check_sha256(split, path)

    def _gen_kwargs(self, split: str, path: str) -> dict[str, Any]:
        """Return what `_generate_examples` needs; lists are what ``num_proc`` divides."""
        archive = _open(path)
        tars: tuple[Tar, ...] = (Tar(0, archive.size),)
        if split == "train":
            tars = _class_tars(archive, _labels(self.base_path).wnids)
            if archive.official and len(tars) != NUM_CLASSES:
                raise _error(path, f"holds {len(tars):,} class tars instead of 1000.")
        for tar in {tars[0], tars[-1]}:
            next(_members(archive, tar, SOURCES[split].image), None)
            _check_end(archive, tar, max(tar.start, tar.end - 2 * BLOCK))
        if split == "train" and self.config.order == "archive":
            shards = [Shard(index, index + 1, 0, 1) for index in range(len(tars))]
        else:
            shards = [Shard(0, len(tars), k, NUM_STRETCHES) for k in range(NUM_STRETCHES)]
        state = (path, archive.size, archive.version)
        return {"split": split, "archive": state, "tars": tars, "shards": shards}

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        stored = _in_place if self.config.name == "in_place" else _copied
        for shard, index, (member, (path, data), label) in self._checked_rows(stored, **kwargs):
            image = StoredImage(path=path, bytes=data)
            key = _key(shard, index, member)
            yield key, {"file_name": member.name, "image": image, "label": label}

    def _checked_rows(
        self,
        stored: Stored,
        split: str,
        archive: tuple[str, int, int | str],
        tars: tuple[Tar, ...],
        shards: list[Shard],
    ) -> Iterator[tuple[int, int, Row]]:
        """Yield the rows of all shards, with the numbers of the shard and of the row in it."""
        _keep_options(self.storage_options, [archive[0]])  # this may be a new process
        opened = _open(archive[0])
        if (opened.size, opened.version) != archive[1:]:
            raise _error(archive[0], "changed since it was checked.", advice="Load it again.")
        in_turns = self.config.name == "in_place" or self.config.order == "mixed"
        opened.advise("RANDOM" if in_turns else "SEQUENTIAL")
        rows_of = functools.partial(self._rows, opened, split, tars, stored)
        for number, rows in enumerate(self._shards(opened, rows_of, shards)):
            names: set[str] = set()
            for index, row in enumerate(rows):
                member = row[0]
                if member.name in names:
                    raise _error(opened.path, f"{member.name!r} stands twice.", member.start)
                names.add(member.name)
                yield number, index, row
            opened.check_unchanged()

    def _shards(
        self, archive: Archive, rows: Callable[[Shard], Iterator[Row]], shards: list[Shard]
    ) -> Iterable[Iterable[Row]]:
        """Return the rows of each shard."""
        if self.config.name == "in_place" and archive.is_remote:
            # One small request leads to the next, so many shards are followed at a time.
            return archive.map(lambda shard: list(rows(shard)), shards)
        return map(rows, shards)

    def _rows(
        self, archive: Archive, split: str, tars: tuple[Tar, ...], stored: Stored, shard: Shard
    ) -> Iterator[Row]:
        """Yield the rows of a shard; of several tars, one from each in turn."""
        chosen = tars[shard.first : shard.last]
        alone = len(chosen) == 1
        streams = [self._stream(archive, split, tar, stored, shard, alone) for tar in chosen]
        if len(streams) == 1:
            yield from streams[0]
            return
        # Neighbours in WordNet should not be neighbours in a batch.
        random.Random(shard.stretch).shuffle(streams)
        apply = map if self.config.name == "in_place" else archive.map
        while streams:
            rows = zip(streams, apply(lambda stream: next(stream, None), streams), strict=True)
            streams = []
            for stream, row in rows:
                if row is not None:
                    streams.append(stream)
                    yield row

    def _stream(
        self, archive: Archive, split: str, tar: Tar, stored: Stored, shard: Shard, alone: bool
    ) -> Iterator[Row]:
        """Yield the rows of a stretch of a tar."""
        if self.config.name != "in_place":
            archive = archive.ahead(tar, *tar.stretch(shard.stretch, shard.stretches), alone)
        pattern = SOURCES[split].image
        for member in _members(archive, tar, pattern, shard.stretch, shard.stretches):
            label = self._label(archive, split, tar, member)
            # Not kept in a variable here, where the image would stay until the next round.
            yield member, stored(archive, split, member), label

    def _label(self, archive: Archive, split: str, tar: Tar, member: Member) -> int:
        """Return the label: the class tar's in training, else by the number in the file name."""
        number = 1 if split == "train" else int(member.name[-13:-5])
        in_range = 1 <= number <= SOURCES[split].num_examples
        if not (member.name.startswith(tar.wnid) and in_range):
            problem = f"{member.name!r} does not belong in {tar.wnid or split}."
            raise _error(archive.path, problem, member.start)
        return (
            _labels(self.base_path).validation[number - 1] if split == "validation" else tar.label
        )

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return the prepared dataset; see `datasets.DatasetBuilder.as_dataset`."""
        self._restore_features()
        return super().as_dataset(*args, **kwargs)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return an iterable dataset; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        self._restore_features()
        return super().as_streaming_dataset(*args, **kwargs)

    def _restore_features(self) -> None:
        # Where a prepared copy is found, `datasets` takes the features that were stored with it.
        features = StoredFeatures(self.info.features)
        if type(image := features.get("image")) is datasets.Image:
            features["image"] = NamedImage(image.mode, image.decode)
        self.info.features = features

    def _generate_tables(self, **kwargs: Any) -> Iterator[tuple[Any, pa.Table]]:
        """Yield the examples in tables: `datasets` takes longer over single ones than to read."""
        left = threading.Event()
        if self.config.name == "in_place":
            return self._tables(_in_place, None, left, **kwargs)
        room, images = None, max(1, self._writer_batch_size)
        if not _is_url(kwargs["archive"][0]):
            room = Room(min(images * ROOM_BYTES, MAX_TABLE_BYTES))
        return _ahead(self._tables(room.read if room else _copied, room, left, **kwargs), left)

    def _tables(
        self, stored: Stored, room: "Room | None", left: threading.Event, **kwargs: Any
    ) -> Iterator[tuple[Any, pa.Table]]:
        rows: list[Row] = []
        volume = 0
        for shard, index, row in self._checked_rows(stored, **kwargs):
            if left.is_set():
                return
            rows.append(row)
            volume += len(row[1][1] or b"")
            if len(rows) >= self._writer_batch_size or volume > MAX_TABLE_BYTES:
                table, rows, volume = _table_of(rows, room), [], 0
                yield _key(shard, index, row[0]), table
        if rows:
            yield _key(shard, index, row[0]), _table_of(rows, room)

    def _prepare_split_single(self, **kwargs: Any) -> Iterator[Any]:
        if os.getpid() != self._pid:  # the parent, interrupted too, ends its workers in silence
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        prepare: Any = datasets.ArrowBasedBuilder._prepare_split_single
        try:
            yield from prepare(self, **{key: kwargs[key] for key in PREPARE_SINGLE})
        except RuntimeError:  # "generator ignored GeneratorExit", when a worker is interrupted
            return
        except DatasetGenerationError as error:
            # With num_proc only the message reaches the user, so it must name the cause.
            cause = error.__cause__ or error
            raise DatasetGenerationError(f"{type(cause).__name__}: {cause}") from cause


def _path(split: str, member: Member) -> str:
    # No file can have this path, which would make `datasets` drop the bytes if it encodes the
    # example again: where its first part exists, it is the archive.
    return f"{SOURCES[split].file_names[0]}/{member.name}"


def _copied(archive: Archive, split: str, member: Member) -> Image:
    return _path(split, member), _read_image(archive, member)


class Room:
    """Memory to which the images of a table are read end to end, as Arrow stores them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._renew()

    def _renew(self) -> None:
        self._buffer = pa.allocate_buffer(self._capacity)
        self._left = memoryview(self._buffer).cast("B")
        self._images: list[memoryview] = []

    def read(self, archive: Archive, split: str, member: Member) -> Image:
        """Return an image whose bytes are in this room, or elsewhere if it is full."""
        if member.size > len(self._left):
            return _copied(archive, split, member)
        image, self._left = self._left[: member.size], self._left[member.size :]
        archive.read_into(member.data, image)
        self._images.append(image)
        return _path(split, member), image

    def take(self, images: Sequence[Any]) -> pa.Buffer:
        """Return the bytes of a table's images, end to end, and begin a new room."""
        whole = len(images) == len(self._images) and all(map(operator.is_, images, self._images))
        used = self._buffer.slice(0, self._capacity - len(self._left))
        joined = used if whole else pa.py_buffer(b"".join(images))
        self._renew()
        return joined


def _ahead(items: Iterator[T], left: threading.Event) -> Iterator[T]:
    """Yield items, of which a thread makes the next one while `datasets` writes one.

    `left` tells the thread that nobody waits for it any more.
    """
    with ThreadPoolExecutor(1, "imagenet2012") as thread:
        try:
            coming = thread.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        finally:
            left.set()


def _in_place(archive: Archive, split: str, member: Member) -> Image:
    if member.header != member.start:
        header = _header(archive.read(member.header, BLOCK))
        if header is None or header[:3] != member[:3]:
            problem = f"{member.name!r} has a name or size that only extension headers hold."
            advice = 'Use the "default" configuration, or pack the archive with shorter folders.'
            raise _error(archive.path, problem, member.start, advice)
    return Imagenet2012FileSystem.url(archive.path, member), None


# What `datasets.ArrowBasedBuilder` takes, which writes tables.
PREPARE_SINGLE = ("gen_kwargs", "fpath", "file_format", "max_shard_size", "job_id")
MAX_TABLE_BYTES = 1 << 27  # Arrow can hold 2 GiB
ROOM_BYTES = 160 << 10  # for an image; a hundred rarely take more


def _table_of(rows: list[Row], room: Room | None) -> pa.Table:
    """Return rows as they are stored."""
    members, images, labels = zip(*rows, strict=True)
    paths, data = zip(*images, strict=True)
    if data[0] is None:
        stored = pa.nulls(len(data), pa.binary())
    else:
        ends = pa.array([0, *itertools.accumulate(map(len, data))], pa.int32())
        joined = room.take(data) if room else pa.py_buffer(b"".join(data))
        stored = pa.Array.from_buffers(pa.binary(), len(data), [None, ends.buffers()[1], joined])
    image = pa.StructArray.from_arrays([stored, pa.array(paths, pa.string())], ["bytes", "path"])
    names = pa.array([member.name for member in members], pa.string())
    columns = {"file_name": names, "image": image, "label": pa.array(labels, pa.int64())}
    return pa.table(columns)


Key = getattr(datasets.builder, "Key", None)  # since datasets 4.4.2


def _key(shard: int, index: int, member: Member) -> Any:
    return Key(shard, index) if Key else member.name


# ------------------------------------------------------------------------- loading by name

# Names the cached copy. Not a hash of this source, as `datasets` has for its own modules: a new
# release must not cost anybody 144 GiB and an hour unless it changes the data.
DATA_HASH = f"data-{VERSION}"


def load(
    data_dir: str | os.PathLike[str] | None = None,
    name: str = "default",
    *,
    split: Any = None,
    data_files: Any = None,
    streaming: bool = False,
    keep_in_memory: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Load ILSVRC2012 as `datasets.load_dataset` does, without its scan of the folder.

    Of a `split` that is asked for, only what it needs is prepared.

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder that holds the archives.
    name : {"default", "in_place"}
        Copy the images into the cache, or leave them in the archives.
    split : str, list of str or datasets.ReadInstruction, optional
        As in `datasets.load_dataset`: ``"train"``, ``"validation[:10%]"``, ``"train+validation"``…
    data_files : dict, optional
        Path of the archive for each split, instead of `data_dir`.
    streaming : bool
        Read the archives while iterating, without preparing anything.
    keep_in_memory : bool, optional
        Hold the prepared dataset in memory.
    **kwargs
        `label_names`, `order` (see `Imagenet2012Config`), and all that `datasets.load_dataset`
        takes: `num_proc`, `cache_dir`, `verification_mode`, `download_mode`, `features`…

    Returns
    -------
    Dataset, DatasetDict, IterableDataset or IterableDatasetDict
        One dataset if `split` is given, else one for each archive that was found.

    Raises
    ------
    ManualDownloadError
        If the archives are not there.
    ArchiveError
        If one is not what it should be.
    """
    folder = None if data_dir is None else _absolute(data_dir)
    paths = itertools.chain([folder], *_listed(data_files, folder).values())
    _keep_options(kwargs.get("storage_options"), paths)
    preparing = {key: kwargs.pop(key) for key in PREPARE_OPTIONS if key in kwargs}
    for key in ("revision", "save_infos", "trust_remote_code"):  # mean nothing here
        kwargs.pop(key, None)
    copies = {} if streaming or data_files else _copies(name, folder, kwargs)
    try:
        archives = _given(data_files, folder) if data_files else _find_archives(folder, None)
    except ManualDownloadError:
        if not copies:
            raise
        archives = {}
    if folder and split is None and archives:
        _warn_of_missing(archives)
    made = Prepared(name, archives, copies, preparing, kwargs)
    splits = list(archives or copies)
    asked = _split_names(split, splits) if split is not None else splits
    for one in asked:
        if one not in archives and one not in copies:
            found = ", ".join(archives.values())
            raise ManualDownloadError(
                f"No archive of the {one} split, only {found}.\n\n{INSTRUCTIONS}"
            )
    if streaming:
        mode = datasets.VerificationMode(preparing.get("verification_mode") or "basic_checks")
        if mode == datasets.VerificationMode.ALL_CHECKS:
            logger.warning("Streaming starts at once: the SHA-256 of the archives is not checked.")
        builder = made.builder(asked)
        builder._verification = mode
        return builder.as_streaming_dataset(split=split)
    in_memory = bool(keep_in_memory)
    if split is None:
        return datasets.DatasetDict({s: made.dataset(s, splits, in_memory) for s in splits})
    return made.dataset(split, splits, in_memory)


@dataclasses.dataclass
class Prepared:
    """Splits that `load` prepares, each in a cache of its own, or that were prepared before.

    Attributes
    ----------
    name : str
        The configuration.
    archives, copies : dict of str to str
        Of each split the archive's path, or the config id of a copy whose archive is gone.
    preparing, options : dict
        For `download_and_prepare`, and for the builder.
    """

    name: str
    archives: dict[str, str]
    copies: dict[str, str]
    preparing: dict[str, Any]
    options: dict[str, Any]
    made: dict[str, Imagenet2012] = dataclasses.field(default_factory=dict)

    def builder(self, splits: Iterable[str]) -> Imagenet2012:
        """Return a builder of these splits."""
        # Made directly, as patterns would be resolved: a path may have brackets or stars in it.
        paths = {
            split: DataFilesList([self.archives[split]], [()]) for split in dict.fromkeys(splits)
        }
        return Imagenet2012(config_name=self.name, data_files=DataFilesDict(paths), **self.options)

    def prepare(self, split: str) -> Imagenet2012:
        """Return the builder of a split, prepared; all splits in one cache will do as well."""
        if split not in self.made:
            splits = [split]
            if split not in self.archives:
                chosen = self.copy_of(split)
            elif _is_dir(self.everything.cache_dir):
                chosen, splits = self.everything, list(self.archives)
            else:
                chosen = self.builder(splits)
            chosen.download_and_prepare(**self.preparing)
            self.made |= dict.fromkeys(splits, chosen)
        return self.made[split]

    @functools.cached_property
    def everything(self) -> Imagenet2012:
        """The builder of all splits in one cache, as `datasets.load_dataset` makes it."""
        return self.builder(self.archives)

    def copy_of(self, split: str) -> Imagenet2012:
        """Return the builder of a copy whose archive was not found."""
        copy = Imagenet2012(config_name=self.name, copy=self.copies[split], **self.options)
        folder = _read_origin(f"{copy.cache_dir}/{ORIGIN}")["folder"]
        logger.warning(
            f"No {split} archive was found: this is the copy that was made of the one in {folder}."
        )
        return copy

    def dataset(self, split: Any, all_splits: list[str], in_memory: bool) -> Any:
        """Return what an expression means."""
        if isinstance(split, list | tuple):
            return [self.dataset(one, all_splits, in_memory) for one in split]
        parts = []
        for spec in _expression(split, all_splits).split("+"):
            (name,) = _split_names(spec, all_splits)
            parts.append(self.prepare(name).as_dataset(split=spec, in_memory=in_memory))
        if len(parts) == 1:
            return parts[0]
        return datasets.concatenate_datasets(parts, split=datasets.NamedSplit(str(split)))


def _expression(split: Any, all_splits: list[str]) -> str:
    """Return a split, such as ``train[:10%]+validation``, as `datasets` would write it."""
    if str(split) == "all":
        return "+".join(all_splits)
    if isinstance(split, datasets.ReadInstruction):
        return split.to_spec()
    return datasets.ReadInstruction.from_spec(str(split)).to_spec()


def _split_names(split: Any, all_splits: list[str]) -> list[str]:
    """Return the splits that an expression, or a list of them, names.

    Raises
    ------
    ValueError
        If there is no such split.
    """
    if isinstance(split, list | tuple):
        return [name for one in split for name in _split_names(one, all_splits)]
    names = re.findall(r"(?:^|\+)(\w+)", _expression(split, all_splits))
    for name in names:
        if name not in SOURCES:
            raise ValueError(f"There is no split {name!r}, only {', '.join(SOURCES)}.")
    return names


def _copies(name: str, folder: str | None, options: dict[str, Any]) -> dict[str, str]:
    """Return the config id of the newest copy of each split, made from a folder or from any."""
    root = _absolute(options.get("cache_dir") or datasets.config.HF_DATASETS_CACHE)
    chosen = {key: options.get(key, getattr(Imagenet2012Config, key)) for key in CHOICES}
    found: list[tuple[int, str, dict[str, Any]]] = []
    if name == "default" and _is_dir(f"{root}/imagenet2012"):
        with os.scandir(f"{root}/imagenet2012") as entries:
            for entry in entries:
                path = f"{entry.path}/{VERSION}/{DATA_HASH}/{ORIGIN}"
                if entry.name.startswith("default-") and (status := _stat(path)):
                    found.append((int(status.version), entry.name, _read_origin(path)))
    copies: dict[str, str] = {}
    for _, config_id, origin in sorted(found, key=lambda one: one[0]):
        if origin.items() >= chosen.items() and folder in (None, origin["folder"]):
            copies |= dict.fromkeys(origin["splits"], config_id)
    return copies


def _read_origin(path: str) -> dict[str, Any]:
    with io.FileIO(path) as file:
        return json.loads(file.read())


CHOICES = ("label_names", "order")
ORIGIN = "origin.json"  # beside a copy: what it was made of
PREPARE_OPTIONS = ("num_proc", "verification_mode", "download_mode", "download_config")

if not __name__.startswith("datasets_modules."):  # where `datasets` runs this file as a script
    WNIDS = _labels().wnids
    packaged_modules._PACKAGED_DATASETS_MODULES["imagenet2012"] = (__name__, DATA_HASH)
fsspec.register_implementation("imagenet2012", Imagenet2012FileSystem, clobber=True)
