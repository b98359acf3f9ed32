"""From parts to rows: which stretches a split is read in, in what order, and the labels."""

import collections
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from .ilsvrc2012 import NO_CHECKS, NUM_CLASSES, SOURCES, ArchiveError, Labels
from .in_place import place_of
from .parts import BLOCK, Part
from .remote import RemoteFile
from .storage import UNDER_WAY, File, Options, begun_ahead, is_dir, is_url, logger, open_file
from .tar_reader import TarReader, class_tars
from .trees import Faults, FolderReader, is_folder, list_tree

T = TypeVar("T")

# ------------------------------------------------------------------------- what is read by itself

# Flat archives, and class tars in mixed order, are read in this many regions; class tars in fewer
# where they are small, as each region costs a search and should give every class some images.
NUM_REGIONS = 128
MIN_REGION_BYTES = 256 << 10


def parts_of(
    split: str,
    path: str,
    labels: Labels,
    options: Options = None,
    checks: bool = True,
    strict: bool = True,
) -> tuple[Part, ...]:
    """Return the parts of a split: its classes, or a single part of all images.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    path : str
        Of the archive, or of the tree that was extracted of it.
    labels : Labels
    options : dict, optional
        Storage options of `fsspec`.
    checks : bool
        Whether what does not belong in a tree is an error, instead of a warning.
    strict : bool
        Whether a tree with other images than the original is an error, instead of a warning.

    Raises
    ------
    ArchiveError
        Says all that is wrong with a tree, how much of each kind, and where the first of it is.
    """
    if not is_url(path) and is_dir(path):
        parts, faults, differences = list_tree(split, path, labels)
        if checks:
            _check_tree(split, path, faults, differences, strict)
        elif faults:
            logger.warning(f"{path}: left out are {'; '.join(faults.sentences())}.")
        if not any(part.size for part in parts):
            raise ArchiveError(path, f"holds no image of the {split} split.", advice=TREE_ADVICE)
        return parts
    file = open_file(path, options)
    parts = (Part(path, 0, file.size),) if split != "train" else _class_tars(file, labels)
    if file.size == SOURCES[split].size and split == "train" and len(parts) != NUM_CLASSES:
        raise ArchiveError(path, f"holds {len(parts):,} class tars instead of 1000.")
    for part in dict.fromkeys((parts[0], parts[-1])):
        TarReader(file, part, SOURCES[split].image).check_ends()
    return parts


def _class_tars(file: File, labels: Labels) -> tuple[Part, ...]:
    """Return the class tars of the training archive; of an object, their places are kept."""
    if isinstance(file, RemoteFile):  # the headers that another process read, all at once
        for offset in file.kept_places():
            file.announce(offset, BLOCK)
    parts = tuple(class_tars(file, labels.wnids))
    if isinstance(file, RemoteFile):
        file.keep_places([part.start - BLOCK for part in parts])
    return parts


TREE_ADVICE = (
    "Extract the archive again, or put it there instead; `imagenet2012 check` lists all. For a "
    f"subset {NO_CHECKS}: what does not belong is left out, and all else is loaded."
)


def _check_tree(split: str, path: str, faults: Faults, differences: Faults, strict: bool) -> None:
    listed = "; ".join(faults.sentences() + differences.sentences())
    problem = f"is not a whole {split} split. {listed}."
    if faults or (differences and strict):
        raise ArchiveError(path, problem, advice=TREE_ADVICE)
    if differences:
        logger.warning(f"{path} {problem}")


class Stretch(NamedTuple):
    """What is read in one go: the same region of each of some parts.

    Attributes
    ----------
    first, last : int
        The parts, of all that the split has; `last` is the first that does not belong.
    region, regions : int
        Which of how many equal regions of each.
    """

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
    """An example: file name, what the image column stores, and label.

    Attributes
    ----------
    name : str
    path : str
        Where the image stays, if `data` is None.
    data : bytes, optional
    label : int
    """

    name: str
    path: str
    data: bytes | None
    label: int


class RowReader:
    """Reads the rows of a split.

    Parameters
    ----------
    split : str
    parts : sequence of Part
        All that the split has; see `parts_of`.
    validation : sequence of int
        Labels of the validation images by number.
    in_place : bool
        Leave the images where they are, and give their places instead of their bytes.
    options : dict, optional
        Storage options of `fsspec`.
    checks : bool
        Whether an empty file is an error.
    """

    def __init__(
        self,
        split: str,
        parts: Sequence[Part],
        validation: Sequence[int],
        in_place: bool,
        options: Options = None,
        checks: bool = True,
    ) -> None:
        self.split, self.parts, self.validation = split, parts, validation
        self.in_place, self.options, self.checks = in_place, options, checks
        self.pattern = SOURCES[split].image
        self.open = functools.lru_cache(maxsize=NUM_CLASSES)(self._open)

    def _open(self, path: str) -> File:
        return open_file(path, self.options)

    def rows(self, stretches: Sequence[Stretch]) -> Iterator[Row]:
        """Yield the rows of stretches.

        Raises
        ------
        ArchiveError
            As `TarReader.members`, or if an image appears twice in a stretch or does not belong in
            its tar, or a file was changed.
        """
        return itertools.chain.from_iterable(self.by_stretch(stretches))

    def by_stretch(self, stretches: Sequence[Stretch]) -> Iterator[Iterator[Row]]:
        """Yield the rows of each stretch, to be used up before those of the next.

        What is wrong with a stretch is raised by its own rows, and those of the next can be read.
        """
        if self.in_place and all(stretch.last - stretch.first == 1 for stretch in stretches):
            found: Iterable[Iterable[Row]] = self._rows_in_turns(stretches)
        else:
            found = map(self._rows_of_stretch, stretches)
        return map(self._checked, stretches, found)

    def _checked(self, stretch: Stretch, rows: Iterable[Row]) -> Iterator[Row]:
        names: set[str] = set()
        for row in rows:
            if row.name in names:
                path = self.parts[stretch.first].path
                raise ArchiveError(path, f"{row.name!r} appears twice.")
            names.add(row.name)
            yield row
        for path in {p.path for p in self.parts[stretch.first : stretch.last] if not is_folder(p)}:
            self.open(path).check_unchanged()

    def _reader(self, part: Part, alone: bool) -> TarReader | FolderReader:
        """Return what reads a part, whose images are announced unless only headers are read."""
        if is_folder(part):
            ahead = 0 if self.in_place else UNDER_WAY if alone else 1
            return FolderReader(part, self.checks, ahead)
        return TarReader(self.open(part.path), part, self.pattern)

    def _rows_in_turns(self, stretches: Sequence[Stretch]) -> Iterator[Iterable[Row]]:
        """Return the rows of each stretch of one part, many of which are followed in turn.

        What they announce in a turn is made known together before the next: a disk that is told of
        many reads at once is woken once, and a cold header takes two thirds of the time.
        """
        parts = [self.parts[stretch.first] for stretch in stretches]
        readers = [self._reader(part, alone=True) for part in parts]
        held: list[tuple[Any, int, int]] = []

        def members(reader: Any, part: Part, stretch: Stretch) -> Iterator[Any]:
            region = part.region(stretch.region, stretch.regions)
            return reader.members(region, lambda *place: held.append((reader.file, *place)))

        def announce_all() -> None:
            for file, offset, size in held:
                file.announce(offset, size)
            held.clear()

        # Rows are made only when their turn comes, as members take less memory until then.
        followed = in_turns(map(members, readers, parts, stretches), announce_all)
        return map(self._rows_of_members, parts, readers, followed)

    def _rows_of_stretch(self, stretch: Stretch) -> Iterator[Row]:
        """Return the rows of a stretch; of several parts, one from each in turn."""
        chosen = list(self.parts[stretch.first : stretch.last])
        if len(chosen) == 1:
            return self._rows_of_region(stretch, chosen[0])
        # Neighbours in WordNet should not be neighbours in a batch.
        random.Random(stretch.region).shuffle(chosen)
        streams = begun_ahead(self._rows_of_region(stretch, part) for part in chosen)
        return one_of_each(streams)

    def _rows_of_region(self, stretch: Stretch, part: Part) -> Iterator[Row]:
        """Return the rows of a region of a part, whose beginning is announced already."""
        region = part.region(stretch.region, stretch.regions)
        alone = stretch.last - stretch.first == 1
        reader = self._reader(part, alone)
        if isinstance(reader, TarReader) and not self.in_place:
            reader.file = self.open(part.path).in_order(region, alone)
        return self._rows_of_members(part, reader, reader.members(region))

    def _rows_of_members(self, part: Part, reader: Any, members: Iterator[Any]) -> Iterator[Row]:
        for member in members:
            label = self._label(part, member)
            # The image is not kept in a variable here, where it would stay until the next round.
            yield Row(member.name, *self._stored(part, reader, member), label)

    def _stored(self, part: Part, reader: Any, member: Any) -> tuple[str, bytes | None]:
        """Return path and bytes of an image, as the image column stores them."""
        if self.in_place:
            return member.path if is_folder(part) else place_of(reader.file, member), None
        # `datasets` drops the bytes when it encodes an example whose path is a file. Below an
        # archive there can be none.
        return f"{SOURCES[self.split].file_names[0]}/{member.name}", reader.read(member)

    def _label(self, part: Part, member: Any) -> int:
        """Return the label: its class's in training, else by the number in the file name."""
        found = self.pattern.fullmatch(member.name)
        assert found, member.name
        if self.split == "train" and found[1] == part.wnid:
            return part.label
        if self.split != "train" and 1 <= int(found[1]) <= SOURCES[self.split].num_examples:
            return self.validation[int(found[1]) - 1] if self.split == "validation" else -1
        problem = f"{member.name!r} does not belong in {part.wnid or self.split}."
        raise ArchiveError(part.path, problem, member.start)


# ------------------------------------------------------------------------- many in turn


def one_of_each(streams: Iterable[Iterator[T]]) -> Iterator[T]:
    """Yield an item of each stream in turn, until all have ended."""
    while streams:
        going = []
        for stream in streams:
            for item in itertools.islice(stream, 1):
                going.append(stream)
                yield item
        streams = going


def in_turns(
    streams: Iterable[Iterator[T]], before_turn: Callable[[], None], width: int = UNDER_WAY
) -> Iterator[Iterator[T]]:
    """Yield what streams yield, stream by stream, of which `width` are followed in turn.

    So what each of them has announced arrives while the others are read. An error is raised where
    its stream is. `before_turn` is called before they are advanced.
    """
    streams = iter(streams)
    while group := [_Followed(stream) for stream in itertools.islice(streams, width)]:
        while any(followed.goes_on for followed in group):
            before_turn()
            for followed in group:
                followed.advance()
        yield from (followed.items() for followed in group)


class _Followed(Generic[T]):
    """An iterator, and what it has yielded or raised so far."""

    def __init__(self, stream: Iterator[T]) -> None:
        self._stream, self._found = stream, collections.deque[T]()
        self._error: Exception | None = None
        self.goes_on = True

    def advance(self) -> None:
        """Take one more item, if there is one."""
        if self.goes_on:
            try:
                self._found.append(next(self._stream))
            except StopIteration:
                self.goes_on = False
            except Exception as error:
                self._error, self.goes_on = error, False

    def items(self) -> Iterator[T]:
        """Yield what was found, and raise the error if there was one."""
        while self._found:
            yield self._found.popleft()
        if self._error:
            raise self._error
