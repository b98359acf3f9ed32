"""torchvision: its own extraction of the archives, then `ImageFolder`, as its `ImageNet` does.

`ImageNet` insists on the development kit and on the official MD5; so its functions are called, and
told the MD5 of these archives. Checking it is part of what they do.
"""

import argparse
import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bare
import protocol
from torchvision import datasets
from torchvision.datasets import imagenet


def prepare(args: argparse.Namespace) -> int:
    imagenet.parse_train_archive(args.work)
    wnids = [folder.name for folder in sorted((args.work / "train").iterdir())]
    count = int((args.work / "val_count").read_text())
    imagenet.parse_val_archive(args.work, wnids=[random.choice(wnids) for _ in range(count)])
    return len(datasets.ImageFolder(args.work / "train")) + count


def link_archives(args: argparse.Namespace) -> None:
    """Put the archives where torchvision looks, and their MD5 where it looks that up."""
    for key, name in (("train", bare.TRAIN), ("val", bare.VALIDATION)):
        path = args.archives / name
        (args.work / name).symlink_to(path.resolve())
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        imagenet.ARCHIVE_META[key] = (name, md5)
    import bare

    count = len(bare.places(args.archives / bare.VALIDATION))
    (args.work / "val_count").write_text(str(count))


class Folder:
    """The extracted training images."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.root = args.work / "train"
        self.images = datasets.ImageFolder(self.root)
        self.files = datasets.ImageFolder(self.root, loader=lambda path: Path(path).read_bytes())

    def size(self) -> int:
        return len(self.images)

    def raw(self, index: int) -> Any:
        return self.files[index][0]

    def decoded(self, index: int) -> Any:
        return self.images[index][0]

    def iter_raw(self) -> Iterable[Any]:
        return map(self.raw, range(self.size()))

    def iter_decoded(self) -> Iterable[Any]:
        return map(self.decoded, range(self.size()))

    def shuffled_labels(self) -> Iterable[Any]:
        from torch.utils.data import RandomSampler

        return (self.images.targets[index] for index in RandomSampler(self.images))

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        images = datasets.ImageFolder(self.root, transform=bare.Transform())
        return DataLoader(images, shuffle=True, **bare.LOADER)


if __name__ == "__main__":
    protocol.main(prepare, Folder, before=link_archives)
