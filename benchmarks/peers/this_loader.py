"""This loader. Variants: copy, in_place, stream, mixed; ``:train``; ``*2``."""

import argparse
import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind PYTHONPATH
import bare
import datasets
import fsspec
import imagenet2012
import protocol

file_system = functools.cache(fsspec.filesystem)


def load(args: argparse.Namespace, **kwargs: Any) -> Any:
    """Load from the archives, or from the cache in the work folder; ``*2`` is two processes."""
    variant, _, processes = args.variant.partition("*")
    variant, _, split = variant.partition(":")
    streaming = variant in ("stream", "mixed")
    return imagenet2012.load(
        args.archives,
        "in_place" if variant == "in_place" else "default",
        split=kwargs.pop("split", split or None),
        streaming=streaming,
        cache_dir=str(args.work / "cache"),
        verification_mode="no_checks",
        **({"num_proc": int(processes)} if processes else {}),
        **({"order": "mixed" if variant == "mixed" else "archive"} if streaming else {}),
        **kwargs,
    )


def prepare(args: argparse.Namespace) -> int:
    made = load(args)
    if args.variant in ("stream", "mixed"):
        return 0
    return sum(made.num_rows.values()) if isinstance(made, dict) else len(made)


def bytes_of(image: dict[str, Any]) -> bytes:
    """Return the bytes of an image that was not decoded."""
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    return bytes(file_system(image["path"].partition("://")[0]).cat_file(image["path"]))


class Transformed:
    """The transform of a batch of a map-style dataset, or of one row of a stream."""

    def __init__(self) -> None:
        self.transform = bare.Transform()

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"image": [self.transform(image) for image in batch["image"]]}

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"image": self.transform(row["image"])}


class Reader:
    """A dataset with a column of images, prepared or streamed."""

    def __init__(self, dataset: Any) -> None:
        self.images = dataset.select_columns("image")
        self.undecoded = self.images.cast_column("image", datasets.Image(decode=False))

    def iter_raw(self) -> Iterable[bytes]:
        return (bytes_of(row["image"]) for row in self.undecoded)

    def size(self) -> int:
        return len(self.images)

    def decoded(self, index: int) -> Any:
        return self.images[index]["image"]

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        if isinstance(self.images, datasets.IterableDataset):
            rows = self.images.shuffle(seed=0).map(Transformed().row)
            return DataLoader(rows, **bare.LOADER)
        rows = self.images.with_transform(Transformed())
        return DataLoader(rows, shuffle=True, **bare.LOADER)


def opened(args: argparse.Namespace) -> Reader:
    return Reader(load(args, split="train"))


def import_torch(args: argparse.Namespace) -> None:
    """Import what `datasets` imports to stream, where it is installed: imports are not timed."""
    if args.variant in ("stream", "mixed") and datasets.config.TORCH_AVAILABLE:
        import torch.utils.data  # noqa: F401


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    protocol.main(prepare, opened, import_torch)
