"""Archives of the true structure from drawn images, for the tests and the bundled archives.

Headers are written as the GNU tar of 2012 did (magic ``ustar`` and two blanks, octal numbers,
blocks of 10,240 bytes); class tars stand in the training archive in wnid order; validation images
do not stand in the order of their names; the test archive's stand in a folder.
"""

import io
import math
import random
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

LABELS = Path(__file__).parent.parent / "labels"
Member = tuple[str, bytes]


class Expected(NamedTuple):
    """What must come out for an image: its bytes and its label."""

    data: bytes
    label: int


@cache
def wnids() -> list[str]:
    """Return the 1000 wnids in label order."""
    return [line.split("\t")[0] for line in (LABELS / "classes.tsv").read_text().splitlines()]


@cache
def validation_label(number: int) -> int:
    """Return the label of a validation image by its number, counted from 1."""
    return wnids().index((LABELS / "validation.txt").read_text().splitlines()[number - 1])


# ------------------------------------------------------------------------- tars


def header(name: str | bytes, size: int, kind: bytes = b"0", magic: bytes = b"ustar  \0") -> bytes:
    """Return a 512-byte header as GNU tar wrote it."""
    encoded = name.encode() if isinstance(name, str) else name
    assert len(encoded) <= 100, "it needs a header for long names"
    fields = [
        encoded.ljust(100, b"\0"),
        b"0000644\x00",
        b"0001750\x00" * 2,  # uid and gid
        b"%011o\0" % size,
        b"%011o\0" % 1_340_000_000,  # June 2012
        b" " * 8,
        kind,
        b"\0" * 100,
        magic,
        b"imagenet".ljust(32, b"\0") * 2,
    ]
    block = b"".join(fields).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def tar(members: Iterable[Member], blocking: int = 10_240) -> bytes:
    """Return a tar of the members, padded to a multiple of `blocking` bytes."""
    parts = [header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in members]
    whole = b"".join(parts) + bytes(1024)
    return whole + bytes(-len(whole) % blocking)


def train_tar(images: Mapping[str, Iterable[Member]]) -> bytes:
    """Return a tar of class tars."""
    return tar((f"{wnid}.tar", tar(members)) for wnid, members in sorted(images.items()))


# ------------------------------------------------------------------------- images


def draw(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Draw a landscape: sky above, hills below, so that upside down shows."""
    rnd = random.Random(seed)
    width, height = size
    hue = rnd.randrange(360)
    picture = Image.new("RGB", size)
    pen = ImageDraw.Draw(picture)
    for y in range(height):
        sky = f"hsl({(hue + 40 * y // height) % 360}, 70%, {45 + 45 * y // height}%)"
        pen.line((0, y, width, y), fill=sky)
    radius, x = height * rnd.uniform(0.08, 0.16), width * rnd.random()
    y = height * rnd.uniform(0.1, 0.4)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=f"hsl({hue}, 90%, 92%)")
    for layer in range(4):
        phase, waves = rnd.uniform(0, 6), rnd.uniform(1, 3) * (1 + layer / 2)
        top = height * (0.45 + 0.13 * layer)
        ridge = [
            (x, top + height * 0.09 * math.sin(phase + waves * 2 * math.pi * x / width))
            for x in range(width + 1)
        ]
        colour = f"hsl({(hue + 150 + 15 * layer) % 360}, 45%, {52 - 11 * layer}%)"
        pen.polygon([*ridge, (width, height), (0, height)], fill=colour)
    return picture


def encode(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return a picture as a small file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()


def jpeg(seed: int, name: str = "", mode: str = "RGB", size: tuple[int, int] = (96, 72)) -> bytes:
    """Return a drawn JPEG; a comment in it holds `name`, so that equal pictures differ."""
    return encode(draw(seed, size).convert(mode), quality=70, comment=name.encode())


def png(seed: int) -> bytes:
    """Return a drawn PNG, as the one that is named .JPEG."""
    return encode(draw(seed).quantize(32), "PNG")


def rotated(seed: int, name: str = "", size: tuple[int, int] = (96, 72)) -> bytes:
    """Return a JPEG stored on its side with the EXIF orientation that sets it upright."""
    picture = draw(seed, size)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture = picture.transpose(Image.Transpose.ROTATE_90)
    return encode(picture, quality=70, comment=name.encode(), exif=exif)


def with_segment(data: bytes, payload: bytes) -> bytes:
    """Return a JPEG with one more APP1 segment at its beginning."""
    return data[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + data[2:]


def bad_xmp(seed: int, name: str = "") -> bytes:
    """Return a JPEG whose XMP is neither XML nor UTF-8, as n04532106_1553.JPEG: see pyproject.toml.

    It has no EXIF orientation: only then does Pillow look for one in the XMP.
    """
    return with_segment(jpeg(seed, name), b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xa8 <<< &")


def bad_exif(seed: int, name: str = "") -> bytes:
    """Return a JPEG whose EXIF block is garbage."""
    return with_segment(jpeg(seed, name), b"Exif\0\0no TIFF header follows here")


def exif(*entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    """Return an EXIF block of (tag, type, count, value) entries; `after` are bytes at 100."""
    directory = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    block = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    return b"Exif\0\0" + block.ljust(100, b"\0") + after


def with_chunk(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """Return a PNG with one more chunk after its first."""
    size, crc = struct.pack(">I", len(payload)), struct.pack(">I", zlib.crc32(kind + payload))
    return data[:33] + size + kind + payload + crc + data[33:]


ODD = {
    "n01739381_1309.JPEG": lambda name: jpeg(1, name, "CMYK"),
    "n02105855_2933.JPEG": lambda name: png(2),
    "n04532106_1553.JPEG": lambda name: bad_xmp(3, name),
    "n01440764_10026.JPEG": lambda name: rotated(4, name),
    "n01443537_22.JPEG": lambda name: jpeg(5, name, "L"),
}


@cache
def _pool(count: int, size: tuple[int, int]) -> list[bytes]:
    return [jpeg(seed, size=size) for seed in range(count)]


def _image(rnd: random.Random, name: str, size: tuple[int, int]) -> bytes:
    """Return one of a few pictures, but never the same bytes twice."""
    comment = b"\xff\xfe" + (len(name) + 2).to_bytes(2, "big") + name.encode()
    data = rnd.choice(_pool(24, size))
    return data[:2] + comment + data[2:]


# ------------------------------------------------------------------------- archives


def train_images(
    classes: int, per_class: int, seed: int = 0, odd: bool = True
) -> Iterator[tuple[str, list[Member]]]:
    """Yield wnid and members; numbers are neither of one width nor consecutive."""
    rnd = random.Random(seed)
    for wnid in wnids()[:classes]:
        names = [f"{wnid}_{number}.JPEG" for number in rnd.sample(range(1, 40_000), per_class)]
        strange = [name for name in ODD if odd and name.startswith(wnid)]
        names = strange + [name for name in names if name not in ODD][: per_class - len(strange)]
        data = [ODD[n](n) if n in strange else _image(rnd, n, (96, 72)) for n in names]
        yield wnid, list(zip(names, data, strict=True))


def flat_images(
    prefix: str, count: int, seed: int = 0, size: tuple[int, int] = (96, 72)
) -> list[Member]:
    """Return images named by numbers, shuffled."""
    rnd = random.Random(f"{prefix}{seed}")
    numbers = rnd.sample(range(1, 50_001), count)
    names = [f"ILSVRC2012_{prefix}_{number:08d}.JPEG" for number in numbers]
    return [(name, _image(rnd, name, size)) for name in names]


def make_archives(
    folder: Path, classes: int = 10, per_class: int = 3, validation: int = 40, test: int = 0
) -> dict[str, dict[str, Expected]]:
    """Write archives and return, for each split, what must come out for each file name."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, dict[str, Expected]] = {}
    if classes:
        images = dict(train_images(classes, per_class))
        (folder / "ILSVRC2012_img_train.tar").write_bytes(train_tar(images))
        labelled = [(wnids().index(wnid), members) for wnid, members in images.items()]
        expected["train"] = {n: Expected(d, label) for label, ms in labelled for n, d in ms}
    if validation:
        members = flat_images("val", validation)
        (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(members))
        expected["validation"] = {
            n: Expected(d, validation_label(int(n[15:23]))) for n, d in members
        }
    if test:
        members = flat_images("test", test)
        named = [(f"test/{name}", data) for name, data in members]
        whole = header("test/", 0, b"5") + tar(named, blocking=512)
        whole += bytes(-len(whole) % 10_240)
        (folder / "ILSVRC2012_img_test_v10102019.tar").write_bytes(whole)
        expected["test"] = {n: Expected(d, -1) for n, d in members}
    return expected
