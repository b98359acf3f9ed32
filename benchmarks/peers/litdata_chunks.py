"""litdata: the archives converted by its `optimize` (2 workers), read by `StreamingDataset`."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litdata
import protocol
import bare


def class_rows(task: tuple[str, str, int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one class tar, or of the flat archive."""
    path, wnid, offset = task
    for name, data in bare.class_images(Path(path), offset):
        yield {"image": data, "label": wnid, "file_name": name}


def prepare(args: argparse.Namespace) -> int:
    count = 0
    for split, name in (("train", bare.TRAIN), ("validation", bare.VALIDATION)):
        path = args.archives / name
        tars = bare.class_tars(path) if split == "train" else [("", 0)]
        litdata.optimize(
            class_rows,
            [(str(path), wnid, offset) for wnid, offset in tars],
            str(args.work / split),
            num_workers=2 if split == "train" else 1,
            chunk_bytes="64MB",
            verbose=False,
        )
        count += len(litdata.StreamingDataset(str(args.work / split)))
    return count


class Transformed(litdata.StreamingDataset):  # type: ignore[misc]
    """Rows with the decoded and transformed image."""

    def __getitem__(self, index: Any) -> Any:
        if not hasattr(self, "training_transform"):
            self.training_transform = bare.Transform()
        row = super().__getitem__(index)
        return self.training_transform(bare.pillow(row["image"]))


class Chunks:
    """Reading the training chunks."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder = str(args.work / "train")
        self.dataset = litdata.StreamingDataset(self.folder)

    def size(self) -> int:
        return len(self.dataset)

    def raw(self, index: int) -> bytes:
        return bytes(self.dataset[index]["image"])

    def decoded(self, index: int) -> Any:
        return bare.pillow(self.raw(index))

    def iter_raw(self) -> Iterable[bytes]:
        return (bytes(row["image"]) for row in self.dataset)

    def iter_decoded(self) -> Iterable[Any]:
        return map(bare.pillow, self.iter_raw())

    def shuffled_labels(self) -> Iterable[Any]:
        return (row["label"] for row in litdata.StreamingDataset(self.folder, shuffle=True))

    def loader(self) -> Any:
        return litdata.StreamingDataLoader(Transformed(self.folder, shuffle=True), **bare.LOADER)


if __name__ == "__main__":
    protocol.main(prepare, Chunks)
