"""The protocol of the peers: ``python peers/NAME.py MEASURE --archives A --work W``.

A peer is a file that gives `main` a function to prepare, which returns the number of images, and
one to open the training images of what was prepared, as an object with those of these that it can:

    iter_raw()           the images as bytes, in the order that is fastest
    size(), decoded(i)   one image by number, as three channels of pixels
    loader()             a `DataLoader` with `bare.Transform` and `bare.LOADER`, shuffled

What is measured is printed as a JSON line. Importing libraries is never timed, nor starting Python.
"""

import argparse
import itertools
import json
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bare

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


class Peer:
    """What can be measured of a peer, each by a method named for it."""

    def __init__(self, run: Any, opened: Any) -> None:
        self.run = run
        self.opened = opened

    def prepare(self, args: argparse.Namespace) -> Result:
        """Time the preparation: until the images can be read."""
        with timed() as timer:
            images = self.run(args)
        size = disk_usage(args.work)
        return {"seconds": timer.seconds, "images": images, "peak": peak_bytes(), "disk": size}

    def passed(self, args: argparse.Namespace) -> Result:
        """Time the first `count` undecoded images, or all, from opening on."""
        with timed() as timer:
            rows = itertools.islice(self.opened(args).iter_raw(), args.count or None)
            images = sum(1 for _ in rows)
        return {"seconds": timer.seconds, "images": images}

    def random(self, args: argparse.Namespace) -> Result:
        """Time `count` decoded images at random."""
        reader, rnd = self.opened(args), random.Random(0)
        picked = [rnd.randrange(reader.size()) for _ in range(args.count)]
        bytes(1 << 24)  # this loader makes the allocator keep memory for images: so shall all
        with timed() as timer:
            for index in picked:
                # Kept until the next is there, as in any loop that uses it.
                _image = reader.decoded(index)
        return {"seconds": timer.seconds, "images": args.count}

    def loader(self, args: argparse.Namespace) -> Result:
        """Time about `count` images of the `DataLoader`, from starting its workers on."""
        loader, size = self.opened(args).loader(), bare.LOADER["batch_size"]
        with timed() as timer:
            coming = iter(loader)  # kept, as ending its workers takes seconds
            batches = sum(1 for _ in itertools.islice(coming, args.count // size))
        return {"seconds": timer.seconds, "images": batches * size}


def main(
    prepare: Callable[..., int] | None = None,
    opened: Callable[..., Any] | None = None,
    before: Callable[..., None] | None = None,
    **more: Measure,
) -> None:
    """Run the measure named on the command line, and print its result or error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measure")
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--count", type=int, default=0, help="images to read")
    args = parser.parse_args()
    try:
        if before:
            before(args)
        measure = more.get(args.measure) or getattr(Peer(prepare, opened), args.measure)
        print(json.dumps(measure(args)), flush=True)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
