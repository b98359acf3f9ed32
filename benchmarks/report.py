"""The tables of results.md."""

import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from common import READING_ROUNDS
from common import median

STREAMED = ("stream", "stream_2")

Found = dict[str, Any]
Cell = Callable[[str], str]

NOTES = """\
What a `-` means:

- TensorFlow Datasets: TFRecord files have no access by number, and it has no torch `DataLoader`. It
  is left out of the member counts, as it would take longer than all the rest.
- webdataset reads shards in sequence only, and so does this loader, streaming; its figures are in
  the archive's order.
- datasets `webdataset` cannot read tars within a tar: it gets the validation archive only, and
  knows no labels. Its ratios are to this loader's copy of that archive.
- timm's reader indexes one archive: train. Its ratios are to this loader, in place, train only.
- torchvision, datasets `imagefolder`: left out of the member counts, which would be 1.3 million
  files. They shuffle by number, as this loader in place does.
- the limits prepare nothing: `cp` writes another copy, `cat` only reads.

Peers that read by number shuffle perfectly: the classes in a batch of 256 are then about 226 of
1000. TensorFlow Datasets is counted on the archives of the first table, all others on the archives
with the full number of members, where a class has 1,281 images in a row.

Peak memory counts the pages of files that are mapped. With images of 1 KB that is most of the Arrow
copy, which `datasets` maps when it has written it (this loader's and the nested builder's). Peaks
of streaming, torchvision and timm are mostly torch, which they import.
"""

AHEAD = """\
Where a peer, or a limit, is ahead of this loader:

- Decoded, all that use Pillow do the same work: they differ by less than the rounds do. TensorFlow
  Datasets decodes in several threads, with TensorFlow's decoder. `datasets` can do so too: with two
  threads, this loader's stream is as fast.
- An undecoded image at random: a row comes through `datasets`, which takes about 20 microseconds to
  find it and make a dict of it; in place, opening the URL through `fsspec` and checking the header
  take another 15. torchvision opens a file of its own list. The nested builder and the `webdataset`
  builder are read by the same code as the copy, the latter out of a tenth of the images. To decode
  the image takes 30 times as long.
- `cp`: a tenth of a second goes into what `datasets` does before and after. The rest keeps pace, as
  one thread reads while another writes; so one process copies about as fast as two, for which
  `datasets` takes a quarter of a second to start and end them. With all members they do pay.
- timm's index is smaller on disk, as it holds no URL for each image; it is read whole into memory.
- `imagefolder` may need less memory than the copy: it stores the paths of files, not images.
"""


def values(found: Found, key: str, name: str) -> list[float]:
    """Return a figure of every round that measured it."""
    return [one[name] for one in found["results"].get(key, []) if name in one]


def reference(key: str, copy: bool) -> str | None:
    """Return the row of this loader with which a peer is compared."""
    if key in ("hf_webdataset", "copy_val"):
        return "copy_val" if copy else None
    if key in ("timm", "in_place_train"):
        return None if copy else "in_place_train"
    return "copy" if copy else "in_place"


def ratio(found: Found, key: str, copy: bool) -> str:
    """Return how many times as long a row's preparation takes as this loader's, as text."""
    mine, theirs = (
        values(found, key, "seconds"),
        values(found, reference(key, copy) or "", "seconds"),
    )
    if not mine or not theirs or key in STREAMED:
        return "-"
    return f"{median(mine) / median(theirs):.2f}"


def number(value: float) -> str:
    """Return a figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def with_spread(figures: list[float], invert: bool = False) -> str:
    """Return the median, with the least and the greatest value."""
    if not figures:
        return "-"
    scaled = sorted(1 / figure if invert else figure for figure in figures)
    spread = f" ({number(scaled[0])} to {number(scaled[-1])})" if len(scaled) > 1 else ""
    return number(median(scaled)) + spread


def table(rows: Iterable[str], titles: dict[str, str], cells: dict[str, Cell]) -> str:
    """Return a Markdown table; rows without any figure are left out."""
    lines = [f"| | {' | '.join(cells)} |", f"|---|{'---:|' * len(cells)}"]
    for key in rows:
        texts = [cell(key) for cell in cells.values()]
        if any(text != "-" for text in texts):
            lines.append(f"| {titles[key]} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def preparation(found: Found) -> str:
    def seconds(key: str) -> list[float]:
        return values(found, key, "seconds")

    def size(key: str, name: str) -> str:
        figures = values(found, key, name)
        return f"{max(figures) / 1e6:,.0f}" if figures else "-"

    def disk(key: str) -> str:
        return size(key, "disk") if seconds(key) else "-"

    def first(key: str) -> str:
        return with_spread(values(found, key, "first_batch"))

    cells: dict[str, Cell] = {
        "prepared, s": lambda key: "none" if key in STREAMED else with_spread(seconds(key)),
        "/ in place": lambda key: ratio(found, key, copy=False),
        "/ copy": lambda key: ratio(found, key, copy=True),
        "to the first batch, s": first,
        "more disk, MB": disk,
        "peak memory, MB": lambda key: size(key, "peak") if seconds(key) else "-",
    }
    return table(found["titles"], found["titles"], cells)


READING = {
    "sequential": "in sequence, undecoded",
    "sequential_decoded": "in sequence, decoded",
    "random": "at random, undecoded",
    "random_decoded": "at random, decoded",
    "dataloader": "DataLoader",
}
OURS = ("copy", "in_place", "stream")


def beside_bare(found: Found, key: str, name: str) -> list[float]:
    """Return an image's time in each round, as a multiple of the bare loop's beside it."""
    rounds = [one for one in found["results"].get(key, []) if f"{name}_bare" in one]
    return [one[name] / one[f"{name}_bare"] for one in rounds]


def reading(found: Found) -> str:
    def rate(name: str) -> Cell:
        return lambda key: with_spread(values(found, key, name), invert=True)

    cells = {title: rate(name) for name, title in READING.items()}
    return table(found["titles"], found["titles"], cells)


def ratios(found: Found) -> str:
    def best(name: str) -> float:
        ours = [beside_bare(found, key, name) for key in OURS]
        return min((median(own) for own in ours if own), default=math.nan)

    def times(name: str) -> Cell:
        def cell(key: str) -> str:
            figures = beside_bare(found, key, name)
            if not figures:
                return "-"
            return f"{with_spread(figures)}, x{number(median(figures) / best(name))}"

        return cell

    cells = {title: times(name) for name, title in READING.items()}
    return table(found["titles"], found["titles"], cells)


def growth(found: Found) -> str:
    def figure(key: str, part: str, name: str) -> float | None:
        return found["growth"].get(key, {}).get(part, {}).get(name)

    def seconds(part: str) -> Cell:
        def cell(key: str) -> str:
            value = figure(key, part, "seconds")
            return "-" if value is None else f"{value:.1f}"

        return cell

    def times(key: str) -> str:
        small, large = figure(key, "eighth", "seconds"), figure(key, "full", "seconds")
        return f"{large / small:.1f}" if small and large else "-"

    def memory(key: str) -> str:
        value = figure(key, "full", "peak") if figure(key, "full", "seconds") else None
        return f"{value / 1e6:,.0f}" if value else "-"

    def disk(key: str) -> str:
        value = figure(key, "full", "disk") if figure(key, "full", "seconds") else None
        return f"{value / 1e6:,.0f}" if value else "-"

    def distinct(key: str) -> str:
        value = figure(key, "full", "distinct")
        rounds = values(found, key, "distinct")
        value = median(rounds) if value is None and rounds else value
        return "-" if value is None else f"{value:.0f}"

    cells = {
        "1/8 of the members, s": seconds("eighth"),
        "all, s": seconds("full"),
        "times": times,
        "peak memory, MB": memory,
        "more disk, MB": disk,
        "classes in a batch of 256": distinct,
    }
    return table(found["titles"], found["titles"], cells)


def failures(found: Found) -> str:
    """Say what failed, and why, in the words of the peer."""
    seen: dict[str, None] = {}
    for key, title in found["titles"].items():
        rounds = found["results"][key] + list(found["growth"][key].values())
        for one in rounds:
            if "error" in one:
                seen[f"- {title}: {one['error'][:200]}"] = None
    return "\nFailed here:\n\n" + "\n".join(seen) + "\n" if seen else ""


HEAD = ("copy", "copy_2", "in_place", "stream", "tfds", "torchvision", "imagefolder", "timm")
HEAD += ("webdataset", "litdata", "nested", "cp")


def head(found: Found) -> str:
    """Return the table that the README shows."""

    def figure(name: str, factor: float = 1) -> Cell:
        def cell(key: str) -> str:
            figures = values(found, key, name)
            empty = not figures or (name == "disk" and key in ("cp", *STREAMED))
            return "-" if empty else number(factor * median(figures))

        return cell

    def times(name: str) -> Cell:
        def cell(key: str) -> str:
            figures = beside_bare(found, key, name)
            return f"{median(figures):.2f}" if figures else "-"

        return cell

    def all_members(key: str) -> str:
        value = found["growth"][key].get("full", {}).get("seconds")
        return f"{value:.0f}" if value and key not in STREAMED else "-"

    cells: dict[str, Cell] = {
        "prepared, s": figure("seconds"),
        "to the first batch, s": figure("first_batch"),
        "more disk, MB": figure("disk", 1e-6),
        "peak memory, MB": figure("peak", 1e-6),
        "1,331,167 members, s": all_members,
        "an image decoded, / bare": times("random_decoded"),
        "DataLoader, / bare": times("dataloader"),
    }
    return table(HEAD, found["titles"], cells)


def growth_section(found: Found) -> str:
    if not any(found["growth"].values()):
        return ""
    return f"""\
## Growth with the number of members, and shuffling

1,281,167 training and 50,000 validation images of about 1 KB, and an eighth of them; one run each.

{growth(found)}
"""


def tables(found: Found) -> str:
    """Return the whole of results.md; what it says of the peers, only of a run of all."""
    pins = "\n".join(f"- {name}: {', '.join(pins)}" for name, pins in found["pins"].items())
    complete = all(found["results"].get(key) for key in HEAD) and any(found["growth"].values())
    notes = f"{AHEAD}\n{NOTES}" if complete else ""
    return f"""\
# This loader and its peers, side by side

Made by `{found["command"]}` at {found["commit"]} on {found["machine"]}.

Archives of {found["archives"] / 1e9:.2f} GB with images of about 110 KB, in {found["storage"]}.
In a round every row ran in turn. Rounds of preparation: {found["repeat"]}; of reading, twice in
each: {min(found["repeat"], READING_ROUNDS)}. Figures are medians, with least and greatest value.

## From the archives to a dataset

{preparation(found)}
Ratios are to this loader in one process: in place, and copying into Arrow. More than 1 is slower.

## Reading it

Images per second (more is better).

{reading(found)}
The time for an image, as a multiple of what the bare loop (`os.pread`, Pillow, torch) took in turns
with it, in the same process (less is better): a machine's speed changes from minute to minute, and
these ratios less. How much less is in the last row, where the bare loop stands beside itself.
After `x`, the same as a multiple of the best row of this loader that copies, stays in place or
streams, in one thread: more than 1 is slower.

{ratios(found)}
{growth_section(found)}{notes}{failures(found)}
## Versions

{pins}
"""


def cold(results: Any, groups: Any) -> str:
    """Return the tables of reading from cold storage."""
    parts = []
    for name, rows in results.items():
        unit = groups[name].unit
        limit = next(title for title in rows if title.startswith("*limit"))
        parts.append(f"### {groups[name].title}, {unit}\n")

        def cell(
            title: str, storage: str, limit: str = limit, unit: str = unit, rows: Any = rows
        ) -> str:
            every = [
                [
                    one["seconds"] / one["images"]
                    for one in rows[t].get(storage, [])
                    if "error" not in one
                ]
                for t in (title, limit)
            ]
            if not every[0]:
                return "-"
            each = median(every[0])
            figure = number(1 / each if unit.startswith("images") else each * 1e6)
            return f"{figure} ({each / median(every[1]):.2f})" if every[1] else figure

        cells: dict[str, Cell] = {
            "local": lambda title, cell=cell: cell(title, "local"),
            "far": lambda title, cell=cell: cell(title, "far"),
        }
        parts.append(table(rows, {title: title for title in rows}, cells))
    return "\n".join(parts)
