"""What is behind a URL: the files of `fsspec`, read by ranges of which many are under way."""

import functools
import hashlib
import io
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NoReturn

import datasets
import fsspec

from .ilsvrc2012 import ArchiveError, text_without_secrets, without_secrets

Options = dict[str, Any] | None  # storage options, which belong to the load that got them

THREADS = 32  # requests under way
RETRY_AFTER = (0.1, 1, 4)  # seconds; what the file system itself retries comes before
RETRY_UNTIL = 60  # seconds since the first try
# What is read in order comes by large requests, of which several are under way. Of what is read in
# turns with 999 others a piece is kept for each, so that is about as large as an image.
AHEAD_BYTES, AHEAD_REQUESTS = 8 << 20, 4
PIECE_BYTES = 1 << 17
MARGIN = 1 << 12  # a reader looks at a few blocks before a header
MOST_ANNOUNCED = 2048  # more than there are class tars, whose headers are announced together
# What stores call an object's identity. The first are about its content; times are less sure, as
# two changes can be of one second.
IDENTITIES = ("ETag", "etag", "md5Hash", "content_md5", "generation", "sha256", "xet_hash")
IDENTITIES += ("blob_id", "LastModified", "Last-Modified", "last_modified", "mtime", "created")
HIDDEN = (401, 403, 404, 410)  # without the right to list, what does not exist is "forbidden"
CHECK = "Check the URL, the network, the credentials in the environment and storage_options."
EXTRA = "For S3: pip install s3fs; for the web: pip install aiohttp; others have packages too."

# ------------------------------------------------------------------------- file systems

_kept: dict[int, Any] = {}  # A fork must not close its parent's connections, so none is let go.


def file_system_of(url: str, options: Options) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it.

    `datasets` has the options of each protocol under its name, and adds those of ``hf``.
    """
    given = options or {}
    protocols = fsspec.available_protocols()
    plain = {k: v for k, v in given.items() if k not in protocols or not isinstance(v, dict)}
    try:
        files, name = fsspec.core.url_to_fs(url, **given.get(url.partition("://")[0], plain))
    except ImportError as error:  # says what to install
        raise ArchiveError(url, f"cannot be read: {words_of(error, url)}.", advice=EXTRA) from None
    except Exception as error:  # each file system raises its own
        _raise_unreachable(url, error)
    _kept[id(files)] = files
    files.invalidate_cache()  # its listings may be from before the archive was replaced
    return files, name


def info_of(url: str, files: Any, name: str) -> dict[str, Any] | None:
    """Return what a file system tells of a URL, or None if it does not exist or is hidden."""
    try:
        return files.info(name)
    except PermissionError:
        return None
    except FileNotFoundError as error:
        cause = error.__cause__  # over HTTP it stands for whatever went wrong
        if cause is None or (getattr(cause, "status", 404) in HIDDEN and hasattr(cause, "status")):
            return None
        _raise_unreachable(url, cause)
    except Exception as error:
        _raise_unreachable(url, error)


def look_at(url: str, options: Options) -> tuple[int, str, bool] | None:
    """Return size, identity, and whether it is a folder; None if it does not exist or is hidden."""
    info = info_of(url, *file_system_of(url, options))
    return info and (info.get("size") or 0, identity(info), info["type"] == "directory")


def list_folder(url: str, options: Options) -> list[str]:
    """Return the names in a folder, of folders with a slash, or raise `OSError`."""
    files, name = file_system_of(url, options)
    try:
        listed = files.ls(name, detail=True)
    except Exception as error:  # each file system raises its own
        raise OSError(words_of(error, url)) from None
    return [e["name"].rpartition("/")[2] + "/" * (e["type"] == "directory") for e in listed]


def identity(info: dict[str, Any]) -> str:
    """Return the best identity that a file system gives of an object, or nothing.

    A weak ETag only means that a page looks the same, so it counts together with the time.
    """
    found = [str(info[key]) for key in IDENTITIES if info.get(key)]
    return " ".join(found) if found and found[0].startswith("W/") else "".join(found[:1])


def words_of(error: BaseException, url: str) -> str:
    """Return an error's name and text without what in the URL may be secret."""
    text = str(error).replace(url, without_secrets(url))
    query = url.partition("?")[2]
    if query and without_secrets(url) != url:
        text = text.replace(query, "…")
    return f"{type(error).__name__}: {text_without_secrets(text)}".rstrip(": .")


def _raise_unreachable(url: str, error: BaseException) -> NoReturn:
    problem = f"cannot be reached: {words_of(error, url)}."
    raise ArchiveError(url, problem, advice=CHECK) from None  # the cause's text may hold secrets


# ------------------------------------------------------------------------- threads


class _Threads:
    """Threads that do not keep the process from ending, unlike those of `concurrent.futures`."""

    def __init__(self, count: int) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[bytes], Callable[..., bytes], Any]]
        self._waiting = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, name="imagenet2012", daemon=True).start()

    def submit(self, function: Callable[..., bytes], *args: int) -> "Future[bytes]":
        """Call a function in one of the threads."""
        future: Future[bytes] = Future()
        self._waiting.put((future, function, args))
        return future

    def _work(self) -> None:
        while True:
            future, function, args = self._waiting.get()
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
            del future, function, args  # else the result stays in memory until the next


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> _Threads:
    return _Threads(THREADS)


# ------------------------------------------------------------------------- files


class RemoteFile:
    """An object that is read by ranges, of which those that are announced are under way.

    Each thread has a file of `fsspec` of its own, which holds to the object's ETag where the store
    can. Where it cannot, `check_unchanged` compares size and time.

    Attributes
    ----------
    path : str
        Its URL.
    size : int
        Bytes.
    version : str
        ETag or time of the last change, as far as its file system tells one.

    Raises
    ------
    ArchiveError
        If it cannot be opened.
    """

    is_remote = True

    def __init__(self, url: str, options: Options) -> None:
        self.path = url
        self._files, self._name = file_system_of(url, options)
        info = info_of(url, self._files, self._name)
        if info is None or info["type"] == "directory":
            problem = "is a folder." if info else "is not there, or hidden from you."
            raise ArchiveError(url, problem, advice=CHECK)
        if info.get("size") is None:
            advice = "Read it from another server, or copy it to a disk."
            raise ArchiveError(url, "its server tells no size (Content-Length).", advice=advice)
        self.size, self.version = int(info["size"]), identity(info)
        self._pinned = _pinned(self._files, info)
        self._opened = threading.local()
        self._coming: dict[tuple[int, int], Future[bytes]] = {}

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        coming = self._coming.pop((offset, size), None)
        return coming.result() if coming else self.fetch(offset, size)

    def announce(self, offset: int, size: int) -> None:
        """Begin to fetch what will be read in this very piece."""
        if size > 0 and offset + size <= self.size and (offset, size) not in self._coming:
            if len(self._coming) >= MOST_ANNOUNCED:  # nobody came for the oldest
                self._coming.pop(next(iter(self._coming)))
            self._coming[offset, size] = self.submit(offset, size)

    def submit(self, offset: int, size: int) -> "Future[bytes]":
        """Begin to fetch bytes."""
        return _threads(os.getpid()).submit(self.fetch, offset, size)

    def fetch(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes by one request, which is tried again if it fails."""
        if offset + size > self.size:
            missing = offset + size - self.size
            raise ArchiveError(self.path, f"ends where {missing:,} more bytes belong.", offset)
        began = time.monotonic()
        for pause in (*RETRY_AFTER, None):
            try:
                data = self._read_once(offset, size)
                if len(data) == size:
                    return data
                error: Exception = EOFError(f"{len(data):,} of {size:,} bytes arrived")
            except ArchiveError:
                raise
            except Exception as raised:  # each file system raises its own
                error = raised
                self._check_final(offset, error)
            self._opened.file = None
            if pause is None or time.monotonic() - began > RETRY_UNTIL:
                break
            time.sleep(pause)
        problem = f"cannot be read: {words_of(error, self.path)}."
        raise ArchiveError(self.path, problem, offset, CHECK) from None

    def _read_once(self, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        file = getattr(self._opened, "file", None)
        if file is None:
            file = self._files.open(self._name, "rb", cache_type="none", **self._pinned)
            told = getattr(file, "details", None) or {}
            if self.version and identity(told) not in ("", self.version):
                self._raise_changed()
            self._opened.file = file
        if not isinstance(file, fsspec.spec.AbstractBufferedFile):  # threads may share it
            return self._files.cat_file(self._name, start=offset, end=offset + size)
        file.seek(offset)
        return file.read(size)

    def _check_final(self, offset: int, error: Exception) -> None:
        """Raise `ArchiveError` for what would fail again."""
        if isinstance(error, fsspec.exceptions.FileExpired) or _status(error) == 412:
            self._raise_changed()
        if isinstance(error, FileNotFoundError | PermissionError):
            problem = f"cannot be read: {words_of(error, self.path)}."
            raise ArchiveError(self.path, problem, offset, CHECK) from None
        if isinstance(error, ValueError) and _status(error) is None:
            problem = f"its server does not send the part that is asked for ({error})."
            advice = "Read it from a server that knows ranges, or copy it to a disk."
            raise ArchiveError(self.path, text_without_secrets(problem), offset, advice) from None

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it, by one request."""
        data = self.read(offset, 512 + size)
        return data[:512], data[512:]

    def in_order(self, region: Iterable[int], alone: bool) -> "Pieces":
        """Return the file for reading a region of it from first to last, by large requests."""
        start, stop = region
        return Pieces(self, max(0, start - MARGIN), stop, alone)

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the object was replaced since it was opened."""
        self._files.invalidate_cache()
        info = info_of(self.path, self._files, self._name)
        if info is None or (info.get("size"), identity(info)) != (self.size, self.version):
            self._raise_changed()

    def _raise_changed(self) -> NoReturn:
        advice = "Load it again."
        raise ArchiveError(self.path, "changed while it was being read.", advice=advice) from None

    @property
    def places_file(self) -> str:
        """Where in the cache of `datasets` the places of the class tars' headers are kept."""
        told = f"{without_secrets(self.path)} {self.size} {self.version}"
        name = hashlib.sha256(told.encode()).hexdigest()[:32]
        cache = str(datasets.config.HF_DATASETS_CACHE).replace(os.sep, "/")
        return f"{cache}/imagenet2012/headers/{name}.json"

    def kept_places(self) -> list[int]:
        """Return the offsets that `keep_places` kept of this very object, in any process."""
        try:
            with io.FileIO(self.places_file) as file:
                return [int(offset) for offset in json.loads(file.readall())]
        except (OSError, ValueError, TypeError):
            return []

    def keep_places(self, offsets: list[int]) -> None:
        """Keep offsets: headers lead from one to the next, and so can be fetched together."""
        unfinished = f"{self.places_file}.{os.getpid()}"
        try:
            os.makedirs(self.places_file.rpartition("/")[0], exist_ok=True)
            with io.FileIO(unfinished, "w") as file:
                file.write(json.dumps(offsets).encode())
            os.replace(unfinished, self.places_file)
        except OSError:
            return  # the cache is not ours to write


def _status(error: BaseException) -> int | None:
    return getattr(error, "status", None)


def _pinned(files: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Return options of `open` by which a web server refuses to send another object.

    S3 needs none: its files hold to the ETag by themselves.
    """
    if not any(base.__name__ == "HTTPFileSystem" for base in type(files).__mro__):
        return {}
    condition = {}
    if info.get("ETag") and not info["ETag"].startswith("W/"):
        condition = {"If-Match": info["ETag"]}
    elif info.get("Last-Modified"):
        condition = {"If-Unmodified-Since": info["Last-Modified"]}
    headers = {"Accept-Encoding": "identity", **files.kwargs.get("headers", {}), **condition}
    return {"size": info["size"], "headers": headers}


class Pieces:
    """A file of which a region is read in order; nearly each byte of that is fetched once.

    If it is read alone, several large pieces are under way while one is used, else the next one.
    """

    def __init__(self, file: RemoteFile, start: int, stop: int, alone: bool) -> None:
        self.path, self.size, self._file = file.path, file.size, file
        self._start, self._stop = start, stop
        self._step = AHEAD_BYTES if alone else PIECE_BYTES
        self._ahead = AHEAD_REQUESTS if alone else 2
        self._pieces: dict[int, Future[bytes]] = {}
        self._behind = b""  # what was fetched from the region's end on

    def announce(self, offset: int, size: int) -> None:
        """Begin to fetch the pieces in which the next member begins."""
        first = (offset - self._start) // self._step
        for number in range(max(0, first), first + self._ahead):
            place = self._start + number * self._step
            if place < self._stop and number not in self._pieces:
                length = min(self._step, self._stop - place)
                self._pieces[number] = self._file.submit(place, length)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        end = offset + size
        if offset < self._start or end > self.size:
            return self._file.fetch(offset, size)
        within = self._within(offset, min(end, self._stop)) if offset < self._stop else b""
        if end <= self._stop:
            return within
        missing = end - self._stop - len(self._behind)
        if missing > 0:  # with the header that may follow
            known = self._stop + len(self._behind)
            self._behind += self._file.fetch(known, min(missing + 512, self.size - known))
        return within + self._behind[max(offset - self._stop, 0) : end - self._stop]

    def _within(self, offset: int, end: int) -> bytes:
        first, last = ((place - self._start) // self._step for place in (offset, end - 1))
        for number in range(first, last + 1):
            self.announce(self._start + number * self._step, self._step)
        data = b"".join(self._pieces[number].result() for number in range(first, last + 1))
        passed = (offset - MARGIN - self._start) // self._step
        for number in [number for number in self._pieces if number < passed]:
            del self._pieces[number]
        skipped = offset - self._start - first * self._step
        return data[skipped : skipped + end - offset]
