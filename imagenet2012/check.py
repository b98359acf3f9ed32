"""Check archives, extracted images and written shards: all that is wrong, not only the first.

Archives are read as they are loaded, and what the reader raises is collected.
"""

import contextlib
import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from imagenet2012.archives import archives_in, check_kind, find_archives, given_archives, sha256_of
from imagenet2012.decoding import decode_image
from imagenet2012.export import ROWS_IN_A_GROUP, Plan, in_processes, plans_in, read_record
from imagenet2012.ilsvrc2012 import NUM_CLASSES, SOURCES, ArchiveError, read_labels
from imagenet2012.in_place import missing_images
from imagenet2012.parts import MEAN_IMAGE_BYTES, Part
from imagenet2012.rows import Row, RowReader, Stretch, stretches_of
from imagenet2012.storage import FOLDER_VARIABLE, absolute, is_dir, is_url, open_file
from imagenet2012.tar_reader import class_tars
from imagenet2012.trees import Faults, in_threads, list_tree


class Ways(NamedTuple):
    """How to check: by the official figures, by hash, by decoding all images in some processes."""

    strict: bool = True
    hash: bool = False
    decode: bool = False
    processes: int = 1


@dataclasses.dataclass
class Report:
    """What was found of a split.

    Attributes
    ----------
    split, path : str
    problems : Faults
        The places of each kind of problem; a kind may be a whole sentence, without places.
    figures : dict
        Bytes, classes and images: how many were ``found``, and how many are ``official``, if known.
    sha256 : str, optional
    shards : str
        What written shards are.
    """

    split: str
    path: str
    problems: Faults = dataclasses.field(default_factory=Faults)
    figures: dict[str, dict[str, int | None]] = dataclasses.field(default_factory=dict)
    sha256: str | None = None
    shards: str = ""

    def add_figure(self, name: str, found: int, official: int | None, strict: bool) -> None:
        """Add a figure, which is a problem if it is not the official one but should be."""
        self.figures[name] = {"found": found, "official": official}
        if strict and official not in (None, found):
            self.problems[f"{found:,} {name} instead of {official:,}"] = []


def check(folder: str, splits: Sequence[str], ways: Ways) -> tuple[list[str], list[Report]]:
    """Check what a folder holds, or a single archive; nothing is written.

    Parameters
    ----------
    folder : str
        Of archives, of extracted images, or of what `index` or `export` wrote.
    splits : sequence of str
        Without any, those that are there, and of archives training and validation.
    ways : Ways

    Returns
    -------
    list of str
        The splits that are missing.
    list of Report
        Of the others.
    """
    data = Path(folder, "data")
    if not is_url(folder) and not archives_in(folder) and (plans := plans_in(data)):
        if ways.hash or ways.decode:
            raise ValueError("--hash and --decode are for archives, not for what was written.")
        wanted = splits or list(plans)
        reports = [check_shards(plans[s], data, ways.strict) for s in wanted if s in plans]
        return [split for split in wanted if split not in plans], reports
    archives = find_archives(folder) if is_dir(folder) else given_archives(folder)
    # A folder must hold both; what is passed by itself is enough.
    usual = () if folder in archives.values() else ("train", "validation")
    wanted = splits or [split for split in SOURCES if split in {*usual, *archives}]
    reports = [check_images(s, archives[s], ways) for s in wanted if s in archives]
    return [split for split in wanted if split not in archives], reports


def first_line(error: BaseException) -> str:
    """Return what an error says, without its advice."""
    return str(error).partition("\n")[0]


# ------------------------------------------------------------------------- archives and trees


class Found(NamedTuple):
    """What was found in a stretch: the names of its images, and what is wrong with it."""

    names: list[str]
    problems: Faults


def check_images(split: str, path: str, ways: Ways) -> Report:
    """Check the archive or the tree of a split; a fault does not end the search for others."""
    report = Report(split, path)
    try:
        check_kind(split, path)
        parts = _parts_of(report, ways.strict)
    except ArchiveError as error:
        report.problems[first_line(error)] = []
        return report
    stretches = stretches_of(split, parts, "archive") if parts else []
    looked_at = (
        _decoded(split, parts, stretches, ways.processes)
        if ways.decode
        else _seen(split, parts, stretches)
    )
    found: Counter[str] = Counter()  # images of each wnid, or of each number
    for names, problems in tqdm(looked_at, split, len(stretches), disable=None, leave=False):
        found.update(match[1] for match in map(SOURCES[split].image.fullmatch, names) if match)
        for kind, places in problems.items():
            report.problems.setdefault(kind, []).extend(places)
    report.add_figure("images", found.total(), SOURCES[split].num_examples, ways.strict)
    if split != "train":  # of which a class is read at once
        twice = [number for number, count in found.items() if count > 1]
        report.problems.add("numbers of images that appear twice", *twice)
    if ways.strict:
        _add_differences(report, found)
    if ways.hash:
        _add_hash(report, ways.strict)
    return report


def _parts_of(report: Report, strict: bool) -> list[Part]:
    """Return what is there of a split, and note what of it is not read at all."""
    split, path, labels = report.split, report.path, read_labels()
    parts: list[Part] = []
    if is_dir(path):
        found, faults, differences = list_tree(split, path, labels)
        report.problems |= {**faults, **(differences if strict else {})}
        parts.extend(found)
    else:
        file = open_file(path)
        report.add_figure("bytes", file.size, SOURCES[split].size, strict)
        whole = Part(path, 0, file.size)
        try:
            parts.extend(class_tars(file, labels.wnids) if split == "train" else [whole])
        except ArchiveError as error:
            report.problems[f"{first_line(error)} What follows was not looked at."] = []
    if split == "train":
        report.add_figure("classes", len(parts), NUM_CLASSES, strict)
    return [part for part in parts if part.size]


def _seen(split: str, parts: list[Part], stretches: list[Stretch]) -> Iterator[Found]:
    """Look at the headers of an archive, or the sizes of files."""
    reader = RowReader(split, parts, read_labels().validation, in_place=True)
    return map(_look_at, reader.by_stretch(stretches))


def _decoded(
    split: str, parts: list[Part], stretches: list[Stretch], processes: int
) -> Iterator[Found]:
    tasks = (
        (split, parts[s.first : s.last], Stretch(0, s.last - s.first, s.region, s.regions))
        for s in stretches
    )
    images = sum(part.size for part in parts) // MEAN_IMAGE_BYTES
    return in_processes(_decode_stretch, tasks, processes, images)


def _decode_stretch(split: str, parts: list[Part], stretch: Stretch) -> Found:
    reader = RowReader(split, parts, read_labels().validation, in_place=False, checks=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which do not matter
        return _look_at(next(reader.by_stretch([stretch])))


def _look_at(rows: Iterable[Row]) -> Found:
    """Go through the rows of a stretch until their end, or until something is wrong with it."""
    names: list[str] = []
    files: list[str] = []
    problems = Faults()
    try:
        for row in rows:
            names.append(row.name)
            if row.data is not None:
                problems.add("images that cannot be decoded", *_reason(row.name, row.data))
            elif os.path.isabs(row.path):  # a file of its own, of which only the name was read
                files.append(row.path)
    except ArchiveError as error:
        problems[first_line(error)] = []
    empty = in_threads(_is_empty, files) if files else []
    problems.add("empty files", *(path for path, bad in zip(files, empty, strict=True) if bad))
    return Found(names, problems)


def _reason(name: str, data: bytes) -> list[str]:
    """Say why an image cannot be decoded, if it cannot."""
    try:
        decode_image(data, name)
    except Exception as error:
        return [first_line(error)]
    return []


def _is_empty(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.getsize(path) == 0
    return True


def _add_differences(report: Report, found: Counter[str]) -> None:
    """Note which images or classes of the original are missing, as far as the names tell."""
    source, path = SOURCES[report.split], report.path
    if report.split != "train":
        numbers = set(range(1, source.num_examples + 1)).difference(map(int, found))
        report.problems.add("numbers of images that are missing", *map(str, sorted(numbers)))
    elif source.in_class and not is_dir(path):  # of a tree this was told with its differences
        fewest, most = source.in_class
        odd = [
            f"{w} has {found[w]:,}" for w in read_labels().wnids if not fewest <= found[w] <= most
        ]
        report.problems.add(f"classes that do not have {fewest} to {most:,} images", *odd)


def _add_hash(report: Report, strict: bool) -> None:
    """Add the SHA-256 of an archive to its report, and hold it to the official one if `strict`."""
    if is_dir(report.path):
        report.problems["extracted images have no SHA-256 to be held to"] = []
        return
    expected, size = SOURCES[report.split].sha256, report.figures["bytes"]["found"]
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        report.sha256 = sha256_of(report.path, bar.update)
    if strict and expected not in (None, report.sha256):
        report.problems[f"its SHA-256 is not that of the original, {expected}"] = []


# ------------------------------------------------------------------------- shards


def check_shards(plan: Plan, data: Path, strict: bool) -> Report:
    """Check the shards of a split: all are there, of their record, and with sound checksums.

    Of an index it is looked whether each image is where its row says.
    """
    what = f"an index of {plan.in_place}" if plan.in_place else "with the images"
    report = Report(plan.split, str(data), shards=f"{plan.shards:,} shard(s), {what}")
    report.add_figure("images", plan.rows, SOURCES[plan.split].num_examples, strict)
    others = {path.name for path in data.glob(f"{plan.split}-*.parquet")} - set(plan.names())
    report.problems.add("files of another export", *sorted(others))
    for shard, name in enumerate(tqdm(plan.names(), plan.split, disable=None, leave=False)):
        if not (data / name).exists():
            report.problems.add("missing shards", name)
        elif read_record(data / name) != plan.record(shard):
            report.problems.add("shards of another export, misplaced or damaged", name)
        else:
            _read_shard(data / name, plan, report.problems)
    return report


def _read_shard(path: Path, plan: Plan, problems: Faults) -> None:
    """Note what is wrong with the pages of a shard, and with the images that it points to."""
    is_here = plan.in_place and not is_url(absolute(os.getenv(FOLDER_VARIABLE, "")))
    places: list[str] = []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROWS_IN_A_GROUP):
                if is_here:  # at a URL, each image would be a request
                    places.extend(batch["image"].field("path").to_pylist())
    except (OSError, pa.ArrowException) as error:
        problems.add("shards with damaged pages", f"{path.name}: {first_line(error)}")
    try:
        problems.add("images that are not where the index says", *missing_images(places))
    except ArchiveError as error:
        problems[first_line(error)] = []
