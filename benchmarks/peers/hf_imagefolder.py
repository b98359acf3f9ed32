"""The `imagefolder` builder of `datasets`, on images extracted with `tar`."""

import argparse
import functools
import subprocess
from pathlib import Path
from typing import Any

import bare
import datasets
import protocol
from hf_reader import ArrowReader


def extract(archives: Path, target: Path) -> None:
    """Extract both archives, and each class tar into a folder of its own."""
    for name in ("train", "validation"):
        (target / name).mkdir(parents=True)
    subprocess.run(["tar", "xf", archives / bare.TRAIN, "-C", target / "train"], check=True)
    for path in sorted((target / "train").glob("*.tar")):
        folder = path.with_suffix("")
        folder.mkdir()
        subprocess.run(["tar", "xf", path, "-C", folder], check=True)
        path.unlink()
    command = ["tar", "xf", archives / bare.VALIDATION, "-C", target / "validation"]
    subprocess.run(command, check=True)


@functools.cache
def load(work: Path) -> Any:
    return datasets.load_dataset(
        "imagefolder",
        data_dir=str(work / "images"),
        cache_dir=str(work / "cache"),
        drop_labels=False,
    )


def prepare(args: argparse.Namespace) -> int:
    extract(args.archives, args.work / "images")
    return sum(load(args.work).num_rows.values())


def opened(args: argparse.Namespace) -> ArrowReader:
    return ArrowReader(load(args.work)["train"])


if __name__ == "__main__":
    datasets.disable_progress_bars()
    protocol.main(prepare, opened)
