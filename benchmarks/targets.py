"""Measure this loader against the targets set for it, and print ratios and pass or fail.

    python benchmarks/targets.py [--images 26000] [--repeat 5] [--work FOLDER] [--only WORD ...]

Makes archives of 26,000 images of about 110 KB in memory-backed storage where there is some, and
archives with the full number of members. What is compared runs in turns, in processes of its own,
several times; a ratio is the median of those of the rounds. Exits with 1 if a target is missed.

One process copies about as fast as two: while it writes a batch, it reads the next.
"""

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
from common import Result
from common import empty
from common import median

MB = 1e6


class Runs(list[dict[str, Result]]):
    """What was measured in each round, by name."""

    def of(self, name: str, key: str = "seconds") -> list[float]:
        """Return one figure of every round in which it was measured."""
        return [one[name][key] for one in self if key in one[name]]

    def ratio(self, name: str, other: str) -> float:
        """Return the median of the rounds' ratios, which slow changes of the machine cancel in."""
        pairs = [one for one in self if "seconds" in one[name] and "seconds" in one[other]]
        ratios = [one[name]["seconds"] / one[other]["seconds"] for one in pairs]
        return median(ratios) if ratios else math.nan

    def show(self, name: str) -> None:
        """Print the figures of one name."""
        if seconds := self.of(name):
            print(
                f"  {name:26} {median(seconds):6.2f} s  ({common.spread(seconds)}; "
                f"cpu {median(self.of(name, 'cpu')):.2f})  "
                f"{max(self.of(name, 'peak')) / MB:5.0f} MB of memory, "
                f"{max(self.of(name, 'disk')) / MB:7.1f} MB of disk"
            )


class Bench:
    """Runs of the peers on one pair of archives, and the targets checked so far."""

    def __init__(self, work: Path, envs: Path, repeat: int) -> None:
        self.work = work
        self.repeat = repeat
        self.missed = 0
        self.hf = common.environment("hf", envs) or sys.exit("no environment for the loader")
        self.torch = common.environment("torch", envs)

    def run(self, archives: Path, peer: str, measure: str, *args: object, keep: str = "") -> Result:
        """Run one measure in an empty work folder, or in one that is kept under a name."""
        python = self.torch if peer == "timm_tar" or measure == "dataloader" else self.hf
        if python is None:
            return {"error": "no environment"}
        folder = self.work / f"run_{keep}"
        folder = folder if keep and folder.exists() else empty(folder)
        common.touch_memory(archives)
        result = common.run(python, peer, [measure], archives, folder, *args)
        if not keep:
            shutil.rmtree(folder)
        if "error" in result:
            print(f"  {peer} {measure}: {result['error']}")
        return result

    def alternate(self, archives: Path, runs: dict[str, tuple[object, ...]]) -> Runs:
        """Run each in turn, `repeat` times."""
        rounds = Runs()
        for _ in range(self.repeat):
            one = {}
            for name, (peer, measure, *args) in runs.items():
                one[name] = self.run(archives, str(peer), str(measure), *args)
            rounds.append(one)
        for name in runs:
            rounds.show(name)
        return rounds

    def check(self, what: str, value: float, limit: float, at_least: bool = False) -> None:
        """Print a figure beside its target; what could not be measured is neither."""
        if math.isnan(value):
            print(f"-       {what}: not measured")
            return
        passed = value >= limit if at_least else value <= limit
        self.missed += not passed
        sign = ">=" if at_least else "<="
        word = "pass" if passed else "MISSED"
        print(f"{word:7} {what}: {value:.2f} (target {sign} {limit:g})", flush=True)


def preparation(bench: Bench, archives: Path) -> None:
    """Copy beside `cp`, a nested tarfile builder, and in place beside timm's index."""
    done = bench.alternate(
        archives,
        {
            "cp": ("limits", "cp"),
            "copy": ("this_loader", "prepare", "--variant", "copy"),
            "copy, 2 processes": ("this_loader", "prepare", "--variant", "copy", "--procs", 2),
            "nested tarfile builder": ("nested_tarfile", "prepare"),
            "in place": ("this_loader", "prepare", "--variant", "in_place"),
            "in place, 2 processes": (
                "this_loader",
                "prepare",
                "--variant",
                "in_place",
                "--procs",
                2,
            ),
            "in place, train only": ("this_loader", "prepare", "--variant", "in_place:train"),
            "timm's index, train only": ("timm_tar", "prepare"),
        },
    )
    bench.check("copy / cp", done.ratio("copy", "cp"), 1.5)
    bench.check("copy / nested tarfile builder", done.ratio("copy", "nested tarfile builder"), 0.85)
    two = "copy, 2 processes"
    bench.check("copy with two processes / cp", done.ratio(two, "cp"), 1.5)
    peak = max(done.of("copy", "peak") + done.of(two, "peak"))
    bench.check("peak memory of the copy, MB", peak / MB, 400)
    bench.check("copy / in place", done.ratio("copy", "in place"), 4, at_least=True)
    ratio = done.ratio("in place, train only", "timm's index, train only")
    bench.check("in place / timm's index", ratio, 1)


def streaming(bench: Bench, archives: Path) -> None:
    """Streaming, not decoded, beside a bare loop of `pread`."""
    runs = {
        "streaming": ("this_loader", "stream_all", "--variant", "stream"),
        "pread": ("limits", "pread_all"),
    }
    done = bench.alternate(archives, runs)
    bench.check("streaming undecoded / pread", done.ratio("streaming", "pread"), 3)


def random_access(bench: Bench, archives: Path) -> None:
    """Single images in place, beside `pread` and Pillow in the same process."""
    limits = {"undecoded": 3.0, "decoded": 1.1}
    counts = {"undecoded": 5000, "decoded": 1000}
    for measure, limit in limits.items():
        ours, bare = [], []
        for seed in range(bench.repeat):
            done = bench.run(
                archives,
                "side_by_side",
                measure,
                "--seed",
                seed,
                "--count",
                counts[measure],
                keep="in_place",
            )
            if "error" not in done:
                ours.append(done["ours"])
                bare.append(done["bare"])
        if not ours:
            continue
        print(
            f"  one image {measure}: {median(ours) * 1e6:.1f} us, bare {median(bare) * 1e6:.1f} us"
        )
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        bench.check(
            f"one image in place {measure} / bare ({common.spread(ratios)})", median(ratios), limit
        )
    shutil.rmtree(bench.work / "run_in_place", ignore_errors=True)


def data_loader(bench: Bench, archives: Path) -> None:
    """Read by a `DataLoader` of two workers, beside one on bare `pread` and Pillow."""
    for variant in ("copy", "in_place", "stream"):
        ratios = []
        for _ in range(bench.repeat):
            options = ("--variant", variant)
            done = bench.run(archives, "this_loader", "dataloader", *options, keep=variant)
            if "error" not in done:
                ratios.append(done["seconds"] / done["bare"])
        if ratios:
            what = f"DataLoader, {variant} / bare ({common.spread(ratios)})"
            bench.check(what, median(ratios), 1.05)
        shutil.rmtree(bench.work / f"run_{variant}", ignore_errors=True)


def full_count(bench: Bench, archives: Path) -> None:
    """Index as many members as the original archives have."""
    name = "in place, 2 processes"
    runs = {name: ("this_loader", "prepare", "--variant", "in_place", "--procs", 2)}
    done = bench.alternate(archives, runs)
    bench.check("full count in place, 2 processes, s", median(done.of(name)), 45)
    peak = max(done.of(name, "peak")) / MB
    bench.check("full count, peak memory per process, MB", peak, 500)
    bench.check("full count, cache, MB", max(done.of(name, "disk")) / MB, 300)


GROUPS: dict[str, Callable[[Bench, Path], None]] = {
    "preparation": preparation,
    "streaming": streaming,
    "random_access": random_access,
    "data_loader": data_loader,
    "full_count": full_count,
}


def archives_for(group: str, work: Path, images: int, python: Path) -> Path:
    """Make the archives that a group needs; one pair is kept at a time."""
    folder = work / ("members" if group == "full_count" else "archives")
    if not folder.exists():
        for old in ("members", "archives"):
            shutil.rmtree(work / old, ignore_errors=True)
        sizes = ["--members"] if group == "full_count" else ["--images", str(images)]
        common.make_archives(python, folder, *sizes)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=26_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--work", type=Path, help="folder for archives and caches, emptied after")
    parser.add_argument("--keep", action="store_true", help="leave the archives there")
    parser.add_argument("--envs", type=Path, default=common.HERE / ".envs")
    args = parser.parse_args()
    memory = common.MEMORY if common.MEMORY.is_dir() else None
    work = args.work or Path(tempfile.mkdtemp(dir=memory))
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work, args.envs, args.repeat)
    print(common.machine())
    try:
        for group in args.only:
            print(f"\n{group}")
            GROUPS[group](bench, archives_for(group, work, args.images, bench.hf))
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if bench.missed else 0)


if __name__ == "__main__":
    main()
