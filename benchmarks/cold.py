"""Measure reading from cold storage, local and far, beside loops of nothing but system calls.

    PYTHONPATH=CHECKOUT python benchmarks/cold.py [--quick] [--repeat 3] [--only index mixed ...]

CHECKOUT is the loader that is measured; without it, the one that this file belongs to. The Python
that runs this measures: it needs `datasets`; for the `DataLoader` rows, `torch` (and `simplejpeg`);
for the far rows, Debian's `fuse3`. ``--keep FOLDER`` makes the archives once and leaves them there.
The folder must be on a disk: in a memory-backed file system no page is ever cold.

Before each measurement the archives' pages are dropped from the page cache. "Far" is the same disk
through a file system that answers each read 1 ms later (far.py). There are two archives:

    sparse    the official size and number of members; only headers and the first 16 images of
              each class are on disk (7 GB), which are those that the first region in mixed order
              reads. ``--quick`` has a tenth of the classes.
    true      32 classes, 2.3 GB (``--quick``: 0.5 GB), every image written.

Figures are medians of the rounds, in which all rows take turns; after ``x`` comes the time as a
multiple of that of the first loop of each table in the same storage.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import NamedTuple

import common
import far
import make_archives
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
    """

    title: str
    script: str
    measure: str
    variant: str = ""
    env: str = "torch"
    prepared: bool = False
    once: bool = False


class Group(NamedTuple):
    """Rows that do the same work.

    Attributes
    ----------
    title, unit : str
    local, far : str
        The archives that are read in each storage.
    count : int
        Images that are read; 0 for all.
    rows : dict of Row
        By the key of `bench.PEERS`, where the peer has one. The first limit is what all the others
        are compared with.
    prepares : bool
        Whether this is what must be done before the first use.
    """

    title: str
    unit: str
    local: str
    far: str
    count: int
    rows: dict[str, Row]
    prepares: bool = False


OURS = "this_loader"
GROUPS = {
    "index": Group(
        "Index in place, of train",
        "µs a member",
        local="sparse",
        far="true",
        count=0,
        prepares=True,
        rows={
            "in_place": Row("**this loader, in place**", OURS, "prepare", "in_place:train"),
            "timm": Row("timm ReaderImageInTar", "timm_tar", "prepare", once=True),
            "limit": Row("*limit: a header after another*", "limits", "headers"),
            "limit_32": Row("*limit: 32 headers under way*", "limits", "headers_under_way"),
        },
    ),
    "mixed": Group(
        "Streaming in mixed order, undecoded",
        "µs an image",
        local="sparse",
        far="sparse",
        count=10_000,
        rows={
            "mixed": Row("**this loader, streaming, mixed order**", OURS, "passed", "mixed"),
            "limit": Row("*limit: a header and an image after another*", "limits", "mixed"),
            "limit_pieces": Row(
                "*limit: pieces of 512 KiB under way*", "limits", "mixed_announced"
            ),
        },
    ),
    "archive": Group(
        "Streaming train in archive order, undecoded",
        "µs an image",
        local="true",
        far="true",
        count=0,
        rows={
            "stream": Row("**this loader, streaming, archive order**", OURS, "passed", "stream"),
            "limit": Row("*limit: cat*", "limits", "cat", "train"),
        },
    ),
    "copy": Group(
        "Copy of train and validation",
        "µs an image",
        local="true",
        far="true",
        count=0,
        prepares=True,
        rows={
            "copy": Row("**this loader, copy**", OURS, "prepare", "copy"),
            "tfds": Row("TensorFlow Datasets", "tfds_builder", "prepare", env="tf", once=True),
            "nested": Row("plain builder on nested tarfile", "nested_tarfile", "prepare"),
            "limit": Row("*limit: cp*", "limits", "cp"),
        },
    ),
    "loader": Group(
        "`DataLoader` in place, two workers, batches of 64",
        "images a second",
        local="true",
        far="true",
        count=2048,
        rows={
            "in_place": Row(
                "**this loader, in place**", OURS, "loader", "in_place:train", prepared=True
            ),
            "fast": Row(
                "**this loader, in place, [fast decoding](../docs/recipes.md)**",
                OURS,
                "loader",
                "fast:train",
                prepared=True,
            ),
            "timm": Row("timm ReaderImageInTar", "timm_tar", "loader", prepared=True),
            "limit": Row("*limit: bare pread and Pillow*", "limits", "loader", prepared=True),
        },
    ),
}


class Cold:
    """Archives on a disk and behind a slow file system."""

    def __init__(self, roots: dict[str, Path], pythons: common.Pythons, quick: bool) -> None:
        self.roots = roots
        self.pythons = pythons
        self.share = 0.1 if quick else 1.0

    def forget(self) -> None:
        """Make all archives cold."""
        for root in self.roots.values():
            for path in root.glob("*/*.tar"):
                make_archives.forget(path)

    def run(self, row: Row, measure: str, archives: Path, work: Path, count: int) -> Result:
        self.forget()
        python, options = self.pythons.get(row.env), ("--variant", row.variant, "--count", count)
        return common.run(python, row.script, [measure], archives, work, *options)

    def measure(self, group: Group, row: Row, storage: str) -> Result:
        """Measure a row in one storage, with an empty work folder."""
        archives = self.roots[storage] / getattr(group, storage)
        with tempfile.TemporaryDirectory(dir=common.memory(4e9)) as folder:
            if row.prepared:
                made = self.run(row, "prepare", archives, Path(folder), 1)
                if "error" in made:
                    return made
            # Images in a sparse archive cannot be decoded: with a count, preparing does not try it.
            count = round(group.count * self.share) or int(row.measure == "prepare")
            result = self.run(row, row.measure, archives, Path(folder), count)
        if row.measure in ("cp", "cat"):
            result["images"] = true_images(self.share)[row.variant]
        return result


def true_images(share: float) -> dict[str, int]:
    """Return how many images the true archives have: of train, and in all."""
    count = round(true_size(share) * 1e9 / make_archives.MEAN_BYTES)
    return {"train": count - count // 10, "": count}


def true_size(share: float) -> float:
    return 2.3 if share == 1 else 0.5


def measured(
    pythons: common.Pythons,
    names: Sequence[str],
    repeat: int,
    quick: bool,
    keep: Path | None = None,
    once: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure groups in turns; those named in `once` in the first round only."""
    disk = keep or Path(tempfile.mkdtemp(prefix="cold-", dir="/var/tmp"))
    away = Path(tempfile.mkdtemp(prefix="far-"))
    results: dict[str, Any] = {name: described(GROUPS[name]) for name in names}
    try:
        make(disk, pythons["torch"], quick)
        with far.mounted(disk, away / "mount") as mount:
            roots = {"local": disk} | ({"far": mount} if mount else {})
            cold = Cold(roots, pythons, quick)
            for number in range(repeat):
                for name in names if number == 0 else [n for n in names if n not in once]:
                    for key, row in GROUPS[name].rows.items():
                        for storage in roots if number == 0 or not row.once else ():
                            result = cold.measure(GROUPS[name], row, storage)
                            print(f"round {number + 1}: {name} {storage}: {told(row, result)}")
                            rounds = results[name]["rounds"].setdefault(key, {})
                            rounds.setdefault(storage, []).append(result)
    finally:
        shutil.rmtree(away)
        if not keep:
            shutil.rmtree(disk)
    return results


def make(folder: Path, python: Path | None, quick: bool) -> None:
    """Make both archives, unless they are there."""
    options = {
        "sparse": ("--sparse", "--classes", "100" if quick else "1000"),
        "true": ("--gb", str(true_size(0.1 if quick else 1)), "--classes", "32"),
    }
    for name, more in options.items():
        if not (folder / name).exists():
            common.make_archives(python, folder / name, *more)


def described(group: Group) -> dict[str, Any]:
    """Return what the tables need to know of a group."""
    return {
        "title": group.title,
        "unit": group.unit,
        "prepares": group.prepares,
        "titles": {key: row.title for key, row in group.rows.items()},
        "rounds": {},
    }


def told(row: Row, result: Result) -> str:
    """Say a result in a line."""
    if "error" in result:
        return f"{row.title}: {result['error']}"
    each = result["seconds"] / result["images"] * 1e6
    return f"{row.title}: {result['seconds']:.2f} s, {each:,.0f} µs each of {result['images']:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller archives, fewer images")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--keep", type=Path, help="folder of the archives, made if need be, kept")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    python = Path(sys.executable)
    results = measured({"torch": python}, args.only, args.repeat, args.quick, args.keep)
    print(report.cold({"cold": results}))


if __name__ == "__main__":
    main()
