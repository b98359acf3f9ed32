"""The `imagefolder` builder of `datasets`, on the extracted training images."""

import argparse

import datasets
import protocol


def prepare(args: argparse.Namespace) -> int:
    folder, cache = str(args.archives / "train"), str(args.work / "cache")
    return len(
        datasets.load_dataset("imagefolder", data_dir=folder, cache_dir=cache, split="train")
    )


if __name__ == "__main__":
    datasets.disable_progress_bars()
    protocol.main(prepare)
