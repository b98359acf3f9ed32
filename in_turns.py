"""Many iterators under way at a time, so that what each has announced arrives in the meantime."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
UNDER_WAY = 32  # iterators that are followed in turn


def begun_ahead(items: Iterable[T], count: int = UNDER_WAY) -> Iterator[T]:
    """Yield items, of which `count` are made ahead."""
    items = iter(items)
    made = collections.deque(itertools.islice(items, count))
    for item in items:
        made.append(item)
        yield made.popleft()
    yield from made


class _Stream(Generic[T]):
    """What an iterator has yielded so far; an error is kept until its turn comes."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.found: collections.deque[T] = collections.deque()
        self.error: Exception | None = None
        self.is_done = False

    def advance(self) -> None:
        try:
            for item in self._items:
                self.found.append(item)
                return
        except Exception as error:
            self.error = error
        self.is_done = True


def in_turns(
    streams: Iterable[Iterator[T]],
    width: int = UNDER_WAY,
    before_turn: Callable[[], None] = lambda: None,
) -> Iterator[Iterator[T]]:
    """Yield what streams yield, stream by stream, of which `width` are advanced in turn.

    So what each of them has announced arrives while the others are read. What is yielded must be
    used up before the next is asked for; an error is raised where its stream is. `before_turn` is
    called before they are advanced.
    """
    waiting = iter(streams)
    running: collections.deque[_Stream[T]] = collections.deque()

    def items_of(stream: _Stream[T]) -> Iterator[T]:
        while stream.found or not stream.is_done:
            if stream.found:
                yield stream.found.popleft()
                continue
            running.extend(map(_Stream, itertools.islice(waiting, width - len(running))))
            before_turn()
            for one in running:
                if not one.is_done:
                    one.advance()
        if stream.error:
            raise stream.error

    for first in map(_Stream, waiting):
        running.append(first)
        while running:
            yield items_of(running[0])
            running.popleft()


def members_in_turns(pieces: Iterable[tuple[Any, Any]]) -> Iterator[Iterator[Any]]:
    """Yield the members of regions, region by region, of which many are followed in turn.

    What they announce in a turn is made known together before the next: a disk that is told of many
    reads at once is woken once, and a cold header takes two thirds of the time.

    Parameters
    ----------
    pieces : iterable of (TarReader or FileReader, Region)
    """
    held: list[tuple[Any, int, int]] = []

    def members(reader: Any, region: Any) -> Iterator[Any]:
        return reader.members(region, lambda *place: held.append((reader.archive, *place)))

    def announce_all() -> None:
        for archive, offset, size in held:
            archive.announce(offset, size)
        held.clear()

    return in_turns(itertools.starmap(members, pieces), before_turn=announce_all)
