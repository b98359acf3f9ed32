"""Write rows in place as Parquet shards: with their images, or as an index that points to them.

One process writes, a shard at a time, and others read and resize the images for it. A shard gets
its name when it is whole, so a run that was killed leaves nothing that could be taken for one, and
the next run goes on after the shards that are there. Each shard records the plan that it is of.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from imagenet2012.archives import check_space
from imagenet2012.decoding import decode_image, read_images
from imagenet2012.ilsvrc2012 import SOURCES, without_secrets
from imagenet2012.in_place import PREFIX
from imagenet2012.regions import MEAN_IMAGE_BYTES
from imagenet2012.storage import is_dir, is_url
from imagenet2012.trees import status_of_split

R = TypeVar("R")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
RECORD = b"imagenet2012"  # the key of a shard's record in the metadata of its schema
SEED = 0  # of the shuffle
ROWS_IN_A_GROUP = 100
INDEX_ROW_BYTES = 256  # at most
IMAGES_A_PROCESS = 500  # are read and resized in the time that it takes to start one

# ------------------------------------------------------------------------- plans


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the bytes of the shards of a split; recorded in each of them."""

    split: str
    rows: int
    archive: str  # its name, or that of the folder that was extracted of it
    archive_bytes: int
    archive_version: int | str  # time of its last change in nanoseconds, or what a store tells
    shards: int
    in_place: str | None = None  # of an index: the path or name by which its rows call the archive
    shard_size: int | None = None  # bytes that a shard of images should have
    size: int | None = None  # shortest side that larger images are resized to, in pixels
    quality: int | None = None  # of the JPEGs that are made so

    def names(self) -> list[str]:
        """Return the file names of all shards."""
        of = f"of-{self.shards:05d}.parquet"
        return [f"{self.split}-{shard:05d}-{of}" for shard in range(self.shards)]

    def record(self, shard: int) -> dict[str, Any]:
        """Return what a shard says of where it comes from."""
        return {**dataclasses.asdict(self), "shard": shard}

    def groups(self, shard: int) -> list[np.ndarray]:
        """Return which of the shuffled rows are in each row group of a shard."""
        each, more = divmod(self.rows, self.shards)
        first, count = shard * each + min(shard, more), each + (shard < more)
        groups = 1 if self.in_place else math.ceil(count / ROWS_IN_A_GROUP)
        return np.array_split(np.arange(first, first + count), groups)


class SplitExport(NamedTuple):
    """A split that is to be written: its plan, its shuffled rows in place, and about its bytes.

    The schema of the rows holds the features of what is written.
    """

    plan: Plan
    rows: pa.Table
    num_bytes: int


def plan_index(
    dataset: datasets.Dataset, split: str, path: str, *, shards: int, portable: bool
) -> SplitExport:
    """Plan an index of the archive at `path`, whose rows `dataset` holds in place.

    Raises `ValueError` if its rows would hold paths, but must be `portable`.
    """
    if portable and is_dir(path):
        raise ValueError(
            f"{path} was extracted: an index of it holds paths, which mean nothing on other "
            "machines. --portable is for archives alone."
        )
    rows, archive = _shuffled(dataset), path
    if portable or is_url(path):
        archive = SOURCES[split].file_names[0]
        rows = _renamed(rows, archive)
    plan = _plan(split, path, rows, shards=min(shards, len(rows)), in_place=archive)
    return SplitExport(plan, rows, plan.rows * INDEX_ROW_BYTES)


def plan_export(
    images: datasets.Dataset, split: str, path: str, shard_size: int, size: int | None, quality: int
) -> SplitExport:
    """Plan an export of `images` in place in the archive at `path`.

    Their bytes, and by them the number of shards, are those of the archive, or estimated if images
    are resized to a `size`, as JPEGs of this `quality`.
    """
    rows, options = _shuffled(images), {"size": size, "quality": quality} if size else {}
    plan = _plan(split, path, rows, shards=1, shard_size=shard_size, **options)
    num_bytes = plan.archive_bytes
    if size:  # half a byte for each pixel of a square
        num_bytes = min(num_bytes, plan.rows * size * size // 2)
    shards = max(1, min(plan.rows, round(num_bytes / shard_size)))
    return SplitExport(dataclasses.replace(plan, shards=shards), rows, num_bytes)


def _plan(split: str, path: str, rows: pa.Table, **options: Any) -> Plan:
    status = status_of_split(path)
    assert status, path  # it was just read
    size = status.size or len(rows) * MEAN_IMAGE_BYTES  # of extracted images it is not known
    archive = os.path.basename(without_secrets(path))
    return Plan(split, len(rows), archive, size, status.version, **options)


def _shuffled(dataset: datasets.Dataset) -> pa.Table:
    features = datasets.Features({**dataset.features, "image": datasets.Image(mode="RGB")})
    # Arrow gathers rows of one piece much faster than of many.
    rows = dataset.with_format("arrow")[:].combine_chunks()
    rows = rows.take(np.random.default_rng(SEED).permutation(len(rows)))
    return rows.replace_schema_metadata(features.arrow_schema.metadata)


def _renamed(rows: pa.Table, archive: str) -> pa.Table:
    """Return rows in place whose URLs hold this name of the archive instead of its path."""
    image = rows["image"].combine_chunks()
    named = f"{PREFIX}{quote(archive, safe='')}/"
    places = pc.replace_substring_regex(image.field("path"), f"^{PREFIX}[^/]+/", named)
    return _with_column(rows, image.field("bytes"), places)


def _with_column(rows: pa.Table, data: pa.Array, paths: pa.Array) -> pa.Table:
    image = pa.StructArray.from_arrays([data, paths], ["bytes", "path"])
    return rows.set_column(rows.schema.get_field_index("image"), "image", image)


# ------------------------------------------------------------------------- what is there


def read_record(path: Path) -> dict[str, Any]:
    """Return what a shard says of where it comes from; nothing if it is none of ours, or broken."""
    with contextlib.suppress(pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return dict(json.loads(pq.read_schema(path).metadata[RECORD]))
    return {}


def plans_in(data: Path) -> dict[str, Plan]:
    """Return the plan of each split of which a folder holds shards."""
    plans: dict[str, Plan] = {}
    for split in SOURCES:
        for path in sorted(data.glob(f"{split}-*.parquet")):
            record = read_record(path)
            record.pop("shard", None)
            with contextlib.suppress(TypeError):  # of another version, or no record at all
                plans[split] = Plan(**record)
                break
    return plans


def check_folder(exports: Iterable[SplitExport], data: Path) -> None:
    """Check that a folder holds nothing else of these splits, and that the disk has the room.

    Raises `ValueError` if there are files of a split that are not of its plan, and `OSError` if the
    disk is too small for the shards that are not there yet.
    """
    needed = 0
    for plan, _, num_bytes in exports:
        numbers = {name: shard for shard, name in enumerate(plan.names())}
        there = sorted(data.glob(f"{plan.split}-*.parquet"))
        for path in there:
            if read_record(path) != plan.record(numbers.get(path.name, -1)):
                raise ValueError(
                    f"{path} is there, made with other options, or of an archive that was changed "
                    "since, or by another program. Nothing was changed: pass its options to go on "
                    "with it, or another OUTPUT, or move it away."
                )
        needed += num_bytes * (plan.shards - len(there)) // plan.shards
    check_space(str(data), needed, "Pass an OUTPUT on another disk.")


# ------------------------------------------------------------------------- writing


def write_shards(
    exports: list[SplitExport], data: Path, processes: int, progress: Callable[[int], object]
) -> Iterator[str]:
    """Write the shards that are not there yet, and yield the name of each when it is whole.

    What is there must be theirs, as `check_folder` says. `progress` is told of the images that are
    found or written. At most so many `processes` read and resize images.
    """
    missing = []
    for plan, rows, _ in exports:
        for shard, name in enumerate(plan.names()):
            if (data / name).exists():
                progress(sum(map(len, plan.groups(shard))))
            else:
                missing.append((plan, rows, shard, name))
    tasks = ((rows.take(group), plan) for plan, rows, k, _ in missing for group in plan.groups(k))
    images = sum(plan.rows for plan, *_ in exports if not plan.in_place)
    with contextlib.closing(in_processes(with_images, tasks, processes, images)) as tables:
        for plan, rows, shard, name in missing:
            with (
                _named_when_whole(data / name) as file,
                _writer(file, rows.schema, plan, shard) as writer,
            ):
                for group in plan.groups(shard):
                    writer.write_table(next(tables).cast(writer.schema))
                    progress(len(group))
            yield name


def _writer(file: BinaryIO, schema: pa.Schema, plan: Plan, shard: int) -> pq.ParquetWriter:
    record = json.dumps(plan.record(shard)).encode()
    return pq.ParquetWriter(
        file,
        schema.with_metadata({**schema.metadata, RECORD: record}),
        compression="zstd" if plan.in_place else "none",  # of JPEGs it takes time and saves nothing
        use_dictionary=["label"],
        write_statistics=["label"],  # nobody asks for the smallest image
        write_page_checksum=True,
        write_page_index=True,
    )


@contextlib.contextmanager
def _named_when_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is whole and on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def with_images(rows: pa.Table, plan: Plan) -> pa.Table:
    """Return rows in place with the bytes of their images, resized if the plan says so."""
    if plan.in_place:
        return rows
    names = rows["file_name"].combine_chunks()
    images: Iterable[bytes] = read_images(rows["image"].to_pylist())
    if plan.size:
        named = zip(images, names.to_pylist(), strict=True)
        images = (resized(data, name, plan.size, plan.quality) for data, name in named)
    return _with_column(rows, pa.array(images, pa.binary()), names)


def resized(data: bytes, name: str, size: int, quality: int | None) -> bytes:
    """Return an image whose shortest side is `size` pixels, upright, as an RGB JPEG.

    Images that are as small or smaller keep their bytes. Colour profiles, which `datasets` does not
    apply either, are dropped. Raises what `decode_image` does.
    """
    image = decode_image(data, name)
    if min(image.size) <= size:
        return data
    buffer = io.BytesIO()
    smaller = ImageOps.cover(image, (size, size), Image.Resampling.LANCZOS)
    smaller.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


# ------------------------------------------------------------------------- processes


def in_processes(
    function: Callable[..., R], tasks: Iterable[tuple[Any, ...]], processes: int, images: int
) -> Generator[R, None, None]:
    """Yield what a function returns for each tuple of arguments, in their order.

    Of so few `images` in all that other processes would not pay, this one does it. A few tasks more
    than there are processes are under way; where it is left, they are not waited for.
    """
    processes = min(processes, 1 + images // IMAGES_A_PROCESS, 61)  # Windows can wait for 61
    if processes == 1:
        yield from itertools.starmap(function, tasks)
        return
    waiting: deque[Any] = deque()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin)
    try:
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that started this worker, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
