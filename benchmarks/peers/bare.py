"""The archives read without this loader: by `tarfile`, and by loops of nothing but system calls."""

import collections
import io
import os
import random
import tarfile
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import NamedTuple

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LOADER: dict[str, Any] = {"batch_size": 64, "num_workers": 2}
BLOCK = 512
PIECE = 512 << 10  # announced at a time of each class tar
STEP = 128 << 10  # what the kernel does not cut


class Place(NamedTuple):
    """Where a member's bytes lie."""

    name: str
    offset: int
    size: int

    @property
    def next(self) -> int:
        """Where the next member's header lies."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def header(file: int, offset: int) -> Place | None:
    """Read the header at an offset; None at the end of a tar."""
    block = os.pread(file, BLOCK, offset)
    name = block[:100].rstrip(b"\0").decode()
    return Place(name, offset + BLOCK, int(block[124:135], 8)) if name else None


def members(file: int, offset: int = 0) -> Iterator[Place]:
    """Follow the headers of a tar one after another."""
    while member := header(file, offset):
        yield member
        offset = member.next


def headers(path: Path, under_way: int = 1) -> list[Place]:
    """Read every header of the training archive; return where the images lie.

    With more than one `under_way`, so many class tars are followed in turn, and the next header of
    each is announced to the kernel.
    """
    file = os.open(path, os.O_RDONLY)
    waiting = [tar.offset for tar in members(file)][::-1]
    turns = collections.deque(waiting.pop() for _ in range(min(under_way, len(waiting))))
    images = []
    while turns:
        if member := header(file, turns.popleft()):
            images.append(member)
            turns.append(member.next)
        elif waiting:
            turns.append(waiting.pop())
        if under_way > 1 and turns:
            os.posix_fadvise(file, turns[-1], BLOCK, os.POSIX_FADV_WILLNEED)
    return images


def mixed(path: Path, count: int, announced: bool = False) -> list[Place]:
    """Read `count` images, one of each class tar in turn; return where they lie.

    If `announced`, the next piece of each class tar is under way while the others are used.
    """
    file = os.open(path, os.O_RDONLY)
    turns = collections.deque((tar.offset, tar.offset) for tar in members(file))
    if announced:
        turns = collections.deque((offset, announce(file, offset)) for offset, _ in turns)
    images = []
    while len(images) < count:
        offset, ahead = turns.popleft()
        member = header(file, offset)
        if member is None:
            raise ValueError(f"the class tar that ends at {offset} has too few images")
        os.pread(file, member.size, member.offset)
        if announced and member.next + PIECE // 2 > ahead:
            ahead = announce(file, ahead)
        images.append(member)
        turns.append((member.next, ahead))
    return images


def announce(file: int, offset: int) -> int:
    """Tell the kernel that a piece will be read; return its end."""
    for start in range(offset, offset + PIECE, STEP):
        os.posix_fadvise(file, start, STEP, os.POSIX_FADV_WILLNEED)
    return offset + PIECE


def files(file: Any) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the files of a tar, and of the tars in it, from its stream."""
    with tarfile.open(fileobj=file, mode="r|") as outer:
        for member in outer:
            inner: Any = outer.extractfile(member)
            if member.name.endswith(".tar"):
                yield from files(inner)
            else:
                yield member.name, inner.read()


def pillow(data: bytes) -> Any:
    """Decode with Pillow."""
    import PIL.Image

    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


class Transform:
    """The usual transform for training: a random crop to 224, a flip, normalized channels."""

    def __call__(self, image: Any) -> Any:
        import numpy as np
        import torch

        width, height = image.size
        side = min(width, height) * random.uniform(0.4, 1) ** 0.5
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        pixels = np.asarray(image.resize((224, 224), box=(left, top, left + side, top + side)))
        pixels = pixels[:, ::-1] if random.random() < 0.5 else pixels
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()
        mean, spread = torch.tensor([[[123.7]], [[116.3]], [[103.5]]]), 57.7
        return tensor.sub_(mean).div_(spread)


class Bare:
    """A list of places, made beforehand, and one `pread` for each image."""

    transform: Callable[[Any], Any] | None = None

    def __init__(self, path: Path, known: list[Place] | None = None) -> None:
        self.path = path
        self.places = known or headers(path, 32)
        self._files: dict[int, int] = {}  # of each process

    def raw(self, index: int) -> bytes:
        place = self.places[index]
        file = self._files.get(os.getpid())
        if file is None:
            file = self._files[os.getpid()] = os.open(self.path, os.O_RDONLY)
        return os.pread(file, place.size, place.offset)

    def decoded(self, index: int) -> Any:
        return pillow(self.raw(index))

    def size(self) -> int:
        return len(self.places)

    __len__ = size

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.decoded(index)) if self.transform else self.raw(index)

    def iter_raw(self) -> Iterable[bytes]:
        return map(self.raw, range(len(self.places)))

    def iter_decoded(self) -> Iterable[Any]:
        return map(self.decoded, range(len(self.places)))

    def loader(self) -> Any:
        from torch.utils.data import DataLoader

        images: Any = Bare(self.path, self.places)
        images.transform = Transform()
        return DataLoader(images, shuffle=True, **LOADER)
