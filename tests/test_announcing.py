"""What will be read next is announced to the kernel, and nothing else changes by that."""

import copy
import itertools
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import fakes
import pytest
from conftest import Archives, patch_os
from imagenet2012.in_place import Imagenet2012FileSystem
from imagenet2012.in_turns import UNDER_WAY, begun_ahead, in_turns
from imagenet2012.storage import ANNOUNCED_BYTES, BLOCK, PIECE_BYTES_IN_TURNS, Region, open_archive

import imagenet2012
from rows import contents, undecoded, wanted

pytestmark = [
    pytest.mark.loading,
    pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no such call"),
]

TRAIN = "ILSVRC2012_img_train.tar"
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


# ------------------------------------------------------------------------- many regions in turn


def test_streams_in_turn_keep_their_order() -> None:
    streams = [iter(range(k, k + length)) for k, length in ((0, 5), (10, 0), (20, 7), (30, 1))]
    assert [list(items) for items in in_turns(streams, 2)] == [
        list(range(5)),
        [],
        list(range(20, 27)),
        [30],
    ]


def test_streams_are_advanced_in_turn_and_no_more_than_asked_for() -> None:
    steps: list[int] = []

    def stream(number: int) -> Iterator[int]:
        for item in range(3):
            steps.append(number)
            yield item

    followed = in_turns(map(stream, range(5)), 2)
    assert next(next(followed)) == 0
    assert steps == [0, 1]


def test_an_error_is_raised_where_its_stream_is() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    followed = in_turns(iter([iter([1, 2, 3, 4]), broken(), iter([5])]), 3)
    assert list(next(followed)) == [1, 2, 3, 4]
    second = next(followed)
    assert next(second) == 1
    with pytest.raises(ValueError, match="broken"):
        next(second)
    assert list(next(followed)) == [5]  # `imagenet2012 check` goes on


def test_begun_ahead() -> None:
    made: list[int] = []
    items = begun_ahead((made.append(number) or number for number in range(9)), 3)
    assert next(items) == 0
    assert made == [0, 1, 2, 3]
    assert list(items) == list(range(1, 9))


# ------------------------------------------------------------------------- the archives


def test_headers_of_an_index_are_announced_while_others_are_read(
    archives: Archives, cache: dict[str, Any], calls: Calls
) -> None:
    train = imagenet2012.load(archives.folder, "in_place", split="train", **cache)
    names = list(train["file_name"])
    assert names == list(archives.expected["train"])  # in archive order
    places = [url["image"]["path"].split("/")[3].split("-") for url in undecoded(train)]
    for offset in [int(place[0]) for place in places]:
        # The last time: some headers are also looked at before the work.
        announced = len(calls) - calls[::-1].index(("announce", offset, BLOCK))
        read = calls.index(("read", offset, BLOCK), announced)
        assert read - announced >= min(UNDER_WAY, 12) - 1, offset
    runs = [len(list(run)) for kind, run in itertools.groupby(calls, lambda call: call[0])]
    assert sum(run >= 10 for run in runs) >= 8  # together, so that a disk is woken once for all


def test_mixed_order_announces_pieces_in_steps(tmp_path: Path, calls: Calls) -> None:
    """The whole region, at most a piece and a half ahead, in steps that the kernel does not cut."""
    path = tmp_path / "any"
    path.write_bytes(bytes(3 << 20))
    calls.clear()
    region = Region(BLOCK, 2 << 20)
    archive = open_archive(str(path)).in_order(None, region, alone=False)
    for offset in range(region.start, region.stop, 100 << 10):
        archive.announce(offset, BLOCK)
        announced = [call for call in calls if call[0] == "announce"]
        ahead = max(start + size for _, start, size in announced)
        assert offset + PIECE_BYTES_IN_TURNS // 2 <= ahead or ahead >= region.stop
        assert ahead <= offset + PIECE_BYTES_IN_TURNS * 3 // 2
    assert all(size <= ANNOUNCED_BYTES for _, _, size in announced)
    for (_, start, size), (_, following, _) in itertools.pairwise(announced):
        assert start + size == following
    assert announced[0][1] == region.start
    assert ahead == region.stop + ANNOUNCED_BYTES


def test_streaming_in_mixed_order_announces_before_it_reads(
    archives: Archives, calls: Calls
) -> None:
    train = imagenet2012.load(
        archives.folder, split="train", streaming=True, verification_mode="no_checks"
    )
    expected = wanted(archives.expected["train"])
    calls.clear()
    assert sorted(contents(train)) == sorted(expected)
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
    "removed": lambda d: d.remove_columns("label")[:3],
    "shuffled": lambda d: d.shuffle(seed=0)[:3],
    "cast": lambda d: d.cast_column("image", datasets.Image(mode="L"))[:3],
    "copied": lambda d: copy.deepcopy(d)[:3],
    "pickled": lambda d: pickle.loads(pickle.dumps(d))[:3],
    "read": lambda d: list(imagenet2012.read_images(undecoded(d)[:3]["image"])),
    "mapped": lambda d: d.select(range(3)).map(
        lambda batch: {"width": [i.width for i in batch["image"]]}, batched=True
    ),
}


@pytest.fixture
def train(archives: Archives, cache: dict[str, Any]) -> datasets.Dataset:
    return imagenet2012.load(archives.folder, "in_place", split="train", **cache)


@pytest.mark.parametrize("asked", ASKED)
def test_a_batch_is_announced_before_it_is_decoded(
    asked: str, train: datasets.Dataset, calls: Calls
) -> None:
    ASKED[asked](train)
    kinds = [kind for kind, *_ in calls]
    assert kinds[:3] == ["announce"] * 3
    assert kinds[3:] == ["read"] * 6  # of each the image, and its header


def test_images_are_read_as_they_are_stored(
    archives: Archives, train: datasets.Dataset, cache: dict[str, Any]
) -> None:
    copied = imagenet2012.load(archives.folder, split="train", **cache)
    for dataset in (train, copied):
        rows = undecoded(dataset)[:]
        read = zip(rows["file_name"], imagenet2012.read_images(rows["image"]), strict=True)
        expected = archives.expected["train"]
        assert dict(read) == {name: image.data for name, image in expected.items()}


def test_what_is_not_decoded_is_not_announced(train: datasets.Dataset, calls: Calls) -> None:
    assert len(undecoded(train)[:]["image"]) == len(train)
    assert calls == []


def test_a_single_image_is_not_announced(train: datasets.Dataset, calls: Calls) -> None:
    assert train[3]["image"]
    assert {kind for kind, *_ in calls} == {"read"}


def test_features_are_those_of_a_copy_and_are_stored_as_such(
    train: datasets.Dataset, tmp_path: Path, archives: Archives, cache: dict[str, Any]
) -> None:
    stored = imagenet2012.load(archives.folder, split="train", **cache).features
    assert train.features == stored
    train.save_to_disk(tmp_path / "saved")
    train.to_parquet(tmp_path / "saved.parquet")
    assert datasets.load_from_disk(str(tmp_path / "saved")).features == stored
    assert "InPlace" not in (tmp_path / "saved" / "dataset_info.json").read_text()
    assert train.features.to_dict() == stored.to_dict()


@pytest.mark.parametrize(
    "place", [f"0-{1 << 62}", f"{1 << 70}-10", f"{1 << 62}-10", "0-999999"], ids=str
)
def test_a_forged_url_announces_nothing(place: str, archives: Archives, calls: Calls) -> None:
    """Its size could have the disk read for hours."""
    member = imagenet2012.tar_reader.Member("n01440764_1.JPEG", b"0", 1, 0, 0)
    url = Imagenet2012FileSystem.url(str(archives.folder / TRAIN), member).replace("0-1", place)
    Imagenet2012FileSystem.announce(url)
    assert calls == []
    with pytest.raises(imagenet2012.ArchiveError, match="is not here"):
        Imagenet2012FileSystem.read_image(url)


def test_an_image_that_is_gone_is_told_by_its_reading(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    fakes.make_archives(tmp_path, 2, 3, 0, 0)
    train = imagenet2012.load(tmp_path, "in_place", split="train", **cache)
    (tmp_path / TRAIN).unlink()
    with pytest.raises(imagenet2012.ArchiveError, match="cannot be opened"):
        train[:3]
