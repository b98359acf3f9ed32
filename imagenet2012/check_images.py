"""Check that the images in an archive can be decoded, with all processors."""

import warnings

from imagenet2012.check import Report, first_line, parts
from imagenet2012.ilsvrc2012 import SOURCES, ArchiveError
from imagenet2012.in_place import decode_image
from imagenet2012.splits import open_split, reader_of
from imagenet2012.storage import Region
from imagenet2012.tree_listing import Part
from imagenet2012.workers import Progress, advance, results


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
    processes = min(processes, len(tasks) or 1)
    for images, broken, problem in results(_decode_part, tasks, processes, progress):
        decoded += images - len(broken)
        report.broken |= broken
        if problem:
            problems.append(problem)
    if count := len(report.broken):
        problems.append(f"{count:,} image{'s' * (count > 1)} cannot be decoded")
    report.decoded, report.broken = decoded, dict(sorted(report.broken.items()))
    report.problems = list(dict.fromkeys(problems))  # most are known from the headers


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
