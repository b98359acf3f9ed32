"""What a split lies in: an archive or a tree, which the builder does not tell apart.

What is opened has parts, and of each part a reader yields the members of a region. A further form
would be a module of its own, like `trees`, and a line in each function here. Besides, `contents`
says what a path is, `tree_listing` what tells one tree from another, and `check` what is wrong.
"""

import re
from collections.abc import Iterable
from typing import Any

from .ilsvrc2012 import NUM_CLASSES, SOURCES, ArchiveError, Labels
from .storage import Archive, Tar, is_dir, is_url, open_archive
from .tar_reader import TarReader, class_tars
from .tree_listing import Files, Part
from .trees import ClassTar, FileReader, Tree


def open_split(path: str, is_checked: bool = True) -> Any:
    """Open what a split lies in: the `Tree` at a folder, the `Archive` at a file or URL."""
    is_tree = not is_url(path) and is_dir(path)
    return Tree(path, is_checked) if is_tree else open_archive(path)


def parts_of(
    opened: Archive | Tree, split: str, labels: Labels, checked: bool | None = None
) -> tuple[Part, ...]:
    """Return what can be read by itself of a split: classes, or a single part of all images.

    `checked` is for a tree, see `Tree.parts`: what is wrong with an archive is always an error.
    """
    if isinstance(opened, Tree):
        return opened.parts(split, labels, checked)
    if split != "train":
        return (Tar(0, opened.size),)
    with opened.headers_kept():
        tars = tuple(class_tars(opened, labels.wnids))
    if is_official(opened, split, tars) and len(tars) != NUM_CLASSES:
        raise ArchiveError(opened.path, f"holds {len(tars):,} class tars instead of 1000.")
    return tars


def is_official(opened: Archive | Tree, split: str, parts: Iterable[Part]) -> bool:
    """Tell whether an archive has the original's size, or a tree as many images, if it tells."""
    if isinstance(opened, Tree):
        counts = [part.images for part in parts if isinstance(part, Files)]
        return sum(counts) == SOURCES[split].num_examples
    return opened.size == SOURCES[split].size


def reader_of(opened: Archive | Tree, part: Part, pattern: re.Pattern[str]) -> Any:
    """Return what yields the members of a region of a part, and reads them."""
    if isinstance(part, Files):
        assert isinstance(opened, Tree)
        return FileReader(opened, part)
    if isinstance(opened, Tree):
        opened = ClassTar(f"{opened.path}/{part.wnid}.tar")
    return TarReader(opened, part, pattern)
