"""This loader; the variants are copy and in_place, its configurations, stream, and threads."""

import argparse
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
import datasets
import imagenet2012
import protocol
from hf_reader import ArrowReader
from hf_reader import StreamReader
from hf_reader import bytes_of
from hf_reader import undecoded
from protocol import timed

NAMES = {"copy": "default", "in_place": "in_place", "stream": "default", "threads": "default"}
STREAMED = ("stream", "threads")


def load(args: argparse.Namespace, **kwargs: Any) -> Any:
    """Load all splits, or what `kwargs` say, from the archives or the cache in the work folder."""
    variant, _, split = args.variant.partition(":")
    if variant in STREAMED:
        kwargs["streaming"] = True
    elif args.procs > 1:
        kwargs["num_proc"] = args.procs
    return imagenet2012.load(
        args.archives,
        NAMES[variant],
        split=kwargs.pop("split", split or None),
        cache_dir=str(args.work / "cache"),
        verification_mode="no_checks",
        **kwargs,
    )


def import_torch(args: argparse.Namespace) -> None:
    """Import what `datasets` imports to stream, where it is installed: imports are not timed."""
    if args.variant in STREAMED:
        with contextlib.suppress(ImportError):
            import torch.utils.data  # noqa: F401


def prepare(args: argparse.Namespace) -> int:
    made = load(args)
    if args.variant in STREAMED:
        return 0
    return sum(made.num_rows.values()) if isinstance(made, dict) else len(made)


class ThreadedReader:
    """A stream that is decoded in two threads, as a loop without a `DataLoader` may wish."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream.decode(num_threads=2)

    def iter_decoded(self) -> Iterable[Any]:
        return (row["image"] for row in self.stream)


def opened(args: argparse.Namespace) -> ArrowReader | StreamReader | ThreadedReader:
    if args.variant in STREAMED:
        order = "mixed" if args.measure == "distinct" else "archive"
        stream = load(args, split="train", order=order)
        return StreamReader(stream) if args.variant == "stream" else ThreadedReader(stream)
    split = "validation" if args.variant.endswith(":validation") else "train"
    return ArrowReader(load(args, split=split))


def stream_all(args: argparse.Namespace) -> dict[str, Any]:
    """Stream both splits from end to end, undecoded."""
    with timed() as timer:
        volume = images = 0
        for split in load(args).values():
            for row in undecoded(split):
                images += 1
                volume += len(bytes_of(row["image"]))
    return {**vars(timer), "images": images, "bytes": volume}


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    protocol.main(prepare, opened, import_torch, stream_all=stream_all)
