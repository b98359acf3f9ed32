"""The protocol of the peers: ``python peers/NAME.py MEASURE ... --archives A --work W``.

A peer is a file that gives `main` a function to prepare, which returns the number of images, and
one to open the training images of what was prepared, as an object with those methods that it can:

    iter_raw(), iter_decoded()    the images as bytes, and as three channels of pixels, in the
                                  order that is fastest
    size(), raw(i), decoded(i)    one image of those, by number
    shuffled_labels()             the labels in the order in which a shuffled epoch has them
    loader()                      a `DataLoader` with `training_transform` and `LOADER`, shuffled

What is measured is printed as a JSON line after each measure. Importing libraries is never timed.
All reading is timed in turns with the same work without a library (`os.pread`, Pillow, a bare torch
dataset). As a virtual machine's speed changes from minute to minute, peers are compared by their
ratios to that.
"""

import argparse
import functools
import io
import itertools
import json
import os
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

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
BATCH = 256  # of the first batch, and of those whose classes are counted
RAW, DECODED = 1024, 256  # so many images are read in a turn, and read and decoded
BATCHES = 6  # of the DataLoader in a turn
SKIPPED = 32  # images at the beginning of each turn, which are not timed

Result = dict[str, Any]
Measure = Callable[[argparse.Namespace], Result]


class Timer:
    """Seconds that passed in a ``with`` block, and seconds of processors in it.

    The latter, of this process and of the children that ended, do not depend on what else the
    machine is doing.
    """

    seconds = 0.0
    cpu = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    """Time a block."""
    timer, start, used = Timer(), time.perf_counter(), sum(os.times()[:4])
    try:
        yield timer
    finally:
        timer.seconds = time.perf_counter() - start
        timer.cpu = sum(os.times()[:4]) - used


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


def pillow(data: bytes) -> Any:
    """Decode with Pillow."""
    import PIL.Image

    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def training_transform() -> Callable[[Any], Any]:
    """Return the usual transform for training on images of 224 x 224."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


LOADER: dict[str, Any] = {"batch_size": 64, "num_workers": 2}


def prepare_measure(
    prepare: Callable[..., int],
    opened: Callable[..., Any],
    before: Callable[..., None] | None = None,
) -> Measure:
    """Time the preparation, and on from there to the first batch of decoded images."""

    def measure(args: argparse.Namespace) -> Result:
        if before:
            before(args)
        with timed() as timer:
            images = prepare(args)
        peak, disk = peak_bytes(), disk_usage(args.work)
        with timed() as more:
            reader = opened(args)
            if batch := hasattr(reader, "iter_decoded"):
                for _ in itertools.islice(reader.iter_decoded(), BATCH):
                    pass
        result = {**vars(timer), "images": images, "peak": peak, "disk": disk}
        return result | ({"first_batch": timer.seconds + more.seconds} if batch else {})

    return measure


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
        skipped=2 * LOADER["num_workers"],  # those that the workers prefetch
        images=LOADER["batch_size"],
    ),
}


def read_measure(opened: Callable[..., Any]) -> Measure:
    """Time all that the reader can do, in turns with the bare loop; seconds for one image."""

    def measure(args: argparse.Namespace) -> Result:
        result: Result = {}
        for name, way in WAYS.items():
            reader = opened(args)  # anew, as some keep what they have read
            if hasattr(reader, way.needed):
                result[name], result[f"{name}_bare"] = _in_turns(reader, way, args)
        return result

    return measure


def dataloader_measure(opened: Callable[..., Any]) -> Measure:
    """Time the `DataLoader` alone."""

    def measure(args: argparse.Namespace) -> Result:
        ours, bare = _in_turns(opened(args), WAYS["dataloader"], args)
        return {"seconds": ours, "bare": bare}

    return measure


def _in_turns(reader: Any, way: Way, args: argparse.Namespace) -> tuple[float, float]:
    """Return seconds for an image of the reader, and of the bare loop."""
    from limits import Bare

    # This loader makes the allocator keep memory for images: so shall all, the bare loop too.
    bytes(1 << 24)
    both = (reader, Bare(args.archives / TRAIN))
    ours, bare = (functools.partial(way.items, one, random.Random(args.seed)) for one in both)
    # One after another, not in parallel: some read ahead in threads of their own.
    turns = [_turn(new(), way.skipped, way.count) for new in (ours, bare, bare, ours)]
    return (turns[0] + turns[3]) / 2 / way.images, (turns[1] + turns[2]) / 2 / way.images


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


def distinct_measure(opened: Callable[..., Any]) -> Measure:
    """Count the different classes in each of the first eight batches of a shuffled epoch."""

    def measure(args: argparse.Namespace) -> Result:
        labels = iter(opened(args).shuffled_labels())
        batches = [list(itertools.islice(labels, BATCH)) for _ in range(8)]
        return {"distinct": statistics.median(len(set(batch)) for batch in batches)}

    return measure


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
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    known = dict(more)
    if prepare and opened:
        known["prepare"] = prepare_measure(prepare, opened, before)
    if opened:
        known["read"] = read_measure(opened)
        known["distinct"] = distinct_measure(opened)
        known["dataloader"] = dataloader_measure(opened)
    result: Result = {}
    for measure in args.measures:
        args.measure = measure
        try:
            result |= known[measure](args)
        except Exception as error:
            traceback.print_exc()
            result["error"] = f"{measure}: {type(error).__name__}: {error}"
            break
        if "peak" not in result:  # what the first measure left; reading with torch has torch's
            result |= {"peak": peak_bytes(), "disk": disk_usage(args.work)}
        print(json.dumps(result), flush=True)
    if "error" in result:
        print(json.dumps(result))
