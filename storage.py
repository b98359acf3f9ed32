"""Where archives lie, and archives as files that are read by offset."""

import contextlib
import functools
import io
import itertools
import logging
import os
import re
import stat
import threading
from typing import Any, NamedTuple

import datasets

from .ilsvrc2012 import ArchiveError, text_without_secrets

logger = datasets.logging.get_logger("datasets.imagenet2012")


def _leave_out_secrets(record: logging.LogRecord) -> bool:
    """Strike out of a warning what in its URLs may be secret."""
    record.msg, record.args = text_without_secrets(record.getMessage()), ()
    return True


logger.addFilter(_leave_out_secrets)

# ------------------------------------------------------------------------- where archives lie


class Status(NamedTuple):
    """What tells one file from another.

    Attributes
    ----------
    size : int
        Bytes.
    version : int or str
        Time of the last change in nanoseconds, or what an object store tells instead.
    is_dir : bool
    """

    size: int
    version: int | str
    is_dir: bool


MAX_ENTRIES = 10_000  # that are looked at in a folder: of extracted images there may be a million


class Storage:
    """Where archives lie: this one is the disk. Another one can be handed to `read_urls_with`."""

    def status(self, path: str) -> Status | None:
        """Return the status of what is at a path, or None if it does not exist."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        is_dir = stat.S_ISDIR(status.st_mode)
        return Status(status.st_size, status.st_mtime_ns, is_dir)

    def entries(self, folder: str) -> list[str]:
        """Return the first `MAX_ENTRIES` names in a folder, those of folders with a slash."""
        with os.scandir(folder) as entries:
            return [e.name + "/" * e.is_dir() for e in itertools.islice(entries, MAX_ENTRIES)]

    def open(self, path: str) -> "Archive":
        """Open an archive, once in a process for as long as the file stays the same.

        Raises
        ------
        ArchiveError
            If it cannot be opened.
        """
        try:
            status = os.stat(path)
            return _opened(path, os.getpid(), status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError as error:
            advice = (
                "Check that its disk is mounted, and its rights. If it was moved, load it again "
                "from its new folder: what stays in the archives is found by their paths."
            )
            problem = f"cannot be opened: {error.strerror}."
            raise ArchiveError(path, problem, advice=advice) from error

    def open_placed(self, path: str) -> "Archive":
        """Open an archive for rows in place, which hold no storage options; see `open`."""
        return self.open(path)

    def check_named(self, path: str) -> None:
        """Raise `ArchiveError` if a path may not be read only because a dataset names it."""

    def check_rights(self, path: str) -> None:
        """Raise `ArchiveError` if what seems not to exist is forbidden; a disk does not tell."""

    def forget(self, path: str) -> None:
        """Look at an archive anew when it is opened again; the disk is always looked at."""

    def check_in_place(self, path: str) -> None:
        """Raise `ArchiveError` if an index in place could not hold the path of an archive."""

    def use_options(self, path: str, options: dict[str, Any]) -> None:
        """Take storage options for a path, for this thread; the disk needs none."""

    def keep_options(self, path: str) -> None:
        """Let rows in place be read with the options that were taken, or raise `ArchiveError`."""


class _NoUrls(Storage):
    """Stands where nothing reads URLs: the script alone does not."""

    def status(self, path: str) -> Status | None:
        advice = "Install the package imagenet2012 and use imagenet2012.load, or copy the archive."
        raise ArchiveError(path, "the script alone reads no URLs.", advice=advice)

    def check_named(self, path: str) -> None:
        self.status(path)


_disk = Storage()
_urls: list[Storage] = [_NoUrls()]
URL = re.compile(r"[A-Za-z][\w.+:-]*://")


def read_urls_with(storage: Storage) -> None:
    """Let `storage` read whatever lies behind URLs."""
    _urls[0] = storage


def is_url(path: str) -> bool:
    """Tell whether a path is a URL."""
    return "://" in path and URL.match(path) is not None


def storage_of(path: str) -> Storage:
    """Return what reads a path or URL."""
    return _urls[0] if is_url(path) else _disk


def status_of(path: str) -> Status | None:
    """Return the status of what is at a path or URL, or None if it does not exist."""
    return storage_of(path).status(path)


def is_dir(path: str) -> bool:
    """Tell whether there is a folder at a path or URL."""
    status = status_of(path)
    return status is not None and status.is_dir


def open_archive(path: str) -> "Archive":
    """Open an archive at a path or URL; see `Storage.open`."""
    return storage_of(path).open(path)


# ------------------------------------------------------------------------- a file read by offset

BLOCK = 512
MAX_IMAGE_BYTES = 1 << 29  # keeps a forged size from filling the memory; the largest is 16 MB
HAS_PREAD, HAS_PREADV = hasattr(os, "pread"), hasattr(os, "preadv")  # Windows has neither
HAS_FADVISE = hasattr(os, "posix_fadvise")  # nor this, which macOS lacks too
# Linux reads no more than this for one announcement on FUSE and many network file systems.
ANNOUNCED_BYTES = 128 << 10
# Bytes announced at a time where a region is read in order: the first if it is read alone, the
# second in turns with up to a thousand others, for each of which the page cache holds 768 KiB.
PIECE_BYTES, PIECE_BYTES_IN_TURNS = 4 << 20, 512 << 10
KEPT_MEMORY = 1 << 24


@functools.lru_cache(maxsize=1)
def _keep_memory(pid: int) -> None:
    """Let glibc keep freed memory for the next batch of images, once in a process.

    It keeps blocks up to the largest that was freed, instead of returning them to the system: 28
    instead of 31 us for an image of 110 KB in batches of 100. To do this costs up to 2 ms.
    """
    bytes(KEPT_MEMORY)


class Region(NamedTuple):
    """A part of a tar that is read by itself: the members whose first header begins in it.

    Attributes
    ----------
    start, stop : int
        Offsets in the archive.
    """

    start: int
    stop: int


class Tar(NamedTuple):
    """A tar that fills the bytes `start` to `end` of an archive; a class tar has wnid and label."""

    start: int
    end: int
    wnid: str = ""
    label: int = -1

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end - self.start

    def region(self, number: int, count: int) -> Region:
        """Return one of `count` equal regions, which together are the whole tar."""
        blocks = (self.end - self.start) // BLOCK
        start, stop = (self.start + blocks * k // count * BLOCK for k in (number, number + 1))
        return Region(start, self.end if number == count - 1 else stop)


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
        self._fd = -1
        self.path = path
        # Looked at before it is opened: opening alone has effects on pipes, terminals and devices.
        self._check_regular(os.stat(path))
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        for name in ("O_NONBLOCK", "O_NOCTTY"):  # for one that took its place in between
            flags |= getattr(os, name, 0)
        self._fd = os.open(path, flags)
        status = os.fstat(self._fd)
        self._check_regular(status)
        self.size = status.st_size
        self.version: int | str = status.st_mtime_ns
        self._lock = threading.Lock()
        _keep_memory(os.getpid())

    def _check_regular(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            advice = "Pass the path of an archive."
            raise ArchiveError(self.path, "not a regular file.", advice=advice)

    def __del__(self, close: Any = os.close) -> None:  # `os` is gone when the process ends
        if self._fd >= 0:
            close(self._fd)

    def advise(self, advice: str) -> None:
        """Tell the kernel how the file will be read: ``RANDOM`` or ``SEQUENTIAL``."""
        if HAS_FADVISE:
            os.posix_fadvise(self._fd, 0, 0, getattr(os, f"POSIX_FADV_{advice}"))

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon, without waiting for it."""
        if not HAS_FADVISE:
            return
        try:
            while size > 0:
                step = min(size, ANNOUNCED_BYTES)
                os.posix_fadvise(self._fd, offset, step, os.POSIX_FADV_WILLNEED)
                offset, size = offset + step, size - step
        except OSError:
            pass  # what is wrong is said by the read

    def _read_once(self, offset: int, size: int) -> bytes:
        if HAS_PREAD:
            return os.pread(self._fd, size, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        try:
            data = b""
            while len(data) < size:
                more = self._read_once(offset + len(data), size - len(data))
                if not more:
                    break
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

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`, or raise `ArchiveError`."""
        try:
            count = os.preadv(self._fd, [target], offset) if HAS_PREADV else 0
        except OSError:
            count = 0
        if count < len(target):
            target[:] = self.read(offset, len(target))  # reads the rest, or raises what is wrong

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it."""
        # Two reads, as cutting the bytes out of one would copy them, which costs more. The
        # header comes second: it is nearly always in a page that the data have brought in.
        data = self.read(offset + BLOCK, size)
        return self.read(offset, BLOCK), data

    def in_order(self, tar: Tar, region: Region, alone: bool) -> "Archive":
        """Return an archive for reading a region of a tar from first to last.

        `alone` tells whether nothing else is read in between.
        """
        return ReadAhead(self, region, PIECE_BYTES if alone else PIECE_BYTES_IN_TURNS)

    def headers_kept(self) -> contextlib.AbstractContextManager[None]:
        """Keep what headers are read in a ``with`` block, where each of them is a request."""
        return contextlib.nullcontext()

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the file was written to since it was opened."""
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.version):
            advice = "Load it again."
            raise ArchiveError(self.path, "changed while it was being read.", advice=advice)


class ReadAhead(Archive):
    """An archive of which a region is read in order: what is announced is made a long piece.

    Parameters
    ----------
    archive : Archive
    region : Region
    piece : int
        Bytes.
    """

    def __init__(self, archive: Archive, region: Region, piece: int) -> None:
        self.__dict__.update(vars(archive))
        self._archive = archive
        self._region, self._piece, self._announced = region, piece, region.start
        # The last image reaches beyond the region, and what begins after it is looked at.
        self._stop = min(region.stop + ANNOUNCED_BYTES, archive.size)

    def __del__(self, close: Any = None) -> None:
        """Leave the file open: it is the other archive's."""

    def announce(self, offset: int, size: int) -> None:
        """Announce the next piece when half of the one before is behind `offset`."""
        start = max(offset, self._announced)
        is_due = offset + self._piece // 2 >= self._announced and start < self._stop
        if is_due and offset < self._region.stop:
            self._announced = min(start + self._piece, self._stop)
            self._archive.announce(start, self._announced - start)


# Keyed by process, as a fork shares the position that lseek sets. An evicted archive is closed by
# its last reader, never under a thread that still reads from it.
@functools.lru_cache(maxsize=8)
def _opened(path: str, pid: int, inode: int, size: int, mtime: int) -> Archive:
    return Archive(path)


# ------------------------------------------------------------------------- a whole file


def read_file(path: str) -> bytes:
    """Return the bytes of an extracted image, or raise `ArchiveError`."""
    try:
        with io.FileIO(path) as file:
            return file.readall()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> ArchiveError:
    """Return the error for an extracted image that cannot be read."""
    problem = f"cannot be read: {error.strerror or error}."
    advice = "Check the disk or the mount. If the tree was changed or moved, load it again."
    return ArchiveError(path, problem, advice=advice)


def announce_file(path: str) -> None:
    """Let the kernel fetch a file that will be read soon; what is wrong, the reading says."""
    if HAS_FADVISE:
        with contextlib.suppress(OSError), io.FileIO(path) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
