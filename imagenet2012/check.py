"""Check archives without preparing anything: headers, sizes, counts; hashes and images if asked."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from imagenet2012 import WNIDS
from imagenet2012.archives import sha256_of, size_of
from imagenet2012.contents import check_kind
from imagenet2012.ilsvrc2012 import NUM_CLASSES, SOURCES, ArchiveError, read_labels
from imagenet2012.in_place import decode_image
from imagenet2012.in_turns import members_in_turns
from imagenet2012.rows import NUM_REGIONS
from imagenet2012.splits import open_split, reader_of
from imagenet2012.storage import Archive, Region, Tar, is_dir
from imagenet2012.tar_reader import class_tars
from imagenet2012.tree_listing import Files, Part, list_tree
from imagenet2012.trees import Tree, sizes_of
from imagenet2012.workers import Progress, advance, results

IMAGES_A_PROCESS = 500  # are decoded in the time that it takes to start one


@dataclasses.dataclass
class Report:
    """What was found of an archive.

    Attributes
    ----------
    split, path : str
    size, official_size : int or None
        Bytes; the official size of the test archive is not known.
    class_tars : int
        Of the training archive only.
    images, official_images : int
        Those whose headers are sound.
    in_class : dict of str to int
        How many images each wnid has.
    sha256 : str or None
        If it was asked for.
    decoded : int or None
        How many images could be decoded, if it was asked for; see `decode_images`.
    broken : dict of str to str
        The images that could not, and why.
    problems : list of str
        Empty if all is OK.
    """

    split: str
    path: str
    size: int
    official_size: int | None
    class_tars: int = 0
    images: int = 0
    official_images: int = 0
    in_class: dict[str, int] = dataclasses.field(default_factory=dict)
    sha256: str | None = None
    decoded: int | None = None
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


def check(
    split: str, path: str, *, strict: bool = True, progress: Progress = lambda _: None
) -> Report:
    """Check an archive; nothing is written, and a fault does not end the search for others.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    path : str
        The archive.
    strict : bool
        Hold sizes and counts to the official ones, which subsets have not.
    progress : callable
        Told of bytes that have been passed over.

    Returns
    -------
    Report
    """
    source = SOURCES[split]
    size = None if is_dir(path) else source.size
    report = Report(split, path, size_of(path), size, official_images=source.num_examples)
    try:
        check_kind(split, path)
    except ArchiveError as error:
        report.problems.append(first_line(error))
        return report
    numbers = _count(report, open_split(path), progress)
    if strict:
        report.problems += _differences(report, numbers)
    report.problems = list(dict.fromkeys(report.problems))  # neighbours may meet the same fault
    return report


def hash_archive(
    report: Report, *, strict: bool = True, progress: Progress = lambda _: None
) -> None:
    """Add the SHA-256 of the archive to its report, and hold it to the official one if `strict`."""
    if is_dir(report.path):
        report.problems.append("extracted images have no SHA-256 to be held to")
        return
    report.sha256 = sha256_of(report.path, progress)
    expected = SOURCES[report.split].sha256
    if strict and expected not in (None, report.sha256):
        report.problems.append(f"its SHA-256 is not that of the original, {expected}")


def decode_images(report: Report, *, processes: int, progress: Progress = lambda _: None) -> None:
    """Decode all images in so many processes; add those that cannot be decoded to the report.

    Parameters
    ----------
    report : Report
        Of `check`, which has gone through the headers.
    processes : int
    progress : callable
        Told of images.
    """
    archive = open_split(report.path)
    tasks = [(report.split, report.path, *part) for part in parts(report, archive)]
    decoded, problems = 0, list(report.problems)
    processes = min(processes, len(tasks) or 1, 1 + report.images // IMAGES_A_PROCESS)
    for images, broken, problem in results(_decode_part, tasks, processes, progress):
        decoded += images - len(broken)
        report.broken |= broken
        if problem:
            problems.append(problem)
    if count := len(report.broken):
        problems.append(f"{count:,} image{'s' * (count > 1)} cannot be decoded")
    report.decoded, report.broken = decoded, dict(sorted(report.broken.items()))
    report.problems = list(dict.fromkeys(problems))  # most are known from the headers


def first_line(error: Exception) -> str:
    """Return what an error says, without its advice."""
    return str(error).splitlines()[0]


def _decode_part(
    split: str, path: str, part: Part, region: Region
) -> tuple[int, dict[str, str], str]:
    """Decode the images of a region: their number, the broken ones, and what ended it early."""
    images = 0
    broken: dict[str, str] = {}
    archive = open_split(path).in_order(part, region, alone=True)
    reader = reader_of(archive, part, SOURCES[split].image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which do not matter
        try:
            for member in reader.members(region):
                advance(1)
                images += 1
                try:
                    decode_image(reader.read(member), member.name)
                except Exception as error:
                    broken[member.name] = first_line(error).removeprefix(f"{member.name}: ")
        except ArchiveError as error:
            return images, broken, first_line(error)
    return images, broken, ""


def _count(report: Report, archive: Any, progress: Progress) -> set[int]:
    """Count the images whose headers are sound and note all faults; return the images' numbers.

    Of training images, whose numbers mean nothing, none are returned.
    """
    archive.advise("RANDOM")  # headers only: without it the kernel would read all the images too
    numbers: set[int] = set()
    counts: Counter[str] = Counter()
    pattern, labels = SOURCES[report.split].image, read_labels()
    pieces = list(parts(report, archive))
    followed = members_in_turns(
        (reader_of(archive, tar, pattern), region) for tar, region in pieces
    )
    for (tar, region), members in zip(pieces, followed, strict=True):
        names: set[str] = set()
        try:
            for member in members:
                found = pattern.fullmatch(member.name)
                assert found, member.name
                number = 0 if report.split == "train" else int(found[1])
                if problem := _misplaced(report, tar, member.name, number, names, numbers):
                    report.problems.append(problem)
                    continue
                names.add(member.name)
                if number:
                    numbers.add(number)
                report.images += 1
                counts[labels.wnid_of(number) if report.split == "validation" else tar.wnid] += 1
        except ArchiveError as error:
            report.problems.append(first_line(error))
        progress(region.stop - region.start)
    report.in_class = {wnid: count for wnid, count in sorted(counts.items()) if wnid}
    return numbers


def parts(report: Report, archive: Archive | Tree) -> Iterator[tuple[Part, Region]]:
    """Yield classes, or regions of a flat archive or tree; note in the report what is wrong."""
    if isinstance(archive, Tree):
        yield from _parts_of_tree(report)
    else:
        yield from _parts_of_archive(report, archive)


def _parts_of_tree(report: Report) -> Iterator[tuple[Part, Region]]:
    found, faults, _ = list_tree(report.split, report.path, read_labels())
    report.class_tars, report.size = len(found), 0
    for part in found:
        if isinstance(part, Files):
            sizes = sizes_of(part)
            report.size += sum(sizes.values())
            faults.add("empty files", *(path for path, size in sizes.items() if not size))
            regions = 1 if report.split == "train" else NUM_REGIONS
            cuts = [part.cut(part.region(number, regions)) for number in range(regions)]
            yield from ((cut, cut.region(0, 1)) for cut in cuts)
        else:
            report.size += part.size
            yield part, part.region(0, 1)
    report.problems += faults.sentences()


def _parts_of_archive(report: Report, archive: Archive) -> Iterator[tuple[Tar, Region]]:
    """Yield what can be read by itself: class tars, or regions of a flat archive."""
    if report.split != "train":
        tar = Tar(0, archive.size)
        for number in range(NUM_REGIONS):
            yield tar, tar.region(number, NUM_REGIONS)
        return
    report.class_tars = 0
    try:
        for tar in class_tars(archive, WNIDS):
            report.class_tars += 1
            yield tar, tar.region(0, 1)
    except ArchiveError as error:
        report.problems.append(f"{first_line(error)} What follows was not looked at.")


def _misplaced(
    report: Report, tar: Part, name: str, number: int, names: set[str], numbers: set[int]
) -> str:
    """Say what is wrong with an image's name where it stands, or return the empty string."""
    if not name.startswith(tar.wnid):
        return f"{name} is in the class tar of {tar.wnid}"
    if name in names or number in numbers:
        return f"{name} appears twice"
    if report.split != "train" and not 1 <= number <= report.official_images:
        return f"{name} has a number that no image of the {report.split} split has"
    return ""


def _differences(report: Report, numbers: set[int]) -> list[str]:
    """Say how an archive differs from the original in size and number of images."""
    problems = []
    if report.official_size not in (None, report.size):
        problems.append(f"{report.size:,} bytes instead of {report.official_size:,}")
    if report.split == "train" and report.class_tars != NUM_CLASSES:
        what = "class tars" if report.official_size else "classes"
        problems.append(f"{report.class_tars:,} {what} instead of {NUM_CLASSES:,}")
    if report.images != report.official_images:
        problems.append(f"{report.images:,} images instead of {report.official_images:,}")
    if in_class := SOURCES[report.split].in_class:
        fewest, most = in_class
        counts = {wnid: report.in_class.get(wnid, 0) for wnid in WNIDS}
        odd = [f"{wnid} has {n:,}" for wnid, n in counts.items() if not fewest <= n <= most]
        if odd:
            usual = f"{fewest} to {most:,}" if fewest < most else f"{fewest}"
            problems.append(f"{len(odd):,} classes do not have {usual} images: {_some(odd)}")
    if report.split != "train" and len(numbers) < report.official_images:
        missing = sorted(set(range(1, report.official_images + 1)) - numbers)
        problems.append(f"{len(missing):,} images are missing, of number {_some(missing)}")
    return problems


def _some(things: list[Any]) -> str:
    return ", ".join(map(str, things[:4])) + (", …" if len(things) > 4 else "")
