"""Draw results.png from results.json: ``plot.py results.json results.png``."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, PEER, LIMIT = "#d9480f", "#8b98a5", "#dfe4e8"
HIDDEN = ("in_place_train", "copy_val", "hf_webdataset", "stream_2")  # on parts of the archives
PANELS = (
    ("seconds", "Preparation, seconds\n(shorter is better, log scale)", False),
    (
        "first_batch",
        "From the archives to the first batch\nof 256, seconds (shorter, log scale)",
        False,
    ),
    ("disk", "More disk than the archives, %\n(shorter is better)", False),
    ("dataloader", "DataLoader, 2 workers, 224 px,\nimages/s (longer is better)", True),
)


def colour(title: str) -> str:
    return OURS if "this loader" in title else LIMIT if "limit" in title else PEER


def value(found: dict[str, Any], key: str, name: str, invert: bool) -> float | None:
    """Return the median of a figure, or None where it was not measured."""
    figures = [one[name] for one in found["results"][key] if name in one]
    measured = any("seconds" in one for one in found["results"][key])
    if not figures or (name == "disk" and not measured) or (key, name) == ("stream", "seconds"):
        return None
    middle = statistics.median(figures)
    middle = 100 * middle / found["archives"] if name == "disk" else middle
    return 1 / middle if invert else middle


def draw(found: dict[str, Any], target: Path) -> None:
    keys = [key for key in found["titles"] if key not in HIDDEN][::-1]
    titles = [found["titles"][key].replace("*", "").replace("`", "") for key in keys]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(17, 0.42 * len(keys) + 1.6), sharey=True)
    for axis, (name, heading, invert) in zip(axes, PANELS, strict=True):
        values = [value(found, key, name, invert) for key in keys]
        colours = [colour(title) for title in titles]
        axis.barh(range(len(keys)), [v or 0 for v in values], color=colours, height=0.68)
        for row, one in enumerate(values):
            text = "-" if one is None else f"{one:,.2f}" if one < 10 else f"{one:,.0f}"
            place = ((0, row), axis.get_yaxis_transform()) if not one else ((one, row), "data")
            after = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axis.annotate(text, place[0], xycoords=place[1], **after)
        if name in ("seconds", "first_batch"):
            axis.set_xscale("log")
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
