"""timm's ReaderImageInTar: an index of the members, kept as a pickle beside the archive."""

import argparse
from typing import Any

import bare
import protocol
import timm.data
from timm.data.readers.reader_image_in_tar import ReaderImageInTar


class Tar:
    """Reading by number; the archive is a link, so that the pickle comes into the work folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        link = args.work / bare.TRAIN
        if not link.exists():
            link.symlink_to(args.archives.resolve() / bare.TRAIN)
        self.path = str(link)
        self.images = self.dataset()

    def dataset(self, **kwargs: Any) -> Any:
        reader = ReaderImageInTar(self.path, cache_tarinfo=True)
        return timm.data.ImageDataset(self.path, reader=reader, **kwargs)

    def size(self) -> int:
        return len(self.images)

    def decoded(self, index: int) -> Any:
        return self.images[index][0]

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        return DataLoader(self.dataset(transform=bare.Transform()), shuffle=True, **bare.LOADER)


if __name__ == "__main__":
    protocol.main(lambda args: Tar(args).size(), Tar)
