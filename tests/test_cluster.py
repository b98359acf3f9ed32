"""Exports on a real Ray cluster, of which a node is killed."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import datasets
import fakes
import pytest
from conftest import HANG, ROOT

import imagenet2012
from imagenet2012 import cluster as clusters
from imagenet2012 import export

if not find_spec("ray"):
    pytest.skip("needs ray", allow_module_level=True)
IMAGES, SHARD_SIZE = 240, "30KB"
PREPARE = ("--no-checks", "--size", "64", "--shard-size", SHARD_SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    members = fakes.flat_images("val", IMAGES, size=(320, 240))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(fakes.tar(members))
    return folder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where Ray keeps its files: no cluster of the user's is found, or overwritten, there."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as path:
        monkeypatch.setenv("RAY_TMPDIR", path)  # short, as sockets are in it
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield path


class Cluster:
    """A head and another node, with a core each."""

    def __init__(self) -> None:
        command = [sys.executable, str(ROOT / "tests" / "ray_cluster.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)
        self.address = self.told()

    def told(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill_a_node(self) -> None:
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        assert self.told() == "killed"


@pytest.fixture
def cluster(temporary: str) -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.process.communicate(timeout=HANG)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(folder: Path, temporary: str) -> Iterator[Start]:
    """Start the command; it does not outlive the test."""
    started = []

    def run(output: Path, *args: str, **env: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "imagenet2012", "prepare", str(folder)]
        process = subprocess.Popen(
            [*command, "--output", str(output), *PREPARE, *args],
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def contents(output: Path) -> dict[str, bytes]:
    found = {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*.*")}
    card = found["README.md"].replace(str(output).encode(), b"OUTPUT")
    return {**found, "README.md": card}


def test_a_lost_node_changes_nothing(cluster: Cluster, start: Start, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    _, errors = start(alone, "--num-proc", "1").communicate(timeout=HANG)
    assert (alone / "README.md").exists(), errors
    shards = len(list(alone.glob("data/*.parquet")))
    running = start(together, "--ray", RAY_ADDRESS=cluster.address)
    while running.poll() is None and len(list(together.glob("data/*.parquet"))) < 4:
        time.sleep(0.01)
    done = len(list(together.glob("data/*.parquet")))
    cluster.kill_a_node()
    _, errors = running.communicate(timeout=HANG)
    assert running.returncode == 0, errors
    assert 4 <= done < shards  # it was killed in the middle of the work
    assert contents(together) == contents(alone)
    assert not list(together.glob("data/.*"))
    rows = datasets.load_dataset(str(together), split="validation", cache_dir=str(tmp_path / "c"))
    assert len(set(rows["file_name"])) == len(rows) == IMAGES


def test_without_a_cluster_it_says_how_to_start_one(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path / "output", "--ray")
    _, errors = running.communicate(timeout=HANG)
    assert running.returncode == 1
    assert "No Ray cluster is running here" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "output").exists()


@pytest.fixture
def planned(tmp_path: Path) -> tuple[datasets.Dataset, export.Plan]:
    path = tmp_path / "ILSVRC2012_img_val.tar"
    path.write_bytes(fakes.tar(fakes.flat_images("val", 3)))
    options = {"verification_mode": "no_checks", "cache_dir": str(tmp_path / "cache")}
    dataset = imagenet2012.load(tmp_path, "in_place", split="validation", **options)
    return dataset, export.make_plan(dataset, "validation", str(path), tmp_path / "output")


@pytest.mark.parametrize("missing", ["ILSVRC2012_img_val.tar", "output"])
def test_a_node_that_does_not_share_the_folders(
    missing: str, planned: tuple[datasets.Dataset, export.Plan], tmp_path: Path
) -> None:
    """As the task is run on a node; that the node is another one makes no difference to it."""
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=rf"does not see .*{missing}: the archives and --output must"):
        clusters.write_shard(*planned, 0, str(output), clusters.VERSIONS)
    assert not output.exists() or not list(output.iterdir())


def test_a_node_with_other_versions(
    planned: tuple[datasets.Dataset, export.Plan], tmp_path: Path
) -> None:
    (tmp_path / "output").mkdir()
    here = {**clusters.VERSIONS, "pillow": "1.2.3"}
    with pytest.raises(ValueError, match=r"has pillow .*, not 1\.2\.3, which may change the bytes"):
        clusters.write_shard(*planned, 0, str(tmp_path / "output"), here)
