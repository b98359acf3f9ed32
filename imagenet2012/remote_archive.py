"""Archives that `fsspec` reads by ranges: opened once, read by few requests, some at a time."""

import collections
import contextlib
import functools
import hashlib
import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import datasets
import fsspec

from imagenet2012.ilsvrc2012 import (
    OBJECT_STORES,
    ArchiveError,
    text_without_secrets,
    without_secrets,
)
from imagenet2012.ranges import Replaced, Unranged, fetcher, identity, is_http
from imagenet2012.storage import BLOCK, Archive, Region, Tar

T = TypeVar("T")
R = TypeVar("R")

# What is read in order comes by large requests, of which several are under way. Of what is read in
# turns with 999 others a piece is kept for each, so that is about as large as an image.
AHEAD_BYTES, AHEAD_REQUESTS = 8 << 20, 4
PIECE_BYTES = 1 << 17
MARGIN = 8 * BLOCK  # a reader looks at a few blocks before a header
THREADS = 32
HEAD_BYTES = 1 << 12  # fetched when an archive is opened, as what it is is asked many times
KEPT_ARCHIVES = 64
KEPT_BLOCKS = 2048  # the first that are read singly are the headers of the class tars
# Where requests cannot hold the object's identity, it is asked for after larger ones.
CHECKED_BYTES = 1 << 16
EXTRA = "For S3: pip install s3fs. Other protocols have packages of their own."
CHECK = "Check the URL, the network, the credentials and other storage_options."
RETRY_AFTER = (0.1, 1, 4)  # seconds; what the file system itself retries comes before
RETRY_UNTIL = 60  # seconds since the first try
HIDDEN = (401, 403, 404, 410)  # without the right to list, what does not exist is "forbidden"
_file_systems: dict[int, Any] = {}  # in a fork, those of its parent must not be closed: so all stay


# ------------------------------------------------------------------------- file systems


def is_chain(url: str) -> bool:
    """Tell whether a URL is a chain of `fsspec`, and not a plain one with ``::`` in its path."""
    first, found, rest = url.partition("::")
    plain = first.partition("://")[0] in OBJECT_STORES | {"http", "https"} and "://" in first
    return bool(found) and ("://" in rest or not plain)


def file_system_of(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    try:
        if is_chain(url):
            files, name = fsspec.core.url_to_fs(url, **options)
        else:
            of_protocol = fsspec.get_filesystem_class(url.partition("://")[0])
            files = of_protocol(**{**of_protocol._get_kwargs_from_urls(url), **options})
            name = of_protocol._strip_protocol(url)
    except ImportError as error:  # says what to install
        problem = f"cannot be read: {words_of(error, url)}."
        raise ArchiveError(url, problem, advice=EXTRA) from None
    except Exception as error:  # each file system raises its own
        _raise_unreachable(url, error)
    _file_systems[id(files)] = files
    files.invalidate_cache()  # its listings may be from before the archive was replaced
    return files, name


def info_of(url: str, files: Any, name: str) -> dict[str, Any] | None:
    """Return what a file system tells of a URL, or None if it does not exist or is hidden."""
    try:
        return files.info(name)
    except PermissionError:  # without the right to list, all that does not exist is forbidden
        return None
    except FileNotFoundError as error:
        cause = error.__cause__
        if not is_http(files) or getattr(cause, "status", 0) in HIDDEN:
            return None
        _raise_unreachable(url, cause or error)  # it says so of whatever went wrong
    except Exception as error:
        _raise_unreachable(url, error)


def check_rights(url: str, files: Any, name: str) -> None:
    """Raise `ArchiveError` if access is forbidden. It may be so to all that does not exist."""
    try:
        files.info(name)
    except Exception as error:
        cause = error.__cause__ if is_http(files) else None
        if isinstance(error, PermissionError) or getattr(cause, "status", 0) in (401, 403):
            problem = f"access to it is forbidden ({words_of(cause or error, url)})."
            raise ArchiveError(url, problem, advice=CHECK) from None


def _raise_unreachable(url: str, error: BaseException) -> NoReturn:
    problem = f"cannot be reached: {words_of(error, url)}."
    raise ArchiveError(url, problem, advice=CHECK) from None  # the cause's text may hold secrets


def words_of(error: BaseException, url: str) -> str:
    """Return an error's name and text without what in the URL may be secret."""
    text = str(error).replace(url, without_secrets(url))
    if query := re.split(r"[?#]", url, maxsplit=1)[1:]:
        text = text.replace(query[0], "…") if without_secrets(url) != url else text
    return f"{type(error).__name__}: {text_without_secrets(text)}".rstrip(": .")


# ------------------------------------------------------------------------- opened archives

_archives: dict[tuple[Any, ...], "RemoteArchive"] = {}


def _cache_key(url: str, options: dict[str, Any]) -> tuple[Any, ...]:
    """Return what an opened archive is found by; no secret can be read from it."""
    return url, fsspec.utils.tokenize(options), os.getpid()


def open_once(url: str, options: dict[str, Any]) -> "RemoteArchive":
    """Return an archive, opened once for its URL, options and process.

    One that is looked at anew and did not change is the same, with the headers that it has read.
    """
    key = _cache_key(url, options)
    archive = _archives.get(key)
    if archive is None or archive.is_stale:
        new = RemoteArchive(url, options)
        if archive and new.version and (new.size, new.version) == (archive.size, archive.version):
            archive.is_stale = False
            return archive
        new.probe()
        archive = _archives[key] = new
        if len(_archives) > KEPT_ARCHIVES:  # a signed URL is another one each time
            _archives.pop(next(iter(_archives)), None)
    return archive


def forget(url: str, options: dict[str, Any]) -> None:
    """Look at an archive anew when it is opened again."""
    if archive := _archives.get(_cache_key(url, options)):
        archive.is_stale = True


class Threads:
    """Threads that do not keep the process from ending, unlike those of `concurrent.futures`."""

    def __init__(self, count: int) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Any, Any]] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, name="imagenet2012", daemon=True).start()

    def submit(self, function: Callable[[T], R], item: T) -> "Future[R]":
        """Call a function in one of the threads."""
        future: Future[R] = Future()
        self._waiting.put((future, function, item))
        return future

    def _work(self) -> None:
        while True:
            future, function, item = self._waiting.get()
            try:
                future.set_result(function(item))
            except BaseException as error:
                future.set_exception(error)
            del future, function, item  # else the result stays in memory until the next


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> Threads:
    return Threads(THREADS)


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
    is_stale = False  # whether it is to be looked at anew before it is used again

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._fd = -1
        self._files, self._name = file_system_of(url, options)
        info = info_of(url, self._files, self._name)
        if info is None or info["type"] == "directory":
            check_rights(url, self._files, self._name)
            problem = "is a folder." if info else "is not there, or hidden from you."
            raise ArchiveError(url, problem, advice="Check URL and rights.")
        if info.get("size") is None:
            advice = "Read it from another server, or copy it to a disk."
            raise ArchiveError(url, "its server tells no size (Content-Length).", advice=advice)
        self.path, self.size, self.version = url, int(info["size"]), identity(info)
        self._range, self._is_held = fetcher(self._files, self._name, info)
        self._head = b""
        self._blocks: dict[int, bytes] = {}

    def probe(self) -> None:
        """Fetch the beginning, to know whether the server sends ranges."""
        self._head = self.read(0, min(HEAD_BYTES, self.size))

    def advise(self, advice: str) -> None:
        """Do nothing: there is no kernel to tell."""

    def announce(self, offset: int, size: int) -> None:
        """Do nothing, for the same reason."""

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        if offset + size > self.size:
            missing = offset + size - self.size
            raise ArchiveError(self.path, f"ends where {missing:,} more bytes belong.", offset)
        if offset + size <= len(self._head):
            return self._head[offset : offset + size]
        if size != BLOCK:
            return self._fetch(offset, size) if size else b""
        block = self._blocks.get(offset) or self._fetch(offset, size)
        if len(self._blocks) < KEPT_BLOCKS:
            self._blocks[offset] = block
        return block

    def _fetch(self, offset: int, size: int) -> bytes:
        """Return bytes by one request, which is tried again if it fails."""
        began = time.monotonic()
        for pause in (*RETRY_AFTER, None):
            try:
                data = self._range(offset, offset + size)
                if len(data) == size:
                    break
                error: Exception = EOFError(f"{len(data):,} of {size:,} bytes arrived")
            except Replaced:
                self._raise_changed()
            except Unranged:
                problem = "its server sends the whole object where a part of it is asked for."
                advice = "Read it from a server that knows ranges, or copy it to a disk."
                raise ArchiveError(self.path, problem, offset, advice) from None
            except Exception as raised:  # each file system raises its own
                error = raised
            late = time.monotonic() - began > RETRY_UNTIL
            if pause is None or late or isinstance(error, FileNotFoundError | PermissionError):
                problem = f"cannot be read: {words_of(error, self.path)}."
                advice = "Check network and credentials."
                raise ArchiveError(self.path, problem, offset, advice) from None
            time.sleep(pause)
        if not self._is_held and size >= CHECKED_BYTES:
            self.check_unchanged()
        return data

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it, by one request."""
        data = self.read(offset, BLOCK + size)
        return data[:BLOCK], data[BLOCK:]

    def in_order(self, tar: Tar, region: Region, alone: bool) -> Archive:
        """Return an archive for reading a region of a tar in order, by large requests."""
        return ReadAhead(self, max(tar.start, region.start - MARGIN), region.stop, alone)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function that reads to each item, in order, several at a time."""
        threads, running = _threads(os.getpid()), collections.deque[Future[R]]()
        for item in items:
            running.append(threads.submit(function, item))
            if len(running) == THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    @contextlib.contextmanager
    def headers_kept(self) -> Iterator[None]:
        """Fetch the headers that an earlier process read of this very object, many at a time.

        They lead from one to the next, so that nothing but their places, kept in the cache of
        `datasets`, lets them be fetched together. What is in them is read and proven as ever.
        """
        told = f"{without_secrets(self.path)} {self.size} {self.version}"
        name = hashlib.sha256(told.encode()).hexdigest()[:32]
        kept = Path(datasets.config.HF_DATASETS_CACHE, "imagenet2012", "headers", f"{name}.json")
        before: list[int] = []
        with contextlib.suppress(OSError, ValueError, TypeError):
            before = [int(o) for o in json.loads(kept.read_text()) if 0 <= o <= self.size - BLOCK]
        before = before[:KEPT_BLOCKS] if self.version else []
        missing = [offset for offset in before if offset not in self._blocks]
        blocks = self.map(lambda offset: self._fetch(offset, BLOCK), missing)
        self._blocks.update(zip(missing, blocks, strict=True))
        known = set(self._blocks)
        yield
        if self.version and (new := self._blocks.keys() - known):
            with contextlib.suppress(OSError):  # it may not be ours to write
                kept.parent.mkdir(parents=True, exist_ok=True)
                unfinished = kept.with_suffix(f".{os.getpid()}")
                unfinished.write_text(json.dumps(sorted({*before, *new})))
                unfinished.replace(kept)

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the object was replaced since it was opened."""
        self._files.invalidate_cache()
        info = info_of(self.path, self._files, self._name)
        if info is None or (info.get("size"), identity(info)) != (self.size, self.version):
            self._raise_changed()

    def _raise_changed(self) -> NoReturn:
        for archive in list(_archives.values()):
            archive.is_stale = archive.is_stale or archive.path == self.path
        advice = "Load it again."
        raise ArchiveError(self.path, "changed while it was being read.", advice=advice) from None


class ReadAhead(RemoteArchive):
    """A remote archive of which a region is read in order; each byte of that is fetched once.

    If it is read alone, the next requests are under way while the bytes of the one before are used.
    """

    def __init__(self, archive: RemoteArchive, start: int, stop: int, alone: bool) -> None:
        self.__dict__.update(vars(archive))
        self._start, self._stop, self._alone = start, stop, alone
        largest = AHEAD_BYTES if alone else PIECE_BYTES
        count = max(1, round((stop - start) / largest))
        self._step = -(-(stop - start) // count)  # pieces of one size end with the region
        self._pieces: dict[int, Any] = {}
        self._tail = b""  # what was fetched behind the region, from its end on

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        end = offset + size
        if not size or offset < self._start or end > self.size:
            return super().read(offset, size)
        within = self._read_within(offset, min(end, self._stop)) if offset < self._stop else b""
        return within + self._read_behind(max(offset, self._stop), end)

    def _read_within(self, offset: int, end: int) -> bytes:
        first, last = self._number(offset), self._number(end - 1)
        data = b"".join(self._piece(number) for number in range(first, last + 1))
        # The reader comes back to a few blocks before, and at last to the end of the region.
        passed = self._number(max(self._start, end - MARGIN))
        for number in [number for number in self._pieces if number < passed]:
            del self._pieces[number]
        skipped = offset - self._start - first * self._step
        return data[skipped : skipped + end - offset]

    def _read_behind(self, offset: int, end: int) -> bytes:
        """Read where the last member of a region ends, with the header that follows it."""
        if end <= offset:
            return b""
        known = self._stop + len(self._tail)
        if offset > known + PIECE_BYTES:  # far behind; what lies between is not wanted
            return super().read(offset, end - offset)
        if end > known:
            wanted = min(-(-end // BLOCK) * BLOCK + BLOCK, self.size)
            self._tail += self._fetch(known, wanted - known)
        return self._tail[offset - self._stop : end - self._stop]

    def _number(self, offset: int) -> int:
        return (offset - self._start) // self._step

    def _piece(self, number: int) -> bytes:
        for ahead in range(number, number + AHEAD_REQUESTS) if self._alone else ():
            if ahead not in self._pieces and self._start + ahead * self._step < self._stop:
                self._pieces[ahead] = _threads(os.getpid()).submit(self._fetch_piece, ahead)
        if number not in self._pieces:
            self._pieces[number] = self._fetch_piece(number)
        piece = self._pieces[number]
        return piece.result() if isinstance(piece, Future) else piece

    def _fetch_piece(self, number: int) -> bytes:
        start = self._start + number * self._step
        return self._fetch(start, min(self._step, self._stop - start))
