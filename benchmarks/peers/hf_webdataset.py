"""The `webdataset` builder of `datasets`, on the flat archive: that of the validation images."""

import argparse
from typing import Any

import bare
import datasets
import protocol
from hf_reader import ArrowReader


def load(args: argparse.Namespace) -> Any:
    return datasets.load_dataset(
        "webdataset",
        data_files={"validation": str(args.archives / bare.VALIDATION)},
        cache_dir=str(args.work / "cache"),
        split="validation",
    )


def prepare(args: argparse.Namespace) -> int:
    return len(load(args))


def opened(args: argparse.Namespace) -> ArrowReader:
    images = load(args).rename_column("JPEG", "image")
    return ArrowReader(images.cast_column("image", datasets.Image(mode="RGB")))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    protocol.main(prepare, opened)
