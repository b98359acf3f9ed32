"""webdataset: the archives converted to shards by its `ShardWriter`, read by its pipelines."""

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import protocol
import bare
import webdataset as wds


def prepare(args: argparse.Namespace) -> int:
    count = 0
    for split, name in (("train", bare.TRAIN), ("validation", bare.VALIDATION)):
        pattern = str(args.work / f"{split}-%06d.tar")
        with (
            (args.archives / name).open("rb") as file,
            wds.ShardWriter(pattern, maxcount=10_000, maxsize=500e6, mtime=0, verbose=0) as writer,
        ):
            for file_name, data in bare.files(file):
                key = file_name.removesuffix(".JPEG")
                writer.write({"__key__": key, "jpg": data, "txt": key.partition("_")[0]})
                count += 1
    return count


class Rows:
    """Reading the training shards."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.shards = sorted(map(str, args.work.glob("train-*.tar")))

    def rows(self, shuffle: int = 0) -> Any:
        many = len(self.shards) if shuffle else False
        rows = wds.WebDataset(self.shards, shardshuffle=many, empty_check=False)
        return rows.shuffle(shuffle) if shuffle else rows

    def iter_raw(self) -> Iterable[bytes]:
        return (row["jpg"] for row in self.rows())

    def iter_decoded(self) -> Iterable[Any]:
        return (row[0] for row in self.rows().decode("pilrgb").to_tuple("jpg"))

    def shuffled_labels(self) -> Iterable[Any]:
        return (row["txt"] for row in self.rows(shuffle=1000))

    def loader(self) -> Any:
        transform: Callable[[Any], Any] = bare.Transform()
        rows = self.rows(shuffle=1000).decode("pilrgb").to_tuple("jpg").map_tuple(transform)
        return wds.WebLoader(rows, **bare.LOADER)


if __name__ == "__main__":
    protocol.main(prepare, Rows)
