"""Make archives of ILSVRC2012's structure for the benchmarks: ``make_archives.py FOLDER [--gb 2]``.

The training archive is a tar of class tars and the validation archive a flat tar in no order of
names, as the original ones. The images are drawn: noise at several scales, compressed to about the
sizes that ImageNet has (mean 110 KB, about 500 x 400), which costs a decoder about as much as a
photograph. A pool of them is repeated, and bytes after the end of each image make it distinct.

``--members`` makes the full number of members instead (1,281,167 and 50,000, or ``--part`` of
them) with images of about 1 KB.

Headers are written as bytes: a `tarfile` call for each member would take minutes.
"""

import argparse
import io
import random
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

BLOCK = 512
RECORD = 20 * BLOCK  # `tar` ends an archive on a multiple of this
CLASSES = Path(__file__).resolve().parent.parent / "labels" / "classes.tsv"
SIZES = ((500, 375), (375, 500), (500, 333), (333, 500), (500, 400), (500, 500), (640, 480))
QUALITIES = (92, 94, 95, 96, 97)
FULL_COUNTS = (1_281_167, 50_000)
MEAN_BYTES = 110_000
POOL = 200

Member = tuple[str, bytes]


def draw(rnd: random.Random, small: bool = False) -> bytes:
    """Return a JPEG with detail at several scales: of about 110 KB, or 1 KB if `small`."""
    width, height = (16, 16) if small else rnd.choice(SIZES)
    image = Image.new("RGB", (width, height), tuple(rnd.randrange(60, 200) for _ in range(3)))
    for scale, spread in ((64, 90), (16, 70), (4, 40), (1, rnd.uniform(8, 30))):
        coarse = (max(2, width // scale), max(2, height // scale))
        noise = Image.merge("RGB", [Image.effect_noise(coarse, spread) for _ in range(3)])
        layer = noise.resize((width, height), Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, 0.35)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75 if small else rnd.choice(QUALITIES))
    return file.getvalue()


def header(name: str, size: int) -> bytes:
    """Return a tar header in the old GNU format, as the original archives have."""
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    block[100:148] = b"0000644\0000000000\0000000000\0%011o\00011666672000\0" % size
    block[148:156] = b"        "
    block[156:157] = b"0"
    block[257:265] = b"ustar  \0"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tar(members: Iterable[Member]) -> bytes:
    """Return an uncompressed tar of the members."""
    parts: list[bytes] = []
    total = 0
    for name, data in members:
        parts += (header(name, len(data)), data, bytes(-len(data) % BLOCK))
        total += BLOCK + len(data) + len(parts[-1])
    parts.append(bytes(2 * BLOCK + -(total + 2 * BLOCK) % RECORD))
    return b"".join(parts)


def images(pool: list[bytes], names: Iterable[str], rnd: random.Random) -> Iterator[Member]:
    """Yield an image of the pool for each name, made distinct by the name behind its end."""
    for name in names:
        yield name, pool[int(rnd.random() * len(pool))] + name.encode()


def write_train(path: Path, pool: list[bytes], count: int, rnd: random.Random) -> None:
    """Write a tar of one tar for each class, with `count` images in all."""
    wnids = [line.split("\t")[0] for line in CLASSES.read_text().splitlines()]
    end = 0
    with path.open("wb") as file:
        for index, wnid in enumerate(wnids):
            share = count // len(wnids) + (index < count % len(wnids))
            numbers = [7 * k + rnd.randrange(7) for k in range(1, share + 1)]
            inner = tar(images(pool, (f"{wnid}_{n}.JPEG" for n in numbers), rnd))
            end += file.write(header(f"{wnid}.tar", len(inner)) + inner)
        file.write(bytes(2 * BLOCK + -(end + 2 * BLOCK) % RECORD))


def write_validation(path: Path, pool: list[bytes], count: int, rnd: random.Random) -> None:
    """Write a flat tar of the images 1 to `count` in random order."""
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, count + 1)]
    rnd.shuffle(names)
    path.write_bytes(tar(images(pool, names, rnd)))


def make(folder: Path, train: int, validation: int, small: bool = False, seed: int = 0) -> None:
    """Write both archives, with so many images, into `folder`."""
    rnd = random.Random(seed)
    pool = [draw(rnd, small) for _ in range(POOL)]
    folder.mkdir(parents=True, exist_ok=True)
    write_train(folder / "ILSVRC2012_img_train.tar", pool, train, rnd)
    write_validation(folder / "ILSVRC2012_img_val.tar", pool, validation, rnd)


def make_full(folder: Path, part: float = 1.0) -> tuple[int, int]:
    """Write archives with all the members of the original ones, or a part; return the counts."""
    train, validation = (round(part * count) for count in FULL_COUNTS)
    make(folder, train, validation, small=True)
    return train, validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=2.0, help="size of both together (default 2)")
    parser.add_argument("--images", type=int, help="number of them, instead of a size")
    parser.add_argument("--validation", type=float, default=0.1, help="its share (default 0.1)")
    parser.add_argument("--members", action="store_true", help="all members, of about 1 KB each")
    parser.add_argument("--part", type=float, default=1.0, help="of the members (default 1)")
    args = parser.parse_args()
    if args.members:
        make_full(args.folder, args.part)
    else:
        count = args.images or round(args.gb * 1e9 / MEAN_BYTES)
        make(args.folder, count - round(count * args.validation), round(count * args.validation))
    for path in sorted(args.folder.glob("*.tar")):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
