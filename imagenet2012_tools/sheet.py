"""Contact sheets: pictures of examples with their names."""

from collections.abc import Iterable
from typing import Any

from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
from PIL import ImageOps

TILE, GAP, LINE = 168, 12, 15
INK, PALE, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


def draw(rows: Iterable[dict[str, Any]], names: list[str], columns: int = 8) -> Image.Image:
    """Draw examples in rows, each with its class and its file name below.

    Parameters
    ----------
    rows : iterable of dict
        Examples with `file_name`, `image` and `label`.
    names : list of str
        Names of the classes in label order.
    columns : int
        Pictures in a row.

    Returns
    -------
    PIL.Image.Image
    """
    examples = list(rows)
    columns = max(1, min(columns, len(examples)))
    height = TILE + 2 * LINE + GAP + 4
    lines = -(-len(examples) // columns)
    size = (columns * (TILE + GAP) + GAP, lines * height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for index, row in enumerate(examples):
        corner = (GAP + index % columns * (TILE + GAP), GAP + index // columns * height)
        _draw_one(sheet, corner, row, names)
    return sheet


def _draw_one(
    sheet: Image.Image, corner: tuple[int, int], row: dict[str, Any], names: list[str]
) -> None:
    picture = ImageOps.contain(row["image"], (TILE, TILE), Image.Resampling.LANCZOS)
    left, top = corner
    sheet.paste(picture, (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2))
    pen = ImageDraw.Draw(sheet)
    words = names[row["label"]].split(",")[0] if row["label"] >= 0 else "(no public label)"
    stem = row["file_name"].removesuffix(".JPEG").removeprefix("ILSVRC2012_")
    for text, size, colour in ((words, 13, INK), (stem, 11, PALE)):
        font = ImageFont.load_default(size)
        top += LINE
        pen.text((left, top + TILE - 10), _shortened(text, font), fill=colour, font=font)


def _shortened(text: str, font: Any) -> str:
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(text + "…") > TILE:
        text = text[:-1]
    return text.rstrip() + "…"
