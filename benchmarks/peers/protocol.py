"""The protocol of the peers: ``python peers/NAME.py MEASURE ... --archives A --work W``.

A peer is a file that gives `main` a function to prepare, which returns the number of images, and
one to open the training images of what was prepared, as an object with those methods that it can:

    iter_raw(), iter_decoded()    the images as bytes, and as three channels of pixels, in the
                                  order that is fastest
    size(), raw(i), decoded(i)    one image of those, by number
    shuffled_labels()             the labels in the order in which a shuffled epoch has them
    loader()                      a `DataLoader` with `bare.Transform` and `bare.LOADER`, shuffled

What is measured is printed as a JSON line after each measure. Importing libraries is never timed.
Reading from memory (`read`) is timed in turns with the same work without a library (`bare.Bare`).
As a virtual machine's speed changes from minute to minute, peers are compared by their ratios to
that. Reading from cold storage (`pass`, `loader`) is timed once: the caller has dropped the pages.
"""

import argparse
import functools
import itertools
import json
import random
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import NamedTuple

import bare

BATCH = 256  # of the first batch, and of those whose classes are counted
RAW, DECODED = 1024, 256  # so many images are read in a turn, and read and decoded
BATCHES = 6  # of the DataLoader in a turn
SKIPPED = 32  # images at the beginning of each turn, which are not timed

Result = dict[str, Any]
Measure = Callable[[argparse.Namespace], Result]


class Timer:
    """Seconds that passed in a ``with`` block."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    """Time a block."""
    timer, start = Timer(), time.perf_counter()
    try:
        yield timer
    finally:
        timer.seconds = time.perf_counter() - start


def peak_bytes() -> int:
    """Return the greatest resident memory of this process or of one of its children."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if not status.exists():
        return max(children, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # Not ru_maxrss: on Linux that is at least what the process had that started this one.
    (own,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return max(children, 1024 * int(own.split()[1]))


def disk_usage(folder: Path) -> int:
    """Return the bytes that the files below a folder take."""
    return sum(p.lstat().st_blocks * 512 for p in folder.rglob("*") if not p.is_dir())


class Way(NamedTuple):
    """A way of reading.

    Attributes
    ----------
    needed : str
        The method that a reader must have for it.
    items : callable
        Makes an iterator of a reader and a source of random numbers.
    count, skipped : int
        Items of it that are timed in a turn, and that come before those.
    images : int
        Images in an item.
    """

    needed: str
    items: Callable[[Any, random.Random], Iterable[Any]]
    count: int
    skipped: int = SKIPPED
    images: int = 1


def _picked(get: Callable[[int], Any], size: int, rnd: random.Random) -> Iterator[Any]:
    return (get(rnd.randrange(size)) for _ in itertools.count())


WAYS = {
    "sequential": Way("iter_raw", lambda reader, _: reader.iter_raw(), RAW),
    "sequential_decoded": Way("iter_decoded", lambda reader, _: reader.iter_decoded(), DECODED),
    "random": Way("raw", lambda reader, rnd: _picked(reader.raw, reader.size(), rnd), RAW),
    "random_decoded": Way(
        "decoded", lambda reader, rnd: _picked(reader.decoded, reader.size(), rnd), DECODED
    ),
    "dataloader": Way(
        "loader",
        lambda reader, _: reader.loader(),
        BATCHES,
        skipped=2 * bare.LOADER["num_workers"],  # those that the workers prefetch
        images=bare.LOADER["batch_size"],
    ),
}


def _turn(items: Iterable[Any], skipped: int, count: int) -> float:
    """Return seconds for one of `count` items that follow the skipped ones."""
    coming = iter(items)
    for _ in itertools.islice(coming, skipped):
        pass
    taken = 0
    with timed() as timer:
        # Each is kept until the next is there, as in any loop that uses it. If it were freed at
        # once, its memory would go back to the system and be fetched again.
        for _item in itertools.islice(coming, count):
            taken += 1
    return timer.seconds / taken


class Peer:
    """What can be measured of a peer, each by a method named for it."""

    def __init__(self, prepare: Any, opened: Any) -> None:
        self.run = prepare
        self.opened = opened

    def prepare(self, args: argparse.Namespace) -> Result:
        """Time the preparation, and on from there to the first batch of decoded images."""
        with timed() as timer:
            images = self.run(args)
        peak, disk = peak_bytes(), disk_usage(args.work)
        with timed() as more:
            reader = self.opened(args)
            # Where a count is given, not all images can be decoded: the archive has holes.
            if batch := hasattr(reader, "iter_decoded") and not args.count:
                for _ in itertools.islice(reader.iter_decoded(), BATCH):
                    pass
        result = {"seconds": timer.seconds, "images": images, "peak": peak, "disk": disk}
        return result | ({"first_batch": timer.seconds + more.seconds} if batch else {})

    def read(self, args: argparse.Namespace) -> Result:
        """Time all that the reader can do, in turns with the bare loop; seconds for one image."""
        bytes(1 << 24)  # this loader makes the allocator keep memory for images: so shall all
        result: Result = {}
        for name, way in WAYS.items():
            reader = self.opened(args)  # anew, as some keep what they have read
            if hasattr(reader, way.needed):
                both = (reader, bare.Bare(args.archives / bare.TRAIN))
                new = [functools.partial(way.items, r, random.Random(args.seed)) for r in both]
                # One after another, not in parallel: some read ahead in threads of their own.
                turns = [_turn(new[k](), way.skipped, way.count) for k in (0, 1, 1, 0)]
                result[name] = (turns[0] + turns[3]) / 2 / way.images
                result[f"{name}_bare"] = (turns[1] + turns[2]) / 2 / way.images
        return result

    def passed(self, args: argparse.Namespace) -> Result:
        """Time the first `count` undecoded images, or all, from opening on."""
        with timed() as timer:
            rows = itertools.islice(self.opened(args).iter_raw(), args.count or None)
            images = sum(1 for _ in rows)
        return {"seconds": timer.seconds, "images": images}

    def loader(self, args: argparse.Namespace) -> Result:
        """Time about `count` images of the `DataLoader`, from starting its workers on."""
        loader, size = self.opened(args).loader(), bare.LOADER["batch_size"]
        with timed() as timer:
            coming = iter(loader)  # kept, as ending its workers takes seconds
            batches = sum(1 for _ in itertools.islice(coming, args.count // size))
        return {"seconds": timer.seconds, "images": batches * size}

    def distinct(self, args: argparse.Namespace) -> Result:
        """Count the different classes in each of the first eight batches of a shuffled epoch."""
        labels = iter(self.opened(args).shuffled_labels())
        batches = [list(itertools.islice(labels, BATCH)) for _ in range(8)]
        return {"distinct": statistics.median(len(set(batch)) for batch in batches)}


def main(
    prepare: Callable[..., int] | None = None,
    opened: Callable[..., Any] | None = None,
    before: Callable[..., None] | None = None,
    **more: Measure,
) -> None:
    """Run the measures named on the command line, up to the first error; print their results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measures", nargs="+")
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--procs", type=int, default=1)
    parser.add_argument("--count", type=int, default=0, help="images to read")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if before:
        before(args)
    peer = Peer(prepare, opened)
    result: Result = {}
    for measure in args.measures:
        args.measure = measure
        try:
            result |= (more.get(measure) or getattr(peer, measure))(args)
        except Exception as error:
            traceback.print_exc()
            result["error"] = f"{measure}: {type(error).__name__}: {error}"
            break
        if "peak" not in result:  # what the first measure left; reading with torch has torch's
            result |= {"peak": peak_bytes(), "disk": disk_usage(args.work)}
        print(json.dumps(result), flush=True)
    if "error" in result:
        print(json.dumps(result))
