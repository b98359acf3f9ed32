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
from multiprocessing.pool import AsyncResult
from typing import TypeVar

import datasets
import fsspec

from .ilsvrc2012 import ArchiveError, without_secrets
from .regions import Region, Status
from .remote import Options, RemoteFile, list_folder, look_at

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
OPEN_FILES = 64  # at most: of class tars in files of their own a thousand are read in turn
# Linux reads no more than this for one announcement on FUSE and many network file systems.
ANNOUNCED_BYTES = 128 << 10


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

    # See `InOrder`. In turns with a thousand others, the page cache holds 2 MiB of each.
    ALONE, IN_TURNS = (4 << 20, 2 << 20, 128 << 10), (512 << 10, 2 << 20, 128 << 10)

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
            raise ArchiveError(self.path, problem, offset, "Check its disk or mount.") from error
        if len(data) < size:
            problem = f"ends where {size - len(data):,} more bytes belong."
            raise ArchiveError(self.path, problem, offset)
        return data

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon, without waiting for it."""
        if HAS_FADVISE:
            with contextlib.suppress(OSError, OverflowError, ValueError):  # the read says why
                file = _opened(self.path, self._key)
                for start in range(offset, offset + size, ANNOUNCED_BYTES):
                    step = min(ANNOUNCED_BYTES, offset + size - start)
                    os.posix_fadvise(file.fileno(), start, step, os.POSIX_FADV_WILLNEED)

    begin = announce  # the kernel keeps what comes

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the file was written to or replaced since it was opened."""
        status = status_of(self.path)  # none if it was moved away, and what was read is right
        if status and status[:2] != (self.size, self.version):
            advice = "Load it again."
            raise ArchiveError(self.path, "changed while it was being read.", advice=advice)


File = DiskFile | RemoteFile


def open_file(path: str, options: Options = None) -> File:
    """Open what is at a path or URL, to be read by offset, or raise `ArchiveError`."""
    return RemoteFile(path, options) if is_url(path) else DiskFile(path)


# ------------------------------------------------------------------------- read ahead

LOOKED_BACK = 1 << 12  # bytes before a place, which a reader may look at again


class InOrder:
    """A region of a file that is read in order: pieces that meet are begun before they are used.

    Those of an object are kept, so that nearly no byte comes twice. `alone` tells whether nothing
    else is read in between. ``ALONE`` and ``IN_TURNS`` of a file are how many bytes make a piece,
    are begun ahead of what is used, and follow the region, where its last image may reach.
    """

    def __init__(self, file: File, region: Region, alone: bool) -> None:
        self.path, self.size, self._file = file.path, file.size, file
        self._step, self._ahead, behind = file.ALONE if alone else file.IN_TURNS
        self._next = max(0, region.start - LOOKED_BACK)
        self._stop = min(region.stop + behind, file.size)
        self._pieces: list[tuple[int, int, AsyncResult[bytes]]] = []  # start, stop, bytes

    def announce(self, offset: int, size: int) -> None:
        """Begin to fetch what follows `offset`."""
        stop = min(offset + max(size, self._ahead), self._stop)
        while self._next < stop:
            start, self._next = self._next, min(self._next + self._step, self._stop)
            if begun := self._file.begin(start, self._next - start):
                self._pieces.append((start, self._next, begun))

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        end = offset + size
        if end > self._stop:  # the last member reaches beyond the region, and a header may follow
            self._stop = min(end + 1024, self.size)
        self.announce(offset, size)
        self._pieces = [piece for piece in self._pieces if piece[1] > offset - LOOKED_BACK]
        if not self._pieces or offset < self._pieces[0][0] or end > self._next:
            return self._file.read(offset, size)
        return b"".join(
            begun.get()[max(0, offset - start) : end - start]
            for start, stop, begun in self._pieces
            if start < end and offset < stop
        )


Readable = File | InOrder

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
