"""Write a dataset as shuffled, evenly sized Parquet shards, from which a killed run goes on."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from imagenet2012 import seal
from imagenet2012.archives import check_space
from imagenet2012.ilsvrc2012 import without_secrets
from imagenet2012.in_place import PREFIX, naming, read_place, upright
from imagenet2012.tree_listing import MEAN_IMAGE_BYTES, status_of_split
from imagenet2012.workers import Progress, advance, results

ROWS_IN_A_GROUP = 100
SAMPLE = 200
INDEX_SHARDS = 128  # their files are small, but streams and workers divide the work by file
ROW_BYTES = 256  # of an index, at most
PLAN = b"imagenet2012"
ENDING = 1 << 20  # bytes at the end of a shard, in which its footer fits


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the bytes of the shards of a split; recorded in each of them.

    Attributes
    ----------
    split : str
    rows : int
    archive : str
        Name of the archive.
    archive_bytes : int
    archive_version : int or str
        Time of its last change in nanoseconds, or what a store tells instead, if it does.
    label_names : str
        As in `imagenet2012.Imagenet2012Config`.
    seed : int
        Of the shuffle.
    size, quality : int or None
        Shortest side that larger images are resized to, in pixels, and the quality of their JPEGs.
    shard_size : int or None
        Bytes that a shard of images should have.
    shards : int
        Their number, which for images follows from an estimate of the bytes of all of them.
    in_place : str or None
        What the URLs of rows in place call the archive: its path, or in an index that may travel
        its name. None where the rows hold the images.
    """

    split: str
    rows: int
    archive: str
    archive_bytes: int
    archive_version: int | str
    label_names: str
    seed: int
    size: int | None
    quality: int | None
    shard_size: int | None
    shards: int
    in_place: str | None = None

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"{self.split}-{shard:05d}-of-{self.shards:05d}.parquet"

    def indices(self, shard: int) -> np.ndarray:
        """Return the rows of a shard, an array of int64 of shape (rows of the shard,)."""
        return np.array_split(_shuffled(self.rows, self.seed), self.shards)[shard]

    def record(self, shard: int) -> bytes:
        """Return what a shard's footer says of where it comes from."""
        return json.dumps({**dataclasses.asdict(self), "shard": shard}).encode()

    def images(self) -> str:
        """Say in a sentence what was done to the images."""
        if self.in_place:
            return f"The images stay in `{self.in_place}` ({self.archive_bytes:,} bytes)."
        if not self.size:
            return "The bytes of the images are those of the original archive."
        return (
            f"Images whose shortest side was over {self.size} pixels are resized to it, turned "
            f"upright, as RGB JPEG of quality {self.quality}; the others keep their original bytes."
        )


# ------------------------------------------------------------------------- the plan


@functools.lru_cache(maxsize=1)  # to shuffle a million rows takes longer than a small shard
def _shuffled(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(rows)


def make_plan(
    dataset: datasets.Dataset,
    split: str,
    path: str,
    folder: Path,
    *,
    label_names: str = "words",
    seed: int = 0,
    size: int | None = None,
    quality: int = 90,
    shard_size: int | None = 500_000_000,
    shards: int | None = None,
    in_place: str | None = None,
    progress: Progress = lambda _: None,
) -> Plan:
    """Plan the shards of a split from the archive at `path`, or go on with those in `folder`.

    Without `shards` their number is that in the folder, else it is estimated, or for an index
    `INDEX_SHARDS`. `progress` is told of the images that are looked at for an estimate, up to
    `SAMPLE`. For the rest see `Plan`.

    Raises
    ------
    ValueError
        If the folder holds shards of the split that were made in another way.
    """
    status = status_of_split(path)
    assert status, path  # it was just read
    plan = Plan(
        split=split,
        rows=len(dataset),
        archive=os.path.basename(without_secrets(path)),
        archive_bytes=status.size or len(dataset) * MEAN_IMAGE_BYTES,  # a tree's is not known
        archive_version=status.version,
        label_names=label_names,
        seed=seed,
        size=size,
        quality=quality if size else None,
        shard_size=None if in_place else shard_size,
        shards=0,
        in_place=in_place,
    )
    found = {file: read_record(file) for file in sorted(folder.glob(f"{split}-*.parquet"))}
    # Their number is an estimate, which another version of Pillow may make otherwise.
    shards = shards or next((record.get("shards") for record in found.values() if record), None)
    if not shards:
        shards = INDEX_SHARDS if in_place else _estimated_shards(dataset, plan, progress)
    plan = dataclasses.replace(plan, shards=max(1, min(plan.rows, shards)))
    for file, record in found.items():
        _check_same(file, record, plan)
    return plan


def _estimated_shards(dataset: datasets.Dataset, plan: Plan, progress: Progress) -> int:
    """Return how many shards of the wanted size the images fill: of resized ones, by a sample."""
    assert plan.shard_size
    total = plan.archive_bytes
    if plan.size:
        picked = np.random.default_rng(plan.seed).permutation(plan.rows)[:SAMPLE]
        sampled = 0
        for row in dataset.select(picked).cast_column("image", datasets.Image(decode=False)):
            data = read_place(row["image"]["path"])
            sampled += len(resized(data, row["file_name"], plan.size, plan.quality))
            progress(1)
        total = sampled * plan.rows // len(picked)
    return round(total / plan.shard_size)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what a shard says of where it comes from.

    Returns
    -------
    dict or None
        Empty if the file is no shard of this command, None if it is broken.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    # What is broken makes pyarrow raise all kinds of exceptions.
    with path.open("rb") as file, contextlib.suppress(Exception):
        metadata = pq.read_schema(path).metadata or {}
        if seal.has_whole_footer(file):
            return json.loads(metadata[PLAN])
        if PLAN not in metadata and not _was_sealed(file):
            return {}
    return None


def read_plan(path: Path) -> Plan | None:
    """Return the plan that a shard of this command records, None of any other file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    fields = {field.name for field in dataclasses.fields(Plan)}
    if not (record := read_record(path)):
        return None
    return Plan(**{key: value for key, value in record.items() if key in fields})


def shard_number(path: Path) -> int | None:
    """Return which shard a shard of this command says it is."""
    return (read_record(path) or {}).get("shard")


def _was_sealed(file: BinaryIO) -> bool:
    """Tell whether there is a seal anywhere in the end of a file."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - ENDING))
    return seal.MARK in file.read()


def _check_same(file: Path, record: dict[str, Any] | None, plan: Plan) -> None:
    wanted = dataclasses.asdict(plan)
    others = [
        f"{key} {record.get(key) or 'unset'}, not {value or 'unset'}"
        for key, value in wanted.items()
        if record and record.get(key) != value
    ]
    named = file.name in [plan.name(shard) for shard in range(plan.shards)]
    if others or not named or record == {}:
        how = f"made with {'; '.join(others)}" if others else "of another export"
        advice = "pass the options of that export to go on with it, or another --output."
        if any(one.startswith("archive_version") for one in others):
            advice = "the archive was changed or touched since, so pass another --output."
        raise ValueError(f"{file} is there, {how}. Nothing was changed: {advice}")


# ------------------------------------------------------------------------- a shard


def is_finished(
    path: Path,
    schema: pa.Schema,
    names: list[str],
    progress: Callable[[float], object] = lambda _: None,
) -> bool:
    """Tell whether a shard is there, of this schema and plan, and holds these images undamaged.

    `progress` is told of the part that has been read, from 0 to 1.
    """
    if not (path.exists() and seal.is_whole(path, progress)):
        return False
    try:
        with pq.ParquetFile(path) as shard:
            if not shard.schema_arrow.equals(schema, check_metadata=True):
                return False
            return shard.read(["file_name"])["file_name"].to_pylist() == names
    except Exception:  # pyarrow raises all kinds; what cannot be read is not finished
        return False


def _check_finished(path: Path, schema: pa.Schema, names: list[str]) -> bool:
    """Do as `is_finished`, telling of the progress in images."""
    told = 0

    def progress(part: float) -> None:
        nonlocal told
        now = int(part * len(names))
        advance(now - told)
        told = now

    finished = is_finished(path, schema, names, progress)
    advance(len(names) * finished - told)
    return finished


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


def write_shard(dataset: datasets.Dataset, plan: Plan, shard: int, folder: str) -> bool:
    """Write a shard of a split, if it is not finished; return False if it was."""
    rows = dataset.select(plan.indices(shard))
    schema = _schema(dataset.features, plan, shard)
    return _write(
        Path(folder) / plan.name(shard), schema, rows["file_name"][:], _tables(rows, plan, schema)
    )


def _schema(features: datasets.Features, plan: Plan, shard: int) -> pa.Schema:
    features = datasets.Features({**features, "image": datasets.Image(mode="RGB")})
    schema = features.arrow_schema
    return schema.with_metadata({**schema.metadata, PLAN: plan.record(shard)})


def _write(
    path: Path,
    schema: pa.Schema,
    names: list[str],
    tables: Iterator[pa.Table],
    compression: str = "none",  # of JPEGs it takes time and saves nothing
) -> bool:
    """Write a shard of these images, under another name until it is whole; see `write_shard`."""
    if _check_finished(path, schema, names):
        return False
    # Not named by host and process, which containers may have in common.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with seal.SealedFile(unfinished) as file:
            with pq.ParquetWriter(
                file,
                schema,
                compression=compression,
                use_dictionary=["label"],
                write_statistics=["label"],  # nobody asks for the smallest image
                write_page_checksum=True,
                write_page_index=True,
            ) as writer:
                for table in tables:
                    writer.write_table(table)
            file.seal()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _tables(rows: datasets.Dataset, plan: Plan, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read the images of a shard, a row group at a time."""
    stored = rows.cast_column("image", datasets.Image(decode=False))
    for batch in stored.iter(ROWS_IN_A_GROUP):
        images = []
        for name, image in zip(batch["file_name"], batch["image"], strict=True):
            data = read_place(image["path"])
            if plan.size:
                data = resized(data, name, plan.size, plan.quality)
            images.append({"bytes": data, "path": name})
            advance(1)
        yield pa.Table.from_pydict({**batch, "image": images}, schema=schema)


# ------------------------------------------------------------------------- all shards


def write_index(
    planned: list[tuple[datasets.Dataset, Plan]], folder: Path, progress: Progress
) -> int:
    """Write all shards of rows in place, as `export` does with images.

    It takes less time than to start other processes.
    """
    prepare_folder(planned, folder)
    written = 0
    for dataset, plan in planned:
        # A table of Arrow in one piece, as `datasets` gathers rows of a shard in a second, and
        # copies the names of all classes whenever it selects.
        table = dataset.with_format("arrow")[:].combine_chunks()
        for shard in range(plan.shards):
            rows = _renamed(table.take(plan.indices(shard)), plan)
            path, schema = folder / plan.name(shard), _schema(dataset.features, plan, shard)
            names, tables = rows["file_name"].to_pylist(), iter([rows.cast(schema)])
            written += _write(path, schema, names, tables, compression="zstd")
            progress(len(rows))
    return written


def _renamed(rows: pa.Table, plan: Plan) -> pa.Table:
    """Return rows in place whose URLs call the archive as the plan does, if by no path."""
    if "/" in (plan.in_place or ""):
        return rows  # they have the path, and those of class tars each its own
    image = rows["image"].combine_chunks()
    archive = f"{PREFIX}{quote(plan.in_place or '', safe='')}/"
    places = pc.replace_substring_regex(image.field("path"), f"^{PREFIX}[^/]+/", archive)
    image = pa.StructArray.from_arrays([image.field("bytes"), places], ["bytes", "path"])
    return rows.set_column(rows.schema.get_field_index("image"), "image", image)


def prepare_folder(planned: list[tuple[datasets.Dataset, Plan]], folder: Path) -> None:
    """Make the folder of the shards ready, or raise `OSError` if its disk is too small."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(planned, folder)
    _check_space([plan for _, plan in planned], folder)


def remove_leftovers(planned: list[tuple[datasets.Dataset, Plan]], folder: Path) -> None:
    """Remove what a run of these plans that was killed had not finished; nothing else."""
    names = {plan.name(shard) for _, plan in planned for shard in range(plan.shards)}
    for path in folder.glob(".*.parquet.*"):
        parts = re.fullmatch(r"\.(.*\.parquet)\.[0-9a-f]{32}", path.name)
        if parts and parts[1] in names:
            with contextlib.suppress(OSError):  # of a read-only disk
                path.unlink()


def export(
    planned: list[tuple[datasets.Dataset, Plan]], folder: Path, num_proc: int, progress: Progress
) -> int:
    """Write all shards of all splits to `folder`; those which are finished are kept.

    Parameters
    ----------
    planned : list of (datasets.Dataset, Plan)
        Splits in place, and their plans.
    folder : Path
    num_proc : int
        Processes that write, a shard at a time each.
    progress : callable
        Told of the images written or found.

    Returns
    -------
    int
        How many shards were written.
    """
    prepare_folder(planned, folder)
    tasks = [
        (dataset, plan, shard, folder) for dataset, plan in planned for shard in range(plan.shards)
    ]
    return sum(results(write_shard, tasks, min(num_proc, len(tasks)), progress))


def _check_space(plans: list[Plan], folder: Path) -> None:
    """Raise `OSError` if the disk is too small for the shards that do not exist yet."""
    needed = 0
    for plan in plans:
        missing = sum(not (folder / plan.name(shard)).exists() for shard in range(plan.shards))
        most = min(plan.archive_bytes, plan.shards * plan.shard_size) if plan.shard_size else 0
        needed += (most or plan.rows * ROW_BYTES) * missing // plan.shards
    check_space(str(folder), needed, "Pass another --output.")
