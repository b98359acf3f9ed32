"""The members of tars, region by region.

A tar is a chain: from a member's header follows where the next one is. `TarReader` follows it from
any place, so that several processes can read one tar, and proves that nothing is left out between
two regions.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .ilsvrc2012 import CLASS_TAR, CLUTTER, IMAGE_NAME, SOURCES, ArchiveError
from .regions import BLOCK, Part, Region
from .storage import MAX_IMAGE_BYTES, Readable, logger

# ------------------------------------------------------------------------- headers

END_BLOCK = bytes(BLOCK)
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
# Long names (GNU) and records (PAX) for what follows.
EXTENSIONS = frozenset((b"L", b"K", b"x", b"g", b"X"))
EXTENSION_BYTES = 1 << 16  # that they may have before a member, together
KINDS = frozenset(kind[0] for kind in (*REGULAR, *EXTENSIONS, tarfile.DIRTYPE))
# How `tarfile` reads fields; not documented, but the same since Python 2.
_any_number, _both_sums = tarfile.nti, tarfile.calc_chksums  # type: ignore[attr-defined]


class Member(NamedTuple):
    """A file in a tar.

    `start` is the offset of its first header, `header` that of the one that directly precedes the
    data: another where headers for a long name or PAX records come before it.
    """

    name: str  # without folders
    kind: bytes  # type flag
    size: int  # bytes of data
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
    """Read a block of 512 bytes as a header, as `tarfile` does; None if its checksum is wrong.

    `offset` is where it lies in the archive.
    """
    try:
        recorded = _number(field := block[148:156])  # counts itself as blanks, 256 together
        # Adler-32 holds the sum of up to 256 bytes exactly, and is ten times as fast as sum().
        total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF)
        unsigned = total - (zlib.adler32(field) & 0xFFFF) - 1 + 256
        if recorded != unsigned and recorded not in _both_sums(block):  # or signed
            return None
        size = _number(block[124:136])
    except tarfile.HeaderError:
        return None
    name = block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    kind = block[156:157]
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    return Member(name.rpartition("/")[2], kind, size, offset, offset)


def _read_extended(file: Readable, offset: int, end: int) -> Member:
    """Let `tarfile` read a member that begins with extension headers."""
    size = min(EXTENSION_BYTES, end - offset, file.size - offset)
    buffer = io.BytesIO(file.read(offset, size))
    try:
        with tarfile.open(fileobj=buffer, mode="r:") as tar:
            info, common = tar.next(), tar.pax_headers
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        problem = f"extension headers that cannot be read ({error})."
        raise ArchiveError(file.path, problem, offset) from error
    if info is None or info.issparse() or {"path", "size"} & common.keys():
        problem = "a sparse member or global PAX records of name or size: not supported."
        raise ArchiveError(file.path, problem, offset)
    header = offset + info.offset_data - BLOCK
    return Member(info.name.rpartition("/")[2], info.type, info.size, offset, header)


def member_at(file: Readable, offset: int, end: int) -> Member | None:
    """Read the member that begins at `offset` of a tar that ends at `end`.

    Returns None where the tar ends, with an end mark or without. Raises `ArchiveError` if there is
    no header, or the member does not fit.
    """
    if offset + BLOCK > end:
        return None
    block = file.read(offset, BLOCK)
    if block == END_BLOCK:
        return None
    member = read_header(block, offset)
    if member is None:
        problem = "a member's header belongs here, and there is none."
        raise ArchiveError(file.path, problem, offset)
    if member.kind in EXTENSIONS:
        member = _read_extended(file, offset, end)
    if member.size < 0 or member.data + member.size > end:
        problem = f"{member.name!r} claims {member.size:,} bytes, but {end - member.data:,} follow."
        raise ArchiveError(file.path, problem, offset)
    return member


# ------------------------------------------------------------------------- a tar read by regions

CHUNK = 1 << 17  # nearly every search for a header ends in so many bytes
# tar pads an archive to a multiple of 10,240 bytes. Many more zero bytes at its end are a part that
# was never written: programs that download give a file its full size first.
MAX_END_BYTES = 1 << 16


class TarReader:
    """Reads the members of the tar that lies in a file where `part` says.

    `pattern` are the names, without folders, of the files that belong in it.
    """

    def __init__(self, file: Readable, part: Part, pattern: re.Pattern[str]) -> None:
        self.file, self.part, self.pattern = file, part, pattern

    def members(
        self, region: Region | None = None, announce: Callable[[int, int], None] | None = None
    ) -> Iterator[Member]:
        """Return the members of a region, or of the whole tar, that `pattern` names.

        Where they begin is announced at once, and each header while the member before is used, by
        `announce` or that of the file. So many regions that are read in turn do not wait for the
        disk.

        As a region begins in the middle of an image, its first header is searched for. Whatever
        the bytes of the images are, the regions together yield each member once, or one of them
        raises: each follows the headers to its end, and where they lead must be what the search
        finds for the next.

        Raises `ArchiveError` if a header is damaged, a member does not fit, a name does not belong,
        the tar was cut off (also between two members), data follow its end, or two regions do not
        meet.
        """
        region = region or Region(self.part.start, self.part.end)
        announce = announce or self.file.announce
        is_searched = region.start > self.part.start
        announce(region.start, min(CHUNK, region.stop - region.start) if is_searched else BLOCK)
        return self._members(region, announce)

    def _members(self, region: Region, announce: Callable[[int, int], None]) -> Iterator[Member]:
        start, stop = region
        offset = start if start == self.part.start else self._first_header(start, stop)
        if offset is None:
            return
        last = stop == self.part.end
        while last or offset < stop:
            member = member_at(self.file, offset, self.part.end)
            if member is None:
                return self.check_end(offset)
            offset = member.next
            if self._is_wanted(member):
                announce(offset, BLOCK)
                yield member
        self._check_meeting(stop, offset)

    def read(self, member: Member) -> bytes:
        """Return the data of a member, or raise `ArchiveError` if it is larger than any image."""
        if member.size > MAX_IMAGE_BYTES:
            problem = f"{member.name!r} has {member.size:,} bytes, more than any image of "
            raise ArchiveError(self.file.path, f"{problem}ILSVRC2012.", member.start)
        return self.file.read(member.data, member.size)

    def check_end(self, offset: int) -> None:
        """Check that a tar holds nothing but zero bytes from `offset` on, and as many as it should.

        An archive of the official size was not cut off. There a short or missing end mark at the
        very end of the file is only a warning: how the originals end could not be tried.
        """
        size = min(self.part.end - offset, MAX_END_BYTES + 1)
        rest = self.file.read(offset, size) if size > 0 else b""
        problem = "the tar should end here with 1,024 zero bytes or more. It was cut off."
        if rest.count(0) != len(rest):
            problem = f"{problem[:-1]} or damaged, or more data follow its end."
        elif len(rest) > MAX_END_BYTES:
            problem = f"more than {MAX_END_BYTES:,} zero bytes follow, too many for a tar's end: "
            problem += "it was cut off, or this part of it was never written."
        elif len(rest) >= 2 * BLOCK and self.part.size % BLOCK == 0:
            return
        elif self.part.end == self.file.size in {source.size for source in SOURCES.values()}:
            return logger.warning(f"{self.file.path}, at byte {offset:,}: {problem}")
        raise ArchiveError(self.file.path, problem, offset)

    def _is_wanted(self, member: Member) -> bool:
        """Tell what belongs here from folders and clutter; raise `ArchiveError` for all else."""
        is_file = member.kind in REGULAR
        if is_file and self.pattern.fullmatch(member.name):
            return True
        if member.kind == tarfile.DIRTYPE or (is_file and CLUTTER.fullmatch(member.name)):
            return False
        problem = f"{member.name!r} is a link or a special file (type {member.kind!r})."
        if is_file:
            problem = f"{member.name!r} does not belong here, only names like "
            problem += f"{self.pattern.pattern}."
        advice = "It was packed anew. Fetch the original; or extract this one, give the images "
        advice += "names of the original's form, and pass their folder."
        raise ArchiveError(self.file.path, problem, member.start, advice)

    def _first_header(self, start: int, stop: int) -> int | None:
        """Find the first member that begins in the bytes `start` to `stop`, if any does."""
        for offset in range(start, stop, CHUNK):
            chunk = self.file.read(offset, min(CHUNK, stop - offset))
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
        start = max(self.part.start, offset - 5 * BLOCK)
        before = self.file.read(start, offset - start)
        for place in range(0, len(before) - BLOCK, BLOCK):
            earlier = read_header(before[place : place + BLOCK])
            blocks = (len(before) - place) // BLOCK - 1
            if earlier and earlier.kind in EXTENSIONS and -(-earlier.size // BLOCK) == blocks:
                return False
        return True

    def _check_meeting(self, stop: int, offset: int) -> None:
        """Check that the region that begins at `stop` will begin with the member at `offset`."""
        found = self._first_header(stop, min(offset + BLOCK, self.part.end))
        member = member_at(self.file, offset, self.part.end)
        if member is None:
            self.check_end(offset)
        else:
            self._is_wanted(member)
        if found != (offset if member else None):
            problem = (
                f"the headers lead here, but a search from byte {stop:,} on finds "
                f"{'none' if found is None else f'one at byte {found:,}'}: an image's bytes look "
                "like a tar."
            )
            advice = "Extract it with `tar`, and load the folder of images instead."
            raise ArchiveError(self.file.path, problem, offset, advice)


def class_tars(file: Readable, wnids: Sequence[str]) -> Iterator[Part]:
    """Yield the class tars of the training archive, by its own headers.

    `wnids` are in label order. Raises `ArchiveError` as `TarReader.members`, or if a class tar
    appears twice or is of another class.
    """
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    for member in TarReader(file, Part(file.path, 0, file.size), CLASS_TAR).members():
        wnid = member.name.removesuffix(".tar")
        if (label := labels.pop(wnid, None)) is None:
            problem = f"{member.name!r} is not one of the 1000 classes, or appears twice in it."
            raise ArchiveError(file.path, problem, member.start)
        yield Part(file.path, member.data, member.data + member.size, wnid, label)
