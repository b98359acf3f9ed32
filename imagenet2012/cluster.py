"""Write the shards of an export on the nodes of a Ray cluster."""

import logging
import platform
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL
import pyarrow as pa

from imagenet2012 import export as exports
from imagenet2012.export import Plan
from imagenet2012.imagenet2012 import VERSION
from imagenet2012.in_place import PREFIX, Imagenet2012FileSystem
from imagenet2012.storage import status_of
from imagenet2012.workers import Progress

# How often a shard is tried again after a node was lost or a worker killed. Without a limit, one
# that always ends its worker would be tried for ever.
RETRIES = 20
# What decides the bytes of a shard besides its plan.
VERSIONS = {
    "imagenet2012": VERSION,
    "datasets": datasets.__version__,
    "numpy": np.__version__,
    "pillow": PIL.__version__,
    "pyarrow": pa.__version__,
}


def export(planned: list[tuple[datasets.Dataset, Plan]], folder: Path, progress: Progress) -> int:
    """Write all shards of all splits to `folder`: the same bytes as `export.export` writes.

    Each shard is a task for one core (Ray Data is for rows that come back, and here none do). A
    shard whose node is lost is written by another one; as a shard gets its name only when it is
    whole, a node that was thought lost can do no harm.

    Parameters
    ----------
    planned : list of (datasets.Dataset, Plan)
        Splits in place, held in memory as the nodes need not share a cache, and their plans.
    folder : Path
        On a file system that all nodes share, as the archives are.
    progress : callable
        Told of the images written or found.

    Returns
    -------
    int
        How many shards were written.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed, or this package not on all nodes.
    OSError
        If there is no cluster, a node does not see the archives or the folder, what it wrote cannot
        be seen from here, or a shard's worker was killed again and again.
    ValueError
        If a node has other versions of what decides the bytes.
    """
    ray = connected()
    folder = folder.resolve()
    exports.prepare_folder(planned, folder)
    write = ray.remote(max_retries=RETRIES)(write_shard)
    tasks: dict[Any, tuple[Plan, int]] = {}
    for dataset, plan in planned:
        shared = ray.put(dataset)
        for shard in range(plan.shards):
            tasks[write.remote(shared, plan, shard, str(folder), VERSIONS)] = plan, shard
    try:
        return _follow(ray, tasks, folder, progress)
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
        exports.remove_leftovers(planned, folder)  # of nodes that were lost


def write_shard(
    dataset: datasets.Dataset, plan: Plan, shard: int, folder: str, versions: dict[str, str]
) -> bool:
    """Write a shard on a node, if that is like the one whose `versions` these are.

    Return False if it was finished.

    Raises
    ------
    OSError
        If the node does not see the archive or the folder.
    ValueError
        If it has other versions.
    """
    node = platform.node()
    url = dataset.cast_column("image", datasets.Image(decode=False))[0]["image"]["path"]
    source = Imagenet2012FileSystem.parse(url)[0] if url.startswith(PREFIX) else url
    for path in (source, folder):
        if not status_of(path):
            raise OSError(
                f"The node {node} does not see {path}: the archives and --output must be on a file "
                "system that all nodes share, under the same paths."
            )
    if versions != VERSIONS:
        others = [
            f"{name} {has}, not {versions.get(name)}"
            for name, has in VERSIONS.items()
            if has != versions.get(name)
        ]
        raise ValueError(
            f"The node {node} has {'; '.join(others)}, which may change the bytes: "
            "install the same versions on all nodes."
        )
    return exports.write_shard(dataset, plan, shard, folder)


def connected() -> Any:
    """Return the module `ray`, connected to the running cluster.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    OSError
        If there is no cluster.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Ray is not installed: pip install "imagenet2012[ray]", here and on all nodes.'
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ConnectionError(
                "No Ray cluster is running here. Start one with `ray start --head` on one node "
                "and `ray start --address=...` on the others, or set RAY_ADDRESS."
            ) from error
    return ray


def _follow(ray: Any, tasks: dict[Any, tuple[Plan, int]], folder: Path, progress: Progress) -> int:
    """Wait for all tasks; raise what the first one that fails raises."""
    waiting, written = list(tasks), 0
    while waiting:
        (task,), waiting = ray.wait(waiting, num_returns=1)
        plan, shard = tasks.pop(task)
        written += _get(ray, task, plan.name(shard))
        if not (folder / plan.name(shard)).exists():
            raise OSError(
                f"{folder / plan.name(shard)} was written on another node and is not to be "
                "seen here: --output must be on a file system that all nodes share."
            )
        progress(len(plan.indices(shard)))
    return written


def _get(ray: Any, task: Any, name: str) -> bool:
    """Return what a task returned, or raise what it has raised, as on one machine."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if not isinstance(cause, ray.exceptions.RayError):
            raise cause from error
        if missing := re.search(r"No module named '(\w+)", str(cause)):
            raise ModuleNotFoundError(
                f'A node of the cluster has no {missing[1]}: pip install "imagenet2012[ray]" there.'
            ) from error
        raise OSError(
            f"{name} could not be written on the cluster (retries: up to {RETRIES}): {cause}"
        ) from error
