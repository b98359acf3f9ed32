"""Say what a run over all 1,281,167 images costs: ``scale.py [--part 8] [--piece 512] ...``.

For object storage, requests are counted: the loader itself reads a training archive with images of
the original's size that exists only as a file system, which makes up the bytes (headers where they
belong, zeros for images). It has one class in `--part`, and counts are scaled up. For disks, where
the kernel reads, requests follow from how the loader announces what it will read: the options say
how. A model then turns requests into minutes and dollars, with the figures of `STORES`, which are
assumptions, not measurements.
"""

import argparse
import bisect
import os
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import NamedTuple

import datasets
import fsspec
import make_archives

import imagenet2012
from imagenet2012.remote import REQUESTS, RemoteFile
from imagenet2012.storage import UNDER_WAY
from make_archives import FULL_COUNT
from make_archives import FULL_SIZE

URL = "sim://full/ILSVRC2012_img_train.tar"
BLOCK = 512


class Pattern(NamedTuple):
    """A way of reading.

    Attributes
    ----------
    requests, bytes : float
        For each image.
    under_way : int
        Requests at a time in a process.
    ordered : bool
        Whether it goes on in the order of the archive, so that a disk need not seek.
    """

    requests: float
    bytes: float
    under_way: int
    ordered: bool = False


class Store(NamedTuple):
    """What a storage gives: assumptions.

    Attributes
    ----------
    latency : float
        Seconds until the first byte of a request.
    stream, total : float
        Bytes a second of one request, and of all.
    requests : float
        Requests a second at most.
    price : float
        Dollars for a request.
    work, work_per_byte : float
        Seconds of a core that the client takes.
    """

    latency: float
    stream: float
    total: float
    requests: float
    price: float = 0
    work: float = 0
    work_per_byte: float = 0


STORES = {
    "hard disk": Store(8e-3, 150e6, 150e6, 125),
    "NVMe disk": Store(1e-4, 2e9, 3e9, 5e5, work=3e-5),
    "shared file system": Store(1e-3, 500e6, 2e9, 5e4, work=3e-5),
    "object storage": Store(0.1, 90e6, 1.25e9, 5500, 0.0004 / 1000, 4e-3, 1.7e-9),
}
PROCESSES = 8


class Simulated(fsspec.AbstractFileSystem):
    """A training archive of the original's shape; counts what is asked of it."""

    protocol = "sim"
    headers: ClassVar[dict[int, bytes]] = {}
    places: ClassVar[list[int]] = []
    size = 0
    asked: ClassVar[Counter[str]] = Counter()

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        if not path.endswith("ILSVRC2012_img_train.tar"):
            raise FileNotFoundError(path)
        return {"name": path, "size": self.size, "type": "file"}

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> "SimulatedFile":
        return SimulatedFile(self, path, mode, cache_type="none", size=self.size)

    def cat_file(self, path: str, start: int = 0, end: int = 0, **kwargs: Any) -> bytes:
        self.asked["requests"] += 1
        self.asked["bytes"] += end - start
        data = bytearray(end - start)
        index = bisect.bisect_left(self.places, start - BLOCK + 1)
        while index < len(self.places) and self.places[index] < end:
            place = self.places[index]
            block = self.headers[place]
            begin, stop = max(place, start), min(place + BLOCK, end)
            data[begin - start : stop - start] = block[begin - place : stop - place]
            index += 1
        return bytes(data)


class SimulatedFile(fsspec.spec.AbstractBufferedFile):
    """An open file of it."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.cat_file(self.path, start, end)


def make(part: int) -> int:
    """Lay out every `part`-th class, with images of the original's mean size; count them."""
    rnd = random.Random(0)
    wnids = imagenet2012.WNIDS[::part]
    mean = FULL_SIZE / FULL_COUNT - 1.5 * BLOCK
    offset = images = 0
    for wnid in wnids:
        count = rnd.choice((732, 1300, 1300, 1300, 1300, 1300, 1300))
        sizes = [int(rnd.lognormvariate(0, 0.6) * mean / 1.197) for _ in range(count)]
        length = sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes) + 2 * BLOCK
        Simulated.headers[offset] = make_archives.header(f"{wnid}.tar", length)
        offset += BLOCK
        for number, size in enumerate(sizes):
            name = f"{wnid}_{number}.JPEG"
            Simulated.headers[offset] = make_archives.header(name, size)
            offset += BLOCK + -(-size // BLOCK) * BLOCK
        offset += 2 * BLOCK
        images += count
    Simulated.places = sorted(Simulated.headers)
    Simulated.size = offset + 2 * BLOCK
    return images


def counted(read: Any, *traits: Any) -> Pattern:
    """Count requests and bytes for each image that `read` reads."""
    Simulated.asked.clear()
    images = read()
    return Pattern(Simulated.asked["requests"] / images, Simulated.asked["bytes"] / images, *traits)


def passed(dataset: Any) -> int:
    """Read rows, undecoded; return their number."""
    return sum(1 for _ in dataset.cast_column("image", datasets.Image(decode=False)))


def patterns(cache: str) -> dict[str, Pattern]:
    """Count each way of reading."""
    files: dict[str, Any] = {"data_files": {"train": URL}, "split": "train"}
    os.environ["IMAGENET2012_DIR"] = URL.rpartition("/")[0]  # where rows in place look
    placed: list[Any] = []

    def index() -> int:
        placed.append(
            imagenet2012.load(
                None, "in_place", cache_dir=cache, verification_mode="no_checks", **files
            )
        )
        return len(placed[0])

    def at_random() -> int:
        names = imagenet2012.Imagenet2012FileSystem()
        rows = placed[0].select(random.Random(0).sample(range(len(placed[0])), 2000))
        for row in rows.cast_column("image", datasets.Image(decode=False)):
            names.cat_file(row["image"]["path"])
        return len(rows)

    def streamed(order: str) -> int:
        return passed(imagenet2012.load(streaming=True, order=order, **files))

    return {
        "copy, or streaming in archive order": counted(
            lambda: streamed("archive"), RemoteFile.ALONE[1] // RemoteFile.ALONE[0], True
        ),
        "streaming in mixed order": counted(lambda: streamed("mixed"), REQUESTS),
        "index in place": counted(index, REQUESTS, True),
        "an epoch in place, at random": counted(at_random, 1),
    }


def local(args: argparse.Namespace) -> dict[str, Pattern]:
    """Return each way of reading from a disk, as the loader announces it to the kernel."""
    mean = FULL_SIZE / FULL_COUNT
    return {
        "copy, or streaming in archive order": Pattern(mean / (128 << 10), mean, 1, True),
        "streaming in mixed order": Pattern(mean / (args.piece << 10), mean, args.headers),
        "index in place": Pattern(1, 4096, args.headers, True),
        "an epoch in place, at random": Pattern(1, mean, args.batch),
    }


def seconds(store: Store, pattern: Pattern) -> float:
    """Model the time of a pass over all images in `PROCESSES` processes."""
    requests, volume = pattern.requests * FULL_COUNT, pattern.bytes * FULL_COUNT
    if store.total == store.stream:  # one thing at a time: a disk with a head
        # To skip images on the way to the next header takes no longer than to read them.
        seeking = 0 if pattern.ordered and pattern.bytes > 1e5 else requests * store.latency
        reading = volume / store.stream + seeking
        return min(reading, FULL_SIZE / store.stream) if pattern.ordered else reading
    latency = 0 if store.price == 0 and pattern.ordered and pattern.bytes > 1e5 else store.latency
    waiting = (requests * latency + volume / store.stream) / (PROCESSES * pattern.under_way)
    work = (requests * store.work + volume * store.work_per_byte) / PROCESSES
    return max(waiting, work, volume / store.total, requests / store.requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", type=int, default=8, help="one class in so many (default 8)")
    parser.add_argument("--piece", type=int, default=512, help="KiB of a tar read at a time, mixed")
    parser.add_argument(
        "--headers", type=int, default=UNDER_WAY, help="headers, or pieces, under way"
    )
    parser.add_argument("--batch", type=int, default=UNDER_WAY, help="images under way, in place")
    args = parser.parse_args()
    fsspec.register_implementation("sim", Simulated)
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    images = make(args.part)
    print(f"{images:,} images, {Simulated.size:,} bytes simulated", flush=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as cache:
        found = patterns(cache)
    print(
        "\n| | requests to object storage | GiB | "
        + " | ".join(STORES)
        + " | price of the requests |"
    )
    print("|---|---:|---:|" + "---:|" * (len(STORES) + 1))
    for name, pattern in found.items():
        requests, volume = pattern.requests * FULL_COUNT, pattern.bytes * FULL_COUNT / 2**30
        ways = [pattern if store.price else local(args)[name] for store in STORES.values()]
        minutes = [
            seconds(store, way) / 60 for store, way in zip(STORES.values(), ways, strict=True)
        ]
        times = " | ".join(f"{one:,.1f} min" for one in minutes)
        price = requests * STORES["object storage"].price
        print(f"| {name} | {requests:,.0f} | {volume:,.1f} | {times} | ${price:.2f} |")


if __name__ == "__main__":
    main()
