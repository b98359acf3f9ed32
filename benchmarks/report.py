"""The tables of results.md and the README, from results.json: ``python benchmarks/report.py``.

It writes results.md anew, and in README.md what stands between the two comments `MARKS`.
"""

import json
import re
import statistics
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARKS = ("<!-- from benchmarks/report.py -->\n", "<!-- end -->\n")
STREAMED = ("stream", "stream_2")
READING = {
    "sequential": "in sequence, undecoded",
    "sequential_decoded": "in sequence, decoded",
    "random": "at random, undecoded",
    "random_decoded": "at random, decoded",
    "dataloader": "`DataLoader`",
}
NOTES = """\
What a `-` means: TFRecord files have no access by number, and TensorFlow Datasets no torch
`DataLoader`; webdataset reads in sequence only, as this loader does when it streams; datasets
`webdataset` cannot read tars within a tar, so it gets the validation archive only; timm's reader
indexes train only; the limits prepare nothing (`cp` writes another copy, `cat` only reads).

Peak memory counts mapped files and imported libraries: where a peer imports torch, that is 500 MB.
"""

Found = dict[str, Any]
Cell = Callable[[str], str]


def values(found: Found, key: str, name: str) -> list[float]:
    """Return a figure of every round that measured it."""
    return [one[name] for one in found["results"].get(key, []) if name in one]


def beside_bare(found: Found, key: str, name: str) -> list[float]:
    """Return an image's time in each round, as a multiple of the bare loop's beside it."""
    rounds = [one for one in found["results"].get(key, []) if f"{name}_bare" in one]
    return [one[name] / one[f"{name}_bare"] for one in rounds]


def number(value: float) -> str:
    """Return a figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(figures: list[float]) -> str:
    return number(statistics.median(figures)) if figures else "-"


def with_spread(figures: list[float]) -> str:
    """Return the median, with the least and the greatest value."""
    if len(figures) < 2:
        return middle(figures)
    return f"{middle(figures)} ({number(min(figures))} to {number(max(figures))})"


def table(rows: Iterable[str], titles: dict[str, str], cells: dict[str, Cell]) -> str:
    """Return a Markdown table; rows without any figure are left out."""
    lines = [f"| | {' | '.join(cells)} |", f"|---|{'---:|' * len(cells)}"]
    for key in rows:
        texts = [cell(key) for cell in cells.values()]
        if any(text != "-" for text in texts):
            lines.append(f"| {titles[key]} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def each(group: Found, key: str, storage: str) -> list[float]:
    """Return seconds for an image in every round on cold storage, of those that did not fail."""
    rounds = group["rounds"].get(key, {}).get(storage, [])
    return [one["seconds"] / one["images"] for one in rounds if "error" not in one]


def cold_cell(group: Found, storage: str) -> Cell:
    """Return what writes a figure and, in brackets, its ratio to the group's limit."""

    def cell(key: str) -> str:
        mine, limit = each(group, key, storage), each(group, "limit", storage)
        if not mine:
            return "-"
        if group["unit"].startswith("images"):
            figures, ratio = [1 / one for one in mine], statistics.median(mine)
        else:
            figures, ratio = [1e6 * one for one in mine], statistics.median(mine)
        beside = f", x{ratio / statistics.median(limit):.2f}" if limit else ""
        return with_spread(figures) + beside

    return cell


def cold(found: Found) -> str:
    """Return the section on reading from cold storage."""
    parts = []
    for group in found.get("cold", {}).values():
        cells = {name: cold_cell(group, name) for name in ("local", "far")}
        parts.append(f"{group['title']}, {group['unit']}:\n")
        parts.append(table(group["titles"], group["titles"], cells))
    if not parts:
        return ""
    shown = "\n".join(parts)
    return f"""\
## From cold storage

Before each measurement the archives' pages were dropped from the page cache. Local is a disk of
this machine; far is the same through a file system that answers each read 1 ms later (`far.py`).
After `x`: time as a multiple of the first limit of each table, the loop that reads one thing after
another and does nothing else. On the local disk, the index and mixed order are of an archive of the
official size and number of members.

{shown}
"""


def preparation(found: Found) -> str:
    def largest(name: str) -> Cell:
        def cell(key: str) -> str:
            figures = values(found, key, name) if values(found, key, "seconds") else []
            return f"{max(figures) / 1e6:,.0f}" if figures else "-"

        return cell

    def seconds(key: str) -> str:
        return "none" if key in STREAMED else with_spread(values(found, key, "seconds"))

    cells: dict[str, Cell] = {
        "prepared, s": seconds,
        "to the first batch, s": lambda key: with_spread(values(found, key, "first_batch")),
        "more disk, MB": largest("disk"),
        "peak memory, MB": largest("peak"),
    }
    return table(found["titles"], found["titles"], cells)


def reading(found: Found) -> str:
    def rate(name: str) -> Cell:
        def cell(key: str) -> str:
            rates = [1 / seconds for seconds in values(found, key, name)]
            return f"{middle(rates)}, x{middle(beside_bare(found, key, name))}" if rates else "-"

        return cell

    cells = {title: rate(name) for name, title in READING.items()}
    return table(found["titles"], found["titles"], cells)


def failures(found: Found) -> str:
    """Say what failed, and why, in the words of the peer."""
    named = [(found["titles"][key], rounds) for key, rounds in found["results"].items()]
    for group in found.get("cold", {}).values():
        for key, storages in group["rounds"].items():
            named += [(group["titles"][key], rounds) for rounds in storages.values()]
    lines = [
        f"- {title}: {one['error'][:200]}"
        for title, all_ in named
        for one in all_
        if "error" in one
    ]
    return "\nFailed here:\n\n" + "\n".join(dict.fromkeys(lines)) + "\n" if lines else ""


HEAD = ("in_place", "copy", "stream", "tfds", "timm", "torchvision")


def head(found: Found) -> str:
    """Return the table that the README shows."""
    groups = found.get("cold", {})

    def fresh(storage: str) -> Cell:
        def cell(key: str) -> str:
            every = [each(group, key, storage) for group in groups.values() if group["prepares"]]
            return middle([1e6 * one for some in every for one in some])

        return cell

    def loader(key: str) -> str:
        return middle([1 / one for one in each(groups["loader"], key, "far")])

    cells: dict[str, Cell] = {}
    if groups:
        cells = {
            "prepared from a cold disk, µs an image": fresh("local"),
            "the same, 1 ms away": fresh("far"),
            "`DataLoader`, 1 ms away, images/s": loader,
        }
    cells |= {
        "prepared from memory, s": lambda key: middle(values(found, key, "seconds")),
        "more disk, MB": lambda key: middle([one / 1e6 for one in values(found, key, "disk")]),
        "peak memory, MB": lambda key: middle([one / 1e6 for one in values(found, key, "peak")]),
        "`DataLoader` from memory, / bare": lambda key: middle(
            beside_bare(found, key, "dataloader")
        ),
    }
    return table(HEAD, found["titles"], cells)


def tables(found: Found) -> str:
    """Return the whole of results.md."""
    pins = "\n".join(f"- {name}: {', '.join(pins)}" for name, pins in found["pins"].items())
    return f"""\
# This loader and its peers, side by side

Made by `{found["command"]}` at {found["commit"]} on {found["machine"]}.
Figures are medians, with the least and the greatest of all rounds where there were several.

{cold(found)}## From memory

What the software costs, not the disk: archives of {found["archives"] / 1e9:.2f} GB with images of
about 110 KB, in {found["storage"]}. In a round every row ran in turn.

{preparation(found)}
Reading it, images per second. After `x`: the time for an image as a multiple of what the bare loop
(`os.pread`, Pillow, torch) took in turns with it, in the same process. A machine's speed changes
from minute to minute, and these ratios less; how much less is in the row of the bare loop itself.

{reading(found)}
{NOTES}{failures(found)}
## Versions

{pins}
"""


def write(folder: Path) -> None:
    """Write results.md beside results.json."""
    found = json.loads((folder / "results.json").read_text())
    (folder / "results.md").write_text(tables(found))


if __name__ == "__main__":
    write(HERE)
    figures = head(json.loads((HERE / "results.json").read_text()))
    readme = HERE.parent / "README.md"
    between = re.compile(f"(?<={MARKS[0]}).*(?={MARKS[1]})", re.DOTALL)
    readme.write_text(between.sub(lambda _: figures, readme.read_text()))
