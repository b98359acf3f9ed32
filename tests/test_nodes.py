"""Several real processes read one dataset, as the nodes of a training run do."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fakes
import pytest
from conftest import HANG, ROOT

pytest.importorskip("torchdata")


def read(world: int, folder: Path, cache: Path) -> dict[str, list[list[str]]]:
    """Run as many ranks; return the file names that each got, by way of reading."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        words = [str(word) for word in (world, free.getsockname()[1], folder, cache)]
    program = [sys.executable, str(ROOT / "tests" / "nodes.py")]
    options = {"env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen([*program, str(rank), *words], **options) for rank in range(world)]
    try:
        told = [rank.communicate(timeout=HANG) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert not any(rank.returncode for rank in ranks), [err for _, err in told]
    return json.loads(told[0][0].splitlines()[-1])


@pytest.mark.parametrize("world", [2, 3])  # validation has 128 shards, train 11, both 77 images
def test_each_example_comes_once_over_all_ranks_and_workers(world: int, tmp_path: Path) -> None:
    expected = fakes.make_archives(tmp_path / "archives", 11, 7, 77)
    for way, ranks in read(world, tmp_path / "archives", tmp_path / "cache").items():
        images = sorted(expected[way.partition(",")[0]])
        counts = Counter(name for names in ranks for name in names)
        assert all(len(names) > 5 for names in ranks), way
        if "sampler" in way:  # all ranks have as many: it repeats some, or leaves them out
            assert len({len(names) for names in ranks}) == 1
        if "dropped" in way:
            assert counts.total() == len(counts) == len(images) // world * world
        else:
            repeated = -len(images) % world if "sampler" in way else 0
            assert counts.total() == len(images) + repeated, way
            assert sorted(counts) == images, way
