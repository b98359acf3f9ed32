"""Measure this loader, its peers and the limits: writes results.md and results.json.

    PYTHONPATH=CHECKOUT python benchmarks/bench.py [--quick] [--repeat 2] [--only index mixed ...]

Every row runs in processes of its own, in an environment with pinned versions that this script
makes, through its public interface, in turns: all of them once, then all of them again. CHECKOUT is
the loader that is measured; without it, the one that this file belongs to. With ``--here``, the
Python that runs this measures instead of the environments, and the results are printed only: it
needs `datasets`, and what the peers are, for the rows with them. ``--keep FOLDER`` makes the
archives once and leaves them there, on a disk. See README.md beside this file for what is measured.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from typing import NamedTuple

import common
import far
import report
from common import Result


class Row(NamedTuple):
    """What is run for a row: a measure of a script of `peers/`.

    Attributes
    ----------
    title, script, measure, variant, env : str
    prepared : bool
        Whether it reads what the same script has prepared before, which is not timed.
    once : bool
        Whether one round of it is enough, as it takes long.
    archives : str
        Archives that it reads instead of its group's.
    """

    title: str
    script: str
    measure: str
    variant: str = ""
    env: str = "torch"
    prepared: bool = False
    once: bool = False
    archives: str = ""


class Group(NamedTuple):
    """Rows that do the same work.

    Attributes
    ----------
    title, unit : str
    rows : dict of Row
        The row `limit` is what the others are compared with.
    count : int
        Images that are read; 0 for all.
    local, far, memory : str
        The archives that are read in each storage.
    """

    title: str
    unit: str
    rows: dict[str, Row]
    count: int = 0
    local: str = "true"
    far: str = "true"
    memory: str = "true"
    storages: tuple[str, ...] = ("local", "far", "memory")


def batches(title: str, mine: dict[str, Row], archives: str) -> Group:
    """Return the group of those who make training batches of extracted images."""
    peers = {
        "image_folder": Row("torchvision ImageFolder", "batches", "batches", "image_folder"),
        "timm": Row("timm", "batches", "batches", "timm"),
        "webdataset": Row("webdataset", "batches", "batches", "webdataset", prepared=True),
        "tensorflow": Row(
            "tf.data, decode_and_crop_jpeg", "batches", "batches", "tensorflow", env="tf"
        ),
        "ffcv": Row("FFCV", "batches", "batches", "ffcv", env="ffcv", prepared=True),
    }
    rows = {**mine, **peers}
    storages = ("memory",)
    return Group(title, "images a second", rows, 5120, memory=archives, storages=storages)


OURS = "this_loader"
GROUPS = {
    "index": Group(
        "Index in place, of train",
        "µs a member",
        {
            "in_place": Row("**this loader, in place**", OURS, "prepare", "in_place:train"),
            # It reads the images, too: half an hour for the official size.
            "timm": Row("timm ReaderImageInTar", "timm_tar", "prepare", once=True, archives="true"),
            "limit": Row("*limit: a header after another*", "limits", "headers"),
            "limit_32": Row("*limit: 32 headers under way*", "limits", "headers_under_way"),
        },
        local="sparse",
    ),
    "tree": Group(
        "Extracted images in place, of train",
        "µs an image",
        {
            "in_place": Row("**this loader, in place**", OURS, "prepare", "in_place:train"),
            "imagefolder": Row("datasets' imagefolder", "image_folder", "prepare", once=True),
            "limit": Row("*limit: find*", "limits", "find"),
        },
        local="tree",
        far="tree",
        memory="tree",
    ),
    "mixed": Group(
        "Streaming train in mixed order, undecoded",
        "µs an image",
        {
            "mixed": Row("**this loader, mixed order**", OURS, "passed", "mixed"),
            "limit": Row("*limit: a header and an image after another*", "limits", "mixed"),
            "limit_pieces": Row(
                "*limit: pieces of 512 KiB under way*", "limits", "mixed_announced"
            ),
        },
        count=10_000,
        local="sparse",
        far="sparse",
    ),
    "archive": Group(
        "Streaming train in archive order, undecoded",
        "µs an image",
        {
            "stream": Row("**this loader, archive order**", OURS, "passed", "stream"),
            "limit": Row("*limit: cat*", "limits", "cat", "train"),
        },
    ),
    "copy": Group(
        "Copying or converting train and validation",
        "µs an image",
        {
            "copy": Row("**this loader, copy**", OURS, "prepare", "copy"),
            "copy_2": Row("**this loader, copy, 2 processes**", OURS, "prepare", "copy*2"),
            "tfds": Row("TensorFlow Datasets", "tfds_builder", "prepare", env="tf", once=True),
            "torchvision": Row(
                "torchvision, extracted", "torchvision_folder", "prepare", once=True
            ),
            "webdataset": Row("webdataset, converted", "webdataset_shards", "prepare", once=True),
            "nested": Row("plain builder on nested tarfile", "nested_tarfile", "prepare"),
            "limit": Row("*limit: cp*", "limits", "cp"),
        },
    ),
    "random": Group(
        "Decoded images at random, in place",
        "µs an image",
        {
            "in_place": Row("**this loader**", OURS, "random", "in_place:train", prepared=True),
            "timm": Row("timm ReaderImageInTar", "timm_tar", "random", prepared=True, once=True),
            "limit": Row("*limit: bare pread and Pillow*", "limits", "random", prepared=True),
        },
        count=512,
    ),
    "loader": Group(
        "`DataLoader`, two workers, batches of 64",
        "images a second",
        {
            "in_place": Row("**this loader**", OURS, "loader", "in_place:train", prepared=True),
            "mixed": Row("**this loader, streaming, mixed order**", OURS, "loader", "mixed"),
            "timm": Row("timm ReaderImageInTar", "timm_tar", "loader", prepared=True, once=True),
            "limit": Row("*limit: bare pread and Pillow*", "limits", "loader", prepared=True),
        },
        count=1280,
    ),
    "batches": batches(
        "Training batches of originals, two workers",
        {
            "in_place": Row(
                "**this loader, in place**", "batches", "batches", "in_place", archives="true"
            ),
            "pillow": Row(
                "this loader, images of Pillow", "batches", "batches", "pillow", archives="true"
            ),
        },
        "tree",
    ),
    "batches_256": batches(
        "Training batches of images at 256 pixels, two workers",
        {"export": Row("**this loader, export**", "batches", "batches", "export", archives="256")},
        "tree-256",
    ),
    "batches_cold": Group(
        "Training batches of originals from a cold disk, two workers",
        "images a second",
        {
            "in_place": Row(
                "**this loader, in place**", "batches", "batches", "in_place", prepared=True
            ),
            "stream": Row("**this loader, streaming**", "batches", "batches", "stream"),
        },
        count=5120,
        storages=("local",),
    ),
}


class Bench:
    """Archives on a disk, behind a slow file system, and in memory."""

    def __init__(self, roots: dict[str, Path], pythons: common.Pythons, quick: bool) -> None:
        self.roots = roots
        self.pythons = pythons
        self.quick = quick

    def run(self, row: Row, measure: str, archives: Path, work: Path, count: int) -> Result:
        """Run a script on archives that are cold: those in memory stay there."""
        for root in self.roots.values():
            for path in root.glob("*/*.tar"):
                common.forget(path)
        python, options = self.pythons.get(row.env), ("--variant", row.variant, "--count", count)
        return common.run(python, row.script, measure, archives, work, *options)

    def measure(self, group: Group, row: Row, storage: str) -> Result:
        """Measure a row in one storage, with an empty work folder."""
        archives = self.roots[storage] / (row.archives or getattr(group, storage))
        common.touch_memory(archives, row.measure in ("prepare", "cp"))
        with tempfile.TemporaryDirectory(dir=common.memory(4e9)) as folder:
            if row.prepared:
                made = self.run(row, "prepare", archives, Path(folder), 0)
                if "error" in made:
                    return made
            count = group.count // (4 if self.quick else 1)
            # In mixed order, no more than what is written of each class of the sparse archive.
            count = 1000 if self.quick and group.count == 10_000 else count
            result = self.run(row, row.measure, archives, Path(folder), count)
        if row.measure in ("cp", "cat"):
            facts = json.loads((archives / "facts.json").read_text())
            result["images"] = sum(n for name, (_, n) in facts.items() if row.variant in name)
        return result

    def turns(self, names: list[str], number: int) -> Iterator[tuple[str, str, str]]:
        """Yield group, row and storage of what is measured in a round."""
        for name in names:
            for key, row in GROUPS[name].rows.items():
                for storage in self.roots:
                    wanted = storage in GROUPS[name].storages
                    if wanted and (number == 0 or not row.once):
                        yield name, key, storage


def measured(
    pythons: common.Pythons, names: list[str], repeat: int, quick: bool, keep: Path | None
) -> dict[str, Any]:
    """Measure groups in turns."""
    found: dict[str, Any] = {
        name: {"title": group.title, "unit": group.unit, "rounds": {}}
        | {"titles": {key: row.title for key, row in group.rows.items()}}
        for name, group in ((name, GROUPS[name]) for name in names)
    }
    with ExitStack() as stack:

        def new(parent: Path | str | None) -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory("-bench", dir=parent)))

        disk = keep or new("/var/tmp")
        needed = archives_of(names)
        make(disk, pythons["torch"], quick, needed)
        mount = stack.enter_context(far.mounted(disk, new(None) / "mount"))
        roots = {"local": disk} | ({"far": mount} if mount else {})
        if memory := common.memory(8e9):
            roots["memory"] = new(memory)
            for name in sorted(needed - {"sparse"}):
                shutil.copytree(disk / name, roots["memory"] / name)
        bench = Bench(roots, pythons, quick)
        for number in range(repeat):
            for name, key, storage in bench.turns(names, number):
                row = GROUPS[name].rows[key]
                result = bench.measure(GROUPS[name], row, storage)
                print(f"round {number + 1}: {name} {storage}: {told(row, result)}", flush=True)
                rounds = found[name]["rounds"].setdefault(key, {})
                rounds.setdefault(storage, []).append(result)
    return found


def archives_of(names: list[str]) -> set[str]:
    """Return the archives and trees that groups read."""
    found = set()
    for group in (GROUPS[name] for name in names):
        found |= {getattr(group, storage) for storage in group.storages}
        found |= {row.archives for row in group.rows.values() if row.archives}
    return found


def make(folder: Path, python: Path | None, quick: bool, needed: set[str]) -> None:
    """Make what is needed, and is not there yet."""
    true = ("--gb", "0.5" if quick else "2.3", "--classes", "32")
    if not (folder / "true").exists():
        common.make_archives(python, folder / "true", *true)
    if "sparse" in needed and not (folder / "sparse").exists():
        sparse = ("--sparse", "--classes", "100" if quick else "1000")
        common.make_archives(python, folder / "sparse", *sparse)
    if "tree" in needed and not (folder / "tree").exists():
        common.extract(folder / "true" / "ILSVRC2012_img_train.tar", folder / "tree" / "train")
    if "256" in needed and not (folder / "256").exists():
        common.make_export(python, folder / "true", folder / "256", folder / "tree-256")


def told(row: Row, result: Result) -> str:
    """Say a result in a line."""
    if "error" in result:
        return f"{row.title}: {result['error']}"
    each = result["seconds"] / result["images"] * 1e6
    return f"{row.title}: {result['seconds']:.2f} s, {each:,.0f} µs each of {result['images']:,}"


def asked(args: argparse.Namespace) -> str:
    """Return the command that measures the same, without the folders of this machine."""
    options = ["--quick"] * args.quick + [f"--repeat {args.repeat}"]
    options += [f"--only {' '.join(args.only)}"] * (args.only != list(GROUPS))
    return " ".join(["python benchmarks/bench.py", *options])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller archives, fewer images")
    parser.add_argument("--repeat", type=int, default=2, help="rounds (default 2)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups")
    parser.add_argument("--keep", type=Path, help="folder of the archives, made if need be, kept")
    parser.add_argument("--here", action="store_true", help="measure with this Python, and print")
    parser.add_argument("--envs", type=Path, default=common.HERE / ".envs")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that all is removed
    pythons: dict[str, Path | None] = {"torch": Path(sys.executable)}
    if not args.here:
        pythons = {name: common.environment(name, args.envs) for name in common.PINS}
    made = f"`{asked(args)}` at {common.commit()} on {common.machine()}"
    groups = measured(pythons, args.only, args.repeat, args.quick, args.keep)
    groups = {name: {"made": made, **group} for name, group in groups.items()}
    if args.here:
        print(report.groups(groups))
        return
    kept = common.HERE / "results.json"
    before = json.loads(kept.read_text())["groups"] if kept.exists() else {}
    every = {**before, **groups}
    groups = {name: every[name] for name in GROUPS if name in every}
    kept.write_text(json.dumps({"pins": common.PINS, "groups": groups}, indent=1) + "\n")
    report.write()


if __name__ == "__main__":
    main()
