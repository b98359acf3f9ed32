"""Digests inside a Parquet file, by which each of its bytes can be proven.

Parquet has checksums of its pages, but none of the headers of pages, of the page index and of the
footer, where a flipped bit moves statistics, offsets and names. Readers find the footer from the
end of the file and the rest by the footer's offsets, so what lies before the footer is free: there
the seal is put, a mark and the SHA-256 of the whole file and of the footer, both without the seal.
"""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MARK = b"imagenet2012 seal of SHA-256 sums"
DIGEST = hashlib.sha256().digest_size
SEAL = len(MARK) + 2 * DIGEST
END = 8  # bytes: the length of the footer and Parquet's magic
CHUNK = 1 << 20


class SealedFile(io.BufferedRandom):
    """A new file for a Parquet writer, which `seal` then completes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x+"))
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write bytes that belong to the Parquet file."""
        self._digest.update(data)
        return super().write(data)

    def seal(self) -> None:
        """Put the seal before the footer, and all on the disk."""
        self.seek(-END, os.SEEK_END)
        length = int.from_bytes(self.read(4), "little") + END
        self.seek(-length, os.SEEK_END)
        footer = self.read()
        self.seek(-length, os.SEEK_END)
        super().write(MARK + self._digest.digest() + hashlib.sha256(footer).digest() + footer)
        self.flush()
        os.fsync(self.fileno())


def _parts(file: BinaryIO) -> tuple[int, bytes, bytes]:
    """Return where the seal should be, what is there, and the footer with all that follows it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END))
    start = size - END - SEAL - int.from_bytes(file.read(4), "little")
    if start < 0:
        return 0, b"", b""
    file.seek(start)
    return start, file.read(SEAL), file.read()


def has_whole_footer(file: BinaryIO) -> bool:
    """Tell whether the footer of a Parquet file is as it was sealed."""
    _, seal, footer = _parts(file)
    return seal.startswith(MARK) and seal.endswith(hashlib.sha256(footer).digest())


def is_whole(path: Path, progress: Callable[[float], object] = lambda _: None) -> bool:
    """Tell whether each byte of a Parquet file is as it was sealed.

    Parameters
    ----------
    path : Path
    progress : callable
        Told of the part that has been read, from 0 to 1.
    """
    with path.open("rb") as file:
        if not has_whole_footer(file):
            return False
        start, seal, footer = _parts(file)
        digest = hashlib.sha256()
        file.seek(0)
        while left := start - file.tell():
            if not (data := file.read(min(left, CHUNK))):
                return False  # it was cut while it was read
            digest.update(data)
            progress(file.tell() / start)
    digest.update(footer)
    return seal == MARK + digest.digest() + hashlib.sha256(footer).digest()
