"""Measure this loader and its peers on the same archives: writes results.md, .json and .png.

    python benchmarks/bench.py [--gb 2.5] [--repeat 2] [--only NAME ...]

Every peer runs in processes of its own, in an environment with pinned versions that this script
makes, through its public interface, in turns: all of them once, then all of them again. See
README.md beside this file for what is measured and how to read it.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import NamedTuple

import common
import report
from common import Result


class Peer(NamedTuple):
    """What is run for a row of the tables.

    Attributes
    ----------
    key, title : str
    env, script : str
        Environment and file of the peer.
    options : tuple of str
        Passed to the script.
    measures : tuple of str
        What is measured in each round, in this order, on one work folder.
    growth : bool
        Whether it also prepares the archives with many members.
    """

    key: str
    title: str
    env: str
    script: str
    options: tuple[str, ...] = ()
    measures: tuple[str, ...] = ("prepare", "read")
    growth: bool = False


def ours(key: str, title: str, *options: str, read: bool = False, growth: bool = False) -> Peer:
    measures = ("prepare", "read") if read else ("prepare",)
    return Peer(key, f"**{title}**", "torch", "this_loader", options, measures, growth)


COPY, IN_PLACE, TWO = ("--variant", "copy"), ("--variant", "in_place"), ("--procs", "2")
TFDS = ("prepare", "read", "distinct")
PEERS = (
    ours("copy", "this loader, copy", *COPY, read=True, growth=True),
    ours("copy_2", "this loader, copy, 2 processes", *COPY, *TWO, growth=True),
    ours("in_place", "this loader, in place", *IN_PLACE, read=True, growth=True),
    ours("in_place_2", "this loader, in place, 2 processes", *IN_PLACE, *TWO, growth=True),
    ours("stream", "this loader, streaming", "--variant", "stream", read=True),
    ours(
        "stream_2",
        "this loader, streaming, decoding in 2 threads",
        "--variant",
        "threads",
        read=True,
    ),
    ours("in_place_train", "this loader, in place, train only", "--variant", "in_place:train"),
    ours("copy_val", "this loader, copy, validation only", "--variant", "copy:validation"),
    Peer("tfds", "TensorFlow Datasets", "tf", "tfds_builder", measures=TFDS),
    Peer("torchvision", "torchvision, extracted", "torch", "torchvision_folder"),
    Peer("imagefolder", "datasets `imagefolder`, extracted", "torch", "hf_imagefolder"),
    Peer("hf_webdataset", "datasets `webdataset`, validation only", "torch", "hf_webdataset"),
    Peer("timm", "timm ReaderImageInTar, train only", "torch", "timm_tar", growth=True),
    Peer("webdataset", "webdataset, converted", "torch", "webdataset_shards", growth=True),
    Peer("litdata", "litdata, converted, 2 processes", "torch", "litdata_chunks", growth=True),
    Peer("nested", "plain builder on nested tarfile", "torch", "nested_tarfile", growth=True),
    Peer("pread", "*limit: bare pread and Pillow*", "torch", "limits", measures=("read",)),
    Peer("cp", "*limit: cp of the archives*", "torch", "limits", measures=("cp",)),
    Peer("cat", "*limit: cat of the archives*", "torch", "limits", measures=("cat",)),
)
SHUFFLED = ("in_place", "stream", "timm", "webdataset", "litdata")
# They write next to nothing, so no memory has to be there for it.
LIGHT = ("in_place", "in_place_2", "in_place_train", "stream", "stream_2", "timm", "pread", "cat")
PARTS = {"eighth": 0.125, "full": 1.0}


class Runner:
    """Runs peers, each in an empty work folder, and keeps what they report."""

    def __init__(self, work: Path, envs: Path, peers: Sequence[Peer]) -> None:
        self.work = work
        self.peers = peers
        names = dict.fromkeys(peer.env for peer in peers)
        self.pythons = {name: common.environment(name, envs) for name in names}
        self.results: dict[str, list[Result]] = {peer.key: [] for peer in peers}
        self.growth: dict[str, dict[str, Result]] = {peer.key: {} for peer in peers}

    def measure(self, peer: Peer, archives: Path, measures: Sequence[str], seed: int = 0) -> Result:
        """Run measures of a peer one after another in a process."""
        python = self.pythons[peer.env]
        if python is None:
            return {"error": "its environment cannot be made on this machine"}
        work = common.empty(self.work / "run")
        options = (*peer.options, "--seed", seed)
        if peer.key not in LIGHT:
            common.touch_memory(archives)
        result = common.run(python, peer.script, measures, archives, work, *options)
        if "error" in result:
            print(f"    {result['error']}", flush=True)
        shutil.rmtree(work)
        return result

    def rounds(self, archives: Path, repeat: int) -> None:
        """Measure every peer once, then again, `repeat` times; reading not in all of them."""
        for number in range(repeat):
            left_out = ("read", "distinct") if number >= common.READING_ROUNDS else ()
            for peer in self.peers:
                if measures := [name for name in peer.measures if name not in left_out]:
                    print(f"{time.strftime('%X')} round {number + 1}: {peer.key}", flush=True)
                    result = self.measure(peer, archives, measures, seed=number)
                    self.results[peer.key].append(result)

    def grow(self, part: str, archives: Path) -> None:
        """Prepare archives with very many members, once; and count classes in batches of those."""
        for peer in self.peers:
            prepared = ("prepare",) if peer.growth else ()
            shuffled = ("distinct",) if peer.key in SHUFFLED and part == "full" else ()
            if prepared or shuffled:
                print(f"{time.strftime('%X')} {part} member count: {peer.key}", flush=True)
                result = self.measure(peer, archives, prepared + shuffled)
                self.growth[peer.key][part] = result


def work_folder(given: Path | None) -> Path:
    """Return a new folder in memory-backed storage where that has 8 GB, or among the temporary."""
    roomy = common.MEMORY.is_dir() and shutil.disk_usage(common.MEMORY).free > 8e9
    return Path(tempfile.mkdtemp(prefix="bench-", dir=given or (common.MEMORY if roomy else None)))


def chosen(names: Sequence[str]) -> list[Peer]:
    """Return the peers asked for; always with this loader, which the others are compared to."""
    return [p for p in PEERS if not names or p.key in names or p.script == "this_loader"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=2.5, help="size of the archives (default 2.5)")
    parser.add_argument("--repeat", type=int, default=2, help="rounds (default 2)")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        choices=[p.key for p in PEERS],
        help="these peers; this loader's rows always run",
    )
    parser.add_argument("--no-growth", action="store_true", help="leave out the member counts")
    parser.add_argument("--envs", type=Path, default=common.HERE / ".envs")
    parser.add_argument("--work", type=Path, help="a folder to work in; a new one there is used")
    parser.add_argument("--out", type=Path, default=common.HERE, help="folder of the results")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that `finally` runs
    work = work_folder(args.work)
    storage = (
        "memory-backed storage" if common.MEMORY in work.parents else "a file system on a disk"
    )
    try:
        runner = Runner(work, args.envs, chosen(args.only))
        python = runner.pythons["torch"]
        if python is None:
            common.fail("this loader's environment cannot be made")
        common.make_archives(python, work / "archives", "--gb", str(args.gb))
        size = sum(path.stat().st_size for path in (work / "archives").iterdir())
        runner.rounds(work / "archives", args.repeat)
        shutil.rmtree(work / "archives")
        for part, share in {} if args.no_growth else PARTS.items():
            common.make_archives(python, work / part, "--members", "--part", str(share))
            runner.grow(part, work / part)
            shutil.rmtree(work / part)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    write(args, runner, size, storage)


def told(args: argparse.Namespace) -> str:
    """Return the command that measures the same, without the folders of this machine."""
    options = [f"--gb {args.gb:g} --repeat {args.repeat}"]
    options += [f"--only {' '.join(args.only)}"] * bool(args.only)
    options += ["--no-growth"] * args.no_growth
    return " ".join(["python benchmarks/bench.py", *options])


def write(args: argparse.Namespace, runner: Runner, size: int, storage: str) -> None:
    """Write the figures, the tables and the plot."""
    found: dict[str, Any] = {
        "machine": common.machine(),
        "command": told(args),
        "commit": common.commit(),
        "storage": storage,
        "pins": {name: list(pins) for name, pins in common.PINS.items()},
        "archives": size,
        "repeat": args.repeat,
        "titles": {peer.key: peer.title for peer in runner.peers},
        "results": runner.results,
        "growth": runner.growth,
    }
    figures = args.out / "results.json"
    figures.write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "results.md").write_text(report.tables(found))
    if python := common.environment("plot", args.envs):
        command = [python, common.HERE / "plot.py", figures, args.out / "results.png"]
        subprocess.run(command, check=False)
    print(f"wrote results.md, results.json and results.png in {args.out}")


if __name__ == "__main__":
    main()
