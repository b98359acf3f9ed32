"""Folders that `imagenet2012 prepare --output` wrote: found, loaded and checked."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from imagenet2012.archives import archives_in
from imagenet2012.export import Plan, read_plan, shard_number
from imagenet2012.ilsvrc2012 import SOURCES, ArchiveError
from imagenet2012.in_place import NamedImage, missing_images, open_named
from imagenet2012.options import check_value
from imagenet2012.seal import is_whole
from imagenet2012.storage import is_dir, is_url
from imagenet2012.workers import Progress


def find_plans(folder: str | None) -> dict[str, Plan]:
    """Return the plan of each split of which a folder holds shards, by their records.

    Empty if it holds none, is behind a URL, or holds archives, which come first.

    Raises
    ------
    ValueError
        If a shard has the name of another split.
    """
    if folder is None or is_url(folder) or archives_in(folder):
        return {}
    plans: dict[str, Plan] = {}
    for split in SOURCES:
        for file in sorted(Path(folder, "data").glob(f"{split}-*-of-*.parquet")):
            if plan := read_plan(file):
                if plan.split != split:
                    raise ValueError(f"{file} holds {plan.split} images: it was renamed or copied.")
                plans[split] = plan
                break
    return plans


def load(
    folder: str, plans: dict[str, Plan], name: str, split: Any, streaming: bool, **options: Any
) -> Any:
    """Load a folder of shards by `datasets.load_dataset`, to which all options are handed.

    Raises
    ------
    ValueError
        If the folder was made otherwise than is asked for.
    """
    label_names, order = options.pop("label_names", None), options.pop("order", None)
    check_value("order", order or "mixed")
    images = [split for split, plan in plans.items() if not plan.in_place]
    if name == "in_place" and images:
        raise ValueError(
            f'{folder} holds the images of {", ".join(images)} themselves: leave "in_place" out, '
            "or pass the folder of the archives."
        )
    for plan in plans.values():
        if label_names not in (None, plan.label_names):
            raise ValueError(
                f"{folder} was written with label_names {plan.label_names!r}, not {label_names!r}: "
                "leave it out, or pass the folder of the archives."
            )
    if order == "archive":
        raise ValueError(
            f'The rows in {folder} are shuffled: leave order="archive" out, or pass the folder of '
            "the archives."
        )
    loaded = datasets.load_dataset(folder, split=split, streaming=streaming, **options)
    return [_named(one) for one in loaded] if isinstance(loaded, list) else _named(loaded)


def _named(dataset: Any) -> Any:
    """Return a dataset whose errors name the image, as those of the loader do."""
    return dataset.cast_column("image", NamedImage("RGB"))


# ------------------------------------------------------------------------- checking


def check(folder: str, plan: Plan, *, strict: bool, progress: Progress) -> list[str]:
    """Return what is wrong with the shards of a split; nothing is written.

    Parameters
    ----------
    folder : str
    plan : Plan
        Of the split.
    strict : bool
        Hold the count to the official one.
    progress : callable
        Told of the shards that were read.
    """
    reads_images, problems = _look_at_archive(plan)
    ours = {plan.name(shard) for shard in range(plan.shards)}
    for other in sorted(Path(folder, "data").glob(f"{plan.split}-*.parquet")):
        if other.name not in ours:
            problems.append(f"{other} is not of this export, but would be loaded with it")
    gone: list[str] = []
    for shard in range(plan.shards):
        path = Path(folder, "data", plan.name(shard))
        if not path.exists():
            problems.append(f"{path} is missing")
        elif not (read_plan(path) == plan and shard_number(path) == shard and is_whole(path)):
            problems.append(f"{path} is damaged, of another export, or another shard of this one")
        elif reads_images:
            images = pq.ParquetFile(path).read(columns=["image.path"])["image"].to_pylist()
            try:
                gone += missing_images([image["path"] for image in images])
            except ArchiveError as error:
                problems.append(" ".join(str(error).split()))
        progress(1)
    if gone:
        problems.append(
            f"{len(gone):,} images are not where the index says, {gone[0]} first: {plan.in_place} "
            "was replaced or damaged since"
        )
    expected = SOURCES[plan.split].num_examples
    if strict and plan.rows != expected:
        problems.append(f"{plan.rows:,} images instead of {expected:,}")
    return problems


def _look_at_archive(plan: Plan) -> tuple[bool, list[str]]:
    """Tell of the archive of an index whether each image can be looked at, and what is wrong."""
    if not plan.in_place or is_dir(plan.in_place):
        return bool(plan.in_place), []
    try:
        archive = open_named(plan.in_place)
    except ArchiveError as error:
        return False, [" ".join(str(error).split())]
    if archive.size != plan.archive_bytes:
        found = f"{archive.path} has {archive.size:,} bytes, the archive of the index had "
        return False, [f"{found}{plan.archive_bytes:,}"]
    return not archive.is_remote, []  # there each header would be a request
