"""This loader; the variants are copy and in_place, its configurations, and streams."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind PYTHONPATH
import bare
import datasets
import imagenet2012
import protocol
from hf_reader import ArrowReader
from hf_reader import StreamReader
from hf_reader import Transformed

STREAMED = ("stream", "mixed", "threads")


def load(args: argparse.Namespace, **kwargs: Any) -> Any:
    """Load all splits, or what `kwargs` say, from the archives or the cache in the work folder."""
    variant, _, split = args.variant.partition(":")
    if variant in STREAMED:
        kwargs["streaming"] = True
    elif args.procs > 1:
        kwargs["num_proc"] = args.procs
    return imagenet2012.load(
        args.archives,
        "in_place" if variant in ("in_place", "fast") else "default",
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


class FastTransformed(Transformed):
    """The fast decoding of docs/recipes.md, then the usual transform."""

    def __init__(self) -> None:
        super().__init__()
        self.files = imagenet2012.Imagenet2012FileSystem()

    def pixels(self, jpeg: bytes) -> Any:
        import simplejpeg
        from PIL import Image

        image = Image.open(io.BytesIO(jpeg))  # reads the header only
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            return Image.fromarray(simplejpeg.decode_jpeg(jpeg, "RGB"))
        return image.convert("RGB")

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        jpegs = [self.files.cat_file(image["path"]) for image in batch["image"]]
        return super().__call__({"image": [self.pixels(jpeg) for jpeg in jpegs]})


class FastReader(ArrowReader):
    """Rows in place whose images are decoded as docs/recipes.md has it."""

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        images = self.undecoded.with_transform(FastTransformed())
        return DataLoader(images, shuffle=True, **bare.LOADER)


def opened(args: argparse.Namespace) -> Any:
    variant, _, split = args.variant.partition(":")
    if variant in STREAMED:
        shuffled = variant == "mixed" or args.measure == "distinct"
        stream = load(args, split="train", order="mixed" if shuffled else "archive")
        return ThreadedReader(stream) if variant == "threads" else StreamReader(stream)
    reader = FastReader if variant == "fast" else ArrowReader
    return reader(load(args, split=split or "train"))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    protocol.main(prepare, opened, import_torch)
