"""Reading a dataset of the `datasets` library, whoever prepared it."""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import fsspec
import bare


file_system = functools.cache(fsspec.filesystem)


def bytes_of(image: dict[str, Any]) -> bytes:
    """Return the bytes of an image that was not decoded; some lie in a file, not in Arrow."""
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    protocol_name, separator, _ = image["path"].partition("://")
    if separator:
        return bytes(file_system(protocol_name).cat_file(image["path"]))
    return Path(image["path"]).read_bytes()


def undecoded(dataset: Any) -> Any:
    return dataset.cast_column("image", datasets.Image(decode=False))


class Transformed:
    """A transform of a batch of a map-style dataset, or of one row of a stream."""

    def __init__(self) -> None:
        self.transform: Callable[[Any], Any] = bare.Transform()

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"image": [self.transform(image) for image in batch["image"]]}

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"image": self.transform(row["image"])}


class ArrowReader:
    """A prepared dataset with columns image and label."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.images = dataset.select_columns("image")
        self.undecoded = undecoded(self.images)

    def iter_raw(self) -> Iterable[bytes]:
        return (bytes_of(row["image"]) for row in self.undecoded)

    def iter_decoded(self) -> Iterable[Any]:
        return (row["image"] for row in self.images)

    def size(self) -> int:
        return len(self.dataset)

    def raw(self, index: int) -> bytes:
        return bytes_of(self.undecoded[index]["image"])

    def decoded(self, index: int) -> Any:
        return self.images[index]["image"]

    def shuffled_labels(self) -> Iterable[Any]:
        return (row["label"] for row in self.dataset.select_columns("label").shuffle(seed=0))

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        return DataLoader(self.images.with_transform(Transformed()), shuffle=True, **bare.LOADER)


class StreamReader:
    """A streamed dataset."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def iter_raw(self) -> Iterable[bytes]:
        return (bytes_of(row["image"]) for row in undecoded(self.dataset))

    def iter_decoded(self) -> Iterable[Any]:
        return (row["image"] for row in self.dataset)

    def shuffled_labels(self) -> Iterable[Any]:
        return (row["label"] for row in undecoded(self.dataset).shuffle(seed=0))

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        columns = list(self.dataset.features)
        rows = self.dataset.shuffle(seed=0).map(Transformed().row, remove_columns=columns)
        return DataLoader(rows, **bare.LOADER)
