"""Write a dataset as a repository for the Hub: shuffled, evenly sized Parquet shards and a card."""

import dataclasses
import io
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image
from PIL import ImageOps

import imagenet2012

ROWS_IN_A_GROUP = 100
PLAN = b"imagenet2012"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the bytes of the shards of a split; recorded in each of them.

    Attributes
    ----------
    split : str
    rows : int
    shards : int
    seed : int
        Of the shuffle.
    size : int or None
        Shortest side that larger images are resized to, in pixels.
    quality : int
        Of the JPEGs that are resized.
    archive : str
        Name, bytes and time of change of the archive.
    """

    split: str
    rows: int
    shards: int
    seed: int
    size: int | None
    quality: int
    archive: str

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"{self.split}-{shard:05d}-of-{self.shards:05d}.parquet"

    def indices(self, shard: int) -> np.ndarray:
        """Return the rows of a shard, an array of int64 of shape (rows of the shard,)."""
        order = np.random.default_rng(self.seed).permutation(self.rows)
        return np.array_split(order, self.shards)[shard]

    def record(self, shard: int) -> bytes:
        """Return what a shard's footer says of where it comes from."""
        return json.dumps({**dataclasses.asdict(self), "shard": shard}).encode()


def make_plan(
    dataset: datasets.Dataset, split: str, path: str, shard_size: int, **options: Any
) -> Plan:
    """Return the plan for a split from the archive at `path`, in shards of about so many bytes."""
    status = os.stat(path)
    archive = f"{os.path.basename(path)} {status.st_size} {status.st_mtime_ns}"
    shards = max(1, min(len(dataset), round(status.st_size / shard_size)))
    return Plan(split, len(dataset), shards, archive=archive, **options)


def is_finished(path: Path, plan: Plan, shard: int, names: list[str]) -> bool:
    """Tell whether a shard is there, whole, of this plan, and holds these images."""
    try:
        with pq.ParquetFile(path) as file:
            planned = (file.schema_arrow.metadata or {}).get(PLAN) == plan.record(shard)
            return planned and file.read(["file_name"])["file_name"].to_pylist() == names
    except (OSError, pa.ArrowInvalid):
        return False


def resized(data: bytes, name: str, size: int, quality: int) -> bytes:
    """Return an image whose shortest side is `size` pixels, upright, as an RGB JPEG.

    Images that are as small or smaller keep their bytes. EXIF orientation is applied, as the new
    file has no EXIF; CMYK, grayscale and PNG become RGB.

    Raises
    ------
    OSError
        If the image cannot be decoded; the message names it.
    """
    try:
        opened = Image.open(io.BytesIO(data))
        if min(opened.size) <= size:
            return data
        image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as error:
        raise OSError(f"{name}: {error}") from error
    scale = size / min(image.size)
    shape = round(image.width * scale), round(image.height * scale)
    buffer = io.BytesIO()
    image.resize(shape, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_shard(task: tuple[datasets.Dataset, Plan, int, str]) -> int:
    """Write a shard, under another name until it is whole; return its bytes."""
    dataset, plan, shard, folder = task
    path = Path(folder) / plan.name(shard)
    rows = dataset.select(plan.indices(shard))
    features = datasets.Features({**dataset.features, "image": datasets.Image(mode="RGB")})
    schema = features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, PLAN: plan.record(shard)})
    if not is_finished(path, plan, shard, rows["file_name"][:]):
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with pq.ParquetWriter(unfinished, schema, compression="none") as writer:
                for table in _tables(rows, plan, schema):
                    writer.write_table(table)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path.stat().st_size


def _tables(rows: datasets.Dataset, plan: Plan, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read the images of a shard, a row group at a time."""
    files = imagenet2012.Imagenet2012FileSystem()
    stored = rows.cast_column("image", datasets.Image(decode=False))
    for batch in stored.iter(ROWS_IN_A_GROUP):
        images = []
        for name, image in zip(batch["file_name"], batch["image"], strict=True):
            data = files.cat_file(image["path"])
            if plan.size:
                data = resized(data, name, plan.size, plan.quality)
            images.append({"bytes": data, "path": name})
        yield pa.Table.from_pydict({**batch, "image": images}, schema=schema)


def export(
    dataset: datasets.Dataset, plan: Plan, output: Path, num_proc: int, progress: Any
) -> dict[str, Any]:
    """Write all shards of a split; those which are finished are kept.

    Parameters
    ----------
    dataset : datasets.Dataset
        In place.
    plan : Plan
    output : Path
        Folder of the repository.
    num_proc : int
        Processes that write, a shard at a time each.
    progress : callable
        Told of the images written or found.

    Returns
    -------
    dict
        ``name``, ``num_examples`` and ``num_bytes`` of the split, for the card.

    Raises
    ------
    ValueError
        If the folder holds shards of another plan.
    """
    folder = output / "data"
    folder.mkdir(parents=True, exist_ok=True)
    planned = {plan.name(shard) for shard in range(plan.shards)}
    if others := sorted({p.name for p in folder.glob(f"{plan.split}-*.parquet")} - planned):
        raise ValueError(
            f"{folder} holds shards of another export, such as {others[0]}. Nothing was changed: "
            "pass the options of that one to go on with it, or another --output."
        )
    for leftover in folder.glob(f".{plan.split}-*"):  # of a run that was killed
        leftover.unlink()
    tasks = [(dataset, plan, shard, str(folder)) for shard in range(plan.shards)]
    sizes = []
    with multiprocessing.get_context("spawn").Pool(num_proc) as pool:
        for shard, size in enumerate(pool.imap(write_shard, tasks)):
            sizes.append(size)
            progress(len(plan.indices(shard)))
    return {"name": plan.split, "num_bytes": sum(sizes), "num_examples": plan.rows}


CARD = """\
# ImageNet-1k (ILSVRC2012)

{images}. {text} Labels are the ranks of the 1000 wnids in sorted order.

The images belong to their owners and are for non-commercial research and education under
[ImageNet's terms of access]({page}); who shares this repository answers for that.
"""


def write_card(
    output: Path, features: datasets.Features, splits: list[dict[str, Any]], plan: Plan
) -> None:
    """Write README.md: what the Hub, its viewer and `datasets.load_dataset` read."""
    stored = datasets.Features({**features, "image": datasets.Image(mode="RGB")})
    front = {
        "license": "other",
        "license_name": "imagenet-terms-of-access",
        "license_link": imagenet2012.DOWNLOAD_PAGE,
        "task_categories": ["image-classification"],
        "size_categories": [
            "1M<n<10M" if sum(s["num_examples"] for s in splits) > 10**6 else "n<1M"
        ],
        "pretty_name": "ImageNet-1k (ILSVRC2012)",
        "dataset_info": {
            "features": stored._to_yaml_list(),
            "splits": splits,
            "dataset_size": sum(split["num_bytes"] for split in splits),
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": s["name"], "path": f"data/{s['name']}-*.parquet"} for s in splits
                ],
            }
        ],
    }
    images = ", ".join(f"{s['num_examples']:,} {s['name']} images" for s in splits)
    text = "The bytes are those of the original archives."
    if plan.size:
        text = (
            f"Images whose shortest side was over {plan.size} pixels were resized to it, upright, "
            f"as JPEG of quality {plan.quality}; the others keep their original bytes."
        )
    body = CARD.format(images=images.capitalize(), text=text, page=imagenet2012.DOWNLOAD_PAGE)
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    unfinished = output / ".README.md"
    unfinished.write_text(f"---\n{head}---\n{body}", encoding="utf-8")
    os.replace(unfinished, output / "README.md")
