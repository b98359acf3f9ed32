"""Contact sheets: pictures of examples with their names."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from imagenet2012 import WNIDS

TILE, GAP, MARGIN, LINE = 168, 16, 24, 16
INK, PALE, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


def draw_some(
    dataset: datasets.Dataset, path: Path, classes: str | None, seed: int, count: int
) -> int:
    """Draw random rows, of some classes or of all, to a PNG, and return how many they are."""
    names, labels = dataset.features["label"].names, np.array(dataset["label"][:])
    wanted = np.isin(labels, find_classes(classes, names)) if classes else np.full(len(labels), 1)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(wanted))[:count]
    if not len(chosen):
        raise ValueError(f"No image of these classes in the {dataset.split} split.")
    draw(dataset.select(chosen), names).save(path, "PNG")
    return len(chosen)


def find_classes(text: str, names: list[str]) -> list[int]:
    """Return the labels that names (whole ones, or one of their words), wnids or labels mean."""
    found = []
    for one in (part.strip() for part in text.split(",") if part.strip()):
        matches = [
            label
            for label, (wnid, words) in enumerate(zip(WNIDS, names, strict=True))
            if one in (wnid, str(label)) or one.lower() in words.lower().split(", ")
        ]
        if not matches:
            raise ValueError(
                f"No class is called {one!r}. Classes go by name as in the Hub's imagenet-1k, by "
                "wnid (n01440764) or by label (0 to 999)."
            )
        found += matches
    return found


# ------------------------------------------------------------------------- the picture


def check_picture(path: Path) -> None:
    """Raise `ValueError` if something else than a PNG is there."""
    if path.exists() and not path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{path} is there and is no PNG. Nothing was written.")


def draw(rows: Iterable[dict[str, Any]], names: list[str], columns: int = 8) -> Image.Image:
    """Draw examples in rows of some columns, each with its class and its file name below.

    The examples have `file_name`, `image` and `label`; `names` are those of the classes in label
    order.
    """
    # Small at once: a thousand images as they are would fill gigabytes.
    tiles = [_tile(row, names) for row in rows]
    columns = max(1, min(columns, len(tiles)))
    lines = -(-len(tiles) // columns)
    step = TILE + GAP, TILE + 2 * LINE + 2 * GAP
    size = 2 * MARGIN + columns * step[0] - GAP, 2 * MARGIN + lines * step[1] - GAP
    sheet = Image.new("RGB", size, PAPER)
    for index, tile in enumerate(tiles):
        line, column = divmod(index, columns)
        sheet.paste(tile, (MARGIN + column * step[0], MARGIN + line * step[1]))
    return sheet


def _tile(row: dict[str, Any], names: list[str]) -> Image.Image:
    """Draw one example: the picture stands on its caption."""
    tile = Image.new("RGB", (TILE, TILE + 2 * LINE + GAP // 2), PAPER)
    picture = ImageOps.contain(row["image"], (TILE, TILE), Image.Resampling.LANCZOS)
    tile.paste(picture, ((TILE - picture.width) // 2, TILE - picture.height))
    pen = ImageDraw.Draw(tile)
    words = names[row["label"]].split(",")[0] if row["label"] >= 0 else "(no public label)"
    stem = row["file_name"].removesuffix(".JPEG").removeprefix("ILSVRC2012_")
    for line, (text, size, colour) in enumerate(((words, 13, INK), (stem, 11, PALE))):
        font, text = ImageFont.load_default(size), textwrap.shorten(text, 26, placeholder="…")
        place = TILE / 2, TILE + (line + 1) * LINE + 2
        pen.text(place, text, fill=colour, font=font, anchor="ms")
    return tile
