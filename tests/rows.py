"""Ways to load a dataset, and what the tests look at in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import fakes

import imagenet2012


def by_name(folder: Path | None, name: str = "default", **options: Any) -> Any:
    folder = folder and str(folder)  # as it is given to `datasets`
    return datasets.load_dataset("imagenet2012", name, data_dir=folder, **options)


def by_class(folder: Path, cache_dir: str, verification_mode: str) -> Any:
    builder = imagenet2012.Imagenet2012(data_dir=folder, cache_dir=cache_dir)
    builder.download_and_prepare(verification_mode=verification_mode)
    loaded = builder.as_dataset()
    assert {split: rows.num_rows for split, rows in loaded.items()} == {
        split: info.num_examples for split, info in builder.info.splits.items()
    }
    return loaded


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
