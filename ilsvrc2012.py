"""What ILSVRC2012 is: its archives, the names in them, its labels, the error about an archive."""

import dataclasses
import functools
import os
import re
from typing import Any, NamedTuple

import fsspec

NAME = "imagenet2012"
VERSION = "5.0.0"  # of the data, as in TensorFlow Datasets
NUM_CLASSES = 1000
IN_CLASS = (732, 1300)  # fewest and most training images of a class
NO_CHECKS = 'pass verification_mode="no_checks" (on the command line: --no-checks)'
HOMEPAGE = "https://image-net.org/"
DOWNLOAD_PAGE = f"{HOMEPAGE}download-images"
INFO = {
    "homepage": HOMEPAGE,
    "license": "ImageNet terms of access: non-commercial research and education. See "
    f"{DOWNLOAD_PAGE}",
    "description": """\
ILSVRC 2012, commonly known as ImageNet-1k, is an image dataset organised according to the WordNet \
hierarchy: 1000 synsets, each with 732 to 1300 training images and 50 validation images, \
quality-controlled and annotated by hand. 1,281,167 images for training, 50,000 for validation and \
100,000 for testing, the last without public labels.""",
    "citation": """\
@article{ILSVRC15,
  author  = {Olga Russakovsky and Jia Deng and Hao Su and Jonathan Krause and Sanjeev Satheesh and
             Sean Ma and Zhiheng Huang and Andrej Karpathy and Aditya Khosla and Michael Bernstein
             and Alexander C. Berg and Li Fei-Fei},
  title   = {{ImageNet Large Scale Visual Recognition Challenge}},
  journal = {International Journal of Computer Vision (IJCV)},
  year    = {2015},
  volume  = {115},
  number  = {3},
  pages   = {211--252},
  doi     = {10.1007/s11263-015-0816-y}
}""",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """An original archive and the split that is made of it.

    Sizes and SHA-256 are those that TensorFlow Datasets 4.9.10 and torchvision record, the counts
    those of the development kit's readme. The exact size of the test archive is not known.
    """

    file_names: tuple[str, ...]  # the first is today's name
    image: re.Pattern[str]  # its images' names; the group is the wnid, or the number of a label
    num_examples: int
    size: int | None = None  # bytes
    sha256: str | None = None


SOURCES: dict[str, Source] = {
    "train": Source(
        ("ILSVRC2012_img_train.tar",),
        re.compile(r"(n\d{8})_\d+\.JPEG", re.ASCII),
        1_281_167,
        147_897_477_120,
        "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    ),
    "validation": Source(
        ("ILSVRC2012_img_val.tar",),
        re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.ASCII),
        50_000,
        6_744_924_160,
        "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    ),
    "test": Source(
        ("ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test.tar"),
        re.compile(r"ILSVRC2012_test_(\d{8})\.JPEG", re.ASCII),
        100_000,
        sha256="9cf7f8249639510f17d3d8a0deb47cd22a435886ba8e29e2b3223e65a4079eb4",
    ),
}
CLASS_TAR = re.compile(r"(n\d{8})\.tar", re.ASCII)
IMAGE_NAME = re.compile(r"(?:n\d{8}_\d+|ILSVRC2012_(?:val|test)_\d{8})\.JPEG", re.ASCII)
# What operating systems add to folders that people pack again; never an image.
CLUTTER = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini")


class Labels(NamedTuple):
    """The label tables."""

    wnids: tuple[str, ...]  # the 1000 WordNet identifiers in label order, which is sorted order
    words: tuple[str, ...]  # the 1000 names in label order, unique, as in the Hub's imagenet-1k
    validation: tuple[int, ...]  # labels of the 50,000 validation images by number, less 1


@functools.cache
def read_labels(base_path: str | None = None) -> Labels:
    """Read the tables in ``labels/`` beside this file or, where it runs as a script, `base_path`.

    That is its repository's folder or URL, from which `datasets` copies modules, but no tables.
    """
    lines = [line.split("\t") for line in _read_table("classes.tsv", base_path)]
    wnids, words = zip(*lines, strict=True)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    validation = tuple(label_of[wnid] for wnid in _read_table("validation.txt", base_path))
    return Labels(wnids, words, validation)


def _read_table(name: str, base_path: str | None) -> list[str]:
    folder = os.path.abspath(__file__).replace(os.sep, "/").rpartition("/")[0]
    if base_path and "labels" not in os.listdir(folder):
        folder = base_path
    with fsspec.open(f"{folder}/labels/{name}", "rb") as file:
        return file.read().decode().splitlines()


class ArchiveError(ValueError):
    """An archive is not what it should be: says which, where in it, and what to do.

    The `problem` is a sentence without its subject, which is the archive at `path`; `offset` is
    where in it, in bytes. Without `advice` it is to compare the SHA-256 and to fetch the archive
    again. What in URLs may be secret is left out of the message.
    """

    def __init__(
        self, path: str, problem: str, offset: int | None = None, advice: str = ""
    ) -> None:
        self.path, self.problem = without_secrets(path), without_secrets(problem)
        self.offset, self.advice = offset, without_secrets(advice)
        place = "" if offset is None else f", at byte {offset:,}"
        advice = self.advice or (
            "The archive is damaged, incomplete or not an original one. Compare it with the "
            "SHA-256 of the original (verification_mode='all_checks') and fetch it again from "
            f"{DOWNLOAD_PAGE}."
        )
        super().__init__(f"{self.path}{place}: {self.problem}\n{advice}")

    def __reduce__(self) -> Any:
        """Be the same after a way through another process."""
        return type(self), (self.path, self.problem, self.offset, self.advice)


# What may be secret in URLs: the user and password before a host, and the query and fragment of
# HTTP, as in signed URLs. Those of object stores have containers before `@`, and `?` in keys.
_USER = re.compile(
    r"(?<=://)[^\s/@:]*:(?!\d+/)(?:(?!://)[^\s@])*@|(?:(?<=http://)|(?<=https://))[^\s/@]*@", re.I
)
_QUERY = re.compile(r"(https?://[^\n?#'\"<>]*)[?#][^\s'\"<>]*", re.I)


def without_secrets(text: str) -> str:
    """Return a path or text, the URLs in it without user, password, query and fragment."""
    return _QUERY.sub(r"\1", _USER.sub("", text))
