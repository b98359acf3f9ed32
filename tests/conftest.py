import atexit
import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Before `datasets` is imported: what a user or a cluster has set leads these tests nowhere, and
# nothing of theirs goes to the user's caches, or to the network.
SETTINGS = ("HF_", "HUGGING", "IMAGENET2012_", "RAY_", "AWS_", "FSSPEC_", "XDG_", "JUPYTER_")
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "COLUMNS")
for name in list(os.environ):
    if name.startswith(SETTINGS) or name in LAUNCHERS or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ["HOME"] = tempfile.mkdtemp(prefix="imagenet2012-tests-")
atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
os.environ["HF_HOME"] = os.path.join(os.environ["HOME"], "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles this project anew
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# What a shell runs in the background ignores Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
# Seconds after which what a test waits for is taken to hang. No slow machine reaches it: it is no
# measure of anything, and nothing shorter may be.
HANG = 600
sys.path.insert(0, str(Path(__file__).parent))

import fakes  # noqa: E402


def patch_os(monkeypatch: pytest.MonkeyPatch, name: str, function: Any) -> None:
    """Replace a function of `os`, also in what `datasets` 3 has put in its place.

    When it streams, it does so for good, in each of the modules beside the script.
    """
    modules = [module for key, module in sys.modules.items() if key.startswith("imagenet2012")]
    systems = {id(system): system for module in modules if (system := vars(module).get("os"))}
    for system in {id(os): os, **systems}.values():
        monkeypatch.setattr(system, name, function)


class Archives(NamedTuple):
    """A folder of archives and what must come out of them."""

    folder: Path
    expected: dict[str, dict[str, fakes.Expected]]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Archives of all three splits: 12 classes of 5 images, 90 validation and 7 test images."""
    folder = tmp_path_factory.mktemp("archives")
    return Archives(folder, fakes.make_archives(folder, 12, 5, 90, 7))


Process = subprocess.Popen[str]
Ended = subprocess.CompletedProcess[str]


def start_python(*arguments: object, cwd: Path | None = None, **variables: str) -> Process:
    """Start Python, which imports this very clone, in a process group of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, cwd=cwd, text=True, start_new_session=True, **pipes)


def ended(process: Process) -> Ended:
    """Wait for a process, and for all others that could write to its pipes."""
    output = process.communicate(timeout=HANG)
    return Ended(process.args, process.returncode, *output)


def run_python(code: str, *arguments: object, **options: Any) -> Ended:
    """Run a program in a process of its own."""
    return ended(start_python("-c", code, *arguments, **options))


@pytest.fixture
def train(archives: Archives, cache: dict[str, Any]) -> Any:
    """The training images in place."""
    import imagenet2012

    return imagenet2012.load(archives.folder, "in_place", split="train", **cache)


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, Any]:
    """Options that load fakes into a cache of the test's own."""
    return {"cache_dir": str(tmp_path / "cache"), "verification_mode": "no_checks"}


def start(tmp_path: Path, *arguments: object, **variables: str) -> Process:
    """Start the command with a home folder of its own."""
    home: dict[str, Any] = {"HF_HOME": str(tmp_path / "home"), **variables}
    return start_python("-m", "imagenet2012", *arguments, **home)


def official(monkeypatch: pytest.MonkeyPatch, split: str, **facts: Any) -> None:
    """Make a fake count as the original archive."""
    from imagenet2012.ilsvrc2012 import SOURCES

    monkeypatch.setitem(SOURCES, split, dataclasses.replace(SOURCES[split], **facts))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the loader warns of."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("datasets.imagenet2012")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


Run = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with a cache of the test's own, and in this process if it may choose."""
    import datasets
    from click.testing import CliRunner

    from imagenet2012.cli import main

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET2012_DIR", raising=False)
    alone = {verb: {"num_proc": 1} for verb in main.commands}

    def invoke(*arguments: object) -> Any:
        result = CliRunner().invoke(main, list(map(str, arguments)), default_map=alone)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return invoke


@pytest.fixture
def write(run: Run, archives: Archives, tmp_path: Path) -> Write:
    """Index or export archives to the folder `out`, in a few shards."""
    small = {"index": ("--shards", 5), "export": ("--shard-size", "40kB")}

    def write(verb: str, *options: object, folder: Path = archives.folder) -> Path:
        result = run(verb, folder, tmp_path / "out", "--no-checks", *small[verb], *options)
        assert result.exit_code == 0, result.output
        return tmp_path / "out"

    return write
