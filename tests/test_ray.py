"""The example for Ray, on a real one of two worker processes, of which one is killed."""

import os
import signal
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
from click.testing import CliRunner
from conftest import HANG, ROOT

from imagenet2012.cli import main
from rows import contents, wanted

if not find_spec("ray") or sys.platform != "linux":
    pytest.skip("needs ray, and /proc", allow_module_level=True)
# As the example would be called on a cluster, whose nodes are started before.
RUN = """
import ray, runpy, sys
ray.init(num_cpus=2)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, dict[str, fakes.Expected]]:
    return fakes.make_archives(tmp_path / "archives", classes=12, per_class=40, validation=300)


@pytest.fixture
def start(tmp_path: Path, expected: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Index the archives, and return what starts the example; it does not outlive the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    options = ["--no-checks", "--num-proc", "1", "--shards", "40"]
    made = CliRunner().invoke(
        main, ["index", str(tmp_path / "archives"), str(tmp_path / "index"), *options]
    )
    assert made.exit_code == 0, made.output
    started: list[subprocess.Popen[str]] = []
    # No cluster of the user's is found there; short, as sockets are in it.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": ray}
        env.pop("RAY_ADDRESS", None)

        def start(output: Path) -> "subprocess.Popen[str]":
            command = [sys.executable, "-c", RUN, str(ROOT / "examples" / "on_ray.py")]
            process = subprocess.Popen(
                [*command, str(tmp_path / "index"), str(output)],
                env=env,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()


def workers(group: int) -> list[int]:
    """Return the worker processes of a Ray that reads images just now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes()
            if b"ray::" in told and b"MapBatches" in told and is_below(int(process.name), group):
                found.append(int(process.name))
        except OSError:  # it ended
            continue
    return found


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_example(
    is_killed: bool, start: Start, expected: dict[str, dict[str, fakes.Expected]], tmp_path: Path
) -> None:
    """What it writes is loaded as any dataset: the same rows, and the features of the card."""
    process = start(tmp_path / "out")
    killed: list[int] = []
    while process.poll() is None and is_killed and not killed:
        for pid in workers(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    assert bool(killed) == is_killed
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "loaded"))
    assert loaded.keys() == expected.keys()
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(expected[split])
        assert dataset.features["image"] == datasets.Image(mode="RGB")
        assert dataset.features["label"].names[0] == "tench, Tinca tinca"
