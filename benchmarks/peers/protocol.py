"""The protocol of the peers: ``python peers/NAME.py MEASURE --archives A --work W [--procs N]``.

A peer is a file that gives `main` a function to prepare, which returns the number of images, and
one to open the training images of what was prepared, as an object with those methods that it can:

    iter_raw(), iter_decoded()    the images as bytes, and as three channels of pixels, in the
                                  order that is fastest
    size(), raw(i), decoded(i)    one image of those, by number
    shuffled_labels()             the labels in the order in which a shuffled epoch has them
    loader()                      a `DataLoader` with `training_transform` and `LOADER`, shuffled

What is measured is printed as one
JSON line. Importing libraries is never timed.
"""

import argparse
import io
import itertools
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
BATCH = 256  # of the first batch, and of those whose classes are counted
DECODED = 1024  # so many images are decoded, at most
RAW = 20_000  # so many are read without decoding, at most

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
        with timed() as whole:
            with timed() as timer:
                images = prepare(args)
            peak = peak_bytes()
            reader = opened(args)
            if batch := hasattr(reader, "iter_decoded"):
                for _ in itertools.islice(reader.iter_decoded(), BATCH):
                    pass
        result = {**vars(timer), "images": images, "peak": peak}
        return result | ({"first_batch": whole.seconds} if batch else {})

    return measure


def read_measure(opened: Callable[..., Any]) -> Measure:
    """Time all that the reader can do; seconds are those for one image."""
    steps: dict[str, tuple[str, Callable[[Any, int], float]]] = {
        "sequential": ("iter_raw", lambda reader, _: _passed(reader.iter_raw(), RAW)),
        "sequential_decoded": ("iter_decoded", lambda reader, _: _passed(reader.iter_decoded())),
        "random": ("raw", lambda reader, seed: _picked(reader.raw, reader.size(), 2000, seed)),
        "random_decoded": (
            "decoded",
            lambda reader, seed: _picked(reader.decoded, reader.size(), 500, seed),
        ),
        "dataloader": ("loader", lambda reader, _: _loaded(reader.loader())),
    }

    def measure(args: argparse.Namespace) -> Result:
        result: Result = {}
        for name, (needed, step) in steps.items():
            reader = opened(args)  # anew, as some keep what they have read
            if hasattr(reader, needed):
                result[name] = step(reader, args.seed)
        return {**result, "peak": peak_bytes()}

    return measure


def _passed(images: Iterable[Any], limit: int = DECODED) -> float:
    with timed() as timer:
        count = sum(1 for _ in itertools.islice(images, limit))
    return timer.seconds / count


def _picked(get: Callable[[int], Any], size: int, count: int, seed: int) -> float:
    rows = [random.Random(seed).randrange(size) for _ in range(count)]
    kept = get(rows[0])
    with timed() as timer:
        for row in rows:
            # Kept until the next is there, as in any loop that uses it. If it were freed at once,
            # the allocator would return its memory to the system and fetch it again every time.
            kept = get(row)
    del kept
    return timer.seconds / count


def _loaded(loader: Iterable[Any]) -> float:
    """Return seconds per image once the batches that the workers prefetch are behind."""
    batches = iter(loader)
    for _ in range(2 * LOADER["num_workers"]):
        next(batches)
    with timed() as timer:
        steps = sum(1 for _ in itertools.islice(batches, DECODED // LOADER["batch_size"]))
    return timer.seconds / (steps * LOADER["batch_size"])


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
    """Run the measure named on the command line, and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measure")
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--procs", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    measures = dict(more)
    if prepare and opened:
        measures["prepare"] = prepare_measure(prepare, opened, before)
    if opened:
        measures["read"] = read_measure(opened)
        measures["distinct"] = distinct_measure(opened)
    result = measures[args.measure](args)
    print(json.dumps({"peak": peak_bytes(), **result}))
