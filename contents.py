"""What a file is, judged by what is in it and not by its name."""

import bz2
import contextlib
import io
import itertools
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable
from typing import Any

from .ilsvrc2012 import CLASS_TAR, CLUTTER, DOWNLOAD_PAGE, SOURCES, ArchiveError
from .splits import open_split
from .storage import BLOCK, Archive, is_dir, is_url, open_archive, status_of, storage_of
from .tar_reader import REGULAR, member_at
from .tree_listing import kind_of_tree

# How other files begin, in words, and what decompresses them.
MAGIC: tuple[tuple[bytes, str, Callable[[], Any] | None], ...] = (
    (b"\x1f\x8b", "a gzip file", lambda: zlib.decompressobj(31)),
    (b"BZh", "a bzip2 file", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", "an xz file", lzma.LZMADecompressor),
    (b"\x28\xb5\x2f\xfd", "a zstd file", None),
    (b"PK\3\4", "a zip file", None),
    (b"7z\xbc\xaf", "a 7z file", None),
    (b"<", "a web page, as a download without a log-in leaves", None),
)
BEGINNING = 1 << 20  # bytes that are looked at for the names of files
# Patterns of paths, and what a tar or zip is in which one of the first files has such a path.
CONTENTS = (
    (r"ILSVRC/(Annotations|Data|ImageSets)/.*", "Kaggle's: not the archives, but extracted images"),
    (
        r"(.*/)?(n\d{8}_\d+|ILSVRC2012_(val|test)_\d{8})_n\d{8}\.JPEG",
        "a part of the Hub's imagenet-1k from before it had Parquet",
    ),
    (r"(.*/)?(ILSVRC2012_devkit\w*|data)/.*", "the development kit, which is not needed"),
    (r"(.*/)?[\w-]+\.xml", "annotations (bounding boxes), which are not needed"),
    (r"(.*/)?n\d{8}\.tar\.gz", "bounding boxes or features of the classes, which are not needed"),
    (r"(.*/)?n\d{8}/n\d{8}_\d+\.JPEG", "made of extracted training images in class folders"),
)
NO_TAR = "no tar archive, or one whose beginning is damaged"


def check_kind(split: str, path: str) -> None:
    """Check that a file is what its name says, by its first member."""
    if not is_url(path) and status_of(path + ".aria2"):
        advice = "Let it finish, or remove the .aria2 file if the archive is whole."
        problem = f"is still being downloaded: {path}.aria2 exists."
        raise ArchiveError(path, problem, advice=advice)
    storage_of(path).forget(path)  # it may have been replaced since it was opened
    open_split(path)  # raises what may be wrong with the file itself
    kind = kind_of(path)
    if kind != split:
        what = f"the {kind} archive" if kind in SOURCES else kind
        names = " or ".join(SOURCES[split].file_names)
        advice = (
            f"Needed is {names} as it was fetched from {DOWNLOAD_PAGE}: a .tar, not extracted. "
        )
        advice += f"Pass its folder as data_dir, or its path as data_files={{{split!r}: path}}."
        raise ArchiveError(path, f"given as the {split} archive, but it is {what}.", advice=advice)


def kind_of(path: str) -> str:
    """Return the split whose archive or tree this seems to be, or a few words on what it is."""
    if is_dir(path):
        return kind_of_tree(path) or "a folder without images or class tars of ILSVRC2012"
    try:
        archive = open_archive(path)
        block = archive.read(0, min(BLOCK, archive.size))
        for magic, words, decompressor in MAGIC:
            if block.startswith(magic):
                return words + _inside(archive, block, decompressor)
        if not block.strip(b"\0"):
            return "an empty file, or one of which the beginning has not arrived yet"
        offset = 0
        while member := member_at(archive, offset, 1 << 62):
            if member.kind in REGULAR and not CLUTTER.fullmatch(member.name):
                break
            offset = member.next
        if member is None:
            return "an empty tar archive"
        return _split_of(member.name) or _kind_of_files(_first_files(_beginning(archive)))
    except ArchiveError:
        return NO_TAR


def _split_of(name: str) -> str:
    """Return the split whose archive has such a file, or nothing."""
    if CLASS_TAR.fullmatch(name):
        return "train"
    return next((s for s in ("validation", "test") if SOURCES[s].image.fullmatch(name)), "")


def _inside(archive: Archive, block: bytes, decompressor: Callable[[], Any] | None) -> str:
    """Say what is in a compressed file."""
    names = []
    if block.startswith(b"PK\3\4"):  # a zip: the header of its first file holds the path
        names = [block[30 : 30 + int.from_bytes(block[26:28], "little")].decode(errors="replace")]
    elif decompressor:
        data = _beginning(archive)
        with contextlib.suppress(zlib.error, OSError, lzma.LZMAError):
            names = _first_files(decompressor().decompress(data))
    if not names:
        return ""
    name = names[0].rpartition("/")[2]
    if any(name in source.file_names for source in SOURCES.values()):
        return f" with {name} in it: unpack it, the .tar inside is what is read"
    kind = _kind_of_files(names)
    if kind in SOURCES:
        return f" of the {kind} archive: decompress it (only that: the .tar inside is what is read)"
    return f", {kind}"


def _beginning(archive: Archive) -> bytes:
    return archive.read(0, min(BEGINNING, archive.size))


def _first_files(data: bytes) -> list[str]:
    """Return the paths of the first files of a tar, of which this is the beginning."""
    names: list[str] = []
    broken = contextlib.suppress(tarfile.TarError, EOFError, ValueError)  # it ends anywhere
    with broken, tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in itertools.islice(tar, 100):
            if member.isfile() and not CLUTTER.fullmatch(member.name.rpartition("/")[2]):
                names.append(member.name.removeprefix("./"))
    return names


def _kind_of_files(names: list[str]) -> str:
    """Return the split whose archive begins with these files, or a few words on what it is."""
    for pattern, words in CONTENTS:
        if any(re.fullmatch(pattern, name) for name in names):
            return words
    files = [name.rpartition("/")[2] for name in names] or [""]
    if split := _split_of(files[0]):
        return split
    wnids = {found[1] for name in files if (found := SOURCES["train"].image.fullmatch(name))}
    if wnids:
        return "the tar of a single class" if len(wnids) == 1 else "extracted training images"
    return f"a tar archive of other files (the first is {files[0]!r})"
