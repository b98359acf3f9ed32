"""What will be read next is announced to the kernel, and nothing else changes by that."""

import copy
import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from conftest import Archives, patch_os
from imagenet2012.in_place import Imagenet2012FileSystem

import imagenet2012
from rows import contents, undecoded, wanted

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no such call here")
BLOCK = 512
Calls = list[tuple[str, int, int]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Note which bytes are announced and read, in order; both still happen."""
    noted: Calls = []
    advise, read = os.posix_fadvise, os.pread

    def noting_advise(fd: int, offset: int, size: int, advice: int) -> None:
        if advice == os.POSIX_FADV_WILLNEED:
            noted.append(("announce", offset, size))
        advise(fd, offset, size, advice)

    def noting_read(fd: int, size: int, offset: int) -> bytes:
        noted.append(("read", offset, size))
        return read(fd, size, offset)

    patch_os(monkeypatch, "posix_fadvise", noting_advise)
    patch_os(monkeypatch, "pread", noting_read)
    return noted


# ------------------------------------------------------------------------- the archives


def test_headers_of_an_index_are_announced_while_others_are_read(
    archives: Archives, cache: dict[str, Any], calls: Calls
) -> None:
    train = imagenet2012.load(archives.folder, "in_place", split="train", **cache)
    assert list(train["file_name"]) == list(archives.expected["train"])
    for row in undecoded(train):
        _, offset, _, _ = Imagenet2012FileSystem.parse(row["image"]["path"])
        # The last time: some headers are also looked at before the work.
        announced = len(calls) - calls[::-1].index(("announce", offset, BLOCK))
        read = calls.index(("read", offset, BLOCK), announced)
        assert read - announced >= 12 - 1, offset  # a header of each class
    runs = [len(list(run)) for kind, run in itertools.groupby(calls, lambda call: call[0])]
    assert sum(run >= 10 for run in runs) >= 8  # together, so that a disk is woken once for all


def test_a_mixed_stream_announces_before_it_reads(archives: Archives, calls: Calls) -> None:
    train = imagenet2012.load(archives.folder, split="train", streaming=True)
    assert sorted(contents(train)) == wanted(archives.expected["train"])
    announced = [(start, start + size) for kind, start, size in calls if kind == "announce"]
    for kind, offset, size in calls:
        if kind == "read" and size > BLOCK and offset > 0:
            assert any(start <= offset < stop for start, stop in announced), (offset, size)


# ------------------------------------------------------------------------- batches of images

ASKED: dict[str, Callable[[datasets.Dataset], Any]] = {
    "getitems": lambda d: d.__getitems__([4, 2, 9]),
    "slice": lambda d: d[3:6],
    "column": lambda d: d[:3]["image"],
    "iter": lambda d: next(d.iter(batch_size=3)),
    "transform": lambda d: d.with_transform(lambda b: {"size": [i.size for i in b["image"]]})[:3],
    "selected columns": lambda d: d.select_columns("image")[:3],
    "renamed": lambda d: d.rename_column("image", "picture")[:3],
    "shuffled": lambda d: d.shuffle(seed=0)[:3],
    "cast": lambda d: d.cast_column("image", datasets.Image(mode="L"))[:3],
    "copied": lambda d: copy.deepcopy(d)[:3],
    "pickled": lambda d: pickle.loads(pickle.dumps(d))[:3],
    "read": lambda d: list(imagenet2012.read_images(undecoded(d)[:3]["image"])),
    "mapped": lambda d: d.select(range(3)).map(
        lambda batch: {"width": [i.width for i in batch["image"]]}, batched=True
    ),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_batch_is_announced_before_it_is_decoded(
    asked: str, train: datasets.Dataset, calls: Calls
) -> None:
    ASKED[asked](train)
    kinds = [kind for kind, *_ in calls]
    assert kinds == ["announce"] * 3 + ["read"] * 3


def test_what_is_not_decoded_or_single_is_not_announced(
    train: datasets.Dataset, calls: Calls
) -> None:
    assert len(undecoded(train)[:]["image"]) == len(train)
    assert calls == []
    assert train[3]["image"]
    assert {kind for kind, *_ in calls} == {"read"}


def test_a_forged_url_has_little_announced_and_read(tmp_path: Path, calls: Calls) -> None:
    path = tmp_path / "any.tar"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    archive = str(path).replace("/", "%2F")
    for place in (f"0-{1 << 62}", f"{1 << 70}-10", f"512-{100 << 20}", f"512-{1 << 29}"):
        url = f"imagenet2012://{archive}/{place}/n01440764_1.JPEG"
        with pytest.raises(imagenet2012.ArchiveError, match="is not here"):
            list(imagenet2012.read_images([{"path": url, "bytes": None}]))
    assert sum(size for _, _, size in calls) < 2048
