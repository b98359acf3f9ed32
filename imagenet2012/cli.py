"""The command ``imagenet2012``."""

import dataclasses
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from typing import NoReturn
from typing import TypeVar

import click
import datasets
from datasets.exceptions import DatasetsError
from datasets.exceptions import ManualDownloadError
from datasets.utils.py_utils import convert_file_size_to_int

from imagenet2012 import hub
from imagenet2012 import prepare as preparing
from imagenet2012 import reports
from imagenet2012 import shards
from imagenet2012 import sheet
from imagenet2012.archives import INSTRUCTIONS
from imagenet2012.archives import absolute
from imagenet2012.archives import archives_in
from imagenet2012.archives import find_archives
from imagenet2012.archives import given_archives
from imagenet2012.console import folded
from imagenet2012.ilsvrc2012 import SOURCES
from imagenet2012.imagenet2012 import VERSION
from imagenet2012.storage import logger
from imagenet2012.tree_listing import trees_in
from imagenet2012.workers import CORES

F = TypeVar("F", bound=Callable[..., Any])
SPLITS = tuple(SOURCES)
# What the loader's errors advise, in the words of the command.
ADVICE = {
    'pass verification_mode="no_checks"': "pass --no-checks",
    r"\(verification_mode='all_checks'\)": "(imagenet2012 check --deep)",
    re.escape(INSTRUCTIONS[INSTRUCTIONS.index(", and pass that folder") :]): ".",
    r"several of its subfolders: pass data_files=.*": "several of its subfolders: put links to "
    "them into one, and pass that.",
}

folder_argument = click.argument("folder", metavar="DIR", type=click.Path())
split_option = click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(SPLITS),
    help="Only this split; may be repeated.",
)
no_checks_option = click.option(
    "--no-checks",
    is_flag=True,
    help="For subsets and re-packed archives: do not hold sizes and counts to the official ones.",
)


def seed_option(what: str) -> Callable[[F], F]:
    """Return the option ``--seed``; NumPy takes no negative one."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help=what)


class FilePath(click.Path):
    """A path of this machine; in ``--output=~/a`` the shell leaves the ``~``."""

    def convert(self, value: Any, *args: Any) -> Any:
        """Return a `Path`."""
        if "://" in os.fspath(value):
            self.fail(
                f"{value} is a URL, and only files of this machine are written. Give a local path, "
                "and copy what was written there (a folder of Parquet shards to the Hub: --push).",
                *args,
            )
        return Path(os.fsdecode(super().convert(value, *args))).expanduser()


class FileSize(click.ParamType):
    """A number of bytes such as 500MB."""

    name = "bytes"

    def convert(self, value: Any, *args: Any) -> int:
        """Return the number."""
        try:
            number = convert_file_size_to_int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is not a size such as 500MB or 1GB.", *args)
        return number


class Command(click.Command):
    """A command that takes no empty value, which is what an unset variable of a shell gives."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse empty values, then do as the parent's method."""
        for before, value in zip([self.name, *args], args, strict=False):
            option, equals, given = value.partition("=")
            joined = option.startswith("--") and equals
            if not (given if joined else value).strip():
                named = option if joined else before
                raise click.UsageError(
                    f"The value after {named} is empty: is a variable unset that should hold it?",
                    ctx,
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Say of warnings that they are, show progress on terminals only, and run the command."""
        handlers = logger.handlers, logger.propagate
        logger.handlers, logger.propagate = [WarningHandler()], False
        ctx.call_on_close(lambda: setattr(logger, "handlers", handlers[0]))
        ctx.call_on_close(lambda: setattr(logger, "propagate", handlers[1]))
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        return super().invoke(ctx)


class WarningHandler(logging.Handler):
    """Says of what is logged that it is a warning, or what else it is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(folded(f"{record.levelname.capitalize()}: {record.getMessage()}"), err=True)


class Group(click.Group):
    """Commands whose errors are a paragraph."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what may be wrong with archives, disks and options is no traceback."""
        try:
            return super().invoke(ctx)
        except BrokenProcessPool:
            fail("A worker process was killed, perhaps for want of memory: try a lower --num-proc.")
        except OSError as error:
            named = error.strerror and error.filename
            fail(f"{error.filename}: {error.strerror}." if named else str(error))
        except (ModuleNotFoundError, ValueError, DatasetsError, hub.HubError) as error:
            fail(str(error))


def fail(message: str) -> NoReturn:
    """End with a message on standard error and status 1."""
    for words, advice in ADVICE.items():
        message = re.sub(words, advice, message)
    click.echo(folded(f"Error: {message}"), err=True)
    sys.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="imagenet2012")
def main() -> None:
    """ILSVRC2012 (ImageNet-1k) from its original archives.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 show ~/imagenet --classes tench,n01443537 -o fish.png
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-256 --size 256
    """


# ------------------------------------------------------------------------- check


@main.command(short_help="Check the archives: sizes, structure, every header.")
@folder_argument
@split_option
@no_checks_option
@click.option("--deep", is_flag=True, help="Hash the archives too (SHA-256).")
@click.option("--decode", is_flag=True, help="Decode every image too, on all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    folder: str,
    splits: tuple[str, ...],
    no_checks: bool,
    deep: bool,
    decode: bool,
    as_json: bool,
) -> None:
    """Check the archives in DIR: sizes, structure, and the header of every image.

    Nothing is written. The status is 0 only if all is OK; without --split the training and
    validation archives must both be there. DIR may also be one archive, under any name, or a
    folder that `prepare --output` wrote, whose every byte is checked. With --decode, every image
    that cannot be decoded is listed with the reason.

    \b
    Examples:
      imagenet2012 check ~/imagenet
      imagenet2012 check ~/imagenet --split validation --deep
      imagenet2012 check ~/imagenet --decode
      imagenet2012 check ~/Downloads/val.tar
      imagenet2012 check ~/imagenet --json | jq .archives[].problems
    """
    if plans := shards.find_plans(path := absolute(folder)):
        missing = [split for split in splits if split not in plans]
        chosen = {split: plan for split, plan in plans.items() if split in (splits or plans)}
        found = reports.of_shards(path, chosen, strict=not no_checks)
        ok = not missing and not any(one["problems"] for one in found)
        if as_json:
            click.echo(json.dumps({"ok": ok, "missing": missing, "shards": found}, indent=2))
        else:
            reports.print_shards(found, missing)
        sys.exit(not ok)
    archives, error = look_for_archives(folder)
    if error and not as_json:
        raise error
    usual = archives if os.path.isfile(os.path.expanduser(folder)) else ("train", "validation")
    wanted = tuple(dict.fromkeys(splits)) or tuple(s for s in SPLITS if s in usual or s in archives)
    missing = [split for split in wanted if split not in archives]
    given = {split: archives[split] for split in wanted if split in archives}
    made = reports.of_archives(given, strict=not no_checks, deep=deep, decode=decode)
    ok = not missing and not any(report.problems for report in made)
    if as_json:
        told: dict[str, Any] = {"ok": ok, "well": ok}  # the second is its former name
        told |= {"missing": missing, "error": error and str(error)}
        told["archives"] = [dataclasses.asdict(report) for report in made]
        click.echo(json.dumps(told, indent=2))
    else:
        reports.print_reports(made, missing, strict=not no_checks)
    sys.exit(not ok)


def look_for_archives(folder: str) -> tuple[dict[str, str], ManualDownloadError | None]:
    """Return the path of each split's archive, and if there is none, the error that says so."""
    path = absolute(folder)
    try:
        return (given_archives if os.path.isfile(path) else find_archives)(path), None
    except ManualDownloadError as error:
        return {}, error


# ------------------------------------------------------------------------- show


@main.command(short_help="Draw a contact sheet of random images.")
@folder_argument
@click.option("--split", type=click.Choice(SPLITS), help="Default: validation, if it is there.")
@click.option("--classes", help="Names, wnids or labels, separated by commas.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(1, 1000))
@seed_option("Of the random choice.")
@click.option(
    "-o",
    "--output",
    default="contact_sheet.png",
    show_default=True,
    type=FilePath(dir_okay=False),
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
    dataset, splits = sheet.dataset_of(folder, split, no_checks)
    order = sheet.chosen_rows(dataset, splits, classes, seed)
    passed: list[Exception] = []
    rows = itertools.islice(sheet.sound_rows(dataset, order, passed.append), count)
    picture = sheet.draw(rows, dataset.features["label"].names)
    for error in passed:
        click.echo(folded(f"Passed over: {error}"), err=True)
    shown = min(count, len(order) - len(passed))
    if not shown:
        raise ValueError("None of these images can be decoded. Nothing was written.")
    picture.save(output, "PNG")
    click.echo(f"{output}: {shown} {dataset.split} image{'s' * (shown > 1)}")


# ------------------------------------------------------------------------- prepare


@main.command(short_help="Prepare the cache, or a repository for the Hub.")
@folder_argument
@split_option
@no_checks_option
@click.option(
    "--num-proc",
    default=CORES,
    show_default="all cores",
    type=click.IntRange(1),
    help="Processes.",
)
@click.option("--in-place", is_flag=True, help="Index only: leave the images in the archives.")
@click.option(
    "--portable",
    is_flag=True,
    help="With --in-place --output: call the archives by name, to be found in IMAGENET2012_DIR.",
)
@click.option(
    "--label-names",
    default="words",
    show_default=True,
    type=click.Choice(["words", "wnid"]),
    help="Names of the classes.",
)
@click.option(
    "--order",
    show_default="archive",
    type=click.Choice(["archive", "mixed"]),
    help="Of the rows, without --output.",
)
@click.option("--cache-dir", type=FilePath(file_okay=False), help="Cache, if not the default one.")
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    help="Write Parquet shards and a card to this folder.",
)
@click.option("--size", type=click.IntRange(16), help="Resize to this shortest side (pixels).")
@click.option(
    "--quality",
    show_default="90",
    type=click.IntRange(1, 100),
    help="Of the JPEGs that --size makes.",
)
@click.option(
    "--shard-size",
    show_default="500MB",
    type=FileSize(),
    help="About, with --output.",
)
@click.option(
    "--shards",
    show_default="128",
    type=click.IntRange(1, 99_999),
    help="Of each split, with --in-place --output.",
)
@seed_option("Of the shuffle, with --output.")
@click.option(
    "--ray",
    is_flag=True,
    help="With --output: on all nodes of the running Ray cluster, which share DIR and FOLDER.",
)
@click.option("--push", metavar="REPO_ID", help="Upload the folder of --output to the Hub.")
@click.option("--public", is_flag=True, help="With --push: not a private repository.")
def prepare(
    folder: str, output: Path | None, push: str | None, public: bool, **options: Any
) -> None:
    """Prepare DIR in the cache of `datasets`, or as a repository for the Hub.

    Without --output, load_dataset and imagenet2012.load find what was prepared (with --split, only
    imagenet2012.load does). With --output, the folder gets shuffled Parquet shards that need
    nothing but `datasets`; started again after an interruption, it verifies what is there and goes
    on. With --size, larger images are resized (upright, RGB, JPEG); smaller ones keep their bytes.

    With --in-place and --output, the shards hold only where in the archives each image is: a folder
    of some 50 MB for every program that takes a dataset's folder, if this package is installed
    where it runs. With --portable, as always with --push, other machines read it too: from the
    archives in the folder that IMAGENET2012_DIR names there.

    \b
    Examples:
      imagenet2012 prepare ~/imagenet --num-proc 8
      imagenet2012 prepare ~/imagenet --output ~/imagenet-parquet
      imagenet2012 prepare ~/imagenet --output ~/in256 --size 256 --push me/in256
      imagenet2012 prepare ~/imagenet --in-place --output ~/imagenet-index
    """
    check_options(folder, output, push, public, options)
    options["quality"] = options["quality"] or 90
    options["shard_size"] = options["shard_size"] or 500_000_000
    options["portable"] = options["portable"] or bool(options["in_place"] and push)
    options["order"] = options["order"] or "archive"
    options["cache_dir"] = options["cache_dir"] and str(options["cache_dir"])
    if not output:
        return preparing.prepare_cache(folder, options)
    if push:  # before the hours of work
        notice = (
            "Warning: You answer for who may see these images: ImageNet's terms let nobody pass "
            "them on."
        )
        if not options["in_place"]:  # an index has none
            click.echo(folded(notice), err=True)
        hub.get_repository(push, public)
    preparing.prepare_repository(folder, output, push, options)


def check_options(
    folder: str, output: Path | None, push: str | None, public: bool, options: dict[str, Any]
) -> None:
    """Raise `click.UsageError` if options do not go together."""
    if public and not push:
        raise click.UsageError("--public goes with --push: give it.")
    if options["quality"] and not options["size"]:
        raise click.UsageError("--quality goes with --size: other images keep their bytes.")
    if not output:
        if push or options["size"] or options["ray"] or options["portable"] or options["shards"]:
            raise click.UsageError(
                "--push, --size, --ray, --portable and --shards go with --output: give it."
            )
        return
    if options["order"]:
        raise click.UsageError("--output shuffles the images by --seed: leave --order out.")
    if archives_in(absolute(output)) or trees_in(absolute(output), {}):
        raise click.UsageError(f"{output} holds the images: give --output another folder.")
    others = ("size", "ray", "shard_size") if options["in_place"] else ("portable", "shards")
    for name in (name for name in others if options[name]):
        option = f"--{name.replace('_', '-')}"
        if options["in_place"]:
            raise click.UsageError(f"--in-place writes no images: leave {option} out.")
        raise click.UsageError(f"{option} goes with --in-place: give it.")


if __name__ == "__main__":
    main()
