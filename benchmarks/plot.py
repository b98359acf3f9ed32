"""Draw results.png from results.json: ``plot.py results.json results.png``."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import report

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, PEER, LIMIT = "#d9480f", "#8b98a5", "#dfe4e8"
# On parts of the archives, or the same but for decoding.
HIDDEN = ("in_place_train", "copy_val", "hf_webdataset", "stream_2")
PANELS = {
    "seconds": "Preparation, seconds\n(log scale; left is better)",
    "first_batch": "From archives to the first batch of 256,\nseconds (log scale; left is better)",
    "disk": "More disk than the archives, %\n(shorter is better)",
    "dataloader": "DataLoader, 2 workers, 224 px:\n% of the bare loop's speed (longer is better)",
}
LOG = ("seconds", "first_batch")


def colour(title: str) -> str:
    return OURS if "this loader" in title else LIMIT if "limit" in title else PEER


def figures(found: dict[str, Any], key: str, name: str) -> list[float]:
    """Return what a panel shows of a row: a figure of each round, or nothing."""
    if name == "dataloader":
        return [100 / times for times in report.beside_bare(found, key, name)]
    every = report.values(found, key, name)
    if name == "disk":
        prepared = report.values(found, key, "seconds")
        return [100 * one / found["archives"] for one in every] if prepared else []
    return [] if (key, name) == ("stream", "seconds") else every


def draw_panel(axis: Any, rows: list[list[float]], colours: list[str], log: bool) -> None:
    """Draw dots with their spread where there is no zero for a bar to begin at, else bars."""
    for row, (every, paint) in enumerate(zip(rows, colours, strict=True)):
        place, where = (0.0, axis.get_yaxis_transform()) if not every else (0.0, "data")
        text = "-"
        if every:
            middle = statistics.median(every)
            text = f"{middle:,.2f}" if middle < 10 else f"{middle:,.0f}"
            place = max(every) if log or middle > 1 else middle
            if log:
                axis.plot(middle, row, "o", color=paint, ms=8)
            else:
                axis.barh(row, middle, color=paint, height=0.68)
            axis.hlines(row, min(every), max(every), color="#444", lw=1)
        after = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(text, (place, row), xycoords=where, **after)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(axis="x", color="#eee")


def draw(found: dict[str, Any], target: Path) -> None:
    keys = [key for key in found["titles"] if key not in HIDDEN][::-1]
    titles = [found["titles"][key].replace("*", "").replace("`", "") for key in keys]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(17, 0.42 * len(keys) + 1.6), sharey=True)
    for axis, (name, heading) in zip(axes, PANELS.items(), strict=True):
        rows = [figures(found, key, name) for key in keys]
        draw_panel(axis, rows, [colour(title) for title in titles], name in LOG)
        axis.set_title(heading, fontsize=10, loc="left")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        axis.margins(x=0.2)
    axes[0].set_yticks(range(len(keys)), titles)
    figure.text(0.005, 0.005, found["machine"], fontsize=8, color="#667")
    figure.tight_layout(rect=(0, 0.025, 1, 1))
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
