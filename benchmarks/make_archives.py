"""Make archives of ILSVRC2012's structure for the benchmarks: ``make_archives.py FOLDER [--gb 2]``.

The training archive is a tar of class tars and the validation archive a flat tar in no order of
names, as the original ones. The images are drawn: noise at several scales, compressed to about the
sizes that ImageNet has (mean 110 KB, about 500 x 400), which costs a decoder about as much as a
photograph. A pool of them is repeated, and bytes after the end of each image make it distinct.
Beside them, facts.json holds the MD5 and the number of images of each archive.

``--sparse`` makes a training archive of the official size and number of members, in which every
header is written, but only the first 16 images of each class: the rest are holes. It takes 7 GB of
disk, and cannot be decoded beyond those.

Headers are written as bytes: a `tarfile` call for each member would take minutes.
"""

import argparse
import hashlib
import io
import json
import os
import random
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

BLOCK = 512
RECORD = 20 * BLOCK  # `tar` ends an archive on a multiple of this
TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
CLASSES = Path(__file__).resolve().parent.parent / "labels" / "classes.tsv"
SIZES = ((500, 375), (375, 500), (500, 333), (333, 500), (500, 400), (500, 500), (640, 480))
QUALITIES = (92, 94, 95, 96, 97)
FULL_COUNT, FULL_SIZE = 1_281_167, 147_897_477_120  # of train
MEAN_BYTES = 110_000
WRITTEN = 16  # images of each class in a sparse archive; a region in mixed order has about 10
POOL = 200

Member = tuple[str, bytes]


def draw(rnd: random.Random) -> bytes:
    """Return a JPEG of about 110 KB with detail at several scales."""
    width, height = rnd.choice(SIZES)
    image = Image.new("RGB", (width, height), tuple(rnd.randrange(60, 200) for _ in range(3)))
    for scale, spread in ((64, 90), (16, 70), (4, 40), (1, rnd.uniform(8, 30))):
        coarse = (max(2, width // scale), max(2, height // scale))
        noise = Image.merge("RGB", [Image.effect_noise(coarse, spread) for _ in range(3)])
        layer = noise.resize((width, height), Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, 0.35)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rnd.choice(QUALITIES))
    return file.getvalue()


def header(name: str, size: int) -> bytes:
    """Return a tar header in the old GNU format, as the original archives have."""
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    block[100:148] = b"0000644\0000000000\0000000000\0%011o\00011666672000\0" % size
    block[148:156] = b"        "
    block[156:157] = b"0"
    block[257:265] = b"ustar  \0"
    # The sum of the bytes, which is all that the low half of Adler-32 holds of so few.
    block[148:156] = b"%06o\0 " % ((zlib.adler32(block) & 0xFFFF) - 1)
    return bytes(block)


def padded(size: int) -> int:
    """Return the bytes that a member takes in a tar, without its header."""
    return -(-size // BLOCK) * BLOCK


def end_of_tar(size: int) -> int:
    """Return the zero bytes that end a tar whose members take `size` bytes."""
    return 2 * BLOCK + -(size + 2 * BLOCK) % RECORD


def tar(members: Iterable[Member]) -> bytes:
    """Return an uncompressed tar of the members."""
    parts: list[bytes] = []
    total = 0
    for name, data in members:
        parts += (header(name, len(data)), data, bytes(-len(data) % BLOCK))
        total += BLOCK + padded(len(data))
    return b"".join((*parts, bytes(end_of_tar(total))))


def wnids(classes: int) -> list[str]:
    return [line.split("\t")[0] for line in CLASSES.read_text().splitlines()][:classes]


def images(pool: list[bytes], names: Iterable[str], rnd: random.Random) -> Iterator[Member]:
    """Yield an image of the pool for each name, made distinct by the name behind its end."""
    for name in names:
        yield name, pool[int(rnd.random() * len(pool))] + name.encode()


def class_images(wnid: str, count: int, pool: list[bytes], rnd: random.Random) -> Iterator[Member]:
    """Yield the images of a class, whose numbers are neither consecutive nor of fixed width."""
    numbers = [7 * k + rnd.randrange(7) for k in range(1, count + 1)]
    return images(pool, (f"{wnid}_{number}.JPEG" for number in numbers), rnd)


def write_train(
    path: Path, pool: list[bytes], count: int, rnd: random.Random, classes: int = 1000
) -> None:
    """Write a tar of one tar for each class, with `count` images in all."""
    end = 0
    with path.open("wb") as file:
        for index, wnid in enumerate(wnids(classes)):
            share = count // classes + (index < count % classes)
            inner = tar(class_images(wnid, share, pool, rnd))
            end += file.write(header(f"{wnid}.tar", len(inner)) + inner)
        file.write(bytes(end_of_tar(end)))


def write_validation(path: Path, pool: list[bytes], count: int, rnd: random.Random) -> None:
    """Write a flat tar of the images 1 to `count` in random order."""
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, count + 1)]
    rnd.shuffle(names)
    path.write_bytes(tar(images(pool, names, rnd)))


def write_sparse(path: Path, pool: list[bytes], rnd: random.Random, classes: int = 1000) -> int:
    """Write a training archive of the official shape, mostly of holes; return its members."""
    total, place = FULL_COUNT * classes // 1000, 0
    longer = FULL_SIZE // FULL_COUNT - 3 * BLOCK // 2 - sum(map(len, pool)) // len(pool)
    with path.open("wb", buffering=0) as file:
        for index, wnid in enumerate(wnids(classes)):
            share = total // classes + (index < total % classes)
            start = place = place + BLOCK
            for number, (name, data) in enumerate(class_images(wnid, share, pool, rnd)):
                head = header(name, len(data) + longer)
                os.pwrite(file.fileno(), head + data if number < WRITTEN else head, place)
                place += BLOCK + padded(len(data) + longer)
            place += end_of_tar(place - start)
            os.pwrite(file.fileno(), header(f"{wnid}.tar", place - start), start - BLOCK)
        file.truncate(place + end_of_tar(place))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=2.0, help="size of both together (default 2)")
    parser.add_argument("--classes", type=int, default=1000, help="class tars (default 1000)")
    parser.add_argument("--sparse", action="store_true", help="train, of the official size")
    args = parser.parse_args()
    rnd = random.Random(0)
    pool = [draw(rnd) for _ in range(POOL)]
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.sparse:
        write_sparse(args.folder / TRAIN, pool, rnd, args.classes)
        return
    count = round(args.gb * 1e9 / MEAN_BYTES)
    counts = {TRAIN: count - count // 10, VALIDATION: count // 10}
    write_train(args.folder / TRAIN, pool, counts[TRAIN], rnd, args.classes)
    write_validation(args.folder / VALIDATION, pool, counts[VALIDATION], rnd)
    facts = {name: (md5(args.folder / name), count) for name, count in counts.items()}
    (args.folder / "facts.json").write_text(json.dumps(facts))


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


if __name__ == "__main__":
    main()
