"""From parts to rows: which stretches a split is read in, in what order, and the labels."""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from .ilsvrc2012 import NUM_CLASSES, SOURCES, ArchiveError, Labels
from .in_place import announce_place, place_of
from .regions import BLOCK, MEAN_IMAGE_BYTES, Part
from .remote import RemoteFile
from .storage import (
    UNDER_WAY,
    DiskFile,
    File,
    InOrder,
    Options,
    ahead,
    is_dir,
    is_url,
    logger,
    open_file,
)
from .tar_reader import Member, TarReader, class_tars
from .trees import TREE_ADVICE, is_folder, list_tree, paths_in

T = TypeVar("T")
Place = tuple[File, int, int]  # offset and size of what will be read

# ------------------------------------------------------------------------- what is read by itself

# Flat archives, and class tars in mixed order, are read in this many regions; class tars in fewer
# where they are small, as each region costs a search and should give every class some images.
NUM_REGIONS = 128
MIN_REGION_BYTES = 256 << 10


def parts_of(
    split: str, path: str, labels: Labels, options: Options, checks: bool, strict: bool
) -> tuple[Part, ...]:
    """Return the parts of a split: its classes, or a single part of all images.

    What does not belong in a tree that was extracted is an error, and so are other images than the
    original has if `strict`. Otherwise, and without `checks`, it is a warning.
    """
    if not is_url(path) and is_dir(path):
        return _parts_of_tree(split, path, labels, checks, strict)
    file = open_file(path, options)
    return (Part(path, 0, file.size),) if split != "train" else _class_tars(file, labels)


def _class_tars(file: File, labels: Labels) -> tuple[Part, ...]:
    """Return the class tars of the training archive; of an object, their places are kept."""
    if not isinstance(file, RemoteFile):
        return tuple(class_tars(file, labels.wnids))
    for offset in file.kept_places():  # the headers that another process read, all at once
        file.announce(offset, BLOCK)
    parts = tuple(class_tars(file, labels.wnids))
    file.keep_places([part.start - BLOCK for part in parts])
    return parts


def _parts_of_tree(
    split: str, path: str, labels: Labels, checks: bool, strict: bool
) -> tuple[Part, ...]:
    parts, left_out = list_tree(split, path, labels.wnids)
    figures = [("classes", len(parts), NUM_CLASSES)] if split == "train" else []
    if all(map(is_folder, parts)):  # the names in class tars are not read
        images = sum(part.size for part in parts) // MEAN_IMAGE_BYTES
        figures.append(("images", images, SOURCES[split].num_examples))
    others = [f"{n:,} {what} instead of {of:,}" for what, n, of in figures if n != of]
    shown = ", ".join(sorted(left_out)[:3]) + ", …" * (len(left_out) > 3)
    told = [f"names that do not belong: {len(left_out):,} ({shown})"] if left_out else []
    problem = f"is not a whole {split} split: {'; '.join(told + (others if checks else []))}."
    if checks and (left_out or (others and strict)):
        raise ArchiveError(path, problem, advice=TREE_ADVICE)
    if left_out or (others and checks):
        logger.warning(f"{path} {problem}{' What does not belong is left out.' * bool(left_out)}")
    if not any(part.size for part in parts):
        raise ArchiveError(path, f"holds no image of the {split} split.", advice=TREE_ADVICE)
    return parts


class Stretch(NamedTuple):
    """What is read in one go: of `parts[first:last]` each the same of so many equal regions."""

    first: int
    last: int
    region: int
    regions: int


def stretches_of(split: str, parts: Sequence[Part], order: str) -> list[Stretch]:
    """Return the stretches of a split: its classes, or in mixed order the same region of each."""
    if split == "train" and order == "archive":
        return [Stretch(index, index + 1, 0, 1) for index in range(len(parts))]
    regions = NUM_REGIONS
    if split == "train":
        mean = sum(part.size for part in parts) // len(parts)
        regions = max(1, min(NUM_REGIONS, mean // MIN_REGION_BYTES))
    return [Stretch(0, len(parts), number, regions) for number in range(regions)]


# ------------------------------------------------------------------------- rows


class Row(NamedTuple):
    """An example; without `data` the image stays at `path`, which may be a URL."""

    name: str
    path: str
    data: bytes | None
    label: int


@dataclasses.dataclass
class RowReader:
    """Reads the rows of a split of these parts; see `parts_of`."""

    split: str
    parts: Sequence[Part]
    validation: Sequence[int]  # labels of the validation images by number, less 1
    in_place: bool  # whether images stay where they are, and rows have places instead of bytes
    options: Options = None
    checks: bool = True  # whether an empty file is an error

    def __post_init__(self) -> None:
        self.source = SOURCES[self.split]
        # A path below an archive is no file. Of one that is, `datasets` would drop the bytes.
        self.stored = self.source.file_names[0]
        self.file_at = functools.lru_cache(NUM_CLASSES)(lambda path: open_file(path, self.options))

    def rows(self, stretches: Sequence[Stretch]) -> Iterator[Row]:
        """Yield the rows of stretches.

        Raises `ArchiveError` as `TarReader.members`, or if an image appears twice in a stretch or
        does not belong in its tar, or a file was changed.
        """
        return itertools.chain.from_iterable(self.by_stretch(stretches))

    def by_stretch(self, stretches: Sequence[Stretch]) -> Iterator[Iterator[Row]]:
        """Yield the rows of each stretch, to be used up before those of the next.

        What is wrong with a stretch is raised by its own rows, and those of the next can be read.
        """
        found: Iterator[Iterator[Row]] = map(self._rows_of_stretch, stretches)
        if self.in_place and all(stretch.last - stretch.first == 1 for stretch in stretches):
            # Headers alone are read, so many of these tars are followed in turn.
            held: list[Place] = []
            streams = (self._rows_of_region(s, self.parts[s.first], held) for s in stretches)
            found = in_turns(streams, held)
        return map(self._checked, stretches, found)

    def _checked(self, stretch: Stretch, rows: Iterator[Row]) -> Iterator[Row]:
        parts = self.parts[stretch.first : stretch.last]
        names: set[str] = set()
        for row in rows:
            if row.name in names:
                raise ArchiveError(parts[0].path, f"{row.name!r} appears twice.")
            names.add(row.name)
            yield row
        for path in {part.path for part in parts if not is_folder(part)}:
            self.file_at(path).check_unchanged()

    def _rows_of_stretch(self, stretch: Stretch) -> Iterator[Row]:
        """Return the rows of a stretch; of several parts, one from each in turn."""
        chosen = list(self.parts[stretch.first : stretch.last])
        # Neighbours in WordNet should not be neighbours in a batch.
        random.Random(stretch.region).shuffle(chosen)
        return one_of_each(ahead(self._rows_of_region(stretch, part) for part in chosen))

    def _rows_of_region(
        self, stretch: Stretch, part: Part, held: list[Place] | None = None
    ) -> Iterator[Row]:
        """Return the rows of a region of a part, whose beginning is announced, or held for that."""
        region = part.region(stretch.region, stretch.regions)
        alone = stretch.last - stretch.first == 1
        if is_folder(part):
            return self._rows_of_files(part, paths_in(part, region), UNDER_WAY if alone else 1)
        file = self.file_at(part.path)
        reading = file if self.in_place else InOrder(file, region, alone)
        tar = TarReader(reading, part, self.source.image)
        announce = None if held is None else lambda *place: held.append((file, *place))
        return self._rows_of_members(tar, tar.members(region, announce))

    def _rows_of_files(self, part: Part, paths: list[str], under_way: int) -> Iterator[Row]:
        for path in paths if self.in_place else ahead(paths, announce_place, under_way):
            name = path.rpartition("/")[2]
            label = self._label(part, name)
            if self.in_place:  # it is not even looked at
                yield Row(name, path, None, label)
                continue
            file = DiskFile(path)
            if not file.size and self.checks:
                problem = "is empty, as files are that an interrupted extraction or copy left."
                raise ArchiveError(path, problem, advice=TREE_ADVICE)
            yield Row(name, f"{self.stored}/{name}", file.read(0, file.size), label)

    def _rows_of_members(self, tar: TarReader, members: Iterator[Member]) -> Iterator[Row]:
        for member in members:
            label = self._label(tar.part, member.name, member.start)
            if self.in_place:
                yield Row(member.name, place_of(tar.file, member), None, label)
            else:  # the bytes are in no variable, where they would stay until the next round
                yield Row(member.name, f"{self.stored}/{member.name}", tar.read(member), label)

    def _label(self, part: Part, name: str, offset: int | None = None) -> int:
        """Return the label: its class's in training, else by the number in the file name."""
        found = self.source.image.fullmatch(name)
        if found and self.split == "train" and found[1] == part.wnid:
            return part.label
        if found and self.split != "train" and 1 <= int(found[1]) <= self.source.num_examples:
            return self.validation[int(found[1]) - 1] if self.split == "validation" else -1
        problem = f"{name!r} does not belong in {part.wnid or self.split}."
        raise ArchiveError(part.path, problem, offset)


# ------------------------------------------------------------------------- many in turn


def one_of_each(
    streams: Iterable[Iterator[T]], before_turn: Callable[[], object] = lambda: None
) -> Iterator[T]:
    """Yield an item of each stream in turn, until all have ended."""
    while streams:
        before_turn()
        going = []
        for stream in streams:
            for item in itertools.islice(stream, 1):
                going.append(stream)
                yield item
        streams = going


def in_turns(streams: Iterable[Iterator[T]], held: list[Place]) -> Iterator[Iterator[T]]:
    """Yield what streams yield, stream by stream, of which many are followed in turn.

    An error is raised where its stream is. The streams add to `held` what they will read next: it
    is announced together before each turn, so that a disk is woken once for all of it, and a cold
    header takes two thirds of the time.
    """

    def announce_held() -> None:
        for file, offset, size in held:
            file.announce(offset, size)
        held.clear()

    followed = map(with_error, streams)
    while group := list(itertools.islice(followed, UNDER_WAY)):
        found: list[list[T | Exception]] = [[] for _ in group]
        pairs = [
            zip(itertools.repeat(one), stream) for one, stream in zip(found, group, strict=True)
        ]
        for one, item in one_of_each(pairs, announce_held):
            one.append(item)
        yield from (raising(one) for one in found)


def with_error(stream: Iterator[T]) -> Iterator[T | Exception]:
    """Yield the items of a stream and, last, the error that ends it."""
    try:
        yield from stream
    except Exception as error:
        yield error


def raising(items: Iterable[T | Exception]) -> Iterator[T]:
    """Yield items, and raise those that are errors."""
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item
