"""Contact sheets: pictures of examples with their names."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import datasets
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
from PIL import ImageOps

from imagenet2012.ilsvrc2012 import ArchiveError

TILE, GAP, MARGIN, LINE = 168, 16, 24, 16
INK, PALE, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


def sound_rows(
    dataset: datasets.Dataset,
    indices: Iterable[int],
    pass_over: Callable[[Exception], object] = print,
) -> Iterator[dict[str, Any]]:
    """Yield rows, without those whose image cannot be decoded: of these `pass_over` is told.

    Raises
    ------
    ArchiveError
        If an archive is not the one that was loaded.
    """
    for index in indices:
        try:
            row = dataset[int(index)]
        except ArchiveError:  # of all the others too
            raise
        except Exception as error:
            pass_over(error)
        else:
            yield row


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
        font = ImageFont.load_default(size)
        place = TILE / 2, TILE + (line + 1) * LINE + 2
        pen.text(place, _shortened(text, font), fill=colour, font=font, anchor="ms")
    return tile


def _shortened(text: str, font: Any) -> str:
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(text + "…") > TILE:
        text = text[:-1]
    return text.rstrip() + "…"
