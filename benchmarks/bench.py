"""Measure this loader and its peers on the same archives: writes results.md, .json and .png.

    python benchmarks/bench.py [--gb 2.5] [--repeat 3] [--only NAME ...] [--no-cold]

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
from pathlib import Path
from typing import Any
from typing import NamedTuple

import cold
import common
import report
from common import Result


class Peer(NamedTuple):
    """What is run for a row of the tables: measures of a script of `peers/`, in an environment."""

    title: str
    env: str
    script: str
    measures: tuple[str, ...] = ("prepare", "read")
    options: tuple[str, ...] = ()


def ours(title: str, variant: str, *options: str, read: bool = False) -> Peer:
    measures = ("prepare", "read") if read else ("prepare",)
    return Peer(f"**{title}**", "torch", "this_loader", measures, ("--variant", variant, *options))


PEERS = {
    "copy": ours("this loader, copy", "copy", read=True),
    "copy_2": ours("this loader, copy, 2 processes", "copy", "--procs", "2"),
    "in_place": ours("this loader, in place", "in_place", read=True),
    "in_place_2": ours("this loader, in place, 2 processes", "in_place", "--procs", "2"),
    "stream": ours("this loader, streaming", "stream", read=True),
    "stream_2": ours("this loader, streaming, decoding in 2 threads", "threads", read=True),
    "in_place_train": ours("this loader, in place, train only", "in_place:train"),
    "copy_val": ours("this loader, copy, validation only", "copy:validation"),
    "tfds": Peer("TensorFlow Datasets", "tf", "tfds_builder"),
    "torchvision": Peer("torchvision, extracted", "torch", "torchvision_folder"),
    "imagefolder": Peer("datasets `imagefolder`, extracted", "torch", "hf_imagefolder"),
    "hf_webdataset": Peer("datasets `webdataset`, validation only", "torch", "hf_webdataset"),
    "timm": Peer("timm ReaderImageInTar, train only", "torch", "timm_tar"),
    "webdataset": Peer("webdataset, converted", "torch", "webdataset_shards"),
    "litdata": Peer("litdata, converted, 2 processes", "torch", "litdata_chunks"),
    "nested": Peer("plain builder on nested tarfile", "torch", "nested_tarfile"),
    "pread": Peer("*limit: bare pread and Pillow*", "torch", "limits", ("read",)),
    "cp": Peer("*limit: cp of the archives*", "torch", "limits", ("cp",)),
    "cat": Peer("*limit: cat of the archives*", "torch", "limits", ("cat",)),
}
READING_ROUNDS = 2  # of two turns each


def from_memory(
    archives: Path, work: Path, pythons: common.Pythons, chosen: list[str], repeat: int
) -> dict[str, list[Result]]:
    """Measure every peer once, then again, `repeat` times; reading not in all rounds."""
    results: dict[str, list[Result]] = {key: [] for key in chosen}
    for number in range(repeat):
        for key in chosen:
            peer = PEERS[key]
            left_out = ("read",) if number >= READING_ROUNDS else ()
            if measures := [name for name in peer.measures if name not in left_out]:
                print(f"{time.strftime('%X')} round {number + 1}: {key}", flush=True)
                common.touch_memory(archives)
                options = (*peer.options, "--seed", number)
                folder = common.empty(work / "run")
                result = common.run(
                    pythons.get(peer.env), peer.script, measures, archives, folder, *options
                )
                print(f"    {result['error']}\n" if "error" in result else "", end="", flush=True)
                results[key].append(result)
                shutil.rmtree(folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=2.5, help="size of the archives (default 2.5)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--only", nargs="+", default=list(PEERS), choices=PEERS, help="these peers")
    parser.add_argument("--no-cold", action="store_true", help="measure from memory only")
    parser.add_argument("--quick", action="store_true", help="smaller archives for the cold rows")
    parser.add_argument("--envs", type=Path, default=common.HERE / ".envs")
    parser.add_argument("--out", type=Path, default=common.HERE, help="folder of the results")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that `finally` runs
    pythons = {name: common.environment(name, args.envs) for name in common.PINS}
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=common.memory(8e9)))
    try:
        common.make_archives(pythons["torch"], work / "archives", "--gb", str(args.gb))
        results = from_memory(work / "archives", work, pythons, args.only, args.repeat)
        size = sum(path.stat().st_size for path in (work / "archives").iterdir())
    finally:
        shutil.rmtree(work)
    found: dict[str, Any] = {
        "machine": common.machine(),
        "command": " ".join(["python", "benchmarks/bench.py", *sys.argv[1:]]),
        "commit": common.commit(),
        "storage": "memory-backed storage" if common.memory(0) else "a file system on a disk",
        "pins": common.PINS,
        "archives": size,
        "titles": {key: PEERS[key].title for key in args.only},
        "results": results,
    }
    if not args.no_cold:
        found["cold"] = cold.measured(
            pythons, list(cold.GROUPS), args.repeat, args.quick, once=["index"]
        )
    (args.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    report.write(args.out)
    if python := pythons["plot"]:
        names = [args.out / "results.json", args.out / "results.png"]
        subprocess.run([python, common.HERE / "plot.py", *names], check=False)
    print(f"wrote results.md, results.json and results.png in {args.out}; the README's table is")
    print("written by `python benchmarks/report.py`")


if __name__ == "__main__":
    main()
