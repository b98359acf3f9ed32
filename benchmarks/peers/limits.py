"""The limits: `cp` and `cat` of the archives; bare `os.pread`, with Pillow where decoded."""

import argparse
import os
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import protocol
import raw_tars
from protocol import timed


def copy(args: argparse.Namespace) -> dict[str, Any]:
    """Copy both archives into the work folder with `cp`."""
    files = [args.archives / protocol.TRAIN, args.archives / protocol.VALIDATION]
    with timed() as timer:
        subprocess.run(["cp", *files, args.work], check=True)
    return dict(vars(timer))


def cat(args: argparse.Namespace) -> dict[str, Any]:
    """Read both archives with `cat`, through a pipe."""
    files = [args.archives / protocol.TRAIN, args.archives / protocol.VALIDATION]
    with timed() as timer, subprocess.Popen(["cat", *files], stdout=subprocess.PIPE) as process:
        buffer = bytearray(1 << 20)
        while process.stdout and process.stdout.readinto(buffer):
            pass
    return dict(vars(timer))


class Bare:
    """A list of places, made beforehand, and one `pread` for each."""

    def __init__(self, *archives: Path) -> None:
        self.places = [place for path in archives for place in raw_tars.places(path)]
        self._files: dict[tuple[Path, int], int] = {}

    def raw(self, index: int) -> bytes:
        path, offset, size = self.places[index]
        key = (path, os.getpid())
        if key not in self._files:
            self._files[key] = os.open(path, os.O_RDONLY)
        return os.pread(self._files[key], size, offset)

    def decoded(self, index: int) -> Any:
        return protocol.pillow(self.raw(index))

    def size(self) -> int:
        return len(self.places)

    def iter_raw(self) -> Iterable[bytes]:
        return map(self.raw, range(len(self.places)))

    def iter_decoded(self) -> Iterable[Any]:
        return map(self.decoded, range(len(self.places)))

    def shuffled_labels(self) -> Iterable[Any]:
        return (random.randrange(1000) for _ in self.places)

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        images: Any = BareImages(self)
        return DataLoader(images, shuffle=True, **protocol.LOADER)


class BareImages:
    """A map-style dataset for torch of nothing but `pread`, Pillow and the transform."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.transform = protocol.training_transform()

    def __len__(self) -> int:
        return self.bare.size()

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.bare.decoded(index))


def opened(args: argparse.Namespace) -> Bare:
    return Bare(args.archives / protocol.TRAIN)


def pread_all(args: argparse.Namespace) -> dict[str, Any]:
    """Read every image of both archives in their order."""
    bare = Bare(args.archives / protocol.TRAIN, args.archives / protocol.VALIDATION)
    with timed() as timer:
        volume = sum(map(len, bare.iter_raw()))
    return {**vars(timer), "images": bare.size(), "bytes": volume}


if __name__ == "__main__":
    protocol.main(opened=opened, cp=copy, cat=cat, pread_all=pread_all)
