"""One rank of several that read a dataset: ``python nodes.py RANK WORLD PORT FOLDER CACHE``.

Rank 0 prints, for each way of reading, the file names that each rank got.
"""

import json
import sys
from importlib.util import find_spec
from typing import Any

import datasets
import torch
import torch.distributed as dist
from datasets.distributed import split_dataset_by_node
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import imagenet2012

SEEN = 7


def names(rows: Any) -> list[str]:
    return [row["file_name"] for row in rows]


def loaded(dataset: Any, workers: int, **options: Any) -> list[str]:
    loader = DataLoader(dataset, 4, num_workers=workers, collate_fn=names, **options)
    return [name for batch in loader for name in batch]


def stream(folder: str, rank: int, world: int, buffer_size: int = 10) -> Any:
    whole = imagenet2012.load(folder, split="train", streaming=True, order="mixed")
    whole = whole.shuffle(seed=1, buffer_size=buffer_size)
    return split_dataset_by_node(whole.remove_columns("image"), rank=rank, world_size=world)


def resumed_stream(folder: str, rank: int, world: int) -> list[str]:
    """Stop after a few examples, and go on with another dataset from what was saved.

    `datasets` does not save the shuffle buffer, so only the order of the shards is shuffled.
    """
    first = stream(folder, rank, world, buffer_size=1)
    rows = iter(first)
    seen = names(next(rows) for _ in range(SEEN))
    state = json.loads(json.dumps(first.state_dict()))
    second = stream(folder, rank, world, buffer_size=1)
    second.load_state_dict(state)
    return seen + names(second)


def resumed_workers(folder: str, rank: int, world: int) -> list[str]:
    """Stop and go on as above, with the state of each worker of a loader."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader() -> StatefulDataLoader:
        dataset = stream(folder, rank, world, buffer_size=1)
        return StatefulDataLoader(dataset, 4, num_workers=2, collate_fn=names)

    first = loader()
    batches = iter(first)
    seen = next(batches) + next(batches)
    second = loader()
    second.load_state_dict(first.state_dict())
    return seen + [name for batch in second for name in batch]


def trained(folder: str, rank: int, world: int) -> list[str]:
    """Take a step for each batch; ranks that have fewer follow the steps of the others."""
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    read = []
    with model.join():
        for batch in DataLoader(stream(folder, rank, world), 4, collate_fn=names):
            model(torch.ones(len(batch), 1)).sum().backward()
            read += batch
    return read


def sampled(placed: datasets.Dataset, rank: int, world: int) -> list[str]:
    """Stop after a few examples, and go on with the rest of the same permutation."""
    sampler = DistributedSampler(placed, num_replicas=world, rank=rank, seed=3)
    sampler.set_epoch(2)
    rest = list(sampler)[SEEN:]
    return names(placed.select(list(sampler)[:SEEN])) + loaded(placed.select(rest), 2)


def main() -> None:
    rank, world, port = (int(word) for word in sys.argv[1:4])
    folder, cache = sys.argv[4:]
    options = {"cache_dir": cache, "verification_mode": "no_checks"}
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    if rank == 0:  # prepares, and the others find it
        imagenet2012.load(folder, "in_place", split="train", **options)
    dist.barrier()
    placed = imagenet2012.load(folder, "in_place", split="train", **options)
    placed = placed.remove_columns("image")
    here = {
        "stream": names(stream(folder, rank, world)),
        "stream, 2 workers": loaded(stream(folder, rank, world), 2),
        "stream, resumed": resumed_stream(folder, rank, world),
        "stream, trained": trained(folder, rank, world),
        "in place, sampler, resumed": sampled(placed, rank, world),
        "in place, sampler, rest dropped": names(
            placed.select(DistributedSampler(placed, world, rank, drop_last=True))
        ),
        "in place, shard": loaded(placed.shard(world, rank), 2),
    }
    if find_spec("torchdata"):
        here["stream, 2 workers, resumed"] = resumed_workers(folder, rank, world)
    everywhere: list[Any] = [None] * world
    dist.all_gather_object(everywhere, here)
    if rank == 0:
        print(json.dumps({way: [one[way] for one in everywhere] for way in here}))
    dist.destroy_process_group()


if __name__ == "__main__":
    datasets.logging.set_verbosity_error()
    main()
