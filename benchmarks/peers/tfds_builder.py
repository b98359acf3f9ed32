"""TensorFlow Datasets: `imagenet2012` from the original archives, into TFRecord files."""

import argparse
from collections.abc import Iterable
from typing import Any

import protocol
import tensorflow_datasets as tfds


def built(args: argparse.Namespace) -> Any:
    return tfds.builder("imagenet2012", data_dir=str(args.work / "tfds"))


def prepare(args: argparse.Namespace) -> int:
    builder = built(args)
    config = tfds.download.DownloadConfig(manual_dir=str(args.archives))
    builder.download_and_prepare(download_config=config)
    return sum(split.num_examples for split in builder.info.splits.values())


class Records:
    """Reading through `tf.data`, as NumPy arrays; TFRecord files have no access by number."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.builder = built(args)

    def iter_raw(self) -> Iterable[Any]:
        undecoded = {"image": tfds.decode.SkipDecoding()}
        dataset = self.builder.as_dataset(split="train", decoders=undecoded)
        return (row["image"] for row in tfds.as_numpy(dataset))

    def iter_decoded(self) -> Iterable[Any]:
        return (row["image"] for row in tfds.as_numpy(self.builder.as_dataset(split="train")))

    def shuffled_labels(self) -> Iterable[Any]:
        undecoded = {"image": tfds.decode.SkipDecoding()}
        dataset = self.builder.as_dataset(split="train", decoders=undecoded, shuffle_files=True)
        return (int(row["label"]) for row in tfds.as_numpy(dataset.shuffle(1000, seed=0)))


if __name__ == "__main__":
    tfds.disable_progress_bar()
    protocol.main(prepare, Records)
