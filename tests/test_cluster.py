"""Exports on a real Ray cluster, of which a node is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import fakes
import pytest
from conftest import ROOT

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

IMAGES, SHARD_SIZE = 600, "30KB"
PREPARE = ("--no-checks", "--size", "64", "--shard-size", SHARD_SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    members = fakes.flat_images("val", IMAGES, size=(640, 480))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(members))
    return folder


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of a head, which does no work, and two nodes with a core each."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def start(folder: Path, output: Path, *args: str, **env: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "imagenet2012_tools.cli", "prepare", str(folder)]
    return subprocess.Popen(
        [*command, "--output", str(output), *PREPARE, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(output: Path) -> dict[str, bytes]:
    found = {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*.*")}
    card = found["README.md"].replace(str(output).encode(), b"OUTPUT")
    return {**found, "README.md": card}


def test_a_lost_node_changes_nothing(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert start(folder, alone).wait(120) == 0
    running = start(folder, together, "--ray", RAY_ADDRESS=cluster.address)
    deadline = time.monotonic() + 60
    while len(list(together.glob("data/*.parquet"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    done = len(list(together.glob("data/*.parquet")))
    _out, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    shards = len(list(alone.glob("data/*.parquet")))
    assert 4 <= done < shards / 2  # it was killed in the middle of the work
    assert contents(together) == contents(alone)
    rows = datasets.load_dataset(str(together), split="validation", cache_dir=str(tmp_path / "c"))
    assert len(set(rows["file_name"])) == len(rows) == IMAGES


def test_without_a_cluster_it_says_how_to_start_one(folder: Path, tmp_path: Path) -> None:
    running = start(folder, tmp_path / "output", "--ray", RAY_TMPDIR=str(tmp_path))
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "No Ray cluster is running here" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "output").exists()
