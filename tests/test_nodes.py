"""Several real processes read one dataset, as the nodes of a training run do."""

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fakes
import pytest
from datasets.distributed import split_dataset_by_node

import imagenet2012

pytest.importorskip("torchdata")
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader as Stateful

WORLDS = (3, 2)  # validation has 128 shards, train 11, both 77 images
SEEN = 8  # examples before a stop, in two batches
Names = list[str]


def test_each_example_comes_once_over_all_ranks_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fakes.make_archives(tmp_path / "archives", 11, 7, 77)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(read, (tmp_path,), nprocs=max(WORLDS))
    for world in WORLDS:
        for way, ranks in json.loads((tmp_path / f"{world}.json").read_text()).items():
            images = sorted(expected[way.partition(",")[0]])
            counts = Counter(name for names in ranks for name in names)
            assert len(ranks) == world and all(len(names) > 5 for names in ranks), way
            if "sampler" in way:  # all ranks have as many: it repeats some, or leaves them out
                assert len({len(names) for names in ranks}) == 1
            if "dropped" in way:
                assert counts.total() == len(counts) == len(images) // world * world
            else:
                repeated = -len(images) % world if "sampler" in way else 0
                assert counts.total() == len(images) + repeated, way
                assert sorted(counts) == images, way


def read(rank: int, folder: Path) -> None:
    """Be a rank. The first notes, for each way of reading, the file names that each one got."""
    torch.multiprocessing.set_start_method("fork", force=True)  # of workers, which need not start
    for world in [world for world in WORLDS if rank < world]:
        shared = f"file://{folder}/store-{world}"
        dist.init_process_group("gloo", shared, rank=rank, world_size=world)
        here = in_place(str(folder / "archives"), str(folder / f"cache-{world}"))
        for split in ("train", "validation"):
            here |= streamed(str(folder / "archives"), split)
        everywhere: list[Any] = [None] * world
        dist.all_gather_object(everywhere, here)
        if rank == 0:
            told = json.dumps({way: [one[way] for one in everywhere] for way in here})
            (folder / f"{world}.json").write_text(told)
        dist.barrier()
        dist.destroy_process_group()
    os._exit(0)  # at exit, torch 2.13 may "terminate without an active exception" (torchdata 0.11)


def names(rows: Any) -> Names:
    """Return the names of rows, or of batches that are names already."""
    return [n for row in rows for n in (row if isinstance(row, list) else [row["file_name"]])]


def workers(dataset: Any, loader: Any = DataLoader) -> Any:
    return loader(dataset, SEEN // 2, num_workers=2, collate_fn=names)


def stream(folder: str, split: str, buffer_size: int) -> Any:
    whole = imagenet2012.load(folder, split=split, streaming=True, order="archive")
    whole = whole.shuffle(seed=1, buffer_size=buffer_size, max_buffer_input_shards=1)
    whole = whole.remove_columns("image")
    return split_dataset_by_node(whole, dist.get_rank(), dist.get_world_size())


def resumed(make: Callable[[], Any]) -> Names:
    """Stop after a few examples, and go on with another reader from what was saved."""
    first, second, seen = make(), make(), []
    rows = iter(first)
    while len(seen) < SEEN:
        seen += names([next(rows)])
    second.load_state_dict(first.state_dict())
    return seen + names(second)


def trained(dataset: Any) -> Names:
    """Take a step for each batch; ranks that have fewer follow the steps of the others."""
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    read = []
    with model.join():
        for batch in DataLoader(dataset, SEEN // 2, collate_fn=names):
            model(torch.ones(len(batch), 1)).sum().backward()
            read += batch
    return read


def streamed(folder: str, split: str) -> dict[str, Names]:
    buffered = stream(folder, split, 10)
    # `datasets` does not save a shuffle buffer: what is resumed has the order of shards shuffled.
    bare = partial(stream, folder, split, 1)
    return {
        f"{split}, at once": names(buffered),
        f"{split}, 2 workers": names(workers(buffered)),
        f"{split}, trained": trained(buffered),
        f"{split}, resumed": resumed(bare),
        f"{split}, workers, resumed": resumed(lambda: workers(bare(), Stateful)),
    }


def in_place(folder: str, cache: str) -> dict[str, Names]:
    options = {"cache_dir": cache, "verification_mode": "no_checks", "split": "train"}
    if dist.get_rank() == 0:  # prepares, and the others find it
        imagenet2012.load(folder, "in_place", **options)
    dist.barrier()
    placed = imagenet2012.load(folder, "in_place", **options).remove_columns("image")
    order = list(DistributedSampler(placed, seed=3))
    rest = workers(placed.select(order[SEEN:]))
    return {
        "train, sampler, resumed": names(placed.select(order[:SEEN])) + names(rest),
        "train, sampler, dropped": names(placed.select(DistributedSampler(placed, drop_last=True))),
        "train, shard": names(placed.shard(dist.get_world_size(), dist.get_rank())),
    }
