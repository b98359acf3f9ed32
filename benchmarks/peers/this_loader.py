"""This loader; the variants are its two configurations and streaming: copy, in_place, stream."""

import argparse
import contextlib
import sys
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

NAMES = {"copy": "default", "in_place": "in_place", "stream": "default"}


def load(args: argparse.Namespace, **kwargs: Any) -> Any:
    """Load all splits, or what `kwargs` say, from the archives or the cache in the work folder."""
    variant, _, split = args.variant.partition(":")
    if variant == "stream":
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
    if args.variant == "stream":
        with contextlib.suppress(ImportError):
            import torch.utils.data  # noqa: F401


def prepare(args: argparse.Namespace) -> int:
    made = load(args)
    if args.variant == "stream":
        return 0
    return sum(made.num_rows.values()) if isinstance(made, dict) else len(made)


def opened(args: argparse.Namespace) -> ArrowReader | StreamReader:
    if args.variant == "stream":
        order = "mixed" if args.measure == "distinct" else "archive"
        return StreamReader(load(args, split="train", order=order))
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
