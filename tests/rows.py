"""What the tests look at in a dataset."""

from collections.abc import Iterable
from typing import Any

import datasets
import fakes


def undecoded(dataset: Any) -> Any:
    """Return the dataset with images as they are stored."""
    return dataset.cast_column("image", datasets.Image(decode=False))


def contents(dataset: Iterable[dict[str, Any]]) -> list[tuple[str, bytes, int]]:
    """Return file name, bytes and label of each row, in the order of the rows."""
    return [(row["file_name"], stored(row["image"]), row["label"]) for row in undecoded(dataset)]


def stored(image: dict[str, Any]) -> bytes:
    """Return an image's bytes, from the row or from where the row says they are."""
    if image["bytes"] is not None:
        return image["bytes"]
    with datasets.utils.file_utils.xopen(image["path"], "rb") as file:
        return file.read()


def wanted(expected: dict[str, fakes.Expected]) -> list[tuple[str, bytes, int]]:
    """Return the same of the archives, sorted."""
    return sorted((name, image.data, image.label) for name, image in expected.items())
