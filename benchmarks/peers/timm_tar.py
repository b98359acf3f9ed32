"""timm's ReaderImageInTar: an index of the members, kept as a pickle beside the archive."""

import argparse
from collections.abc import Iterable
from typing import Any

import bare
import protocol
import timm.data
from timm.data.readers.reader_image_in_tar import ReaderImageInTar


def reader(args: argparse.Namespace) -> ReaderImageInTar:
    """Make the reader on a link to the archive, so that its pickle comes into the work folder."""
    link = args.work / bare.TRAIN
    if not link.exists():
        link.symlink_to(args.archives.resolve() / bare.TRAIN)
    return ReaderImageInTar(str(link), cache_tarinfo=True)


class TarReader:
    """Reading by number; timm's own dataset gives what is decoded."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.reader = reader(args)
        self.root = str(args.work / bare.TRAIN)

    def size(self) -> int:
        return len(self.reader)

    def raw(self, index: int) -> bytes:
        return bytes(self.reader[index][0].read())

    def decoded(self, index: int) -> Any:
        return self.dataset()[index][0]

    def dataset(self, **kwargs: Any) -> Any:
        if kwargs or not hasattr(self, "images"):
            self.images = timm.data.ImageDataset(self.root, reader=self.reader, **kwargs)
        return self.images

    def iter_raw(self) -> Iterable[bytes]:
        return map(self.raw, range(self.size()))

    def iter_decoded(self) -> Iterable[Any]:
        return map(self.decoded, range(self.size()))

    def shuffled_labels(self) -> Iterable[Any]:
        import torch

        return (self.reader.targets[i] for i in torch.randperm(self.size()).tolist())

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        fresh = ReaderImageInTar(
            self.root, cache_tarinfo=True
        )  # no handles that a fork would share
        images = timm.data.ImageDataset(self.root, reader=fresh, transform=bare.Transform())
        return DataLoader(images, shuffle=True, **bare.LOADER)


def prepare(args: argparse.Namespace) -> int:
    return len(reader(args))


if __name__ == "__main__":
    protocol.main(prepare, TarReader)
