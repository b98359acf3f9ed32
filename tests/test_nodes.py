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

pytest.importorskip("torch")


def read(world: int, folder: Path, cache: Path) -> dict[str, list[list[str]]]:
    """Run as many ranks; return the file names that each got, by way of reading."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "nodes.py")]
            + [str(word) for word in (rank, world, port, folder, cache)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        done = [rank.communicate(timeout=HANG) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert not any(rank.returncode for rank in ranks), done[0][1]
    return json.loads(done[0][0].splitlines()[-1])


@pytest.mark.parametrize("world", [2, 3])  # only 2 divides 128 shards, neither 77 images
def test_each_example_comes_once_over_all_ranks_and_workers(world: int, tmp_path: Path) -> None:
    expected = sorted(fakes.make_archives(tmp_path / "archives", 11, 7, 0)["train"])
    got = read(world, tmp_path / "archives", tmp_path / "cache")
    for way, ranks in got.items():
        assert all(len(names) > 5 for names in ranks), way
        read_names = [name for names in ranks for name in names]
        if "dropped" in way:
            assert len({len(names) for names in ranks}) == 1
            assert len(read_names) == len(expected) // world * world
            assert len(set(read_names)) == len(read_names)
            continue
        if "sampler" in way:  # it repeats some, so that all ranks have as many
            repeated = Counter(read_names) - Counter(expected)
            assert sum(repeated.values()) == -len(expected) % world
            assert len({len(names) for names in ranks}) == 1
            read_names = list(Counter(read_names) - repeated)
        assert sorted(read_names) == expected, way
