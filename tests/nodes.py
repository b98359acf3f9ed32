"""One rank of several that read a dataset: ``python nodes.py RANK WORLD PORT FOLDER CACHE``.

Rank 0 prints, for each way of reading, the file names that each rank got.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import datasets
import torch
import torch.distributed as dist
from datasets.distributed import split_dataset_by_node
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import imagenet2012

SEEN = 8  # examples before a stop, in two batches
Names = list[str]


def names(rows: Any) -> Names:
    return [row["file_name"] for row in rows]


def loaded(dataset: Any, loader: Any = DataLoader, **options: Any) -> Any:
    return loader(dataset, SEEN // 2, collate_fn=names, **options)


def joined(batches: Any) -> Names:
    return [name for batch in batches for name in batch]


def stream(folder: str, split: str, rank: int, world: int, buffer_size: int) -> Any:
    whole = imagenet2012.load(folder, split=split, streaming=True, order="archive")
    whole = whole.shuffle(seed=1, buffer_size=buffer_size, max_buffer_input_shards=1)
    return split_dataset_by_node(whole.remove_columns("image"), rank=rank, world_size=world)


def resumed(make: Callable[[], Any], read: Callable[[Any], Names]) -> Names:
    """Stop after a few examples, and go on with another reader from what was saved."""
    first, second = make(), make()
    rows = iter(first)
    seen: Names = []
    while len(seen) < SEEN:
        seen += read([next(rows)])
    second.load_state_dict(first.state_dict())
    return seen + read(second)


def trained(dataset: Any) -> Names:
    """Take a step for each batch; ranks that have fewer follow the steps of the others."""
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    read = []
    with model.join():
        for batch in loaded(dataset):
            model(torch.ones(len(batch), 1)).sum().backward()
            read += batch
    return read


def sampled(placed: datasets.Dataset, rank: int, world: int) -> Names:
    """Stop after a few examples, and go on with the rest of the same permutation."""
    sampler = DistributedSampler(placed, num_replicas=world, rank=rank, seed=3)
    sampler.set_epoch(2)
    rest = placed.select(list(sampler)[SEEN:])
    return names(placed.select(list(sampler)[:SEEN])) + joined(loaded(rest, num_workers=2))


def streamed(folder: str, split: str, rank: int, world: int) -> dict[str, Names]:
    """Read a stream in all ways."""
    buffered = stream(folder, split, rank, world, 10)
    # `datasets` does not save a shuffle buffer: what is resumed has the order of shards shuffled.
    bare = partial(stream, folder, split, rank, world, 1)
    found = {
        "at once": names(buffered),
        "2 workers": joined(loaded(buffered, num_workers=2)),
        "trained": trained(buffered),
        "resumed": resumed(bare, names),
    }
    if find_spec("torchdata"):
        from torchdata.stateful_dataloader import StatefulDataLoader as Stateful

        found["2 workers, resumed"] = resumed(
            lambda: loaded(bare(), Stateful, num_workers=2), joined
        )
    return {f"{split}, {way}": read for way, read in found.items()}


def in_place(folder: str, cache: str, rank: int, world: int) -> dict[str, Names]:
    """Read the dataset in place in all ways."""
    options = {"cache_dir": cache, "verification_mode": "no_checks", "split": "train"}
    if rank == 0:  # prepares, and the others find it
        imagenet2012.load(folder, "in_place", **options)
    dist.barrier()
    placed = imagenet2012.load(folder, "in_place", **options).remove_columns("image")
    dropping = DistributedSampler(placed, world, rank, drop_last=True)
    return {
        "train, sampler, resumed": sampled(placed, rank, world),
        "train, sampler, rest dropped": names(placed.select(dropping)),
        "train, shard": joined(loaded(placed.shard(world, rank), num_workers=2)),
    }


def main() -> None:
    rank, world, port = (int(word) for word in sys.argv[1:4])
    folder, cache = sys.argv[4:]
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    here = in_place(folder, cache, rank, world)
    for split in ("train", "validation"):
        here |= streamed(folder, split, rank, world)
    everywhere: list[Any] = [None] * world
    dist.all_gather_object(everywhere, here)
    if rank == 0:
        print(json.dumps({way: [one[way] for one in everywhere] for way in here}), flush=True)
    dist.barrier()
    # torchdata leaves threads, of which torch complains at exit: "terminate called without an
    # active exception".
    os._exit(0)


if __name__ == "__main__":
    datasets.logging.set_verbosity_error()
    main()
