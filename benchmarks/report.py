"""The tables of results.md, from results.json: ``python benchmarks/report.py``."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STORAGES = {"local": "local disk, cold", "far": "1 ms away, cold", "memory": "from memory"}

Found = dict[str, Any]
Cell = Callable[[str], str]


def each(group: Found, key: str, storage: str) -> list[float]:
    """Return seconds for an image in every round that did not fail."""
    rounds = group["rounds"].get(key, {}).get(storage, [])
    return [one["seconds"] / one["images"] for one in rounds if "error" not in one]


def number(value: float) -> str:
    """Return a figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(figures: list[float]) -> str:
    return number(statistics.median(figures)) if figures else "-"


def figures(group: Found, key: str, storage: str) -> list[float]:
    """Return what the group's unit says of each round."""
    seconds = each(group, key, storage)
    return [1 / one if group["unit"].startswith("images") else 1e6 * one for one in seconds]


def beside_limit(group: Found, storage: str) -> Cell:
    """Return what writes the median with its spread, and the time's ratio to the limit's.

    Where no limit was measured, it is the ratio to the first row's.
    """
    first = "limit" if "limit" in group["titles"] else next(iter(group["titles"]))

    def cell(key: str) -> str:
        every = figures(group, key, storage)
        mine, limit = each(group, key, storage), each(group, first, storage)
        spread = f" ({number(min(every))} to {number(max(every))})" if len(every) > 1 else ""
        if not mine or not limit:
            return middle(every) + spread
        return f"{middle(every)}{spread}, x{statistics.median(mine) / statistics.median(limit):.2f}"

    return cell


def rounds_of(group: Found, key: str, name: str) -> list[Found]:
    """Return what was measured of a row in all storages and rounds, where there is this figure."""
    return [one for some in group["rounds"].get(key, {}).values() for one in some if name in one]


def of_a_core(group: Found) -> Cell:
    """Return what writes the images that a second of a core's time makes, with the spread."""

    def cell(key: str) -> str:
        every = [one["images"] / one["cpu"] for one in rounds_of(group, key, "cpu")]
        spread = f" ({number(min(every))} to {number(max(every))})" if len(every) > 1 else ""
        return middle(every) + spread

    return cell


def largest(group: Found, name: str) -> Cell:
    """Return what writes the greatest of a figure in bytes, in MB."""

    def cell(key: str) -> str:
        sizes = [one[name] for one in rounds_of(group, key, name)]
        return f"{max(sizes) / 1e6:,.0f}" if sizes else "-"

    return cell


def table(titles: dict[str, str], cells: dict[str, Cell]) -> str:
    """Return a Markdown table; rows without any figure are left out."""
    lines = [f"| | {' | '.join(cells)} |", f"|---|{'---:|' * len(cells)}"]
    for key, title in titles.items():
        texts = [cell(key) for cell in cells.values()]
        if any(text != "-" for text in texts):
            lines.append(f"| {title} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def groups(every: Found) -> str:
    """Return a section for each kind of work."""
    parts = []
    for group in every.values():
        measured = {name for rows in group["rounds"].values() for name in rows}
        titles = {name: title for name, title in STORAGES.items() if name in measured}
        cells = {title: beside_limit(group, name) for name, title in titles.items()}
        if any(rounds_of(group, key, "cpu") for key in group["rounds"]):
            cells["a second of a core's time"] = of_a_core(group)
        if any(rounds_of(group, key, "disk") for key in group["rounds"]):
            cells["more disk, MB"] = largest(group, "disk")
            cells["peak memory, MB"] = largest(group, "peak")
        text = table(group["titles"], cells)
        parts.append(f"## {group['title']}\n\n{group['unit']}:\n\n{text}\nBy {group['made']}.\n")
    return "\n".join(parts)


def failures(found: Found) -> str:
    """Say what failed, and why, in the words of the peer."""
    lines = [
        f"- {group['titles'][key]}: {one['error'][:200]}"
        for group in found["groups"].values()
        for key, storages in group["rounds"].items()
        for rounds in storages.values()
        for one in rounds
        if "error" in one
    ]
    return "\n## Failed\n\n" + "\n".join(dict.fromkeys(lines)) + "\n" if lines else ""


def tables(found: Found) -> str:
    """Return the whole of results.md."""
    pins = "\n".join(f"- {name}: {', '.join(pins)}" for name, pins in found["pins"].items())
    return f"""\
# This loader, its peers and the limits

[README.md](README.md) says how this is measured. Figures are medians of the rounds, with the least
and the greatest where there was more than one. After `x`: the time as a multiple of that of the
first limit, a loop of nothing but system calls (and Pillow), in the same storage; of training
batches, as a multiple of the first row's. Under each table
stands the run that it is of; `--only` measures some of them anew.

{groups(found["groups"])}{failures(found)}
## Versions

{pins}
"""


def write() -> None:
    """Write results.md from results.json."""
    found = json.loads((HERE / "results.json").read_text())
    (HERE / "results.md").write_text(tables(found))


if __name__ == "__main__":
    write()
