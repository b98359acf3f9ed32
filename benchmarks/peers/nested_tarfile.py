"""A plain `datasets` builder on nested `tarfile` streams, as scripts on the Hub are written."""

import argparse
from collections.abc import Iterator
from typing import Any

import bare
import datasets
import protocol


class Nested(datasets.GeneratorBasedBuilder):
    """One example after another, out of one process."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        features = {
            "file_name": datasets.Value("string"),
            "image": datasets.Image(mode="RGB"),
            "label": datasets.Value("string"),
        }
        return datasets.DatasetInfo(features=datasets.Features(features))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        names = {"train": bare.TRAIN, "validation": bare.VALIDATION}
        return [
            datasets.SplitGenerator(split, {"path": f"{self.config.data_dir}/{name}"})
            for split, name in names.items()
        ]

    def _generate_examples(self, path: str) -> Iterator[tuple[Any, dict[str, Any]]]:
        with open(path, "rb") as file:
            for index, (name, data) in enumerate(bare.files(file)):
                image = {"path": name, "bytes": data}
                key = datasets.builder.Key(0, index)
                yield key, {"file_name": name, "image": image, "label": name.partition("_")[0]}


def prepare(args: argparse.Namespace) -> int:
    builder = Nested(cache_dir=str(args.work / "cache"), data_dir=str(args.archives))
    builder.download_and_prepare(verification_mode="no_checks")
    return sum(builder.as_dataset().num_rows.values())


if __name__ == "__main__":
    datasets.disable_progress_bars()
    protocol.main(prepare)
