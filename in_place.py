"""Images that stay in the archives: the file system that reads them, each proven by its header."""

import contextlib
import errno
import functools
import io
import itertools
import operator
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

import fsspec

from .ilsvrc2012 import IMAGE_NAME, SOURCES, ArchiveError
from .regions import BLOCK
from .storage import (
    FOLDER_VARIABLE,
    MAX_IMAGE_BYTES,
    DiskFile,
    File,
    Options,
    Readable,
    absolute,
    ahead,
    is_url,
    open_file,
)
from .tar_reader import REGULAR, Member, read_header
from .trees import in_threads

PREFIX = "imagenet2012://"

# The bytes of a path need not be UTF-8.
_quoted = functools.lru_cache(8)(functools.partial(quote, safe="", errors="surrogateescape"))
_unquoted = functools.lru_cache(8)(functools.partial(unquote, errors="surrogateescape"))

# ------------------------------------------------------------------------- the file system


class MemberFile(io.BytesIO):
    """The bytes of an image; unlike its parent it takes attributes, which `datasets` sets."""


class Imagenet2012FileSystem(fsspec.AbstractFileSystem):
    """Read-only `fsspec` file system of the images in the archives.

    A URL is ``imagenet2012://<path of the archive>/<offset>-<size>/<file name>`` with the absolute
    path quoted. At the offset is a tar header, and the image's bytes follow it. They are refused
    unless the header names the same file and size. So all that such a URL can read is what a tar
    presents as an image of ILSVRC2012.

    Instead of a path there may be the bare name of an original archive, so that the URL holds on
    all machines: see `open_named`.
    """

    protocol = "imagenet2012"
    _URL = re.compile(rf"([^/]+)/(\d+)-(\d+)/({IMAGE_NAME.pattern})")

    @staticmethod
    def url(path: str, member: Member) -> str:
        """Return the URL of a member of the archive at the absolute `path`, or of that name."""
        return f"{PREFIX}{_quoted(path)}/{member.header}-{member.size}/{member.name}"

    @classmethod
    def parse(cls, url: str) -> tuple[str, int, int, str]:
        """Return the parts of a URL: path of the archive, offset, size, file name."""
        if not (match := cls._URL.fullmatch(url.removeprefix(PREFIX))):
            problem = "not the URL of an image in an ILSVRC2012 archive"
            raise FileNotFoundError(errno.ENOENT, problem, url)
        path, header, size, name = match.groups()
        return _unquoted(path), int(header), int(size), name

    @classmethod
    def read_image(cls, url: str) -> bytes:
        """Return an image's bytes.

        Raises `ArchiveError` if the archive cannot be read, or is not the one that the URL was made
        from.
        """
        path, offset, size, name = cls.parse(url)
        file, wanted = open_named(path), (offset, size, name, BLOCK + size)
        try:
            data = _proven(file, *wanted)
        except ArchiveError:
            if not is_url(file.path):
                raise
            _open_remote.cache_clear()  # what may have taken the object's place is opened, once
            data = _proven(open_named(path), *wanted)
        if data:
            return data[BLOCK:]
        advice = (
            "The archive was replaced, cut or damaged since the dataset was made. If it is right "
            "now, load it again from its folder; an index must be made again."
        )
        raise ArchiveError(file.path, f"{name} ({size:,} bytes) is not here.", offset, advice)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> MemberFile:
        if mode != "rb":
            raise ValueError(f"the archives are only ever read, not opened with mode {mode!r}")
        return MemberFile(self.read_image(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size and type of an image, from its URL alone."""
        path = self._strip_protocol(path)
        return {"name": path, "size": self.parse(path)[2], "type": "file"}


def _proven(file: Readable, offset: int, size: int, name: str, count: int) -> bytes | None:
    """Return `count` bytes from the header of an image on, or None if it is not at `offset`."""
    if size > MAX_IMAGE_BYTES or offset + BLOCK + size > file.size:
        return None
    data = file.read(offset, count)
    header = read_header(data[:BLOCK])
    found = header and header.kind in REGULAR and (header.name, header.size)
    return data if found == (name, size) else None


# ------------------------------------------------------------------------- which archive

NAMES = tuple(name for source in SOURCES.values() for name in source.file_names)
KNOWN_NAMES = f"Known are {', '.join(NAMES)}."


def open_named(path: str) -> File:
    """Open the archive that a URL of an image in place names, or raise `ArchiveError`.

    At an absolute path nothing but that file is opened. A bare name must be that of an original
    archive (`Source.file_names`), and is looked for directly in the folder that
    ``IMAGENET2012_DIR`` names, which may be a URL. So a dataset of somebody else can lead to no
    other file of that folder.
    """
    if os.path.isabs(path):
        return open_file(path)
    if path not in NAMES:
        problem = "is neither an absolute path nor the name of an archive of ILSVRC2012."
        raise ArchiveError(path, problem, advice=KNOWN_NAMES)
    if not (folder := os.getenv(FOLDER_VARIABLE)):
        advice = f"Set {FOLDER_VARIABLE} to the folder that holds it, before the program starts."
        problem = f"is wanted, and {FOLDER_VARIABLE} is not set."
        raise ArchiveError(path, problem, advice=advice)
    found = f"{absolute(folder)}/{path}"
    return _open_remote(found, os.getpid()) if is_url(found) else open_file(found)


@functools.lru_cache(maxsize=8)
def _open_remote(url: str, pid: int) -> File:
    """Open what is behind a URL once in a process; a file on the disk is looked at each time."""
    return open_file(url)


def check_in_place(path: str, options: Options) -> None:
    """Raise `ArchiveError` if rows in place could not lead back to an archive behind a URL.

    They hold its name alone, which is looked for in the folder that ``IMAGENET2012_DIR`` names.
    """
    if not is_url(path):
        return
    folder, _, name = path.rpartition("/")
    if options:
        problem = "in place, images are read without storage_options, which rows do not hold."
        advice = "Put credentials and endpoint where the file system looks for them by itself: for "
        advice += "S3, into AWS_… variables or ~/.aws; for others, into fsspec's configuration."
    elif name not in NAMES:
        problem = "has not the name of an original archive, by which rows in place find it."
        advice = KNOWN_NAMES
    elif absolute(os.getenv(FOLDER_VARIABLE, "")) != folder:
        problem = "rows in place hold only its name, and it would not be found by that."
        advice = f"Type this before the program starts: export {FOLDER_VARIABLE}={folder}"
    else:
        return
    raise ArchiveError(path, problem, advice=advice)


def place_of(file: Readable, member: Member) -> str:
    """Return the URL by which a member can be read.

    Raises `ArchiveError` if the header directly before the data does not hold name and size, so
    that it could not be proven: that of a long name stands in an extension header.
    """
    place = member.header, member.size, member.name
    if member.header != member.start and not _proven(file, *place, BLOCK):
        problem = f"{member.name!r} has a name or size that only extension headers hold."
        advice = 'Use the "default" configuration, or pack the archive with shorter folders.'
        raise ArchiveError(file.path, problem, member.start, advice)
    path = file.path.rpartition("/")[2] if is_url(file.path) else file.path
    return Imagenet2012FileSystem.url(path, member)


# ------------------------------------------------------------------------- images by their places


def read_place(path: str) -> bytes:
    """Return the bytes of an image that stays where a row says it is: a URL or a file's path."""
    if path.startswith(PREFIX):
        return Imagenet2012FileSystem.read_image(path)
    file = _open_image(path)
    return file.read(0, file.size)


def _open_image(path: str) -> DiskFile:
    if not IMAGE_NAME.fullmatch(path.rpartition("/")[2]):  # others' datasets may name any file
        problem = "is not called as an image of ILSVRC2012 is."
        raise ArchiveError(path, problem, advice="Load it by `datasets` itself.")
    return DiskFile(path)


def announce_place(path: str) -> None:
    """Let an image be fetched that will be read soon; never fails."""
    with contextlib.suppress(OSError, ValueError):  # the read says what is wrong
        if not path.startswith(PREFIX):
            file = _open_image(path)
            return file.announce(0, min(file.size, MAX_IMAGE_BYTES))
        named, offset, size, _ = Imagenet2012FileSystem.parse(path)
        if size <= MAX_IMAGE_BYTES:
            open_named(named).announce(offset, BLOCK + size)


def missing_images(paths: Sequence[str]) -> Iterator[str]:
    """Yield the names of images in place that are not where rows say, by headers and files."""
    files = [path for path in paths if not path.startswith(PREFIX)]
    exist = in_threads(os.path.exists, files)
    yield from (path for path, exists in zip(files, exist, strict=True) if not exists)
    places = sorted(Imagenet2012FileSystem.parse(p) for p in paths if p.startswith(PREFIX))
    for path, chosen in itertools.groupby(places, operator.itemgetter(0)):
        file = open_named(path)
        announce = functools.partial(lambda file, place: file.announce(place[1], BLOCK), file)
        for _, offset, size, name in ahead(chosen, announce):
            if not _proven(file, offset, size, name, BLOCK):
                yield name


fsspec.register_implementation("imagenet2012", Imagenet2012FileSystem, clobber=True)
