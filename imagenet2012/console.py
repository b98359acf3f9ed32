"""What the command shows on a terminal: progress bars, and lines broken between words."""

import shutil
import sys
import textwrap

from tqdm import tqdm


def folded(text: str, indent: int = 0) -> str:
    """Break lines between words on a terminal; elsewhere leave them whole, to be searched."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        margin = " " * (indent or len(line) - len(line.lstrip()))
        wrapper = textwrap.TextWrapper(width, subsequent_indent=margin, break_on_hyphens=False)
        wrapper.break_long_words = False
        lines.append(wrapper.fill(line))
    return "\n".join(lines)


def bar(total: int, unit: str, title: str) -> tqdm:
    """Return a progress bar, which shows only on a terminal."""
    scaled = unit == "B"
    return tqdm(total=total, unit=unit, unit_scale=scaled, desc=title, disable=None, leave=False)
