"""Contact sheets: pictures of examples with their names."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE, GAP, MARGIN, LINE = 168, 16, 24, 16
INK, PALE, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


def draw_some(dataset: datasets.Dataset, path: Path, seed: int, count: int) -> int:
    """Draw random rows to a PNG, and return how many they are."""
    shuffled = dataset.shuffle(seed=seed, keep_in_memory=True)
    chosen = shuffled.select(range(min(count, len(dataset))))
    draw(chosen, dataset.features["label"].names).save(path, "PNG")
    return len(chosen)


def check_picture(path: Path) -> None:
    """Raise `ValueError` if something else than a PNG is there."""
    if path.exists() and not path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{path} is there and is no PNG. Nothing was written.")


def draw(rows: Iterable[dict[str, Any]], names: list[str]) -> Image.Image:
    """Draw examples, eight in a row, each with its class and its file name below.

    The examples have `file_name`, `image` and `label`; `names` are those of the classes in label
    order.
    """
    # Small at once: a thousand images as they are would fill gigabytes.
    tiles = [_tile(row, names) for row in rows]
    columns = max(1, min(8, len(tiles)))
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
