"""Prepare archives: the cache of `datasets`, or a folder that is a repository for the Hub."""

import os
from pathlib import Path
from typing import Any

import click
import datasets

import imagenet2012
from imagenet2012 import card, cluster, hub
from imagenet2012 import export as exports
from imagenet2012.archives import absolute, check_size, find_archives
from imagenet2012.console import bar
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.lock import locked
from imagenet2012.storage import is_dir, is_url


def prepare_cache(folder: str, options: dict[str, Any]) -> None:
    """Prepare as a later `imagenet2012.load` or `load_dataset` of the same archives would."""
    config = "in_place" if options["in_place"] else "default"
    choices = {key: options[key] for key in ("label_names", "order", "cache_dir")}
    preparing = {
        "num_proc": options["num_proc"],
        "verification_mode": "no_checks" if options["no_checks"] else "basic_checks",
    }
    if options["splits"]:
        splits = list(options["splits"])
        loaded = imagenet2012.load(folder, config, split=splits, **preparing, **choices)
        for split, dataset in zip(splits, loaded, strict=True):
            place = Path(dataset.cache_files[0]["filename"]).parent
            click.echo(f"{split}: {dataset.num_rows:,} images in {place}")
        return
    # All splits at once, in the one place where load_dataset looks for them.
    builder = imagenet2012.Imagenet2012(config_name=config, data_dir=folder, **choices)
    builder.download_and_prepare(**preparing)
    for split, info in builder.info.splits.items():
        click.echo(f"{split}: {info.num_examples:,} images in {builder.cache_dir}")


def prepare_repository(
    folder: str, output: Path, push: str | None, public: bool, options: dict[str, Any]
) -> None:
    """Write all shards, then the card, and upload them to the repository `push`."""
    archives = find_archives(absolute(folder))
    wanted = dict.fromkeys(options["splits"] or archives)
    for split in [split for split in wanted if split in archives]:  # before the hours of work
        called(split, archives[split], options)
        if not options["no_checks"]:
            check_size(split, archives[split], strict=True)
    card.check_card(output)
    if options["ray"]:
        cluster.connected()
    if push:
        hub.get_repository(push, public)
    loaded = {split: load_in_place(folder, split, options) for split in wanted}
    name = os.path.abspath(output)  # a relative path could be a name for `load_dataset`
    with locked(output):
        write_shards(archives, loaded, output / "data", options)
        files = card.write_card(output, push or name)
        if push:
            hub.upload(output, files, push)
    where = ", where IMAGENET2012_DIR names the archives' folder" * options["portable"]
    click.echo(f'Load it with: datasets.load_dataset("{name}"){where}')
    if push:
        click.echo(f"Uploaded to the dataset repository {push}.")


def load_in_place(folder: str, split: str, options: dict[str, Any]) -> datasets.Dataset:
    """Return a split whose images stay in their archive.

    Raises
    ------
    ValueError
        If it is known from before, when it was not checked, and is not the original.
    """
    dataset = imagenet2012.load(
        folder,
        "in_place",
        split=split,
        label_names=options["label_names"],
        cache_dir=options["cache_dir"],
        verification_mode="no_checks" if options["no_checks"] else "basic_checks",
        # Ray is in this process now: what is forked beside it sometimes never ends.
        num_proc=None if options["ray"] else options["num_proc"],
        keep_in_memory=options["ray"],
    )
    if not options["no_checks"] and len(dataset) != (wanted := SOURCES[split].num_examples):
        problem = f"{len(dataset):,} {split} images instead of {wanted:,}"
        raise ValueError(f"{problem}. For a subset pass --no-checks.")
    return dataset


def called(split: str, path: str, options: dict[str, Any]) -> str | None:
    """Return what URLs of rows in place call an archive; None if the rows hold the images.

    Raises
    ------
    ValueError
        If other processes, or other machines, could not read such rows.
    """
    if not options["in_place"]:
        return None
    if options["portable"] and is_dir(path):
        raise ValueError(
            f"{path} was extracted: an index of it holds paths, which mean nothing on other "
            "machines. --portable, and so --in-place with --push, is for archives alone."
        )
    if is_url(path) and not options["portable"]:
        raise ValueError(
            f"{path} is behind a URL, which other programs do not open for a dataset that names "
            "it. Pass --portable, and set IMAGENET2012_DIR to that folder where the index is read."
        )
    return SOURCES[split].file_names[0] if options["portable"] else path


def plan_of(
    split: str, path: str, dataset: datasets.Dataset, data: Path, options: dict[str, Any]
) -> exports.Plan:
    """Plan the shards of a split; see `export.make_plan`."""
    kept = ("label_names", "seed", "size", "quality", "shard_size", "shards")
    keep = {key: options[key] for key in kept} | {"in_place": called(split, path, options)}
    sample = min(exports.SAMPLE, len(dataset)) if options["size"] else 0
    with bar(sample, " images", f"{split}, estimate of the size") as progress:
        return exports.make_plan(dataset, split, path, data, **keep, progress=progress.update)


def write_shards(
    archives: dict[str, str],
    loaded: dict[str, datasets.Dataset],
    data: Path,
    options: dict[str, Any],
) -> None:
    """Write the shards of all splits and say how many there are."""
    planned = [
        (dataset, plan_of(split, archives[split], dataset, data, options))
        for split, dataset in loaded.items()
    ]
    with bar(sum(plan.rows for _, plan in planned), " images", "writing") as progress:
        if options["in_place"]:
            written = exports.write_index(planned, data, progress.update)
        elif options["ray"]:
            written = cluster.export(planned, data, progress.update)
        else:
            written = exports.export(planned, data, options["num_proc"], progress.update)
    for _, plan in planned:
        shards = f"{plan.shards:,} shard{'s' * (plan.shards > 1)}"
        click.echo(f"{plan.split}: {plan.rows:,} images in {shards}")
    if not written:
        click.echo("All of it was there, whole: no shard was written.")
