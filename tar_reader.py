"""Files read by offset, and the members of the tars in them, region by region.

A tar is a chain: from a member's header follows where the next one is. `TarReader` follows it from
any place, so that several processes can read one tar, and proves that nothing is left out between
two regions.
"""

import collections
import functools
import io
import itertools
import os
import re
import stat
import tarfile
import threading
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import Generic
from typing import NamedTuple
from typing import TypeVar

import datasets

from .ilsvrc2012 import CLASS_TAR
from .ilsvrc2012 import CLUTTER
from .ilsvrc2012 import IMAGE_NAME
from .ilsvrc2012 import NUM_CLASSES
from .ilsvrc2012 import SOURCES
from .ilsvrc2012 import ArchiveError
from .ilsvrc2012 import Labels

logger = datasets.logging.get_logger("datasets.imagenet2012")

T = TypeVar("T")
R = TypeVar("R")

# ------------------------------------------------------------------------- where archives lie


class Status(NamedTuple):
    """What tells a file from another.

    Attributes
    ----------
    size : int
        Bytes.
    version : int or str
        Time of the last change in nanoseconds, or what an object store tells instead.
    is_dir : bool
    inode : int
    """

    size: int
    version: int | str
    is_dir: bool
    inode: int = 0


class Storage:
    """Where archives lie: this one is the disk. Another one can be handed to `read_urls_with`."""

    def status(self, path: str) -> Status | None:
        """Return the status of what is at a path, or None if it does not exist."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        is_dir = stat.S_ISDIR(status.st_mode)
        return Status(status.st_size, status.st_mtime_ns, is_dir, status.st_ino)

    def entries(self, folder: str) -> list[str]:
        """Return the first 10,000 names in a folder, those of folders with a slash."""
        with os.scandir(folder) as entries:  # of extracted images there may be a million
            return [e.name + "/" * e.is_dir() for e in itertools.islice(entries, 10_000)]

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

    def may_read(self, path: str) -> bool:
        """Tell whether a path that a dataset names may be read."""
        return True

    def forget(self, path: str) -> None:
        """Look at an archive anew when it is opened again; the disk is always looked at."""

    def check_in_place(self, path: str) -> None:
        """Raise `ArchiveError` if an index in place could not hold the path of an archive."""

    def remember(self, path: str, options: dict[str, Any]) -> None:
        """Take storage options for a path; the disk needs none."""


class _NoUrls(Storage):
    """Stands where nothing reads URLs: the script alone does not."""

    def status(self, path: str) -> Status | None:
        advice = "Install the package imagenet2012 and use imagenet2012.load, or copy the archive."
        raise ArchiveError(path, "the script alone reads no URLs.", advice=advice)

    def may_read(self, path: str) -> bool:
        return False


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
# What is announced at a time where a region is read in order: alone, and in turns with others, of
# which there may be a thousand: then the page cache holds up to 768 KiB for each.
PIECE_BYTES, PIECE_BYTES_IN_TURNS = 4 << 20, 512 << 10
# Once a block of this size was freed, glibc keeps freed blocks up to it for the next batch instead
# of returning them to the system: 28 instead of 31 us for an image of 110 KB in batches of 100.
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
        bytes(KEPT_MEMORY)

    def _check_regular(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            advice = "Pass the path of an archive."
            raise ArchiveError(self.path, "not a regular file.", advice=advice)

    def __del__(self, close: Any = os.close) -> None:  # `os` is gone when the process ends
        if self._fd >= 0:
            close(self._fd)

    def advise(self, advice: str) -> None:
        """Tell the kernel how the file will be read: ``RANDOM``, ``SEQUENTIAL`` or ``NORMAL``."""
        if HAS_FADVISE:
            os.posix_fadvise(self._fd, 0, 0, getattr(os, f"POSIX_FADV_{advice}"))

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon, without waiting for it."""
        if not HAS_FADVISE:
            return
        stop, step, advice = offset + size, ANNOUNCED_BYTES, os.POSIX_FADV_WILLNEED
        try:
            for start in range(offset, stop, step):
                os.posix_fadvise(self._fd, start, min(step, stop - start), advice)
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
            data = os.pread(self._fd, size, offset) if HAS_PREAD else b""
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
            target[:] = self.read(offset, len(target))  # knows what to do, or what to say

    def read_member(self, offset: int, size: int) -> tuple[bytes, bytes]:
        """Return the header at `offset` and the `size` bytes that follow it."""
        # Two reads, as cutting the bytes out of one would copy them, which costs more. The
        # header comes second: it is nearly always in a page that the data have brought in.
        data = self.read(offset + BLOCK, size)
        return self.read(offset, BLOCK), data

    def parts(self, split: str, labels: Labels, checked: bool | None = None) -> tuple["Tar", ...]:
        """Return the class tars of the training archive, or the whole tar of another.

        `checked` means nothing here: what is wrong is always an error.
        """
        if split != "train":
            return (Tar(0, self.size),)
        tars = class_tars(self, labels.wnids)
        if self.is_official(split, tars) and len(tars) != NUM_CLASSES:
            raise ArchiveError(self.path, f"holds {len(tars):,} class tars instead of 1000.")
        return tars

    def is_official(self, split: str, parts: Sequence["Tar"]) -> bool:
        """Tell whether it has the size of the original archive."""
        return self.size == SOURCES[split].size

    def reader(self, part: "Tar", pattern: re.Pattern[str]) -> "TarReader":
        """Return what reads a part."""
        return TarReader(self, part, pattern)

    def in_order(self, tar: "Tar", region: "Region", alone: bool) -> "Archive":
        """Return an archive for reading a region of a tar from first to last.

        `alone` tells whether nothing else is read in between.
        """
        return ReadAhead(self, region, PIECE_BYTES if alone else PIECE_BYTES_IN_TURNS)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply a function that reads to each item, in order."""
        return map(function, items)

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

    def __init__(self, archive: Archive, region: "Region", piece: int) -> None:
        self.__dict__.update(vars(archive))
        self._archive = archive
        self._region, self._piece, self._announced = region, piece, region.start
        # The last image reaches beyond the region, and what begins after it is looked at.
        self._stop = min(region.stop + ANNOUNCED_BYTES, archive.size)

    def __del__(self, close: Any = None) -> None:
        """Leave the file open: it is the other archive's."""

    def announce(self, offset: int, size: int) -> None:
        """Announce the next piece when half of the last one is behind `offset`."""
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


# ------------------------------------------------------------------------- headers

END_BLOCK = bytes(BLOCK)
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
# Long names (GNU) and records (PAX) for what follows.
EXTENSIONS = frozenset((b"L", b"K", b"x", b"g", b"X"))
KINDS = frozenset(kind[0] for kind in (*REGULAR, *EXTENSIONS, tarfile.DIRTYPE))
# How `tarfile` reads fields; not documented, but the same since Python 2.
_any_number, _sums = tarfile.nti, tarfile.calc_chksums  # type: ignore[attr-defined]


class Member(NamedTuple):
    """A file in a tar.

    Attributes
    ----------
    name : str
        Without folders.
    kind : bytes
        Type flag.
    size : int
        Bytes of data.
    start : int
        Offset of its first header.
    header : int
        Offset of the header that directly precedes the data. It is another than the first where
        headers for a long name or PAX records come before it.
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


def _number(field: bytes) -> int:
    """Read a number as `tarfile` does, the usual octal ones four times as fast."""
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return _any_number(field)


def read_header(block: bytes, offset: int = 0) -> Member | None:
    """Read a header as `tarfile` does.

    Parameters
    ----------
    block : bytes
        512 of them.
    offset : int
        Where they lie in the archive.

    Returns
    -------
    Member or None
        None if the checksum is wrong.
    """
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


def _read_extended(archive: Archive, offset: int, end: int) -> Member:
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
    raise ArchiveError(archive.path, problem, offset)


def member_at(archive: Archive, offset: int, end: int) -> Member | None:
    """Read the member that begins at `offset` of a tar that ends at `end`.

    Returns
    -------
    Member or None
        None where the tar ends, with an end mark or without.

    Raises
    ------
    ArchiveError
        If there is no header, or the member does not fit.
    """
    if offset + BLOCK > end:
        return None
    block = archive.read(offset, BLOCK)
    if block == END_BLOCK:
        return None
    member = read_header(block, offset)
    if member is None:
        problem = "a member's header belongs here, and there is none."
        raise ArchiveError(archive.path, problem, offset)
    if member.kind in EXTENSIONS:
        member = _read_extended(archive, offset, end)
    if member.size < 0 or member.data + member.size > end:
        problem = f"{member.name!r} claims {member.size:,} bytes, but {end - member.data:,} follow."
        raise ArchiveError(archive.path, problem, offset)
    return member


# ------------------------------------------------------------------------- a tar read by regions

CHUNK = 1 << 16
SEARCHED = 2 * CHUNK  # nearly every search for a header ends in so many bytes
UNDER_WAY = 32  # regions that are followed in turn
# tar pads an archive to a multiple of 10,240 bytes. Many more zero bytes at its end are a part that
# was never written: programs that download give a file its full size first.
MAX_END_BYTES = 1 << 16


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


class TarReader:
    """Reads the members of a tar in an archive.

    Parameters
    ----------
    archive : Archive
    tar : Tar
        Where in the archive the tar lies.
    pattern : re.Pattern
        Names, without folders, of the files that belong in it.
    """

    def __init__(self, archive: Archive, tar: Tar, pattern: re.Pattern[str]) -> None:
        self.archive, self.tar, self.pattern = archive, tar, pattern

    def members(self, region: Region | None = None) -> Iterator[Member]:
        """Return the members of a region, or of the whole tar, that `pattern` names.

        Where they begin is announced at once, and each header while the last member is used. So
        many regions that are read in turn do not wait for the disk.

        As a region begins in the middle of an image, its first header is searched for. Whatever
        the bytes of the images are, the regions together yield each member once, or one of them
        raises: each follows the headers to its end, and where they lead must be what the search
        finds for the next.

        Raises
        ------
        ArchiveError
            If a header is damaged, a member does not fit, a name does not belong, the tar was cut
            off (also between two members), data follow its end, or two regions do not meet.
        """
        region = region or Region(self.tar.start, self.tar.end)
        if region.start == self.tar.start:
            self.archive.announce(region.start, BLOCK)
        else:
            self.archive.announce(region.start, min(SEARCHED, region.stop - region.start))
        if region.stop < self.tar.end:
            self.archive.announce(region.stop, min(SEARCHED, self.tar.end - region.stop))
        return self._members(region)

    def _members(self, region: Region) -> Iterator[Member]:
        start, stop = region
        offset = start if start == self.tar.start else self._first_header(start, stop)
        if offset is None:
            return
        last = stop == self.tar.end
        while last or offset < stop:
            member = member_at(self.archive, offset, self.tar.end)
            if member is None:
                return self.check_end(offset)
            offset = member.next
            if self._is_wanted(member):
                self.archive.announce(offset, BLOCK)
                yield member
        self._check_meeting(stop, offset)

    def read(self, member: Member) -> bytes:
        """Return the data of a member; see `check_size`."""
        self.check_size(member)
        return self.archive.read(member.data, member.size)

    def read_into(self, member: Member, target: memoryview) -> int:
        """Read a member to the beginning of `target`; return its size, or -1 if it is larger."""
        if member.size > len(target):
            return -1
        self.archive.read_into(member.data, target[: member.size])
        return member.size

    def check_size(self, member: Member) -> None:
        """Raise `ArchiveError` if a member is larger than any image may be."""
        if member.size > MAX_IMAGE_BYTES:
            problem = f"{member.name!r} has {member.size:,} bytes, more than any image of "
            raise ArchiveError(self.archive.path, f"{problem}ILSVRC2012.", member.start)

    def check_end(self, offset: int) -> None:
        """Check that a tar holds nothing but zero bytes from `offset` on, and as many as it should.

        An archive of the official size was not cut off. So there a short or missing end mark at
        the very end of the file is only warned of, as the originals could not be tested.
        """
        problem = "the tar should end here with 1,024 zero bytes or more. "
        for place in range(offset, self.tar.end, CHUNK):
            chunk = self.archive.read(place, min(CHUNK, self.tar.end - place))
            if chunk.count(0) != len(chunk):
                problem += "It was damaged or cut off, or more data follow its end."
                raise ArchiveError(self.archive.path, problem, offset)
            if place + len(chunk) - offset > MAX_END_BYTES:
                problem = f"only zero bytes follow, {self.tar.end - offset:,} to the end of the tar"
                problem += ": it was cut off, or this part of it was never written."
                raise ArchiveError(self.archive.path, problem, offset)
        whole_blocks = (self.tar.end - self.tar.start) % BLOCK == 0
        if self.tar.end - offset >= 2 * BLOCK and whole_blocks:
            return
        problem += "It was cut off."
        if not self._may_lack_end_mark:
            raise ArchiveError(self.archive.path, problem, offset)
        logger.warning(f"{self.archive.path}, at byte {offset:,}: {problem}")

    def check_end_mark(self) -> None:
        """Check before anything else is read that a tar ends as tars do."""
        if not self._may_lack_end_mark:
            self.check_end(max(self.tar.start, self.tar.end - 2 * BLOCK))

    @property
    def _may_lack_end_mark(self) -> bool:
        official = self.archive.size in {source.size for source in SOURCES.values()}
        return official and self.tar.end == self.archive.size

    def _is_wanted(self, member: Member) -> bool:
        """Tell what belongs here from folders and clutter; raise `ArchiveError` for all else."""
        if member.kind == tarfile.DIRTYPE:
            return False
        if member.kind not in REGULAR:
            problem = f"{member.name!r} is a link or a special file (type {member.kind!r})."
        elif self.pattern.fullmatch(member.name):
            return True
        elif CLUTTER.fullmatch(member.name):
            return False
        else:
            problem = f"{member.name!r} does not belong here, only names like "
            problem += f"{self.pattern.pattern}."
        raise ArchiveError(self.archive.path, problem, member.start)

    def _first_header(self, start: int, stop: int) -> int | None:
        """Find the first member that begins in the bytes `start` to `stop`, if any does."""
        for offset in range(start, stop, CHUNK):
            chunk = self.archive.read(offset, min(CHUNK, stop - offset))
            for index, kind in enumerate(chunk[156::BLOCK]):
                block = chunk[index * BLOCK : (index + 1) * BLOCK]
                if kind in KINDS and len(block) == BLOCK:
                    header = read_header(block)
                    if header and self._begins_member(offset + index * BLOCK, header):
                        return offset + index * BLOCK
        return None

    def _begins_member(self, offset: int, header: Member) -> bool:
        known = IMAGE_NAME.fullmatch(header.name) or CLUTTER.fullmatch(header.name)
        if header.kind in REGULAR and not known:
            return False
        # A header that follows an extension header is part of the member that begins there.
        start = max(self.tar.start, offset - 5 * BLOCK)
        before = self.archive.read(start, offset - start)
        for place in range(0, len(before) - BLOCK, BLOCK):
            earlier = read_header(before[place : place + BLOCK])
            blocks = (len(before) - place) // BLOCK - 1
            if earlier and earlier.kind in EXTENSIONS and -(-earlier.size // BLOCK) == blocks:
                return False
        return True

    def _check_meeting(self, stop: int, offset: int) -> None:
        """Check that the region that begins at `stop` will begin with the member at `offset`."""
        member = member_at(self.archive, offset, self.tar.end)
        if member is None:
            self.check_end(offset)
        else:
            self._is_wanted(member)
        found = self._first_header(stop, min(offset + BLOCK, self.tar.end))
        if found != (offset if member else None):
            problem = (
                f"the headers lead here, but a search from byte {stop:,} on finds "
                f"{'none' if found is None else f'one at byte {found:,}'}: an image's bytes look "
                "like a tar. Read it in one process, in archive order."
            )
            raise ArchiveError(self.archive.path, problem, offset)


def class_tars(archive: Archive, wnids: Sequence[str]) -> tuple[Tar, ...]:
    """Read the training archive's own headers: one for each class tar in it.

    Parameters
    ----------
    archive : Archive
    wnids : sequence of str
        In label order.

    Raises
    ------
    ArchiveError
        As `TarReader.members`, or if a class tar appears twice or is of another class.
    """
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    tars: dict[str, Tar] = {}
    for member in TarReader(archive, Tar(0, archive.size), CLASS_TAR).members():
        wnid = member.name.removesuffix(".tar")
        if wnid not in labels or wnid in tars:
            problem = "appears twice in it" if wnid in tars else "is not one of the 1000 classes"
            raise ArchiveError(archive.path, f"{member.name!r} {problem}.", member.start)
        tars[wnid] = Tar(member.data, member.data + member.size, wnid, labels[wnid])
    return tuple(tars.values())


# ------------------------------------------------------------------------- many regions in turn


def begun_ahead(items: Iterable[T], count: int = UNDER_WAY) -> Iterator[T]:
    """Yield items, each when `count` more have been made."""
    items = iter(items)
    made = collections.deque(itertools.islice(items, count))
    for item in items:
        made.append(item)
        yield made.popleft()
    yield from made


class _Stream(Generic[T]):
    """What an iterator has yielded so far; an error is kept until its turn comes."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.found: collections.deque[T] = collections.deque()
        self.error: Exception | None = None
        self.is_done = False

    def advance(self) -> None:
        try:
            for item in self._items:
                self.found.append(item)
                return
        except Exception as error:
            self.error = error
        self.is_done = True


def in_turns(streams: Iterable[Iterator[T]], width: int = UNDER_WAY) -> Iterator[Iterator[T]]:
    """Yield what streams yield, stream by stream, of which `width` are advanced in turn.

    So what each of them has announced arrives while the others are read. What is yielded must be
    used up before the next is asked for; an error is raised where its stream is.
    """
    waiting = iter(streams)
    running: collections.deque[_Stream[T]] = collections.deque()

    def items_of(stream: _Stream[T]) -> Iterator[T]:
        while stream.found or not stream.is_done:
            if stream.found:
                yield stream.found.popleft()
                continue
            running.extend(map(_Stream, itertools.islice(waiting, width - len(running))))
            for one in running:
                if not one.is_done:
                    one.advance()
        if stream.error:
            raise stream.error

    for first in map(_Stream, waiting):
        running.append(first)
        while running:
            yield items_of(running[0])
            running.popleft()
