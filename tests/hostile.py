"""Archives that are damaged or made to mislead, and the judge of what the reader makes of them."""

import io
import random
import re
import struct
import tarfile
from pathlib import Path

import fakes
from imagenet2012.ilsvrc2012 import CLUTTER, SOURCES
from imagenet2012.regions import Part

from imagenet2012 import ArchiveError, storage, tar_reader

PATTERN = SOURCES["validation"].image
Files = list[tuple[str, bytes]]


def name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


class Lenient(tarfile.TarInfo):
    """Headers without what the reader does not look at: `tarfile` gives up over a garbled date."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Read a header with mode, owner, date and device numbers made zero."""
        if len(buf) == 512 and tar_reader.read_header(buf):
            zero = b"0000000\0"
            parts = [buf[:100], zero * 3, buf[124:136], b"00000000000\0", buf[148:329], zero * 2]
            buf = checksummed(b"".join(parts) + buf[345:])
        return super().frombuf(buf, encoding, errors)


def judge(data: bytes) -> Files | None:
    """Return what `tarfile` finds of images; None if it finds anything but images and clutter."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=Lenient) as tar:
            for member in tar:
                base = member.name.rpartition("/")[2]
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    return None
                if CLUTTER.fullmatch(base):
                    continue
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                if not PATTERN.fullmatch(base) or len(content) != member.size:
                    return None
                found.append((base, content))
    except Exception:  # it has no one way to fail either
        return None
    return found


def read(path: Path, regions: int) -> Files:
    """Return what the reader finds in all the regions of a flat archive."""
    file = storage.DiskFile(str(path))
    part = Part(str(path), 0, file.size)
    reader = tar_reader.TarReader(file, part, PATTERN)
    return [
        (member.name, reader.read(member))
        for number in range(regions)
        for member in reader.members(part.region(number, regions))
    ]


def verdict(path: Path, data: bytes, regions: int) -> str:
    """Return "right", "refused", or what is wrong with how an archive was read."""
    path.write_bytes(data)
    try:
        found = read(path, regions)
    except ArchiveError as error:
        named = str(path) in str(error) and re.search(r"at byte [\d,]+: ", str(error))
        return "refused" if named else f"an error that names no place: {error}"
    except Exception as error:
        return f"an error of another kind: {error!r}"
    expected = judge(data)
    if found == expected:
        return "right"
    return f"{len(found)} images, where tarfile gives {expected and len(expected)}"


def archive(count: int, seed: int = 0, largest: int = 3000) -> Files:
    """Return small files under the names of validation images."""
    rnd = random.Random(seed)
    numbers = rnd.sample(range(1, 50_001), count)
    return [(name(number), rnd.randbytes(rnd.randrange(largest))) for number in numbers]


def checksummed(block: bytes) -> bytes:
    """Return a header with the checksum that its bytes ask for."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def headers(data: bytes) -> list[int]:
    """Return the offsets of the headers in a sound archive."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=Lenient) as tar:
        return [member.offset for member in tar]


def hidden_tar(number: int, blocks: int = 6) -> bytes:
    """Return bytes that hold a whole tar wherever one begins to read."""
    return fakes.tar([(name(number + k), b"hidden" * 40) for k in range(blocks)], blocking=512)


FIELDS = {"name": (0, 100), "size": (124, 136), "checksum": (148, 156), "type": (156, 157)}
FIELDS |= {"magic": (257, 265), "prefix": (345, 500), "any": (0, 512)}


def mutate(data: bytes, rnd: random.Random) -> tuple[str, bytes]:
    """Damage an archive in one of many ways, and name the way."""
    kind = rnd.choice(list(MUTATIONS))
    return kind, MUTATIONS[kind](data, rnd)


def _splice(data: bytes, start: int, stop: int, new: bytes) -> bytes:
    return data[:start] + new + data[stop:]


def _any_block(data: bytes, rnd: random.Random) -> int:
    return rnd.randrange(len(data) // 512) * 512


def _flip(data: bytes, rnd: random.Random) -> bytes:
    at = rnd.randrange(len(data))
    return _splice(data, at, at + 1, rnd.randbytes(1))


def _drop_blocks(data: bytes, rnd: random.Random) -> bytes:
    at = _any_block(data, rnd)
    return _splice(data, at, at + 512 * rnd.randint(1, 4), b"")


def _insert_blocks(data: bytes, rnd: random.Random) -> bytes:
    at, size = _any_block(data, rnd), 512 * rnd.randint(1, 3)
    return _splice(data, at, at, rnd.choice([bytes(size), rnd.randbytes(size)]))


def _write_block(data: bytes, rnd: random.Random) -> bytes:
    """Write zeros or another block over a block."""
    at, other = _any_block(data, rnd), _any_block(data, rnd)
    return _splice(data, at, at + 512, rnd.choice([bytes(512), data[other : other + 512]]))


def _header_field(data: bytes, rnd: random.Random) -> bytes:
    """Damage a field of a header, and make the checksum right again."""
    at = rnd.choice(headers(data))
    start, stop = FIELDS[rnd.choice(list(FIELDS))]
    block = bytearray(data[at : at + 512])
    for _ in range(rnd.randint(1, 4)):
        block[rnd.randrange(start, stop)] = rnd.choice(
            [0, 32, 48, 55, 128, 255, rnd.randrange(256)]
        )
    return _splice(data, at, at + 512, checksummed(bytes(block)))


def _size(data: bytes, rnd: random.Random) -> bytes:
    """Give a member a forged size: too large, too small, negative, in base 256."""
    at = rnd.choice(headers(data))
    value = rnd.choice([0, 1, 511, 512, 513, 5000, len(data), 1 << 33, (1 << 62) + 1, -1, -512])
    base_256 = (b"\x80" if value >= 0 else b"\xff") + struct.pack(">q", value).rjust(
        11, b"\0" if value >= 0 else b"\xff"
    )
    octal = b"%011o\0" % value if 0 <= value < 8**11 else base_256
    block = data[at : at + 512]
    field = rnd.choice([octal, base_256])
    return _splice(data, at, at + 512, checksummed(block[:124] + field + block[136:]))


def _type(data: bytes, rnd: random.Random) -> bytes:
    """Make a member a link, a device, a folder, an extension header…"""
    at = rnd.choice(headers(data))
    block = data[at : at + 512]
    kind = rnd.choice(b"1234567LKxgXSVMDN\0").to_bytes(1, "big")
    return _splice(data, at, at + 512, checksummed(block[:156] + kind + block[157:]))


def _hidden(data: bytes, rnd: random.Random) -> bytes:
    """Hide a tar in the bytes of an image."""
    at = rnd.choice(headers(data))
    hidden = hidden_tar(rnd.randrange(1, 40_000), rnd.randint(1, 5))
    return _splice(data, at, at, fakes.header(name(50_000), len(hidden)) + hidden)


MUTATIONS = {
    "byte": _flip,
    "cut": lambda data, rnd: data[: rnd.randrange(len(data))],
    "cut at a block": lambda data, rnd: data[: _any_block(data, rnd)],
    "blocks dropped": _drop_blocks,
    "blocks inserted": _insert_blocks,
    "block zeroed or copied": _write_block,
    "header field": _header_field,
    "size": _size,
    "type": _type,
    "hidden tar": _hidden,
    "appended": lambda data, rnd: data + data[: rnd.randrange(len(data))],
}
