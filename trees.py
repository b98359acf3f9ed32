"""Images in files of their own, as they were extracted, and class tars that were.

A split lies in a tree: a folder of 1000 class folders, one of class tars, or (validation and test
only) one of the images themselves. The builder uses a tree like an archive: it has parts, and a
reader yields the members of each, which have a name and a place.
"""

import io
import os
from collections.abc import Iterator
from typing import Any

from .ilsvrc2012 import ArchiveError, Labels
from .in_turns import begun_ahead
from .storage import (
    MAX_IMAGE_BYTES,
    Archive,
    Region,
    Tar,
    announce_file,
    logger,
    open_archive,
    read_file,
    status_of,
    unreadable,
)
from .tree_listing import ANNOUNCED_FILES, File, Files, in_threads, list_tree


def sizes_of(part: Files) -> dict[str, int]:
    """Return the bytes of each file, by path; -1 of one that is gone."""
    paths = [file.path for file in part.listed()]
    sizes = (status.size if status else -1 for status in in_threads(status_of, paths))
    return dict(zip(paths, sizes, strict=True))


class FileReader:
    """Reads images in files of their own, as a `TarReader` reads the members of a tar.

    Parameters
    ----------
    archive : Tree
    files : Files
    """

    def __init__(self, archive: "Tree", files: Files) -> None:
        self.archive, self.files = archive, files

    def members(self, region: Region | None = None, announce: Any = None) -> Iterator[File]:
        """Return the images of a region, or all, without a look at them."""
        files = self.files.listed(region)
        ahead = self.archive.ahead
        return begun_ahead(map(self._announced, files), ahead) if ahead else iter(files)

    def _announced(self, file: File) -> File:
        announce_file(file.path)
        return file

    def check_end_mark(self) -> None:
        """Do nothing: a file of its own ends where it ends."""

    def read(self, member: File) -> bytes:
        """Return the bytes of an image, or raise `ArchiveError`."""
        data = read_file(member.path)
        self._check_size(member, len(data))
        return data

    def read_into(self, member: File, target: memoryview) -> int:
        """Read an image to the beginning of `target`; return its size, or -1 if it is larger."""
        try:
            with io.FileIO(member.path) as file:
                size = os.fstat(file.fileno()).st_size
                self._check_size(member, size)
                if size > len(target) or file.readinto(target[:size]) != size or file.read(1):
                    return -1
        except OSError as error:
            raise unreadable(member.path, error) from error
        return size

    def _check_size(self, member: File, size: int) -> None:
        if size > MAX_IMAGE_BYTES:
            raise ArchiveError(member.path, f"has {size:,} bytes, more than any image.", None, " ")
        if not size:
            problem = "is empty, as files are that an interrupted extraction or copy left."
            if self.archive.is_checked:
                raise ArchiveError(member.path, problem, advice=EMPTY_ADVICE)
            logger.warning(f"{member.path} {problem}")


ADVICE = (
    "Extract the archive again, or put it there instead; `imagenet2012 check` lists what is wrong. "
    'For a subset pass verification_mode="no_checks", which leaves out what is named here.'
)
EMPTY_ADVICE = (
    "Extract the archive again, or put it there instead; `imagenet2012 check` lists all that are "
    'empty. With verification_mode="no_checks" they are only warned of.'
)


class Tree:
    """A folder of extracted images or of class tars, as the builder uses an `Archive`.

    Parameters
    ----------
    path : str
    is_checked : bool
        Whether an image that is empty is an error, instead of a warning.
    ahead : int
        How many files are announced to the kernel before they are read; 0 if they are not read.
    """

    is_remote = False
    size, version = 0, ""

    def __init__(self, path: str, is_checked: bool = True, ahead: int = 0) -> None:
        self.path, self.is_checked, self.ahead = path, is_checked, ahead
        self._class_tar: Archive | None = None  # the one that is read in order

    def parts(
        self, split: str, labels: Labels, checked: bool | None = None
    ) -> tuple[Files | Tar, ...]:
        """List the tree.

        Parameters
        ----------
        checked : bool, optional
            True holds it to the original's counts; None only warns of what is missing, False of
            whatever is wrong.

        Raises
        ------
        ArchiveError
            Says all that is wrong, how many there are of each kind, and where the first are.
        """
        parts, faults, differences = list_tree(split, self.path, labels)
        errors = faults.sentences() if checked is not False else []
        errors += differences.sentences() if checked else []
        if errors or not parts:
            listed = "; ".join(errors) or "no class is left"
            raise ArchiveError(self.path, f"not a whole {split} split. {listed}.", advice=ADVICE)
        if warnings := faults.sentences() + differences.sentences():
            problem = f"not a whole {split} split. {'; '.join(warnings)}"
            left_out = ". What does not belong is left out." if faults else "."
            logger.warning(f"{self.path}: {problem}{left_out}")
        return parts

    def in_order(self, part: Files | Tar, region: Region, alone: bool) -> "Tree | Archive":
        """Return what reads a region of a part from first to last."""
        if alone and isinstance(part, Tar):
            self._class_tar = open_archive(f"{self.path}/{part.wnid}.tar")
            return self._class_tar.in_order(part, region, alone)
        return Tree(self.path, self.is_checked, ANNOUNCED_FILES if alone else 1)

    def advise(self, advice: str) -> None:
        """Do nothing: there is no file yet."""

    def check_unchanged(self) -> None:
        """Raise `ArchiveError` if the class tar that is read in order was written to.

        Of other trees, a file that is gone is an error when it is read.
        """
        if self._class_tar:
            self._class_tar.check_unchanged()


class ClassTar(Archive):
    """A class tar in a file of its own, opened for each read.

    A thousand are read in turn, and a process may not have so many files open.
    """

    def __init__(self, path: str) -> None:
        self._fd = -1
        opened = open_archive(path)
        self.path, self.size, self.version = path, opened.size, opened.version

    def _file(self) -> Archive:
        opened = open_archive(self.path)
        if (opened.size, opened.version) != (self.size, self.version):
            problem = "changed while it was being read."
            raise ArchiveError(self.path, problem, advice="Load it again.")
        return opened

    def announce(self, offset: int, size: int) -> None:
        """Let the kernel fetch what will be read soon."""
        self._file().announce(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`, or raise `ArchiveError`."""
        return self._file().read(offset, size)

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`, or raise `ArchiveError`."""
        self._file().read_into(offset, target)
