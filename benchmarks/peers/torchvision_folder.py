"""torchvision: its own extraction of the archives, then `ImageFolder`, as its `ImageNet` does.

`ImageNet` insists on the development kit and on the official MD5; so its functions are called, and
told the MD5 of these archives. Checking it is part of what they do.
"""

import argparse
import json

import bare
import protocol
from torchvision import datasets
from torchvision.datasets import imagenet


def facts(args: argparse.Namespace) -> dict[str, tuple[str, int]]:
    return dict(json.loads((args.archives / "facts.json").read_text()))


def link_archives(args: argparse.Namespace) -> None:
    """Put the archives where torchvision looks, and their MD5 where it looks that up."""
    for key, name in (("train", bare.TRAIN), ("val", bare.VALIDATION)):
        (args.work / name).symlink_to(args.archives.resolve() / name)
        imagenet.ARCHIVE_META[key] = (name, facts(args)[name][0])


def prepare(args: argparse.Namespace) -> int:
    imagenet.parse_train_archive(args.work)
    wnid = min(path.name for path in (args.work / "train").iterdir())
    count = facts(args)[bare.VALIDATION][1]
    imagenet.parse_val_archive(args.work, wnids=[wnid] * count)  # no matter which
    return len(datasets.ImageFolder(args.work / "train")) + count


if __name__ == "__main__":
    protocol.main(prepare, before=link_archives)
