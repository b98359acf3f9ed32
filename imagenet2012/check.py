"""Check archives, extracted images and written shards: all that is wrong, not only the first.

Archives are read as they are loaded, and what the reader raises is collected.
"""

import dataclasses
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from imagenet2012.archives import archives_in, check_kind, find_archives, given_archives, sha256_of
from imagenet2012.decoding import decode_image
from imagenet2012.export import CORES, ROWS_IN_A_GROUP, Plan, in_processes, plans_in, read_record
from imagenet2012.ilsvrc2012 import IN_CLASS, NUM_CLASSES, SOURCES, ArchiveError, read_labels
from imagenet2012.in_place import missing_images
from imagenet2012.regions import MEAN_IMAGE_BYTES, Part
from imagenet2012.rows import Row, RowReader, stretches_of
from imagenet2012.storage import is_dir, is_url, open_file, status_of
from imagenet2012.tar_reader import class_tars
from imagenet2012.trees import in_threads, list_tree

SHOWN = 5  # places of a problem, unless all are wanted
ROWS_TO_DECODE, ROWS_TO_LOOK_AT = 20, 1000  # in one go; the first are some 2 MB


@dataclasses.dataclass
class Report:
    """What was found of a split.

    Of each kind of problem it lists the places; a kind may be a whole sentence, without places. Of
    bytes, classes and images it has how many were ``found``, and how many are ``official``, if that
    is known. Of written shards it says what they are.
    """

    split: str
    path: str
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    figures: dict[str, dict[str, int | None]] = dataclasses.field(default_factory=dict)
    sha256: str | None = None
    shards: str = ""

    def add(self, kind: str, *places: str) -> None:
        """Add places of a kind of problem."""
        if places:
            self.problems.setdefault(kind, []).extend(places)

    def add_figure(self, name: str, found: int, official: int | None, strict: bool) -> None:
        """Add a figure, which is a problem if it is not the official one but should be."""
        self.figures[name] = {"found": found, "official": official}
        if strict and official not in (None, found):
            self.problems[f"{found:,} {name} instead of {official:,}"] = []

    def lines(self, verbose: bool) -> Iterator[str]:
        """Say in lines what was found; of each problem the first places, or all if `verbose`."""
        yield f"{self.split}  {self.path}"
        for name, figure in self.figures.items():
            of = f"  of {figure['official']:,}" if figure["official"] else ""
            yield f"  {name:<8}{figure['found']:>16,}{of}"
        yield from (f"  {told}" for told in (self.shards, self.sha256) if told)
        for kind, places in self.problems.items():
            yield f"  ! {kind}: {len(places):,}" if places else f"  ! {kind}"
            shown = places if verbose else places[:SHOWN]
            yield from (f"      {place}" for place in shown)
            if len(shown) < len(places):
                yield "      … (all of them: --verbose, or --json)"

    def add_error(self, error: Exception) -> None:
        """Add what an error says, without its advice."""
        self.problems[_first_line(error)] = []


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def check(
    folder: str, splits: Sequence[str], no_checks: bool, with_hash: bool, decode: bool
) -> tuple[list[str], list[Report]]:
    """Check what a folder holds, or a single archive; nothing is written.

    The folder is one of archives, of extracted images, or of what `index` or `export` wrote.
    Without `splits` those that are there are checked, and of archives training and validation.
    With `no_checks` they need not have the official figures. All images are decoded if `decode`.
    Returns the splits that are missing, and the reports of the others.
    """
    data = Path(folder, "data")
    if not is_url(folder) and not archives_in(folder) and (plans := plans_in(data)):
        if with_hash or decode:
            raise ValueError("--hash and --decode are for archives, not for what was written.")
        wanted = splits or list(plans)
        reports = [check_shards(plans[s], data, not no_checks) for s in wanted if s in plans]
        return [split for split in wanted if split not in plans], reports
    archives = find_archives(folder) if is_dir(folder) else given_archives(folder)
    # A folder must hold both; what is passed by itself is enough.
    usual = () if folder in archives.values() else ("train", "validation")
    wanted = splits or [split for split in SOURCES if split in {*usual, *archives}]
    ways = not no_checks, with_hash, decode
    reports = [check_images(s, archives[s], *ways) for s in wanted if s in archives]
    return [split for split in wanted if split not in archives], reports


# ------------------------------------------------------------------------- archives and trees


def check_images(split: str, path: str, strict: bool, with_hash: bool, decode: bool) -> Report:
    """Check the archive or the tree of a split; a fault does not end the search for others."""
    report, source = Report(split, path), SOURCES[split]
    try:
        check_kind(split, path)
        parts = _parts_of(report, strict)
    except ArchiveError as error:
        report.add_error(error)
        return report
    found: Counter[str] = Counter()  # images of each wnid, or of each number
    rows = _rows_of(report, parts, found, decode)
    if decode:  # all are read here, in their order, and other processes decode them
        images = sum(part.size for part in parts) // MEAN_IMAGE_BYTES
        tasks = zip(_batches(rows, ROWS_TO_DECODE))
        broken = in_processes(_undecodable, tasks, CORES, images)
        report.add("images that cannot be decoded", *itertools.chain(*broken))
    else:
        empty = map(_empty, _batches(rows, ROWS_TO_LOOK_AT))
        report.add("empty files", *itertools.chain(*empty))
    report.add_figure("images", found.total(), source.num_examples, strict)
    if split != "train":  # of which a class is read at once
        _add_numbers(report, found, strict)
    elif strict:
        _add_classes(report, {part.wnid: found[part.wnid] for part in parts})
    if with_hash:
        _add_hash(report, strict)
    return report


def _parts_of(report: Report, strict: bool) -> list[Part]:
    """Return what is there of a split, and note what of it is not read at all."""
    split, path, labels = report.split, report.path, read_labels()
    parts: list[Part] = []
    if is_dir(path):
        found, left_out = list_tree(split, path, labels.wnids)
        report.add("names that do not belong", *left_out)
        parts.extend(found)
    else:
        file = open_file(path)
        report.add_figure("bytes", file.size, SOURCES[split].size, strict)
        whole = Part(path, 0, file.size)
        try:
            parts.extend(class_tars(file, labels.wnids) if split == "train" else [whole])
        except ArchiveError as error:
            report.problems[f"{_first_line(error)} What follows was not looked at."] = []
    if split == "train":
        report.add_figure("classes", len(parts), NUM_CLASSES, strict)
    return parts


def _rows_of(
    report: Report, parts: list[Part], found: Counter[str], with_data: bool
) -> Iterator[Row]:
    """Yield the rows of all parts and count them; what is wrong with a stretch is noted."""
    split = report.split
    reader = RowReader(split, parts, read_labels().validation, not with_data, checks=False)
    stretches = stretches_of(split, parts, "archive") if parts else []
    each = reader.by_stretch(stretches)
    for rows in tqdm(each, split, len(stretches), disable=None, leave=False):
        try:
            for row in rows:
                found.update(SOURCES[split].image.fullmatch(row.name).groups())  # type: ignore[union-attr]
                yield row
        except ArchiveError as error:
            report.add_error(error)


def _batches(rows: Iterator[Row], count: int) -> Iterator[list[Row]]:
    return iter(lambda: list(itertools.islice(rows, count)), [])


def _undecodable(rows: list[Row]) -> list[str]:
    """Say of images that cannot be decoded which they are, and why."""
    found = []
    for row in rows:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata, which do not matter
                decode_image(row.data or b"", row.name)
        except Exception as error:
            found.append(_first_line(error))
    return found


def _empty(rows: list[Row]) -> list[str]:
    """Return the paths of empty files: of images of their own, only the names were read."""
    paths = [row.path for row in rows if os.path.isabs(row.path)]
    found = zip(paths, in_threads(status_of, paths), strict=True)
    return [path for path, status in found if not (status and status.size)]


def _add_classes(report: Report, counts: dict[str, int]) -> None:
    """Note which classes are missing, or have too many or too few images."""
    fewest, most = IN_CLASS
    odd = [f"{wnid} has {n:,}" for wnid, n in counts.items() if not fewest <= n <= most]
    report.add("missing classes", *sorted(set(read_labels().wnids).difference(counts)))
    report.add(f"classes that do not have {fewest} to {most:,} images", *odd)


def _add_numbers(report: Report, found: Counter[str], strict: bool) -> None:
    """Note which numbers of images appear twice and, if `strict`, which are missing."""
    twice = [number for number, count in found.items() if count > 1]
    report.add("numbers of images that appear twice", *twice)
    if strict:
        numbers = range(1, SOURCES[report.split].num_examples + 1)
        missing = set(numbers).difference(map(int, found))
        report.add("numbers of images that are missing", *map(str, sorted(missing)))


def _add_hash(report: Report, strict: bool) -> None:
    """Add the SHA-256 of an archive to its report, and hold it to the official one if `strict`."""
    if is_dir(report.path):
        report.problems["extracted images have no SHA-256 to be held to"] = []
        return
    expected, report.sha256 = SOURCES[report.split].sha256, sha256_of(report.path)
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
    report.add("files of another export", *sorted(others))
    for shard, name in enumerate(tqdm(plan.names(), plan.split, disable=None, leave=False)):
        if not (data / name).exists():
            report.add("missing shards", name)
        elif read_record(data / name) != plan.record(shard):
            report.add("shards of another export, misplaced or damaged", name)
        else:
            _read_shard(data / name, plan, report)
    return report


def _read_shard(path: Path, plan: Plan, report: Report) -> None:
    """Note what is wrong with the pages of a shard, and with the images that it points to."""
    places: list[str] = []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROWS_IN_A_GROUP):
                if plan.in_place:
                    places.extend(batch["image"].field("path").to_pylist())
    except (OSError, pa.ArrowException) as error:
        report.add("shards with damaged pages", f"{path.name}: {_first_line(error)}")
    try:
        for name in missing_images(places):
            report.add("images that are not where the index says", name)
    except (ArchiveError, OSError) as error:
        report.add_error(error)
