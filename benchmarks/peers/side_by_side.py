"""Single images in place beside `os.pread` and Pillow, in one process, in turns row by row."""

import argparse
import io
import os
import random
import statistics
from collections.abc import Callable
from typing import Any

import datasets
import fsspec
import PIL.Image
import protocol
import this_loader
from hf_reader import undecoded
from protocol import timed

Access = Callable[[int], object]


def in_turns(args: argparse.Namespace, size: int, ours: Access, bare: Access) -> dict[str, Any]:
    """Time both on random rows, each on rows of its own; return the means."""
    rnd = random.Random(args.seed)
    times: dict[Access, list[float]] = {ours: [], bare: []}
    kept: dict[Access, object] = {}
    for _ in range(args.count):
        for access in rnd.sample((ours, bare), 2):
            row = rnd.randrange(size)
            with timed() as timer:
                kept[access] = access(row)  # until the next, as its memory would go back
            times[access].append(timer.seconds)
    return {"ours": statistics.mean(times[ours]), "bare": statistics.mean(times[bare])}


def load(args: argparse.Namespace) -> tuple[Any, list[str], Callable[[int], bytes]]:
    """Return the training split, the URLs of its images, and a bare read of one by number."""
    args.variant = "in_place"
    train = this_loader.load(args, split="train")
    urls = [row["image"]["path"] for row in undecoded(train)]
    places = [tuple(map(int, url.split("/")[-2].split("-"))) for url in urls]
    file = os.open(args.archives / protocol.TRAIN, os.O_RDONLY)

    def bare(row: int) -> bytes:
        header, size = places[row]
        return os.pread(file, size, header + 512)

    return train, urls, bare


def undecoded_images(args: argparse.Namespace) -> dict[str, Any]:
    """Read images through `fsspec`, and by bare `pread`."""
    _, urls, bare = load(args)

    def ours(row: int) -> bytes:
        with fsspec.open(urls[row]) as file:
            return bytes(file.read())

    return in_turns(args, len(urls), ours, bare)


def decoded_rows(args: argparse.Namespace) -> dict[str, Any]:
    """Take rows of the dataset, and images by `pread` and Pillow."""
    train, urls, bare = load(args)

    def pillow(row: int) -> PIL.Image.Image:
        return PIL.Image.open(io.BytesIO(bare(row))).convert("RGB")

    return in_turns(args, len(urls), lambda row: train[row]["image"], pillow)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    protocol.main(undecoded=undecoded_images, decoded=decoded_rows)
