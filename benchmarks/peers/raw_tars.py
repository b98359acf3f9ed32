"""The original archives read with `tarfile`, for the peers that convert them and for the limits."""

import functools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def files(file: Any) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the files of a tar, and of the tars in it, from its stream."""
    with tarfile.open(fileobj=file, mode="r|") as outer:
        for member in outer:
            inner: Any = outer.extractfile(member)
            if member.name.endswith(".tar"):
                yield from files(inner)
            else:
                yield member.name, inner.read()


def class_tars(path: Path) -> list[tuple[str, int]]:
    """Return the wnid and the offset of each class tar in the training archive."""
    with tarfile.open(path, "r:") as outer:
        return [(member.name[:-4], member.offset_data) for member in outer]


def class_images(path: Path, offset: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the images of the class tar at an offset."""
    with path.open("rb") as file:
        file.seek(offset)
        yield from files(file)


@functools.cache
def places(path: Path) -> list[tuple[Path, int, int]]:
    """Return path, offset and size of each image of an archive."""
    found: list[tuple[Path, int, int]] = []
    with tarfile.open(path, "r:") as outer:
        for member in outer:
            if not member.name.endswith(".tar"):
                found.append((path, member.offset_data, member.size))
                continue
            base = member.offset_data
            with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                found += [(path, base + image.offset_data, image.size) for image in inner]
    return found
