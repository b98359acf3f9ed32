"""Archives in object storage, or behind any other URL that `fsspec` reads by ranges."""

import collections
import functools
import os
import re
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TypeVar

import fsspec

from imagenet2012.ilsvrc2012 import ArchiveError
from imagenet2012.tar_reader import BLOCK
from imagenet2012.tar_reader import Archive
from imagenet2012.tar_reader import Region
from imagenet2012.tar_reader import Status
from imagenet2012.tar_reader import Storage
from imagenet2012.tar_reader import Tar

T = TypeVar("T")
R = TypeVar("R")

# What is read in order comes by large requests, of which several are under way. Of what is read in
# turns with 999 others a piece is kept for each, so that is about as large as an image.
AHEAD_BYTES, AHEAD_REQUESTS, AHEAD_MARGIN = 8 << 20, 4, 1 << 20
PIECE_BYTES = 1 << 17
THREADS = 32
EXTRA = "For S3: pip install s3fs. Other protocols have packages of their own."
RETRY_AFTER = (0.1, 1, 4)  # seconds; what the file system itself retries comes before
VERSION_KEYS = ("ETag", "etag", "md5Hash", "xet_hash", "mtime", "LastModified", "updated")
# Protocols that stored URLs may name. Others can lead to any host: only if the user loads from it.
CLOUDS = frozenset(("abfs", "abfss", "az", "gcs", "gs", "hf", "memory", "oci", "oss", "s3", "s3a"))

_options: dict[str, dict[str, Any]] = {}  # storage options; in memory only, as they hold secrets


def _bucket(url: str) -> str:
    return "/".join(url.split("/")[:3])


class RemoteStorage(Storage):
    """Whatever lies behind URLs that `fsspec` reads."""

    def status(self, path: str) -> Status | None:
        """Return the status of what is behind a URL, or None if it does not exist."""
        try:
            files, name = _files(path)
            info = files.info(name)
        except (FileNotFoundError, PermissionError):  # without the right to list, all is forbidden
            return None
        except ImportError as error:  # says what to install
            raise ArchiveError(path, f"cannot be read: {error}.", advice=EXTRA) from error
        except Exception as error:  # each file system raises its own
            advice = "Check the URL, the network, the credentials and other storage_options."
            problem = f"cannot be reached: {type(error).__name__}: {error}."
            raise ArchiveError(path, problem, advice=advice) from error
        version = next((info[key] for key in VERSION_KEYS if info.get(key)), "")
        return Status(info.get("size") or 0, str(version), info["type"] == "directory")

    def entries(self, folder: str) -> list[str]:
        """Return the names in a folder, of folders with a slash."""
        files, name = _files(folder)
        listed = files.ls(name, detail=True)
        return [e["name"].rpartition("/")[2] + "/" * (e["type"] == "directory") for e in listed]

    def open(self, path: str) -> Archive:
        """Open an archive, once in a process."""
        return _opened(path, os.getpid())

    def forget(self, path: str) -> None:
        """Look at an archive anew when it is opened again."""
        _opened.cache_clear()

    def may_read(self, path: str) -> bool:
        """Tell whether a URL that a dataset names may be followed."""
        return path.partition("://")[0] in CLOUDS or _bucket(path) in _options

    def check_in_place(self, path: str) -> None:
        """Raise `ArchiveError` if an index would store a password or a signature."""
        if re.search("[?@]", path):
            problem = "its URL holds a password or a signature, which the index would store."
            advice = 'Use storage_options, or the "default" configuration.'
            raise ArchiveError(path, problem, advice=advice)

    def remember(self, path: str, options: dict[str, Any]) -> None:
        """Keep what the file system of a URL needs, for as long as the process lives.

        `datasets` has the options of each protocol under its name, and adds those of ``hf``.
        """
        plain = {key: value for key, value in options.items() if key != "hf"}
        _options[_bucket(path)] = options.get(path.partition("://")[0], plain)


def _files(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    # Without its memory of listings, which may be from before the archive was replaced.
    options = {"use_listings_cache": False, **_options.get(_bucket(url), {})}
    return fsspec.core.url_to_fs(url, **options)


@functools.lru_cache(maxsize=8)
def _opened(url: str, pid: int) -> "RemoteArchive":
    return RemoteArchive(url)


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "imagenet2012")


class RemoteArchive(Archive):
    """An archive that `fsspec` reads by ranges, such as an object in S3.

    Attributes
    ----------
    path : str
        Its URL.
    size : int
        Bytes.
    version : int or str
        ETag or time of the last change, as far as its file system tells one.
    """

    is_remote = True

    def __init__(self, url: str) -> None:
        self._fd = -1
        found = storage.status(url)
        if found is None or found.is_dir:
            raise ArchiveError(
                url, "is not there, or hidden from you.", advice="Check URL and rights."
            )
        self.path, self.size, self.version = url, found.size, found.version
        self._files, self._name = _files(url)

    def advise(self, advice: str) -> None:
        """Do nothing: there is no kernel to tell."""

    def announce(self, offset: int, size: int) -> None:
        """Do nothing, for the same reason."""

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        if not size:
            return b""
        if offset + size > self.size:
            missing = offset + size - self.size
            raise ArchiveError(self.path, f"ends where {missing:,} more bytes belong.", offset)
        for pause in (*RETRY_AFTER, None):
            try:
                data = self._files.cat_file(self._name, start=offset, end=offset + size)
                if len(data) == size:
                    return data
                error: Exception = EOFError(f"{len(data):,} of {size:,} bytes arrived")
            except Exception as raised:  # each file system raises its own
                error = raised
            if pause is None or isinstance(error, FileNotFoundError | PermissionError):
                break
            time.sleep(pause)
        problem = f"cannot be read: {type(error).__name__}: {error}."
        raise ArchiveError(self.path, problem, offset, "Check network and credentials.") from error

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it, by one request."""
        data = self.read(offset, BLOCK + size)
        return data[:BLOCK], data[BLOCK:]

    def in_order(self, tar: Tar, region: Region, alone: bool) -> Archive:
        """Return an archive for reading a region of a tar in order, by large requests."""
        # Its reader looks at a few blocks before it, and at what begins after it.
        start = max(tar.start, region.start - 8 * BLOCK)
        stop = min(tar.end, region.stop + AHEAD_MARGIN)
        return ReadAhead(self, start, stop, alone)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function that reads to each item, in order, several at a time."""
        pool, running = _threads(os.getpid()), collections.deque[Future[R]]()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the object was replaced since it was opened."""
        found = storage.status(self.path)
        if found is None or (found.size, found.version) != (self.size, self.version):
            _opened.cache_clear()
            raise ArchiveError(
                self.path, "changed while it was being read.", advice="Load it again."
            )


class ReadAhead(RemoteArchive):
    """A remote archive of which a part is read in order; each byte of that is fetched once.

    If it is read alone, the next requests are under way while the last one's bytes are used.
    """

    def __init__(self, archive: RemoteArchive, start: int, stop: int, alone: bool) -> None:
        self.__dict__.update(vars(archive))
        self._start, self._stop, self._alone = start, stop, alone
        self._step = AHEAD_BYTES if alone else PIECE_BYTES
        self._pieces: dict[int, Any] = {}

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        if not (size and self._start <= offset and offset + size <= self._stop):
            return super().read(offset, size)
        first, last = ((at - self._start) // self._step for at in (offset, offset + size - 1))
        data = b"".join(self._piece(number) for number in range(first, last + 1))
        for number in [number for number in self._pieces if number < last]:
            del self._pieces[number]
        skipped = offset - self._start - first * self._step
        return data[skipped : skipped + size]

    def _piece(self, number: int) -> bytes:
        for ahead in range(number, number + AHEAD_REQUESTS) if self._alone else ():
            start = self._start + ahead * self._step
            if ahead not in self._pieces and start < self._stop:
                self._pieces[ahead] = _threads(os.getpid()).submit(self._fetch, ahead)
        if number not in self._pieces:
            self._pieces[number] = self._fetch(number)
        piece = self._pieces[number]
        return piece.result() if isinstance(piece, Future) else piece

    def _fetch(self, number: int) -> bytes:
        start = self._start + number * self._step
        return super().read(start, min(self._step, self._stop - start))


storage = RemoteStorage()
