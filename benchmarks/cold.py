"""Measure reading from cold storage, local and far, beside loops of nothing but system calls.

    PYTHONPATH=CHECKOUT python benchmarks/cold.py [--quick] [--repeat 3] [--only index mixed ...]

CHECKOUT is the loader that is measured; without it, the one that this file belongs to. The Python
that runs this measures: it needs `datasets`; for the `DataLoader` rows, `torch` (and `simplejpeg`);
for the far rows, `mfusepy` and libfuse 3. `--keep FOLDER` makes the archives once and leaves them
there. Give that a folder on a disk: pages of a memory-backed file system are never cold.

Before each measurement the archives' pages are dropped from the page cache. "Far" is the same disk
through a file system that answers each read 1 ms later (far.py). There are two archives:

    sparse    the official size and number of members; only headers and the first 16 images of
              each class are on disk (7 GB), which are those that the first region in mixed order
              reads. `--quick` has a tenth of the classes.
    true      32 classes, 2.3 GB (`--quick`: 0.5 GB), every image written.

Figures are medians of `--repeat` rounds, in which all rows take turns; and the ratio to the first
loop of each group in the same storage. Full: 25 minutes with the loader as it was before it kept
reads under way. `--quick --repeat 1`: about 3 minutes.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import common
import far
import make_archives
import report
from common import Result


class Row(NamedTuple):
    """What is run for a row of the tables.

    Attributes
    ----------
    title, env, script, measure : str
        Of a peer; see `bench.Peer`.
    options : tuple of str
        Passed to the script.
    prepared : bool
        Whether it reads what the row before it in its group left in the work folder.
    """

    title: str
    script: str
    measure: str
    options: tuple[str, ...] = ()
    env: str = "torch"
    prepared: bool = False


def ours(title: str, measure: str, variant: str, **more: bool) -> Row:
    return Row(f"**this loader{title}**", "this_loader", measure, ("--variant", variant), **more)


class Group(NamedTuple):
    """Rows that do the same work, of which the last is the loop that the others stand beside.

    Attributes
    ----------
    title, unit : str
    local, far : str
        The archives that are read in each storage.
    count : int
        Images that are read; 0 for all.
    rows : tuple of Row
    """

    title: str
    unit: str
    local: str
    far: str
    count: int
    rows: tuple[Row, ...]


GROUPS = {
    "index": Group(
        "Index in place",
        "µs a member",
        "sparse",
        "true",
        0,
        (
            ours(", in place, train only", "prepare", "in_place:train"),
            Row("timm ReaderImageInTar, train only", "timm_tar", "prepare"),
            Row("*limit: a header after another*", "limits", "headers"),
            Row("*limit: 32 headers under way*", "limits", "headers_under_way"),
        ),
    ),
    "mixed": Group(
        "Streaming in mixed order, undecoded",
        "µs an image",
        "sparse",
        "sparse",
        10_000,
        (
            ours(", streaming, mixed order", "passed", "mixed"),
            Row("*limit: a header and an image after another*", "limits", "mixed"),
            Row("*limit: pieces of 512 KiB under way*", "limits", "mixed_announced"),
        ),
    ),
    "archive": Group(
        "Streaming in archive order, undecoded",
        "µs an image",
        "true",
        "true",
        10_000,
        (
            ours(", streaming, archive order", "passed", "stream"),
            Row("*limit: cat*", "limits", "cat"),
        ),
    ),
    "copy": Group(
        "Copy",
        "µs an image",
        "true",
        "true",
        0,
        (
            ours(", copy", "prepare", "copy"),
            Row("TensorFlow Datasets", "tfds_builder", "prepare", env="tf"),
            Row("plain builder on nested tarfile", "nested_tarfile", "prepare"),
            Row("*limit: cp*", "limits", "cp"),
        ),
    ),
    "loader": Group(
        "`DataLoader`, in place, two workers, batches of 64",
        "images a second",
        "true",
        "true",
        2_048,
        (
            ours(", in place", "loader", "in_place:train", prepared=True),
            ours(", in place, fast decoding", "loader", "fast:train", prepared=True),
            Row("timm ReaderImageInTar", "timm_tar", "loader", prepared=True),
            Row("*limit: bare pread and Pillow*", "limits", "loader"),
        ),
    ),
}


class Cold:
    """Archives on a disk and behind a slow file system, and what was measured on them."""

    def __init__(
        self, disk: Path, away: Path | None, pythons: Mapping[str, Path | None], quick: bool
    ) -> None:
        self.share = 0.1 if quick else 1.0
        self.roots = {"local": disk} | ({"far": away} if away else {})
        self.pythons = pythons
        self.results: dict[str, dict[str, dict[str, list[Result]]]] = {}

    def forget(self) -> None:
        """Make all archives cold."""
        for root in self.roots.values():
            for path in root.glob("*/*.tar"):
                make_archives.forget(path)

    def run(self, row: Row, archives: Path, count: int, work: Path, measure: str) -> Result:
        python = self.pythons.get(row.env)
        if python is None:
            return {"error": "its environment is not here"}
        self.forget()
        options = (*row.options, "--count", count)
        return common.run(python, row.script, [measure], archives, work, *options)

    def measure(self, row: Row, group: Group, storage: str) -> Result:
        """Measure a row in one storage, in an empty work folder."""
        archives = self.roots[storage] / getattr(group, storage)
        with tempfile.TemporaryDirectory(
            dir=common.MEMORY if common.MEMORY.is_dir() else None
        ) as w:
            work = Path(w)
            if row.prepared:
                prepared = self.run(row, archives, 1, work, "prepare")
                if "error" in prepared:
                    return prepared
            # The sparse archive cannot be decoded, so 1 stands for "all, but without a batch".
            count = round(group.count * self.share) or int(row.measure == "prepare")
            result = self.run(row, archives, count, work, row.measure)
        if row.measure in ("cp", "cat") and not result.get("images"):
            result["images"] = round(sum(p.stat().st_size for p in archives.glob("*.tar")) / 111e3)
        return result

    def rounds(self, names: list[str], repeat: int) -> None:
        """Measure every row once, then again."""
        for number in range(repeat):
            for name in names:
                for row in GROUPS[name].rows:
                    for storage in self.roots:
                        result = self.measure(row, GROUPS[name], storage)
                        rows = self.results.setdefault(name, {}).setdefault(row.title, {})
                        rows.setdefault(storage, []).append(result)
                        print(
                            f"round {number + 1}, {name}, {storage}: {told(row, result)}",
                            flush=True,
                        )


def told(row: Row, result: Result) -> str:
    """Say a result in a line."""
    if "error" in result:
        return f"{row.title}: {result['error']}"
    each = result["seconds"] / max(1, result["images"])
    return (
        f"{row.title}: {result['seconds']:.2f} s, {each * 1e6:,.0f} µs each of {result['images']:,}"
    )


def archives(folder: Path, python: Path, quick: bool) -> None:
    """Make both archives, unless they are there."""
    options = {
        "sparse": ("--sparse", "--classes", "100" if quick else "1000"),
        "true": ("--gb", "0.5" if quick else "2.3", "--classes", "32"),
    }
    for name, more in options.items():
        if not (folder / name / make_archives.VALIDATION).exists() and not (folder / name).exists():
            common.make_archives(python, folder / name, *more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller archives, fewer images")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--keep", type=Path, help="folder of the archives, made if need be, kept")
    args = parser.parse_args()
    python = Path(sys.executable)
    disk = args.keep or Path(tempfile.mkdtemp(prefix="cold-", dir="/var/tmp"))
    away = Path(tempfile.mkdtemp(prefix="far-"))
    try:
        archives(disk, python, args.quick)
        with far.mounted(disk, away / "mount", python) as mounted:
            cold = Cold(disk, mounted, {"torch": python}, args.quick)
            cold.rounds(args.only, args.repeat)
        print(report.cold(cold.results, GROUPS))
    finally:
        shutil.rmtree(away)
        if not args.keep:
            shutil.rmtree(disk)


if __name__ == "__main__":
    main()
