"""What is at a path or URL, and files that are read by offset and announced ahead."""

import collections
import contextlib
import functools
import io
import itertools
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import datasets
import fsspec

from .ilsvrc2012 import ArchiveError, without_secrets
from .regions import Region, Status
from .remote import InOrder, Options, RemoteFile, list_folder, look_at

T = TypeVar("T")

logger = datasets.logging.get_logger("datasets.imagenet2012")


def _leave_out_secrets(record: logging.LogRecord) -> bool:
    """Strike out of a warning what in its URLs may be secret."""
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


logger.addFilter(_leave_out_secrets)

# ------------------------------------------------------------------------- paths

FOLDER_VARIABLE = "IMAGENET2012_DIR"  # names the folder of the archives where none is passed
MAX_ENTRIES = 10_000  # that are looked at in a folder: of extracted images there may be a million
_URL = re.compile(r"[A-Za-z][\w.+:-]*://")


def is_url(path: str) -> bool:
    """Tell whether a path is a URL."""
    return _URL.match(path) is not None


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


def status_of(path: str, options: Options = None) -> Status | None:
    """Return the status of what is at a path or URL, or None if it does not exist or is hidden.

    Raises `ArchiveError` if the server of a URL cannot be reached.
    """
    if is_url(path):
        return look_at(path, options)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return Status(status.st_size, status.st_mtime_ns, stat.S_ISDIR(status.st_mode))


def is_dir(path: str, options: Options = None) -> bool:
    """Tell whether there is a folder at a path or URL."""
    status = status_of(path, options)
    return status is not None and status.is_dir


def entries(folder: str, options: Options = None) -> list[str]:
    """Return the first names in a folder, those of folders with a slash, or raise `OSError`."""
    if is_url(folder):
        return list_folder(folder, options)
    with os.scandir(folder) as found:
        return [e.name + "/" * e.is_dir() for e in itertools.islice(found, MAX_ENTRIES)]


# ------------------------------------------------------------------------- files read by offset

MAX_IMAGE_BYTES = 1 << 26  # keeps a forged size from filling the memory; the largest is 16 MB
HAS_PREAD = hasattr(os, "pread")  # Windows has none
HAS_FADVISE = hasattr(os, "posix_fadvise")  # nor this, which macOS lacks too
OPEN_FILES = 96  # at most: of class tars in files of their own a thousand are read in turn
# Linux reads no more than this for one announcement on FUSE and many network file systems.
ANNOUNCED_BYTES = 128 << 10
# Bytes announced at a time where a region is read in order: the first if it is read alone, the
# second in turns with up to a thousand others, for each of which the page cache holds 768 KiB.
PIECE_BYTES, PIECE_BYTES_IN_TURNS = 4 << 20, 512 << 10


class _Open(io.FileIO):
    """An open file, which is closed when nobody uses it any more."""

    def __del__(self) -> None:
        self.close()


# One that is evicted is closed by its last user, never under a thread that still reads from it.
@functools.lru_cache(maxsize=OPEN_FILES)
def _opened(path: str, identity: tuple[int, int, int]) -> _Open:
    file = _Open(path)
    if _identity(os.fstat(file.fileno())) != identity:
        raise ArchiveError(path, "changed while it was being read.", advice="Load it again.")
    if HAS_FADVISE:  # what is read in order is announced; else pages around it are read too
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    return file


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


_seeking = threading.Lock()


def _read_once(number: int, offset: int, size: int) -> bytes:
    """Read from an open file, which may give less than `size` bytes."""
    if HAS_PREAD:
        return os.pread(number, size, offset)
    with _seeking:
        os.lseek(number, offset, os.SEEK_SET)
        return os.read(number, size)


class DiskFile:
    """A file that is read by offset, safely from several threads and after a fork.

    `size` and `version` are what `Status` told of it when it was opened. Raises `ArchiveError` if
    there is no regular file at `path` that can be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            # Looked at before it is opened: opening alone has effects on pipes and devices.
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                advice = "Pass the path of an archive."
                raise ArchiveError(path, "is not a regular file.", advice=advice)
            self._key = _identity(status)
            self.size, self.version = self._key[1:]
            _opened(path, self._key)
        except OSError as error:
            advice = (
                "Check that its disk is mounted, and its rights. If it was moved, load it again "
                "from its new folder: what stays in the archives is found by their paths."
            )
            problem = f"cannot be opened: {error.strerror}."
            raise ArchiveError(path, problem, advice=advice) from error

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        try:
            file = _opened(self.path, self._key)
            data = more = _read_once(file.fileno(), offset, size)
            while more and len(data) < size:
                more = _read_once(file.fileno(), offset + len(data), size - len(data))
                data += more
        except OSError as error:
            _opened.cache_clear()  # the file may come back under a new handle
            problem = f"cannot be read: {error.strerror}."
            advice = "Check the disk or the mount."
            raise ArchiveError(self.path, problem, offset, advice) from error
        if len(data) < size:
            problem = f"ends where {size - len(data):,} more bytes belong."
            raise ArchiveError(self.path, problem, offset)
        return data

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon, without waiting for it."""
        if HAS_FADVISE:
            with contextlib.suppress(OSError, ArchiveError):  # the read says what is wrong
                file = _opened(self.path, self._key)
                for start in range(offset, offset + size, ANNOUNCED_BYTES):
                    step = min(ANNOUNCED_BYTES, offset + size - start)
                    os.posix_fadvise(file.fileno(), start, step, os.POSIX_FADV_WILLNEED)

    def in_order(self, region: Region, alone: bool) -> InOrder:
        """Return the file for reading a region of it from first to last; see `InOrder`.

        `alone` tells whether nothing else is read in between.
        """
        piece = PIECE_BYTES if alone else PIECE_BYTES_IN_TURNS
        # The last image reaches beyond the region, and what begins after it is looked at.
        stop = min(region.stop + ANNOUNCED_BYTES, self.size)
        return InOrder(self, Region(region.start, stop), piece, piece // 2)

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the file was written to or replaced since it was opened."""
        status = status_of(self.path)  # none if it was moved away, and what was read is right
        if status and status[:2] != (self.size, self.version):
            advice = "Load it again."
            raise ArchiveError(self.path, "changed while it was being read.", advice=advice)


File = DiskFile | RemoteFile
Readable = File | InOrder


def open_file(path: str, options: Options = None) -> File:
    """Open what is at a path or URL, to be read by offset, or raise `ArchiveError`."""
    return RemoteFile(path, options) if is_url(path) else DiskFile(path)


# ------------------------------------------------------------------------- ahead

UNDER_WAY = 32  # reads that are announced while one is used


def ahead(
    items: Iterable[T], announce: Callable[[T], object] | None = None, count: int = UNDER_WAY
) -> Iterator[T]:
    """Yield items, of which `count` are made, and announced, before they are used."""
    waiting: collections.deque[T] = collections.deque()
    for item in items:
        if announce:
            announce(item)
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
