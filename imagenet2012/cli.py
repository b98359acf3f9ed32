"""The command ``imagenet2012``: a verb for each thing that can be done with the archives."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import click
import datasets
import filelock
from datasets.exceptions import DatasetsError
from datasets.utils.py_utils import convert_file_size_to_int
from tqdm import tqdm

import imagenet2012
from imagenet2012 import card, sheet
from imagenet2012 import check as checks
from imagenet2012 import export as exports
from imagenet2012.archives import archives_in, find_archives
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.storage import FOLDER_VARIABLE, absolute, is_url
from imagenet2012.trees import trees_in

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SHOWN = 5  # places of a problem, without --verbose

# ------------------------------------------------------------------------- what may be typed


def folder_of(given: str | None) -> str:
    """Return the folder of the archives: the one that was typed, or that the variable names."""
    given = os.environ.get(FOLDER_VARIABLE, "") if given is None else given
    if not given.strip():
        raise click.UsageError(f"DIR is missing or empty, and {FOLDER_VARIABLE} is not set.")
    return absolute(given)


def output_of(given: str) -> Path:
    """Return the folder to write to, which is none of archives or of what was extracted."""
    if not given.strip() or is_url(given):
        raise click.UsageError(f"OUTPUT is a folder of this machine, not {given!r}.")
    path = absolute(given)
    if archives_in(path) or trees_in(path, {}):
        raise click.UsageError(f"{path} holds the images: write to another folder.")
    return Path(path)


def folders_of(given: tuple[str, ...]) -> tuple[str, Path]:
    """Return DIR, which may be left out, and OUTPUT."""
    if not 1 <= len(given) <= 2:
        raise click.UsageError(f"Pass DIR and OUTPUT; or, if {FOLDER_VARIABLE} is set, OUTPUT.")
    return folder_of(given[0] if len(given) == 2 else None), output_of(given[-1])


def size_of(given: str) -> int:
    """Return a number of bytes such as 500MB."""
    if (number := convert_file_size_to_int(given)) < 1:
        raise ValueError
    return number


dir_argument = click.argument(
    "folder", metavar="[DIR]", required=False, callback=lambda _, __, given: folder_of(given)
)
split_option = click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(tuple(SOURCES)),
    help="Only this split; may be repeated.",
)
no_checks_option = click.option(
    "--no-checks", is_flag=True, help="For subsets: any sizes and numbers of images will do."
)
num_proc_option = click.option(
    "--num-proc", default=CORES, show_default="all cores", type=click.IntRange(1), help="Processes."
)


def options_of_work(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that say which images it takes, and in how many processes."""
    return split_option(no_checks_option(num_proc_option(command)))


folders_argument = click.argument(
    "folders", metavar="[DIR] OUTPUT", nargs=-1, callback=lambda _, __, given: folders_of(given)
)


class Verbs(click.Group):
    """Commands of which what may be wrong with archives, disks and options is no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        try:
            return super().invoke(ctx)
        except (OSError, ImportError, ValueError, DatasetsError, BrokenProcessPool) as error:
            raise click.ClickException(str(error)) from error


def mode_of(no_checks: bool) -> str:
    """Return the `verification_mode` of `imagenet2012.load`."""
    return "no_checks" if no_checks else "basic_checks"


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="imagenet2012", prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives, or from what was extracted of them.

    DIR is their folder. It may be left out where IMAGENET2012_DIR is set.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet --classes tench,n01443537 -o fish.png
      imagenet2012 prepare ~/imagenet
      imagenet2012 index ~/imagenet ~/imagenet-index
      imagenet2012 export ~/imagenet ~/imagenet-256 --size 256
    """


# ------------------------------------------------------------------------- prepare


@main.command(short_help="Copy the images into the cache of datasets.")
@dir_argument
@options_of_work
def prepare(folder: str, splits: tuple[str, ...], no_checks: bool, num_proc: int) -> None:
    """Copy the images in DIR into the cache, where imagenet2012.load and load_dataset find them.

    The cache is where HF_HOME or HF_DATASETS_CACHE says. It takes as much room as the archives: to
    leave the images there, use the configuration "in_place" of imagenet2012.load, or `index`.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet
      imagenet2012 prepare ~/imagenet --split validation --num-proc 2
      imagenet2012 prepare ~/subset --no-checks
    """
    wanted = list(splits or find_archives(folder))
    loaded = imagenet2012.load(
        folder, split=wanted, num_proc=num_proc, verification_mode=mode_of(no_checks)
    )
    for split, dataset in zip(wanted, loaded, strict=True):
        place = Path(dataset.cache_files[0]["filename"]).parent
        click.echo(f"{split}: {dataset.num_rows:,} images in {place}")


# ------------------------------------------------------------------------- index, export


@main.command(short_help="Write a small dataset whose images stay in the archives.")
@folders_argument
@options_of_work
@click.option("--portable", is_flag=True, help="Hold the archives' names instead of their paths.")
@click.option(
    "--shards",
    default=128,
    show_default=True,
    type=click.IntRange(1, 99_999),
    help="Files of each split, into which streams and workers divide it.",
)
def index(portable: bool, shards: int, **chosen: Any) -> None:
    """Write an index of the images in DIR to the folder OUTPUT: Parquet and a card.

    Its rows hold where in the archives each image is, in shuffled order. Each program that takes a
    dataset's folder reads it, if this package is installed where it runs; it need not be imported.
    Each image is proven by its header in the archive. `check OUTPUT` looks at all of them.

    With --portable, other machines read it too: from the archives in the folder (or at the URL)
    that IMAGENET2012_DIR names there. Extracted images have no names but their paths.

    \b
    Examples:
      imagenet2012 index ~/imagenet ~/imagenet-index
      imagenet2012 index ~/imagenet ~/imagenet-index --portable --split train
    """
    write(functools.partial(exports.plan_index, shards=shards, portable=portable), **chosen)


@main.command(short_help="Write the images as Parquet, resized if wanted; push them to the Hub.")
@folders_argument
@options_of_work
@click.option("--size", type=click.IntRange(16), help="Resize to this shortest side (pixels).")
@click.option(
    "--quality",
    default=90,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Of the JPEGs that --size makes.",
)
@click.option(
    "--shard-size", default="500MB", show_default=True, type=size_of, help="Of a file, about."
)
@click.option("--push", metavar="REPO_ID", help="Upload OUTPUT to this dataset of the Hub.")
@click.option("--public", is_flag=True, help="The dataset of --push is not private.")
def export(
    folders: tuple[str, Path],
    size: int | None,
    quality: int,
    shard_size: int,
    push: str | None,
    public: bool,
    **chosen: Any,
) -> None:
    """Write the images in DIR to the folder OUTPUT: shuffled Parquet shards and a card.

    They need nothing but `datasets`. Started again after an interruption, it goes on after the
    shards that are there. With --size, larger images are resized (upright, RGB, JPEG); smaller ones
    keep their bytes. `check OUTPUT` verifies the checksums of what was written.

    With --push, data/ of the repository holds this export and nothing else afterwards. ImageNet's
    terms let nobody pass the images on: you answer for who may see them.

    \b
    Examples:
      imagenet2012 export ~/imagenet ~/imagenet-parquet
      imagenet2012 export ~/imagenet ~/in256 --size 256 --push me/in256
    """
    if push is not None:
        card.check_card(folders[1])
        with hub_errors(push):
            card.get_repository(push, public)
    plan = functools.partial(
        exports.plan_export, shard_size=shard_size, size=size, quality=quality if size else None
    )
    files = write(plan, folders, name=push, **chosen)
    if push is not None:
        with hub_errors(push):
            card.upload(folders[1], files, push)
        click.echo(f"Uploaded to the dataset repository {push}.")


def write(
    plan: Callable[[datasets.Dataset, str, str], exports.SplitExport],
    folders: tuple[str, Path],
    splits: tuple[str, ...],
    no_checks: bool,
    num_proc: int,
    name: str | None = None,
) -> list[Path]:
    """Write the shards of all splits, then the card; return all files that belong to it."""
    folder, output = folders
    data = output / "data"
    card.check_card(output)
    archives = find_archives(folder)
    try:
        loaded = {s: load_in_place(folder, s, no_checks, num_proc) for s in splits or archives}
        data.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(output / ".imagenet2012.lock", timeout=0):
            planned = [plan(dataset, split, archives[split]) for split, dataset in loaded.items()]
            for one in planned:
                exports.check_folder(one.plan, data)
            exports.check_room(planned, data)
            follow(planned, exports.write_shards(planned, data, num_proc))
            files = card.write_card(output, name or str(output))
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process is writing to {output}: wait for its end, or pass another OUTPUT."
        ) from None
    except KeyboardInterrupt:
        raise click.ClickException("Interrupted. The same command goes on where it was.") from None
    click.echo(f"Load it with: datasets.load_dataset({json.dumps(str(output))})")
    return files


def load_in_place(folder: str, split: str, no_checks: bool, num_proc: int) -> datasets.Dataset:
    """Return a split in place; of the right number of images, if it is checked."""
    dataset = imagenet2012.load(
        folder, "in_place", split=split, num_proc=num_proc, verification_mode=mode_of(no_checks)
    )
    # It may be known from before, when it was not checked.
    if not no_checks and len(dataset) != (wanted := SOURCES[split].num_examples):
        problem = f"{len(dataset):,} {split} images instead of {wanted:,}"
        raise ValueError(f"{problem}. For a subset pass --no-checks.")
    return dataset


def follow(planned: list[exports.SplitExport], steps: Iterable[exports.Step]) -> None:
    """Show how the writing goes on: a bar, or without a terminal a line for each shard."""
    total = sum(export.plan.rows for export in planned)
    written = 0
    with tqdm(total=total, unit=" images", disable=None, leave=False) as bar:
        for step in steps:
            bar.set_description(step.name, refresh=False)
            bar.update(step.images)
            written += step.is_whole
            if step.is_whole and bar.disable:
                click.echo(f"{step.name} is written.")
    for export in planned:
        plan = export.plan
        click.echo(f"{plan.split}: {plan.rows:,} images in {plan.shards:,} shard(s)")
    if not written:
        click.echo("All of it was there: no shard was written.")


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Show what `huggingface_hub` raises as it is: without a network that may be anything."""
    try:
        yield
    except Exception as error:
        text = f"{repo_id}: {error}\nOnce that is mended, the same command goes on."
        raise click.ClickException(text) from error


# ------------------------------------------------------------------------- check


@main.command(short_help="Check archives, extracted images, or what index and export wrote.")
@dir_argument
@split_option
@no_checks_option
@click.option("--hash", "with_hash", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--decode", is_flag=True, help="Decode every image too, on all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--verbose", is_flag=True, help="List every place of each problem.")
def check(
    folder: str,
    splits: tuple[str, ...],
    no_checks: bool,
    with_hash: bool,
    decode: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Check the archives in DIR: sizes, structure, and the header of every image.

    Nothing is written. The status is 0 only if all is OK; without --split both training and
    validation images must be there. DIR may also be one archive, under any name; extracted images;
    or what `index` or `export` wrote, of which records and checksums are verified.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 check ~/imagenet --split validation --hash
      imagenet2012 check ~/imagenet --decode
      imagenet2012 check ~/Downloads/val.tar
      imagenet2012 check ~/imagenet --json | jq '.splits[].problems'
    """
    ways = checks.Ways(not no_checks, with_hash, decode, CORES)
    missing, reports = checks.check(folder, splits, ways)
    ok = not missing and not any(report.problems for report in reports)
    if as_json:
        told = {"ok": ok, "missing": missing, "splits": list(map(dataclasses.asdict, reports))}
        click.echo(json.dumps(told, indent=2))
    else:
        for report in reports:
            print_report(report, None if verbose else SHOWN)
        for split in missing:
            click.echo(click.style(split, bold=True) + "  missing")
        click.echo("All OK." if ok else "Not all is OK.")
    sys.exit(not ok)


def print_report(report: checks.Report, shown: int | None) -> None:
    """Print what was found of a split, and of each problem the first places, or all."""
    click.echo(f"{click.style(report.split, bold=True)}  {report.path}")
    for name, figure in report.figures.items():
        of = f"  of {figure['official']:,}" if figure["official"] else ""
        click.echo(f"  {name:<8}{figure['found']:>16,}{of}")
    for line in filter(None, (report.shards, report.sha256)):
        click.echo(f"  {line}")
    for kind, places in report.problems.items():
        count = f": {len(places):,}" if places else ""
        click.echo(f"  {click.style('!', fg='red')} {kind}{count}")
        for place in places[:shown]:
            click.echo(f"      {place}")
        if len(places) > len(places[:shown]):
            click.echo("      … (all of them: --verbose, or --json)")


# ------------------------------------------------------------------------- show


@main.command(short_help="Draw a contact sheet of random images.")
@dir_argument
@click.option("--split", type=click.Choice(tuple(SOURCES)), help="Default: validation, if there.")
@click.option("--classes", help="Names, wnids or labels, separated by commas.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the choice.")
@click.option(
    "-o",
    "--output",
    default="contact_sheet.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
)
@no_checks_option
def show(
    folder: str,
    split: str | None,
    classes: str | None,
    count: int,
    seed: int,
    output: Path,
    no_checks: bool,
) -> None:
    """Draw a contact sheet (PNG) of random images in DIR with their names.

    \b
    Examples:
      imagenet2012 show ~/imagenet
      imagenet2012 show ~/imagenet --split train --classes "tench,n01484850"
    """
    sheet.check_picture(output)
    archives = find_archives(folder)
    split = split or ("validation" if "validation" in archives else next(iter(archives)))
    dataset = imagenet2012.load(
        folder, "in_place", split=split, verification_mode=mode_of(no_checks)
    )
    order = sheet.chosen_rows(dataset, classes, seed)
    passed: list[Exception] = []
    rows = itertools.islice(sheet.sound_rows(dataset, order, passed.append), count)
    picture = sheet.draw(rows, dataset.features["label"].names)
    if len(passed) == len(order):
        raise ValueError("None of these images can be decoded. Nothing was written.")
    for error in passed:
        click.echo(f"Passed over: {error}", err=True)
    picture.save(output, "PNG")
    click.echo(f"{output}: {min(count, len(order) - len(passed))} {split} images")


if __name__ == "__main__":
    main()
