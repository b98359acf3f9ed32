"""The example for Ray, on a real one of two worker processes, of which one is killed."""

import os
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import datasets
import fakes
import pytest
from click.testing import CliRunner
from conftest import ROOT, ended, start_python

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


def workers(ancestor: int) -> list[int]:
    """Return the worker processes of a Ray that read images just now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes()
            if b"ray::" in told and b"MapBatches" in told and is_below(int(process.name), ancestor):
                found.append(int(process.name))
        except OSError:  # it ended
            continue
    return found


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is loaded as any dataset: the same rows, and the features of the card."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    expected = fakes.make_archives(tmp_path / "archives", classes=12, per_class=10, validation=90)
    archives, index, output = (str(tmp_path / name) for name in ("archives", "index", "out"))
    options = ["--no-checks", "--num-proc", "1", "--shards", "12"]
    indexed = CliRunner().invoke(main, ["index", archives, index, *options])
    assert indexed.exit_code == 0, indexed.output
    program = ROOT / "examples" / "on_ray.py"
    # No cluster of the user's is found there; short, as sockets are in it.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        process = start_python("-c", RUN, program, index, output, RAY_TMPDIR=ray)
        try:
            while not (found := workers(process.pid)) and process.poll() is None:
                time.sleep(0.01)
            for pid in found[:1]:
                os.kill(pid, signal.SIGKILL)
            done = ended(process)
        finally:
            process.kill()
            process.wait()
    assert done.returncode == 0 and found, done.stderr
    loaded = datasets.load_dataset(output, cache_dir=str(tmp_path / "loaded"))
    assert loaded.keys() == expected.keys()
    for split, dataset in loaded.items():
        assert sorted(contents(dataset)) == wanted(expected[split])
        assert dataset.features["image"] == datasets.Image(mode="RGB")
        assert dataset.features["label"].names[0] == "tench, Tinca tinca"
