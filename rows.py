"""From members to rows: which shards a split has, in what order they are read, and their labels."""

import functools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .arrow_tables import ImageBuffer, Row, RowNumber
from .ilsvrc2012 import SOURCES, ArchiveError
from .in_place import place_of
from .in_turns import begun_ahead, members_in_turns
from .splits import reader_of
from .tree_listing import Part

# Flat archives, and class tars in mixed order, are read in this many regions; class tars in fewer
# where they are small, as each region costs a search and should give every class some images.
NUM_REGIONS = 128
MIN_REGION_BYTES = 256 << 10


class Shard(NamedTuple):
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


def shards_of(split: str, parts: Sequence[Part], order: str) -> list[Shard]:
    """Return the shards of a split: its classes, or in mixed order the same region of each."""
    if split == "train" and order == "archive":
        return [Shard(index, index + 1, 0, 1) for index in range(len(parts))]
    regions = NUM_REGIONS
    if split == "train":
        mean = sum(part.size for part in parts) // len(parts)
        regions = max(1, min(NUM_REGIONS, mean // MIN_REGION_BYTES))
    return [Shard(0, len(parts), number, regions) for number in range(regions)]


class RowReader:
    """Reads the rows of a split from its archive, or from the tree that was extracted of it.

    Parameters
    ----------
    split : str
    archive : Archive or Tree
    parts : sequence of Tar or Files
        All that the split has; see `splits.parts_of`.
    validation : sequence of int
        Labels of the validation images by number.
    in_place : bool
        Leave the images where they are, and give their places instead of their bytes.
    buffer : ImageBuffer, optional
        Where to read images to.
    """

    def __init__(
        self,
        split: str,
        archive: Any,
        parts: Sequence[Part],
        validation: Sequence[int],
        in_place: bool,
        buffer: ImageBuffer | None = None,
    ) -> None:
        self.split, self.archive, self.parts = split, archive, parts
        self.validation, self.in_place, self.buffer = validation, in_place, buffer
        self.pattern = SOURCES[split].image

    def rows(self, shards: Sequence[Shard]) -> Iterator[tuple[RowNumber, Row]]:
        """Yield the rows of shards, each with its place.

        Raises
        ------
        ArchiveError
            As `TarReader.members`, or if an image appears twice or does not belong in its tar, or
            the archive was changed.
        """
        alone = shards[0].last - shards[0].first == 1
        self.archive.advise("SEQUENTIAL" if alone and not self.in_place else "RANDOM")
        for number, rows in enumerate(self._rows_of_shards(shards, alone)):
            names: set[str] = set()
            for index, row in enumerate(rows):
                member = row.member
                if member.name in names:
                    problem = f"{member.name!r} appears twice."
                    raise ArchiveError(self.archive.path, problem, member.start)
                names.add(member.name)
                yield (number, index), row
            self.archive.check_unchanged()

    def _rows_of_shards(self, shards: Sequence[Shard], alone: bool) -> Iterable[Iterable[Row]]:
        """Return the rows of each shard."""
        if self.in_place and self.archive.is_remote:
            # One small request leads to the next, so many shards are followed at a time.
            return self.archive.map(lambda shard: list(self._rows_of_shard(shard)), shards)
        if self.in_place and alone:
            return self._rows_in_turns(shards)
        return map(self._rows_of_shard, shards)

    def _rows_in_turns(self, shards: Sequence[Shard]) -> Iterable[Iterable[Row]]:
        """Return the rows of each shard of one part, many of which are followed in turn."""
        # Rows are made only when their turn comes, as members take less memory until then.
        parts = [self.parts[shard.first] for shard in shards]
        readers = [reader_of(self.archive, part, self.pattern) for part in parts]
        regions = [part.region(s.region, s.regions) for part, s in zip(parts, shards, strict=True)]
        members = members_in_turns(zip(readers, regions, strict=True))
        return map(self._rows_of_members, parts, readers, members)

    def _rows_of_shard(self, shard: Shard) -> Iterator[Row]:
        """Return the rows of a shard; of several parts, one from each in turn."""
        chosen = list(self.parts[shard.first : shard.last])
        rows_of = functools.partial(self._rows_of_region, shard)
        if len(chosen) == 1:
            return rows_of(chosen[0])
        # Neighbours in WordNet should not be neighbours in a batch.
        random.Random(shard.region).shuffle(chosen)
        return self._one_of_each(begun_ahead(map(rows_of, chosen)))

    def _one_of_each(self, streams: Iterable[Iterator[Row]]) -> Iterator[Row]:
        """Yield a row of each stream in turn."""
        apply = self.archive.map if self.archive.is_remote and not self.in_place else map
        while streams:
            rows = apply(lambda stream: (stream, next(stream, None)), streams)
            streams = []
            for stream, row in rows:
                if row is not None:
                    streams.append(stream)
                    yield row

    def _rows_of_region(self, shard: Shard, part: Part) -> Iterator[Row]:
        """Return the rows of a region of a part, whose beginning is announced already."""
        region = part.region(shard.region, shard.regions)
        archive: Any = self.archive
        if not self.in_place:
            archive = archive.in_order(part, region, alone=shard.last - shard.first == 1)
        reader = reader_of(archive, part, self.pattern)
        return self._rows_of_members(part, reader, reader.members(region))

    def _rows_of_members(self, part: Part, reader: Any, members: Iterator[Any]) -> Iterator[Row]:
        for member in members:
            label = self._label(part, reader, member)
            # The image is not kept in a variable here, where it would stay until the next round.
            yield Row(member, *self._stored(reader, member), label)

    def _stored(self, reader: Any, member: Any) -> tuple[str, Any]:
        """Return path and bytes of an image, as the image column stores them."""
        if self.in_place:
            return place_of(reader.archive, member), None
        # No file can have this path, which would make `datasets` drop the bytes when it encodes
        # the example: where its first part exists, it is the archive.
        path = f"{SOURCES[self.split].file_names[0]}/{member.name}"
        return path, self.buffer.read(reader, member) if self.buffer else reader.read(member)

    def _label(self, part: Part, reader: Any, member: Any) -> int:
        """Return the label: its class's in training, else by the number in the file name."""
        found = self.pattern.fullmatch(member.name)
        assert found, member.name
        if self.split == "train" and found[1] == part.wnid:
            return part.label
        if self.split != "train" and 1 <= int(found[1]) <= SOURCES[self.split].num_examples:
            return self.validation[int(found[1]) - 1] if self.split == "validation" else -1
        problem = f"{member.name!r} does not belong in {part.wnid or self.split}."
        raise ArchiveError(reader.archive.path, problem, member.start)
