"""The card of an exported repository, made from what its shards record."""

import dataclasses
import json
import os
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData

from imagenet2012.archives import FOLDER_VARIABLE
from imagenet2012.export import Plan, read_plan, read_record
from imagenet2012.ilsvrc2012 import DOWNLOAD_PAGE, SOURCES
from imagenet2012.imagenet2012 import CITATION, VERSION

MARK = "<!-- Written by `imagenet2012 prepare`, which writes it anew when it runs again. -->"
CARD = """\
{mark}

# ImageNet-1k (ILSVRC2012)

```python
from datasets import load_dataset

ds = load_dataset({name})
```

| split | images | shards | |
|---|---:|---:|---|
{rows}

`file_name` is the name in the original archive; `label` is the rank of the class's wnid among the
1000 in sorted order, -1 where it is not public; `image` comes as RGB. The images are shuffled.
{needed}
The images belong to their owners and are for non-commercial research and education under
[ImageNet's terms of access]({page}); who shares this repository answers for that.

```bibtex
{citation}
```
"""
INDEX = """
**This is an index: it holds no images**, only where in the original archives each one is. A
program that loads it need import nothing for that, but on its machine

- the package `imagenet2012` {version} must be installed, which reads these URLs;
{places}

Each image is read only if the archive's own header there names the same file and size. The archives
are fetched from {page}, by hand and with an account; a repacked one does not fit.
"""
# The Hub's names for how many examples there are.
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclasses.dataclass
class Written:
    """A split that is whole in a folder: its plan, files, features and bytes."""

    plan: Plan
    files: list[Path]
    features: datasets.Features
    num_bytes: int
    file_bytes: int


def check_card(output: Path) -> None:
    """Raise `FileExistsError` if the README.md that would be written is somebody else's."""
    card = output / "README.md"
    if card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"{card} was not written by this command, which would replace it. Pass another "
            "--output, or move that file away."
        )


def find_written(folder: Path) -> list[Written]:
    """Return the splits of which all shards are in a folder."""
    written = []
    for split in SOURCES:
        files = sorted(folder.glob(f"{split}-*.parquet"))
        plan = read_plan(files[0]) if files else None
        if plan and len(files) == plan.shards and all(map(read_record, files)):
            footers = [pq.read_metadata(file) for file in files]
            groups = (
                footer.row_group(i) for footer in footers for i in range(footer.num_row_groups)
            )
            written.append(
                Written(
                    plan,
                    files,
                    datasets.Features.from_arrow_schema(pq.read_schema(files[0])),
                    sum(group.total_byte_size for group in groups),
                    sum(file.stat().st_size for file in files),
                )
            )
    return written


def write_card(output: Path, name: str) -> list[Path]:
    """Write README.md: what the Hub, its viewer and `datasets.load_dataset` read.

    It is about all splits that are whole in the folder, also of earlier runs; `name` is what to
    load it by. A card that says the same already is left alone, as the disk may be read-only.

    Returns
    -------
    list of Path
        All files that belong to the repository.
    """
    written = find_written(output / "data")
    head = _front_matter(written)
    rows = "\n".join(
        f"| {one.plan.split} | {one.plan.rows:,} | {one.plan.shards:,} | {one.plan.images()} |"
        for one in written
    )
    body = CARD.format(
        mark=MARK,
        name=json.dumps(name, ensure_ascii=False),
        rows=rows,
        needed=_needed(written),
        page=DOWNLOAD_PAGE,
        citation=CITATION,
    )
    text = f"---\n{head}\n---\n{body}"
    card, unfinished = output / "README.md", output / ".README.md"
    if not card.exists() or card.read_text(encoding="utf-8") != text:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, card)
    return [card, *(file for one in written for file in one.files)]


def _needed(written: list[Written]) -> str:
    """Say what an index needs where it is read; nothing of shards that hold the images."""
    archives = [one.plan.in_place for one in written if one.plan.in_place]
    places = [f"- `{path}` must be there." for path in archives if os.path.isabs(path)]
    names = " and ".join(f"`{path}`" for path in archives if not os.path.isabs(path))
    if names:
        places.append(
            f"- {names} must be in the folder that the environment variable `{FOLDER_VARIABLE}` "
            "names."
        )
    elif archives:
        places[-1] += f" If moved, set `{FOLDER_VARIABLE}` to the folder."
    text = INDEX.format(version=VERSION, places="\n".join(places), page=DOWNLOAD_PAGE)
    return text if archives else ""


def _front_matter(written: list[Written]) -> str:
    total = sum(one.plan.rows for one in written)
    splits = [
        {"name": w.plan.split, "num_bytes": w.num_bytes, "num_examples": w.plan.rows}
        for w in written
    ]
    paths = [{"split": s["name"], "path": f"data/{s['name']}-*.parquet"} for s in splits]
    data = DatasetCardData(
        pretty_name="ImageNet-1k (ILSVRC2012)",
        license="other",
        license_name="imagenet-terms-of-access",
        license_link=DOWNLOAD_PAGE,
        task_categories=["image-classification"],
        size_categories=next((words for limit, words in SIZES if total < limit), "1M<n<10M"),
        configs=[{"config_name": "default", "data_files": paths}],
        dataset_info={
            "features": written[0].features._to_yaml_list(),
            "splits": splits,
            "download_size": sum(w.file_bytes for w in written),
            "dataset_size": sum(w.num_bytes for w in written),
        },
    )
    return data.to_yaml(line_break="\n")
