"""The command ``imagenet2012``: a verb for each thing that can be done with the archives."""

import contextlib
import dataclasses
import faulthandler
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NoReturn

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
from imagenet2012.export import CORES
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.storage import FOLDER_VARIABLE, absolute, is_url

# ------------------------------------------------------------------------- what may be typed


def dir_of(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> str:
    """Return the folder of the archives: the one that was typed, or that the variable names."""
    folder, *more = given or (os.getenv(FOLDER_VARIABLE, ""),)
    if more:
        raise click.UsageError(f"One DIR is taken, not {len(given)}.")
    if not folder.strip():
        raise click.UsageError(f"DIR is missing or empty, and {FOLDER_VARIABLE} is not set.")
    return absolute(folder)


def output_of(_: click.Context, __: click.Parameter, given: str) -> Path:
    """Return OUTPUT, which is none of archives or of what was extracted."""
    output = absolute(given)
    if not given.strip() or is_url(output) or archives_in(output):
        raise click.UsageError(f"OUTPUT is a folder of this machine without images, not {given!r}.")
    return Path(output)


def size_of(given: str) -> int:
    """Return a number of bytes such as 500MB."""
    if (number := convert_file_size_to_int(given)) < 1:
        raise ValueError
    return number


dir_argument = click.argument("folder", metavar="[DIR]", nargs=-1, callback=dir_of)
output_argument = click.argument("output", callback=output_of)
split_of = click.Choice(tuple(SOURCES))
split_option = click.option(
    "--split", "splits", multiple=True, type=split_of, help="Only this split; may be repeated."
)
no_checks_option = click.option(
    "--no-checks", is_flag=True, help="For subsets: any sizes and numbers of images will do."
)
num_proc_option = click.option(
    "--num-proc", default=CORES, show_default="all cores", type=click.IntRange(1), help="Processes."
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
        except KeyboardInterrupt as error:
            click.echo(f"Interrupted. {error}".strip(), err=True)
            end_at_once()


def end_at_once() -> NoReturn:
    """End without waiting for a worker's task, nor long for a thread that hangs with a server."""
    for worker in multiprocessing.active_children():
        worker.kill()
    # On Python 3.10 the thread that feeds the workers may wait for ever.
    faulthandler.dump_traceback_later(3, exit=True, file=os.open(os.devnull, os.O_WRONLY))
    sys.exit(1)


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="imagenet2012", prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives, or from what was extracted of them.

    DIR is their folder. It may be left out where IMAGENET2012_DIR is set.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet -o sheet.png
      imagenet2012 prepare ~/imagenet
      imagenet2012 index ~/imagenet ~/imagenet-index
      imagenet2012 export ~/imagenet ~/imagenet-256 --size 256
    """


# ------------------------------------------------------------------------- the verbs


@main.command(short_help="Copy the images into the cache of datasets.")
@dir_argument
@split_option
@no_checks_option
@num_proc_option
def prepare(folder: str, splits: tuple[str, ...], no_checks: bool, num_proc: int) -> None:
    """Copy the images in DIR into the cache, where imagenet2012.load and load_dataset find them.

    The cache is where HF_HOME or HF_DATASETS_CACHE says. It takes as much room as the archives: to
    leave the images there, use the configuration "in_place" of imagenet2012.load, or `index`.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet --split validation --num-proc 2
      imagenet2012 prepare ~/subset --no-checks
    """
    wanted = list(splits or find_archives(folder))
    mode = "no_checks" if no_checks else "basic_checks"
    loaded = imagenet2012.load(folder, split=wanted, num_proc=num_proc, verification_mode=mode)
    for split, dataset in zip(wanted, loaded, strict=True):
        copy = Path(dataset.cache_files[0]["filename"]).parent
        click.echo(f"{split}: {dataset.num_rows:,} images in {copy}")


@main.command(short_help="Write a small dataset whose images stay in the archives.")
@dir_argument
@output_argument
@split_option
@no_checks_option
@num_proc_option
@click.option("--portable", is_flag=True, help="Hold the archives' names instead of their paths.")
@click.option("--shards", default=128, type=click.IntRange(1, 99_999), help="Files of each split.")
def index(**chosen: Any) -> None:
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
    write(exports.plan_index, **chosen)


@main.command(short_help="Write the images as Parquet, resized if wanted; push them to the Hub.")
@dir_argument
@output_argument
@split_option
@no_checks_option
@num_proc_option
@click.option("--size", type=click.IntRange(16), help="Resize to this shortest side (pixels).")
@click.option("--quality", default=90, type=click.IntRange(1, 100), help="Of the resized JPEGs.")
@click.option("--shard-size", default="500MB", type=size_of, help="Of a file, about.")
@click.option("--push", metavar="REPO_ID", help="Upload OUTPUT to this dataset of the Hub.")
@click.option("--public", is_flag=True, help="The dataset of --push is not private.")
def export(output: Path, push: str | None, public: bool, **chosen: Any) -> None:
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
        card.check_card(output)
        with hub_errors(push):
            card.get_repository(push, public)
    files = write(exports.plan_export, output=output, name=push, **chosen)
    if push is not None:
        with hub_errors(push):
            card.upload(output, files, push)
        click.echo(f"Uploaded to the dataset repository {push}.")


def write(
    plan: Callable[..., exports.SplitExport],
    folder: str,
    output: Path,
    splits: tuple[str, ...],
    no_checks: bool,
    num_proc: int,
    name: str | None = None,
    **options: Any,
) -> list[Path]:
    """Write the shards of all splits as they are planned with these options, and the card.

    Returns all files that belong to the repository, which is loaded by `name`.
    """
    data = output / "data"
    card.check_card(output)
    archives = find_archives(folder)
    try:
        loaded = {s: load_in_place(folder, s, no_checks, num_proc) for s in splits or archives}
        data.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(output / ".imagenet2012.lock", timeout=0):
            planned = [plan(rows, s, archives[s], **options) for s, rows in loaded.items()]
            exports.check_folder(planned, data)
            follow(planned, data, num_proc)
            files = card.write_card(output, name or str(output))
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process is writing to {output}: wait for its end, or pass another OUTPUT."
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt("The same command goes on where it was.") from None
    click.echo(f"Load it with: datasets.load_dataset({json.dumps(str(output))})")
    return files


def load_in_place(
    folder: str, split: str, no_checks: bool, num_proc: int | None = None
) -> datasets.Dataset:
    """Return a split in place; of the right number of images, if it is checked."""
    mode = "no_checks" if no_checks else "basic_checks"
    dataset = imagenet2012.load(
        folder, "in_place", split=split, num_proc=num_proc, verification_mode=mode
    )
    # It may be known from before, when it was not checked.
    if not no_checks and len(dataset) != (wanted := SOURCES[split].num_examples):
        problem = f"{len(dataset):,} {split} images instead of {wanted:,}"
        raise ValueError(f"{problem}. For a subset pass --no-checks.")
    return dataset


def follow(planned: list[exports.SplitExport], data: Path, num_proc: int) -> None:
    """Write the shards, and show it by a bar or, without a terminal, a line for each shard."""
    total = sum(plan.rows for plan, *_ in planned)
    with tqdm(total=total, unit=" images", disable=None, leave=False) as bar:
        for name in exports.write_shards(planned, data, num_proc, bar.update):
            if bar.disable:
                click.echo(f"{name} is written.")
    for plan, *_ in planned:
        click.echo(f"{plan.split}: {plan.rows:,} images in {plan.shards:,} shard(s)")


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Show what `huggingface_hub` raises as it is: without a network that may be anything."""
    try:
        yield
    except Exception as error:
        text = f"{repo_id}: {error}\nOnce that is mended, the same command goes on."
        raise click.ClickException(text) from error


@main.command(short_help="Check archives, extracted images, or what index and export wrote.")
@dir_argument
@split_option
@no_checks_option
@click.option("--hash", "with_hash", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--decode", is_flag=True, help="Decode every image too, on all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--verbose", is_flag=True, help="List every place of each problem.")
def check(folder: str, splits: tuple[str, ...], as_json: bool, verbose: bool, **ways: bool) -> None:
    """Check the archives in DIR: sizes, structure, and the header of every image.

    Nothing is written. The status is 0 only if all is OK; without --split both training and
    validation images must be there. DIR may also be one archive, under any name; extracted images;
    or what `index` or `export` wrote, of which records and checksums are verified.

    \b
    Examples:
      imagenet2012 check ~/imagenet --split validation --hash --decode
      imagenet2012 check ~/Downloads/val.tar
      imagenet2012 check ~/imagenet --json | jq '.splits[].problems'
    """
    missing, reports = checks.check(folder, splits, **ways)
    ok = not missing and not any(report.problems for report in reports)
    if as_json:
        told = {"ok": ok, "missing": missing, "splits": list(map(dataclasses.asdict, reports))}
        click.echo(json.dumps(told, indent=2))
    else:
        for line in itertools.chain(*(report.lines(verbose) for report in reports)):
            click.echo(line)
        for split in missing:
            click.echo(f"{split}  missing")
        click.echo("All OK." if ok else "Not all is OK.")
    sys.exit(not ok)


@main.command(short_help="Draw a contact sheet of random images.")
@dir_argument
@click.option("--split", type=split_of, help="Default: validation, if there.")
@click.option("--count", default=32, type=click.IntRange(1, 1000))
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the choice.")
@click.option(
    "-o", "--output", default="contact_sheet.png", type=click.Path(dir_okay=False, path_type=Path)
)
@no_checks_option
def show(folder: str, split: str | None, output: Path, no_checks: bool, **chosen: Any) -> None:
    """Draw a contact sheet (PNG) of random images in DIR with their names.

    \b
    Examples:
      imagenet2012 show ~/imagenet
      imagenet2012 show ~/imagenet --split train --count 100 -o sheet.png
    """
    sheet.check_picture(output)
    archives = find_archives(folder)
    split = split or ("validation" if "validation" in archives else next(iter(archives)))
    dataset = load_in_place(folder, split, no_checks)
    drawn = sheet.draw_some(dataset, output, **chosen)
    click.echo(f"{output}: {drawn} {split} images")
