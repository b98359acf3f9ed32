"""What is behind a URL: the files of `fsspec`, read by ranges of which many are under way."""

import collections
import contextlib
import functools
import hashlib
import json
import os
import time
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any, NoReturn

import datasets
import fsspec
import fsspec.config
from fsspec.spec import AbstractBufferedFile

from .ilsvrc2012 import ArchiveError, without_secrets
from .regions import Status

Options = dict[str, Any] | None  # storage options of `fsspec`, for the load that got them

REQUESTS = 32  # and so requests under way
CHECK = "Check the URL, the network, the credentials in the environment and storage_options."

# ------------------------------------------------------------------------- file systems

# What file systems call an object's identity: first what tells its content, then times.
IDENTITIES = ("ETag", "etag", "blob_id", "Last-Modified", "last_modified", "mtime", "created")
HIDDEN = (401, 403, 404, 410)  # without the right to list, what does not exist is "forbidden"
_kept: dict[int, Any] = {}  # A fork must not close its parent's connections, so none is let go.


def file_system_of(url: str, options: Options) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    try:
        files, name = fsspec.core.url_to_fs(url, **_options_for(url, options or {}))
    except Exception as error:  # each file system raises its own
        _raise_unreachable(url, error)
    _kept[id(files)] = files
    files.invalidate_cache()  # its listings may be from before the archive was replaced
    return files, name


def _options_for(url: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a URL's options; `datasets` has those of each protocol under its name, and of hf."""
    protocol, known = url.partition("://")[0], fsspec.available_protocols()
    plain = {k: v for k, v in given.items() if k not in known or not isinstance(v, dict)}
    chosen = given.get(protocol, plain)
    if protocol in ("s3", "s3a"):  # which has 10 connections unless it is told
        usual = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        config = {"max_pool_connections": REQUESTS, **usual, **chosen.get("config_kwargs", {})}
        return {**chosen, "config_kwargs": config}
    return chosen


def look_at(url: str, options: Options) -> Status | None:
    """Return the status of what is at a URL, or None if it does not exist or is hidden.

    The size is -1 where the server does not tell it.
    """
    files, name = file_system_of(url, options)
    try:
        info = files.info(name)
    except PermissionError:
        return None
    except Exception as error:
        cause = error.__cause__ or error  # over HTTP all that goes wrong is a `FileNotFoundError`
        if isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in HIDDEN:
            return None
        files.clear_instance_cache()  # the next one may find other credentials
        _raise_unreachable(url, cause)
    size = info.get("size")
    return Status(-1 if size is None else int(size), identity(info), info["type"] == "directory")


def list_folder(url: str, options: Options) -> list[str]:
    """Return the names in a folder, of folders with a slash, or raise `OSError`."""
    files, name = file_system_of(url, options)
    try:
        listed = files.ls(name, detail=True)
    except Exception as error:  # each file system raises its own
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(words_of(error)) from None
    return [e["name"].rpartition("/")[2] + "/" * (e["type"] == "directory") for e in listed]


def identity(info: dict[str, Any]) -> str:
    """Return the best identity that a file system gives of an object, or nothing."""
    return next((str(info[key]) for key in IDENTITIES if info.get(key)), "")


def words_of(error: BaseException) -> str:
    """Return an error's name and text without what in URLs may be secret."""
    return f"{type(error).__name__}: {without_secrets(str(error))}".rstrip(": .")


def _raise_unreachable(url: str, error: BaseException) -> NoReturn:
    problem = f"cannot be reached: {words_of(error)}."
    raise ArchiveError(url, problem, advice=CHECK) from None  # the cause's text may hold secrets


# ------------------------------------------------------------------------- files

PAUSES = (0.1, 1, 4)  # seconds; what the file system itself tries again comes before
# A `ValueError` is a server that sends the whole object instead of a range of it.
FINAL = (FileNotFoundError, PermissionError, TimeoutError, ValueError)
DISK = fsspec.filesystem("file", auto_mkdir=True)
MOST_ANNOUNCED = 1100  # that nobody came for yet: more than there are headers of class tars


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> ThreadPool:
    """Return threads of this process.

    Unlike those of `concurrent.futures`, they do not keep it from ending while a server hangs.
    """
    return ThreadPool(REQUESTS)


class RemoteFile:
    """An object that is read by ranges, of which those that are announced are under way.

    It is read by files of `fsspec`, as many as there are requests at a time, which hold to the
    object's ETag where the store can. Where it cannot, `check_unchanged` compares size and time.

    It has the attributes of `storage.DiskFile`, `path` is its URL, and it raises what that does.
    """

    # See `storage.InOrder`. In turns, a request is about as large as an image.
    ALONE, IN_TURNS = (8 << 20, 32 << 20, 0), (1 << 17, 1 << 17, 0)

    def __init__(self, url: str, options: Options) -> None:
        status = look_at(url, options)
        if status is None or status.is_dir:
            problem = "is a folder." if status else "is not there, or hidden from you."
            raise ArchiveError(url, problem, advice=CHECK)
        if status.size < 0:
            advice = "Read it from another server, or copy it to a disk."
            raise ArchiveError(url, "its server tells no size (Content-Length).", advice=advice)
        self.path, self._options = url, options
        self.size, self.version = status.size, str(status.version)
        self._files, self._name = file_system_of(url, options)
        self._idle: list[Any] = []  # open files
        self._coming = collections.OrderedDict[tuple[int, int], AsyncResult[bytes]]()

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        coming = self._coming.pop((offset, size), None)
        return coming.get() if coming else self.fetch(offset, size)

    def announce(self, offset: int, size: int) -> None:
        """Begin to fetch what will be read in this very piece."""
        if offset + size <= self.size and (offset, size) not in self._coming:
            self._coming[offset, size] = self.begin(offset, size)
            if len(self._coming) > MOST_ANNOUNCED:
                self._coming.popitem(last=False)

    def begin(self, offset: int, size: int) -> "AsyncResult[bytes]":
        """Begin to fetch bytes."""
        return _threads(os.getpid()).apply_async(self.fetch, (offset, size))

    def fetch(self, offset: int, size: int, failed: int = 0) -> bytes:
        """Return exactly `size` bytes by one request, which is tried again after each pause."""
        if offset + size > self.size:
            missing = offset + size - self.size
            raise ArchiveError(self.path, f"ends where {missing:,} more bytes belong.", offset)
        try:
            return self._read_once(offset, size)
        except ArchiveError:
            raise
        except Exception as error:  # each file system raises its own
            # A precondition that failed, over HTTP, and what `s3fs` calls it.
            if getattr(error, "status", 0) == 412 or type(error).__name__ == "FileExpired":
                self._raise_changed()
            if failed == len(PAUSES) or isinstance(error, FINAL):
                problem = f"cannot be read: {words_of(error)}."
                raise ArchiveError(self.path, problem, offset, CHECK) from None
        time.sleep(PAUSES[failed])
        return self.fetch(offset, size, failed + 1)

    def _read_once(self, offset: int, size: int) -> bytes:
        try:
            file = self._idle.pop()
        except IndexError:
            file = self._open()
        if isinstance(file, AbstractBufferedFile):
            file.seek(offset)
            data = file.read(size)
        else:  # may be one for all, as in memory
            data = self._files.cat_file(self._name, start=offset, end=offset + size)
        if len(data) != size:
            raise EOFError(f"{len(data):,} of {size:,} bytes arrived")
        self._idle.append(file)
        return data

    def _open(self) -> Any:
        """Open the object, or raise `ArchiveError` if it is another; later, its ETag is held to."""
        options: dict[str, Any] = {}
        if self.path.startswith(("http://", "https://")):
            headers = {"Accept-Encoding": "identity", **self._files.kwargs.get("headers", {})}
            if self.version.startswith('"'):
                headers["If-Match"] = self.version
            options = {"size": self.size, "headers": headers}
        self._files.invalidate_cache()  # else it may open what a listing said some time ago
        file = self._files.open(self._name, "rb", cache_type="none", **options)
        if identity(getattr(file, "details", None) or {}) not in ("", self.version):
            self._raise_changed()
        return file

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the object was replaced since it was opened."""
        if look_at(self.path, self._options) != (self.size, self.version, False):
            self._raise_changed()

    def _raise_changed(self) -> NoReturn:
        advice = "Load it again."
        raise ArchiveError(self.path, "changed while it was being read.", advice=advice) from None

    @property
    def _places_file(self) -> str:
        told = f"{without_secrets(self.path)} {self.size} {self.version}"
        name = hashlib.sha256(told.encode()).hexdigest()[:32]
        return f"{datasets.config.HF_DATASETS_CACHE}/imagenet2012/headers/{name}.json"

    def kept_places(self) -> list[int]:
        """Return the offsets that `keep_places` kept of this very object, in any process."""
        try:
            return [int(offset) for offset in json.loads(DISK.cat_file(self._places_file))]
        except (OSError, ValueError, TypeError):
            return []

    def keep_places(self, offsets: list[int]) -> None:
        """Keep offsets of headers, each of which leads to the next, in the cache of `datasets`.

        So another process can fetch all these headers together. What is cut off is no JSON.
        """
        with contextlib.suppress(OSError):  # the cache is not ours to write
            DISK.pipe_file(self._places_file, json.dumps(offsets).encode())
