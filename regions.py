"""What tells files apart, and what is read by itself of a split: a tar, a folder, a region."""

from typing import NamedTuple

BLOCK = 512  # bytes, of which a tar consists
MEAN_IMAGE_BYTES = 115_000  # stands for a file's size where asking each file would take minutes


class Status(NamedTuple):
    """What tells one file or folder from another.

    `size` is in bytes; `version` is the time of the last change in nanoseconds, or what an object
    store tells instead.
    """

    size: int
    version: int | str
    is_dir: bool


class Region(NamedTuple):
    """Bytes of a part that are read by themselves: the members whose first header begins there."""

    start: int
    stop: int


class Part(NamedTuple):
    """What of a split lies together: a tar, or a folder of images in files of their own.

    `start` and `end` are the bytes in its file that the tar fills. In a folder each image counts as
    `MEAN_IMAGE_BYTES`. `names` are those of a folder's images, which may have folders before them,
    joined by newlines, which takes a fourth of a list's memory.
    """

    path: str
    start: int
    end: int
    wnid: str = ""  # of a single class
    label: int = -1
    names: str | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end - self.start

    def region(self, number: int, count: int) -> Region:
        """Return one of `count` equal regions, which together are the whole part."""
        blocks = self.size // BLOCK
        start, stop = (self.start + blocks * k // count * BLOCK for k in (number, number + 1))
        return Region(start, self.end if number == count - 1 else stop)
