"""Write rows in place as Parquet shards: with their images, or as an index that points to them.

One process writes, a shard at a time, and others read and resize the images for it. A shard gets
its name when it is whole, so a run that was killed leaves nothing that could be taken for one, and
the next run goes on after the shards that are there. Each shard records the plan that it is of.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import uuid
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
from PIL import Image

from imagenet2012.archives import check_space
from imagenet2012.decoding import naming, read_images, upright
from imagenet2012.ilsvrc2012 import SOURCES, without_secrets
from imagenet2012.in_place import PREFIX
from imagenet2012.parts import MEAN_IMAGE_BYTES
from imagenet2012.storage import is_dir, is_url
from imagenet2012.trees import status_of_split

R = TypeVar("R")
RECORD = b"imagenet2012"  # the key of a shard's record in the metadata of its schema
SEED = 0  # of the shuffle
ROWS_IN_A_GROUP = 100
INDEX_ROW_BYTES = 256  # at most
SAMPLE = 200  # images whose resized bytes tell those of all
IMAGES_A_PROCESS = 500  # are read and resized in the time that it takes to start one

# ------------------------------------------------------------------------- plans


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the bytes of the shards of a split; recorded in each of them.

    Attributes
    ----------
    split : str
    rows : int
    archive : str
        Name of the archive, or of the folder that was extracted of it.
    archive_bytes : int
    archive_version : int or str
        Time of its last change in nanoseconds, or what a store tells instead.
    shards : int
    in_place : str or None
        Of an index: what its rows call the archive, its path or, if they may travel, its name.
    shard_size : int or None
        Bytes that a shard of images should have.
    size, quality : int or None
        Shortest side that larger images are resized to, in pixels, and the quality of their JPEGs.
    """

    split: str
    rows: int
    archive: str
    archive_bytes: int
    archive_version: int | str
    shards: int
    in_place: str | None = None
    shard_size: int | None = None
    size: int | None = None
    quality: int | None = None

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"{self.split}-{shard:05d}-of-{self.shards:05d}.parquet"

    def names(self) -> list[str]:
        """Return the file names of all shards."""
        return [self.name(shard) for shard in range(self.shards)]

    def record(self, shard: int) -> dict[str, Any]:
        """Return what a shard says of where it comes from."""
        return {**dataclasses.asdict(self), "shard": shard}


@dataclasses.dataclass
class SplitExport:
    """A split that is to be written: its plan, its rows in place in their order, and the schema.

    Attributes
    ----------
    plan : Plan
    rows : pyarrow.Table
        With the places of the images.
    features : datasets.Features
        Of what is written.
    num_bytes : int
        Estimate of all that is written.
    """

    plan: Plan
    rows: pa.Table
    features: datasets.Features
    num_bytes: int

    def schema(self, shard: int) -> pa.Schema:
        """Return the schema of a shard, with its record."""
        schema = self.features.arrow_schema
        record = json.dumps(self.plan.record(shard)).encode()
        return schema.with_metadata({**schema.metadata, RECORD: record})

    @functools.cached_property
    def _shuffled(self) -> list[np.ndarray]:
        shuffled = np.random.default_rng(SEED).permutation(self.plan.rows)
        return np.array_split(shuffled, self.plan.shards)

    def groups(self, shard: int) -> list[np.ndarray]:
        """Return the numbers of the rows of each row group of a shard."""
        rows = self._shuffled[shard]
        length = len(rows) if self.plan.in_place else ROWS_IN_A_GROUP
        return np.array_split(rows, math.ceil(len(rows) / length))


def plan_index(
    dataset: datasets.Dataset, split: str, path: str, *, shards: int, portable: bool
) -> SplitExport:
    """Plan an index of the archive at `path`, whose rows `dataset` holds in place.

    Raises
    ------
    ValueError
        If its rows hold paths, but must be `portable`.
    """
    if portable and is_dir(path):
        raise ValueError(
            f"{path} was extracted: an index of it holds paths, which mean nothing on other "
            "machines. --portable is for archives alone."
        )
    by_name = portable or is_url(path)
    archive = SOURCES[split].file_names[0] if by_name else path
    plan = dataclasses.replace(_plan(dataset, split, path, shards), in_place=archive)
    rows = _renamed(_rows_of(dataset), archive) if by_name else _rows_of(dataset)
    return SplitExport(plan, rows, _features(dataset), plan.rows * INDEX_ROW_BYTES)


def plan_export(
    dataset: datasets.Dataset,
    split: str,
    path: str,
    *,
    shard_size: int,
    size: int | None = None,
    quality: int | None = None,
) -> SplitExport:
    """Plan an export of the images of the archive at `path`, whose rows `dataset` holds in place.

    Their bytes, and by them the number of shards, are those of the archive; of resized images they
    follow from a sample. For the options see `Plan`.
    """
    plan = dataclasses.replace(
        _plan(dataset, split, path), shard_size=shard_size, size=size, quality=quality
    )
    rows, num_bytes = _rows_of(dataset), plan.archive_bytes
    if plan.size:
        sample = np.random.default_rng(SEED).permutation(plan.rows)[:SAMPLE]
        images = with_images(rows.take(sample), plan)["image"].combine_chunks().field("bytes")
        num_bytes = pc.sum(pc.binary_length(images)).as_py() * plan.rows // len(sample)
    shards = max(1, min(plan.rows, round(num_bytes / shard_size)))
    return SplitExport(
        dataclasses.replace(plan, shards=shards), rows, _features(dataset), num_bytes
    )


def _plan(dataset: datasets.Dataset, split: str, path: str, shards: int = 1) -> Plan:
    status = status_of_split(path)
    assert status, path  # it was just read
    size = status.size or len(dataset) * MEAN_IMAGE_BYTES  # of extracted images it is not known
    archive = os.path.basename(without_secrets(path))
    return Plan(split, len(dataset), archive, size, status.version, min(shards, len(dataset)))


def _rows_of(dataset: datasets.Dataset) -> pa.Table:
    """Return the rows in one piece, as Arrow gathers rows of one much faster than of many."""
    return dataset.with_format("arrow")[:].combine_chunks().replace_schema_metadata(None)


def _features(dataset: datasets.Dataset) -> datasets.Features:
    return datasets.Features({**dataset.features, "image": datasets.Image(mode="RGB")})


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
        return json.loads(pq.read_schema(path).metadata[RECORD])
    return {}


def plans_in(data: Path) -> dict[str, Plan]:
    """Return the plan of each split of which a folder holds shards."""
    fields = {field.name for field in dataclasses.fields(Plan)}
    plans: dict[str, Plan] = {}
    for split in SOURCES:
        for path in sorted(data.glob(f"{split}-*.parquet")):
            record = read_record(path)
            if split not in plans and record.keys() == fields | {"shard"}:
                del record["shard"]
                plans[split] = Plan(**record)
    return plans


def check_folder(plan: Plan, data: Path) -> None:
    """Raise `ValueError` if a folder holds files of the split that are not of this plan."""
    numbers = {plan.name(shard): shard for shard in range(plan.shards)}
    for path in sorted(data.glob(f"{plan.split}-*.parquet")):
        record, wanted = read_record(path), plan.record(numbers.get(path.name, -1))
        if record == wanted:
            continue
        others = [
            f"{key} {record[key]}, not {value}"
            for key, value in wanted.items()
            if key in record and record[key] != value
        ]
        how = f"made with {'; '.join(others)}" if others else "of another program, or damaged"
        raise ValueError(
            f"{path} is there, {how}. Nothing was changed: pass the options with which it was "
            "made to go on with it, or another OUTPUT, or move it away."
        )


def check_room(exports: Iterable[SplitExport], data: Path) -> None:
    """Raise `OSError` if the disk is too small for the shards that are not there yet."""
    needed = 0
    for export in exports:
        missing = [name for name in export.plan.names() if not (data / name).exists()]
        needed += export.num_bytes * len(missing) // export.plan.shards
    check_space(str(data), needed, "Pass an OUTPUT on another disk.")


# ------------------------------------------------------------------------- writing


class Step(NamedTuple):
    """What was done: so many images of a shard were written or found, or it became whole."""

    name: str
    images: int
    is_whole: bool


def write_shards(exports: list[SplitExport], data: Path, processes: int) -> Iterator[Step]:
    """Write the shards that are not there yet.

    Parameters
    ----------
    exports : list of SplitExport
        Of which `check_folder` has said that what is there is theirs.
    data : Path
        An existing folder.
    processes : int
        That read and resize images, at most.

    Yields
    ------
    Step
    """
    missing = []
    for export in exports:
        for shard, name in enumerate(export.plan.names()):
            if (data / name).exists():
                yield Step(name, sum(map(len, export.groups(shard))), False)
            else:
                missing.append((export, shard))
    tasks = (
        (export.rows.take(group), export.plan)
        for export, shard in missing
        for group in export.groups(shard)
    )
    images = sum(export.plan.rows for export in exports if not export.plan.in_place)
    with contextlib.closing(in_processes(with_images, tasks, processes, images)) as tables:
        for export, shard in missing:
            yield from _write_shard(export, shard, data, tables)


def _write_shard(
    export: SplitExport, shard: int, data: Path, tables: Iterator[pa.Table]
) -> Iterator[Step]:
    name, schema = export.plan.name(shard), export.schema(shard)
    with _named_when_whole(data / name) as file, _writer(file, schema, export.plan) as writer:
        for group in export.groups(shard):
            writer.write_table(next(tables).cast(schema))
            yield Step(name, len(group), False)
    yield Step(name, 0, True)


def _writer(file: BinaryIO, schema: pa.Schema, plan: Plan) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd" if plan.in_place else "none",  # of JPEGs it takes time and saves nothing
        use_dictionary=["label"],
        write_statistics=["label"],  # nobody asks for the smallest image
        write_page_checksum=True,
        write_page_index=True,
    )


@contextlib.contextmanager
def _named_when_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is whole and on the disk."""
    for leftover in path.parent.glob(f".{path.name}.*.unfinished"):
        leftover.unlink()
    # A name of its own: where a file system has no locks, another run may be writing the same.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


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

    Images that are as small or smaller keep their bytes. EXIF orientation is applied, as the new
    file has no EXIF; CMYK, grayscale and PNG become RGB. Colour profiles, which `datasets` does not
    apply either, are dropped.

    Raises
    ------
    OSError
        If the image cannot be decoded, and whatever else Pillow raises; the message names it.
    """
    try:
        opened = Image.open(io.BytesIO(data))
        if min(opened.size) <= size:
            return data
        image = upright(opened).convert("RGB")
    except Exception as error:
        raise naming(error, name) from error
    scale = size / min(image.size)
    shape = round(image.width * scale), round(image.height * scale)
    buffer = io.BytesIO()
    image.resize(shape, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality or 90)
    return buffer.getvalue()


# ------------------------------------------------------------------------- processes


def in_processes(
    function: Callable[..., R], tasks: Iterable[tuple[Any, ...]], processes: int, images: int
) -> Generator[R, None, None]:
    """Yield what a function returns for each tuple of arguments, in their order.

    Of some `images` in all, so few may be read that it does not pay to start so many `processes`. A
    single one is this one. A few tasks more than there are processes are under way.
    """
    processes = min(processes, 1 + images // IMAGES_A_PROCESS, 61)  # Windows can wait for 61
    if processes == 1:
        yield from itertools.starmap(function, tasks)
        return
    waiting: deque[Any] = deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(function, *task))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that started this worker, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
