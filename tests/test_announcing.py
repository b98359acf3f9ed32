"""What will be read next is announced to the kernel, and nothing else changes by that."""

import copy
import itertools
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from conftest import Archives, patch_os
from imagenet2012.in_place import Imagenet2012FileSystem
from imagenet2012.regions import BLOCK, Region
from imagenet2012.rows import in_turns
from imagenet2012.storage import ANNOUNCED_BYTES, PIECE_BYTES_IN_TURNS, UNDER_WAY, open_file
from layouts import TRAIN

import imagenet2012
from rows import contents, undecoded, wanted

pytestmark = [
    pytest.mark.loading,
    pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no such call"),
]
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


# ------------------------------------------------------------------------- many in turn


def test_streams_are_advanced_in_turn_and_an_error_is_raised_where_its_stream_is() -> None:
    steps: list[int] = []

    def stream(number: int) -> Iterator[int]:
        for item in range(number):
            steps.append(number)
            yield 10 * number + item
        if number == 2:
            raise ValueError("broken")

    followed = in_turns(map(stream, (3, 2, 0, 4)), [], 2)
    assert list(next(followed)) == [30, 31, 32]
    assert steps == [3, 2, 3, 2, 3]  # and none of the next two
    second = next(followed)
    assert [next(second), next(second)] == [20, 21]
    with pytest.raises(ValueError, match="broken"):
        next(second)
    assert [list(items) for items in followed] == [[], [40, 41, 42, 43]]  # `check` goes on


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
        assert read - announced >= min(UNDER_WAY, 12) - 1, offset
    runs = [len(list(run)) for kind, run in itertools.groupby(calls, lambda call: call[0])]
    assert sum(run >= 10 for run in runs) >= 8  # together, so that a disk is woken once for all


def test_a_region_is_announced_in_pieces(tmp_path: Path, calls: Calls) -> None:
    """The whole of it, at most a piece and a half ahead, in steps that the kernel does not cut."""
    path = tmp_path / "any"
    path.write_bytes(bytes(3 << 20))
    region = Region(BLOCK, 2 << 20)
    file = open_file(str(path)).in_order(region, alone=False)
    for offset in range(region.start, region.stop, 100 << 10):
        file.announce(offset, BLOCK)
        announced = [call for call in calls if call[0] == "announce"]
        ahead = max(start + size for _, start, size in announced)
        assert offset + PIECE_BYTES_IN_TURNS // 2 <= ahead or ahead >= region.stop
        assert ahead <= offset + PIECE_BYTES_IN_TURNS * 3 // 2
    assert all(size <= ANNOUNCED_BYTES for _, _, size in announced)
    assert all(a[1] + a[2] == b[1] for a, b in itertools.pairwise(announced))
    assert (announced[0][1], ahead) == (region.start, region.stop + ANNOUNCED_BYTES)


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
    assert kinds == ["announce"] * 3 + ["read"] * 6  # of each the image, and its header


def test_what_is_not_decoded_or_single_is_not_announced(
    train: datasets.Dataset, calls: Calls
) -> None:
    assert len(undecoded(train)[:]["image"]) == len(train)
    assert calls == []
    assert train[3]["image"]
    assert {kind for kind, *_ in calls} == {"read"}


@pytest.mark.parametrize("place", [f"0-{1 << 62}", f"{1 << 70}-10", "0-999999"])
def test_a_forged_url_announces_nothing(place: str, archives: Archives, calls: Calls) -> None:
    """Its size could have the disk read for hours."""
    archive = str(archives.folder / TRAIN).replace("/", "%2F")
    url = f"imagenet2012://{archive}/{place}/n01440764_1.JPEG"
    with pytest.raises(imagenet2012.ArchiveError, match="is not here"):
        list(imagenet2012.read_images([{"path": url, "bytes": None}]))
    assert calls == []
