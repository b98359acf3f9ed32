"""The card of a folder that `index` or `export` wrote, and its upload to the Hub."""

import json
import os
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData, HfApi

from imagenet2012.export import Plan, plans_in
from imagenet2012.ilsvrc2012 import DOWNLOAD_PAGE, INFO, VERSION
from imagenet2012.storage import FOLDER_VARIABLE

MARK = "<!-- Written by `imagenet2012`, which writes it anew when it runs again. -->"
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

- the package `imagenet2012` {version} must be installed, which reads these places;
- {archives} must be where its path says or, of a bare name, in the folder (or at the URL) that the
  environment variable `{variable}` names.

Each image is read only if the archive's own header there names the same file and size. The archives
are fetched from {page}, by hand and with an account; a repacked one does not fit.
"""


def check_card(output: Path) -> None:
    """Raise `FileExistsError` if the README.md that would be written is somebody else's."""
    card = output / "README.md"
    if card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"{card} was not written by this command, which would replace it. Pass another "
            "OUTPUT, or move that file away."
        )


def write_card(output: Path, name: str) -> list[Path]:
    """Write README.md, and return all files that belong to the repository.

    It is what the Hub, its viewer and `datasets.load_dataset` read of all splits that are whole in
    the folder, also of earlier runs; `name` is what to load it by.
    """
    data = output / "data"
    plans = [p for p in plans_in(data).values() if all((data / n).exists() for n in p.names())]
    files = {plan: [data / name for name in plan.names()] for plan in plans}
    body = CARD.format(
        mark=MARK,
        name=json.dumps(name, ensure_ascii=False),
        rows="\n".join(
            f"| {plan.split} | {plan.rows:,} | {plan.shards:,} | {_images(plan)} |"
            for plan in plans
        ),
        needed=_needed(plans),
        page=DOWNLOAD_PAGE,
        citation=INFO["citation"],
    )
    card, unfinished = output / "README.md", output / ".README.md"
    head = _front_matter(files).to_yaml(line_break="\n")
    unfinished.write_text(f"---\n{head}\n---\n{body}", encoding="utf-8")
    os.replace(unfinished, card)
    return [card, *(path for paths in files.values() for path in paths)]


def _images(plan: Plan) -> str:
    """Say in a sentence what was done to the images of a split."""
    if plan.in_place:
        return f"The images stay in `{plan.in_place}` ({plan.archive_bytes:,} bytes)."
    if not plan.size:
        return "The bytes of the images are those of the original archive."
    return (
        f"Images whose shortest side was over {plan.size} pixels are resized to it, turned "
        f"upright, as RGB JPEG of quality {plan.quality}; the others keep their original bytes."
    )


def _needed(plans: list[Plan]) -> str:
    """Say what an index needs where it is read; nothing of shards that hold the images."""
    archives = [f"`{plan.in_place}`" for plan in plans if plan.in_place]
    if not archives:
        return ""
    return INDEX.format(
        version=VERSION,
        archives=" and ".join(archives),
        variable=FOLDER_VARIABLE,
        page=DOWNLOAD_PAGE,
    )


def _front_matter(files: dict[Plan, list[Path]]) -> DatasetCardData:
    """Return the metadata as `datasets` writes them when it pushes a dataset."""
    sizes = {plan.split: sum(path.stat().st_size for path in files[plan]) for plan in files}
    infos = [datasets.SplitInfo(plan.split, sizes[plan.split], plan.rows) for plan in files]
    (first, *_), *_ = files.values()
    info = datasets.DatasetInfo(
        features=datasets.Features.from_arrow_schema(pq.read_schema(first)),
        splits=datasets.SplitDict({one.name: one for one in infos}),
        download_size=sum(sizes.values()),
        dataset_size=sum(sizes.values()),
    )
    data_files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in sizes]
    data = DatasetCardData(
        pretty_name="ImageNet-1k (ILSVRC2012)",
        license="other",
        license_name="imagenet-terms-of-access",
        license_link=DOWNLOAD_PAGE,
        task_categories=["image-classification"],
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return data


def get_repository(repo_id: str, public: bool) -> None:
    """Make a dataset repository, private unless `public`, or see that it is there and as wanted.

    Raises `ValueError` if it is there and public, which is not wanted.
    """
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
    if not public and not api.repo_info(repo_id, repo_type="dataset").private:
        raise ValueError(f"{repo_id} is there and public: pass --public if that is intended.")


def upload(output: Path, files: list[Path], repo_id: str) -> None:
    """Upload these files of a folder; started again, it sends only what has not arrived.

    Afterwards ``data/`` of the repository holds these files and nothing else: what an export with
    other shards left there would be read together with them.
    """
    # Not `upload_large_folder`, which removes nothing.
    HfApi().upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=str(output),
        allow_patterns=[file.relative_to(output).as_posix() for file in files],
        delete_patterns="data/*",
    )
