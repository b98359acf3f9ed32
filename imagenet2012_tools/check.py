"""Check archives without preparing anything: every member's header, sizes, counts, hashes."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from collections.abc import Iterator

import imagenet2012
from imagenet2012 import ArchiveError

Progress = Callable[[int], object]


@dataclasses.dataclass
class Report:
    """What was found of an archive.

    Attributes
    ----------
    split, path : str
    size, official_size : int or None
        Bytes; the official size of the test archive is not known.
    classes, images, official_images : int
        Class tars (of the training archive only) and images whose headers are sound.
    sha256 : str or None
        If it was asked for.
    problems : list of str
        Empty if all is well.
    """

    split: str
    path: str
    size: int
    official_size: int | None
    classes: int = 0
    images: int = 0
    official_images: int = 0
    sha256: str | None = None
    problems: list[str] = dataclasses.field(default_factory=list)


def check(
    split: str,
    path: str,
    *,
    strict: bool = True,
    deep: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check an archive; nothing is written, and a fault does not end the search for others.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    path : str
        The archive.
    strict : bool
        Hold sizes and counts to the official ones, which subsets have not.
    deep : bool
        Hash the archive too.
    progress : callable, optional
        Told of bytes that have been passed over.

    Returns
    -------
    Report
    """
    source = imagenet2012.SOURCES[split]
    report = Report(split, path, os.path.getsize(path), source.size)
    report.official_images = source.num_examples
    try:
        imagenet2012._check_kind(split, path)
        seen = _count(report, imagenet2012._open(path), progress or (lambda _: None))
    except ArchiveError as error:
        report.problems.append(_first_line(error))
        return report
    report.images = len(seen)
    if strict:
        report.problems += _differences(report, seen)
    if deep:
        _hash(report, source.sha256 if strict else None, progress or (lambda _: None))
    return report


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _count(report: Report, archive: imagenet2012.Archive, progress: Progress) -> set[str]:
    """Return the names of all images whose headers are sound, and note the others' faults."""
    archive.advise("RANDOM")  # headers only: without it the kernel would read all the images too
    seen: set[str] = set()
    parts: list[tuple[imagenet2012.Tar, int, int]]
    if report.split == "train":
        tars = imagenet2012._class_tars(archive, imagenet2012.WNIDS)
        report.classes = len(tars)
        parts = [(tar, 0, 1) for tar in tars]
    else:
        whole, count = imagenet2012.Tar(0, archive.size), imagenet2012.NUM_STRETCHES
        parts = [(whole, stretch, count) for stretch in range(count)]
    for tar, stretch, stretches in parts:
        try:
            for name in _names(report, archive, tar, stretch, stretches):
                if name in seen:
                    report.problems.append(f"{name} stands twice")
                seen.add(name)
        except ArchiveError as error:
            report.problems.append(_first_line(error))
        progress((tar.end - tar.start) // stretches)
    return seen


def _names(
    report: Report,
    archive: imagenet2012.Archive,
    tar: imagenet2012.Tar,
    stretch: int,
    stretches: int,
) -> Iterator[str]:
    pattern = imagenet2012.SOURCES[report.split].image
    for member in imagenet2012._members(archive, tar, pattern, stretch, stretches):
        if not member.name.startswith(tar.wnid):
            report.problems.append(f"{member.name} stands in the class tar of {tar.wnid}")
        yield member.name


def _differences(report: Report, seen: set[str]) -> list[str]:
    """Say how an archive differs from the original in size and number of images."""
    problems = []
    if report.official_size not in (None, report.size):
        problems.append(f"{report.size:,} bytes instead of {report.official_size:,}")
    if report.split == "train" and report.classes != imagenet2012.NUM_CLASSES:
        problems.append(f"{report.classes:,} class tars instead of {imagenet2012.NUM_CLASSES:,}")
    if len(seen) != report.official_images:
        problems.append(f"{len(seen):,} images instead of {report.official_images:,}")
    if report.split != "train" and len(seen) < report.official_images:
        numbers = {int(name[-13:-5]) for name in seen}
        missing = sorted(set(range(1, report.official_images + 1)) - numbers)
        shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        problems.append(f"missing are the images of number {shown}")
    return problems


def _hash(report: Report, expected: str | None, progress: Progress) -> None:
    digest = hashlib.sha256()
    with open(report.path, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress(len(chunk))
    report.sha256 = digest.hexdigest()
    if expected not in (None, report.sha256):
        report.problems.append(f"SHA-256 {report.sha256} instead of {expected}")
