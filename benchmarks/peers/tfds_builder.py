"""TensorFlow Datasets: `imagenet2012` from the original archives, into TFRecord files."""

import argparse

import protocol
import tensorflow_datasets as tfds


def prepare(args: argparse.Namespace) -> int:
    builder = tfds.builder("imagenet2012", data_dir=str(args.work / "tfds"))
    config = tfds.download.DownloadConfig(manual_dir=str(args.archives))
    builder.download_and_prepare(download_config=config)
    return sum(split.num_examples for split in builder.info.splits.values())


if __name__ == "__main__":
    tfds.disable_progress_bar()
    protocol.main(prepare)
