"""Write the shards of an export on the nodes of a Ray cluster."""

import logging
from pathlib import Path
from typing import Any

import datasets

from imagenet2012_tools import export as exports
from imagenet2012_tools.export import Plan
from imagenet2012_tools.export import Progress


def export(planned: list[tuple[datasets.Dataset, Plan]], folder: Path, progress: Progress) -> None:
    """Write all shards of all splits to `folder`: the same bytes as `export.export` writes.

    Each shard is a task for one core. A shard whose node is lost is written by another one; as a
    shard gets its name only when it is whole, a node that was thought lost can do no harm.

    Parameters
    ----------
    planned : list of (datasets.Dataset, Plan)
        Splits in place, held in memory as the nodes need not share a cache, and their plans.
    folder : Path
        On a file system that all nodes share, as the archives are.
    progress : callable
        Told of the images written or found.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    OSError
        If there is no cluster, or what a node wrote cannot be seen from here.
    """
    ray = connected()
    folder = folder.resolve()
    exports.prepare_folder(planned, folder)
    write = ray.remote(max_retries=-1)(exports.write_shard)
    tasks: dict[Any, tuple[Plan, int]] = {}
    for dataset, plan in planned:
        shared = ray.put(dataset)
        for shard in range(plan.shards):
            tasks[write.remote(shared, plan, shard, str(folder))] = plan, shard
    try:
        _follow(ray, tasks, folder, progress)
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
        exports.remove_leftovers(folder)  # of nodes that were lost


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


def _follow(ray: Any, tasks: dict[Any, tuple[Plan, int]], folder: Path, progress: Progress) -> None:
    """Wait for all tasks; raise what the first one that fails raises."""
    waiting = list(tasks)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        for task in done:
            plan, shard = tasks.pop(task)
            try:
                ray.get(task)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:  # want of memory, for one
                raise OSError(
                    f"{plan.name(shard)} could not be written on the cluster: {error}"
                ) from error
            if not (folder / plan.name(shard)).exists():
                raise OSError(
                    f"{folder / plan.name(shard)} was written on another node and is not to be "
                    "seen here: --output must be on a file system that all nodes share."
                )
            progress(len(plan.indices(shard)))
